//! `AvroFlumeEvent` {headers: map of string, body: bytes}: the hot path of every Avro source.
//!
//! Decoded directly, without a tree of values between the frame and the log: headers are borrowed
//! as `&str` into one reused list, the body is a slice of the frame. Measured by `cargo bench
//! --bench avro_decode` (1000 events of 512 bytes, 2 headers, into the log's buffer): 54 ns an
//! event, where apache-avro's generic values take 335 ns.
//!
//! Flume's client writes buffers of 8 KiB, so one event in fifteen crosses a border. Only those are
//! copied before they are read; without any border an event takes 45 ns. (Moving a frame's buffers
//! together first took 50 ns in the bench, where all lies in the cache, but copies every body
//! twice; frames of small buffers are read so.)

use super::reader::{DecodeError, Flaw, Reader};
use super::{put_bytes, put_long};
use crate::event::{Event, LogEvent};

/// Headers that one event may have; each costs 32 bytes while it is decoded.
const HEADERS_MAX: usize = 1 << 16;
/// What is copied at first of an event that crosses a border between buffers.
const WINDOW_BYTES: usize = 1024;

/// A slice being read; `Err` is the flaw at `at`.
struct Slice<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Slice<'a> {
    #[inline]
    fn long(&mut self) -> Result<i64, Flaw> {
        let mut value = 0u64;
        for shift in (0..64).step_by(7) {
            let byte = *self.bytes.get(self.at).ok_or(Flaw::Short)?;
            self.at += 1;
            value |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Ok((value >> 1) as i64 ^ -((value & 1) as i64));
            }
        }
        Err(Flaw::Number)
    }

    #[inline]
    fn bytes(&mut self) -> Result<&'a [u8], Flaw> {
        let length = self.long()?;
        let count = usize::try_from(length).map_err(|_| Flaw::Length(length))?;
        let bytes = self.bytes.get(self.at..).and_then(|rest| rest.get(..count));
        let bytes = bytes.ok_or(Flaw::Short)?;
        self.at += count;
        Ok(bytes)
    }

    #[inline]
    fn text(&mut self) -> Result<&'a str, Flaw> {
        let at = self.at;
        std::str::from_utf8(self.bytes()?).map_err(|_| {
            self.at = at;
            Flaw::Text
        })
    }

    /// Reads an event; its headers replace those in `headers`, the body is returned.
    #[inline]
    fn event(&mut self, headers: &mut Vec<(&'a str, &'a str)>) -> Result<&'a [u8], Flaw> {
        headers.clear();
        loop {
            let count = self.long()?;
            if count == 0 {
                return self.bytes();
            }
            if count < 0 {
                self.long()?;
            }
            for _ in 0..count.unsigned_abs() {
                if headers.len() == HEADERS_MAX {
                    return Err(Flaw::Headers(HEADERS_MAX));
                }
                headers.push((self.text()?, self.text()?));
            }
        }
    }
}

/// Reads the one event of `append` and hands it to `push`.
///
/// # Errors
/// The message is malformed.
pub fn decode_event(
    reader: &mut Reader<'_>,
    push: &mut impl FnMut(&[(&str, &str)], &[u8]),
) -> Result<(), DecodeError> {
    one_event(reader, &mut Vec::new(), push)?;
    reader.end()
}

/// Reads the array of events of `appendBatch` and hands each to `push` in its order; returns their
/// number. At most `events_max` are taken.
///
/// # Errors
/// The message is malformed, or has too many events: drop what was pushed.
pub fn decode_events(
    reader: &mut Reader<'_>,
    events_max: usize,
    push: &mut impl FnMut(&[(&str, &str)], &[u8]),
) -> Result<usize, DecodeError> {
    let (mut events, mut headers) = (0, Vec::new());
    loop {
        let count = reader.block()?;
        if count == 0 {
            reader.end()?;
            return Ok(events);
        }
        if count > (events_max - events) as u64 {
            return Err(reader.error(Flaw::Events(events_max)));
        }
        for _ in 0..count {
            one_event(reader, &mut headers, push)?;
        }
        events += count as usize;
    }
}

#[inline]
fn one_event<'a>(
    reader: &mut Reader<'a>,
    headers: &mut Vec<(&'a str, &'a str)>,
    push: &mut impl FnMut(&[(&str, &str)], &[u8]),
) -> Result<(), DecodeError> {
    let mut slice = Slice { bytes: reader.chunk(), at: 0 };
    match slice.event(headers) {
        Ok(body) => {
            push(headers, body);
            reader.skip(slice.at)
        }
        Err(Flaw::Short) if reader.remaining() > slice.bytes.len() => border_event(reader, push),
        Err(flaw) => Err(flaw_at(reader, slice.at, flaw)),
    }
}

