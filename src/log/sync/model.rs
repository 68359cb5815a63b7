//! The log's threads under shuttle, which knows neither time nor `OnceLock`, and never ends a timed
//! wait. Here a timed wait that is a matter of waiting for somebody ends at random or not at all:
//! so a wake-up that is lost is a deadlock that shuttle finds, not a delay that the next time-out
//! hides. The clock moves only when such a wait ends.
//!
//! Wake-ups can be left out, so that the tests can show that they would notice.

use super::Ordering;
use shuttle::rand::Rng;
use std::cell::Cell;
use std::sync::LockResult;
use std::time::Duration;

pub use shuttle::sync::atomic::AtomicBool;
pub use shuttle::sync::{Mutex, MutexGuard, RwLock};

/// A kind of wake-up.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Signal {
    NotifyOne,
    NotifyAll,
    Unpark,
}

thread_local! {
    // of the thread that runs the tests' runner: shuttle's threads are not the system's
    static NOW: Cell<Duration> = const { Cell::new(Duration::ZERO) };
    static LEFT_OUT: Cell<Option<Signal>> = const { Cell::new(None) };
}

/// From now on this kind of wake-up wakes nobody.
pub fn leave_out(signal: Option<Signal>) {
    LEFT_OUT.set(signal);
}

/// Whether a timed wait of `wait` ends before anybody comes; the clock is moved if so.
fn runs_out(wait: Duration) -> bool {
    let over = shuttle::rand::thread_rng().gen_ratio(1, 4);
    if over {
        NOW.set(NOW.get().saturating_add(wait));
    }
    over
}

/// The model's clock.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Instant(Duration);

impl Instant {
    pub fn now() -> Instant {
        Instant(NOW.get())
    }

    pub fn checked_add(self, duration: Duration) -> Option<Instant> {
        self.0.checked_add(duration).map(Instant)
    }

    pub fn saturating_duration_since(self, earlier: Instant) -> Duration {
        self.0.saturating_sub(earlier.0)
    }

    pub fn elapsed(self) -> Duration {
        Instant::now().saturating_duration_since(self)
    }
}

impl std::ops::Add<Duration> for Instant {
    type Output = Instant;

    fn add(self, duration: Duration) -> Instant {
        Instant(self.0 + duration)
    }
}

/// shuttle's, with time-outs.
#[derive(Default)]
pub struct Condvar(shuttle::sync::Condvar);

/// Whether the time was over.
pub struct WaitTimeoutResult(bool);

impl WaitTimeoutResult {
    pub fn timed_out(&self) -> bool {
        self.0
    }
}

type Waited<'a, T> = LockResult<(MutexGuard<'a, T>, WaitTimeoutResult)>;

impl Condvar {
    pub fn new() -> Condvar {
        Condvar::default()
    }

    pub fn notify_one(&self) {
        if LEFT_OUT.get() != Some(Signal::NotifyOne) {
            self.0.notify_one();
        }
    }

    pub fn notify_all(&self) {
        if LEFT_OUT.get() != Some(Signal::NotifyAll) {
            self.0.notify_all();
        }
    }

    pub fn wait<'a, T>(&self, guard: MutexGuard<'a, T>) -> LockResult<MutexGuard<'a, T>> {
        self.0.wait(guard)
    }

    /// A pause before another try: nobody need come, so it always runs out.
    pub fn wait_timeout<'a, T>(&self, guard: MutexGuard<'a, T>, wait: Duration) -> Waited<'a, T> {
        shuttle::thread::yield_now();
        NOW.set(NOW.get().saturating_add(wait));
        Ok((guard, WaitTimeoutResult(true)))
    }

    /// Waits for somebody: runs out now, or never.
    pub fn wait_timeout_while<'a, T>(
        &self,
        mut guard: MutexGuard<'a, T>,
        wait: Duration,
        mut condition: impl FnMut(&mut T) -> bool,
    ) -> Waited<'a, T> {
        if condition(&mut guard) && runs_out(wait) {
            return Ok((guard, WaitTimeoutResult(true)));
        }
        let guard = self.0.wait_while(guard, condition).expect("no holder panics");
        Ok((guard, WaitTimeoutResult(false)))
    }
}

/// The standard library's, with a point before each call at which others may come.
#[derive(Default)]
pub struct OnceLock<T> {
    cell: std::sync::OnceLock<T>,
    point: AtomicBool,
}

impl<T> OnceLock<T> {
    pub fn new() -> OnceLock<T> {
        OnceLock { cell: std::sync::OnceLock::new(), point: AtomicBool::new(false) }
    }

    pub fn get(&self) -> Option<&T> {
        self.point.load(Ordering::SeqCst);
        self.cell.get()
    }

    pub fn set(&self, value: T) -> Result<(), T> {
        self.point.store(true, Ordering::SeqCst);
        self.cell.set(value)
    }

    /// `make` must not wait: the system's thread would.
    pub fn get_or_init(&self, make: impl FnOnce() -> T) -> &T {
        self.point.store(true, Ordering::SeqCst);
        self.cell.get_or_init(make)
    }
}

pub mod thread {
    //! shuttle's threads, which park by themselves: shuttle's own `park` ends as soon as another
    //! thread takes a step, and hides that nobody came.

    use super::{Condvar, Duration, LEFT_OUT, Mutex, Signal, runs_out};
    use std::sync::Arc;

    pub use shuttle::thread::{Builder, JoinHandle, yield_now};

    shuttle::thread_local! {
        static OWN: Thread = Thread::default();
    }

    /// A thread as those see it who wake it.
    #[derive(Clone, Default)]
    pub struct Thread(Arc<Token>);

    #[derive(Default)]
    struct Token {
        is_there: Mutex<bool>,
        came: Condvar,
    }

    impl Thread {
        pub fn unpark(&self) {
            if LEFT_OUT.get() != Some(Signal::Unpark) {
                *self.0.is_there.lock().expect("no holder panics") = true;
                self.0.came.0.notify_one();
            }
        }
    }

    pub fn current() -> Thread {
        OWN.with(Thread::clone)
    }

    /// Ends at once, as it may, or when the thread is unparked.
    pub fn park() {
        park_timeout(Duration::ZERO);
    }

    /// Waits for somebody: runs out now, or never.
    pub fn park_timeout(wait: Duration) {
        let Token { is_there, came } = &*current().0;
        let mut is_there = is_there.lock().expect("no holder panics");
        while !*is_there {
            if runs_out(wait) {
                return;
            }
            is_there = came.0.wait(is_there).expect("no holder panics");
        }
        *is_there = false;
    }
}
