//! The state of a channel's consumers, as plain data: what the dispatcher gives away to be kept and
//! takes back after a restart. The log's cursor journal writes it; neither side knows the other.
//!
//! ```text
//! 0 ........ watermark ............................................ end (never lent above)
//! done       | leased | acked | waiting | acked | leased | retry |
//! ```
//! Between the watermark and the end every offset is in exactly one range: acked, leased by one
//! sink, to be sent again by one sink (`retry`), or waiting for any sink of the group.

use crate::offset::{Offset, OffsetRange};

/// Offsets, and how often their delivery was begun.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TriedRange {
    /// The offsets; never empty.
    pub range: OffsetRange,
    /// Deliveries begun so far, a lease's own included; 0 if it came back untouched.
    pub attempts: u32,
    /// How often the process ended uncleanly while a sink had them.
    pub crashes: u32,
    /// The most of them in one lease; 0: as many as the sink takes. It shrinks while what fails
    /// among them is looked for.
    pub lend_max: u32,
}

impl TriedRange {
    /// Offsets of which nothing is known but the attempts.
    pub fn new(range: OffsetRange, attempts: u32) -> TriedRange {
        TriedRange { range, attempts, crashes: 0, lend_max: 0 }
    }

    /// Other offsets with the same past.
    pub fn of(&self, range: OffsetRange) -> TriedRange {
        TriedRange { range, ..self.clone() }
    }
}

/// A consumer group: sinks that compete for the events of one channel.
#[derive(Clone, Default, PartialEq, Eq, Debug)]
pub struct GroupState {
    /// Its name, unique in its channel.
    pub name: String,
    /// Where the group began, or was set back to: what lies below was never its own. The counts of
    /// events below are of what lies above.
    pub first: Offset,
    /// Every offset below is done.
    pub watermark: Offset,
    /// What is done above the watermark: rising, with a gap before each.
    pub acked: Vec<OffsetRange>,
    /// Released ranges that any sink may take, rising.
    pub waiting: Vec<TriedRange>,
    /// The group's sinks in config order.
    pub sinks: Vec<SinkState>,
    /// Events passed because the log could not give them, or because a policy gave them up.
    pub lost_events: u64,
    /// Events set aside in the dead-letter log.
    pub dead_events: u64,
    /// Events passed for their age.
    pub expired_events: u64,
    /// End of what the dead-letter log had when this was taken, its offsets: what lies there and
    /// behind is not yet counted here.
    pub dead_tail: Offset,
}

/// One sink's cursor.
#[derive(Clone, Default, PartialEq, Eq, Debug)]
pub struct SinkState {
    /// Its name, unique in its group.
    pub name: String,
    /// The lowest offset the sink still owes; with nothing owed, the end of what it was ever lent.
    pub position: Offset,
    /// What it has been lent and has not answered for, in the order it was lent.
    pub leases: Vec<TriedRange>,
    /// What this very sink sends again before anything new, rising.
    pub retry: Vec<TriedRange>,
    /// What it has done so far.
    pub counters: SinkCounters,
}

/// What a sink has done since its cursor was created.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub struct SinkCounters {
    /// Leases lent to it.
    pub leases: u64,
    /// Events it delivered.
    pub delivered_events: u64,
    /// Events it failed to deliver, each failure counted.
    pub failed_events: u64,
    /// Events lent to it with an attempt above 1.
    pub redelivered_events: u64,
    /// Events that it failed, and that went to the dead letters.
    pub dead_events: u64,
    /// Events that it failed, and that its policy gave up.
    pub lost_events: u64,
}

/// Why a [`GroupState`] cannot be: a lower-case sentence with the offsets in question.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{0}")]
pub struct CursorError(pub String);

impl GroupState {
    /// The first offset that no sink was ever lent.
    pub fn end(&self) -> Offset {
        let tried = self.tried().map(|tried| tried.range.end);
        let acked = self.acked.iter().map(|range| range.end);
        tried.chain(acked).max().unwrap_or_default().max(self.watermark)
    }

    /// The group set to `to`, back or ahead: nothing is done or lent there and above, and its
    /// counts of events begin anew; its sinks keep what they counted. As
    /// `dispatch::Action::Rewind`, for a group of which no dispatcher runs.
    pub fn rewound(&self, to: Offset) -> GroupState {
        let sinks = self.sinks.iter().map(|sink| SinkState {
            name: sink.name.clone(),
            position: to,
            leases: Vec::new(),
            retry: Vec::new(),
            counters: sink.counters,
        });
        GroupState {
            name: self.name.clone(),
            first: to,
            watermark: to,
            sinks: sinks.collect(),
            dead_tail: self.dead_tail, // of the dead-letter log, which stays as it is
            ..GroupState::default()
        }
    }

