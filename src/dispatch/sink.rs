//! One sink's cursor: its leases, what it has to send again, and whether it may get more.

use super::balancer::Speed;
use super::failure::Jitter;
use super::waiting::TriedRanges;
use super::{Command, LeaseId, Millis, Notice, Rate, SinkId, SinkOptions};
use crate::cursor::{SinkCounters, TriedRange};
use crate::offset::Offset;
use std::collections::VecDeque;

/// So many batches in a row may be refused for their events before the sink has to rest.
const REJECTIONS_MAX: u32 = 16;
/// What a sink did not use of its rate it may catch up with, µs.
const RATE_SLACK_US: u64 = 100_000;

/// A range lent to a sink.
#[derive(Clone, Debug)]
pub(super) struct Lease {
    pub(super) id: LeaseId,
    /// Its attempts count this delivery.
    pub(super) tried: TriedRange,
    /// The group was set back since: the answer concerns the sink alone.
    pub(super) stale: bool,
}

/// Whether a sink is open.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Service {
    Closed,
    /// Told to open, has not answered.
    Opening,
    Open,
}

/// A sink as its group sees it.
#[derive(Debug)]
pub(super) struct SinkCursor {
    pub(super) id: SinkId,
    pub(super) options: SinkOptions,
    pub(super) service: Service,
    /// Its attempts were used up: it gets nothing until it is resumed.
    pub(super) stopped: bool,
    /// Burials of what it failed that could not be recorded: it gets nothing before they are.
    pub(super) unburied: u32,
    /// In the order of lending, at most `queue_size`.
    pub(super) leases: VecDeque<Lease>,
    /// What only this sink sends again, before anything else.
    pub(super) retry: TriedRanges,
    /// It failed while it had leases: nothing more before all of them are answered.
    pub(super) recalling: bool,
    /// The end of its back-off.
    pub(super) backing_off: Option<Millis>,
    /// In a row.
    pub(super) failures: u32,
    /// Events of these failures.
    pub(super) failed_events: u64,
    /// Batches in a row that were refused for their events.
    rejections: u32,
    /// The end of the highest range it was lent.
    pub(super) reach: Offset,
    pub(super) counters: SinkCounters,
    pub(super) speed: Speed,
    /// Since when it has had work that is not measured yet.
    busy_since: Option<Millis>,
    pace: Pace,
}

/// Until when what a sink took uses its rate up, µs.
#[derive(Clone, Copy, Default, Debug)]
struct Pace {
    events_us: u64,
    bytes_us: u64,
}

impl Pace {
    fn pay(&mut self, rate: Rate, now: Millis, events: u64, bytes: u64) {
        let earliest = now.0.saturating_mul(1_000).saturating_sub(RATE_SLACK_US);
        let after = |paid: u64, amount: u64, per_second: u64| {
            let Some(us) = (u128::from(amount) * 1_000_000).checked_div(per_second.into()) else {
                return 0;
            };
            paid.max(earliest).saturating_add(u64::try_from(us).unwrap_or(u64::MAX))
        };
        self.events_us = after(self.events_us, events, rate.events);
        self.bytes_us = after(self.bytes_us, bytes, rate.bytes);
    }

    fn free_at(&self) -> Millis {
        Millis(self.events_us.max(self.bytes_us).div_ceil(1_000))
    }
}

impl SinkCursor {
    pub(super) fn new(id: SinkId, options: SinkOptions) -> SinkCursor {
        SinkCursor {
            id,
            options,
            service: Service::Closed,
            stopped: false,
            unburied: 0,
            leases: VecDeque::new(),
            retry: TriedRanges::default(),
            recalling: false,
            backing_off: None,
            failures: 0,
            failed_events: 0,
            rejections: 0,
            reach: Offset(0),
            counters: SinkCounters::default(),
            speed: Speed::default(),
            busy_since: None,
            pace: Pace::default(),
        }
    }

    /// Whether it is open and works, as far as is known.
    pub(super) fn in_service(&self) -> bool {
        let rests = self.stopped || self.unburied > 0 || self.backing_off.is_some();
        self.service == Service::Open && !rests
    }

    /// Whether it is being opened for the first time.
    pub(super) fn is_starting(&self) -> bool {
        self.service == Service::Opening && self.failures == 0 && !self.stopped
    }

    /// Whether it may be lent something.
    pub(super) fn has_credit(&self, now: Millis) -> bool {
        self.in_service() && !self.recalling && self.has_room() && self.pace.free_at() <= now
    }

