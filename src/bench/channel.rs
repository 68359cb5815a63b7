//! The channel under test: puts as sources make them, takes through the agent's own delivery.

use super::load::{Calls, Load, Style, on_one_thread, on_threads};
use super::{BenchError, Figures};
use crate::agent::{Delivery, Ending};
use crate::channel::Channel as _;
use crate::channel::log::{ChannelOptions, LogChannel};
use crate::dispatch::{DispatchOptions, GroupOptions, SinkOptions, Start};
use crate::event::EventBatch;
use crate::log::{Durability, LogError, LogOptions};
use crate::offset::Offset;
use crate::sink::{Outcome, Sink, SinkError};
use async_trait::async_trait;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use tokio::runtime::Runtime;
use tokio::sync::watch;

/// Bytes of events that stay in the log while only puts are measured.
const BACKLOG_BYTES: u64 = 256 << 20;
/// How often cursors are synced, as the file channel does.
const CURSOR_SYNC: Duration = Duration::from_millis(50);
/// Events of a put that only fills.
const FILL_BATCH: u32 = 1000;
/// A put waits so long for room: there always is some.
const KEEP_ALIVE: Duration = Duration::from_secs(60);
/// Stands for the cursors of a channel with one sink.
const CURSORS: [u8; 64] = [0; 64];

/// How a channel is set up.
#[derive(Clone, Copy, Debug)]
pub struct Setup {
    /// When a put returns.
    pub durability: Durability,
    /// Bytes of a segment.
    pub segment_bytes: u64,
    /// Groups that take from it, each everything.
    pub groups: u32,
    /// Sinks of each group.
    pub sinks: u32,
}

impl Default for Setup {
    /// The file channel's defaults, and one sink.
    fn default() -> Setup {
        let LogOptions { durability, segment_bytes, .. } = LogOptions::default();
        Setup { durability, segment_bytes, groups: 1, sinks: 1 }
    }
}

/// A file channel.
pub struct Channel {
    setup: Setup,
    channel: Arc<LogChannel>,
    first: std::cell::Cell<Offset>,
    runtime: Runtime,
}

impl Channel {
    /// Opens the channel in `dir`, or makes it.
    ///
    /// # Errors
    /// Its log does not open.
    pub fn open(dir: &Path, setup: Setup) -> Result<Channel, BenchError> {
        let Setup { durability, segment_bytes, .. } = setup;
        let log = LogOptions { durability, segment_bytes, ..LogOptions::default() };
        let options = ChannelOptions {
            dir: Some(dir.to_owned()),
            keep_alive: KEEP_ALIVE,
            cursor_sync: CURSOR_SYNC,
            ..ChannelOptions::of_log("bench", log)
        };
        let (channel, opened) = LogChannel::open(options)?;
        let mut runtime = tokio::runtime::Builder::new_multi_thread();
        let runtime = runtime.worker_threads(2).enable_all().build();
        let runtime = runtime.map_err(BenchError::io("start a runtime"))?;
        Ok(Channel { setup, channel, first: std::cell::Cell::new(opened.report.first), runtime })
    }

    /// Every producer puts for `span`; nobody takes, and what is too much is given back.
    ///
    /// # Errors
    /// The log fails.
    pub fn put(&self, load: &Load, span: Duration) -> Result<Figures, BenchError> {
        let began = Instant::now();
        let done = AtomicBool::new(false);
        let (calls, took, released) = std::thread::scope(|scope| {
            let (channel, first, done) = (&self.channel, self.first.get(), &done);
            let reclaimer = scope.spawn(move || reclaim(channel, load, first, done));
            let calls = self.produce(load, began, span);
            let took = began.elapsed(); // not until the reclaimer has slept, too
            done.store(true, Ordering::Relaxed);
            let released = reclaimer.join().expect("the reclaimer does not panic")?;
            Ok::<_, BenchError>((calls?, took, released))
        })?;
        self.first.set(released);
        Ok(Figures::of_puts(load, took, calls))
    }

