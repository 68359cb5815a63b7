//! The engine: a segmented, checksummed, durable log of records, with cursors. It knows nothing of
//! Flume, of events' headers, of sinks or of an async runtime.
//!
//! - **Write path**: positioned writes into segments prepared off the write path, one `fdatasync`
//!   per group of puts ([`Log::put`], [`Log::submit`]). A put returns when its bytes are as durable
//!   as [`Durability`] says. Stores through a mapping were measured and left: a 4 KiB store can
//!   dirty 1 MiB of large folio, and their errors are signals.
//! - **Read path**: segments mapped for reading; events are slices of the mapping ([`Reader`]).
//! - **Cursors**: snapshots in a journal of their own ([`Log::save_cursors`]).
//! - **Recovery**: one decision table (`recovery`). Nothing acknowledged is cut, ever.
//! - **Storage**: everything goes through [`Storage`], so that faults and crashes can be simulated.
//!
//! ```no_run
//! use levada::log::{BatchBuilder, Log, LogOptions};
//! let (log, _) = Log::open_dir("my-log", LogOptions::default())?;
//! let mut batch = BatchBuilder::new();
//! batch.push(b"a record");
//! let offsets = log.put(batch)?; // durable now
//! let mut reader = log.reader();
//! let read = reader.read(offsets, 100)?;
//! assert_eq!(read.batch.len(), 1);
//! log.close()?;
//! # Ok::<(), levada::log::LogError>(())
//! ```

mod batch;
pub mod defect;
mod error;
mod format;
mod holds;
mod journal;
mod maker;
mod open;
mod options;
mod reader;
mod recovery;
mod retention;
mod room;
mod scan;
mod segment;
mod sequence;
mod storage;
mod stray;
mod sync;
mod ticket;
mod writer;

pub use batch::BatchBuilder;
pub use error::{FormatError, LogError};
pub use format::{
    FORMAT_MAJOR, FORMAT_MINOR, INCOMPAT_GAP, IndexEntry, META_LEN, Meta, SEGMENT_HEADER_LEN, Seal,
    SegmentHeader, State, TRAILER_LEN, Trailer, seal_position, usable_end,
};
pub use holds::{HOLDS_FILE, Hold, lock_holds, read_holds, write_holds};
pub use journal::{
    BadRecord, JournalFound, JournalRecord, Mark, check as check_journal, read as read_journal,
};
pub use open::{
    LOCK_FILE, Listing, OpenReport, evidence_of, list_segments, newest_header, read_meta,
    read_state,
};
pub use options::{Durability, LogOptions, OnCorruption};
pub use reader::{Missing, MissingReason, ReadOutcome, Reader};
pub use recovery::{Cut, DECISIONS, Damage, Evidence, TailScan, Verdict, scan_tail};
pub use retention::{Now, Retention, Span};
pub use room::Usage;
pub use scan::{Batches, FaultKind, FoundBatch, Hole, Place, Step, Walk, is_data};
pub use segment::{Segment, SegmentEnd, Summary, Summing, segment_name};
pub use storage::memory::MemoryStorage;
pub use storage::{FileStorage, Storage, StorageFile, View, slice};
pub use stray::{SpareFile, strays};
pub use ticket::{PutResult, Ticket};
pub use writer::{Tails, WriteCounts};

use crate::offset::Offset;
use defect::{Defect, planted};
use journal::Journal;
use std::path::Path;
use std::time::Duration;
use sync::thread::{self, JoinHandle};
use sync::{Arc, Instant, Mutex, MutexGuard};
use writer::Writer;

/// A log, owned by this process until it is closed or dropped.
pub struct Log {
    writer: Arc<Writer>,
    journal: Mutex<Journal>,
    threads: Mutex<Vec<JoinHandle<()>>>,
    /// `None` once the log is closed.
    lock: Mutex<Option<Box<dyn Send + Sync>>>,
}

/// What opening a log brings beside the log.
pub struct Opened {
    /// What was found and done.
    pub report: OpenReport,
    /// The newest saved cursors.
    pub cursors: Option<Vec<u8>>,
}

impl Log {
    /// Opens the log in the directory `dir`, or makes it. See [`Log::open`].
    ///
    /// # Errors
    /// As [`Log::open`].
    pub fn open_dir(dir: impl AsRef<Path>, options: LogOptions) -> Result<(Log, Opened), LogError> {
        Log::open(Arc::new(FileStorage::new(dir.as_ref())), options)
    }

    /// A log in anonymous memory: the same engine, nothing survives the process.
    ///
    /// # Errors
    /// Memory for its fixed files can't be had.
    pub fn in_memory(options: LogOptions) -> Result<(Log, Opened), LogError> {
        let options = LogOptions { durability: Durability::Os, ..options };
        Log::open(Arc::new(MemoryStorage::default()), options)
    }

