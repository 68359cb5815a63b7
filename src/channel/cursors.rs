//! The bytes of the cursors in the journal. The journal's frame has the checksum; here only lengths
//! are checked, and the state's own rule.
//!
//! ```text
//! cursors := version u8 = 2 | group_count | group*        counts, offsets: varint; text: len, UTF-8
//! group   := name | watermark | lost | first dead expired dead_tail | ranges acked | tried waiting
//!            | sink_count | sink*
//! sink    := name | position | tried leases | tried retry | leases delivered failed redelivered
//!            | dead lost
//! ranges  := count | (from, len)*
//! tried   := count | (from, len, attempts, crashes, lend_max)*
//! ```
//! Version 1 had no dead letters: no `first dead expired dead_tail`, no `dead lost`, no `crashes
//! lend_max`. It is read, and what it lacks is 0.

use crate::cursor::{GroupState, SinkCounters, SinkState, TriedRange};
use crate::offset::{Offset, OffsetRange};

const VERSION: u8 = 2;

/// Why bytes are no cursors.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum CursorsError {
    /// Written by another version.
    #[error(
        "cursors of version {0}, this build reads versions 1 to {VERSION}: use a matching levada"
    )]
    Version(u8),
    /// Shorter or longer than they say.
    #[error("cursors end at byte {0} of a field")]
    Length(usize),
    /// They contradict themselves.
    #[error("{0}")]
    Rule(#[from] crate::cursor::CursorError),
}

/// The bytes of `groups`.
pub fn encode(groups: &[GroupState]) -> Vec<u8> {
    let mut out = Out(vec![VERSION]);
    out.number(groups.len() as u64);
    for group in groups {
        out.text(&group.name);
        out.number(group.watermark.0);
        out.number(group.lost_events);
        for number in [group.first.0, group.dead_events, group.expired_events, group.dead_tail.0] {
            out.number(number);
        }
        out.number(group.acked.len() as u64);
        group.acked.iter().for_each(|range| out.range(range));
        out.tried(&group.waiting);
        out.number(group.sinks.len() as u64);
        for sink in &group.sinks {
            out.text(&sink.name);
            out.number(sink.position.0);
            out.tried(&sink.leases);
            out.tried(&sink.retry);
            let counts = sink.counters;
            for count in [
                counts.leases,
                counts.delivered_events,
                counts.failed_events,
                counts.redelivered_events,
                counts.dead_events,
                counts.lost_events,
            ] {
                out.number(count);
            }
        }
    }
    out.0
}

/// Reads cursors.
///
/// # Errors
/// The bytes are none, or the state they hold can't be.
pub fn decode(bytes: &[u8]) -> Result<Vec<GroupState>, CursorsError> {
    match bytes.first() {
        Some(1..=VERSION) => {}
        Some(&other) => return Err(CursorsError::Version(other)),
        None => return Err(CursorsError::Length(0)),
    }
    let mut input = In { version: bytes[0], rest: &bytes[1..], len: bytes.len() };
    let mut groups = Vec::new();
    for _ in 0..input.number()? {
        let group = input.group()?;
        group.check()?;
        groups.push(group);
    }
    if !input.rest.is_empty() {
        return Err(input.short());
    }
    Ok(groups)
}

struct Out(Vec<u8>);

impl Out {
    fn number(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.0.push(value as u8 | 0x80);
            value >>= 7;
        }
        self.0.push(value as u8);
    }

    fn text(&mut self, text: &str) {
        self.number(text.len() as u64);
        self.0.extend_from_slice(text.as_bytes());
    }

    fn range(&mut self, range: &OffsetRange) {
        self.number(range.start.0);
        self.number(range.end.since(range.start));
    }

    fn tried(&mut self, ranges: &[TriedRange]) {
        self.number(ranges.len() as u64);
        for tried in ranges {
            self.range(&tried.range);
            for number in [tried.attempts, tried.crashes, tried.lend_max] {
                self.number(number.into());
            }
        }
    }
}

struct In<'a> {
    version: u8,
    rest: &'a [u8],
    len: usize,
}

