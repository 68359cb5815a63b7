//! A disk in memory for shuttle's schedules: others may come in the middle of a write and of a sync,
//! it knows which batches were synced, and a sync of it can fail, once.

use super::*;
use crate::log::segment::SEGMENT_DIR;
use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, IoSlice};

/// A disk; clones are the same one.
#[derive(Clone, Default)]
pub(super) struct Disk {
    memory: Arc<MemoryStorage>,
    seen: Arc<Mutex<Seen>>,
}

#[derive(Default)]
struct Seen {
    /// First records of batches that were written and not synced, by segment.
    unsynced: BTreeMap<String, Vec<u64>>,
    synced: BTreeSet<u64>,
    /// How many syncs of segments succeed before one fails.
    syncs_left: Option<u64>,
    failed: bool,
    /// Writes and syncs of segments after the failure.
    calls_after_failure: u64,
    /// Segments that were removed or recycled, in this order.
    retired: Vec<String>,
    /// How many segments can't be made.
    creates_to_fail: u64,
    /// A defect for the tests' own test: what is synced is on the disk only with the next sync.
    late: bool,
}

impl Disk {
    /// After `syncs` more syncs of segments, one fails.
    pub(super) fn fail_sync(&self, syncs: u64) {
        self.seen.lock().unwrap().syncs_left = Some(syncs);
    }

    pub(super) fn fail_creates(&self, creates: u64) {
        self.seen.lock().unwrap().creates_to_fail = creates;
    }

    pub(super) fn sync_late(&self) {
        self.seen.lock().unwrap().late = true;
    }

    pub(super) fn has_failed(&self) -> bool {
        self.seen.lock().unwrap().failed
    }

    pub(super) fn calls_after_failure(&self) -> u64 {
        self.seen.lock().unwrap().calls_after_failure
    }

    /// Whether the batch whose first record is `id` is on the disk for good.
    pub(super) fn is_synced(&self, id: u64) -> bool {
        self.seen.lock().unwrap().synced.contains(&id)
    }

    pub(super) fn retired(&self) -> Vec<String> {
        self.seen.lock().unwrap().retired.clone()
    }

    fn retire(&self, name: &str) {
        if name.starts_with(SEGMENT_DIR) {
            self.seen.lock().unwrap().retired.push(name.to_owned());
        }
    }

    fn file(&self, name: &str, file: Arc<dyn StorageFile>) -> Arc<dyn StorageFile> {
        if !name.starts_with(SEGMENT_DIR) {
            return file;
        }
        Arc::new(SegmentFile { name: name.to_owned(), file, seen: Arc::clone(&self.seen) })
    }
}

/// A segment's file.
struct SegmentFile {
    name: String,
    file: Arc<dyn StorageFile>,
    seen: Arc<Mutex<Seen>>,
}

/// The first record of a batch, if it starts with a number.
fn first_record(buffer: &[u8]) -> Option<u64> {
    let at = crate::log::format::BATCH_HEADER_LEN as usize + 4;
    buffer.get(at..at + 8).map(LE::read_u64)
}

impl StorageFile for SegmentFile {
    fn len(&self) -> io::Result<u64> {
        self.file.len()
    }

    fn read_at(&self, position: u64, buffer: &mut [u8]) -> io::Result<usize> {
        self.file.read_at(position, buffer)
    }

    fn write_at(&self, position: u64, buffers: &[IoSlice<'_>]) -> io::Result<()> {
        let mut at = position;
        for buffer in buffers {
            // not as a whole: who reads above the tail gets half of it
            let (front, back) = buffer.split_at(buffer.len() / 2);
            self.file.write_at(at, &[IoSlice::new(front)])?;
            let mut seen = self.seen.lock().unwrap();
            self.file.write_at(at + front.len() as u64, &[IoSlice::new(back)])?;
            let failed = u64::from(seen.failed);
            seen.calls_after_failure += failed;
            seen.unsynced.entry(self.name.clone()).or_default().extend(first_record(buffer));
            at += buffer.len() as u64;
        }
        Ok(())
    }

    fn sync(&self) -> io::Result<()> {
        let mut seen = self.seen.lock().unwrap();
        let failed = u64::from(seen.failed);
        seen.calls_after_failure += failed;
        if seen.syncs_left == Some(0) && !seen.failed {
            seen.failed = true;
            return Err(io::Error::from_raw_os_error(5));
        }
        seen.syncs_left = seen.syncs_left.map(|left| left.saturating_sub(1));
        let unsynced = seen.unsynced.entry(self.name.clone()).or_default();
        let under_way = std::mem::take(unsynced);
        drop(seen); // what is written from now on is the next sync's
        let mut seen = self.seen.lock().unwrap();
        if seen.late {
            seen.unsynced.entry(self.name.clone()).or_default().extend(under_way);
            seen.late = false;
        } else {
            seen.synced.extend(under_way);
        }
        Ok(())
    }

    fn drop_cache(&self, position: u64) -> io::Result<()> {
        self.file.drop_cache(position)
    }

    fn view(&self) -> io::Result<Arc<dyn View>> {
        drop(self.seen.lock().unwrap()); // others may come, and take the file away
        self.file.view()
    }

    fn is_lent(&self) -> bool {
        self.file.is_lent()
    }
}

impl Storage for Disk {
    fn describe(&self) -> String {
        self.memory.describe()
    }

    fn create_dir(&self, dir: &str) -> io::Result<()> {
        self.memory.create_dir(dir)
    }

    fn create(&self, name: &str, len: u64) -> io::Result<Arc<dyn StorageFile>> {
        let mut seen = self.seen.lock().unwrap();
        if name.starts_with(SEGMENT_DIR) && seen.creates_to_fail > 0 {
            seen.creates_to_fail -= 1;
            return Err(io::Error::from_raw_os_error(28));
        }
        drop(seen);
        Ok(self.file(name, self.memory.create(name, len)?))
    }

    fn open(&self, name: &str, write: bool) -> io::Result<Arc<dyn StorageFile>> {
        Ok(self.file(name, self.memory.open(name, write)?))
    }

    fn list(&self, dir: &str) -> io::Result<Vec<(String, u64)>> {
        self.memory.list(dir)
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.retire(from);
        self.memory.rename(from, to)
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        self.retire(name);
        self.memory.remove(name)
    }

    fn sync_dir(&self, dir: &str) -> io::Result<()> {
        self.memory.sync_dir(dir)
    }

    fn lock(&self, name: &str, owner: &str) -> io::Result<Result<Box<dyn Send + Sync>, String>> {
        self.memory.lock(name, owner)
    }

    fn free_bytes(&self) -> io::Result<u64> {
        self.memory.free_bytes()
    }

    fn boot_id(&self) -> Option<[u8; 16]> {
        self.memory.boot_id()
    }
}
