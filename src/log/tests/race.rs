//! Many threads on one log: nobody waits for ever, nothing acknowledged is missing, the accounts
//! of the room come out even.

use super::*;
use crate::sim::{Call, Plan, Sim};
use std::future::Future;
use std::pin::pin;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc;
use std::task::{Context, Poll, Waker};

/// Runs `work` on a thread of its own; one that hangs is a failed test and not a hung one.
fn in_time<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    let (done, wait) = mpsc::channel();
    let thread = std::thread::spawn(move || done.send(work()));
    match wait.recv_timeout(Duration::from_secs(30)) {
        Ok(result) => result,
        Err(mpsc::RecvTimeoutError::Timeout) => panic!("it hangs"),
        Err(mpsc::RecvTimeoutError::Disconnected) => {
            std::panic::resume_unwind(thread.join().expect_err("it sent nothing"))
        }
    }
}

fn one(number: u64) -> BatchBuilder {
    batch(&[record(number, 40)])
}

fn poll_once<F: Future>(future: std::pin::Pin<&mut F>) -> Poll<F::Output> {
    future.poll(&mut Context::from_waker(Waker::noop()))
}

/// A put that waited for room in a log that then failed was told of it only when a sink made room;
/// with no sink at work it waited for ever.
#[test]
fn put_that_waits_for_room_is_told_when_the_log_fails() {
    in_time(|| {
        let sim = Sim::new(1);
        let options = LogOptions { capacity_events: 2, ..small() };
        let (log, _) = Log::open(Arc::new(sim.clone()), options).unwrap();
        log.put(one(0)).unwrap();
        std::thread::scope(|scope| {
            let waiting = scope.spawn(|| log.put(batch(&[record(1, 8), record(2, 8)])));
            while log.writer.room.waiters() == 0 {
                std::thread::yield_now();
            }
            sim.fail(Some(Plan::segment_sync(0)));
            assert!(log.put(one(3)).is_err());
            assert!(matches!(waiting.join().unwrap(), Err(LogError::Poisoned { .. })));
        });
    });
}

/// Each poll left a waker behind, also that of a put that had given up: a full log of which the
/// source asks again and again grew without bound.
#[test]
fn puts_that_gave_up_leave_nothing_behind() {
    let dir = TempDir::new().unwrap();
    let (log, _) = open(&dir, LogOptions { capacity_events: 1, ..small() });
    log.put(one(0)).unwrap();
    for i in 1..50 {
        let full = log.put_within(one(i), Some(Duration::from_micros(10)));
        assert!(matches!(full, Err(LogError::Full { .. })));
        let batch = one(i);
        let mut reserve = pin!(log.reserve(&batch));
        for _ in 0..3 {
            assert!(poll_once(reserve.as_mut()).is_pending());
        }
    }
    assert_eq!(log.writer.room.waiters(), 0);
    assert_eq!(log.usage().events, 1);
}

/// The log thread went on as long as anything was queued, and synced only when nothing was: under
/// constant load `interval` never synced.
#[test]
fn interval_syncs_under_constant_load() {
    let sim = Sim::new(1);
    let durability = Durability::Interval(Duration::from_millis(5));
    // one large segment: a roll syncs too, and would hide what the interval does
    let options = LogOptions { durability, segment_bytes: 16 << 20, ..small() };
    let (log, _) = Log::open(Arc::new(sim.clone()), options).unwrap();
    sim.write_time(Duration::from_millis(1)); // so that the queue is never empty
    let end = Instant::now() + Duration::from_millis(300);
    let mut tickets = std::collections::VecDeque::new();
    for i in 0.. {
        let batch = one(i);
        assert!(log.try_reserve(&batch).unwrap());
        tickets.push_back(log.submit(batch));
        if tickets.len() > 2000 {
            let first = tickets.pop_front().expect("some are there");
            ticket::block_on(first, None).unwrap().unwrap();
        }
        if Instant::now() > end {
            break;
        }
    }
    let syncs = log.counts().syncs;
    assert!((10..=70).contains(&syncs), "{syncs} syncs in 300 ms at one each 5 ms");
}

