//! The engine against a plain list: any sequence of puts, reads, cursors, reclaims, rolls, closes and
//! crashes, in logs of any durability, with and without a limit. A sequence that fails is shrunk and
//! printed as Rust; pasted into `tests::FOUND` it is run every time.

use super::world::{Put as Records, World};
use super::{batch, record, run_trace, stop_process};
use crate::event::Records as Walk;
use crate::log::{Durability, Log, LogError, Reader, Ticket};
use crate::offset::Offset;
use crate::sim::{Cut as Loss, End};
use quickcheck::{Arbitrary, Gen};
use std::collections::BTreeMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

/// quickcheck's size of a trace.
const TRACE_SIZE: usize = 60;

/// One step. Numbers are taken modulo what there is, so that a shrunk trace still means something.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Op {
    /// So many batches in one group, of so many records of this length.
    Put {
        batches: u8,
        records: u8,
        len: u16,
    },
    /// Queues a batch and does not wait: it goes with the next group, if there is one.
    Submit {
        records: u8,
        len: u16,
    },
    /// Reads from here (256ths of the log) at most so many, with the reader that was there.
    Read {
        from: u8,
        count: u8,
    },
    /// The first offset at or after the time of that one.
    SeekTime {
        of: u8,
    },
    /// Saves cursors that are done with so many 256ths.
    Save {
        done: u8,
    },
    SyncCursors,
    Sync,
    /// Gives back what lies below, durably.
    Reclaim {
        done: u8,
    },
    Close,
    Kill,
    PowerCut {
        seed: u16,
    },
}
use Op::{Close, Kill, PowerCut, Put, Read, Reclaim, Save, SeekTime, Submit, Sync, SyncCursors};

impl Arbitrary for Op {
    fn arbitrary(g: &mut Gen) -> Op {
        let (a, b) = (u8::arbitrary(g), u8::arbitrary(g));
        let wide = u16::arbitrary(g);
        let len = if a < 40 { wide % 13_000 } else { wide % 700 };
        match u8::arbitrary(g) % 22 {
            0..=6 => Put { batches: 1 + a % 3, records: b % 5, len },
            7..=10 => Read { from: a, count: b },
            11 => SeekTime { of: a },
            12 => Save { done: a },
            13 => SyncCursors,
            14 => Sync,
            15 | 16 => Reclaim { done: a },
            17 => Close,
            18 => Kill,
            19 => PowerCut { seed: wide },
            _ => Submit { records: b % 5, len },
        }
    }

    fn shrink(&self) -> Box<dyn Iterator<Item = Op>> {
        match *self {
            Put { batches, records, len } => {
                let less = (batches, records, len).shrink();
                Box::new(less.map(|(batches, records, len)| Put { batches, records, len }))
            }
            Submit { records, len } => {
                Box::new((records, len).shrink().map(|(records, len)| Submit { records, len }))
            }
            PowerCut { seed } => {
                Box::new(std::iter::once(Kill).chain(seed.shrink().map(|seed| PowerCut { seed })))
            }
            Read { from, count } => {
                Box::new((from, count).shrink().map(|(from, count)| Read { from, count }))
            }
            _ => Box::new(std::iter::empty()),
        }
    }
}

/// A durability.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Level {
    Always,
    Interval,
    Os,
}

impl Arbitrary for Level {
    fn arbitrary(g: &mut Gen) -> Level {
        *g.choose(&[Level::Always, Level::Always, Level::Interval, Level::Os])
            .expect("there is a choice")
    }
}

impl Level {
    pub(super) fn durability(self) -> Durability {
        match self {
            Level::Always => Durability::Always,
            Level::Interval => Durability::Interval(Duration::from_secs(1)),
            Level::Os => Durability::Os,
        }
    }
}

/// What is done with which log. Its debug form is Rust.
#[derive(Clone)]
struct Trace(Level, u64, Vec<Op>);

impl std::fmt::Debug for Trace {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Trace(level, capacity_events, ops) = self;
        write!(f, "(Level::{level:?}, {capacity_events}, &{ops:?})")
    }
}

impl Arbitrary for Trace {
    fn arbitrary(g: &mut Gen) -> Trace {
        let capacity_events = *g.choose(&[u64::MAX, 1, 7, 30]).expect("there is a choice");
        Trace(Level::arbitrary(g), capacity_events, Vec::arbitrary(g))
    }

    fn shrink(&self) -> Box<dyn Iterator<Item = Trace>> {
        let Trace(level, capacity_events, ops) = self.clone();
        Box::new(ops.shrink().map(move |ops| Trace(level, capacity_events, ops)))
    }
}

