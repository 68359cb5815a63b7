//! Lists of actions, and the commands they must produce.

use super::*;
use crate::cursor::{GroupState, SinkState, TriedRange};
use crate::sink::{Cause, FailedEvents};

mod policies;

/// A dispatcher with its commands as short lines.
struct Script {
    dispatcher: Dispatcher,
    now: u64,
    /// The time last asked for.
    wake: u64,
}

fn options(sinks: Vec<SinkOptions>) -> DispatchOptions {
    let group = GroupOptions { name: "default".into(), sinks, ..GroupOptions::default() };
    DispatchOptions { groups: vec![group], seed: 7 }
}

fn requeue(name: &str) -> SinkOptions {
    SinkOptions { batch_events_max: 10, ..SinkOptions::named(name) }
}

fn resume(name: &str) -> SinkOptions {
    SinkOptions { policy: FailurePolicy::RetryAndResume.into(), ..requeue(name) }
}

fn range(from: u64, to: u64) -> OffsetRange {
    Offset(from)..Offset(to)
}

fn tried(from: u64, to: u64, attempts: u32) -> TriedRange {
    TriedRange::new(range(from, to), attempts)
}

fn delivered(lease: u64) -> Action {
    Action::Delivered { lease: LeaseId(lease) }
}

fn returned(lease: u64) -> Action {
    Action::Returned { lease: LeaseId(lease) }
}

fn failed_events(lease: u64, events: FailedEvents) -> Action {
    let failure = Failure { events, cause: Cause::Refused, retryable: true, reason: "no".into() };
    Action::Failed { lease: LeaseId(lease), failure }
}

fn failed(lease: u64) -> Action {
    failed_events(lease, FailedEvents::All)
}

fn tail(offset: u64) -> Action {
    Action::Tail(Offset(offset))
}

fn line(command: &Command) -> String {
    match command {
        Command::Save => "save".into(),
        Command::Open { sink } => format!("open {}", sink.0),
        Command::Deliver { sink, lease, range, attempt } => {
            let (from, to) = (range.start, range.end);
            format!("deliver to {} #{} {from}..{to} x{attempt}", sink.0, lease.0)
        }
        Command::Recall { sink } => format!("recall {}", sink.0),
        Command::WakeAt(_) => "wake".into(),
        Command::Stopped => "stopped".into(),
        Command::Notice(Notice::SinkReady { sink, failures }) => {
            format!("ready {} after {failures}", sink.0)
        }
        Command::Notice(Notice::SinkFailing { sink, reason, events, .. }) => {
            format!("failing {}: {reason}, {events} events", sink.0)
        }
        Command::Notice(Notice::SinkRecovered { sink, failures, events }) => {
            format!("recovered {} after {failures}, {events} events", sink.0)
        }
        Command::Notice(Notice::Lost { group, range, events }) => {
            format!("lost {events} of {group} in {}..{}", range.start, range.end)
        }
        Command::Bury(Burial { range, grave, .. }) => {
            format!("bury {}..{} {grave:?}", range.start, range.end)
        }
        Command::Ended { group } => format!("ended {group}"),
        Command::Notice(Notice::SinkStopped { sink, .. }) => format!("stopped {}", sink.0),
        Command::Notice(Notice::Buried { range, grave, .. }) => {
            format!("buried {grave:?} {}..{}", range.start, range.end)
        }
        Command::Notice(Notice::Crowded { group, watermark }) => {
            format!("crowded {group} at {watermark}")
        }
    }
}

impl Script {
    /// Every sink is open; nothing is visible.
    fn new(options: DispatchOptions) -> Script {
        let mut script = Script::restored(options, &[], 0);
        script.open();
        script
    }

    fn restored(options: DispatchOptions, states: &[GroupState], tail: u64) -> Script {
        let dispatcher = Dispatcher::restore(&options, states, range(0, tail));
        Script { dispatcher, now: 0, wake: 0 }
    }

