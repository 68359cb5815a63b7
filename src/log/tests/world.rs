//! A log on a simulated disk, beside what must be true of it whatever happens to the disk.

use super::sim::{End, Sim};
use super::*;
use std::collections::BTreeMap;

/// Records of one put; shared, for a world is cloned often.
pub(super) type Put = Vec<Arc<[u8]>>;

/// What must be true of the log.
#[derive(Clone)]
pub(super) struct World {
    pub(super) sim: Sim,
    pub(super) rng: fastrand::Rng,
    pub(super) durability: Durability,
    pub(super) capacity_events: u64,
    /// Whether what was not synced may be gone since the log was last looked at.
    pub(super) unsynced_lost: bool,
    /// Acknowledged, or found after a crash, by offset.
    pub(super) records: BTreeMap<u64, Arc<[u8]>>,
    /// Batches put and not answered for, or refused by a failure, in order: whole or absent.
    pub(super) limbo: Vec<Put>,
    /// What the last step put.
    pub(super) attempt: Vec<Put>,
    /// Number of the next record.
    pub(super) number: u64,
    /// Highest bound that was given to `reclaim`.
    pub(super) reclaimed: u64,
    /// Highest `seen_tail` that was synced.
    pub(super) seen: u64,
    /// Number of the last cursors that were given to be saved.
    pub(super) saved: u64,
    /// Of those that were found or saved, and of those that were synced.
    pub(super) kept: u64,
    pub(super) synced: u64,
}

impl World {
    pub(super) fn new(seed: u64) -> World {
        let mut rng = fastrand::Rng::with_seed(seed);
        let os = rng.u8(..4) == 0;
        World {
            sim: Sim::new(rng.u64(..)),
            durability: if os { Durability::Os } else { Durability::Always },
            capacity_events: u64::MAX,
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
        }
    }

    pub(super) fn options(&self) -> LogOptions {
        let (durability, capacity_events) = (self.durability, self.capacity_events);
        LogOptions { durability, capacity_events, spare_count: 1, ..quiet() }
    }

    /// Whether the disk did something that excuses a call's failure.
    fn excused(&self) -> bool {
        self.sim.crashed() || self.sim.failed().is_some()
    }

    /// Opens, or is crashed while it does, or is made to fail.
    pub(super) fn open(&mut self) -> Option<Log> {
        self.attempt.clear();
        match Log::open(Arc::new(self.sim.clone()), self.options()) {
            Ok((log, opened)) => {
                self.check(&log, &opened);
                Some(log)
            }
            Err(error) => {
                assert!(self.excused(), "opening fails: {error}");
                None
            }
        }
    }

    pub(super) fn end(&self) -> u64 {
        self.records.last_key_value().map_or(0, |(at, _)| at + 1)
    }

