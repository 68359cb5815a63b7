//! The escapes of `hdfs.path` and `hdfs.filePrefix`: parsed once, rendered for each event.
//!
//! | escape | becomes |
//! |---|---|
//! | `%{name}` | the header's value; nothing if there is none |
//! | `%[localhost]` `%[IP]` `%[FQDN]` | of this machine, asked once at start-up |
//! | `%a %A %b %B` | weekday and month, short and long, in English |
//! | `%c %D` | `Thu Mar 3 23:05:25 2005`, `03/03/05` |
//! | `%Y %y %m %n %d %e %j` | year, month (`%n`: no padding), day (`%e`: no padding), day of the year |
//! | `%H %k %I %l %M %S %p` | hour of 24 and of 12 (`%k %l`: no padding), minute, second, AM or PM |
//! | `%z %s %t` | `+0100`, seconds and milliseconds since 1970 |
//! | `%%` | a percent sign |
//!
//! Times are the header `timestamp` (ms), rounded down if so configured (`%t` is not), in the time
//! zone of the settings. `%%` needs no time and an unknown escape is refused at start-up; Flume
//! wants a timestamp for the one and drops the other.
//!
//! **What an event says never leaves the directory that the configuration names.** A path component
//! `.` or `..` to which a header contributed has its dots written as `%2E`, control characters and
//! NUL become `%0A` and the like, and empty components vanish. Slashes in headers make directories,
//! as in Flume.

use super::keys::Rounding;
use crate::event::EventRef;
use jiff::tz::TimeZone;
use jiff::{Timestamp, Zoned};
use std::fmt::Write as _;

/// A text with escapes.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Template {
    parts: Vec<Part>,
}

#[derive(Clone, PartialEq, Eq, Debug)]
enum Part {
    Text(String),
    Header(String),
    Time(char),
}

/// How times are read and written.
#[derive(Clone, Debug)]
pub(super) struct TimeRules {
    pub(super) zone: TimeZone,
    pub(super) rounding: Option<Rounding>,
    /// The sink's clock instead of the header.
    pub(super) local: bool,
}

impl Template {
    /// Parses `text`.
    ///
    /// # Errors
    /// An escape that there is not.
    pub(super) fn parse(text: &str) -> Result<Template, String> {
        let mut parts = Vec::new();
        let mut plain = String::new();
        let mut rest = text;
        while let Some(at) = rest.find('%') {
            plain.push_str(&rest[..at]);
            rest = &rest[at + 1..];
            let (part, len) = escape(rest)?;
            rest = &rest[len..];
            match part {
                Part::Text(text) => plain.push_str(&text),
                part => {
                    if !plain.is_empty() {
                        parts.push(Part::Text(std::mem::take(&mut plain)));
                    }
                    parts.push(part);
                }
            }
        }
        plain.push_str(rest);
        if !plain.is_empty() {
            parts.push(Part::Text(plain));
        }
        Ok(Template { parts })
    }

    /// The text for an event, `now_ms` being the sink's clock; safe as a path below what the
    /// configuration names.
    ///
    /// # Errors
    /// The event has no time, or one that is no time.
    pub(super) fn render(
        &self,
        event: EventRef<'_>,
        rules: &TimeRules,
        now_ms: u64,
    ) -> Result<String, String> {
        let mut out = String::new();
        // where the event's own text stands in `out`
        let mut foreign: Vec<std::ops::Range<usize>> = Vec::new();
        let mut time = None;
        for part in &self.parts {
            match part {
                Part::Text(text) => out.push_str(text),
                Part::Header(name) => {
                    let at = out.len();
                    push_safe(event.header(name).unwrap_or_default(), &mut out);
                    foreign.push(at..out.len());
                }
                Part::Time(letter) => {
                    let time = match &time {
                        Some(time) => time,
                        None => time.insert(EventTime::of(event, rules, now_ms)?),
                    };
                    time.write(*letter, &mut out);
                }
            }
        }
        Ok(clean_path(&out, &foreign))
    }
}

