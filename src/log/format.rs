//! The bytes on disk. Integers are little-endian; every structure has its own checksum; a length
//! is trusted only after the checksum that covers it.
//!
//! ```text
//! DIR/LOCK                    held by the one owner
//! DIR/META.a META.b           4 KiB each; the valid one of the higher epoch counts
//! DIR/STATE                   128 bytes, never synced: where the owner is, for walctl and recovery
//! DIR/log/%016x.seg           segments; a spare is a file whose header does not name the file's id
//! DIR/cursor/A.cur B.cur      cursor journal
//! DIR/quarantine/             what recovery cut or passed over, with a JSON note each
//!
//! segment: | header 4096 | batch* (each on a 64-byte border) | … | header copy at usable_end, 4096 |
//!          | seal | … | trailer 64 |
//! ```
//!
//! Batch header, 64 bytes, then `payload_len` bytes, then zeros to the next 64-byte border:
//! ```text
//!  0 magic "LVB1"        4 header_crc           8 payload_len       12 payload_crc
//! 16 lsn u64 ------------------------------    24 base_offset u64 --------------
//! 32 count u32          36 prev_crc u32        40 durable_lsn u64 --------------
//! 48 time_ns u64 --------------------------    56 kind u8 | 57 flags u8 | 58 schema u16 | 60 orig_len u32
//! ```
//! `header_crc` is the CRC-32 of bytes 8..64, started from the segment's seed (log uuid, segment id,
//! epoch, salt): bytes of an earlier life of a recycled file, or of another place, never pass.
//! `flags` bits 0–2 are the codec and bit 3 says encrypted: a reader refuses what it does not know,
//! so both can come later without a new format version; `orig_len` bounds the decompressor.

mod identity;
mod seal;

pub use identity::{META_LEN, Meta, STATE_LEN, State};
pub use seal::{IndexEntry, Seal, Trailer};

use super::defect::{Defect, planted};
use super::error::FormatError;
use byteorder::{ByteOrder, LE};
use seal::{INDEX_ENTRY_LEN, SEAL_FIXED_LEN};

/// Format version that this build writes. It reads the same major version only.
pub const FORMAT_MAJOR: u16 = 1;
/// Minor version: a reader takes any.
pub const FORMAT_MINOR: u16 = 0;

/// Bytes of a segment's header; batches start behind it.
pub const SEGMENT_HEADER_LEN: u64 = 4096;
/// Bytes of a batch header.
pub const BATCH_HEADER_LEN: u64 = 64;
/// Batches start on multiples of this.
pub const BATCH_ALIGN: u64 = 64;
/// A synced group ends on a multiple of this, so that no block with acknowledged bytes is rewritten.
pub const GROUP_ALIGN: u64 = 4096;
/// Bytes of a sealed segment's last structure.
pub const TRAILER_LEN: u64 = 64;
/// Bytes between two entries of the sparse index.
pub const INDEX_STRIDE: u64 = 32 * 1024;
/// Smallest segment.
pub const SEGMENT_BYTES_MIN: u64 = 1 << 20;
/// Largest segment.
pub const SEGMENT_BYTES_MAX: u64 = 1 << 30;
/// Smallest segment that tests may ask for.
pub const SEGMENT_BYTES_TEST_MIN: u64 = 64 << 10;

const SEGMENT_MAGIC: &[u8; 8] = b"LEVADA\x00\x01";
const BATCH_MAGIC: u32 = u32::from_le_bytes(*b"LVB1");

const _: () = assert!(BATCH_MAGIC != 0, "zeros must never be a batch");
const _: () =
    assert!(BATCH_HEADER_LEN == super::batch::HEADER_LEN as u64, "one header, one length");
const _: () =
    assert!(GROUP_ALIGN.is_multiple_of(BATCH_ALIGN), "a pad header must fit into any gap");
// the seal of the smallest and of any larger segment fits into its reserve
const _: () = assert!(
    (SEGMENT_HEADER_LEN + BATCH_HEADER_LEN) as usize
        + SEAL_FIXED_LEN
        + TRAILER_LEN as usize
        + (SEGMENT_BYTES_MAX / INDEX_STRIDE) as usize * INDEX_ENTRY_LEN
        <= seal_reserve(SEGMENT_BYTES_MAX) as usize
);
const _: () = assert!(
    (SEGMENT_HEADER_LEN + BATCH_HEADER_LEN) as usize
        + SEAL_FIXED_LEN
        + TRAILER_LEN as usize
        + (SEGMENT_BYTES_MIN / INDEX_STRIDE) as usize * INDEX_ENTRY_LEN
        <= seal_reserve(SEGMENT_BYTES_MIN) as usize
);

