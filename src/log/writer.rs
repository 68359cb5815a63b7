//! Group commit: queue → write → sync → publish the durable tail → wake.
//!
//! Whoever holds the core is the writer. A blocking put that finds it free leads its own group, so
//! that a lone producer pays no thread hop; otherwise the log thread works while anything is queued,
//! and puts that arrive during a sync share the next one.

mod core;
mod gather;
mod group;
mod reclaim;

use self::core::Core;
use self::gather::Returns;
use super::batch::SealedBatch;
use super::defect::{Defect, planted};
use super::error::LogError;
use super::format::{GROUP_ALIGN, STATE_LEN, State};
use super::maker::Maker;
use super::options::{Durability, LogOptions};
use super::room::Room;
use super::segment::{Segment, SegmentEnd};
use super::storage::StorageFile;
use super::sync::{
    Arc, AtomicBool, Condvar, Instant, Mutex, MutexGuard, OnceLock, Ordering, RwLock,
};
use super::ticket::{Crowds, PutResult, Ticket};
use crate::offset::Offset;
use std::collections::VecDeque;
use std::io::IoSlice;
use std::time::Duration;

/// Most bytes of a group, unless a single batch has more.
const GROUP_BYTES_MAX: usize = 4 << 20;
/// Most batches of a group: with the pad they fit into one vectored write.
const GROUP_BATCHES_MAX: usize = 512;
/// How long the log must be idle before a watermark batch says how far it is durable.
const IDLE: Duration = Duration::from_millis(100);

const ZEROS: [u8; GROUP_ALIGN as usize] = [0; GROUP_ALIGN as usize];

/// How far the log has come. Each only grows.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Tails {
    /// Everything below is written.
    pub written_lsn: u64,
    /// Everything below is synced.
    pub durable_lsn: u64,
    /// Next offset to write.
    pub tail: Offset,
    /// Next offset not yet synced.
    pub durable_tail: Offset,
}

struct Pending {
    batch: SealedBatch,
    ticket: Ticket,
}

#[derive(Default)]
struct Queue {
    pending: VecDeque<Pending>,
    /// Who queues now; see [`Crowds`].
    crowd: u64,
    /// Who gathers a group wants to be told when so many are here.
    wanted: Option<usize>,
    closing: bool,
}

/// Where recovery left the log.
pub(super) struct Resume {
    pub(super) previous: Option<(u64, SegmentEnd)>,
    pub(super) next_base_lsn: u64,
    pub(super) next_offset: u64,
    /// Whether `next_offset` is not where the last segment ended.
    pub(super) gap: bool,
}

/// Everything the writer shares with producers and readers.
pub(super) struct Writer {
    pub(super) options: LogOptions,
    pub(super) log_uuid: [u8; 16],
    epoch: u64,
    boot_id: [u8; 16],
    pid: u32,
    pub(super) maker: Maker,
    pub(super) room: Room,
    pub(super) segments: RwLock<VecDeque<Arc<Segment>>>,
    queue: Mutex<Queue>,
    queued: Condvar,
    gathered: Condvar,
    crowds: Crowds,
    core: Mutex<Core>,
    tails: Mutex<Tails>,
    poison: OnceLock<String>,
    closed: AtomicBool,
    state_file: Arc<dyn StorageFile>,
    listeners: Mutex<Vec<Box<dyn Fn() + Send + Sync>>>,
    counts: Mutex<WriteCounts>,
    /// Why the holds could not be read, when that was said.
    pub(super) holds_problem: Mutex<Option<String>>,
}

/// What the writer has done since the log was opened.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct WriteCounts {
    /// Groups written.
    pub groups: u64,
    /// Puts in them.
    pub batches: u64,
    /// Events in them.
    pub events: u64,
    /// Bytes in them, headers and padding included.
    pub bytes: u64,
    /// Syncs of segments.
    pub syncs: u64,
}

pub(super) struct WriterParts {
    pub(super) options: LogOptions,
    pub(super) log_uuid: [u8; 16],
    pub(super) epoch: u64,
    pub(super) boot_id: [u8; 16],
    pub(super) maker: Maker,
    pub(super) released: u64,
    pub(super) segments: VecDeque<Arc<Segment>>,
    pub(super) state_file: Arc<dyn StorageFile>,
    pub(super) resume: Resume,
}