    /// Opens the log in `storage`, or makes it. The time it takes does not grow with the backlog.
    ///
    /// # Errors
    /// Somebody else owns it; it is not a log, or of another version; acknowledged bytes are
    /// damaged and `on_corruption` is `halt`; the storage fails. Nothing that was acknowledged is
    /// changed in any of these cases.
    pub fn open(storage: Arc<dyn Storage>, options: LogOptions) -> Result<(Log, Opened), LogError> {
        let background = options.background;
        let parts = open::open(storage, options)?;
        let writer = Arc::new(parts.writer);
        let mut threads = Vec::new();
        if background {
            for (name, run) in
                [("levada-log", Writer::run as fn(&Writer)), ("levada-maker", run_maker)]
            {
                let writer = Arc::clone(&writer);
                let thread = thread::Builder::new().name(name.to_owned());
                let spawned = thread.spawn(move || run(&writer));
                threads.push(spawned.map_err(LogError::io("start the log's threads")));
            }
        }
        let failed = threads.iter().find_map(|thread| thread.as_ref().err().cloned());
        let log = Log {
            writer,
            journal: Mutex::new(parts.journal),
            threads: Mutex::new(threads.into_iter().flatten().collect()),
            lock: Mutex::new(Some(parts.lock)),
        };
        if let Some(error) = failed {
            return Err(error); // dropped, the log stops the thread that runs
        }
        Ok((log, Opened { report: parts.report, cursors: parts.cursors }))
    }

    /// Puts a batch and waits until it is as durable as the options say. Waits for room as long as
    /// it takes. A lone caller does the write and the sync itself, without a thread hop.
    ///
    /// # Errors
    /// [`LogError::Poisoned`] and [`LogError::Io`]: the log failed, and whether this batch is in it
    /// nobody knows. Otherwise it is not.
    pub fn put(&self, batch: BatchBuilder) -> PutResult {
        self.put_within(batch, None)
    }

    /// As [`Log::put`], but waits for room at most `wait`.
    ///
    /// # Errors
    /// As [`Log::put`], and [`LogError::Full`].
    pub fn put_within(&self, batch: BatchBuilder, wait: Option<Duration>) -> PutResult {
        let (count, bytes) = self.size_of(&batch)?;
        if !self.writer.room.try_reserve(count, bytes) {
            // one that no clock reaches is none
            let deadline = wait.and_then(|wait| Instant::now().checked_add(wait));
            let room = self.writer.room.reserve(count, bytes);
            if ticket::block_on(room, deadline).is_none() {
                return Err(self.full());
            }
        }
        self.writer.put(batch.seal())
    }

    /// Waits for room for `batch`; the next [`Log::submit`] of it has a place. Drop the future to
    /// give up.
    ///
    /// # Errors
    /// [`LogError::TooLarge`].
    pub async fn reserve(&self, batch: &BatchBuilder) -> Result<(), LogError> {
        let (count, bytes) = self.size_of(batch)?;
        if !self.writer.room.try_reserve(count, bytes) {
            self.writer.room.reserve(count, bytes).await;
        }
        Ok(())
    }

    /// Takes room for `batch` if there is some now.
    ///
    /// # Errors
    /// [`LogError::TooLarge`].
    pub fn try_reserve(&self, batch: &BatchBuilder) -> Result<bool, LogError> {
        let (count, bytes) = self.size_of(batch)?;
        Ok(self.writer.room.try_reserve(count, bytes))
    }

    /// Queues a batch for which room was reserved; the ticket is a future of its offsets. Batches
    /// are committed in the order of these calls. The log's own thread does the work.
    pub fn submit(&self, batch: BatchBuilder) -> Ticket {
        let ticket = self.writer.submit(batch.seal());
        self.writer.wake();
        ticket
    }

    /// As [`Log::submit`], but nobody is woken: it goes with the next group. For simulations, which
    /// say what a group is.
    #[cfg(any(test, feature = "sim"))]
    pub fn queue(&self, batch: BatchBuilder) -> Ticket {
        self.writer.submit(batch.seal())
    }

    /// What a full log says.
    pub fn full(&self) -> LogError {
        let Usage { events, bytes } = self.usage();
        LogError::Full { events, bytes }
    }

    fn size_of(&self, batch: &BatchBuilder) -> Result<(u64, u64), LogError> {
        let limit = format::payload_bytes_max(self.writer.options.segment_bytes);
        let size = batch.byte_len() as u64;
        if size > limit {
            return Err(LogError::TooLarge { size, limit });
        }
        let stored = format::round_up(format::BATCH_HEADER_LEN + size, format::BATCH_ALIGN);
        Ok((batch.count().into(), stored))
    }

