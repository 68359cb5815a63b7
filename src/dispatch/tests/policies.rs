//! Policies, balancers, burials, groups: lists of actions, and the commands they must produce.

use super::*;

fn with(name: &str, policy: Policy) -> SinkOptions {
    SinkOptions { policy, ..requeue(name) }
}

fn dead(name: &str) -> SinkOptions {
    with(name, FailurePolicy::DeadLetter.into())
}

fn failed_by(lease: u64, cause: Cause, retryable: bool) -> Action {
    let failure = Failure { events: FailedEvents::All, cause, retryable, reason: "no".into() };
    Action::Failed { lease: LeaseId(lease), failure }
}

fn buried(burial: u64) -> Action {
    Action::Buried(BurialId(burial))
}

fn script(group: GroupOptions) -> Script {
    let group = GroupOptions { name: "default".into(), ..group };
    Script::new(DispatchOptions { groups: vec![group], seed: 7 })
}

fn counts(s: &Script) -> Conservation {
    let counts = Conservation::of(&s.state(), s.dispatcher.groups[0].tail);
    assert!(counts.holds(), "{counts:?}");
    counts
}

#[test]
fn fail_passes_the_batch_once_it_is_recorded_as_lost() {
    let mut s = Script::new(options(vec![with("a", FailurePolicy::Fail.into())]));
    s.apply(tail(30));
    s.check(failed(0), &["save", "recall 0", "bury 0..10 Lost"]);
    assert_eq!(s.watermark(), 0, "not before it is recorded");
    s.check(returned(1), &["save", "deliver to 0 #2 10..20 x1", "deliver to 0 #3 20..30 x1"]);
    s.check(buried(0), &["save", "buried Lost 0..10"]);
    assert_eq!((s.watermark(), counts(&s).lost), (10, 10));
    assert_eq!(s.state().sinks[0].counters.lost_events, 10);
    s.check(buried(0), &[]);
}

#[test]
fn dead_letter_finds_the_events_that_fail_by_halving() {
    let mut s = Script::new(options(vec![SinkOptions { queue_size: 1, ..dead("a") }]));
    s.apply(tail(10));
    // event 6 is the poison
    s.check(failed(0), &["save", "recall 0", "deliver to 0 #1 0..5 x2"]);
    s.check(delivered(1), &["save", "deliver to 0 #2 5..10 x2"]);
    s.check(failed(2), &["save", "recall 0", "deliver to 0 #3 5..8 x3"]);
    s.check(failed(3), &["save", "recall 0", "deliver to 0 #4 5..7 x4"]);
    s.check(failed(4), &["save", "recall 0", "deliver to 0 #5 5..6 x5"]);
    s.check(delivered(5), &["save", "deliver to 0 #6 6..7 x5"]);
    s.check(failed(6), &["save", "recall 0", "bury 6..7 Dead", "deliver to 0 #7 7..8 x4"]);
    s.check(buried(0), &["save", "buried Dead 6..7"]);
    s.check(delivered(7), &["save", "deliver to 0 #8 8..10 x3"]);
    s.check(delivered(8), &["save"]);
    assert_eq!((s.watermark(), counts(&s).dead, counts(&s).delivered), (10, 1, 9));
}

#[test]
fn events_that_a_sink_names_go_to_the_dead_letters_at_once() {
    let mut s = Script::new(options(vec![dead("a")]));
    s.apply(tail(10));
    let only = FailedEvents::Only(vec![Offset(3), Offset(4), Offset(9)]);
    s.check(failed_events(0, only), &["save", "recall 0", "bury 3..5 Dead", "bury 9..10 Dead"]);
    assert_eq!(s.state().waiting, [tried(3, 5, 1), tried(9, 10, 1)], "if the process ends now");
    s.check(buried(1), &["save", "buried Dead 9..10"]);
    s.check(buried(0), &["save", "buried Dead 3..5"]);
    assert_eq!((s.watermark(), counts(&s).dead), (10, 3));
}

#[test]
fn what_a_failure_leaves_open_is_searched_and_what_came_before_it_is_done() {
    let mut s = Script::new(options(vec![SinkOptions { queue_size: 1, ..dead("a") }]));
    s.apply(tail(10));
    s.check(
        failed_events(0, FailedEvents::From(Offset(6))),
        &["save", "recall 0", "deliver to 0 #1 6..8 x2"],
    );
    assert_eq!(s.watermark(), 6);
}

