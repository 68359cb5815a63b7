//! Storage calls that fail: the n-th one, for every n of a trace that opens, puts, rolls, reclaims,
//! saves cursors, closes and opens again. Whatever fails: nothing acknowledged is lost, nothing is
//! acknowledged after a failed write or sync of a segment, nothing panics or hangs, and the log
//! opens again once the disk is well.

use super::sim::{Call, End, Plan, Sim};
use super::world::World;
use super::*;
use std::collections::BTreeMap;

const EIO: i32 = 5;
const ENOSPC: i32 = 28;

/// A segment that could not be written or synced ends acknowledgement.
fn check_poison(world: &World, log: &Log) {
    let Some((call, name)) = world.sim.failed() else { return };
    if matches!(call, Call::Write | Call::Sync) && name.starts_with("log/") {
        assert!(log.poisoned().is_some(), "{call:?} of {name} failed");
        let tails = log.tails();
        assert!(log.put(batch(&[record(0, 8)])).is_err(), "a poisoned log acknowledges nothing");
        assert_eq!(log.tails(), tails, "and goes nowhere");
    }
}

/// One life of a log, with every kind of call in it.
fn live(world: &mut World) {
    let Some(log) = world.open() else { return };
    for _ in 0..4 {
        for _ in 0..4 {
            world.put_group(&log);
            check_poison(world, &log);
        }
        world.save(&log);
        world.sync_cursors(&log);
        world.reclaim(&log);
        drop(log.sync());
        check_poison(world, &log);
    }
    heals(world, &log);
    let closed = log.close();
    assert!(closed.is_ok() || world.sim.failed().is_some(), "{closed:?}");
}

/// What failed once, and did not poison the log, is over with the next call.
fn heals(world: &mut World, log: &Log) {
    if world.sim.failed().is_some() && !world.sim.fails_for_ever() && log.poisoned().is_none() {
        for _ in 0..8 {
            world.put_group(log); // over more than one roll
        }
        assert_eq!(log.starved(), None, "the log heals");
        assert!(world.limbo.is_empty() && world.end() == log.tails().tail.0, "it takes puts again");
    }
}

/// What a failed write or sync has left, nobody knows: none is tried again where one failed.
fn check_never_again(sim: &Sim) {
    let Some((Call::Write | Call::Sync, name)) = sim.failed() else { return };
    let dir = |name: &str| name.split_once('/').map(|(dir, _)| dir.to_owned());
    if name == "STATE" {
        return; // it says how far the log is, is never synced, and is written anew each time
    }
    let mut again = sim.calls_after_failure();
    again.retain(|(call, n)| matches!(call, Call::Write | Call::Sync) && dir(n) == dir(&name));
    assert_eq!(again, [], "after a failure of {name}");
}

/// What goes wrong, in which kind of log.
#[derive(Clone, Copy, Debug)]
struct Case {
    durability: Durability,
    errno: i32,
    for_ever: bool,
    /// Whether reads fail too.
    reads: bool,
    seed: u64,
}

const CASE: Case =
    Case { durability: Durability::Always, errno: EIO, for_ever: false, reads: false, seed: 0 };

/// Three lives of a log; in `life` the plan's call fails. Returns the most calls a life made, and
/// the call that failed.
fn run(case: Case, life: usize, plan: Option<Plan>) -> (usize, Option<Call>) {
    let mut world = World::new(case.seed);
    world.durability = case.durability;
    let number = plan.map_or(0, |plan| plan.at);
    let (mut calls, mut failed) = (0, None);
    for now in 0..3 {
        if case.reads {
            world.sim.count_reads();
        }
        if now == life {
            world.sim.fail(plan);
        }
        live(&mut world);
        check_never_again(&world.sim);
        calls = calls.max(world.sim.call_count());
        if let Some((call, _)) = world.sim.failed() {
            failed = Some(call);
            if number % 3 < 2 {
                // the next owner finds in the cache what the disk has not
                world.restart(End::Kill);
            }
            if number.is_multiple_of(3) {
                // and dies before it writes
                if let Some(log) = world.open() {
                    std::mem::forget(log);
                }
            }
            if number % 3 != 1 {
                world.restart(End::PowerCut);
            }
            continue;
        }
        world.restart(if (number + now).is_multiple_of(2) { End::Kill } else { End::PowerCut });
    }
    world.settle();
    (calls, failed)
}

