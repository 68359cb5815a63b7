//! Walking the batches of a segment: the one checker that recovery, readers and `walctl verify` share.
//!
//! Pure: bytes in, batches and holes out.

use super::defect::{Defect, planted};
use super::error::FormatError;
use super::format::{BATCH_ALIGN, BATCH_HEADER_LEN, BatchHeader, BatchKind, SEGMENT_HEADER_LEN};
use super::storage::View;

/// Bytes that a search for the next batch brings into memory at a time.
const RESYNC_WINDOW: u64 = 64 << 10;
const RESYNC_WINDOW_MAX: u64 = 2 << 20;

/// A batch that is whole.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct FoundBatch {
    /// Where it starts in the segment.
    pub position: u64,
    /// Its header.
    pub header: BatchHeader,
    /// The header's checksum.
    pub header_crc: u32,
}

impl FoundBatch {
    /// Position of the payload.
    pub fn payload_position(&self) -> u64 {
        self.position + BATCH_HEADER_LEN
    }

    /// Position of the next batch.
    pub fn end_position(&self) -> u64 {
        self.position + self.header.stored_len()
    }
}

/// Why there is no whole batch at a position.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Fault {
    /// The position.
    pub position: u64,
    /// What does not fit.
    pub kind: FaultKind,
    /// The header, if it is good and only the payload is not.
    pub header: Option<BatchHeader>,
}

/// What does not fit.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum FaultKind {
    /// The segment's own header, or its length: nothing of it can be read.
    #[error("segment header: {0}")]
    Segment(FormatError),
    /// The header.
    #[error("batch header: {0}")]
    Header(FormatError),
    /// The batch claims another place.
    #[error("batch header names lsn {found}, its place is lsn {expected}")]
    Place {
        /// In the header.
        found: u64,
        /// Of the place.
        expected: u64,
    },
    /// The batch would reach beyond where batches end.
    #[error("batch of {len} bytes reaches beyond the end of the segment's batches")]
    Length {
        /// What it claims.
        len: u64,
    },
    /// The batch does not follow the one before it.
    #[error("batch starts at offset {found}, the one before it ends at {expected}")]
    Offset {
        /// In the header.
        found: u64,
        /// Where the one before it ended.
        expected: u64,
    },
    /// The batch names another predecessor.
    #[error("batch follows {found:08x}, the one before it is {expected:08x}")]
    Chain {
        /// In the header.
        found: u32,
        /// The checksum of the one before it.
        expected: u32,
    },
    /// The payload.
    #[error("payload: {0}")]
    Payload(FormatError),
}

impl FaultKind {
    /// What a newer build has written, if it is that: no damage, and not to be passed over.
    pub fn newer(&self) -> Option<&FormatError> {
        match self {
            FaultKind::Header(error) | FaultKind::Segment(error) => {
                Some(error).filter(|error| error.is_newer())
            }
            _ => None,
        }
    }
}

/// What a walk has come to: where the next batch must start, and what it must say.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Place {
    /// Position in the segment.
    pub position: u64,
    /// Offset of the next event.
    pub offset: u64,
    /// Checksum of the header before; `None` behind a hole, where nobody knows.
    pub chain: Option<u32>,
}

/// The batches' part of a segment.
#[derive(Clone, Copy)]
pub struct Batches<'a> {
    /// The segment's bytes.
    pub view: &'a dyn View,
    /// What its checksums start from.
    pub seed: u32,
    /// lsn of position 0.
    pub base_lsn: u64,
    /// Position where batches end.
    pub end: u64,
}

