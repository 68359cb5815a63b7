//! Records in offset order across segments, as slices of the mapped segments.

use super::defect::{Defect, planted};
use super::error::LogError;
use super::format::{BATCH_HEADER_LEN, GROUP_ALIGN};
use super::options::Durability;
use super::scan::{FoundBatch, Hole, Place, Step, Walk, is_data};
use super::segment::Segment;
use super::storage::{View, slice};
use super::sync::{Arc, Weak};
use super::writer::Writer;
use crate::event::{BatchPart, EventBatch, Records};
use crate::offset::{Offset, OffsetRange};
use byteorder::{ByteOrder, LE};

/// Bytes that are brought into memory at a time.
const WINDOW: u64 = 1 << 20;
/// What lies further behind a reader is let go: the memory of a backlog is not this process's. Not
/// before a sink has read it, or it is there again.
const BEHIND: u64 = 4 << 20;

/// Offsets that the log can't give any more.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Missing {
    /// Which.
    pub range: OffsetRange,
    /// Why.
    pub reason: MissingReason,
}

/// Why offsets are missing.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum MissingReason {
    /// Their segment was reclaimed.
    Reclaimed,
    /// Recovery gave them up: no event ever had them, or they were damaged.
    Gap,
    /// The bytes are damaged.
    Damaged {
        /// The segment's file.
        file: String,
        /// Where, and what does not fit.
        hole: Hole,
    },
}

/// What a read came to.
#[derive(Clone, Default, Debug)]
pub struct ReadOutcome {
    /// The events.
    pub batch: EventBatch,
    /// What lies in the range and can't be given.
    pub missing: Vec<Missing>,
    /// The next offset to ask for.
    pub next: Offset,
}

/// Where a walk stands: so that the next read goes on without a search.
#[derive(Clone, Copy)]
struct Hint {
    segment_id: u64,
    place: Place,
}

/// The part of a segment of which the pages were asked for: a page that can't be read is an error when it
/// is asked for, and a signal when it is touched.
#[derive(Clone, Default)]
struct Asked {
    segment_id: u64,
    from: u64,
    up_to: u64,
    /// Where it lies; not held, or the segment could not be recycled.
    view: Option<Weak<dyn View>>,
    /// The segment before, of which sinks may still read the end.
    left: Option<Weak<dyn View>>,
}

impl Asked {
    /// Brings what a step of a walk at `at` touches into memory: a window, and the batch there.
    fn ask(&mut self, segment: &Segment, view: &Arc<dyn View>, at: u64) -> std::io::Result<()> {
        let Asked { segment_id, from, up_to, .. } = *self;
        // what was asked for long ago may have gone again
        let known = segment_id == segment.id() && (from..up_to).contains(&at);
        if !known || at + 2 * WINDOW <= up_to {
            if segment_id != segment.id() {
                self.forget_left(); // before anything is asked for: it may be the segment entered
                self.left = self.view.take();
                self.segment_id = segment.id();
            }
            (self.from, self.up_to) = (at, at);
            self.view = Some(Arc::downgrade(view));
            view.prefetch(at, WINDOW as usize)?;
            self.up_to = at + WINDOW;
        } else if at + WINDOW / 2 >= up_to {
            view.prefetch(up_to, WINDOW as usize)?;
            self.up_to = up_to + WINDOW;
            if at - from >= 2 * BEHIND {
                view.forget(from, BEHIND as usize);
                self.from = from + BEHIND;
                self.forget_left();
            }
        }
        // the length is not checked yet: a wrong one costs reading ahead, nothing else
        let len = view.bytes(at + 8, 4).map_or(0, |len| u64::from(LE::read_u32(len)));
        let end = (at + BATCH_HEADER_LEN).saturating_add(len).min(view.len());
        if end > self.up_to {
            view.prefetch(self.up_to, (end - self.up_to) as usize)?;
            self.up_to = end;
        }
        Ok(())
    }

    /// Lets go what was read of a segment that was left: its pages are the system's to keep.
    fn forget_left(&mut self) {
        if let Some(view) = self.left.take().and_then(|left| left.upgrade()) {
            view.forget(0, view.len() as usize);
        }
    }
}

/// A reader of a log. It remembers where it was: reading on is cheaper than going elsewhere.
pub struct Reader {
    writer: Arc<Writer>,
    hint: Option<Hint>,
    asked: Asked,
}

impl Reader {
    pub(super) fn new(writer: Arc<Writer>) -> Reader {
        Reader { writer, hint: None, asked: Asked::default() }
    }

