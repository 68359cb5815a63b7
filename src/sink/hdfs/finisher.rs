//! Finishes, in the background, files that could not be closed or renamed: those of writers that
//! failed, and those that an earlier process left open.
//!
//! Each is brought into a lasting state ([`FileSystem::recover`]: a lease may take minutes) and
//! is cut to what was acknowledged, so that it holds whole events, each once, and gets its final
//! name; one in which nothing was acknowledged is deleted, for its events are delivered again. One
//! that was only planned may be another's: it is deleted if nothing is in it and that harms nobody,
//! which on the local file system is never known: there an empty one may stay. Failures are repeated
//! after pauses that double up to `hdfs.retryInterval`, as often as `hdfs.closeTries` says; the next
//! start tries again.

use super::bucket::FileName;
use super::fs::{FileSystem, FsError, FsErrorKind, Recovered, timed};
use super::journal::{Journal, Known};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

/// The first pause; also the pace at which a lease recovery is asked about at first.
const PAUSE: Duration = Duration::from_secs(1);
/// Names tried when the final one is taken.
const NAMES_MAX: u64 = 10_000;
/// What cutting a file may take beyond one call.
const CUT_PER_MIB: Duration = Duration::from_millis(500);
/// Files worked on at a time.
const AT_ONCE: usize = 4;

/// A file to be finished.
pub(super) struct Unfinished {
    /// Its number in the journal.
    pub(super) id: u64,
    pub(super) fs: Arc<dyn FileSystem>,
    pub(super) name: FileName,
    pub(super) known: Known,
}

/// How long and how often.
#[derive(Clone, Copy, Debug)]
pub(super) struct Patience {
    pub(super) call_max: Option<Duration>,
    /// `None`: without end.
    pub(super) tries: Option<u64>,
    pub(super) pause_max: Duration,
}

/// The background work of one sink; dropping it ends it.
pub(super) struct Finisher {
    sink: String,
    journal: Arc<Journal>,
    patience: Patience,
    permits: Arc<Semaphore>,
    waiting: Arc<AtomicUsize>,
    tasks: JoinSet<()>,
}

impl Finisher {
    pub(super) fn new(sink: &str, journal: Arc<Journal>, patience: Patience) -> Finisher {
        Finisher {
            sink: sink.to_owned(),
            journal,
            patience,
            permits: Arc::new(Semaphore::new(AT_ONCE)),
            waiting: Arc::new(AtomicUsize::new(0)),
            tasks: JoinSet::new(),
        }
    }

    /// Takes a file over.
    pub(super) fn take(&mut self, file: Unfinished) {
        while self.tasks.try_join_next().is_some() {}
        self.waiting.fetch_add(1, Ordering::Relaxed);
        let (sink, journal) = (self.sink.clone(), Arc::clone(&self.journal));
        let (permits, waiting) = (Arc::clone(&self.permits), Arc::clone(&self.waiting));
        let patience = self.patience;
        self.tasks.spawn(async move {
            match finish(&file, patience, &permits).await {
                Ok(said) => {
                    journal.done([file.id]);
                    if let Some(said) = said {
                        tracing::info!("sink {sink}: {said}");
                    }
                }
                Err(error) => tracing::warn!(
                    "sink {sink}: {} stays as it is ({error}); given up after {} tries, the next \
                     start tries again",
                    file.name.in_use,
                    patience.tries.unwrap_or_default()
                ),
            }
            waiting.fetch_sub(1, Ordering::Relaxed);
        });
    }

    /// Waits until everything is done, at most `wait_max`; returns how many files are left.
    pub(super) async fn stop(mut self, wait_max: Duration) -> usize {
        let all = async { while self.tasks.join_next().await.is_some() {} };
        let _ = tokio::time::timeout(wait_max, all).await;
        self.tasks.shutdown().await;
        self.waiting.load(Ordering::Relaxed)
    }
}

