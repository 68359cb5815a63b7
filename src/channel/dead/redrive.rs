//! Letters leave: back into their channel, or away.

use super::{DeadError, DeadLog, LetterFilter};
use crate::fate::Grave;
use crate::log::BatchBuilder;
use crate::offset::{Offset, OffsetRange, RangeSet};
use std::fmt::Display;

/// Letters that are settled in one step, by a purge.
const PURGE_STEP: u64 = 10_000;

/// How letters are re-driven.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Redrive {
    /// An event that was re-driven so often stays.
    pub max_redrives: u32,
    /// The most events of a put.
    pub batch_events_max: u32,
    /// The most bytes of a put, unless an event has more alone.
    pub batch_bytes_max: usize,
    /// Count, and do nothing.
    pub dry_run: bool,
}

impl Default for Redrive {
    fn default() -> Redrive {
        Redrive {
            max_redrives: 3,
            batch_events_max: 100,
            batch_bytes_max: 256 << 10,
            dry_run: false,
        }
    }
}

impl Redrive {
    /// The default, with puts that are small beside segments of `segment_bytes`.
    pub fn into_log(segment_bytes: u64) -> Redrive {
        let redrive = Redrive::default();
        let batch_bytes_max = redrive.batch_bytes_max.min((segment_bytes / 4) as usize);
        Redrive { batch_bytes_max, ..redrive }
    }
}

/// What re-driving came to.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub struct Redriven {
    /// Events that are in the channel again, durably; of a dry run: that would be.
    pub events: u64,
    /// Letters that stay, because their events were re-driven too often.
    pub skipped: u64,
}

/// Why re-driving stopped.
#[derive(Clone, Debug, thiserror::Error)]
pub enum RedriveError {
    /// The channel did not take the next batch: its letters stay, unless the channel failed, where
    /// nobody knows.
    #[error("put events back: {reason} ({} were put back before)", done.events)]
    Put {
        /// What was done before.
        done: Redriven,
        /// What the channel said.
        reason: String,
    },
    /// Events are in the channel, and their letters could not be settled.
    #[error(
        "settle letters: {error} ({} events were put back; the last {unsettled} of them still lie \
         here too, and would be delivered twice if they were re-driven again)", done.events
    )]
    Settle {
        /// What was done, the last batch included.
        done: Redriven,
        /// Events of the last batch.
        unsettled: u64,
        /// What failed.
        error: DeadError,
    },
    /// The letters can't be read.
    #[error("read letters: {error} ({} events were put back before)", done.events)]
    Read {
        /// What was done before.
        done: Redriven,
        /// What failed.
        error: DeadError,
    },
}

impl RedriveError {
    /// The same, after other parts were done.
    pub fn after(mut self, before: Redriven) -> RedriveError {
        let (Self::Put { done, .. } | Self::Settle { done, .. } | Self::Read { done, .. }) =
            &mut self;
        done.events += before.events;
        done.skipped += before.skipped;
        self
    }
}

/// Puts the events of the letters that `filter` means, of those that are here now, back into their
/// channel: `put` returns when a batch is durable there, and only then its letters are settled. A
/// crash between may deliver a batch twice, and loses nothing.
///
/// # Errors
/// What it stopped at, and what was done before.
pub fn redrive<E: Display>(
    dead: &mut DeadLog,
    filter: &LetterFilter,
    options: &Redrive,
    put: impl FnMut(BatchBuilder) -> Result<(), E>,
) -> Result<Redriven, RedriveError> {
    let done = Redriven::default();
    let here = dead.here().map_err(|error| RedriveError::Read { done, error })?;
    redrive_part(dead, here, filter, options, put)
}

