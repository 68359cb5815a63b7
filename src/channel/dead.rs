//! The dead-letter log: a log of its own in a channel's directory, made with the first letter.
//!
//! It is durable when [`DeadLog::append`] returns, before a cursor passes what it holds. A group's
//! cursor says up to where its letters are counted; what a crash left behind that is told by
//! [`DeadLog::uncounted`], so a letter exists once. What is re-driven or purged is *settled*: a set
//! of ranges in the log's own cursor journal.

mod filter;
mod read;
mod redrive;
mod settled;

pub use filter::{LetterFilter, Place};
pub use read::{DeadLetter, Letters, OpenCount};
pub use redrive::{
    Purged, Redrive, RedriveError, Redriven, purge, purge_part, redrive, redrive_part,
};
pub use settled::Settled;

use super::cursors::CursorsError;
use super::letter::Letter;
use crate::cursor::GroupState;
use crate::fate::Grave;
use crate::log::{
    BatchBuilder, Durability, FileStorage, Log, LogError, LogOptions, Storage, newest_header,
    read_meta,
};
use crate::offset::{Offset, OffsetRange, RangeSet};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

/// The directory of the dead-letter log, below the channel's data directory.
pub const DIR: &str = "dead";

/// Segments of a dead-letter log, bytes: letters are few, and each life of an agent that writes one
/// begins a segment, which counts whole. For a letter that does not fit, larger ones are made.
const SEGMENT_BYTES: u64 = 1 << 20;
/// The most bytes of letters that go in one put, unless one has more alone.
const BATCH_BYTES_MAX: u64 = 1 << 20;

/// Options of a dead-letter log that holds at most `max_bytes`, in whole segments.
pub fn options(max_bytes: u64) -> LogOptions {
    LogOptions {
        durability: Durability::Always,
        segment_bytes: LogOptions::segment_bytes_of((max_bytes / 4).min(SEGMENT_BYTES)),
        capacity_bytes: max_bytes,
        spare_count: 1,
        ..LogOptions::default()
    }
}

/// Why the dead-letter log can't do what it was asked.
#[derive(Clone, Debug, thiserror::Error)]
pub enum DeadError {
    /// Its bound is reached.
    #[error(
        "the dead-letter log {dir} is full: {bytes} of {bytes_max} bytes in use; \
         re-drive or purge letters ('walctl dead'), or raise its bound"
    )]
    Full {
        /// Where it is.
        dir: String,
        /// Bytes of its segments.
        bytes: u64,
        /// Its bound.
        bytes_max: u64,
    },
    /// What it says of settled letters can't be read.
    #[error("the settled letters of {dir}: {error}")]
    Settled {
        /// Where it is.
        dir: String,
        /// What is wrong.
        error: CursorsError,
    },
    /// Its log failed.
    #[error("the dead-letter log {dir}: {error}")]
    Log {
        /// Where it is.
        dir: String,
        /// What failed.
        error: Box<LogError>,
    },
}

/// Letters that were not all written.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{error} ({written} letters of these were written)")]
pub struct AppendError {
    /// So many of the letters, the first ones, are durable.
    pub written: usize,
    /// What became of the others: they are not in the log, unless it is poisoned; then only opening
    /// it again shows.
    pub error: DeadError,
}

/// Letters that a group's saved cursor does not count.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Uncounted {
    /// Whose.
    pub group: String,
    /// What became of the events.
    pub grave: Grave,
    /// Their offsets in the channel's log.
    pub range: OffsetRange,
    /// End of the dead-letter log.
    pub dead_tail: Offset,
}

/// A channel's dead-letter log, owned by this process from the first use that finds or makes it.
pub struct DeadLog {
    storage: Arc<dyn Storage>,
    options: LogOptions,
    open: Option<OpenLog>,
    failed: Option<String>,
}

struct OpenLog {
    log: Log,
    settled: Settled,
    /// What was given back last.
    released: Offset,
    /// Counted when it is asked for.
    count: Option<OpenCount>,
}