#[test]
fn close_while_many_put_answers_everybody_and_keeps_what_it_acknowledged() {
    for round in 0..20 {
        in_time(move || {
            let dir = TempDir::new().unwrap();
            let (log, _) = open(&dir, small());
            let acknowledged = AtomicU64::new(0);
            std::thread::scope(|scope| {
                for producer in 0..24u64 {
                    let (log, acknowledged) = (&log, &acknowledged);
                    scope.spawn(move || {
                        for i in 0.. {
                            let put = if producer.is_multiple_of(2) {
                                log.put(one(producer << 32 | i))
                            } else {
                                let batch = one(producer << 32 | i);
                                assert!(log.try_reserve(&batch).unwrap());
                                ticket::block_on(log.submit(batch), None).unwrap()
                            };
                            match put {
                                Ok(_) => acknowledged.fetch_add(1, Ordering::Relaxed),
                                Err(LogError::Closed) => break,
                                Err(error) => panic!("{error}"),
                            };
                        }
                    });
                }
                std::thread::sleep(Duration::from_millis(round));
                // two at once: the second finds the first at work, or done
                scope.spawn(|| log.close().unwrap());
                log.close().unwrap();
            });
            assert!(matches!(log.put(one(0)), Err(LogError::Closed)));
            let (log, opened) = open(&dir, small());
            assert_eq!(opened.report.cut, None, "nothing was left to recover");
            let tail = log.tails().tail;
            assert_eq!(tail.0, acknowledged.into_inner());
            assert_eq!(read_all(&log, Offset(0)..tail).len() as u64, tail.0);
        });
    }
}

#[test]
fn failure_in_the_middle_answers_everybody() {
    let calls = (0..12).flat_map(|at| [(at, Call::Sync), (at, Call::Write)]);
    for (at, call) in calls {
        in_time(move || {
            let sim = Sim::new(at as u64);
            sim.fail(Some(Plan { only: Some((call, "log/")), ..Plan::once(at) }));
            let (log, _) = Log::open(Arc::new(sim.clone()), small()).unwrap();
            let told = Arc::new(AtomicU64::new(0));
            let telling = Arc::clone(&told);
            log.listen(move || {
                telling.fetch_add(1, Ordering::Relaxed);
            });
            let acknowledged = std::sync::Mutex::new(Vec::new());
            std::thread::scope(|scope| {
                for producer in 0..24u64 {
                    let (log, acknowledged) = (&log, &acknowledged);
                    scope.spawn(move || {
                        for i in 0.. {
                            let batch = batch(&[record(producer << 32 | i, 3000)]);
                            assert!(log.try_reserve(&batch).unwrap());
                            match ticket::block_on(log.submit(batch), None).unwrap() {
                                Ok(offsets) => acknowledged.lock().unwrap().push(offsets.start),
                                Err(_) => break,
                            }
                        }
                    });
                }
            });
            assert!(log.poisoned().is_some());
            let before = told.load(Ordering::Relaxed);
            assert!(before > 0, "listeners were told of the failure");
            assert!(log.writer.room.usage().events <= log.tails().tail.0, "places are given back");
            assert!(log.sync().is_err());
            assert!(log.close().is_err());
            let after = sim.restart(crate::sim::End::PowerCut);
            let (log, opened) = Log::open(Arc::new(after), quiet()).unwrap();
            assert_eq!(opened.report.damage, []);
            for offset in acknowledged.into_inner().unwrap() {
                assert_eq!(read_all(&log, offset..offset.plus(1)).len(), 1);
            }
        });
    }
}

