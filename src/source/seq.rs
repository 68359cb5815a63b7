//! Source `seq`: counts from 0 and puts each number, as decimal text, into its channels.
//!
//! There are no gaps: when a channel does not take a batch, the same numbers are put again after a
//! back-off. The count starts again with the process.

use super::complaint::Refusals;
use super::{Source, SourceError, Stop};
use crate::config::{Component, Key, Kind, Problem, Role, Settings};
use crate::ingest::{Ingest, PutBatch};
use async_trait::async_trait;
use std::time::Duration;
use tokio::time::{Instant, sleep, sleep_until};

/// The declaration of the source.
pub static COMPONENT: Component = Component {
    role: Role::Source,
    alias: "seq",
    class: "org.apache.flume.source.SequenceGeneratorSource",
    doc: "Produces the numbers from 0 as events, to try a channel and its sinks.",
    keys: &[
        Key::new("batchSize", Kind::POSITIVE, "1", "events", "Events in a batch, at most."),
        Key::new(
            "totalEvents",
            Kind::COUNT,
            "9223372036854775807",
            "events",
            "Events to produce; then it rests.",
        ),
        Key::new("rate", Kind::COUNT, "0", "events/s", "Pace; 0: as fast as the channel takes."),
        Key::new("backoffSleepIncrement", Kind::COUNT, "1000", "ms", "Back-off after a refusal."),
        Key::new("maxBackoffSleep", Kind::COUNT, "5000", "ms", "Longest back-off."),
    ],
};

/// The source `seq`.
pub struct SeqSource {
    name: String,
    plan: Plan,
    /// The next number.
    next: u64,
}

/// A source of these settings.
///
/// # Errors
/// A value can't be used.
pub fn build(settings: &Settings) -> Result<Box<dyn Source>, Problem> {
    Ok(Box::new(SeqSource::new(settings)?))
}

impl SeqSource {
    /// As [`build`].
    pub fn new(settings: &Settings) -> Result<SeqSource, Problem> {
        let plan = Plan {
            batch_events: settings.count("batchSize")?,
            total_events: settings.count("totalEvents")?,
            rate: settings.count("rate")?,
            backoff: settings.duration("backoffSleepIncrement")?,
            backoff_max: settings.duration("maxBackoffSleep")?,
        };
        Ok(SeqSource { name: settings.name().to_owned(), plan, next: 0 })
    }
}

#[derive(Clone, Copy, Debug)]
struct Plan {
    batch_events: u64,
    total_events: u64,
    rate: u64,
    backoff: Duration,
    backoff_max: Duration,
}

impl Plan {
    /// How many events the batch after `done` events has. With a rate, batches are made small
    /// enough to come ten times a second, where the rate allows.
    fn batch_events(&self, done: u64) -> u64 {
        let pace = if self.rate == 0 { u64::MAX } else { (self.rate / 10).max(1) };
        self.batch_events.min(pace).min(self.total_events - done)
    }

    /// How long after the start the batch after `done` events is due.
    fn due(&self, done: u64) -> Duration {
        match self.rate {
            0 => Duration::ZERO,
            rate => Duration::from_secs(done / rate)
                .saturating_add(Duration::from_secs_f64((done % rate) as f64 / rate as f64)),
        }
    }

    /// The rest after `refusals` in a row.
    fn rest(&self, refusals: u32) -> Duration {
        self.backoff.saturating_mul(refusals).min(self.backoff_max)
    }
}

#[async_trait]
impl Source for SeqSource {
    async fn open(&mut self) -> Result<(), SourceError> {
        Ok(())
    }

    async fn run(&mut self, ingest: Ingest, mut stop: Stop) -> Result<(), SourceError> {
        let plan = self.plan;
        let (mut start, mut first) = (Instant::now(), self.next);
        let (notes, mut refusals) = (Refusals::default(), 0u32);
        while self.next < plan.total_events && !stop.is_stopped() {
            let due = start + plan.due(self.next - first);
            let wait = async {
                match plan.rate {
                    // others get their turn, even where no put ever waits
                    0 => tokio::task::yield_now().await,
                    _ => sleep_until(due).await,
                }
            };
            tokio::select! {
                () = stop.stopped() => break,
                () = wait => {}
            }
            let count = plan.batch_events(self.next);
            let result = ingest.put(batch(&ingest, self.next, count)).await;
            notes.note(&self.name, &result);
            if result.is_ok() {
                self.next += count;
                refusals = 0;
                continue;
            }
            refusals = refusals.saturating_add(1);
            tokio::select! {
                () = stop.stopped() => break,
                () = sleep(plan.rest(refusals)) => {}
            }
            // what was not produced meanwhile is not caught up in a burst
            (start, first) = (Instant::now(), self.next);
        }
        stop.stopped().await;
        Ok(())
    }
}

fn batch(ingest: &Ingest, first: u64, count: u64) -> PutBatch {
    use std::io::Write;
    let mut batch = ingest.batch();
    let mut text = Vec::with_capacity(20);
    for number in first..first + count {
        text.clear();
        write!(text, "{number}").expect("memory takes all");
        batch.push(&[], &text);
    }
    batch
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::channel::PutError;
    use crate::channel::collect::CollectChannel;
    use std::sync::Arc;

    fn source(pairs: &[(&str, &str)]) -> SeqSource {
        SeqSource::new(&Settings::of_pairs("a.sources.s", COMPONENT.keys, pairs)).unwrap()
    }

    async fn bodies_when(channel: &CollectChannel, count: usize) -> Vec<String> {
        loop {
            let events = channel.events();
            if events.len() >= count {
                return events.into_iter().map(|e| String::from_utf8(e.body).unwrap()).collect();
            }
            tokio::task::yield_now().await;
        }
    }

    #[tokio::test]
    async fn seq_counts_to_its_total_without_gaps_although_the_channel_refuses() {
        let channel = Arc::new(CollectChannel::default());
        channel.refuse(Some(PutError::Stopping { channel: "c".into() }));
        let ingest = Ingest::new(vec![channel.clone()]);
        let pairs = [("batchSize", "4"), ("totalEvents", "10"), ("backoffSleepIncrement", "1")];
        let mut source = source(&pairs);
        let (stopper, stop) = Stop::new();
        let run = tokio::spawn({
            let ingest = ingest.clone();
            async move { source.run(ingest, stop).await }
        });
        while ingest.counters().received_events.load(std::sync::atomic::Ordering::Relaxed) < 8 {
            tokio::task::yield_now().await;
        }
        assert!(channel.events().is_empty());
        channel.refuse(None);
        let expected: Vec<String> = (0..10).map(|n| n.to_string()).collect();
        assert_eq!(bodies_when(&channel, 10).await, expected);
        stopper.stop();
        run.await.unwrap().unwrap();
        assert_eq!(channel.batches().iter().map(Vec::len).collect::<Vec<_>>(), [4, 4, 2]);
    }

    #[test]
    fn rate_spreads_the_events_over_the_second() {
        let plan = source(&[("batchSize", "1000"), ("rate", "50")]).plan;
        assert_eq!(plan.batch_events(0), 5);
        assert_eq!(plan.due(125), Duration::from_millis(2500));
        let plan = source(&[("batchSize", "100")]).plan;
        assert_eq!((plan.batch_events(0), plan.due(1 << 40)), (100, Duration::ZERO));
    }

    #[test]
    fn back_off_grows_to_its_longest() {
        let plan = source(&[]).plan;
        let rests: Vec<u64> = [1, 2, 9].map(|n| plan.rest(n).as_secs()).into();
        assert_eq!(rests, [1, 2, 5]);
    }
}
