//! The engine against a plain list: any sequence of puts, reads, cursors, reclaims, rolls, closes and
//! crashes. A sequence that fails is shrunk and printed; pasted into `FOUND` it is run every time.

use super::sim::{Cut as Loss, End};
use super::world::World;
use super::*;
use quickcheck::{Arbitrary, Gen, QuickCheck};

/// One step. Numbers are taken modulo what there is, so that a shrunk trace still means something.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Op {
    /// So many batches in one group, of so many records of this length.
    Put {
        batches: u8,
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
use Op::{Close, Kill, PowerCut, Put, Read, Reclaim, Save, SeekTime, Sync, SyncCursors};

impl Arbitrary for Op {
    fn arbitrary(g: &mut Gen) -> Op {
        let (a, b) = (u8::arbitrary(g), u8::arbitrary(g));
        let wide = u16::arbitrary(g);
        match u8::arbitrary(g) % 20 {
            0..=6 => {
                let len = if a < 40 { wide % 13_000 } else { wide % 700 };
                Put { batches: 1 + a % 3, records: 1 + b % 4, len }
            }
            7..=10 => Read { from: a, count: b },
            11 => SeekTime { of: a },
            12 => Save { done: a },
            13 => SyncCursors,
            14 => Sync,
            15 | 16 => Reclaim { done: a },
            17 => Close,
            18 => Kill,
            _ => PowerCut { seed: wide },
        }
    }

    fn shrink(&self) -> Box<dyn Iterator<Item = Op>> {
        match *self {
            Put { batches, records, len } => {
                let less = (batches, records, len).shrink().filter(|(b, r, _)| *b > 0 && *r > 0);
                Box::new(less.map(|(batches, records, len)| Put { batches, records, len }))
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

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Level {
    Always,
    Interval,
    Os,
}

impl Arbitrary for Level {
    fn arbitrary(g: &mut Gen) -> Level {
        *g.choose(&[Level::Always, Level::Always, Level::Interval, Level::Os]).unwrap()
    }
}

/// A log and what it must be like, under way.
struct Machine {
    world: World,
    log: Option<Log>,
    reader: Option<Reader>,
}

impl Machine {
    fn new(level: Level) -> Machine {
        let mut world = World::new(1);
        world.durability = match level {
            Level::Always => Durability::Always,
            Level::Interval => Durability::Interval(Duration::from_secs(1)),
            Level::Os => Durability::Os,
        };
        let mut machine = Machine { world, log: None, reader: None };
        machine.open();
        machine
    }

    /// Opens, and compares everything that is there.
    fn open(&mut self) {
        let log = self.world.open().expect("nothing is in the way");
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
            Put { batches, records, len } => {
                let put = vec![usize::from(len).max(8); records.into()];
                let log = self.log.as_ref().expect("open between the steps");
                self.world.put(log, &vec![put; batches.into()]);
                assert!(self.world.limbo.is_empty(), "puts succeed");
            }
            Read { from, count } => self.read(self.at(from), u64::from(count) + 1),
            SeekTime { of } => self.seek_time(self.at(of)),
            Save { done } => {
                let done = self.at(done).min(self.log().reader().visible_tail());
                self.world.save_at(self.log.as_ref().expect("open"), done);
            }
            SyncCursors => self.world.sync_cursors(self.log.as_ref().expect("open")),
            Sync => self.log().sync().unwrap(),
            Reclaim { done } => {
                let done = self.at(done).min(self.log().reader().visible_tail());
                self.world.reclaim_at(self.log.as_ref().expect("open"), done);
            }
            Close => {
                self.log().close().unwrap();
                self.log = None;
                self.open();
            }
            Kill | PowerCut { .. } => {
                std::mem::forget(self.log.take());
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
        self.check_rules();
    }

    /// What the log says of itself at any time.
    fn check_rules(&self) {
        let (log, world) = (self.log(), &self.world);
        let tails = log.tails();
        assert!(tails.durable_lsn <= tails.written_lsn && tails.durable_tail <= tails.tail);
        assert!(world.end() <= tails.tail.0, "every event is below the tail");
        let always = world.durability == Durability::Always;
        assert!(!always || tails.durable_tail == tails.tail, "what is answered for is durable");
        assert!(log.usage().events <= tails.tail.0);
    }

    fn read(&mut self, from: Offset, count: u64) {
        let tail = self.log().reader().visible_tail();
        let reader = self.reader.as_mut().expect("open between the steps");
        let read = reader.read(from..tail, count).unwrap();
        let events = read.batch.len() as u64;
        assert!(events <= count);
        assert!(read.next >= tail || events == count, "it stops only when it has enough");
        let mut expected = self.world.records.range(from.0..read.next.0.max(from.0));
        for part in read.batch.parts() {
            for (at, bytes) in (part.first.0..).zip(crate::event::Records::new(&part.records)) {
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
        let read = reader.read(of..tail, 1).unwrap();
        let Some(part) = read.batch.parts().first() else { return };
        let (time_ms, first) = (part.time_ms, part.first);
        let found = reader.seek_time(time_ms).unwrap();
        assert!(found <= first, "{found} is not behind {first}");
        let there = reader.read(found..tail, 1).unwrap();
        assert_eq!(there.batch.parts()[0].time_ms, time_ms, "it is as old as what was asked for");
    }
}

fn run(level: Level, ops: &[Op]) {
    let mut machine = Machine::new(level);
    ops.iter().for_each(|op| machine.step(*op));
    machine.step(Close);
}

#[test]
fn log_does_what_a_list_does() {
    fn property(level: Level, ops: Vec<Op>) {
        run(level, &ops);
    }
    let tests = std::env::var("LEVADA_MODEL_TESTS").map_or(250, |n| n.parse().unwrap());
    let mut quickcheck = QuickCheck::new().rng(Gen::new(60)).tests(tests);
    quickcheck.quickcheck(property as fn(Level, Vec<Op>));
}

/// Traces that failed once.
const FOUND: &[(Level, &[Op])] =
    &[(Level::Os, &[Put { batches: 1, records: 1, len: 8 }, Reclaim { done: 255 }, Kill])];

#[test]
fn traces_that_failed_once_pass() {
    FOUND.iter().for_each(|(level, ops)| run(*level, ops));
}

#[test]
fn memory_log_does_what_a_list_does() {
    fn property(ops: Vec<Op>) {
        let options = LogOptions { capacity_events: 10_000, ..quiet() };
        let (log, _) = Log::in_memory(options).unwrap();
        let mut list: Vec<Vec<u8>> = Vec::new();
        let (mut reader, mut released) = (log.reader(), 0);
        for op in ops {
            let at = |part: u8| released + (list.len() - released) * usize::from(part) / 255;
            match op {
                Put { records, len, .. } => {
                    let first = list.len() as u64;
                    let numbers = first..first + u64::from(records);
                    let put: Vec<_> = numbers.map(|n| record(n, len.into())).collect();
                    let offsets = log.put(batch(&put)).unwrap();
                    assert_eq!(offsets, Offset(first)..Offset(first + u64::from(records)));
                    list.extend(put);
                }
                Read { from, count } => {
                    let range = Offset(at(from) as u64)..Offset(list.len() as u64);
                    let read = reader.read(range.clone(), count.into()).unwrap();
                    let parts = read.batch.parts().iter();
                    let records = parts.flat_map(|part| crate::event::Records::new(&part.records));
                    let expected = list[at(from)..].iter().take(count.into());
                    assert!(records.eq(expected), "{range:?}");
                    assert_eq!(read.missing, []);
                }
                Save { done } | Reclaim { done } => {
                    released = at(done);
                    let offset = Offset(released as u64);
                    log.save_cursors(b"", offset, offset).unwrap();
                    log.sync().unwrap();
                    log.reclaim(offset);
                    assert_eq!(log.usage().events, (list.len() - released) as u64);
                }
                _ => {}
            }
        }
        let kept = log.writer.segments.read().unwrap().len();
        let bytes = log.usage().bytes;
        assert!(bytes <= (kept as u64 + 1) << 16, "{bytes} bytes in {kept} segments");
    }
    QuickCheck::new().rng(Gen::new(60)).tests(150).quickcheck(property as fn(Vec<Op>));
}