impl Writer {
    pub(super) fn new(parts: WriterParts) -> Writer {
        let WriterParts { options, log_uuid, epoch, boot_id, segments, resume, .. } = parts;
        let lsn = resume.previous.map_or(0, |(_, end)| end.lsn);
        let tail = Offset(resume.next_offset);
        let tails = Tails { written_lsn: lsn, durable_lsn: lsn, tail, durable_tail: tail };
        let released = parts.released.min(tail.0);
        let room = Room::new(options.capacity_events, options.capacity_bytes, tail.0, released);
        let core = Core {
            active: None,
            chain: resume.previous.map_or(0, |(_, end)| end.chain),
            previous: resume.previous,
            next_base_lsn: resume.next_base_lsn,
            next_offset: resume.next_offset,
            gap: resume.gap,
            tails,
            evident_lsn: lsn,
            returns: Returns::default(),
            untold: None,
            last_time_ns: resume.previous.map_or(0, |(_, end)| end.last_time_ms * 1_000_000),
        };
        let writer = Writer {
            options,
            log_uuid,
            epoch,
            boot_id,
            pid: std::process::id(),
            maker: parts.maker,
            room,
            segments: RwLock::new(segments),
            queue: Mutex::default(),
            queued: Condvar::new(),
            gathered: Condvar::new(),
            crowds: Crowds::default(),
            core: Mutex::new(core),
            tails: Mutex::new(tails),
            poison: OnceLock::new(),
            closed: AtomicBool::new(false),
            state_file: parts.state_file,
            listeners: Mutex::default(),
            counts: Mutex::default(),
            holds_problem: Mutex::default(),
        };
        writer.recount();
        writer.write_state(&tails, false);
        writer
    }

    /// Queues a batch that has its place in the room. The ticket says what became of it.
    pub(super) fn submit(&self, batch: SealedBatch) -> Ticket {
        self.enqueue(batch).0
    }

    /// As [`Writer::submit`], and waits for what became of it; the caller leads if nobody does.
    pub(super) fn put(&self, batch: SealedBatch) -> PutResult {
        let (ticket, crowd) = self.enqueue(batch);
        self.lead();
        self.crowds.wait(&ticket, crowd)
    }

    /// Queues a batch; its ticket, and the crowd it is of.
    fn enqueue(&self, batch: SealedBatch) -> (Ticket, u64) {
        let ticket = Ticket::default();
        let mut queue = self.lock_queue();
        let crowd = queue.crowd;
        if queue.closing || self.poison.get().is_some() {
            drop(queue);
            self.refuse(Pending { batch, ticket: ticket.twin() }, self.why_not());
            return (ticket, crowd);
        }
        queue.pending.push_back(Pending { batch, ticket: ticket.twin() });
        if queue.wanted.is_some_and(|wanted| wanted <= queue.pending.len()) {
            queue.wanted = None;
            self.gathered.notify_one();
        }
        (ticket, crowd)
    }

    /// Wakes the log thread for what was submitted.
    pub(super) fn wake(&self) {
        if self.options.background {
            self.queued.notify_one();
        } else {
            self.drain();
        }
    }

    /// Leads a group if nobody does; otherwise leaves it to the log thread.
    pub(super) fn lead(&self) {
        if !self.options.background {
            return self.drain();
        }
        if let Ok(mut core) = self.core.try_lock() {
            self.commit(&mut core, || false);
            self.hand_over(core);
        }
    }

    /// Lets the core go; what was queued meanwhile is the log thread's.
    fn hand_over(&self, core: MutexGuard<'_, Core>) {
        drop(core);
        if !self.lock_queue().pending.is_empty() {
            self.queued.notify_one();
        }
    }

    /// Commits groups until nothing is queued.
    fn drain(&self) {
        self.drain_until(None);
    }

    /// Commits groups until nothing is queued, or something else is due.
    fn drain_until(&self, due: Option<Instant>) {
        let mut core = self.lock_core();
        self.commit(&mut core, || due.is_none_or(|due| Instant::now() < due));
    }

    /// The log thread's life.
    pub(super) fn run(&self) {
        let tick = match self.options.durability {
            Durability::Interval(interval) => interval.min(IDLE).max(Duration::from_millis(1)),
            Durability::Always | Durability::Os => IDLE,
        };
        let mut synced = Instant::now();
        loop {
            let queue = self.lock_queue();
            let wait = |queue: &mut Queue| queue.pending.is_empty() && !queue.closing;
            let waited = self.queued.wait_timeout_while(queue, tick, wait);
            let (queue, timeout) = waited.expect("no holder panics");
            let closing = queue.closing;
            drop(queue);
            // under constant load the queue is never empty, and the sync is due all the same
            let interval = match self.options.durability {
                Durability::Interval(interval) => Some(interval),
                Durability::Always | Durability::Os => None,
            };
            self.drain_until(interval.and_then(|interval| synced.checked_add(interval)));
            if interval.is_some_and(|interval| synced.elapsed() >= interval) {
                let _ = self.sync(); // a failure poisons the log, and is reported there
                synced = Instant::now();
            } else if timeout.timed_out() {
                self.mark_durable();
            }
            if closing {
                return;
            }
        }
    }

    /// Takes no more puts. What is queued is still written.
    pub(super) fn stop(&self) {
        self.lock_queue().closing = true;
        self.queued.notify_all();
        self.room.close();
    }

