//! The sink between open and close: its open files, and what is done with them.

use super::batch::{
    MakeSerializer, Piece, Plan, Planner, Tools, journal_error, plan_names, write_piece,
};
use super::bucket::OpenFile;
use super::finisher::{Finisher, Patience, Unfinished, rename};
use super::fs::{self, FsError, FsErrorKind, timed};
use super::hadoop::Target;
use super::journal::{Entry, Journal, Known};
use super::keys::Options;
use super::{Cause, FailedEvents, Failure, Outcome, SinkError};
use crate::event::EventBatch;
use crate::offset::Offset;
use bytes::Bytes;
use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

/// What closing all files may take at the end: below what the agent gives its sinks.
const STOP_MAX: Duration = Duration::from_secs(15);
/// What finishing others' files may take then.
const FINISH_MAX: Duration = Duration::from_secs(2);

/// What opening the sink gives.
pub(super) struct OpenedSink {
    tools: Tools,
    finisher: Finisher,
}

/// Opens the file system and the journal, and has what an earlier process left open finished in
/// the background.
///
/// # Errors
/// Nothing is left open.
pub(super) async fn open(
    sink: &str,
    state_dir: Option<&Path>,
    options: &Options,
) -> Result<OpenedSink, SinkError> {
    let fs = fs::open(&options.target).map_err(|error| SinkError(error.to_string()))?;
    let (dir, name) = (state_dir.map(Path::to_owned), sink.to_owned());
    let opened = tokio::task::spawn_blocking(move || Journal::open(dir.as_deref(), &name)).await;
    let (journal, left) = opened
        .unwrap_or_else(|error| Err(std::io::Error::other(error)))
        .map_err(|error| SinkError(journal_error(&error).to_string()))?;
    let journal = Arc::new(journal);
    let patience = Patience {
        call_max: options.call_max,
        tries: options.close_tries,
        pause_max: options.retry_max,
    };
    let tools = Tools {
        fs,
        uri: options.target.uri.clone(),
        names: options.names.clone(),
        journal: Arc::clone(&journal),
        counter: Arc::new(AtomicU64::new(0)),
        call_max: options.call_max,
    };
    let mut finisher = Finisher::new(sink, journal, patience);
    if !left.is_empty() {
        let count = left.len();
        tracing::info!("sink {sink}: {count} file(s) of an earlier run are being finished");
    }
    for (id, entry) in left {
        take_over(sink, id, entry, options, &tools, &mut finisher);
    }
    Ok(OpenedSink { tools, finisher })
}

fn take_over(
    sink: &str,
    id: u64,
    Entry { fs, name, known }: Entry,
    options: &Options,
    tools: &Tools,
    finisher: &mut Finisher,
) {
    let same = fs == tools.uri;
    let target = Target { uri: fs, conf_dir: options.target.conf_dir.clone() };
    match if same { Ok(Arc::clone(&tools.fs)) } else { fs::open(&target) } {
        Ok(fs) => finisher.take(Unfinished { id, fs, name, known }),
        // it stays in the journal: a later start may reach it
        Err(error) => tracing::warn!("sink {sink}: {} is left open: {error}", name.in_use),
    }
}

/// The sink while it is open.
pub(super) struct Running {
    options: Options,
    make_serializer: MakeSerializer,
    open: HashMap<String, OpenFile>,
    tools: Tools,
    permits: Arc<Semaphore>,
    finisher: Finisher,
}

/// What became of a batch's pieces.
#[derive(Default)]
struct Tally {
    failed: Vec<Offset>,
    reason: Option<String>,
    retryable: bool,
}

impl Tally {
    fn fail(&mut self, offsets: impl IntoIterator<Item = Offset>, reason: &str, retryable: bool) {
        self.failed.extend(offsets);
        self.retryable |= retryable;
        if self.reason.is_none() {
            self.reason = Some(reason.to_owned());
        }
    }

    fn outcome(mut self, batch: &EventBatch) -> Outcome {
        let Some(reason) = self.reason else { return Outcome::Delivered };
        self.failed.sort_unstable();
        let events = if self.failed.len() == batch.len() {
            FailedEvents::All
        } else {
            FailedEvents::Only(self.failed)
        };
        let cause = if self.retryable { Cause::Storage } else { Cause::Invalid };
        Outcome::Failed(Failure { events, cause, retryable: self.retryable, reason })
    }
}

impl Running {
    pub(super) fn new(
        options: Options,
        make_serializer: MakeSerializer,
        OpenedSink { tools, finisher }: OpenedSink,
    ) -> Running {
        let permits = Arc::new(Semaphore::new(options.calls_at_once));
        Running { options, make_serializer, open: HashMap::new(), tools, permits, finisher }
    }

