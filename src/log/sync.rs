//! What the log's threads share, wait on and are woken by: the one place that says whose mutexes,
//! condition variables, threads and clock these are. Normally the standard library's, as they are.
//!
//! In unit tests with the feature `shuttle` they are shuttle's: it runs the log's threads one step
//! at a time, in an order that it chooses and can repeat, so that `tests/shuttle.rs` looks at
//! thousands of orders in which producers, log thread, maker, readers and sinks can meet. A storage
//! and its files keep the standard library's: for the log they are the outside world.

#[cfg(all(test, feature = "shuttle"))]
pub(super) mod model;

#[cfg(all(test, feature = "shuttle"))]
pub use model::{AtomicBool, Condvar, Instant, Mutex, MutexGuard, OnceLock, RwLock, thread};
#[cfg(not(all(test, feature = "shuttle")))]
pub use std::sync::{Condvar, Mutex, MutexGuard, OnceLock, RwLock, atomic::AtomicBool};
#[cfg(not(all(test, feature = "shuttle")))]
pub use std::{thread, time::Instant};

pub use std::sync::{Arc, Weak, atomic::Ordering};