/// Bytes at the end of a segment that are kept for its seal and trailer.
pub const fn seal_reserve(segment_bytes: u64) -> u64 {
    let share = segment_bytes / 1024;
    if share > 8192 { share } else { 8192 }
}

/// Where batches end, and the copy of the segment's header stands.
pub const fn usable_end(segment_bytes: u64) -> u64 {
    segment_bytes - seal_reserve(segment_bytes)
}

/// Where the seal of a segment stands.
pub const fn seal_position(segment_bytes: u64) -> u64 {
    usable_end(segment_bytes) + SEGMENT_HEADER_LEN
}

/// The largest payload that fits into a segment.
pub const fn payload_bytes_max(segment_bytes: u64) -> u64 {
    usable_end(segment_bytes) - SEGMENT_HEADER_LEN - BATCH_HEADER_LEN
}

/// `len` rounded up to a multiple of `align`, a power of two.
pub const fn round_up(len: u64, align: u64) -> u64 {
    (len + align - 1) & !(align - 1)
}

/// No place, offset or number in a log reaches this, so that sums of two never overflow.
pub const NUMBER_END: u64 = 1 << 62;
/// No time does, ms since 1970: as ns it fits into 64 bits.
const TIME_MS_END: u64 = 1 << 44;

/// That numbers with a good checksum can be: a checksum does not prove who wrote them.
///
/// # Errors
/// One of `values` has reached `end`.
pub fn below(end: u64, what: &'static str, values: &[u64]) -> Result<(), FormatError> {
    match values.iter().find(|value| **value >= end) {
        Some(&value) => Err(FormatError::Value { what, value }),
        None => Ok(()),
    }
}

/// Whether the first `len` bytes begin with `magic` and end with their own checksum.
fn check_page(page: &[u8], len: u64, magic: &[u8; 8]) -> Result<(), FormatError> {
    let Some(page) = page.get(..len as usize).filter(|page| page.starts_with(magic)) else {
        return Err(FormatError::NotThere);
    };
    let (content, sum) = page.split_at(page.len() - 4);
    let (stored, computed) = (LE::read_u32(sum), crc(content));
    if stored == computed { Ok(()) } else { Err(FormatError::Checksum { stored, computed }) }
}

/// Whether this build reads a page of this version, which stands behind the magic.
fn check_major(page: &[u8]) -> Result<(), FormatError> {
    let found = LE::read_u16(&page[8..]);
    if found == FORMAT_MAJOR {
        return Ok(());
    }
    Err(FormatError::Version { found, known: FORMAT_MAJOR })
}

fn crc(bytes: &[u8]) -> u32 {
    crc32fast::hash(bytes)
}

fn crc_from(seed: u32, bytes: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new_with_initial(seed);
    hasher.update(bytes);
    hasher.finalize()
}

/// The header of a segment: its identity, its place, and where its predecessor ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SegmentHeader {
    /// The log it belongs to.
    pub log_uuid: [u8; 16],
    /// Its number; the file has it as its name.
    pub segment_id: u64,
    /// lsn of byte 0 of the file.
    pub base_lsn: u64,
    /// Offset of the first event in it.
    pub base_offset: u64,
    /// Length of the file, bytes.
    pub segment_bytes: u64,
    /// The owner's generation: one more at each writable open.
    pub epoch: u64,
    /// Random, drawn at each activation.
    pub salt: u64,
    /// The segment before it, 0 if none.
    pub prev_segment_id: u64,
    /// Where the last batch of that one ended.
    pub prev_end_lsn: u64,
    /// Offset behind the last event of that one.
    pub prev_end_offset: u64,
    /// `header_crc` of the last batch of that one.
    pub prev_chain_crc: u32,
    /// What a reader must know to read it.
    pub incompat: u32,
    /// When it was activated, ns since 1970.
    pub activated_ns: u64,
}

/// `incompat` bit: offsets between `prev_end_offset` and `base_offset` were given up.
pub const INCOMPAT_GAP: u32 = 1 << 2;
const INCOMPAT_KNOWN: u32 = INCOMPAT_GAP;

