//! Hadoop's SequenceFile, uncompressed: what Flume's HDFS sink writes unless told otherwise.
//!
//! ```text
//! file   := "SEQ" 6 | key class | value class | 0 (compressed) | 0 (in blocks) | 0 i32 (metadata) |
//!           sync [u8; 16] | (escape? record)*                            integers big-endian
//! record := length i32 (of key and value) | 8 i32 (of the key) | key i64 | value
//! escape := -1 i32 | sync         once some 2000 bytes have gone by, so that a reader finds its way
//! value  := length i32 | bytes    (BytesWritable)   or   length vint | bytes   (Text)
//! ```
//! The key (a LongWritable) is the event's header `timestamp`; without one, or with one that is no
//! number, it is the time at which the log took the event. Headers are not written, as in Flume.
//! A file may end behind any record. The sync marker must differ from file to file: the caller
//! gives it, for this module has no randomness of its own.

use super::{CodecError, EventSerializer};
use crate::event::EventRef;

/// Bytes between two sync escapes, as Hadoop 2 (and so Flume 1.11) has them.
const SYNC_INTERVAL: u64 = 2000;
const SYNC_ESCAPE: i32 = -1;
const KEY_CLASS: &str = "org.apache.hadoop.io.LongWritable";
const KEY_LEN: u32 = 8;
/// The longest body: its record's length must fit an `i32`.
const BODY_MAX: usize = i32::MAX as usize - 64;

/// What a record's value is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ValueClass {
    /// `org.apache.hadoop.io.BytesWritable`
    Writable,
    /// `org.apache.hadoop.io.Text`; the body's bytes as they are, UTF-8 or not.
    Text,
}

impl ValueClass {
    fn name(self) -> &'static str {
        match self {
            ValueClass::Writable => "org.apache.hadoop.io.BytesWritable",
            ValueClass::Text => "org.apache.hadoop.io.Text",
        }
    }
}

/// Writes one SequenceFile.
#[derive(Clone, Debug)]
pub struct SequenceFile {
    value: ValueClass,
    sync: [u8; 16],
    /// Bytes of the file so far.
    position: u64,
    /// Where the last sync escape ended.
    last_sync: u64,
}

impl SequenceFile {
    /// A file of such values, with 16 random bytes as its sync marker.
    pub fn new(value: ValueClass, sync: [u8; 16]) -> SequenceFile {
        SequenceFile { value, sync, position: 0, last_sync: 0 }
    }

    fn put_value(&self, body: &[u8], out: &mut Vec<u8>) {
        match self.value {
            ValueClass::Writable => out.extend_from_slice(&(body.len() as u32).to_be_bytes()),
            ValueClass::Text => put_vint(body.len() as u32, out),
        }
        out.extend_from_slice(body);
    }
}

impl EventSerializer for SequenceFile {
    fn begin(&mut self, out: &mut Vec<u8>) -> Result<(), CodecError> {
        let at = out.len();
        out.extend_from_slice(b"SEQ\x06");
        for class in [KEY_CLASS, self.value.name()] {
            put_vint(class.len() as u32, out);
            out.extend_from_slice(class.as_bytes());
        }
        out.extend_from_slice(&[0; 2 + 4]);
        out.extend_from_slice(&self.sync);
        self.position += (out.len() - at) as u64;
        Ok(())
    }

    fn event(
        &mut self,
        event: EventRef<'_>,
        time_ms: u64,
        out: &mut Vec<u8>,
    ) -> Result<(), CodecError> {
        let body = event.body();
        if body.len() > BODY_MAX {
            let len = body.len();
            return Err(CodecError(format!("a body of {len} bytes does not fit a SequenceFile")));
        }
        let at = out.len();
        if self.position >= self.last_sync + SYNC_INTERVAL {
            out.extend_from_slice(&SYNC_ESCAPE.to_be_bytes());
            out.extend_from_slice(&self.sync);
            self.last_sync = self.position + (out.len() - at) as u64;
        }
        let header = event.header("timestamp").and_then(|text| text.parse::<i64>().ok());
        let key = header.unwrap_or(i64::try_from(time_ms).unwrap_or(i64::MAX));
        let lengths_at = out.len();
        out.extend_from_slice(&[0; 4]);
        out.extend_from_slice(&KEY_LEN.to_be_bytes());
        out.extend_from_slice(&key.to_be_bytes());
        self.put_value(body, out);
        let length = (out.len() - lengths_at - 8) as u32;
        out[lengths_at..lengths_at + 4].copy_from_slice(&length.to_be_bytes());
        self.position += (out.len() - at) as u64;
        Ok(())
    }

