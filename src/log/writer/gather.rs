//! Waiting for company: producers that were woken together come back together, and share the next
//! sync if it waits for them. Without that they fall into two halves, each of which waits for the
//! other's sync.
//!
//! Many that wait already are company enough: while the disk has their group, those of the last one
//! are woken and make their next puts.

use super::Writer;
use super::core::{Core, Untold};
use crate::log::options::Durability;
use crate::log::sync::Instant;
use std::time::Duration;

/// From here on a group is worth its sync, and producers better work while it is written.
const ENOUGH_BYTES: usize = 128 << 10;
/// So many that wait already, at least, and half of what the last group had, go before the others
/// are woken.
const MANY_PUTS: usize = if cfg!(feature = "shuttle") { 1 } else { 8 };
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
    /// Wakes those of the last group, unless many wait already, and waits until they are back, or for
    /// a part of a sync.
    pub(super) fn gather(&self, core: &mut Core) {
        if !self.options.background || self.options.durability != Durability::Always {
            return self.tell(core);
        }
        if let Some(Untold { puts, .. }) = core.untold {
            let waiting = self.lock_queue().pending.len();
            if waiting >= MANY_PUTS && waiting >= puts / 2 {
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
