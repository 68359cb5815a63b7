//! Sink `null`: takes every event, and nothing becomes of it. To measure what lies before it.

use super::{Outcome, Sink, SinkEnv, SinkError};
use crate::config::{Component, Key, Kind, Problem, Role, Settings};
use crate::event::EventBatch;
use async_trait::async_trait;
use std::time::{Duration, Instant};

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
            "A log line each so many events, at most one a second; 0: none.",
        ),
    ],
};

/// At a million events a second Flume's default would be a hundred lines.
const LINE_INTERVAL: Duration = Duration::from_secs(1);

/// The sink `null`.
pub struct NullSink {
    name: String,
    batch_events: u32,
    log_every: u64,
    taken: u64,
    last_line: Option<Instant>,
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
        last_line: None,
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
        if passes_mark(before, self.taken, self.log_every)
            && self.last_line.is_none_or(|at| at.elapsed() >= LINE_INTERVAL)
        {
            tracing::info!("sink {}: {} events so far", self.name, self.taken);
            self.last_line = Some(Instant::now());
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

/// Whether a multiple of `every` lies above `before` and not above `now`; 0 has none.
fn passes_mark(before: u64, now: u64, every: u64) -> bool {
    let marks = |count: u64| count.checked_div(every);
    marks(before) < marks(now)
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

    #[test]
    fn mark_is_passed_once_however_the_batches_lie() {
        assert_eq!(
            [(0, 9), (9, 10), (10, 11)].map(|(a, b)| passes_mark(a, b, 10)),
            [false, true, false]
        );
        assert!(passes_mark(5, 35, 10), "several marks in one batch");
        assert!(!passes_mark(0, 100, 0));
    }
}
