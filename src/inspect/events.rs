//! The events of a log in offset order, without owning it: seek by footer and sparse index, then
//! walk. Bounded memory: a window of the segment at a time.

use super::bound::Bound;
use super::dir::{InspectError, LogDir};
use super::snapshot::Snapshot;
use super::view::ReadView;
use crate::event::{EventRef, Records};
use crate::log::{Batches, Damage, LogError, Place, Segment, SegmentEnd, Step, Walk, is_data};
use crate::offset::Offset;
use std::ops::ControlFlow;

/// Bytes after which a window is dropped and a new one is begun.
pub(super) const WINDOW: u64 = 8 << 20;

/// An event at its place, borrowed.
#[derive(Clone, Copy, Debug)]
pub struct EventRecord<'a> {
    /// Its offset.
    pub offset: u64,
    /// When the log took it, ms since 1970.
    pub time_ms: u64,
    /// The event; `None` if the record is no event of Flume's shape.
    pub event: Option<EventRef<'a>>,
    /// The record's bytes.
    pub record: &'a [u8],
}

/// What reading comes across.
pub enum Item<'a> {
    /// An event.
    Event(EventRecord<'a>),
    /// Offsets that no event has: given up by recovery, or reclaimed while they were read.
    Gap(std::ops::Range<u64>),
    /// Damage.
    Damage(Damage),
}

/// Reads events; goes on where it stopped, also when the log has grown.
pub struct Events<'a> {
    dir: &'a LogDir,
    next: u64,
    end: Option<u64>,
    end_ms: Option<u64>,
    /// The segment of the last read, and where its walk stopped.
    hint: Option<(u64, Place)>,
}