impl In<'_> {
    fn short(&self) -> CursorsError {
        CursorsError::Length(self.len - self.rest.len())
    }

    fn number(&mut self) -> Result<u64, CursorsError> {
        let mut value = 0u64;
        for shift in (0..64).step_by(7) {
            let Some((&byte, rest)) = self.rest.split_first() else { return Err(self.short()) };
            self.rest = rest;
            value |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Ok(value);
            }
        }
        Err(self.short())
    }

    fn text(&mut self) -> Result<String, CursorsError> {
        let len = usize::try_from(self.number()?).map_err(|_| self.short())?;
        let Some((text, rest)) = self.rest.split_at_checked(len) else { return Err(self.short()) };
        let text = String::from_utf8(text.to_vec()).map_err(|_| self.short())?;
        self.rest = rest;
        Ok(text)
    }

    fn range(&mut self) -> Result<OffsetRange, CursorsError> {
        let (from, len) = (self.number()?, self.number()?);
        let to = from.checked_add(len).ok_or_else(|| self.short())?;
        Ok(Offset(from)..Offset(to))
    }

    /// Reads `count` items; memory follows the bytes that are there, not the count.
    fn list<T>(
        &mut self,
        mut item: impl FnMut(&mut Self) -> Result<T, CursorsError>,
    ) -> Result<Vec<T>, CursorsError> {
        let count = self.number()?;
        (0..count).map(|_| item(self)).collect()
    }

    fn tried(&mut self) -> Result<Vec<TriedRange>, CursorsError> {
        self.list(|input| {
            let range = input.range()?;
            let attempts = input.small()?;
            let (crashes, lend_max) =
                if input.version > 1 { (input.small()?, input.small()?) } else { (0, 0) };
            Ok(TriedRange { range, attempts, crashes, lend_max })
        })
    }

    fn small(&mut self) -> Result<u32, CursorsError> {
        u32::try_from(self.number()?).map_err(|_| self.short())
    }

    /// A number that version 1 did not have.
    fn number_of_2(&mut self) -> Result<u64, CursorsError> {
        if self.version > 1 { self.number() } else { Ok(0) }
    }

    fn group(&mut self) -> Result<GroupState, CursorsError> {
        Ok(GroupState {
            name: self.text()?,
            watermark: Offset(self.number()?),
            lost_events: self.number()?,
            first: Offset(self.number_of_2()?),
            dead_events: self.number_of_2()?,
            expired_events: self.number_of_2()?,
            dead_tail: Offset(self.number_of_2()?),
            acked: self.list(Self::range)?,
            waiting: self.tried()?,
            sinks: self.list(Self::sink)?,
        })
    }

    fn sink(&mut self) -> Result<SinkState, CursorsError> {
        Ok(SinkState {
            name: self.text()?,
            position: Offset(self.number()?),
            leases: self.tried()?,
            retry: self.tried()?,
            counters: SinkCounters {
                leases: self.number()?,
                delivered_events: self.number()?,
                failed_events: self.number()?,
                redelivered_events: self.number()?,
                dead_events: self.number_of_2()?,
                lost_events: self.number_of_2()?,
            },
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tried(from: u64, to: u64, attempts: u32) -> TriedRange {
        let range = Offset(from)..Offset(to);
        TriedRange { range, attempts, crashes: 1, lend_max: 10 }
    }

    fn groups() -> Vec<GroupState> {
        vec![GroupState {
            name: "default".into(),
            watermark: Offset(1000),
            acked: vec![Offset(1100)..Offset(1200)],
            waiting: vec![tried(1000, 1050, 3)],
            sinks: vec![SinkState {
                name: "k1".into(),
                position: Offset(1050),
                leases: vec![tried(1200, 1300, 1)],
                retry: vec![tried(1050, 1100, u32::MAX)],
                counters: SinkCounters {
                    leases: 1,
                    delivered_events: 2,
                    failed_events: 3,
                    redelivered_events: u64::MAX,
                    dead_events: 4,
                    lost_events: 5,
                },
            }],
            lost_events: 7,
            first: Offset(900),
            dead_events: 8,
            expired_events: 9,
            dead_tail: Offset(11),
        }]
    }

    #[test]
    fn cursors_survive_their_bytes() {
        assert_eq!(decode(&encode(&groups())), Ok(groups()));
        assert_eq!(decode(&encode(&[])), Ok(vec![]));
    }

    #[test]
    fn cursors_of_version_1_are_read() {
        // group "g": watermark 5, lost 1, acked 7..9, waiting 5..7 after 3 attempts, sink "k"
        let bytes =
            [&[1, 1, 1, b'g', 5, 1, 1, 7, 2, 1, 5, 2, 3, 1, 1, b'k'][..], &[9, 0, 0, 1, 2, 3, 4]]
                .concat();
        let groups = decode(&bytes).unwrap();
        let sink = SinkState {
            name: "k".into(),
            position: Offset(9),
            counters: SinkCounters {
                leases: 1,
                delivered_events: 2,
                failed_events: 3,
                redelivered_events: 4,
                ..SinkCounters::default()
            },
            ..SinkState::default()
        };
        let group = GroupState {
            name: "g".into(),
            watermark: Offset(5),
            lost_events: 1,
            acked: vec![Offset(7)..Offset(9)],
            waiting: vec![TriedRange::new(Offset(5)..Offset(7), 3)],
            sinks: vec![sink],
            ..GroupState::default()
        };
        assert_eq!(groups, [group]);
    }

    #[test]
    fn cut_or_contradictory_bytes_are_refused() {
        let bytes = encode(&groups());
        for len in 0..bytes.len() {
            assert!(decode(&bytes[..len]).is_err(), "{len} of {} bytes", bytes.len());
        }
        let mut groups = groups();
        groups[0].watermark = Offset(1001);
        assert!(matches!(decode(&encode(&groups)), Err(CursorsError::Rule(_))));
    }

    #[test]
    fn any_bytes_decode_without_panic() {
        fn property(bytes: Vec<u8>) -> bool {
            decode(&bytes).is_err() || !bytes.is_empty()
        }
        quickcheck::quickcheck(property as fn(Vec<u8>) -> bool);
    }
}
