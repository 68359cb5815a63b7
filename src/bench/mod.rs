//! `walctl bench`: how fast this log is on this disk, beside what the disk itself can do, measured
//! in turn in one run, so that the ratios hold on a noisy machine. Works in a directory of its own
//! below the one it is given, and removes it.

mod channel;
mod figures;
mod limits;

pub use figures::{Figures, Latency};

use crate::log::{Durability, LogError};
use clap::Args;
use serde::Serialize;
use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

/// What is measured.
#[derive(Args, Clone, Debug)]
pub struct Options {
    /// Directory on the disk to be measured
    pub dir: PathBuf,
    /// Producers that put at the same time, each waiting for its put
    #[arg(long, default_value_t = 16, value_parser = clap::value_parser!(u32).range(1..=1024))]
    pub producers: u32,
    /// Events in a put
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub batch: u32,
    /// Bytes of an event's body
    #[arg(long, default_value_t = 512, value_parser = clap::value_parser!(u32).range(0..=1_000_000))]
    pub body: u32,
    /// When a put returns: always, interval:MS, os
    #[arg(long, default_value = "always", value_parser = fsync)]
    pub fsync: Durability,
    /// How long each thing is measured, in seconds
    #[arg(long, default_value_t = 1.0, value_parser = seconds)]
    pub seconds: f64,
    /// How often each is measured, in turn; the best counts
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=100))]
    pub rounds: u32,
}

fn fsync(text: &str) -> Result<Durability, String> {
    let interval = text.strip_prefix("interval:").and_then(|ms| ms.parse().ok());
    match (text, interval) {
        ("always", _) => Ok(Durability::Always),
        ("os", _) => Ok(Durability::Os),
        (_, Some(ms)) if ms > 0 => Ok(Durability::Interval(Duration::from_millis(ms))),
        _ => Err("it is always, interval:MS or os".to_owned()),
    }
}

fn seconds(text: &str) -> Result<f64, String> {
    let seconds: f64 = text.parse().map_err(|_| "it is a number of seconds".to_owned())?;
    let fits = (0.01..=3600.0).contains(&seconds);
    fits.then_some(seconds).ok_or_else(|| "it is from 0.01 to 3600".to_owned())
}

/// What was measured; the best of the rounds.
#[derive(Clone, Serialize, Debug)]
pub struct Report {
    /// As asked for.
    pub producers: u32,
    /// As asked for.
    pub batch: u32,
    /// As asked for, bytes.
    pub body: u32,
    /// As asked for.
    pub fsync: String,
    /// Puts of all producers.
    pub put: Figures,
    /// One reader that acknowledges each batch, from a full log.
    pub take: Figures,
    /// One producer that puts one event at a time.
    pub single_put: Figures,
    /// What the disk can do.
    pub limits: Limits,
    /// The one against the other.
    pub ratios: Ratios,
}

/// What the disk can do, without a log.
#[derive(Clone, Serialize, Debug)]
pub struct Limits {
    /// One `fdatasync` behind a positioned write of 4 KiB, into zero-filled space.
    pub fdatasync: Latency,
    /// Sequential writes of 4 MiB, synced every 64 MiB, MB/s.
    pub sequential_mb_per_s: f64,
    /// The same producers and bytes, a positioned write and one `fdatasync` a group, nothing else.
    pub group_commit: Figures,
}

/// The log against the limits of the same run.
#[derive(Clone, Serialize, Debug)]
pub struct Ratios {
    /// Events/s of puts to those of the bare group-commit loop.
    pub put_to_group_commit: f64,
    /// Bytes/s of puts to those of sequential writes.
    pub put_to_sequential: f64,
    /// Median of a lone single-event put to that of one bare `fdatasync`.
    pub single_put_to_fdatasync: f64,
}

