//! The sink's keys, and what they come to: [`Options`].

use super::bucket::Roll;
use super::escape::{Template, TimeRules};
use super::hadoop::{self, Target};
use crate::config::{Component, Key, Kind, Problem, Role, Settings};
use crate::sink::{SinkEnv, serializer};
use jiff::Zoned;
use jiff::tz::{Offset, TimeZone};
use std::time::Duration;

const SECONDS: Kind = Kind::Int { min: 0, max: 1 << 31 };
const FORMATS: &[&str] = &["SequenceFile", "DataStream", "CompressedStream"];

/// The declaration of the sink.
pub static COMPONENT: Component = Component {
    role: Role::Sink,
    alias: "hdfs",
    class: "org.apache.flume.sink.hdfs.HDFSEventSink",
    doc: "Writes files of a Hadoop file system (HDFS or local), by time, size, count and header.",
    keys: KEYS,
};

static KEYS: &[Key] = &[
    Key::required(
        "hdfs.path",
        Kind::Text,
        "",
        "Directory or URI, with escapes (%{header}, %Y, …).",
    ),
    Key::new("hdfs.filePrefix", Kind::Text, "FlumeData", "", "Start of file names, with escapes."),
    Key::optional("hdfs.fileSuffix", Kind::Text, "", "End of file names; no dot is added."),
    Key::optional("hdfs.inUsePrefix", Kind::Text, "", "Put before the name of an open file."),
    Key::new("hdfs.inUseSuffix", Kind::Text, ".tmp", "", "Put behind the name of an open file."),
    Key::new("hdfs.emptyInUseSuffix", Kind::Bool, "false", "", "Open files have no suffix."),
    Key::new("hdfs.rollInterval", SECONDS, "30", "s", "A file is closed at this age; 0: never."),
    Key::new(
        "hdfs.rollSize",
        Kind::COUNT,
        "1024",
        "bytes",
        "… with bodies of this size; 0: never.",
    ),
    Key::new("hdfs.rollCount", Kind::COUNT, "10", "events", "… with so many events; 0: never."),
    Key::new("hdfs.idleTimeout", SECONDS, "0", "s", "… after so long without events; 0: never."),
    Key::new("hdfs.batchSize", BATCH, "100", "events", "Most events written and synced together."),
    Key::new("hdfs.fileType", Kind::Choice(FORMATS), "SequenceFile", "", "Format of the files."),
    Key::new(
        "hdfs.writeFormat",
        Kind::Choice(&["Writable", "Text"]),
        "Writable",
        "",
        "Values of a SequenceFile: BytesWritable or Text.",
    ),
    Key::optional("hdfs.writeFormat.*", Kind::Text, "", "Settings of a format's class.").ignored(),
    Key::optional("hdfs.codeC", Kind::Text, "", "Compression; only 'none' in this version."),
    serializer::KEYS[0],
    serializer::KEYS[1],
    serializer::KEYS[2],
    serializer::KEYS[3],
    Key::new("hdfs.maxOpenFiles", FILES, "5000", "files", "The longest unused is closed beyond."),
    Key::new("hdfs.callTimeout", ANY, "30000", "ms", "Longest file system call; 0: no limit."),
    Key::new("hdfs.threadsPoolSize", THREADS, "10", "", "File system calls at a time."),
    Key::new("hdfs.rollTimerPoolSize", ANY, "1", "", "Flume's timer threads.").ignored(),
    Key::new("hdfs.closeTries", ANY, "0", "", "Tries to close or rename; 0: without end."),
    Key::new("hdfs.retryInterval", ANY, "180", "s", "Longest pause between them; 0: one try."),
    Key::new("hdfs.round", Kind::Bool, "false", "", "Round times in escapes down."),
    Key::new("hdfs.roundValue", Kind::POSITIVE, "1", "", "… to a multiple of this."),
    Key::new(
        "hdfs.roundUnit",
        Kind::Choice(&["second", "minute", "hour"]),
        "second",
        "",
        "… in this unit.",
    ),
    Key::optional("hdfs.timeZone", Kind::Text, "", "Time zone of escapes; else this machine's."),
    Key::new("hdfs.useLocalTimeStamp", Kind::Bool, "false", "", "The sink's clock in escapes."),
    Key::optional("hdfs.minBlockReplicas", ANY, "", "Flume rolls below it.").ignored(),
    Key::new("hdfs.useRawLocalFileSystem", Kind::Bool, "false", "", "As Flume's.").ignored(),
    Key::optional("hdfs.kerberosPrincipal", Kind::Text, "", "Kerberos login.").not_yet(),
    Key::optional("hdfs.kerberosKeytab", Kind::Path, "", "Kerberos login.").not_yet(),
    Key::optional("hdfs.proxyUser", Kind::Text, "", "User to act for.").not_yet(),
];

