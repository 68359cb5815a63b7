//! Source `netcat`: each line is an event, each event is answered with `OK`.
//!
//! As Flume's: a line may have `max-line-length` characters, its newline included (UTF-16 units, as
//! Java counts); a longer one is answered with an error and the connection is closed. Only `\n`
//! ends a line, a `\r` stays in the body. What follows the last newline of a connection is no
//! event. Lines that have arrived together share a transaction; each still gets its own answer.

use super::complaint::{Complaints, Refusals};
use super::serve::{listen, serve};
use super::{Source, SourceError, Stop};
use crate::channel::PutError;
use crate::config::{Component, Key, Kind, Problem, Role, Settings, bind_address};
use crate::ingest::Ingest;
use async_trait::async_trait;
use std::net::SocketAddr;
use std::sync::Arc;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// Lines put in one transaction; the memory channel's default `transactionCapacity`.
const LINES_MAX: usize = 100;
const READ_BYTES: usize = 16 << 10;

/// The declaration of the source.
pub static COMPONENT: Component = Component {
    role: Role::Source,
    alias: "netcat",
    class: "org.apache.flume.source.NetcatSource",
    doc: "Listens for lines of text on a TCP port; each is an event.",
    keys: &[
        Key::required("bind", Kind::Text, "", "Host to listen on, or host:port."),
        Key::optional("port", Kind::PORT, "", "Port to listen on; 0 takes a free one."),
        Key::new(
            "max-line-length",
            Kind::Int { min: 1, max: 1 << 30 },
            "512",
            "characters",
            "Longest line, its newline included.",
        ),
        Key::new("ack-every-event", Kind::Bool, "true", "", "Answer OK to each event."),
        Key::new("encoding", Kind::Text, "utf-8", "", "Encoding of the lines; only utf-8."),
        Key::new("maxConnections", Kind::POSITIVE, "10000", "", "Connections open at a time."),
    ],
};

struct Shared {
    name: String,
    line_units_max: usize,
    ack: bool,
    complaints: Complaints,
    refusals: Refusals,
}

/// The source `netcat`.
pub struct NetcatSource {
    host: String,
    port: u16,
    connections_max: usize,
    shared: Arc<Shared>,
    listener: Option<TcpListener>,
}

/// A source of these settings.
///
/// # Errors
/// A value can't be used.
pub fn build(settings: &Settings) -> Result<Box<dyn Source>, Problem> {
    Ok(Box::new(NetcatSource::new(settings)?))
}

impl NetcatSource {
    /// As [`build`].
    pub fn new(settings: &Settings) -> Result<NetcatSource, Problem> {
        let encoding = settings.text("encoding")?;
        if !["utf-8", "utf8"].iter().any(|name| name.eq_ignore_ascii_case(encoding)) {
            let message = format_args!("'{encoding}' is not supported; use utf-8");
            return Err(settings.problem("encoding", message));
        }
        let (host, port) = bind_address(settings)?;
        let size = |key| Ok(usize::try_from(settings.count(key)?).unwrap_or(usize::MAX));
        let shared = Shared {
            name: settings.name().to_owned(),
            line_units_max: size("max-line-length")?,
            ack: settings.bool("ack-every-event")?,
            complaints: Complaints::default(),
            refusals: Refusals::default(),
        };
        let connections_max = size("maxConnections")?;
        Ok(NetcatSource { host, port, connections_max, shared: Arc::new(shared), listener: None })
    }

    /// Where it listens, between `open` and `run`.
    pub fn local_addr(&self) -> Option<SocketAddr> {
        self.listener.as_ref().and_then(|listener| listener.local_addr().ok())
    }
}

#[async_trait]
impl Source for NetcatSource {
    async fn open(&mut self) -> Result<(), SourceError> {
        self.listener = Some(listen(&self.shared.name, &self.host, self.port).await?);
        Ok(())
    }

    async fn run(&mut self, ingest: Ingest, stop: Stop) -> Result<(), SourceError> {
        let Some(listener) = self.listener.take() else {
            return Err(SourceError("run before open".to_owned()));
        };
        let shared = &self.shared;
        let handle = |socket, peer, stop| {
            let (shared, ingest) = (shared.clone(), ingest.clone());
            async move {
                if let Err(error) = connection(&shared, &ingest, socket, peer, stop).await {
                    tracing::debug!("source {}: {peer}: {error}", shared.name);
                }
            }
        };
        serve(&shared.name, listener, self.connections_max, stop, &shared.complaints, handle).await;
        Ok(())
    }
}

