//! The workloads, over any peer. They see what a peer promises and nothing of how it keeps it.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, ScopedJoinHandle};
use std::time::{Duration, Instant};

use crate::Result;
use crate::args::{Args, Workload};
use crate::measure::{Line, Meter};
use crate::peer::{self, Batch, Peer};

/// Events in a put where only the storing counts, not its speed.
const STORE_EVENTS: usize = 1000;
/// Events in a take of the reader that runs beside the producers.
const TAKE_EVENTS: usize = 1000;
/// How often a peer is asked to give back what it need not keep.
const RECLAIM_EVERY: Duration = Duration::from_millis(200);
/// How long the reader sleeps when there is nothing to take: no peer here can wake it.
const READER_PAUSE: Duration = Duration::from_micros(200);

/// Runs the workload; the peer is handed back, so that the caller chooses whether it is closed.
pub fn run(args: &Args) -> Result<(Line, Box<dyn Peer>)> {
    if args.workload == Workload::Reopen {
        return reopen(args);
    }
    let peer = peer::open(args)?;
    let line = match args.workload {
        Workload::Put => put(args, peer.as_ref())?,
        Workload::Take => take(args, peer.as_ref())?,
        Workload::Both => both(args, peer.as_ref())?,
        Workload::Fill => {
            store(args, peer.as_ref())?;
            Line::new(args, args.event_count(), peer.as_ref())?
        }
        Workload::Reopen => unreachable!("handled above"),
    };
    Ok((line, peer))
}

fn put(args: &Args, peer: &dyn Peer) -> Result<Line> {
    let record = args.record();
    let meter = Meter::start(peer)?;
    let until = Instant::now() + Duration::from_secs_f64(args.seconds);
    let stop = AtomicBool::new(false);
    let (calls, cost) = thread::scope(|scope| {
        let keeper = scope.spawn(|| reclaim(peer, &stop));
        let producers: Vec<_> = (0..args.producer_count())
            .map(|producer| {
                let batch = Batch { record: &record, count: args.batch_count() };
                scope.spawn(move || produce(peer, producer, batch, until))
            })
            .collect();
        let calls = join_producers(producers);
        let cost = meter.stop();
        stop.store(true, Ordering::Relaxed);
        join(keeper, "reclaiming")?;
        Result::Ok((calls?, cost?))
    })?;
    let events = calls.len() as u64 * args.batch as u64;
    Ok(Line::new(args, events, peer)?.with_cost(cost).with_calls(calls))
}

fn both(args: &Args, peer: &dyn Peer) -> Result<Line> {
    /// As long as the producers run, how much is to be taken is open.
    const OPEN: u64 = u64::MAX;
    let record = args.record();
    let meter = Meter::start(peer)?;
    let until = Instant::now() + Duration::from_secs_f64(args.seconds);
    let stop = AtomicBool::new(false);
    let total = AtomicU64::new(OPEN);
    let (calls, cost) = thread::scope(|scope| {
        let keeper = scope.spawn(|| reclaim(peer, &stop));
        let reader = scope.spawn(|| {
            take_all(peer, record.len(), &total)?;
            meter.stop()
        });
        let producers: Vec<_> = (0..args.producer_count())
            .map(|producer| {
                let batch = Batch { record: &record, count: args.batch_count() };
                scope.spawn(move || produce(peer, producer, batch, until))
            })
            .collect();
        let calls = join_producers(producers);
        let put = calls.as_ref().map_or(0, |calls| calls.len() as u64 * args.batch as u64);
        total.store(put, Ordering::Relaxed);
        let cost = join(reader, "taking");
        stop.store(true, Ordering::Relaxed);
        join(keeper, "reclaiming")?;
        Result::Ok((calls?, cost?))
    })?;
    let events = calls.len() as u64 * args.batch as u64;
    Ok(Line::new(args, events, peer)?.with_cost(cost).with_calls(calls))
}

