//! HDFS by hdfs-native, a client without Java.
//!
//! What it promises, as measured against Hadoop 3.4: `write_bytes` says nothing (bytes wait in its
//! queues); `hsync` and `close` return when every datanode of the pipeline has the bytes on its
//! disk. After an error a writer is dead and the state of its last bytes unknown, so the sink drops
//! it and has the lease recovered. Recovery keeps everything that was synced and may keep a part of
//! what was not; it can take minutes, with the namenode just started.

use super::fs::{FileSystem, FsError, FsErrorKind, Recovered, Writer};
use super::hadoop::Target;
use async_trait::async_trait;
use bytes::Bytes;
use hdfs_native::file::FileWriter;
use hdfs_native::{Client, ClientBuilder, HdfsError, WriteOptions};

/// An HDFS.
pub(super) struct RemoteFiles {
    client: Client,
}

impl RemoteFiles {
    /// A client of `target`, in the runtime of the caller; it connects at the first call.
    pub(super) fn open(target: &Target) -> Result<RemoteFiles, FsError> {
        let mut builder = ClientBuilder::new().with_url(&target.uri);
        if let Some(dir) = &target.conf_dir {
            builder = builder.with_config_dir(dir.to_string_lossy());
        }
        let client = builder.build().map_err(|error| of(error, "open", &target.uri))?;
        Ok(RemoteFiles { client })
    }
}

#[async_trait]
impl FileSystem for RemoteFiles {
    async fn create(&self, path: &str) -> Result<Box<dyn Writer>, FsError> {
        let made = self.client.create(path, WriteOptions::default()).await;
        let file = made.map_err(|error| of(error, "create", path))?;
        Ok(Box::new(RemoteWriter { file, path: path.to_owned() }))
    }

    async fn rename(&self, from: &str, to: &str) -> Result<(), FsError> {
        self.client.rename(from, to, false).await.map_err(|error| of(error, "rename", from))
    }

    async fn exists(&self, path: &str) -> Result<bool, FsError> {
        match self.client.get_file_info(path).await {
            Ok(_) => Ok(true),
            Err(HdfsError::FileNotFound(_)) => Ok(false),
            Err(error) => Err(of(error, "look for", path)),
        }
    }

    async fn remove(&self, path: &str) -> Result<(), FsError> {
        // false: there was none
        self.client.delete(path, false).await.map(|_| ()).map_err(|error| of(error, "delete", path))
    }

    async fn recover(&self, path: &str, _: Option<u64>) -> Result<Recovered, FsError> {
        let recovered = self.client.recover_lease(path).await;
        if !recovered.map_err(|error| of(error, "recover", path))? {
            return Ok(Recovered::UnderWay);
        }
        let info = self.client.get_file_info(path).await;
        let info = info.map_err(|error| of(error, "look for", path))?;
        Ok(Recovered::Closed(info.length as u64))
    }
}

struct RemoteWriter {
    file: FileWriter,
    path: String,
}

#[async_trait]
impl Writer for RemoteWriter {
    async fn append(&mut self, bytes: Bytes) -> Result<(), FsError> {
        let written = self.file.write_bytes(bytes).await;
        written.map(|_| ()).map_err(|error| of(error, "write", &self.path))
    }

    async fn sync(&mut self) -> Result<(), FsError> {
        self.file.hsync().await.map_err(|error| of(error, "sync", &self.path))
    }

    async fn close(&mut self) -> Result<(), FsError> {
        self.file.close().await.map_err(|error| of(error, "close", &self.path))
    }
}

/// hdfs-native's error as the sink's.
fn of(error: HdfsError, what: &str, path: &str) -> FsError {
    let kind = match &error {
        HdfsError::AlreadyExists(_) => FsErrorKind::Exists,
        HdfsError::FileNotFound(_) => FsErrorKind::Missing,
        HdfsError::RPCError(class, _) => match class.rsplit(['.', '$']).next().unwrap_or_default() {
            "FileNotFoundException" => FsErrorKind::Missing,
            "InvalidPathException" | "PathComponentTooLongException" => FsErrorKind::BadName,
            _ => FsErrorKind::Other,
        },
        _ => FsErrorKind::Other,
    };
    // a server's answer carries its stack; the first line says it
    let text = error.to_string();
    let line = text.lines().next().unwrap_or_default();
    FsError { kind, message: format!("{what} {path}: {line}") }
}
