//! A TCP server: listen, one task per connection, stop in order. What is spoken on a connection is
//! the caller's.

use super::complaint::Complaints;
use super::{SourceError, Stop};
use std::future::Future;
use std::net::SocketAddr;
use std::time::Duration;
use tokio::net::{TcpListener, TcpSocket, TcpStream, lookup_host};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

/// As Flume's.
const BACKLOG: u32 = 1024;
/// How long connections may take to finish what is under way, once the source is stopped.
const GRACE: Duration = Duration::from_secs(5);
/// Rest after an accept that failed for want of descriptors or memory.
const ACCEPT_REST: Duration = Duration::from_millis(100);

/// Listens on the first address of `host` that can be bound, and says so in the log.
///
/// # Errors
/// None can be bound; nothing is left open.
pub(super) async fn listen(
    source: &str,
    host: &str,
    port: u16,
) -> Result<TcpListener, SourceError> {
    let at = |error: std::io::Error| SourceError(format!("listen on {host}:{port}: {error}"));
    let mut failure = SourceError(format!("listen on {host}:{port}: the host has no address"));
    for address in lookup_host((host, port)).await.map_err(at)? {
        match bind(address) {
            Ok(listener) => {
                let address = listener.local_addr().map_err(at)?;
                tracing::info!("source {source}: listening on {address}");
                return Ok(listener);
            }
            Err(error) => failure = at(error),
        }
    }
    Err(failure)
}

fn bind(address: SocketAddr) -> std::io::Result<TcpListener> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
    // a restart must not wait for the old connections' TIME_WAIT; accepted sockets inherit both
    socket.set_reuseaddr(true)?;
    socket.set_keepalive(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

/// Serves each connection by a task of `handle` until `stop` fires; `handle` gets the same signal.
/// Then waits for the tasks, some seconds at most, and cuts the rest. Beyond `connections_max`
/// connections, new ones are closed at once.
pub(super) async fn serve<F>(
    source: &str,
    listener: TcpListener,
    connections_max: usize,
    mut stop: Stop,
    complaints: &Complaints,
    mut handle: impl FnMut(TcpStream, SocketAddr, Stop) -> F,
) where
    F: Future<Output = ()> + Send + 'static,
{
    let mut tasks = JoinSet::new();
    loop {
        let accepted = tokio::select! {
            biased;
            () = stop.stopped() => break,
            Some(ended) = tasks.join_next() => {
                report(source, ended);
                continue;
            }
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((_, peer)) if tasks.len() >= connections_max => complaints.say(
                source,
                format_args!("{peer} is turned away: {connections_max} connections are open"),
            ),
            Ok((socket, peer)) => {
                if let Err(error) = socket.set_nodelay(true) {
                    tracing::debug!("source {source}: {peer}: no delay: {error}");
                }
                tasks.spawn(handle(socket, peer, stop.clone()));
            }
            Err(error) => {
                complaints.say(source, format_args!("accept a connection: {error}"));
                sleep(ACCEPT_REST).await;
            }
        }
    }
    drop(listener);
    let rest = async {
        while let Some(ended) = tasks.join_next().await {
            report(source, ended);
        }
    };
    if timeout(GRACE, rest).await.is_err() {
        tracing::warn!("source {source}: {} connections are cut at the stop", tasks.len());
        tasks.shutdown().await;
    }
}

fn report(source: &str, ended: Result<(), tokio::task::JoinError>) {
    if let Err(error) = ended {
        tracing::error!("source {source}: a connection's task failed: {error}");
    }
}
