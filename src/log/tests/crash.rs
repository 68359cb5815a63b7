//! Crashes at every call, on a simulated disk: nothing acknowledged is lost, nothing comes up that
//! was never put, opening never fails, and a crash during recovery changes none of that.

use super::sim::{End, Sim};
use super::*;
use std::collections::BTreeMap;

/// Runs, in all. Each has several crashes.
const RUNS: u64 = 1000;
const CRASHES: usize = 3;

/// What must be true of the log, whatever happened.
struct World {
    sim: Sim,
    rng: fastrand::Rng,
    durability: Durability,
    /// Acknowledged, or found after a crash, by offset.
    records: BTreeMap<u64, Vec<u8>>,
    /// Batches put and not answered for, or refused by a failure, in order: whole or absent.
    limbo: Vec<Vec<Vec<u8>>>,
    /// Number of the next record.
    number: u64,
    /// Highest bound that was given to `reclaim`.
    reclaimed: u64,
    /// Highest `seen_tail` that was synced.
    seen: u64,
    /// Number of the last cursors that were given to be saved.
    saved: u64,
    /// Of those that were found or saved, and of those that were synced.
    kept: u64,
    synced: u64,
}

impl World {
    fn new(seed: u64) -> World {
        let mut rng = fastrand::Rng::with_seed(seed);
        let os = rng.u8(..4) == 0;
        World {
            sim: Sim::new(rng.u64(..)),
            durability: if os { Durability::Os } else { Durability::Always },
            rng,
            records: BTreeMap::new(),
            limbo: Vec::new(),
            number: 0,
            reclaimed: 0,
            seen: 0,
            saved: 0,
            kept: 0,
            synced: 0,
        }
    }

    fn options(&self) -> LogOptions {
        LogOptions { durability: self.durability, spare_count: 1, ..quiet() }
    }

    /// Opens, or is crashed while it does.
    fn open(&mut self) -> Option<Log> {
        match Log::open(Arc::new(self.sim.clone()), self.options()) {
            Ok((log, opened)) => {
                self.check(&log, &opened);
                Some(log)
            }
            Err(error) => {
                assert!(self.sim.crashed(), "opening fails: {error}");
                None
            }
        }
    }

    fn end(&self) -> u64 {
        self.records.last_key_value().map_or(0, |(at, _)| at + 1)
    }

    /// Compares what the log gives with what it must.
    fn check(&mut self, log: &Log, opened: &Opened) {
        let report = &opened.report;
        assert!(report.damage.is_empty(), "no damage was done: {:?}", report.damage);
        let tail = log.tails().tail;
        assert!(tail.0 >= self.seen, "offsets that were seen are not used again");
        let read = log.reader().read(Offset(self.reclaimed)..tail, u64::MAX).unwrap();
        let mut found = BTreeMap::new();
        for part in read.batch.parts() {
            let records = crate::event::Records::new(&part.records);
            found.extend((part.first.0..).zip(records.map(<[u8]>::to_vec)));
        }
        let always = self.durability == Durability::Always;
        for missing in &read.missing {
            let kept = !always && missing.reason == MissingReason::Gap;
            assert!(kept, "at always every offset has its event: {missing:?}");
        }
        let end = self.end();
        for (at, record) in self.records.range(self.reclaimed..) {
            match found.get(at) {
                Some(seen) => assert_eq!(seen, record, "offset {at}"),
                None => assert!(!always, "acknowledged offset {at} is lost"),
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
        assert!(cursors >= self.synced, "synced cursors {} became {cursors}", self.synced);
        assert!(cursors <= self.saved, "cursors {cursors} were never saved");
        self.kept = cursors;
        self.synced = cursors; // opening makes what it finds durable
    }

    /// Works until the machine stops, or `steps` are done.
    fn work(&mut self, log: &Log, steps: usize) {
        for _ in 0..steps {
            if self.sim.crashed() {
                return;
            }
            match self.rng.u8(..10) {
                0..6 => self.put_group(log),
                6 => self.save(log),
                7 => self.sync_cursors(log),
                8 => self.reclaim(log),
                _ => drop(log.sync()),
            }
        }
    }

    /// Several puts that share a group.
    fn put_group(&mut self, log: &Log) {
        let mut tickets = Vec::new();
        for _ in 0..self.rng.usize(1..4) {
            let count = self.rng.usize(1..4);
            let len_max = if self.rng.u8(..5) == 0 { 18_000 } else { 900 };
            let mut records = Vec::new();
            for _ in 0..count {
                records.push(record(self.number, self.rng.usize(8..len_max)));
                self.number += 1;
            }
            let batch = batch(&records);
            assert!(log.try_reserve(&batch).unwrap());
            tickets.push(log.writer.submit(batch.seal()));
            self.limbo.push(records);
        }
        log.writer.lead();
        for ticket in tickets {
            let Ok(offsets) = ticket::block_on(ticket, None).unwrap() else {
                assert!(self.sim.crashed() || log.poisoned().is_some());
                return;
            };
            let records = self.limbo.remove(0);
            assert!(offsets.start.0 >= self.end(), "offsets rise");
            self.records.extend((offsets.start.0..).zip(records));
        }
    }

    fn save(&mut self, log: &Log) {
        let tail = log.reader().visible_tail();
        let released = Offset(self.rng.u64(self.reclaimed..=tail.0));
        self.saved += 1; // it may be on disk even if the call fails
        if log.save_cursors(&self.saved.to_le_bytes(), tail, released).is_ok() {
            self.kept = self.saved;
        }
    }

    fn sync_cursors(&mut self, log: &Log) {
        if log.sync_cursors().is_ok() {
            self.synced = self.kept;
        }
    }

    fn reclaim(&mut self, log: &Log) {
        let tail = log.reader().visible_tail();
        let released = Offset(self.rng.u64(self.reclaimed..=tail.0));
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
    fn restart(&mut self) {
        let end = if self.rng.u8(..3) == 0 { End::Kill } else { End::PowerCut };
        self.sim = self.sim.restart(end);
    }
}

fn run(seed: u64) {
    let mut world = World::new(seed);
    for _ in 0..CRASHES {
        // the next crash may come while the log is opened, or later
        let calls_max = if world.rng.bool() { 40 } else { 250 };
        let calls = world.rng.usize(..calls_max);
        world.sim.crash_after(calls);
        if let Some(log) = world.open() {
            let steps = world.rng.usize(1..60);
            world.work(&log, steps);
            if world.rng.u8(..6) == 0 {
                let _ = log.close();
            } else if !world.sim.crashed() {
                world.sim.crash_after(0);
            }
        }
        world.restart();
    }
    // and once more in peace: twice the same
    let log = world.open().expect("no crash is due");
    world.work(&log, 5);
    log.close().unwrap();
    let log = world.open().expect("no crash is due");
    assert_eq!(log.tails().tail.0.max(world.end()), log.tails().tail.0);
}

#[test]
fn log_survives_crashes_at_any_call() {
    let number = |name| std::env::var(name).ok().map(|n| n.parse::<u64>().unwrap());
    let runs = number("LEVADA_CRASH_RUNS").unwrap_or(RUNS);
    let seeds = number("LEVADA_CRASH_SEED").map_or(0..runs, |seed| seed..seed + 1);
    for seed in seeds {
        let survived = std::panic::catch_unwind(|| run(seed));
        if let Err(panic) = survived {
            eprintln!("reproduce: LEVADA_CRASH_SEED={seed} cargo test log_survives_crashes");
            std::panic::resume_unwind(panic);
        }
    }
}
