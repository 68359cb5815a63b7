//! A consumer group: every offset goes to one of its sinks, and comes back until it is done.
//!
//! Each offset from the watermark to the frontier is in exactly one place: acked, leased, waiting
//! for any sink, waiting for one sink (`retry`), or being buried. A lease or a burial may hold
//! offsets that became damaged while it was out: these count as acked.
//!
//! `answers.rs`: what sinks say; `lending.rs`: who gets what; `burials.rs`: what leaves undelivered;
//! `restore.rs`: to the stored state, and back.

use super::balancer::{Balancer, SinkLoad};
use super::burials::Pending;
use super::sink::SinkCursor;
use super::waiting::Waiting;
use super::{BurialId, Expired, LeaseId};
use crate::offset::{Offset, OffsetRange, RangeSet};
use std::collections::BTreeMap;

#[derive(Debug)]
pub(super) struct Group {
    pub(super) name: String,
    pub(super) balancer: Balancer,
    pub(super) sinks: Vec<SinkCursor>,
    /// Where it began, or was set to.
    pub(super) first: Offset,
    /// Offsets below can be read.
    pub(super) tail: Offset,
    /// It ends here.
    pub(super) end: Option<Offset>,
    /// Whether its end was told.
    pub(super) ended: bool,
    pub(super) fresh_first: bool,
    pub(super) expired: Expired,
    /// The first offset that was never lent.
    pub(super) frontier: Offset,
    /// The lowest offset that is not done.
    pub(super) watermark: Offset,
    /// Done, above the watermark and below the frontier.
    pub(super) acked: RangeSet,
    pub(super) waiting: Waiting,
    pub(super) burials: BTreeMap<BurialId, Pending>,
    pub(super) lost_events: u64,
    pub(super) dead_events: u64,
    pub(super) expired_events: u64,
    /// Letters below are counted here.
    pub(super) dead_tail: Offset,
    /// Whether something may be out or wait that the process did not survive.
    pub(super) has_suspects: bool,
    /// Whether [`super::ACKED_RANGES_MAX`] is reached.
    pub(super) crowded: bool,
    /// Whether the state to be stored changed.
    pub(super) changed: bool,
    /// Kept for its memory.
    pub(super) loads: Vec<SinkLoad>,
}

impl Group {
    pub(super) fn tail_at(&mut self, tail: Offset) {
        self.tail = self.tail.max(tail);
    }

    /// The sink and the place in its queue where a lease is.
    pub(super) fn find(&self, id: LeaseId) -> Option<(usize, usize)> {
        self.sinks.iter().enumerate().find_map(|(index, sink)| {
            let place = sink.leases.iter().position(|lease| lease.id == id)?;
            Some((index, place))
        })
    }

    /// Marks `range` as done and moves the watermark; returns how many offsets this is news for.
    pub(super) fn ack(&mut self, range: OffsetRange) -> u64 {
        let range = range.start.max(self.watermark)..range.end;
        let events = self.acked.gaps(range.clone()).map(|gap| gap.end.since(gap.start)).sum();
        if range.start == self.watermark && !range.is_empty() {
            // in order, the common case: the set stays untouched
            self.watermark = range.end;
        } else {
            self.acked.insert(range);
        }
        self.watermark = self.acked.end_of_run(self.watermark);
        self.acked.remove_below(self.watermark);
        events
    }

    /// What of `range` is not done.
    pub(super) fn acked_gaps(&self, range: OffsetRange) -> Vec<OffsetRange> {
        self.acked.gaps(range.start.max(self.watermark)..range.end).collect()
    }

    /// Asserts the rule of this file's head, and the limits of each sink.
    pub(super) fn check(&self) {
        let name = &self.name;
        self.acked.check();
        assert!(self.first <= self.watermark, "group {name}: watermark below its first offset");
        assert!(self.watermark <= self.frontier, "group {name}: watermark above the frontier");
        assert!(self.frontier <= self.tail, "group {name}: frontier above the tail");
        let mut places: Vec<_> = self.acked.iter().collect();
        places.extend(self.waiting.sorted().into_iter().map(|tried| tried.range));
        let mut leased = Vec::new();
        for sink in &self.sinks {
            places.extend(sink.retry.iter().map(|tried| tried.range));
            let leases = sink.leases.iter().filter(|lease| !lease.stale);
            leased.extend(leases.map(|lease| lease.tried.range.clone()));
            self.check_sink(sink);
        }
        let burials = self.burials.values().map(|pending| &pending.burial.range);
        for range in leased.iter().chain(burials) {
            places.extend(self.acked_gaps(range.clone()));
        }
        places.sort_unstable_by_key(|range| range.start);
        let mut end = self.watermark;
        for range in &places {
            assert!(range.start == end, "group {name}: {range:?} after {end}");
            end = range.end;
        }
        assert!(end == self.frontier, "group {name}: nothing holds {end}..{}", self.frontier);
        leased.sort_unstable_by_key(|range| range.start);
        for pair in leased.windows(2) {
            assert!(pair[0].end <= pair[1].start, "group {name}: {pair:?} are leased twice");
        }
    }

    fn check_sink(&self, sink: &SinkCursor) {
        let id = sink.id;
        match sink.options.target_events {
            0 => {
                let queue_size = sink.options.queue_size.max(1) as usize;
                assert!(sink.leases.len() <= queue_size, "{id:?} has too many leases");
            }
            target => {
                let most = target + sink.batch_events_max() - 1;
                assert!(sink.leased_events() <= most, "{id:?} is beyond its target by a batch");
            }
        }
        assert!(!sink.recalling || !sink.leases.is_empty(), "{id:?} recalls nothing");
        assert!(sink.reach <= self.frontier, "{id:?} is above the frontier");
        let own = self.burials.values().filter(|p| p.index.is_some_and(|i| self.sinks[i].id == id));
        assert!(sink.unburied as usize <= own.count(), "{id:?} waits for no burial");
    }
}
