//! Sink `file_roll`: files in a directory, a new one each `sink.rollInterval`.
//!
//! A batch is delivered when it is synced (`fdatasync`; the directory too, for a new file). After a
//! failed write or sync the file is cut back to what was synced and left, and the batch goes to a
//! new one: events may stand in two files, never in none. A file that was removed while it was open
//! counts as a failed write. A kill in the midst of a write can leave part of a batch at a file's end;
//! nothing is ever written behind it. No file is made before there is an event for it, and none is
//! ever overwritten (Flume makes empty ones, and truncates).

use super::serializer::{SINK_KEYS, SerializerFactory, serializer_of};
use super::{Cause, FailedEvents, Failure, Outcome, Sink, SinkEnv, SinkError, local};
use crate::codec::EventSerializer;
use crate::config::{Component, Key, Kind, Problem, Role, Settings};
use crate::event::EventBatch;
use async_trait::async_trait;
use std::fs::File;
use std::io::{self, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// The declaration of the sink.
pub static COMPONENT: Component = Component {
    role: Role::Sink,
    alias: "file_roll",
    class: "org.apache.flume.sink.RollingFileSink",
    doc: "Writes events to files in a directory, a new file each interval.",
    keys: &[
        Key::required("sink.directory", Kind::Path, "", "Directory of the files; made if needed."),
        Key::new("sink.rollInterval", Kind::COUNT, "30", "s", "Age of a full file; 0: no limit."),
        Key::new("sink.batchSize", Kind::POSITIVE, "100", "events", "Events in a batch, at most."),
        SINK_KEYS[0],
        SINK_KEYS[1],
        SINK_KEYS[2],
        SINK_KEYS[3],
        Key::new(
            "sink.pathManager",
            Kind::Text,
            "DEFAULT",
            "",
            "DEFAULT: names count from the time of the start; ROLLTIME: each has its own time.",
        ),
        Key::optional("sink.pathManager.prefix", Kind::Text, "", "Stands before each name."),
        Key::optional(
            "sink.pathManager.extension",
            Kind::Text,
            "",
            "Behind each name, after a dot.",
        ),
    ],
};

/// The sink `file_roll`.
pub struct FileRollSink {
    dir: PathBuf,
    /// Zero: files do not roll.
    roll_interval: Duration,
    batch_events: u32,
    serializers: SerializerFactory,
    names: Names,
    open: Option<OpenFile>,
}

/// A sink of these settings.
///
/// # Errors
/// A value can't be used.
pub fn build(settings: &Settings, _: &SinkEnv) -> Result<Box<dyn Sink>, Problem> {
    Ok(Box::new(FileRollSink {
        dir: settings.text("sink.directory")?.into(),
        roll_interval: settings.duration("sink.rollInterval")?,
        batch_events: super::batch_events(settings, "sink.batchSize")?,
        serializers: serializer_of(settings, "sink.serializer")?,
        names: Names::of(settings)?,
        open: None,
    }))
}

#[async_trait]
impl Sink for FileRollSink {
    async fn open(&mut self) -> Result<(), SinkError> {
        let dir = self.dir.clone();
        let made = blocking(move || local::make_dirs(&dir)).await;
        made.map_err(|error| SinkError(format!("make {}: {error}", self.dir.display())))
    }

    async fn deliver(&mut self, batch: &EventBatch) -> Outcome {
        if self.deadline().is_some_and(|at| at <= Instant::now())
            && let Err(error) = self.roll().await
        {
            return Outcome::retry(Cause::Storage, error);
        }
        let mut file = match self.open.take() {
            Some(file) => file,
            None => OpenFile::new(self.serializers.make(), self.roll_interval),
        };
        let refused = match file.serialize(batch) {
            Ok(refused) => refused,
            Err(error) => return Outcome::retry(Cause::Storage, error),
        };
        let (dir, names) = (self.dir.clone(), self.names.clone());
        let written = blocking(move || {
            let mut names = names;
            let result = file.write(&dir, &mut names);
            Ok((file, names, result))
        })
        .await;
        let (file, names, result) = match written {
            Ok(written) => written,
            Err(error) => return Outcome::retry(Cause::Storage, error),
        };
        self.names = names;
        if let Err(error) = result {
            return Outcome::retry(Cause::Storage, error); // the file is dropped: the next batch begins another
        }
        self.open = Some(file);
        refused.map_or(Outcome::Delivered, Outcome::Failed)
    }

    fn deadline(&self) -> Option<Instant> {
        self.open.as_ref()?.roll_at
    }

    async fn tick(&mut self) -> Result<(), SinkError> {
        self.roll().await
    }

    async fn close(&mut self) -> Result<(), SinkError> {
        self.roll().await
    }

    fn batch_events_max(&self) -> u32 {
        self.batch_events
    }
}

impl FileRollSink {
    /// Finishes the open file, if there is one.
    async fn roll(&mut self) -> Result<(), SinkError> {
        let Some(mut file) = self.open.take() else { return Ok(()) };
        let path = file.path();
        let ended = file.serializer.end(&mut file.out).map_err(|error| error.to_string());
        ended.map_err(|error| SinkError(format!("finish {path}: {error}")))?;
        let written = blocking(move || file.write_out()).await;
        written.map_err(|error| SinkError(format!("finish {path}: {error}")))
    }
}

/// Runs file work where it blocks no other task.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> io::Result<T> {
    tokio::task::spawn_blocking(work).await.map_err(io::Error::other)?
}

