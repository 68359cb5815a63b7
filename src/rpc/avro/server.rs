//! The source's side of a connection: handshake, calls, replies.
//!
//! The rules of the handshake, per connection (Avro specification, "Handshake"):
//!
//! | client's hash | its text given | server hash it offers | answer | call runs |
//! |---|---|---|---|---|
//! | known | – | known | `BOTH` | yes |
//! | known | – | other | `CLIENT`, our text and hash | yes |
//! | other | no | – | `NONE`, our text and hash | no, the client asks again with its text |
//! | other | yes | known | `BOTH` | yes |
//! | other | yes | other | `CLIENT`, our text and hash | yes |
//!
//! *Known* are our own hash and that of Flume 1.11.0: a client of 1.11 is answered in one round
//! trip and never has to resolve our text. A client whose text has other bytes than ours stays
//! connected, and each of its calls is answered with an error that says what differs.

use super::protocol::{PROTOCOL, agree, is_known, protocol_hash};
use super::reader::{DecodeError, Reader};
use super::{Frame, Status, put_bytes, put_long, write_frame};

/// A connection as its source sees it.
#[derive(Debug, Default)]
pub struct ServerSession {
    state: State,
}

#[derive(Debug, Default)]
enum State {
    #[default]
    New,
    Open,
    /// The client's protocol has other bytes: why.
    Differs(String),
}

/// What a request wants.
#[derive(Debug)]
pub enum Call<'a> {
    /// Nothing: a ping, or a handshake that has to be repeated. The answer is [`Reply::empty`].
    Nothing,
    /// `append`: the parameters.
    Append(Reader<'a>),
    /// `appendBatch`: the parameters.
    AppendBatch(Reader<'a>),
    /// Nothing that can be run, and why: to be answered with [`Reply::error`].
    Refused(String),
}

/// A request, and what its reply starts with.
#[derive(Debug)]
pub struct Request<'a> {
    /// To be written when the call is done.
    pub reply: Reply,
    /// What to do.
    pub call: Call<'a>,
}

impl ServerSession {
    /// Reads a request.
    ///
    /// # Errors
    /// The handshake is malformed: nothing that follows can be understood, close the connection.
    /// (A malformed call is a [`Call::Refused`].)
    pub fn request<'a>(&mut self, frame: &'a mut Frame) -> Result<Request<'a>, DecodeError> {
        let serial = frame.serial;
        let mut reader = Reader::new(frame.chunks());
        let mut reply = Reply { serial, handshake: Vec::new() };
        if matches!(self.state, State::New) {
            self.handshake(&mut reader, &mut reply.handshake)?;
        }
        let call = match &self.state {
            State::New => Call::Nothing,
            // a ping of an open session may be an empty message
            _ if reader.remaining() == 0 => Call::Nothing,
            State::Open => call(reader).unwrap_or_else(|error| Call::Refused(error.to_string())),
            State::Differs(why) => Call::Refused(why.clone()),
        };
        Ok(Request { reply, call })
    }

    fn handshake(&mut self, reader: &mut Reader<'_>, out: &mut Vec<u8>) -> Result<(), DecodeError> {
        let client_known = is_known(&reader.fixed(16)?);
        let client_text = if reader.branch()? { Some(reader.string()?) } else { None };
        let server_known = is_known(&reader.fixed(16)?);
        if reader.branch()? {
            reader.skip_map()?;
        }
        self.state = match client_text {
            _ if client_known => State::Open,
            None => State::New,
            Some(text) => match agree(&text) {
                Ok(()) => State::Open,
                Err(why) => State::Differs(format!("the client's protocol differs: {why}")),
            },
        };
        match (&self.state, server_known) {
            (State::New, _) => put_own(2, out),
            (_, false) => put_own(1, out),
            (_, true) => out.extend_from_slice(&[0, 0, 0, 0]),
        }
        Ok(())
    }
}

/// Appends a handshake response with our text and hash.
fn put_own(word: i64, out: &mut Vec<u8>) {
    put_long(word, out);
    put_long(1, out);
    put_bytes(PROTOCOL.as_bytes(), out);
    put_long(1, out);
    out.extend_from_slice(&protocol_hash());
    put_long(0, out);
}

fn call<'a>(mut reader: Reader<'a>) -> Result<Call<'a>, DecodeError> {
    reader.skip_map()?;
    let name = reader.bytes()?;
    Ok(match &*name {
        b"append" => Call::Append(reader),
        b"appendBatch" => Call::AppendBatch(reader),
        b"" => Call::Nothing,
        other => {
            let name: String = String::from_utf8_lossy(other).chars().take(100).collect();
            Call::Refused(format!("no message '{name}' in AvroSourceProtocol"))
        }
    })
}