/// Reads an event that crosses a border: a copy of what follows, made longer until the event fits.
#[cold]
fn border_event(
    reader: &mut Reader<'_>,
    push: &mut impl FnMut(&[(&str, &str)], &[u8]),
) -> Result<(), DecodeError> {
    let (mut copy, mut window) = (Vec::new(), WINDOW_BYTES);
    loop {
        copy.clear();
        reader.peek(window, &mut copy);
        let mut headers = Vec::new();
        let mut slice = Slice { bytes: &copy, at: 0 };
        match slice.event(&mut headers) {
            Ok(body) => {
                push(&headers, body);
                return reader.skip(slice.at);
            }
            Err(Flaw::Short) if copy.len() < reader.remaining() => window *= 2,
            Err(flaw) => return Err(flaw_at(reader, slice.at, flaw)),
        }
    }
}

fn flaw_at(reader: &Reader<'_>, ahead: usize, flaw: Flaw) -> DecodeError {
    let mut error = reader.error(flaw);
    error.position += ahead;
    error
}

/// Appends the bytes of an event to `out`: the headers in one block.
pub fn encode_event<'a>(
    headers: impl ExactSizeIterator<Item = (&'a str, &'a str)>,
    body: &[u8],
    out: &mut Vec<u8>,
) {
    if headers.len() > 0 {
        put_long(headers.len() as i64, out);
        for (name, value) in headers {
            put_bytes(name.as_bytes(), out);
            put_bytes(value.as_bytes(), out);
        }
    }
    put_long(0, out);
    put_bytes(body, out);
}

/// Appends an array of events to `out`, in one block.
pub fn encode_events(events: &[Event], out: &mut Vec<u8>) {
    if !events.is_empty() {
        put_long(events.len() as i64, out);
    }
    for event in events {
        let headers = event.headers.iter().map(|(name, value)| (name.as_str(), value.as_str()));
        encode_event(headers, &event.body, out);
    }
    put_long(0, out);
}

