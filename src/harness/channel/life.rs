//! One life of a channel: the loop of the agent, played step by step, and what must be true of
//! each command.

use super::super::world::Put as Records;
use super::model::{Fate, fate_of};
use super::sinks::{Job, Runner};
use super::{Machine, Save};
use crate::agent::Keeper;
use crate::channel::cursors;
use crate::channel::log::LogChannel;
use crate::cursor::GroupState;
use crate::dispatch::{Action, Command, DispatchOptions, LeaseId, Millis, SinkId};
use crate::event::Records as Walk;
use crate::log::MissingReason;
use crate::offset::{Offset, OffsetRange};
use crate::sink::FailedEvents;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

/// What lives as long as the process.
pub(super) struct Life {
    pub(super) channel: Arc<LogChannel>,
    pub(super) keeper: Keeper,
    pub(super) runners: Vec<Runner>,
    /// Leases that are not answered, with their sinks.
    pub(super) out: BTreeMap<LeaseId, (SinkId, OffsetRange)>,
    /// Answers that the dispatcher has not heard.
    pub(super) answers: VecDeque<Action>,
    pub(super) now: u64,
    pub(super) wake_at: Option<u64>,
    pub(super) stopped: bool,
    /// Cursors can't be kept: the agent ends.
    pub(super) failed: bool,
}

impl Life {
    pub(super) fn new(
        channel: Arc<LogChannel>,
        keeper: Keeper,
        options: &DispatchOptions,
        states: &[GroupState],
    ) -> Life {
        let mut runners = Vec::new();
        for (group, of_group) in options.groups.iter().enumerate() {
            let state = states.iter().find(|state| state.name == of_group.name);
            for sink in &of_group.sinks {
                let saved = state.and_then(|s| s.sinks.iter().find(|s| s.name == sink.name));
                let tried = saved.iter().flat_map(|sink| sink.leases.iter().chain(&sink.retry));
                let owed = tried.flat_map(|tried| tried.range.start.0..tried.range.end.0);
                runners.push(Runner {
                    id: SinkId(runners.len()),
                    group,
                    reader: channel.log().reader(),
                    queue: VecDeque::new(),
                    untold: 0,
                    owed: owed.collect(),
                    reach: saved.map_or(0, |sink| sink.position.0),
                });
            }
        }
        Life {
            channel,
            keeper,
            runners,
            out: BTreeMap::new(),
            answers: VecDeque::new(),
            now: 0,
            wake_at: None,
            stopped: false,
            failed: false,
        }
    }

    /// Whether every group is done with every event.
    pub(super) fn is_drained(&self) -> bool {
        self.keeper.dispatcher.watermark_min().is_none_or(|done| done >= self.keeper.tail())
    }
}

impl Machine {
    /// Takes actions in and does what follows, until nothing follows.
    pub(super) fn act(&mut self, actions: Vec<Action>) {
        let mut actions = VecDeque::from(actions);
        while !actions.is_empty() {
            let mut commands = Vec::new();
            for action in actions.drain(..) {
                self.observe(&action);
                let now = Millis(self.life().now);
                commands.extend(self.life().keeper.dispatcher.apply(now, action));
            }
            // once for many, and before the deliveries
            if commands.contains(&Command::Save) {
                self.save();
            }
            for command in commands {
                self.obey(command, &mut actions);
            }
        }
    }

    /// Does to what is known what an action says.
    fn observe(&mut self, action: &Action) {
        match action {
            Action::Damaged(range) => {
                for truth in &mut self.truths {
                    (range.start.0..range.end.0).for_each(|at| truth.settle(at, Fate::Lost));
                }
            }
            Action::Delivered { lease } => self.answered(*lease, |_| false),
            Action::Returned { lease } => {
                self.life().out.remove(lease);
            }
            Action::Abandon { lease } => self.answered(*lease, |_| true),
            Action::Failed { lease, failure } => match &failure.events {
                FailedEvents::All => self.answered(*lease, |_| true),
                FailedEvents::From(first) => {
                    let first = *first;
                    self.answered(*lease, |offset| offset >= first.0);
                }
                FailedEvents::Only(only) => {
                    self.answered(*lease, |at| only.contains(&Offset(at)));
                }
            },
            _ => {}
        }
    }

    fn answered(&mut self, lease: LeaseId, failed: impl Fn(u64) -> bool) {
        let Some((sink, range)) = self.life().out.remove(&lease) else { return };
        let (group, policy) = self.place(sink);
        for at in range.start.0..range.end.0 {
            let fate = if failed(at) { fate_of(policy) } else { Fate::Delivered };
            self.truths[group].settle(at, fate);
        }
    }

    fn place(&self, sink: SinkId) -> (usize, crate::dispatch::Policy) {
        let groups = self.options.groups.iter().enumerate();
        let mut sinks =
            groups.flat_map(|(i, group)| group.sinks.iter().map(move |s| (i, s.policy)));
        sinks.nth(sink.0).expect("a sink of this channel")
    }

