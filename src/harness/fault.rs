//! Storage calls that fail: the n-th one, for every n of a trace that opens, puts, rolls, reclaims,
//! saves cursors, closes and opens again. Whatever fails: nothing acknowledged is lost, nothing is
//! acknowledged after a failed write or sync of a segment, nothing panics or hangs, and the log
//! opens again once the disk is well.

use super::world::World;
use super::{batch, record, stop_process};
use crate::log::{Durability, Log};
use crate::sim::{Call, End, Plan, Sim};
use std::collections::BTreeMap;
use std::time::Duration;

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
pub struct Case {
    durability: Durability,
    errno: i32,
    for_ever: bool,
    /// Whether reads fail too.
    reads: bool,
    seed: u64,
}

const INTERVAL: Durability = Durability::Interval(Duration::from_secs(1));
const CASE: Case =
    Case { durability: Durability::Always, errno: EIO, for_ever: false, reads: false, seed: 0 };

/// The standard trace in every kind of log, and what goes wrong in it.
pub const CASES: [Case; 7] = [
    CASE,
    Case { durability: INTERVAL, seed: 1, ..CASE },
    Case { durability: Durability::Os, for_ever: true, seed: 2, ..CASE },
    Case { for_ever: true, seed: 3, ..CASE },
    Case { errno: ENOSPC, seed: 4, ..CASE },
    Case { errno: ENOSPC, for_ever: true, seed: 5, ..CASE },
    Case { reads: true, seed: 6, ..CASE },
];

/// A case for each number: the seven of [`CASES`] first, then the same with other traces.
pub fn case(number: u64) -> Case {
    Case { seed: number, ..CASES[(number % CASES.len() as u64) as usize] }
}

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
                    stop_process(&world.sim, log);
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

/// Makes every call of each life of a case fail, one by one; panics if that breaks a promise.
/// Returns how many calls failed, by kind.
pub fn every_call(case: Case) -> BTreeMap<Call, usize> {
    let (calls, _) = run(case, 0, None);
    let mut failures = BTreeMap::<Call, usize>::new();
    for (life, at) in (0..3).flat_map(|life| (0..calls).map(move |at| (life, at))) {
        let plan = Plan { at, only: None, errno: case.errno, for_ever: case.for_ever };
        let survived = std::panic::catch_unwind(|| run(case, life, Some(plan)));
        match survived {
            Ok((_, Some(call))) => *failures.entry(call).or_default() += 1,
            Ok((_, None)) => {} // this life is shorter
            Err(panic) => {
                eprintln!("call {at} of life {life} fails: {case:?}");
                std::panic::resume_unwind(panic);
            }
        }
    }
    let ran: usize = failures.values().sum();
    assert!(ran > 2 * calls, "the trace comes to its calls");
    failures
}

/// A segment's sync fails, then a sync of the recovery from it; the owner after that goes on with
/// what its cache shows, and then the power fails. Returns how many syncs the first life made.
pub fn fail_twice(seed: u64) -> usize {
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
            stop_process(&world.sim, log);
        }
        world.restart(End::Kill);
        let log = world.open().expect("the disk is well");
        world.put_group(&log);
        stop_process(&world.sim, log);
        world.restart(End::PowerCut);
        world.settle();
    }
    unreachable!("a life ends")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn case(number: usize) {
        let failures = every_call(CASES[number]);
        println!("{:?}: {} failures {failures:?}", CASES[number], failures.values().sum::<usize>());
    }

    #[test]
    fn any_call_fails_once_and_nothing_acknowledged_is_lost() {
        case(0);
    }

    #[test]
    fn any_call_fails_once_at_interval_and_nothing_acknowledged_is_lost() {
        case(1);
    }

    #[test]
    fn every_call_fails_from_one_on_at_os_and_nothing_acknowledged_is_lost() {
        case(2);
    }

    #[test]
    fn every_call_fails_from_one_on_and_nothing_acknowledged_is_lost() {
        case(3);
    }

    #[test]
    fn disk_is_full_at_any_call_and_nothing_acknowledged_is_lost() {
        case(4);
    }

    #[test]
    fn disk_is_full_from_any_call_on_and_nothing_acknowledged_is_lost() {
        case(5);
    }

    #[test]
    fn any_read_fails_and_nothing_acknowledged_is_lost() {
        case(6);
    }

    #[test]
    fn recovery_from_a_failed_sync_fails_too_and_nothing_acknowledged_is_lost() {
        let runs: usize = (0..12).map(fail_twice).sum();
        println!("{runs} failures within recovery from a failure");
        assert!(runs > 100, "{runs} runs");
    }
}