    /// Puts `events`, as fast as it can, and syncs them.
    ///
    /// # Errors
    /// The log fails.
    pub fn fill(&self, events: u64, body: u32) -> Result<(), BenchError> {
        let load = Load { producers: 1, batch: FILL_BATCH, body, style: Style::Threads };
        let body = vec![b'x'; body as usize];
        let log = self.channel.log();
        let mut left = events;
        while left > 0 {
            let batch = left.min(u64::from(FILL_BATCH)) as u32;
            log.put(Load { batch, ..load }.batch(&body))?;
            left -= u64::from(batch);
        }
        Ok(log.sync()?)
    }

    /// Puts as many events as stay while only puts are measured: segments are made for them, and
    /// later ones are recycled.
    ///
    /// # Errors
    /// The log fails.
    pub fn fill_kept(&self, body: u32) -> Result<(), BenchError> {
        self.fill(kept_events(body), body)
    }

    /// Takes everything there is, in batches of `batch`, through the agent's delivery; done when the
    /// cursors are synced.
    ///
    /// # Errors
    /// The delivery fails.
    pub fn take(&self, batch: u32, body: u32) -> Result<Figures, BenchError> {
        let tail = self.channel.log().tails().durable_tail;
        let events = tail.since(self.first.get());
        let began = Instant::now();
        let taking = Taking::start(self, batch)?;
        let calls = taking.until(events)?;
        self.first.set(tail);
        Ok(Figures::new(events, body, began.elapsed(), calls))
    }

    /// As [`Channel::put`] and [`Channel::take`], at the same time, until as much was taken as put.
    /// What waits already is taken first.
    ///
    /// # Errors
    /// The log, or the delivery fails.
    pub fn both(&self, load: &Load, batch: u32, span: Duration) -> Result<Figures, BenchError> {
        let began = Instant::now();
        let taking = Taking::start(self, batch)?;
        let calls = self.produce(load, began, span)?;
        let puts: usize = calls.iter().map(|calls| calls.0.len()).sum();
        taking.until(puts as u64 * u64::from(load.batch))?;
        self.first.set(self.first.get().plus(puts as u64 * u64::from(load.batch)));
        Ok(Figures::of_puts(load, began.elapsed(), calls))
    }

    /// Bytes of batches that the log has written since it was opened, padding included.
    pub fn log_bytes(&self) -> u64 {
        self.channel.log().counts().bytes
    }

    /// Waits until a sink has the first event.
    ///
    /// # Errors
    /// The delivery fails.
    pub fn first(&self) -> Result<(), BenchError> {
        Taking::start(self, 100)?.until(1).map(drop)
    }

    fn produce(
        &self,
        load: &Load,
        began: Instant,
        span: Duration,
    ) -> Result<Vec<Calls>, BenchError> {
        let channel = &self.channel;
        let task = |_| produce_task(Arc::clone(channel), *load, began, span);
        let done = match load.style {
            Style::Tasks => on_one_thread((0..load.producers).map(task)),
            Style::Threads => on_threads(load.producers, || produce(channel, load, began, span)),
        };
        done.into_iter().collect()
    }
}

/// One producer with a thread of its own.
fn produce(
    channel: &LogChannel,
    load: &Load,
    began: Instant,
    span: Duration,
) -> Result<Calls, BenchError> {
    let body = vec![b'x'; load.body as usize];
    let mut calls = Calls::new(span);
    while began.elapsed() < span {
        let call = Instant::now();
        channel.log().put(load.batch(&body))?;
        calls.note(call);
    }
    Ok(calls)
}

/// One producer that is a task, as a source is.
async fn produce_task(
    channel: Arc<LogChannel>,
    load: Load,
    began: Instant,
    span: Duration,
) -> Result<Calls, BenchError> {
    let body = vec![b'x'; load.body as usize];
    let mut calls = Calls::new(span);
    while began.elapsed() < span {
        let call = Instant::now();
        channel.put(load.batch(&body)).await?;
        calls.note(call);
    }
    Ok(calls)
}

/// Events that stay in the log while only puts are measured.
fn kept_events(body: u32) -> u64 {
    BACKLOG_BYTES / (u64::from(body) + 40)
}

