//! Sequences of operations on a log whose disk fails and stops, against a plain model.
//!
//! What was acknowledged is there after every restart, under its offset and whole; offsets are dense
//! and never used twice; nothing comes up that was not put; after a failed write or sync nothing is
//! acknowledged; cursors that were synced are never lost.

use super::disk::{Disk, Fault};
use super::image::{options, record};
use super::input::Input;
use levada::event::Records;
use levada::log::{
    BatchBuilder, Durability, Log, LogError, LogOptions, MissingReason, Opened, PutResult,
};
use levada::offset::Offset;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

const STEPS_MAX: usize = 120;
/// Events that fit into a log of little capacity.
const FEW_EVENTS: u64 = 40;

/// Does what `data` says, one operation after the other, and opens the log once more in peace.
pub fn run(data: &[u8]) {
    fastrand::seed(7); // the salts of the segments
    let mut input = Input::new(data);
    let mut world = World::default();
    let mut log = None;
    for _ in 0..STEPS_MAX {
        if input.is_empty() {
            break;
        }
        match log.take().or_else(|| world.open(input.u8())) {
            Some(open) => log = world.step(open, &mut input),
            None => world.restart(&mut input),
        }
    }
    if let Some(log) = log {
        world.leave(log, true);
    }
    world.disk = world.disk.killed();
    world.disk.set_full(false);
    let log = world.open(0).expect("no call fails any more");
    world.put(&log, 3, false);
    world.leave(log, true);
    drop(world.open(0).expect("no call fails any more"));
}

#[derive(Default)]
struct World {
    disk: Disk,
    always: bool,
    /// Every record that was acknowledged or found, by offset.
    records: BTreeMap<u64, Vec<u8>>,
    /// The batch of a failed put: it may be there or not.
    limbo: Option<Vec<Vec<u8>>>,
    /// The number of the next record.
    number: u64,
    /// Every offset below was released, and may be gone.
    reclaimed: u64,
    /// Every offset below was seen when cursors were synced.
    seen: u64,
    /// Every event below was durable.
    durable: u64,
    /// Whether what was written, but not synced, may be lost.
    cut: bool,
    /// Numbers of the cursors that were given away, were taken, and were synced.
    given: u64,
    taken: u64,
    synced: u64,
}

impl World {
    /// Opens the log and compares it with the model; `None` if a fault kept it from opening.
    fn open(&mut self, choice: u8) -> Option<Log> {
        self.always = choice & 1 == 0;
        let durability = if self.always { Durability::Always } else { Durability::Os };
        let capacity_events = if choice & 2 == 0 { u64::MAX } else { FEW_EVENTS };
        let options = LogOptions { capacity_events, ..options(durability) };
        let failures = self.disk.failures();
        match Log::open(Arc::new(self.disk.clone()), options) {
            // if the disk keeps from reading it, nothing is known: the next opening will tell
            Ok((log, opened)) => self.check_opened(&log, &opened).then_some(log),
            Err(error) => {
                if trace() {
                    eprintln!("opening fails: {error}");
                }
                assert!(self.disk.failures() > failures || self.disk.is_full(), "{error}");
                None
            }
        }
    }

    /// Compares what an opened log holds with the model; false if the disk fails.
    fn check_opened(&mut self, log: &Log, opened: &Opened) -> bool {
        let report = &opened.report;
        assert!(report.damage.is_empty(), "no damage was done: {:?}", report.damage);
        let tail = log.tails().tail;
        assert!(tail.0 >= self.seen, "an offset that was seen is not used again");
        let failures = self.disk.failures();
        let Some(found) = self.read(log, self.reclaimed, tail.0) else {
            assert!(self.disk.failures() > failures);
            return false;
        };
        let end = self.end();
        let mut lost = None;
        for (at, record) in self.records.range(self.reclaimed..) {
            match found.get(at) {
                Some(seen) => {
                    assert_eq!(seen, record, "offset {at}");
                    assert_eq!(lost, None, "what is lost is the end");
                }
                None => lost = lost.or(Some(*at)),
            }
        }
        if let Some(at) = lost {
            assert!(self.cut, "acknowledged offset {at} is lost");
            assert!(at >= self.durable, "offset {at} was durable and is lost");
        }
        let more: Vec<_> = found.range(end..).map(|(_, record)| record.clone()).collect();
        if !more.is_empty() {
            assert_eq!(Some(more), self.limbo, "what comes up was put, and is whole");
            assert_eq!(lost, None, "what is lost is the end");
        }
        let cursors = opened.cursors.as_deref().map_or(0, number_of);
        assert!(cursors >= self.synced, "synced cursors {} became {cursors}", self.synced);
        assert!(cursors <= self.given, "cursors {cursors} were never saved");
        self.records = found;
        self.limbo = None;
        self.cut = false;
        self.taken = cursors;
        true
    }

