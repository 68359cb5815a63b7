//! A channel that keeps what it is given: for the tests of sources and of their peers.

use super::{Channel, PutError};
use crate::event::{Event, EventRef, Records};
use crate::log::BatchBuilder;
use async_trait::async_trait;
use std::sync::Mutex;

/// Keeps every event in memory, for ever.
#[derive(Default)]
pub struct CollectChannel {
    batches: Mutex<Vec<Vec<Event>>>,
    refuse: Mutex<Option<PutError>>,
}

impl CollectChannel {
    /// The events of each put so far.
    pub fn batches(&self) -> Vec<Vec<Event>> {
        self.batches.lock().expect("no put panics").clone()
    }

    /// Every event so far.
    pub fn events(&self) -> Vec<Event> {
        self.batches().concat()
    }

    /// From now on every put is answered with `error`; `None` takes events again.
    pub fn refuse(&self, error: Option<PutError>) {
        *self.refuse.lock().expect("no put panics") = error;
    }
}

#[async_trait]
impl Channel for CollectChannel {
    async fn put(&self, batch: BatchBuilder) -> Result<(), PutError> {
        if let Some(error) = self.refuse.lock().expect("no put panics").clone() {
            return Err(error);
        }
        let records = Records::new(batch.records());
        let events = records.filter_map(EventRef::decode).map(|e| e.to_event()).collect();
        self.batches.lock().expect("no put panics").push(events);
        Ok(())
    }
}
