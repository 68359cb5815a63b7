//! Intake from the outside. A source decodes, hands events to [`Ingest`], and answers its peer only
//! when they are as durable as the channel promises.

use crate::ingest::Ingest;
use async_trait::async_trait;
use tokio::sync::watch;

pub mod avro;
mod complaint;
pub mod netcat;
pub mod seq;
mod serve;

/// An intake of events, driven by one task.
#[async_trait]
pub trait Source: Send {
    /// Binds or opens what it reads from.
    ///
    /// # Errors
    /// Nothing is left open; the caller tries again every 3 s, as Flume does.
    async fn open(&mut self) -> Result<(), SourceError>;

    /// Takes events in until `stop` fires; then lets what is under way finish, and returns.
    ///
    /// # Errors
    /// The source can't go on; the caller opens it again.
    async fn run(&mut self, ingest: Ingest, stop: Stop) -> Result<(), SourceError>;
}

/// Why a source could not start or go on: a lower-case sentence with where, what, what to do.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct SourceError(pub String);

impl From<std::io::Error> for SourceError {
    fn from(error: std::io::Error) -> SourceError {
        SourceError(error.to_string())
    }
}

/// The signal to stop; clones share it.
#[derive(Clone, Debug)]
pub struct Stop(watch::Receiver<bool>);

/// The other end of [`Stop`].
#[derive(Debug)]
pub struct Stopper(watch::Sender<bool>);

impl Stop {
    /// A signal and the end that fires it. Dropping the end fires it too.
    pub fn new() -> (Stopper, Stop) {
        let (sender, receiver) = watch::channel(false);
        (Stopper(sender), Stop(receiver))
    }

    /// Returns when the signal has been fired.
    pub async fn stopped(&mut self) {
        // an error means that the other end is gone: stop as well
        let _ = self.0.wait_for(|stop| *stop).await;
    }

    /// Whether the signal has been fired.
    pub fn is_stopped(&self) -> bool {
        *self.0.borrow() || self.0.has_changed().is_err()
    }
}

impl Stopper {
    /// Fires the signal.
    pub fn stop(&self) {
        self.0.send_replace(true);
    }
}
