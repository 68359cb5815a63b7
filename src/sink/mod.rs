//! Delivery to the outside. A sink gets a batch and says what became of it; it knows neither cursor
//! nor policy, and keeps nothing that a crash would lose: what it has not answered for stays in the log.

use crate::config::{Problem, Settings};
use crate::event::EventBatch;
pub use crate::fate::Cause;
use crate::offset::Offset;
use async_trait::async_trait;
use std::path::PathBuf;
use std::time::Instant;

pub mod avro;
pub mod file_roll;
pub mod hdfs;
mod local;
pub mod logger;
pub mod null;
pub mod serializer;

/// A destination of events, driven by one task.
///
/// Order of life: `open` until it succeeds, then `deliver` and `tick`, then `close`. After a failed
/// `deliver` or `tick` the sink must be usable again: it drops what it had open and opens it anew.
#[async_trait]
pub trait Sink: Send {
    /// Opens what is needed before the first batch.
    ///
    /// # Errors
    /// Nothing is left open; the caller tries again later.
    async fn open(&mut self) -> Result<(), SinkError>;

    /// Delivers every event of `batch`, or says which were not delivered.
    ///
    /// `Delivered` means: as durable as the target can make them.
    async fn deliver(&mut self, batch: &EventBatch) -> Outcome;

    /// When [`Sink::tick`] wants to be called next, if at all.
    fn deadline(&self) -> Option<Instant> {
        None
    }

    /// Work that time brings: rolling a file, closing an idle one.
    ///
    /// # Errors
    /// Logged; the sink stays in use.
    async fn tick(&mut self) -> Result<(), SinkError> {
        Ok(())
    }

    /// Finishes and closes everything.
    ///
    /// # Errors
    /// What could not be finished, and what becomes of it.
    async fn close(&mut self) -> Result<(), SinkError>;

    /// The most events it takes in one batch (Flume's batch size).
    fn batch_events_max(&self) -> u32;
}

/// What a sink is given besides its settings.
#[derive(Clone, Default, Debug)]
pub struct SinkEnv {
    /// `-c DIR`: where Hadoop's files are looked for.
    pub conf_dir: Option<PathBuf>,
    /// A directory for small files of its own that outlive the process; `None`: there is none.
    pub state_dir: Option<PathBuf>,
}

/// What became of a batch.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Outcome {
    /// Every event arrived.
    Delivered,
    /// Some or all did not.
    Failed(Failure),
}

/// A delivery that failed.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Failure {
    /// Which events.
    pub events: FailedEvents,
    /// What kind of failure.
    pub cause: Cause,
    /// Whether trying the same again can help.
    pub retryable: bool,
    /// Where, what, what to do.
    pub reason: String,
}

/// The events of a batch that a failure is about.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum FailedEvents {
    /// The whole batch, or nobody knows which.
    All,
    /// These, each for what it is; every other arrived.
    Only(Vec<Offset>),
    /// Some of these from the offset on, or nobody knows which; those before it arrived.
    From(Offset),
}

impl Outcome {
    /// The whole batch failed and may be tried again.
    pub fn retry(cause: Cause, reason: impl ToString) -> Outcome {
        let reason = reason.to_string();
        Outcome::Failed(Failure { events: FailedEvents::All, cause, retryable: true, reason })
    }
}

/// Why a sink could not open, tick or close: a lower-case sentence with where, what, what to do.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct SinkError(pub String);

impl From<std::io::Error> for SinkError {
    fn from(error: std::io::Error) -> SinkError {
        SinkError(error.to_string())
    }
}

/// The most events of a batch, as the key `key` says.
fn batch_events(settings: &Settings, key: &str) -> Result<u32, Problem> {
    Ok(u32::try_from(settings.count(key)?).unwrap_or(u32::MAX))
}
