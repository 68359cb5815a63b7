//! A file that is being written: its names, what is in it, when it is full.

use super::fs::Writer;
use super::keys::Names;
use crate::codec::EventSerializer;
use serde::{Deserialize, Serialize};
use std::time::{Duration, Instant};

/// The names of one file: `<dir>/<prefix>.<counter><suffix>`, and the one it has while it is open.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(super) struct FileName {
    /// While it is written.
    pub(super) in_use: String,
    stem: String,
    counter: u64,
    suffix: String,
}

impl FileName {
    /// `stem` is directory and prefix, `counter` what tells the files of a bucket apart.
    pub(super) fn new(stem: &str, counter: u64, names: &Names) -> FileName {
        let (dir, prefix) = match stem.rfind('/') {
            Some(at) => stem.split_at(at + 1),
            None => ("", stem),
        };
        let Names { suffix, in_use_prefix, in_use_suffix } = names;
        FileName {
            in_use: format!("{dir}{in_use_prefix}{prefix}.{counter}{suffix}{in_use_suffix}"),
            stem: stem.to_owned(),
            counter,
            suffix: suffix.clone(),
        }
    }

    /// The final name; `nth` above 0 if another file has taken those before.
    pub(super) fn target(&self, nth: u64) -> String {
        format!("{}.{}{}", self.stem, self.counter.saturating_add(nth), self.suffix)
    }
}

/// When a file is closed; `None` and 0: never for that reason.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub(super) struct Roll {
    /// Age.
    pub(super) interval: Option<Duration>,
    /// Time without events.
    pub(super) idle: Option<Duration>,
    /// Bytes of event bodies, as Flume counts.
    pub(super) body_bytes: u64,
    /// Events.
    pub(super) events: u64,
}

impl Roll {
    /// Whether a file with so much in it takes no more.
    pub(super) fn is_full(&self, events: u64, body_bytes: u64) -> bool {
        let by_count = self.events > 0 && events >= self.events;
        let by_size = self.body_bytes > 0 && body_bytes >= self.body_bytes;
        by_count || by_size
    }

    /// When a file opened and last used at these times is to be closed.
    pub(super) fn due(&self, opened: Instant, used: Instant) -> Option<Instant> {
        let by_age = self.interval.and_then(|interval| opened.checked_add(interval));
        let by_idleness = self.idle.and_then(|idle| used.checked_add(idle));
        by_age.into_iter().chain(by_idleness).min()
    }
}

/// A file that takes events.
pub(super) struct OpenFile {
    /// Its number in the journal of open files.
    pub(super) id: u64,
    pub(super) name: FileName,
    /// `None` before it is created.
    pub(super) writer: Option<Box<dyn Writer>>,
    pub(super) serializer: Box<dyn EventSerializer>,
    pub(super) events: u64,
    pub(super) body_bytes: u64,
    /// Bytes that are durable and acknowledged; what a crash must leave.
    pub(super) acked_len: u64,
    pub(super) opened: Instant,
    pub(super) used: Instant,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(suffix: &str, in_use_prefix: &str, in_use_suffix: &str) -> Names {
        let [suffix, in_use_prefix, in_use_suffix] =
            [suffix, in_use_prefix, in_use_suffix].map(str::to_owned);
        Names { suffix, in_use_prefix, in_use_suffix }
    }

    #[test]
    fn names_are_flumes() {
        let name = FileName::new("/a/b/FlumeData", 17, &names("", "", ".tmp"));
        assert_eq!(
            (name.in_use.as_str(), name.target(0).as_str()),
            ("/a/b/FlumeData.17.tmp", "/a/b/FlumeData.17")
        );
        let name = FileName::new("x", 5, &names(".log", "_", ""));
        assert_eq!((name.in_use.as_str(), name.target(2).as_str()), ("_x.5.log", "x.7.log"));
    }

    #[test]
    fn file_is_full_by_count_or_size_and_zero_means_never() {
        let roll = Roll { events: 10, body_bytes: 1024, ..Roll::default() };
        assert!(!roll.is_full(9, 1023));
        assert!(roll.is_full(10, 0));
        assert!(roll.is_full(1, 1024));
        assert!(!Roll::default().is_full(u64::MAX, u64::MAX));
    }

    #[test]
    fn file_is_due_at_its_age_or_its_idleness_whichever_is_first() {
        let (opened, second) = (Instant::now(), Duration::from_secs(1));
        let used = opened + 5 * second;
        let mut roll = Roll { interval: Some(30 * second), ..Roll::default() };
        assert_eq!(roll.due(opened, used), Some(opened + 30 * second));
        roll.idle = Some(10 * second);
        assert_eq!(roll.due(opened, used), Some(opened + 15 * second));
        assert_eq!(Roll::default().due(opened, used), None);
    }
}
