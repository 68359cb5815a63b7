//! Avro container files of Flume's events (`avro_event`), written by apache-avro.
//!
//! A block ends where the caller flushes, or when it is full; a reader sees every whole block.

use super::{CodecError, EventSerializer};
use crate::event::EventRef;
use apache_avro::types::Value;
use apache_avro::{Bzip2Settings, Codec, DeflateSettings, Schema, Writer};
use std::sync::LazyLock;

/// The schema of Flume's `FlumeEventAvroEventSerializer`.
static SCHEMA: LazyLock<Schema> = LazyLock::new(|| {
    let text = r#"{"type": "record", "name": "Event", "fields": [
        {"name": "headers", "type": {"type": "map", "values": "string"}},
        {"name": "body", "type": "bytes"}]}"#;
    Schema::parse_str(text).expect("a constant of this file, and a schema")
});

/// How blocks are compressed.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub enum AvroCodec {
    /// Not at all.
    #[default]
    Null,
    /// zlib's, without its header.
    Deflate,
    /// Fast.
    Snappy,
    /// Small.
    Bzip2,
}

/// Flume's `avro_event`.
pub struct AvroEventSerializer {
    codec: AvroCodec,
    block_bytes: usize,
    /// `None` before `begin`, and behind `end`.
    writer: Option<Writer<'static, Vec<u8>>>,
}

impl AvroEventSerializer {
    /// A serializer whose blocks end at `block_bytes` (before compression) at the latest.
    pub fn new(codec: AvroCodec, block_bytes: usize) -> AvroEventSerializer {
        AvroEventSerializer { codec, block_bytes, writer: None }
    }

    fn writer(&mut self) -> Result<&mut Writer<'static, Vec<u8>>, CodecError> {
        let absent = || CodecError("avro_event: no file was begun".to_owned());
        self.writer.as_mut().ok_or_else(absent)
    }
}

fn failed(error: apache_avro::Error) -> CodecError {
    CodecError(format!("avro_event: {error}"))
}

impl EventSerializer for AvroEventSerializer {
    fn begin(&mut self, out: &mut Vec<u8>) -> Result<(), CodecError> {
        let codec = match self.codec {
            AvroCodec::Null => Codec::Null,
            AvroCodec::Deflate => Codec::Deflate(DeflateSettings::default()),
            AvroCodec::Snappy => Codec::Snappy,
            AvroCodec::Bzip2 => Codec::Bzip2(Bzip2Settings::default()),
        };
        let writer = Writer::builder().schema(&SCHEMA).writer(Vec::new()).codec(codec);
        self.writer = Some(writer.block_size(self.block_bytes).build().map_err(failed)?);
        // without an event the header would wait; a file must say what it is from the start
        self.flush(out)
    }

    fn event(&mut self, event: EventRef<'_>, _: u64, out: &mut Vec<u8>) -> Result<(), CodecError> {
        let headers = event.headers().map(|(k, v)| (k.to_owned(), Value::String(v.to_owned())));
        let value = Value::Record(vec![
            ("headers".to_owned(), Value::Map(headers.collect())),
            ("body".to_owned(), Value::Bytes(event.body().to_vec())),
        ]);
        let writer = self.writer()?;
        writer.append_value(value).map_err(failed)?;
        out.append(writer.get_mut());
        Ok(())
    }

    fn flush(&mut self, out: &mut Vec<u8>) -> Result<(), CodecError> {
        let writer = self.writer()?;
        writer.flush().map_err(failed)?;
        out.append(writer.get_mut());
        Ok(())
    }

    fn end(&mut self, out: &mut Vec<u8>) -> Result<(), CodecError> {
        self.flush(out)?;
        self.writer = None;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::Event;
    use apache_avro::Reader;

    fn event(number: usize) -> Event {
        let headers = vec![("n".to_owned(), number.to_string())];
        Event { headers, body: vec![number as u8; number] }
    }

    fn write(serializer: &mut AvroEventSerializer, number: usize, out: &mut Vec<u8>) {
        let mut record = Vec::new();
        event(number).encode(&mut record);
        serializer.event(EventRef::decode(&record).unwrap(), 0, out).unwrap();
    }

    fn read(bytes: &[u8]) -> Vec<Event> {
        let event = |value| {
            let Value::Record(fields) = value else { panic!("{value:?} is no record") };
            let [(_, Value::Map(headers)), (_, Value::Bytes(body))] = &fields[..] else {
                panic!("{fields:?} are not an event's")
            };
            let text = |value: &Value| match value {
                Value::String(text) => text.clone(),
                value => panic!("{value:?} is no string"),
            };
            let headers = headers.iter().map(|(k, v)| (k.clone(), text(v))).collect();
            Event { headers, body: body.clone() }
        };
        Reader::new(bytes).unwrap().map(|value| event(value.unwrap())).collect()
    }

    #[test]
    fn container_is_read_by_avro_with_every_codec_and_many_blocks() {
        for codec in [AvroCodec::Null, AvroCodec::Deflate, AvroCodec::Snappy, AvroCodec::Bzip2] {
            let (mut serializer, mut out) = (AvroEventSerializer::new(codec, 300), Vec::new());
            serializer.begin(&mut out).unwrap();
            (0..100).for_each(|number| write(&mut serializer, number, &mut out));
            serializer.end(&mut out).unwrap();
            assert_eq!(read(&out), (0..100).map(event).collect::<Vec<_>>(), "{codec:?}");
        }
    }

    #[test]
    fn flushed_part_of_a_container_is_readable_at_every_flush() {
        let (mut serializer, mut out) =
            (AvroEventSerializer::new(AvroCodec::Null, 999), Vec::new());
        serializer.begin(&mut out).unwrap();
        assert_eq!(read(&out), [], "a file without events is a container too");
        for number in 0..20 {
            write(&mut serializer, number, &mut out);
            serializer.flush(&mut out).unwrap();
            assert_eq!(read(&out).len(), number + 1);
        }
    }

    #[test]
    fn event_before_the_file_is_begun_is_an_error() {
        let mut serializer = AvroEventSerializer::new(AvroCodec::Null, 999);
        let mut record = Vec::new();
        event(1).encode(&mut record);
        let wrong = serializer.event(EventRef::decode(&record).unwrap(), 0, &mut Vec::new());
        assert_eq!(wrong, Err(CodecError("avro_event: no file was begun".to_owned())));
    }
}
