//! A log on a simulated disk, beside what must be true of it whatever happens to the disk.

use super::{batch, quiet, record};
use crate::event::Records;
use crate::log::{
    Durability, Log, LogError, LogOptions, MissingReason, Opened, PutResult, Step, Ticket, Walk,
    list_segments,
};
use crate::offset::Offset;
use crate::sim::{End, Sim};
use byteorder::{ByteOrder, LE};
use std::collections::BTreeMap;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

/// Records of one put; shared, for a world is cloned often.
pub(crate) type Put = Vec<Arc<[u8]>>;

/// Bytes of the longest record.
const LEN_MAX: usize = 17_600;

/// Small, so that the journal turns often, and an opening, which reads all of it, costs little.
pub(crate) const CURSOR_FILE_BYTES: u64 = 64 << 10;

/// Segments start on multiples of this.
const GROUP: u64 = 4096;

/// What must be true of the log.
#[derive(Clone)]
pub struct World {
    pub(crate) sim: Sim,
    pub(crate) rng: fastrand::Rng,
    pub(crate) durability: Durability,
    pub(crate) capacity_events: u64,
    /// Whether the log's last owner acknowledged before the sync.
    pub(crate) weak: bool,
    /// Whether any owner so far did: then offsets may be without an event.
    pub(crate) gaps: bool,
    /// Whether what was not synced may be gone since the log was last looked at.
    pub(crate) unsynced_lost: bool,
    /// Acknowledged, or found after a crash, by offset.
    pub(crate) records: BTreeMap<u64, Arc<[u8]>>,
    /// Batches put and not answered for, or refused by a failure, in order: whole or absent.
    pub(crate) limbo: Vec<Put>,
    /// What the last step put.
    pub(crate) attempt: Vec<Put>,
    /// Number of the next record.
    pub(crate) number: u64,
    /// Highest bound that was given to `reclaim`.
    pub(crate) reclaimed: u64,
    /// Highest `seen_tail` that was synced.
    pub(crate) seen: u64,
    /// Number of the last cursors that were given to be saved.
    pub(crate) saved: u64,
    /// Of those that were found or saved, and of those that were synced.
    pub(crate) kept: u64,
    pub(crate) synced: u64,
    /// Bytes of cursors.
    pub(crate) cursor_len: usize,
    /// Of the last owner.
    pub(crate) epoch: u64,
}

impl World {
    /// An empty disk, and nothing that must be on it; `seed` draws everything.
    pub fn new(seed: u64) -> World {
        let mut rng = fastrand::Rng::with_seed(seed);
        let os = rng.u8(..4) == 0;
        World {
            sim: Sim::new(rng.u64(..)),
            durability: if os { Durability::Os } else { Durability::Always },
            capacity_events: u64::MAX,
            weak: false,
            gaps: false,
            unsynced_lost: false,
            rng,
            records: BTreeMap::new(),
            limbo: Vec::new(),
            attempt: Vec::new(),
            number: 0,
            reclaimed: 0,
            seen: 0,
            saved: 0,
            kept: 0,
            synced: 0,
            cursor_len: 8,
            epoch: 0,
        }
    }

    /// What its logs are opened with.
    pub fn options(&self) -> LogOptions {
        let (durability, capacity_events) = (self.durability, self.capacity_events);
        let cursor_file_bytes = CURSOR_FILE_BYTES;
        LogOptions { durability, capacity_events, spare_count: 1, cursor_file_bytes, ..quiet() }
    }

    /// Whether the disk did something that excuses a call's failure.
    pub(crate) fn excused(&self) -> bool {
        self.sim.crashed() || self.sim.failed().is_some() || self.sim.is_full()
    }

    /// Opens, or is crashed while it does, or is made to fail.
    pub fn open(&mut self) -> Option<Log> {
        let (log, opened, looked) = self.open_records()?;
        if looked {
            self.check_cursors(&opened);
            self.unsynced_lost = false;
        }
        Some(log)
    }

    /// As [`World::open`]; what the cursors must be is the caller's, who then says that what was
    /// not synced is there or gone: if the records could be looked at, which is the last.
    pub(crate) fn open_records(&mut self) -> Option<(Log, Opened, bool)> {
        self.attempt.clear();
        match Log::open(Arc::new(self.sim.clone()), self.options()) {
            Ok((log, opened)) => {
                let looked = self.check_records(&log, &opened);
                Some((log, opened, looked))
            }
            Err(error) => {
                assert!(self.excused(), "opening fails: {error}");
                None
            }
        }
    }

    pub(crate) fn end(&self) -> u64 {
        self.records.last_key_value().map_or(0, |(at, _)| at + 1)
    }