#[test]
fn what_could_not_be_read_is_never_given_up() {
    let mut s = Script::new(options(vec![with("a", FailurePolicy::Fail.into())]));
    s.apply(tail(10));
    let lines = s.apply(failed_by(0, Cause::Unreadable, true));
    assert!(!lines.iter().any(|line| line.starts_with("bury")), "{lines:?}");
    s.check_wake(&["save", "deliver to 0 #1 0..10 x2"]);
}

#[test]
fn sink_that_names_one_bad_event_of_each_batch_does_not_have_to_rest() {
    let mut s = Script::new(options(vec![SinkOptions { queue_size: 1, ..dead("a") }]));
    s.apply(tail(1_000));
    for lease in 0..50u64 {
        let only = FailedEvents::Only(vec![Offset(lease * 10 + 3)]);
        let lines = s.apply(failed_events(lease, only));
        let next =
            format!("deliver to 0 #{} {}..{} x1", lease + 1, lease * 10 + 10, lease * 10 + 20);
        assert_eq!(lines.last(), Some(&next), "{lines:?}");
    }
}

#[test]
fn released_batch_goes_back_to_who_failed_it_if_the_other_hangs() {
    let one = |name| SinkOptions { queue_size: 1, ..requeue(name) };
    let mut s = Script::new(options(vec![one("a"), one("b")]));
    s.apply(tail(20));
    s.apply(failed(0)); // b holds 10..20, and says nothing any more
    s.check_wake(&["wake"]);
    s.check_wake(&["save", "deliver to 0 #2 0..10 x2"]);
}

#[test]
fn broken_connection_sends_nothing_to_the_dead_letters_and_the_sink_is_opened_again() {
    let mut s = Script::new(options(vec![dead("a")]));
    s.apply(tail(10));
    let expect = ["save", "recall 0", "failing 0: no, 10 events", "wake"];
    s.check(failed_by(0, Cause::Unreachable, true), &expect);
    s.check_wake(&["open 0"]);
    let ready = Action::SinkReady(SinkId(0));
    s.check(ready, &["save", "ready 0 after 1", "deliver to 0 #1 0..10 x2"]);
}

#[test]
fn full_dead_letter_log_stops_the_sink_and_drops_nothing() {
    let mut s =
        Script::new(options(vec![SinkOptions { queue_size: 1, ..dead("a") }, requeue("b")]));
    s.apply(tail(20));
    let only = FailedEvents::Only(vec![Offset(3)]);
    s.check(failed_events(0, only), &["save", "recall 0", "bury 3..4 Dead"]);
    let full = Action::NotBuried { burial: BurialId(0), reason: "full".into() };
    s.check(full.clone(), &["stopped 0", "wake"]);
    s.check(tail(50), &["save", "deliver to 1 #2 20..30 x1"]);
    s.check_wake(&["bury 3..4 Dead"]);
    s.check(full, &["wake"]);
    s.check_wake(&["bury 3..4 Dead"]);
    s.check(buried(0), &["save", "buried Dead 3..4", "deliver to 0 #3 30..40 x1"]);
    assert_eq!(counts(&s).dead, 1);
}

#[test]
fn part_of_a_burial_that_was_recorded_is_not_recorded_again() {
    let mut s = Script::new(options(vec![dead("a")]));
    s.apply(tail(10));
    let only = FailedEvents::Only((2..8).map(Offset).collect());
    s.apply(failed_events(0, only));
    let part = Action::Letters { group: "default".into(), grave: Grave::Dead, range: range(2, 5) };
    s.check(part, &["save", "buried Dead 2..5"]);
    s.check(
        Action::NotBuried { burial: BurialId(0), reason: "full".into() },
        &["stopped 0", "wake"],
    );
    s.check_wake(&["bury 5..8 Dead"]);
    s.check(buried(0), &["save", "buried Dead 5..8"]);
    assert_eq!((s.watermark(), counts(&s).dead), (10, 6));
}