impl SegmentHeader {
    /// What the checksums of the segment's batches start from.
    pub fn seed(&self) -> u32 {
        let mut bytes = [0; 40];
        bytes[..16].copy_from_slice(&self.log_uuid);
        LE::write_u64(&mut bytes[16..], self.segment_id);
        LE::write_u64(&mut bytes[24..], self.epoch);
        LE::write_u64(&mut bytes[32..], self.salt);
        crc(&bytes)
    }

    /// The header page.
    pub fn encode(&self) -> Vec<u8> {
        let mut page = vec![0; SEGMENT_HEADER_LEN as usize];
        page[..8].copy_from_slice(SEGMENT_MAGIC);
        LE::write_u16(&mut page[8..], FORMAT_MAJOR);
        LE::write_u16(&mut page[10..], FORMAT_MINOR);
        LE::write_u32(&mut page[12..], SEGMENT_HEADER_LEN as u32);
        page[16..32].copy_from_slice(&self.log_uuid);
        let words = [
            self.segment_id,
            self.base_lsn,
            self.base_offset,
            self.segment_bytes,
            self.epoch,
            self.salt,
            self.prev_segment_id,
            self.prev_end_lsn,
            self.prev_end_offset,
        ];
        LE::write_u64_into(&words, &mut page[32..104]);
        LE::write_u32(&mut page[104..], self.prev_chain_crc);
        LE::write_u32(&mut page[108..], self.incompat);
        LE::write_u32(&mut page[116..], GROUP_ALIGN.trailing_zeros());
        LE::write_u64(&mut page[120..], self.activated_ns);
        let sum = crc(&page[..4092]);
        LE::write_u32(&mut page[4092..], sum);
        page
    }

    /// Reads a header page.
    ///
    /// # Errors
    /// Not a header, a checksum that fails, or a version or feature this build does not know.
    pub fn decode(page: &[u8]) -> Result<SegmentHeader, FormatError> {
        check_page(page, SEGMENT_HEADER_LEN, SEGMENT_MAGIC)?;
        check_major(page)?;
        let incompat = LE::read_u32(&page[108..]);
        if incompat & !INCOMPAT_KNOWN != 0 {
            return Err(FormatError::Feature { bits: incompat & !INCOMPAT_KNOWN });
        }
        let mut words = [0; 9];
        LE::read_u64_into(&page[32..104], &mut words);
        let header = SegmentHeader {
            log_uuid: page[16..32].try_into().expect("16 bytes"),
            segment_id: words[0],
            base_lsn: words[1],
            base_offset: words[2],
            segment_bytes: words[3],
            epoch: words[4],
            salt: words[5],
            prev_segment_id: words[6],
            prev_end_lsn: words[7],
            prev_end_offset: words[8],
            prev_chain_crc: LE::read_u32(&page[104..]),
            incompat,
            activated_ns: LE::read_u64(&page[120..]),
        };
        let bytes = header.segment_bytes;
        let [id, lsn, offset, _, epoch, _, prev @ ..] = &words;
        below(NUMBER_END, "a number in the segment header", &[*id, *lsn, *offset, *epoch])?;
        below(NUMBER_END, "the end of the segment before", prev)?;
        let sane = bytes.is_power_of_two()
            && (SEGMENT_BYTES_TEST_MIN..=SEGMENT_BYTES_MAX).contains(&bytes);
        if !sane {
            return Err(FormatError::Value { what: "segment_bytes", value: bytes });
        }
        Ok(header)
    }
}

/// What a batch is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum BatchKind {
    /// Records of one put.
    Data = 1,
    /// Fills a group up to the block border; its payload means nothing.
    Pad = 2,
    /// Carries a durable tail when nothing else does.
    Watermark = 3,
    /// The seal of a segment: summary and sparse index.
    Seal = 4,
    /// A snapshot of the cursors, in the cursor journal.
    Cursors = 6,
}

impl BatchKind {
    fn of(byte: u8) -> Option<BatchKind> {
        [Self::Data, Self::Pad, Self::Watermark, Self::Seal, Self::Cursors]
            .into_iter()
            .find(|kind| *kind as u8 == byte)
    }
}

/// The header of a batch.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct BatchHeader {
    /// What it is.
    pub kind: BatchKind,
    /// Stored bytes of the payload.
    pub payload_len: u32,
    /// CRC-32 of the stored payload.
    pub payload_crc: u32,
    /// Its own place.
    pub lsn: u64,
    /// Offset of its first event.
    pub base_offset: u64,
    /// Events in it.
    pub count: u32,
    /// `header_crc` of the batch before it, across segments.
    pub prev_crc: u32,
    /// Everything below was durable when this was written: recovery's evidence.
    pub durable_lsn: u64,
    /// Append time, ns since 1970, never falling.
    pub time_ns: u64,
    /// Codec and encryption; 0 in this version.
    pub flags: u8,
    /// Encoding of the records.
    pub schema: u16,
    /// Payload bytes before compression.
    pub orig_len: u32,
}

