//! Source to channels: what a source hands over is encoded once, and put into every channel of the
//! source (Flume's replicating selector). Interceptors and the other selectors have their place here.

use crate::channel::{Channel, PutError};
use crate::event::encode_event;
use crate::log::BatchBuilder;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// A source's way into its channels.
#[derive(Clone)]
pub struct Ingest {
    channels: Arc<[Arc<dyn Channel>]>,
    counters: Arc<IngestCounters>,
}

/// What a source has put.
#[derive(Default, Debug)]
pub struct IngestCounters {
    /// Events handed over.
    pub received_events: AtomicU64,
    /// Events that every channel took.
    pub accepted_events: AtomicU64,
}

impl Ingest {
    /// The way into `channels`, in the order of the config.
    pub fn new(channels: Vec<Arc<dyn Channel>>) -> Ingest {
        Ingest { channels: channels.into(), counters: Arc::default() }
    }

    /// An empty batch to push events to.
    pub fn batch(&self) -> PutBatch {
        PutBatch { builder: BatchBuilder::new() }
    }

    /// An empty batch with room for `record_bytes`, so that it need not grow on the way.
    pub fn batch_with_capacity(&self, record_bytes: usize) -> PutBatch {
        PutBatch { builder: BatchBuilder::with_capacity(record_bytes) }
    }

    /// Puts the batch into every channel; returns when it is as durable as each promises.
    /// An empty batch is done at once.
    ///
    /// # Errors
    /// Of the first channel that did not take it. Channels before it keep what they took: the
    /// source reports a failure and its peer sends again (at least once).
    pub async fn put(&self, batch: PutBatch) -> Result<(), PutError> {
        let count = u64::from(batch.builder.count());
        if count == 0 {
            return Ok(());
        }
        self.counters.received_events.fetch_add(count, Ordering::Relaxed);
        let (last, others) = self.channels.split_last().expect("a source has a channel");
        for channel in others {
            channel.put(batch.builder.clone()).await?;
        }
        last.put(batch.builder).await?;
        self.counters.accepted_events.fetch_add(count, Ordering::Relaxed);
        Ok(())
    }

    /// What has gone through.
    pub fn counters(&self) -> &IngestCounters {
        &self.counters
    }
}

/// Events on their way into the channels, already in the log's own bytes.
pub struct PutBatch {
    builder: BatchBuilder,
}

impl PutBatch {
    /// Adds an event; the body is copied here, once, into the buffer that goes to the segment.
    pub fn push(&mut self, headers: &[(&str, &str)], body: &[u8]) {
        let headers = headers.iter().copied();
        self.builder.push_with(|out| encode_event(headers, body, out));
    }

    /// The number of events.
    pub fn len(&self) -> usize {
        self.builder.count() as usize
    }

    /// Whether there is no event.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The bytes so far.
    pub fn byte_len(&self) -> usize {
        self.builder.byte_len()
    }
}