/// Every call of each life, one by one.
fn every_call(case: Case) {
    let (calls, _) = run(case, 0, None);
    let mut failures = BTreeMap::<Call, usize>::new();
    for (life, at) in (0..3).flat_map(|life| (0..calls).map(move |at| (life, at))) {
        let plan = Plan { at, only: None, errno: case.errno, for_ever: case.for_ever };
        let survived = std::panic::catch_unwind(|| run(case, life, Some(plan)));
        match survived {
            Ok((_, Some(call))) => *failures.entry(call).or_default() += 1,
            Ok((_, None)) => {} // this life is shorter
            Err(panic) => {
                eprintln!("reproduce: run({case:?}, {life}, Some({plan:?}))");
                std::panic::resume_unwind(panic);
            }
        }
    }
    let ran: usize = failures.values().sum();
    println!("{case:?}: {ran} failures {failures:?}");
    assert!(ran > 2 * calls, "the trace comes to its calls");
}

#[test]
fn any_call_fails_once_and_nothing_acknowledged_is_lost() {
    every_call(CASE);
}

#[test]
fn any_call_fails_once_at_interval_and_nothing_acknowledged_is_lost() {
    let durability = Durability::Interval(Duration::from_secs(1));
    every_call(Case { durability, seed: 1, ..CASE });
}

#[test]
fn every_call_fails_from_one_on_at_os_and_nothing_acknowledged_is_lost() {
    every_call(Case { durability: Durability::Os, for_ever: true, seed: 2, ..CASE });
}

#[test]
fn every_call_fails_from_one_on_and_nothing_acknowledged_is_lost() {
    every_call(Case { for_ever: true, seed: 3, ..CASE });
}

#[test]
fn disk_is_full_at_any_call_and_nothing_acknowledged_is_lost() {
    every_call(Case { errno: ENOSPC, seed: 4, ..CASE });
}

#[test]
fn disk_is_full_from_any_call_on_and_nothing_acknowledged_is_lost() {
    every_call(Case { errno: ENOSPC, for_ever: true, seed: 5, ..CASE });
}

#[test]
fn any_read_fails_and_nothing_acknowledged_is_lost() {
    every_call(Case { reads: true, seed: 6, ..CASE });
}

/// A segment's sync fails, then a sync of the recovery from it; the owner after that goes on with
/// what its cache shows, and then the power fails.
#[test]
fn recovery_from_a_failed_sync_fails_too_and_nothing_acknowledged_is_lost() {
    let mut runs = 0;
    for seed in 0..12 {
        runs += fail_twice(seed);
    }
    println!("{runs} failures within recovery from a failure");
    assert!(runs > 100, "{runs} runs");
}

/// Returns how many syncs the first life made.
fn fail_twice(seed: u64) -> usize {
    for at in 0.. {
        let mut world = World::new(seed);
        world.durability = Durability::Always;
        world.sim.fail(Some(Plan::segment_sync(at)));
        live(&mut world);
        if world.sim.failed().is_none() {
            return at;
        }
        world.restart(End::Kill);
        world.sim.fail(Some(Plan::segment_sync(1)));
        if let Some(log) = world.open() {
            std::mem::forget(log);
        }
        world.restart(End::Kill);
        let log = world.open().expect("the disk is well");
        world.put_group(&log);
        std::mem::forget(log);
        world.restart(End::PowerCut);
        world.settle();
    }
    unreachable!("a life ends")
}

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
