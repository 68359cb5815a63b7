//! A consumer group: every offset goes to one of its sinks, and comes back until it is done.
//!
//! Each offset from the watermark to the frontier is in exactly one place: acked, leased, waiting
//! for any sink, or waiting for one sink (`retry`). A lease may hold offsets that became damaged
//! while it was out: these count as acked.

use super::balancer::{Balancer, SinkLoad};
use super::dispatcher::Turn;
use super::failure::{Decision, FailedDelivery, Jitter};
use super::sink::{Lease, Service, SinkCursor};
use super::waiting::Waiting;
use super::{ACKED_RANGES_MAX, Command, LeaseId, Millis, Notice};
use crate::cursor::TriedRange;
use crate::offset::{Offset, OffsetRange, RangeSet};
use crate::sink::{FailedEvents, Failure};

#[derive(Debug)]
pub(super) struct Group {
    pub(super) name: String,
    pub(super) balancer: Balancer,
    pub(super) sinks: Vec<SinkCursor>,
    /// Offsets below can be read.
    pub(super) tail: Offset,
    /// The first offset that was never lent.
    pub(super) frontier: Offset,
    /// The lowest offset that is not done.
    pub(super) watermark: Offset,
    /// Done, above the watermark and below the frontier.
    pub(super) acked: RangeSet,
    pub(super) waiting: Waiting,
    pub(super) lost_events: u64,
    /// Whether [`ACKED_RANGES_MAX`] is reached.
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

    pub(super) fn delivered(&mut self, index: usize, place: usize, turn: &mut Turn) {
        let lease = self.sinks[index].answered(place);
        let events = self.ack(lease.range);
        self.sinks[index].succeeded(events, &mut turn.commands);
        self.changed = true;
    }

    pub(super) fn failed(&mut self, index: usize, place: usize, failure: Failure, turn: &mut Turn) {
        let lease = self.sinks[index].answered(place);
        let failed = self.failed_part(&lease, &failure.events);
        let arrived: Vec<_> = failed.gaps(lease.range.clone()).collect();
        let arrived = arrived.into_iter().map(|range| self.ack(range)).sum::<u64>();
        let jitter = Jitter::draw(&mut turn.random);
        let sink = &mut self.sinks[index];
        sink.counters.delivered_events += arrived;
        let (now, events) = (turn.now, failed.event_count());
        sink.failed(now, events, failure.reason, jitter, &mut turn.commands);

        self.put_back_tried(index, &lease, &failed, failure.retryable, jitter, turn.now);
    }

    pub(super) fn abandoned(&mut self, index: usize, place: usize, turn: &mut Turn) {
        let lease = self.sinks[index].answered(place);
        let failed = self.failed_part(&lease, &FailedEvents::All);
        self.sinks[index].counters.failed_events += failed.event_count();
        let jitter = Jitter::draw(&mut turn.random);
        self.put_back_tried(index, &lease, &failed, true, jitter, turn.now);
    }

    /// Puts back what a sink began and did not deliver. What keeps failing waits longer, whichever
    /// sinks it goes to.
    fn put_back_tried(
        &mut self,
        index: usize,
        lease: &Lease,
        failed: &RangeSet,
        retryable: bool,
        jitter: Jitter,
        now: Millis,
    ) {
        let sink = &self.sinks[index];
        let attempts = lease.attempt;
        let decision = sink.options.policy.decide(&FailedDelivery { attempts, retryable });
        let failures = sink.failures.max(attempts);
        let due = now.plus(sink.options.backoff.delay_ms(failures, jitter));
        for range in failed.iter() {
            self.put_back(index, TriedRange::new(range, attempts), decision, due);
        }
        self.changed = true;
    }

    pub(super) fn returned(&mut self, index: usize, place: usize, turn: &mut Turn) {
        let lease = self.sinks[index].answered(place);
        let attempts = lease.attempt - 1;
        let keeps_order = self.sinks[index].options.policy.keeps_order();
        let decision = if keeps_order { Decision::Rewind } else { Decision::Release };
        for range in self.acked_gaps(lease.range) {
            let tried = TriedRange::new(range, attempts);
            self.put_back(index, tried, decision, turn.now);
        }
        self.changed = true;
    }