    /// Compares what the log gives with what it must; false if the disk keeps it from giving.
    fn check_records(&mut self, log: &Log, opened: &Opened) -> bool {
        let report = &opened.report;
        assert!(report.damage.is_empty(), "no damage was done: {:?}", report.damage);
        assert!(report.epoch > self.epoch, "each owner has an epoch of its own");
        self.epoch = report.epoch;
        if let Some(cut) = &report.cut {
            let stem = cut.file.trim_start_matches("log/").trim_end_matches(".seg");
            let saved = format!("quarantine/{stem}-{}.bin", cut.position);
            let names = self.sim.names("quarantine");
            assert!(names.contains(&saved) || self.excused(), "what is cut is saved: {cut:?}");
        }
        let tail = log.tails().tail;
        assert!(tail.0 >= self.seen, "offsets that were seen are not used again");
        let read = match log.reader().read(Offset(self.reclaimed)..tail, u64::MAX) {
            Err(error) => {
                assert!(self.excused(), "reading fails: {error}");
                return false;
            }
            Ok(read) => read,
        };
        let mut found = BTreeMap::new();
        for part in read.batch.parts() {
            let records = Records::new(&part.records);
            found.extend((part.first.0..).zip(records.map(Arc::from)));
        }
        let weak = self.durability != Durability::Always;
        let loses = (weak || self.weak) && self.unsynced_lost;
        self.gaps |= weak;
        for missing in &read.missing {
            let kept = self.gaps && missing.reason == MissingReason::Gap;
            assert!(kept, "at always every offset has its event: {missing:?}");
        }
        let end = self.end();
        for (at, record) in self.records.range(self.reclaimed..) {
            match found.get(at) {
                Some(seen) => assert_eq!(seen, record, "offset {at}"),
                None => assert!(loses, "acknowledged offset {at} is lost"),
            }
        }
        // what else there is are batches in limbo, whole and in their order
        let mut more = found.range(end..).map(|(_, record)| record);
        for batch in std::mem::take(&mut self.limbo) {
            let Some(first) = more.next() else { break };
            assert_eq!(*first, batch[0], "nothing comes up that was not put");
            for record in &batch[1..] {
                assert_eq!(more.next(), Some(record), "a batch is whole or absent");
            }
        }
        assert_eq!(more.next(), None, "nothing comes up that was not put");
        self.records = found;
        self.weak = false;
        true
    }

    /// Compares the cursors found with those saved and synced.
    fn check_cursors(&mut self, opened: &Opened) {
        let cursors = opened.cursors.as_deref().map_or(0, LE::read_u64);
        let least = if self.unsynced_lost { self.synced } else { self.kept };
        assert!(cursors >= least, "cursors {least} became {cursors}");
        assert!(cursors <= self.saved, "cursors {cursors} were never saved");
        self.kept = cursors;
        self.synced = cursors; // opening makes what it finds durable
    }

    /// Works until the machine stops, or `steps` are done.
    pub fn work(&mut self, log: &Log, steps: usize) {
        for _ in 0..steps {
            if self.sim.crashed() {
                return;
            }
            self.step(log);
        }
    }

    /// Does one thing.
    pub fn step(&mut self, log: &Log) {
        self.attempt.clear();
        match self.rng.u8(..10) {
            0..6 => self.put_group(log),
            6 => self.save(log),
            7 => self.sync_cursors(log),
            8 => self.reclaim(log),
            _ => drop(log.sync()),
        }
    }

    /// Several puts that share a group.
    pub(crate) fn put_group(&mut self, log: &Log) {
        let mut puts = Vec::new();
        for _ in 0..self.rng.usize(1..4) {
            let count = self.rng.usize(1..4);
            let len_max = if self.rng.u8(..5) == 0 { 18_000 } else { 900 };
            // three of the longest are the most that a segment takes
            let len = |_| self.rng.usize(8..len_max).min(LEN_MAX);
            puts.push((0..count).map(len).collect::<Vec<_>>());
        }
        self.put(log, &puts);
    }

    /// Puts that share a group, of records of these lengths.
    pub(crate) fn put(&mut self, log: &Log, puts: &[Vec<usize>]) {
        let poisoned = log.poisoned().is_some();
        let waiting = log.usage().events;
        let mut batches = Vec::new();
        for lens in puts {
            let numbers = self.number..;
            let records: Put = numbers.zip(lens).map(|(n, len)| record(n, *len).into()).collect();
            self.number += records.len() as u64;
            batches.push(batch(&records));
            self.attempt.push(records.clone());
            self.limbo.push(records);
        }
        let Some(last) = batches.pop() else { return };
        let queued = batches.into_iter().map(|batch| {
            assert!(log.try_reserve(&batch).expect("it is small"), "there is room");
            log.queue(batch)
        });
        let queued: Vec<_> = queued.collect();
        let answered = log.put_within(last, Some(Duration::ZERO)); // leads the group
        let answers = queued.into_iter().map(answer_of).chain([answered]);
        let (mut at, mut added) = (0, 0);
        for answer in answers {
            match answer {
                Ok(offsets) => {
                    added += offsets.end.0 - offsets.start.0;
                    assert!(!poisoned, "a poisoned log acknowledges nothing");
                    let records = self.limbo.remove(at);
                    assert!(offsets.start.0 >= self.end(), "offsets rise");
                    self.records.extend((offsets.start.0..).zip(records));
                }
                // it may be in the log, and nobody knows
                Err(LogError::Io { .. } | LogError::Poisoned { .. }) => {
                    assert!(self.excused() && log.poisoned().is_some());
                    at += 1;
                }
                Err(error) => {
                    assert!(self.excused() || log.starved().is_some(), "{error}");
                    self.limbo.remove(at);
                }
            }
        }
        let usage = log.usage();
        assert_eq!(usage.events, waiting + added, "what was refused takes no room");
        // what is used of the active segment ends where the log does; segments start on blocks
        let (active, written) =
            (usage.bytes % self.options().segment_bytes, log.tails().written_lsn);
        let even = active == 0 || active % GROUP == written % GROUP;
        assert!(even || !self.limbo.is_empty() || added == 0, "room for {active} of {written}");
    }