    /// Saves the cursors, and remembers what was known then.
    pub(super) fn save(&mut self) {
        if self.life().failed {
            return;
        }
        let states = self.life().keeper.dispatcher.snapshot();
        let done = states.iter().map(|state| state.watermark.0).min().unwrap_or_default();
        let released = done.max(self.saves[self.kept].released);
        // it may be on disk even if the call fails
        let (bytes, truths) = (cursors::encode(&states), self.truths.clone());
        self.saves.push(Save { bytes, truths, released });
        match self.life().keeper.save() {
            Ok(()) => self.kept = self.saves.len() - 1,
            Err(error) => {
                assert!(self.world.excused(), "saving cursors fails: {error}");
                self.life().failed = true;
            }
        }
        if self.setup.sync_each {
            self.sync_cursors();
        }
    }

    pub(super) fn sync_cursors(&mut self) {
        if self.life().failed {
            return;
        }
        match self.life().keeper.sync() {
            Ok(()) => {
                self.synced = self.kept;
                self.world.reclaimed = self.saves[self.kept].released;
            }
            Err(error) => {
                assert!(self.world.excused(), "syncing cursors fails: {error}");
                self.life().failed = true;
            }
        }
    }

    fn obey(&mut self, command: Command, actions: &mut VecDeque<Action>) {
        match command {
            Command::Save | Command::Notice(_) => {}
            Command::Bury(_) | Command::Ended { .. } => {}
            Command::Open { sink } => self.tell(sink, Job::Open),
            Command::Recall { sink } => self.tell(sink, Job::Recall),
            Command::Deliver { sink, lease, range, .. } => {
                self.check_lease(sink, &range);
                self.life().out.insert(lease, (sink, range.clone()));
                let events = self.read(sink, &range, actions);
                self.tell(sink, Job::Deliver(lease, range, events));
            }
            Command::WakeAt(at) => self.life().wake_at = Some(at.0),
            Command::Stopped => self.life().stopped = true,
        }
    }

    fn tell(&mut self, sink: SinkId, job: Job) {
        self.life().runners[sink.0].queue.push_back(job);
    }

    /// What is lent is there, not done, and not lent to another.
    fn check_lease(&mut self, sink: SinkId, range: &OffsetRange) {
        let group = self.place(sink).0;
        let tail = self.life().keeper.tail();
        assert!(range.end <= tail, "{range:?} is lent, the log ends at {tail}");
        for at in range.start.0..range.end.0 {
            let fate = self.truths[group].fate(at);
            assert_eq!(fate, Fate::Open, "{at} of {range:?} is lent again");
        }
        let life = self.life.as_ref().expect("open between the steps");
        for (other, lent) in life.out.values() {
            let apart = lent.end <= range.start || range.end <= lent.start;
            assert!(apart || self.place(*other).0 != group, "{range:?} and {lent:?} are lent");
        }
    }

    /// Reads as the agent does, and compares with what was put.
    fn read(
        &mut self,
        sink: SinkId,
        range: &OffsetRange,
        actions: &mut VecDeque<Action>,
    ) -> Option<(Vec<u64>, Records)> {
        let mut missing = Vec::new();
        let life = self.life.as_mut().expect("open between the steps");
        let reader = &mut life.runners[sink.0].reader;
        let read = life.keeper.read(reader, range.clone(), &mut missing);
        let mut gone = BTreeSet::new();
        for missing in missing {
            assert_eq!(missing.reason, MissingReason::Gap, "{:?}", missing.range);
            gone.extend(missing.range.start.0..missing.range.end.0);
            actions.push_back(Action::Damaged(missing.range));
        }
        let batch = match read {
            Ok(batch) => batch,
            Err(error) => {
                assert!(self.world.excused(), "reading fails: {error}");
                return None;
            }
        };
        let (mut offsets, mut records) = (Vec::new(), Records::new());
        for part in batch.parts() {
            for (at, record) in (part.first.0..).zip(Walk::new(&part.records)) {
                offsets.push(at);
                records.push(Arc::from(record));
            }
        }
        let expected: Vec<_> =
            (range.start.0..range.end.0).filter(|at| !gone.contains(at)).collect();
        assert_eq!(offsets, expected, "a lease of {range:?} has every event that is not missing");
        for (at, record) in offsets.iter().zip(&records) {
            assert_eq!(self.world.records.get(at), Some(record), "offset {at}");
        }
        for at in &gone {
            assert!(!self.world.records.contains_key(at), "offset {at} is there, not missing");
        }
        Some((offsets, records))
    }

    /// While all sinks of a group keep their order, each begins with the lowest offset it owes, or
    /// goes on.
    pub(super) fn check_order(&mut self, sink: usize) {
        let group = self.life().runners[sink].group;
        let ordered = self.options.groups[group].sinks.iter().all(|s| s.policy.keeps_order());
        let life = self.life.as_ref().expect("open between the steps");
        let (runner, truth) = (&life.runners[sink], &self.truths[group]);
        let Some(Job::Deliver(_, _, Some((offsets, _)))) = runner.queue.front() else { return };
        if !ordered || !self.same_sinks || runner.untold > 0 {
            return;
        }
        let lost = |at: &u64| truth.fate(*at) == Fate::Lost;
        let Some(first) = offsets.iter().find(|at| !lost(at)) else { return };
        match runner.owed.iter().find(|at| !lost(at)) {
            Some(lowest) => assert_eq!(first, lowest, "a sink passes what it owes"),
            None => assert!(*first >= runner.reach, "a sink goes back to {first}"),
        }
    }
}
