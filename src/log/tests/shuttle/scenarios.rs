//! The scenarios: who meets whom, and what must hold in every order.

use super::*;
use crate::log::ticket::block_on;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, Wake, Waker};

/// One in `of`, as the schedule has it.
fn chance(of: u32) -> bool {
    thread_rng().gen_ratio(1, of)
}

fn below(end: u64) -> u64 {
    thread_rng().gen_range(0..end)
}

fn options(durability: Durability) -> LogOptions {
    LogOptions { durability, spare_count: 1, ..small() }
}

fn any_durability() -> Durability {
    match below(4) {
        0 => Durability::Os,
        1 => Durability::Interval(Duration::from_millis(60)),
        _ => Durability::Always,
    }
}

/// Reads the log as it grows, up to `count` events; returns their ids.
fn follow(log: &Log, news: &News, count: u64, mut done: impl FnMut(Offset)) -> Vec<u64> {
    let (mut reader, mut next) = (log.reader(), Offset(0));
    let mut ids = Vec::new();
    while next.0 < count {
        let seen = news.count();
        let tail = reader.visible_tail();
        if tail == next {
            news.wait(seen);
            continue;
        }
        let read = reader.read(next..tail, 3).unwrap();
        assert!(read.missing.is_empty(), "{:?}", read.missing);
        for part in read.batch.parts() {
            ids.extend(crate::event::Records::new(&part.records).map(LE::read_u64));
        }
        next = read.next;
        done(next);
    }
    ids
}

/// Each producer's records come in the order in which it put them, all of them once.
fn check_order(ids: &[u64], producers: u64, each: u64) {
    for producer in 0..producers {
        let own: Vec<_> = ids.iter().copied().filter(|id| id >> 8 == producer + 1).collect();
        let put: Vec<_> = (0..each).map(|number| id(producer, number)).collect();
        assert_eq!(own, put, "of producer {producer}");
    }
}

pub(super) fn producers_and_a_reader_with(disk: Disk) {
    const PRODUCERS: u64 = 3;
    let log = open_on(&disk, options(any_durability()));
    let news = News::of(&log);
    let total = PRODUCERS * 3;
    let reader = {
        let log = Arc::clone(&log);
        thread::Builder::new().spawn(move || follow(&log, &news, total, |_| {})).unwrap()
    };
    let (shared, on) = (Arc::clone(&log), disk.clone());
    let puts = producers(PRODUCERS, move |producer| {
        // one event, then two
        let first = shared.put(one(id(producer, 0), 8)).unwrap();
        check_acknowledged(&shared, &on, &first, &[id(producer, 0)]);
        let two = [id(producer, 1), id(producer, 2)];
        let second = shared.put(batch(&two.map(|id| record(id, 8)))).unwrap();
        check_acknowledged(&shared, &on, &second, &two);
        assert!(first.end <= second.start, "a producer's puts have an order");
        [first, second]
    });
    let ranges = join(puts).into_iter().flatten().collect();
    assert_eq!(check_dense(ranges), total);
    check_order(&reader.join().unwrap(), PRODUCERS, 3);
    log.close().unwrap();
    let tails = log.tails();
    assert_eq!((tails.tail, tails.durable_tail), (Offset(total), Offset(total)));
}

pub(super) fn producers_and_a_reader() {
    producers_and_a_reader_with(Disk::default());
}

#[test]
fn acknowledged_puts_are_durable_and_visible_in_every_order() {
    explore(producers_and_a_reader);
}

/// Wakes a thread that waits for news.
struct Bell(News);

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        self.0.tell();
    }
}

/// Polls all tickets with a waker each time new, until each has its result.
fn await_all(mut tickets: Vec<Ticket>) -> Vec<PutResult> {
    let mut results = Vec::new();
    while !tickets.is_empty() {
        let bell = Arc::new(Bell(News::default()));
        let waker = Waker::from(Arc::clone(&bell));
        let mut context = Context::from_waker(&waker);
        let before = results.len();
        tickets.retain_mut(|ticket| match Pin::new(ticket).poll(&mut context) {
            Poll::Ready(result) => {
                results.push(result);
                false
            }
            Poll::Pending => true,
        });
        if !tickets.is_empty() && results.len() == before {
            bell.0.wait(0);
        }
    }
    results
}