/// The escape at the start of `rest` (behind its `%`), and its length.
fn escape(rest: &str) -> Result<(Part, usize), String> {
    let named = |close: char| {
        let end = rest.find(close)?;
        let name = &rest[1..end];
        let is_name = |c: char| c.is_ascii_alphanumeric() || "_.-".contains(c);
        (!name.is_empty() && name.chars().all(is_name)).then_some((name, end + 1))
    };
    match rest.chars().next() {
        Some('%') => Ok((Part::Text("%".to_owned()), 1)),
        Some('{') => match named('}') {
            Some((name, len)) => Ok((Part::Header(name.to_owned()), len)),
            None => Err("'%{' begins no %{header} (letters, digits, '_', '.', '-')".to_owned()),
        },
        Some('[') => match named(']') {
            Some((name, len)) => Ok((Part::Text(of_machine(name)?), len)),
            None => Err("'%[' begins none of %[localhost], %[IP], %[FQDN]".to_owned()),
        },
        Some(letter) if "aAbBcDYymndejHkIlMSpzst".contains(letter) => Ok((Part::Time(letter), 1)),
        Some(letter) => Err(format!("unknown escape '%{letter}'; write %% for a percent sign")),
        None => Err("'%' at the end; write %% for a percent sign".to_owned()),
    }
}

/// `%[name]`: what this machine is called.
fn of_machine(name: &str) -> Result<String, String> {
    let host = rustix::system::uname().nodename().to_string_lossy().into_owned();
    match name.to_ascii_lowercase().as_str() {
        "localhost" => Ok(host),
        "ip" => Ok(address_of(&host).unwrap_or_else(|| "127.0.0.1".to_owned())),
        "fqdn" => Ok(full_name(&host)),
        _ => Err(format!("'%[{name}]' is none of %[localhost], %[IP], %[FQDN]")),
    }
}

fn address_of(host: &str) -> Option<String> {
    use std::net::ToSocketAddrs;
    let mut addresses = (host, 0).to_socket_addrs().ok()?;
    addresses.next().map(|address| address.ip().to_string())
}

/// The host's name with its domain, if `/etc/hosts` or the name itself says it.
fn full_name(host: &str) -> String {
    if host.contains('.') {
        return host.to_owned();
    }
    let hosts = std::fs::read_to_string("/etc/hosts").unwrap_or_default();
    let names =
        hosts.lines().flat_map(|line| line.split('#').next().unwrap_or("").split_whitespace());
    let full = names
        .into_iter()
        .find(|name| name.starts_with(host) && name[host.len()..].starts_with('.'));
    full.unwrap_or(host).to_owned()
}

fn push_safe(value: &str, out: &mut String) {
    for c in value.chars() {
        if c.is_control() {
            let mut bytes = [0; 4];
            for byte in c.encode_utf8(&mut bytes).bytes() {
                let _ = write!(out, "%{byte:02X}");
            }
        } else {
            out.push(c);
        }
    }
}

/// Drops empty components, and takes the power from `.` and `..` that an event brought.
fn clean_path(text: &str, foreign: &[std::ops::Range<usize>]) -> String {
    let mut out = String::with_capacity(text.len());
    if text.starts_with('/') && foreign.first().is_none_or(|range| range.start > 0) {
        out.push('/');
    }
    let mut at = 0;
    for component in text.split('/') {
        let range = at..at + component.len();
        at = range.end + 1;
        if component.is_empty() {
            continue;
        }
        if !out.is_empty() && !out.ends_with('/') {
            out.push('/');
        }
        let is_foreign = || foreign.iter().any(|f| f.start <= range.end && range.start <= f.end);
        if (component == "." || component == "..") && is_foreign() {
            out.push_str(&component.replace('.', "%2E"));
        } else {
            out.push_str(component);
        }
    }
    out
}

/// The time of an event.
struct EventTime {
    /// As the header has it.
    text: String,
    zoned: Zoned,
}