/// A log and what it must be like, under way.
struct Machine {
    world: World,
    log: Option<Log>,
    reader: Option<Reader>,
    /// Batches that were submitted and not committed yet.
    queued: Vec<(Ticket, Records)>,
    /// What each save of the cursors released, by its number, and what counts now.
    saves: BTreeMap<u64, u64>,
    released: u64,
}

impl Machine {
    fn new(level: Level, capacity_events: u64) -> Machine {
        let mut world = World::new(1);
        world.capacity_events = capacity_events;
        world.durability = level.durability();
        let mut machine = Machine {
            world,
            log: None,
            reader: None,
            queued: Vec::new(),
            saves: BTreeMap::from([(0, 0)]),
            released: 0,
        };
        machine.open();
        machine
    }

    /// Opens, and compares everything that is there.
    fn open(&mut self) {
        let log = self.world.open().expect("nothing is in the way");
        self.released = self.saves[&self.world.kept].min(log.tails().tail.0);
        (self.reader, self.log) = (Some(log.reader()), Some(log));
    }

    /// An offset: so many 256ths of the way from what is reclaimed to the tail.
    fn at(&self, part: u8) -> Offset {
        let (first, tail) = (self.world.reclaimed, self.log().tails().tail.0);
        Offset(first + (tail - first) * u64::from(part) / 255)
    }

    fn log(&self) -> &Log {
        self.log.as_ref().expect("open between the steps")
    }

    fn step(&mut self, op: Op) {
        match op {
            Put { batches, records, len } => self.put(batches, records.into(), len),
            Submit { records, len } => self.submit(records.into(), len),
            Read { from, count } => self.read(self.at(from), u64::from(count) + 1),
            SeekTime { of } => self.seek_time(self.at(of)),
            Save { done } => {
                let done = self.at(done).min(self.log().reader().visible_tail());
                self.world.save_at(self.log.as_ref().expect("open"), done);
                self.note_save(done);
            }
            SyncCursors => self.world.sync_cursors(self.log.as_ref().expect("open")),
            Sync => self.log().sync().expect("the disk is well"),
            Reclaim { done } => {
                let done = self.at(done).min(self.log().reader().visible_tail());
                self.world.reclaim_at(self.log.as_ref().expect("open"), done);
                self.note_save(done);
            }
            Close => {
                self.log().close().expect("the disk is well");
                self.collect();
                assert_eq!(self.queued.len(), 0, "closing answers everybody");
                self.log = None;
                self.open();
            }
            Kill | PowerCut { .. } => {
                stop_process(&self.world.sim, self.log.take().expect("open between the steps"));
                self.queued.clear(); // in no file yet
                match op {
                    PowerCut { seed } => {
                        self.world.unsynced_lost = true;
                        self.world.sim = self.world.sim.power_cut(Loss::Seeded(seed.into()));
                    }
                    _ => self.world.restart(End::Kill),
                }
                self.open();
            }
        }
        self.collect();
        self.check_rules();
    }

    fn note_save(&mut self, done: Offset) {
        self.released = self.released.max(done.0); // nothing is taken back
        self.saves.insert(self.world.saved, self.released);
    }

    /// Events that have a place in the room.
    fn waiting(&self) -> u64 {
        let queued: usize = self.queued.iter().map(|(_, records)| records.len()).sum();
        self.log().tails().tail.0 + queued as u64 - self.released
    }

    /// Whether so many events more have a place, when `more` have got one since.
    fn fits(&self, more: u64, count: u64) -> bool {
        let waiting = self.waiting() + more;
        waiting == 0 || waiting.saturating_add(count) <= self.world.capacity_events
    }

    fn put(&mut self, batches: u8, records: u64, len: u16) {
        let put = vec![usize::from(len).max(8); records as usize];
        let fitting = (0..batches.into()).take_while(|i| self.fits(i * records, records)).count();
        let log = self.log.as_ref().expect("open between the steps");
        self.world.put(log, &vec![put.clone(); fitting]);
        assert!(self.world.limbo.is_empty(), "puts succeed");
        self.collect();
        assert!(fitting == 0 || self.queued.is_empty(), "what was queued goes with the group");
        if fitting < batches.into() {
            let more: Vec<_> = put.iter().map(|len| record(0, *len)).collect();
            let refused = self.log().put_within(batch(&more), Some(Duration::ZERO));
            assert!(matches!(refused, Err(LogError::Full { .. })), "{refused:?}");
        }
    }

