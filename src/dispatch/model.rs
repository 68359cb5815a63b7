//! The dispatcher against a simple model, under random sequences: the tail grows, sinks open, fail
//! in part, hang and are replaced, events are buried, or can't be, or grow too old, time passes, the
//! log is damaged, the process stops or crashes and comes back with an older state.
//!
//! The model keeps sets of single offsets and plays the runners by the protocol of `mod.rs`, with
//! every answer and every command in a queue, so that each crosses the other.

use super::*;
use crate::cursor::GroupState;
use crate::sink::{Cause, FailedEvents};
use std::collections::{BTreeMap, BTreeSet, VecDeque};

/// One step: what, and how.
type Step = (u8, u8);

/// What runs one sink.
#[derive(Default)]
struct Runner {
    queue: VecDeque<Command>,
    /// Failures told and not recalled: it begins nothing.
    failures: u32,
    /// Offsets it has to send again before any other (kept by sinks that keep their order).
    owed: BTreeSet<u64>,
    /// The end of the last lease it began.
    reach: u64,
    /// It has to be opened before it delivers.
    closed: bool,
}

/// What the model knows of a group.
#[derive(Clone, Default)]
struct Truth {
    done: BTreeSet<u64>,
    /// What the log could not give.
    lost: BTreeSet<u64>,
    /// What is being buried.
    burying: BTreeMap<BurialId, Burial>,
    /// What left undelivered, by what became of it.
    buried: BTreeMap<u64, Grave>,
    /// Deliveries known to have begun.
    tries: BTreeMap<u64, u32>,
    live: BTreeMap<LeaseId, (SinkId, OffsetRange, u32)>,
}

struct World {
    options: DispatchOptions,
    dispatcher: Dispatcher,
    now: u64,
    wake: Option<u64>,
    tail: u64,
    runners: Vec<Runner>,
    /// Answers the dispatcher has not seen.
    answers: VecDeque<Action>,
    truths: Vec<Truth>,
    /// The dead-letter log: group, offsets, what became of them.
    letters: Vec<(usize, OffsetRange, Grave)>,
    /// Burials asked for: each fourth is refused.
    burials: u32,
    /// By sink: it must get nothing before.
    blocked_until: Vec<u64>,
    /// The states stored so far, each with what was true then.
    saved: Vec<(Vec<GroupState>, Vec<Truth>)>,
    /// Every group's sinks all keep their order, and none has gone: the order is exact.
    exact_order: bool,
    stopped: bool,
}

fn offsets(range: &OffsetRange) -> std::ops::Range<u64> {
    range.start.0..range.end.0
}

/// Policies of the groups' sinks.
fn some_policies(kind: u8) -> Vec<Vec<Policy>> {
    use FailurePolicy::{DeadLetter, Fail, Requeue, RetryAndResume};
    let plain = |groups: &[&[FailurePolicy]]| -> Vec<Vec<Policy>> {
        groups.iter().map(|sinks| sinks.iter().map(|&name| name.into()).collect()).collect()
    };
    let bounded = |name: FailurePolicy, on_exhausted, isolate| Policy {
        max_attempts: 2,
        on_exhausted,
        isolate,
        ..name.into()
    };
    match kind % 12 {
        0 => plain(&[&[Requeue]]),
        1 => plain(&[&[Requeue, Requeue, Requeue]]),
        2 => plain(&[&[RetryAndResume]]),
        3 => plain(&[&[RetryAndResume, RetryAndResume]]),
        4 => plain(&[&[RetryAndResume, Requeue, RetryAndResume]]),
        5 => plain(&[&[RetryAndResume, RetryAndResume], &[Requeue, RetryAndResume]]),
        6 => plain(&[&[DeadLetter, DeadLetter]]),
        7 => plain(&[&[Fail, Requeue], &[DeadLetter]]),
        8 => plain(&[&[Fail, DeadLetter, RetryAndResume]]),
        9 => vec![vec![bounded(Requeue, Exhausted::Stop, false); 2]],
        10 => vec![vec![bounded(RetryAndResume, Exhausted::DeadLetter, true); 2]],
        _ => vec![vec![
            bounded(Requeue, Exhausted::Fail, true),
            bounded(RetryAndResume, Exhausted::Stop, true),
        ]],
    }
}

