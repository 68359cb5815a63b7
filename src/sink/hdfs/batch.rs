//! One batch: which events go to which file, as one buffer and one write per file.
//!
//! [`Plan`] is pure: it takes the open files it adds to, and makes new ones where a bucket has none
//! or a file is full. [`write_piece`] does one file's part: create, write, then sync or close.

use super::bucket::{FileName, OpenFile};
use super::fs::{FileSystem, FsError, FsErrorKind, timed};
use super::journal::Journal;
use super::keys::{Names, Options};
use crate::codec::EventSerializer;
use crate::event::{EventBatch, LogEvent};
use crate::offset::Offset;
use bytes::Bytes;
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// Makes the serializer of a new file.
pub(super) type MakeSerializer = Box<dyn Fn() -> Box<dyn EventSerializer> + Send + Sync>;

/// What one file gets of a batch.
pub(super) struct Piece {
    /// Directory and prefix.
    pub(super) bucket: String,
    pub(super) file: OpenFile,
    pub(super) bytes: Vec<u8>,
    /// The events in it.
    pub(super) offsets: Vec<Offset>,
    /// It is full with them.
    pub(super) closes: bool,
}

/// An event that can't be written, and why.
pub(super) struct BadEvent {
    pub(super) offset: Offset,
    pub(super) reason: String,
}

/// A batch, cut into pieces.
#[derive(Default)]
pub(super) struct Plan {
    pub(super) pieces: Vec<Piece>,
    pub(super) bad: Vec<BadEvent>,
    /// Files whose serializer failed: they keep what they had.
    pub(super) broken: Vec<OpenFile>,
    /// The piece of a bucket that takes more.
    growing: HashMap<String, usize>,
}

/// What a plan is made from.
pub(super) struct Planner<'a> {
    pub(super) options: &'a Options,
    pub(super) make_serializer: &'a MakeSerializer,
    pub(super) open: &'a mut HashMap<String, OpenFile>,
    pub(super) counter: &'a AtomicU64,
    pub(super) now: Instant,
    /// ms since 1970.
    pub(super) clock_ms: u64,
}

impl Planner<'_> {
    /// Cuts `batch` into pieces; takes the files they go to out of `open`.
    pub(super) fn plan(&mut self, batch: &EventBatch) -> Plan {
        let mut plan = Plan::default();
        for event in batch.iter() {
            if let Err(reason) = self.add(event, &mut plan) {
                plan.bad.push(BadEvent { offset: event.offset, reason });
            }
        }
        let (used, unused): (Vec<_>, Vec<_>) =
            plan.pieces.drain(..).partition(|piece| !piece.offsets.is_empty());
        for piece in unused.into_iter().filter(|piece| piece.file.writer.is_some()) {
            self.open.insert(piece.bucket, piece.file);
        }
        for mut piece in used {
            let ended = if piece.closes {
                piece.file.serializer.end(&mut piece.bytes)
            } else {
                piece.file.serializer.flush(&mut piece.bytes)
            };
            if let Err(error) = ended {
                // what it held back is gone: none of these events is written
                let reason = format!("{}: {error}", piece.file.name.in_use);
                let bad = |offset| BadEvent { offset, reason: reason.clone() };
                plan.bad.extend(piece.offsets.drain(..).map(bad));
                plan.broken.extend(piece.file.writer.is_some().then_some(piece.file));
            } else {
                plan.pieces.push(piece);
            }
        }
        plan
    }

    fn add(&mut self, event: LogEvent<'_>, plan: &mut Plan) -> Result<(), String> {
        let Options { path, prefix, time, .. } = self.options;
        let dir = path.render(event.event, time, self.clock_ms)?;
        let prefix = prefix.render(event.event, time, self.clock_ms)?;
        let bucket = join(&dir, &prefix);
        let index = match plan.growing.get(&bucket) {
            Some(&index) => index,
            None => {
                plan.pieces.push(self.piece(bucket.clone())?);
                plan.growing.insert(bucket.clone(), plan.pieces.len() - 1);
                plan.pieces.len() - 1
            }
        };
        let piece = &mut plan.pieces[index];
        let file = &mut piece.file;
        file.serializer
            .event(event.event, event.time_ms, &mut piece.bytes)
            .map_err(|error| error.to_string())?;
        file.used = self.now;
        file.events += 1;
        file.body_bytes += event.event.body().len() as u64;
        piece.offsets.push(event.offset);
        if self.options.roll.is_full(file.events, file.body_bytes) {
            piece.closes = true;
            plan.growing.remove(&bucket);
        }
        Ok(())
    }

    /// The open file of a bucket, or a new one.
    fn piece(&mut self, bucket: String) -> Result<Piece, String> {
        let mut bytes = Vec::new();
        let file = match self.open.remove(&bucket) {
            Some(file) => file,
            None => {
                let mut serializer = (self.make_serializer)();
                serializer.begin(&mut bytes).map_err(|error| error.to_string())?;
                let counter = next_counter(self.counter, self.clock_ms);
                OpenFile {
                    id: 0,
                    name: FileName::new(&bucket, counter, &self.options.names),
                    writer: None,
                    serializer,
                    events: 0,
                    body_bytes: 0,
                    acked_len: 0,
                    opened: self.now,
                    used: self.now,
                }
            }
        };
        Ok(Piece { bucket, file, bytes, offsets: Vec::new(), closes: false })
    }
}

