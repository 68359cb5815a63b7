//! Reading: no page is touched that was not asked for (the simulated disk's views insist on it), and
//! a block that can't be read is an error that passes.

use super::*;
use crate::sim::{Call, End, Plan, Sim};

fn options() -> LogOptions {
    LogOptions { segment_bytes: 16 << 20, spare_count: 1, ..quiet() }
}

/// A log of batches that are longer than what a reader asks for ahead; reopened, so that nothing is
/// resident.
fn large_batches(damage: bool) -> Log {
    let sim = Sim::new(1);
    let (log, _) = Log::open(Arc::new(sim.clone()), options()).unwrap();
    for number in 0..4 {
        log.put(batch(&[record(number, 2_500_000), record(number, 100)])).unwrap();
    }
    log.close().unwrap();
    if damage {
        sim.damage("log/0000000000000001.seg", |bytes| bytes[4096 + 20] ^= 1);
    }
    Log::open(Arc::new(sim.restart(End::Kill)), options()).unwrap().0
}

/// Only the first MiB of a batch was asked for before all of it was read: a bad block behind would
/// have been a signal that ends the process.
#[test]
fn batch_longer_than_the_window_is_asked_for_as_a_whole() {
    let log = large_batches(false);
    assert_eq!(log.reader().read(Offset(2)..Offset(3), 1).unwrap().batch.len(), 1);
    let read = log.reader().read(Offset(0)..Offset(8), 100).unwrap();
    assert_eq!((read.batch.len(), read.missing.len()), (8, 0));
    assert_eq!(log.reader().seek_time(0).unwrap(), Offset(0));
    assert_eq!(log.reader().seek_time(u64::MAX).unwrap(), Offset(8));
}

#[test]
fn search_behind_damage_asks_for_what_it_looks_at() {
    let log = large_batches(true);
    let read = log.reader().read(Offset(0)..Offset(8), 100).unwrap();
    assert_eq!(read.missing.len(), 1);
    assert_eq!(read.missing[0].range, Offset(0)..Offset(2));
    assert_eq!(read.batch.len(), 6);
}

#[test]
fn block_that_cannot_be_read_is_an_error_and_nothing_is_lost_by_it() {
    let sim = Sim::new(1);
    let (log, _) = Log::open(Arc::new(sim.clone()), quiet()).unwrap();
    for number in 0..5 {
        log.put(batch(&[record(number, 100)])).unwrap();
    }
    sim.count_reads();
    let mut reader = log.reader();
    for at in 0..2 {
        sim.fail(Some(Plan { only: Some((Call::Read, "log/")), ..Plan::once(at) }));
        let error = reader.read(Offset(0)..Offset(5), 100).unwrap_err();
        assert!(error.to_string().starts_with("read log/0000000000000001.seg: "), "{error}");
        sim.fail(None);
        assert_eq!(reader.read(Offset(0)..Offset(5), 100).unwrap().batch.len(), 5);
        reader = log.reader();
    }
    assert_eq!(log.poisoned(), None, "reading does not end writing");
}
