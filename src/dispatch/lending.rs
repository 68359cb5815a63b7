//! Who gets what: what is due is made ready, and whatever can be lent is lent.

use super::balancer::{Balance, SinkLoad};
use super::dispatcher::Turn;
use super::group::Group;
use super::sink::{Lease, Service, SinkCursor};
use super::waiting::Take;
use super::{ACKED_RANGES_MAX, Command, Millis, Notice};
use crate::cursor::TriedRange;
use crate::offset::Offset;

/// With so many unclean ends of the process behind them, events are lent alone: nothing else of the
/// group is out meanwhile, so that a further one is theirs.
pub(super) const SUSPECT_CRASHES: u32 = 2;

pub(super) fn is_suspect(tried: &TriedRange) -> bool {
    tried.crashes >= SUSPECT_CRASHES
}

impl Group {
    /// Leaves everything in order: what is due is ready, sinks that may open are told to, and
    /// whatever can be lent is lent.
    pub(super) fn maintain(&mut self, turn: &mut Turn) {
        self.waiting.ripen(turn.now);
        self.has_suspects = self.has_suspects && self.any_suspect();
        for sink in &mut self.sinks {
            sink.backing_off = sink.backing_off.filter(|&until| until > turn.now);
            let idle = sink.backing_off.is_none() && !sink.recalling && !sink.stopped;
            if sink.service == Service::Closed && idle && !turn.stopping {
                sink.service = Service::Opening;
                turn.commands.push(Command::Open { sink: sink.id });
            }
        }
        self.notice_crowding(turn);
        self.ask_for_burials(turn);
        if !turn.stopping {
            self.lend_retries(turn);
            self.lend_shared(turn);
        }
        self.notice_end(turn);
    }

    /// When something here will be due.
    pub(super) fn next_due(&self, now: Millis) -> Option<Millis> {
        let sinks = self.sinks.iter().filter_map(|sink| sink.next_due(now));
        // alone it is not passed over, and its ranges need not be looked at
        let others = (self.sinks.len() > 1).then(|| self.waiting.passed_over());
        let passed_over = others.into_iter().flatten().filter_map(|(index, until)| {
            (until > now && self.sinks[index].in_service()).then_some(until)
        });
        let waiting = self.waiting.next_due().into_iter().chain(passed_over);
        sinks.chain(waiting).chain(self.next_burial()).min()
    }

    fn notice_crowding(&mut self, turn: &mut Turn) {
        let crowded = self.acked.range_count() >= ACKED_RANGES_MAX;
        if crowded && !self.crowded {
            let notice = Notice::Crowded { group: self.name.clone(), watermark: self.watermark };
            turn.commands.push(Command::Notice(notice));
        }
        self.crowded = crowded;
    }

    fn notice_end(&mut self, turn: &mut Turn) {
        let done = self.end.is_some_and(|end| self.watermark >= end);
        if done && !self.ended {
            self.ended = true;
            turn.commands.push(Command::Ended { group: self.name.clone() });
        }
    }

    /// Lends what only one sink may take.
    fn lend_retries(&mut self, turn: &mut Turn) {
        for index in 0..self.sinks.len() {
            while self.sinks[index].has_credit(turn.now) && !self.must_wait() {
                let sink = &mut self.sinks[index];
                let Some(tried) = sink.retry.take(Take::lowest(sink.batch_events_max())) else {
                    break;
                };
                self.lend(index, tried, turn);
            }
        }
    }

    /// Lends what any sink may take, one lease a turn, to whom the balancer picks.
    fn lend_shared(&mut self, turn: &mut Turn) {
        while !self.must_wait() {
            let mut loads = std::mem::take(&mut self.loads);
            loads.clear();
            let priority = self.priority_in_use();
            loads.extend(self.sinks.iter().enumerate().filter_map(|(index, sink)| {
                // who has credit after `lend_retries` has nothing left to send again
                let used = priority.is_none_or(|priority| sink.options.priority == priority);
                let ready = used && sink.has_credit(turn.now);
                (ready && self.has_work(index, turn.now)).then(|| SinkLoad {
                    index,
                    leased_events: sink.leased_events(),
                    batch_events: sink.batch_events_max(),
                    speed: sink.speed,
                })
            }));
            let picked = self.balancer.pick(&loads, &mut turn.random);
            self.loads = loads;
            let Some(index) = picked else { return };
            let Some(tried) = self.take_work(index, turn.now) else { return };
            self.lend(index, tried, turn);
        }
    }