    fn open(&mut self) -> Vec<String> {
        let mut lines = self.apply(Action::Timer);
        for sink in 0..self.dispatcher.places.len() {
            lines.extend(self.apply(Action::SinkReady(SinkId(sink))));
        }
        lines.retain(|line| line.starts_with("deliver"));
        lines
    }

    fn apply(&mut self, action: Action) -> Vec<String> {
        let commands = self.dispatcher.apply(Millis(self.now), action);
        for command in &commands {
            if let Command::WakeAt(at) = command {
                self.wake = at.0;
            }
        }
        commands.iter().map(line).collect()
    }

    #[track_caller]
    fn check(&mut self, action: Action, expect: &[&str]) {
        assert_eq!(self.apply(action), expect);
    }

    /// Time goes on to the timer.
    #[track_caller]
    fn check_wake(&mut self, expect: &[&str]) {
        self.now = self.wake;
        self.check(Action::Timer, expect);
    }

    fn state(&self) -> GroupState {
        self.dispatcher.snapshot().remove(0)
    }

    fn watermark(&self) -> u64 {
        self.dispatcher.watermark("default").unwrap().0
    }
}

#[test]
fn sinks_are_opened_first_and_lent_to_in_turn() {
    let mut s = Script::restored(options(vec![requeue("a"), requeue("b")]), &[], 0);
    s.check(tail(25), &["open 0", "open 1"]);
    s.check(Action::Timer, &[]);
    s.check(
        Action::SinkReady(SinkId(1)),
        &["save", "ready 1 after 0", "deliver to 1 #0 0..10 x1", "deliver to 1 #1 10..20 x1"],
    );
    s.check(
        Action::SinkReady(SinkId(0)),
        &["save", "ready 0 after 0", "deliver to 0 #2 20..25 x1"],
    );
}

#[test]
fn round_robin_alternates_and_a_full_sink_is_passed_over() {
    let mut s = Script::new(options(vec![requeue("a"), requeue("b")]));
    s.check(
        tail(100),
        &[
            "save",
            "deliver to 0 #0 0..10 x1",
            "deliver to 1 #1 10..20 x1",
            "deliver to 0 #2 20..30 x1",
            "deliver to 1 #3 30..40 x1",
        ],
    );
    s.check(delivered(1), &["save", "deliver to 1 #4 40..50 x1"]);
    s.check(delivered(3), &["save", "deliver to 1 #5 50..60 x1"]);
    s.check(delivered(0), &["save", "deliver to 0 #6 60..70 x1"]);
}

#[test]
fn lease_is_no_larger_than_what_is_visible() {
    let mut s = Script::new(options(vec![requeue("a")]));
    s.check(tail(3), &["save", "deliver to 0 #0 0..3 x1"]);
    s.check(tail(4), &["save", "deliver to 0 #1 3..4 x1"]);
    s.check(tail(9), &[]);
    s.check(delivered(0), &["save", "deliver to 0 #2 4..9 x1"]);
    s.check(tail(7), &[]);
}

#[test]
fn watermark_rises_only_over_what_is_acked_without_gap() {
    let mut s = Script::new(options(vec![requeue("a"), requeue("b")]));
    s.apply(tail(30));
    s.check(delivered(1), &["save"]);
    assert_eq!(s.watermark(), 0);
    assert_eq!(s.state().acked, [range(10, 20)]);
    s.check(delivered(0), &["save"]);
    assert_eq!(s.watermark(), 20);
    s.check(delivered(0), &[]);
    s.check(delivered(2), &["save"]);
    assert_eq!(s.watermark(), 30);
    assert_eq!(s.dispatcher.watermark_min(), Some(Offset(30)));
    assert_eq!(s.dispatcher.watermark("other"), None);
}

