//! A segment at run time: its file, what is known of its end, and its sparse index.

use super::defect::{Defect, planted};
use super::error::{FormatError, LogError};
use super::format::{
    BATCH_HEADER_LEN, BatchHeader, BatchKind, GROUP_ALIGN, INDEX_STRIDE, IndexEntry,
    SEGMENT_HEADER_LEN, Seal, SegmentHeader, TRAILER_LEN, Trailer, payload_crc, round_up,
    seal_position, seal_reserve, usable_end,
};
use super::scan::{Batches, Place, Step, Walk};
use super::storage::{Storage, StorageFile, View, read_exact};
use super::sync::{Arc, Mutex, MutexGuard, OnceLock};
use std::io::{self, IoSlice};

/// The directory of segments below a log's directory.
pub const SEGMENT_DIR: &str = "log";

/// The name of segment `id`.
pub fn segment_name(id: u64) -> String {
    format!("{SEGMENT_DIR}/{id:016x}.seg")
}

/// The id in a file name of the segment directory.
pub fn segment_id_of(file_name: &str) -> Option<u64> {
    let digits = file_name.strip_suffix(".seg")?;
    (digits.len() == 16).then(|| u64::from_str_radix(digits, 16).ok())?
}

/// Where a segment's batches end.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SegmentEnd {
    /// lsn behind the last batch.
    pub lsn: u64,
    /// Offset behind the last event.
    pub offset: u64,
    /// `header_crc` of the last batch.
    pub chain: u32,
    /// Append time of the first event, ms since 1970; 0 if there is none.
    pub first_time_ms: u64,
    /// Append time of the last event, ms since 1970; 0 if there is none.
    pub last_time_ms: u64,
}

/// One log file.
pub struct Segment {
    /// Its header.
    pub header: SegmentHeader,
    /// What its checksums start from.
    pub seed: u32,
    /// The open file.
    pub file: Arc<dyn StorageFile>,
    /// Set once the segment takes no more batches.
    end: OnceLock<SegmentEnd>,
    /// Rising; of the active segment as it grows, of a sealed one as loaded.
    index: Mutex<Vec<IndexEntry>>,
    /// Whether `index` covers the whole segment.
    indexed: OnceLock<()>,
}

impl Segment {
    /// The segment in `file`, of which the end is not known.
    pub fn new(header: SegmentHeader, file: Arc<dyn StorageFile>) -> Segment {
        let (end, index) = (OnceLock::new(), Mutex::default());
        Segment { seed: header.seed(), header, file, end, index, indexed: OnceLock::new() }
    }

    /// Its number.
    pub fn id(&self) -> u64 {
        self.header.segment_id
    }

    /// Its file's name below the log's directory.
    pub fn name(&self) -> String {
        segment_name(self.id())
    }

    /// Where it ends, if it takes no more batches.
    pub fn end(&self) -> Option<SegmentEnd> {
        self.end.get().copied()
    }

    /// Says where it ends, for good.
    pub fn set_end(&self, end: SegmentEnd) {
        let known = self.end.get_or_init(|| end);
        assert_eq!(*known, end, "segment {:016x} ends twice", self.id());
    }

    /// Whether it can end so.
    pub fn can_end(&self, lsn: u64, offset: u64) -> bool {
        let position = lsn.checked_sub(self.header.base_lsn);
        let bounds = SEGMENT_HEADER_LEN..=usable_end(self.header.segment_bytes);
        position.is_some_and(|at| bounds.contains(&at)) && offset >= self.header.base_offset
    }

    /// A mapping of the file.
    pub fn view(&self) -> io::Result<Arc<dyn View>> {
        self.file.view()
    }

