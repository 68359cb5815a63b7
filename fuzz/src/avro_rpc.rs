//! Bytes from an Avro peer: frames, handshake, calls, events, and the zlib stream around them.
//!
//! The same bytes give the same, however the network cuts them; limits hold; nothing is allocated
//! for what has not arrived.

use super::input::Input;
use bytes::BytesMut;
use levada::event::encode_event;
use levada::log::BatchBuilder;
use levada::rpc::avro::{
    Call, ClientSession, FrameLimits, FrameReader, ServerSession, Status, decode_event,
    decode_events,
};
use levada::rpc::{Deflater, Inflater};

const LIMITS: FrameLimits = FrameLimits { frame_bytes: 1 << 14, buffer_count: 64 };
const EVENTS_MAX: usize = 100;
/// Bytes that come out of the inflater in one call beyond what was asked for.
const STEP_BYTES: usize = 64 << 10;
const INFLATED_MAX: usize = 1 << 20;

/// Reads `data` as what a peer sends: flags, the sizes of the pieces, then the stream.
pub fn run(data: &[u8]) {
    let mut input = Input::new(data);
    let flags = input.u8();
    let cuts: Vec<usize> = (0..4).map(|_| 1 + usize::from(input.u8())).collect();
    let stream = input.rest();
    let one = inflate_then_read(stream, &[stream.len().max(1)], flags);
    let cut = inflate_then_read(stream, &cuts, flags);
    assert_eq!(one, cut, "how the stream is cut changes nothing");
    if flags & 3 == 0 {
        let mut wire = Vec::new();
        Deflater::new(6).deflate(stream, &mut wire);
        let packed = inflate_then_read(&wire, &cuts, flags | 1);
        assert_eq!(packed, one, "compression changes nothing");
    }
    client(stream);
}

/// What came of a stream, in words.
fn inflate_then_read(stream: &[u8], cuts: &[usize], flags: u8) -> Vec<String> {
    let mut session = Session::default();
    let mut cuts = cuts.iter().cycle();
    let mut rest = stream;
    let mut inflater = Inflater::default();
    let mut inflated = 0;
    while !rest.is_empty() && session.open {
        let (piece, left) = rest.split_at((*cuts.next().expect("it cycles")).min(rest.len()));
        rest = left;
        if flags & 1 == 0 {
            session.take(piece);
            continue;
        }
        inflater.input().extend_from_slice(piece);
        loop {
            let mut out = BytesMut::new();
            let more = inflater.inflate(&mut out, 100);
            assert!(out.len() <= 100 + STEP_BYTES, "the inflater stops at its room");
            inflated += out.len();
            session.take(&out);
            if more.is_err() {
                session.end("no zlib stream".to_owned());
            }
            if !matches!(more, Ok(true)) || !session.open || inflated > INFLATED_MAX {
                break;
            }
        }
        if inflated > INFLATED_MAX {
            // how far it came by then depends on the pieces
            return Vec::new();
        }
    }
    session.said
}

/// A connection as a source has it.
struct Session {
    frames: FrameReader,
    server: ServerSession,
    said: Vec<String>,
    open: bool,
}

impl Default for Session {
    fn default() -> Session {
        let (frames, server) = (FrameReader::new(LIMITS), ServerSession::default());
        Session { frames, server, said: Vec::new(), open: true }
    }
}

impl Session {
    fn end(&mut self, why: String) {
        if self.open {
            self.said.push(why);
            self.open = false;
        }
    }

    fn take(&mut self, piece: &[u8]) {
        if !self.open {
            return;
        }
        self.frames.input().extend_from_slice(piece);
        while self.open {
            let mut frame = match self.frames.next_frame() {
                Ok(Some(frame)) => frame,
                Ok(None) => {
                    assert!(self.frames.missing() <= LIMITS.frame_bytes);
                    return;
                }
                Err(error) => return self.end(error.to_string()),
            };
            assert!(frame.byte_len() <= LIMITS.frame_bytes + 4, "the limit holds");
            let mut reply = Vec::new();
            let said = match self.server.request(&mut frame) {
                Err(error) => return self.end(error.to_string()),
                Ok(request) => {
                    let (said, status) = answer(request.call);
                    match status {
                        Some(status) => request.reply.status(status, &mut reply),
                        None if said.is_empty() => request.reply.empty(&mut reply),
                        None => request.reply.error(&said, &mut reply),
                    }
                    said
                }
            };
            let mut back = FrameReader::new(FrameLimits::of_frame_bytes(1 << 20));
            back.input().extend_from_slice(&reply);
            let answered = back.next_frame().expect("what is written is a frame");
            assert_eq!(answered.expect("a whole frame").serial, frame.serial);
            self.said.push(format!("{}: {said} {reply:02x?}", frame.serial));
        }
    }
}

/// Runs a call: what came of it in words, and the status if it is one.
fn answer(call: Call<'_>) -> (String, Option<Status>) {
    let mut batch = BatchBuilder::new();
    let mut bytes = 0;
    let mut push = |headers: &[(&str, &str)], body: &[u8]| {
        bytes += body.len();
        batch.push_with(|out| encode_event(headers.iter().copied(), body, out));
    };
    let (count, most) = match call {
        Call::Nothing => return (String::new(), None),
        Call::Refused(why) => return (why, None),
        Call::Append(mut reader) => (decode_event(&mut reader, &mut push).map(|()| 1), 1),
        Call::AppendBatch(mut reader) => {
            (decode_events(&mut reader, EVENTS_MAX, &mut push), EVENTS_MAX)
        }
    };
    assert!(bytes <= LIMITS.frame_bytes, "bodies are no more than what was sent");
    match count {
        Err(error) => (error.to_string(), None),
        Ok(count) => {
            assert!(count <= most && batch.count() as usize == count, "each event is pushed once");
            (format!("{count} {:08x}", crc32fast::hash(batch.records())), Some(Status::Ok))
        }
    }
}

/// The same bytes as a server's answers.
fn client(stream: &[u8]) {
    let mut frames = FrameReader::new(LIMITS);
    frames.input().extend_from_slice(stream);
    let mut client = ClientSession::default();
    while let Ok(Some(mut frame)) = frames.next_frame() {
        if client.answer(&mut frame).is_err() {
            return;
        }
    }
}
