//! The `.properties` grammar of Java, with the line of every value.
//!
//! Bytes that are valid UTF-8 are read as UTF-8, which is what editors write; all others as
//! ISO-8859-1, as Java does. (For ASCII, and so for every `\uXXXX` escape, both are the same.)
//! Keys and values are trimmed, as Flume trims them. No file is opened here: bytes come in.

use super::key::{Origin, Problem, Severity, Value};
use std::collections::BTreeMap;
use std::sync::Arc;

/// Properties by key, of one file or of several merged ones.
#[derive(Clone, Default, PartialEq, Eq, Debug)]
pub struct Properties {
    values: BTreeMap<String, Value>,
}

impl Properties {
    /// Reads the bytes of one file; what is wrong with them is added to `problems`.
    ///
    /// A key that comes twice keeps its last value, with a warning. A malformed escape is an error,
    /// and its line is left out.
    pub fn read(file: &str, bytes: &[u8], problems: &mut Vec<Problem>) -> Properties {
        let file: Arc<str> = file.into();
        let mut properties = Properties::default();
        for (line, text) in logical_lines(&decode(bytes)) {
            let origin = Origin { file: file.clone(), line };
            match split_line(&text) {
                Ok((key, value)) => {
                    let value = Value { text: java_trim(&value).to_owned(), origin };
                    properties.set(java_trim(&key), value, problems);
                }
                Err(message) => problems.push(problem(Severity::Error, origin, message)),
            }
        }
        properties
    }

    /// Takes over every value of `later`; where both have a key, `later` wins.
    pub fn merge(&mut self, later: Properties) {
        self.values.extend(later.values);
    }

    /// The value of a key.
    pub fn get(&self, key: &str) -> Option<&Value> {
        self.values.get(key)
    }

    /// Every key with its value, in the order of the keys.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Value)> {
        self.values.iter().map(|(key, value)| (key.as_str(), value))
    }

    /// Whether there is no value at all.
    pub fn is_empty(&self) -> bool {
        self.values.is_empty()
    }

    /// Every value, to be changed in place.
    pub(super) fn values_mut(&mut self) -> impl Iterator<Item = (&str, &mut Value)> {
        self.values.iter_mut().map(|(key, value)| (key.as_str(), value))
    }

    fn set(&mut self, key: &str, value: Value, problems: &mut Vec<Problem>) {
        let at = value.origin.clone();
        if let Some(earlier) = self.values.insert(key.to_owned(), value) {
            let (first, second) = (earlier.origin.line, at.line);
            let message =
                format!("'{key}' is set in line {first} and again in line {second}: the last wins");
            problems.push(problem(Severity::Warning, at, message));
        }
    }
}

fn problem(severity: Severity, origin: Origin, message: String) -> Problem {
    Problem { severity, origin: Some(origin), component: String::new(), message }
}

fn decode(bytes: &[u8]) -> String {
    match std::str::from_utf8(bytes) {
        Ok(text) => text.strip_prefix('\u{feff}').unwrap_or(text).to_owned(),
        Err(_) => bytes.iter().map(|&byte| char::from(byte)).collect(),
    }
}

/// What Java's `String.trim` takes off: every character up to the blank.
fn java_trim(text: &str) -> &str {
    text.trim_matches(|c| c <= ' ')
}

fn is_blank(c: char) -> bool {
    matches!(c, ' ' | '\t' | '\x0c')
}

/// Lines without comments and empty ones, continuations joined, each with its first line's number.
fn logical_lines(text: &str) -> Vec<(u32, String)> {
    let text = text.replace("\r\n", "\n").replace('\r', "\n");
    let mut natural = (1u32..).zip(text.split('\n'));
    let mut logical = Vec::new();
    while let Some((number, first)) = natural.next() {
        let mut line = first.trim_start_matches(is_blank).to_owned();
        if line.starts_with(['#', '!']) {
            continue;
        }
        while is_continued(&line) {
            line.pop();
            // a backslash at the end of the file stands for nothing
            let Some((_, next)) = natural.next() else { break };
            line.push_str(next.trim_start_matches(is_blank));
        }
        if !line.is_empty() {
            logical.push((number, line));
        }
    }
    logical
}

