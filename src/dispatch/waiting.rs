//! Ranges that wait for another delivery, each with its past.
//!
//! [`TriedRanges`] is a set ordered by offset: what comes out first is the lowest. [`Waiting`] adds
//! the time before which a range is not lent again, and what had piled up before an outage ended.

use super::Millis;
use crate::cursor::TriedRange;
use crate::offset::{Offset, OffsetRange};
use std::collections::BTreeMap;

/// The sink that failed a range last, and until when another gets it if it works.
pub(super) type PassedOver = (usize, Millis);

/// What is known of every offset of a range.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Past {
    attempts: u32,
    crashes: u32,
    lend_max: u32,
    /// The sink that failed it last, and until when it is passed over if another works.
    failed_by: Option<PassedOver>,
}

impl Past {
    fn tried(&self, start: u64, end: u64) -> TriedRange {
        let Past { attempts, crashes, lend_max, .. } = *self;
        TriedRange { range: Offset(start)..Offset(end), attempts, crashes, lend_max }
    }
}

/// Disjoint ranges, lowest first.
#[derive(Clone, Default, Debug)]
pub(super) struct TriedRanges {
    /// start → (end, past)
    ranges: BTreeMap<u64, (u64, Past)>,
}

/// What of a set may be taken.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Take {
    /// Nothing that starts below.
    pub(super) from: Offset,
    /// No more events.
    pub(super) events_max: u64,
    /// Nothing that this sink failed last, at this time.
    pub(super) not_failed_by: Option<PassedOver>,
}

impl Take {
    /// Whatever is lowest.
    pub(super) fn lowest(events_max: u64) -> Take {
        Take { from: Offset(0), events_max, not_failed_by: None }
    }
}

impl TriedRanges {
    /// Adds a range that overlaps none, joining it with neighbours of the same past.
    pub(super) fn insert(&mut self, tried: TriedRange) {
        self.insert_failed_by(tried, None);
    }

    fn insert_failed_by(&mut self, tried: TriedRange, failed_by: Option<PassedOver>) {
        let TriedRange { attempts, crashes, lend_max, .. } = tried;
        let past = Past { attempts, crashes, lend_max, failed_by };
        let (mut start, mut end) = (tried.range.start.0, tried.range.end.0);
        if start >= end {
            return;
        }
        if let Some((&lower, &(lower_end, lower_past))) = self.ranges.range(..start).next_back() {
            assert!(lower_end <= start, "{start}..{end} overlaps {lower}..{lower_end}");
            if lower_end == start && lower_past == past {
                self.ranges.remove(&lower);
                start = lower;
            }
        }
        if let Some((&upper, &(upper_end, upper_past))) = self.ranges.range(start..).next() {
            assert!(upper >= end, "{start}..{end} overlaps {upper}..{upper_end}");
            if upper == end && upper_past == past {
                self.ranges.remove(&upper);
                end = upper_end;
            }
        }
        self.ranges.insert(start, (end, past));
    }

    fn find(&self, take: Take) -> Option<(u64, u64, Past)> {
        let avoided = |past: &Past| match (past.failed_by, take.not_failed_by) {
            (Some((failed_by, until)), Some((sink, now))) => failed_by == sink && now < until,
            _ => false,
        };
        let mut ranges = self.ranges.range(take.from.0..);
        let (&start, &(end, past)) = ranges.find(|(_, (_, past))| !avoided(past))?;
        let past_max = if past.lend_max == 0 { u64::MAX } else { past.lend_max.into() };
        let events_max = take.events_max.min(past_max);
        Some((start, end.min(start.saturating_add(events_max)), past))
    }

    /// What [`TriedRanges::take`] would give.
    pub(super) fn peek(&self, take: Take) -> Option<TriedRange> {
        self.find(take).map(|(start, cut, past)| past.tried(start, cut))
    }

    /// Takes the lowest range that may be taken, its first events only.
    pub(super) fn take(&mut self, take: Take) -> Option<TriedRange> {
        let (start, cut, past) = self.find(take)?;
        let (end, _) = self.ranges.remove(&start)?;
        if cut < end {
            self.ranges.insert(cut, (end, past));
        }
        Some(past.tried(start, cut))
    }