    /// As [`super::Sink::deliver`].
    pub(super) async fn deliver(&mut self, batch: &EventBatch) -> Outcome {
        // a busy sink is not called to tick; a failure is the background's from here on
        let _ = self.close_due().await;
        let clock_ms = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let mut planner = Planner {
            options: &self.options,
            make_serializer: &self.make_serializer,
            open: &mut self.open,
            counter: &self.tools.counter,
            now: Instant::now(),
            clock_ms: u64::try_from(clock_ms.as_millis()).unwrap_or(u64::MAX),
        };
        let Plan { mut pieces, bad, broken, .. } = planner.plan(batch);
        let mut tally = Tally::default();
        for event in bad {
            tally.fail([event.offset], &event.reason, false);
        }
        for file in broken {
            self.abandon(file);
        }
        let staying = pieces.iter().filter(|piece| !piece.closes).count();
        let _ = self.close_beyond(staying).await;
        if let Err(error) = self.number_new_files(&mut pieces).await {
            for piece in pieces.extract_if(.., |piece| piece.file.writer.is_none()) {
                tally.fail(piece.offsets, &error.message, true);
            }
        }
        let written = self.write(pieces).await;
        self.settle(written, &mut tally).await;
        let _ = self.close_beyond(0).await;
        tally.outcome(batch)
    }

    /// Enters the files that are to be created into the journal, with one sync for all.
    async fn number_new_files(&mut self, pieces: &mut [Piece]) -> Result<(), FsError> {
        let new = pieces.iter().filter(|piece| piece.file.writer.is_none());
        let names = new.map(|piece| piece.file.name.clone()).collect();
        let ids = plan_names(&self.tools, names).await?;
        let new = pieces.iter_mut().filter(|piece| piece.file.writer.is_none());
        for (piece, id) in new.zip(ids) {
            piece.file.id = id;
        }
        Ok(())
    }

    /// Writes all pieces, `hdfs.threadsPoolSize` at a time.
    async fn write(&mut self, mut pieces: Vec<Piece>) -> Vec<(Piece, Result<(), FsError>)> {
        if pieces.len() == 1 {
            // the usual case needs no task of its own
            let mut piece = pieces.pop().expect("there is one");
            let result = write_piece(&self.tools, &mut piece).await;
            return vec![(piece, result)];
        }
        let mut tasks = JoinSet::new();
        for mut piece in pieces {
            let (tools, permits) = (self.tools.clone(), Arc::clone(&self.permits));
            tasks.spawn(async move {
                let _permit = permits.acquire().await;
                let result = write_piece(&tools, &mut piece).await;
                (piece, result)
            });
        }
        tasks.join_all().await
    }

    /// Keeps the files that go on, names those that are closed, abandons those that failed, and
    /// writes into the journal what is acknowledged hereby.
    async fn settle(&mut self, written: Vec<(Piece, Result<(), FsError>)>, tally: &mut Tally) {
        let mut notes = Vec::new();
        let mut kept = Vec::new();
        let mut closed = Vec::new();
        for (piece, result) in written {
            match result {
                Ok(()) if piece.closes => closed.push(piece),
                Ok(()) => {
                    notes.push((piece.file.id, Known::Wrote(piece.file.acked_len)));
                    kept.push(piece);
                }
                Err(error) => {
                    let retryable = error.kind != FsErrorKind::BadName;
                    tally.fail(piece.offsets, &error.message, retryable);
                    self.abandon(piece.file);
                }
            }
        }
        let mut unnamed = Vec::new();
        let files = closed.into_iter().map(|piece| (piece.file, piece.offsets)).collect();
        for ((file, offsets), renamed) in self.name_all(files).await {
            if renamed.is_ok() {
                self.tools.journal.done([file.id]);
            } else {
                // durable under its other name; the finisher goes on trying
                notes.push((file.id, Known::Wrote(file.acked_len)));
                unnamed.push((file, offsets));
            }
        }
        match self.tools.journal.note(&notes) {
            Ok(()) => {
                self.open.extend(kept.into_iter().map(|piece| (piece.bucket, piece.file)));
                unnamed.into_iter().for_each(|(file, _)| self.abandon(file));
            }
            Err(error) => {
                // a crash now would cut the files below these bytes: they are not acknowledged
                let reason = journal_error(&error).message;
                let kept = kept.into_iter().map(|piece| (piece.file, piece.offsets));
                for (file, offsets) in kept.chain(unnamed) {
                    tally.fail(offsets, &reason, true);
                    self.abandon(file);
                }
            }
        }
    }