/// A file and what belongs to it; made on disk with its first batch.
struct OpenFile {
    serializer: Box<dyn EventSerializer>,
    /// Serialized, not written.
    out: Vec<u8>,
    file: Option<(File, PathBuf)>,
    /// What is synced, bytes from the start.
    synced: u64,
    begun: bool,
    roll_at: Option<Instant>,
}

impl OpenFile {
    fn new(serializer: Box<dyn EventSerializer>, roll_interval: Duration) -> OpenFile {
        let roll_at = match roll_interval {
            Duration::ZERO => None,
            interval => Instant::now().checked_add(interval),
        };
        OpenFile { serializer, out: Vec::new(), file: None, synced: 0, begun: false, roll_at }
    }

    fn path(&self) -> String {
        self.file.as_ref().map_or_else(String::new, |(_, path)| path.display().to_string())
    }

    /// Serializes a batch; what can't be written in this format is told, the others go on.
    fn serialize(&mut self, batch: &EventBatch) -> Result<Option<Failure>, String> {
        let text = |error: crate::codec::CodecError| error.to_string();
        if !std::mem::replace(&mut self.begun, true) {
            self.serializer.begin(&mut self.out).map_err(text)?;
        }
        let (mut refused, mut reason) = (Vec::new(), String::new());
        for event in batch.iter() {
            let written = self.serializer.event(event.event, event.time_ms, &mut self.out);
            if let Err(error) = written {
                refused.push(event.offset);
                reason = error.to_string();
            }
        }
        self.serializer.flush(&mut self.out).map_err(text)?;
        let events = FailedEvents::Only(refused);
        let is_any = matches!(&events, FailedEvents::Only(refused) if !refused.is_empty());
        Ok(is_any.then_some(Failure { events, cause: Cause::Invalid, retryable: false, reason }))
    }

    /// Writes and syncs what is serialized; makes the file if it is not there yet.
    fn write(&mut self, dir: &Path, names: &mut Names) -> Result<(), String> {
        if self.file.is_none() {
            let made = create(dir, names);
            self.file = Some(made.map_err(|e| format!("make a file in {}: {e}", dir.display()))?);
        }
        self.write_out().map_err(|error| format!("write {}: {error}", self.path()))
    }

