//! What a delivery says: one line for each change of state.

use super::Work;
use crate::dispatch::{Grave, Notice, SinkId};
use std::time::Duration;
use tokio::time::Instant;

/// Events that leave for the dead letters, or for their age, are told at most so often: many may
/// leave at once.
const QUIET: Duration = Duration::from_secs(5);

/// When something was told last, and how much has happened since.
#[derive(Default)]
pub(super) struct Quiet {
    last: Option<Instant>,
    untold_events: u64,
}

impl Quiet {
    /// Counts `events`; how many there are to tell, if it is time.
    fn tell(&mut self, events: u64) -> Option<u64> {
        self.untold_events += events;
        if self.last.is_some_and(|last| last.elapsed() < QUIET) {
            return None;
        }
        self.last = Some(Instant::now());
        Some(std::mem::take(&mut self.untold_events))
    }
}

impl Work {
    pub(super) fn say(&mut self, notice: &Notice) {
        if let Notice::Buried { .. } = notice {
            return self.say_buried(notice);
        }
        let name = |sink: &SinkId| self.sink_name(*sink);
        let channel = self.channel.name();
        match notice {
            Notice::SinkReady { sink, failures: 0 } => tracing::info!("sink {}: open", name(sink)),
            Notice::SinkReady { sink, failures } => {
                tracing::info!("sink {}: open after {failures} failures", name(sink));
            }
            Notice::SinkFailing { sink, reason, events, wait_ms } => tracing::warn!(
                "sink {}: {reason}; {events} events wait, tried again in {wait_ms} ms \
                 (further failures are only counted)",
                name(sink)
            ),
            Notice::SinkRecovered { sink, failures, events } => tracing::info!(
                "sink {}: works again after {failures} failures over {events} events",
                name(sink)
            ),
            Notice::SinkStopped { sink, reason, offset } => tracing::error!(
                "sink {}: stopped at offset {offset}, its cursor stays: {reason}; \
                 when that is mended: 'walctl sinks DIR --resume'",
                name(sink)
            ),
            Notice::Buried { .. } => {}
            Notice::Lost { group, range, events } => tracing::error!(
                "channel {channel}: group {group} passed {events} events that the log can't give \
                 (offsets {}..{})",
                range.start,
                range.end
            ),
            Notice::Crowded { group, watermark } => tracing::warn!(
                "channel {channel}: group {group} waits for offset {watermark}: too much above it \
                 is acknowledged already"
            ),
        }
    }

    fn sink_name(&self, sink: SinkId) -> &str {
        self.sinks[sink.0].as_ref().map_or("of a replay", |end| end.name.as_str())
    }

    /// What was lost has a line of its own each time; of the others there may be many.
    fn say_buried(&mut self, notice: &Notice) {
        let Notice::Buried { group, sink, range, grave, reason } = notice else { return };
        let channel = self.channel.name().to_owned();
        let who = match sink {
            Some(sink) => format!("sink {}", self.sink_name(*sink)),
            None => format!("group {group}"),
        };
        let (from, to) = (range.start, range.end);
        let events = to.since(from);
        if *grave == Grave::Lost {
            tracing::error!(
                "{who}: lost {events} events (offsets {from}..{to} of channel {channel}): {reason}"
            );
            return;
        }
        let Some(events) = self.quiet.tell(events) else { return };
        let what = if *grave == Grave::Dead { "to the dead letters" } else { "expired" };
        tracing::warn!(
            "{who}: {events} events {what}, the last of them offsets {from}..{to} of channel \
             {channel}: {reason} (see 'walctl dead ls', 'walctl losses')"
        );
    }
}
