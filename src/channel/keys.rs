//! The channel types and their keys: Flume's, and levada's own.

use crate::config::{Component, Key, Kind, Problem, Role, Settings};
use crate::log::{Durability, Retention};
use std::time::Duration;

/// `type = memory`: the log on anonymous memory.
pub static MEMORY: Component = Component {
    role: Role::Channel,
    alias: "memory",
    class: "org.apache.flume.channel.MemoryChannel",
    doc: "Holds events in memory: fast, and lost with the process.",
    keys: &[
        Key::new("capacity", Kind::POSITIVE, "100", "events", "The most events it holds."),
        Key::new("transactionCapacity", TRANSACTION, "100", "events", "The most in one batch."),
        KEEP_ALIVE,
        Key::optional(
            "byteCapacity",
            Kind::COUNT,
            "bytes",
            "The most bytes it holds; 0: no limit.",
        ),
        Key::new(
            "byteCapacityBufferPercentage",
            Kind::Int { min: 0, max: 100 },
            "20",
            "%",
            "The part of byteCapacity that is kept free for headers.",
        ),
        MAX_BYTES,
    ],
};

/// `type = file`: the log on disk.
pub static FILE: Component = Component {
    role: Role::Channel,
    alias: "file",
    class: "org.apache.flume.channel.file.FileChannel",
    doc: "Holds events in a log on disk: what is acknowledged survives a crash.",
    keys: FILE_KEYS,
};

/// The smallest segment of a log, bytes.
const SEGMENT_BYTES_MIN: i64 = 1 << 20;
/// A batch numbers its events with 32 bits.
const TRANSACTION: Kind = Kind::Int { min: 1, max: u32::MAX as i64 };

const KEEP_ALIVE: Key =
    Key::new("keep-alive", Kind::COUNT, "3", "s", "How long a put waits for room.");
const MAX_BYTES: Key =
    Key::optional("maxBytes", Kind::POSITIVE, "bytes", "The most bytes of events it holds.");

/// The dead-letter log of a channel.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct DeadOptions {
    /// The most bytes of its segments.
    pub max_bytes: u64,
    /// What follows when it is full.
    pub full: DeadFull,
    /// How often an event is re-driven at most.
    pub redrives_max: u32,
}

impl Default for DeadOptions {
    fn default() -> DeadOptions {
        DeadOptions { max_bytes: 1 << 30, full: DeadFull::Stop, redrives_max: 3 }
    }
}

/// What follows when a dead-letter log is full.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub enum DeadFull {
    /// The sink stops; nothing is dropped.
    #[default]
    Stop,
    /// The events are given up, and listed as lost as long as there is room for that.
    Fail,
}

/// The keys `deadLetter.*` of a file channel.
///
/// # Errors
/// A value can't be.
pub fn dead_letter(settings: &Settings) -> Result<DeadOptions, Problem> {
    let redrives_max = settings.count("deadLetter.maxRedrives")?;
    Ok(DeadOptions {
        max_bytes: settings.count("deadLetter.maxBytes")?,
        full: match settings.choice("deadLetter.onFull")? {
            "fail" => DeadFull::Fail,
            _ => DeadFull::Stop,
        },
        redrives_max: u32::try_from(redrives_max).unwrap_or(u32::MAX),
    })
}

/// The key `fsync` of a file channel.
///
/// # Errors
/// The text is none of the words.
pub fn fsync(settings: &Settings) -> Result<Durability, Problem> {
    let word = settings.choice("fsync")?;
    let number = settings.text("fsync")?.split_once(':').and_then(|(_, ms)| ms.parse().ok());
    Ok(match (word, number) {
        ("os", _) => Durability::Os,
        (_, Some(ms)) => Durability::Interval(Duration::from_millis(ms)),
        _ => Durability::Always,
    })
}

/// The keys `retention.*` of a file channel.
///
/// # Errors
/// A value is no number.
pub fn retention(settings: &Settings) -> Result<Retention, Problem> {
    let hours = settings.opt_int("retention.hours")?.map(i64::unsigned_abs);
    let age = hours.map(|hours| Duration::from_secs(hours.saturating_mul(3600)));
    let bytes = settings.opt_int("retention.bytes")?.map(i64::unsigned_abs);
    Ok(Retention { age, bytes })
}

