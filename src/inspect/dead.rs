//! A channel's dead-letter log, read beside whoever owns it.

use super::dir::{InspectError, LogDir};
use super::events::{Events, Item};
use super::snapshot::Snapshot;
use super::verify::Report;
use crate::channel::dead::{DeadLetter, LetterFilter, OpenCount, Settled};
use crate::channel::letter::{Letter, LetterError};
use crate::log::Damage;
use crate::offset::Offset;
use serde::Serialize;
use std::ops::ControlFlow;

/// What reading letters comes across.
#[derive(Debug)]
pub enum LetterItem {
    /// A letter that is not settled and that the filter means.
    Letter(DeadLetter),
    /// An event that is no letter, and where it lies.
    Strange(Offset, LetterError),
    /// Damage.
    Damage(Damage),
}

/// The dead-letter log of a channel at one moment.
pub struct DeadLetters {
    dir: LogDir,
    log: Snapshot,
    settled: Settled,
}

impl DeadLetters {
    /// The dead-letter log of the channel in `channel`; `None` if it has none.
    ///
    /// # Errors
    /// It is there and can't be read.
    pub fn of(channel: &LogDir) -> Result<Option<DeadLetters>, InspectError> {
        let Some(dir) = channel.dead() else { return Ok(None) };
        let log = Snapshot::take(&dir)?;
        let settled = settled_of(&dir, &log)?;
        Ok(Some(DeadLetters { dir, log, settled }))
    }

    /// Its log.
    pub fn into_log(self) -> (LogDir, Snapshot, Settled) {
        (self.dir, self.log, self.settled)
    }

    /// Bytes of its newest segments; `None` if nobody knows.
    pub fn segment_bytes(&self) -> Option<u64> {
        self.log.segment_bytes()
    }

    /// The directory of its log.
    pub fn dir(&self) -> &LogDir {
        &self.dir
    }

    /// Gives every letter that is not settled and that `filter` means to `each`, until it breaks,
    /// or the filter's limit is reached.
    ///
    /// # Errors
    /// A segment can't be read.
    pub fn read(
        &self,
        filter: &LetterFilter,
        mut each: impl FnMut(LetterItem) -> ControlFlow<()>,
    ) -> Result<(), InspectError> {
        let mut left = filter.limit.unwrap_or(u64::MAX);
        if left == 0 {
            return Ok(());
        }
        let mut events = Events::new(&self.dir, &self.log, None, None)?;
        let flow = events.read(&self.log, |item| match item {
            Item::Event(event) if self.settled.contains(Offset(event.offset)) => {
                ControlFlow::Continue(())
            }
            Item::Event(event) => {
                let offset = Offset(event.offset);
                let letter = event.event.as_ref().ok_or(LetterError::NotALetter);
                match letter.and_then(Letter::decode) {
                    Err(error) => each(LetterItem::Strange(offset, error)),
                    Ok(letter) if !filter.matches(&letter) => ControlFlow::Continue(()),
                    Ok(letter) => {
                        left -= 1;
                        each(LetterItem::Letter(DeadLetter { offset, letter }))?;
                        if left == 0 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
                    }
                }
            }
            Item::Damage(damage) => each(LetterItem::Damage(damage)),
            Item::Gap(_) => ControlFlow::Continue(()), // reclaimed: settled before
        })?;
        let _ = flow; // whoever broke it knows
        Ok(())
    }

    /// How many letters are not settled.
    ///
    /// # Errors
    /// A segment can't be read.
    pub fn count(&self) -> Result<OpenCount, InspectError> {
        let mut count = OpenCount::default();
        self.read(&LetterFilter::default(), |item| {
            if let LetterItem::Letter(letter) = item {
                count.add(letter.letter.grave);
            }
            ControlFlow::Continue(())
        })?;
        Ok(count)
    }
}

fn settled_of(dir: &LogDir, log: &Snapshot) -> Result<Settled, InspectError> {
    let record = log.journal.newest.as_ref().map(|record| &record.payload[..]);
    Settled::decode(record)
        .map_err(|error| InspectError::Cursors { dir: dir.path().display().to_string(), error })
}

/// Events that were given up. Ranges: from inclusive, to exclusive.
#[derive(Clone, PartialEq, Eq, Serialize, Debug)]
pub struct LossRow {
    /// The group that does not get them.
    pub group: String,
    /// The sink that failed them last; empty if none ever had them.
    pub sink: String,
    /// The first offset.
    pub from: u64,
    /// Behind the last one.
    pub to: u64,
    /// What the sink said, or why else.
    pub reason: String,
    /// When they were given up, ms since 1970.
    pub time_ms: u64,
    /// `lost`, or `expired`: too old.
    pub what: &'static str,
    /// What kind of failure it was; empty if none.
    pub cause: String,
}

impl LossRow {
    /// The row of a letter.
    pub fn of(letter: Letter) -> LossRow {
        LossRow {
            group: letter.group,
            sink: letter.sink,
            from: letter.range.start.0,
            to: letter.range.end.0,
            reason: letter.reason,
            time_ms: letter.time_ms,
            what: letter.grave.word(),
            cause: letter.cause,
        }
    }
}

/// Every open letter is one.
///
/// # Errors
/// A segment can't be read.
pub(super) fn verify_letters(dir: &LogDir, report: &mut Report) -> Result<(), InspectError> {
    let log = Snapshot::take(dir)?;
    // cursors that can't be are in the report already
    let Ok(settled) = settled_of(dir, &log) else { return Ok(()) };
    let letters = DeadLetters { dir: dir.clone(), log, settled };
    letters.read(&LetterFilter::default(), |item| {
        if let LetterItem::Strange(Offset(offset), error) = item {
            let detail = format!("the event at offset {offset} is no letter: {error}");
            report.problem("log", 0, Some(offset), "letter", detail);
        }
        ControlFlow::Continue(())
    })
}
