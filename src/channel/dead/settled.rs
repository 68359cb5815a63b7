//! Which letters are done with, and its bytes in the log's cursor journal.

use crate::channel::cursors::{self, CursorsError};
use crate::cursor::{GroupState, TriedRange};
use crate::offset::{Offset, OffsetRange, RangeSet};

/// The group whose cursor they are.
const GROUP: &str = "settled";

/// Letters that were re-driven or purged, by their offsets in the dead-letter log.
#[derive(Clone, Default, PartialEq, Eq, Debug)]
pub struct Settled(RangeSet);

impl Settled {
    /// Reads the newest record of the journal; none: nothing is settled.
    ///
    /// # Errors
    /// The bytes are no cursors.
    pub fn decode(record: Option<&[u8]>) -> Result<Settled, CursorsError> {
        let groups = record.filter(|bytes| !bytes.is_empty()).map(cursors::decode).transpose()?;
        let mut settled = Settled::default();
        let groups = groups.unwrap_or_default();
        for group in groups.into_iter().filter(|group| group.name == GROUP) {
            settled.insert(Offset(0)..group.watermark);
            group.acked.into_iter().for_each(|range| settled.insert(range));
        }
        Ok(settled)
    }

    /// The bytes for the journal.
    pub(super) fn encode(&self) -> Vec<u8> {
        let watermark = self.0.end_of_run(Offset(0));
        let open = self.0.gaps(watermark..self.end());
        cursors::encode(&[GroupState {
            name: GROUP.to_owned(),
            watermark,
            acked: self.0.iter().filter(|range| range.start > watermark).collect(),
            waiting: open.map(|range| TriedRange::new(range, 0)).collect(),
            ..GroupState::default()
        }])
    }

    /// Whether the letter at `offset` is done with.
    pub fn contains(&self, offset: Offset) -> bool {
        self.0.contains(offset)
    }

    /// Adds letters.
    pub(super) fn insert(&mut self, range: OffsetRange) {
        self.0.insert(range);
    }

    /// What of `range` is open.
    pub(super) fn gaps(&self, range: OffsetRange) -> impl Iterator<Item = OffsetRange> + '_ {
        self.0.gaps(range)
    }

    /// The first open letter from `offset` on.
    pub(super) fn end_of_run(&self, offset: Offset) -> Offset {
        self.0.end_of_run(offset)
    }

    /// Behind the last letter that is settled.
    pub(super) fn end(&self) -> Offset {
        self.0.iter().next_back().map_or(Offset(0), |range| range.end)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settled_letters_survive_their_bytes() {
        fn property(ranges: Vec<(u8, u8)>) -> bool {
            let range = |(from, len): (u8, u8)| {
                Offset(from.into())..Offset(u64::from(from) + u64::from(len % 5))
            };
            let settled = Settled(ranges.into_iter().map(range).collect());
            Settled::decode(Some(&settled.encode())) == Ok(settled)
        }
        quickcheck::quickcheck(property as fn(Vec<(u8, u8)>) -> bool);
        assert_eq!(Settled::decode(None), Ok(Settled::default()));
        assert!(Settled::decode(Some(&[2, 1])).is_err());
    }
}
