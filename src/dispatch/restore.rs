//! From a dispatcher to the state that is stored, and back.

use super::balancer::Balancer;
use super::dispatcher::Turn;
use super::failure::{Order, Policy};
use super::group::Group;
use super::lending::{SUSPECT_CRASHES, is_suspect};
use super::sink::SinkCursor;
use super::waiting::{Waiting, joined};
use super::{Cause, DispatchOptions, Dispatcher, GroupOptions, SinkId, Start};
use crate::cursor::{GroupState, SinkState, TriedRange};
use crate::offset::{OffsetRange, RangeSet};
use std::collections::BTreeMap;

impl Dispatcher {
    /// A dispatcher that goes on where `states` were taken; the first action, of any kind, makes it
    /// open its sinks.
    ///
    /// What was leased is due again at once, with its attempts: for the same sink if that keeps its
    /// order, else for any sink of the group; so is what a sink owes that is gone from `options`.
    /// A group without a state begins where its options say; `readable`: the offsets the log has. A
    /// state without a group is kept, with its claim on the log, until it is removed. A state may be
    /// of any age, and need not pass [`GroupState::check`]: no offset it does not call done is left
    /// out.
    ///
    /// Leases in a state mean that the process ended uncleanly. Where attempts have a bound, that is
    /// counted: after two such ends the events are lent one by one, and nothing beside them; what
    /// was out at three is given up as the sink's policy says.
    ///
    /// The log must not give away an offset below the end of a state for new events (what it lost
    /// there is told by `Damaged`): the states count as seen up to their end.
    pub fn restore(
        options: &DispatchOptions,
        states: &[GroupState],
        readable: OffsetRange,
    ) -> Dispatcher {
        let is_group = |state: &&GroupState| options.groups.iter().any(|g| g.name == state.name);
        let mut dispatcher = Dispatcher {
            groups: Vec::new(),
            orphans: states.iter().filter(|state| !is_group(state)).cloned().collect(),
            places: Vec::new(),
            turn: Turn::new(options.seed),
            wake_at: None,
            stopped: false,
            dropped: false,
        };
        for group in &options.groups {
            let state = states.iter().find(|state| state.name == group.name);
            dispatcher.push_group(group, state, readable.clone());
        }
        dispatcher.check();
        dispatcher
    }

    /// Adds a group that goes on from `state`, or begins.
    pub(super) fn push_group(
        &mut self,
        options: &GroupOptions,
        state: Option<&GroupState>,
        readable: OffsetRange,
    ) {
        let first = SinkId(self.places.len());
        let group = self.groups.len();
        self.places.extend((0..options.sinks.len()).map(|index| Some((group, index))));
        let group = Group::restore(options, first, state, readable, &mut self.turn);
        self.groups.push(group);
    }
}

impl Group {
    fn restore(
        options: &GroupOptions,
        first: SinkId,
        state: Option<&GroupState>,
        readable: OffsetRange,
        turn: &mut Turn,
    ) -> Group {
        let fresh = fresh_state(options, &readable);
        // where it began must not move if nothing happens before the process ends
        let is_new = state.is_none() && options.start != Start::Oldest;
        let state = state.unwrap_or(&fresh);
        let sinks = options.sinks.iter().enumerate();
        let sinks = sinks.map(|(i, sink)| SinkCursor::new(SinkId(first.0 + i), sink.clone()));
        let mut acked: RangeSet = state.acked.iter().cloned().collect();
        let watermark = acked.end_of_run(state.watermark);
        acked.remove_below(watermark);
        let end = state.end().max(watermark);
        let mut group = Group {
            name: options.name.clone(),
            balancer: Balancer::new(options.balance),
            sinks: sinks.collect(),
            first: state.first.min(watermark),
            tail: readable.end.max(end),
            end: options.end,
            ended: false,
            fresh_first: options.fresh_first,
            expired: options.expired,
            frontier: end,
            watermark,
            acked: acked.clone(),
            waiting: Waiting::default(),
            burials: BTreeMap::new(),
            lost_events: state.lost_events,
            dead_events: state.dead_events,
            expired_events: state.expired_events,
            dead_tail: state.dead_tail,
            has_suspects: false,
            crowded: false,
            changed: false,
            loads: Vec::new(),
        };
        let crashed = group.restore_tried(state, acked);
        for (index, tried) in crashed {
            group.restore_crashed(index, tried, turn);
        }
        group.pile_up();
        group.changed = is_new;
        group
    }

    /// Puts back what was out at the last of several unclean ends: to be lent alone, or given up.
    fn restore_crashed(&mut self, index: usize, tried: TriedRange, turn: &mut Turn) {
        let policy = self.sinks[index].options.policy;
        let alone = !policy.isolate || tried.range.end.since(tried.range.start) == 1;
        self.has_suspects = true;
        if tried.crashes > SUSPECT_CRASHES && alone {
            let reason = format!("the process ended {} times while it had them", tried.crashes);
            // its letter may be written already: that is told before the first action asks for it
            return self.give_up(index, tried, Cause::Crashed, reason, turn);
        }
        let lend_max = if policy.isolate { 1 } else { tried.lend_max };
        let tried = TriedRange { lend_max, ..tried };
        match policy.order {
            Order::Rewind => self.sinks[index].retry.insert(tried),
            Order::Release => self.waiting.ready.insert(tried),
        }
    }

