//! What can become of events that are not delivered: the words that dispatcher, dead-letter log,
//! filters and metrics share.

use serde::{Deserialize, Serialize};

/// What kind of failure: typed, so that nothing is ever read from a reason's text.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Cause {
    /// The target can't be reached, or the connection broke: nothing against the events. The sink
    /// is opened again before it gets more.
    Unreachable,
    /// No answer in time.
    Timeout,
    /// The target answered that it does not take these events, now or ever (see `retryable`).
    Refused,
    /// The events can't be brought into the target's form.
    Invalid,
    /// The target could not write.
    Storage,
    /// The log could not give the events.
    Unreadable,
    /// The sink's task ended while it had the events.
    Crashed,
}

impl Cause {
    /// Every cause.
    pub const ALL: [Cause; 7] = [
        Cause::Unreachable,
        Cause::Timeout,
        Cause::Refused,
        Cause::Invalid,
        Cause::Storage,
        Cause::Unreadable,
        Cause::Crashed,
    ];

    /// Whether it is the events that the sink does not take; the other causes are the sink's.
    pub const fn is_about_events(self) -> bool {
        matches!(self, Cause::Refused | Cause::Invalid)
    }

    /// As letters, filters and metrics call it.
    pub const fn word(self) -> &'static str {
        match self {
            Cause::Unreachable => "unreachable",
            Cause::Timeout => "timeout",
            Cause::Refused => "refused",
            Cause::Invalid => "invalid",
            Cause::Storage => "storage",
            Cause::Unreadable => "unreadable",
            Cause::Crashed => "crashed",
        }
    }
}

/// What becomes of events that no sink gets any more.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Grave {
    /// They are kept in the dead-letter log.
    Dead,
    /// They are given up, and listed.
    Lost,
    /// They were too old, and are listed.
    Expired,
}

impl Grave {
    /// As letters and filters call it.
    pub const fn word(self) -> &'static str {
        match self {
            Grave::Dead => "dead",
            Grave::Lost => "lost",
            Grave::Expired => "expired",
        }
    }
}
