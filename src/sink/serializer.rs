//! Serializers by name: what `serializer` (hdfs) and `sink.serializer` (file_roll) may say, and
//! the keys that go with it.

use crate::codec::EventSerializer;
use crate::codec::avro::{AvroCodec, AvroEventSerializer};
use crate::codec::text::TextSerializer;
use crate::config::{Key, Kind, Problem, Settings, did_you_mean};

const PACKAGE: &str = "org.apache.flume.serialization.";
const TYPES: [(&str, &str); 3] = [
    ("text", "BodyTextEventSerializer"),
    ("header_and_text", "HeaderAndBodyTextEventSerializer"),
    ("avro_event", "FlumeEventAvroEventSerializer"),
];

const NEWLINE: &str = "text, header_and_text: whether a line feed stands behind each event.";
const SYNC_BYTES: &str = "avro_event: most bytes of a block before it is written.";
const COMPRESSION: &str = "avro_event: how blocks are compressed.";
const CODECS: Kind = Kind::Choice(&["null", "deflate", "snappy", "bzip2"]);
const BLOCK: Kind = Kind::Int { min: 32, max: 1 << 30 };
const WHICH: &str =
    "text, header_and_text, avro_event, or the class of one: how events are written.";

/// The keys of a sink that calls its serializer `serializer`.
pub const KEYS: [Key; 4] = [
    Key::new("serializer", Kind::Text, "TEXT", "", WHICH),
    Key::new("serializer.appendNewline", Kind::Bool, "true", "", NEWLINE),
    Key::new("serializer.syncIntervalBytes", BLOCK, "2048000", "bytes", SYNC_BYTES),
    Key::new("serializer.compressionCodec", CODECS, "null", "", COMPRESSION),
];

/// The keys of a sink that calls it `sink.serializer`.
pub const SINK_KEYS: [Key; 4] = [
    Key::new("sink.serializer", Kind::Text, "TEXT", "", WHICH),
    Key::new("sink.serializer.appendNewline", Kind::Bool, "true", "", NEWLINE),
    Key::new("sink.serializer.syncIntervalBytes", BLOCK, "2048000", "bytes", SYNC_BYTES),
    Key::new("sink.serializer.compressionCodec", CODECS, "null", "", COMPRESSION),
];

/// Makes the serializer of each new file.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum SerializerFactory {
    /// `text` and `header_and_text`.
    Text(TextSerializer),
    /// `avro_event`.
    Avro {
        /// Of the blocks.
        codec: AvroCodec,
        /// Most bytes of a block.
        block_bytes: usize,
    },
}

impl SerializerFactory {
    /// A serializer for one file.
    pub fn make(&self) -> Box<dyn EventSerializer> {
        match *self {
            SerializerFactory::Text(text) => Box::new(text),
            SerializerFactory::Avro { codec, block_bytes } => {
                Box::new(AvroEventSerializer::new(codec, block_bytes))
            }
        }
    }
}

/// The serializer that the key `name` (`serializer` or `sink.serializer`) asks for.
///
/// # Errors
/// It is none of them, or a key of it has a wrong value.
pub fn serializer_of(settings: &Settings, name: &str) -> Result<SerializerFactory, Problem> {
    let text = settings.text(name)?;
    let key = |sub: &str| format!("{name}.{sub}");
    match type_of(text) {
        Some("avro_event") => Ok(SerializerFactory::Avro {
            codec: match settings.choice(&key("compressionCodec"))? {
                "deflate" => AvroCodec::Deflate,
                "snappy" => AvroCodec::Snappy,
                "bzip2" => AvroCodec::Bzip2,
                _ => AvroCodec::Null,
            },
            block_bytes: settings.count(&key("syncIntervalBytes"))? as usize,
        }),
        Some(of_text) => Ok(SerializerFactory::Text(TextSerializer {
            headers: of_text == "header_and_text",
            newline: settings.bool(&key("appendNewline"))?,
        })),
        None => {
            let hint = did_you_mean(text, TYPES.iter().map(|(alias, _)| *alias));
            let known = TYPES.map(|(alias, _)| alias).join(", ");
            let message = format!("no serializer '{text}'{hint}; there is: {known}");
            Err(settings.problem(name, message))
        }
    }
}

/// The alias that an alias in any case, or Flume's class with or without `$Builder`, stands for.
fn type_of(text: &str) -> Option<&'static str> {
    let class = text.strip_prefix(PACKAGE).map(|class| class.trim_end_matches("$Builder"));
    let found = TYPES.iter().find(|(alias, name)| {
        alias.eq_ignore_ascii_case(text) || class.is_some_and(|c| c == *name)
    });
    found.map(|(alias, _)| *alias)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(pairs: &[(&str, &str)]) -> Result<SerializerFactory, Problem> {
        static DECLARED: [Key; 4] = KEYS;
        serializer_of(&Settings::of_pairs("a.sinks.k", &DECLARED, pairs), "serializer")
    }

    #[test]
    fn serializers_have_flumes_names_and_classes() {
        let text = |headers, newline| SerializerFactory::Text(TextSerializer { headers, newline });
        assert_eq!(of(&[]), Ok(text(false, true)));
        let class = "org.apache.flume.serialization.HeaderAndBodyTextEventSerializer$Builder";
        let off = ("serializer.appendNewline", "false");
        assert_eq!(of(&[("serializer", class), off]), Ok(text(true, false)));
        let avro = SerializerFactory::Avro { codec: AvroCodec::Snappy, block_bytes: 2_048_000 };
        let snappy = ("serializer.compressionCodec", "snappy");
        assert_eq!(of(&[("serializer", "AVRO_EVENT"), snappy]), Ok(avro));
    }

    #[test]
    fn unknown_serializer_is_named_with_those_there_are() {
        assert_eq!(
            of(&[("serializer", "avro_evnt")]).unwrap_err().message,
            "a.sinks.k.serializer: no serializer 'avro_evnt'; did you mean 'avro_event'?; \
             there is: text, header_and_text, avro_event"
        );
    }
}
