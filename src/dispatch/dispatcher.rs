//! The dispatcher of one channel: takes actions to their group, keeps the timer, numbers leases.

use super::group::Group;
use super::{Action, Command, LeaseId, Millis, SinkId};
use crate::cursor::GroupState;
use crate::offset::Offset;

/// One channel's dispatcher; made by [`Dispatcher::restore`].
#[derive(Debug)]
pub struct Dispatcher {
    pub(super) groups: Vec<Group>,
    /// Group and place in it, by [`SinkId`].
    pub(super) places: Vec<(usize, usize)>,
    pub(super) turn: Turn,
    /// The time last asked for by [`Command::WakeAt`].
    pub(super) wake_at: Option<Millis>,
    /// Whether [`Command::Stopped`] was given.
    pub(super) stopped: bool,
}

/// What a group works with while an action is applied.
#[derive(Debug)]
pub(super) struct Turn {
    pub(super) now: Millis,
    pub(super) random: fastrand::Rng,
    pub(super) stopping: bool,
    pub(super) commands: Vec<Command>,
    pub(super) leases: u64,
}

impl Turn {
    pub(super) fn new(seed: u64) -> Turn {
        Turn {
            now: Millis(0),
            random: fastrand::Rng::with_seed(seed),
            stopping: false,
            commands: Vec::new(),
            leases: 0,
        }
    }

    pub(super) fn next_lease(&mut self) -> LeaseId {
        self.leases += 1;
        LeaseId(self.leases - 1)
    }
}

impl Dispatcher {
    /// Takes in what happened at `now`; returns what is to be done, in this order.
    ///
    /// # Panics
    /// If a [`SinkId`] is none of this dispatcher's.
    pub fn apply(&mut self, now: Millis, action: Action) -> Vec<Command> {
        self.turn.now = self.turn.now.max(now);
        match action {
            Action::Tail(tail) => self.groups.iter_mut().for_each(|group| group.tail_at(tail)),
            Action::Damaged(range) => {
                for group in &mut self.groups {
                    group.damaged(range.clone(), &mut self.turn);
                }
            }
            Action::SinkReady(sink) => {
                let (group, index) = self.place(sink);
                self.groups[group].sink_ready(index, &mut self.turn);
            }
            Action::SinkDown { sink, reason } => {
                let (group, index) = self.place(sink);
                self.groups[group].sink_down(index, reason, &mut self.turn);
            }
            Action::Timer => {}
            Action::Read { .. }
            | Action::Buried(_)
            | Action::NotBuried { .. }
            | Action::Letters { .. }
            | Action::Expire { .. }
            | Action::Rewind { .. }
            | Action::Resume(_) => {}
            Action::Stop => self.turn.stopping = true,
            Action::Delivered { lease } => self.answer(lease, Group::delivered),
            Action::Returned { lease } => self.answer(lease, Group::returned),
            Action::Failed { lease, failure } => {
                self.answer(lease, |group, index, place, turn| {
                    group.failed(index, place, failure, turn);
                });
            }
            Action::Abandon { lease } => self.answer(lease, Group::abandoned),
        }
        self.maintain();
        std::mem::take(&mut self.turn.commands)
    }

    /// The lowest offset that is not done in the group; `None` if there is no such group.
    pub fn watermark(&self, group: &str) -> Option<Offset> {
        self.groups.iter().find(|g| g.name == group).map(|g| g.watermark)
    }

    /// The lowest watermark: no group needs what lies below. `None` if there is no group.
    pub fn watermark_min(&self) -> Option<Offset> {
        self.groups.iter().map(|group| group.watermark).min()
    }

    /// How many leases are out.
    pub fn leases_out(&self) -> usize {
        let sinks = self.groups.iter().flat_map(|group| &group.sinks);
        sinks.map(|sink| sink.leases.len()).sum()
    }

    /// The leases that are out, in the order they were lent: what a stop abandons at its limit.
    pub fn leases(&self) -> Vec<LeaseId> {
        let sinks = self.groups.iter().flat_map(|group| &group.sinks);
        let mut leases: Vec<_> = sinks.flat_map(|s| s.leases.iter().map(|l| l.id)).collect();
        leases.sort_unstable();
        leases
    }

    /// Everything that has to outlive the process.
    pub fn snapshot(&self) -> Vec<GroupState> {
        self.groups.iter().map(Group::snapshot).collect()
    }

    /// Asserts every rule; called after each action in debug builds.
    pub fn check(&self) {
        self.groups.iter().for_each(Group::check);
    }

    fn place(&self, sink: SinkId) -> (usize, usize) {
        *self.places.get(sink.0).unwrap_or_else(|| panic!("{sink:?} is no sink of this channel"))
    }

    /// Takes a lease's answer to its group; a lease that is not out was abandoned before.
    fn answer(&mut self, lease: LeaseId, take: impl FnOnce(&mut Group, usize, usize, &mut Turn)) {
        for group in &mut self.groups {
            if let Some((index, place)) = group.find(lease) {
                return take(group, index, place, &mut self.turn);
            }
        }
    }

    fn maintain(&mut self) {
        for group in &mut self.groups {
            group.maintain(&mut self.turn);
        }
        let changed = self.groups.iter_mut().map(|group| std::mem::take(&mut group.changed));
        if changed.fold(false, |any, changed| any | changed) {
            self.turn.commands.insert(0, Command::Save);
        }
        self.ask_for_timer();
        if self.turn.stopping && !self.stopped && self.leases_out() == 0 {
            self.stopped = true;
            self.turn.commands.push(Command::Stopped);
        }
        if cfg!(debug_assertions) {
            self.check();
        }
    }

    fn ask_for_timer(&mut self) {
        self.wake_at = self.wake_at.filter(|&at| at > self.turn.now);
        if self.turn.stopping {
            return;
        }
        let due = self.groups.iter().filter_map(Group::next_due).min();
        if let Some(due) = due.filter(|_| due != self.wake_at) {
            self.wake_at = Some(due);
            self.turn.commands.push(Command::WakeAt(due));
        }
    }
}