impl EventTime {
    fn of(event: EventRef<'_>, rules: &TimeRules, now_ms: u64) -> Result<EventTime, String> {
        let text = if rules.local {
            now_ms.to_string()
        } else {
            let header = event.header("timestamp").ok_or(
                "the event has no header 'timestamp' for the time in hdfs.path or hdfs.filePrefix \
                 (set it at the source, or hdfs.useLocalTimeStamp = true)",
            )?;
            header.to_owned()
        };
        let time = text.parse::<i64>().ok().and_then(|ms| Timestamp::from_millisecond(ms).ok());
        let time = time.ok_or_else(|| {
            let shown: String = text.chars().take(40).collect();
            format!("the header timestamp '{}' is no time in ms since 1970", shown.escape_debug())
        })?;
        let zoned = time.to_zoned(rules.zone.clone());
        let zoned = match rules.rounding {
            Some(rounding) => rounding.down(&zoned),
            None => zoned,
        };
        Ok(EventTime { text, zoned })
    }

    fn write(&self, letter: char, out: &mut String) {
        let t = &self.zoned;
        let hour12 = (t.hour() + 11).rem_euclid(12) + 1;
        // writing into a String can't fail
        let _ = match letter {
            'a' | 'A' | 'b' | 'B' | 'p' | 'z' => {
                write!(
                    out,
                    "{}",
                    t.strftime(match letter {
                        'a' => "%a",
                        'A' => "%A",
                        'b' => "%b",
                        'B' => "%B",
                        'p' => "%p",
                        _ => "%z",
                    })
                )
            }
            'c' => write!(out, "{} {} {}", t.strftime("%a %b"), t.day(), t.strftime("%H:%M:%S %Y")),
            'D' => write!(out, "{}", t.strftime("%m/%d/%y")),
            'Y' => write!(out, "{:04}", t.year()),
            'y' => write!(out, "{:02}", t.year().rem_euclid(100)),
            'm' => write!(out, "{:02}", t.month()),
            'n' => write!(out, "{}", t.month()),
            'd' => write!(out, "{:02}", t.day()),
            'e' => write!(out, "{}", t.day()),
            'j' => write!(out, "{:03}", t.day_of_year()),
            'H' => write!(out, "{:02}", t.hour()),
            'k' => write!(out, "{}", t.hour()),
            'I' => write!(out, "{hour12:02}"),
            'l' => write!(out, "{hour12}"),
            'M' => write!(out, "{:02}", t.minute()),
            'S' => write!(out, "{:02}", t.second()),
            's' => write!(out, "{}", t.timestamp().as_second()),
            _ => write!(out, "{}", self.text),
        };
    }
}

#[cfg(test)]
mod tests {
    use super::super::keys::{RoundUnit, Rounding};
    use super::*;
    use crate::event::Event;

    /// 2024-02-29T23:05:09.123Z, a Thursday.
    const TIME: &str = "1709247909123";

    fn rendered(text: &str, headers: &[(&str, &str)], rules: &TimeRules) -> Result<String, String> {
        let headers = headers.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        let mut bytes = Vec::new();
        Event { headers, body: Vec::new() }.encode(&mut bytes);
        let event = EventRef::decode(&bytes).unwrap();
        Template::parse(text).unwrap().render(event, rules, 1_000)
    }

    fn utc() -> TimeRules {
        TimeRules { zone: TimeZone::UTC, rounding: None, local: false }
    }

    fn check(text: &str, headers: &[(&str, &str)], expected: &str) {
        assert_eq!(rendered(text, headers, &utc()).as_deref(), Ok(expected), "{text}");
    }

    #[test]
    fn every_escape_of_time_is_flumes() {
        let cases = [
            ("%a %A", "Thu Thursday"),
            ("%b %B", "Feb February"),
            ("%c", "Thu Feb 29 23:05:09 2024"),
            ("%D", "02/29/24"),
            ("%Y-%y", "2024-24"),
            ("%m-%n-%d-%e-%j", "02-2-29-29-060"),
            ("%H.%k.%I.%l", "23.23.11.11"),
            ("%M%S%p", "0509PM"),
            ("%z", "+0000"),
            ("%s %t", "1709247909 1709247909123"),
        ];
        for (text, expected) in cases {
            check(text, &[("timestamp", TIME)], expected);
        }
        check("%k %I %l %p", &[("timestamp", "1709165109123")], "0 12 12 AM");
        check("%e %n %j", &[("timestamp", "1704499200000")], "6 1 006");
    }