/// The clock in ms, but always more than the last: so the files of a sink sort by age.
pub(super) fn next_counter(last: &AtomicU64, clock_ms: u64) -> u64 {
    let next = |last: u64| last.saturating_add(1).max(clock_ms);
    let before = last.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |last| Some(next(last)));
    next(before.unwrap_or_else(|last| last))
}

fn join(dir: &str, prefix: &str) -> String {
    let prefix = prefix.trim_start_matches('/');
    if dir.is_empty() || dir.ends_with('/') {
        format!("{dir}{prefix}")
    } else {
        format!("{dir}/{prefix}")
    }
}

/// What the writing of pieces needs.
#[derive(Clone)]
pub(super) struct Tools {
    pub(super) fs: Arc<dyn FileSystem>,
    pub(super) uri: String,
    pub(super) names: Names,
    pub(super) journal: Arc<Journal>,
    pub(super) counter: Arc<AtomicU64>,
    pub(super) call_max: Option<Duration>,
}

/// Names tried when a file of another has the one in use.
const NAMES_MAX: u32 = 100;

/// Writes a piece. `Ok`: its bytes are durable, and the file is closed if it was to be.
pub(super) async fn write_piece(tools: &Tools, piece: &mut Piece) -> Result<(), FsError> {
    let bytes = Bytes::from(std::mem::take(&mut piece.bytes));
    let len = bytes.len() as u64;
    let file = &mut piece.file;
    if file.writer.is_none() {
        create(tools, &piece.bucket, file).await?;
    }
    let path = &file.name.in_use;
    let writer = file.writer.as_mut().expect("created above");
    if len > 0 {
        timed(tools.call_max, "write", path, writer.append(bytes)).await?;
    }
    if piece.closes {
        timed(tools.call_max, "close", path, writer.close()).await?;
    } else {
        timed(tools.call_max, "sync", path, writer.sync()).await?;
    }
    file.acked_len += len;
    Ok(())
}

/// Creates the file under a name that is free; each name is in the journal before it is tried.
async fn create(tools: &Tools, bucket: &str, file: &mut OpenFile) -> Result<(), FsError> {
    for _ in 0..NAMES_MAX {
        let path = file.name.in_use.clone();
        match timed(tools.call_max, "create", &path, tools.fs.create(&path)).await {
            Ok(writer) => {
                file.writer = Some(writer);
                let made = tools.journal.made(file.id);
                return made.map_err(|error| journal_error(&error));
            }
            Err(error) if error.kind == FsErrorKind::Exists => {
                let counter = next_counter(&tools.counter, 0);
                file.name = FileName::new(bucket, counter, &tools.names);
                let planned = plan_names(tools, vec![file.name.clone()]).await;
                tools.journal.done([file.id]);
                file.id = planned?[0];
            }
            Err(error) => {
                tools.journal.done([file.id]);
                return Err(error);
            }
        }
    }
    let message =
        format!("create {}: this and {NAMES_MAX} names before are taken", file.name.in_use);
    Err(FsError { kind: FsErrorKind::Other, message })
}

/// Has the journal say that these files are about to be created.
pub(super) async fn plan_names(tools: &Tools, names: Vec<FileName>) -> Result<Vec<u64>, FsError> {
    if names.is_empty() {
        return Ok(Vec::new());
    }
    let (journal, uri) = (Arc::clone(&tools.journal), tools.uri.clone());
    let planned =
        tokio::task::spawn_blocking(move || journal.plan(&uri, &names.iter().collect::<Vec<_>>()));
    let planned = planned.await.unwrap_or_else(|error| Err(std::io::Error::other(error)));
    planned.map_err(|error| journal_error(&error))
}

/// The journal failed: nothing new may be begun or acknowledged.
pub(super) fn journal_error(error: &std::io::Error) -> FsError {
    FsError { kind: FsErrorKind::Other, message: format!("journal of open files: {error}") }
}