/// Segments are recycled while readers hold slices of others, producers wait for room, and cursors
/// move on.
#[test]
fn producers_readers_and_reclaim_share_a_small_log() {
    in_time(|| {
        let dir = TempDir::new().unwrap();
        let options = LogOptions { capacity_bytes: 256 << 10, capacity_events: 400, ..small() };
        let (log, _) = open(&dir, options);
        let total = 4 * 300u64;
        let delivered = AtomicU64::new(0);
        std::thread::scope(|scope| {
            for producer in 0..4u64 {
                let log = &log;
                scope.spawn(move || {
                    for i in 0..300 {
                        log.put(batch(&[record(producer << 32 | i, 1000)])).unwrap();
                    }
                });
            }
            scope.spawn(|| {
                let mut reader = log.reader();
                let mut next = Offset(0);
                let mut held = std::collections::VecDeque::new();
                while next.0 < total {
                    let read = reader.read(next..Offset(total), 17).unwrap();
                    assert_eq!(read.missing, []);
                    held.push_back((next, read.batch));
                    next = read.next;
                    if held.len() > 20 {
                        let (_, batch) = held.pop_front().expect("some are there");
                        for part in batch.parts() {
                            for record in crate::event::Records::new(&part.records) {
                                let id = u64::from_le_bytes(record[..8].try_into().unwrap());
                                assert_eq!(
                                    record,
                                    super::record(id, 1000),
                                    "a slice never changes"
                                );
                            }
                        }
                    }
                    log.save_cursors(b"", next, next).unwrap();
                    log.sync_cursors().unwrap();
                    log.reclaim(next);
                    delivered.store(next.0, Ordering::Relaxed);
                }
            });
        });
        assert_eq!(delivered.into_inner(), total);
        assert_eq!(log.usage().events, 0);
        let sealed = log.writer.sealed_bytes();
        assert!(log.usage().bytes <= sealed + (64 << 10), "{:?}, {sealed} sealed", log.usage());
    });
}

#[test]
fn tickets_that_nobody_waits_for_are_written_all_the_same() {
    in_time(|| {
        let dir = TempDir::new().unwrap();
        let (log, _) = open(&dir, small());
        for i in 0..100 {
            let batch = one(i);
            assert!(log.try_reserve(&batch).unwrap());
            let mut ticket = pin!(log.submit(batch));
            let _ = poll_once(ticket.as_mut());
        }
        log.put(one(100)).unwrap();
        assert_eq!(read_all(&log, Offset(0)..Offset(101)).len(), 101);
        assert_eq!(log.usage().events, 101);
    });
}

/// The second of two closes found no thread left to wait for, gave the lock back and returned while
/// the maker was still making a segment: in the directory of the next owner, over one of its own.
#[test]
fn nobody_is_at_work_in_the_directory_once_any_close_returns() {
    in_time(|| {
        let sim = Sim::new(1);
        let (log, _) = Log::open(Arc::new(sim.clone()), small()).unwrap();
        let half = || batch(&[record(0, 40_000)]);
        log.put(half()).unwrap();
        sim.create_time(Duration::from_millis(300));
        log.put(half()).unwrap(); // takes a spare, and the maker makes the next one
        let close = || {
            log.close().unwrap();
            sim.call_count()
        };
        let counts = std::thread::scope(|scope| {
            let other = scope.spawn(close);
            [close(), other.join().unwrap()]
        });
        assert_eq!(counts, [sim.call_count(); 2]);
    });
}

/// A deadline that no clock reaches was a panic.
#[test]
fn longest_wait_is_no_deadline() {
    in_time(|| {
        let durability = Durability::Interval(Duration::MAX);
        let options = LogOptions { durability, capacity_events: 1, ..small() };
        let (log, _) = Log::open(Arc::new(Sim::new(1)), options).unwrap();
        let batch = one(0);
        assert!(log.try_reserve(&batch).unwrap());
        ticket::block_on(log.submit(batch), None).unwrap().unwrap(); // the log thread's work
        std::thread::scope(|scope| {
            let waiting = scope.spawn(|| log.put_within(one(1), Some(Duration::MAX)));
            while log.writer.room.waiters() == 0 && !waiting.is_finished() {
                std::thread::yield_now();
            }
            log.save_cursors(b"", Offset(1), Offset(1)).unwrap();
            assert_eq!(waiting.join().unwrap().unwrap(), Offset(1)..Offset(2));
        });
        log.close().unwrap();
    });
}

