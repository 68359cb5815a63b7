//! A full disk, and what calls cost. That any storage call may fail is `harness::fault`'s.

use super::*;
use crate::sim::{Call, Sim};

/// The only allocation is the next segment's: a put that needs one says so before it is accepted;
/// sinks go on, and what they give back makes room.
#[test]
fn full_disk_refuses_puts_and_heals_as_sinks_drain() {
    let sim = Sim::new(4);
    let options = LogOptions { spare_count: 1, ..quiet() };
    let (log, _) = Log::open(Arc::new(sim.clone()), options.clone()).unwrap();
    for number in 0..30 {
        log.put(batch(&[record(number, 3000)])).unwrap();
    }
    sim.set_full(true);
    let mut number = 30;
    let refused = loop {
        match log.put(batch(&[record(number, 3000)])) {
            Ok(_) => number += 1,
            Err(error) => break error,
        }
        assert!(number < 60, "the disk is full");
    };
    assert!(matches!(refused, LogError::NoSpace { .. }), "{refused}");
    assert!(log.starved().is_some() && log.poisoned().is_none());
    assert_eq!(log.usage().events, number, "the place is given back");
    assert_eq!(read_all(&log, Offset(0)..Offset(number)).len() as u64, number);
    // an acknowledgement needs no room, and a reclaimed segment is the next one
    log.save_cursors(b"", Offset(number), Offset(number)).unwrap();
    log.sync_cursors().unwrap();
    assert!(log.reclaim(Offset(number)) > 0);
    let put = log.put(batch(&[record(number, 3000)])).unwrap();
    assert_eq!(put.start, Offset(number), "the refused put took no offset");
    assert_eq!(log.starved(), None);
    log.close().unwrap();
    let (log, opened) = Log::open(Arc::new(sim), options).unwrap();
    assert_eq!((opened.report.tail, opened.report.damage), (Offset(number + 1), vec![]));
    drop(log);
}

/// The log's own thread asks again: a disk that has room again is enough, without a put or a
/// reclaim that asks for it.
#[test]
fn starved_log_heals_when_the_disk_has_room_again() {
    let sim = Sim::new(4);
    let (log, _) = Log::open(Arc::new(sim.clone()), small()).unwrap();
    sim.set_full(true);
    let one = |number| batch(&[record(number, 3000)]);
    let end = Instant::now() + Duration::from_secs(20);
    let mut number = 0;
    while !matches!(log.put(one(number)), Err(LogError::NoSpace { .. })) {
        number += 1;
        assert!(number < 200, "the disk is full");
    }
    sim.set_full(false);
    while log.starved().is_some() {
        assert!(Instant::now() < end, "it heals");
        std::thread::sleep(Duration::from_millis(5));
    }
    assert_eq!(log.put(one(number)).unwrap().start, Offset(number));
    assert_eq!(read_all(&log, Offset(0)..Offset(number + 1)).len() as u64, number + 1);
    log.close().unwrap();
}

/// A put is one write and one sync, a roll included nothing is created or renamed for it, and an
/// acknowledgement is one write.
#[test]
fn put_and_acknowledgement_cost_what_they_promise() {
    let sim = Sim::new(4);
    let (log, _) = Log::open(Arc::new(sim.clone()), quiet()).unwrap();
    log.put(batch(&[record(0, 3000)])).unwrap();
    let counts = || [Call::Write, Call::Sync, Call::Create, Call::SyncDir].map(|c| sim.count_of(c));
    let before = counts();
    log.put(batch(&[record(1, 3000)])).unwrap();
    let [writes, syncs, creates, dirs] = counts();
    // the second write is STATE's, which is never synced
    assert_eq!([writes - before[0], syncs - before[1]], [2, 1]);
    assert_eq!([creates, dirs], before[2..]);
    log.save_cursors(b"", Offset(1), Offset(1)).unwrap();
    log.save_cursors(b"", Offset(2), Offset(2)).unwrap();
    assert_eq!([sim.count_of(Call::Write) - writes, sim.count_of(Call::Sync) - syncs], [2, 0]);
    log.sync_cursors().unwrap();
    log.sync_cursors().unwrap();
    assert_eq!(sim.count_of(Call::Sync) - syncs, 1, "one sync covers many");
}
