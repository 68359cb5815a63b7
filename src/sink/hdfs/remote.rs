//! HDFS by hdfs-native, a client without Java.
//!
//! What it promises, as measured against Hadoop 3.4: `write_bytes` says nothing (bytes wait in its
//! queues); `hsync` and `close` return when every datanode of the pipeline has the bytes on its
//! disk. After an error a writer is dead and the state of its last bytes unknown, so the sink drops
//! it and has the lease recovered. Recovery keeps everything that was synced and may keep a part of
//! what was not; it can take minutes, with the namenode just started.
//!
//! A namenode gives out a datanode that just died until it notices (10 minutes, unless
//! `dfs.namenode.avoid.write.stale.datanode` is set there), and hdfs-native, unlike Hadoop's client,
//! does not ask for others. So a *new* file whose first block finds no datanodes is made again, for
//! other ones; at last with a replica less, and the namenode told to make up for it, which is where
//! Hadoop's client ends too.

use super::fs::{FileSystem, FsError, FsErrorKind, Recovered, Writer};
use super::hadoop::Target;
use async_trait::async_trait;
use bytes::Bytes;
use hdfs_native::file::FileWriter;
use hdfs_native::{Client, ClientBuilder, HdfsError, WriteOptions};
use std::future::Future;
use std::time::Duration;

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
        let made = self.writer(path, WriteOptions::default()).await;
        Ok(Box::new(made.map_err(|error| of(error, "create", path))?))
    }

    async fn rename(&self, from: &str, to: &str) -> Result<(), FsError> {
        self.client.rename(from, to, false).await.map_err(|error| of(error, "rename", from))
    }

    async fn remove(&self, path: &str) -> Result<(), FsError> {
        // false: there was none
        self.client.delete(path, false).await.map(|_| ()).map_err(|error| of(error, "delete", path))
    }

    async fn recover(&self, path: &str) -> Result<Recovered, FsError> {
        let recovered = self.client.recover_lease(path).await;
        if !recovered.map_err(|error| of(error, "recover", path))? {
            return Ok(Recovered::UnderWay);
        }
        let info = self.client.get_file_info(path).await;
        let info = info.map_err(|error| of(error, "look for", path))?;
        Ok(Recovered::Closed(info.length as u64))
    }

    async fn discard_planned(&self, path: &str) -> Result<bool, FsError> {
        let info = self.client.get_file_info(path).await;
        if info.map_err(|error| of(error, "look for", path))?.length > 0 {
            return Ok(true); // another's
        }
        // what its writer has synced shows now, and a writer that lives is told at the next call
        match self.recover(path).await? {
            Recovered::UnderWay => return Ok(false),
            Recovered::Closed(0) => self.remove(path).await?,
            Recovered::Closed(_) => {}
        }
        Ok(true)
    }

    async fn cut(&self, path: &str, len: u64) -> Result<(), FsError> {
        self.replace_by_start(path, len).await.map_err(|error| of(error, "cut", path))
    }

    async fn discard_cut(&self, path: &str) -> Result<(), FsError> {
        self.remove(&start_of(path)).await
    }
}

/// Bytes copied at a time.
const COPY_BYTES: u64 = 4 << 20;

/// The name of what is to take the place of `path` when it is cut; jobs do not see it.
fn start_of(path: &str) -> String {
    let (dir, name) = path.rsplit_once('/').unwrap_or((".", path));
    format!("{dir}/_{name}.cut")
}

impl RemoteFiles {
    async fn writer(&self, path: &str, options: WriteOptions) -> Result<RemoteWriter, HdfsError> {
        let file = self.client.create(path, options).await?;
        let (client, path) = (self.client.clone(), path.to_owned());
        Ok(RemoteWriter { client, file, path, begun: Some(Vec::new()) })
    }

    /// hdfs-native can't truncate: writes the start of a file into another, which then takes its
    /// place in one step.
    async fn replace_by_start(&self, path: &str, len: u64) -> Result<(), HdfsError> {
        let start = start_of(path);
        let mut from = self.client.read(path).await?;
        let mut to = self.writer(&start, WriteOptions::default().overwrite(true)).await?;
        let mut left = len;
        while left > 0 {
            let bytes = from.read_bytes(left.min(COPY_BYTES) as usize).await?;
            if bytes.is_empty() {
                return Err(HdfsError::OperationFailed(format!("{left} bytes are missing")));
            }
            left -= bytes.len() as u64;
            to.write(bytes).await?;
            // from here on its datanodes are known to be there, and nothing is kept in memory
            to.begin().await?;
        }
        to.end().await?;
        self.client.rename(&start, path, true).await
    }
}

/// How often a new file is made again, and how often of that with all its replicas.
const REMAKES: usize = 20;
const REMAKES_IN_FULL: usize = 2;
/// How long the first block of a new file may take before other datanodes are asked for, and how
/// much longer with each that are. A pipeline whose second or third datanode is dead says so at
/// once, but hdfs-native does not listen and waits; all in full and several with a replica less
/// must fit into the default of `hdfs.callTimeout` (30 s).
const FIRST_MAX: Duration = Duration::from_secs(3);
const FIRST_MORE: Duration = Duration::from_secs(1);