    fn flush(&mut self, _: &mut Vec<u8>) -> Result<(), CodecError> {
        Ok(())
    }

    fn end(&mut self, _: &mut Vec<u8>) -> Result<(), CodecError> {
        Ok(())
    }
}

/// Hadoop's vint of a length: one byte up to 127, else minus (111 + count of bytes) and the bytes.
fn put_vint(value: u32, out: &mut Vec<u8>) {
    if value <= 127 {
        out.push(value as u8);
        return;
    }
    let bytes = value.to_be_bytes();
    let skipped = value.leading_zeros() as usize / 8;
    let count = 4 - skipped;
    out.push((-112 - count as i8) as u8);
    out.extend_from_slice(&bytes[skipped..]);
}

/// A reader of what [`SequenceFile`] writes: key and value of each record, up to the first that is
/// torn or no record at all.
///
/// `None` if the file's head is not that of such a file.
pub fn records(file: &[u8]) -> Option<Records<'_>> {
    let mut rest = file.strip_prefix(b"SEQ\x06")?;
    let key_len = take_vint(&mut rest)?;
    let rest = rest.split_at_checked(key_len)?;
    let mut tail = rest.1;
    if rest.0 != KEY_CLASS.as_bytes() {
        return None;
    }
    let value_len = take_vint(&mut tail)?;
    let (class, tail) = tail.split_at_checked(value_len)?;
    let classes = [ValueClass::Writable, ValueClass::Text];
    let value = classes.into_iter().find(|value| value.name().as_bytes() == class)?;
    let tail = tail.strip_prefix(&[0; 6])?;
    let (sync, rest) = tail.split_first_chunk::<16>()?;
    Some(Records { value, sync: *sync, whole: file.len() - rest.len(), rest })
}

/// The records of a file: an iterator over key and value.
#[derive(Clone, Debug)]
pub struct Records<'a> {
    value: ValueClass,
    sync: [u8; 16],
    whole: usize,
    rest: &'a [u8],
}

impl<'a> Records<'a> {
    /// What the values are.
    pub fn value_class(&self) -> ValueClass {
        self.value
    }

    /// The file's sync marker.
    pub fn sync(&self) -> [u8; 16] {
        self.sync
    }

    /// Bytes of the file up to the end of the last record given out.
    pub fn whole_len(&self) -> usize {
        self.whole
    }

    fn record(&self, mut rest: &'a [u8]) -> Option<(i64, &'a [u8], &'a [u8])> {
        let mut length = take_u32(&mut rest)?;
        if length as i32 == SYNC_ESCAPE {
            rest = rest.strip_prefix(&self.sync)?;
            length = take_u32(&mut rest)?;
        }
        if take_u32(&mut rest)? != KEY_LEN {
            return None;
        }
        let (record, rest) = rest.split_at_checked(length as usize)?;
        let (key, mut value) = record.split_first_chunk::<8>()?;
        let len = match self.value {
            ValueClass::Writable => take_u32(&mut value)? as usize,
            ValueClass::Text => take_vint(&mut value)?,
        };
        (len == value.len()).then_some((i64::from_be_bytes(*key), value, rest))
    }
}

