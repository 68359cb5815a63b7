//! One line per trouble, and no flood: peers that send garbage, a channel that refuses.

use crate::channel::PutError;
use std::fmt::Display;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// At most one line of a kind in this time; the others are counted.
const QUIET: Duration = Duration::from_secs(1);

/// Complaints about peers, of one source.
#[derive(Debug, Default)]
pub(super) struct Complaints {
    state: Mutex<(Option<Instant>, u64)>,
}

impl Complaints {
    /// Logs a warning, unless one was logged just now; a later line tells how many were not.
    pub(super) fn say(&self, source: &str, what: impl Display) {
        let Some(unsaid) = self.turn(Instant::now()) else { return };
        match unsaid {
            0 => tracing::warn!("source {source}: {what}"),
            _ => tracing::warn!("source {source}: {what} (and {unsaid} such lines before it)"),
        }
    }

    /// Whether a line is due at `now`, and how many were left out before it.
    fn turn(&self, now: Instant) -> Option<u64> {
        let mut state = self.state.lock().expect("nothing panics under it");
        match *state {
            (Some(last), unsaid) if now.saturating_duration_since(last) < QUIET => {
                state.1 = unsaid + 1;
                None
            }
            (_, unsaid) => {
                *state = (Some(now), 0);
                Some(unsaid)
            }
        }
    }
}

/// Batches that the channels refused in a row, of one source: a line when it starts, one when it
/// ends.
#[derive(Debug, Default)]
pub(super) struct Refusals {
    in_a_row: AtomicU64,
}

impl Refusals {
    /// Takes note of a put.
    pub(super) fn note(&self, source: &str, result: &Result<(), PutError>) {
        match result {
            Err(error) => {
                if self.in_a_row.fetch_add(1, Ordering::Relaxed) == 0 {
                    tracing::warn!("source {source}: {error}; its peers are told to send again");
                }
            }
            // a plain load first: the line is shared by every connection
            Ok(()) if self.in_a_row.load(Ordering::Relaxed) > 0 => {
                let count = self.in_a_row.swap(0, Ordering::Relaxed);
                if count > 0 {
                    tracing::info!(
                        "source {source}: events are taken again, after {count} refusals"
                    );
                }
            }
            Ok(()) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn complaints_are_said_once_a_second_and_counted_between() {
        let (complaints, start) = (Complaints::default(), Instant::now());
        let at = |ms| complaints.turn(start + Duration::from_millis(ms));
        assert_eq!(at(0), Some(0));
        assert_eq!(at(10), None);
        assert_eq!(at(999), None);
        assert_eq!(at(1000), Some(2));
        assert_eq!(at(2000), Some(0));
    }
}