    /// The batches up to `end_lsn`.
    pub fn batches<'a>(&self, view: &'a dyn View, end_lsn: u64) -> Batches<'a> {
        let base_lsn = self.header.base_lsn;
        let end = end_lsn
            .saturating_sub(base_lsn)
            .min(usable_end(self.header.segment_bytes))
            .min(view.len());
        Batches { view, seed: self.seed, base_lsn, end }
    }

    /// Where the first batch is, and what it must say.
    pub fn start(&self) -> Place {
        Place {
            position: SEGMENT_HEADER_LEN,
            offset: self.header.base_offset,
            chain: Some(self.header.prev_chain_crc),
        }
    }

    /// Notes a batch in the sparse index if the last entry is far enough away. Called by the writer.
    pub fn note(&self, header: &BatchHeader) {
        note(&mut self.lock_index(), self.header.base_lsn, header);
    }

    /// The entry from which to walk to reach `offset`; `None`: from the start.
    pub fn seek(&self, offset: u64) -> Option<IndexEntry> {
        let index = self.lock_index();
        let after = index.partition_point(|entry| entry.offset <= offset);
        after.checked_sub(1).map(|i| index[i])
    }

    /// The entry from which to walk to reach the first event at or after `time_ms`.
    pub fn seek_time(&self, time_ms: u64) -> Option<IndexEntry> {
        let index = self.lock_index();
        let after = index.partition_point(|entry| entry.time_ms < time_ms);
        after.checked_sub(1).map(|i| index[i])
    }

    /// Loads the sparse index of a sealed segment, once. A bad seal costs a walk, nothing else.
    pub fn load_index(&self) -> io::Result<()> {
        let Some(end) = self.end() else { return Ok(()) };
        if self.indexed.get().is_some() {
            return Ok(());
        }
        let index = match self.read_seal() {
            Ok(seal) => seal.index,
            Err(_) => {
                let view = self.view()?;
                view.prefetch(0, self.header.segment_bytes as usize)?;
                walk_summary(self, &*view, end.lsn, end.offset).seal.index
            }
        };
        *self.lock_index() = index;
        let _ = self.indexed.set(());
        Ok(())
    }

    /// The seal of a sealed segment.
    ///
    /// # Errors
    /// It is not there, or damaged: never needed, only slower without.
    pub fn read_seal(&self) -> Result<Seal, LogError> {
        let at = seal_position(self.header.segment_bytes);
        let io = || LogError::io(format!("read the seal of {}", self.name()));
        let len = (seal_reserve(self.header.segment_bytes) - SEGMENT_HEADER_LEN) as usize;
        let bytes = read_exact(&*self.file, at, len).map_err(io())?;
        let decoded = decode_seal(self, &bytes);
        decoded.map_err(|error| LogError::format(&self.name(), error))
    }

    fn lock_index(&self) -> MutexGuard<'_, Vec<IndexEntry>> {
        self.index.lock().expect("no holder panics")
    }
}

fn decode_seal(segment: &Segment, bytes: &[u8]) -> Result<Seal, FormatError> {
    let (header, _) = BatchHeader::decode(segment.seed, bytes)?;
    let lsn = segment.header.base_lsn + seal_position(segment.header.segment_bytes);
    if header.kind != BatchKind::Seal || header.lsn != lsn {
        return Err(FormatError::NotThere);
    }
    let payload = bytes[BATCH_HEADER_LEN as usize..].get(..header.payload_len as usize);
    let payload = payload.ok_or(FormatError::NotThere)?;
    header.verify(payload)?;
    Seal::decode(segment.header.base_offset, payload)
}

fn note(index: &mut Vec<IndexEntry>, base_lsn: u64, header: &BatchHeader) {
    let position = header.lsn - base_lsn;
    if index.last().is_none_or(|last| position - last.position >= INDEX_STRIDE) {
        let time_ms = header.time_ns / 1_000_000;
        index.push(IndexEntry { position, offset: header.base_offset, time_ms });
    }
}

/// What a walk through a whole segment found.
pub struct Summary {
    /// What its seal must say.
    pub seal: Seal,
    /// The end, as its trailer must say it.
    pub end: SegmentEnd,
}

/// Gathers a summary batch by batch.
pub struct Summing {
    base_lsn: u64,
    summary: Summary,
}