    /// Gives closed files their final names.
    async fn name_all<T: Send + 'static>(
        &mut self,
        files: Vec<(OpenFile, T)>,
    ) -> Vec<((OpenFile, T), Result<(), FsError>)> {
        let mut tasks = JoinSet::new();
        for file in files {
            let (tools, permits) = (self.tools.clone(), Arc::clone(&self.permits));
            tasks.spawn(async move {
                let _permit = permits.acquire().await;
                let renamed = rename(&*tools.fs, &file.0.name, tools.call_max).await;
                (file, renamed.map(|_| ()))
            });
        }
        tasks.join_all().await
    }

    /// When the next file is to be closed.
    pub(super) fn deadline(&self) -> Option<Instant> {
        let due = |file: &OpenFile| self.options.roll.due(file.opened, file.used);
        self.open.values().filter_map(due).min()
    }

    /// Closes the files whose time has come.
    ///
    /// # Errors
    /// Some could not be closed: the background goes on trying.
    pub(super) async fn close_due(&mut self) -> Result<(), SinkError> {
        let (now, roll) = (Instant::now(), self.options.roll);
        let is_due =
            |file: &OpenFile| roll.due(file.opened, file.used).is_some_and(|due| due <= now);
        let due: Vec<_> = self.open.extract_if(|_, file| is_due(file)).map(|(_, f)| f).collect();
        self.close_files(due).await
    }

    /// Closes the longest unused files until `hdfs.maxOpenFiles` leaves room for `more`.
    async fn close_beyond(&mut self, more: usize) -> Result<(), SinkError> {
        let over = (self.open.len() + more).saturating_sub(self.options.open_files_max);
        if over == 0 {
            return Ok(());
        }
        let mut by_use: Vec<_> = self.open.iter().map(|(key, f)| (f.used, key.clone())).collect();
        by_use.sort_unstable();
        let oldest = by_use.into_iter().take(over);
        let files: Vec<_> = oldest.filter_map(|(_, key)| self.open.remove(&key)).collect();
        self.close_files(files).await
    }

    /// Closes and names files in which everything is acknowledged.
    async fn close_files(&mut self, files: Vec<OpenFile>) -> Result<(), SinkError> {
        let mut tasks = JoinSet::new();
        for mut file in files {
            let (tools, permits) = (self.tools.clone(), Arc::clone(&self.permits));
            tasks.spawn(async move {
                let _permit = permits.acquire().await;
                let closed = close_file(&tools, &mut file).await;
                (file, closed)
            });
        }
        let mut first = None;
        while let Some(done) = tasks.join_next().await {
            // a panic of a task is one of this sink
            let (file, closed) = done.map_err(|error| SinkError(error.to_string()))?;
            match closed {
                Ok(()) => self.tools.journal.done([file.id]),
                Err(error) => {
                    first.get_or_insert(SinkError(error.message));
                    self.abandon(file);
                }
            }
        }
        first.map_or(Ok(()), Err)
    }

    /// Hands a file that must not be written any further to the background.
    fn abandon(&mut self, file: OpenFile) {
        let OpenFile { id, name, writer, acked_len, .. } = file;
        if writer.is_none() {
            // not created, as far as is known; nothing in it was acknowledged
            return self.tools.journal.done([id]);
        }
        drop(writer);
        let known = if acked_len > 0 { Known::Wrote(acked_len) } else { Known::Made };
        self.finisher.take(Unfinished { id, fs: Arc::clone(&self.tools.fs), name, known });
    }

    /// Closes everything, within a time.
    ///
    /// # Errors
    /// What is left open, and what becomes of it.
    pub(super) async fn stop(mut self) -> Result<(), SinkError> {
        let files: Vec<_> = self.open.drain().map(|(_, file)| file).collect();
        let count = files.len();
        let closed = tokio::time::timeout(STOP_MAX, self.close_files(files)).await;
        let left = self.finisher.stop(FINISH_MAX).await;
        match (closed, left) {
            (Err(_), _) => {
                let what = format!("not all of {count} file(s) closed within {STOP_MAX:?}");
                Err(SinkError(format!("{what}: {LATER}")))
            }
            // what failed to close was finished after all
            (Ok(_), 0) => Ok(()),
            (Ok(Ok(())), left) => Err(SinkError(format!("{left} file(s) are left open: {LATER}"))),
            (Ok(Err(SinkError(error))), left) => {
                Err(SinkError(format!("{error}; {left} file(s) are left open: {LATER}")))
            }
        }
    }
}

const LATER: &str =
    "the next start finishes them (with a durable channel; else they keep the name)";

async fn close_file(tools: &Tools, file: &mut OpenFile) -> Result<(), FsError> {
    let path = &file.name.in_use;
    let mut bytes = Vec::new();
    let ended = file.serializer.end(&mut bytes);
    ended.map_err(|error| FsError {
        kind: FsErrorKind::Other,
        message: format!("close {path}: {error}"),
    })?;
    let len = bytes.len() as u64;
    let Some(writer) = &mut file.writer else { return Ok(()) };
    if len > 0 {
        timed(tools.call_max, "write", path, writer.append(Bytes::from(bytes))).await?;
    }
    timed(tools.call_max, "close", path, writer.close()).await?;
    file.acked_len += len;
    rename(&*tools.fs, &file.name, tools.call_max).await.map(|_| ())
}
