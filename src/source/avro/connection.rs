//! One connection of the Avro source: bytes to requests, requests to puts, puts to replies.
//!
//! Reading goes on while puts are under way ([`Pipeline`] says how far and in which order). When
//! the source stops, or the peer has sent its last byte, the puts under way are finished and
//! answered. A request is dropped only where its peer gets no answer: the connection broke, or was
//! cut.

use super::Shared;
use super::pipeline::{Outcome, Pipeline};
use crate::ingest::Ingest;
use crate::rpc::avro::{Call, DecodeError, Frame, FrameError, FrameReader, Reply, ServerSession};
use crate::rpc::avro::{decode_event, decode_events};
use crate::rpc::{Deflater, Inflater, ZlibError};
use crate::source::Stop;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::net::tcp::{ReadHalf, WriteHalf};
use tokio::time::{Instant, sleep_until};

/// Room made for a read, least and most.
const READ_BYTES: (usize, usize) = (16 << 10, 256 << 10);
/// How much is inflated before frames are cut from it.
const INFLATE_BYTES: usize = 256 << 10;
/// A silent connection gives its buffer back after this time.
const SHRINK: Duration = Duration::from_secs(10);

/// Why a connection is closed before its peer closes it.
#[derive(Debug, thiserror::Error)]
enum Broken {
    #[error("{0}")]
    Socket(#[from] std::io::Error),
    #[error("{0}")]
    Frame(#[from] FrameError),
    #[error("{0}")]
    Zlib(#[from] ZlibError),
    #[error("handshake: {0}")]
    Handshake(#[from] DecodeError),
}

/// Serves one connection to its end.
pub(super) async fn run(
    shared: Arc<Shared>,
    ingest: Ingest,
    mut socket: TcpStream,
    peer: SocketAddr,
    stop: Stop,
) {
    let (read, write) = socket.split();
    let options = &shared.options;
    let connection = Connection {
        shared: &shared,
        peer,
        ingest,
        read,
        write,
        frames: FrameReader::new(options.limits),
        zlib: options.deflate.then(|| (Inflater::default(), Deflater::new(6))),
        session: ServerSession::default(),
        pipeline: Pipeline::new(options.limits.frame_bytes),
        out: Vec::new(),
    };
    match connection.serve(stop).await {
        Ok(()) => {}
        Err(Broken::Socket(error)) => tracing::debug!("source {}: {peer}: {error}", shared.name),
        Err(broken) => {
            shared.complaints.say(&shared.name, format_args!("{peer}: {broken}; closed"))
        }
    }
}

struct Connection<'a> {
    shared: &'a Shared,
    peer: SocketAddr,
    ingest: Ingest,
    read: ReadHalf<'a>,
    write: WriteHalf<'a>,
    frames: FrameReader,
    zlib: Option<(Inflater, Deflater)>,
    session: ServerSession,
    pipeline: Pipeline,
    out: Vec<u8>,
}

impl Connection<'_> {
    async fn serve(mut self, mut stop: Stop) -> Result<(), Broken> {
        let result = self.take_requests(&mut stop).await;
        // whatever ended it: what has been put is answered, if the peer still listens
        result.and(self.finish().await)
    }

    async fn finish(&mut self) -> Result<(), Broken> {
        while !self.pipeline.is_empty() {
            let done = self.pipeline.next().await;
            self.answer(done).await?;
        }
        Ok(self.write.shutdown().await?)
    }

    /// Returns when the peer has sent its last byte, is silent too long, or `stop` fires.
    async fn take_requests(&mut self, stop: &mut Stop) -> Result<(), Broken> {
        let idle = self.shared.options.idle;
        let mut active = Instant::now();
        loop {
            while self.pipeline.has_room()
                && let Some(frame) = self.next_frame()?
            {
                self.take(frame)?;
            }
            let shrink_at = Instant::now() + SHRINK;
            let close_at = if idle.is_zero() { None } else { active.checked_add(idle) };
            tokio::select! {
                biased;
                done = self.pipeline.next() => {
                    self.answer(done).await?;
                    active = Instant::now();
                }
                () = stop.stopped() => return Ok(()),
                ready = self.read.readable(), if self.pipeline.has_room() => {
                    ready?;
                    match self.read_some() {
                        Ok(0) => return Ok(()),
                        Ok(_) => active = Instant::now(),
                        Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {}
                        Err(error) => return Err(error.into()),
                    }
                }
                () = sleep_until(close_at.unwrap_or(shrink_at).min(shrink_at)),
                    if self.pipeline.is_empty() =>
                {
                    if close_at.is_some_and(|at| at <= Instant::now()) {
                        return Ok(());
                    }
                    self.shrink();
                }
            }
        }
    }

    /// Reads what is there into the buffer that comes first.
    fn read_some(&mut self) -> std::io::Result<usize> {
        let missing = self.frames.missing().clamp(READ_BYTES.0, READ_BYTES.1);
        let input = match &mut self.zlib {
            Some((inflater, _)) => inflater.input(),
            None => self.frames.input(),
        };
        if input.capacity() - input.len() < READ_BYTES.0 {
            input.reserve(missing);
        }
        self.read.try_read_buf(input)
    }

    /// Gives the read buffers back to the system, as far as they are empty.
    fn shrink(&mut self) {
        let inflated = self.zlib.as_mut().map(|(inflater, _)| inflater.input());
        for input in [Some(self.frames.input()), inflated].into_iter().flatten() {
            if input.is_empty() {
                *input = bytes::BytesMut::new();
            }
        }
        self.out = Vec::new();
    }

    fn next_frame(&mut self) -> Result<Option<Frame>, Broken> {
        loop {
            if let Some(frame) = self.frames.next_frame()? {
                return Ok(Some(frame));
            }
            let Some((inflater, _)) = &mut self.zlib else { return Ok(None) };
            if !inflater.inflate(self.frames.input(), INFLATE_BYTES)? {
                return Ok(None);
            }
        }
    }

    /// Decodes a request and starts what it asks for.
    fn take(&mut self, mut frame: Frame) -> Result<(), Broken> {
        let frame_bytes = frame.byte_len();
        let request = self.session.request(&mut frame)?;
        // an event in the log takes a few bytes more than on the wire
        let mut batch = self.ingest.batch_with_capacity(frame_bytes + frame_bytes / 8 + 64);
        let mut push = |headers: &[(&str, &str)], body: &[u8]| batch.push(headers, body);
        let events_max = self.shared.options.batch_events_max;
        // all of the batch is read before any of it is put
        let decoded = match request.call {
            Call::Nothing => {
                self.pipeline.add(request.reply, Outcome::Nothing);
                return Ok(());
            }
            Call::Refused(why) => Err(why),
            Call::Append(mut reader) => {
                decode_event(&mut reader, &mut push).map_err(|e| e.to_string())
            }
            Call::AppendBatch(mut reader) => decode_events(&mut reader, events_max, &mut push)
                .map(|_count| ())
                .map_err(|error| error.to_string()),
        };
        match decoded {
            Err(why) => {
                let complaint = format_args!("{}: call refused: {why}", self.peer);
                self.shared.complaints.say(&self.shared.name, complaint);
                self.pipeline.add(request.reply, Outcome::Refused(why));
            }
            Ok(()) => {
                let ingest = self.ingest.clone();
                let put = async move { ingest.put(batch).await };
                self.pipeline.start(request.reply, frame_bytes, put);
            }
        }
        Ok(())
    }

    /// Writes a reply, and with it those behind it that are ready as well.
    async fn answer(&mut self, first: (Reply, Outcome)) -> Result<(), Broken> {
        self.out.clear();
        let mut next = Some(first);
        while let Some((reply, outcome)) = next {
            if let Outcome::Put(result) = &outcome {
                self.shared.refusals.note(&self.shared.name, result);
            }
            outcome.answer(reply, &mut self.out);
            next = self.pipeline.next_done();
        }
        if let Some((_, deflater)) = &mut self.zlib {
            let plain = std::mem::take(&mut self.out);
            deflater.deflate(&plain, &mut self.out);
        }
        self.write.write_all(&self.out).await?;
        Ok(())
    }
}