    pub(super) fn sink_ready(&mut self, index: usize, turn: &mut Turn) {
        let sink = &mut self.sinks[index];
        sink.service = Service::Open;
        sink.backing_off = None;
        let notice = Notice::SinkReady { sink: sink.id, failures: sink.failures };
        turn.commands.push(Command::Notice(notice));
    }

    pub(super) fn sink_down(&mut self, index: usize, reason: String, turn: &mut Turn) {
        let jitter = Jitter::draw(&mut turn.random);
        let sink = &mut self.sinks[index];
        sink.service = Service::Closed;
        sink.failed(turn.now, 0, reason, jitter, &mut turn.commands);
    }

    pub(super) fn damaged(&mut self, range: OffsetRange, turn: &mut Turn) {
        let range = range.start.max(self.watermark)..range.end.min(self.tail);
        if range.is_empty() {
            return;
        }
        if range.end > self.frontier {
            // what was never lent below the damage waits, so that the frontier can pass the damage
            let fresh = self.frontier..range.start.max(self.frontier);
            self.waiting.ready.insert(TriedRange::new(fresh, 0));
            self.frontier = range.end;
        }
        self.waiting.remove(&range);
        for sink in &mut self.sinks {
            sink.retry.remove(&range);
        }
        let events = self.ack(range.clone());
        if events > 0 {
            self.lost_events += events;
            let notice = Notice::Lost { group: self.name.clone(), range, events };
            turn.commands.push(Command::Notice(notice));
            self.changed = true;
        }
    }

    /// Leaves everything in order: what is due is ready, sinks that may open are told to, and
    /// whatever can be lent is lent.
    pub(super) fn maintain(&mut self, turn: &mut Turn) {
        self.waiting.ripen(turn.now);
        for sink in &mut self.sinks {
            sink.backing_off = sink.backing_off.filter(|&until| until > turn.now);
            let idle = sink.backing_off.is_none() && !sink.recalling;
            if sink.service == Service::Closed && idle && !turn.stopping {
                sink.service = Service::Opening;
                turn.commands.push(Command::Open { sink: sink.id });
            }
        }
        self.notice_crowding(turn);
        if !turn.stopping {
            self.lend_retries(turn);
            self.lend_shared(turn);
        }
    }

    /// When something here will be due.
    pub(super) fn next_due(&self) -> Option<Millis> {
        let sinks = self.sinks.iter().filter_map(|sink| sink.backing_off);
        sinks.chain(self.waiting.next_due()).min()
    }

    fn notice_crowding(&mut self, turn: &mut Turn) {
        let crowded = self.acked.range_count() >= ACKED_RANGES_MAX;
        if crowded && !self.crowded {
            let notice = Notice::Crowded { group: self.name.clone(), watermark: self.watermark };
            turn.commands.push(Command::Notice(notice));
        }
        self.crowded = crowded;
    }

    /// Lends what only one sink may take.
    fn lend_retries(&mut self, turn: &mut Turn) {
        for index in 0..self.sinks.len() {
            while self.sinks[index].has_credit() {
                let sink = &mut self.sinks[index];
                let Some(tried) = sink.retry.take(Offset(0), sink.batch_events_max()) else {
                    break;
                };
                self.lend(index, tried, turn);
            }
        }
    }

    /// Lends what any sink may take, one lease a turn, to whom the balancer picks.
    fn lend_shared(&mut self, turn: &mut Turn) {
        loop {
            let mut loads = std::mem::take(&mut self.loads);
            loads.clear();
            loads.extend(self.sinks.iter().enumerate().filter_map(|(index, sink)| {
                // who has credit after `lend_retries` has nothing left to send again
                let may_take = sink.has_credit() && self.has_work(sink);
                may_take.then(|| SinkLoad { index, leased_events: sink.leased_events() })
            }));
            let picked = self.balancer.pick(&loads);
            self.loads = loads;
            let Some(index) = picked else { return };
            let tried = self.take_work(index);
            self.lend(index, tried, turn);
        }
    }