impl DeadLog {
    /// The dead-letter log in `storage`. Touches nothing: it is opened when it is needed and there,
    /// and made with the first letter. It syncs every put, whatever `options` say.
    pub fn on(storage: Arc<dyn Storage>, options: LogOptions) -> DeadLog {
        let options = LogOptions { durability: Durability::Always, ..options };
        DeadLog { storage, options, open: None, failed: None }
    }

    /// The dead-letter log in the directory `dir`; as [`DeadLog::on`].
    pub fn open_dir(dir: impl AsRef<Path>, options: LogOptions) -> DeadLog {
        DeadLog::on(Arc::new(FileStorage::new(dir.as_ref())), options)
    }

    /// Where it is.
    pub fn describe(&self) -> String {
        self.storage.describe()
    }

    /// Writes letters, in order; blocks, and never waits for room. Returns their offsets here.
    ///
    /// # Errors
    /// [`DeadError::Full`], or the log failed. The letters in front that are told as written are
    /// durable; nothing is tried again.
    pub fn append(&mut self, letters: &[Letter]) -> Result<OffsetRange, AppendError> {
        let mut written = 0;
        let mut range: Option<OffsetRange> = None;
        while written < letters.len() {
            let (batch, count) = self.batch(&letters[written..]);
            let put = self.put(batch).map_err(|error| AppendError { written, error })?;
            range = Some(range.map_or(put.start, |range| range.start)..put.end);
            if let Some(count_open) = self.open.as_mut().and_then(|open| open.count.as_mut()) {
                letters[written..written + count].iter().for_each(|l| count_open.add(l.grave));
            }
            written += count;
        }
        match range {
            Some(range) => Ok(range),
            None => {
                let tail = self.tail().map_err(|error| AppendError { written, error })?;
                Ok(tail..tail)
            }
        }
    }

    /// The first letters of `letters` that go in one put, and how many they are.
    fn batch(&self, letters: &[Letter]) -> (BatchBuilder, usize) {
        let limit = BATCH_BYTES_MAX.min(self.options.segment_bytes / 4) as usize;
        let mut batch = BatchBuilder::new();
        let mut record = Vec::new();
        for (letter, count) in letters.iter().zip(0..) {
            record.clear();
            letter.encode(&mut record);
            if count > 0 && batch.byte_len() + record.len() > limit {
                return (batch, count);
            }
            batch.push(&record);
        }
        (batch, letters.len())
    }

    fn put(&mut self, batch: BatchBuilder) -> Result<OffsetRange, DeadError> {
        if let Some(reason) = self.poisoned() {
            return Err(self.error(LogError::Poisoned { reason }));
        }
        if batch.byte_len() as u64 > self.options.segment_bytes / 2 {
            self.widen(batch.byte_len() as u64)?;
        }
        let put = match self.existing()? {
            Some(open) => open.log.put_within(batch, Some(Duration::ZERO)),
            None => self.make()?.log.put_within(batch, Some(Duration::ZERO)),
        };
        put.map_err(|error| match error {
            LogError::Full { bytes, .. } => {
                let bytes_max = self.options.capacity_bytes;
                DeadError::Full { dir: self.storage.describe(), bytes, bytes_max }
            }
            error => self.error(error),
        })
    }

    /// A letter is as large as the channel's segments let its event be: from now on segments are
    /// made that it fits into. The log is opened anew for that.
    fn widen(&mut self, bytes: u64) -> Result<(), DeadError> {
        self.close()?;
        self.options.segment_bytes = LogOptions::segment_bytes_of((2 * bytes).next_power_of_two());
        Ok(())
    }

    /// The log, if there is one.
    fn existing(&mut self) -> Result<Option<&mut OpenLog>, DeadError> {
        if self.open.is_none() && self.exists().map_err(|error| self.error(error))? {
            self.make()?;
        }
        Ok(self.open.as_mut())
    }

