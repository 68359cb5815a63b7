//! One connection to an Avro source.

use super::ClientError;
use crate::event::{Event, LogEvent};
use crate::rpc::avro::encode_append_batch;
use crate::rpc::avro::{Answer, ClientSession, Frame, FrameLimits, FrameReader, Status};
use crate::rpc::{Deflater, Inflater};
use std::fmt::Display;
use std::future::poll_fn;
use std::task::Poll;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::timeout;

/// The longest answer that is read: a handshake carries the server's protocol text.
const ANSWER_BYTES: usize = 4 << 20;

/// What one call may have: lengths on the wire are signed.
const CALL_BYTES: usize = 1 << 30;
/// A buffer is not kept if it has grown above this.
const KEPT_BYTES: usize = 1 << 20;

/// How both directions are compressed; must be the source's `compression-type`.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub enum Compression {
    /// Not at all.
    #[default]
    None,
    /// As zlib streams, with a level of 0 to 9.
    Deflate(u32),
}

/// How a connection is made and used.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ConnectOptions {
    /// As the source's.
    pub compression: Compression,
    /// How long a connection, its handshake included, may take to be made.
    pub connect_timeout: Duration,
    /// How long an answer may take.
    pub request_timeout: Duration,
}

impl Default for ConnectOptions {
    /// Flume's defaults: no compression, 20 s each.
    fn default() -> ConnectOptions {
        let wait = Duration::from_secs(20);
        let compression = Compression::None;
        ConnectOptions { compression, connect_timeout: wait, request_timeout: wait }
    }
}

/// A client of an Avro source. After an error it is of no more use: connect again.
///
/// [`append_batch`](AvroClient::append_batch) sends a batch and waits for its answer. To keep
/// several under way use [`send`](AvroClient::send) and [`next_answer`](AvroClient::next_answer).
pub struct AvroClient {
    peer: String,
    socket: TcpStream,
    request_timeout: Duration,
    session: ClientSession,
    frames: FrameReader,
    zlib: Option<(Inflater, Deflater)>,
    serial: i32,
    out: Vec<u8>,
}

impl AvroClient {
    /// Connects to `host:port` and shakes hands.
    ///
    /// # Errors
    /// No connection, or no Avro source of Flume's protocol at its end.
    pub async fn connect(
        address: &str,
        compression: Compression,
    ) -> Result<AvroClient, ClientError> {
        let options = ConnectOptions { compression, ..ConnectOptions::default() };
        AvroClient::connect_with(address, options).await
    }

    /// As [`connect`](AvroClient::connect), with other times to wait.
    pub async fn connect_with(
        address: &str,
        options: ConnectOptions,
    ) -> Result<AvroClient, ClientError> {
        let connect = async {
            let socket = TcpStream::connect(address).await.map_err(|e| broken(address, e))?;
            socket.set_nodelay(true).map_err(|e| broken(address, e))?;
            let mut client = AvroClient {
                peer: address.to_owned(),
                socket,
                request_timeout: options.request_timeout,
                session: ClientSession::default(),
                frames: FrameReader::new(FrameLimits::of_frame_bytes(ANSWER_BYTES)),
                zlib: match options.compression {
                    Compression::None => None,
                    Compression::Deflate(level) => {
                        Some((Inflater::default(), Deflater::new(level)))
                    }
                },
                serial: 0,
                out: Vec::new(),
            };
            client.shake_hands().await?;
            Ok(client)
        };
        let late = |_| broken(address, "no connection and handshake within the connect-timeout");
        timeout(options.connect_timeout, connect).await.map_err(late)?
    }

    async fn shake_hands(&mut self) -> Result<(), ClientError> {
        while !self.session.is_open() {
            let serial = self.next_serial();
            self.session.ping(serial, &mut self.out);
            self.flush().await?;
            match self.read_answer().await? {
                (_, Answer::Open | Answer::Again) => {}
                (_, other) => return Err(self.broken(format_args!("{other:?} to a ping"))),
            }
        }
        Ok(())
    }

    /// Sends a batch and waits for its answer.
    ///
    /// # Errors
    /// Nobody knows whether the source took the batch, except after [`ClientError::Refused`].
    pub async fn append_batch(&mut self, events: &[Event]) -> Result<Status, ClientError> {
        let sent = self.send(events).await?;
        self.answer_to(sent).await
    }

