//! Whether a directory is a log, and if not, which one was meant.

use crate::log::{FileStorage, LogError, Storage, read_meta};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Directories that are looked into for a log that was meant.
const LOOKED_AT_MAX: usize = 2000;

/// Why a log can't be looked at.
#[derive(Debug, thiserror::Error)]
pub enum InspectError {
    /// The directory is no log: which, why, and what to do.
    #[error("{0}")]
    NotALog(String),
    /// META and every segment header are unreadable: nobody knows whose bytes these are.
    #[error(
        "{0}: META.a, META.b and the headers of all segments are missing or damaged: \
         restore META.a from a copy"
    )]
    NoIdentity(String),
    /// The log can't be read.
    #[error(transparent)]
    Log(#[from] LogError),
    /// The cursors can't be read.
    #[error("cursor journal of {dir}: {error}")]
    Cursors {
        /// The log's directory.
        dir: String,
        /// What is wrong.
        error: crate::channel::cursors::CursorsError,
    },
}

/// A directory that holds a log.
#[derive(Clone)]
pub struct LogDir {
    path: PathBuf,
    storage: Arc<dyn Storage>,
}

impl LogDir {
    /// The log in `path`.
    ///
    /// # Errors
    /// There is none, with the nearest directory that holds one.
    pub fn open(path: &Path) -> Result<LogDir, InspectError> {
        if !is_log(path) {
            return Err(InspectError::NotALog(why_not(path)));
        }
        Ok(LogDir { path: path.to_owned(), storage: Arc::new(FileStorage::new(path)) })
    }

    /// The log in `storage`, which need not be a directory: a simulated disk.
    pub fn on(storage: Arc<dyn Storage>) -> LogDir {
        LogDir { path: PathBuf::from(storage.describe()), storage }
    }

    /// The dead-letter log of the channel whose log this is; `None` if it has none, or one that is
    /// just being made.
    pub fn dead(&self) -> Option<LogDir> {
        let path = self.path.join(crate::channel::dead::DIR);
        let dead =
            is_log(&path).then(|| LogDir { storage: Arc::new(FileStorage::new(&path)), path });
        dead.filter(LogDir::is_made)
    }

    /// Whether it says whose it is, or has segments, which could.
    fn is_made(&self) -> bool {
        let has_segments = || self.storage.list("log").is_ok_and(|files| !files.is_empty());
        !matches!(read_meta(&*self.storage), Ok(None)) || has_segments()
    }

    /// The directory.
    pub fn path(&self) -> &Path {
        &self.path
    }

    pub(super) fn storage(&self) -> &dyn Storage {
        &*self.storage
    }

    /// Whether recovery passed over this place and kept its bytes and a note in `quarantine`.
    pub fn is_quarantined(&self, file: &str, position: u64) -> bool {
        let stem = file.rsplit('/').next().unwrap_or(file).trim_end_matches(".seg");
        self.has(&format!("quarantine/{stem}-{position}.json"))
    }

    /// Whether the file `name` is still there; not so once it was reclaimed.
    pub(super) fn has(&self, name: &str) -> bool {
        let opened = self.storage.open(name, false);
        !opened.is_err_and(|error| error.kind() == std::io::ErrorKind::NotFound)
    }
}

fn is_log(dir: &Path) -> bool {
    let meta = ["META.a", "META.b"].iter().any(|name| dir.join(name).is_file());
    meta || files(&dir.join("log")).any(|path| path.extension().is_some_and(|ext| ext == "seg"))
}

fn files(dir: &Path) -> impl Iterator<Item = PathBuf> {
    std::fs::read_dir(dir).into_iter().flatten().flatten().map(|entry| entry.path())
}

fn why_not(path: &Path) -> String {
    let dir = path.display();
    let what = if !path.exists() {
        format!("{dir}: no such directory")
    } else if !path.is_dir() {
        format!("{dir} is a file, not a channel's data directory")
    } else if let Some(name) = flume_file(path) {
        return format!(
            "{dir} is a file channel of Apache Flume ({name}), not a log of levada: \
             Flume's own tools read it; to move it, drain it into levada's Avro source"
        );
    } else if files(path).next().is_none() {
        format!("{dir} is empty")
    } else {
        format!("{dir} is not a log of levada: it has neither META.a, META.b nor log/*.seg")
    };
    let hint = match nearest(path) {
        Some(found) => format!("did you mean {}?", found.display()),
        None => "name a channel's data directory (its key dataDirs)".to_owned(),
    };
    format!("{what}; {hint}")
}

/// A file by which Flume's file channel is known.
fn flume_file(dir: &Path) -> Option<String> {
    let names = files(dir).filter_map(|path| path.file_name()?.to_str().map(str::to_owned));
    names.into_iter().find(|name| {
        let log = name.strip_prefix("log-").map(|rest| rest.trim_end_matches(".meta"));
        name == "in_use.lock" || log.is_some_and(|n| n.parse::<u64>().is_ok())
    })
}

/// The nearest log: above `path` if it lies inside one, else below it or below what is left of it.
fn nearest(path: &Path) -> Option<PathBuf> {
    let above = path.ancestors().skip(1).take(2).find(|dir| {
        !dir.as_os_str().is_empty() && is_log(dir) // `log`, `cursor` and what is in them
    });
    if let Some(above) = above {
        return Some(above.to_owned());
    }
    let start = match path.is_dir() {
        true => path,
        false => path.parent().filter(|p| p.is_dir()).unwrap_or(Path::new(".")),
    };
    let mut level = vec![start.to_owned()];
    let mut looked_at = 0;
    for _ in 0..3 {
        let mut below = Vec::new();
        for dir in &level {
            let mut dirs: Vec<_> = files(dir).filter(|path| path.is_dir()).collect();
            dirs.sort();
            for dir in dirs {
                looked_at += 1;
                if is_log(&dir) {
                    return Some(dir);
                }
                if looked_at > LOOKED_AT_MAX {
                    return None;
                }
                below.push(dir);
            }
        }
        level = below;
    }
    None
}
