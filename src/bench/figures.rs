//! Figures of one measurement: throughput, and latency by quantile.

use super::load::{Calls, Load};
use serde::Serialize;
use std::fmt;
use std::time::Duration;

/// Throughput and latency.
#[derive(Clone, Copy, PartialEq, Serialize, Debug)]
pub struct Figures {
    /// Events a second.
    pub events_per_s: f64,
    /// Bytes of bodies a second, in millions.
    pub mb_per_s: f64,
    /// Of each call.
    #[serde(flatten)]
    pub latency: Latency,
}

/// How long calls took, µs.
#[derive(Clone, Copy, PartialEq, Serialize, Debug)]
pub struct Latency {
    /// Half of the calls took at most this.
    pub p50_us: f64,
    /// 99 of 100 did.
    pub p99_us: f64,
    /// 999 of 1000 did.
    pub p999_us: f64,
    /// All did.
    pub max_us: f64,
}

impl Figures {
    /// Of the puts of all producers in `took`.
    pub(super) fn of_puts(load: &Load, took: Duration, calls: Vec<Calls>) -> Figures {
        let calls: Vec<_> = calls.into_iter().flat_map(|calls| calls.0).collect();
        let events = calls.len() as u64 * u64::from(load.batch);
        Figures::new(events, load.body, took, calls)
    }

    /// Of `events` with bodies of `body` bytes in `took`.
    pub(super) fn new(events: u64, body: u32, took: Duration, calls: Vec<Duration>) -> Figures {
        let events_per_s = events as f64 / took.as_secs_f64();
        let mb_per_s = events_per_s * f64::from(body) / 1e6;
        Figures { events_per_s, mb_per_s, latency: Latency::of(calls) }
    }

    /// The one of the higher throughput.
    pub(super) fn better(&self, other: &Figures) -> Figures {
        if other.events_per_s > self.events_per_s { *other } else { *self }
    }

    /// The one of the lower median.
    pub(super) fn quicker(&self, other: &Figures) -> Figures {
        if other.latency.p50_us < self.latency.p50_us { *other } else { *self }
    }
}

impl Latency {
    /// Of calls in any order; zeros if there was none.
    pub(super) fn of(mut calls: Vec<Duration>) -> Latency {
        calls.sort_unstable();
        let quantile = |q: f64| {
            let rank = (calls.len() as f64 * q).ceil() as usize;
            calls.get(rank.max(1) - 1).map_or(0.0, |took| took.as_nanos() as f64 / 1e3)
        };
        Latency {
            p50_us: quantile(0.5),
            p99_us: quantile(0.99),
            p999_us: quantile(0.999),
            max_us: quantile(1.0),
        }
    }

    /// The one of the lower median.
    pub(super) fn better(&self, other: &Latency) -> Latency {
        if other.p50_us < self.p50_us { *other } else { *self }
    }
}

impl fmt::Display for Figures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Figures { events_per_s, mb_per_s, latency } = self;
        write!(f, "{events_per_s:>11.0} {mb_per_s:>8.1} {latency}")
    }
}

impl fmt::Display for Latency {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Latency { p50_us, p99_us, p999_us, max_us } = self;
        write!(f, "{p50_us:>6.0} µs {p99_us:>6.0} µs {p999_us:>6.0} µs {max_us:>6.0} µs")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_those_of_the_sorted_calls() {
        let calls = (1..=1000).rev().map(Duration::from_micros).collect();
        let latency = Latency::of(calls);
        let (p50_us, p99_us, p999_us, max_us) = (500.0, 990.0, 999.0, 1000.0);
        assert_eq!(latency, Latency { p50_us, p99_us, p999_us, max_us });
        assert_eq!(Latency::of(vec![Duration::from_micros(7)]).p999_us, 7.0);
        assert_eq!(Latency::of(Vec::new()).p50_us, 0.0);
    }
}