fn take(args: &Args, peer: &dyn Peer) -> Result<Line> {
    store(args, peer)?;
    let record_bytes = args.record().len();
    let mut calls = Vec::new();
    let mut taken = 0;
    let meter = Meter::start(peer)?;
    while taken < args.event_count() {
        let before = Instant::now();
        let count = take_checked(peer, args.batch_count(), record_bytes)?;
        calls.push(before.elapsed());
        if count == 0 {
            return Err(format!("gave back {taken} of {} events", args.events).into());
        }
        taken += count as u64;
    }
    let cost = meter.stop()?;
    Ok(Line::new(args, taken, peer)?.with_cost(cost).with_calls(calls))
}

fn reopen(args: &Args) -> Result<(Line, Box<dyn Peer>)> {
    let meter = Meter::start_here();
    let peer = peer::open(args)?;
    let count = peer.take(1, &mut |_| ())?;
    let cost = meter.stop()?;
    if count == 0 {
        return Err(format!("no event in {}", args.dir.display()).into());
    }
    let line = Line::new(args, count as u64, peer.as_ref())?.with_cost(cost);
    Ok((line, peer))
}

/// Stores the events of `take` and `fill`, durable on return.
fn store(args: &Args, peer: &dyn Peer) -> Result<()> {
    let record = args.record();
    let mut left = args.event_count();
    while left > 0 {
        let count = left.min(STORE_EVENTS as u64) as usize;
        peer.store(Batch { record: &record, count })?;
        left -= count as u64;
    }
    peer.sync()
}

fn produce(
    peer: &dyn Peer,
    producer: usize,
    batch: Batch,
    until: Instant,
) -> Result<Vec<Duration>> {
    let mut calls = Vec::new();
    loop {
        let before = Instant::now();
        if before >= until {
            return Ok(calls);
        }
        peer.put(producer, batch)?;
        calls.push(before.elapsed());
    }
}

/// Takes until `total` events, which may still be unknown, were taken.
fn take_all(peer: &dyn Peer, record_bytes: usize, total: &AtomicU64) -> Result<()> {
    let mut taken = 0;
    let mut idle_since = Instant::now();
    while taken < total.load(Ordering::Relaxed) {
        let count = take_checked(peer, TAKE_EVENTS, record_bytes)?;
        taken += count as u64;
        if count > 0 {
            idle_since = Instant::now();
        } else if idle_since.elapsed() > Duration::from_secs(30) {
            return Err(format!("nothing to take for 30 s after {taken} events").into());
        } else {
            thread::sleep(READER_PAUSE);
        }
    }
    let put = total.load(Ordering::Relaxed);
    if taken > put {
        return Err(format!("took {taken} events, but {put} were put").into());
    }
    Ok(())
}

/// Takes, and checks that what comes back has the size of what was put.
fn take_checked(peer: &dyn Peer, count: usize, record_bytes: usize) -> Result<usize> {
    let mut odd = None;
    let count = peer.take(count, &mut |record| {
        if record.len() != record_bytes {
            odd = Some(record.len());
        }
    })?;
    match odd {
        None => Ok(count),
        Some(bytes) => Err(format!("put {record_bytes} bytes, took {bytes}").into()),
    }
}

fn reclaim(peer: &dyn Peer, stop: &AtomicBool) -> Result<()> {
    while !stop.load(Ordering::Relaxed) {
        peer.reclaim()?;
        thread::sleep(RECLAIM_EVERY);
    }
    Ok(())
}

fn join_producers(
    producers: Vec<ScopedJoinHandle<'_, Result<Vec<Duration>>>>,
) -> Result<Vec<Duration>> {
    let mut calls = Vec::new();
    for producer in producers {
        calls.extend(join(producer, "putting")?);
    }
    Ok(calls)
}

fn join<T>(thread: ScopedJoinHandle<'_, Result<T>>, doing: &str) -> Result<T> {
    match thread.join() {
        Ok(result) => result.map_err(|error| format!("{doing}: {error}").into()),
        Err(_) => Err(format!("the peer panicked while {doing}").into()),
    }
}
