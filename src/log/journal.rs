//! The cursor journal: two files, written in turn, that hold snapshots of the cursors.
//!
//! Each record is a whole snapshot in a batch frame, padded to 4 KiB so that no two share a block;
//! its `lsn` field is the record's generation. The valid record of the highest generation counts,
//! so a torn last one loses acknowledgements (redelivery) and nothing else. Both files are
//! preallocated: an acknowledgement works on a full disk, costs no log write, and one sync covers
//! many. Snapshots instead of deltas: normally one block, and nothing to replay.
//!
//! A power cut may take a record and leave a later one that was not synced either. Such places
//! count for nothing, but look like damage: opening clears them away, so that what does not read
//! back afterwards is damage.

use super::defect::{Defect, planted, unless};
use super::error::{FormatError, LogError};
use super::format::{BATCH_HEADER_LEN, BatchHeader, BatchKind, NUMBER_END, below, payload_crc};
use super::storage::{Storage, StorageFile, read_exact};
use super::sync::Arc;
use byteorder::{ByteOrder, LE};
use std::io::IoSlice;

/// The directory of the journal below a log's directory.
pub const CURSOR_DIR: &str = "cursor";
const FILES: [&str; 2] = ["cursor/A.cur", "cursor/B.cur"];
/// Length of each file unless [`LogOptions::cursor_file_bytes`] says otherwise, and the most.
pub const FILE_LEN: u64 = 1 << 20;
const RECORD_ALIGN: usize = 4096;
/// `seen_tail` and `released`, in front of the cursors' bytes.
const MARK_LEN: usize = 16;

/// What a record says besides the cursors: evidence for recovery.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Mark {
    /// Everything below was durable.
    pub durable_lsn: u64,
    /// Offset behind the last durable event.
    pub durable_tail: u64,
    /// Offset behind the last event that any sink has seen.
    pub seen_tail: u64,
    /// Every group is done with what lies below: segments wholly below may be gone.
    pub released: u64,
}

/// A record that was read back.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct JournalRecord {
    /// Its number, rising.
    pub generation: u64,
    /// Evidence.
    pub mark: Mark,
    /// The cursors' bytes.
    pub payload: Vec<u8>,
    /// When it was written, ms since 1970.
    pub time_ms: u64,
}

/// What opening found.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct JournalFound {
    /// The newest valid record.
    pub newest: Option<JournalRecord>,
    /// Records that are torn, or damaged.
    pub bad_records: usize,
}

fn seed(log_uuid: &[u8; 16]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(log_uuid);
    hasher.update(b"cursor");
    hasher.finalize()
}

/// Reads the newest valid record of a journal, without touching it.
///
/// # Errors
/// A file can't be read. A missing one is no error.
pub fn read(storage: &dyn Storage, log_uuid: &[u8; 16]) -> Result<JournalFound, LogError> {
    let mut found = JournalFound::default();
    for name in FILES {
        let file = match storage.open(name, false) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => continue,
            file => file.map_err(LogError::io(format!("open {name}")))?,
        };
        read_file(&*file, name, seed(log_uuid), FILE_LEN, &mut found)?;
    }
    Ok(found)
}

/// The length that a file of `len` bytes gets.
fn made_whole(len: u64, whole_len: u64) -> u64 {
    len.clamp(whole_len, FILE_LEN).next_multiple_of(RECORD_ALIGN as u64)
}

