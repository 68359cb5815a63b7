//! What time brings: events that grow too old, segments that need not be kept any more.

use super::super::burials::now_ms;
use super::Work;
use crate::dispatch::{Action, Command, Notice};
use std::time::Duration;
use tokio::time::Instant;

/// How often events are looked at for their age, at the most and at the least.
const EXPIRE_EVERY: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(10));

/// How often it is asked what need not be kept any more, though no event comes or goes.
pub(super) const RECLAIM: Duration = Duration::from_secs(1);

impl Work {
    /// Lists what the log could not give, before the cursors pass it.
    pub(super) fn list_damage(&mut self, commands: &[Command]) {
        let Some(burials) = &mut self.burials else { return };
        for command in commands {
            if let Command::Notice(Notice::Lost { group, range, .. }) = command {
                burials.list_damage(group, range.clone(), "the log can't give it");
            }
        }
    }

    /// What is too old is passed by, or set aside.
    pub(super) fn expire(&mut self, actions: &mut Vec<Action>) {
        let mut every = EXPIRE_EVERY.1;
        for (group, age) in &self.max_ages {
            every = every.min(*age / 20);
            let oldest_ms = now_ms().saturating_sub(age.as_millis() as u64);
            match self.channel.log().reader().seek_time(oldest_ms) {
                Ok(below) => actions.push(Action::Expire { group: group.clone(), below }),
                Err(error) => tracing::warn!("channel {}: {error}", self.channel.name()),
            }
        }
        self.expire_due = Some(Instant::now() + every.max(EXPIRE_EVERY.0));
    }

    /// Gives back what time or the end of a hold made free.
    pub(super) fn reclaim(&mut self) {
        self.reclaim_due = Some(Instant::now() + RECLAIM);
        if self.saving && !self.keeper.reclaim_kept() {
            self.save();
            self.sync();
        }
    }
}
