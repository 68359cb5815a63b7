//! What a running agent is asked over its control socket, and what it answers.
//!
//! The socket `control.sock` lies in the data directory of each file channel, for the agent's user
//! and root alone. One request a connection: a line of JSON there, lines of JSON back, the last of
//! which is `{"ok": …}` or `{"error": "…"}`; those before it are `{"progress": …}`.
//!
//! The socket says nothing about who owns the log: the log's lock does. One that nobody listens on
//! was left by an agent that was killed, and the next agent takes its place. A client that goes away
//! ends what it asked for: a redrive or purge at its next step, a replay at once.

use crate::channel::dead::{LetterFilter, Place};
use crate::offset::Offset;
use serde::{Deserialize, Serialize};
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// The socket's name in a channel's directory.
pub const SOCKET: &str = "control.sock";
/// The most bytes of a request's line.
pub const REQUEST_BYTES_MAX: usize = 64 << 10;
/// A peer that says nothing for so long is dropped; what takes longer tells how far it is more often.
pub const SILENCE_MAX: Duration = Duration::from_secs(10);

/// How long a client waits for a line: an agent may be busy.
const ANSWER_WAIT: Duration = Duration::from_secs(60);
/// The most bytes of an answer's line.
const ANSWER_BYTES_MAX: u64 = 64 << 20;
/// The longest path that a socket's address holds, bytes.
const ADDRESS_BYTES_MAX: usize = 107;

/// What is asked.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Request {
    /// Puts the events of dead letters back into the channel.
    Redrive {
        /// Which; of its graves only the dead count.
        filter: LetterFilter,
        /// An event that was re-driven so often stays; the channel's own bound if absent.
        #[serde(default)]
        max_redrives: Option<u32>,
        /// Count, and do nothing.
        #[serde(default)]
        dry_run: bool,
    },
    /// Throws letters away for good.
    Purge {
        /// Which; its graves do not count.
        filter: LetterFilter,
        /// The list of what was given up, instead of the letters that hold events.
        #[serde(default)]
        losses: bool,
    },
    /// Sets a group back, or ahead. Durable when it is answered.
    Rewind {
        /// Whose cursor.
        group: String,
        /// The first event that is delivered, or the time of its append, ms since 1970.
        to: Place,
    },
    /// Drops a group that no sink is in any more, with its claim on the log. Durable when it is
    /// answered.
    DropGroup {
        /// Which.
        name: String,
    },
    /// Uses a stopped sink again, and does not wait for the back-off of one that fails.
    Resume {
        /// Which.
        sink: String,
    },
    /// Where groups and sinks are.
    Groups,
    /// Delivers events of the log again, to a sink of its own.
    Replay {
        /// From here on (of a time: when events were appended).
        from: Place,
        /// Up to here; without it, what is there now.
        #[serde(default)]
        to: Option<Place>,
        /// Only events that have these headers, with these values.
        #[serde(default, rename = "where")]
        headers: Vec<(String, String)>,
        /// The sink of the channel whose settings are used.
        sink: String,
        /// The most events a second, those that are passed over too; 0: as the sink's settings say.
        #[serde(default)]
        rate_events: u64,
    },
}

/// A line back.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Line {
    /// It goes on.
    Progress(Progress),
    /// It is done.
    Ok(Answer),
    /// It is not done, or not to its end: where, what, what to do.
    Error(String),
}

/// How far something is.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Progress {
    /// Events or letters, as in the answer.
    pub done: u64,
    /// Offsets that were looked at, of the log or the dead-letter log.
    pub seen: u64,
    /// How many there are.
    pub of: u64,
}

/// What was done.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Answer {
    /// Events are in the channel again; of a dry run: would be.
    Redriven {
        /// How many.
        events: u64,
        /// Letters that stay, because their events were re-driven too often.
        skipped: u64,
    },
    /// Letters are gone.
    Purged {
        /// How many.
        letters: u64,
    },
    /// The group goes on elsewhere.
    Rewound {
        /// Whose cursor.
        group: String,
        /// Where it was.
        from: Offset,
        /// Where it is.
        to: Offset,
    },
    /// The group is gone.
    Dropped {
        /// Which.
        name: String,
    },
    /// The sink is used.
    Resumed {
        /// Which.
        sink: String,
        /// Whether it had been stopped.
        was_stopped: bool,
    },
    /// Where groups and sinks are.
    Groups {
        /// Next offset of the log.
        tail: Offset,
        /// Those with sinks in config order, then those that nobody reads for.
        groups: Vec<GroupRow>,
    },
    /// Events were delivered again.
    Replayed(Replayed),
}