#[test]
fn bound_of_a_policy_stops_the_sink_until_it_is_resumed() {
    let policy = Policy { max_attempts: 2, ..FailurePolicy::RetryAndResume.into() };
    let mut s = Script::new(options(vec![with("a", policy), requeue("b")]));
    s.apply(tail(20));
    s.apply(delivered(1));
    s.apply(failed(0));
    s.check_wake(&["save", "deliver to 0 #2 0..10 x2"]);
    s.check(failed(2), &["save", "recall 0", "stopped 0", "wake"]);
    s.check_wake(&[]);
    s.check(tail(30), &["save", "deliver to 1 #3 20..30 x1"]);
    assert_eq!(s.state().sinks[0].retry, [tried(0, 10, 2)]);
    s.check(Action::Resume(SinkId(0)), &["save", "deliver to 0 #4 0..10 x3"]);
}

#[test]
fn view_says_what_each_sink_does_and_which_groups_nobody_reads_for() {
    let policy = Policy { max_attempts: 2, ..FailurePolicy::RetryAndResume.into() };
    let orphan = GroupState { name: "gone".into(), ..GroupState::default() };
    let options = options(vec![with("a", policy), requeue("b"), requeue("c")]);
    let mut s = Script::new(options.clone());
    let standings = |s: &Script| {
        let view = s.dispatcher.view(Millis(s.now)).swap_remove(0);
        view.sinks.iter().map(|sink| sink.standing).collect::<Vec<_>>()
    };
    s.apply(tail(20));
    assert_eq!(standings(&s), [Standing::Open; 3]);
    s.apply(failed(0));
    assert!(matches!(standings(&s)[0], Standing::BackingOff(wait_ms) if wait_ms > 0));
    s.check_wake(&["save", "deliver to 0 #2 0..10 x2"]);
    s.apply(failed(2));
    s.apply(delivered(1));
    assert_eq!(standings(&s), [Standing::Stopped, Standing::Open, Standing::Open]);
    let view = s.dispatcher.view(Millis(s.now)).swap_remove(0);
    let [a, b, _] = &view.sinks[..] else { panic!("{view:?}") };
    assert_eq!((view.name.as_str(), view.watermark, view.orphan), ("default", Offset(0), false));
    assert_eq!((a.position, a.failures, a.delivered_events), (Offset(0), 2, 0));
    assert_eq!((b.position, b.leased_events, b.delivered_events), (Offset(20), 0, 10));
    let s = Dispatcher::restore(&options, &[orphan], range(0, 20));
    let view = s.view(Millis(0));
    assert_eq!(view[0].sinks[0].standing, Standing::Closed);
    assert!(view[1].orphan && view[1].name == "gone" && view[1].sinks.is_empty());
}

#[test]
fn what_is_not_retryable_has_no_second_attempt_if_there_is_a_bound() {
    let policy = Policy {
        max_attempts: 5,
        on_exhausted: Exhausted::DeadLetter,
        ..FailurePolicy::RetryAndResume.into()
    };
    let mut s = Script::new(options(vec![with("a", policy)]));
    s.apply(tail(10));
    let lines = s.apply(failed_by(0, Cause::Invalid, false));
    assert_eq!(lines, ["save", "recall 0", "bury 0..10 Dead"]);
}

/// The state that a process leaves that is killed while the lease is out.
fn killed(sinks: Vec<SinkOptions>, state: &GroupState) -> Script {
    Script::restored(options(sinks), std::slice::from_ref(state), 10)
}

#[test]
fn batch_that_kills_the_process_is_lent_event_by_event_and_its_poison_set_aside() {
    let sinks = || vec![dead("a"), dead("b")];
    let mut s = Script::new(options(sinks()));
    s.apply(tail(10));
    let mut s = killed(sinks(), &s.state());
    assert_eq!(s.open(), ["deliver to 0 #0 0..10 x2"], "once is no proof");
    let mut s = killed(sinks(), &s.state());
    assert_eq!(s.open(), ["deliver to 0 #0 0..1 x3"], "twice: alone, and nothing beside it");
    s.check(delivered(0), &["save", "deliver to 1 #1 1..2 x3"]);
    let mut s = killed(sinks(), &s.state());
    s.apply(Action::Timer);
    assert_eq!(s.state().waiting[0], TriedRange { crashes: 3, lend_max: 1, ..tried(1, 2, 3) });
    let lines = s.open();
    assert_eq!(lines, ["deliver to 0 #0 2..3 x3"]);
    s.check(buried(0), &["save", "buried Dead 1..2"]);
    for lease in 0..8 {
        s.apply(delivered(lease));
    }
    assert_eq!((s.watermark(), counts(&s).dead), (10, 1));
}

