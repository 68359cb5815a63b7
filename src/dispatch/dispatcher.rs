//! The dispatcher of one channel: takes actions to their group, keeps the timer, numbers leases.

use super::group::Group;
use super::{Action, BurialId, Command, Grave, GroupOptions, LeaseId, Millis, SinkId};
use crate::cursor::GroupState;
use crate::offset::{Offset, OffsetRange};

/// One channel's dispatcher; made by [`Dispatcher::restore`].
#[derive(Debug)]
pub struct Dispatcher {
    pub(super) groups: Vec<Group>,
    /// Groups that nobody reads for any more, as they were stored: each keeps its claim on the log
    /// until it is dropped.
    pub(super) orphans: Vec<GroupState>,
    /// Group and place in it, by [`SinkId`]; `None` if the group was removed.
    pub(super) places: Vec<Option<(usize, usize)>>,
    pub(super) turn: Turn,
    /// The time last asked for by [`Command::WakeAt`].
    pub(super) wake_at: Option<Millis>,
    /// Whether [`Command::Stopped`] was given.
    pub(super) stopped: bool,
    /// Whether a group was removed since the last action.
    pub(super) dropped: bool,
}

/// There is a group of this name already.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("there is a group {0:?} already")]
pub struct NameTaken(pub String);

/// What a group works with while an action is applied.
#[derive(Debug)]
pub(super) struct Turn {
    pub(super) now: Millis,
    pub(super) random: fastrand::Rng,
    pub(super) stopping: bool,
    pub(super) commands: Vec<Command>,
    leases: u64,
    burials: u64,
}

impl Turn {
    pub(super) fn new(seed: u64) -> Turn {
        Turn {
            now: Millis(0),
            random: fastrand::Rng::with_seed(seed),
            stopping: false,
            commands: Vec::new(),
            leases: 0,
            burials: 0,
        }
    }

    pub(super) fn next_lease(&mut self) -> LeaseId {
        self.leases += 1;
        LeaseId(self.leases - 1)
    }

    pub(super) fn next_burial(&mut self) -> BurialId {
        self.burials += 1;
        BurialId(self.burials - 1)
    }
}

impl Dispatcher {
    /// Takes in what happened at `now`; returns what is to be done, in this order.
    ///
    /// # Panics
    /// If a [`SinkId`] is none of this dispatcher's.
    pub fn apply(&mut self, now: Millis, action: Action) -> Vec<Command> {
        self.turn.now = self.turn.now.max(now);
        self.take(action);
        self.maintain();
        std::mem::take(&mut self.turn.commands)
    }

    fn take(&mut self, action: Action) {
        let Dispatcher { groups, turn, .. } = self;
        match action {
            Action::Tail(tail) => groups.iter_mut().for_each(|group| group.tail_at(tail)),
            Action::Damaged(range) => {
                groups.iter_mut().for_each(|group| group.damaged(range.clone(), turn));
            }
            Action::SinkReady(sink) => self.at_sink(sink, Group::sink_ready),
            Action::SinkDown { sink, reason } => {
                self.at_sink(sink, |group, index, turn| group.sink_down(index, reason, turn));
            }
            Action::Resume(sink) => {
                self.at_sink(sink, |group, index, _| group.sinks[index].resume());
            }
            Action::Delivered { lease } => self.answer(lease, Group::delivered),
            Action::Returned { lease } => self.answer(lease, Group::returned),
            Action::Failed { lease, failure } => {
                self.answer(lease, |group, index, place, turn| {
                    group.failed(index, place, failure, turn);
                });
            }
            Action::Abandon { lease } => self.answer(lease, Group::abandoned),
            Action::Read { lease, bytes } => {
                self.answer(lease, |group, index, _, turn| {
                    group.sinks[index].read(turn.now, bytes);
                });
            }
            Action::Buried(id) => groups.iter_mut().for_each(|group| group.buried(id, turn)),
            Action::NotBuried { burial, reason } => {
                groups.iter_mut().for_each(|g| g.not_buried(burial, reason.clone(), turn));
            }
            Action::Letters { group, grave, range } => {
                self.at_group(&group, |group, turn| group.partly_buried(grave, range, turn));
            }
            Action::Expire { group, below } => {
                self.at_group(&group, |group, turn| group.expire(below, turn));
            }
            Action::Rewind { group, to } => self.at_group(&group, |group, _| group.rewind(to)),
            Action::Timer => {}
            Action::Stop => turn.stopping = true,
        }
    }

