//! Sink `hdfs`: files of a Hadoop file system, HDFS or the local one, as Flume's.
//!
//! An event goes to the bucket that `hdfs.path` and `hdfs.filePrefix` name for it ([`escape`]); a
//! bucket has at most one open file, `<prefix>.<counter><suffix>.tmp`, which gets its final name
//! when it is full, old or idle. The counter is the clock in ms when the file was begun, made to
//! rise; no file is ever overwritten.
//!
//! **Delivered means durable**: every file that a batch touched was synced or closed, successfully.
//! After a failure the file is not written any further ([`finisher`] gives it its final name), and
//! the events go to a new one: they may be there twice, never not at all. What a crash leaves open
//! is in the [`journal`], and finished at the next start:
//!
//! - after `kill -9`, or a failure of the file system: the file is cut to what was acknowledged, so
//!   it has whole events, each once (an HDFS file by copying, for hdfs-native can't truncate);
//! - after a power cut of this machine: what was acknowledged is there; behind it there may be a
//!   part of what was not, the last event torn. That is delivered again, in another file. A reader
//!   of a SequenceFile or Avro file ends with an error at such a tail, behind all the rest;
//! - without a place for the journal (memory channel): the file keeps its `.tmp` name, as in Flume.

mod batch;
mod bucket;
mod escape;
mod finisher;
mod fs;
mod hadoop;
mod journal;
mod keys;
mod local;
#[cfg(feature = "hdfs")]
mod remote;
mod running;

pub use keys::COMPONENT;

use super::serializer::serializer_of;
use super::{Cause, FailedEvents, Failure, Outcome, Sink, SinkEnv, SinkError};
use crate::codec::EventSerializer;
use crate::codec::sequence_file::{SequenceFile, ValueClass};
use crate::config::{Problem, Settings};
use crate::event::EventBatch;
use async_trait::async_trait;
use batch::MakeSerializer;
use keys::Options;
use running::Running;
use std::path::PathBuf;
use std::time::Instant;

/// The sink `hdfs`.
pub struct HdfsSink {
    name: String,
    state_dir: Option<PathBuf>,
    /// Until it is opened.
    parts: Option<(Options, MakeSerializer)>,
    running: Option<Running>,
    batch_events_max: u32,
}

/// A sink of these settings.
///
/// # Errors
/// A value can't be used.
pub fn build(settings: &Settings, env: &SinkEnv) -> Result<Box<dyn Sink>, Problem> {
    Ok(Box::new(HdfsSink::new(settings, env)?))
}

impl HdfsSink {
    /// As [`build`].
    pub fn new(settings: &Settings, env: &SinkEnv) -> Result<HdfsSink, Problem> {
        let options = Options::of(settings, env)?;
        let batch_events_max = options.batch_events_max;
        let make_serializer = make_serializer(settings)?;
        Ok(HdfsSink {
            name: settings.name().to_owned(),
            state_dir: env.state_dir.clone(),
            parts: Some((options, make_serializer)),
            running: None,
            batch_events_max,
        })
    }
}

fn make_serializer(settings: &Settings) -> Result<MakeSerializer, Problem> {
    if settings.choice("hdfs.fileType")? == "DataStream" {
        let factory = serializer_of(settings, "serializer")?;
        return Ok(Box::new(move || factory.make()));
    }
    let value = match settings.choice("hdfs.writeFormat")? {
        "Text" => ValueClass::Text,
        _ => ValueClass::Writable,
    };
    Ok(Box::new(move || {
        let sync = *uuid::Uuid::new_v4().as_bytes();
        Box::new(SequenceFile::new(value, sync)) as Box<dyn EventSerializer>
    }))
}

#[async_trait]
impl Sink for HdfsSink {
    async fn open(&mut self) -> Result<(), SinkError> {
        if let Some((options, _)) = &self.parts {
            let opened = running::open(&self.name, self.state_dir.as_deref(), options).await?;
            let (options, make_serializer) = self.parts.take().expect("looked at above");
            self.running = Some(Running::new(options, make_serializer, opened));
        }
        Ok(())
    }

    async fn deliver(&mut self, batch: &EventBatch) -> Outcome {
        match &mut self.running {
            Some(running) => running.deliver(batch).await,
            None => Outcome::retry(Cause::Unreachable, "the sink is not open"),
        }
    }

    fn deadline(&self) -> Option<Instant> {
        self.running.as_ref().and_then(Running::deadline)
    }

    async fn tick(&mut self) -> Result<(), SinkError> {
        match &mut self.running {
            Some(running) => running.close_due().await,
            None => Ok(()),
        }
    }

    async fn close(&mut self) -> Result<(), SinkError> {
        match self.running.take() {
            Some(running) => running.stop().await,
            None => Ok(()),
        }
    }

    fn batch_events_max(&self) -> u32 {
        self.batch_events_max
    }
}