    /// Every range that is not acked: waiting, then each sink's leases and retries.
    pub fn tried(&self) -> impl Iterator<Item = &TriedRange> {
        let sinks = self.sinks.iter().flat_map(|sink| sink.leases.iter().chain(&sink.retry));
        self.waiting.iter().chain(sinks)
    }

    /// Checks the rule of the picture above.
    ///
    /// # Errors
    /// The first range that is empty, below the watermark, in two places, or missing; a name twice.
    pub fn check(&self) -> Result<(), CursorError> {
        let name = &self.name;
        let mut names: Vec<_> = self.sinks.iter().map(|sink| sink.name.as_str()).collect();
        names.sort_unstable();
        if let Some(pair) = names.windows(2).find(|pair| pair[0] == pair[1]) {
            let sink = pair[0];
            return Err(CursorError(format!("group {name}: sink {sink} has two cursors")));
        }
        let mut ranges: Vec<_> = self.acked.iter().map(|range| (range, true)).collect();
        ranges.extend(self.tried().map(|tried| (&tried.range, false)));
        ranges.sort_unstable_by_key(|(range, _)| (range.start, range.end));
        // the watermark stands for an acked range that ends there
        let (mut end, mut after_acked) = (self.watermark, true);
        for (range, acked) in ranges {
            let problem = if range.is_empty() {
                "is empty"
            } else if range.start < end {
                "overlaps what is below it"
            } else if range.start > end {
                "leaves a gap below it"
            } else if acked && after_acked {
                "is acked and touches an acked range"
            } else {
                (end, after_acked) = (range.end, acked);
                continue;
            };
            let (from, to, kind) = (range.start, range.end, if acked { "acked" } else { "open" });
            let text = format!("group {name}: {kind} range {from}..{to} {problem} (end {end})");
            return Err(CursorError(text));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn range(from: u64, to: u64) -> OffsetRange {
        Offset(from)..Offset(to)
    }

    fn tried(from: u64, to: u64) -> TriedRange {
        TriedRange::new(range(from, to), 1)
    }

    fn state() -> GroupState {
        GroupState {
            name: "g".into(),
            watermark: Offset(10),
            acked: vec![range(20, 30)],
            waiting: vec![tried(10, 15)],
            sinks: vec![
                SinkState { name: "a".into(), leases: vec![tried(15, 20)], ..Default::default() },
                SinkState { name: "b".into(), retry: vec![tried(30, 32)], ..Default::default() },
            ],
            ..GroupState::default()
        }
    }

    #[test]
    fn state_that_covers_every_offset_once_passes() {
        assert_eq!(state().check(), Ok(()));
        assert_eq!(state().end(), Offset(32));
        assert_eq!(GroupState::default().check(), Ok(()));
    }

    #[test]
    fn group_that_is_set_back_owes_everything_from_there() {
        let counters = SinkCounters { delivered_events: 5, ..SinkCounters::default() };
        let mut before = state();
        (before.lost_events, before.dead_events, before.expired_events) = (1, 2, 3);
        (before.dead_tail, before.sinks[0].counters) = (Offset(7), counters);
        for to in [Offset(3), Offset(100)] {
            let after = before.rewound(to);
            assert_eq!(after.check(), Ok(()));
            assert_eq!((after.first, after.watermark, after.end()), (to, to, to));
            assert_eq!(after.tried().count() + after.acked.len(), 0);
            assert_eq!((after.lost_events, after.dead_events, after.expired_events), (0, 0, 0));
            assert_eq!((after.dead_tail, after.sinks[0].counters), (Offset(7), counters));
            assert!(after.sinks.iter().all(|sink| sink.position == to));
            let names: Vec<_> = after.sinks.iter().map(|sink| sink.name.as_str()).collect();
            assert_eq!((after.name.as_str(), names), ("g", vec!["a", "b"]));
        }
    }

    #[test]
    fn state_is_refused_when_an_offset_is_in_no_place_or_two() {
        let problem = |change: fn(&mut GroupState)| {
            let mut state = state();
            change(&mut state);
            state.check().unwrap_err().0
        };
        let check = |change: fn(&mut GroupState), text: &str| {
            let problem = problem(change);
            assert!(problem.contains(text), "{problem:?} does not say {text:?}");
        };
        check(|s| s.waiting[0] = tried(10, 16), "open range 15..20 overlaps");
        check(|s| s.waiting[0] = tried(10, 14), "open range 15..20 leaves a gap");
        check(|s| s.watermark = Offset(12), "open range 10..15 overlaps");
        check(|s| s.sinks[1].retry[0] = tried(30, 30), "open range 30..30 is empty");
        check(|s| s.acked = vec![range(20, 25), range(25, 30)], "touches an acked range");
        check(|s| s.sinks[1].name = "a".into(), "sink a has two cursors");
    }
}
