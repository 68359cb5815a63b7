//! Waiting for company: producers that were woken together come back together, and share the next
//! sync if it waits for them. Without that they fall into two halves, each of which waits for the
//! other's sync.
//!
//! Two halves are better where a sync takes less time than to wake so many and to have them back:
//! while the disk has the one's group, the others are woken and make their next puts.

use super::Writer;
use super::core::{Core, Untold};
use crate::log::options::Durability;
use crate::log::sync::Instant;
use std::time::Duration;

/// From here on a group is worth its sync, and producers better work while it is written.
const ENOUGH_BYTES: usize = 128 << 10;
/// So many that wait are a half, if it is half of what the last group had.
const HALF_MIN: usize = if cfg!(feature = "shuttle") { 2 } else { 8 };
/// What it takes, about, to wake a producer and to have its next put.
const RETURN_TIME: Duration = Duration::from_micros(8);
/// The longest wait.
const WAIT_MAX: Duration = Duration::from_micros(500);
/// A shorter one is not kept: the system's timers are coarser.
const WAIT_MIN: Duration = Duration::from_micros(if cfg!(feature = "shuttle") { 0 } else { 20 });
/// Groups that are not gathered after those who were woken did not come back.
const PAUSE_GROUPS: u32 = 64;

/// Who may come back, and whether that is worth a wait.
#[derive(Default)]
pub(super) struct Returns {
    /// Puts there may be soon: those that were woken, and those that waited then.
    expected: usize,
    /// How many of them were woken, and when.
    woken: usize,
    since: Option<Instant>,
    /// How long a sync takes, smoothed.
    sync_time: Duration,
    /// Groups that are still not gathered.
    pause: u32,
}

impl Returns {
    /// The next wake goes to so many; others wait already.
    pub(super) fn woken(&mut self, woken: usize, waiting: usize) {
        self.expected = woken + waiting;
        self.woken = woken;
        self.since = Some(Instant::now());
    }

    pub(super) fn synced(&mut self, took: Duration) {
        self.sync_time = (self.sync_time * 3 + took) / 4;
    }

    /// Whether `waiting` puts better go without those of the last group, which had `puts`.
    fn halves(&self, waiting: usize, puts: usize) -> bool {
        waiting >= HALF_MIN && waiting >= puts / 2 && self.sync_time < RETURN_TIME * puts as u32
    }

    /// How long the next group may wait for company: half of the sync that it saves.
    fn patience(&mut self) -> Option<Duration> {
        let since = self.since.take()?;
        if self.expected < 2 {
            return None;
        }
        if self.pause > 0 {
            self.pause -= 1;
            return None;
        }
        let patience = (self.sync_time / 2).min(WAIT_MAX).checked_sub(since.elapsed())?;
        (patience >= WAIT_MIN).then_some(patience)
    }
}

impl Writer {
    /// Wakes those of the last group, unless they are to wait for the next one's write, and waits
    /// until they are back, or for a part of a sync.
    pub(super) fn gather(&self, core: &mut Core) {
        if !self.options.background || self.options.durability != Durability::Always {
            return self.tell(core);
        }
        if let Some(Untold { puts, .. }) = core.untold {
            let waiting = self.lock_queue().pending.len();
            if core.returns.halves(waiting, puts) {
                return;
            }
            self.tell(core);
        }
        let returns = &mut core.returns;
        let Some(patience) = returns.patience() else { return };
        let mut queue = self.lock_queue();
        let bytes: usize = queue.pending.iter().map(|pending| pending.batch.buffer.len()).sum();
        if queue.pending.len() >= returns.expected || bytes >= ENOUGH_BYTES || queue.closing {
            return;
        }
        queue.wanted = Some(returns.expected);
        // woken for nothing it goes on with what there is
        let waited = self.gathered.wait_timeout(queue, patience);
        let (mut queue, _) = waited.expect("no holder panics");
        queue.wanted = None;
        let missing = returns.expected.saturating_sub(queue.pending.len());
        if missing > returns.woken / 2 {
            returns.pause = PAUSE_GROUPS;
        }
    }
}

#[cfg(all(test, not(feature = "shuttle")))]
mod tests {
    use super::*;

    #[test]
    fn halves_take_turns_only_where_a_sync_is_shorter_than_the_way_back() {
        let returns = |us| Returns { sync_time: Duration::from_micros(us), ..Returns::default() };
        assert!(returns(120).halves(32, 32));
        assert!(!returns(5000).halves(32, 32), "a slow disk: one sync for all is half of the time");
        assert!(!returns(120).halves(10, 54), "a few that came late");
        assert!(!returns(10).halves(3, 3), "so few are woken at once");
    }
}