    /// Seals the active segment; the last call of an owner.
    pub(super) fn close(&self) -> Result<(), LogError> {
        self.drain();
        let mut core = self.lock_core();
        let sealed = match self.poison.get() {
            None => self.seal_active(&mut core),
            Some(reason) => Err(LogError::Poisoned { reason: reason.clone() }),
        };
        self.closed.store(true, Ordering::Relaxed);
        self.write_state(&core.tails, sealed.is_ok());
        sealed
    }

    /// Syncs everything written so far.
    pub(super) fn sync(&self) -> Result<(), LogError> {
        let mut core = self.lock_core();
        self.usable()?;
        let mut synced = Ok(());
        if core.tails.durable_lsn < core.tails.written_lsn {
            synced = self.sync_active(&mut core);
            self.write_state(&core.tails, false);
            self.notify();
        }
        self.hand_over(core); // also after a failure: who is queued must hear of it
        synced
    }

    pub(super) fn tails(&self) -> Tails {
        *self.tails.lock().expect("no holder panics")
    }

    pub(super) fn counts(&self) -> WriteCounts {
        *self.counts.lock().expect("no holder panics")
    }

    pub(super) fn poisoned(&self) -> Option<&str> {
        self.poison.get().map(String::as_str)
    }

    /// Calls `listener` after each growth of the tails and after a failure.
    pub(super) fn listen(&self, listener: Box<dyn Fn() + Send + Sync>) {
        self.listeners.lock().expect("no listener panics").push(listener);
    }

    /// Whether the log still takes puts.
    pub(super) fn usable(&self) -> Result<(), LogError> {
        match self.poison.get() {
            Some(_) if planted(Defect::PoisonForgotten) => Ok(()),
            Some(reason) => Err(LogError::Poisoned { reason: reason.clone() }),
            None => Ok(()),
        }
    }

    /// Whether the log was closed.
    pub(super) fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Relaxed)
    }

    fn lock_queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().expect("no holder panics")
    }

    fn lock_core(&self) -> MutexGuard<'_, Core> {
        self.core.lock().expect("no holder panics")
    }

    fn why_not(&self) -> LogError {
        self.usable().err().unwrap_or(LogError::Closed)
    }

    /// A failed write or sync ends acknowledgement for good: nothing is tried again.
    fn check(
        &self,
        what: impl FnOnce() -> String,
        result: std::io::Result<()>,
    ) -> Result<(), LogError> {
        let Err(error) = result else { return Ok(()) };
        let what = what();
        if !planted(Defect::FailureDoesNotPoison)
            && self.poison.set(format!("{what}: {error}")).is_ok()
        {
            tracing::error!(target: "levada::log", "log poisoned: {what}: {error}");
            self.room.close(); // whoever waits for room would wait for ever
            self.write_state(&self.tails(), false);
            self.notify();
        }
        Err(LogError::io(what)(error))
    }

    fn publish(&self, tails: &Tails) {
        let mut shared = self.tails.lock().expect("no holder panics");
        assert!(shared.durable_lsn <= tails.durable_lsn, "the durable tail only grows");
        assert!(shared.tail <= tails.tail, "the tail only grows");
        assert!(tails.durable_lsn <= tails.written_lsn, "durable is written");
        *shared = *tails;
    }

    /// Writes where the log is, for those who look on. Not synced: a failure here costs evidence
    /// and nothing else.
    fn write_state(&self, tails: &Tails, clean: bool) {
        let segments = self.segments.read().expect("no holder panics");
        let active = segments.back().filter(|segment| segment.end().is_none());
        let state = State {
            epoch: self.epoch,
            boot_id: self.boot_id,
            pid: self.pid,
            clean,
            poisoned: self.poison.get().is_some(),
            written_lsn: tails.written_lsn,
            durable_lsn: match planted(Defect::TailAheadInState) {
                false => tails.durable_lsn,
                true => tails.written_lsn,
            },
            tail: tails.tail.0,
            durable_tail: tails.durable_tail.0,
            segment_id: active.map_or(0, |segment| segment.id()),
            time_ms: self.now_ns() / 1_000_000,
        };
        let bytes: [u8; STATE_LEN as usize] = state.encode();
        let _ = self.state_file.write_at(0, &[IoSlice::new(&bytes)]);
    }

    pub(super) fn now_ns(&self) -> u64 {
        self.maker.storage().now_ns()
    }

    fn notify(&self) {
        for listener in self.listeners.lock().expect("no listener panics").iter() {
            listener();
        }
    }

    fn refuse(&self, pending: Pending, error: LogError) {
        let Pending { batch, ticket } = pending;
        self.room.cancel(batch.count.into(), batch.buffer.len() as u64);
        if planted(Defect::RefusalUntold) {
            return;
        }
        let result: PutResult = Err(error);
        if let Some(waker) = ticket.fill(result) {
            waker.wake();
        }
    }

    fn refuse_all(&self, error: LogError) {
        let pending = std::mem::take(&mut self.lock_queue().pending);
        pending.into_iter().for_each(|pending| self.refuse(pending, error.clone()));
        self.crowds.wake_all();
    }
}