/// The start of a reply: the serial of its request, and the answer to a handshake.
#[derive(Debug)]
pub struct Reply {
    serial: i32,
    handshake: Vec<u8>,
}

impl Reply {
    /// Appends the reply of a call that was run to `out`.
    pub fn status(self, status: Status, out: &mut Vec<u8>) {
        let mut result = vec![0];
        put_long(status.index(), &mut result);
        write_frame(self.serial, &[&self.handshake, &[0], &result], out);
    }

    /// Appends the reply of a call that could not be run to `out`; the client sees `text`.
    pub fn error(self, text: &str, out: &mut Vec<u8>) {
        let mut result = vec![1, 0];
        put_bytes(text.as_bytes(), &mut result);
        write_frame(self.serial, &[&self.handshake, &[0], &result], out);
    }

    /// Appends the reply of [`Call::Nothing`] to `out`.
    pub fn empty(self, out: &mut Vec<u8>) {
        match self.handshake.is_empty() {
            true => write_frame(self.serial, &[], out),
            false => write_frame(self.serial, &[&self.handshake], out),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::{
        Answer, ClientSession, FLUME_1_11_HASH, FrameLimits, FrameReader, decode_events,
        encode_append_batch,
    };
    use super::*;
    use crate::event::Event;

    // Two batches of two events, as Flume 1.11's own client and agent exchanged them.
    const BATCHES: [&str; 2] = [
        "04 040c7468726561640230 06736571 0230 0030 652d302d30206162636465666768696a6b6c6d6e6f707172
            040c7468726561640230 06736571 0231 0030 652d302d31206162636465666768696a6b6c6d6e6f707172
         00",
        "04 040c7468726561640230 06736571 0232 0030 652d302d32206162636465666768696a6b6c6d6e6f707172
            040c7468726561640230 06736571 0233 0030 652d302d33206162636465666768696a6b6c6d6e6f707172
         00",
    ];
    const HEADS: [&str; 2] = [
        "0000000100000002 00000030 86aadae2c45474c0fe93ffd0f2350a65 00
            86aadae2c45474c0fe93ffd0f2350a65 02 00 00 16617070656e644261746368 00000056",
        "0000000200000002 0000000d 00 16617070656e644261746368 00000056",
    ];
    const REPLIES: [&str; 2] = [
        "0000000100000003 00000004 00000000 00000001 00 00000002 0000",
        "0000000200000003 00000000 00000001 00 00000002 0000",
    ];

    fn hex(text: &str) -> Vec<u8> {
        let digits: Vec<u8> = text.bytes().filter(u8::is_ascii_hexdigit).collect();
        let pair = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16);
        digits.chunks(2).map(|two| pair(two).unwrap()).collect()
    }

    fn batch(index: usize) -> Vec<Event> {
        let event = |seq: usize| Event {
            headers: [("thread", "0"), ("seq", &seq.to_string())]
                .map(|(k, v)| (k.to_owned(), v.to_owned()))
                .into(),
            body: format!("e-0-{seq} abcdefghijklmnopqr").into_bytes(),
        };
        vec![event(2 * index), event(2 * index + 1)]
    }

    fn frame(wire: &[u8]) -> Frame {
        let mut reader = FrameReader::new(FrameLimits::of_frame_bytes(1 << 20));
        reader.input().extend_from_slice(wire);
        let frame = reader.next_frame().unwrap().expect("a whole frame");
        assert!(reader.input().is_empty());
        frame
    }

    #[test]
    fn captured_requests_of_flume_are_answered_byte_for_byte() {
        let mut session = ServerSession::default();
        for index in 0..2 {
            let wire = hex(&[HEADS[index], BATCHES[index]].concat());
            let mut frame = frame(&wire);
            let request = session.request(&mut frame).unwrap();
            let Call::AppendBatch(mut parameters) = request.call else { panic!("another call") };
            let mut events = Vec::new();
            let mut push = |headers: &[(&str, &str)], body: &[u8]| {
                let headers = headers.iter().map(|(k, v)| ((*k).into(), (*v).into())).collect();
                events.push(Event { headers, body: body.into() });
            };
            decode_events(&mut parameters, 10, &mut push).unwrap();
            assert_eq!(events, batch(index));
            let mut reply = Vec::new();
            request.reply.status(Status::Ok, &mut reply);
            assert_eq!(reply, hex(REPLIES[index]));
        }
    }

    #[test]
    fn client_writes_what_flume_s_client_was_captured_with() {
        let mut session = ClientSession::default();
        for index in 0..2 {
            let mut wire = Vec::new();
            session.append_batch(index as i32 + 1, &encode_append_batch(&batch(index)), &mut wire);
            assert_eq!(wire, hex(&[HEADS[index], BATCHES[index]].concat()));
            let answer = session.answer(&mut frame(&hex(REPLIES[index]))).unwrap();
            assert_eq!(answer, Answer::Status(Status::Ok));
        }
    }

    /// A first request: handshake, then the call `name` without parameters.
    fn first(client: [u8; 16], text: Option<&str>, server: [u8; 16], name: &str) -> Frame {
        let mut message = client.to_vec();
        put_long(text.is_some().into(), &mut message);
        text.iter().for_each(|text| put_bytes(text.as_bytes(), &mut message));
        message.extend_from_slice(&server);
        put_long(0, &mut message);
        put_long(0, &mut message);
        put_bytes(name.as_bytes(), &mut message);
        let mut wire = Vec::new();
        write_frame(9, &[&message], &mut wire);
        frame(&wire)
    }

    /// The match word of the answer, and whether it carries our text; what the call became.
    fn shake(session: &mut ServerSession, mut frame: Frame) -> (u8, bool, String) {
        let request = session.request(&mut frame).unwrap();
        let answer = &request.reply.handshake;
        let call = format!("{:?}", request.call);
        (answer[0] / 2, answer.len() > 4, call.split('(').next().unwrap().to_owned())
    }

    #[test]
    fn handshake_follows_its_table_row_for_row() {
        const OTHER: [u8; 16] = [1; 16];
        let check = |client, text, server, expected: (u8, bool, &str)| {
            let seen = shake(&mut ServerSession::default(), first(client, text, server, "append"));
            assert_eq!((seen.0, seen.1, seen.2.as_str()), expected);
        };
        for known in [FLUME_1_11_HASH, protocol_hash()] {
            check(known, None, known, (0, false, "Append"));
            check(known, None, OTHER, (1, true, "Append"));
            check(OTHER, None, known, (2, true, "Nothing"));
            check(OTHER, Some(PROTOCOL), known, (0, false, "Append"));
        }
        check(OTHER, None, OTHER, (2, true, "Nothing"));
        check(OTHER, Some(PROTOCOL), OTHER, (1, true, "Append"));
        check(OTHER, Some("{"), OTHER, (1, true, "Refused"));
    }

    #[test]
    fn client_that_was_not_known_asks_again_with_its_text() {
        let mut session = ServerSession::default();
        let none = shake(&mut session, first([1; 16], None, [1; 16], "append"));
        assert_eq!(none, (2, true, "Nothing".to_owned()));
        let own = first([1; 16], Some(PROTOCOL), protocol_hash(), "append");
        assert_eq!(shake(&mut session, own), (0, false, "Append".to_owned()));
    }

    #[test]
    fn client_sends_its_text_to_a_server_that_asks_for_it() {
        let mut client = ClientSession::default();
        let mut answer = Vec::new();
        let mut none = Reply { serial: 1, handshake: Vec::new() };
        put_own(2, &mut none.handshake);
        none.empty(&mut answer);
        assert_eq!(client.answer(&mut frame(&answer)), Ok(Answer::Again));
        assert!(!client.is_open());
        let mut wire = Vec::new();
        client.append_batch(2, &encode_append_batch(&[]), &mut wire);
        let (word, text, call) = shake(&mut ServerSession::default(), frame(&wire));
        assert_eq!((word, text, call.as_str()), (0, false, "AppendBatch"));
        // a server that still asks is not asked for ever
        client.answer(&mut frame(&answer)).unwrap_err();
    }

    #[test]
    fn unknown_messages_and_pings_leave_the_session_open() {
        let mut session = ServerSession::default();
        let known = FLUME_1_11_HASH;
        let ping = shake(&mut session, first(known, None, known, ""));
        assert_eq!(ping, (0, false, "Nothing".to_owned()));
        let mut wire = Vec::new();
        write_frame(2, &[&[0, 8], b"nope"], &mut wire);
        let mut nope = frame(&wire);
        let request = session.request(&mut nope).unwrap();
        let Call::Refused(why) = request.call else { panic!("another call") };
        let mut reply = Vec::new();
        request.reply.error(&why, &mut reply);
        let mut client = ClientSession::default();
        client.answer(&mut frame(&hex(REPLIES[0]))).unwrap();
        let answer = client.answer(&mut frame(&reply)).unwrap();
        assert_eq!(answer, Answer::Error("no message 'nope' in AvroSourceProtocol".to_owned()));
    }

    #[test]
    fn any_message_is_read_without_panic() {
        fn property(messages: Vec<Vec<u8>>) -> bool {
            let (mut server, mut client) = (ServerSession::default(), ClientSession::default());
            for message in messages {
                let mut wire = Vec::new();
                write_frame(1, &[&message], &mut wire);
                let _ = server.request(&mut frame(&wire));
                let _ = client.answer(&mut frame(&wire));
            }
            true
        }
        quickcheck::quickcheck(property as fn(Vec<Vec<u8>>) -> bool);
    }
}