impl<'a> Batches<'a> {
    /// The payload of a batch that was found.
    pub fn payload(&self, batch: &FoundBatch) -> &'a [u8] {
        let bytes = self.view.bytes(batch.payload_position(), batch.header.payload_len as usize);
        bytes.unwrap_or_default()
    }

    /// The header at `position`, if it is one and belongs there.
    pub fn header_at(&self, position: u64) -> Result<FoundBatch, FaultKind> {
        let bytes = match position.checked_add(BATCH_HEADER_LEN) {
            Some(end) if end <= self.end => self.view.bytes(position, BATCH_HEADER_LEN as usize),
            _ => None,
        };
        let decoded = BatchHeader::decode(self.seed, bytes.unwrap_or_default());
        let (header, header_crc) = decoded.map_err(FaultKind::Header)?;
        let expected = self.base_lsn + position;
        if header.lsn != expected && !planted(Defect::PlaceUnchecked) {
            return Err(FaultKind::Place { found: header.lsn, expected });
        }
        if position + header.stored_len() > self.end {
            return Err(FaultKind::Length { len: header.stored_len() });
        }
        Ok(FoundBatch { position, header, header_crc })
    }

    /// The whole batch at `place`, payload included.
    ///
    /// # Errors
    /// What does not fit; with the header, if only the payload is bad.
    pub fn batch_at(&self, place: Place) -> Result<FoundBatch, Fault> {
        let position = place.position;
        let fault = |kind, header| Fault { position, kind, header };
        let batch = self.header_at(position).map_err(|kind| fault(kind, None))?;
        let header = batch.header;
        if header.base_offset != place.offset {
            let kind = FaultKind::Offset { found: header.base_offset, expected: place.offset };
            // behind a hole the header itself says where it goes on, but never back; elsewhere it
            // contradicts
            if place.chain.is_some() || header.base_offset < place.offset {
                return Err(fault(kind, None));
            }
        }
        if let Some(expected) = place.chain
            && header.prev_crc != expected
        {
            return Err(fault(FaultKind::Chain { found: header.prev_crc, expected }, None));
        }
        let checked = header.verify(self.payload(&batch));
        checked.map_err(|error| fault(FaultKind::Payload(error), Some(header)))?;
        Ok(batch)
    }

    /// The next position from `from` on where a good header stands, by steps of 64 bytes. What the
    /// disk can't read is stepped over.
    pub fn resync(&self, from: u64) -> Option<FoundBatch> {
        let mut position = from.max(SEGMENT_HEADER_LEN).next_multiple_of(BATCH_ALIGN);
        let mut asked = position; // up to where pages were asked for
        let mut window = RESYNC_WINDOW;
        while position + BATCH_HEADER_LEN <= self.end {
            if position >= asked {
                self.view.forget(position - window.min(position), window as usize);
                asked = (position + 1).next_multiple_of(window);
                if self.view.prefetch(position, (asked - position) as usize).is_err() {
                    // of a large one the smaller parts, of a small one nothing
                    let stepped = if window == RESYNC_WINDOW { asked } else { position };
                    (position, asked, window) = (stepped, stepped, RESYNC_WINDOW);
                    continue;
                }
                window = (window * 2).min(RESYNC_WINDOW_MAX);
            }
            if let Ok(batch) = self.header_at(position) {
                return Some(batch);
            }
            position += BATCH_ALIGN;
        }
        None
    }
}

/// A range of a segment that can't be read.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Hole {
    /// First byte.
    pub position: u64,
    /// Byte behind the last.
    pub end_position: u64,
    /// First offset that is missing.
    pub from: u64,
    /// Offset behind the last one missing.
    pub to: u64,
    /// What does not fit.
    pub fault: FaultKind,
}

/// A step of a walk through a segment of which the end is known.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Step {
    /// A whole batch (any kind).
    Batch(FoundBatch),
    /// Damage; the walk goes on behind it.
    Hole(Hole),
    /// The end.
    End,
}

/// Walks a segment of which the end is known: what lies between is whole, or damaged.
pub struct Walk<'a> {
    batches: Batches<'a>,
    place: Place,
    end_offset: u64,
}

impl<'a> Walk<'a> {
    /// From `place` up to the batches' end, where the next offset is `end_offset`.
    pub fn new(batches: Batches<'a>, place: Place, end_offset: u64) -> Walk<'a> {
        Walk { batches, place, end_offset }
    }

    /// Where the walk stands.
    pub fn place(&self) -> Place {
        self.place
    }

    /// The next batch, hole, or the end.
    pub fn step(&mut self) -> Step {
        if self.place.position >= self.batches.end {
            return Step::End;
        }
        match self.batches.batch_at(self.place) {
            Ok(batch) => {
                self.pass(&batch);
                Step::Batch(batch)
            }
            Err(fault) => Step::Hole(self.hole(fault)),
        }
    }

    fn pass(&mut self, batch: &FoundBatch) {
        self.place = Place {
            position: batch.end_position(),
            offset: batch.header.end_offset(),
            chain: Some(batch.header_crc),
        };
    }

    fn hole(&mut self, fault: Fault) -> Hole {
        let from = self.place.offset;
        let (end_position, to) = match fault.header {
            // the header is good: just this batch is lost
            Some(header) => (fault.position + header.stored_len(), header.end_offset()),
            None => match self.batches.resync(fault.position + BATCH_ALIGN) {
                Some(next) => (next.position, next.header.base_offset),
                None => (self.batches.end, self.end_offset),
            },
        };
        let hole = Hole {
            position: fault.position,
            end_position,
            from,
            to: to.max(from),
            fault: fault.kind,
        };
        self.place = Place { position: end_position, offset: hole.to, chain: None };
        hole
    }
}

/// Whether a batch carries records.
pub fn is_data(batch: &FoundBatch) -> bool {
    batch.header.kind == BatchKind::Data
}