    fn has_room(&self) -> bool {
        match self.options.target_events {
            0 => self.leases.len() < self.options.queue_size.max(1) as usize,
            target => self.leased_events() < target,
        }
    }

    /// When time alone will give it credit.
    pub(super) fn next_due(&self, now: Millis) -> Option<Millis> {
        let paced = Some(self.pace.free_at()).filter(|&at| at > now && self.in_service());
        [self.backing_off, paced].into_iter().flatten().min()
    }

    pub(super) fn batch_events_max(&self) -> u64 {
        self.options.batch_events_max.max(1).into()
    }

    pub(super) fn leased_events(&self) -> u64 {
        let events = |lease: &Lease| lease.tried.range.end.since(lease.tried.range.start);
        self.leases.iter().map(events).sum()
    }

    /// Takes a lease in.
    pub(super) fn lent(&mut self, lease: Lease, now: Millis) {
        let TriedRange { range, attempts, .. } = &lease.tried;
        let events = range.end.since(range.start);
        self.reach = self.reach.max(range.end);
        self.counters.leases += 1;
        if *attempts > 1 {
            self.counters.redelivered_events += events;
        }
        self.busy_since.get_or_insert(now);
        self.pace.pay(self.options.rate, now, events, 0);
        self.leases.push_back(lease);
    }

    /// Bytes that were read for it.
    pub(super) fn read(&mut self, now: Millis, bytes: u64) {
        self.pace.pay(self.options.rate, now, 0, bytes);
    }

    /// Takes a lease out of its queue, by its place.
    pub(super) fn answered(&mut self, place: usize) -> Lease {
        let lease = self.leases.remove(place).expect("the place was just found");
        self.recalling &= !self.leases.is_empty();
        lease
    }

    /// Measures the work that ended with `events` delivered.
    pub(super) fn measure(&mut self, now: Millis, events: u64) {
        if let Some(since) = self.busy_since {
            self.speed.add(events, now.0.saturating_sub(since.0));
        }
        self.idle_or_on(now);
    }

    /// Passes over the time since the last measurement.
    pub(super) fn idle_or_on(&mut self, now: Millis) {
        self.busy_since = (!self.leases.is_empty()).then_some(now);
    }

    /// A delivery arrived: back-off and failures are over.
    pub(super) fn succeeded(&mut self, events: u64, commands: &mut Vec<Command>) {
        self.counters.delivered_events += events;
        if self.failures > 0 {
            let (sink, failures, events) = (self.id, self.failures, self.failed_events);
            let notice = Notice::SinkRecovered { sink, failures, events };
            commands.push(Command::Notice(notice));
        }
        (self.failures, self.failed_events, self.rejections) = (0, 0, 0);
    }

    /// A delivery of `events` or an opening failed: the sink backs off, its queue is recalled.
    pub(super) fn failed(
        &mut self,
        now: Millis,
        events: u64,
        reason: String,
        jitter: Jitter,
        commands: &mut Vec<Command>,
    ) {
        self.counters.failed_events += events;
        self.failures = self.failures.saturating_add(1);
        self.failed_events += events;
        let wait_ms = self.options.backoff.delay_ms(self.failures, jitter);
        self.backing_off = Some(now.plus(wait_ms));
        self.recall(commands);
        if self.failures == 1 {
            let sink = self.id;
            let notice = Notice::SinkFailing { sink, reason, events, wait_ms };
            commands.push(Command::Notice(notice));
        }
    }

    /// `events` were refused for what they are: nothing is wrong with the sink, unless it goes on
    /// like that.
    pub(super) fn rejected(
        &mut self,
        now: Millis,
        events: u64,
        some_arrived: bool,
        commands: &mut Vec<Command>,
    ) {
        self.counters.failed_events += events;
        self.rejections = if some_arrived { 0 } else { self.rejections.saturating_add(1) };
        if self.rejections > REJECTIONS_MAX {
            self.backing_off = Some(now.plus(self.options.backoff.first_ms));
        }
        self.recall(commands);
    }

    /// What it has in its queue comes back.
    fn recall(&mut self, commands: &mut Vec<Command>) {
        self.recalling = !self.leases.is_empty();
        commands.push(Command::Recall { sink: self.id });
    }

    /// It is used again after a stop.
    pub(super) fn resume(&mut self) {
        self.stopped = false;
        self.backing_off = None;
        (self.failures, self.failed_events, self.rejections) = (0, 0, 0);
    }
}
