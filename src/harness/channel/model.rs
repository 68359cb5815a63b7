//! What is known of each event in each group, and what a channel's state must be by that.

use crate::cursor::GroupState;
use crate::dispatch::{Conservation, Policy};
use crate::offset::{Offset, OffsetRange};

/// What became of an event in a group.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub(super) enum Fate {
    /// It is to be delivered.
    #[default]
    Open,
    Delivered,
    /// The log could not give it.
    Lost,
}

/// What becomes of an event that a sink with this policy did not deliver.
pub(super) fn fate_of(_policy: Policy) -> Fate {
    Fate::Open
}

/// The fates of a group's events, by offset.
#[derive(Clone, Default)]
pub(super) struct Truth(Vec<Fate>);

impl Truth {
    pub(super) fn fate(&self, at: u64) -> Fate {
        self.0.get(at as usize).copied().unwrap_or_default()
    }

    /// Settles an event that is open.
    pub(super) fn settle(&mut self, at: u64, fate: Fate) {
        let at = at as usize;
        if self.0.len() <= at {
            self.0.resize(at + 1, Fate::Open);
        }
        if self.0[at] == Fate::Open {
            self.0[at] = fate;
        }
    }

    fn count(&self, fate: Fate) -> u64 {
        self.0.iter().filter(|other| **other == fate).count() as u64
    }

    /// Compares a group's state with what is known; `all_sinks`: no sink has gone with its counters.
    pub(super) fn check(&self, state: &GroupState, tail: Offset, all_sinks: bool) {
        let name = &state.name;
        assert_eq!(state.check(), Ok(()));
        assert!(state.end() <= tail, "group {name}: the cursor is beyond the log's tail {tail}");
        let done_below = (0..state.watermark.0).all(|at| self.fate(at) != Fate::Open);
        assert!(done_below, "group {name}: an open event is below {}", state.watermark);
        let open = |range: &OffsetRange| {
            (range.start.0..range.end.0).filter(|at| self.fate(*at) == Fate::Open).count() as u64
        };
        assert!(state.acked.iter().all(|range| open(range) == 0), "group {name}: acked and open");
        let counts = Conservation::of(state, tail);
        assert!(counts.holds(), "group {name}: {counts:?}");
        let (delivered, lost) = (self.count(Fate::Delivered), self.count(Fate::Lost));
        let known = Conservation {
            appended: tail.0,
            delivered,
            dead: 0,
            lost,
            expired: 0,
            backlog: open(&(Offset(0)..tail)),
        };
        assert_eq!(counts, known, "group {name}");
        let counted: u64 = state.sinks.iter().map(|sink| sink.counters.delivered_events).sum();
        assert!(!all_sinks || counted == delivered, "group {name}: the sinks count {counted}");
    }
}
