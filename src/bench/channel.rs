//! The log under test: puts as sources make them, takes as sinks see them.

use super::{BenchError, Figures, Options};
use crate::event::{EventBatch, encode_event};
use crate::log::{BatchBuilder, Log, LogError, LogOptions};
use crate::offset::Offset;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// Bytes of events that are left in the log for the takes.
const BACKLOG_BYTES: u64 = 256 << 20;
/// How often cursors are synced, as the file channel does.
const CURSOR_SYNC: Duration = Duration::from_millis(50);
/// Stands for the cursors of a channel with one sink.
const CURSORS: [u8; 64] = [0; 64];

/// A log and what is put into it.
pub(super) struct Bench {
    log: Log,
    options: Options,
    first: std::cell::Cell<Offset>,
}

impl Bench {
    pub(super) fn new(dir: &Path, options: &Options) -> Result<Bench, BenchError> {
        let durability = options.fsync;
        let log_options = LogOptions { durability, ..LogOptions::default() };
        let (log, opened) = Log::open_dir(dir, log_options)?;
        let first = std::cell::Cell::new(opened.report.first);
        Ok(Bench { log, options: options.clone(), first })
    }

    /// Every producer puts for `span`.
    pub(super) fn put(&self, span: Duration) -> Result<Figures, BenchError> {
        let began = Instant::now();
        let done = AtomicBool::new(false);
        let (log, options, done) = (&self.log, &self.options, &done);
        let (calls, released) = std::thread::scope(|scope| {
            let producers: Vec<_> = (0..options.producers)
                .map(|_| scope.spawn(move || produce(log, options, began, span)))
                .collect();
            let first = self.first.get();
            let reclaimer = scope.spawn(move || reclaim(log, options, first, done));
            let mut calls = Vec::new();
            let mut failed = None;
            for producer in producers {
                match producer.join().expect("a producer does not panic") {
                    Ok(own) => calls.extend(own),
                    Err(error) => failed = Some(error),
                }
            }
            done.store(true, Ordering::Relaxed);
            let released = reclaimer.join().expect("the reclaimer does not panic")?;
            failed.map_or(Ok((calls, released)), Err)
        })?;
        self.first.set(released);
        let events = calls.len() as u64 * u64::from(options.batch);
        Ok(Figures::new(events, options.body, began.elapsed(), calls))
    }

    /// One reader takes and acknowledges everything there is.
    pub(super) fn take(&self) -> Result<Figures, BenchError> {
        let mut reader = self.log.reader();
        let (began, tail) = (Instant::now(), reader.visible_tail());
        let (mut next, mut calls, mut events) = (self.first.get(), Vec::new(), 0u64);
        let mut synced = began;
        while next < tail {
            let call = Instant::now();
            let end = tail.min(next.plus(self.options.batch.into()));
            let read = reader.read(next..end, self.options.batch.into())?;
            events += look_at(&read.batch);
            next = read.next;
            self.log.save_cursors(&CURSORS, next, next)?;
            if synced.elapsed() >= CURSOR_SYNC {
                self.log.sync_cursors()?;
                synced = Instant::now();
            }
            calls.push(call.elapsed());
        }
        let took = began.elapsed();
        self.log.sync_cursors()?;
        drop(reader);
        self.log.reclaim(next);
        self.first.set(next);
        Ok(Figures::new(events, self.options.body, took, calls))
    }
}

/// One producer; how long each of its puts took.
fn produce(
    log: &Log,
    options: &Options,
    began: Instant,
    span: Duration,
) -> Result<Vec<Duration>, LogError> {
    let body = vec![b'x'; options.body as usize];
    let bytes = options.batch as usize * (body.len() + 64);
    let mut calls = Vec::new();
    while began.elapsed() < span {
        let call = Instant::now();
        let mut batch = BatchBuilder::with_capacity(bytes);
        for _ in 0..options.batch {
            let headers = [("host", "bench"), ("n", "1")];
            batch.push_with(|out| encode_event(headers.into_iter(), &body, out));
        }
        log.put(batch)?;
        calls.push(call.elapsed());
    }
    Ok(calls)
}

/// Gives back what is too much, so that the log neither grows for ever nor is empty.
fn reclaim(
    log: &Log,
    options: &Options,
    first: Offset,
    done: &AtomicBool,
) -> Result<Offset, LogError> {
    let backlog = BACKLOG_BYTES / (u64::from(options.body) + 40);
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

/// Looks at each event as a sink would; returns how many there are.
fn look_at(batch: &EventBatch) -> u64 {
    let events = batch.iter().map(|event| u64::from(!event.event.body().is_empty()));
    let mut count = 0;
    let seen: u64 = events.inspect(|_| count += 1).sum();
    std::hint::black_box(seen);
    count
}
