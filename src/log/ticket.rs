//! Waiting for a put: a ticket that the writer fills in, for threads and for tasks alike.

use super::error::LogError;
use super::sync::thread::{self, Thread};
use super::sync::{Arc, Condvar, Instant, Mutex};
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

    /// The result, if it is in.
    pub(super) fn result(&self) -> Option<PutResult> {
        self.0.lock().expect("no holder panics").result.clone()
    }
}

/// Crowds at a time: one whose group is durable and that is not woken yet, one whose group is under
/// way, and one that queues meanwhile.
const CROWDS: usize = 3;

/// Where threads wait for their puts, a crowd at a time: one call to the system wakes all of a
/// crowd, however many they are. A crowd are those who queued between two groups.
#[derive(Default)]
pub(super) struct Crowds {
    /// Who waits, by crowd. Held to look at a ticket before a wait, and before a wake: none is
    /// missed.
    waiting: Mutex<[usize; CROWDS]>,
    woken: [Condvar; CROWDS],
}

impl Crowds {
    /// Blocks until the result of a put is in, which is of crowd `number`.
    pub(super) fn wait(&self, ticket: &Ticket, number: u64) -> PutResult {
        if let Some(result) = ticket.result() {
            return result; // as after a group that the caller led
        }
        let crowd = number as usize % CROWDS;
        let mut waiting = self.waiting.lock().expect("no holder panics");
        loop {
            if let Some(result) = ticket.result() {
                return result;
            }
            waiting[crowd] += 1;
            waiting = self.woken[crowd].wait(waiting).expect("no holder panics");
            waiting[crowd] -= 1;
        }
    }

    /// Wakes crowd `number`: results are in.
    pub(super) fn wake(&self, number: u64) {
        let crowd = number as usize % CROWDS;
        if self.waiting.lock().expect("no holder panics")[crowd] > 0 {
            self.woken[crowd].notify_all();
        }
    }

    /// Wakes all.
    pub(super) fn wake_all(&self) {
        (0..CROWDS as u64).for_each(|crowd| self.wake(crowd));
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
