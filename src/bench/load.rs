//! What is put, and how producers wait.

use crate::event::encode_event;
use crate::log::BatchBuilder;
use std::time::{Duration, Instant};

/// How producers wait for their puts.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Style {
    /// Each has a thread of its own.
    Threads,
    /// All are tasks of one thread, as sources are.
    Tasks,
}

/// What is put, at the same time by all producers.
#[derive(Clone, Copy, Debug)]
pub struct Load {
    /// Producers, each waiting for its put.
    pub producers: u32,
    /// Events of a put.
    pub batch: u32,
    /// Bytes of an event's body.
    pub body: u32,
    /// How they wait.
    pub style: Style,
}

impl Load {
    /// A put: events with two headers, made as a source makes them.
    pub(super) fn batch(&self, body: &[u8]) -> BatchBuilder {
        let mut batch = BatchBuilder::with_capacity(self.batch as usize * (body.len() + 23));
        for _ in 0..self.batch {
            let headers = [("host", "bench"), ("n", "1")];
            batch.push_with(|out| encode_event(headers.into_iter(), body, out));
        }
        batch
    }

    /// Bytes of a put in the log.
    pub(super) fn put_bytes(&self) -> usize {
        // a frame of 8 bytes and two small headers an event, 64 bytes a batch
        (self.batch as usize * (self.body as usize + 23)).next_multiple_of(64) + 64
    }
}

/// How long each call took.
pub(super) struct Calls(pub(super) Vec<Duration>);

impl Calls {
    /// Room for what a producer may do in `span`: no allocation while it is measured.
    pub(super) fn new(span: Duration) -> Calls {
        Calls(Vec::with_capacity((span.as_secs_f64() * 50_000.0) as usize))
    }

    /// The time since `call` is that of a call.
    pub(super) fn note(&mut self, call: Instant) {
        self.0.push(call.elapsed());
    }
}

/// Runs producers, each on a thread of its own; what they return.
pub(super) fn on_threads<T: Send>(producers: u32, work: impl Fn() -> T + Sync) -> Vec<T> {
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..producers).map(|_| scope.spawn(&work)).collect();
        let ended = threads.into_iter().map(|thread| thread.join());
        ended.map(|ended| ended.expect("a producer does not panic")).collect()
    })
}

/// Runs the tasks of all producers on one thread; what they return.
pub(super) fn on_one_thread<F>(tasks: impl Iterator<Item = F>) -> Vec<F::Output>
where
    F: Future<Output: Send> + Send + 'static,
{
    let mut runtime = tokio::runtime::Builder::new_multi_thread(); // of the agent's kind
    let runtime = runtime.worker_threads(1).enable_all().build();
    let runtime = runtime.expect("a thread can be had");
    let tasks: Vec<_> = tasks.map(|task| runtime.spawn(task)).collect();
    let ended = tasks.into_iter().map(|task| runtime.block_on(task));
    ended.map(|ended| ended.expect("a producer does not panic")).collect()
}
