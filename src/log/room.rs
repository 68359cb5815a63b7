//! Capacity: puts wait for room before they are queued, so that what is queued can be written.

use super::defect::{Defect, planted};
use super::sync::{Mutex, MutexGuard, Ordering};
use std::collections::BTreeMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::AtomicU64;
use std::task::{Context, Poll, Waker};

/// How much of the log's capacity is used.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Usage {
    /// Events that are not yet acknowledged by every group, and those on their way in.
    pub events: u64,
    /// Bytes of segments with events that are not done with, and of batches on their way in.
    pub bytes: u64,
}

struct State {
    /// Offset behind the last event that is in, or has a place.
    reserved_tail: u64,
    /// Every offset below is done with.
    released: u64,
    /// Sealed segments that do not lie there.
    sealed: Counted,
    /// Bytes of the active segment in use.
    active_bytes: u64,
    /// Bytes of batches that have a place and are not written.
    reserved_bytes: u64,
    closed: bool,
    /// Who waits, by number: the longest first.
    waiters: BTreeMap<u64, Waker>,
    next_waiter: u64,
}

/// Sealed segments that take room.
#[derive(Clone, Copy)]
pub(super) struct Counted {
    pub(super) bytes: u64,
    /// The lowest end offset of them; the greatest number if there is none.
    pub(super) first_end: u64,
}

/// The room of a log.
pub(super) struct Room {
    events_max: u64,
    bytes_max: u64,
    /// Every offset below is durably done with: what lies there takes no room. Changed with the
    /// state held; read also with the list of segments held, which a count takes after the state.
    done: AtomicU64,
    state: Mutex<State>,
}

impl Room {
    pub(super) fn new(events_max: u64, bytes_max: u64, tail: u64, released: u64) -> Room {
        let state = State {
            reserved_tail: tail,
            released,
            sealed: Counted { bytes: 0, first_end: u64::MAX },
            active_bytes: 0,
            reserved_bytes: 0,
            closed: false,
            waiters: BTreeMap::new(),
            next_waiter: 0,
        };
        Room { events_max, bytes_max, done: AtomicU64::new(0), state: Mutex::new(state) }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no holder panics")
    }

    /// Takes a place for `events` in `bytes`, if there is one. An empty log takes any batch.
    pub(super) fn try_reserve(&self, events: u64, bytes: u64) -> bool {
        self.try_in(&mut self.state(), events, bytes)
    }

    fn try_in(&self, state: &mut State, events: u64, bytes: u64) -> bool {
        let used = state.usage();
        let fits = used.events.saturating_add(events) <= self.events_max
            && used.bytes.saturating_add(bytes) <= self.bytes_max;
        // a closed one takes all: the put that follows is refused, and gives the place back
        let fits = fits || used.events == 0 || state.closed || planted(Defect::NoLimit);
        if fits {
            state.reserved_tail += events;
            state.reserved_bytes += bytes;
        }
        fits
    }

    /// Waits for a place; ready also when the log closes or fails: the put then fails. Dropped
    /// before, it leaves nothing behind.
    pub(super) fn reserve(&self, events: u64, bytes: u64) -> impl Future<Output = ()> + '_ {
        Reserve { room: self, events, bytes, waiter: None }
    }

    /// Gives a place back that was not used.
    pub(super) fn cancel(&self, events: u64, bytes: u64) {
        let mut state = self.state();
        state.reserved_tail -= if planted(Defect::PlaceLeaks) { 0 } else { events };
        state.reserved_bytes -= bytes;
        wake(state);
    }

    /// A group was written: its bytes are the active segment's now.
    pub(super) fn written(&self, reserved_bytes: u64, active_bytes: u64) {
        let mut state = self.state();
        state.reserved_bytes -= if planted(Defect::BytesCountTwice) { 0 } else { reserved_bytes };
        state.active_bytes = active_bytes;
    }

    /// The active segment was sealed. `count` gets what is durably done with, and is called with
    /// the room held, so that of two counts the later one stays.
    pub(super) fn sealed(&self, count: impl FnOnce(u64) -> Counted) {
        let mut state = self.state();
        state.active_bytes = 0;
        state.sealed = count(self.done());
        wake(state);
    }

    /// Sealed segments went; as [`Room::sealed`].
    pub(super) fn recount(&self, count: impl FnOnce(u64) -> Counted) {
        let mut state = self.state();
        state.sealed = count(self.done());
        wake(state);
    }

    /// Every offset below `done` is durably done with, and none above; as [`Room::sealed`].
    pub(super) fn passed(&self, done: u64, count: impl FnOnce(u64) -> Counted) {
        let mut state = self.state();
        let changes = done < self.done() || done >= state.sealed.first_end;
        self.done.store(done, Ordering::Relaxed);
        if changes {
            state.sealed = count(done);
            wake(state);
        }
    }

    /// What is durably done with.
    pub(super) fn done(&self) -> u64 {
        self.done.load(Ordering::Relaxed)
    }

    /// Every offset below `offset` is done with.
    pub(super) fn release(&self, offset: u64) {
        let mut state = self.state();
        if offset > state.released {
            state.released = offset;
            wake(state);
        }
    }

    /// Lets every waiter go, now and from now on: the log is closed, or failed.
    pub(super) fn close(&self) {
        let mut state = self.state();
        state.closed = true;
        wake(state);
    }

    pub(super) fn usage(&self) -> Usage {
        self.state().usage()
    }

    /// How many wait.
    #[cfg(test)]
    pub(super) fn waiters(&self) -> usize {
        self.state().waiters.len()
    }
}

impl State {
    fn usage(&self) -> Usage {
        Usage {
            events: self.reserved_tail.saturating_sub(self.released),
            bytes: self.sealed.bytes + self.active_bytes + self.reserved_bytes,
        }
    }
}

/// Wakes everybody who waits, with the room let go: a waker may ask the log something.
fn wake(mut state: MutexGuard<'_, State>) {
    let waiters = std::mem::take(&mut state.waiters);
    drop(state);
    waiters.into_values().for_each(Waker::wake);
}

struct Reserve<'a> {
    room: &'a Room,
    events: u64,
    bytes: u64,
    /// Its number among the waiters, once it waits.
    waiter: Option<u64>,
}

impl Future for Reserve<'_> {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        let room = self.room;
        let mut state = room.state();
        if room.try_in(&mut state, self.events, self.bytes) {
            return Poll::Ready(());
        }
        let number = *self.waiter.get_or_insert_with(|| {
            state.next_waiter += 1;
            state.next_waiter
        });
        state.waiters.insert(number, context.waker().clone());
        Poll::Pending
    }
}

impl Drop for Reserve<'_> {
    fn drop(&mut self) {
        if let Some(number) = self.waiter {
            self.room.state().waiters.remove(&number);
        }
    }
}