#[test]
fn without_a_bound_a_killed_process_sends_its_batches_again() {
    let mut state = {
        let mut s = Script::new(options(vec![requeue("a")]));
        s.apply(tail(10));
        s.state()
    };
    for attempt in 2..6 {
        let mut s = killed(vec![requeue("a")], &state);
        assert_eq!(s.open(), [format!("deliver to 0 #0 0..10 x{attempt}")]);
        state = s.state();
    }
}

#[test]
fn letters_of_an_earlier_process_are_neither_delivered_nor_written_again() {
    let mut s = Script::new(options(vec![dead("a")]));
    s.apply(tail(10));
    let state = s.state();
    let mut s = killed(vec![dead("a")], &state);
    s.dispatcher.written_before("default", Grave::Dead, range(2, 4));
    s.dispatcher.written_before("other", Grave::Dead, range(0, 9));
    s.dispatcher.dead_tail_at(Offset(2));
    assert_eq!(s.open(), ["deliver to 0 #0 0..2 x2", "deliver to 0 #1 4..10 x2"]);
    assert_eq!((counts(&s).dead, s.state().dead_tail), (2, Offset(2)));
}

#[test]
fn target_queue_size_bounds_what_is_lent_by_events() {
    let sink = |name| SinkOptions { target_events: 25, queue_size: 1, ..requeue(name) };
    let balance = Balance::TargetQueueSize;
    let group = GroupOptions { balance, sinks: vec![sink("a"), sink("b")], ..Default::default() };
    let mut s = script(group);
    let lines = s.apply(tail(1_000));
    let to = |sink: &str| lines.iter().filter(|line| line.contains(&format!("to {sink} "))).count();
    assert_eq!((to("0"), to("1")), (3, 3), "{lines:?}");
    s.check(delivered(1), &["save", "deliver to 1 #6 60..70 x1"]);
}

#[test]
fn failover_uses_the_greatest_priority_that_works() {
    let sink = |name, priority| SinkOptions { priority, queue_size: 1, ..requeue(name) };
    let sinks = vec![sink("low", 1), sink("high", 5), sink("mid", 3)];
    let group = GroupOptions { balance: Balance::Failover, sinks, ..Default::default() };
    let mut s = script(group);
    s.check(tail(40), &["save", "deliver to 1 #0 0..10 x1"]);
    s.check(
        failed_by(0, Cause::Unreachable, true),
        &["save", "recall 1", "failing 1: no, 10 events", "deliver to 2 #1 0..10 x2", "wake"],
    );
    s.check(delivered(1), &["save", "deliver to 2 #2 10..20 x1"]);
    s.check_wake(&["open 1"]);
    s.check(delivered(2), &["save", "deliver to 2 #3 20..30 x1"]);
    let ready = Action::SinkReady(SinkId(1));
    s.check(ready, &["save", "ready 1 after 1", "deliver to 1 #4 30..40 x1"]);
}

#[test]
fn least_load_gives_a_sink_of_four_times_the_speed_about_four_times_the_events() {
    let sinks = vec![requeue("fast"), requeue("slow")];
    let mut s = script(GroupOptions { balance: Balance::LeastLoad, sinks, ..Default::default() });
    let mut work: Vec<std::collections::VecDeque<u64>> = vec![Default::default(); 2];
    let (mut given, mut busy) = ([0u64; 2], [0u64; 2]);
    let mut lines = s.apply(tail(1_000_000));
    for now in 1..4_000u64 {
        s.now = now;
        for sink in 0..2 {
            let period = if sink == 0 { 5 } else { 20 };
            busy[sink] = if work[sink].is_empty() { 0 } else { busy[sink] + 1 };
            if busy[sink] == period {
                busy[sink] = 0;
                let lease = work[sink].pop_front().unwrap();
                lines.extend(s.apply(delivered(lease)));
            }
        }
        for line in lines.drain(..).filter(|line| line.starts_with("deliver")) {
            let words: Vec<_> = line.split([' ', '#']).collect();
            let sink: usize = words[2].parse().unwrap();
            given[sink] += 1;
            work[sink].push_back(words[4].parse().unwrap());
        }
    }
    let ratio = given[0] as f64 / given[1] as f64;
    assert!((3.0..=5.0).contains(&ratio), "{given:?}");
}

