//! Sink `logger`: a log line for each event, to see what arrives. Nothing in an event can begin a
//! line of its own, or reach the terminal: what is not printable is escaped.

use super::{Outcome, Sink, SinkEnv, SinkError};
use crate::config::{Component, Key, Kind, Problem, Role, Settings};
use crate::event::{EventBatch, EventRef};
use async_trait::async_trait;
use std::fmt::Write;

/// The declaration of the sink.
pub static COMPONENT: Component = Component {
    role: Role::Sink,
    alias: "logger",
    class: "org.apache.flume.sink.LoggerSink",
    doc: "Writes each event to the log, at level info.",
    keys: &[Key::new(
        "maxBytesToLog",
        Kind::COUNT,
        "16",
        "bytes",
        "The part of a body that is shown.",
    )],
};

/// Events of a lease: lines, not speed, are what it is for.
const BATCH_EVENTS: u32 = 100;

/// The sink `logger`.
pub struct LoggerSink {
    body_bytes_max: usize,
}

/// A sink of these settings.
///
/// # Errors
/// A value can't be used.
pub fn build(settings: &Settings, _: &SinkEnv) -> Result<Box<dyn Sink>, Problem> {
    let body_bytes_max = usize::try_from(settings.count("maxBytesToLog")?).unwrap_or(usize::MAX);
    Ok(Box::new(LoggerSink { body_bytes_max }))
}

#[async_trait]
impl Sink for LoggerSink {
    async fn open(&mut self) -> Result<(), SinkError> {
        Ok(())
    }

    async fn deliver(&mut self, batch: &EventBatch) -> Outcome {
        for event in batch.iter() {
            tracing::info!("{}", line(&event.event, self.body_bytes_max));
        }
        Outcome::Delivered
    }

    async fn close(&mut self) -> Result<(), SinkError> {
        Ok(())
    }

    fn batch_events_max(&self) -> u32 {
        BATCH_EVENTS
    }
}

/// Flume's line: `Event: { headers:{k=v} body: 48 65 6C 6C 6F    Hello }`; the hexadecimal pairs
/// of each 16 bytes are padded to one width.
fn line(event: &EventRef<'_>, body_bytes_max: usize) -> String {
    let mut headers = Vec::new();
    crate::codec::text::put_headers(event, &mut headers);
    let headers = String::from_utf8_lossy(&headers);
    let mut line = String::from("Event: { headers:");
    for character in headers.chars() {
        match is_unsafe(character) {
            true => line.extend(character.escape_default()),
            false => line.push(character),
        }
    }
    line.push_str(" body:");
    let body = event.body();
    for row in body[..body.len().min(body_bytes_max)].chunks(16) {
        for byte in row {
            let _ = write!(line, " {byte:02X}"); // a string takes everything
        }
        line.push_str(&"   ".repeat(16 - row.len()));
        line.push(' ');
        let shown = |byte: &u8| if (0x20..0x7f).contains(byte) { *byte as char } else { '.' };
        line.extend(row.iter().map(shown));
    }
    line.push_str(" }");
    line
}

/// Whether a character could end a line, command a terminal, or turn the direction of the text.
fn is_unsafe(character: char) -> bool {
    matches!(character, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}')
        || matches!(character, '\u{2066}'..='\u{2069}')
        || character.is_control()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::Event;

    fn check(headers: &[(&str, &str)], body: &[u8], max: usize, expect: &str) {
        let headers = headers.iter().map(|(k, v)| (k.to_string(), v.to_string())).collect();
        let mut record = Vec::new();
        Event { headers, body: body.to_vec() }.encode(&mut record);
        assert_eq!(line(&EventRef::decode(&record).unwrap(), max), expect);
    }

    #[test]
    fn line_has_headers_and_the_start_of_the_body_in_hex_and_text() {
        let pad = "   ".repeat(11);
        let expect = format!("Event: {{ headers:{{k=v}} body: 48 65 6C 6C 6F{pad} Hello }}");
        check(&[("k", "v")], b"Hello", 16, &expect);
        let expect = format!("Event: {{ headers:{{}} body: 48 65{} He }}", "   ".repeat(14));
        check(&[], b"Hello", 2, &expect);
        check(&[], b"", 16, "Event: { headers:{} body: }");
        check(&[], b"Hello", 0, "Event: { headers:{} body: }");
    }

    #[test]
    fn event_cannot_write_a_line_or_a_terminal_code_of_its_own() {
        let pad = "   ".repeat(14);
        let expect = format!("Event: {{ headers:{{a=\\nERROR\\u{{1b}}[2J}} body: 0A 1B{pad} .. }}");
        check(&[("a", "\nERROR\x1b[2J")], b"\n\x1b", 16, &expect);
        let expect = "Event: { headers:{\\u{202e}n=é\\u{2028}\\u{85}} body: }";
        check(&[("\u{202e}n", "é\u{2028}\u{85}")], b"", 16, expect);
    }
}