/// Why nothing was measured: a lower-case sentence with what failed and where.
#[derive(Debug, thiserror::Error)]
pub enum BenchError {
    /// Of the bare loops.
    #[error("{what}: {error}")]
    Io {
        /// What was being done.
        what: String,
        /// What the system said.
        error: std::io::Error,
    },
    /// Of the log under test.
    #[error("the log under test: {0}")]
    Log(#[from] LogError),
}

impl BenchError {
    fn io(what: impl Into<String>) -> impl FnOnce(std::io::Error) -> BenchError {
        let what = what.into();
        move |error| BenchError::Io { what, error }
    }
}

/// Measures; takes about `rounds` × 6 × `seconds`.
///
/// # Errors
/// The directory can't be made or written to, or is full.
pub fn run(options: &Options) -> Result<Report, BenchError> {
    let shown = options.dir.display().to_string();
    std::fs::create_dir_all(&options.dir).map_err(BenchError::io(format!("make {shown}")))?;
    let scratch = tempfile::Builder::new().prefix("walctl-bench-").tempdir_in(&options.dir);
    let scratch = scratch.map_err(BenchError::io(format!("make a directory in {shown}")))?;
    let span = Duration::from_secs_f64(options.seconds);
    let bare = limits::Bare::new(scratch.path(), options)?;
    let channel = channel::Bench::new(&scratch.path().join("log"), options)?;
    let single = channel::Bench::new(&scratch.path().join("single"), &alone(options))?;
    channel.put(span)?; // once uncounted: segments are made, then recycled
    let mut best: Option<Report> = None;
    for _ in 0..options.rounds {
        let fdatasync = bare.fdatasync(span)?;
        let single_put = single.put(span)?;
        let group_commit = bare.group_commit(span)?;
        let put = channel.put(span)?;
        let sequential_mb_per_s = bare.sequential(span)?;
        let take = channel.take()?;
        let limits = Limits { fdatasync, sequential_mb_per_s, group_commit };
        let round = Report::new(options, put, take, single_put, limits);
        best = Some(best.map_or_else(|| round.clone(), |best| best.better(&round)));
    }
    Ok(best.expect("a round at least"))
}

/// The same, for one producer of single events.
fn alone(options: &Options) -> Options {
    Options { producers: 1, batch: 1, ..options.clone() }
}

impl Report {
    fn new(
        options: &Options,
        put: Figures,
        take: Figures,
        single_put: Figures,
        limits: Limits,
    ) -> Report {
        let ratios = Ratios::of(&put, &single_put, &limits);
        let fsync = match options.fsync {
            Durability::Always => "always".to_owned(),
            Durability::Interval(interval) => format!("interval:{}", interval.as_millis()),
            Durability::Os => "os".to_owned(),
        };
        let Options { producers, batch, body, .. } = *options;
        Report { producers, batch, body, fsync, put, take, single_put, limits, ratios }
    }

    /// Each figure's better one, limits too: the machine's noise only ever takes away.
    fn better(&self, other: &Report) -> Report {
        let limits = Limits {
            fdatasync: self.limits.fdatasync.better(&other.limits.fdatasync),
            sequential_mb_per_s: self
                .limits
                .sequential_mb_per_s
                .max(other.limits.sequential_mb_per_s),
            group_commit: self.limits.group_commit.better(&other.limits.group_commit),
        };
        let put = self.put.better(&other.put);
        let single_put = self.single_put.quicker(&other.single_put);
        let ratios = Ratios::of(&put, &single_put, &limits);
        let take = self.take.better(&other.take);
        Report { put, take, single_put, limits, ratios, ..self.clone() }
    }
}

impl Ratios {
    fn of(put: &Figures, single_put: &Figures, limits: &Limits) -> Ratios {
        Ratios {
            put_to_group_commit: put.events_per_s / limits.group_commit.events_per_s,
            put_to_sequential: put.mb_per_s / limits.sequential_mb_per_s,
            single_put_to_fdatasync: single_put.latency.p50_us / limits.fdatasync.p50_us,
        }
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Report { producers, batch, body, fsync, limits, ratios, .. } = self;
        writeln!(f, "{producers} producers, puts of {batch} × {body} B, fsync = {fsync}")?;
        writeln!(
            f,
            "{:26} {:>11} {:>8} {:>9} {:>9} {:>9}",
            "", "events/s", "MB/s", "p50", "p99", "p99.9"
        )?;
        writeln!(f, "{:26} {}", "put", self.put)?;
        writeln!(f, "{:26} {}", "take", self.take)?;
        writeln!(f, "{:26} {}", "one producer, one event", self.single_put)?;
        writeln!(f, "this disk, without a log:")?;
        writeln!(f, "{:26} {}", "  write + fdatasync, bare", limits.group_commit)?;
        writeln!(f, "{:26} {:>20} {}", "  fdatasync of 4 KiB", "", limits.fdatasync)?;
        writeln!(f, "{:26} {:>20.0}", "  sequential writes", limits.sequential_mb_per_s)?;
        writeln!(f, "put / bare loop {:.2}", ratios.put_to_group_commit)?;
        writeln!(f, "put / sequential {:.2}", ratios.put_to_sequential)?;
        writeln!(f, "single put / fdatasync {:.2} (p50)", ratios.single_put_to_fdatasync)
    }
}

#[cfg(test)]
mod tests;