fn some_options(kind: u8) -> DispatchOptions {
    let balances = [
        Balance::RoundRobin,
        Balance::LeastLoad,
        Balance::TargetQueueSize,
        Balance::Failover,
        Balance::Random,
    ];
    let balance = balances[usize::from(kind / 12) % balances.len()];
    let sink = |(index, &policy): (usize, &Policy)| SinkOptions {
        name: format!("k{index}"),
        batch_events_max: 3 + index as u32 * 4,
        queue_size: 1 + u32::from(kind / 6 % 3),
        policy,
        backoff: Backoff { first_ms: 100, max_ms: 1_000 },
        target_events: if balance == Balance::TargetQueueSize { 9 } else { 0 },
        priority: index as i32 % 2,
        ..SinkOptions::named("")
    };
    let group = |(index, sinks): (usize, &Vec<Policy>)| GroupOptions {
        name: format!("g{index}"),
        balance,
        sinks: sinks.iter().enumerate().map(sink).collect(),
        ..GroupOptions::default()
    };
    let groups = some_policies(kind).iter().enumerate().map(group).collect();
    DispatchOptions { groups, seed: kind.into() }
}

impl Truth {
    fn bury(&mut self, range: &OffsetRange, grave: Grave) {
        for offset in offsets(range) {
            if self.done.insert(offset) {
                self.buried.insert(offset, grave);
            }
        }
    }
}

impl World {
    fn new(kind: u8) -> World {
        let options = some_options(kind);
        let sinks = options.groups.iter().flat_map(|group| &group.sinks);
        let exact_order = sinks.clone().all(|sink| sink.policy.keeps_order());
        let count = sinks.count();
        World {
            dispatcher: Dispatcher::restore(&options, &[], Offset(0)..Offset(0)),
            now: 0,
            wake: None,
            tail: 0,
            runners: (0..count).map(|_| Runner::default()).collect(),
            answers: VecDeque::new(),
            truths: vec![Truth::default(); options.groups.len()],
            letters: Vec::new(),
            burials: 0,
            blocked_until: vec![0; count],
            saved: Vec::new(),
            exact_order,
            stopped: false,
            options,
        }
    }

    fn sink_options(&self, sink: SinkId) -> (usize, &SinkOptions) {
        let (group, index) = self.dispatcher.places[sink.0].expect("no group is removed");
        (group, &self.options.groups[group].sinks[index])
    }

    fn step(&mut self, (what, how): Step) {
        let runner = usize::from(how) % self.runners.len();
        match what % 16 {
            0 | 1 => {
                self.tail += u64::from(how % 32);
                self.apply(Action::Tail(Offset(self.tail)));
            }
            2..=6 => self.run(runner, how / 8),
            7..=10 => {
                if let Some(answer) = self.answers.pop_front() {
                    self.apply(answer);
                }
            }
            11 | 12 => {
                self.now += u64::from(how) * 4;
                self.apply(Action::Timer);
            }
            13 => match how % 5 {
                4 => {
                    // what was to be buried and is not waits for any sink after a crash
                    self.exact_order = false;
                    let group = self.options.groups[0].name.clone();
                    let below = Offset(self.tail.saturating_sub((how / 4).into()));
                    self.apply(Action::Expire { group, below });
                }
                0 => {
                    let from = self.tail.saturating_sub((how / 2).into());
                    self.apply(Action::Damaged(Offset(from)..Offset(from + u64::from(how % 7))));
                }
                1 => self.replace(runner),
                _ => self.run(runner, how / 8),
            },
            14 if how < 60 => self.crash(how.into()),
            15 if how < 30 => self.stop_and_start(),
            _ => self.run(runner, how / 8),
        }
    }

    /// The runner takes the next thing in its queue.
    fn run(&mut self, index: usize, how: u8) {
        let sink = SinkId(index);
        let Some(command) = self.runners[index].queue.pop_front() else { return };
        let answer = match command {
            Command::Open { .. } if self.runners[index].failures > 0 => return,
            Command::Open { .. } if how.is_multiple_of(4) => {
                self.runners[index].failures += 1;
                Action::SinkDown { sink, reason: "refused".into() }
            }
            Command::Open { .. } => {
                self.runners[index].closed = false;
                Action::SinkReady(sink)
            }
            Command::Recall { .. } => {
                self.runners[index].failures -= 1;
                return;
            }
            Command::Deliver { lease, range, .. } if self.runners[index].failures > 0 => {
                self.runners[index].owed.extend(offsets(&range));
                Action::Returned { lease }
            }
            Command::Deliver { lease, range, .. } => {
                assert!(!self.runners[index].closed, "{sink:?} gets {range:?} before it is open");
                self.check_order(sink, &range);
                self.deliver(sink, lease, &range, how)
            }
            other => panic!("{other:?} is nothing for a runner"),
        };
        self.answers.push_back(answer);
    }