    fn write_out(&mut self) -> io::Result<()> {
        let Some((file, path)) = &mut self.file else { return Ok(()) };
        if self.out.is_empty() {
            return Ok(());
        }
        let written = file.write_all(&self.out).and_then(|()| file.sync_data());
        if let Err(error) = written.and_then(|()| still_there(file)) {
            give_up(file, path, self.synced);
            return Err(error);
        }
        self.synced += self.out.len() as u64;
        self.out.clear();
        Ok(())
    }
}

/// Whether a file still has a name: what is written to one without is gone when it is closed.
fn still_there(file: &File) -> io::Result<()> {
    match file.metadata()?.nlink() {
        0 => Err(io::Error::new(io::ErrorKind::NotFound, "the file was removed by someone else")),
        _ => Ok(()),
    }
}

/// Leaves a file with what was synced, and none if that is nothing. What lies behind was not
/// acknowledged, and a torn event would break some formats. Done as far as it can be: the write
/// that failed is told anyway.
fn give_up(file: &File, path: &Path, synced: u64) {
    if synced > 0 {
        let _ = file.set_len(synced);
    } else if still_there(file).is_ok() {
        let _ = std::fs::remove_file(path);
    }
}

/// Makes the next file, under a name that nobody has, durably.
fn create(dir: &Path, names: &mut Names) -> io::Result<(File, PathBuf)> {
    local::make_dirs(dir)?; // it may have been removed since
    loop {
        let path = dir.join(names.next(SystemTime::now()));
        match File::create_new(&path) {
            Ok(file) => {
                local::sync_dir(dir)?;
                return Ok((file, path));
            }
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(error),
        }
    }
}

/// The names of files, in turn: Flume's path managers.
#[derive(Clone, Debug)]
struct Names {
    /// `ROLLTIME`: each name has the time at which its file began.
    by_time: bool,
    prefix: String,
    extension: String,
    /// What the last number belongs to.
    series: String,
    number: u64,
}

impl Names {
    fn of(settings: &Settings) -> Result<Names, Problem> {
        const CLASSES: [(&str, &str); 2] =
            [("DEFAULT", "DefaultPathManager"), ("ROLLTIME", "RollTimePathManager")];
        let text = settings.text("sink.pathManager")?;
        let class = text.rsplit('.').next().unwrap_or(text).trim_end_matches("$Builder");
        let is = |(alias, name): &&(&str, &str)| alias.eq_ignore_ascii_case(text) || *name == class;
        let Some((alias, _)) = CLASSES.iter().find(is) else {
            let message = format!("no path manager '{text}'; there is: DEFAULT, ROLLTIME");
            return Err(settings.problem("sink.pathManager", message));
        };
        let part = |key: &str| -> Result<String, Problem> {
            let text = settings.opt_text(key)?.unwrap_or_default();
            if text.contains('/') {
                return Err(settings.problem(key, "'/' can't be in a file name"));
            }
            Ok(text.to_owned())
        };
        let extension = part("sink.pathManager.extension")?;
        Ok(Names {
            by_time: *alias == "ROLLTIME",
            prefix: part("sink.pathManager.prefix")?,
            extension: if extension.is_empty() { extension } else { format!(".{extension}") },
            series: String::new(),
            number: 0,
        })
    }

    fn next(&mut self, now: SystemTime) -> String {
        if self.by_time {
            let second = jiff::Timestamp::try_from(now).unwrap_or_default();
            let local = second.to_zoned(jiff::tz::TimeZone::system());
            let second = local.strftime("%Y%m%d%H%M%S").to_string();
            if second != self.series {
                (self.series, self.number) = (second, 0);
            }
        } else if self.series.is_empty() {
            let since = now.duration_since(UNIX_EPOCH).unwrap_or_default();
            self.series = since.as_millis().to_string();
        }
        self.number += 1;
        format!("{}{}-{}{}", self.prefix, self.series, self.number, self.extension)
    }
}

#[cfg(test)]
mod tests;