    /// A reader of its own place.
    pub fn reader(&self) -> Reader {
        Reader::new(Arc::clone(&self.writer))
    }

    /// How far the log has come.
    pub fn tails(&self) -> Tails {
        self.writer.tails()
    }

    /// How much of the capacity is used.
    pub fn usage(&self) -> Usage {
        self.writer.room.usage()
    }

    /// What has been written since the log was opened.
    pub fn counts(&self) -> WriteCounts {
        self.writer.counts()
    }

    /// Why the log takes no more puts, if that is so.
    pub fn poisoned(&self) -> Option<&str> {
        self.writer.poisoned()
    }

    /// Why no new segment can be made, if that is so (a full disk). Ends by itself.
    pub fn starved(&self) -> Option<String> {
        self.writer.maker.error()
    }

    /// The log's identity.
    pub fn uuid(&self) -> uuid::Uuid {
        uuid::Uuid::from_bytes(self.writer.log_uuid)
    }

    /// Calls `listener` after each growth of the tails and after a failure, on the thread that
    /// caused it: it must be quick and must not call the log.
    pub fn listen(&self, listener: impl Fn() + Send + Sync + 'static) {
        self.writer.listen(Box::new(listener));
    }

    /// Syncs what was put at `interval` or `os`.
    ///
    /// # Errors
    /// The sync failed: the log is poisoned.
    pub fn sync(&self) -> Result<(), LogError> {
        self.writer.sync()
    }

    /// Saves the cursors' bytes. They survive the process from now on, and a power cut after
    /// [`Log::sync_cursors`]. `seen_tail`: offset behind the last event any sink has seen;
    /// `released`: every group is done with what lies below. Makes room for puts.
    ///
    /// # Errors
    /// The journal can't be written. Acknowledgements since the last save may be lost in a crash:
    /// redelivery, no loss.
    pub fn save_cursors(
        &self,
        cursors: &[u8],
        seen_tail: Offset,
        released: Offset,
    ) -> Result<(), LogError> {
        let mut journal = self.lock_journal();
        // with the journal held: a newer record never says less than an older one
        let Tails { mut durable_lsn, durable_tail, written_lsn, .. } = self.tails();
        if planted(Defect::CursorAheadOfLog) {
            durable_lsn = written_lsn;
        }
        let (seen_tail, released) = (seen_tail.0, released.0);
        let mark = Mark { durable_lsn, durable_tail: durable_tail.0, seen_tail, released };
        let time_ms = self.writer.now_ns() / 1_000_000;
        journal.record(mark, cursors, time_ms)?;
        drop(journal);
        self.writer.taken_back(released);
        if !planted(Defect::NothingReleased) {
            self.writer.room.release(released);
        }
        Ok(())
    }

    /// Makes the saved cursors durable.
    ///
    /// # Errors
    /// The journal can't be synced.
    pub fn sync_cursors(&self) -> Result<(), LogError> {
        self.lock_journal().sync()
    }

    /// Gives the sealed segments wholly below `released` back, but never the last one that is
    /// durable, nothing that [`LogOptions::retention`] keeps, and nothing of a [`Hold`]. The caller
    /// has made cursors durable that are at or above `released`. What is kept goes by itself when
    /// the disk or the capacity needs its room. Returns how many segments; of a closed log none,
    /// for they may be another owner's.
    pub fn reclaim(&self, released: Offset) -> usize {
        if self.writer.is_closed() {
            return 0;
        }
        self.writer.reclaim(released.0)
    }

    /// Seals and closes the log: a clean close leaves nothing to recover. Readers go on; puts get
    /// [`LogError::Closed`]. A second call waits for the first, and does nothing.
    ///
    /// # Errors
    /// What could not be written. What was acknowledged is as safe as it was.
    pub fn close(&self) -> Result<(), LogError> {
        // held to the end: a second call must not return, and let another owner in, before that
        let mut threads = self.threads.lock().expect("no holder panics");
        self.writer.stop();
        self.writer.maker.close();
        for thread in std::mem::take(&mut *threads) {
            thread.join().expect("the log's threads do not panic");
        }
        if self.writer.is_closed() {
            return Ok(());
        }
        let saved = self.lock_journal().close();
        let closed = self.writer.close().and(saved);
        self.writer.maker.let_go();
        *self.lock.lock().expect("no holder panics") = None;
        closed
    }

    fn lock_journal(&self) -> MutexGuard<'_, Journal> {
        self.journal.lock().expect("no holder panics")
    }
}

impl Drop for Log {
    fn drop(&mut self) {
        if let Err(error) = self.close() {
            tracing::warn!(target: "levada::log", "close the log: {error}");
        }
    }
}

fn run_maker(writer: &Writer) {
    writer.maker.run();
}

#[cfg(test)]
mod tests;