    fn deliver(&mut self, sink: SinkId, lease: LeaseId, range: &OffsetRange, how: u8) -> Action {
        let failed: Vec<_> = match how % 4 {
            0 => offsets(range).collect(),
            1 => offsets(range).filter(|offset| offset % 3 == u64::from(how % 3)).collect(),
            _ => vec![],
        };
        if failed.is_empty() {
            return Action::Delivered { lease };
        }
        let all = failed.len() as u64 == range.end.since(range.start);
        let only = failed.iter().copied().map(Offset).collect();
        let events = if all { FailedEvents::All } else { FailedEvents::Only(only) };
        let runner = &mut self.runners[sink.0];
        runner.failures += 1;
        runner.owed.extend(failed);
        let cause = if how % 8 == 4 { Cause::Unreachable } else { Cause::Refused };
        runner.closed = cause == Cause::Unreachable;
        let failure = Failure { events, cause, retryable: how % 16 != 1, reason: "failed".into() };
        Action::Failed { lease, failure }
    }

    /// I33: a sink that keeps its order begins with the lowest offset it owes, or goes on.
    fn check_order(&mut self, sink: SinkId, range: &OffsetRange) {
        let group = self.sink_options(sink).0;
        let truth = &self.truths[group];
        let burying: BTreeSet<_> =
            truth.burying.values().flat_map(|burial| offsets(&burial.range)).collect();
        let gone = |offset: &u64| {
            let buried = truth.buried.contains_key(offset) || burying.contains(offset);
            truth.lost.contains(offset) || buried
        };
        let runner = &mut self.runners[sink.0];
        let mut present = offsets(range).filter(|offset| !gone(offset));
        if let Some(first) = present.next()
            && self.exact_order
        {
            match runner.owed.iter().find(|offset| !gone(offset)) {
                Some(&lowest) => assert_eq!(first, lowest, "{sink:?} owes {:?}", runner.owed),
                None => assert!(first >= runner.reach, "{sink:?} jumps back to {first}"),
            }
        }
        runner.owed.retain(|offset| !offsets(range).contains(offset));
        runner.reach = range.end.0;
    }

    /// The sink's task hangs and is replaced: the lease it is at is abandoned.
    fn replace(&mut self, index: usize) {
        let sink = SinkId(index);
        self.answers.push_back(Action::SinkDown { sink, reason: "replaced".into() });
        let runner = &mut self.runners[index];
        if runner.failures == 0
            && let Some(Command::Deliver { lease, range, .. }) = runner.queue.front().cloned()
        {
            runner.queue.pop_front();
            runner.owed.extend(offsets(&range));
            self.answers.push_back(Action::Abandon { lease });
        }
        runner.failures += 1;
        runner.closed = true;
    }

    /// Writes the letter of a burial, or can't; the answer is for the dispatcher.
    fn bury(&mut self, burial: &Burial, works: bool) -> Action {
        if !works {
            return Action::NotBuried { burial: burial.id, reason: "full".into() };
        }
        let group = self.group_of(&burial.group);
        for (other, range, _) in &self.letters {
            let overlaps = range.start < burial.range.end && burial.range.start < range.end;
            assert!(*other != group || !overlaps, "buried twice: {burial:?} {range:?}");
        }
        self.letters.push((group, burial.range.clone(), burial.grave));
        Action::Buried(burial.id)
    }

    fn group_of(&self, name: &str) -> usize {
        self.options.groups.iter().position(|group| group.name == name).unwrap()
    }