impl<'a> Iterator for Records<'a> {
    type Item = (i64, &'a [u8]);

    fn next(&mut self) -> Option<(i64, &'a [u8])> {
        let (key, value, rest) = self.record(self.rest)?;
        self.whole += self.rest.len() - rest.len();
        self.rest = rest;
        Some((key, value))
    }
}

fn take_u32(bytes: &mut &[u8]) -> Option<u32> {
    let (value, rest) = bytes.split_first_chunk::<4>()?;
    *bytes = rest;
    Some(u32::from_be_bytes(*value))
}

/// A vint that is a length: not negative, at most four bytes.
fn take_vint(bytes: &mut &[u8]) -> Option<usize> {
    let (&first, rest) = bytes.split_first()?;
    *bytes = rest;
    match first as i8 {
        small @ 0..=127 => Some(small as usize),
        long @ -116..=-113 => {
            let count = (-112 - i16::from(long)) as usize;
            let (digits, rest) = bytes.split_at_checked(count)?;
            *bytes = rest;
            Some(digits.iter().fold(0, |value, &digit| value << 8 | usize::from(digit)))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::{Event, EventBatch};
    use crate::offset::Offset;

    const SYNC: [u8; 16] = *b"sync-sync-sync-s";

    fn written(value: ValueClass, sync: [u8; 16], events: &[Event]) -> Vec<u8> {
        let (mut file, mut out) = (SequenceFile::new(value, sync), Vec::new());
        file.begin(&mut out).unwrap();
        for event in EventBatch::of_events(Offset(0), 77, events).iter() {
            file.event(event.event, event.time_ms, &mut out).unwrap();
        }
        file.end(&mut out).unwrap();
        out
    }

    /// The events of the golden files, which Hadoop 3.4.1 wrote with a sync interval of 2000.
    fn golden_events() -> Vec<Event> {
        let sizes = [0, 1, 5, 127, 128, 300, 700, 900, 2500, 3, 3];
        let event = |(i, size): (usize, usize)| {
            let body: Vec<u8> = (0..size).map(|j| b'a' + ((i + j) % 26) as u8).collect();
            let time = (1_700_000_000_000 + i as u64).to_string();
            Event { headers: vec![("timestamp".into(), time)], body }
        };
        sizes.into_iter().enumerate().map(event).collect()
    }

    fn check_golden(value: ValueClass, golden: &[u8]) {
        let sync = records(golden).unwrap().sync();
        let ours = written(value, sync, &golden_events());
        let same = ours.iter().zip(golden).take_while(|(a, b)| a == b).count();
        assert!(ours == golden, "{value:?} differs from Hadoop's at byte {same}");
    }

    #[test]
    fn file_is_byte_for_byte_what_hadoop_writes() {
        let golden = include_bytes!("../../tests/data/sequence_file_writable.seq");
        check_golden(ValueClass::Writable, golden);
        check_golden(ValueClass::Text, include_bytes!("../../tests/data/sequence_file_text.seq"));
    }

    #[test]
    fn golden_files_read_back_as_what_hadoop_was_given() {
        let golden = include_bytes!("../../tests/data/sequence_file_text.seq");
        let mut reader = records(golden).unwrap();
        assert_eq!(reader.value_class(), ValueClass::Text);
        for (i, event) in golden_events().iter().enumerate() {
            assert_eq!(reader.next(), Some((1_700_000_000_000 + i as i64, &event.body[..])));
        }
        assert_eq!((reader.next(), reader.whole_len()), (None, golden.len()));
    }

    #[test]
    fn key_is_the_time_of_the_log_without_a_header_that_is_a_number() {
        let header = |value: &str| vec![("timestamp".to_owned(), value.to_owned())];
        let headers = [Vec::new(), header("-5"), header("today")];
        let events = headers.map(|headers| Event { headers, body: b"x".to_vec() });
        let file = written(ValueClass::Writable, SYNC, &events);
        let keys: Vec<_> = records(&file).unwrap().map(|(key, _)| key).collect();
        assert_eq!(keys, [77, -5, 77]);
    }

    #[test]
    fn bodies_of_any_size_survive() {
        fn property(bodies: Vec<Vec<u8>>, text: bool, times: u16) -> bool {
            let value = if text { ValueClass::Text } else { ValueClass::Writable };
            let long = vec![7; usize::from(times) * 3];
            let events: Vec<_> = bodies.into_iter().chain([long]).map(Event::of_body).collect();
            let file = written(value, SYNC, &events);
            let seen: Vec<_> = records(&file).unwrap().map(|(_, body)| body.to_vec()).collect();
            seen == events.into_iter().map(|event| event.body).collect::<Vec<_>>()
        }
        quickcheck::quickcheck(property as fn(Vec<Vec<u8>>, bool, u16) -> bool);
    }

    #[test]
    fn torn_file_reads_up_to_its_last_whole_record() {
        let file = written(ValueClass::Text, SYNC, &golden_events());
        let mut ends = vec![];
        let mut reader = records(&file).unwrap();
        let head = reader.whole_len();
        while reader.next().is_some() {
            ends.push(reader.whole_len());
        }
        for cut in head..file.len() {
            let mut reader = records(&file[..cut]).unwrap();
            let whole = reader.by_ref().count();
            assert_eq!(whole, ends.iter().filter(|&&end| end <= cut).count(), "cut at {cut}");
        }
        assert!((0..head).all(|cut| records(&file[..cut]).is_none()));
    }

    #[test]
    fn any_bytes_are_read_without_panic() {
        fn property(mut bytes: Vec<u8>, value: bool) -> bool {
            let value = if value { ValueClass::Text } else { ValueClass::Writable };
            let mut file = written(value, SYNC, &[]);
            records(&bytes);
            file.append(&mut bytes);
            records(&file).unwrap().count() <= file.len()
        }
        quickcheck::quickcheck(property as fn(Vec<u8>, bool) -> bool);
    }
}
