//! Which of the oldest segments are given back: a decision without a file or a clock.

use super::holds::Hold;
use std::time::Duration;

/// What is kept for replay of what every group is done with. With both limits set, a segment goes
/// when either is exceeded, as in Kafka; with none, at once.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Retention {
    /// How old the newest event of a segment may become.
    pub age: Option<Duration>,
    /// Most bytes of segments that are kept so.
    pub bytes: Option<u64>,
}

/// A segment that takes no more batches, as far as the decision needs it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Span {
    /// Offset of its first event.
    pub base_offset: u64,
    /// Offset behind its last event.
    pub end_offset: u64,
    /// Bytes of its file.
    pub bytes: u64,
    /// Append time of its last event, ms since 1970.
    pub last_time_ms: u64,
}

/// What else the decision depends on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Now {
    /// Every group is durably done with what lies below.
    pub done: u64,
    /// What time it is, ms since 1970.
    pub time_ms: u64,
    /// Bytes that producers need: kept ones go for them, whatever the retention says.
    pub short_bytes: u64,
}

impl Retention {
    /// How many of `spans`, the oldest first, may go. Only what every group is done with, and
    /// nothing of a hold; nor what is behind a hold, for a log has no gaps.
    pub fn expired(&self, spans: &[Span], now: Now, holds: &[Hold]) -> usize {
        let passed = |span: &&Span| span.end_offset <= now.done;
        let held = |span: &Span| {
            let meets = |hold: &Hold| {
                hold.range.start.0 < span.end_offset && span.base_offset < hold.range.end.0
            };
            holds.iter().any(meets)
        };
        let passed = spans.iter().take_while(passed);
        let mut kept: u64 = passed.clone().map(|span| span.bytes).sum();
        let mut short = now.short_bytes;
        let mut count = 0;
        for span in passed {
            let age_ms = u128::from(now.time_ms.saturating_sub(span.last_time_ms));
            let due = match (self.age, self.bytes) {
                (None, None) => true,
                (age, bytes) => {
                    age.is_some_and(|age| age_ms >= age.as_millis())
                        || bytes.is_some_and(|bytes| kept > bytes)
                }
            };
            if held(span) || !(due || short > 0) {
                break;
            }
            (kept, short) = (kept - span.bytes, short.saturating_sub(span.bytes));
            count += 1;
        }
        count
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::offset::Offset;

    /// Ten segments of 10 events and 100 bytes; the last event of number i is of 1000 + i ms.
    fn spans() -> Vec<Span> {
        let span = |i: u64| Span {
            base_offset: 10 * i,
            end_offset: 10 * i + 10,
            bytes: 100,
            last_time_ms: 1000 + i,
        };
        (0..10).map(span).collect()
    }

    fn keep(age_ms: Option<u64>, bytes: Option<u64>) -> Retention {
        Retention { age: age_ms.map(Duration::from_millis), bytes }
    }

    fn now(done: u64) -> Now {
        Now { done, time_ms: 1_010, short_bytes: 0 }
    }

    fn hold(from: u64, to: u64) -> Hold {
        Hold { name: "h".into(), range: Offset(from)..Offset(to), made_ms: 0 }
    }

    #[test]
    fn without_retention_all_that_is_wholly_done_goes() {
        let expired = |done| Retention::default().expired(&spans(), now(done), &[]);
        assert_eq!([0, 9, 10, 55, 100, 1000].map(expired), [0, 0, 1, 5, 10, 10]);
    }

    #[test]
    fn age_keeps_segments_until_their_newest_event_is_that_old() {
        let expired = |age_ms| keep(Some(age_ms), None).expired(&spans(), now(100), &[]);
        assert_eq!([0, 1, 5, 6, 10, 11].map(expired), [10, 10, 6, 5, 1, 0]);
        assert_eq!(keep(Some(5), None).expired(&spans(), now(25), &[]), 2, "done is needed too");
        let early = Now { time_ms: 0, ..now(100) };
        assert_eq!(keep(Some(1), None).expired(&spans(), early, &[]), 0, "a clock set back");
    }

    #[test]
    fn bytes_keep_the_newest_of_what_is_done() {
        let expired = |bytes| keep(None, Some(bytes)).expired(&spans(), now(55), &[]);
        assert_eq!([0, 99, 100, 250, 500, 501].map(expired), [5, 5, 4, 3, 0, 0]);
    }

    #[test]
    fn either_limit_is_enough_to_let_a_segment_go() {
        let expired =
            |age_ms, bytes| keep(Some(age_ms), Some(bytes)).expired(&spans(), now(100), &[]);
        assert_eq!(expired(6, 1000), 5, "too old, and few");
        assert_eq!(expired(100, 300), 7, "too many, and young");
        assert_eq!(expired(100, 1000), 0, "neither");
    }

    #[test]
    fn producers_that_need_bytes_get_what_is_kept_and_nothing_else() {
        let expired = |done, short_bytes, holds: &[Hold]| {
            let now = Now { short_bytes, ..now(done) };
            keep(None, Some(u64::MAX)).expired(&spans(), now, holds)
        };
        assert_eq!([0, 1, 100, 101].map(|short| expired(100, short, &[])), [0, 1, 1, 2]);
        assert_eq!(expired(25, 1000, &[]), 2, "never what somebody waits for");
        assert_eq!(expired(100, 1000, &[hold(35, 36)]), 3, "nor what is held");
    }

    #[test]
    fn nothing_of_a_hold_goes_and_nothing_behind_it() {
        let expired = |holds: &[Hold]| Retention::default().expired(&spans(), now(100), holds);
        assert_eq!(expired(&[hold(0, 1)]), 0);
        assert_eq!(expired(&[hold(30, 31)]), 3);
        assert_eq!(expired(&[hold(29, 31)]), 2, "one of its offsets is in the segment before");
        assert_eq!(expired(&[hold(95, 200), hold(45, 47)]), 4, "the lowest counts");
        assert_eq!(expired(&[hold(100, 200), hold(50, 50)]), 10, "above, and one of no offset");
    }
}