#[test]
fn requeue_releases_to_another_sink_after_the_backoff() {
    let mut s = Script::new(options(vec![requeue("a"), requeue("b")]));
    s.apply(tail(40));
    s.check(delivered(1), &["save"]);
    s.check(failed(0), &["save", "recall 0", "failing 0: no, 10 events", "wake"]);
    // the lease behind it was not begun: others may take it at once
    s.check(returned(2), &["save", "deliver to 1 #4 20..30 x1"]);
    s.check(delivered(3), &["save"]);
    s.check(delivered(4), &["save"]);
    assert_eq!(s.watermark(), 0);
    assert_eq!(s.state().waiting, [tried(0, 10, 1)]);
    // not to the one that failed it, though its turn had come
    s.check_wake(&["save", "deliver to 1 #5 0..10 x2"]);
    s.check(delivered(5), &["save"]);
    assert_eq!(s.watermark(), 40);
}

#[test]
fn requeue_passes_the_failing_sink_over_while_it_backs_off() {
    let slow = Backoff { first_ms: 50_000, max_ms: 60_000 };
    let mut s =
        Script::new(options(vec![SinkOptions { backoff: slow, ..requeue("a") }, requeue("b")]));
    s.apply(tail(10));
    s.apply(failed(0));
    assert_eq!(s.apply(tail(20)), ["save", "deliver to 1 #1 10..20 x1"]);
    s.now = s.wake - 1;
    s.check(Action::Timer, &[]);
    s.check(delivered(1), &["save"]);
    s.check(tail(50), &["save", "deliver to 1 #2 20..30 x1", "deliver to 1 #3 30..40 x1"]);
}

#[test]
fn only_sink_gets_its_released_range_first_after_the_backoff() {
    let mut s = Script::new(options(vec![requeue("a")]));
    s.apply(tail(40));
    s.check(failed(0), &["save", "recall 0", "failing 0: no, 10 events", "wake"]);
    s.check(returned(1), &["save"]);
    s.check_wake(&["save", "deliver to 0 #2 0..10 x2", "deliver to 0 #3 10..20 x1"]);
}

#[test]
fn retry_and_resume_rewinds_and_keeps_the_order() {
    let mut s = Script::new(options(vec![resume("a"), resume("b")]));
    s.apply(tail(60));
    // 0: 0..10 20..30, 1: 10..20 30..40
    s.check(failed(0), &["save", "recall 0", "failing 0: no, 10 events", "wake"]);
    s.now = s.wake;
    // its back-off is over, but a lease is still on its way back
    s.check(Action::Timer, &[]);
    s.check(delivered(1), &["save", "deliver to 1 #4 40..50 x1"]);
    s.check(returned(2), &["save", "deliver to 0 #5 0..10 x2", "deliver to 0 #6 20..30 x1"]);
    s.check(delivered(5), &["save", "recovered 0 after 1, 10 events", "deliver to 0 #7 50..60 x1"]);
}

#[test]
fn retry_and_resume_gives_its_range_to_no_other_sink() {
    let mut s = Script::new(options(vec![resume("a"), requeue("b")]));
    s.apply(tail(20));
    s.check(delivered(1), &["save"]);
    s.check(failed(0), &["save", "recall 0", "failing 0: no, 10 events", "wake"]);
    s.check(tail(30), &["save", "deliver to 1 #2 20..30 x1"]);
    assert_eq!(s.state().sinks[0].retry, [tried(0, 10, 1)]);
    assert_eq!(s.state().sinks[0].position, Offset(0));
    s.check_wake(&["save", "deliver to 0 #3 0..10 x2"]);
}

