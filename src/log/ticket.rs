//! Waiting for a put: a ticket that the writer fills in, for threads and for tasks alike.

use super::error::LogError;
use super::sync::thread::{self, Thread};
use super::sync::{Arc, Instant, Mutex};
use crate::offset::OffsetRange;
use std::future::Future;
use std::pin::{Pin, pin};
use std::task::{Context, Poll, Wake, Waker};

/// What a put comes to: the offsets of its events.
pub type PutResult = Result<OffsetRange, LogError>;

#[derive(Default)]
struct TicketState {
    result: Option<PutResult>,
    waker: Option<Waker>,
}

/// A put under way: a future of its result, for one waiter. Dropped, the put goes on.
#[derive(Default)]
pub struct Ticket(Arc<Mutex<TicketState>>);

impl Ticket {
    /// The writer's half. No `Clone`: of two waiters only one would be woken.
    pub(super) fn twin(&self) -> Ticket {
        Ticket(Arc::clone(&self.0))
    }

    /// Fills in the result; the waker, if somebody waits, is the caller's to wake, so that a group
    /// can be woken after all its results are in.
    pub(super) fn fill(&self, result: PutResult) -> Option<Waker> {
        let mut state = self.0.lock().expect("no holder panics");
        assert!(state.result.is_none(), "a put has one result");
        state.result = Some(result);
        state.waker.take()
    }
}

impl Future for Ticket {
    type Output = PutResult;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<PutResult> {
        let mut state = self.0.lock().expect("no holder panics");
        match &state.result {
            Some(result) => Poll::Ready(result.clone()),
            None => {
                state.waker = Some(context.waker().clone());
                Poll::Pending
            }
        }
    }
}

struct ThreadWaker(Thread);

impl Wake for ThreadWaker {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

/// Runs a future of this crate on the calling thread, up to `deadline`; `None` if it passed.
pub(super) fn block_on<F: Future>(future: F, deadline: Option<Instant>) -> Option<F::Output> {
    let waker = Waker::from(Arc::new(ThreadWaker(thread::current())));
    let mut context = Context::from_waker(&waker);
    let mut future = pin!(future);
    loop {
        if let Poll::Ready(output) = future.as_mut().poll(&mut context) {
            return Some(output);
        }
        match deadline {
            None => thread::park(),
            Some(deadline) => {
                let left = deadline.saturating_duration_since(Instant::now());
                if left.is_zero() {
                    return None;
                }
                thread::park_timeout(left);
            }
        }
    }
}
