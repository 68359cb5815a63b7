//! Which letters are meant.

use crate::channel::letter::Letter;
use crate::fate::Grave;
use crate::offset::Offset;
use serde::{Deserialize, Serialize};

/// A place among the letters.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Place {
    /// An offset of the channel that the events came from.
    Offset(Offset),
    /// A time of death, ms since 1970.
    Time(u64),
}

/// Which letters are meant: those that everything set here fits.
#[derive(Clone, Default, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LetterFilter {
    /// What became of the events; empty: all.
    pub graves: Vec<Grave>,
    /// The sink that failed them last.
    pub sink: Option<String>,
    /// Their group.
    pub group: Option<String>,
    /// A part of the reason.
    pub reason: Option<String>,
    /// The cause's word ([`crate::fate::Cause::word`]).
    pub cause: Option<String>,
    /// Headers that the event has, with these values.
    pub headers: Vec<(String, String)>,
    /// Not what lies, or died, before.
    pub from: Option<Place>,
    /// Nor what lies, or died, there or behind.
    pub to: Option<Place>,
    /// At most so many.
    pub limit: Option<u64>,
}

impl LetterFilter {
    /// Letters that hold events.
    pub fn dead() -> LetterFilter {
        LetterFilter { graves: vec![Grave::Dead], ..LetterFilter::default() }
    }

    /// The loss list: ranges of offsets that were given up, or too old.
    pub fn losses() -> LetterFilter {
        LetterFilter { graves: vec![Grave::Lost, Grave::Expired], ..LetterFilter::default() }
    }

    /// Whether every letter of its graves is meant.
    pub fn is_all(&self) -> bool {
        *self == LetterFilter { graves: self.graves.clone(), ..LetterFilter::default() }
    }

    /// Whether `letter` is meant, the limit aside.
    pub fn matches(&self, letter: &Letter) -> bool {
        let is = |wanted: &Option<String>, value: &str| wanted.as_ref().is_none_or(|w| w == value);
        let header = |name: &str| {
            // of several the last, as in Flume's map
            let last = letter.event.headers.iter().rev().find(|(key, _)| key == name);
            last.map(|(_, value)| value.as_str())
        };
        (self.graves.is_empty() || self.graves.contains(&letter.grave))
            && is(&self.sink, &letter.sink)
            && is(&self.group, &letter.group)
            && is(&self.cause, &letter.cause)
            && self.reason.as_ref().is_none_or(|part| letter.reason.contains(part))
            && self.headers.iter().all(|(name, value)| header(name) == Some(value))
            && self.from.is_none_or(|from| match from {
                Place::Offset(offset) => letter.range.end > offset,
                Place::Time(time_ms) => letter.time_ms >= time_ms,
            })
            && self.to.is_none_or(|to| match to {
                Place::Offset(offset) => letter.range.start < offset,
                Place::Time(time_ms) => letter.time_ms < time_ms,
            })
    }
}
