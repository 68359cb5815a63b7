//! A channel's dispatcher and its log, side by side: lends what can be read, and keeps the cursors.
//! Without a thread, a clock or a runtime, so that a test can drive it step by step.

use crate::channel::cursors;
use crate::channel::log::LogChannel;
use crate::cursor::GroupState;
use crate::dispatch::{DispatchOptions, Dispatcher};
use crate::event::EventBatch;
use crate::log::{LogError, Missing, Reader};
use crate::offset::{Offset, OffsetRange};
use std::sync::Arc;

/// Keeps a channel's cursors.
pub struct Keeper {
    channel: Arc<LogChannel>,
    /// Who gets what.
    pub dispatcher: Dispatcher,
    /// What the last saved cursors are done with.
    released: Offset,
    /// The same of those that are durable; `None` before the first sync.
    synced: Option<Offset>,
    /// The end of whatever was lent, also before a group was set back.
    seen_tail: Offset,
    /// The lowest end of the letters that the last saved cursors count.
    dead_tail: Offset,
    delivered_events: u64,
}

impl Keeper {
    /// Goes on where `states` were taken.
    pub fn new(
        channel: Arc<LogChannel>,
        options: &DispatchOptions,
        states: &[GroupState],
    ) -> Keeper {
        let reader = channel.log().reader();
        let readable = reader.first_offset()..reader.visible_tail();
        let dispatcher = Dispatcher::restore(options, states, readable);
        let released = dispatcher.watermark_min().unwrap_or_default();
        let seen_tail = Offset(0);
        let dead_tail = Offset(0);
        Keeper {
            channel,
            dispatcher,
            released,
            synced: None,
            seen_tail,
            dead_tail,
            delivered_events: 0,
        }
    }

    /// Every offset below can be read.
    pub fn tail(&self) -> Offset {
        self.channel.log().reader().visible_tail()
    }

    /// What the last saved cursors are done with.
    pub fn released(&self) -> Offset {
        self.released
    }

    /// Events delivered as of the last save, over all sinks.
    pub fn delivered_events(&self) -> u64 {
        self.delivered_events
    }

    /// Saves the cursors. They survive the process from now on, and a power cut after
    /// [`Keeper::sync`].
    ///
    /// # Errors
    /// As [`crate::log::Log::save_cursors`].
    pub fn save(&mut self) -> Result<(), LogError> {
        let states = self.dispatcher.snapshot();
        let sinks = states.iter().flat_map(|group| &group.sinks);
        self.delivered_events = sinks.map(|sink| sink.counters.delivered_events).sum();
        let released = self.dispatcher.watermark_min().unwrap_or_default();
        // what is lent counts as seen before a sink has it: the log must not give its offsets to
        // other events after a power cut, or these would be taken for delivered
        let seen_tail = states.iter().map(GroupState::end).max().unwrap_or_default();
        self.seen_tail = self.seen_tail.max(seen_tail);
        let bytes = cursors::encode(&states);
        self.channel.log().save_cursors(&bytes, self.seen_tail, released)?;
        self.released = released;
        self.dead_tail = states.iter().map(|state| state.dead_tail).min().unwrap_or_default();
        Ok(())
    }

    /// The dead letters below are counted by the cursors of every group that were saved last.
    pub fn dead_tail(&self) -> Offset {
        self.dead_tail
    }

    /// Makes the saved cursors durable, then gives back what they are done with.
    ///
    /// # Errors
    /// As [`crate::log::Log::sync_cursors`]; nothing was given back.
    pub fn sync(&mut self) -> Result<(), LogError> {
        self.channel.log().sync_cursors()?;
        self.synced = Some(self.released);
        self.reclaim();
        Ok(())
    }

    /// Gives back what the saved cursors are done with, unless it is kept for replay or held; only
    /// [`Keeper::sync`] makes that safe in a log that outlives the process.
    pub fn reclaim(&self) {
        self.channel.log().reclaim(self.released);
    }

    /// Gives back what was kept, and is too old by now or held no longer. False if no cursors were
    /// saved and synced yet: that comes first.
    pub fn reclaim_kept(&self) -> bool {
        if let Some(synced) = self.synced {
            self.channel.log().reclaim(synced.min(self.released)); // a group may have been set back
        }
        self.synced.is_some()
    }

    /// Reads a range that was lent. What the log can't give goes to `missing`, also if the call
    /// fails: the dispatcher is to be told.
    ///
    /// # Errors
    /// As [`Reader::read`]; the log ends within the range.
    pub fn read(
        &self,
        reader: &mut Reader,
        range: OffsetRange,
        missing: &mut Vec<Missing>,
    ) -> Result<EventBatch, LogError> {
        let mut parts = Vec::new();
        let mut next = range.start;
        while next < range.end {
            let read = reader.read(next..range.end, range.end.since(next))?;
            parts.extend_from_slice(read.batch.parts());
            missing.extend(read.missing);
            if read.next == next {
                // never to be taken for an empty batch, which is done
                let error = std::io::Error::from(std::io::ErrorKind::UnexpectedEof);
                return Err(LogError::io(format!("read offset {next}, the log's end"))(error));
            }
            next = read.next;
        }
        Ok(EventBatch::new(parts))
    }
}