fn read_file(
    file: &dyn StorageFile,
    name: &str,
    seed: u32,
    whole_len: u64,
    found: &mut JournalFound,
) -> Result<Vec<u8>, LogError> {
    let io = || LogError::io(format!("read {name}"));
    let len = file.len().map_err(io())?;
    let mut bytes = read_exact(file, 0, len.min(FILE_LEN) as usize).map_err(io())?;
    // a file that was cut short is made whole with zeros: what it says then, it says now
    bytes.resize(made_whole(len, whole_len) as usize, 0);
    for at in (0..bytes.len()).step_by(RECORD_ALIGN) {
        let header = match BatchHeader::decode(seed, &bytes[at..]) {
            Ok((header, _)) => header,
            Err(FormatError::NotThere) => continue, // no record starts here
            Err(_) => {
                found.bad_records += 1;
                continue;
            }
        };
        let start = at + BATCH_HEADER_LEN as usize;
        let payload = bytes.get(start..start + header.payload_len as usize);
        let good = payload.filter(|p| header.verify(p).is_ok() && p.len() >= MARK_LEN);
        let Some(payload) = good.filter(|_| header.kind == BatchKind::Cursors) else {
            found.bad_records += 1;
            continue;
        };
        let (mark, payload) = payload.split_at(MARK_LEN);
        let (seen_tail, released) = (LE::read_u64(mark), LE::read_u64(&mark[8..]));
        if below(NUMBER_END, "a number in a mark", &[seen_tail, released]).is_err() {
            found.bad_records += 1;
            continue;
        }
        if found.newest.as_ref().is_none_or(|newest| {
            (newest.generation < header.lsn) != planted(Defect::OldestCursorWins)
        }) {
            found.newest = Some(JournalRecord {
                generation: header.lsn,
                mark: Mark {
                    durable_lsn: header.durable_lsn,
                    durable_tail: header.base_offset,
                    seen_tail,
                    released,
                },
                payload: payload.to_vec(),
                time_ms: header.time_ns / 1_000_000,
            });
        }
    }
    Ok(bytes)
}

/// A record of the journal that does not read back.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct BadRecord {
    /// The file.
    pub file: &'static str,
    /// Where the record starts.
    pub position: u64,
    /// What does not fit.
    pub error: FormatError,
    /// Its number and length in bytes, if its header is good.
    pub header: Option<(u64, u64)>,
}

/// Looks at every record of a journal, older ones too. A record is written as one run of blocks
/// and an older one under it loses its header first: so a header that fails, or a block between
/// rising records that holds none, is damage; a record above the newest good one may be torn.
///
/// # Errors
/// A file can't be read. A missing one is no error.
pub fn check(storage: &dyn Storage, log_uuid: &[u8; 16]) -> Result<Vec<BadRecord>, LogError> {
    let mut bad = Vec::new();
    for file in FILES {
        let opened = match storage.open(file, false) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => continue,
            opened => opened.map_err(LogError::io(format!("open {file}")))?,
        };
        let mut bytes = vec![0; FILE_LEN as usize];
        opened.read_at(0, &mut bytes).map_err(LogError::io(format!("read {file}")))?;
        check_file(file, &bytes, seed(log_uuid), &mut bad);
    }
    Ok(bad)
}

fn check_file(file: &'static str, bytes: &[u8], seed: u32, bad: &mut Vec<BadRecord>) {
    let record = |position: usize| BatchHeader::decode(seed, &bytes[position..]);
    // where the last rising run of records ends: what lies behind is of an earlier turn
    let positions = || (0..bytes.len()).step_by(RECORD_ALIGN);
    let newest = positions().filter_map(|at| Some((record(at).ok()?.0.lsn, at))).max();
    let mut at = 0;
    while at < bytes.len() {
        let position = at as u64;
        at += RECORD_ALIGN;
        let (error, header) = match record(position as usize) {
            Ok((header, _)) => {
                let start = position as usize + BATCH_HEADER_LEN as usize;
                let payload = bytes.get(start..start + header.payload_len as usize);
                let stored = header.stored_len().next_multiple_of(RECORD_ALIGN as u64);
                let error = match payload.map(|payload| header.verify(payload)) {
                    Some(Ok(())) => {
                        at = (position + stored) as usize;
                        continue;
                    }
                    Some(Err(error)) => error,
                    None => FormatError::NotThere,
                };
                (error, Some((header.lsn, stored)))
            }
            Err(FormatError::NotThere) if newest.is_none_or(|(_, at)| position > at as u64) => {
                continue;
            }
            Err(error) => (error, None),
        };
        bad.push(BadRecord { file, position, error, header });
    }
}

