//! What closes a segment: the seal with its sparse index, and the trailer.

use super::{BATCH_ALIGN, NUMBER_END, TIME_MS_END, TRAILER_LEN, below, crc_from};
use crate::log::defect::{Defect, planted};
use crate::log::error::FormatError;
use byteorder::{ByteOrder, LE};

const TRAILER_MAGIC: &[u8; 8] = b"LVSEALED";
pub(super) const INDEX_ENTRY_LEN: usize = 16;
pub(super) const SEAL_FIXED_LEN: usize = 56;

/// An entry of the sparse index: a batch, and what lies before it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct IndexEntry {
    /// Position of the batch in the segment.
    pub position: u64,
    /// Offset of its first event.
    pub offset: u64,
    /// Its append time, ms since 1970.
    pub time_ms: u64,
}

/// What a seal says of its segment.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Seal {
    /// Where the last batch ends.
    pub end_lsn: u64,
    /// Offset behind the last event.
    pub end_offset: u64,
    /// Data batches.
    pub batches: u64,
    /// Events.
    pub events: u64,
    /// Append time of the first event, ms since 1970; 0 if there is none.
    pub first_time_ms: u64,
    /// Append time of the last event, ms since 1970; 0 if there is none.
    pub last_time_ms: u64,
    /// Sparse index, rising.
    pub index: Vec<IndexEntry>,
}

impl Seal {
    /// The payload of the seal batch. Offsets of the index are kept as distances from `base_offset`.
    pub fn encode(&self, base_offset: u64) -> Vec<u8> {
        let mut out = vec![0; SEAL_FIXED_LEN + self.index.len() * INDEX_ENTRY_LEN];
        let words = [
            self.end_lsn,
            self.end_offset,
            self.batches,
            self.events,
            self.first_time_ms,
            self.last_time_ms,
            self.index.len() as u64,
        ];
        LE::write_u64_into(&words, &mut out[..SEAL_FIXED_LEN]);
        let entries = out[SEAL_FIXED_LEN..].chunks_exact_mut(INDEX_ENTRY_LEN);
        for (entry, chunk) in self.index.iter().zip(entries) {
            LE::write_u32(&mut chunk[0..], (entry.position / BATCH_ALIGN) as u32);
            LE::write_u32(&mut chunk[4..], (entry.offset - base_offset) as u32);
            LE::write_u64(&mut chunk[8..], entry.time_ms);
        }
        out
    }

    /// Reads the payload of a seal batch.
    ///
    /// # Errors
    /// The payload is shorter than its index.
    pub fn decode(base_offset: u64, payload: &[u8]) -> Result<Seal, FormatError> {
        if payload.len() < SEAL_FIXED_LEN {
            return Err(FormatError::NotThere);
        }
        let mut words = [0; 7];
        LE::read_u64_into(&payload[..SEAL_FIXED_LEN], &mut words);
        below(NUMBER_END, "base offset", &[base_offset])?;
        let entries = payload[SEAL_FIXED_LEN..].chunks_exact(INDEX_ENTRY_LEN);
        if entries.len() as u64 != words[6] {
            return Err(FormatError::Value { what: "index entries", value: words[6] });
        }
        let entry = |chunk: &[u8]| IndexEntry {
            position: u64::from(LE::read_u32(&chunk[0..])) * BATCH_ALIGN,
            offset: base_offset + u64::from(LE::read_u32(&chunk[4..])),
            time_ms: LE::read_u64(&chunk[8..]),
        };
        Ok(Seal {
            end_lsn: words[0],
            end_offset: words[1],
            batches: words[2],
            events: words[3],
            first_time_ms: words[4],
            last_time_ms: words[5],
            index: entries.map(entry).collect(),
        })
    }
}

/// The last 64 bytes of a sealed segment. Written only after everything it speaks of was synced:
/// a valid trailer proves that the segment was durable up to `end_lsn`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Trailer {
    /// The segment, again.
    pub segment_id: u64,
    /// Where the last batch ends.
    pub end_lsn: u64,
    /// Offset behind the last event.
    pub end_offset: u64,
    /// Append time of the first event, ms since 1970.
    pub first_time_ms: u64,
    /// Append time of the last event, ms since 1970.
    pub last_time_ms: u64,
    /// `header_crc` of the last batch.
    pub chain_crc: u32,
}

impl Trailer {
    /// The trailer's bytes.
    pub fn encode(&self, seed: u32) -> [u8; TRAILER_LEN as usize] {
        let mut out = [0; TRAILER_LEN as usize];
        out[..8].copy_from_slice(TRAILER_MAGIC);
        let words = [
            self.segment_id,
            self.end_lsn,
            self.end_offset,
            self.first_time_ms,
            self.last_time_ms,
            0,
        ];
        LE::write_u64_into(&words, &mut out[8..56]);
        LE::write_u32(&mut out[56..], self.chain_crc);
        let sum = crc_from(seed, &out[..60]);
        LE::write_u32(&mut out[60..], sum);
        out
    }

    /// Reads a trailer.
    ///
    /// # Errors
    /// None there, or a checksum that fails for this segment.
    pub fn decode(seed: u32, bytes: &[u8]) -> Result<Trailer, FormatError> {
        if bytes.len() != TRAILER_LEN as usize || &bytes[..8] != TRAILER_MAGIC {
            return Err(FormatError::NotThere);
        }
        let (stored, computed) = (LE::read_u32(&bytes[60..]), crc_from(seed, &bytes[..60]));
        if stored != computed && !planted(Defect::TrailerUnchecked) {
            return Err(FormatError::Checksum { stored, computed });
        }
        let mut words = [0; 6];
        LE::read_u64_into(&bytes[8..56], &mut words);
        below(NUMBER_END, "a number in the trailer", &words[..3])?;
        below(TIME_MS_END, "a time in the trailer", &words[3..5])?;
        Ok(Trailer {
            segment_id: words[0],
            end_lsn: words[1],
            end_offset: words[2],
            first_time_ms: words[3],
            last_time_ms: words[4],
            chain_crc: LE::read_u32(&bytes[56..]),
        })
    }
}
