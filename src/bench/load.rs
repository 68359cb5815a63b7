//! What is put, and how producers wait.

use crate::event::encode_event;
use crate::log::BatchBuilder;
use serde::Serialize;
use std::time::{Duration, Instant};

/// How producers wait for their puts.
#[derive(Clone, Copy, PartialEq, Eq, clap::ValueEnum, Serialize, Debug)]
#[serde(rename_all = "snake_case")]
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

/// Runs the tasks of all producers on one thread; what they return, or the first failure.
pub(super) fn on_one_thread<T, E, F>(tasks: impl Iterator<Item = F>) -> Result<Vec<T>, E>
where
    T: Send + 'static,
    E: Send + 'static,
    F: Future<Output = Result<T, E>> + Send + 'static,
{
    let mut runtime = tokio::runtime::Builder::new_multi_thread(); // of the agent's kind
    let runtime = runtime.worker_threads(1).enable_all().build();
    let runtime = runtime.expect("a thread can be had");
    runtime.block_on(async {
        let tasks: Vec<_> = tasks.map(tokio::spawn).collect();
        let mut done = Vec::new();
        for task in tasks {
            done.push(task.await.expect("a producer does not panic")?);
        }
        Ok(done)
    })
}