/// As [`redrive`], of the letters at `range` (offsets of the dead-letter log): for those who go on
/// in steps.
///
/// # Errors
/// As [`redrive`].
pub fn redrive_part<E: Display>(
    dead: &mut DeadLog,
    range: OffsetRange,
    filter: &LetterFilter,
    options: &Redrive,
    mut put: impl FnMut(BatchBuilder) -> Result<(), E>,
) -> Result<Redriven, RedriveError> {
    let mut done = Redriven::default();
    let letters =
        dead.open_letters_in(range).map_err(|error| RedriveError::Read { done, error })?;
    let mut left = filter.limit.unwrap_or(u64::MAX);
    let mut pending = Pending::default();
    let mut record = Vec::new();
    for read in letters {
        let read = read.map_err(|error| RedriveError::Read { done, error })?;
        if left == 0 {
            break;
        }
        // ranges that were given up have no events
        if read.letter.grave != Grave::Dead || !filter.matches(&read.letter) {
            continue;
        }
        if read.letter.redrives >= options.max_redrives {
            done.skipped += 1;
            continue;
        }
        left -= 1;
        record.clear();
        read.letter.redriven().encode(&mut record);
        let full = pending.batch.byte_len() + record.len() > options.batch_bytes_max;
        if pending.batch.count() > 0 && (full || pending.batch.count() >= options.batch_events_max)
        {
            pending.put(dead, options, &mut put, &mut done)?;
        }
        pending.batch.push(&record);
        pending.settled.insert(read.offset..read.offset.plus(1));
    }
    pending.put(dead, options, &mut put, &mut done)?;
    Ok(done)
}

/// The batch that goes next, and its letters.
#[derive(Default)]
struct Pending {
    batch: BatchBuilder,
    settled: RangeSet,
}

impl Pending {
    fn put<E: Display>(
        &mut self,
        dead: &mut DeadLog,
        options: &Redrive,
        put: &mut impl FnMut(BatchBuilder) -> Result<(), E>,
        done: &mut Redriven,
    ) -> Result<(), RedriveError> {
        let Pending { batch, settled } = std::mem::take(self);
        let events = u64::from(batch.count());
        if events == 0 {
            return Ok(());
        }
        if !options.dry_run {
            let refused = |error: E| RedriveError::Put { done: *done, reason: error.to_string() };
            put(batch).map_err(refused)?;
        }
        done.events += events;
        if options.dry_run {
            return Ok(());
        }
        let settled: Vec<OffsetRange> = settled.iter().collect();
        let left = |error| RedriveError::Settle { done: *done, unsettled: events, error };
        dead.settle(&settled).map_err(left)
    }
}

/// What purging came to.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub struct Purged {
    /// Letters that are settled; of a dry run: that would be.
    pub letters: u64,
}

/// Settles the letters that `filter` means, of those that are here now: their events are gone for
/// good.
///
/// # Errors
/// The letters can't be read or settled; some may be.
pub fn purge(
    dead: &mut DeadLog,
    filter: &LetterFilter,
    dry_run: bool,
) -> Result<Purged, DeadError> {
    let here = dead.here()?;
    purge_part(dead, here, filter, dry_run)
}

/// As [`purge`], of the letters at `range` (offsets of the dead-letter log).
///
/// # Errors
/// As [`purge`].
pub fn purge_part(
    dead: &mut DeadLog,
    range: OffsetRange,
    filter: &LetterFilter,
    dry_run: bool,
) -> Result<Purged, DeadError> {
    let mut purged = Purged::default();
    let mut settled = RangeSet::new();
    let settle = |dead: &mut DeadLog, settled: &mut RangeSet| {
        let ranges: Vec<OffsetRange> = std::mem::take(settled).iter().collect();
        if dry_run { Ok(()) } else { dead.settle(&ranges) }
    };
    let limit = filter.limit.unwrap_or(u64::MAX);
    for read in dead.open_letters_in(range)? {
        let read = read?;
        if purged.letters >= limit {
            break;
        }
        if filter.matches(&read.letter) {
            let offset: Offset = read.offset;
            settled.insert(offset..offset.plus(1));
            purged.letters += 1;
            if purged.letters.is_multiple_of(PURGE_STEP) {
                settle(dead, &mut settled)?;
            }
        }
    }
    settle(dead, &mut settled)?;
    Ok(purged)
}
