//! The segment maker: prepares segments off the write path, and turns reclaimed ones into new ones.
//!
//! A spare already has the name it will be used under, and that name is durable: activating it
//! costs no directory operation. It is zero-filled or recycled, so that no sync of a put changes
//! the file system's metadata.

use super::defect::{Defect, unless};
use super::error::LogError;
use super::options::LogOptions;
use super::segment::{SEGMENT_DIR, Segment, segment_name};
use super::storage::{Storage, StorageFile};
use super::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::collections::VecDeque;
use std::io;
use std::time::Duration;

/// How long after a failure the maker tries again.
const RETRY: Duration = Duration::from_millis(500);
/// How often spares that nobody will need soon are removed, and which part of them at least: a
/// removal of 64 MiB takes up to 12 ms of a core, which readers of a backlog would do without.
const TRIM_EVERY: Duration = Duration::from_secs(1);
const TRIM_PART: usize = 32;

/// A prepared segment file.
pub(super) struct Spare {
    pub(super) id: u64,
    pub(super) file: Arc<dyn StorageFile>,
}

struct State {
    spares: VecDeque<Spare>,
    /// The id that the next new spare gets.
    next_id: u64,
    /// When the next spares too many are removed, ns since 1970.
    trim_at_ns: u64,
    /// The fewest spares there were since the last time: so many were not needed.
    least: usize,
    retired: Vec<Arc<Segment>>,
    /// Kept until every retired segment is gone.
    holds_lock: Option<Arc<dyn Send + Sync>>,
    /// Why the last attempt failed.
    error: Option<String>,
    closing: bool,
}

/// Whether it was done now; no error if the file went in an earlier attempt that failed all the same.
fn gone_or(result: io::Result<()>) -> io::Result<bool> {
    match result {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        result => result.map(|()| true),
    }
}

/// Spares, and what makes them.
pub(super) struct Maker {
    storage: Arc<dyn Storage>,
    segment_bytes: u64,
    spare_count: usize,
    free_bytes_min: u64,
    /// Held by who works: what it finds of names and ids stays so until it is done.
    working: Mutex<()>,
    state: Mutex<State>,
    changed: Condvar,
}