/// Opens a file of the journal for writing, and looks at its records; makes it if it is not there.
/// What does not read back goes to `bad`.
fn open_file(
    storage: &dyn Storage,
    name: &'static str,
    seed: u32,
    whole_len: u64,
    found: &mut JournalFound,
    bad: &mut Vec<BadRecord>,
) -> Result<Arc<dyn StorageFile>, LogError> {
    let io = || LogError::io(format!("open {name}"));
    let file = match storage.open(name, true) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            return storage.create(name, whole_len).map_err(io());
        }
        file => file.map_err(io())?,
    };
    // what a killed process left in the page cache becomes durable before it counts, and what only
    // the cache has, after a failed sync, does not count
    unless(Defect::SkipCursorResync, || file.sync()).map_err(io())?;
    unless(Defect::KeepCursorCache, || file.drop_cache(0)).map_err(io())?;
    check_file(name, &read_file(&*file, name, seed, whole_len, found)?, seed, bad);
    let len = file.len().map_err(io())?;
    let whole_len = made_whole(len, whole_len);
    if len == whole_len {
        return Ok(file);
    }
    // cut short or grown from outside: its records may count, so it is replaced by its like
    let whole = format!("{name}.new");
    let kept = read_exact(&*file, 0, len.min(FILE_LEN) as usize).map_err(io())?;
    let file = storage.create(&whole, whole_len).map_err(io())?;
    file.write_at(0, &[IoSlice::new(&kept)]).map_err(io())?;
    file.sync().map_err(io())?;
    storage.rename(&whole, name).map_err(io())?;
    Ok(file)
}

/// The journal of an owner.
pub struct Journal {
    files: [Arc<dyn StorageFile>; 2],
    /// No record ends behind this.
    file_len: u64,
    seed: u32,
    generation: u64,
    /// Which file is written to, and from where on.
    active: usize,
    position: u64,
    dirty: bool,
    /// Whether there are records that do not read back.
    unclear: bool,
    failed: Option<String>,
    closed: bool,
    /// What no later record takes back.
    seen_tail: u64,
    released: u64,
}

impl Journal {
    /// Opens the journal for writing; makes its files, of `file_len` bytes, if they are not there. New records go to the
    /// file that does not hold the newest one.
    ///
    /// # Errors
    /// The files can't be made or read.
    pub fn open(
        storage: &dyn Storage,
        log_uuid: &[u8; 16],
        file_len: u64,
    ) -> Result<(Journal, JournalFound), LogError> {
        let io = || LogError::io("make the cursor journal");
        storage.create_dir(CURSOR_DIR).map_err(io())?;
        let mut found = JournalFound::default();
        let mut newest_in = 1;
        let mut bad = Vec::new();
        let mut files = Vec::with_capacity(2);
        for (i, name) in FILES.into_iter().enumerate() {
            let before = found.newest.as_ref().map(|r| r.generation);
            let seed = seed(log_uuid);
            files.push(open_file(storage, name, seed, file_len, &mut found, &mut bad)?);
            if found.newest.as_ref().map(|r| r.generation) != before {
                newest_in = i;
            }
        }
        // also if they were there: their maker may have been killed before it synced the names
        unless(Defect::SkipCursorDirSync, || storage.sync_dir(CURSOR_DIR)).map_err(io())?;
        let mark = found.newest.as_ref().map(|r| r.mark).unwrap_or_default();
        let journal = Journal {
            files: files.try_into().map_err(|_| ()).expect("two files"),
            file_len,
            seed: seed(log_uuid),
            generation: found.newest.as_ref().map_or(0, |r| r.generation),
            active: if planted(Defect::CursorOverNewest) { newest_in } else { 1 - newest_in },
            position: 0,
            dirty: false,
            unclear: !bad.is_empty(),
            failed: None,
            closed: false,
            seen_tail: mark.seen_tail,
            released: mark.released,
        };
        Ok((journal, found))
    }

    /// What opening decided becomes what the journal says: `released` is gone, known or not. If
    /// there are records that do not read back, the newest one that does is written once more, into
    /// the file that does not hold it, and then nothing but zeros into the file that does. Not
    /// before the log is found to be in order: until then everything stays as evidence.
    ///
    /// # Errors
    /// The journal can't be written.
    pub fn settle(&mut self, found: &JournalFound, released: u64) -> Result<(), LogError> {
        let Some(newest) = &found.newest else { return Ok(()) };
        let mark = Mark { released: newest.mark.released.max(released), ..newest.mark };
        if !self.unclear && mark == newest.mark {
            return Ok(());
        }
        if self.unclear {
            self.wipe(self.active)?;
        }
        self.record(mark, &newest.payload, newest.time_ms)?;
        self.sync()?;
        if std::mem::take(&mut self.unclear) {
            self.wipe(1 - self.active)?;
        }
        Ok(())
    }