struct RemoteWriter {
    client: Client,
    file: FileWriter,
    path: String,
    /// What was written to it, until some of it was synced.
    begun: Option<Vec<Bytes>>,
}

impl RemoteWriter {
    /// Makes a file of which nothing is synced again, until its first block finds datanodes; what
    /// was written to it is synced then.
    async fn remake(&mut self, begun: &[Bytes], mut error: HdfsError) -> Result<(), HdfsError> {
        let info = self.client.get_file_info(&self.path).await?;
        let replicas = info.replication.unwrap_or(1).max(1);
        for attempt in 0..REMAKES {
            let fewer = if attempt < REMAKES_IN_FULL { replicas } else { (replicas - 1).max(1) };
            let options = WriteOptions::default().overwrite(true).replication(fewer);
            let limit = FIRST_MAX + FIRST_MORE * attempt as u32;
            // the file is this writer's own, and nothing in it was acknowledged
            self.file = self.client.create(&self.path, options).await?;
            match within(limit, rewrite(&mut self.file, begun)).await {
                Ok(()) if fewer == replicas => return Ok(()),
                Ok(()) => {
                    let asked = self.client.set_replication(&self.path, replicas).await;
                    let path = &self.path;
                    tracing::debug!("{path}: {fewer} of {replicas} replicas at first: {asked:?}");
                    return Ok(());
                }
                Err(next) => error = next,
            }
        }
        Err(error)
    }

    async fn write(&mut self, bytes: Bytes) -> Result<(), HdfsError> {
        let Some(mut begun) = self.begun.take() else {
            return self.file.write_bytes(bytes).await.map(|_| ());
        };
        begun.push(bytes.clone());
        match first(self.file.write_bytes(bytes)).await {
            Ok(_) => {
                self.begun = Some(begun);
                Ok(())
            }
            Err(error) => self.remake(&begun, error).await,
        }
    }

    /// The first sync; later nothing.
    async fn begin(&mut self) -> Result<(), HdfsError> {
        let Some(begun) = self.begun.take() else { return Ok(()) };
        match first(self.file.hsync()).await {
            Err(error) => self.remake(&begun, error).await,
            synced => synced,
        }
    }

    async fn end(&mut self) -> Result<(), HdfsError> {
        let Some(begun) = self.begun.take() else { return self.file.close().await };
        match first(self.file.close()).await {
            Err(error) => {
                self.remake(&begun, error).await?;
                self.file.close().await
            }
            closed => closed,
        }
    }
}

async fn rewrite(file: &mut FileWriter, begun: &[Bytes]) -> Result<(), HdfsError> {
    for bytes in begun {
        file.write_bytes(bytes.clone()).await?;
    }
    file.hsync().await
}

async fn first<T>(call: impl Future<Output = Result<T, HdfsError>>) -> Result<T, HdfsError> {
    within(FIRST_MAX, call).await
}

async fn within<T>(
    limit: Duration,
    call: impl Future<Output = Result<T, HdfsError>>,
) -> Result<T, HdfsError> {
    tokio::time::timeout(limit, call).await.unwrap_or_else(|_| {
        Err(HdfsError::OperationFailed(format!("no answer of datanodes within {limit:?}")))
    })
}

#[async_trait]
impl Writer for RemoteWriter {
    async fn append(&mut self, bytes: Bytes) -> Result<(), FsError> {
        self.write(bytes).await.map_err(|error| of(error, "write", &self.path))
    }

    async fn sync(&mut self) -> Result<(), FsError> {
        let synced = match self.begun {
            None => self.file.hsync().await,
            Some(_) => self.begin().await,
        };
        synced.map_err(|error| of(error, "sync", &self.path))
    }

    async fn close(&mut self) -> Result<(), FsError> {
        self.end().await.map_err(|error| of(error, "close", &self.path))
    }
}

/// hdfs-native's error as the sink's.
fn of(error: HdfsError, what: &str, path: &str) -> FsError {
    let kind = match &error {
        HdfsError::AlreadyExists(_) => FsErrorKind::Exists,
        HdfsError::FileNotFound(_) => FsErrorKind::Missing,
        HdfsError::RPCError(class, _) => {
            match class.rsplit(['.', '$']).next().unwrap_or_default() {
                "FileNotFoundException" => FsErrorKind::Missing,
                "InvalidPathException" | "PathComponentTooLongException" => FsErrorKind::BadName,
                _ => FsErrorKind::Other,
            }
        }
        _ => FsErrorKind::Other,
    };
    // a server's answer carries its stack; the first line says it
    let text = error.to_string();
    let line = text.lines().next().unwrap_or_default();
    FsError { kind, message: format!("{what} {path}: {line}") }
}
