//! The puts of one connection that are under way.
//!
//! They start in the order of their requests: a put is polled once as it is added, which is what
//! hands its batch to the first channel. After that only the oldest is polled, and so the order
//! holds in the second and every further channel too, where a put goes when the one before has
//! taken it. Replies therefore come in the order of requests, which any client accepts; nothing is
//! lost by it, for a channel completes its puts in order. (A task per put would be simpler and
//! would keep no order; `FuturesOrdered` polls them in the order of their wake-ups.)

use crate::channel::PutError;
use crate::rpc::avro::{Reply, Status};
use std::collections::VecDeque;
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::task::{Context, Poll, Waker};

/// Puts under way on one connection.
const DEPTH: usize = 8;

/// How a request ends.
pub(super) enum Outcome {
    /// Its put is done.
    Put(Result<(), PutError>),
    /// There was nothing to run.
    Nothing,
    /// It can't be run, and why.
    Refused(String),
}

impl Outcome {
    /// Appends the reply to `out`.
    pub(super) fn answer(self, reply: Reply, out: &mut Vec<u8>) {
        match self {
            Outcome::Put(Ok(())) => reply.status(Status::Ok, out),
            Outcome::Put(Err(_)) => reply.status(Status::Failed, out),
            Outcome::Nothing => reply.empty(out),
            Outcome::Refused(why) => reply.error(&why, out),
        }
    }
}

type Put = Pin<Box<dyn Future<Output = Result<(), PutError>> + Send>>;

enum Work {
    Done(Outcome),
    Running(Put),
}

struct Slot {
    reply: Reply,
    work: Work,
    frame_bytes: usize,
}

/// Requests that have been read and not yet answered, oldest first.
pub(super) struct Pipeline {
    slots: VecDeque<Slot>,
    frame_bytes: usize,
    frame_bytes_max: usize,
}

impl Pipeline {
    /// Room for some requests, or one frame's worth of bytes and the request that exceeds it.
    pub(super) fn new(frame_bytes_max: usize) -> Pipeline {
        Pipeline { slots: VecDeque::with_capacity(DEPTH), frame_bytes: 0, frame_bytes_max }
    }

    pub(super) fn has_room(&self) -> bool {
        self.slots.len() < DEPTH && self.frame_bytes < self.frame_bytes_max
    }

    pub(super) fn is_empty(&self) -> bool {
        self.slots.is_empty()
    }

    /// Adds a request that needs no put.
    pub(super) fn add(&mut self, reply: Reply, outcome: Outcome) {
        self.slots.push_back(Slot { reply, work: Work::Done(outcome), frame_bytes: 0 });
    }

    /// Adds and starts a put.
    pub(super) fn start(
        &mut self,
        reply: Reply,
        frame_bytes: usize,
        put: impl Future<Output = Result<(), PutError>> + Send + 'static,
    ) {
        let mut put: Put = Box::pin(put);
        // nobody has to be woken yet: it is polled again when it is the oldest
        let work = match put.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(result) => Work::Done(Outcome::Put(result)),
            Poll::Pending => Work::Running(put),
        };
        self.frame_bytes += frame_bytes;
        self.slots.push_back(Slot { reply, work, frame_bytes });
    }

    /// The oldest request once it is done; for ever pending if there is none. May be dropped and
    /// called again.
    pub(super) async fn next(&mut self) -> (Reply, Outcome) {
        poll_fn(|context| {
            let Some(oldest) = self.slots.front_mut() else { return Poll::Pending };
            if let Work::Running(put) = &mut oldest.work {
                let Poll::Ready(result) = put.as_mut().poll(context) else {
                    return Poll::Pending;
                };
                oldest.work = Work::Done(Outcome::Put(result));
            }
            match self.slots.pop_front() {
                Some(Slot { reply, work: Work::Done(outcome), frame_bytes }) => {
                    self.frame_bytes -= frame_bytes;
                    Poll::Ready((reply, outcome))
                }
                _ => unreachable!("the oldest is done"),
            }
        })
        .await
    }

    /// The oldest request, if it is done already.
    pub(super) fn next_done(&mut self) -> Option<(Reply, Outcome)> {
        let mut context = Context::from_waker(Waker::noop());
        match std::pin::pin!(self.next()).poll(&mut context) {
            Poll::Ready(done) => Some(done),
            Poll::Pending => None,
        }
    }
}