    /// The priority of the sinks that are used now, if the rule asks for it. One that is just
    /// starting is waited for.
    fn priority_in_use(&self) -> Option<i32> {
        if self.balancer.rule() != Balance::Failover {
            return None;
        }
        let usable = self.sinks.iter().filter(|sink| sink.in_service() || sink.is_starting());
        usable.map(|sink| sink.options.priority).max()
    }

    /// Whether nothing may be lent before what is out is answered: of suspects each is lent alone.
    fn must_wait(&self) -> bool {
        if !self.has_suspects || self.sinks.iter().all(|sink| sink.leases.is_empty()) {
            return false;
        }
        // what a sink that is out of service owes waits for that sink
        let working = self.sinks.iter().filter(|sink| sink.in_service());
        let mut retry = working.flat_map(|sink| sink.retry.iter());
        let mut leased = self.sinks.iter().flat_map(|sink| &sink.leases);
        leased.any(|lease| is_suspect(&lease.tried))
            || self.waiting.ready.iter().any(|tried| is_suspect(&tried))
            || retry.any(|tried| is_suspect(&tried))
    }

    /// Whether a suspect is left anywhere.
    fn any_suspect(&self) -> bool {
        let leased = self.sinks.iter().flat_map(|sink| &sink.leases).map(|lease| &lease.tried);
        let retry = self.sinks.iter().flat_map(|sink| sink.retry.iter());
        leased.cloned().chain(retry).chain(self.waiting.sorted()).any(|tried| is_suspect(&tried))
    }

    /// No event at or above is lent.
    pub(super) fn limit(&self) -> Offset {
        self.end.map_or(self.tail, |end| end.min(self.tail))
    }

    fn has_work(&self, index: usize, now: Millis) -> bool {
        let released = || {
            let take = self.released_to(index, now);
            self.waiting.ready.peek(take).or_else(|| self.waiting.piled.peek(take))
        };
        self.has_fresh() || released().is_some()
    }

    fn has_fresh(&self) -> bool {
        self.frontier < self.limit() && !self.crowded
    }

    /// What of the released ranges the sink may take. A sink that keeps its order goes below what
    /// it has had only if no other can: late and out of order is better than never. What it failed
    /// last is for another that works, for the length of one more back-off.
    fn released_to(&self, index: usize, now: Millis) -> Take {
        let sink = &self.sinks[index];
        let mut others = self.sinks.iter().enumerate().filter(|(other, _)| *other != index);
        let priority = self.priority_in_use();
        let takes = |other: &SinkCursor| {
            let used = priority.is_none_or(|priority| other.options.priority == priority);
            used && !other.options.policy.keeps_order() && other.in_service()
        };
        let other_takes = others.any(|(_, other)| takes(other));
        let keeps_order = sink.options.policy.keeps_order();
        Take {
            from: if keeps_order && other_takes { sink.reach } else { Offset(0) },
            events_max: sink.batch_events_max(),
            not_failed_by: other_takes.then_some((index, now)),
        }
    }

    /// What the sink gets: the lowest released range, else the next new events, else of what had
    /// piled up.
    fn take_work(&mut self, index: usize, now: Millis) -> Option<TriedRange> {
        let take = self.released_to(index, now);
        if let Some(released) = self.waiting.ready.take(take) {
            return Some(released);
        }
        if !self.has_fresh() {
            return self.waiting.piled.take(take);
        }
        let left = self.limit().since(self.frontier);
        let range = self.frontier..self.frontier.plus(take.events_max.min(left));
        self.frontier = range.end;
        Some(TriedRange::new(range, 0))
    }

    fn lend(&mut self, index: usize, tried: TriedRange, turn: &mut Turn) {
        let range = tried.range.clone();
        assert!(!range.is_empty(), "group {} lends nothing", self.name);
        let attempt = tried.attempts.saturating_add(1);
        let tried = TriedRange { attempts: attempt, ..tried };
        let lease = Lease { id: turn.next_lease(), tried, stale: false };
        let sink = &mut self.sinks[index];
        turn.commands.push(Command::Deliver { sink: sink.id, lease: lease.id, range, attempt });
        sink.lent(lease, turn.now);
        self.changed = true;
    }

    /// An outage is over: in a group that takes new events first, what came up to now goes behind
    /// them.
    pub(super) fn pile_up(&mut self) {
        let range = self.frontier..self.limit();
        if self.fresh_first && !range.is_empty() {
            self.frontier = range.end;
            self.waiting.piled.insert(TriedRange::new(range, 0));
            self.changed = true;
        }
    }
}