    fn submit(&mut self, records: u64, len: u16) {
        let numbers = self.world.number..self.world.number + records;
        let records: Vec<_> = numbers.map(|number| record(number, len.into())).collect();
        let batch = batch(&records);
        let fits = self.fits(0, records.len() as u64);
        assert_eq!(self.log().try_reserve(&batch).expect("the disk is well"), fits);
        if fits {
            self.world.number += records.len() as u64;
            let ticket = self.log().queue(batch);
            self.queued.push((ticket, records.into_iter().map(Arc::from).collect()));
        }
    }

    /// Takes the answers that are there.
    fn collect(&mut self) {
        let mut context = Context::from_waker(Waker::noop());
        let world = &mut self.world;
        self.queued.retain_mut(|(ticket, records)| {
            let Poll::Ready(put) = Pin::new(ticket).poll(&mut context) else { return true };
            let offsets = match put {
                Ok(offsets) => offsets,
                // it needed a new segment; not being in `records`, it must not come up
                Err(LogError::Closed) => return false,
                Err(error) => panic!("{error}"),
            };
            assert_eq!(offsets.end.0 - offsets.start.0, records.len() as u64);
            world.records.extend((offsets.start.0..).zip(records.drain(..)));
            false
        });
    }

    /// What the log says of itself at any time.
    fn check_rules(&self) {
        let (log, world) = (self.log(), &self.world);
        let tails = log.tails();
        assert!(tails.durable_lsn <= tails.written_lsn && tails.durable_tail <= tails.tail);
        assert!(world.end() <= tails.tail.0, "every event is below the tail");
        let always = world.durability == Durability::Always;
        assert!(!always || tails.durable_tail == tails.tail, "what is answered for is durable");
        assert_eq!(log.usage().events, self.waiting());
    }

    fn read(&mut self, from: Offset, count: u64) {
        let tail = self.log().reader().visible_tail();
        let reader = self.reader.as_mut().expect("open between the steps");
        let read = reader.read(from..tail, count).expect("the disk is well");
        let events = read.batch.len() as u64;
        assert!(events <= count);
        assert!(read.next >= tail || events == count, "it stops only when it has enough");
        let mut expected = self.world.records.range(from.0..read.next.0.max(from.0));
        for part in read.batch.parts() {
            for (at, bytes) in (part.first.0..).zip(Walk::new(&part.records)) {
                let (offset, record) = expected.next().expect("no event that was not put");
                assert_eq!((at, bytes), (*offset, &record[..]));
            }
        }
        assert_eq!(expected.next(), None, "every event in between");
        let always = self.world.durability == Durability::Always;
        assert!(!always || read.missing.is_empty(), "{:?}", read.missing);
    }

    /// Times only rise: what is found is the first event that is not older, so nothing between it
    /// and the event asked for is older either.
    fn seek_time(&mut self, of: Offset) {
        let mut reader = self.log().reader();
        let tail = reader.visible_tail();
        let read = reader.read(of..tail, 1).expect("the disk is well");
        let Some(part) = read.batch.parts().first() else { return };
        let (time_ms, first) = (part.time_ms, part.first);
        let found = reader.seek_time(time_ms).expect("the disk is well");
        assert!(found <= first, "{found} is not behind {first}");
        let there = reader.read(found..tail, 1).expect("the disk is well");
        assert_eq!(there.batch.parts()[0].time_ms, time_ms, "it is as old as what was asked for");
    }
}

fn run(level: Level, capacity_events: u64, ops: &[Op]) {
    let mut machine = Machine::new(level, capacity_events);
    ops.iter().for_each(|op| machine.step(*op));
    machine.step(Close);
}

fn holds(Trace(level, capacity_events, ops): Trace) -> bool {
    run(level, capacity_events, &ops);
    true
}

/// Runs the trace of `seed`; panics as it fails, and does not look for a shorter one.
pub fn run_once(seed: u64) {
    holds(Trace::arbitrary(&mut Gen::from_size_and_seed(TRACE_SIZE, seed)));
}

/// Runs the trace of `seed`; panics with the shortest trace that fails as it does.
pub fn run_seed(seed: u64) {
    run_trace(holds, TRACE_SIZE, seed);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn log_does_what_a_list_does() {
        crate::harness::tests::each_seed("LEVADA_MODEL_RUNS", 2000, run_seed);
    }

    /// Traces that failed once.
    const FOUND: &[(Level, u64, &[Op])] = &[(
        Level::Os,
        u64::MAX,
        &[Put { batches: 1, records: 1, len: 8 }, Reclaim { done: 255 }, Kill],
    )];

    #[test]
    fn traces_that_failed_once_pass() {
        FOUND.iter().for_each(|(level, capacity_events, ops)| run(*level, *capacity_events, ops));
    }
}