const ANY: Kind = Kind::Int { min: i64::MIN, max: i64::MAX };
const BATCH: Kind = Kind::Int { min: 1, max: u32::MAX as i64 };
const FILES: Kind = Kind::Int { min: 1, max: 1 << 20 };
const THREADS: Kind = Kind::Int { min: 1, max: 1024 };

/// What the sink is set to.
pub(super) struct Options {
    pub(super) target: Target,
    pub(super) path: Template,
    pub(super) prefix: Template,
    pub(super) time: TimeRules,
    pub(super) names: Names,
    pub(super) roll: Roll,
    pub(super) batch_events_max: u32,
    pub(super) open_files_max: usize,
    /// `None`: calls may take for ever.
    pub(super) call_max: Option<Duration>,
    pub(super) calls_at_once: usize,
    /// Tries to finish a file that could not be closed; `None`: without end.
    pub(super) close_tries: Option<u64>,
    pub(super) retry_max: Duration,
}

/// What stands around a file's name.
#[derive(Clone, Default, PartialEq, Eq, Debug)]
pub(super) struct Names {
    pub(super) suffix: String,
    pub(super) in_use_prefix: String,
    pub(super) in_use_suffix: String,
}

impl Options {
    pub(super) fn of(settings: &Settings, env: &SinkEnv) -> Result<Options, Problem> {
        refuse_compression(settings)?;
        let text = settings.text("hdfs.path")?;
        let of_path = |error: String| settings.problem("hdfs.path", error);
        let (target, path) = hadoop::target_of(text, env).map_err(of_path)?;
        let prefix = settings.text("hdfs.filePrefix")?;
        let prefix =
            Template::parse(prefix).map_err(|error| settings.problem("hdfs.filePrefix", error))?;
        let small = |key| Ok(usize::try_from(settings.count(key)?).unwrap_or(usize::MAX));
        let close_tries = u64::try_from(settings.int("hdfs.closeTries")?).unwrap_or(0);
        let retry_s = u64::try_from(settings.int("hdfs.retryInterval")?).unwrap_or(0);
        let call_ms = u64::try_from(settings.int("hdfs.callTimeout")?).unwrap_or(0);
        Ok(Options {
            target,
            path: Template::parse(&path).map_err(of_path)?,
            prefix,
            time: time_rules(settings)?,
            names: names(settings)?,
            roll: Roll {
                interval: some_duration(settings.duration("hdfs.rollInterval")?),
                idle: some_duration(settings.duration("hdfs.idleTimeout")?),
                body_bytes: settings.count("hdfs.rollSize")?,
                events: settings.count("hdfs.rollCount")?,
            },
            batch_events_max: u32::try_from(settings.count("hdfs.batchSize")?).unwrap_or(u32::MAX),
            open_files_max: small("hdfs.maxOpenFiles")?,
            call_max: some_duration(Duration::from_millis(call_ms)),
            calls_at_once: small("hdfs.threadsPoolSize")?,
            close_tries: match (retry_s, close_tries) {
                (0, _) => Some(1),
                (_, 0) => None,
                (_, tries) => Some(tries),
            },
            retry_max: Duration::from_secs(retry_s.min(86_400)),
        })
    }
}

fn some_duration(duration: Duration) -> Option<Duration> {
    (!duration.is_zero()).then_some(duration)
}