    /// Takes every offset of `range` out; returns how many there were.
    pub(super) fn remove(&mut self, range: &OffsetRange) -> u64 {
        let mut removed = 0;
        while let Some((&start, &(end, past))) = self.ranges.range(..range.end.0).next_back() {
            if end <= range.start.0 {
                break;
            }
            self.ranges.remove(&start);
            if end > range.end.0 {
                self.ranges.insert(range.end.0, (end, past));
            }
            if start < range.start.0 {
                self.ranges.insert(start, (range.start.0, past));
            }
            removed += end.min(range.end.0) - start.max(range.start.0);
        }
        removed
    }

    /// The ranges in rising order.
    pub(super) fn iter(&self) -> impl Iterator<Item = TriedRange> + '_ {
        self.ranges.iter().map(|(&start, &(end, past))| past.tried(start, end))
    }
}

/// Ranges for any sink: those that may be lent now, and those whose time has not come.
#[derive(Clone, Default, Debug)]
pub(super) struct Waiting {
    /// Lent lowest first.
    pub(super) ready: TriedRanges,
    /// What had piled up when an outage ended, of a group that takes new events first.
    pub(super) piled: TriedRanges,
    /// In order of their time, with the sink that failed them; two ranges of one time differ in
    /// their start.
    delayed: BTreeMap<(Millis, Offset), (TriedRange, Option<PassedOver>)>,
}

impl Waiting {
    /// Adds a range that is ready at `due`, the sink that failed it, and until when that is passed
    /// over.
    pub(super) fn insert(&mut self, due: Millis, tried: TriedRange, failed_by: Option<PassedOver>) {
        let overlapped = self.delayed.insert((due, tried.range.start), (tried, failed_by));
        assert!(overlapped.is_none(), "{overlapped:?} waits twice");
    }

    /// Makes ready what is due at `now`.
    pub(super) fn ripen(&mut self, now: Millis) {
        while let Some(entry) = self.delayed.first_entry() {
            if entry.key().0 > now {
                break;
            }
            let (tried, failed_by) = entry.remove();
            self.ready.insert_failed_by(tried, failed_by);
        }
    }

    /// When the next range is due, if one is delayed.
    pub(super) fn next_due(&self) -> Option<Millis> {
        self.delayed.first_key_value().map(|((due, _), _)| *due)
    }

    /// Sinks that are passed over, and until when.
    pub(super) fn passed_over(&self) -> impl Iterator<Item = PassedOver> + '_ {
        self.ready.ranges.values().filter_map(|(_, past)| past.failed_by)
    }

    /// Takes every offset of `range` out; returns how many there were.
    pub(super) fn remove(&mut self, range: &OffsetRange) -> u64 {
        let mut removed = self.ready.remove(range) + self.piled.remove(range);
        let overlaps =
            |tried: &TriedRange| tried.range.start < range.end && tried.range.end > range.start;
        let hit: Vec<_> = self.delayed.extract_if(.., |_, (tried, _)| overlaps(tried)).collect();
        for ((due, _), (tried, failed_by)) in hit {
            let mut rest = TriedRanges::default();
            rest.insert(tried);
            removed += rest.remove(range);
            rest.iter().for_each(|part| self.insert(due, part, failed_by));
        }
        removed
    }

    /// Every range in rising order, joined with neighbours of the same past: what is stored does
    /// not tell when a range is due, nor who failed it.
    pub(super) fn sorted(&self) -> Vec<TriedRange> {
        let delayed = self.delayed.values().map(|(tried, _)| tried.clone());
        joined(self.ready.iter().chain(self.piled.iter()).chain(delayed).collect())
    }
}