#[test]
fn rate_of_a_sink_bounds_its_events_and_bytes() {
    let rate = Rate { events: 1_000, bytes: 100_000 };
    let mut s = Script::new(options(vec![SinkOptions { rate, queue_size: 1, ..requeue("a") }]));
    s.now = 10_000;
    s.apply(tail(1_000_000));
    let (mut lease, mut bytes) = (0, 0);
    while s.now < 20_000 {
        let lines = s.apply(delivered(lease));
        if !lines.iter().any(|line| line.starts_with("deliver")) {
            assert!(s.wake > s.now, "{lines:?}");
            let lines = {
                s.now = s.wake;
                s.apply(Action::Timer)
            };
            assert!(lines.iter().any(|line| line.starts_with("deliver")), "{lines:?}");
        }
        lease += 1;
        let size = if s.now < 15_000 { 10 } else { 5_000 };
        bytes += size;
        s.apply(Action::Read { lease: LeaseId(lease), bytes: size });
    }
    let sent = s.state().sinks[0].counters.delivered_events;
    // five seconds by events, five by bytes: 100 batches of ten events
    assert!((5_000 + 900..=5_000 + 1_400).contains(&sent), "{sent} events, {bytes} bytes");
}

#[test]
fn fresh_first_sends_new_events_before_what_had_piled_up() {
    let sink = SinkOptions { queue_size: 1, ..requeue("a") };
    let group = GroupOptions { sinks: vec![sink], fresh_first: true, ..Default::default() };
    let mut s = script(group);
    s.apply(tail(10));
    s.check(
        failed_by(0, Cause::Unreachable, true),
        &["save", "recall 0", "failing 0: no, 10 events", "wake"],
    );
    s.apply(tail(30));
    s.check_wake(&["open 0"]);
    let ready = Action::SinkReady(SinkId(0));
    s.check(ready, &["save", "ready 0 after 1", "deliver to 0 #1 0..10 x2"]);
    let recovered = "recovered 0 after 1, 10 events";
    s.check(delivered(1), &["save", recovered, "deliver to 0 #2 10..20 x1"]);
    s.apply(tail(35));
    s.check(delivered(2), &["save", "deliver to 0 #3 30..35 x1"]);
    s.check(delivered(3), &["save", "deliver to 0 #4 20..30 x1"]);
    s.check(delivered(4), &["save"]);
    assert_eq!(s.watermark(), 35);
}

#[test]
fn old_events_expire_wherever_they_wait() {
    let mut s = Script::new(options(vec![SinkOptions { queue_size: 1, ..requeue("a") }]));
    s.apply(tail(100));
    s.apply(failed_events(0, FailedEvents::Only((2..5).map(Offset).collect())));
    // acked 0..2 5..10, waiting 2..5, never lent 10..
    let expire = Action::Expire { group: "default".into(), below: Offset(40) };
    s.check(expire.clone(), &["save", "bury 2..5 Expired", "bury 10..40 Expired"]);
    s.check(expire, &[]);
    s.check(buried(0), &["save", "buried Expired 2..5"]);
    s.check(buried(1), &["save", "buried Expired 10..40"]);
    assert_eq!((s.watermark(), counts(&s).expired, counts(&s).delivered), (40, 33, 7));
    s.check_wake(&["save", "deliver to 0 #1 40..50 x1"]);
}

#[test]
fn new_group_starts_where_it_is_told() {
    for (start, at) in [
        (Start::Oldest, 50),
        (Start::Tail, 60),
        (Start::At(Offset(55)), 55),
        (Start::At(Offset(3)), 50),
        (Start::At(Offset(99)), 60),
    ] {
        let group = GroupOptions { name: "g".into(), start, ..Default::default() };
        let options = DispatchOptions { groups: vec![group], seed: 1 };
        let dispatcher = Dispatcher::restore(&options, &[], range(50, 60));
        assert_eq!(dispatcher.watermark("g"), Some(Offset(at)), "{start:?}");
        assert_eq!(dispatcher.snapshot()[0].first, Offset(at));
        // where it began is stored at once, or it would begin elsewhere after a crash
        let mut dispatcher = dispatcher;
        let saves = dispatcher.apply(Millis(0), Action::Timer).contains(&Command::Save);
        assert_eq!(saves, start != Start::Oldest);
    }
}