    fn apply(&mut self, action: Action) {
        self.observe(&action);
        let before = self.dispatcher.snapshot();
        let commands = self.dispatcher.apply(Millis(self.now), action);
        self.wake = self.wake.filter(|&at| at > self.now);
        let saves = commands.contains(&Command::Save);
        for command in commands {
            self.obey(command);
        }
        let after = self.dispatcher.snapshot();
        assert!(saves || before == after, "changed without a save: {before:?} {after:?}");
        self.dispatcher.dead_tail_at(Offset(self.letters.len() as u64));
        let after = self.dispatcher.snapshot();
        if saves {
            self.saved.push((after, self.truths.clone()));
        }
        for (group, truth) in self.dispatcher.groups.iter().zip(&self.truths) {
            let not_done = (0..).find(|offset| !truth.done.contains(offset)).unwrap();
            assert_eq!(group.watermark.0, not_done, "I27: watermark of {}", group.name);
            let counts = Conservation::of(&group.snapshot(), Offset(self.tail));
            let of = |grave| truth.buried.values().filter(|&&other| other == grave).count() as u64;
            assert!(counts.holds(), "{counts:?}");
            assert_eq!(counts.dead, of(Grave::Dead));
            assert_eq!(counts.expired, of(Grave::Expired));
            assert_eq!(counts.lost, of(Grave::Lost) + truth.lost.len() as u64);
        }
    }

    /// Does to the model what an action says.
    fn observe(&mut self, action: &Action) {
        let (tail, now) = (self.tail, self.now);
        if let Action::Failed { lease, .. } = action {
            let holder = self.truths.iter().find_map(|truth| truth.live.get(lease));
            let sink = holder.expect("each lease is answered once").0;
            if self.sink_options(sink).1.policy.max_attempts == 0 {
                self.blocked_until[sink.0] = now + 80;
            }
        }
        match action {
            Action::SinkDown { sink, .. } => self.blocked_until[sink.0] = now + 80,
            Action::Damaged(range) => {
                for truth in &mut self.truths {
                    let range = offsets(range).filter(|&offset| offset < tail);
                    truth.lost.extend(range.clone().filter(|o| !truth.done.contains(o)));
                    truth.done.extend(range);
                }
            }
            Action::Buried(id) => {
                for truth in &mut self.truths {
                    if let Some(burial) = truth.burying.remove(id) {
                        truth.bury(&burial.range, burial.grave);
                    }
                }
            }
            Action::Delivered { lease } => self.answered(*lease, |_| false, true),
            Action::Returned { lease } => self.answered(*lease, |_| true, false),
            Action::Abandon { lease } => self.answered(*lease, |_| true, true),
            Action::Failed { lease, failure } => match &failure.events {
                FailedEvents::From(first) => self.answered(*lease, |o| o >= first.0, true),
                FailedEvents::All => self.answered(*lease, |_| true, true),
                FailedEvents::Only(only) => {
                    self.answered(*lease, |offset| only.contains(&Offset(offset)), true);
                }
            },
            _ => {}
        }
    }

    fn answered(&mut self, lease: LeaseId, failed: impl Fn(u64) -> bool, begun: bool) {
        for truth in &mut self.truths {
            let Some((_, range, attempt)) = truth.live.remove(&lease) else { continue };
            for offset in offsets(&range) {
                if !failed(offset) {
                    truth.done.insert(offset);
                } else if begun {
                    truth.tries.insert(offset, attempt);
                }
            }
        }
    }

    /// Checks a command and hands it on.
    fn obey(&mut self, command: Command) {
        match &command {
            Command::Bury(burial) => {
                let group = self.group_of(&burial.group);
                self.truths[group].burying.insert(burial.id, burial.clone());
                self.burials += 1;
                let answer = self.bury(burial, !self.burials.is_multiple_of(4));
                self.answers.push_back(answer);
            }
            Command::Ended { .. } => {}
            Command::Deliver { sink, lease, range, attempt } => {
                self.check_deliver(*sink, range, *attempt);
                let group = self.sink_options(*sink).0;
                self.truths[group].live.insert(*lease, (*sink, range.clone(), *attempt));
                self.runners[sink.0].queue.push_back(command);
            }
            Command::Open { sink } | Command::Recall { sink } => {
                self.runners[sink.0].queue.push_back(command);
            }
            Command::WakeAt(at) => self.wake = Some(at.0),
            Command::Stopped => self.stopped = true,
            Command::Save | Command::Notice(_) => {}
        }
    }

