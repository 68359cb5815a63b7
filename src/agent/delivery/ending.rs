//! How a delivery ends after a failure.

use super::{Ending, Work};
use crate::dispatch::Action;
use std::sync::atomic::Ordering;
use tokio::sync::mpsc::UnboundedReceiver;

impl Work {
    /// What is out at a failure was no end of the process that its events could be blamed for: they
    /// come back, and nothing else moves. Not after a panic, which may be theirs.
    pub(super) fn save_leases(&mut self) {
        let panicked =
            self.sinks.iter().flatten().any(|sink| sink.panicked.load(Ordering::Relaxed));
        if panicked || self.channel.log().poisoned().is_some() || !self.saving {
            return;
        }
        let now = self.now();
        let dispatcher = &mut self.keeper.dispatcher;
        dispatcher.apply(now, Action::Stop);
        for lease in dispatcher.leases() {
            dispatcher.apply(now, Action::Abandon { lease });
        }
        if let Err(error) = self.keeper.save() {
            tracing::warn!("channel {}: cursors can't be saved: {error}", self.channel.name());
        }
    }
}

/// Waits until the delivery is told to wait no longer.
pub(super) async fn abandoned(endings: &mut UnboundedReceiver<Ending>) {
    loop {
        match endings.recv().await {
            Some(Ending::Abandon) => return,
            Some(_) => {}
            None => return std::future::pending().await,
        }
    }
}
