//! Flume's unit: an event of string headers and a body of bytes, and its bytes inside a record.
//!
//! ```text
//! event := headers_len u32 | header* | body (the rest)        integers little-endian
//! header := key_len varint | key (UTF-8) | value_len varint | value (UTF-8)
//! ```
//! A record is read where it lies: [`EventRef`] borrows the mapping, nothing is decoded before it
//! is asked for. [`EventBatch`] is what a sink gets: slices of the log, counted, not copied.

use crate::offset::{Offset, OffsetRange};
use bytes::Bytes;
use std::collections::HashMap;
use std::collections::hash_map::Entry;

/// An event of its own: headers in their order of arrival, and the body.
#[derive(Clone, Default, PartialEq, Eq, Debug)]
pub struct Event {
    /// Name and value; a name that comes twice keeps the later value when Flume's map is built.
    pub headers: Vec<(String, String)>,
    /// Any bytes.
    pub body: Vec<u8>,
}

impl Event {
    /// An event without headers.
    pub fn of_body(body: impl Into<Vec<u8>>) -> Event {
        Event { headers: Vec::new(), body: body.into() }
    }

    /// The event's bytes as they stand in a record.
    pub fn encode(&self, out: &mut Vec<u8>) {
        let headers = self.headers.iter().map(|(k, v)| (k.as_str(), v.as_str()));
        encode_event(headers, &self.body, out);
    }
}

/// Appends the bytes of an event to `out`. The body is copied once.
pub fn encode_event<'a>(
    headers: impl Iterator<Item = (&'a str, &'a str)>,
    body: &[u8],
    out: &mut Vec<u8>,
) {
    let at = out.len();
    out.extend_from_slice(&[0; 4]);
    for (key, value) in headers {
        for text in [key, value] {
            put_varint(text.len() as u64, out);
            out.extend_from_slice(text.as_bytes());
        }
    }
    let headers_len = u32::try_from(out.len() - at - 4).expect("headers are below 4 GiB");
    out[at..at + 4].copy_from_slice(&headers_len.to_le_bytes());
    out.extend_from_slice(body);
}

/// An event inside a record, borrowed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct EventRef<'a> {
    headers: &'a [u8],
    body: &'a [u8],
}

impl<'a> EventRef<'a> {
    /// Reads the frame of an event; the headers are looked at when they are asked for.
    ///
    /// `None` if the bytes are too short for what they say.
    pub fn decode(record: &'a [u8]) -> Option<EventRef<'a>> {
        let (len, rest) = record.split_first_chunk::<4>()?;
        let len = u32::from_le_bytes(*len) as usize;
        let (headers, body) = rest.split_at_checked(len)?;
        Some(EventRef { headers, body })
    }

    /// Bytes that it takes in a record.
    pub fn byte_len(&self) -> usize {
        4 + self.headers.len() + self.body.len()
    }

    /// The body, as it was put.
    pub fn body(&self) -> &'a [u8] {
        self.body
    }

    /// Name and value of each header, in order of arrival. Ends early at bytes that are no header.
    pub fn headers(&self) -> Headers<'a> {
        Headers { rest: self.headers }
    }

    /// The value of the header `name`; of several, the last, as in Flume's map.
    pub fn header(&self, name: &str) -> Option<&'a str> {
        self.headers().filter(|(key, _)| *key == name).last().map(|(_, value)| value)
    }

    /// The headers as Flume's map has them: each name once, where it came first, with its last value.
    pub fn header_map(&self) -> Vec<(&'a str, &'a str)> {
        let mut map: Vec<(&str, &str)> = Vec::new();
        // an event may have very many headers: each is found in one step
        let mut places: HashMap<&str, usize> = HashMap::new();
        for (name, value) in self.headers() {
            match places.entry(name) {
                Entry::Occupied(place) => map[*place.get()].1 = value,
                Entry::Vacant(place) => {
                    place.insert(map.len());
                    map.push((name, value));
                }
            }
        }
        map
    }

    /// A copy that owns its bytes.
    pub fn to_event(&self) -> Event {
        let headers = self.headers().map(|(k, v)| (k.to_owned(), v.to_owned())).collect();
        Event { headers, body: self.body.to_vec() }
    }
}

