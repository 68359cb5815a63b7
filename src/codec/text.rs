//! Text files: the body of each event, with its headers before it if asked for.
//!
//! The bodies are written as they are: one that has a line end in it makes two lines (as in Flume).

use super::{CodecError, EventSerializer};
use crate::event::EventRef;

/// Flume's `text` and `header_and_text`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct TextSerializer {
    /// Whether `{k1=v1, k2=v2} ` stands before each body.
    pub headers: bool,
    /// Whether a line feed stands behind each body.
    pub newline: bool,
}

impl EventSerializer for TextSerializer {
    fn begin(&mut self, _: &mut Vec<u8>) -> Result<(), CodecError> {
        Ok(())
    }

    fn event(&mut self, event: EventRef<'_>, _: u64, out: &mut Vec<u8>) -> Result<(), CodecError> {
        if self.headers {
            put_headers(&event, out);
            out.push(b' ');
        }
        out.extend_from_slice(event.body());
        if self.newline {
            out.push(b'\n');
        }
        Ok(())
    }

    fn flush(&mut self, _: &mut Vec<u8>) -> Result<(), CodecError> {
        Ok(())
    }

    fn end(&mut self, _: &mut Vec<u8>) -> Result<(), CodecError> {
        Ok(())
    }
}

/// Appends the headers as Java writes a map: `{k1=v1, k2=v2}`, in the order of arrival.
pub fn put_headers(event: &EventRef<'_>, out: &mut Vec<u8>) {
    out.push(b'{');
    for (i, (name, value)) in event.header_map().iter().enumerate() {
        if i > 0 {
            out.extend_from_slice(b", ");
        }
        out.extend_from_slice(name.as_bytes());
        out.push(b'=');
        out.extend_from_slice(value.as_bytes());
    }
    out.push(b'}');
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::Event;

    fn check(serializer: TextSerializer, headers: &[(&str, &str)], expect: &str) {
        let mut serializer = serializer;
        let headers = headers.iter().map(|(k, v)| (k.to_string(), v.to_string())).collect();
        let (mut record, mut out) = (Vec::new(), Vec::new());
        Event { headers, body: b"body".to_vec() }.encode(&mut record);
        serializer.begin(&mut out).unwrap();
        for _ in 0..2 {
            serializer.event(EventRef::decode(&record).unwrap(), 7, &mut out).unwrap();
        }
        serializer.end(&mut out).unwrap();
        assert_eq!(String::from_utf8(out).unwrap(), expect);
    }

    #[test]
    fn text_is_the_bodies_each_with_a_line_end_unless_that_is_off() {
        let headers = [("a", "1")];
        check(TextSerializer { headers: false, newline: true }, &headers, "body\nbody\n");
        check(TextSerializer { headers: false, newline: false }, &headers, "bodybody");
    }

    #[test]
    fn header_and_text_puts_the_headers_as_java_prints_a_map() {
        let serializer = TextSerializer { headers: true, newline: true };
        check(serializer, &[], "{} body\n{} body\n");
        let line = "{a=3, b=2} body\n";
        check(serializer, &[("a", "1"), ("b", "2"), ("a", "3")], &line.repeat(2));
    }
}