async fn connection(
    shared: &Shared,
    ingest: &Ingest,
    mut socket: TcpStream,
    peer: SocketAddr,
    mut stop: Stop,
) -> std::io::Result<()> {
    let mut input = Vec::new();
    loop {
        input.reserve(READ_BYTES);
        let read = tokio::select! {
            biased;
            () = stop.stopped() => break,
            read = socket.read_buf(&mut input) => read?,
        };
        if read == 0 {
            break;
        }
        let lines = complete_lines(&input, shared.line_units_max);
        let mut answers = String::new();
        for chunk in lines.bodies.chunks(LINES_MAX) {
            put_lines(shared, ingest, chunk, &mut answers).await;
        }
        if lines.too_long {
            let max = shared.line_units_max;
            let failure = format!(
                "FAILED: Event exceeds the maximum length ({max} chars, including newline)"
            );
            shared.complaints.say(&shared.name, format_args!("{peer}: {failure}; closed"));
            answers.push_str(&failure);
            answers.push('\n');
        }
        socket.write_all(answers.as_bytes()).await?;
        if lines.too_long {
            break;
        }
        let used = lines.used;
        input.drain(..used);
    }
    socket.shutdown().await
}

/// Puts lines as one batch, or one by one where they are more than the channel takes at once.
async fn put_lines(shared: &Shared, ingest: &Ingest, lines: &[String], answers: &mut String) {
    let result = put(ingest, lines).await;
    if matches!(result, Err(PutError::TooLarge { .. })) && lines.len() > 1 {
        for line in lines {
            let line = std::slice::from_ref(line);
            answer(shared, &put(ingest, line).await, 1, answers);
        }
        return;
    }
    answer(shared, &result, lines.len(), answers);
}

async fn put(ingest: &Ingest, lines: &[String]) -> Result<(), PutError> {
    let mut batch = ingest.batch();
    lines.iter().for_each(|line| batch.push(&[], line.as_bytes()));
    ingest.put(batch).await
}

fn answer(shared: &Shared, result: &Result<(), PutError>, lines: usize, answers: &mut String) {
    shared.refusals.note(&shared.name, result);
    match result {
        Ok(()) if shared.ack => answers.push_str(&"OK\n".repeat(lines)),
        Ok(()) => {}
        Err(error) => answers.push_str(&format!("FAILED: {error}\n").repeat(lines)),
    }
}

struct Lines {
    bodies: Vec<String>,
    /// Bytes of them, newlines included.
    used: usize,
    /// What follows is longer than a line may be.
    too_long: bool,
}

/// The lines at the start of `input` that are whole and not too long.
fn complete_lines(input: &[u8], units_max: usize) -> Lines {
    let mut lines = Lines { bodies: Vec::new(), used: 0, too_long: false };
    loop {
        let rest = &input[lines.used..];
        let Some(len) = rest.iter().position(|byte| *byte == b'\n') else {
            // not even its newline would fit any more
            lines.too_long = units(&String::from_utf8_lossy(rest), units_max) >= units_max;
            return lines;
        };
        let line = String::from_utf8_lossy(&rest[..len]);
        if units(&line, units_max) >= units_max {
            lines.too_long = true;
            return lines;
        }
        lines.bodies.push(line.into_owned());
        lines.used += len + 1;
    }
}

/// UTF-16 units of a text, exact as far as it can matter.
fn units(text: &str, max: usize) -> usize {
    if text.len() < max { text.len() } else { text.encode_utf16().take(max).count() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(input: &str, max: usize, bodies: &[&str], used: usize, too_long: bool) {
        let lines = complete_lines(input.as_bytes(), max);
        assert_eq!(lines.bodies, bodies);
        assert_eq!((lines.used, lines.too_long), (used, too_long));
    }

    #[test]
    fn lines_end_at_newlines_and_the_rest_waits() {
        check("a\n\nb\r\nrest", 9, &["a", "", "b\r"], 6, false);
        check("", 9, &[], 0, false);
    }

    #[test]
    fn line_with_its_newline_has_at_most_the_maximum_of_characters() {
        check("abc\nabcd\nx\n", 4, &["abc"], 4, true);
        check("abc", 4, &[], 0, false);
        check("abcd", 4, &[], 0, true);
        // three characters of two and three bytes
        check("äö€\n", 4, &["äö€"], 8, false);
    }

    #[test]
    fn only_utf_8_is_supported() {
        let pairs = [("bind", "localhost:0"), ("encoding", "latin1")];
        let settings = Settings::of_pairs("a.sources.n", COMPONENT.keys, &pairs);
        let problem = NetcatSource::new(&settings).err().unwrap();
        assert_eq!(problem.message, "a.sources.n.encoding: 'latin1' is not supported; use utf-8");
    }
}
