//! Letters in the order they were written.

use super::{DeadError, Settled};
use crate::channel::letter::Letter;
use crate::fate::Grave;
use crate::log::Reader;
use crate::offset::{Offset, OffsetRange};
use std::collections::VecDeque;

/// The most letters that are read at once.
const READ_MAX: u64 = 64;

/// A letter at its place.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct DeadLetter {
    /// Its number in the dead-letter log.
    pub offset: Offset,
    /// The letter.
    pub letter: Letter,
}

/// How many letters are not settled, by what became of their events.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub struct OpenCount {
    /// Events that are kept.
    pub dead: u64,
    /// Ranges that were given up.
    pub lost: u64,
    /// Ranges that were too old.
    pub expired: u64,
}

impl OpenCount {
    /// Counts a letter.
    pub fn add(&mut self, grave: Grave) {
        match grave {
            Grave::Dead => self.dead += 1,
            Grave::Lost => self.lost += 1,
            Grave::Expired => self.expired += 1,
        }
    }

    pub(super) fn without(self, done: &OpenCount) -> OpenCount {
        OpenCount {
            dead: self.dead.saturating_sub(done.dead),
            lost: self.lost.saturating_sub(done.lost),
            expired: self.expired.saturating_sub(done.expired),
        }
    }
}

/// Reads letters; what does not read back is passed over, and said in the log once a place.
pub struct Letters {
    dir: String,
    reader: Option<Reader>,
    next: Offset,
    end: Offset,
    settled: Settled,
    read: VecDeque<DeadLetter>,
}

impl Letters {
    pub(super) fn new(
        dir: String,
        reader: Reader,
        range: OffsetRange,
        settled: Settled,
    ) -> Letters {
        let next = range.start.max(reader.first_offset());
        let reader = Some(reader);
        Letters { dir, reader, next, end: range.end, settled, read: VecDeque::new() }
    }

    pub(super) fn none(dir: String) -> Letters {
        let (next, end) = (Offset(0), Offset(0));
        Letters { dir, reader: None, next, end, settled: Settled::default(), read: VecDeque::new() }
    }

    /// Reads some; whether there may be more.
    fn fill(&mut self) -> Result<bool, DeadError> {
        let Some(reader) = &mut self.reader else { return Ok(false) };
        self.next = self.settled.end_of_run(self.next);
        if self.next >= self.end {
            return Ok(false);
        }
        let outcome = reader.read(self.next..self.end, READ_MAX);
        let outcome = outcome
            .map_err(|error| DeadError::Log { dir: self.dir.clone(), error: error.into() })?;
        for missing in &outcome.missing {
            let (from, to) = (missing.range.start, missing.range.end);
            tracing::warn!(target: "levada::dead",
                "{}: letters {from}..{to} can't be read; see 'walctl verify'", self.dir);
        }
        for event in outcome.batch.iter().filter(|event| !self.settled.contains(event.offset)) {
            let offset = event.offset;
            match Letter::decode(&event.event) {
                Ok(letter) => self.read.push_back(DeadLetter { offset, letter }),
                Err(error) => tracing::warn!(target: "levada::dead",
                    "{}: the event at offset {offset} is no letter: {error}", self.dir),
            }
        }
        let more = outcome.next > self.next;
        self.next = outcome.next;
        Ok(more)
    }
}

impl Iterator for Letters {
    type Item = Result<DeadLetter, DeadError>;

    fn next(&mut self) -> Option<Result<DeadLetter, DeadError>> {
        while self.read.is_empty() {
            match self.fill() {
                Ok(true) => {}
                Ok(false) => return None,
                Err(error) => {
                    self.next = self.end; // one error ends it
                    return Some(Err(error));
                }
            }
        }
        self.read.pop_front().map(Ok)
    }
}