/// Tasks that submit, one of them without waiting, beside threads that put.
pub(super) fn tickets_beside_leaders() {
    let disk = Disk::default();
    let log = open_on(&disk, options(any_durability()));
    let (shared, on) = (Arc::clone(&log), disk.clone());
    let puts = producers(4, move |producer| match producer {
        0 => {
            let ids = [id(0, 0), id(0, 1)];
            let submit = |id| {
                let batch = one(id, 8);
                assert!(shared.try_reserve(&batch).unwrap());
                shared.submit(batch)
            };
            let results = await_all(ids.map(submit).into());
            let mut ranges: Vec<_> = results.into_iter().map(Result::unwrap).collect();
            ranges.sort_by_key(|range| range.start);
            for (range, id) in ranges.iter().zip(ids) {
                check_acknowledged(&shared, &on, range, &[id]);
            }
            ranges
        }
        1 => {
            // nobody asks what became of it
            let batch = one(id(1, 0), 8);
            assert!(shared.try_reserve(&batch).unwrap());
            drop(shared.submit(batch));
            vec![]
        }
        2 => {
            // a task of an executor
            let range = ::shuttle::future::block_on(async {
                let batch = one(id(2, 0), 8);
                shared.reserve(&batch).await.unwrap();
                shared.submit(batch).await.unwrap()
            });
            check_acknowledged(&shared, &on, &range, &[id(2, 0)]);
            vec![range]
        }
        _ => vec![shared.put(one(id(3, 0), 8)).unwrap()],
    });
    let ranges: Vec<_> = join(puts).into_iter().flatten().collect();
    assert_eq!(ranges.len(), 4);
    log.close().unwrap();
    assert_eq!(log.tails().durable_tail, Offset(5), "the one without a waiter too");
    assert_eq!(log.usage().events, 5);
}

#[test]
fn tickets_beside_leading_puts_are_woken_in_every_order() {
    explore(tickets_beside_leaders);
}

/// A sync fails while three producers put, and wait for room, and one syncs.
fn a_sync_fails() {
    let disk = Disk::default();
    let durability = if chance(3) { Durability::Os } else { Durability::Always };
    let options = LogOptions { capacity_events: 1 + below(6), ..options(durability) };
    let log = open_on(&disk, options);
    disk.fail_sync(below(4));
    let refused = Arc::new(Mutex::new(false));
    let (shared, on) = (Arc::clone(&log), disk.clone());
    let puts = producers(4, move |producer| {
        if producer == 3 {
            drop(shared.sync());
            // the log is full for good unless it fails: who waits for room would wait for ever
            while shared.poisoned().is_none() {
                let tail = shared.tails().tail;
                shared.save_cursors(b"", tail, tail).unwrap();
                drop(shared.sync());
                thread::yield_now();
                if shared.tails().tail.0 == 6 {
                    break; // all were put before it failed
                }
            }
            return vec![];
        }
        let mut ranges = vec![];
        for number in 0..2 {
            let over = *refused.lock().unwrap() || shared.poisoned().is_some();
            let id = id(producer, number);
            match shared.put(one(id, 8)) {
                Ok(range) => {
                    assert!(!over, "{id:x} was acknowledged after a failure");
                    check_acknowledged(&shared, &on, &range, &[id]);
                    ranges.push(range);
                }
                Err(LogError::Poisoned { .. } | LogError::Io { .. }) => {
                    assert!(on.has_failed());
                    *refused.lock().unwrap() = true;
                }
                Err(error) => panic!("{error}"),
            }
        }
        ranges
    });
    let ranges: Vec<_> = join(puts).into_iter().flatten().collect();
    let acknowledged = check_dense(ranges);
    assert_eq!(log.tails().tail.0, acknowledged, "nothing else is told of");
    let closed = log.close(); // an idle log's sync, and the last one, may fail too
    let failed = disk.has_failed();
    assert_eq!((closed.is_err(), log.poisoned().is_some()), (failed, failed), "{closed:?}");
    assert_eq!(disk.calls_after_failure(), 0, "nothing is tried again");
    assert_eq!(log.writer.room.waiters(), 0);
}

#[test]
fn failed_sync_ends_every_wait_and_every_acknowledgement_in_every_order() {
    explore(a_sync_fails);
}

