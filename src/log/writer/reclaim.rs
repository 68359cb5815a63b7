//! Giving segments back: what every group is done with, unless it is kept for replay or held.

use super::Writer;
use crate::log::Hold;
use crate::log::defect::{Defect, planted};
use crate::log::error::LogError;
use crate::log::holds::{lock_holds, read_holds};
use crate::log::maker::Spare;
use crate::log::retention::{Now, Span};
use crate::log::room::Counted;
use crate::log::segment::Segment;
use crate::log::storage::is_full;
use crate::log::sync::Arc;
use std::collections::VecDeque;

impl Writer {
    /// Every group is durably done with what lies below `done`: gives back what of it is not kept.
    /// Returns how many segments.
    pub(in crate::log) fn reclaim(&self, done: u64) -> usize {
        self.room.passed(done, |done| self.sealed(done));
        self.give_back(0)
    }

    /// Cursors are saved that need what lies at `released` and above: none of it is given back.
    pub(in crate::log) fn taken_back(&self, released: u64) {
        if released < self.room.done() {
            self.room.passed(released, |done| self.sealed(done));
        }
    }

    /// Bytes of the segments that take no more batches and that some group is not done with.
    #[cfg(test)]
    pub(in crate::log) fn sealed_bytes(&self) -> u64 {
        self.sealed(self.room.done()).bytes
    }

    /// Segments were sealed, or taken out of the list.
    pub(in crate::log) fn recount(&self) {
        self.room.recount(|done| self.sealed(done));
    }

    /// The segments that take no more batches and that some group is not durably done with.
    pub(super) fn sealed(&self, done: u64) -> Counted {
        let segments = self.segments.read().expect("no holder panics");
        let ends = segments.iter().filter_map(|segment| Some((segment, segment.end()?)));
        let mut counted = Counted { bytes: 0, first_end: u64::MAX };
        for (segment, end) in ends.filter(|(_, end)| end.offset > done) {
            counted.bytes += segment.header.segment_bytes;
            counted.first_end = counted.first_end.min(end.offset);
        }
        counted
    }

    /// Room for one more segment: what is kept for replay goes before a limit is reached.
    pub(super) fn take_spare(&self) -> Result<Spare, LogError> {
        let bytes: u64 = {
            let segments = self.segments.read().expect("no holder panics");
            segments.iter().map(|segment| segment.header.segment_bytes).sum()
        };
        let wanted = bytes.saturating_add(self.options.segment_bytes);
        let over = wanted.saturating_sub(self.options.capacity_bytes);
        if over > 0 {
            self.give_back(over);
        }
        loop {
            match self.maker.take(self.options.background) {
                Err(LogError::NoSpace { .. }) if self.give_back(1) > 0 => {}
                taken => return taken,
            }
        }
    }

    /// Gives back what the retention lets go, and of what it keeps as much as makes `short_bytes`.
    fn give_back(&self, short_bytes: u64) -> usize {
        // without the holds first: mostly nothing is due, and no file need be read for that
        let due = |segments: &VecDeque<Arc<Segment>>, holds: &[Hold]| {
            let now =
                Now { done: self.room.done(), time_ms: self.now_ns() / 1_000_000, short_bytes };
            let spans = self.spans(segments, now.done);
            self.options.retention.expired(&spans, now, holds)
        };
        if due(&self.segments.read().expect("no holder panics"), &[]) == 0 {
            return 0;
        }
        let Some((guard, holds)) = self.holds() else { return 0 };
        let mut segments = self.segments.write().expect("no holder panics");
        let count = due(&segments, &holds);
        if count == 0 {
            return 0;
        }
        // with the list held: of two callers the one that comes first has the older segments
        self.maker.retire(segments.drain(..count).collect(), guard);
        drop(segments);
        self.recount();
        if !self.options.background {
            self.maker.retire_now();
        }
        count
    }

    /// The segments that may be given back at all: done with, and with a successor that is durable,
    /// for the last one says where the log goes on.
    fn spans(&self, segments: &VecDeque<Arc<Segment>>, done: u64) -> Vec<Span> {
        let durable_lsn = self.tails().durable_lsn;
        let pairs = segments.iter().zip(segments.iter().skip(1));
        let spans = pairs.map_while(|(segment, next)| {
            let end = segment.end()?;
            let early = planted(Defect::ReclaimBeforeDurable);
            if next.header.base_lsn >= durable_lsn && !early {
                return None;
            }
            let base_offset = segment.header.base_offset;
            let early = planted(Defect::ReclaimTooMuch) && base_offset <= done;
            let end_offset = if early { end.offset.min(done) } else { end.offset };
            (end_offset <= done).then_some(Span {
                base_offset,
                end_offset,
                bytes: segment.header.segment_bytes,
                last_time_ms: end.last_time_ms,
            })
        });
        spans.collect()
    }

    /// What is held, and the lock that keeps it so until the segments are gone; `None`, said once,
    /// while nobody knows: then nothing is given back.
    fn holds(&self) -> Option<(Arc<dyn Send + Sync>, Vec<Hold>)> {
        let storage = self.maker.storage();
        let read = || {
            let guard: Arc<dyn Send + Sync> = match self.maker.holds_lock() {
                Some(guard) => guard,
                None => match lock_holds(storage) {
                    Ok(Some(guard)) => Arc::from(guard),
                    Ok(None) => return Ok(None), // they are being changed: next time
                    // nobody has a lock that can't be made, and the disk must heal
                    Err(LogError::Io { error, .. }) if is_full(&error) => Arc::new(()),
                    Err(error) => return Err(error),
                },
            };
            Ok::<_, LogError>(Some((guard, read_holds(storage)?)))
        };
        let found = read();
        let problem = found.as_ref().err().map(|error| {
            format!(
                "{}: nothing is reclaimed, because nobody knows what is held: {error}; mend or \
                 remove the file, and see 'walctl hold DIR --list'",
                storage.describe()
            )
        });
        let mut told = self.holds_problem.lock().expect("no holder panics");
        if let Some(text) = problem.as_ref().filter(|text| told.as_ref() != Some(*text)) {
            tracing::error!(target: "levada::log", "{text}");
        }
        *told = problem;
        found.ok().flatten()
    }
}