/// Wakers were called with the room held: one that asked the log anything waited for itself.
#[test]
fn waker_of_a_put_that_waits_may_use_the_log() {
    struct Asks(Arc<Log>, AtomicU64);
    impl std::task::Wake for Asks {
        fn wake(self: Arc<Self>) {
            self.1.store(self.0.usage().events + 1, Ordering::Relaxed);
        }
    }
    in_time(|| {
        let options = LogOptions { capacity_events: 1, ..small() };
        let (log, _) = Log::open(Arc::new(Sim::new(1)), options).unwrap();
        let log = Arc::new(log);
        log.put(one(0)).unwrap();
        let asks = Arc::new(Asks(Arc::clone(&log), AtomicU64::new(0)));
        let batch = one(1);
        let mut reserve = pin!(log.reserve(&batch));
        let waker = Waker::from(Arc::clone(&asks));
        assert!(reserve.as_mut().poll(&mut Context::from_waker(&waker)).is_pending());
        log.save_cursors(b"", Offset(1), Offset(1)).unwrap();
        assert_eq!(asks.1.load(Ordering::Relaxed), 1, "it was woken, and no event is left");
    });
}

/// Puts of every kind wait in a full log; then it closes, or fails.
#[test]
fn full_log_that_ends_answers_everybody_who_waits_for_room() {
    for fails in [false, true].repeat(10) {
        in_time(move || {
            let sim = Sim::new(1);
            let options = LogOptions { capacity_events: 3, durability: Durability::Os, ..small() };
            let (log, _) = Log::open(Arc::new(sim.clone()), options).unwrap();
            log.put(batch(&[record(0, 8), record(1, 8), record(2, 8)])).unwrap();
            std::thread::scope(|scope| {
                let mut puts = Vec::new();
                for i in 0..3 {
                    let log = &log;
                    puts.push(scope.spawn(move || log.put(one(i))));
                    let long = Some(Duration::from_secs(3600));
                    puts.push(scope.spawn(move || log.put_within(one(i), long)));
                    puts.push(scope.spawn(move || {
                        let batch = one(i);
                        ticket::block_on(log.reserve(&batch), None).unwrap().unwrap();
                        ticket::block_on(log.submit(batch), None).unwrap()
                    }));
                }
                while log.writer.room.waiters() < puts.len() {
                    std::thread::yield_now();
                }
                if fails {
                    sim.fail(Some(Plan::segment_sync(0)));
                    assert!(log.sync().is_err());
                } else {
                    log.close().unwrap();
                }
                for put in puts {
                    match put.join().unwrap() {
                        Err(LogError::Poisoned { .. }) => assert!(fails),
                        Err(LogError::Closed) => assert!(!fails),
                        other => panic!("{other:?}"),
                    }
                }
            });
            assert_eq!((log.usage().events, log.writer.room.waiters()), (3, 0));
        });
    }
}

/// Puts by one producer, in every way there is; some reservations are dropped half-way, some
/// tickets are never asked.
fn produce(log: &Log, producer: u64, count: u64) {
    let mut rng = fastrand::Rng::with_seed(producer);
    for i in 0..count {
        let one = || batch(&[record(producer << 32 | i, 1000)]);
        match producer % 3 {
            0 => drop(log.put(one()).unwrap()),
            1 => loop {
                match log.put_within(one(), Some(Duration::from_micros(rng.u64(..200)))) {
                    Ok(_) => break,
                    Err(LogError::Full { .. }) => {}
                    Err(error) => panic!("{error}"),
                }
            },
            _ => {
                let batch = one();
                while rng.bool() {
                    let mut given_up = Box::pin(log.reserve(&batch));
                    if let Poll::Ready(reserved) = poll_once(given_up.as_mut()) {
                        reserved.unwrap();
                        log.writer.room.cancel(1, log.size_of(&batch).unwrap().1);
                    }
                }
                ticket::block_on(log.reserve(&batch), None).unwrap().unwrap();
                let mut ticket = pin!(log.submit(batch));
                if rng.bool() {
                    ticket::block_on(ticket, None).unwrap().unwrap();
                } else {
                    let _ = poll_once(ticket.as_mut());
                }
            }
        }
    }
}