    /// Takes in that an earlier process wrote letters which the restored state does not count; to be
    /// called before the first action. The group is the one of this name; others change nothing.
    pub fn written_before(&mut self, group: &str, grave: Grave, range: OffsetRange) {
        self.at_group(group, |group, _| {
            group.letters(grave, range);
        });
    }

    /// Takes in that the dead-letter log ends at `tail`: what lies below is known here. To be called
    /// before a state is stored.
    pub fn dead_tail_at(&mut self, tail: Offset) {
        let done = self.groups.iter_mut().filter(|group| group.burials.is_empty());
        done.for_each(|group| group.dead_tail = group.dead_tail.max(tail));
    }

    /// Adds a group; its sinks get the next ids, in their order. The next action makes it open them.
    /// `readable`: the offsets the log has.
    ///
    /// # Errors
    /// There is a group of this name, or one that nobody reads for.
    pub fn add_group(
        &mut self,
        options: &GroupOptions,
        readable: OffsetRange,
    ) -> Result<Vec<SinkId>, NameTaken> {
        let orphan = self.orphans.iter().any(|state| state.name == options.name);
        if orphan || self.groups.iter().any(|group| group.name == options.name) {
            return Err(NameTaken(options.name.clone()));
        }
        let first = self.places.len();
        self.push_group(options, None, readable);
        Ok((first..self.places.len()).map(SinkId).collect())
    }

    /// Takes a group away, with its claim on the log; answers of its sinks change nothing any more.
    /// Returns whether there was one.
    pub fn remove_group(&mut self, name: &str) -> bool {
        let Some(at) = self.groups.iter().position(|group| group.name == name) else {
            let before = self.orphans.len();
            self.orphans.retain(|state| state.name != name);
            self.dropped |= self.orphans.len() < before;
            return self.orphans.len() < before;
        };
        self.groups.remove(at);
        self.places.iter_mut().for_each(|place| match place {
            Some((group, _)) if *group == at => *place = None,
            Some((group, _)) if *group > at => *group -= 1,
            _ => {}
        });
        self.dropped = true;
        true
    }

    /// The names of the groups that nobody reads for.
    pub fn orphans(&self) -> impl Iterator<Item = &str> {
        self.orphans.iter().map(|state| state.name.as_str())
    }

    /// The lowest offset that is not done in the group; `None` if there is no such group.
    pub fn watermark(&self, group: &str) -> Option<Offset> {
        let orphan = || self.orphans.iter().find(|state| state.name == group);
        let group = self.groups.iter().find(|g| g.name == group).map(|g| g.watermark);
        group.or_else(|| orphan().map(|state| state.watermark))
    }

    /// The lowest watermark: no group needs what lies below. `None` if there is no group.
    pub fn watermark_min(&self) -> Option<Offset> {
        let orphans = self.orphans.iter().map(|state| state.watermark);
        self.groups.iter().map(|group| group.watermark).chain(orphans).min()
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
        self.groups.iter().map(Group::snapshot).chain(self.orphans.iter().cloned()).collect()
    }

    /// Asserts every rule; called after each action in debug builds.
    pub fn check(&self) {
        self.groups.iter().for_each(Group::check);
    }

    fn at_sink(&mut self, sink: SinkId, take: impl FnOnce(&mut Group, usize, &mut Turn)) {
        let place = self.places.get(sink.0);
        let place = *place.unwrap_or_else(|| panic!("{sink:?} is no sink of this channel"));
        if let Some((group, index)) = place {
            take(&mut self.groups[group], index, &mut self.turn);
        }
    }

    fn at_group(&mut self, name: &str, take: impl FnOnce(&mut Group, &mut Turn)) {
        if let Some(group) = self.groups.iter_mut().find(|group| group.name == name) {
            take(group, &mut self.turn);
        }
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
        let dropped = std::mem::take(&mut self.dropped);
        if changed.fold(dropped, |any, changed| any | changed) {
            self.turn.commands.insert(0, Command::Save);
        }
        self.ask_for_timer();
        let burying = self.groups.iter().any(Group::is_burying);
        if self.turn.stopping && !self.stopped && self.leases_out() == 0 && !burying {
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
        let now = self.turn.now;
        let due = self.groups.iter().filter_map(|group| group.next_due(now)).min();
        if let Some(due) = due.filter(|_| due != self.wake_at) {
            self.wake_at = Some(due);
            self.turn.commands.push(Command::WakeAt(due));
        }
    }
}
