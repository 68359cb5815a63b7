//! What sinks and the log say, and what follows for a group.

use super::balancer::Balance;
use super::dispatcher::Turn;
use super::failure::{Decision, Exhausted, FailedDelivery, Jitter, Order};
use super::group::Group;
use super::sink::{Lease, Service};
use super::waiting::PassedOver;
use super::{Cause, Command, Millis, Notice};
use crate::cursor::TriedRange;
use crate::offset::{OffsetRange, RangeSet};
use crate::sink::{FailedEvents, Failure};

/// A delivery that failed, for `Group::put_back_failed`.
struct Failed {
    index: usize,
    lease: Lease,
    /// What did not arrive.
    events: RangeSet,
    cause: Cause,
    reason: String,
    /// When it is tried again if it waits for its back-off.
    due: Millis,
    /// When it is tried again if it is split.
    split_due: Millis,
}

impl Group {
    pub(super) fn delivered(&mut self, index: usize, place: usize, turn: &mut Turn) {
        let lease = self.sinks[index].answered(place);
        let events = if lease.stale { 0 } else { self.ack(lease.tried.range) };
        let recovers = self.sinks[index].failures > 0;
        let sink = &mut self.sinks[index];
        sink.measure(turn.now, events);
        sink.succeeded(events, &mut turn.commands);
        if recovers && self.was_out(index) {
            self.pile_up();
        }
        self.changed = true;
    }

    pub(super) fn failed(&mut self, index: usize, place: usize, failure: Failure, turn: &mut Turn) {
        let lease = self.sinks[index].answered(place);
        let (failed, whole) = self.failed_part(&lease, &failure.events);
        let arrived: Vec<_> = match lease.stale {
            true => Vec::new(),
            false => failed.gaps(lease.tried.range.clone()).collect(),
        };
        let arrived = arrived.into_iter().map(|range| self.ack(range)).sum::<u64>();
        let Failure { cause, retryable, reason, .. } = failure;
        let decision = self.sinks[index].options.policy.decide(&FailedDelivery {
            attempts: lease.tried.attempts,
            retryable,
            cause,
            // a file that could not be written says nothing about each of its events
            whole: whole || !cause.is_about_events(),
            events: failed.event_count(),
        });
        // events that are refused and leave do not make their sink wait
        let leaves = matches!(
            decision,
            Decision::Split(_) | Decision::GiveUp(Exhausted::Fail | Exhausted::DeadLetter)
        );
        let events_at_fault = leaves && cause.is_about_events();
        let jitter = Jitter::draw(&mut turn.random);
        let (now, events) = (turn.now, failed.event_count());
        let sink = &mut self.sinks[index];
        sink.measure(now, arrived);
        sink.counters.delivered_events += arrived;
        if events_at_fault {
            sink.rejected(now, events, arrived > 0, &mut turn.commands);
        } else {
            sink.failed(now, events, reason.clone(), jitter, &mut turn.commands);
        }
        if cause == Cause::Unreachable {
            sink.service = Service::Closed;
        }
        let due = match self.balancer.rule() {
            // as in Flume the next priority steps in at once: the sink's own back-off is the pause
            Balance::Failover => now,
            _ => self.due(index, &lease, jitter, now),
        };
        let split_due = if events_at_fault { now } else { due };
        let failed = Failed { index, lease, events: failed, cause, reason, due, split_due };
        self.put_back_failed(failed, decision, turn);
    }

    pub(super) fn abandoned(&mut self, index: usize, place: usize, turn: &mut Turn) {
        let lease = self.sinks[index].answered(place);
        let (failed, whole) = self.failed_part(&lease, &FailedEvents::All);
        let sink = &mut self.sinks[index];
        sink.measure(turn.now, 0);
        sink.counters.failed_events += failed.event_count();
        let policy = sink.options.policy;
        let (cause, events) = (Cause::Crashed, failed.event_count());
        let attempts = lease.tried.attempts;
        let decision = match turn.stopping {
            // the time of a stop is over, which says nothing about the events
            true => Decision::Again(policy.order),
            false => {
                let retryable = true;
                policy.decide(&FailedDelivery { attempts, retryable, cause, whole, events })
            }
        };
        let due = self.due(index, &lease, Jitter::draw(&mut turn.random), turn.now);
        let reason = "the sink's task ended while it had them".to_owned();
        let failed = Failed { index, lease, events: failed, cause, reason, due, split_due: due };
        self.put_back_failed(failed, decision, turn);
    }

    /// When what failed is tried again. What keeps failing waits longer, whichever sinks it goes to.
    fn due(&self, index: usize, lease: &Lease, jitter: Jitter, now: Millis) -> Millis {
        let sink = &self.sinks[index];
        let failures = sink.failures.max(lease.tried.attempts);
        now.plus(sink.options.backoff.delay_ms(failures, jitter))
    }

