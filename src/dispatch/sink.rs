//! One sink's cursor: its leases, what it has to send again, and whether it may get more.

use super::failure::Jitter;
use super::waiting::TriedRanges;
use super::{Command, LeaseId, Millis, Notice, SinkId, SinkOptions};
use crate::cursor::SinkCounters;
use crate::offset::{Offset, OffsetRange};
use std::collections::VecDeque;

/// A range lent to a sink.
#[derive(Clone, Debug)]
pub(super) struct Lease {
    pub(super) id: LeaseId,
    pub(super) range: OffsetRange,
    pub(super) attempt: u32,
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
    /// The end of the highest range it was lent.
    pub(super) reach: Offset,
    pub(super) counters: SinkCounters,
}

impl SinkCursor {
    pub(super) fn new(id: SinkId, options: SinkOptions) -> SinkCursor {
        SinkCursor {
            id,
            options,
            service: Service::Closed,
            leases: VecDeque::new(),
            retry: TriedRanges::default(),
            recalling: false,
            backing_off: None,
            failures: 0,
            failed_events: 0,
            reach: Offset(0),
            counters: SinkCounters::default(),
        }
    }

    /// Whether it is open and not backing off.
    pub(super) fn in_service(&self) -> bool {
        self.service == Service::Open && self.backing_off.is_none()
    }

    /// Whether it may be lent something.
    pub(super) fn has_credit(&self) -> bool {
        let queue_size = self.options.queue_size.max(1) as usize;
        self.in_service() && !self.recalling && self.leases.len() < queue_size
    }

    pub(super) fn batch_events_max(&self) -> u64 {
        self.options.batch_events_max.max(1).into()
    }

    pub(super) fn leased_events(&self) -> u64 {
        self.leases.iter().map(|lease| lease.range.end.since(lease.range.start)).sum()
    }

    /// The lowest offset it owes, or the end of what it was lent.
    pub(super) fn position(&self) -> Offset {
        let leased = self.leases.iter().map(|lease| lease.range.start);
        let retry = self.retry.iter().next().map(|tried| tried.range.start);
        leased.chain(retry).min().unwrap_or(self.reach)
    }

    /// Takes a lease out of its queue, by its place.
    pub(super) fn answered(&mut self, place: usize) -> Lease {
        let lease = self.leases.remove(place).expect("the place was just found");
        self.recalling &= !self.leases.is_empty();
        lease
    }

    /// A delivery arrived: back-off and failures are over.
    pub(super) fn succeeded(&mut self, events: u64, commands: &mut Vec<Command>) {
        self.counters.delivered_events += events;
        if self.failures > 0 {
            let (sink, failures, events) = (self.id, self.failures, self.failed_events);
            let notice = Notice::SinkRecovered { sink, failures, events };
            commands.push(Command::Notice(notice));
        }
        (self.failures, self.failed_events) = (0, 0);
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
        self.recalling = !self.leases.is_empty();
        let sink = self.id;
        commands.push(Command::Recall { sink });
        if self.failures == 1 {
            let notice = Notice::SinkFailing { sink, reason, events, wait_ms };
            commands.push(Command::Notice(notice));
        }
    }
}
