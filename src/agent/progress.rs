//! A line each second of what goes through: for a person at a terminal.

use super::delivery::DeliveryCounts;
use crate::channel::log::LogChannel;
use crate::ingest::Ingest;
use std::io::Write;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

/// What is watched.
pub(super) struct Watched {
    pub(super) ingests: Vec<Ingest>,
    pub(super) channels: Vec<(Arc<LogChannel>, Option<Arc<DeliveryCounts>>)>,
}

#[derive(Clone, Copy, Default)]
struct Sample {
    accepted: u64,
    delivered: u64,
    waiting: u64,
    bytes: u64,
}

impl Watched {
    fn sample(&self) -> Sample {
        let mut sample = Sample::default();
        let accepted = self.ingests.iter().map(|i| i.counters().accepted_events.load(Relaxed));
        sample.accepted = accepted.sum();
        for (channel, delivery) in &self.channels {
            let tail = channel.log().tails().tail;
            if let Some(delivery) = delivery {
                sample.delivered += delivery.delivered_events.load(Relaxed);
                sample.waiting += tail.0.saturating_sub(delivery.watermark.load(Relaxed));
            }
            sample.bytes += channel.log().usage().bytes;
        }
        sample
    }
}

/// Prints until it is aborted, each line over the one before.
pub(super) async fn run(watched: Watched) {
    let mut timer = tokio::time::interval(Duration::from_secs(1));
    timer.tick().await;
    let (mut last, mut at) = (watched.sample(), Instant::now());
    loop {
        timer.tick().await;
        let (now, seconds) = (watched.sample(), at.elapsed().as_secs_f64());
        at = Instant::now();
        let line = line(&last, &now, seconds);
        last = now;
        // a terminal that has gone away is no reason to stop
        let _ =
            write!(std::io::stdout(), "\r\x1b[K{line}").and_then(|()| std::io::stdout().flush());
    }
}

fn line(last: &Sample, now: &Sample, seconds: f64) -> String {
    let rate = |now: u64, last: u64| now.saturating_sub(last) as f64 / seconds;
    format!(
        "in {:.0}/s  out {:.0}/s  waiting {}  delivered {}  segments {:.1} MiB",
        rate(now.accepted, last.accepted),
        rate(now.delivered, last.delivered),
        now.waiting,
        now.delivered,
        now.bytes as f64 / (1 << 20) as f64
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn line_shows_rates_of_the_last_second_and_totals() {
        let last = Sample { accepted: 100, delivered: 50, waiting: 50, bytes: 0 };
        let now = Sample { accepted: 300, delivered: 250, waiting: 50, bytes: 3 << 19 };
        let expected = "in 100/s  out 100/s  waiting 50  delivered 250  segments 1.5 MiB";
        assert_eq!(line(&last, &now, 2.0), expected);
    }
}
