//! What no sink gets any more: kept in the dead-letter log, or listed there as given up, before the
//! cursor passes it.
//!
//! A letter is durable when its burial is answered. A crash between the two leaves letters that the
//! saved cursors do not count: [`DeadLog::uncounted`] finds them at the next start, and what they
//! hold is neither delivered nor buried again.

use crate::channel::dead::{AppendError, DeadError, DeadLog, Uncounted};
use crate::channel::keys::DeadFull;
use crate::channel::letter::{Letter, redrives_of};
use crate::channel::log::LogChannel;
use crate::cursor::GroupState;
use crate::dispatch::{Action, Burial, Cause, DispatchOptions, Grave};
use crate::event::{Event, LogEvent};
use crate::log::{LogError, Missing, Reader};
use crate::offset::{Offset, OffsetRange};
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

/// Events that are read and kept at once: bounds memory, whatever a burial covers.
const CHUNK_EVENTS: u64 = 1_000;

/// A channel's dead letters, as its delivery writes them.
pub struct Burials {
    channel: Arc<LogChannel>,
    reader: Reader,
    dead: DeadLog,
    /// Where the dead-letter log ends.
    tail: Offset,
}

/// Why something could not be buried.
#[derive(Debug, thiserror::Error)]
enum BuryError {
    #[error(transparent)]
    Dead(#[from] DeadError),
    #[error("read what is to be kept: {0}")]
    Read(#[from] LogError),
}

impl Burials {
    /// The dead letters of `channel`; makes nothing before the first letter.
    ///
    /// # Errors
    /// The dead-letter log is there and can't be opened.
    pub fn new(channel: Arc<LogChannel>, mut dead: DeadLog) -> Result<Burials, DeadError> {
        let reader = channel.log().reader();
        let tail = dead.tail()?;
        Ok(Burials { channel, reader, dead, tail })
    }

    /// What of the letters of `channel` the saved `states` of its groups do not count. A group
    /// without a state counts none: a power cut may have taken its first cursors, and not the
    /// letters.
    ///
    /// # Errors
    /// As [`DeadLog::uncounted`].
    pub fn uncounted(
        dead: &mut DeadLog,
        channel: &str,
        options: &DispatchOptions,
        states: &[GroupState],
    ) -> Result<Vec<Uncounted>, DeadError> {
        let is_new = |name: &&String| !states.iter().any(|state| state.name == **name);
        let new = options.groups.iter().map(|group| &group.name).filter(is_new);
        let new = new.map(|name| GroupState { name: name.clone(), ..GroupState::default() });
        dead.uncounted(&[states, &new.collect::<Vec<_>>()].concat(), channel)
    }

    /// Where the dead-letter log ends.
    pub fn tail(&self) -> Offset {
        self.tail
    }

    /// The dead-letter log, for those who re-drive or purge.
    pub fn log(&mut self) -> &mut DeadLog {
        &mut self.dead
    }

    /// Gives back what is settled, and durably counted by every group: `counted` is the lowest
    /// `dead_tail` of the cursors that are synced.
    pub fn reclaim(&mut self, counted: Offset) {
        if self.tail > Offset(0)
            && let Err(error) = self.dead.reclaim(counted)
        {
            tracing::warn!("channel {}: {error}", self.channel.name());
        }
    }

    /// Closes the dead-letter log.
    pub fn close(&mut self) {
        if let Err(error) = self.dead.close() {
            tracing::warn!("channel {}: {error}", self.channel.name());
        }
    }

    fn append(&mut self, letters: &[Letter]) -> Result<(), AppendError> {
        let appended = self.dead.append(letters);
        self.tail = self.dead.tail().unwrap_or(self.tail);
        appended.map(drop)
    }

    /// Writes the letters of a burial; they are durable when it returns. `sink` is the name of the
    /// sink that failed the events, empty if there is none. What of it was written is told even if
    /// the rest could not be.
    /// What the log could not give goes to `missing`, to be told before what this returns.
    pub fn bury(&mut self, burial: &Burial, sink: &str, missing: &mut Vec<Missing>) -> Vec<Action> {
        let written = match burial.grave {
            Grave::Dead => self.keep(burial, sink, missing),
            Grave::Lost | Grave::Expired => {
                let listed = self.list(burial, burial.range.clone(), sink, burial.grave);
                listed.map_err(|error| (burial.range.start, error))
            }
        };
        let (end, error) = match written {
            Ok(()) => return vec![Action::Buried(burial.id)],
            Err(failed) => failed,
        };
        let mut actions = self.told(burial, burial.range.start..end, burial.grave);
        let rest = end..burial.range.end;
        let gives_up = self.channel.options().dead.full == DeadFull::Fail;
        if gives_up && matches!(error, BuryError::Dead(DeadError::Full { .. })) {
            match self.list(burial, rest.clone(), sink, Grave::Lost) {
                Ok(()) => {
                    actions.extend(self.told(burial, rest, Grave::Lost));
                    actions.push(Action::Buried(burial.id));
                    return actions;
                }
                Err(error) => tracing::error!("channel {}: {error}", self.channel.name()),
            }
        }
        let reason = format!("channel {}: {error}", self.channel.name());
        actions.push(Action::NotBuried { burial: burial.id, reason });
        actions
    }

    /// Lists events that the log could not give: they are passed already.
    pub fn list_damage(&mut self, group: &str, range: OffsetRange, reason: &str) {
        let letter = Letter {
            grave: Grave::Lost,
            channel: self.channel.name().to_owned(),
            group: group.to_owned(),
            sink: String::new(),
            range,
            appended_ms: 0,
            cause: Cause::Unreadable.word().to_owned(),
            reason: reason.to_owned(),
            attempts: 0,
            time_ms: now_ms(),
            redrives: 0,
            event: Event::default(),
        };
        if let Err(AppendError { error, .. }) = self.append(&[letter]) {
            tracing::error!("channel {}: list what is lost: {error}", self.channel.name());
        }
    }

    /// A part of a burial that is out of the way, as news.
    fn told(&self, burial: &Burial, range: OffsetRange, grave: Grave) -> Vec<Action> {
        if range.is_empty() {
            return Vec::new();
        }
        vec![Action::Letters { group: burial.group.clone(), grave, range }]
    }

    /// Keeps the events. On an error, those below the offset are kept.
    fn keep(
        &mut self,
        burial: &Burial,
        sink: &str,
        missing: &mut Vec<Missing>,
    ) -> Result<(), (Offset, BuryError)> {
        let mut next = burial.range.start;
        while next < burial.range.end {
            let read = self.reader.read(next..burial.range.end, CHUNK_EVENTS);
            let read = read.map_err(|error| (next, error.into()))?;
            if read.next == next {
                let error = std::io::Error::from(std::io::ErrorKind::UnexpectedEof);
                return Err((next, LogError::io("read what is to be kept")(error).into()));
            }
            let letters: Vec<_> =
                read.batch.iter().map(|event| self.letter(burial, sink, &event)).collect();
            if let Err(AppendError { written, error }) = self.append(&letters) {
                // of those in front all are kept
                let kept = letters.get(written).map_or(read.next, |letter| letter.range.start);
                return Err((kept, error.into()));
            }
            missing.extend(read.missing);
            next = read.next;
        }
        Ok(())
    }

    fn letter(&self, burial: &Burial, sink: &str, event: &LogEvent<'_>) -> Letter {
        Letter {
            range: event.offset..event.offset.plus(1),
            appended_ms: event.time_ms,
            redrives: redrives_of(&event.event),
            event: event.event.to_event(),
            ..self.blank(burial, sink, burial.grave)
        }
    }

    /// Lists a range as given up.
    fn list(
        &mut self,
        burial: &Burial,
        range: OffsetRange,
        sink: &str,
        grave: Grave,
    ) -> Result<(), BuryError> {
        let first = self.reader.read(range.start..range.start.plus(1), 1)?;
        let appended_ms = first.batch.iter().next().map_or(0, |event| event.time_ms);
        let letter = Letter { range, appended_ms, ..self.blank(burial, sink, grave) };
        self.append(&[letter]).map_err(|failed| failed.error)?;
        Ok(())
    }

    fn blank(&self, burial: &Burial, sink: &str, grave: Grave) -> Letter {
        Letter {
            grave,
            channel: self.channel.name().to_owned(),
            group: burial.group.clone(),
            sink: sink.to_owned(),
            range: burial.range.clone(),
            appended_ms: 0,
            cause: burial.cause.map_or("", Cause::word).to_owned(),
            reason: burial.reason.clone(),
            attempts: burial.attempts,
            time_ms: now_ms(),
            redrives: 0,
            event: Event::default(),
        }
    }
}

/// Milliseconds since 1970.
pub(super) fn now_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}
