//! Capacity: puts wait for room before they are queued, so that what is queued can be written.

use std::collections::VecDeque;
use std::future::Future;
use std::pin::Pin;
use std::sync::Mutex;
use std::task::{Context, Poll, Waker};

/// How much of the log's capacity is used.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Usage {
    /// Events that are not yet acknowledged by every group, and those on their way in.
    pub events: u64,
    /// Bytes of segments that hold events, and of batches on their way in.
    pub bytes: u64,
}

struct State {
    /// Offset behind the last event that is in, or has a place.
    reserved_tail: u64,
    /// Every offset below is done with.
    released: u64,
    /// Bytes of sealed segments.
    sealed_bytes: u64,
    /// Bytes of the active segment in use.
    active_bytes: u64,
    /// Bytes of batches that have a place and are not written.
    reserved_bytes: u64,
    closed: bool,
    waiters: VecDeque<Waker>,
}

/// The room of a log.
pub(super) struct Room {
    events_max: u64,
    bytes_max: u64,
    state: Mutex<State>,
}

impl Room {
    pub(super) fn new(events_max: u64, bytes_max: u64, tail: u64, released: u64) -> Room {
        let state = State {
            reserved_tail: tail,
            released,
            sealed_bytes: 0,
            active_bytes: 0,
            reserved_bytes: 0,
            closed: false,
            waiters: VecDeque::new(),
        };
        Room { events_max, bytes_max, state: Mutex::new(state) }
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().expect("no holder panics")
    }

    /// Takes a place for `events` in `bytes`, if there is one. An empty log takes any batch.
    pub(super) fn try_reserve(&self, events: u64, bytes: u64) -> bool {
        let mut state = self.state();
        let used = state.usage();
        let fits = used.events.saturating_add(events) <= self.events_max
            && used.bytes.saturating_add(bytes) <= self.bytes_max;
        let fits = fits || used.events == 0;
        if fits {
            state.reserved_tail += events;
            state.reserved_bytes += bytes;
        }
        fits
    }

    /// Waits for a place; ready also when the log closes, without one: the put then fails.
    pub(super) fn reserve(&self, events: u64, bytes: u64) -> impl Future<Output = ()> + '_ {
        Reserve { room: self, events, bytes }
    }

    /// Gives a place back that was not used.
    pub(super) fn cancel(&self, events: u64, bytes: u64) {
        let mut state = self.state();
        state.reserved_tail -= events;
        state.reserved_bytes -= bytes;
        state.wake();
    }

    /// A group was written: its bytes are the active segment's now.
    pub(super) fn written(&self, reserved_bytes: u64, active_bytes: u64) {
        let mut state = self.state();
        state.reserved_bytes -= reserved_bytes;
        state.active_bytes = active_bytes;
    }

    /// The bytes of sealed segments changed.
    pub(super) fn sealed(&self, sealed_bytes: u64, active_bytes: u64) {
        let mut state = self.state();
        state.sealed_bytes = sealed_bytes;
        state.active_bytes = active_bytes;
        state.wake();
    }

    /// Sealed segments went.
    pub(super) fn retired(&self, sealed_bytes: u64) {
        let mut state = self.state();
        state.sealed_bytes = sealed_bytes;
        state.wake();
    }

    /// Every offset below `offset` is done with.
    pub(super) fn release(&self, offset: u64) {
        let mut state = self.state();
        if offset > state.released {
            state.released = offset;
            state.wake();
        }
    }

    /// Lets every waiter go.
    pub(super) fn close(&self) {
        let mut state = self.state();
        state.closed = true;
        state.wake();
    }

    pub(super) fn usage(&self) -> Usage {
        self.state().usage()
    }
}

impl State {
    fn usage(&self) -> Usage {
        Usage {
            events: self.reserved_tail.saturating_sub(self.released),
            bytes: self.sealed_bytes + self.active_bytes + self.reserved_bytes,
        }
    }

    fn wake(&mut self) {
        for waker in self.waiters.drain(..) {
            waker.wake();
        }
    }
}

struct Reserve<'a> {
    room: &'a Room,
    events: u64,
    bytes: u64,
}

impl Future for Reserve<'_> {
    type Output = ();

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        // registered first, so that no release between the two is missed
        self.room.state().waiters.push_back(context.waker().clone());
        if self.room.try_reserve(self.events, self.bytes) {
            return Poll::Ready(());
        }
        let mut state = self.room.state();
        if state.closed {
            // the put that follows finds the log closed and gives the place back
            state.reserved_tail += self.events;
            state.reserved_bytes += self.bytes;
            return Poll::Ready(());
        }
        Poll::Pending
    }
}