impl Summing {
    /// Of a segment without batches.
    pub fn new(header: &SegmentHeader) -> Summing {
        let end = SegmentEnd {
            lsn: header.base_lsn + SEGMENT_HEADER_LEN,
            offset: header.base_offset,
            chain: header.prev_chain_crc,
            first_time_ms: 0,
            last_time_ms: 0,
        };
        let summary = Summary { seal: Seal::default(), end };
        Summing { base_lsn: header.base_lsn, summary }
    }

    /// Adds the next batch.
    pub fn add(&mut self, header: &BatchHeader, header_crc: u32) {
        let Summary { seal, end } = &mut self.summary;
        let time_ms = header.time_ns / 1_000_000;
        if header.kind == BatchKind::Data {
            note(&mut seal.index, self.base_lsn, header);
            seal.batches += 1;
            seal.events += u64::from(header.count);
            if end.first_time_ms == 0 {
                end.first_time_ms = time_ms;
            }
            end.last_time_ms = time_ms;
        }
        end.lsn = header.end_lsn();
        end.offset = header.end_offset();
        end.chain = header_crc;
    }

    /// Moves the end behind a hole.
    pub fn skip(&mut self, end_lsn: u64, end_offset: u64) {
        self.summary.end.lsn = end_lsn;
        self.summary.end.offset = end_offset;
    }

    /// What was gathered.
    pub fn finish(self) -> Summary {
        let Summary { mut seal, end } = self.summary;
        seal.end_lsn = end.lsn;
        seal.end_offset = end.offset;
        seal.first_time_ms = end.first_time_ms;
        seal.last_time_ms = end.last_time_ms;
        Summary { seal, end }
    }
}

/// Walks a segment of which the end is known, over its holes.
pub fn walk_summary(segment: &Segment, view: &dyn View, end_lsn: u64, end_offset: u64) -> Summary {
    let mut walk = Walk::new(segment.batches(view, end_lsn), segment.start(), end_offset);
    let mut sum = Summing::new(&segment.header);
    loop {
        match walk.step() {
            Step::Batch(batch) => sum.add(&batch.header, batch.header_crc),
            Step::Hole(hole) => sum.skip(segment.header.base_lsn + hole.end_position, hole.to),
            Step::End => return sum.finish(),
        }
    }
}

/// Writes both copies of a segment's header. Not synced: the first group's sync covers them.
pub fn write_header(file: &dyn StorageFile, header: &SegmentHeader) -> io::Result<()> {
    let page = header.encode();
    file.write_at(usable_end(header.segment_bytes), &[IoSlice::new(&page)])?;
    file.write_at(0, &[IoSlice::new(&page)])
}

/// Writes what the disk lacks of a segment's header, if recovery found it in the cache alone: after
/// a failed sync the pages count as clean, and no later sync writes them. Not synced. Returns
/// whether something was missing.
pub fn mend_header(segment: &Segment) -> io::Result<bool> {
    let mut mended = false;
    for position in [usable_end(segment.header.segment_bytes), 0] {
        let page = read_exact(&*segment.file, position, SEGMENT_HEADER_LEN as usize)?;
        if SegmentHeader::decode(&page) != Ok(segment.header) {
            segment.file.write_at(position, &[IoSlice::new(&segment.header.encode())])?;
            mended = true;
        }
    }
    Ok(mended)
}