    /// The records of a range; `None` if the disk failed. What is missing must be explained.
    fn read(&self, log: &Log, from: u64, to: u64) -> Option<BTreeMap<u64, Vec<u8>>> {
        let mut reader = log.reader();
        let to = Offset(to).min(reader.visible_tail());
        let (mut next, mut found) = (Offset(from), BTreeMap::new());
        while next < to {
            let read = reader.read(next..to, 50).ok()?;
            assert!(read.next > next, "a read goes on");
            for missing in &read.missing {
                assert_eq!(missing.reason, MissingReason::Gap, "{missing:?}");
            }
            for part in read.batch.parts() {
                let walk = Records::new(&part.records).map(<[u8]>::to_vec);
                found.extend((part.first.0..).zip(walk));
            }
            next = read.next;
        }
        Some(found)
    }

    /// Offset behind the last record.
    fn end(&self) -> u64 {
        self.records.last_key_value().map_or(0, |(at, _)| at + 1)
    }

    /// One operation; the log is given back unless it ended.
    fn step(&mut self, log: Log, input: &mut Input<'_>) -> Option<Log> {
        let (operation, choice) = (input.u8(), input.u8());
        if trace() {
            eprintln!("operation {} choice {choice:#x} tails {:?}", operation % 16, log.tails());
        }
        match operation % 16 {
            0..4 => self.put(&log, choice, operation & 16 != 0),
            4 => self.put(&log, choice | 0x80, false),
            5 => self.compare(&log, choice, input.u8()),
            6 => drop(self.save(&log, choice)),
            7 => self.sync_cursors(&log),
            8 => self.reclaim(&log, choice),
            9 => self.sync(&log),
            10 => self.disk.arm(choice.into(), Fault::Once),
            11 => self.disk.arm(choice.into(), Fault::ForEver),
            12 => self.disk.arm(choice.into(), Fault::Off),
            13 => self.disk.set_full(choice & 1 != 0),
            14 => {
                self.leave(log, choice & 3 != 0);
                return None;
            }
            _ => drop(log.reader().seek_time(u64::from(choice) << 34)),
        }
        Some(log)
    }

    fn batch(&mut self, choice: u8) -> (BatchBuilder, Vec<Vec<u8>>) {
        let mut batch = BatchBuilder::new();
        let mut records = Vec::new();
        for _ in 0..1 + choice % 5 {
            records.push(record(self.number));
            self.number += 1;
        }
        if choice & 0x80 != 0 {
            // 30 KB: each segment takes one; with the next bit more than any segment takes
            let len = if choice & 0x40 != 0 { 60_000 } else { 30_000 };
            records.push(vec![choice; len]);
        }
        records.iter().for_each(|record| batch.push(record));
        (batch, records)
    }

    fn put(&mut self, log: &Log, choice: u8, submit: bool) {
        let (batch, records) = self.batch(choice);
        let (tails, poisoned) = (log.tails(), log.poisoned().is_some());
        let failures = self.disk.failures();
        let result = match submit {
            false => log.put_within(batch, Some(Duration::ZERO)),
            true => submit_now(log, batch),
        };
        match result {
            Ok(offsets) => {
                assert!(!poisoned, "nothing is acknowledged after a failure");
                assert_eq!(offsets.start, tails.tail, "offsets are dense");
                assert_eq!(offsets.end.since(offsets.start), records.len() as u64);
                self.records.extend((offsets.start.0..).zip(records));
                let durable = log.tails().durable_tail;
                assert!(!self.always || durable >= offsets.end, "at always it is durable");
            }
            Err(LogError::Io { .. } | LogError::Poisoned { .. }) => {
                assert!(poisoned || self.disk.failures() > failures, "a failure has a cause");
                assert!(log.poisoned().is_some(), "a failure ends acknowledgement");
                if !poisoned {
                    self.limbo = Some(records);
                }
            }
            Err(LogError::NoSpace { .. }) => assert!(!poisoned, "it was poisoned before"),
            Err(LogError::Full { events, .. }) => assert!(events > 0, "an empty log takes all"),
            Err(LogError::TooLarge { .. }) => assert!(records.iter().any(|r| r.len() >= 60_000)),
            Err(error) => panic!("a put fails: {error}"),
        }
        self.durable = self.durable.max(log.tails().durable_tail.0);
    }

