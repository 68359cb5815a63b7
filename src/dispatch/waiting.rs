//! Ranges that wait for another delivery, each with its number of attempts.
//!
//! [`TriedRanges`] is a set ordered by offset: what comes out first is the lowest. [`Waiting`] adds
//! the time before which a range is not lent again.

use super::Millis;
use crate::cursor::TriedRange;
use crate::offset::{Offset, OffsetRange};
use std::collections::BTreeMap;

/// Disjoint ranges, lowest first.
#[derive(Clone, Default, Debug)]
pub(super) struct TriedRanges {
    /// start → (end, attempts)
    ranges: BTreeMap<u64, (u64, u32)>,
}

impl TriedRanges {
    /// Adds a range that overlaps none, joining it with neighbours of as many attempts.
    pub(super) fn insert(&mut self, tried: TriedRange) {
        let attempts = tried.attempts;
        let (mut start, mut end) = (tried.range.start.0, tried.range.end.0);
        if start >= end {
            return;
        }
        if let Some((&lower, &(lower_end, lower_attempts))) = self.ranges.range(..start).next_back()
        {
            assert!(lower_end <= start, "{start}..{end} overlaps {lower}..{lower_end}");
            if lower_end == start && lower_attempts == attempts {
                self.ranges.remove(&lower);
                start = lower;
            }
        }
        if let Some((&upper, &(upper_end, upper_attempts))) = self.ranges.range(start..).next() {
            assert!(upper >= end, "{start}..{end} overlaps {upper}..{upper_end}");
            if upper == end && upper_attempts == attempts {
                self.ranges.remove(&upper);
                end = upper_end;
            }
        }
        self.ranges.insert(start, (end, attempts));
    }

    /// Whether a range starts at or above `from`.
    pub(super) fn has_from(&self, from: Offset) -> bool {
        self.ranges.range(from.0..).next().is_some()
    }

    /// Takes the lowest range that starts at or above `from`, its first `events_max` events only.
    pub(super) fn take(&mut self, from: Offset, events_max: u64) -> Option<TriedRange> {
        let (&start, &(end, attempts)) = self.ranges.range(from.0..).next()?;
        self.ranges.remove(&start);
        let cut = end.min(start.saturating_add(events_max));
        if cut < end {
            self.ranges.insert(cut, (end, attempts));
        }
        Some(TriedRange::new(Offset(start)..Offset(cut), attempts))
    }

    /// Takes every offset of `range` out; returns how many there were.
    pub(super) fn remove(&mut self, range: &OffsetRange) -> u64 {
        let mut removed = 0;
        while let Some((&start, &(end, attempts))) = self.ranges.range(..range.end.0).next_back() {
            if end <= range.start.0 {
                break;
            }
            self.ranges.remove(&start);
            if end > range.end.0 {
                self.ranges.insert(range.end.0, (end, attempts));
            }
            if start < range.start.0 {
                self.ranges.insert(start, (range.start.0, attempts));
            }
            removed += end.min(range.end.0) - start.max(range.start.0);
        }
        removed
    }

    /// The ranges in rising order.
    pub(super) fn iter(&self) -> impl Iterator<Item = TriedRange> + '_ {
        self.ranges
            .iter()
            .map(|(&start, &(end, attempts))| TriedRange::new(Offset(start)..Offset(end), attempts))
    }
}

/// Ranges for any sink: those that may be lent now, and those whose time has not come.
#[derive(Clone, Default, Debug)]
pub(super) struct Waiting {
    /// Lent lowest first.
    pub(super) ready: TriedRanges,
    /// In order of their time; two ranges of one time differ in their start.
    delayed: BTreeMap<(Millis, Offset), TriedRange>,
}

impl Waiting {
    /// Adds a range that is ready at `due`.
    pub(super) fn insert(&mut self, due: Millis, tried: TriedRange) {
        let overlapped = self.delayed.insert((due, tried.range.start), tried);
        assert!(overlapped.is_none(), "{overlapped:?} waits twice");
    }

    /// Makes ready what is due at `now`.
    pub(super) fn ripen(&mut self, now: Millis) {
        while let Some(entry) = self.delayed.first_entry() {
            if entry.key().0 > now {
                break;
            }
            self.ready.insert(entry.remove());
        }
    }

    /// When the next range is due, if one is delayed.
    pub(super) fn next_due(&self) -> Option<Millis> {
        self.delayed.first_key_value().map(|((due, _), _)| *due)
    }

    /// Takes every offset of `range` out; returns how many there were.
    pub(super) fn remove(&mut self, range: &OffsetRange) -> u64 {
        let mut removed = self.ready.remove(range);
        let overlaps =
            |tried: &TriedRange| tried.range.start < range.end && tried.range.end > range.start;
        let hit: Vec<_> = self.delayed.extract_if(.., |_, tried| overlaps(tried)).collect();
        for ((due, _), tried) in hit {
            let mut rest = TriedRanges::default();
            rest.insert(tried);
            removed += rest.remove(range);
            rest.iter().for_each(|part| self.insert(due, part));
        }
        removed
    }

    /// Every range in rising order, joined with neighbours of as many attempts: what is stored does
    /// not tell when a range is due.
    pub(super) fn sorted(&self) -> Vec<TriedRange> {
        let mut all: Vec<_> = self.ready.iter().chain(self.delayed.values().cloned()).collect();
        all.sort_unstable_by_key(|tried| tried.range.start);
        all.dedup_by(|next, tried| {
            let joins = tried.range.end == next.range.start && tried.attempts == next.attempts;
            if joins {
                tried.range.end = next.range.end;
            }
            joins
        });
        all
    }
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
        assert_eq!(ranges.take(Offset(0), 3), Some(tried(0, 3, 1)));
        assert_eq!(ranges.take(Offset(4), 3), Some(tried(10, 13, 2)));
        assert_eq!(ranges.take(Offset(14), 3), None);
        assert_eq!(ranges.iter().collect::<Vec<_>>(), [tried(3, 5, 1), tried(13, 15, 2)]);
    }

    #[test]
    fn remove_keeps_what_lies_outside() {
        let mut waiting = Waiting { ready: set(&[tried(0, 10, 1)]), ..Waiting::default() };
        waiting.insert(Millis(9), tried(10, 20, 2));
        waiting.insert(Millis(9), tried(20, 30, 3));
        assert_eq!(waiting.remove(&(Offset(4)..Offset(6))), 2);
        assert_eq!(waiting.remove(&(Offset(8)..Offset(25))), 17);
        assert_eq!(waiting.sorted(), [tried(0, 4, 1), tried(6, 8, 1), tried(25, 30, 3)]);
        assert_eq!(waiting.next_due(), Some(Millis(9)));
        waiting.ripen(Millis(8));
        assert!(!waiting.ready.has_from(Offset(25)));
        waiting.ripen(Millis(9));
        assert!(waiting.ready.has_from(Offset(25)));
    }
}