/// The headers of an [`EventRef`].
#[derive(Clone, Debug)]
pub struct Headers<'a> {
    rest: &'a [u8],
}

impl<'a> Headers<'a> {
    fn text(&mut self) -> Option<&'a str> {
        let len = take_varint(&mut self.rest)?;
        let (text, rest) = self.rest.split_at_checked(usize::try_from(len).ok()?)?;
        self.rest = rest;
        std::str::from_utf8(text).ok()
    }
}

impl<'a> Iterator for Headers<'a> {
    type Item = (&'a str, &'a str);

    fn next(&mut self) -> Option<(&'a str, &'a str)> {
        Some((self.text()?, self.text()?))
    }
}

fn put_varint(mut value: u64, out: &mut Vec<u8>) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

fn take_varint(bytes: &mut &[u8]) -> Option<u64> {
    let mut value = 0u64;
    for shift in (0..64).step_by(7) {
        let (&byte, rest) = bytes.split_first()?;
        *bytes = rest;
        value |= u64::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            return Some(value);
        }
    }
    None
}

/// Consecutive records of one batch of the log: `records` is `record*`, `record := len u32 | event`.
#[derive(Clone, Debug)]
pub struct BatchPart {
    /// The offset of the first record.
    pub first: Offset,
    /// How many records.
    pub count: u32,
    /// When the log took them, ms since 1970.
    pub time_ms: u64,
    /// The records' bytes: a slice of the mapping.
    pub records: Bytes,
}

/// Events lent to a sink: a rising range of offsets, as slices of the log.
#[derive(Clone, Default, Debug)]
pub struct EventBatch {
    parts: Vec<BatchPart>,
}

impl EventBatch {
    /// A batch of `parts` in rising order. Between two parts offsets may be missing (damage).
    pub fn new(parts: Vec<BatchPart>) -> EventBatch {
        EventBatch { parts }
    }

    /// A batch of copies of `events`, the first at `first`: for tests and for replays.
    pub fn of_events(first: Offset, time_ms: u64, events: &[Event]) -> EventBatch {
        let mut records = Vec::new();
        for event in events {
            let at = records.len();
            records.extend_from_slice(&[0; 4]);
            event.encode(&mut records);
            let len = (records.len() - at - 4) as u32;
            records[at..at + 4].copy_from_slice(&len.to_le_bytes());
        }
        let count = events.len() as u32;
        EventBatch::new(vec![BatchPart { first, count, time_ms, records: records.into() }])
    }

    /// The number of events.
    pub fn len(&self) -> usize {
        self.parts.iter().map(|part| part.count as usize).sum()
    }

    /// Whether there is no event.
    pub fn is_empty(&self) -> bool {
        self.parts.is_empty()
    }

    /// Bytes of the records.
    pub fn byte_len(&self) -> usize {
        self.parts.iter().map(|part| part.records.len()).sum()
    }

    /// From the first offset to behind the last; empty if there is no event.
    pub fn range(&self) -> OffsetRange {
        match (self.parts.first(), self.parts.last()) {
            (Some(first), Some(last)) => first.first..last.first.plus(last.count.into()),
            _ => Offset(0)..Offset(0),
        }
    }

    /// The parts, for those who write them on as they are.
    pub fn parts(&self) -> &[BatchPart] {
        &self.parts
    }

    /// The events that `keep` wants, at their places, not copied.
    pub fn filter(&self, mut keep: impl FnMut(&LogEvent<'_>) -> bool) -> EventBatch {
        let mut parts: Vec<BatchPart> = Vec::new();
        for part in &self.parts {
            // where a run of wanted records begins, and in which part it is
            let (mut at, mut run) = (0, None);
            for (record, i) in (Records { rest: &part.records }).zip(0u64..) {
                let (from, offset) = (at, part.first.plus(i));
                at += 4 + record.len();
                let event = EventRef::decode(record);
                let event = event.map(|event| LogEvent { offset, time_ms: part.time_ms, event });
                if !event.is_some_and(|event| keep(&event)) {
                    run = None;
                    continue;
                }
                let from = *run.get_or_insert(from);
                if from + 4 + record.len() == at {
                    let (count, records) = (0, Bytes::new());
                    parts.push(BatchPart { first: offset, count, records, ..*part });
                }
                if let Some(last) = parts.last_mut() {
                    last.count += 1;
                    last.records = part.records.slice(from..at);
                }
            }
        }
        EventBatch { parts }
    }

    /// Each event with its place.
    pub fn iter(&self) -> impl Iterator<Item = LogEvent<'_>> {
        self.parts.iter().flat_map(|part| {
            let records = Records { rest: &part.records };
            records.zip(0u64..).filter_map(|(record, i)| {
                let event = EventRef::decode(record)?;
                Some(LogEvent { offset: part.first.plus(i), time_ms: part.time_ms, event })
            })
        })
    }
}

