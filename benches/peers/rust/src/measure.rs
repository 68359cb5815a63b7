//! What a run cost: time, processor, memory, disk; and the line of JSON it is told in.

use std::fs;
use std::time::{Duration, Instant};

use rustix::param::clock_ticks_per_second;
use rustix::time::{ClockId, clock_gettime};
use serde::Serialize;

use crate::Result;
use crate::args::Args;
use crate::peer::Peer;

/// The driver's one line; fields that do not apply stay out of it.
#[derive(Serialize, Default)]
pub struct Line {
    peer: String,
    workload: String,
    producers: i64,
    batch: i64,
    body: i64,
    events: u64,
    #[serde(flatten, skip_serializing_if = "Option::is_none")]
    cost: Option<Cost>,
    #[serde(skip_serializing_if = "Option::is_none")]
    events_per_s: Option<u64>,
    #[serde(flatten, skip_serializing_if = "Option::is_none")]
    calls: Option<Calls>,
    rss_mb: u64,
    disk_mb: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    note: Option<&'static str>,
}

#[derive(Serialize)]
pub struct Cost {
    seconds: f64,
    cpu_s: f64,
}

/// Durations of single calls, in microseconds.
#[derive(Serialize)]
struct Calls {
    p50_us: u64,
    p99_us: u64,
    p999_us: u64,
    max_us: u64,
}

impl Line {
    /// The line of a run of which nothing was timed.
    pub fn new(args: &Args, events: u64, peer: &dyn Peer) -> Result<Self> {
        let process = peer.server().map_or("self".to_owned(), |id| id.to_string());
        let status = format!("/proc/{process}/status");
        let io = format!("/proc/{process}/io");
        Ok(Self {
            peer: args.peer.to_string(),
            workload: args.workload.to_string(),
            producers: args.producers,
            batch: args.batch,
            body: args.body,
            events,
            rss_mb: kernel_number(&status, "VmHWM:")? >> 10,
            disk_mb: kernel_number(&io, "write_bytes:")? / 1_000_000,
            note: peer.note(),
            ..Self::default()
        })
    }

    pub fn with_cost(self, cost: Cost) -> Self {
        Self { cost: Some(cost), ..self }
    }

    pub fn with_calls(self, calls: Vec<Duration>) -> Self {
        let seconds = self.cost.as_ref().map(|cost| cost.seconds);
        let events_per_s = seconds.map(|seconds| (self.events as f64 / seconds) as u64);
        Self { events_per_s, calls: percentiles(calls), ..self }
    }
}

/// A running clock over time and processor: this process's, and the peer's if it is another.
pub struct Meter {
    started: Instant,
    cpu: Duration,
    server: Option<u32>,
}

impl Meter {
    pub fn start(peer: &dyn Peer) -> Result<Self> {
        let server = peer.server();
        Ok(Self { cpu: cpu(server)?, started: Instant::now(), server })
    }

    /// For what begins before there is a peer.
    pub fn start_here() -> Self {
        Self { cpu: own_cpu(), started: Instant::now(), server: None }
    }

    pub fn stop(self) -> Result<Cost> {
        let seconds = self.started.elapsed().as_secs_f64();
        let cpu = cpu(self.server)? - self.cpu;
        Ok(Cost { seconds: thousandths(seconds), cpu_s: thousandths(cpu.as_secs_f64()) })
    }
}

fn percentiles(mut calls: Vec<Duration>) -> Option<Calls> {
    calls.sort_unstable();
    let max = calls.last()?.as_micros() as u64;
    let at = |part: f64| {
        let rank = (calls.len() as f64 * part).ceil() as usize;
        calls[rank.max(1) - 1].as_micros() as u64
    };
    Some(Calls { p50_us: at(0.5), p99_us: at(0.99), p999_us: at(0.999), max_us: max })
}

fn cpu(server: Option<u32>) -> Result<Duration> {
    Ok(own_cpu() + server.map_or(Ok(Duration::ZERO), cpu_of)?)
}

/// User and system time of all threads so far, those that ended included.
fn own_cpu() -> Duration {
    let now = clock_gettime(ClockId::ProcessCPUTime);
    Duration::new(now.tv_sec as u64, now.tv_nsec as u32)
}

/// The same of another process, to a kernel tick.
fn cpu_of(process: u32) -> Result<Duration> {
    let path = format!("/proc/{process}/stat");
    let text = fs::read_to_string(&path).map_err(|error| format!("read {path}: {error}"))?;
    // The name, in brackets, may hold spaces; 11 numbers stand between it and the two times.
    let (_, rest) = text.rsplit_once(')').ok_or_else(|| format!("{path} names no command"))?;
    let times = rest.split_whitespace().skip(11).take(2).map(str::parse::<u64>);
    let ticks: u64 = times.sum::<std::result::Result<_, _>>()?;
    Ok(Duration::from_micros(ticks * 1_000_000 / clock_ticks_per_second()))
}

fn thousandths(seconds: f64) -> f64 {
    (seconds * 1000.0).round() / 1000.0
}

/// The number after `key` in one of the kernel's files of lines.
fn kernel_number(path: &str, key: &str) -> Result<u64> {
    let text = fs::read_to_string(path).map_err(|error| format!("read {path}: {error}"))?;
    let line = text.lines().find_map(|line| line.strip_prefix(key));
    let number = line.and_then(|rest| rest.split_whitespace().next()?.parse().ok());
    number.ok_or_else(|| format!("{path} has no number for '{key}'").into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_calls_that_happened() {
        let calls = (1..=1000).rev().map(Duration::from_micros).collect();
        let calls = percentiles(calls).expect("there are calls");
        assert_eq!((calls.p50_us, calls.p99_us), (500, 990));
        assert_eq!((calls.p999_us, calls.max_us), (999, 1000));
    }

    #[test]
    fn percentiles_of_no_calls_are_left_out() {
        assert!(percentiles(Vec::new()).is_none());
    }
}
