//! The channel types `file` and `memory`: one engine, on disk or on anonymous memory.

use super::keys::{self, DeadOptions};
use super::{Channel, PutError};
use crate::config::{Problem, Settings};
use crate::log::{BatchBuilder, Durability, Log, LogError, LogOptions, OnCorruption, Opened};
use async_trait::async_trait;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Segments of a memory channel, bytes. Only pages that are written to cost memory.
const MEMORY_SEGMENT_BYTES: u64 = 16 << 20;

/// What a channel is opened with.
#[derive(Clone, Debug)]
pub struct ChannelOptions {
    /// The channel's name.
    pub name: String,
    /// The log's directory; `None` for a memory channel.
    pub dir: Option<PathBuf>,
    /// The log's options.
    pub log: LogOptions,
    /// The most events of a put.
    pub transaction_events_max: u64,
    /// How long a put waits for room.
    pub keep_alive: Duration,
    /// What a power cut delivers twice at most; zero: every ack is synced before it counts.
    pub cursor_sync: Duration,
    /// The log of its dead letters, in a directory of `dir`.
    pub dead: DeadOptions,
}

impl ChannelOptions {
    /// Options of a channel over a log, without limits of its own.
    pub fn of_log(name: impl Into<String>, log: LogOptions) -> ChannelOptions {
        ChannelOptions {
            name: name.into(),
            dir: None,
            log,
            transaction_events_max: u64::MAX,
            keep_alive: Duration::ZERO,
            cursor_sync: Duration::MAX,
            dead: DeadOptions::default(),
        }
    }

    /// Options of a `memory` channel.
    ///
    /// # Errors
    /// A key's value can't be.
    pub fn memory(settings: &Settings) -> Result<ChannelOptions, Problem> {
        let capacity_events = settings.count("capacity")?;
        let free_percent = settings.count("byteCapacityBufferPercentage")?;
        let of_flume = settings.opt_int("byteCapacity")?.map_or(0, i64::unsigned_abs);
        let of_flume = of_flume / 100 * (100 - free_percent);
        let of_levada = settings.opt_int("maxBytes")?.map_or(0, i64::unsigned_abs);
        let limits = [of_flume, of_levada].into_iter().filter(|bytes| *bytes > 0);
        let capacity_bytes = limits.min().unwrap_or(u64::MAX);
        let transaction_events_max = transaction(settings, capacity_events)?;
        Ok(ChannelOptions {
            name: settings.name().to_owned(),
            dir: None,
            log: LogOptions {
                durability: Durability::Os,
                segment_bytes: MEMORY_SEGMENT_BYTES,
                capacity_events,
                capacity_bytes,
                spare_count: 1,
                ..LogOptions::default()
            },
            transaction_events_max,
            keep_alive: settings.duration("keep-alive")?,
            cursor_sync: Duration::MAX,
            dead: DeadOptions::default(),
        })
    }

    /// Options of a `file` channel.
    ///
    /// # Errors
    /// A key's value can't be.
    pub fn file(settings: &Settings) -> Result<ChannelOptions, Problem> {
        let dirs = settings.text("dataDirs")?;
        let dir = dirs.split(',').map(str::trim).find(|dir| !dir.is_empty());
        let dir = dir.ok_or_else(|| settings.problem("dataDirs", "names no directory"))?;
        let segment_bytes = LogOptions::segment_bytes_of(settings.count("maxFileSize")?);
        let max_bytes = settings.opt_int("maxBytes")?.map_or(u64::MAX, i64::unsigned_abs);
        if max_bytes < 2 * segment_bytes {
            let text = format!("{max_bytes} is less than two segments of {segment_bytes} bytes");
            return Err(settings.problem("maxBytes", text + ": raise it, or lower maxFileSize"));
        }
        let capacity_events = settings.count("capacity")?;
        Ok(ChannelOptions {
            name: settings.name().to_owned(),
            dir: Some(home(dir)),
            log: LogOptions {
                durability: keys::fsync(settings)?,
                segment_bytes,
                capacity_events,
                capacity_bytes: max_bytes,
                retention: keys::retention(settings)?,
                free_bytes_min: settings.count("minimumRequiredSpace")?,
                on_corruption: match settings.choice("onCorruption")? {
                    "quarantine" => OnCorruption::Quarantine,
                    _ => OnCorruption::Halt,
                },
                ..LogOptions::default()
            },
            transaction_events_max: transaction(settings, capacity_events)?,
            keep_alive: settings.duration("keep-alive")?,
            cursor_sync: settings.duration("cursorSyncInterval")?,
            dead: keys::dead_letter(settings)?,
        })
    }
}

