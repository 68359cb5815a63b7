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

use super::error::FormatError;
use byteorder::{ByteOrder, LE};

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
const TRAILER_MAGIC: &[u8; 8] = b"LVSEALED";
const META_MAGIC: &[u8; 8] = b"LVMETA\x00\x01";
const STATE_MAGIC: &[u8; 8] = b"LVSTATE\x01";
const INDEX_ENTRY_LEN: usize = 16;
const SEAL_FIXED_LEN: usize = 56;

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
        if page.len() < SEGMENT_HEADER_LEN as usize || &page[..8] != SEGMENT_MAGIC {
            return Err(FormatError::NotThere);
        }
        let (stored, computed) = (LE::read_u32(&page[4092..]), crc(&page[..4092]));
        if stored != computed {
            return Err(FormatError::Checksum { stored, computed });
        }
        let major = LE::read_u16(&page[8..]);
        if major != FORMAT_MAJOR {
            return Err(FormatError::Version { found: major, known: FORMAT_MAJOR });
        }
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
        let sane = bytes.is_power_of_two()
            && (SEGMENT_BYTES_TEST_MIN..=SEGMENT_BYTES_MAX).contains(&bytes)
            && header.base_lsn.checked_add(bytes).is_some();
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
        if stored != computed {
            return Err(FormatError::Checksum { stored, computed });
        }
        let Some(kind) = BatchKind::of(bytes[56]) else {
            return Err(FormatError::Value { what: "batch kind", value: bytes[56].into() });
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
        if stored != computed {
            return Err(FormatError::Checksum { stored, computed });
        }
        Ok(())
    }
}

/// The checksum of a payload.
pub fn payload_crc(payload: &[u8]) -> u32 {
    crc(payload)
}

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
        if stored != computed {
            return Err(FormatError::Checksum { stored, computed });
        }
        let mut words = [0; 6];
        LE::read_u64_into(&bytes[8..56], &mut words);
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

/// Bytes of a META file.
pub const META_LEN: u64 = 4096;

/// The identity of a log.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Meta {
    /// Drawn once.
    pub log_uuid: [u8; 16],
    /// Writable opens so far.
    pub epoch: u64,
    /// When the log was made, ms since 1970.
    pub created_ms: u64,
    /// Segment size of the last open, bytes.
    pub segment_bytes: u64,
}

impl Meta {
    /// The file's bytes.
    pub fn encode(&self) -> Vec<u8> {
        let mut page = vec![0; META_LEN as usize];
        page[..8].copy_from_slice(META_MAGIC);
        LE::write_u16(&mut page[8..], FORMAT_MAJOR);
        LE::write_u16(&mut page[10..], FORMAT_MINOR);
        page[16..32].copy_from_slice(&self.log_uuid);
        LE::write_u64_into(&[self.epoch, self.created_ms, self.segment_bytes], &mut page[32..56]);
        let sum = crc(&page[..4092]);
        LE::write_u32(&mut page[4092..], sum);
        page
    }

    /// Reads a META file.
    ///
    /// # Errors
    /// Not a META, a checksum that fails, or a version this build does not know.
    pub fn decode(page: &[u8]) -> Result<Meta, FormatError> {
        if page.len() < META_LEN as usize || &page[..8] != META_MAGIC {
            return Err(FormatError::NotThere);
        }
        let (stored, computed) = (LE::read_u32(&page[4092..]), crc(&page[..4092]));
        if stored != computed {
            return Err(FormatError::Checksum { stored, computed });
        }
        let major = LE::read_u16(&page[8..]);
        if major != FORMAT_MAJOR {
            return Err(FormatError::Version { found: major, known: FORMAT_MAJOR });
        }
        Ok(Meta {
            log_uuid: page[16..32].try_into().expect("16 bytes"),
            epoch: LE::read_u64(&page[32..]),
            created_ms: LE::read_u64(&page[40..]),
            segment_bytes: LE::read_u64(&page[48..]),
        })
    }
}

/// Bytes of the STATE file.
pub const STATE_LEN: u64 = 128;

/// Where the owner of a log is: written at each group, never synced.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct State {
    /// Whose state.
    pub epoch: u64,
    /// The boot of the machine it was written in: after a power cut it means nothing.
    pub boot_id: [u8; 16],
    /// The owner's process.
    pub pid: u32,
    /// Whether the owner closed the log in order.
    pub clean: bool,
    /// Whether a write or a sync failed.
    pub poisoned: bool,
    /// Everything below is written.
    pub written_lsn: u64,
    /// Everything below is synced.
    pub durable_lsn: u64,
    /// Next offset to write.
    pub tail: u64,
    /// Next offset not yet synced.
    pub durable_tail: u64,
    /// The active segment; 0 if none.
    pub segment_id: u64,
    /// When it was written, ms since 1970.
    pub time_ms: u64,
}

impl State {
    /// The file's bytes.
    pub fn encode(&self) -> [u8; STATE_LEN as usize] {
        let mut out = [0; STATE_LEN as usize];
        out[..8].copy_from_slice(STATE_MAGIC);
        LE::write_u64(&mut out[8..], self.epoch);
        out[16..32].copy_from_slice(&self.boot_id);
        LE::write_u32(&mut out[32..], self.pid);
        out[36] = u8::from(self.clean);
        out[37] = u8::from(self.poisoned);
        let words = [
            self.written_lsn,
            self.durable_lsn,
            self.tail,
            self.durable_tail,
            self.segment_id,
            self.time_ms,
        ];
        LE::write_u64_into(&words, &mut out[40..88]);
        let sum = crc(&out[..124]);
        LE::write_u32(&mut out[124..], sum);
        out
    }

    /// Reads a STATE file.
    ///
    /// # Errors
    /// Not a STATE, or a checksum that fails (it was being written: read again).
    pub fn decode(bytes: &[u8]) -> Result<State, FormatError> {
        if bytes.len() < STATE_LEN as usize || &bytes[..8] != STATE_MAGIC {
            return Err(FormatError::NotThere);
        }
        let (stored, computed) = (LE::read_u32(&bytes[124..]), crc(&bytes[..124]));
        if stored != computed {
            return Err(FormatError::Checksum { stored, computed });
        }
        let mut words = [0; 6];
        LE::read_u64_into(&bytes[40..88], &mut words);
        Ok(State {
            epoch: LE::read_u64(&bytes[8..]),
            boot_id: bytes[16..32].try_into().expect("16 bytes"),
            pid: LE::read_u32(&bytes[32..]),
            clean: bytes[36] != 0,
            poisoned: bytes[37] != 0,
            written_lsn: words[0],
            durable_lsn: words[1],
            tail: words[2],
            durable_tail: words[3],
            segment_id: words[4],
            time_ms: words[5],
        })
    }
}