/// A sink that sleeps until the listener tells of something new gets every record once, each
/// producer's in order; what it acknowledges is all the room there is.
#[test]
fn producers_of_every_kind_share_a_full_log_with_a_sink() {
    const PRODUCERS: u64 = 6;
    const EACH: u64 = 150;
    for durability in [Durability::Always, Durability::Os] {
        in_time(move || {
            let options = LogOptions { durability, capacity_events: 9, ..small() };
            let (log, _) = Log::open(Arc::new(Sim::new(1)), options).unwrap();
            let news = Arc::new((Mutex::new(0u64), std::sync::Condvar::new()));
            let tell = Arc::clone(&news);
            log.listen(move || {
                *tell.0.lock().unwrap() += 1;
                tell.1.notify_all();
            });
            let mut seen = [0; PRODUCERS as usize];
            std::thread::scope(|scope| {
                for producer in 0..PRODUCERS {
                    let log = &log;
                    scope.spawn(move || produce(log, producer, EACH));
                }
                let (mut reader, mut next) = (log.reader(), Offset(0));
                while next.0 < PRODUCERS * EACH {
                    let told = *news.0.lock().unwrap();
                    let tail = reader.visible_tail();
                    if tail == next {
                        let wait = |now: &mut u64| *now == told;
                        drop(news.1.wait_while(news.0.lock().unwrap(), wait).unwrap());
                        continue;
                    }
                    assert!(log.usage().events <= 9, "{:?}", log.usage());
                    let read = reader.read(next..tail, 4).unwrap();
                    for part in read.batch.parts() {
                        for bytes in crate::event::Records::new(&part.records) {
                            let id = LE::read_u64(bytes);
                            let (producer, i) = ((id >> 32) as usize, id & 0xffff_ffff);
                            assert_eq!((i, bytes.len()), (seen[producer], 1000), "of {producer}");
                            seen[producer] += 1;
                        }
                    }
                    next = read.next;
                    log.save_cursors(b"", next, next).unwrap();
                    log.reclaim(next);
                }
            });
            assert_eq!(seen, [EACH; PRODUCERS as usize]);
            assert_eq!((log.usage().events, log.writer.room.waiters()), (0, 0));
            log.close().unwrap();
        });
    }
}

/// Without threads of its own a log prepares segments on its callers', one of them at a time: a
/// spare's name must not be given to a segment by one and removed by another.
#[test]
fn log_without_threads_is_reclaimed_by_one_while_another_puts() {
    in_time(|| {
        let sim = Sim::new(1);
        let options = LogOptions { spare_count: 1, ..quiet() };
        let (log, _) = Log::open(Arc::new(sim.clone()), options).unwrap();
        let count = 4000;
        std::thread::scope(|scope| {
            let reclaimer = scope.spawn(|| {
                let mut released = 0;
                while released < count - 200 {
                    // in lumps, so that there are spares to remove
                    let tail = log.tails().durable_tail.0;
                    if tail >= released + 150 {
                        released = tail - 10;
                        log.reclaim(Offset(released));
                    }
                    log.writer.maker.retire_now();
                }
                released
            });
            for number in 0..count {
                log.put(batch(&[record(number, 4000)])).unwrap();
            }
            let released = reclaimer.join().unwrap();
            let left = read_all(&log, Offset(released)..Offset(count));
            assert_eq!(left.len() as u64, count - released);
        });
        log.close().unwrap();
        let names = sim.names("log");
        let held: Vec<_> = log.writer.segments.read().unwrap().iter().map(|s| s.name()).collect();
        let gone = held.iter().find(|name| !names.iter().any(|file| name.ends_with(file.as_str())));
        assert_eq!(gone, None, "a segment in use was removed");
    });
}