    /// The cursors of this number, as they are saved.
    fn cursors(&self) -> Vec<u8> {
        record(self.saved, self.cursor_len)
    }

    pub(crate) fn save(&mut self, log: &Log) {
        let tail = log.reader().visible_tail();
        let released = self.rng.u64(self.reclaimed..=tail.0);
        self.save_at(log, Offset(released));
    }

    pub(crate) fn save_at(&mut self, log: &Log, released: Offset) {
        let tail = log.reader().visible_tail();
        self.saved += 1; // it may be on disk even if the call fails
        match log.save_cursors(&self.cursors(), tail, released) {
            Ok(()) => self.kept = self.saved,
            Err(error) => assert!(self.excused(), "saving cursors fails: {error}"),
        }
    }

    pub(crate) fn sync_cursors(&mut self, log: &Log) {
        match log.sync_cursors() {
            Ok(()) => self.synced = self.kept,
            Err(error) => assert!(self.excused(), "syncing cursors fails: {error}"),
        }
    }

    pub(crate) fn reclaim(&mut self, log: &Log) {
        let tail = log.reader().visible_tail();
        let released = self.rng.u64(self.reclaimed..=tail.0);
        self.reclaim_at(log, Offset(released));
    }

    /// Releases what lies below, durably, and gives its segments back.
    pub(crate) fn reclaim_at(&mut self, log: &Log, released: Offset) {
        let tail = log.reader().visible_tail();
        self.saved += 1;
        let saved = log.save_cursors(&self.cursors(), tail, released);
        if saved.and_then(|()| log.sync_cursors()).is_ok() {
            (self.kept, self.synced) = (self.saved, self.saved);
            self.seen = self.seen.max(tail.0);
            self.reclaimed = released.0;
            log.reclaim(released);
        }
    }

    /// Ends the process or the machine, and starts again.
    pub fn restart(&mut self, end: End) {
        // a failed sync may have lost what the cache still showed
        self.unsynced_lost |= end == End::PowerCut || self.sim.failed().is_some();
        self.sim = self.sim.restart(end);
    }

    /// Ends the process or the machine, one time in three the process.
    pub fn restart_somehow(&mut self) {
        let end = if self.rng.u8(..3) == 0 { End::Kill } else { End::PowerCut };
        self.restart(end);
    }

    /// Opens twice in peace: the second time finds what the first one did. Then works on.
    pub fn settle(&mut self) {
        let log = self.open().expect("nothing is in the way");
        let tails = log.tails();
        drop(log);
        let log = self.open().expect("nothing is in the way");
        assert_eq!(log.tails().tail, tails.tail, "opening again changes nothing");
        let durable_lsn = log.tails().durable_lsn;
        self.put_group(&log);
        assert!(self.limbo.is_empty(), "puts succeed again");
        self.check_evidence(&log, durable_lsn);
        log.close().expect("the disk is well");
        let log = self.open().expect("nothing is in the way");
        assert_eq!(log.tails().tail.0.max(self.end()), log.tails().tail.0);
    }

    /// The newest headers say that everything below `durable_lsn` was durable: without that, damage
    /// there would look like a torn tail.
    fn check_evidence(&self, log: &Log, durable_lsn: u64) {
        let listing = list_segments(&self.sim, log.uuid().as_bytes(), false);
        let segments = listing.expect("the disk is well").segments;
        let last = segments.last().expect("something was put");
        let view = last.view().expect("the disk is well");
        view.prefetch(0, view.len() as usize).expect("the disk is well");
        let batches = last.batches(&*view, log.tails().written_lsn);
        let mut walk = Walk::new(batches, last.start(), log.tails().tail.0);
        let mut told = 0;
        while let Step::Batch(batch) = walk.step() {
            told = told.max(batch.header.durable_lsn);
        }
        assert!(told >= durable_lsn, "headers say {told}, durable is {durable_lsn}");
    }
}

/// The answer to a put whose group was led.
fn answer_of(ticket: Ticket) -> PutResult {
    match pin!(ticket).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(answer) => answer,
        Poll::Pending => panic!("who leads a group answers all of it"),
    }
}