    fn wipe(&mut self, file: usize) -> Result<(), LogError> {
        let file = &self.files[file];
        let wiped = file.len().and_then(|len| {
            file.write_at(0, &[IoSlice::new(&vec![0; len as usize])])?;
            file.sync()
        });
        self.check("clear the cursor journal", wiped)
    }

    /// Writes a snapshot. It survives the process from now on, and a power cut after
    /// [`Journal::sync`].
    ///
    /// # Errors
    /// The write failed; the journal takes nothing more until it is opened again.
    pub fn record(&mut self, mark: Mark, payload: &[u8], time_ms: u64) -> Result<(), LogError> {
        self.usable()?;
        // a group that comes later has seen less; segments are gone and numbers used all the same
        self.seen_tail = self.seen_tail.max(mark.seen_tail);
        self.released = self.released.max(mark.released);
        let mut buffer = vec![0; BATCH_HEADER_LEN as usize];
        buffer.extend_from_slice(&self.seen_tail.to_le_bytes());
        buffer.extend_from_slice(&self.released.to_le_bytes());
        buffer.extend_from_slice(payload);
        let payload_len = (buffer.len() - BATCH_HEADER_LEN as usize) as u32;
        let header = BatchHeader {
            kind: BatchKind::Cursors,
            payload_len,
            payload_crc: payload_crc(&buffer[BATCH_HEADER_LEN as usize..]),
            lsn: self.generation + 1,
            base_offset: mark.durable_tail,
            count: 0,
            prev_crc: 0,
            durable_lsn: mark.durable_lsn,
            time_ns: time_ms * 1_000_000,
            flags: 0,
            schema: 0,
            orig_len: payload_len,
        };
        header.encode(self.seed, &mut buffer);
        buffer.resize(buffer.len().next_multiple_of(RECORD_ALIGN), 0);
        if buffer.len() as u64 > self.file_len {
            let reason = format!("cursor snapshot of {} bytes exceeds the journal", buffer.len());
            return Err(LogError::NoSpace { reason });
        }
        if self.position + buffer.len() as u64 > self.file_len {
            self.switch()?;
        }
        let written = unless(Defect::CursorNotWritten, || {
            self.files[self.active].write_at(self.position, &[IoSlice::new(&buffer)])
        });
        self.check("write the cursor journal", written)?;
        self.generation += 1;
        if !planted(Defect::CursorSameBlock) {
            self.position += buffer.len() as u64;
        }
        self.dirty = true;
        Ok(())
    }

    /// Goes on in the other file. The newest record stays where it is until a newer one is whole.
    fn switch(&mut self) -> Result<(), LogError> {
        // before the other file's records are overwritten, this one's must be durable
        unless(Defect::SkipSwitchSync, || self.sync())?;
        if !planted(Defect::CursorSameFile) {
            self.active = 1 - self.active;
        }
        self.position = 0;
        Ok(())
    }

    /// Makes every record so far durable. Free if there is nothing new.
    ///
    /// # Errors
    /// The sync failed; the journal takes nothing more until it is opened again.
    pub fn sync(&mut self) -> Result<(), LogError> {
        self.usable()?;
        if self.dirty {
            let synced = unless(Defect::CursorNotSynced, || self.files[self.active].sync());
            self.check("sync the cursor journal", synced)?;
            self.dirty = false;
        }
        Ok(())
    }

    /// The last sync: the directory may be another owner's from now on. A second call does nothing.
    ///
    /// # Errors
    /// The sync failed.
    pub fn close(&mut self) -> Result<(), LogError> {
        if self.closed {
            return Ok(());
        }
        let synced = self.sync();
        self.closed = true;
        synced
    }

    fn usable(&self) -> Result<(), LogError> {
        if self.closed {
            return Err(LogError::Closed);
        }
        match &self.failed {
            Some(reason) => Err(LogError::Poisoned { reason: reason.clone() }),
            None => Ok(()),
        }
    }

    fn check(&mut self, what: &str, result: std::io::Result<()>) -> Result<(), LogError> {
        if let Err(error) = &result
            && !planted(Defect::CursorFailureForgotten)
        {
            self.failed = Some(format!("{what}: {error}"));
        }
        result.map_err(LogError::io(what))
    }
}