    fn has_work(&self, sink: &SinkCursor) -> bool {
        self.has_fresh() || self.waiting.ready.has_from(self.released_from(sink))
    }

    fn has_fresh(&self) -> bool {
        self.frontier < self.tail && !self.crowded
    }

    /// The lowest released offset the sink may take. A sink that keeps its order goes below what it
    /// has had only if no other can: late and out of order is better than never.
    fn released_from(&self, sink: &SinkCursor) -> Offset {
        let other_takes =
            |other: &SinkCursor| !other.options.policy.keeps_order() && other.in_service();
        let keeps_order = sink.options.policy.keeps_order();
        if keeps_order && self.sinks.iter().any(other_takes) { sink.reach } else { Offset(0) }
    }

    /// What the sink gets: the lowest released range, else the next new events.
    fn take_work(&mut self, index: usize) -> TriedRange {
        let sink = &self.sinks[index];
        let events_max = sink.batch_events_max();
        let from = self.released_from(sink);
        self.waiting.ready.take(from, events_max).unwrap_or_else(|| {
            let left = self.tail.since(self.frontier);
            let range = self.frontier..self.frontier.plus(events_max.min(left));
            self.frontier = range.end;
            TriedRange::new(range, 0)
        })
    }

    fn lend(&mut self, index: usize, tried: TriedRange, turn: &mut Turn) {
        let TriedRange { range, attempts, .. } = tried;
        assert!(!range.is_empty(), "group {} lends nothing", self.name);
        let attempt = attempts.saturating_add(1);
        let lease = Lease { id: turn.next_lease(), range: range.clone(), attempt };
        let sink = &mut self.sinks[index];
        sink.reach = sink.reach.max(range.end);
        sink.counters.leases += 1;
        if attempt > 1 {
            sink.counters.redelivered_events += range.end.since(range.start);
        }
        turn.commands.push(Command::Deliver { sink: sink.id, lease: lease.id, range, attempt });
        sink.leases.push_back(lease);
        self.changed = true;
    }

    fn put_back(&mut self, index: usize, tried: TriedRange, decision: Decision, due: Millis) {
        match decision {
            Decision::Release => self.waiting.insert(due, tried),
            Decision::Rewind => self.sinks[index].retry.insert(tried),
        }
    }

    /// Marks `range` as done and moves the watermark; returns how many offsets this is news for.
    fn ack(&mut self, range: OffsetRange) -> u64 {
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

    fn failed_part(&self, lease: &Lease, events: &FailedEvents) -> RangeSet {
        let open: RangeSet = self.acked_gaps(lease.range.clone()).into_iter().collect();
        let FailedEvents::Only(offsets) = events else { return open };
        if !offsets.iter().any(|offset| lease.range.contains(offset)) {
            return open;
        }
        let named = offsets.iter().filter(|&&offset| open.contains(offset));
        named.map(|&offset| offset..offset.plus(1)).collect()
    }

    /// Asserts the rule of this file's head, and the limits of each sink.
    pub(super) fn check(&self) {
        let name = &self.name;
        self.acked.check();
        assert!(self.watermark <= self.frontier, "group {name}: watermark above the frontier");
        assert!(self.frontier <= self.tail, "group {name}: frontier above the tail");
        let mut places: Vec<_> = self.acked.iter().collect();
        places.extend(self.waiting.sorted().into_iter().map(|tried| tried.range));
        let mut leased = Vec::new();
        for sink in &self.sinks {
            places.extend(sink.retry.iter().map(|tried| tried.range));
            leased.extend(sink.leases.iter().map(|lease| lease.range.clone()));
            let queue_size = sink.options.queue_size.max(1) as usize;
            assert!(sink.leases.len() <= queue_size, "{:?} has too many leases", sink.id);
            assert!(!sink.recalling || !sink.leases.is_empty(), "{:?} recalls nothing", sink.id);
            assert!(sink.reach <= self.frontier, "{:?} is above the frontier", sink.id);
        }
        places.extend(leased.iter().flat_map(|range| self.acked_gaps(range.clone())));
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
}
