//! The client's side of a connection: handshake, calls, answers.

use super::event::{encode_events, encode_lent_events};
use super::protocol::{FLUME_1_11_HASH, PROTOCOL, protocol_hash};
use super::reader::{DecodeError, Flaw, Reader};
use super::{Frame, Status, put_bytes, put_long, write_frame_with};
use crate::event::{Event, LogEvent};

/// A connection as its client sees it.
///
/// The first request offers the hash of Flume 1.11, which levada knows too. A server that does not
/// is given our text, with our own hash. Until an answer has settled that, one request at a time.
#[derive(Debug, Default)]
pub struct ClientSession {
    state: State,
}

#[derive(Debug, Default)]
enum State {
    #[default]
    New,
    /// The server asked for our text.
    SendText {
        server_hash: [u8; 16],
    },
    Open,
}

/// What a server answered.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Answer {
    /// The session stands: the answer to a ping.
    Open,
    /// The call was run.
    Status(Status),
    /// The call was not run, and the server says why.
    Error(String),
    /// The call was not run: send it again, with a new serial or the same.
    Again,
}

impl ClientSession {
    /// Whether requests may follow one another before their answers.
    pub fn is_open(&self) -> bool {
        matches!(self.state, State::Open)
    }

    /// Appends the frame of an `appendBatch` to `out`; `parameters` come of
    /// [`encode_append_batch`].
    pub fn append_batch(&self, serial: i32, parameters: &[u8], out: &mut Vec<u8>) {
        self.request(serial, "appendBatch", out, |out| out.extend_from_slice(parameters));
    }

    /// As [`append_batch`](ClientSession::append_batch), of events that lie in the log: they are
    /// copied once.
    ///
    /// # Panics
    /// If they take 2 GiB.
    pub fn append_lent(&self, serial: i32, events: &[LogEvent<'_>], out: &mut Vec<u8>) {
        self.request(serial, "appendBatch", out, |out| encode_lent_events(events, out));
    }

    /// Appends the frame of a ping to `out`: nothing but the handshake.
    pub fn ping(&self, serial: i32, out: &mut Vec<u8>) {
        self.request(serial, "", out, |_| {});
    }

    fn request(
        &self,
        serial: i32,
        message: &str,
        out: &mut Vec<u8>,
        parameters: impl FnOnce(&mut Vec<u8>),
    ) {
        let mut head = Vec::with_capacity(64);
        match self.state {
            State::New => put_handshake(FLUME_1_11_HASH, None, FLUME_1_11_HASH, &mut head),
            State::SendText { server_hash } => {
                put_handshake(protocol_hash(), Some(PROTOCOL), server_hash, &mut head);
            }
            State::Open => {}
        }
        put_long(0, &mut head);
        put_bytes(message.as_bytes(), &mut head);
        write_frame_with(serial, &head, out, parameters);
    }

    /// Reads the answer to a request.
    ///
    /// # Errors
    /// The answer is malformed: close the connection.
    pub fn answer(&mut self, frame: &mut Frame) -> Result<Answer, DecodeError> {
        let mut reader = Reader::new(frame.chunks());
        if !self.is_open() && !self.handshake(&mut reader)? {
            return Ok(Answer::Again);
        }
        if reader.remaining() == 0 {
            return Ok(Answer::Open);
        }
        reader.skip_map()?;
        match reader.byte()? {
            0 => {
                let word = reader.long()?;
                let status =
                    Status::of_index(word).ok_or_else(|| reader.error(Flaw::Word(word)))?;
                Ok(Answer::Status(status))
            }
            _ => match reader.long()? {
                0 => Ok(Answer::Error(reader.string()?)),
                other => Err(reader.error(Flaw::Branch(other))),
            },
        }
    }

    /// Reads a handshake response; returns whether the call was run.
    fn handshake(&mut self, reader: &mut Reader<'_>) -> Result<bool, DecodeError> {
        let word = reader.long()?;
        if reader.branch()? {
            // the server's text: its calls are ours, or it will say so in its answers
            reader.bytes()?;
        }
        let mut server_hash = protocol_hash();
        if reader.branch()? {
            server_hash.copy_from_slice(&reader.fixed(16)?);
        }
        if reader.branch()? {
            reader.skip_map()?;
        }
        match (word, &self.state) {
            (0 | 1, _) => self.state = State::Open,
            (2, State::New) => self.state = State::SendText { server_hash },
            // it has our text, and still does not know it: asking again would never end
            (other, _) => return Err(reader.error(Flaw::Word(other))),
        }
        Ok(self.is_open())
    }
}

fn put_handshake(client: [u8; 16], text: Option<&str>, server: [u8; 16], out: &mut Vec<u8>) {
    out.extend_from_slice(&client);
    put_long(text.is_some().into(), out);
    if let Some(text) = text {
        put_bytes(text.as_bytes(), out);
    }
    out.extend_from_slice(&server);
    put_long(1, out);
    put_long(0, out);
}

/// The parameters of an `appendBatch` of `events`.
pub fn encode_append_batch(events: &[Event]) -> Vec<u8> {
    let bytes: usize = events.iter().map(|event| event.body.len() + 64).sum();
    let mut out = Vec::with_capacity(bytes + 16);
    encode_events(events, &mut out);
    out
}