/// An odd number of backslashes at the end: the last one is not escaped.
fn is_continued(line: &str) -> bool {
    line.chars().rev().take_while(|&c| c == '\\').count() % 2 == 1
}

/// Key and value of a logical line, escapes resolved.
fn split_line(line: &str) -> Result<(String, String), String> {
    let mut escaped = false;
    let end = line.find(|c| {
        let ends = !escaped && (c == '=' || c == ':' || is_blank(c));
        escaped = c == '\\' && !escaped;
        ends
    });
    let (key, rest) = line.split_at(end.unwrap_or(line.len()));
    let rest = rest.trim_start_matches(is_blank);
    let value = rest.strip_prefix(['=', ':']).unwrap_or(rest).trim_start_matches(is_blank);
    let key = unescape(key).map_err(|reason| format!("key '{key}': {reason}"))?;
    let value = unescape(value).map_err(|reason| format!("value of '{key}': {reason}"))?;
    Ok((key, value))
}

fn unescape(text: &str) -> Result<String, &'static str> {
    let mut plain = String::with_capacity(text.len());
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        if c != '\\' {
            plain.push(c);
            continue;
        }
        match chars.next() {
            Some('t') => plain.push('\t'),
            Some('n') => plain.push('\n'),
            Some('r') => plain.push('\r'),
            Some('f') => plain.push('\x0c'),
            Some('u') => plain.push(unicode_escape(&mut chars)?),
            Some(other) => plain.push(other),
            None => {}
        }
    }
    Ok(plain)
}

