//! Offsets, and sets of offset ranges.
//!
//! An [`Offset`] numbers an event in its log: dense, in commit order, never used twice. Ranges are
//! half open everywhere: from inclusive, to exclusive.

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt;
use std::ops::Range;

/// The number of an event in its log.
#[derive(
    Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize,
)]
pub struct Offset(pub u64);

impl Offset {
    /// The offset `count` events further on.
    pub const fn plus(self, count: u64) -> Offset {
        Offset(self.0 + count)
    }

    /// How many events lie from `earlier` (inclusive) to `self` (exclusive); 0 if none.
    pub const fn since(self, earlier: Offset) -> u64 {
        self.0.saturating_sub(earlier.0)
    }
}

impl fmt::Display for Offset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A half-open range of offsets.
pub type OffsetRange = Range<Offset>;

/// A set of offsets, kept as disjoint ranges with a gap between any two of them.
///
/// Used for acknowledgements that arrive out of order: the number of ranges is bounded by the
/// leases that are out, not by the number of events.
#[derive(Clone, Default, PartialEq, Eq, Debug)]
pub struct RangeSet {
    /// start → end
    ranges: BTreeMap<u64, u64>,
}

impl RangeSet {
    /// The empty set.
    pub fn new() -> RangeSet {
        RangeSet::default()
    }

    /// Adds every offset of `range`, joining it with what it touches.
    pub fn insert(&mut self, range: OffsetRange) {
        let (mut from, mut to) = (range.start.0, range.end.0);
        if from >= to {
            return;
        }
        // every range that starts at or before `to` and ends at or after `from` is absorbed
        while let Some((&start, &end)) = self.ranges.range(..=to).next_back() {
            if end < from {
                break;
            }
            from = from.min(start);
            to = to.max(end);
            self.ranges.remove(&start);
        }
        self.ranges.insert(from, to);
    }

    /// Takes every offset below `bound` out.
    pub fn remove_below(&mut self, bound: Offset) {
        while let Some((&start, &end)) = self.ranges.first_key_value() {
            if start >= bound.0 {
                break;
            }
            self.ranges.remove(&start);
            if end > bound.0 {
                self.ranges.insert(bound.0, end);
            }
        }
    }

    /// If a range starts exactly at or covers `offset`, its end: the first offset not in the set
    /// from `offset` on.
    pub fn end_of_run(&self, offset: Offset) -> Offset {
        match self.ranges.range(..=offset.0).next_back() {
            Some((_, &end)) if end > offset.0 => Offset(end),
            _ => offset,
        }
    }

    /// What of `range` is not in the set, in rising order.
    pub fn gaps(&self, range: OffsetRange) -> impl Iterator<Item = OffsetRange> + '_ {
        let mut at = range.start;
        std::iter::from_fn(move || {
            let start = self.end_of_run(at);
            if start >= range.end {
                return None;
            }
            // `start` is in no range, so the next range begins above it
            let next = self.ranges.range(start.0..range.end.0).next();
            at = next.map_or(range.end, |(&next, _)| Offset(next));
            Some(start..at)
        })
    }

    /// Whether `offset` is in the set.
    pub fn contains(&self, offset: Offset) -> bool {
        self.end_of_run(offset) > offset
    }

    /// Whether the set has any offset of `range`.
    pub fn intersects(&self, range: &OffsetRange) -> bool {
        if range.is_empty() {
            return false;
        }
        self.contains(range.start) || self.ranges.range(range.start.0..range.end.0).next().is_some()
    }

    /// The ranges in rising order.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = OffsetRange> + '_ {
        self.ranges.iter().map(|(&start, &end)| Offset(start)..Offset(end))
    }

    /// The number of disjoint ranges.
    pub fn range_count(&self) -> usize {
        self.ranges.len()
    }

    /// The number of offsets in the set.
    pub fn event_count(&self) -> u64 {
        self.ranges.iter().map(|(start, end)| end - start).sum()
    }

    /// Whether the set is empty.
    pub fn is_empty(&self) -> bool {
        self.ranges.is_empty()
    }

    /// Asserts the structure's rule: ranges are not empty, rising, and apart.
    pub fn check(&self) {
        let mut previous_end = None;
        for (&start, &end) in &self.ranges {
            assert!(start < end, "empty range {start}..{end}");
            assert!(previous_end.is_none_or(|p| p < start), "ranges touch at {start}");
            previous_end = Some(end);
        }
    }
}

impl FromIterator<OffsetRange> for RangeSet {
    fn from_iter<I: IntoIterator<Item = OffsetRange>>(ranges: I) -> RangeSet {
        let mut set = RangeSet::new();
        for range in ranges {
            set.insert(range);
        }
        set
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    fn range(from: u64, to: u64) -> OffsetRange {
        Offset(from)..Offset(to)
    }

    #[test]
    fn range_set_agrees_with_a_set_of_numbers() {
        fn property(ranges: Vec<(u8, u8)>, bound: u8) -> bool {
            let mut set = RangeSet::new();
            let mut model = BTreeSet::new();
            for (from, len) in ranges {
                let (from, to) = (from as u64, from as u64 + (len % 9) as u64);
                set.insert(range(from, to));
                model.extend(from..to);
                set.check();
            }
            let agrees = |set: &RangeSet, model: &BTreeSet<u64>| {
                set.event_count() == model.len() as u64
                    && (0..300).all(|i| set.contains(Offset(i)) == model.contains(&i))
                    && (0..300).all(|i| {
                        set.intersects(&range(i, i + 3)) == model.range(i..i + 3).next().is_some()
                    })
                    && set
                        .gaps(range(3, 290))
                        .flat_map(|gap| gap.start.0..gap.end.0)
                        .eq((3..290).filter(|i| !model.contains(i)))
                    && set.gaps(range(9, 9)).next().is_none()
            };
            let before = agrees(&set, &model);
            set.remove_below(Offset(bound as u64));
            model.retain(|&i| i >= bound as u64);
            set.check();
            before && agrees(&set, &model)
        }
        quickcheck::quickcheck(property as fn(Vec<(u8, u8)>, u8) -> bool);
    }

    #[test]
    fn end_of_run_is_the_first_offset_missing() {
        let set: RangeSet = [range(5, 8), range(8, 10), range(12, 13)].into_iter().collect();
        assert_eq!(set.range_count(), 2);
        assert_eq!(set.end_of_run(Offset(4)), Offset(4));
        assert_eq!(set.end_of_run(Offset(5)), Offset(10));
        assert_eq!(set.end_of_run(Offset(12)), Offset(13));
    }
}