    /// The offset below which events can be read: the durable tail, or at `interval` and `os` the tail.
    pub fn visible_tail(&self) -> Offset {
        self.visible().1
    }

    fn visible(&self) -> (u64, Offset) {
        let tails = self.writer.tails();
        match self.writer.options.durability {
            Durability::Always => (tails.durable_lsn, tails.durable_tail),
            Durability::Interval(_) | Durability::Os => (tails.written_lsn, tails.tail),
        }
    }

    /// Reads the events of `range` that are visible, at most `count_max`, whole checksums verified.
    /// Damage is passed over and reported; the caller decides what that means.
    ///
    /// # Errors
    /// A segment can't be read (the disk, not the bytes). Nothing is lost by that.
    pub fn read(&mut self, range: OffsetRange, count_max: u64) -> Result<ReadOutcome, LogError> {
        let (visible_lsn, visible_tail) = self.visible();
        let end = range.end.min(visible_tail);
        let mut out = Gather { next: range.start, end, left: count_max, ..Gather::default() };
        while out.next < out.end && out.left > 0 {
            let Some((segment, following)) = self.find(out.next) else {
                // nothing at or below it: the first segment starts later
                let (reclaimed, first) = self.start().unwrap_or((Offset(0), out.end));
                out.miss(reclaimed.min(out.end), MissingReason::Reclaimed);
                out.miss(first.min(out.end), MissingReason::Gap);
                if first >= out.end {
                    break;
                }
                continue;
            };
            let before = out.next;
            self.read_segment(&segment, visible_lsn, &mut out)?;
            if out.next == before && out.left > 0 {
                // this segment ends before it: a gap up to the next one
                let up_to = following.unwrap_or(out.end).min(out.end);
                out.miss(up_to, MissingReason::Gap);
                if following.is_none() {
                    break;
                }
            }
        }
        let Gather { parts, missing, next, .. } = out;
        Ok(ReadOutcome { batch: EventBatch::new(parts), missing, next })
    }

    /// The first offset whose event was appended at or after `time_ms`; the tail if there is none.
    ///
    /// # Errors
    /// A segment can't be read.
    pub fn seek_time(&self, time_ms: u64) -> Result<Offset, LogError> {
        let (visible_lsn, visible_tail) = self.visible();
        let segments: Vec<_> =
            self.writer.segments.read().expect("no holder panics").iter().cloned().collect();
        for segment in segments {
            if segment.end().is_some_and(|end| end.last_time_ms < time_ms) {
                continue;
            }
            let io = || LogError::io(format!("read {}", segment.name()));
            segment.load_index().map_err(io())?;
            let view = segment.view().map_err(io())?;
            let place = match segment.seek_time(time_ms) {
                Some(entry) => {
                    Place { position: entry.position, offset: entry.offset, chain: None }
                }
                None => segment.start(),
            };
            let (end_lsn, end_offset) = bounds(&segment, visible_lsn, visible_tail);
            let mut walk = Walk::new(segment.batches(&*view, end_lsn), place, end_offset);
            let mut asked = Asked::default();
            loop {
                asked.ask(&segment, &view, walk.place().position).map_err(io())?;
                match walk.step() {
                    Step::Batch(batch)
                        if is_data(&batch) && batch.header.time_ns / 1_000_000 >= time_ms =>
                    {
                        return Ok(Offset(batch.header.base_offset));
                    }
                    Step::End => break,
                    Step::Batch(_) | Step::Hole(_) => {}
                }
            }
        }
        Ok(visible_tail)
    }

    /// The first offset that is kept; the tail if none is.
    pub fn first_offset(&self) -> Offset {
        let tail = self.visible_tail(); // before the list: an event that comes between is not skipped
        let segments = self.writer.segments.read().expect("no holder panics");
        segments.front().map_or(tail, |segment| Offset(segment.header.base_offset))
    }

    /// Where the reclaimed segments ended, and where the first one that is kept starts.
    fn start(&self) -> Option<(Offset, Offset)> {
        let segments = self.writer.segments.read().expect("no holder panics");
        let first = &segments.front()?.header;
        Some((Offset(first.prev_end_offset), Offset(first.base_offset)))
    }

    /// The last segment that starts at or below `offset`, and where the one behind it starts.
    fn find(&self, offset: Offset) -> Option<(Arc<Segment>, Option<Offset>)> {
        let segments = self.writer.segments.read().expect("no holder panics");
        let after = segments.partition_point(|s| s.header.base_offset <= offset.0);
        let segment = Arc::clone(segments.get(after.checked_sub(1)?)?);
        Some((segment, segments.get(after).map(|next| Offset(next.header.base_offset))))
    }

