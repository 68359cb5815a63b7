//! Crashes on a simulated disk: nothing acknowledged is lost, nothing comes up that was never put,
//! opening never fails, and a crash during recovery changes none of that.
//!
//! Two ways: random runs with several crashes each, and every legal crash state of fixed traces
//! (each call × what the power cut may leave), counted.

use super::sim::{Cut, End, Sim};
use super::world::World;
use super::*;
use std::collections::HashSet;

/// Random runs, in all. Each has several crashes.
const RUNS: u64 = 600;
const CRASHES: usize = 3;
/// Traces of which the crash states are enumerated.
const TRACES: u64 = 12;

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
        world.restart_somehow();
    }
    world.settle();
}

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|n| n.parse().unwrap())
}

/// Runs `run` for each seed; a panic says how to see it again.
fn each_seed(runs: u64, test: &str, mut run: impl FnMut(u64)) {
    let seeds = number("LEVADA_CRASH_SEED").map_or(0..runs, |seed| seed..seed + 1);
    for seed in seeds {
        let survived = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| run(seed)));
        if let Err(panic) = survived {
            eprintln!("reproduce: LEVADA_CRASH_SEED={seed} cargo test {test}");
            std::panic::resume_unwind(panic);
        }
    }
}

#[test]
fn log_survives_crashes_at_any_call() {
    let runs = number("LEVADA_CRASH_RUNS").unwrap_or(RUNS);
    each_seed(runs, "log_survives_crashes", run);
}

/// The disk after a call, and what must be true of it.
struct Moment {
    disk: Sim,
    world: World,
    step: usize,
}

/// Every disk that a trace of a few lives of a log goes through.
fn trace(seed: u64) -> Vec<Moment> {
    let mut world = World::new(seed);
    let mut moments = Vec::new();
    for life in 0..3 {
        world.sim.record();
        let mut before = vec![(0, world.clone())];
        let Some(log) = world.open() else { unreachable!("nothing is in the way") };
        for _ in 0..7 {
            let mut model = world.clone();
            let calls = world.sim.call_count();
            world.step(&log);
            // while a step is under way, what it tries may be there and may be not
            model.limbo.extend(world.attempt.iter().cloned());
            (model.saved, model.reclaimed) = (world.saved, world.reclaimed);
            before.push((calls, model));
        }
        before.push((world.sim.call_count(), world.clone()));
        match (seed + life) % 3 {
            0 => log.close().unwrap(),
            _ => std::mem::forget(log), // the process just stops
        }
        for (call, disk) in world.sim.recorded() {
            let step = before.partition_point(|(calls, _)| *calls <= call) - 1;
            let step_of = moments.len() + step; // only has to differ between steps
            moments.push(Moment { disk, world: before[step].1.clone(), step: step_of });
        }
        world.restart_somehow();
    }
    moments
}

/// What a power cut may leave of `pages` dirty pages and `names` directory operations.
fn cuts(pages: usize, names: usize, seed: u64) -> Vec<Cut> {
    let mut cuts = Vec::new();
    for (pages, names) in [(false, false), (false, true), (true, false), (true, true)] {
        cuts.push(Cut::All { pages, names });
    }
    for page in 0..pages {
        cuts.extend([Cut::PageLost(page), Cut::PageKept(page)]);
        cuts.extend([0, 1, 4, 7].map(|sectors| Cut::PagesBefore(page, sectors)));
    }
    for name in 0..names {
        cuts.extend([Cut::NamesBefore(name), Cut::NameKept(name)]);
    }
    cuts.extend((0..6).map(|i| Cut::Seeded(seed * 6 + i)));
    cuts
}

#[test]
fn log_survives_every_crash_state_of_fixed_traces() {
    let mut seen = HashSet::new();
    let mut checked = HashSet::new();
    let traces = number("LEVADA_CRASH_TRACES").unwrap_or(TRACES);
    each_seed(traces, "log_survives_every_crash_state", |seed| {
        for (i, Moment { disk, world, step }) in trace(seed).into_iter().enumerate() {
            let (pages, names) = disk.dirty();
            let mut states = vec![(disk.kill(), false)];
            for cut in cuts(pages, names, i as u64) {
                states.push((disk.power_cut(cut), true));
            }
            for (state, unsynced_lost) in states {
                let print = state.fingerprint();
                seen.insert(print);
                if checked.insert((seed, step, print)) {
                    let mut world = world.clone();
                    world.sim = state;
                    world.unsynced_lost |= unsynced_lost;
                    let log = world.open().expect("nothing is in the way");
                    drop(log);
                    if print.is_multiple_of(4) {
                        world.settle();
                    }
                }
            }
        }
    });
    println!("crash states: {} distinct, {} checked", seen.len(), checked.len());
    assert!(seen.len() > 1000 || traces < TRACES, "{} states", seen.len());
}

#[test]
fn kill_loses_nothing_that_was_written_at_any_level() {
    for durability in
        [Durability::Always, Durability::Interval(Duration::from_secs(1)), Durability::Os]
    {
        let mut world = World::new(7);
        world.durability = durability;
        for _ in 0..5 {
            let log = world.open().unwrap();
            world.work(&log, 20);
            std::mem::forget(log); // no close: the process just stops
            world.restart(End::Kill); // `open` compares all that was acknowledged
        }
    }
}
