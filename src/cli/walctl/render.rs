//! How values look: JSON for programs, lines for people. Bytes of events never reach a terminal
//! as control characters.

use crate::channel::dead::DeadLetter;
use crate::inspect::EventRecord;
use serde::Serialize;
use std::fmt::Write;

pub(super) mod table;

/// One JSON document, as people can read it too.
pub(super) fn json_text(value: &impl Serialize) -> String {
    let text = serde_json::to_string_pretty(value).expect("plain values have a JSON form");
    text + "\n"
}

/// An event as one JSON object on one line. Of a header that comes twice the later value counts,
/// as in Flume's map.
pub(super) fn json_event(event: &EventRecord<'_>) -> String {
    let mut object = serde_json::Map::new();
    object.insert("offset".into(), event.offset.into());
    object.insert("time_ms".into(), event.time_ms.into());
    let headers = event.event.iter().flat_map(|event| event.headers());
    let headers = headers.map(|(key, value)| (key.to_owned(), value.into())).collect();
    object.insert("headers".into(), serde_json::Value::Object(headers));
    json_body(&mut object, event.event.map_or(event.record, |event| event.body()));
    if event.event.is_none() {
        object.insert("raw".into(), true.into());
    }
    serde_json::Value::Object(object).to_string()
}

fn json_body(object: &mut serde_json::Map<String, serde_json::Value>, body: &[u8]) {
    match std::str::from_utf8(body) {
        Ok(text) => object.insert("body".into(), text.into()),
        Err(_) => object.insert("body_base64".into(), base64(body).into()),
    };
}

/// A dead letter as one JSON object on one line, its event as [`json_event`] has it.
pub(super) fn json_letter(dead: &DeadLetter) -> String {
    let letter = &dead.letter;
    let headers = letter.event.headers.iter().map(|(key, value)| (key.clone(), value[..].into()));
    let mut object = serde_json::Map::new();
    for (key, value) in [
        ("dead_offset", dead.offset.0.into()),
        ("origin_channel", letter.channel[..].into()),
        ("origin_offset", letter.range.start.0.into()),
        ("group", letter.group[..].into()),
        ("sink", letter.sink[..].into()),
        ("cause", letter.cause[..].into()),
        ("reason", letter.reason[..].into()),
        ("attempts", letter.attempts.into()),
        ("redrives", letter.redrives.into()),
        ("appended_ms", letter.appended_ms.into()),
        ("time_ms", letter.time_ms.into()),
        ("headers", serde_json::Value::Object(headers.collect())),
    ] {
        object.insert(key.into(), value);
    }
    json_body(&mut object, &letter.event.body);
    serde_json::Value::Object(object).to_string()
}

/// RFC 4648, with padding.
fn base64(bytes: &[u8]) -> String {
    use base64::Engine;
    base64::engine::general_purpose::STANDARD.encode(bytes)
}

/// Text with everything escaped that could move a cursor, change a terminal or hide what is there:
/// control characters, marks of direction, bytes that are no UTF-8.
pub(super) fn escape(bytes: &[u8]) -> String {
    let mut out = String::with_capacity(bytes.len());
    for chunk in bytes.utf8_chunks() {
        for c in chunk.valid().chars() {
            match c {
                '\\' => out.push_str("\\\\"),
                '\n' => out.push_str("\\n"),
                '\r' => out.push_str("\\r"),
                '\t' => out.push_str("\\t"),
                '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}' => {
                    out.extend(c.escape_unicode());
                }
                c if c.is_control() && c.is_ascii() => {
                    write!(out, "\\x{:02x}", c as u32).expect("a string takes everything");
                }
                c if c.is_control() => out.extend(c.escape_unicode()),
                c => out.push(c),
            }
        }
        for byte in chunk.invalid() {
            write!(out, "\\x{byte:02x}").expect("a string takes everything");
        }
    }
    out
}

/// A time as RFC 3339 in UTC; `-` for none.
pub(super) fn time(time_ms: u64) -> String {
    let time = i64::try_from(time_ms).ok().filter(|ms| *ms > 0);
    let time = time.and_then(|ms| jiff::Timestamp::from_millisecond(ms).ok());
    time.map_or("-".to_owned(), |time| format!("{time:.3}"))
}

/// Bytes with a binary unit.
pub(super) fn bytes(count: u64) -> String {
    let units = ["B", "KiB", "MiB", "GiB", "TiB"];
    let mut size = count as f64;
    let mut unit = 0;
    while size >= 1024.0 && unit + 1 < units.len() {
        size /= 1024.0;
        unit += 1;
    }
    if unit == 0 { format!("{count} B") } else { format!("{size:.1} {}", units[unit]) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escaped_text_holds_nothing_that_a_terminal_obeys() {
        let check = |given: &[u8], expected: &str| assert_eq!(escape(given), expected);
        check(b"plain \xc3\xa4 text", "plain ä text");
        check(b"\x1b[2J\x07\x7f\r\n\t", "\\x1b[2J\\x07\\x7f\\r\\n\\t");
        check(b"a\\n", "a\\\\n");
        check(&[0xff, b'x', 0xc3], "\\xffx\\xc3");
        check("\u{9b}1m".as_bytes(), "\\u{9b}1m");
        check("\u{202e}".as_bytes(), "\\u{202e}");
    }

    #[test]
    fn escaped_text_of_any_bytes_is_printable() {
        fn property(bytes: Vec<u8>) -> bool {
            !escape(&bytes).chars().any(char::is_control)
        }
        quickcheck::quickcheck(property as fn(Vec<u8>) -> bool);
    }

    #[test]
    fn numbers_are_written_for_people() {
        assert_eq!(time(0), "-");
        assert_eq!(time(1), "1970-01-01T00:00:00.001Z");
        assert_eq!(time(u64::MAX), "-");
        assert_eq!(bytes(1023), "1023 B");
        assert_eq!(bytes(1 << 20), "1.0 MiB");
    }
}
