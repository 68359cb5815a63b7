//! The hand-over between producers, log thread, maker, sync, readers and sinks, in thousands of
//! orders that shuttle chooses: at random, and by PCT (few preemptions, at the worst places).
//!
//! ```text
//! cargo test --lib --features shuttle shuttle
//! ```
//! `LEVADA_SHUTTLE_RUNS` sets the number of schedules per scenario and scheduler, and
//! `SHUTTLE_RANDOM_SEED` the seed. A failure prints its schedule, and how to run that one again.
//! Other tests do not run with this feature: outside a schedule the log's mutexes have no owner.

mod defects;
mod disk;
mod scenarios;

use super::*;
use crate::log::sync::{Condvar, Mutex, thread};
use ::shuttle::rand::{Rng, thread_rng};
use ::shuttle::scheduler::{
    PctScheduler, RandomScheduler, ReplayScheduler, Scheduler,
    UncontrolledNondeterminismCheckScheduler,
};
use ::shuttle::{Config, Runner};
use disk::Disk;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::time::{Duration, Instant};

/// Schedules of each scenario, for each of the two schedulers.
const RUNS: usize = 1000;
/// Preemptions that PCT looks for.
const PCT_DEPTH: usize = 3;

fn config() -> Config {
    let mut config = Config::new();
    config.stack_size = 256 << 10; // pages of segments lie on the stack
    config.silence_warnings = true; // the log has no atomic that orders anything
    config
}

fn runs() -> usize {
    let runs = std::env::var("LEVADA_SHUTTLE_RUNS");
    runs.map_or(RUNS, |runs| runs.parse().expect("LEVADA_SHUTTLE_RUNS is a number"))
}

/// Runs a scenario under `runs` schedules of either scheduler.
fn explore(scenario: fn()) {
    let name = std::thread::current().name().unwrap_or_default().to_owned();
    if let Ok(schedule) = std::env::var("LEVADA_SHUTTLE_REPLAY") {
        let schedule = std::fs::read_to_string(&schedule).unwrap_or(schedule);
        let schedule = schedule.trim().trim_matches('"').trim();
        Runner::new(ReplayScheduler::new_from_encoded(schedule), config()).run(scenario);
        return;
    }
    let start = Instant::now();
    let seed = fastrand::u64(..);
    let runs = runs();
    let result = catch_unwind(|| {
        explore_with(RandomScheduler::new_from_seed(seed, runs), scenario);
        explore_with(PctScheduler::new_from_seed(seed, PCT_DEPTH, runs), scenario);
    });
    if let Err(panic) = result {
        eprintln!(
            "reproduce: put the schedule above into a file F, then\n  \
             LEVADA_SHUTTLE_REPLAY=F cargo test --lib --features shuttle {name}"
        );
        resume_unwind(panic);
    }
    println!("{name}: 2 × {runs} schedules in {:.1} s", start.elapsed().as_secs_f64());
}

fn explore_with(scheduler: impl Scheduler + 'static, scenario: fn()) {
    Runner::new(scheduler, config()).run(scenario);
}

/// Something that was told how often: of a log's growth, or of a wake-up.
#[derive(Default)]
struct News {
    count: Mutex<u64>,
    told: Condvar,
}

impl News {
    fn of(log: &Log) -> Arc<News> {
        let news = Arc::new(News::default());
        let tell = Arc::clone(&news);
        log.listen(move || tell.tell());
        news
    }

    fn tell(&self) {
        *self.count.lock().unwrap() += 1;
        self.told.notify_all();
    }

    fn count(&self) -> u64 {
        *self.count.lock().unwrap()
    }

    /// Waits until something was told after the count was `seen`.
    fn wait(&self, seen: u64) {
        let mut count = self.count.lock().unwrap();
        while *count == seen {
            count = self.told.wait(count).unwrap();
        }
    }
}

/// A log of small segments on `disk`.
fn open_on(disk: &Disk, options: LogOptions) -> Arc<Log> {
    let (log, _) = Log::open(Arc::new(disk.clone()), options).unwrap();
    Arc::new(log)
}

/// The record of a put: whose, and which one of its.
fn id(producer: u64, number: u64) -> u64 {
    (producer + 1) << 8 | number
}

fn one(id: u64, len: usize) -> BatchBuilder {
    batch(&[record(id, len)])
}

/// Producers on threads of their own.
fn producers<T: Send + 'static>(
    count: u64,
    produce: impl Fn(u64) -> T + Send + Sync + 'static,
) -> Vec<thread::JoinHandle<T>> {
    let produce = Arc::new(produce);
    let start = |producer| {
        let produce = Arc::clone(&produce);
        let thread = thread::Builder::new().name(format!("producer-{producer}"));
        thread.spawn(move || produce(producer)).unwrap()
    };
    (0..count).map(start).collect()
}

fn join<T>(threads: Vec<thread::JoinHandle<T>>) -> Vec<T> {
    threads.into_iter().map(|thread| thread.join().unwrap()).collect()
}

/// What was acknowledged is synced, below the durable tail, and what a reader gets: now.
fn check_acknowledged(log: &Log, disk: &Disk, range: &OffsetRange, ids: &[u64]) {
    assert_eq!(range.end.since(range.start), ids.len() as u64);
    if log.writer.options.durability == Durability::Always {
        assert!(disk.is_synced(ids[0]), "{:x} was acknowledged before its sync", ids[0]);
        assert!(range.end <= log.tails().durable_tail, "{range:?} is acknowledged, not durable");
    }
    let read = read_all(log, range.clone());
    let read: Vec<_> = read.iter().map(|(_, bytes)| LE::read_u64(bytes)).collect();
    assert_eq!(read, ids, "at {range:?}");
}

/// Ranges that lie side by side from 0 on; returns where they end.
fn check_dense(mut ranges: Vec<OffsetRange>) -> u64 {
    ranges.sort_by_key(|range| range.start);
    ranges.iter().fold(0, |next, range| {
        assert_eq!(range.start.0, next, "{ranges:?}");
        range.end.0
    })
}
