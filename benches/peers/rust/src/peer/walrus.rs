//! walrus: a put is one batch append to a topic, synced by the topic's writer. A second batch on
//! the same topic is refused while one is under way, so each producer has a topic of its own, and
//! the reader goes round the topics. The place is walrus' own index, synced with every read.

use std::collections::VecDeque;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;
use std::sync::{Mutex, PoisonError};

use walrus_rust::{Entry, FsyncSchedule, ReadConsistency, Walrus, disable_fd_backend};

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
    reader: Mutex<Reader>,
}

struct Reader {
    /// The byte limit of one read, see [`WalrusTopics::open`].
    read_bytes: usize,
    /// The topic to be read next.
    topic: usize,
    /// Read, not yet taken.
    entries: VecDeque<Entry>,
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
    /// Opens walrus with its mapped files: its other way, a write by io_uring for each event and a
    /// sync, took 28 ms for a put of 100 events where this one took 1 ms.
    ///
    /// A read that its byte limit ends within a sealed block goes on in the active block and skips
    /// what lies between (0.2.0), so reads are made to end by walrus' limit of events instead: all
    /// events here have the same size.
    pub fn open(args: &Args) -> Result<Self> {
        disable_fd_backend();
        let walrus = Walrus::with_consistency_and_schedule(
            ReadConsistency::StrictlyAtOnce,
            FsyncSchedule::SyncEach,
        )?;
        let read_bytes = BATCH_EVENTS_MAX * (PREFIX_BYTES + args.record().len());
        Ok(Self {
            walrus,
            topics: (0..args.producer_count()).map(|producer| format!("t{producer}")).collect(),
            reader: Mutex::new(Reader { read_bytes, topic: 0, entries: VecDeque::new() }),
        })
    }

    /// Reads from the next topic that has something.
    fn read(&self, reader: &mut Reader) -> Result<()> {
        for _ in 0..self.topics.len() {
            let topic = &self.topics[reader.topic];
            reader.topic = (reader.topic + 1) % self.topics.len();
            let entries = self.walrus.batch_read_for_topic(topic, reader.read_bytes, true)?;
            if !entries.is_empty() {
                reader.entries = entries.into();
                return Ok(());
            }
        }
        Ok(())
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

    fn take(&self, count: usize, each: &mut dyn FnMut(&[u8])) -> Result<usize> {
        let mut reader = self.reader.lock().unwrap_or_else(PoisonError::into_inner);
        if reader.entries.is_empty() {
            self.read(&mut reader)?;
        }
        let count = count.min(reader.entries.len());
        reader.entries.drain(..count).for_each(|entry| each(&entry.data));
        Ok(count)
    }

    fn note(&self) -> Option<&'static str> {
        Some("gives no disk back in the run: its clean-up comes after 5000 s")
    }
}