    /// Puts back what was not done; returns what the process may not have survived, with the sink
    /// that had it. `placed` is what has its place already.
    fn restore_tried(
        &mut self,
        state: &GroupState,
        mut placed: RangeSet,
    ) -> Vec<(usize, TriedRange)> {
        let bounds = self.watermark..self.frontier;
        let mut unplaced = |range: &OffsetRange| -> Vec<OffsetRange> {
            let range = range.start.max(bounds.start)..range.end;
            let parts = placed.gaps(range.clone()).collect();
            placed.insert(range);
            parts
        };
        let mut crashed = Vec::new();
        for saved in &state.sinks {
            let index = self.sinks.iter().position(|sink| sink.options.name == saved.name);
            let tried = || saved.leases.iter().chain(&saved.retry);
            if let Some(sink) = index.map(|index| &mut self.sinks[index]) {
                let reach = tried().map(|tried| tried.range.end).max().unwrap_or_default();
                sink.reach = reach.max(saved.position).min(bounds.end);
                sink.counters = saved.counters;
            }
            let policy = index.map(|index| self.sinks[index].options.policy);
            let counts_crashes = policy.is_some_and(|policy| policy.max_attempts > 0);
            let own = index.filter(|_| policy.is_some_and(Policy::keeps_order));
            let leases = saved.leases.iter().map(|tried| {
                let crashes = if counts_crashes { tried.crashes.saturating_add(1) } else { 0 };
                TriedRange { crashes, ..tried.clone() }
            });
            for tried in leases.chain(saved.retry.iter().cloned()) {
                for range in unplaced(&tried.range) {
                    let tried = tried.of(range);
                    match (index.filter(|_| is_suspect(&tried)), own) {
                        (Some(index), _) => crashed.push((index, tried)),
                        (None, Some(own)) => self.sinks[own].retry.insert(tried),
                        (None, None) => self.waiting.ready.insert(tried),
                    }
                }
            }
        }
        for tried in &state.waiting {
            for range in unplaced(&tried.range) {
                self.has_suspects |= is_suspect(tried);
                let untouched = tried.attempts == 0 && self.fresh_first;
                let waiting = &mut self.waiting;
                let set = if untouched { &mut waiting.piled } else { &mut waiting.ready };
                set.insert(tried.of(range));
            }
        }
        // a sound state leaves nothing here
        for range in unplaced(&bounds) {
            self.waiting.ready.insert(TriedRange::new(range, 0));
        }
        crashed
    }

    pub(super) fn snapshot(&self) -> GroupState {
        let state = GroupState {
            name: self.name.clone(),
            first: self.first,
            watermark: self.watermark,
            acked: self.acked.iter().collect(),
            waiting: joined(
                self.waiting.sorted().into_iter().chain(self.buried_of(None)).collect(),
            ),
            sinks: self
                .sinks
                .iter()
                .enumerate()
                .map(|(i, sink)| self.sink_state(i, sink))
                .collect(),
            lost_events: self.lost_events,
            dead_events: self.dead_events,
            expired_events: self.expired_events,
            dead_tail: self.dead_tail,
        };
        debug_assert_eq!(state.check(), Ok(()));
        state
    }

    /// What is being buried waits again if the process ends: for the sink that failed it if that
    /// keeps its order.
    fn buried_of(&self, sink: Option<usize>) -> Vec<TriedRange> {
        let keeps_order = |index: &usize| self.sinks[*index].options.policy.keeps_order();
        let own = self.burials.values().filter(|p| p.index.filter(keeps_order) == sink);
        let parts = own.flat_map(|pending| {
            let parts = self.acked_gaps(pending.burial.range.clone()).into_iter();
            parts.map(|range| pending.past.of(range))
        });
        parts.collect()
    }

    fn sink_state(&self, index: usize, sink: &SinkCursor) -> SinkState {
        let leases = sink.leases.iter().filter(|lease| !lease.stale);
        let leased = leases.flat_map(|lease| {
            let parts = self.acked_gaps(lease.tried.range.clone()).into_iter();
            parts.map(move |range| lease.tried.of(range))
        });
        let (leases, retry): (Vec<_>, Vec<_>) = (leased.collect(), {
            let buried = self.buried_of(Some(index));
            joined(sink.retry.iter().chain(buried).collect())
        });
        let owed = leases.iter().chain(&retry).map(|tried| tried.range.start).min();
        SinkState {
            name: sink.options.name.clone(),
            position: owed.unwrap_or(sink.reach),
            leases,
            retry,
            counters: sink.counters,
        }
    }
}

/// Where a group without a state begins.
fn fresh_state(options: &GroupOptions, readable: &OffsetRange) -> GroupState {
    let first = match options.start {
        Start::Oldest => readable.start,
        Start::Tail => readable.end,
        Start::At(offset) => offset.clamp(readable.start, readable.end),
    };
    GroupState { first, watermark: first, ..GroupState::default() }
}