    fn check_deliver(&self, sink: SinkId, range: &OffsetRange, attempt: u32) {
        let (group, options) = self.sink_options(sink);
        let truth = &self.truths[group];
        let text = format!("{sink:?} {range:?} attempt {attempt}");
        assert!(range.end.0 <= self.tail, "above the tail: {text}");
        assert!(range.end.since(range.start) <= options.batch_events_max.into(), "large: {text}");
        assert!(self.now >= self.blocked_until[sink.0], "I36: backing off: {text}");
        let own = truth.live.values().filter(|(other, ..)| *other == sink);
        let events: u64 = own.clone().map(|(_, range, _)| range.end.since(range.start)).sum();
        match options.target_events {
            0 => assert!(own.count() < options.queue_size as usize, "I36: no credit: {text}"),
            target => assert!(events < target, "I36: the target is reached: {text}"),
        }
        for offset in offsets(range) {
            assert!(!truth.done.contains(&offset), "I35: {offset} is done: {text}");
            let leased = truth.live.values().any(|(_, other, _)| offsets(other).contains(&offset));
            assert!(!leased, "I26: {offset} is leased: {text}");
            let mut burying = truth.burying.values();
            let buried = burying.any(|burial| offsets(&burial.range).contains(&offset));
            assert!(!buried, "{offset} is being buried: {text}");
            let tries = truth.tries.get(&offset).copied().unwrap_or(0);
            assert_eq!(attempt, tries + 1, "I34: attempts of {offset}: {text}");
        }
    }

    /// The process dies; a state of any of its last moments is found.
    fn crash(&mut self, how: usize) {
        let age = how % 5;
        let (states, truths) = match self.saved.len().checked_sub(age + 1) {
            Some(index) => self.saved.swap_remove(index),
            None => (Vec::new(), vec![Truth::default(); self.truths.len()]),
        };
        self.truths = truths;
        if how.is_multiple_of(7) && self.options.groups[0].sinks.len() > 1 {
            self.options.groups[0].sinks.pop();
            self.exact_order = false;
        }
        self.start(&states);
    }

    fn stop_and_start(&mut self) {
        self.apply(Action::Stop);
        self.drain();
        assert!(self.stopped, "leases are out: {:?}", self.dispatcher.leases());
        assert!(self.truths.iter().all(|truth| truth.live.is_empty()));
        self.start(&self.dispatcher.snapshot());
    }

    fn start(&mut self, states: &[GroupState]) {
        let readable = Offset(0)..Offset(self.tail);
        self.dispatcher = Dispatcher::restore(&self.options, states, readable);
        self.saved.clear();
        self.answers.clear();
        self.wake = None;
        self.stopped = false;
        for truth in &mut self.truths {
            truth.burying.clear();
            // nobody knows whether these were begun: they count
            for (_, range, attempt) in std::mem::take(&mut truth.live).into_values() {
                truth.tries.extend(offsets(&range).map(|offset| (offset, attempt)));
            }
        }
        self.blocked_until = vec![0; self.dispatcher.places.len()];
        self.runners = Vec::new();
        for &place in &self.dispatcher.places {
            let (group, index) = place.expect("no group is removed");
            let name = &self.options.groups[group].name;
            let sinks = states.iter().find(|state| state.name == *name).map(|state| &state.sinks);
            let sink = sinks.and_then(|sinks| sinks.get(index));
            let tried = sink.iter().flat_map(|sink| sink.leases.iter().chain(&sink.retry));
            let owed = tried.flat_map(|tried| offsets(&tried.range)).collect();
            let reach = sink.map_or(0, |sink| sink.position.0);
            self.runners.push(Runner { owed, reach, ..Runner::default() });
        }
        for (group, range, grave) in self.uncounted(states) {
            self.truths[group].bury(&range, grave);
            let group = &self.options.groups[group].name;
            self.dispatcher.written_before(group, grave, range);
        }
        self.apply(Action::Timer);
    }

    /// Letters that the states do not count.
    fn uncounted(&self, states: &[GroupState]) -> Vec<(usize, OffsetRange, Grave)> {
        let counted = |group: usize| {
            let name = &self.options.groups[group].name;
            let state = states.iter().find(|state| state.name == *name);
            state.map_or(0, |state| state.dead_tail.0 as usize)
        };
        let letters = self.letters.iter().enumerate();
        let new = letters.filter(|(at, (group, ..))| *at >= counted(*group));
        new.map(|(_, letter)| letter.clone()).collect()
    }