/// The ranges in rising order, neighbours of the same past as one.
pub(super) fn joined(mut all: Vec<TriedRange>) -> Vec<TriedRange> {
    all.sort_unstable_by_key(|tried| tried.range.start);
    all.dedup_by(|next, tried| {
        let joins = tried.range.end == next.range.start
            && (tried.attempts, tried.crashes, tried.lend_max)
                == (next.attempts, next.crashes, next.lend_max);
        if joins {
            tried.range.end = next.range.end;
        }
        joins
    });
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tried(from: u64, to: u64, attempts: u32) -> TriedRange {
        TriedRange::new(Offset(from)..Offset(to), attempts)
    }

    fn set(ranges: &[TriedRange]) -> TriedRanges {
        let mut set = TriedRanges::default();
        ranges.iter().for_each(|tried| set.insert(tried.clone()));
        set
    }

    #[test]
    fn ranges_join_only_with_neighbours_of_as_many_attempts() {
        let joined = set(&[tried(0, 5, 1), tried(10, 15, 1), tried(5, 10, 1), tried(15, 20, 2)]);
        assert_eq!(joined.iter().collect::<Vec<_>>(), [tried(0, 15, 1), tried(15, 20, 2)]);
    }

    #[test]
    fn take_cuts_the_lowest_range_from_an_offset_on() {
        let mut ranges = set(&[tried(0, 5, 1), tried(10, 15, 2)]);
        let take = |from| Take { from: Offset(from), ..Take::lowest(3) };
        assert_eq!(ranges.take(take(0)), Some(tried(0, 3, 1)));
        assert_eq!(ranges.peek(take(4)), Some(tried(10, 13, 2)));
        assert_eq!(ranges.take(take(4)), Some(tried(10, 13, 2)));
        assert_eq!(ranges.take(take(14)), None);
        assert_eq!(ranges.iter().collect::<Vec<_>>(), [tried(3, 5, 1), tried(13, 15, 2)]);
    }

    #[test]
    fn take_gives_no_more_than_the_past_of_a_range_lets_it() {
        let halves = TriedRange { lend_max: 2, ..tried(0, 5, 1) };
        let mut ranges = set(&[halves.clone(), tried(5, 9, 1)]);
        assert_eq!(ranges.take(Take::lowest(9)), Some(halves.of(Offset(0)..Offset(2))));
        assert_eq!(ranges.take(Take::lowest(9)), Some(halves.of(Offset(2)..Offset(4))));
        assert_eq!(ranges.take(Take::lowest(9)), Some(halves.of(Offset(4)..Offset(5))));
        assert_eq!(ranges.take(Take::lowest(9)), Some(tried(5, 9, 1)));
    }

    #[test]
    fn take_passes_over_what_a_sink_has_failed() {
        let mut waiting = Waiting::default();
        waiting.insert(Millis(1), tried(0, 5, 1), Some((2, Millis(9))));
        waiting.insert(Millis(1), tried(5, 9, 1), None);
        waiting.ripen(Millis(1));
        let at = |sink, now| Take { not_failed_by: Some((sink, Millis(now))), ..Take::lowest(9) };
        assert_eq!(waiting.passed_over().collect::<Vec<_>>(), [(2, Millis(9))]);
        assert_eq!(waiting.ready.take(at(2, 1)), Some(tried(5, 9, 1)));
        assert_eq!(waiting.ready.peek(at(2, 8)), None);
        assert_eq!(waiting.ready.peek(at(2, 9)), Some(tried(0, 5, 1)));
        assert_eq!(waiting.ready.take(at(1, 1)), Some(tried(0, 5, 1)));
    }

    #[test]
    fn remove_keeps_what_lies_outside() {
        let mut waiting = Waiting { ready: set(&[tried(0, 10, 1)]), ..Waiting::default() };
        waiting.insert(Millis(9), tried(10, 20, 2), None);
        waiting.insert(Millis(9), tried(20, 30, 3), None);
        assert_eq!(waiting.remove(&(Offset(4)..Offset(6))), 2);
        assert_eq!(waiting.remove(&(Offset(8)..Offset(25))), 17);
        assert_eq!(waiting.sorted(), [tried(0, 4, 1), tried(6, 8, 1), tried(25, 30, 3)]);
        assert_eq!(waiting.next_due(), Some(Millis(9)));
        let above = Take { from: Offset(25), ..Take::lowest(1) };
        waiting.ripen(Millis(8));
        assert_eq!(waiting.ready.peek(above), None);
        waiting.ripen(Millis(9));
        assert!(waiting.ready.peek(above).is_some());
    }
}