    /// Puts back what a sink began and did not deliver.
    fn put_back_failed(&mut self, failed: Failed, decision: Decision, turn: &mut Turn) {
        let Failed { index, lease, events, cause, reason, due, split_due } = failed;
        self.changed = true;
        if lease.stale {
            return;
        }
        let halves = events.event_count().div_ceil(2);
        let lend_max = u32::try_from(halves).unwrap_or(u32::MAX);
        // who failed it is passed over for the length of one more wait
        let now = turn.now;
        let passed_over = |due: Millis| Some((index, due.plus(due.0.saturating_sub(now.0))));
        for range in events.iter() {
            let tried = lease.tried.of(range);
            match decision {
                Decision::Again(order) => {
                    self.put_back(index, tried, order, due, passed_over(due));
                }
                Decision::Split(order) => {
                    let tried = TriedRange { lend_max, ..tried };
                    self.put_back(index, tried, order, split_due, passed_over(split_due));
                }
                Decision::GiveUp(_) => self.give_up(index, tried, cause, reason.clone(), turn),
            }
        }
    }

    pub(super) fn returned(&mut self, index: usize, place: usize, turn: &mut Turn) {
        let sink = &mut self.sinks[index];
        let lease = sink.answered(place);
        sink.idle_or_on(turn.now);
        self.changed = true;
        if lease.stale {
            return;
        }
        let attempts = lease.tried.attempts - 1;
        let order = sink.options.policy.order;
        for range in self.acked_gaps(lease.tried.range.clone()) {
            let tried = TriedRange { attempts, ..lease.tried.of(range) };
            self.put_back(index, tried, order, turn.now, None);
        }
    }

    fn put_back(
        &mut self,
        index: usize,
        tried: TriedRange,
        order: Order,
        due: Millis,
        passed_over: Option<PassedOver>,
    ) {
        match order {
            Order::Release => self.waiting.insert(due, tried, passed_over),
            Order::Rewind => self.sinks[index].retry.insert(tried),
        }
    }

    pub(super) fn sink_ready(&mut self, index: usize, turn: &mut Turn) {
        let sink = &mut self.sinks[index];
        sink.service = Service::Open;
        sink.backing_off = None;
        let failures = sink.failures;
        let notice = Notice::SinkReady { sink: sink.id, failures };
        turn.commands.push(Command::Notice(notice));
    }

    /// Whether no other sink was at work while this one failed.
    fn was_out(&self, index: usize) -> bool {
        let mut others = self.sinks.iter().enumerate().filter(|(other, _)| *other != index);
        !others.any(|(_, other)| other.in_service() && other.failures == 0)
    }

    pub(super) fn sink_down(&mut self, index: usize, reason: String, turn: &mut Turn) {
        let jitter = Jitter::draw(&mut turn.random);
        let sink = &mut self.sinks[index];
        sink.service = Service::Closed;
        sink.failed(turn.now, 0, reason, jitter, &mut turn.commands);
    }

    pub(super) fn damaged(&mut self, range: OffsetRange, turn: &mut Turn) {
        let range = range.start.max(self.watermark)..range.end.min(self.limit());
        let events = self.pass(range.clone());
        if events > 0 {
            self.lost_events += events;
            let notice = Notice::Lost { group: self.name.clone(), range, events };
            turn.commands.push(Command::Notice(notice));
        }
    }

    /// Takes `range` out of wherever it waits, and marks it as done; returns for how many events
    /// that is news.
    pub(super) fn pass(&mut self, range: OffsetRange) -> u64 {
        let range = range.start.max(self.watermark)..range.end.min(self.limit());
        if range.is_empty() {
            return 0;
        }
        if range.end > self.frontier {
            // what was never lent below waits, so that the frontier can pass the range
            let fresh = self.frontier..range.start.max(self.frontier);
            let waits =
                if self.fresh_first { &mut self.waiting.piled } else { &mut self.waiting.ready };
            waits.insert(TriedRange::new(fresh, 0));
            self.frontier = range.end;
        }
        self.waiting.remove(&range);
        for sink in &mut self.sinks {
            sink.retry.remove(&range);
        }
        let events = self.ack(range);
        self.changed |= events > 0;
        events
    }

    /// What of a lease did not arrive, and whether nobody knows which events are at fault.
    fn failed_part(&self, lease: &Lease, events: &FailedEvents) -> (RangeSet, bool) {
        if lease.stale {
            return (RangeSet::default(), true);
        }
        let range = &lease.tried.range;
        let open: RangeSet = self.acked_gaps(range.clone()).into_iter().collect();
        let offsets = match events {
            FailedEvents::All => return (open, true),
            FailedEvents::From(first) => {
                let rest = (*first).clamp(range.start, range.end)..range.end;
                let rest: RangeSet = self.acked_gaps(rest).into_iter().collect();
                return if rest.event_count() == 0 { (open, true) } else { (rest, true) };
            }
            FailedEvents::Only(offsets) => offsets,
        };
        if !offsets.iter().any(|offset| range.contains(offset)) {
            return (open, true);
        }
        let named = offsets.iter().filter(|&&offset| open.contains(offset));
        (named.map(|&offset| offset..offset.plus(1)).collect(), false)
    }
}