    /// As [`append_batch`](AvroClient::append_batch), of events that lie in the log; sending and
    /// waiting together take the request-timeout at most.
    ///
    /// # Errors
    /// As those of [`append_batch`](AvroClient::append_batch).
    pub async fn append_lent(&mut self, events: &[LogEvent<'_>]) -> Result<Status, ClientError> {
        check_len(events.iter().map(|lent| lent.event.byte_len()).sum())?;
        let sent = self.next_serial();
        self.session.append_lent(sent, events, &mut self.out);
        let wait = self.request_timeout;
        let call = async {
            self.flush().await?;
            self.answer_to(sent).await
        };
        match timeout(wait, call).await {
            Ok(status) => status,
            Err(_) => Err(self.late()),
        }
    }

    /// Whether the source has closed the connection, as far as is known without waiting.
    pub async fn is_closed(&self) -> bool {
        let mut byte = [0];
        poll_fn(|context| {
            let seen = self.socket.poll_peek(context, &mut ReadBuf::new(&mut byte));
            Poll::Ready(matches!(seen, Poll::Ready(Ok(0) | Err(_))))
        })
        .await
    }

    async fn answer_to(&mut self, sent: i32) -> Result<Status, ClientError> {
        loop {
            let (serial, status) = self.next_answer().await?;
            if serial == sent {
                return Ok(status);
            }
        }
    }

    /// Sends a batch and returns its serial, which its answer will carry.
    ///
    /// # Errors
    /// The connection broke.
    pub async fn send(&mut self, events: &[Event]) -> Result<i32, ClientError> {
        self.send_encoded(&encode_append_batch(events)).await
    }

    /// As [`send`](AvroClient::send), of a batch by
    /// [`encode_append_batch`](crate::rpc::avro::encode_append_batch): for those who send it often.
    ///
    /// # Errors
    /// The connection broke, or the batch has 1 GiB or more.
    pub async fn send_encoded(&mut self, parameters: &[u8]) -> Result<i32, ClientError> {
        check_len(parameters.len())?;
        let serial = self.next_serial();
        self.session.append_batch(serial, parameters, &mut self.out);
        self.flush().await?;
        Ok(serial)
    }

    /// The next answer: the serial of its request, and the status.
    ///
    /// # Errors
    /// The connection broke, no answer came in time, or the source refused the call.
    pub async fn next_answer(&mut self) -> Result<(i32, Status), ClientError> {
        let wait = self.request_timeout;
        let answer = match timeout(wait, self.read_answer()).await {
            Ok(answer) => answer?,
            Err(_) => return Err(self.late()),
        };
        match answer {
            (serial, Answer::Status(status)) => Ok((serial, status)),
            (_, Answer::Error(reason)) => {
                Err(ClientError::Refused { peer: self.peer.clone(), reason })
            }
            (_, other) => Err(self.broken(format_args!("{other:?} to a call"))),
        }
    }

    fn next_serial(&mut self) -> i32 {
        self.serial = self.serial.wrapping_add(1);
        self.serial
    }

    /// Writes what is in `out`; a source that reads nothing is not waited for without end.
    async fn flush(&mut self) -> Result<(), ClientError> {
        if let Some((_, deflater)) = &mut self.zlib {
            let plain = std::mem::take(&mut self.out);
            deflater.deflate(&plain, &mut self.out);
        }
        let written = timeout(self.request_timeout, self.socket.write_all(&self.out)).await;
        self.out.clear();
        self.out.shrink_to(KEPT_BYTES);
        written.map_err(|_| self.late())?.map_err(|error| self.broken(error))
    }

    async fn read_answer(&mut self) -> Result<(i32, Answer), ClientError> {
        loop {
            if let Some(mut frame) = self.next_frame()? {
                let serial = frame.serial;
                let answer = self.session.answer(&mut frame).map_err(|e| self.broken(e))?;
                return Ok((serial, answer));
            }
            let input = match &mut self.zlib {
                Some((inflater, _)) => inflater.input(),
                None => self.frames.input(),
            };
            let read = self.socket.read_buf(input).await;
            if read.map_err(|error| self.broken(error))? == 0 {
                return Err(self.broken("closed by the source (is compression-type the same?)"));
            }
        }
    }

    fn next_frame(&mut self) -> Result<Option<Frame>, ClientError> {
        loop {
            if let Some(frame) = self.frames.next_frame().map_err(|e| broken(&self.peer, e))? {
                return Ok(Some(frame));
            }
            let Some((inflater, _)) = &mut self.zlib else { return Ok(None) };
            let inflated = inflater.inflate(self.frames.input(), ANSWER_BYTES);
            if !inflated.map_err(|error| broken(&self.peer, error))? {
                return Ok(None);
            }
        }
    }

    fn broken(&self, reason: impl Display) -> ClientError {
        broken(&self.peer, reason)
    }

    fn late(&self) -> ClientError {
        ClientError::Late { peer: self.peer.clone(), wait: self.request_timeout }
    }
}

fn check_len(bytes: usize) -> Result<(), ClientError> {
    if bytes < CALL_BYTES {
        return Ok(());
    }
    Err(ClientError::Usage(format!("a batch of {bytes} bytes is too long to send")))
}

fn broken(peer: &str, reason: impl Display) -> ClientError {
    ClientError::Connection { peer: peer.to_owned(), reason: reason.to_string() }
}