impl BatchHeader {
    /// Bytes it occupies, up to where the next batch starts.
    pub fn stored_len(&self) -> u64 {
        round_up(BATCH_HEADER_LEN + u64::from(self.payload_len), BATCH_ALIGN)
    }

    /// Where the next batch starts.
    pub fn end_lsn(&self) -> u64 {
        self.lsn + self.stored_len()
    }

    /// Offset behind its last event.
    pub fn end_offset(&self) -> u64 {
        self.base_offset + u64::from(self.count)
    }

    /// Writes the header into `out` (64 bytes) and returns its checksum: the next one's `prev_crc`.
    pub fn encode(&self, seed: u32, out: &mut [u8]) -> u32 {
        LE::write_u32(&mut out[0..], BATCH_MAGIC);
        LE::write_u32(&mut out[8..], self.payload_len);
        LE::write_u32(&mut out[12..], self.payload_crc);
        LE::write_u64(&mut out[16..], self.lsn);
        LE::write_u64(&mut out[24..], self.base_offset);
        LE::write_u32(&mut out[32..], self.count);
        LE::write_u32(&mut out[36..], self.prev_crc);
        LE::write_u64(&mut out[40..], self.durable_lsn);
        LE::write_u64(&mut out[48..], self.time_ns);
        out[56] = self.kind as u8;
        out[57] = self.flags;
        LE::write_u16(&mut out[58..], self.schema);
        LE::write_u32(&mut out[60..], self.orig_len);
        let sum = crc_from(seed, &out[8..64]);
        LE::write_u32(&mut out[4..], sum);
        sum
    }

    /// Reads a header and its checksum.
    ///
    /// # Errors
    /// No header, a checksum that fails for this segment, or a kind this build does not know.
    pub fn decode(seed: u32, bytes: &[u8]) -> Result<(BatchHeader, u32), FormatError> {
        if bytes.len() < BATCH_HEADER_LEN as usize || LE::read_u32(bytes) != BATCH_MAGIC {
            return Err(FormatError::NotThere);
        }
        let (stored, computed) = (LE::read_u32(&bytes[4..]), crc_from(seed, &bytes[8..64]));
        if stored != computed && !planted(Defect::HeaderUnchecked) {
            return Err(FormatError::Checksum { stored, computed });
        }
        let Some(kind) = BatchKind::of(bytes[56]) else {
            return Err(FormatError::Kind { kind: bytes[56] });
        };
        let header = BatchHeader {
            kind,
            payload_len: LE::read_u32(&bytes[8..]),
            payload_crc: LE::read_u32(&bytes[12..]),
            lsn: LE::read_u64(&bytes[16..]),
            base_offset: LE::read_u64(&bytes[24..]),
            count: LE::read_u32(&bytes[32..]),
            prev_crc: LE::read_u32(&bytes[36..]),
            durable_lsn: LE::read_u64(&bytes[40..]),
            time_ns: LE::read_u64(&bytes[48..]),
            flags: bytes[57],
            schema: LE::read_u16(&bytes[58..]),
            orig_len: LE::read_u32(&bytes[60..]),
        };
        let numbers = [header.lsn, header.base_offset, header.durable_lsn];
        below(NUMBER_END, "a number in the batch header", &numbers)?;
        if header.flags != 0 {
            return Err(FormatError::Feature { bits: header.flags.into() });
        }
        Ok((header, stored))
    }

    /// Whether `payload` is what the header says. A pad's payload means nothing and always passes.
    ///
    /// # Errors
    /// The checksum fails.
    pub fn verify(&self, payload: &[u8]) -> Result<(), FormatError> {
        if self.kind == BatchKind::Pad {
            return Ok(());
        }
        let (stored, computed) = (self.payload_crc, crc(payload));
        if stored != computed && !planted(Defect::PayloadUnchecked) {
            return Err(FormatError::Checksum { stored, computed });
        }
        Ok(())
    }
}

/// The checksum of a payload.
pub fn payload_crc(payload: &[u8]) -> u32 {
    crc(payload)
}
