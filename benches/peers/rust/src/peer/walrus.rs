//! walrus: a put is one batch append to a topic, synced by the topic's writer. A second batch on
//! the same topic is refused while one is under way, so each producer has a topic of its own, and
//! the reader goes round the topics. The place is walrus' own index, written for every take.

use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};

use walrus_rust::{FsyncSchedule, ReadConsistency, Walrus};

use super::{Batch, Peer};
use crate::Result;
use crate::args::Args;

const DATA_DIR: &str = "WALRUS_DATA_DIR";
/// Without it walrus prints a line for each step of each put.
const QUIET: &str = "WALRUS_QUIET";
/// The most events walrus takes in one append, or gives in one read.
const BATCH_EVENTS_MAX: usize = 2000;
/// Bytes walrus stores in front of each record.
const PREFIX_BYTES: usize = 64;

pub struct WalrusTopics {
    walrus: Walrus,
    topics: Vec<String>,
    /// The topic to be read next.
    turn: AtomicUsize,
}

/// Starts the driver again with the environment that tells walrus where its files are.
pub fn prepare(dir: &Path) -> Result<()> {
    if std::env::var_os(DATA_DIR).is_some_and(|value| value == dir) {
        return Ok(());
    }
    let error = Command::new(std::env::current_exe()?)
        .args(std::env::args_os().skip(1))
        .env(DATA_DIR, dir)
        .env(QUIET, "1")
        .exec();
    Err(format!("start the driver again for walrus: {error}").into())
}

impl WalrusTopics {
    pub fn open(args: &Args) -> Result<Self> {
        let walrus = Walrus::with_consistency_and_schedule(
            ReadConsistency::StrictlyAtOnce,
            FsyncSchedule::SyncEach,
        )?;
        let topics = (0..args.producer_count()).map(|producer| format!("t{producer}")).collect();
        Ok(Self { walrus, topics, turn: AtomicUsize::new(0) })
    }
}

impl Peer for WalrusTopics {
    fn put(&self, producer: usize, batch: Batch) -> Result<()> {
        let topic = &self.topics[producer];
        if batch.count == 1 {
            return Ok(self.walrus.append_for_topic(topic, batch.record)?);
        }
        for records in vec![batch.record; batch.count].chunks(BATCH_EVENTS_MAX) {
            self.walrus.batch_append_for_topic(topic, records)?;
        }
        Ok(())
    }

    fn store(&self, batch: Batch) -> Result<()> {
        self.put(0, batch)
    }

    fn take(&self, count: usize, each: &mut dyn FnMut(&[u8])) -> Result<usize> {
        let _ = PREFIX_BYTES;
        for _ in 0..self.topics.len() {
            let turn = self.turn.fetch_add(1, Ordering::Relaxed) % self.topics.len();
            let topic = &self.topics[turn];
            let entries = self.walrus.batch_read_for_topic(topic, count * 590, true)?;
            if !entries.is_empty() {
                entries.iter().for_each(|entry| each(&entry.data));
                return Ok(entries.len());
            }
        }
        Ok(0)
    }

    fn note(&self) -> Option<&'static str> {
        Some("gives no disk back within the run: it deletes files only hours later")
    }
}
