//! The control socket of a channel: takes requests in, hands them to the channel's delivery, and
//! brings its answers back. Nothing that a peer sends harms the agent: a request is bounded, a few
//! connections are served at a time, and one that is silent is dropped.

use crate::control::{
    Address, Answer, Line, Progress, REQUEST_BYTES_MAX, Request, SILENCE_MAX, SOCKET,
};
use std::fs::Permissions;
use std::io;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::Semaphore;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::task::JoinHandle;
use tokio::time::timeout;

/// Connections that are served at a time.
const CLIENTS_MAX: usize = 8;

/// A request, and where its answer goes.
pub(super) struct Order {
    pub(super) request: Request,
    pub(super) reply: Reply,
}

/// The way back to a client.
pub(super) struct Reply(UnboundedSender<Line>);

impl Reply {
    /// The last line.
    pub(super) fn end(&self, result: Result<Answer, String>) {
        self.line(result.map_or_else(Line::Error, Line::Ok));
    }

    /// How far it is.
    pub(super) fn progress(&self, progress: Progress) {
        self.line(Line::Progress(progress));
    }

    /// Whether the client went away.
    pub(super) fn is_gone(&self) -> bool {
        self.0.is_closed()
    }

    fn line(&self, line: Line) {
        let _ = self.0.send(line); // nobody may be listening
    }
}

/// A socket that is listened on; removed when dropped, so drop it while the log's lock is held.
pub(super) struct ControlSocket {
    path: PathBuf,
    task: JoinHandle<()>,
}

impl ControlSocket {
    /// Listens in `dir`, whose log's lock the caller has: a socket that is there already is stale.
    /// On the caller's runtime.
    ///
    /// # Errors
    /// The name is taken by something else, or the file system has no sockets.
    pub(super) fn listen(dir: &Path, orders: UnboundedSender<Order>) -> io::Result<ControlSocket> {
        let path = dir.join(SOCKET);
        match std::fs::symlink_metadata(&path) {
            Ok(found) if found.file_type().is_socket() => std::fs::remove_file(&path)?,
            Ok(_) => {
                let text = "something that is no socket has this name: move it away";
                return Err(io::Error::new(io::ErrorKind::AlreadyExists, text));
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
        let listener = std::os::unix::net::UnixListener::bind(Address::of(dir)?.path())?;
        std::fs::set_permissions(&path, Permissions::from_mode(0o600))?;
        listener.set_nonblocking(true)?;
        let listener = UnixListener::from_std(listener)?;
        let task = tokio::spawn(accept(listener, orders, path.clone()));
        Ok(ControlSocket { path, task })
    }
}

impl Drop for ControlSocket {
    fn drop(&mut self) {
        self.task.abort();
        let _ = std::fs::remove_file(&self.path); // a stale one harms nobody
    }
}

async fn accept(listener: UnixListener, orders: UnboundedSender<Order>, path: PathBuf) {
    let permits = Arc::new(Semaphore::new(CLIENTS_MAX));
    let mut failing = false;
    loop {
        let socket = match listener.accept().await {
            Ok((socket, _)) => socket,
            Err(error) => {
                if !std::mem::replace(&mut failing, true) {
                    tracing::warn!("{}: accept: {error}", path.display());
                }
                tokio::time::sleep(Duration::from_secs(1)).await;
                continue;
            }
        };
        failing = false;
        match Arc::clone(&permits).try_acquire_owned() {
            Ok(permit) => {
                let orders = orders.clone();
                tokio::spawn(async move {
                    // a client that breaks off has nobody to be told
                    let _ = serve(socket, orders).await;
                    drop(permit);
                });
            }
            Err(_) => {
                let text = format!("{CLIENTS_MAX} requests are under way: try again later");
                let _ = socket.try_write(&bytes(&Line::Error(text)));
            }
        }
    }
}

async fn serve(mut socket: UnixStream, orders: UnboundedSender<Order>) -> io::Result<()> {
    if !is_allowed(&socket)? {
        let text = "only the agent's user and root may ask".to_owned();
        return write(&mut socket, &Line::Error(text)).await;
    }
    let request = match timeout(SILENCE_MAX, read(&mut socket)).await {
        Ok(request) => request?,
        Err(_) => return Ok(()),
    };
    let request = match request {
        Ok(request) => request,
        Err(text) => return write(&mut socket, &Line::Error(text)).await,
    };
    let (reply, mut lines) = unbounded_channel();
    // if it is gone, the lines end at once
    let _ = orders.send(Order { request, reply: Reply(reply) });
    forward(&mut socket, &mut lines).await
}

/// Brings lines to the client, up to the last.
async fn forward(socket: &mut UnixStream, lines: &mut UnboundedReceiver<Line>) -> io::Result<()> {
    while let Some(line) = lines.recv().await {
        write(socket, &line).await?;
        if !matches!(line, Line::Progress(_)) {
            return Ok(());
        }
    }
    let text = "the agent stopped before this was done, or done to its end".to_owned();
    write(socket, &Line::Error(text)).await
}

/// The socket's mode says the same; this also holds while it is being made.
fn is_allowed(socket: &UnixStream) -> io::Result<bool> {
    let uid = socket.peer_cred()?.uid();
    Ok(uid == 0 || uid == rustix::process::geteuid().as_raw())
}

async fn read(socket: &mut UnixStream) -> io::Result<Result<Request, String>> {
    let mut line = Vec::new();
    let mut bounded = BufReader::new(socket).take(REQUEST_BYTES_MAX as u64 + 1);
    bounded.read_until(b'\n', &mut line).await?;
    if line.len() > REQUEST_BYTES_MAX {
        return Ok(Err(format!("a request has at most {REQUEST_BYTES_MAX} bytes")));
    }
    let request = serde_json::from_slice(&line);
    Ok(request.map_err(|error| format!("no request that this version knows: {error}")))
}

async fn write(socket: &mut UnixStream, line: &Line) -> io::Result<()> {
    let written = timeout(SILENCE_MAX, socket.write_all(&bytes(line))).await;
    written.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
}

fn bytes(line: &Line) -> Vec<u8> {
    let mut bytes = serde_json::to_vec(line).expect("a line is plain data");
    bytes.push(b'\n');
    bytes
}