impl Maker {
    pub(super) fn new(
        storage: Arc<dyn Storage>,
        options: &LogOptions,
        spares: VecDeque<Spare>,
        next_id: u64,
    ) -> Maker {
        let state = State {
            least: spares.len(),
            spares,
            next_id,
            trim_at_ns: storage.now_ns().saturating_add(TRIM_EVERY.as_nanos() as u64),
            retired: Vec::new(),
            holds_lock: None,
            error: None,
            closing: false,
        };
        Maker {
            storage,
            segment_bytes: options.segment_bytes,
            spare_count: options.spare_count.max(1), // without one nobody would ever make any
            free_bytes_min: options.free_bytes_min,
            working: Mutex::new(()),
            state: Mutex::new(state),
            changed: Condvar::new(),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no holder panics")
    }

    /// The next spare; waits while one is being made.
    ///
    /// # Errors
    /// None could be made: the disk is full, or fails.
    pub(super) fn take(&self, background: bool) -> Result<Spare, LogError> {
        if !background {
            self.work(1);
        }
        let mut state = self.state();
        loop {
            if let Some(spare) = state.spares.pop_front() {
                state.least = state.least.min(state.spares.len());
                self.changed.notify_all();
                return Ok(spare);
            }
            if state.closing {
                return Err(LogError::Closed);
            }
            if let Some(reason) = state.error.clone() {
                return Err(LogError::NoSpace { reason });
            }
            state = self.changed.wait(state).expect("no holder panics");
        }
    }

    /// Takes segments that nobody needs any more; the thread retires them, in this order. Holds
    /// `lock` until they are gone.
    pub(super) fn retire(&self, segments: Vec<Arc<Segment>>, lock: Arc<dyn Send + Sync>) {
        let mut state = self.state();
        state.retired.extend(segments);
        state.holds_lock = Some(lock);
        state.error = None; // what was in the way may not be any more
        self.changed.notify_all();
    }

    /// Lets the holds' lock go: what is not gone yet is another owner's.
    pub(super) fn let_go(&self) {
        self.state().holds_lock = None;
    }

    /// The holds' lock, if it is held for segments that are not yet gone.
    pub(super) fn holds_lock(&self) -> Option<Arc<dyn Send + Sync>> {
        self.state().holds_lock.clone()
    }

    /// Retires what waits, on the calling thread: for a log without threads.
    pub(super) fn retire_now(&self) {
        self.work(0);
    }

    /// The boot of the machine; zeros if it does not matter.
    pub(super) fn boot_id(&self) -> [u8; 16] {
        self.storage.boot_id().unwrap_or_default()
    }

    /// Where the segments are made; it has the clock and the dice too.
    pub(super) fn storage(&self) -> &dyn Storage {
        &*self.storage
    }

    /// Why no segment can be made, if that is so.
    pub(super) fn error(&self) -> Option<String> {
        self.state().error.clone()
    }

    /// The thread's life.
    pub(super) fn run(&self) {
        loop {
            self.work(self.spare_count);
            let state = self.state();
            if state.closing {
                return;
            }
            let idle = state.retired.is_empty() && state.spares.len() >= self.spare_count;
            if state.error.is_some() {
                drop(self.changed.wait_timeout(state, RETRY).expect("no holder panics"));
            } else if idle && state.spares.len() > self.kept() {
                drop(self.changed.wait_timeout(state, TRIM_EVERY).expect("no holder panics"));
            } else if idle {
                drop(self.changed.wait(state).expect("no holder panics"));
            }
        }
    }

    /// Ends the thread. Segments that wait to be removed stay, and are found at the next open.
    pub(super) fn close(&self) {
        self.state().closing = true;
        self.changed.notify_all();
    }

    /// Retires what waits, then makes spares up to `wanted`, and removes some of those that are too
    /// many. One failure is noted and ends it.
    fn work(&self, wanted: usize) {
        let _one_at_a_time = self.working.lock().expect("no holder panics");
        let retired = self.retire_all();
        let done = retired.is_ok();
        let result = retired.and_then(|()| self.fill(wanted)).and_then(|()| self.trim());
        let mut state = self.state();
        // segments that came meanwhile may be what is missing
        let again = done && !state.retired.is_empty();
        state.error = result.err().filter(|_| !again).map(|error| error.to_string());
        self.changed.notify_all();
    }

    /// Retires what waits, oldest first. What fails stays first in the list.
    fn retire_all(&self) -> Result<(), LogError> {
        let mut retired = std::mem::take(&mut self.state().retired).into_iter();
        if retired.len() == 0 {
            return Ok(());
        }
        let mut result = Ok(());
        for segment in retired.by_ref() {
            result = self.retire_one(&segment);
            if result.is_err() {
                self.state().retired.insert(0, segment);
                break;
            }
        }
        let mut state = self.state();
        let at = state.retired.len().min(1);
        state.retired.splice(at..at, retired);
        drop(state);
        let synced = self.sync_names(Defect::SkipDirSyncRecycled);
        let mut state = self.state();
        if state.retired.is_empty() {
            state.holds_lock = None;
        }
        drop(state);
        result.and(synced)
    }

    /// Spares that are kept for good, twice as many as are made ahead: were there no more of them,
    /// the one that a roll takes would be made anew, with all its zeros, before the next segment is
    /// retired, and each event be written twice.
    fn kept(&self) -> usize {
        2 * self.spare_count
    }

    fn free_bytes(&self) -> Result<u64, LogError> {
        self.storage.free_bytes().map_err(LogError::io("ask for free space"))
    }

    /// Whether a disk of `free` bytes has room for a segment and for what must stay free.
    fn is_roomy(&self, free: u64) -> bool {
        free >= self.free_bytes_min.saturating_add(self.segment_bytes)
    }

    /// Recycles a segment if nobody reads it and it will be needed, or the disk has room and its
    /// removal can wait for [`Maker::trim`]; removes it otherwise.
    fn retire_one(&self, segment: &Arc<Segment>) -> Result<(), LogError> {
        let name = segment.name();
        let unused = Arc::strong_count(segment) == 1 && !segment.file.is_lent();
        let fits = unused && segment.header.segment_bytes == self.segment_bytes;
        let (count, id) = {
            let state = self.state();
            (state.spares.len(), state.next_id)
        };
        if !fits || !(count < self.kept() || self.is_roomy(self.free_bytes()?)) {
            return self.remove(&name);
        }
        let spare = segment_name(id);
        let renamed = gone_or(self.storage.rename(&name, &spare));
        if !renamed.map_err(LogError::io(format!("rename {name} to {spare}")))? {
            return Ok(()); // whatever it is called now, the spare is made over it
        }
        self.sync_names(Defect::SkipDirSyncRecycled)?;
        let file =
            self.storage.open(&spare, true).map_err(LogError::io(format!("open {spare}")))?;
        self.add(Spare { id, file });
        Ok(())
    }

    fn remove(&self, name: &str) -> Result<(), LogError> {
        gone_or(self.storage.remove(name)).map(drop).map_err(LogError::io(format!("remove {name}")))
    }

    /// Removes spares that a backlog left and nobody needed for a while: some, or, where the disk
    /// has no room, all.
    fn trim(&self) -> Result<(), LogError> {
        let now = self.storage.now_ns();
        let many = {
            let mut state = self.state();
            if now < state.trim_at_ns {
                return Ok(());
            }
            let many = state.least.saturating_sub(self.kept());
            state.least = state.spares.len();
            state.trim_at_ns = now.saturating_add(TRIM_EVERY.as_nanos() as u64);
            many
        };
        if many == 0 {
            return Ok(());
        }
        let some = if self.is_roomy(self.free_bytes()?) { many.div_ceil(TRIM_PART) } else { many };
        let trimmed = {
            let mut state = self.state();
            let left = state.spares.len().saturating_sub(some); // rolls may have taken some since
            let trimmed = state.spares.split_off(left);
            state.next_id -= trimmed.len() as u64;
            state.least = state.least.min(left);
            trimmed
        };
        // the last one first: what a kill leaves has no gap. Behind one, opening removes them
        trimmed.iter().rev().try_for_each(|spare| self.remove(&segment_name(spare.id)))
    }

    fn fill(&self, wanted: usize) -> Result<(), LogError> {
        loop {
            let id = {
                let state = self.state();
                // what was reclaimed meanwhile is cheaper than a new one
                let reclaimed = !state.retired.is_empty();
                if state.closing || reclaimed || state.spares.len() >= wanted {
                    return Ok(());
                }
                state.next_id
            };
            self.add(Spare { id, file: self.make(id)? });
        }
    }

    fn make(&self, id: u64) -> Result<Arc<dyn StorageFile>, LogError> {
        let name = segment_name(id);
        let free = self.free_bytes()?;
        if !self.is_roomy(free) {
            let reason = format!(
                "{free} bytes free in {}, a segment needs {} and {} must stay free",
                self.storage.describe(),
                self.segment_bytes,
                self.free_bytes_min
            );
            return Err(LogError::NoSpace { reason });
        }
        let made = self.storage.create(&name, self.segment_bytes);
        let file = made.map_err(LogError::io(format!("make {name}")))?;
        self.sync_names(Defect::SkipDirSyncNew)?;
        Ok(file)
    }

    /// Makes the names of the segments durable, unless that defect is planted.
    fn sync_names(&self, unless_planted: Defect) -> Result<(), LogError> {
        let synced = unless(unless_planted, || self.storage.sync_dir(SEGMENT_DIR));
        synced.map_err(LogError::io("sync the segment directory"))
    }

    fn add(&self, spare: Spare) {
        let mut state = self.state();
        assert_eq!(spare.id, state.next_id, "spares are made in order");
        state.next_id += 1;
        state.spares.push_back(spare);
        self.changed.notify_all();
    }
}