/// A full log: two producers, one of which gives up now and then, and two sinks' threads that
/// save cursors and reclaim.
pub(super) fn a_full_log() {
    const EACH: u64 = 3;
    let disk = Disk::default();
    let options = LogOptions {
        capacity_events: 2,
        capacity_bytes: if chance(2) { 200 << 10 } else { u64::MAX },
        ..options(Durability::Always)
    };
    let log = open_on(&disk, options);
    let news = News::of(&log);
    let shared = Arc::clone(&log);
    let puts = producers(2, move |producer| {
        for number in 0..EACH {
            let batch = || one(id(producer, number), 20_000);
            if producer == 0 {
                shared.put(batch()).unwrap();
                continue;
            }
            loop {
                match shared.put_within(batch(), Some(Duration::from_millis(250))) {
                    Ok(_) => break,
                    Err(LogError::Full { .. }) => thread::yield_now(),
                    Err(error) => panic!("{error}"),
                }
            }
        }
    });
    let sink = Arc::clone(&log);
    let ids = follow(&log, &news, 2 * EACH, move |next| {
        sink.save_cursors(b"", next, next).unwrap();
        sink.reclaim(next);
    });
    join(puts);
    check_order(&ids, 2, EACH);
    assert_eq!((log.usage().events, log.writer.room.waiters()), (0, 0));
    log.close().unwrap();
    assert_eq!(log.usage().bytes, log.writer.sealed_bytes(), "no place is left taken");
}

#[test]
fn full_log_goes_on_as_it_is_read_in_every_order() {
    explore(a_full_log);
}

/// Two closes beside producers of every kind, some of which wait for room.
pub(super) fn a_close() {
    let disk = Disk::default();
    let options = LogOptions { capacity_events: 2, ..options(any_durability()) };
    let log = open_on(&disk, options.clone());
    let (shared, on) = (Arc::clone(&log), disk.clone());
    let puts = producers(4, move |producer| {
        let mut ranges = vec![];
        for number in 0..2 {
            let id = id(producer, number);
            let batch = one(id, 8);
            let result = match producer {
                0 => shared.put(batch),
                1 => shared.put_within(batch, Some(Duration::from_millis(250))),
                2 => ::shuttle::future::block_on(async {
                    shared.reserve(&batch).await?;
                    shared.submit(batch).await
                }),
                _ => {
                    shared.close().unwrap();
                    let tails = shared.tails();
                    assert_eq!(tails.tail, tails.durable_tail, "a close makes all durable");
                    return ranges;
                }
            };
            match result {
                Ok(range) => {
                    check_acknowledged(&shared, &on, &range, &[id]);
                    ranges.push(range);
                }
                Err(LogError::Closed | LogError::Full { .. }) => {}
                Err(error) => panic!("{error}"),
            }
        }
        ranges
    });
    log.close().unwrap();
    let tails = log.tails();
    let ranges = join(puts).into_iter().flatten().collect();
    let acknowledged = check_dense(ranges);
    assert_eq!(log.tails(), tails, "a closed log goes nowhere");
    assert_eq!(tails.durable_tail.0, acknowledged);
    assert_eq!((log.usage().events, log.writer.room.waiters()), (acknowledged, 0));
    drop(log);
    let (log, opened) = Log::open(Arc::new(disk), options).unwrap();
    assert_eq!((opened.report.tail.0, opened.report.cut), (acknowledged, None));
    log.close().unwrap();
}

#[test]
fn close_answers_every_put_in_every_order() {
    explore(a_close);
}

/// Every put fills a segment. What a sink holds stays as it is while two threads reclaim, the maker
/// recycles, and producers write over what was recycled.
fn rolls_and_recycling() {
    const EACH: u64 = 3;
    let disk = Disk::default();
    let log = open_on(&disk, options(Durability::Always));
    let news = News::of(&log);
    let shared = Arc::clone(&log);
    let puts = producers(2, move |producer| {
        for number in 0..EACH {
            let range = shared.put(one(id(producer, number), 40_000)).unwrap();
            shared.reclaim(range.start);
        }
    });
    let shared = Arc::clone(&log);
    let other = thread::Builder::new().spawn(move || {
        loop {
            let tail = shared.tails().durable_tail;
            shared.reclaim(Offset(tail.0.saturating_sub(1)));
            if tail.0 == 2 * EACH {
                break;
            }
            thread::yield_now();
        }
    });
    // a sink that holds what it read
    let mut held = Vec::new();
    let mut reader = log.reader();
    let mut next = Offset(0);
    while next.0 < 2 * EACH {
        let seen = news.count();
        let tail = reader.visible_tail();
        if tail == next {
            news.wait(seen);
            continue;
        }
        let read = reader.read(next..tail, 1).unwrap();
        let missing =
            read.missing.iter().find(|missing| missing.reason != MissingReason::Reclaimed);
        assert_eq!(missing, None, "what is there is whole");
        for part in read.batch.parts() {
            let (id, bytes) = (LE::read_u64(&part.records[4..]), part.records.clone());
            held.push((id, bytes));
        }
        next = read.next;
        if chance(2) {
            log.reclaim(next);
        }
        if held.len() > 2 {
            held.remove(0);
        }
        for (id, bytes) in &held {
            assert_eq!(LE::read_u64(&bytes[4..]), *id, "a sink's bytes were written over");
            assert!(bytes[12..].iter().all(|byte| *byte == *id as u8));
        }
    }
    join(puts);
    other.unwrap().join().unwrap();
    log.close().unwrap();
    let retired = disk.retired();
    assert!(retired.is_sorted(), "the oldest goes first: {retired:?}");
    assert_eq!(log.tails().durable_tail, Offset(2 * EACH));
    assert_eq!(log.usage().bytes, log.writer.sealed_bytes());
}