fn refuse_compression(settings: &Settings) -> Result<(), Problem> {
    let codec = settings.opt_text("hdfs.codeC")?.unwrap_or("none");
    if !codec.is_empty() && !codec.eq_ignore_ascii_case("none") {
        let message = format_args!("'{codec}' is not supported yet by this version; leave it out");
        return Err(settings.problem("hdfs.codeC", message));
    }
    if settings.choice("hdfs.fileType")? == "CompressedStream" {
        let message = "CompressedStream is not supported yet by this version; use DataStream";
        return Err(settings.problem("hdfs.fileType", message));
    }
    Ok(())
}

fn names(settings: &Settings) -> Result<Names, Problem> {
    let text = |key| {
        let text = settings.opt_text(key)?.unwrap_or_default();
        if text.contains('/') {
            return Err(settings.problem(key, format_args!("'{text}' must not hold a '/'")));
        }
        Ok(text.to_owned())
    };
    let mut names = Names {
        suffix: text("hdfs.fileSuffix")?,
        in_use_prefix: text("hdfs.inUsePrefix")?,
        in_use_suffix: text("hdfs.inUseSuffix")?,
    };
    if settings.bool("hdfs.emptyInUseSuffix")? {
        names.in_use_suffix = String::new();
    } else if names.in_use_suffix.is_empty() {
        // Flume: only emptyInUseSuffix empties it
        names.in_use_suffix = ".tmp".to_owned();
    }
    Ok(names)
}

fn time_rules(settings: &Settings) -> Result<TimeRules, Problem> {
    let zone = match settings.opt_text("hdfs.timeZone")? {
        None | Some("") => TimeZone::system(),
        Some(name) => zone_of(name).ok_or_else(|| {
            let message = format_args!("'{name}' is no time zone; write one like Europe/Berlin");
            settings.problem("hdfs.timeZone", message)
        })?,
    };
    let rounding = if settings.bool("hdfs.round")? { Some(rounding(settings)?) } else { None };
    Ok(TimeRules { zone, rounding, local: settings.bool("hdfs.useLocalTimeStamp")? })
}

/// A zone of the database, or Java's `GMT+2`, `GMT-05:30`.
fn zone_of(name: &str) -> Option<TimeZone> {
    if let Some(offset) = name.strip_prefix("GMT").filter(|offset| !offset.is_empty()) {
        let sign = match offset.chars().next()? {
            '+' => 1,
            '-' => -1,
            _ => return None,
        };
        let (hours, minutes) = offset[1..].split_once(':').unwrap_or((&offset[1..], "0"));
        let (hours, minutes) = (hours.parse::<u8>().ok()?, minutes.parse::<u8>().ok()?);
        let seconds = i32::from(hours) * 3600 + i32::from(minutes) * 60;
        let in_range = hours < 24 && minutes < 60;
        return Offset::from_seconds(sign * seconds).ok().filter(|_| in_range).map(TimeZone::fixed);
    }
    TimeZone::get(name).ok()
}

fn rounding(settings: &Settings) -> Result<Rounding, Problem> {
    let value = settings.int("hdfs.roundValue")?;
    let (unit, max) = match settings.choice("hdfs.roundUnit")? {
        "hour" => (RoundUnit::Hour, 24),
        "minute" => (RoundUnit::Minute, 60),
        _ => (RoundUnit::Second, 60),
    };
    match i8::try_from(value) {
        Ok(value) if value <= max => Ok(Rounding { unit, value }),
        _ => Err(settings.problem("hdfs.roundValue", format_args!("{value} is outside 1..={max}"))),
    }
}

/// Down to a multiple of `value` (from 1) in `unit`, in the time zone of the time.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Rounding {
    pub(super) unit: RoundUnit,
    pub(super) value: i8,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum RoundUnit {
    Second,
    Minute,
    Hour,
}

impl Rounding {
    pub(super) fn down(self, time: &Zoned) -> Zoned {
        let down = |number: i8| number - number % self.value;
        let with = time.with().subsec_nanosecond(0);
        let with = match self.unit {
            RoundUnit::Second => with.second(down(time.second())),
            RoundUnit::Minute => with.second(0).minute(down(time.minute())),
            RoundUnit::Hour => with.second(0).minute(0).hour(down(time.hour())),
        };
        // fails only at the edge of what a time can be
        with.build().unwrap_or_else(|_| time.clone())
    }
}