/// What a replay came to: every offset of its range is in one of the counts.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Replayed {
    /// Where it began.
    pub from: Offset,
    /// Where it ended.
    pub to: Offset,
    /// Events that the sink has.
    pub sent: u64,
    /// Events that were not wanted.
    pub passed: u64,
    /// Events that the sink's policy gave up or set aside; they are not put on any list.
    pub failed: u64,
    /// Offsets that the log has no event for.
    pub missing: u64,
}

/// A consumer group.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct GroupRow {
    /// Its name.
    pub name: String,
    /// The lowest offset that is not done.
    pub watermark: Offset,
    /// Events that are not done.
    pub backlog: u64,
    /// No sink is in it: it only claims the log.
    pub orphan: bool,
    /// In config order.
    pub sinks: Vec<SinkRow>,
}

/// A sink.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct SinkRow {
    /// Its name.
    pub name: String,
    /// `open`, `closed` (opening, or not yet), `backing-off` or `stopped`.
    pub state: String,
    /// It is tried again in so long, ms; 0 unless it backs off.
    pub wait_ms: u64,
    /// The lowest offset that it still owes, or the end of what it was lent.
    pub position: Offset,
    /// Events it has and has not answered for.
    pub leased: u64,
    /// Events it has delivered.
    pub delivered: u64,
    /// Failures in a row.
    pub failures: u32,
}

/// Why an agent did not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum ControlError {
    /// Nobody listens.
    #[error("{}: no agent answers there ({error}): is one running that has this channel?", path.display())]
    NoAgent {
        /// The socket.
        path: PathBuf,
        /// What the system said.
        error: io::Error,
    },
    /// The conversation broke off.
    #[error("{}: {error}; what was asked may be done in part", path.display())]
    Io {
        /// The socket.
        path: PathBuf,
        /// What the system said.
        error: io::Error,
    },
    /// The agent's reply is none.
    #[error("{}: the agent answered what this version does not understand: {error}", path.display())]
    Strange {
        /// The socket.
        path: PathBuf,
        /// What does not fit.
        error: serde_json::Error,
    },
    /// The agent refused, or could not.
    #[error("{0}")]
    Refused(String),
}

/// Asks the agent that has the channel in `dir`, and waits until it is done.
///
/// # Errors
/// [`ControlError::NoAgent`]: nothing was asked. [`ControlError::Refused`] says what was done.
pub fn ask(dir: &Path, request: &Request) -> Result<Answer, ControlError> {
    ask_with(dir, request, |_| {})
}

/// As [`ask`]; `progress` is told how far it is, about twice a second.
///
/// # Errors
/// As [`ask`].
pub fn ask_with(
    dir: &Path,
    request: &Request,
    mut progress: impl FnMut(Progress),
) -> Result<Answer, ControlError> {
    let path = dir.join(SOCKET);
    let no_agent = |error| ControlError::NoAgent { path: path.clone(), error };
    let broken = |error| ControlError::Io { path: path.clone(), error };
    let address = Address::of(dir).map_err(no_agent)?;
    let mut socket = UnixStream::connect(address.path()).map_err(no_agent)?;
    socket.set_read_timeout(Some(ANSWER_WAIT)).map_err(broken)?;
    let mut line = serde_json::to_vec(request).expect("a request is plain data");
    line.push(b'\n');
    socket.write_all(&line).map_err(broken)?;
    let mut answers = BufReader::new(socket);
    loop {
        let mut line = Vec::new();
        let mut bounded = answers.by_ref().take(ANSWER_BYTES_MAX);
        bounded.read_until(b'\n', &mut line).map_err(broken)?;
        if line.is_empty() {
            let text = "the agent ended before it answered";
            return Err(broken(io::Error::new(io::ErrorKind::UnexpectedEof, text)));
        }
        let line = serde_json::from_slice(&line);
        match line.map_err(|error| ControlError::Strange { path: path.clone(), error })? {
            Line::Progress(at) => progress(at),
            Line::Ok(answer) => return Ok(answer),
            Line::Error(text) => return Err(ControlError::Refused(text)),
        }
    }
}

/// Where the socket of a directory is, short enough for an address of a socket.
pub struct Address {
    path: PathBuf,
    /// What the path leads through, if it is not the socket's own.
    _dir: Option<File>,
}

impl Address {
    /// The socket in `dir`.
    ///
    /// # Errors
    /// The path is too long, and the directory can't be opened.
    pub fn of(dir: &Path) -> io::Result<Address> {
        let path = dir.join(SOCKET);
        if path.as_os_str().len() <= ADDRESS_BYTES_MAX {
            return Ok(Address { path, _dir: None });
        }
        let dir = File::open(dir)?;
        let path = format!("/proc/self/fd/{}/{SOCKET}", dir.as_raw_fd()).into();
        Ok(Address { path, _dir: Some(dir) })
    }

    /// Its path, as long as this lives.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

#[cfg(test)]
mod tests;