    /// Reads a range, and compares.
    fn compare(&self, log: &Log, from: u8, len: u8) {
        let end = log.reader().visible_tail().0;
        let from = self.reclaimed + (end.saturating_sub(self.reclaimed)) * u64::from(from) / 256;
        let to = (from + u64::from(len)).min(end);
        let failures = self.disk.failures();
        let Some(found) = self.read(log, from, to) else {
            assert!(self.disk.failures() > failures, "only the disk keeps from reading");
            return;
        };
        let known: BTreeMap<_, _> = self.records.range(from..to).collect();
        assert!(found.iter().eq(known), "{from}..{to} is what was put");
    }

    fn save(&mut self, log: &Log, choice: u8) -> Option<(Offset, Offset)> {
        let tail = log.reader().visible_tail();
        let open = tail.0.saturating_sub(self.reclaimed);
        let released = Offset(self.reclaimed + open * u64::from(choice) / 255);
        self.given += 1; // it may be on disk even if the call fails
        let failures = self.disk.failures();
        let saved = log.save_cursors(&cursors_of(self.given), tail, released);
        match saved {
            Ok(()) => self.taken = self.given,
            Err(_) => assert!(self.disk.failures() > 0 || failures > 0, "a failure has a cause"),
        }
        saved.is_ok().then_some((tail, released))
    }

    fn sync_cursors(&mut self, log: &Log) {
        if log.sync_cursors().is_ok() {
            self.synced = self.synced.max(self.taken);
        }
    }

    fn reclaim(&mut self, log: &Log, choice: u8) {
        let Some((tail, released)) = self.save(log, choice) else { return };
        if log.sync_cursors().is_err() {
            return;
        }
        self.synced = self.synced.max(self.taken);
        self.seen = self.seen.max(tail.0);
        self.reclaimed = released.0;
        log.reclaim(released);
    }

    fn sync(&mut self, log: &Log) {
        let poisoned = log.poisoned().is_some();
        match log.sync() {
            Ok(()) => {
                assert!(!poisoned, "nothing becomes durable after a failure");
                assert_eq!(log.tails().durable_tail, log.tails().tail);
            }
            Err(_) => assert!(log.poisoned().is_some()),
        }
        self.durable = self.durable.max(log.tails().durable_tail.0);
    }

    /// The owner ends: in order, or with the machine.
    fn leave(&mut self, log: Log, in_order: bool) {
        // what a failed sync left in the cache may be lost, and only `os` acknowledges that
        self.cut |= !self.always && log.poisoned().is_some();
        if in_order {
            let failures = self.disk.failures();
            match log.close() {
                Ok(()) => self.durable = self.durable.max(log.tails().durable_tail.0),
                Err(error) => {
                    assert!(self.disk.failures() > 0 || failures > 0, "{error}");
                    self.cut |= !self.always;
                }
            }
        } else {
            self.disk.stop();
        }
    }

    /// The next owner finds the disk as a kill or a power cut left it.
    fn restart(&mut self, input: &mut Input<'_>) {
        let choice = input.u8();
        self.disk = if choice & 1 == 0 {
            self.disk.killed()
        } else {
            self.cut = true;
            let mut coin = fastrand::Rng::with_seed(input.u16().into());
            let share = [0, 128, 255][usize::from(choice >> 1) % 3];
            self.disk.power_cut(|| coin.u8(1..) <= share)
        };
    }
}

/// Whether the operations are printed: to understand a failing input.
fn trace() -> bool {
    std::env::var_os("LEVADA_FUZZ_TRACE").is_some()
}

fn submit_now(log: &Log, batch: BatchBuilder) -> PutResult {
    if !log.try_reserve(&batch)? {
        return Err(log.full());
    }
    let ticket = std::pin::pin!(log.submit(batch));
    match ticket.poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(result) => result,
        Poll::Pending => panic!("without threads the call does the work"),
    }
}

/// Bytes of cursors that carry a number, of several blocks' length now and then.
fn cursors_of(number: u64) -> Vec<u8> {
    let mut bytes = number.to_le_bytes().to_vec();
    bytes.resize(8 + [0, 100, 5000][number as usize % 3], number as u8);
    bytes
}

fn number_of(cursors: &[u8]) -> u64 {
    cursors.first_chunk().map_or(0, |bytes| u64::from_le_bytes(*bytes))
}