/// The most events of a put; Flume refuses more than the capacity.
fn transaction(settings: &Settings, capacity_events: u64) -> Result<u64, Problem> {
    let events = settings.count("transactionCapacity")?;
    if events > capacity_events {
        let text = format!("{events} is above the capacity of {capacity_events} events");
        return Err(settings.problem("transactionCapacity", text));
    }
    Ok(events)
}

/// A path with a leading `~` put in place.
fn home(path: &str) -> PathBuf {
    match (path.strip_prefix("~/"), std::env::var_os("HOME")) {
        (Some(rest), Some(home)) => PathBuf::from(home).join(rest),
        _ => PathBuf::from(path),
    }
}

/// A channel over a log.
pub struct LogChannel {
    options: ChannelOptions,
    log: Log,
}

impl LogChannel {
    /// Opens the channel's log. Blocks.
    ///
    /// # Errors
    /// As [`Log::open`].
    pub fn open(options: ChannelOptions) -> Result<(Arc<LogChannel>, Opened), LogError> {
        let (log, opened) = match &options.dir {
            Some(dir) => Log::open_dir(dir, options.log.clone())?,
            None => Log::in_memory(options.log.clone())?,
        };
        Ok((LogChannel::over(options, log), opened))
    }

    /// A channel over a log that is open, whatever it is stored in.
    pub fn over(options: ChannelOptions, log: Log) -> Arc<LogChannel> {
        Arc::new(LogChannel { options, log })
    }

    /// What it was opened with.
    pub fn options(&self) -> &ChannelOptions {
        &self.options
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.options.name
    }

    /// Its log.
    pub fn log(&self) -> &Log {
        &self.log
    }

    async fn reserve(&self, batch: &BatchBuilder) -> Result<(), PutError> {
        if self.log.try_reserve(batch).map_err(|error| self.error(error, None))? {
            return Ok(());
        }
        let asked = Instant::now();
        let waited = tokio::time::timeout(self.options.keep_alive, self.log.reserve(batch)).await;
        match waited {
            Ok(reserved) => reserved.map_err(|error| self.error(error, None)),
            Err(_) => Err(self.error(self.log.full(), Some(asked.elapsed()))),
        }
    }

    fn error(&self, error: LogError, waited: Option<Duration>) -> PutError {
        let channel = self.options.name.clone();
        match error {
            LogError::Full { events, bytes } => {
                let waited_ms = waited.unwrap_or_default().as_millis() as u64;
                PutError::Full { channel, events, bytes, waited_ms }
            }
            LogError::TooLarge { size, limit } => {
                PutError::TooLarge { channel, size, limit, unit: "bytes" }
            }
            LogError::NoSpace { reason } => PutError::NoSpace { channel, reason },
            LogError::Closed => PutError::Stopping { channel },
            error => PutError::Failed { channel, reason: error.to_string() },
        }
    }
}

#[async_trait]
impl Channel for LogChannel {
    async fn put(&self, batch: BatchBuilder) -> Result<(), PutError> {
        let (size, limit) = (u64::from(batch.count()), self.options.transaction_events_max);
        if size > limit {
            let (channel, unit) = (self.options.name.clone(), "events (transactionCapacity)");
            return Err(PutError::TooLarge { channel, size, limit, unit });
        }
        self.reserve(&batch).await?;
        let committed = self.log.submit(batch).await;
        committed.map(drop).map_err(|error| self.error(error, None))
    }
}