/// As [`encode_events`], of events that lie in the log; headers that came twice go on twice.
///
/// Takes at most a byte more than the log for each text of a header, and a few for each event.
pub fn encode_lent_events(events: &[LogEvent<'_>], out: &mut Vec<u8>) {
    if !events.is_empty() {
        put_long(events.len() as i64, out);
    }
    let mut headers = Vec::new();
    for LogEvent { event, .. } in events {
        headers.clear();
        headers.extend(event.headers());
        encode_event(headers.iter().copied(), event.body(), out);
    }
    put_long(0, out);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::EventBatch;
    use crate::offset::Offset;
    use apache_avro::Schema;
    use apache_avro::reader::datum::GenericDatumReader;
    use apache_avro::types::Value;
    use apache_avro::writer::datum::GenericDatumWriter;
    use std::collections::{BTreeMap, HashMap};

    const SCHEMA: &str = r#"{"type": "array", "items": {"type": "record", "name": "AvroFlumeEvent",
        "fields": [{"name": "headers", "type": {"type": "map", "values": "string"}},
                   {"name": "body", "type": "bytes"}]}}"#;

    // quickcheck makes long maps of long texts: slow in a debug build, and no better than few
    const RUNS: u64 = 20;

    type Pairs = Vec<(BTreeMap<String, String>, Vec<u8>)>;

    fn events_of(pairs: &Pairs) -> Vec<Event> {
        let event = |(headers, body): &(BTreeMap<String, String>, Vec<u8>)| Event {
            headers: headers.clone().into_iter().collect(),
            body: body.clone(),
        };
        pairs.iter().map(event).collect()
    }

    fn value_of(pairs: &Pairs) -> Value {
        let record = |(headers, body): &(BTreeMap<String, String>, Vec<u8>)| {
            let headers: HashMap<_, _> =
                headers.iter().map(|(k, v)| (k.clone(), Value::String(v.clone()))).collect();
            let fields = [("headers", Value::Map(headers)), ("body", Value::Bytes(body.clone()))];
            Value::Record(fields.map(|(name, value)| (name.to_owned(), value)).into())
        };
        Value::Array(pairs.iter().map(record).collect())
    }

    fn decode(bytes: &[u8], cut: usize, events_max: usize) -> Result<Vec<Event>, DecodeError> {
        let mut events = Vec::new();
        let mut push = |headers: &[(&str, &str)], body: &[u8]| {
            let mut headers: Vec<_> =
                headers.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
            headers.sort();
            events.push(Event { headers, body: body.to_vec() });
        };
        let mut reader = Reader::new(bytes.chunks(cut.max(1)).collect());
        let count = decode_events(&mut reader, events_max, &mut push)?;
        assert_eq!(count, events.len());
        Ok(events)
    }

    #[test]
    fn events_that_apache_avro_writes_are_read_however_they_are_cut() {
        fn property(pairs: Pairs, cut: u8) -> bool {
            let schema = Schema::parse_str(SCHEMA).unwrap();
            let writer = GenericDatumWriter::builder(&schema).build().unwrap();
            let bytes = writer.write_value_to_vec(value_of(&pairs)).unwrap();
            [cut.into(), 1, bytes.len()]
                .into_iter()
                .all(|cut| decode(&bytes, cut, 1000) == Ok(events_of(&pairs)))
        }
        quickcheck::QuickCheck::new().tests(RUNS).quickcheck(property as fn(Pairs, u8) -> bool);
    }

    #[test]
    fn events_that_levada_writes_are_read_by_apache_avro() {
        fn property(pairs: Pairs) -> bool {
            let schema = Schema::parse_str(SCHEMA).unwrap();
            let mut bytes = Vec::new();
            encode_events(&events_of(&pairs), &mut bytes);
            let reader = GenericDatumReader::builder(&schema).build().unwrap();
            reader.read_value(&mut &bytes[..]).unwrap() == value_of(&pairs)
        }
        quickcheck::QuickCheck::new().tests(RUNS).quickcheck(property as fn(Pairs) -> bool);
    }

    #[test]
    fn events_of_the_log_are_written_as_any_others() {
        type Parts = (Vec<(String, String)>, Vec<u8>);
        fn property(events: Vec<Parts>) -> bool {
            let events = events.into_iter().map(|(headers, body)| Event { headers, body });
            let events: Vec<_> = events.collect();
            let batch = EventBatch::of_events(Offset(3), 0, &events);
            let lent: Vec<_> = batch.iter().collect();
            let [mut expected, mut seen] = [Vec::new(), Vec::new()];
            encode_events(&events, &mut expected);
            encode_lent_events(&lent, &mut seen);
            let texts: usize = events.iter().map(|event| 2 * event.headers.len()).sum();
            let lens: usize = lent.iter().map(|lent| lent.event.byte_len()).sum();
            assert!(seen.len() <= lens + texts + 6 * events.len() + 11);
            seen == expected
        }
        quickcheck::QuickCheck::new().tests(RUNS).quickcheck(property as fn(Vec<Parts>) -> bool);
    }

    #[test]
    fn any_bytes_decode_without_panic() {
        fn property(bytes: Vec<u8>, cut: u8) -> bool {
            let _ = decode(&bytes, cut.into(), 10);
            let mut reader = Reader::new(vec![&bytes]);
            let _ = decode_event(&mut reader, &mut |_, _| {});
            true
        }
        quickcheck::quickcheck(property as fn(Vec<u8>, u8) -> bool);
    }

    #[test]
    fn blocks_with_a_negative_count_carry_their_bytes_and_are_read() {
        // two blocks of one event each, the first with its size; its map as well
        let bytes =
            [1, 22, 1, 8, 2, b'k', 2, b'v', 0, 2, b'x', 2, 0, 4, b'y', b'z', 0].map(|b: u8| b);
        let expected = Event { headers: vec![("k".into(), "v".into())], body: b"x".to_vec() };
        assert_eq!(decode(&bytes, 99, 9), Ok(vec![expected, Event::of_body("yz")]));
        let least = [1, 0, 1, 0].map(|b: u8| b);
        assert_eq!(decode(&least, 9, 9).unwrap_err().flaw, Flaw::Short);
    }

    #[test]
    fn malformed_batches_are_refused_with_their_place() {
        let check = |bytes: &[u8], position: usize, flaw: Flaw| {
            assert_eq!(decode(bytes, 99, 3), Err(DecodeError { position, flaw }));
        };
        check(&[], 0, Flaw::Short);
        check(&[2, 0, 4, 1], 3, Flaw::Short);
        check(&[2, 0, 3], 3, Flaw::Length(-2));
        check(&[2, 2, 2, 0xff, 0, 0, 0, 0], 2, Flaw::Text);
        check(&[8, 0, 0, 0, 0, 0, 0, 0, 0, 0], 1, Flaw::Events(3));
        check(&[0, 9], 1, Flaw::Trailing(1));
        let mut headers = vec![2];
        put_long(HEADERS_MAX as i64 + 1, &mut headers);
        headers.resize(headers.len() + 2 * HEADERS_MAX, 0);
        check(&headers, 4 + 2 * HEADERS_MAX, Flaw::Headers(HEADERS_MAX));
    }

    #[test]
    fn event_larger_than_the_window_is_read_across_many_borders() {
        let events = [Event::of_body(vec![7; 50_000]), Event::of_body("after")];
        let mut bytes = Vec::new();
        encode_events(&events, &mut bytes);
        assert_eq!(decode(&bytes, 100, 9).unwrap(), events);
    }
}