/// Writes seal and trailer of a segment of which every batch is synced, and syncs them. The blocks
/// it writes hold no batch.
pub fn write_seal(segment: &Segment, summary: &Summary) -> io::Result<()> {
    let header = &segment.header;
    let at = seal_position(header.segment_bytes);
    let payload = summary.seal.encode(header.base_offset);
    let batch = BatchHeader {
        kind: BatchKind::Seal,
        payload_len: payload.len() as u32,
        payload_crc: payload_crc(&payload),
        lsn: header.base_lsn + at,
        base_offset: summary.end.offset,
        count: 0,
        prev_crc: summary.end.chain,
        durable_lsn: summary.end.lsn,
        time_ns: summary.end.last_time_ms * 1_000_000,
        flags: 0,
        schema: 0,
        orig_len: payload.len() as u32,
    };
    let trailer = Trailer {
        segment_id: header.segment_id,
        end_lsn: summary.end.lsn,
        end_offset: summary.end.offset,
        first_time_ms: summary.end.first_time_ms,
        last_time_ms: summary.end.last_time_ms,
        chain_crc: summary.end.chain,
    };
    let mut head = [0; BATCH_HEADER_LEN as usize];
    batch.encode(segment.seed, &mut head);
    let len = (seal_reserve(header.segment_bytes) - SEGMENT_HEADER_LEN) as usize;
    let used = BATCH_HEADER_LEN as usize + payload.len();
    assert!(used + TRAILER_LEN as usize <= len, "the seal fits into its reserve");
    let mut area = vec![0; len];
    area[..head.len()].copy_from_slice(&head);
    area[head.len()..used].copy_from_slice(&payload);
    area[len - TRAILER_LEN as usize..].copy_from_slice(&trailer.encode(segment.seed));
    // the zeros between are there already in a new file, and mean nothing in a recycled one
    let front = round_up(used as u64, GROUP_ALIGN).min(len as u64) as usize;
    let back = (len - GROUP_ALIGN as usize).max(front);
    segment.file.write_at(at, &[IoSlice::new(&area[..front])])?;
    if back < len {
        segment.file.write_at(at + back as u64, &[IoSlice::new(&area[back..])])?;
    }
    segment.file.sync()
}

/// What a segment file turned out to be.
pub enum Opened {
    /// Holds batches, or may.
    Activated(Segment),
    /// Waits for its first batch, or holds bytes of an earlier life.
    Spare(Arc<dyn StorageFile>),
}

/// Opens the file of segment `id` of the log `log_uuid` and looks at its header and trailer.
///
/// # Errors
/// It can't be read, or was written by a version that this build does not know.
pub fn open_segment(
    storage: &dyn Storage,
    id: u64,
    len: u64,
    log_uuid: &[u8; 16],
    write: bool,
) -> Result<Opened, LogError> {
    let name = segment_name(id);
    let io = || LogError::io(format!("open {name}"));
    let file = storage.open(&name, write).map_err(io())?;
    let own = |header: &SegmentHeader| {
        (header.segment_id == id || planted(Defect::ForeignHeader))
            && header.log_uuid == *log_uuid
            && header.segment_bytes == len
    };
    let mut found = None;
    let mut positions = vec![0];
    if len.is_power_of_two() && len >= super::format::SEGMENT_BYTES_TEST_MIN {
        positions.push(usable_end(len));
    }
    for position in positions {
        let mut page = vec![0; SEGMENT_HEADER_LEN as usize];
        let read = file.read_at(position, &mut page).map_err(io())?;
        match SegmentHeader::decode(&page[..read]) {
            Ok(header) if own(&header) => {
                found = Some(header);
                break;
            }
            Err(error @ (FormatError::Version { .. } | FormatError::Feature { .. })) => {
                return Err(LogError::format(&name, error));
            }
            Ok(_) | Err(_) => {}
        }
    }
    let Some(header) = found else { return Ok(Opened::Spare(file)) };
    let segment = Segment::new(header, file);
    let trailer = read_exact(&*segment.file, len - TRAILER_LEN, TRAILER_LEN as usize);
    if let Ok(trailer) = Trailer::decode(segment.seed, &trailer.map_err(io())?)
        && segment.can_end(trailer.end_lsn, trailer.end_offset)
    {
        segment.set_end(SegmentEnd {
            lsn: trailer.end_lsn,
            offset: trailer.end_offset,
            chain: trailer.chain_crc,
            first_time_ms: trailer.first_time_ms,
            last_time_ms: trailer.last_time_ms,
        });
    }
    Ok(Opened::Activated(segment))
}