/// Gives back what is too much, so that the log neither grows for ever nor is empty.
fn reclaim(
    channel: &LogChannel,
    load: &Load,
    first: Offset,
    done: &AtomicBool,
) -> Result<Offset, LogError> {
    let log = channel.log();
    let backlog = kept_events(load.body);
    let mut released = first;
    loop {
        let last = done.load(Ordering::Relaxed);
        let tail = log.tails().durable_tail;
        let wanted = Offset(tail.0.saturating_sub(backlog));
        if wanted > released {
            released = wanted;
            log.save_cursors(&CURSORS, released, released)?;
            log.sync_cursors()?;
            log.reclaim(released);
        }
        if last {
            return Ok(released);
        }
        std::thread::sleep(CURSOR_SYNC);
    }
}

/// A delivery under way to sinks that count.
struct Taking<'a> {
    runtime: &'a Runtime,
    delivery: Delivery,
    taken: watch::Receiver<u64>,
    calls: std::sync::mpsc::Receiver<Vec<Duration>>,
    groups: u32,
}

impl Taking<'_> {
    fn start(channel: &Channel, batch: u32) -> Result<Taking<'_>, BenchError> {
        let (count, taken) = watch::channel(0);
        let (done, calls) = std::sync::mpsc::channel();
        let Setup { groups, sinks: members, .. } = channel.setup;
        let mut sinks = Vec::new();
        let mut member = |group: u32, number: u32| {
            let (count, done) = (count.clone(), done.clone());
            let counter = Counter { batch, count, calls: Vec::new(), last: None, done };
            let name = format!("k{group}-{number}");
            sinks.push((name.clone(), Box::new(counter) as Box<dyn Sink>));
            SinkOptions { batch_events_max: batch, queue_size: 8, ..SinkOptions::named(name) }
        };
        let start = Start::At(channel.first.get());
        let mut group = |number: u32| GroupOptions {
            name: format!("g{number}"),
            sinks: (0..members).map(|sink| member(number, sink)).collect(),
            start,
            ..GroupOptions::default()
        };
        let options = DispatchOptions { groups: (0..groups).map(&mut group).collect(), seed: 1 };
        let handle = channel.runtime.handle();
        let delivery = Delivery::of_channel(&channel.channel, options, sinks, handle);
        let delivery = delivery.map_err(BenchError::io("start a delivery"))?;
        Ok(Taking { runtime: &channel.runtime, delivery, taken, calls, groups })
    }

    /// Ends it when every group has taken so many events; how long each batch took.
    fn until(self, events: u64) -> Result<Vec<Duration>, BenchError> {
        let Taking { runtime, mut delivery, mut taken, calls, groups } = self;
        let events = events * u64::from(groups);
        let ended = runtime.block_on(async {
            tokio::select! {
                // an error: the sinks are gone, and the delivery says why
                _ = taken.wait_for(|taken| *taken >= events) => {}
                ended = delivery.ended() => return ended,
            }
            delivery.end(Ending::Finish);
            delivery.ended().await
        });
        ended.map_err(BenchError::Delivery)?;
        Ok(calls.try_iter().flatten().collect())
    }
}

/// A sink that looks at each event.
struct Counter {
    batch: u32,
    /// Of all sinks together.
    count: watch::Sender<u64>,
    /// From one batch to the next.
    calls: Vec<Duration>,
    last: Option<Instant>,
    done: std::sync::mpsc::Sender<Vec<Duration>>,
}

#[async_trait]
impl Sink for Counter {
    async fn open(&mut self) -> Result<(), SinkError> {
        self.last = Some(Instant::now());
        Ok(())
    }

    async fn deliver(&mut self, batch: &EventBatch) -> Outcome {
        let seen = look_at(batch);
        self.count.send_modify(|taken| *taken += seen);
        let now = Instant::now();
        self.calls.extend(self.last.replace(now).map(|last| now - last));
        Outcome::Delivered
    }

    async fn close(&mut self) -> Result<(), SinkError> {
        let _ = self.done.send(std::mem::take(&mut self.calls));
        Ok(())
    }

    fn batch_events_max(&self) -> u32 {
        self.batch
    }
}

/// Looks at each event as a sink would; returns how many there are.
fn look_at(batch: &EventBatch) -> u64 {
    let events = batch.iter().map(|event| u64::from(!event.event.body().is_empty()));
    let mut count = 0;
    let seen: u64 = events.inspect(|_| count += 1).sum();
    std::hint::black_box(seen);
    count
}