    fn read_segment(
        &mut self,
        segment: &Arc<Segment>,
        visible_lsn: u64,
        out: &mut Gather,
    ) -> Result<(), LogError> {
        let io = || LogError::io(format!("read {}", segment.name()));
        let view = segment.view().map_err(io())?;
        let place = self.place_for(segment, out.next).map_err(io())?;
        let (end_lsn, end_offset) = bounds(segment, visible_lsn, out.end);
        let mut walk = Walk::new(segment.batches(&*view, end_lsn), place, end_offset);
        while out.next < out.end && out.left > 0 {
            let at = walk.place();
            self.asked.ask(segment, &view, at.position).map_err(io())?;
            let step = walk.step();
            match &step {
                Step::End => break,
                Step::Batch(batch) if is_data(batch) => {
                    out.take(&view, batch);
                    // the batch that the next read starts in
                    let whole = out.next.0 >= batch.header.end_offset();
                    let place = if whole { walk.place() } else { at };
                    self.hint = Some(Hint { segment_id: segment.id(), place });
                }
                Step::Batch(_) => {}
                Step::Hole(hole) if let Some(error) = hole.fault.newer() => {
                    return Err(LogError::format(&segment.name(), error.clone()));
                }
                Step::Hole(hole) => {
                    let file = segment.name();
                    let up_to = Offset(hole.to).min(out.end);
                    out.miss(up_to, MissingReason::Damaged { file, hole: hole.clone() });
                }
            }
        }
        Ok(())
    }

    /// Where to start walking to reach `offset`: from the last read if that is on the way.
    fn place_for(&self, segment: &Segment, offset: Offset) -> std::io::Result<Place> {
        let other = planted(Defect::HintOfOther);
        let hint = self.hint.filter(|hint| hint.segment_id == segment.id() || other);
        if let Some(hint) = hint.filter(|hint| hint.place.offset <= offset.0)
            && offset.0 - hint.place.offset < 100_000
        {
            return Ok(hint.place);
        }
        if offset.0 == segment.header.base_offset {
            return Ok(segment.start()); // its index need not be read
        }
        segment.load_index()?;
        Ok(match segment.seek(offset.0) {
            Some(entry) => Place { position: entry.position, offset: entry.offset, chain: None },
            None => segment.start(),
        })
    }
}

/// Where a segment's visible batches end: lsn and offset.
fn bounds(segment: &Segment, visible_lsn: u64, visible_end: Offset) -> (u64, u64) {
    match segment.end() {
        Some(end) if planted(Defect::ReaderStopsShort) => (end.lsn - GROUP_ALIGN, end.offset),
        Some(end) => (end.lsn, end.offset),
        None => (visible_lsn.max(segment.header.base_lsn), visible_end.0),
    }
}

/// What a read has gathered.
#[derive(Default)]
struct Gather {
    parts: Vec<BatchPart>,
    missing: Vec<Missing>,
    next: Offset,
    end: Offset,
    left: u64,
}

impl Gather {
    fn miss(&mut self, up_to: Offset, reason: MissingReason) {
        if up_to > self.next {
            self.missing.push(Missing { range: self.next..up_to, reason });
            self.next = up_to;
        }
    }

    /// Takes what is wanted of a whole batch.
    fn take(&mut self, view: &Arc<dyn View>, batch: &FoundBatch) {
        let header = &batch.header;
        let (first, end) = (Offset(header.base_offset), Offset(header.end_offset()));
        if end <= self.next {
            return;
        }
        if first > self.next {
            self.miss(first.min(self.end), MissingReason::Gap);
            if first >= self.end {
                return;
            }
        }
        let skip = self.next.since(first);
        let count = end.min(self.end).since(self.next).min(self.left);
        let mut records = slice(view, batch.payload_position(), header.payload_len as usize);
        if skip > 0 || self.next.plus(count) < end {
            let from = bytes_of(&records, skip);
            let len = bytes_of(&records[from..], count);
            records = records.slice(from..from + len);
        }
        let time_ms = header.time_ns / 1_000_000;
        self.parts.push(BatchPart { first: self.next, count: count as u32, time_ms, records });
        self.next = self.next.plus(count);
        self.left -= count;
    }
}

/// Bytes of the first `count` records.
fn bytes_of(records: &[u8], count: u64) -> usize {
    let mut walk = Records::new(records);
    walk.by_ref().take(usize::try_from(count).unwrap_or(usize::MAX)).for_each(drop);
    records.len() - walk.rest().len()
}
