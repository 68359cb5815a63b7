//! From the log to a sink's queue.

use super::Work;
use crate::agent::sink_task::Job;
use crate::dispatch::{Action, LeaseId, SinkId};
use crate::event::EventBatch;
use crate::log::{LogError, Missing, MissingReason, OnCorruption};
use crate::offset::OffsetRange;
use std::collections::VecDeque;

impl Work {
    /// Tells a sink's task; nobody if the sink was removed.
    pub(super) fn tell(&self, sink: SinkId, job: Job) {
        if let Some(end) = &self.sinks[sink.0] {
            // a task that is gone has panicked, and ends the delivery
            let _ = end.jobs.send(job);
        }
    }

    pub(super) fn deliver(
        &mut self,
        sink: SinkId,
        lease: LeaseId,
        range: OffsetRange,
        actions: &mut VecDeque<Action>,
    ) {
        let job = match self.read(sink, range, actions) {
            Ok(batch) => {
                if self.pays_bytes[sink.0] {
                    let bytes = batch.byte_len() as u64;
                    actions.push_back(Action::Read { lease, bytes });
                }
                Job::Deliver(lease, batch)
            }
            Err(error) => Job::Unreadable(lease, error.to_string()),
        };
        self.tell(sink, job);
    }

    /// Reads a range; what the log can't give is told to the dispatcher.
    fn read(
        &mut self,
        sink: SinkId,
        range: OffsetRange,
        actions: &mut VecDeque<Action>,
    ) -> Result<EventBatch, LogError> {
        let mut missing = Vec::new();
        let Some(end) = &mut self.sinks[sink.0] else { return Ok(EventBatch::default()) };
        let read = self.keeper.read(&mut end.reader, range, &mut missing);
        self.miss_all(missing, actions);
        read
    }

    /// Tells what the log can't give; false if the channel halts for it, and passes nothing.
    pub(super) fn miss_all(
        &mut self,
        missing: Vec<Missing>,
        actions: &mut VecDeque<Action>,
    ) -> bool {
        for Missing { range, reason } in missing {
            self.miss(&range, &reason);
            if self.failed.is_some() {
                return false;
            }
            actions.push_back(Action::Damaged(range));
        }
        true
    }

    fn miss(&mut self, range: &OffsetRange, reason: &MissingReason) {
        let channel = self.channel.name();
        let (from, to) = (range.start, range.end);
        match reason {
            MissingReason::Damaged { file, hole } => {
                let text = format!(
                    "channel {channel}: {file}: damage at byte {} (offsets {from}..{to}): {}; \
                     run 'walctl verify'",
                    hole.position, hole.fault
                );
                tracing::error!("{text}");
                if self.channel.options().log.on_corruption == OnCorruption::Halt {
                    self.failed = Some(text);
                }
            }
            MissingReason::Gap | MissingReason::Reclaimed => {
                tracing::warn!("channel {channel}: no events at offsets {from}..{to}: passed");
            }
        }
    }
}