    fn exists(&self) -> Result<bool, LogError> {
        // a log that was being made when its maker died has neither, and no letter
        Ok(read_meta(&*self.storage)?.is_some() || newest_header(&*self.storage)?.is_some())
    }

    fn make(&mut self) -> Result<&mut OpenLog, DeadError> {
        let opened = Log::open(Arc::clone(&self.storage), self.options.clone());
        let (log, opened) = opened.map_err(|error| self.error(error))?;
        let settled = Settled::decode(opened.cursors.as_deref())
            .map_err(|error| DeadError::Settled { dir: self.storage.describe(), error })?;
        Ok(self.open.insert(OpenLog { log, settled, released: Offset(0), count: None }))
    }

    fn error(&self, error: LogError) -> DeadError {
        DeadError::Log { dir: self.storage.describe(), error: error.into() }
    }

    /// What of the letters is not counted in these states of the groups, saved before a crash: to
    /// be told to the dispatcher. Not for a memory channel, whose offsets begin anew.
    ///
    /// # Errors
    /// The log can't be read. Single letters that can't are passed over: their events are
    /// delivered, or set aside again.
    pub fn uncounted(
        &mut self,
        states: &[GroupState],
        channel: &str,
    ) -> Result<Vec<Uncounted>, DeadError> {
        let dead_tail = self.tail()?;
        // a log that ends before is another one than the one that was counted
        let from = |state: &GroupState| match state.dead_tail > dead_tail {
            true => Offset(0),
            false => state.dead_tail,
        };
        let Some(first) = states.iter().map(from).min() else { return Ok(Vec::new()) };
        let mut found: Vec<(usize, Grave, RangeSet)> = Vec::new();
        for read in self.letters(first..dead_tail)? {
            let DeadLetter { offset, letter, .. } = read?;
            let group = states.iter().position(|state| state.name == letter.group);
            let Some(i) = group.filter(|_| letter.channel == channel) else { continue };
            if offset < from(&states[i]) {
                continue;
            }
            match found.iter_mut().find(|(j, grave, _)| (*j, *grave) == (i, letter.grave)) {
                Some((_, _, ranges)) => ranges.insert(letter.range),
                None => found.push((i, letter.grave, [letter.range].into_iter().collect())),
            }
        }
        let ranges = found.iter().flat_map(|(i, grave, ranges)| {
            let group = &states[*i].name;
            let uncounted =
                |range| Uncounted { group: group.clone(), grave: *grave, range, dead_tail };
            ranges.iter().map(uncounted)
        });
        Ok(ranges.collect())
    }

    /// The letters at `range` that read back, settled ones too.
    ///
    /// # Errors
    /// The log is there and can't be opened.
    pub fn letters(&mut self, range: OffsetRange) -> Result<Letters, DeadError> {
        let dir = self.storage.describe();
        Ok(match self.existing()? {
            Some(open) => Letters::new(dir, open.log.reader(), range, Settled::default()),
            None => Letters::none(dir),
        })
    }

    /// The letters that are here now and not settled, of every grave.
    ///
    /// # Errors
    /// The log is there and can't be opened.
    pub fn open_letters(&mut self) -> Result<Letters, DeadError> {
        let here = self.here()?;
        self.open_letters_in(here)
    }

    /// As [`DeadLog::open_letters`], of those at `range`.
    ///
    /// # Errors
    /// The log is there and can't be opened.
    pub fn open_letters_in(&mut self, range: OffsetRange) -> Result<Letters, DeadError> {
        let dir = self.storage.describe();
        Ok(match self.existing()? {
            Some(open) => Letters::new(dir, open.log.reader(), range, open.settled.clone()),
            None => Letters::none(dir),
        })
    }

    /// Where there are letters now, by their offsets here; empty if there is no log.
    ///
    /// # Errors
    /// The log is there and can't be opened.
    pub fn here(&mut self) -> Result<OffsetRange, DeadError> {
        let reader = self.existing()?.map(|open| open.log.reader());
        Ok(reader.map_or(Offset(0)..Offset(0), |r| r.first_offset()..r.visible_tail()))
    }

