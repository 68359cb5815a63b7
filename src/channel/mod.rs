//! Flume's channel contract over the log.

use crate::log::BatchBuilder;
use async_trait::async_trait;

pub mod collect;
pub mod cursors;
pub mod dead;
pub mod keys;
pub mod letter;
pub mod log;

/// Where sources put batches.
#[async_trait]
pub trait Channel: Send + Sync {
    /// Puts the batch as one transaction; returns when it is as durable as the channel promises.
    ///
    /// # Errors
    /// Nothing of the batch was taken, except after [`PutError::Failed`], where nobody knows.
    async fn put(&self, batch: BatchBuilder) -> Result<(), PutError>;
}

/// Why a put was not taken.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum PutError {
    /// No room for `keep-alive` seconds: push back, try again.
    #[error(
        "channel {channel} is full ({events} events, {bytes} bytes): waited {waited_ms} ms for room"
    )]
    Full {
        /// The channel's name.
        channel: String,
        /// Events in it.
        events: u64,
        /// Bytes in it.
        bytes: u64,
        /// How long the put waited, ms.
        waited_ms: u64,
    },
    /// The batch can never fit.
    #[error("channel {channel} takes at most {limit} {unit} in a batch, this one has {size}")]
    TooLarge {
        /// The channel's name.
        channel: String,
        /// What the batch has.
        size: u64,
        /// What it may have.
        limit: u64,
        /// `events` (transactionCapacity) or `bytes`.
        unit: &'static str,
    },
    /// The disk has no room for another segment: push back, try again.
    #[error("channel {channel} can't grow: {reason}")]
    NoSpace {
        /// The channel's name.
        channel: String,
        /// What is full.
        reason: String,
    },
    /// The log failed; nothing is acknowledged any more until it is opened again.
    #[error("channel {channel} failed: {reason}")]
    Failed {
        /// The channel's name.
        channel: String,
        /// What failed, where.
        reason: String,
    },
    /// The channel is stopping.
    #[error("channel {channel} is stopping")]
    Stopping {
        /// The channel's name.
        channel: String,
    },
}