/// Works on one file until it is done; what there is to say about it.
async fn finish(
    file: &Unfinished,
    patience: Patience,
    permits: &Semaphore,
) -> Result<Option<String>, FsError> {
    let mut tries = 0;
    let mut pause = PAUSE;
    loop {
        let step = {
            let _permit = permits.acquire().await;
            step(file, patience.call_max).await
        };
        match step {
            Ok(Step::Done(said)) => return Ok(said),
            Ok(Step::UnderWay) => {}
            Err(error) => {
                tries += 1;
                if patience.tries.is_some_and(|most| tries >= most) {
                    return Err(error);
                }
                tracing::debug!("{error}; again in {pause:?}");
            }
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(patience.pause_max.max(PAUSE));
    }
}

enum Step {
    Done(Option<String>),
    UnderWay,
}

async fn step(file: &Unfinished, call_max: Option<Duration>) -> Result<Step, FsError> {
    let in_use = &file.name.in_use;
    let acked = match file.known {
        Known::Planned => {
            let discarded = file.fs.discard_planned(in_use);
            return match timed(call_max, "delete", in_use, discarded).await {
                Ok(false) => Ok(Step::UnderWay),
                Err(error) if error.kind == FsErrorKind::Other => Err(error),
                _ => Ok(Step::Done(None)), // no such file among them
            };
        }
        Known::Made => {
            timed(call_max, "delete", in_use, file.fs.remove(in_use)).await?;
            return Ok(Step::Done(None));
        }
        Known::Wrote(len) => Some(len),
        Known::Unsure => {
            // it is not cut now, but it may have been in the work before the machine went down
            timed(call_max, "delete", in_use, file.fs.discard_cut(in_use)).await?;
            None
        }
    };
    let mut len = match timed(call_max, "recover", in_use, file.fs.recover(in_use)).await {
        Ok(Recovered::Closed(len)) => len,
        Ok(Recovered::UnderWay) => return Ok(Step::UnderWay),
        // it got its final name before this was written down
        Err(error) if error.kind == FsErrorKind::Missing => return Ok(Step::Done(None)),
        Err(error) => return Err(error),
    };
    if len == 0 && acked.unwrap_or(0) == 0 {
        timed(call_max, "delete", in_use, file.fs.remove(in_use)).await?;
        return Ok(Step::Done(None));
    }
    match acked {
        Some(acked) if len > acked => {
            // may be a copy of gigabytes
            let cut_max = call_max.map(|max| max + CUT_PER_MIB * (acked >> 20) as u32);
            let cut = timed(cut_max, "cut", in_use, file.fs.cut(in_use, acked)).await;
            if cut.is_err() {
                // the next try begins anew; if none comes, nothing useless is left
                let _ = timed(call_max, "delete", in_use, file.fs.discard_cut(in_use)).await;
            }
            cut?;
            len = acked;
        }
        Some(acked) if len < acked => tracing::error!(
            "{in_use}: {len} bytes are left of {acked} that the file system had confirmed: events \
             are lost there"
        ),
        _ => {}
    }
    let target = rename(&*file.fs, &file.name, call_max).await?;
    Ok(Step::Done(Some(format!("finished {target} ({len} bytes), which had been left open"))))
}

/// Gives a closed file its final name, or the next that is free; returns it.
pub(super) async fn rename(
    fs: &dyn FileSystem,
    name: &FileName,
    call_max: Option<Duration>,
) -> Result<String, FsError> {
    let mut nth = 0;
    loop {
        let target = name.target(nth);
        if target == name.in_use {
            return Ok(target);
        }
        let renamed = fs.rename(&name.in_use, &target);
        match timed(call_max, "rename", &name.in_use, renamed).await {
            Ok(()) => return Ok(target),
            Err(error) if error.kind == FsErrorKind::Exists && nth < NAMES_MAX => nth += 1,
            Err(error) => return Err(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::fs::Writer;
    use super::super::keys::Names;
    use super::*;
    use async_trait::async_trait;
    use std::collections::BTreeMap;
    use std::sync::Mutex;

    /// Files as their lengths. A cut leaves an empty file beside, and fails or hangs so many times.
    struct Files {
        lens: Mutex<BTreeMap<String, u64>>,
        failures: AtomicUsize,
        hangs: bool,
    }

    impl Files {
        fn file(&self, call: &str, path: &str) -> Result<u64, FsError> {
            let missing =
                || FsError { kind: FsErrorKind::Missing, message: format!("{call} {path}") };
            self.lens.lock().unwrap().get(path).copied().ok_or_else(missing)
        }
    }

    #[async_trait]
    impl FileSystem for Files {
        async fn create(&self, path: &str) -> Result<Box<dyn Writer>, FsError> {
            panic!("create {path}")
        }

        async fn rename(&self, from: &str, to: &str) -> Result<(), FsError> {
            let len = self.file("rename", from)?;
            let mut lens = self.lens.lock().unwrap();
            lens.remove(from);
            lens.insert(to.to_owned(), len);
            Ok(())
        }

        async fn remove(&self, path: &str) -> Result<(), FsError> {
            self.lens.lock().unwrap().remove(path);
            Ok(())
        }

        async fn recover(&self, path: &str) -> Result<Recovered, FsError> {
            self.file("recover", path).map(Recovered::Closed)
        }

        async fn discard_planned(&self, path: &str) -> Result<bool, FsError> {
            self.file("look for", path).map(|_| true)
        }

        async fn cut(&self, path: &str, len: u64) -> Result<(), FsError> {
            self.lens.lock().unwrap().insert(format!("_{path}.cut"), 0);
            let before = self.failures.load(Ordering::Relaxed);
            if before > 0 {
                self.failures.store(before - 1, Ordering::Relaxed);
                if self.hangs {
                    std::future::pending::<()>().await;
                }
                return Err(FsError { kind: FsErrorKind::Other, message: "no datanodes".into() });
            }
            self.discard_cut(path).await?;
            self.lens.lock().unwrap().insert(path.to_owned(), len);
            Ok(())
        }

        async fn discard_cut(&self, path: &str) -> Result<(), FsError> {
            self.remove(&format!("_{path}.cut")).await
        }
    }

    /// Finishes `x.7.tmp` of 30 bytes in `tries` tries; returns what files there are then.
    async fn finished(known: Known, files: Files, tries: u64) -> Vec<(String, u64)> {
        files.lens.lock().unwrap().insert("x.7.tmp".to_owned(), 30);
        let fs = Arc::new(files);
        let names = Names { in_use_suffix: ".tmp".into(), ..Names::default() };
        let name = FileName::new("x", 7, &names);
        let file = Unfinished { id: 0, fs: Arc::clone(&fs) as Arc<dyn FileSystem>, name, known };
        let call_max = Some(Duration::from_millis(50));
        let patience = Patience { call_max, tries: Some(tries), pause_max: PAUSE };
        let _ = finish(&file, patience, &Semaphore::new(1)).await;
        let lens = fs.lens.lock().unwrap();
        lens.iter().map(|(path, len)| (path.clone(), *len)).collect()
    }

    fn files(failures: usize, hangs: bool, more: &[(&str, u64)]) -> Files {
        let lens = more.iter().map(|(path, len)| ((*path).to_owned(), *len)).collect();
        Files { lens: Mutex::new(lens), failures: AtomicUsize::new(failures), hangs }
    }

    #[tokio::test]
    async fn cut_that_fails_or_hangs_leaves_nothing_beside_the_file() {
        for hangs in [false, true] {
            let given_up = finished(Known::Wrote(20), files(1, hangs, &[]), 1).await;
            assert_eq!(given_up, [("x.7.tmp".to_owned(), 30)], "hangs: {hangs}");
            let cut = finished(Known::Wrote(20), files(1, hangs, &[]), 2).await;
            assert_eq!(cut, [("x.7".to_owned(), 20)], "hangs: {hangs}");
        }
    }

    #[tokio::test]
    async fn leftover_of_a_cut_goes_with_its_file_after_a_power_cut_too() {
        let left = files(0, false, &[("_x.7.tmp.cut", 0)]);
        assert_eq!(finished(Known::Unsure, left, 1).await, [("x.7".to_owned(), 30)]);
    }
}