/// An event at its place in the log.
#[derive(Clone, Copy, Debug)]
pub struct LogEvent<'a> {
    /// Its number.
    pub offset: Offset,
    /// When the log took it, ms since 1970.
    pub time_ms: u64,
    /// The event.
    pub event: EventRef<'a>,
}

/// Walks `record*` by the lengths alone. Ends early where a length does not fit.
#[derive(Clone, Debug)]
pub struct Records<'a> {
    rest: &'a [u8],
}

impl<'a> Records<'a> {
    /// The records in `bytes`.
    pub fn new(bytes: &'a [u8]) -> Records<'a> {
        Records { rest: bytes }
    }

    /// What has not been walked.
    pub fn rest(&self) -> &'a [u8] {
        self.rest
    }
}

impl<'a> Iterator for Records<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        let (len, rest) = self.rest.split_first_chunk::<4>()?;
        let (record, rest) = rest.split_at_checked(u32::from_le_bytes(*len) as usize)?;
        self.rest = rest;
        Some(record)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(headers: Vec<(String, String)>, body: Vec<u8>) -> Event {
        Event { headers, body }
    }

    #[test]
    fn event_survives_its_bytes() {
        fn property(headers: Vec<(String, String)>, body: Vec<u8>) -> bool {
            let event = event(headers, body);
            let mut bytes = Vec::new();
            event.encode(&mut bytes);
            EventRef::decode(&bytes).map(|e| e.to_event()) == Some(event)
        }
        quickcheck::quickcheck(property as fn(Vec<(String, String)>, Vec<u8>) -> bool);
    }

    #[test]
    fn any_bytes_decode_without_panic() {
        fn property(bytes: Vec<u8>) -> bool {
            if let Some(event) = EventRef::decode(&bytes) {
                event.headers().count();
                event.header("x");
            }
            Records::new(&bytes).count() <= bytes.len()
        }
        quickcheck::quickcheck(property as fn(Vec<u8>) -> bool);
    }

    #[test]
    fn batch_that_is_filtered_keeps_places_and_order() {
        let events: Vec<_> = "abbcab".chars().map(|c| Event::of_body(c.to_string())).collect();
        let mut batch = EventBatch::of_events(Offset(7), 1, &events);
        batch.parts.extend(EventBatch::of_events(Offset(20), 2, &events).parts);
        let check = |wanted: &str, expected: &[(u64, u64)], parts: usize| {
            let kept = batch.filter(|e| wanted.as_bytes().contains(&e.event.body()[0]));
            let seen: Vec<_> = kept.iter().map(|e| (e.offset.0, e.time_ms)).collect();
            assert_eq!((&seen[..], kept.len(), kept.parts.len()), (expected, seen.len(), parts));
        };
        check("b", &[(8, 1), (9, 1), (12, 1), (21, 2), (22, 2), (25, 2)], 4);
        check("c", &[(10, 1), (23, 2)], 2);
        check("x", &[], 0);
        let all: Vec<_> = (7..13).map(|o| (o, 1)).chain((20..26).map(|o| (o, 2))).collect();
        check("abc", &all, 2);
        assert!(batch.filter(|_| false).is_empty());
    }

    #[test]
    fn batch_numbers_its_events() {
        let events = [Event::of_body("a"), Event::of_body("b")];
        let batch = EventBatch::of_events(Offset(7), 1, &events);
        let seen: Vec<_> = batch.iter().map(|e| (e.offset.0, e.event.body())).collect();
        assert_eq!(seen, [(7, &b"a"[..]), (8, b"b")]);
        assert_eq!(batch.range(), Offset(7)..Offset(9));
    }
}