const FILE_KEYS: &[Key] = &[
    Key::new(
        "dataDirs",
        Kind::Text,
        "~/.flume/file-channel/data",
        "",
        "Directory of the log; of several, separated by commas, the first.",
    ),
    Key::new("capacity", Kind::POSITIVE, "1000000", "events", "The most events it holds."),
    Key::new("transactionCapacity", TRANSACTION, "10000", "events", "The most in one batch."),
    KEEP_ALIVE,
    MAX_BYTES,
    Key::new(
        "minimumRequiredSpace",
        Kind::COUNT,
        "524288000",
        "bytes",
        "Room on the disk below which no new segment is begun.",
    ),
    Key::new(
        "maxFileSize",
        Kind::Int { min: SEGMENT_BYTES_MIN, max: i64::MAX },
        "67108864",
        "bytes",
        "Size of a segment, rounded down to a power of two; above 1 GiB counts as 1 GiB.",
    ),
    Key::new(
        "fsync",
        Kind::Choice(&["always", "interval:N", "os"]),
        "always",
        "",
        "When a put returns: always: synced; interval:N: written, synced every N ms; os: written.",
    ),
    Key::new(
        "cursorSyncInterval",
        Kind::Int { min: 0, max: 3_600_000 },
        "50",
        "ms",
        "What a power cut delivers twice at most; 0: every ack is synced before it counts.",
    ),
    Key::new(
        "onCorruption",
        Kind::Choice(&["halt", "quarantine"]),
        "halt",
        "",
        "At damage: stop the channel, or set the range aside and deliver the rest.",
    ),
    Key::optional(
        "retention.hours",
        Kind::COUNT,
        "h",
        "Keep delivered events so long for replay; with retention.bytes, until either is exceeded.",
    ),
    Key::optional(
        "retention.bytes",
        Kind::COUNT,
        "bytes",
        "Keep so much delivered for replay; it goes first when maxBytes or the disk is short.",
    ),
    Key::optional("retention.*", Kind::Text, "", "Keep what was read, for replay.").not_yet(),
    Key::new(
        "deadLetter.maxBytes",
        Kind::Int { min: 4 * SEGMENT_BYTES_MIN, max: i64::MAX },
        "1073741824",
        "bytes",
        "Bound of the dead-letter log, in DIR/dead.",
    ),
    Key::new(
        "deadLetter.onFull",
        Kind::Choice(&["stop", "fail"]),
        "stop",
        "",
        "Stop the sink until letters are re-driven or purged, or give the events up, listed.",
    ),
    Key::new(
        "deadLetter.maxRedrives",
        Kind::Int { min: 0, max: u32::MAX as i64 },
        "3",
        "",
        "How often an event is put back into the channel at most.",
    ),
    // Given, and not done, they would leave in clear what was asked to be encrypted.
    Key::optional("encryption.*", Kind::Secret, "", "Encryption of the log.").not_yet(),
    flume("checkpointDir", Kind::Text, "The log needs no checkpoint."),
    flume("useDualCheckpoints", Kind::Bool, "The log needs no checkpoint."),
    flume("backupCheckpointDir", Kind::Text, "The log needs no checkpoint."),
    flume("compressBackupCheckpoint", Kind::Bool, "The log needs no checkpoint."),
    flume("checkpointInterval", Kind::COUNT, "The log needs no checkpoint."),
    flume("checkpointOnClose", Kind::Bool, "The log needs no checkpoint."),
    flume("maxCheckpointInterval", Kind::COUNT, "The log needs no checkpoint."),
    flume("write-timeout", Kind::COUNT, "Flume's older name; see 'keep-alive'."),
    flume("checkpoint-timeout", Kind::COUNT, "The log needs no checkpoint."),
    flume("fsyncPerTransaction", Kind::Bool, "See 'fsync'."),
    flume("fsyncInterval", Kind::COUNT, "See 'fsync'."),
    flume("use-log-replay-v1", Kind::Bool, "There is no replay."),
    flume("use-fast-replay", Kind::Bool, "There is no replay."),
    flume("parallelismMin", Kind::COUNT, "There is no replay."),
];

/// A key of Flume's file channel that has no meaning for a log.
const fn flume(name: &'static str, kind: Kind, doc: &'static str) -> Key {
    Key::optional(name, kind, "", doc).ignored()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fsync_is_always_an_interval_or_left_to_the_system() {
        let read = |text| fsync(&Settings::of_pairs("c", FILE.keys, &[("fsync", text)]));
        assert_eq!(read("ALWAYS"), Ok(Durability::Always));
        assert_eq!(read("interval:20"), Ok(Durability::Interval(Duration::from_millis(20))));
        assert_eq!(read("os"), Ok(Durability::Os));
        assert_eq!(fsync(&Settings::of_pairs("c", FILE.keys, &[])), Ok(Durability::Always));
        let wrong = read("never").unwrap_err().message;
        assert_eq!(wrong, "c.fsync: 'never' is none of: always, interval:N, os");
    }

    #[test]
    fn retention_is_hours_bytes_both_or_none() {
        let read = |pairs: &[(&str, &str)]| {
            retention(&Settings::of_pairs("c", FILE.keys, pairs)).map_err(|p| p.to_string())
        };
        let hours = |count: u64| Some(Duration::from_secs(count * 3600));
        assert_eq!(read(&[]), Ok(Retention::default()));
        let age = Retention { age: hours(24), bytes: None };
        assert_eq!(read(&[("retention.hours", "24")]), Ok(age));
        let both = Retention { age: hours(0), bytes: Some(1000) };
        assert_eq!(read(&[("retention.hours", "0"), ("retention.bytes", "1000")]), Ok(both));
        let settings = Settings::of_pairs("c", FILE.keys, &[("retention.days", "1")]);
        assert!(settings.check()[0].to_string().contains("not supported yet"));
    }

    #[test]
    fn file_channel_takes_flumes_keys_and_refuses_encryption() {
        let pairs = [
            ("checkpointDir", "/c"),
            ("dataDirs", "/a,/b"),
            ("maxFileSize", "2146435071"),
            ("encryption.keyProvider.keys.key-0.passwordFile", "/secret"),
        ];
        let settings = Settings::of_pairs("a.channels.c", FILE.keys, &pairs);
        let seen: Vec<_> = settings.check().iter().map(ToString::to_string).collect();
        let key = "encryption.keyProvider.keys.key-0.passwordFile";
        let expected = format!("inline: a.channels.c.{key}: not supported yet by this version");
        assert_eq!(seen, [expected]);
    }
}
