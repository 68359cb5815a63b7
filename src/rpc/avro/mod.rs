//! Avro RPC as Flume's clients and sources speak it, byte by byte.
//!
//! ```text
//! frame     := serial i32 BE | buffer count i32 BE | buffer*      buffer := length i32 BE | bytes
//! request   := handshake request (until the session stands) | metadata | message name | parameters
//! reply     := handshake response (to each handshake)       | metadata | error flag   | result
//! ```
//! The concatenated buffers of a frame are one message; their borders carry no meaning. A reply has
//! the serial of its request. [`FrameReader`] cuts the byte stream, [`ServerSession`] reads
//! requests, [`decode_events`] walks their events, [`Reply`] writes the answers; [`ClientSession`]
//! is the other side.

mod client;
mod event;
mod frame;
mod protocol;
mod reader;
mod server;

pub use client::{Answer, ClientSession, encode_append_batch};
pub use event::{decode_event, decode_events, encode_event, encode_events, encode_lent_events};
pub use frame::{Frame, FrameError, FrameLimits, FrameReader, write_frame, write_frame_with};
pub use protocol::{FLUME_1_11_HASH, PROTOCOL, protocol_hash};
pub use reader::{DecodeError, Flaw, Reader};
pub use server::{Call, Reply, Request, ServerSession};

/// What a source answers to a call.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Status {
    /// The events are as durable as the channel promises.
    Ok,
    /// They were not taken: send again later.
    Failed,
    /// Nobody knows.
    Unknown,
}

impl Status {
    /// Its number in the protocol's enum.
    pub fn index(self) -> i64 {
        match self {
            Status::Ok => 0,
            Status::Failed => 1,
            Status::Unknown => 2,
        }
    }

    /// The status of a number, if there is one.
    pub fn of_index(index: i64) -> Option<Status> {
        [Status::Ok, Status::Failed, Status::Unknown].into_iter().find(|s| s.index() == index)
    }
}

/// Appends an Avro `long` (or `int`, a length, a block count): zigzag, then 7 bits a byte.
fn put_long(value: i64, out: &mut Vec<u8>) {
    let mut rest = ((value << 1) ^ (value >> 63)) as u64;
    while rest >= 0x80 {
        out.push(rest as u8 | 0x80);
        rest >>= 7;
    }
    out.push(rest as u8);
}

/// Appends Avro `bytes` or `string`.
fn put_bytes(bytes: &[u8], out: &mut Vec<u8>) {
    put_long(bytes.len() as i64, out);
    out.extend_from_slice(bytes);
}
