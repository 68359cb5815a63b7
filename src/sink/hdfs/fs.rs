//! What the sink asks of a file system, and how long it waits for an answer.
//!
//! | | [`Writer::sync`] and [`Writer::close`] returned `Ok` |
//! |---|---|
//! | local | bytes, length and the names on the way are on the disk (`fdatasync`, directories synced) |
//! | HDFS | `hsync`: every datanode of the pipeline has synced the block, the namenode has its length |

use super::hadoop::Target;
use async_trait::async_trait;
use bytes::Bytes;
use std::fmt;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

/// A file system.
#[async_trait]
pub(super) trait FileSystem: Send + Sync {
    /// A new, empty file; missing directories are made. Its name is durable when it returns.
    ///
    /// # Errors
    /// [`FsErrorKind::Exists`]: something has the name already, and is untouched.
    async fn create(&self, path: &str) -> Result<Box<dyn Writer>, FsError>;

    /// Gives a closed file another name in the same directory, durably.
    ///
    /// # Errors
    /// [`FsErrorKind::Exists`]: the new name is taken, nothing changed. [`FsErrorKind::Missing`]:
    /// there is no `from`.
    async fn rename(&self, from: &str, to: &str) -> Result<(), FsError>;

    /// Deletes a file, an open one too; none is fine.
    async fn remove(&self, path: &str) -> Result<(), FsError>;

    /// Brings a file that its writer left open into a state that lasts.
    ///
    /// # Errors
    /// [`FsErrorKind::Missing`]: there is no such file.
    async fn recover(&self, path: &str) -> Result<Recovered, FsError>;

    /// Deletes a file that was about to be created here when the process died, if there is nothing
    /// in it. Somebody else may have made it and be writing it: where that would cost them bytes, it
    /// stays. False: that is not decided yet, ask again later.
    async fn discard_planned(&self, path: &str) -> Result<bool, FsError>;

    /// Cuts a closed file to its first `len` bytes, durably.
    ///
    /// # Errors
    /// It has all its bytes, or is cut; [`discard_cut`](FileSystem::discard_cut) is to follow.
    async fn cut(&self, path: &str, len: u64) -> Result<(), FsError>;

    /// Deletes what a cut of this file that failed or was given up has left beside it, if anything.
    async fn discard_cut(&self, path: &str) -> Result<(), FsError>;
}

/// How far the recovery of a file is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Recovered {
    /// Closed, with so many bytes.
    Closed(u64),
    /// Under way: ask again later. Only HDFS says so.
    #[cfg_attr(not(feature = "hdfs"), allow(dead_code))]
    UnderWay,
}

/// A file that is being written. After an error it must not be used again.
#[async_trait]
pub(super) trait Writer: Send {
    /// Adds bytes to the end. Says nothing about durability.
    async fn append(&mut self, bytes: Bytes) -> Result<(), FsError>;
    /// Makes durable what was added.
    async fn sync(&mut self) -> Result<(), FsError>;
    /// As `sync`, and the file takes no more.
    async fn close(&mut self) -> Result<(), FsError>;
}

/// Why a file system refused.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct FsError {
    pub(super) kind: FsErrorKind,
    /// What was asked, of which file, and the answer.
    pub(super) message: String,
}

/// What the sink does about it depends on this.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum FsErrorKind {
    /// The name is taken.
    Exists,
    /// No such file.
    Missing,
    /// No file can have that name: asking again is no use.
    BadName,
    /// Anything else.
    Other,
}

impl fmt::Display for FsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

/// Opens a file system; makes no connection yet.
///
/// # Errors
/// Hadoop's settings can't be read, or the URI is none.
pub(super) fn open(target: &Target) -> Result<Arc<dyn FileSystem>, FsError> {
    if target.is_local() {
        return Ok(Arc::new(super::local::LocalFiles));
    }
    open_remote(target)
}

#[cfg(feature = "hdfs")]
fn open_remote(target: &Target) -> Result<Arc<dyn FileSystem>, FsError> {
    Ok(Arc::new(super::remote::RemoteFiles::open(target)?))
}

#[cfg(not(feature = "hdfs"))]
fn open_remote(target: &Target) -> Result<Arc<dyn FileSystem>, FsError> {
    let message = format!("{}: this levada was built without HDFS", target.uri);
    Err(FsError { kind: FsErrorKind::Other, message })
}

/// Runs one call within `call_max`; a call that takes longer is given up and counts as failed.
pub(super) async fn timed<T>(
    call_max: Option<Duration>,
    what: &str,
    path: &str,
    call: impl Future<Output = Result<T, FsError>>,
) -> Result<T, FsError> {
    let Some(call_max) = call_max else { return call.await };
    tokio::time::timeout(call_max, call).await.unwrap_or_else(|_| {
        let ms = call_max.as_millis();
        let message = format!("{what} {path}: no answer within {ms} ms (hdfs.callTimeout)");
        Err(FsError { kind: FsErrorKind::Other, message })
    })
}