/// The character of `XXXX`, or of `XXXX\uXXXX` if the first is half of a surrogate pair.
fn unicode_escape(chars: &mut std::str::Chars<'_>) -> Result<char, &'static str> {
    const HALF: &str = "a \\u escape that is half of a surrogate pair: write both halves, \
                        or the character itself";
    let first = hex4(chars)?;
    let mut units = vec![first];
    if (0xd800..0xdc00).contains(&first) {
        let second = chars.as_str().strip_prefix("\\u").ok_or(HALF)?;
        *chars = second.chars();
        units.push(hex4(chars)?);
    }
    match char::decode_utf16(units).next() {
        Some(Ok(c)) => Ok(c),
        _ => Err(HALF),
    }
}

fn hex4(chars: &mut std::str::Chars<'_>) -> Result<u16, &'static str> {
    let mut number = 0;
    for _ in 0..4 {
        let digit = chars.next().and_then(|c| c.to_digit(16));
        let digit = digit.ok_or("malformed \\u escape: four hex digits must follow '\\u'")?;
        number = number << 4 | digit as u16;
    }
    Ok(number)
}

#[cfg(test)]
mod tests {
    use super::*;
    use quickcheck::{Arbitrary, Gen, TestResult};

    fn check(bytes: &[u8], expected: &[(&str, &str, u32)]) {
        let mut problems = Vec::new();
        let properties = Properties::read("t", bytes, &mut problems);
        let seen: Vec<_> =
            properties.iter().map(|(k, v)| (k, v.text.as_str(), v.origin.line)).collect();
        assert_eq!(seen, expected);
        assert_eq!(problems, []);
    }

    fn check_problems(text: &str, expected: &[&str]) {
        let mut problems = Vec::new();
        Properties::read("t", text.as_bytes(), &mut problems);
        let seen: Vec<_> = problems.iter().map(ToString::to_string).collect();
        assert_eq!(seen, expected);
    }

    #[test]
    fn separators_are_equals_colon_and_blank() {
        check(
            b"a=1\nb:2\nc 3\nd \t= 4\ne==5\nf\n",
            &[
                ("a", "1", 1),
                ("b", "2", 2),
                ("c", "3", 3),
                ("d", "4", 4),
                ("e", "=5", 5),
                ("f", "", 6),
            ],
        );
    }

    #[test]
    fn comment_needs_the_start_of_a_line() {
        check(b"  # a=1\n!b=2\nc=3 # 4\nd=5\\\n  #6\n", &[("c", "3 # 4", 3), ("d", "5#6", 4)]);
    }

    #[test]
    fn continued_line_has_the_number_of_its_first() {
        let text = b"a=1,\\\r\n   2,\\\r   3\nb=4\\\\\nc=5\\";
        check(text, &[("a", "1,2,3", 1), ("b", "4\\", 4), ("c", "5", 5)]);
    }

    #[test]
    fn comment_line_does_not_continue() {
        check(b"#a\\\nb=1", &[("b", "1", 2)]);
    }

    #[test]
    fn escapes_are_resolved_in_key_and_value() {
        check(br"a\=b\ c = \t1\u00e9\q\\x ", &[("a=b c", "1éq\\x", 1)]);
        check(br"face=\uD83D\uDE00", &[("face", "😀", 1)]);
    }

    #[test]
    fn file_is_utf8_if_it_can_be_and_latin1_if_not() {
        check("a=é".as_bytes(), &[("a", "é", 1)]);
        check(b"a=\xe9", &[("a", "é", 1)]);
        check(b"\xef\xbb\xbfa=1", &[("a", "1", 1)]);
    }

    #[test]
    fn malformed_escape_names_its_line_and_the_rest_is_read() {
        let bad = "value of 'a': malformed \\u escape: four hex digits must follow '\\u'";
        check_problems(
            "x=1\na=\\u12g4\nb=1\nb=2",
            &[
                &format!("t:2: {bad}"),
                "t:4: 'b' is set in line 3 and again in line 4: the last wins",
            ],
        );
        let half = "half of a surrogate pair: write both halves, or the character itself";
        check_problems("a=\\uD83Dx", &[&format!("t:1: value of 'a': a \\u escape that is {half}")]);
        check_problems("a=\\uDE00", &[&format!("t:1: value of 'a': a \\u escape that is {half}")]);
    }

    #[test]
    fn later_file_wins_key_by_key() {
        let mut problems = Vec::new();
        let mut merged = Properties::read("one", b"a=1\nb=2", &mut problems);
        merged.merge(Properties::read("two", b"b=3\nc=4", &mut problems));
        let seen: Vec<_> =
            merged.iter().map(|(k, v)| format!("{k}={}@{}", v.text, v.origin)).collect();
        assert_eq!(seen, ["a=1@one:1", "b=3@two:1", "c=4@two:2"]);
        assert_eq!(problems, []);
    }

    /// Text of the pieces that matter to the grammar.
    #[derive(Clone, Debug)]
    struct Text(String);

    impl Arbitrary for Text {
        fn arbitrary(g: &mut Gen) -> Text {
            const PIECES: [&str; 22] = [
                "\\", "\\", "\n", "\n", "\r\n", "\r", "#", "!", "=", ":", " ", "\t", "\x0c", "a",
                "key", "\\n", "\\t", "\\:", "\\=", "\\ ", "\\u00e9", "\\u20AC",
            ];
            let piece = |()| *g.choose(&PIECES).unwrap();
            let text: String = std::iter::repeat_n((), 30).map(piece).collect();
            Text(text + "\nlast=1\n")
        }
    }

    #[test]
    fn grammar_agrees_with_the_java_properties_crate() {
        fn property(text: Text) -> TestResult {
            // The oracle takes "\⏎#x=1" for a comment. Java doesn't: a comment starts a line.
            let normal = text.0.replace("\r\n", "\n").replace('\r', "\n");
            if normal.split('\n').any(|line| line.trim_start_matches(is_blank).starts_with("\\")) {
                return TestResult::discard();
            }
            let mut expected = Vec::new();
            java_properties::PropertiesIter::new(text.0.as_bytes())
                .read_into(|key, value| expected.push((key, value)))
                .unwrap();
            let seen: Vec<_> = logical_lines(&decode(text.0.as_bytes()))
                .iter()
                .map(|(_, line)| split_line(line).unwrap())
                .collect();
            assert_eq!(seen, expected);
            TestResult::passed()
        }
        quickcheck::QuickCheck::new()
            .tests(2_000)
            .max_tests(100_000)
            .min_tests_passed(500)
            .quickcheck(property as fn(Text) -> TestResult);
    }

    #[test]
    fn any_bytes_are_read_without_panic() {
        fn property(bytes: Vec<u8>) -> bool {
            let mut problems = Vec::new();
            Properties::read("t", &bytes, &mut problems).iter().count() <= bytes.len()
        }
        quickcheck::quickcheck(property as fn(Vec<u8>) -> bool);
    }
}