#[test]
fn segments_roll_and_are_recycled_under_a_sink_in_every_order() {
    explore(rolls_and_recycling);
}

/// Segments can't be made for a while, and there is room for one event: puts are refused, who waits
/// for the room of one that was refused gets it, and the log heals by itself.
fn a_full_disk() {
    let disk = Disk::default();
    let options = LogOptions { capacity_events: 1, ..options(Durability::Always) };
    let log = open_on(&disk, options);
    disk.fail_creates(1 + below(4));
    let shared = Arc::clone(&log);
    let puts = producers(3, move |producer| {
        let mut ranges = vec![];
        for number in 0..2 {
            loop {
                match shared.put(one(id(producer, number), 40_000)) {
                    Ok(range) => {
                        shared.save_cursors(b"", range.end, range.end).unwrap();
                        break ranges.push(range);
                    }
                    Err(LogError::NoSpace { .. }) if producer == 0 => break, // gives up
                    Err(LogError::NoSpace { .. }) => thread::yield_now(),
                    Err(error) => panic!("{error}"),
                }
            }
        }
        ranges
    });
    let ranges = join(puts).into_iter().flatten().collect();
    assert!(check_dense(ranges) >= 4);
    assert_eq!(log.usage().events, 0, "a refused put gives its place back");
    log.close().unwrap();
}

#[test]
fn full_disk_refuses_puts_and_heals_in_every_order() {
    explore(a_full_disk);
}

/// The newest record of the journal never knows less than somebody knew before he saved.
fn savers_beside_a_producer() {
    let disk = Disk::default();
    let log = open_on(&disk, options(Durability::Always));
    log.put(one(id(0, 0), 8)).unwrap();
    let (shared, on) = (Arc::clone(&log), disk.clone());
    let puts = producers(3, move |producer| {
        for number in 1..4 {
            if producer == 0 {
                shared.put(one(id(0, number), 8)).unwrap();
                continue;
            }
            let known = shared.tails();
            let (seen, released) = (known.durable_tail, Offset(known.durable_tail.0 / 2));
            shared.save_cursors(&[producer as u8], seen, released).unwrap();
            shared.sync_cursors().unwrap();
            let newest = read_journal(&on, shared.uuid().as_bytes()).unwrap().newest.unwrap();
            let Mark { durable_lsn, durable_tail, seen_tail, .. } = newest.mark;
            assert!(durable_lsn >= known.durable_lsn, "{durable_lsn}, {known:?} was known");
            assert!(durable_tail >= known.durable_tail.0 && seen_tail >= seen.0);
        }
    });
    join(puts);
    log.close().unwrap();
    assert!(log.usage().events <= 4);
}

#[test]
fn saved_cursors_never_go_back_in_what_was_durable_in_any_order() {
    explore(savers_beside_a_producer);
}

/// The same schedule is the same run: a failure can be looked at again.
#[test]
fn schedule_decides_everything() {
    for scenario in [producers_and_a_reader, tickets_beside_leaders, a_full_log, a_close] {
        let random = RandomScheduler::new_from_seed(fastrand::u64(..), 20);
        explore_with(UncontrolledNondeterminismCheckScheduler::new(random), scenario);
    }
}

/// Two tickets, waited for by the crate's own means; only the log thread writes.
pub(super) fn two_tickets() {
    let log = open_on(&Disk::default(), options(Durability::Always));
    let shared = Arc::clone(&log);
    let puts = producers(2, move |producer| {
        let batch = one(id(producer, 0), 8);
        assert!(shared.try_reserve(&batch).unwrap());
        block_on(shared.submit(batch), None).unwrap().unwrap()
    });
    assert_eq!(check_dense(join(puts)), 2);
    log.close().unwrap();
}

#[test]
fn blocking_on_a_ticket_ends_in_every_order() {
    explore(two_tickets);
}
