//! From a dispatcher to the state that is stored, and back.

use super::balancer::Balancer;
use super::dispatcher::Turn;
use super::group::Group;
use super::sink::SinkCursor;
use super::waiting::Waiting;
use super::{DispatchOptions, Dispatcher, GroupOptions, SinkId};
use crate::cursor::{GroupState, SinkState, TriedRange};
use crate::offset::{OffsetRange, RangeSet};

impl Dispatcher {
    /// A dispatcher that goes on where `states` were taken; the first action, of any kind, makes it
    /// open its sinks.
    ///
    /// What was leased is due again at once, with its attempts: for the same sink if that keeps its
    /// order, else for any sink of the group; so is what a sink owes that is gone from `options`.
    /// A group without a state begins at the first of `readable`, the offsets the log has; a state
    /// without a group is dropped, and with it the group's claim on the log. A state may be of any
    /// age, and need not pass [`GroupState::check`]: no offset it does not call done is left out.
    ///
    /// The log must not give away an offset below the end of a state for new events (what it lost
    /// there is told by `Damaged`): the states count as seen up to their end.
    pub fn restore(
        options: &DispatchOptions,
        states: &[GroupState],
        readable: OffsetRange,
    ) -> Dispatcher {
        let (mut groups, mut places) = (Vec::new(), Vec::new());
        for group in &options.groups {
            let first = SinkId(places.len());
            places.extend((0..group.sinks.len()).map(|index| (groups.len(), index)));
            let fresh = GroupState { watermark: readable.start, ..GroupState::default() };
            let state = states.iter().find(|state| state.name == group.name).unwrap_or(&fresh);
            groups.push(Group::restore(group, first, state, &readable));
        }
        let dispatcher = Dispatcher {
            groups,
            places,
            turn: Turn::new(options.seed),
            wake_at: None,
            stopped: false,
        };
        dispatcher.check();
        dispatcher
    }
}

impl Group {
    fn restore(
        options: &GroupOptions,
        first: SinkId,
        state: &GroupState,
        readable: &OffsetRange,
    ) -> Group {
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
            tail: readable.end.max(end),
            frontier: end,
            watermark,
            acked: acked.clone(),
            waiting: Waiting::default(),
            lost_events: state.lost_events,
            crowded: false,
            changed: false,
            loads: Vec::new(),
        };
        group.restore_tried(state, acked);
        group
    }

    /// Puts back what was not done. `placed` is what has its place already.
    fn restore_tried(&mut self, state: &GroupState, mut placed: RangeSet) {
        let bounds = self.watermark..self.frontier;
        let mut unplaced = |range: &OffsetRange| -> Vec<OffsetRange> {
            let range = range.start.max(bounds.start)..range.end;
            let parts = placed.gaps(range.clone()).collect();
            placed.insert(range);
            parts
        };
        for saved in &state.sinks {
            let mut sink = self.sinks.iter_mut().find(|sink| sink.options.name == saved.name);
            let tried = || saved.leases.iter().chain(&saved.retry);
            if let Some(sink) = &mut sink {
                let reach = tried().map(|tried| tried.range.end).max().unwrap_or_default();
                sink.reach = reach.max(saved.position).min(bounds.end);
                sink.counters = saved.counters;
            }
            let own = sink.filter(|sink| sink.options.policy.keeps_order());
            let queue = own.map_or(&mut self.waiting.ready, |sink| &mut sink.retry);
            for tried in tried() {
                for range in unplaced(&tried.range) {
                    queue.insert(tried.of(range));
                }
            }
        }
        for tried in &state.waiting {
            for range in unplaced(&tried.range) {
                self.waiting.ready.insert(tried.of(range));
            }
        }
        // a sound state leaves nothing here
        for range in unplaced(&bounds) {
            self.waiting.ready.insert(TriedRange::new(range, 0));
        }
    }

    pub(super) fn snapshot(&self) -> GroupState {
        let state = GroupState {
            name: self.name.clone(),
            watermark: self.watermark,
            acked: self.acked.iter().collect(),
            waiting: self.waiting.sorted(),
            sinks: self.sinks.iter().map(|sink| self.sink_state(sink)).collect(),
            lost_events: self.lost_events,
            ..GroupState::default()
        };
        debug_assert_eq!(state.check(), Ok(()));
        state
    }

    fn sink_state(&self, sink: &SinkCursor) -> SinkState {
        let leased = sink.leases.iter().flat_map(|lease| {
            let attempts = lease.attempt;
            let parts = self.acked_gaps(lease.range.clone()).into_iter();
            parts.map(move |range| TriedRange::new(range, attempts))
        });
        SinkState {
            name: sink.options.name.clone(),
            position: sink.position(),
            leases: leased.collect(),
            retry: sink.retry.iter().collect(),
            counters: sink.counters,
        }
    }
}