    /// Compares what the log gives with what it must.
    pub(super) fn check(&mut self, log: &Log, opened: &Opened) {
        let report = &opened.report;
        assert!(report.damage.is_empty(), "no damage was done: {:?}", report.damage);
        let tail = log.tails().tail;
        assert!(tail.0 >= self.seen, "offsets that were seen are not used again");
        let read = match log.reader().read(Offset(self.reclaimed)..tail, u64::MAX) {
            Err(error) => return assert!(self.excused(), "reading fails: {error}"),
            Ok(read) => read,
        };
        let mut found = BTreeMap::new();
        for part in read.batch.parts() {
            let records = crate::event::Records::new(&part.records);
            found.extend((part.first.0..).zip(records.map(Arc::from)));
        }
        let loses = self.durability != Durability::Always && self.unsynced_lost;
        let always = self.durability == Durability::Always;
        for missing in &read.missing {
            let kept = !always && missing.reason == MissingReason::Gap;
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
        let cursors = opened.cursors.as_deref().map_or(0, LE::read_u64);
        let least = if self.unsynced_lost { self.synced } else { self.kept };
        assert!(cursors >= least, "cursors {least} became {cursors}");
        assert!(cursors <= self.saved, "cursors {cursors} were never saved");
        self.kept = cursors;
        self.synced = cursors; // opening makes what it finds durable
        self.unsynced_lost = false;
    }

    /// Works until the machine stops, or `steps` are done.
    pub(super) fn work(&mut self, log: &Log, steps: usize) {
        for _ in 0..steps {
            if self.sim.crashed() {
                return;
            }
            self.step(log);
        }
    }

    /// Does one thing.
    pub(super) fn step(&mut self, log: &Log) {
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
    pub(super) fn put_group(&mut self, log: &Log) {
        let mut puts = Vec::new();
        for _ in 0..self.rng.usize(1..4) {
            let count = self.rng.usize(1..4);
            let len_max = if self.rng.u8(..5) == 0 { 18_000 } else { 900 };
            puts.push((0..count).map(|_| self.rng.usize(8..len_max)).collect::<Vec<_>>());
        }
        self.put(log, &puts);
    }

    /// Puts that share a group, of records of these lengths.
    pub(super) fn put(&mut self, log: &Log, puts: &[Vec<usize>]) {
        let poisoned = log.poisoned().is_some();
        let mut tickets = Vec::new();
        for lens in puts {
            let numbers = self.number..;
            let records: Put = numbers.zip(lens).map(|(n, len)| record(n, *len).into()).collect();
            self.number += records.len() as u64;
            let mut batch = BatchBuilder::new();
            records.iter().for_each(|record| batch.push(record));
            assert!(log.try_reserve(&batch).unwrap());
            tickets.push(log.writer.submit(batch.seal()));
            self.attempt.push(records.clone());
            self.limbo.push(records);
        }
        log.writer.lead();
        let mut at = 0;
        for ticket in tickets {
            match ticket::block_on(ticket, None).unwrap() {
                Ok(offsets) => {
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
    }

    pub(super) fn save(&mut self, log: &Log) {
        let tail = log.reader().visible_tail();
        let released = self.rng.u64(self.reclaimed..=tail.0);
        self.save_at(log, Offset(released));
    }

    pub(super) fn save_at(&mut self, log: &Log, released: Offset) {
        let tail = log.reader().visible_tail();
        self.saved += 1; // it may be on disk even if the call fails
        match log.save_cursors(&self.saved.to_le_bytes(), tail, released) {
            Ok(()) => self.kept = self.saved,
            Err(error) => assert!(self.excused(), "saving cursors fails: {error}"),
        }
    }

    pub(super) fn sync_cursors(&mut self, log: &Log) {
        match log.sync_cursors() {
            Ok(()) => self.synced = self.kept,
            Err(error) => assert!(self.excused(), "syncing cursors fails: {error}"),
        }
    }

    pub(super) fn reclaim(&mut self, log: &Log) {
        let tail = log.reader().visible_tail();
        let released = self.rng.u64(self.reclaimed..=tail.0);
        self.reclaim_at(log, Offset(released));
    }

    /// Releases what lies below, durably, and gives its segments back.
    pub(super) fn reclaim_at(&mut self, log: &Log, released: Offset) {
        let tail = log.reader().visible_tail();
        self.saved += 1;
        let saved = log.save_cursors(&self.saved.to_le_bytes(), tail, released);
        if saved.and_then(|()| log.sync_cursors()).is_ok() {
            (self.kept, self.synced) = (self.saved, self.saved);
            self.seen = self.seen.max(tail.0);
            self.reclaimed = released.0;
            log.reclaim(released);
        }
    }

    /// Ends the process or the machine, and starts again.
    pub(super) fn restart(&mut self, end: End) {
        // a failed sync may have lost what the cache still showed
        self.unsynced_lost |= end == End::PowerCut || self.sim.failed().is_some();
        self.sim = self.sim.restart(end);
    }

    /// Ends the process or the machine, one time in three the process.
    pub(super) fn restart_somehow(&mut self) {
        let end = if self.rng.u8(..3) == 0 { End::Kill } else { End::PowerCut };
        self.restart(end);
    }

    /// Opens twice in peace: the second time finds what the first one did. Then works on.
    pub(super) fn settle(&mut self) {
        let log = self.open().expect("nothing is in the way");
        let tails = log.tails();
        drop(log);
        let log = self.open().expect("nothing is in the way");
        assert_eq!(log.tails().tail, tails.tail, "opening again changes nothing");
        self.put_group(&log);
        assert!(self.limbo.is_empty(), "puts succeed again");
        log.close().unwrap();
        let log = self.open().expect("nothing is in the way");
        assert_eq!(log.tails().tail.0.max(self.end()), log.tails().tail.0);
    }
}
