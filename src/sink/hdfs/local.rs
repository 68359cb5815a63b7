//! The local file system. Calls run on tokio's threads for blocking work.

use super::fs::{FileSystem, FsError, FsErrorKind, Recovered, Writer};
use crate::sink::local::{make_dirs, sync_dir};
use async_trait::async_trait;
use bytes::Bytes;
use rustix::fs::{CWD, RenameFlags, renameat_with};
use rustix::io::Errno;
use std::fs::{File, OpenOptions};
use std::io::{self, ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// The local file system.
pub(super) struct LocalFiles;

#[async_trait]
impl FileSystem for LocalFiles {
    async fn create(&self, path: &str) -> Result<Box<dyn Writer>, FsError> {
        let file = blocking("create", path, create).await?;
        Ok(Box::new(LocalWriter { file: Arc::new(file), path: path.to_owned() }))
    }

    async fn rename(&self, from: &str, to: &str) -> Result<(), FsError> {
        let target = PathBuf::from(to);
        blocking("rename", from, move |from| rename(from, &target)).await
    }

    async fn remove(&self, path: &str) -> Result<(), FsError> {
        let remove = |path: &Path| match std::fs::remove_file(path) {
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
            result => result,
        };
        blocking("delete", path, remove).await
    }

    async fn recover(&self, path: &str) -> Result<Recovered, FsError> {
        let recover = |path: &Path| {
            let file = OpenOptions::new().write(true).open(path)?;
            file.sync_all()?;
            Ok(Recovered::Closed(file.metadata()?.len()))
        };
        blocking("finish", path, recover).await
    }

    async fn discard_planned(&self, _path: &str) -> Result<bool, FsError> {
        Ok(true) // it stays: bytes of whoever has it open would go with it, and nobody would know
    }

    async fn cut(&self, path: &str, len: u64) -> Result<(), FsError> {
        let cut = move |path: &Path| {
            let file = OpenOptions::new().write(true).open(path)?;
            file.set_len(len)?;
            file.sync_all()
        };
        blocking("cut", path, cut).await
    }

    async fn discard_cut(&self, _path: &str) -> Result<(), FsError> {
        Ok(()) // it is cut in place
    }
}

struct LocalWriter {
    file: Arc<File>,
    path: String,
}

impl LocalWriter {
    async fn run(
        &self,
        what: &'static str,
        call: impl FnOnce(&File) -> io::Result<()> + Send + 'static,
    ) -> Result<(), FsError> {
        let file = Arc::clone(&self.file);
        blocking(what, &self.path, move |_| call(&file)).await
    }
}

#[async_trait]
impl Writer for LocalWriter {
    async fn append(&mut self, bytes: Bytes) -> Result<(), FsError> {
        self.run("write", move |mut file| file.write_all(&bytes)).await
    }

    async fn sync(&mut self) -> Result<(), FsError> {
        self.run("sync", File::sync_data).await
    }

    async fn close(&mut self) -> Result<(), FsError> {
        self.sync().await
    }
}

async fn blocking<T: Send + 'static>(
    what: &'static str,
    path: &str,
    call: impl FnOnce(&Path) -> io::Result<T> + Send + 'static,
) -> Result<T, FsError> {
    let owned = PathBuf::from(path);
    let done = tokio::task::spawn_blocking(move || call(&owned)).await;
    let result = done.unwrap_or_else(|error| Err(io::Error::other(error)));
    result.map_err(|error| FsError {
        kind: match error.kind() {
            ErrorKind::AlreadyExists => FsErrorKind::Exists,
            ErrorKind::NotFound => FsErrorKind::Missing,
            ErrorKind::InvalidFilename | ErrorKind::InvalidInput => FsErrorKind::BadName,
            _ => FsErrorKind::Other,
        },
        message: format!("{what} {path}: {error}"),
    })
}

fn create(path: &Path) -> io::Result<File> {
    let dir = dir_of(path);
    make_dirs(dir)?;
    let file = OpenOptions::new().write(true).create_new(true).open(path)?;
    sync_dir(dir)?;
    Ok(file)
}

fn rename(from: &Path, to: &Path) -> io::Result<()> {
    match renameat_with(CWD, from, CWD, to, RenameFlags::NOREPLACE) {
        // not every file system knows the flag
        Err(Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP) => {
            if to.try_exists()? {
                return Err(ErrorKind::AlreadyExists.into());
            }
            std::fs::rename(from, to)?;
        }
        result => result?,
    }
    sync_dir(dir_of(to))
}

fn dir_of(path: &Path) -> &Path {
    match path.parent() {
        Some(dir) if !dir.as_os_str().is_empty() => dir,
        Some(_) => Path::new("."),
        None => Path::new("/"),
    }
}
