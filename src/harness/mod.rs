//! The proof: a log on a simulated disk, what must be true of it, and everything that can go wrong.
//!
//! Each part takes a seed and panics when a promise is broken; the same seed does the same again.
//! `cargo test` runs a little of each, `crash-harness` as much as you like.

pub mod burial;
pub mod channel;
pub mod crash;
#[cfg(feature = "defects")]
pub mod defects;
pub mod fault;
pub mod kill;
pub mod machine;
pub mod rot;
pub mod run;
mod seen;
mod world;

pub use seen::Seen;
pub use world::World;

use crate::log::{BatchBuilder, Log, LogOptions};
use crate::sim::Sim;
use quickcheck::{Arbitrary, Gen, QuickCheck};
use std::fmt::Debug;

/// Options of a log without threads of its own, whose segments have 64 KiB: every trace rolls, and
/// the same seed makes the same calls.
pub fn quiet() -> LogOptions {
    LogOptions { segment_bytes: 64 << 10, background: false, ..LogOptions::default() }
}

/// A batch of these records.
pub fn batch<R: AsRef<[u8]>>(records: &[R]) -> BatchBuilder {
    let mut batch = BatchBuilder::new();
    records.iter().for_each(|record| batch.push(record.as_ref()));
    batch
}

/// A record that is different for each number, of `len` bytes or eight.
pub fn record(number: u64, len: usize) -> Vec<u8> {
    let mut record = number.to_le_bytes().to_vec();
    record.resize(len.max(8), number as u8);
    record
}

/// The process just stops: what `log` does when it is dropped no longer reaches `sim`.
fn stop_process(sim: &Sim, log: Log) {
    sim.stop();
    drop(log);
}

/// Runs the trace of `seed`; panics with the shortest trace that fails as it does.
fn run_trace<T: Arbitrary + Debug>(holds: fn(T) -> bool, size: usize, seed: u64) {
    // one runner for one trace, or a bad one would be told with what came before it
    let mut runner =
        QuickCheck::new().rng(Gen::from_size_and_seed(size, seed)).tests(1).max_tests(1);
    if let Err(failed) = runner.quicktest(holds) {
        panic!("{failed:?}");
    }
}

#[cfg(test)]
mod tests;