#[test]
fn partial_failure_acks_what_arrived() {
    for (sink, policy) in [(requeue("a"), "requeue"), (resume("a"), "resume")] {
        let mut s = Script::new(options(vec![sink]));
        s.apply(tail(10));
        let only = FailedEvents::Only([2, 7, 3, 3, 99].map(Offset).to_vec());
        let expect = ["save", "recall 0", "failing 0: no, 3 events", "wake"];
        s.check(failed_events(0, only), &expect);
        assert_eq!(s.watermark(), 2, "{policy}");
        assert_eq!(s.state().acked, [range(4, 7), range(8, 10)], "{policy}");
        s.check_wake(&["save", "deliver to 0 #1 2..4 x2", "deliver to 0 #2 7..8 x2"]);
        let counters = s.state().sinks[0].counters;
        assert_eq!((counters.delivered_events, counters.failed_events), (7, 3), "{policy}");
        assert_eq!((counters.leases, counters.redelivered_events), (3, 3), "{policy}");
    }
}

#[test]
fn failure_that_names_no_event_of_the_lease_fails_all_of_it() {
    for offsets in [vec![], vec![Offset(77)]] {
        let mut s = Script::new(options(vec![requeue("a")]));
        s.apply(tail(10));
        s.apply(failed_events(0, FailedEvents::Only(offsets)));
        assert_eq!(s.state().waiting, [tried(0, 10, 1)]);
    }
}

#[test]
fn failure_of_a_damaged_event_leaves_nothing_to_send_again() {
    let mut s = Script::new(options(vec![requeue("a")]));
    s.apply(tail(3));
    s.check(Action::Damaged(range(0, 2)), &["save", "lost 2 of default in 0..2"]);
    let only = FailedEvents::Only(vec![Offset(0)]);
    let expect = ["save", "recall 0", "failing 0: no, 0 events", "wake"];
    s.check(failed_events(0, only), &expect);
    assert_eq!(s.watermark(), 3);
}

#[test]
fn backoff_grows_with_each_failure_and_starts_anew_after_a_success() {
    let mut s = Script::new(options(vec![requeue("a")]));
    s.apply(tail(10));
    let mut lease = 0;
    for plain in [1_000, 2_000, 4_000, 8_000, 16_000, 32_000, 60_000, 60_000] {
        let lines = s.apply(failed(lease));
        assert_eq!(lines.iter().any(|line| line.starts_with("failing")), lease == 0);
        let wait = s.wake - s.now;
        assert!((plain * 8 / 10..=plain * 12 / 10).contains(&wait), "{wait} after {plain}");
        lease += 1;
        let attempt = lease + 1;
        s.check_wake(&["save", &format!("deliver to 0 #{lease} 0..10 x{attempt}")]);
    }
    s.check(delivered(8), &["save", "recovered 0 after 8, 80 events"]);
    s.apply(tail(20));
    s.apply(failed(9));
    assert!((800..=1_200).contains(&(s.wake - s.now)));
}

#[test]
fn range_that_keeps_failing_waits_longer_whichever_sinks_it_goes_to() {
    let mut s = Script::new(options(vec![requeue("a"), requeue("b")]));
    s.apply(tail(10));
    s.apply(failed(0));
    s.check_wake(&["save", "deliver to 1 #1 0..10 x2"]);
    s.check(failed(1), &["save", "recall 1", "failing 1: no, 10 events", "wake"]);
    let start = s.now;
    // the sink's own back-off ends first, the range is not due yet
    s.check_wake(&["wake"]);
    assert!((800..=1_200).contains(&(s.now - start)));
    s.check_wake(&["save", "deliver to 0 #2 0..10 x3"]);
    assert!((1_600..=2_400).contains(&(s.now - start)));
}

#[test]
fn timer_is_asked_for_the_earliest_wait_and_then_for_the_next() {
    let slow = Backoff { first_ms: 50_000, max_ms: 60_000 };
    let mut s =
        Script::new(options(vec![SinkOptions { backoff: slow, ..resume("a") }, resume("b")]));
    s.apply(tail(20));
    s.check(failed(0), &["save", "recall 0", "failing 0: no, 10 events", "wake"]);
    assert!((40_000..=60_000).contains(&s.wake));
    s.check(failed(1), &["save", "recall 1", "failing 1: no, 10 events", "wake"]);
    assert!((800..=1_200).contains(&s.wake));
    s.check(Action::Timer, &[]);
    s.check_wake(&["save", "deliver to 1 #2 10..20 x2", "wake"]);
    assert!((40_000..=60_000).contains(&s.wake));
}

