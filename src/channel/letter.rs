//! A letter: what the dead-letter log keeps of an event, or of a range that was given up.
//!
//! It is stored as an event, so that every tool that reads a log reads letters: the event's own
//! headers and body as they were, then [`HEADERS`] in this order behind them. An event that brings
//! headers of these names keeps them: only the last ones count.

use crate::event::Event;
use crate::fate::Grave;
use crate::offset::OffsetRange;

/// The headers behind an event's own, in this order.
pub const HEADERS: [&str; 12] = [
    "levada.dead.grave",
    "levada.dead.channel",
    "levada.dead.group",
    "levada.dead.sink",
    "levada.dead.from",
    "levada.dead.to",
    "levada.dead.appended_ms",
    "levada.dead.cause",
    "levada.dead.reason",
    "levada.dead.attempts",
    "levada.dead.time_ms",
    "levada.dead.redrives",
];

/// The header that a re-driven event carries: how often it was, so that no event goes round for ever.
pub const REDRIVES: &str = "levada.redrives";

/// The longest reason that is kept, bytes.
pub const REASON_MAX: usize = 1024;

/// What is kept.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Letter {
    /// What became of it.
    pub grave: Grave,
    /// The channel it lay in.
    pub channel: String,
    /// The group it was to go to.
    pub group: String,
    /// The sink that failed it last; empty if none ever had it.
    pub sink: String,
    /// Its offset in the channel's log; more than one for ranges that were given up.
    pub range: OffsetRange,
    /// When the channel took it (the first of a range), ms since 1970.
    pub appended_ms: u64,
    /// What kind of failure was the last, by [`crate::fate::Cause::word`]; empty if there was none.
    pub cause: String,
    /// What the sink said, at most [`REASON_MAX`] bytes.
    pub reason: String,
    /// Deliveries begun.
    pub attempts: u32,
    /// When it was given up, ms since 1970.
    pub time_ms: u64,
    /// How often it had been re-driven before.
    pub redrives: u32,
    /// The event, byte for byte; without headers and body for ranges that were given up.
    pub event: Event,
}
