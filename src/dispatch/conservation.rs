//! What became of every event of a channel, counted from offsets alone.

use crate::cursor::GroupState;
use crate::offset::{Offset, OffsetRange};

/// What became of the events below the log's tail, in one group: no event is in two places or none.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Conservation {
    /// Offsets that were given away.
    pub appended: u64,
    /// Events that a sink has answered for.
    pub delivered: u64,
    /// Set aside with their reason.
    pub dead: u64,
    /// Given up by a policy, or passed because the log could not give them.
    pub lost: u64,
    /// Passed for their age.
    pub expired: u64,
    /// Still to be delivered: leased, waiting, to be sent again, or never lent.
    pub backlog: u64,
}

impl Conservation {
    /// Counts for a group from where it began, in a log that ends at `tail`.
    pub fn of(state: &GroupState, tail: Offset) -> Conservation {
        let first = state.first;
        let count = |range: &OffsetRange| range.end.0.saturating_sub(range.start.0);
        let acked: u64 = state.acked.iter().map(count).sum();
        let done = count(&(first..state.watermark)) + acked;
        let (dead, lost, expired) = (state.dead_events, state.lost_events, state.expired_events);
        let open: u64 = state.tried().map(|tried| count(&tried.range)).sum();
        Conservation {
            appended: count(&(first..tail)),
            delivered: done.saturating_sub(dead + lost + expired),
            dead,
            lost,
            expired,
            backlog: open + count(&(state.end()..tail)),
        }
    }

    /// Whether every event is somewhere, and none twice.
    pub fn holds(&self) -> bool {
        let Conservation { appended, delivered, dead, lost, expired, backlog } = *self;
        appended == delivered + dead + lost + expired + backlog
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cursor::{SinkState, TriedRange};

    /// 0..10 done, of it 2 lost, 3 dead, 4 expired; 10..15 waits; 15..20 is leased; 20..30 acked; above is new.
    fn state() -> GroupState {
        let tried = |from, to| TriedRange::new(Offset(from)..Offset(to), 1);
        let sink = SinkState { leases: vec![tried(15, 20)], ..SinkState::default() };
        GroupState {
            watermark: Offset(10),
            acked: vec![Offset(20)..Offset(30)],
            waiting: vec![tried(10, 15)],
            sinks: vec![sink],
            lost_events: 2,
            dead_events: 3,
            expired_events: 4,
            ..GroupState::default()
        }
    }

    #[test]
    fn every_event_is_counted_in_one_place() {
        let counts = Conservation::of(&state(), Offset(37));
        let expected =
            Conservation { appended: 37, delivered: 11, dead: 3, lost: 2, expired: 4, backlog: 17 };
        assert_eq!(counts, expected);
        assert!(counts.holds());
        let late = Conservation::of(&GroupState { first: Offset(4), ..state() }, Offset(37));
        assert_eq!((late.appended, late.delivered, late.holds()), (33, 7, true));
    }

    #[test]
    fn an_event_in_no_place_or_two_does_not_hold() {
        let holds = |change: fn(&mut GroupState)| {
            let mut state = state();
            change(&mut state);
            Conservation::of(&state, Offset(37)).holds()
        };
        assert!(holds(|_| {}));
        assert!(!holds(|state| state.waiting.clear()), "a range is forgotten");
        assert!(!holds(|state| state.watermark = Offset(12)), "a range is done and waits");
        assert!(!holds(|state| state.lost_events = 21), "more is lost than there was");
        assert!(!holds(|state| state.acked.push(Offset(30)..Offset(40))), "more than the log has");
    }
}