#[test]
fn sink_that_cannot_open_is_told_to_open_again_after_the_backoff() {
    let mut s = Script::restored(options(vec![requeue("a")]), &[], 10);
    let down = || Action::SinkDown { sink: SinkId(0), reason: "refused".into() };
    s.check(Action::Timer, &["open 0"]);
    s.check(down(), &["recall 0", "failing 0: refused, 0 events", "wake"]);
    s.check_wake(&["open 0"]);
    s.check(down(), &["recall 0", "wake"]);
    assert!((1_600..=2_400).contains(&(s.wake - s.now)));
    s.check_wake(&["open 0"]);
    s.check(Action::SinkReady(SinkId(0)), &["save", "ready 0 after 2", "deliver to 0 #0 0..10 x1"]);
    s.check(delivered(0), &["save", "recovered 0 after 2, 0 events"]);
}

#[test]
fn sink_that_goes_down_gets_its_returned_leases_after_it_opened_again() {
    let mut s = Script::new(options(vec![resume("a")]));
    s.apply(tail(20));
    let down = Action::SinkDown { sink: SinkId(0), reason: "task ended".into() };
    s.check(down, &["recall 0", "failing 0: task ended, 0 events", "wake"]);
    s.check(returned(0), &["save"]);
    s.check_wake(&[]);
    s.check(returned(1), &["save", "open 0"]);
    s.check(
        Action::SinkReady(SinkId(0)),
        &["save", "ready 0 after 1", "deliver to 0 #2 0..10 x1", "deliver to 0 #3 10..20 x1"],
    );
}

#[test]
fn damage_is_passed_wherever_it_lies_and_counted_once() {
    let mut s = Script::new(options(vec![SinkOptions { queue_size: 1, ..requeue("a") }]));
    s.apply(tail(60));
    s.apply(failed_events(0, FailedEvents::Only([1, 2, 3, 8].map(Offset).to_vec())));
    // acked 0, waiting 1..4 and 8..9, never lent 10..60
    s.check(Action::Damaged(range(2, 6)), &["save", "lost 2 of default in 2..6"]);
    s.check(Action::Damaged(range(2, 6)), &[]);
    s.check(Action::Damaged(range(30, 40)), &["save", "lost 10 of default in 30..40"]);
    s.check(Action::Damaged(range(60, 90)), &[]);
    assert_eq!(s.state().waiting, [tried(1, 2, 1), tried(8, 9, 1), tried(10, 30, 0)]);
    assert_eq!(s.state().lost_events, 12);
    s.check_wake(&["save", "deliver to 0 #1 1..2 x2"]);
    // now in a lease: what is left of it is due again, the damage is not
    s.apply(delivered(1));
    s.apply(delivered(2));
    assert_eq!(s.watermark(), 10);
    s.check(Action::Damaged(range(5, 15)), &["save", "lost 5 of default in 10..15"]);
    assert_eq!(s.watermark(), 15);
    assert_eq!(s.state().sinks[0].leases, [tried(15, 20, 1)]);
    s.apply(failed(3));
    assert_eq!(s.state().waiting, [tried(15, 20, 1), tried(20, 30, 0)]);
    assert_eq!(s.state().sinks[0].counters.failed_events, 4 + 5);
}

