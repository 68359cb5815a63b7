//! `walctl bench`: how fast this log is on this disk, beside what the disk itself can do, measured
//! in turn in one run, so that the ratios hold on a noisy machine. Works in a directory of its own
//! below the one it is given, and removes it.

mod channel;
mod figures;
mod limits;
mod load;

pub use channel::{Channel, Setup};
pub use figures::{Figures, Latency};
pub use limits::Bare;
pub use load::{Load, Style};

use crate::channel::PutError;
use crate::log::{Durability, LogError};
use clap::Args;
use serde::Serialize;
use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Bytes of events that a take finds: they fit into memory.
const BACKLOG_BYTES: u64 = 512 << 20;
/// Events of a take.
const TAKE_BATCH: u32 = 1000;

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
    /// Puts of all producers, each with a thread of its own.
    pub put: Figures,
    /// The same, of producers that are tasks of one thread, as sources are.
    pub put_tasks: Figures,
    /// One sink that takes a full channel, through the agent's delivery.
    pub take: Figures,
    /// Puts of tasks and takes at the same time.
    pub both: Figures,
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
    /// The same, of producers that are tasks of one thread.
    pub group_commit_tasks: Figures,
}

/// The log against the limits of the same run.
#[derive(Clone, Serialize, Debug)]
pub struct Ratios {
    /// Events/s of puts to those of the bare group-commit loop.
    pub put_to_group_commit: f64,
    /// The same, of producers that are tasks.
    pub put_tasks_to_group_commit: f64,
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
    /// Of its channel.
    #[error("the channel under test: {0}")]
    Put(#[from] PutError),
    /// Of what takes from it.
    #[error("the delivery under test: {0}")]
    Delivery(String),
}

impl BenchError {
    fn io(what: impl Into<String>) -> impl FnOnce(std::io::Error) -> BenchError {
        let what = what.into();
        move |error| BenchError::Io { what, error }
    }
}

/// Measures; takes about `rounds` × 10 × `seconds`.
///
/// # Errors
/// The directory can't be made or written to, or is full.
pub fn run(options: &Options) -> Result<Report, BenchError> {
    let shown = options.dir.display().to_string();
    std::fs::create_dir_all(&options.dir).map_err(BenchError::io(format!("make {shown}")))?;
    let scratch = tempfile::Builder::new().prefix("walctl-bench-").tempdir_in(&options.dir);
    let scratch = scratch.map_err(BenchError::io(format!("make a directory in {shown}")))?;
    let span = Duration::from_secs_f64(options.seconds);
    let Options { producers, batch, body, fsync, .. } = *options;
    let threads = Load { producers, batch, body, style: Style::Threads };
    let tasks = Load { style: Style::Tasks, ..threads };
    let alone = Load { producers: 1, batch: 1, ..threads };
    let setup = Setup { durability: fsync, ..Setup::default() };
    let bare = Bare::new(scratch.path())?;
    let channel = Channel::open(&scratch.path().join("put"), setup)?;
    // once uncounted: segments are made, later ones are recycled
    channel.fill_kept(body)?;
    channel.put(&threads, span)?;
    let mut best: Option<Report> = None;
    for _ in 0..options.rounds {
        let fdatasync = bare.fdatasync(span)?;
        let single_put = channel.put(&alone, span)?;
        let group_commit = bare.group_commit(&threads, span)?;
        let put = channel.put(&threads, span)?;
        let group_commit_tasks = bare.group_commit(&tasks, span)?;
        let put_tasks = channel.put(&tasks, span)?;
        let sequential_mb_per_s = bare.sequential(span)?;
        let (take, both) = taken(scratch.path(), options)?;
        let limits = Limits { fdatasync, sequential_mb_per_s, group_commit, group_commit_tasks };
        let ratios = Ratios::of(&put, &put_tasks, &single_put, &limits);
        let fsync = fsync_word(fsync);
        let round = Report {
            producers,
            batch,
            body,
            fsync,
            put,
            put_tasks,
            take,
            both,
            single_put,
            limits,
            ratios,
        };
        best = Some(best.map_or_else(|| round.clone(), |best| best.better(&round)));
    }
    Ok(best.expect("a round at least"))
}

/// What is measured of takes, each in a channel of its own.
fn taken(scratch: &Path, options: &Options) -> Result<(Figures, Figures), BenchError> {
    let Options { producers, batch, body, fsync, .. } = *options;
    let span = Duration::from_secs_f64(options.seconds);
    let dir = scratch.join("take");
    let fresh = || {
        let _ = std::fs::remove_dir_all(&dir); // the first time it is not there
        Channel::open(&dir, Setup { durability: fsync, ..Setup::default() })
    };
    let channel = fresh()?;
    // as many events as memory has room for, and less where less time is asked for
    let bytes = (BACKLOG_BYTES as f64 * options.seconds.min(1.0)) as u64;
    channel.fill((bytes / (u64::from(body) + 40)).max(u64::from(TAKE_BATCH)), body)?;
    let take = channel.take(TAKE_BATCH, body)?;
    drop(channel);
    let tasks = Load { producers, batch, body, style: Style::Tasks };
    let channel = fresh()?;
    channel.both(&tasks, TAKE_BATCH, span)?; // once uncounted, as above
    let both = channel.both(&tasks, TAKE_BATCH, span)?;
    drop(channel);
    std::fs::remove_dir_all(&dir).map_err(BenchError::io("remove what was taken"))?;
    Ok((take, both))
}

fn fsync_word(durability: Durability) -> String {
    match durability {
        Durability::Always => "always".to_owned(),
        Durability::Interval(interval) => format!("interval:{}", interval.as_millis()),
        Durability::Os => "os".to_owned(),
    }
}

impl Report {
    /// Each figure's better one, limits too: the machine's noise only ever takes away.
    fn better(&self, other: &Report) -> Report {
        let (own, others) = (&self.limits, &other.limits);
        let limits = Limits {
            fdatasync: own.fdatasync.better(&others.fdatasync),
            sequential_mb_per_s: own.sequential_mb_per_s.max(others.sequential_mb_per_s),
            group_commit: own.group_commit.better(&others.group_commit),
            group_commit_tasks: own.group_commit_tasks.better(&others.group_commit_tasks),
        };
        let put = self.put.better(&other.put);
        let put_tasks = self.put_tasks.better(&other.put_tasks);
        let single_put = self.single_put.quicker(&other.single_put);
        let ratios = Ratios::of(&put, &put_tasks, &single_put, &limits);
        let (take, both) = (self.take.better(&other.take), self.both.better(&other.both));
        Report { put, put_tasks, take, both, single_put, limits, ratios, ..self.clone() }
    }
}

impl Ratios {
    fn of(put: &Figures, put_tasks: &Figures, single_put: &Figures, limits: &Limits) -> Ratios {
        Ratios {
            put_to_group_commit: put.events_per_s / limits.group_commit.events_per_s,
            put_tasks_to_group_commit: put_tasks.events_per_s
                / limits.group_commit_tasks.events_per_s,
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
            "{:26} {:>11} {:>8} {:>9} {:>9} {:>9} {:>9}",
            "", "events/s", "MB/s", "p50", "p99", "p99.9", "max"
        )?;
        for (name, figures) in [
            ("put", &self.put),
            ("put, producers are tasks", &self.put_tasks),
            ("take", &self.take),
            ("put (tasks) and take", &self.both),
            ("one producer, one event", &self.single_put),
        ] {
            writeln!(f, "{name:26} {figures}")?;
        }
        writeln!(f, "this disk, without a log:")?;
        writeln!(f, "{:26} {}", "  write + fdatasync, bare", limits.group_commit)?;
        writeln!(f, "{:26} {}", "  the same of tasks", limits.group_commit_tasks)?;
        writeln!(f, "{:26} {:>20} {}", "  fdatasync of 4 KiB", "", limits.fdatasync)?;
        writeln!(f, "{:26} {:>20.0}", "  sequential writes", limits.sequential_mb_per_s)?;
        writeln!(f, "put / bare loop {:.2}", ratios.put_to_group_commit)?;
        writeln!(f, "put / bare loop, tasks {:.2}", ratios.put_tasks_to_group_commit)?;
        writeln!(f, "put / sequential {:.2}", ratios.put_to_sequential)?;
        writeln!(f, "single put / fdatasync {:.2} (p50)", ratios.single_put_to_fdatasync)
    }
}

#[cfg(test)]
mod tests;