impl<'a> Events<'a> {
    /// From `from` (or the first event kept) to `to` (or without end), as `log` places them.
    ///
    /// # Errors
    /// A segment can't be read.
    pub fn new(
        dir: &'a LogDir,
        log: &Snapshot,
        from: Option<Bound>,
        to: Option<Bound>,
    ) -> Result<Events<'a>, InspectError> {
        let first = log.first().0;
        let next = match from {
            None => first,
            Some(bound) => offset_of(log, bound)?.0.max(first),
        };
        let (end, end_ms) = match to {
            None => (None, None),
            Some(Bound::Time(time_ms)) => (None, Some(time_ms)),
            Some(bound) => (Some(offset_of(log, bound)?.0), None),
        };
        Ok(Events { dir, next, end, end_ms, hint: None })
    }

    /// Whether nothing can follow.
    pub fn is_done(&self) -> bool {
        self.end.is_some_and(|end| self.next >= end)
    }

    /// Gives every event that `log` has to `each`, until it breaks.
    ///
    /// # Errors
    /// A segment can't be read.
    pub fn read(
        &mut self,
        log: &Snapshot,
        mut each: impl FnMut(Item<'_>) -> ControlFlow<()>,
    ) -> Result<ControlFlow<()>, InspectError> {
        let stop = self.end.unwrap_or(u64::MAX);
        for (segment, end) in log.segments.iter().zip(&log.ends) {
            if end.offset <= self.next {
                continue;
            }
            let base = segment.header.base_offset;
            if self.next < base.min(stop) {
                let gap = self.next..base.min(stop);
                self.next = gap.end;
                if each(Item::Gap(gap)).is_break() {
                    return Ok(ControlFlow::Break(()));
                }
            }
            if self.is_done() || self.segment(log, segment, end, &mut each)?.is_break() {
                return Ok(ControlFlow::Break(()));
            }
        }
        Ok(ControlFlow::Continue(()))
    }

    fn segment(
        &mut self,
        log: &Snapshot,
        segment: &Segment,
        end: &SegmentEnd,
        each: &mut impl FnMut(Item<'_>) -> ControlFlow<()>,
    ) -> Result<ControlFlow<()>, InspectError> {
        let mut place = match self.hint {
            Some((id, place)) if id == segment.id() && place.offset <= self.next => place,
            _ => place_of(segment, log, |entry| entry.offset <= self.next),
        };
        loop {
            let io = || LogError::io(format!("read {}", segment.name()));
            let view = ReadView::new(&segment.file).map_err(io())?;
            let batches = segment.batches(&view, end.lsn);
            let mut walk = Walk::new(batches, place, end.offset);
            let from = place.position;
            let ended = loop {
                self.hint = Some((segment.id(), walk.place()));
                if walk.place().position - from > WINDOW {
                    break false;
                }
                let flow = match walk.step() {
                    Step::End => break true,
                    Step::Batch(batch) if is_data(&batch) => {
                        let time_ms = batch.header.time_ns / 1_000_000;
                        if self.end_ms.is_some_and(|end| time_ms >= end) {
                            return Ok(ControlFlow::Break(()));
                        }
                        let first = batch.header.base_offset;
                        self.records(first, time_ms, batches.payload(&batch), each)
                    }
                    Step::Batch(_) => ControlFlow::Continue(()),
                    Step::Hole(_) if !self.dir.has(&segment.name()) => {
                        // reclaimed under our hands: it says nothing any more
                        let gap = self.next..end.offset.max(self.next);
                        self.next = gap.end;
                        self.hint = None;
                        return Ok(each(Item::Gap(gap)));
                    }
                    Step::Hole(hole) => {
                        if let Some(error) = view.error() {
                            let error = std::io::Error::new(error.kind(), error.to_string());
                            return Err(io()(error).into());
                        }
                        let wanted = hole.to > self.next;
                        self.next = self.next.max(hole.to);
                        let damage = Damage { file: segment.name(), hole };
                        if wanted { each(Item::Damage(damage)) } else { ControlFlow::Continue(()) }
                    }
                };
                if flow.is_break() {
                    return Ok(ControlFlow::Break(()));
                }
            };
            place = walk.place();
            if ended {
                self.next = self.next.max(end.offset);
                return Ok(ControlFlow::Continue(()));
            }
        }
    }

    fn records(
        &mut self,
        first: u64,
        time_ms: u64,
        payload: &[u8],
        each: &mut impl FnMut(Item<'_>) -> ControlFlow<()>,
    ) -> ControlFlow<()> {
        for (record, offset) in Records::new(payload).zip(first..) {
            if self.is_done() {
                return ControlFlow::Break(());
            }
            if offset < self.next {
                continue;
            }
            self.next = offset + 1;
            let event = EventRef::decode(record);
            each(Item::Event(EventRecord { offset, time_ms, event, record }))?;
        }
        ControlFlow::Continue(())
    }
}

/// Where to start a walk: the last entry of the sparse index that is still `before`.
fn place_of(
    segment: &Segment,
    log: &Snapshot,
    before: impl Fn(&crate::log::IndexEntry) -> bool,
) -> Place {
    let sealed = segment.end().and_then(|_| segment.read_seal().ok());
    let index = match (&sealed, &log.scan) {
        (Some(seal), _) => &seal.index[..],
        (None, Some(scan)) if log.segments.last().is_some_and(|s| s.id() == segment.id()) => {
            &scan.summary.seal.index[..]
        }
        // a bad seal, or a segment that is being written: from its start
        (None, _) => &[],
    };
    match index.partition_point(before).checked_sub(1).map(|i| index[i]) {
        Some(entry) => Place { position: entry.position, offset: entry.offset, chain: None },
        None => segment.start(),
    }
}

/// The offset that `bound` names, whether the log has it or not; of a time that of the first event
/// that was appended then or later, or the tail if there is none.
///
/// # Errors
/// A segment can't be read.
pub fn offset_of(log: &Snapshot, bound: Bound) -> Result<Offset, InspectError> {
    Ok(Offset(match bound {
        Bound::Offset(offset) => offset,
        Bound::BeforeTail(count) => log.tail().0.saturating_sub(count),
        Bound::Time(time_ms) => seek_time(log, time_ms)?,
    }))
}

/// The first offset whose event was appended at or after `time_ms`; the tail if there is none.
fn seek_time(log: &Snapshot, time_ms: u64) -> Result<u64, InspectError> {
    for (segment, end) in log.segments.iter().zip(&log.ends) {
        if segment.end().is_some_and(|end| end.last_time_ms < time_ms) {
            continue;
        }
        let mut place = place_of(segment, log, |entry| entry.time_ms < time_ms);
        loop {
            let view = ReadView::new(&segment.file);
            let view = view.map_err(LogError::io(format!("read {}", segment.name())))?;
            let from = place.position;
            let mut walk = Walk::new(segment.batches(&view, end.lsn), place, end.offset);
            let ended = loop {
                match walk.step() {
                    Step::Batch(batch)
                        if is_data(&batch) && batch.header.time_ns / 1_000_000 >= time_ms =>
                    {
                        return Ok(batch.header.base_offset);
                    }
                    Step::End => break true,
                    Step::Batch(_) | Step::Hole(_) if walk.place().position - from > WINDOW => {
                        break false;
                    }
                    Step::Batch(_) | Step::Hole(_) => {}
                }
            };
            place = walk.place();
            if ended {
                break;
            }
        }
    }
    Ok(log.tail().0)
}

/// Walks the headers of a segment that is being written, without its payloads: cheap.
pub(super) fn headers(
    batches: &Batches<'_>,
    mut position: u64,
    mut each: impl FnMut(&crate::log::FoundBatch),
) {
    while position < batches.end {
        let Ok(batch) = batches.header_at(position) else { return };
        each(&batch);
        position = batch.end_position();
    }
}

impl Events<'_> {
    /// The next offset to be read.
    pub fn next(&self) -> Offset {
        Offset(self.next)
    }
}