#[test]
fn group_that_left_the_configuration_keeps_its_claim_until_it_is_removed() {
    let orphan = GroupState { name: "old".into(), watermark: Offset(5), ..Default::default() };
    let mut s = Script::restored(options(vec![requeue("a")]), std::slice::from_ref(&orphan), 100);
    s.open();
    for lease in 0..10 {
        s.apply(delivered(lease));
    }
    assert_eq!(s.dispatcher.watermark_min(), Some(Offset(5)));
    assert_eq!(s.dispatcher.orphans().collect::<Vec<_>>(), ["old"]);
    assert_eq!(s.dispatcher.snapshot()[1], orphan);
    assert!(s.dispatcher.remove_group("old"));
    assert!(!s.dispatcher.remove_group("old"));
    s.check(Action::Timer, &["save"]);
    assert_eq!(s.dispatcher.watermark_min(), Some(Offset(100)));
}

#[test]
fn group_with_an_end_stops_there_beside_live_ones_and_goes_without_a_trace() {
    let mut s = Script::new(options(vec![requeue("a")]));
    s.apply(tail(30));
    let replay = GroupOptions {
        name: "replay".into(),
        sinks: vec![requeue("a")],
        start: Start::At(Offset(5)),
        end: Some(Offset(12)),
        ..Default::default()
    };
    let sinks = s.dispatcher.add_group(&replay, range(0, 30)).unwrap();
    assert_eq!(sinks, [SinkId(1)]);
    assert!(s.dispatcher.add_group(&replay, range(0, 30)).is_err());
    s.check(Action::Timer, &["save", "open 1"]);
    let ready = Action::SinkReady(SinkId(1));
    s.check(ready, &["save", "ready 1 after 0", "deliver to 1 #2 5..12 x1"]);
    s.check(tail(40), &[]);
    s.check(delivered(2), &["save", "ended replay"]);
    assert!(s.dispatcher.remove_group("replay"));
    s.check(Action::SinkDown { sink: SinkId(1), reason: String::new() }, &["save"]);
    s.check(delivered(0), &["save", "deliver to 0 #3 20..30 x1"]);
    assert_eq!(s.dispatcher.snapshot().len(), 1);
}

#[test]
fn rewind_sends_everything_again_and_counts_anew() {
    let mut s = Script::new(options(vec![resume("a")]));
    s.apply(tail(100));
    s.apply(delivered(0));
    s.apply(delivered(1));
    let back = Action::Rewind { group: "default".into(), to: Offset(5) };
    // two leases are out: their answers say nothing about the events any more
    s.check(back, &["save"]);
    assert_eq!((s.watermark(), counts(&s).backlog, counts(&s).delivered), (5, 95, 0));
    s.check(delivered(2), &["save", "deliver to 0 #4 5..15 x1"]);
    s.check(failed(3), &["save", "recall 0", "failing 0: no, 0 events", "wake"]);
    s.check(returned(4), &["save"]);
    s.check_wake(&["save", "deliver to 0 #5 5..15 x1", "deliver to 0 #6 15..25 x1"]);
    let ahead = Action::Rewind { group: "default".into(), to: Offset(1_000) };
    s.check(ahead, &["save"]);
    assert_eq!((s.watermark(), counts(&s).appended), (100, 0));
}

#[test]
fn stop_waits_for_burials_but_not_for_those_that_are_refused() {
    let mut s = Script::new(options(vec![dead("a")]));
    s.apply(tail(10));
    s.check(Action::Stop, &[]);
    let only = || FailedEvents::Only(vec![Offset(3)]);
    s.check(failed_events(0, only()), &["save", "recall 0", "bury 3..4 Dead"]);
    s.check(
        Action::NotBuried { burial: BurialId(0), reason: "full".into() },
        &["stopped 0", "stopped"],
    );
    assert_eq!(s.state().waiting, [tried(3, 4, 1)]);
}