    /// How many letters are not settled, by grave. Reads them all the first time.
    ///
    /// # Errors
    /// The log can't be read.
    pub fn open_count(&mut self) -> Result<OpenCount, DeadError> {
        if let Some(count) = self.existing()?.and_then(|open| open.count) {
            return Ok(count);
        }
        let mut count = OpenCount::default();
        for read in self.open_letters()? {
            count.add(read?.letter.grave);
        }
        if let Some(open) = &mut self.open {
            open.count = Some(count);
        }
        Ok(count)
    }

    /// Marks letters as done with, durably: they were re-driven or purged.
    ///
    /// # Errors
    /// It can't be recorded: they stay as they were.
    pub fn settle(&mut self, ranges: &[OffsetRange]) -> Result<(), DeadError> {
        let tail = self.tail()?;
        let Some(mut settled) = self.existing()?.map(|open| open.settled.clone()) else {
            return Ok(());
        };
        let mut done = OpenCount::default();
        for range in ranges {
            let range = range.start..range.end.min(tail);
            let gaps: Vec<_> = settled.gaps(range.clone()).collect();
            if self.open.as_ref().is_some_and(|open| open.count.is_some()) {
                for gap in gaps {
                    for read in self.letters(gap)? {
                        done.add(read?.letter.grave);
                    }
                }
            }
            settled.insert(range);
        }
        let Some(open) = &mut self.open else { return Ok(()) };
        let saved = open.log.save_cursors(&settled.encode(), settled.end(), Offset(0));
        let saved = saved.and_then(|()| open.log.sync_cursors());
        if let Err(error) = saved {
            return Err(self.error(error));
        }
        open.settled = settled;
        open.count = open.count.map(|count| count.without(&done));
        Ok(())
    }

    /// Gives segments back whose letters are all settled, and counted: `counted` is the lowest
    /// `dead_tail` that every group's cursor has durably. Returns how many segments.
    ///
    /// # Errors
    /// It can't be recorded: everything stays.
    pub fn reclaim(&mut self, counted: Offset) -> Result<usize, DeadError> {
        let Some(open) = self.existing()? else { return Ok(0) };
        let first = open.log.reader().first_offset();
        let released = open.settled.end_of_run(first).min(counted);
        if released <= first.max(open.released) {
            return Ok(0);
        }
        let settled = &open.settled;
        let saved = open.log.save_cursors(&settled.encode(), settled.end(), released);
        match saved.and_then(|()| open.log.sync_cursors()) {
            Ok(()) => {
                open.released = released;
                Ok(open.log.reclaim(released))
            }
            Err(error) => Err(self.error(error)),
        }
    }

    /// End of the log: the offset of the next letter; 0 if there is no log.
    ///
    /// # Errors
    /// The log is there and can't be opened.
    pub fn tail(&mut self) -> Result<Offset, DeadError> {
        Ok(self.existing()?.map_or(Offset(0), |open| open.log.tails().tail))
    }

    /// Why it takes no more letters until it is opened again, if that is so.
    pub fn poisoned(&self) -> Option<String> {
        let log = self.open.as_ref().and_then(|open| open.log.poisoned());
        self.failed.clone().or(log.map(str::to_owned))
    }

    /// Closes the log. It is opened again if it is used again.
    ///
    /// # Errors
    /// What could not be written; it takes no more letters. Those that were taken are safe.
    pub fn close(&mut self) -> Result<(), DeadError> {
        let Some(open) = self.open.take() else { return Ok(()) };
        self.failed = self.failed.take().or(open.log.poisoned().map(str::to_owned));
        open.log.close().map_err(|error| {
            self.failed = Some(format!("close: {error}"));
            self.error(error)
        })
    }
}

#[cfg(test)]
mod tests;