#[test]
fn stop_lends_nothing_and_reports_when_the_last_lease_is_answered() {
    let mut s = Script::new(options(vec![requeue("a"), requeue("b")]));
    s.apply(tail(40));
    s.check(Action::Stop, &[]);
    s.check(delivered(0), &["save"]);
    s.check(tail(90), &[]);
    s.check(failed(1), &["save", "recall 1", "failing 1: no, 10 events"]);
    s.check(returned(3), &["save"]);
    assert_eq!(s.dispatcher.leases(), [LeaseId(2)]);
    s.check(Action::Abandon { lease: LeaseId(2) }, &["save", "stopped"]);
    s.check(delivered(2), &[]);
    assert_eq!(s.state().waiting, [tried(10, 30, 1), tried(30, 40, 0)]);
}

#[test]
fn abandoned_lease_is_due_again_and_its_sink_is_opened_anew() {
    let mut s = Script::new(options(vec![resume("a")]));
    s.apply(tail(20));
    let down = Action::SinkDown { sink: SinkId(0), reason: "hung".into() };
    s.check(down, &["recall 0", "failing 0: hung, 0 events", "wake"]);
    s.check(Action::Abandon { lease: LeaseId(0) }, &["save"]);
    s.check(returned(1), &["save"]);
    s.check_wake(&["open 0"]);
    s.check(
        Action::SinkReady(SinkId(0)),
        &["save", "ready 0 after 1", "deliver to 0 #2 0..10 x2", "deliver to 0 #3 10..20 x1"],
    );
}

#[test]
fn redelivery_is_cut_to_the_batch_size_and_keeps_its_attempts() {
    let small = SinkOptions { batch_events_max: 4, ..requeue("b") };
    let mut s = Script::new(options(vec![requeue("a"), small]));
    s.apply(Action::SinkDown { sink: SinkId(1), reason: String::new() });
    s.apply(tail(10));
    s.apply(failed(0));
    s.now += 1_200;
    s.apply(Action::SinkDown { sink: SinkId(0), reason: String::new() });
    s.check(
        Action::SinkReady(SinkId(1)),
        &["save", "ready 1 after 1", "deliver to 1 #1 0..4 x2", "deliver to 1 #2 4..8 x2"],
    );
}

#[test]
fn each_group_sees_every_event() {
    let group = |name: &str| GroupOptions {
        name: name.into(),
        sinks: vec![requeue("k")],
        ..GroupOptions::default()
    };
    let options = DispatchOptions { groups: vec![group("default"), group("audit")], seed: 1 };
    let mut s = Script::new(options);
    s.check(tail(5), &["save", "deliver to 0 #0 0..5 x1", "deliver to 1 #1 0..5 x1"]);
    s.apply(delivered(0));
    let watermark = |s: &Script, group| s.dispatcher.watermark(group).unwrap().0;
    assert_eq!((watermark(&s, "default"), watermark(&s, "audit")), (5, 0));
    assert_eq!(s.dispatcher.watermark_min(), Some(Offset(0)));
    s.check(Action::Damaged(range(0, 5)), &["save", "lost 5 of audit in 0..5"]);
}

#[test]
fn restart_gives_leases_back_with_their_attempts() {
    let sinks = || vec![requeue("a"), resume("b")];
    let mut s = Script::new(options(sinks()));
    s.apply(tail(40));
    s.apply(delivered(2));
    s.apply(failed(1));
    let state = s.state();
    assert_eq!(state.sinks[1].retry, [tried(10, 20, 1)]);
    // a: leased 0..10; b: to send again 10..20, leased 30..40; acked 20..30
    let mut s = Script::restored(options(sinks()), &[state], 40);
    assert_eq!(
        s.open(),
        ["deliver to 0 #0 0..10 x2", "deliver to 1 #1 10..20 x2", "deliver to 1 #2 30..40 x2"]
    );
    assert_eq!(s.state().sinks[0].counters.leases, 2 + 1);
    for lease in [0, 1, 2] {
        s.apply(delivered(lease));
    }
    assert_eq!(s.watermark(), 40);
}

