//! Files of one page beside the segments: META, whose log it is, and STATE, where its owner is.

use super::{FORMAT_MAJOR, FORMAT_MINOR, NUMBER_END, below, check_major, check_page, crc};
use crate::log::error::FormatError;
use byteorder::{ByteOrder, LE};

const META_MAGIC: &[u8; 8] = b"LVMETA\x00\x01";
const STATE_MAGIC: &[u8; 8] = b"LVSTATE\x01";

/// What a disk writes whole, bytes.
const SECTOR: usize = 512;

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

    /// Whether a power cut explains `page`, the other copy, which does not decode: each of its
    /// sectors is of the last life of that copy or of the start that was to follow this one.
    pub fn explains(&self, page: &[u8]) -> bool {
        let at = |epoch| Meta { epoch, ..*self }.encode();
        let before = match self.epoch {
            0 | 1 => vec![0; META_LEN as usize], // made at the first open, and not written yet
            epoch => at(epoch - 1),
        };
        let after = at(self.epoch + 1);
        let sectors = before.chunks(SECTOR).zip(after.chunks(SECTOR));
        page.len() == before.len()
            && page.chunks(SECTOR).zip(sectors).all(|(it, (old, new))| it == old || it == new)
    }

    /// Reads a META file.
    ///
    /// # Errors
    /// Not a META, a checksum that fails, or a version this build does not know.
    pub fn decode(page: &[u8]) -> Result<Meta, FormatError> {
        check_page(page, META_LEN, META_MAGIC)?;
        check_major(page)?;
        below(NUMBER_END, "the epoch", &[LE::read_u64(&page[32..])])?;
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
        check_page(bytes, STATE_LEN, STATE_MAGIC)?;
        let mut words = [0; 6];
        LE::read_u64_into(&bytes[40..88], &mut words);
        below(NUMBER_END, "a number in STATE", &[LE::read_u64(&bytes[8..])])?;
        below(NUMBER_END, "a number in STATE", &words)?;
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
