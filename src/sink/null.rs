//! Sink `null`: takes every event, and nothing becomes of it. To measure what lies before it.

use super::{Outcome, Sink, SinkEnv, SinkError};
use crate::config::{Component, Key, Kind, Problem, Role, Settings};
use crate::event::EventBatch;
use async_trait::async_trait;

/// The declaration of the sink.
pub static COMPONENT: Component = Component {
    role: Role::Sink,
    alias: "null",
    class: "org.apache.flume.sink.NullSink",
    doc: "Takes every event and forgets it.",
    keys: &[
        Key::new("batchSize", Kind::POSITIVE, "100", "events", "Events in a batch, at most."),
        Key::new(
            "logEveryNEvents",
            Kind::COUNT,
            "10000",
            "events",
            "A log line at level debug for so many events; 0: none.",
        ),
    ],
};

/// The sink `null`.
pub struct NullSink {
    name: String,
    batch_events: u32,
    log_every: u64,
    taken: u64,
}

/// A sink of these settings.
///
/// # Errors
/// A value can't be used.
pub fn build(settings: &Settings, _: &SinkEnv) -> Result<Box<dyn Sink>, Problem> {
    Ok(Box::new(NullSink {
        name: settings.name().to_owned(),
        batch_events: super::batch_events(settings, "batchSize")?,
        log_every: settings.count("logEveryNEvents")?,
        taken: 0,
    }))
}

#[async_trait]
impl Sink for NullSink {
    async fn open(&mut self) -> Result<(), SinkError> {
        Ok(())
    }

    async fn deliver(&mut self, batch: &EventBatch) -> Outcome {
        let before = self.taken;
        self.taken += batch.len() as u64;
        let (before, now) = (before.checked_div(self.log_every), self.taken);
        if before.is_some_and(|before| before < now / self.log_every) {
            tracing::debug!("sink {}: {now} events so far", self.name);
        }
        Outcome::Delivered
    }

    async fn close(&mut self) -> Result<(), SinkError> {
        Ok(())
    }

    fn batch_events_max(&self) -> u32 {
        self.batch_events
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::Event;
    use crate::offset::Offset;

    #[tokio::test]
    async fn null_takes_every_batch_whatever_it_is_to_log() {
        for every in ["0", "1", "3"] {
            let pairs = [("logEveryNEvents", every), ("batchSize", "7")];
            let settings = Settings::of_pairs("a.sinks.k", COMPONENT.keys, &pairs);
            let mut sink = build(&settings, &SinkEnv::default()).unwrap();
            assert_eq!(sink.batch_events_max(), 7);
            sink.open().await.unwrap();
            let batch = EventBatch::of_events(Offset(0), 0, &vec![Event::default(); 5]);
            assert_eq!(sink.deliver(&batch).await, Outcome::Delivered);
            sink.close().await.unwrap();
        }
    }
}