    #[test]
    fn headers_fill_in_and_missing_ones_vanish() {
        check("/a/%{x}/b%{y.z-1}c", &[("x", "1"), ("y.z-1", "2"), ("x", "3")], "/a/3/b2c");
        check("/a/%{x}/b", &[], "/a/b");
        check("100%%", &[], "100%");
        check("/a/%{x}", &[("x", "b/c")], "/a/b/c");
    }

    #[test]
    fn headers_never_climb() {
        for evil in ["..", "../..", "./../x", "/etc", "/../../etc", "a/../../../b", ".."] {
            let path = rendered("/a/%{x}/b", &[("x", evil)], &utc()).unwrap();
            assert!(path.starts_with("/a/") && path.ends_with("/b"), "{path}");
            assert!(path.split('/').all(|part| part != ".." && part != "."), "{path}");
        }
        check("/a/%{x}", &[("x", "../z")], "/a/%2E%2E/z");
        check("/a/.%{x}", &[("x", ".")], "/a/%2E%2E");
        check("/a/.%{x}.", &[], "/a/%2E%2E");
        check("%{x}/a", &[("x", "/etc")], "etc/a");
        check("/a/%{x}", &[("x", "1\n2\0\u{85}")], "/a/1%0A2%00%C2%85");
        check("../a/./%{x}", &[("x", "b")], "../a/./b");
    }

    #[test]
    fn any_header_stays_below_the_configured_directory() {
        fn property(parts: Vec<String>, dots: u8) -> bool {
            let value = parts.join("/") + &"/..".repeat(usize::from(dots % 4));
            let path = rendered("/base/%{x}", &[("x", &value)], &utc()).unwrap();
            let mut names = path.split('/').skip(1);
            names.next() == Some("base") && names.all(|name| name != "." && name != "..")
        }
        quickcheck::quickcheck(property as fn(Vec<String>, u8) -> bool);
    }

    #[test]
    fn time_is_rounded_down_in_its_zone_but_not_the_raw_one() {
        let berlin = TimeZone::get("Europe/Berlin").unwrap();
        let check = |unit, value, expected: &str| {
            let rounding = Some(Rounding { unit, value });
            let rules = TimeRules { zone: berlin.clone(), rounding, local: false };
            let seen = rendered("%d %H:%M:%S %z %s %t", &[("timestamp", TIME)], &rules);
            assert_eq!(seen.as_deref(), Ok(expected));
        };
        check(RoundUnit::Second, 5, "01 00:05:05 +0100 1709247905 1709247909123");
        check(RoundUnit::Minute, 10, "01 00:00:00 +0100 1709247600 1709247909123");
        check(RoundUnit::Hour, 24, "01 00:00:00 +0100 1709247600 1709247909123");
        check(RoundUnit::Minute, 60, "01 00:00:00 +0100 1709247600 1709247909123");
    }

    #[test]
    fn event_without_a_usable_time_fails_unless_the_clock_is_used() {
        let missing = rendered("%Y", &[], &utc()).unwrap_err();
        assert!(missing.contains("no header 'timestamp'"), "{missing}");
        for wrong in ["", "noon", "1e9", "9223372036854775807", " 1"] {
            let error = rendered("%Y", &[("timestamp", wrong)], &utc()).unwrap_err();
            assert!(error.contains("is no time in ms"), "{error}");
        }
        let clock = TimeRules { local: true, ..utc() };
        assert_eq!(rendered("%t", &[("timestamp", TIME)], &clock).as_deref(), Ok("1000"));
        check("no time %% needed", &[], "no time % needed");
    }

    #[test]
    fn unknown_escapes_are_refused() {
        let cases = [
            ("/a/%q", "unknown escape '%q'"),
            ("/a/%", "'%' at the end"),
            ("/a/%{}", "begins no %{header}"),
            ("/a/%{x", "begins no %{header}"),
            ("/a/%[home]", "is none of"),
        ];
        for (text, expected) in cases {
            let error = Template::parse(text).unwrap_err();
            assert!(error.contains(expected), "{error}");
        }
        let host = Template::parse("%[LOCALHOST]").unwrap();
        assert_ne!(host, Template::parse("").unwrap());
    }
}