    /// Every runner does all it has, and succeeds; returns whether there was anything.
    fn drain(&mut self) -> bool {
        let mut any = false;
        for round in 0.. {
            assert!(round < 10_000, "it goes round: {:?}", self.dispatcher);
            let mut idle = true;
            for index in 0..self.runners.len() {
                idle &= self.runners[index].queue.is_empty();
                self.run(index, 3);
            }
            while let Some(answer) = self.answers.pop_front() {
                idle = false;
                self.apply(answer);
            }
            if idle {
                return any;
            }
            any = true;
        }
        unreachable!("it returns or panics")
    }

    /// From here on everything works: every event must get done, moved by commands alone.
    fn finish(&mut self) {
        self.apply(Action::Timer);
        self.drain(); // failures that are under way
        for sink in 0..self.runners.len() {
            self.blocked_until[sink] = 0;
            self.apply(Action::Resume(SinkId(sink)));
        }
        for round in 0.. {
            assert!(round < 10_000, "it goes round: {:?}", self.dispatcher);
            let any = self.drain();
            match self.wake {
                Some(at) if at > self.now => {
                    self.now = at;
                    self.apply(Action::Timer);
                }
                _ if any => {}
                _ => break,
            }
        }
        for (group, truth) in self.dispatcher.groups.iter().zip(&self.truths) {
            let done = truth.done.len() as u64;
            assert_eq!(done, self.tail, "I25: {} did not get every event", group.name);
            assert_eq!(group.watermark.0, self.tail);
            assert_eq!(group.snapshot().tried().count(), 0, "I32");
        }
    }
}

/// Tells how to run a failed sequence again.
struct Reproduce<'a>(u8, &'a [Step]);

impl Drop for Reproduce<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("reproduce: call play({}, &{:?})", self.0, self.1);
        }
    }
}

fn play(kind: u8, steps: &[Step]) {
    let _hint = Reproduce(kind, steps);
    let mut world = World::new(kind);
    for &step in steps {
        world.step(step);
    }
    world.finish();
}

#[test]
fn dispatcher_agrees_with_the_model_under_any_sequence() {
    fn property(kind: u8, steps: Vec<Step>) -> bool {
        play(kind, &steps);
        true
    }
    for size in [30, 300] {
        quickcheck::QuickCheck::new()
            .rng(quickcheck::Gen::from_size_and_seed(size, 7_431))
            .tests(300)
            .quickcheck(property as fn(u8, Vec<Step>) -> bool);
    }
}

#[test]
fn round_robin_spread_stays_within_one_lease_among_ready_sinks() {
    fn property(sinks: u8, growths: Vec<u8>) -> bool {
        let sinks: Vec<_> = (0..usize::from(sinks % 5) + 1)
            .map(|index| SinkOptions {
                batch_events_max: 5,
                ..SinkOptions::named(index.to_string())
            })
            .collect();
        let mut taken = vec![0u32; sinks.len()];
        let group = GroupOptions { name: "g".into(), sinks, ..GroupOptions::default() };
        let options = DispatchOptions { groups: vec![group], seed: 1 };
        let mut dispatcher = Dispatcher::restore(&options, &[], Offset(0)..Offset(0));
        for index in 0..taken.len() {
            dispatcher.apply(Millis(0), Action::SinkReady(SinkId(index)));
        }
        let mut tail = Offset(0);
        growths.into_iter().all(|growth| {
            // never more than one lease for each: all are ready again before the next growth
            tail = tail.plus(u64::from(growth) % (5 * taken.len() as u64 + 1));
            for command in dispatcher.apply(Millis(0), Action::Tail(tail)) {
                if let Command::Deliver { sink, lease, .. } = command {
                    taken[sink.0] += 1;
                    dispatcher.apply(Millis(0), Action::Delivered { lease });
                }
            }
            taken.iter().max().unwrap() - taken.iter().min().unwrap() <= 1
        })
    }
    quickcheck::QuickCheck::new()
        .rng(quickcheck::Gen::from_size_and_seed(100, 7_431))
        .quickcheck(property as fn(u8, Vec<u8>) -> bool);
}