#[test]
fn restart_gives_what_a_missing_sink_owes_to_the_group() {
    let mut s = Script::new(options(vec![resume("a"), resume("b")]));
    s.apply(tail(40));
    let mut s = Script::restored(options(vec![resume("b")]), &[s.state()], 40);
    // its own in order, then what a had
    assert_eq!(s.open(), ["deliver to 0 #0 10..20 x2", "deliver to 0 #1 30..40 x2"]);
    s.check(delivered(0), &["save", "deliver to 0 #2 0..10 x2"]);
}

#[test]
fn clean_stop_and_restart_deliver_nothing_twice() {
    let mut s = Script::new(options(vec![requeue("a"), requeue("b")]));
    s.apply(tail(100));
    s.apply(Action::Stop);
    for lease in [3, 1, 0] {
        s.apply(delivered(lease));
    }
    s.check(delivered(2), &["save", "stopped"]);
    let mut s = Script::restored(options(vec![requeue("a"), requeue("b")]), &[s.state()], 100);
    assert_eq!(s.open()[0], "deliver to 0 #0 40..50 x1");
}

#[test]
fn restore_leaves_out_nothing_that_an_unsound_state_forgot() {
    let sink = SinkState { leases: vec![tried(5, 12, 3)], ..SinkState::default() };
    let state = GroupState {
        name: "default".into(),
        watermark: Offset(4),
        acked: vec![range(10, 20), range(0, 5), range(30, 30)],
        waiting: vec![tried(11, 25, 1), tried(28, 29, 1)],
        sinks: vec![SinkState { name: "a".into(), ..sink.clone() }, sink],
        ..GroupState::default()
    };
    assert!(state.check().is_err());
    let s = Script::restored(options(vec![requeue("a")]), &[state], 27);
    let state = s.state();
    assert_eq!((state.watermark, state.end()), (Offset(5), Offset(30)));
    assert_eq!(state.acked, [range(10, 20)]);
    let expect = [tried(5, 10, 3), tried(20, 25, 1), tried(25, 28, 0), tried(28, 29, 1)];
    assert_eq!(state.waiting[..4], expect);
    assert_eq!(state.waiting[4], tried(29, 30, 0));
}

#[test]
fn new_group_begins_with_the_first_readable_offset() {
    let options = options(vec![requeue("a")]);
    let mut dispatcher = Dispatcher::restore(&options, &[], range(50, 55));
    assert_eq!(dispatcher.watermark("default"), Some(Offset(50)));
    dispatcher.apply(Millis(0), Action::Timer);
    let commands = dispatcher.apply(Millis(0), Action::SinkReady(SinkId(0)));
    assert_eq!(line(&commands[2]), "deliver to 0 #0 50..55 x1");
}

#[test]
fn crowded_group_is_lent_nothing_new_until_the_low_offsets_come_in() {
    let wide = |name| SinkOptions { batch_events_max: 200, queue_size: 1, ..requeue(name) };
    let mut s = Script::new(options(vec![wide("a"), wide("b")]));
    s.apply(tail(1_000));
    let events = 2 * ACKED_RANGES_MAX as u64;
    let even = (0..events).filter(|i| i % 2 == 0).map(Offset).collect();
    let lines = s.apply(failed_events(0, FailedEvents::Only(even)));
    assert_eq!(lines[2..4], ["failing 0: no, 64 events", "crowded default at 0"]);
    s.check(delivered(1), &["save"]);
    s.check(tail(2_000), &[]);
    s.check_wake(&["save", "deliver to 1 #2 0..1 x2", "wake"]);
    s.check(delivered(2), &["save", "deliver to 0 #3 400..600 x1", "deliver to 1 #4 2..3 x2"]);
}

#[test]
fn time_that_goes_back_counts_as_the_latest() {
    let mut s = Script::new(options(vec![requeue("a")]));
    s.now = 10_000;
    s.apply(tail(10));
    s.now = 0;
    s.apply(failed(0));
    assert!(s.wake >= 10_800);
}
