//! Frames: the byte stream cut into messages, whatever pieces the socket gives.

use bytes::{Buf, BytesMut};
use std::ops::Range;

/// Buffers smaller than this on average are moved together before a message is read: walking many
/// borders would cost more than the move.
const SMALL_BUFFER_BYTES: usize = 4096;

/// What a frame may have.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct FrameLimits {
    /// Bytes of the frame, its own lengths included.
    pub frame_bytes: usize,
    /// Buffers in it.
    pub buffer_count: usize,
}

impl FrameLimits {
    /// Limits for frames of `frame_bytes`, at most 2 GiB.
    ///
    /// Flume's client writes buffers of 8 KiB; those of 256 bytes on average are still taken.
    pub fn of_frame_bytes(frame_bytes: usize) -> FrameLimits {
        let frame_bytes = frame_bytes.min(i32::MAX as usize);
        FrameLimits { frame_bytes, buffer_count: (frame_bytes / 256).max(64) }
    }
}

/// Why the stream is of no more use: its borders are lost.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum FrameError {
    /// A negative number or more buffers than the limit.
    #[error("a frame claims {count} buffers, the limit is {limit}: {}", guess(*.serial))]
    BufferCount {
        /// What stands in front.
        serial: i32,
        /// What the frame says.
        count: i32,
        /// What it may have.
        limit: usize,
    },
    /// A negative length.
    #[error("a frame claims a buffer of {length} bytes: {}", guess(*.serial))]
    BufferLength {
        /// What stands in front.
        serial: i32,
        /// What the frame says.
        length: i32,
    },
    /// Longer than the limit.
    #[error("a frame has {bytes} bytes or more, the limit is {limit} (maxFrameBytes)")]
    TooLong {
        /// What the frame has at least.
        bytes: usize,
        /// What it may have.
        limit: usize,
    },
}

/// What the peer may speak instead, by the first bytes of the stream.
fn guess(serial: i32) -> &'static str {
    match serial.to_be_bytes() {
        [0x78, 0x01 | 0x5e | 0x9c | 0xda, ..] => {
            "a zlib stream (the peer has compression-type = deflate, this source has not)"
        }
        [0x16, 0x03, ..] => "TLS (the peer has ssl = true, this source has not)",
        first if first.iter().all(|byte| matches!(byte, b' '..=b'~')) => "text, no Avro RPC",
        _ => "this is no Avro RPC",
    }
}

/// One frame.
#[derive(Debug)]
pub struct Frame {
    /// The number that its reply carries.
    pub serial: i32,
    bytes: BytesMut,
    /// Where its buffers lie in `bytes`; none is empty.
    parts: Vec<Range<usize>>,
}

impl Frame {
    /// Bytes of the frame, its own lengths included.
    pub fn byte_len(&self) -> usize {
        self.bytes.len()
    }

    /// The message in pieces as they lie in the frame; many small ones are moved together first.
    pub fn chunks(&mut self) -> Vec<&[u8]> {
        let message: usize = self.parts.iter().map(Range::len).sum();
        if self.parts.len() > 4 && message / self.parts.len() < SMALL_BUFFER_BYTES {
            self.coalesce();
        }
        self.parts.iter().map(|part| &self.bytes[part.clone()]).collect()
    }

    fn coalesce(&mut self) {
        let mut end = 0;
        for part in self.parts.drain(..) {
            let len = part.len();
            self.bytes.copy_within(part, end);
            end += len;
        }
        self.parts.push(0..end);
    }
}

/// Cuts a byte stream into frames. What has not arrived is not allocated for.
pub struct FrameReader {
    limits: FrameLimits,
    input: BytesMut,
    head: Option<Head>,
    /// Where the next length, or the end of the buffer under way, is expected.
    at: usize,
    parts: Vec<Range<usize>>,
}

#[derive(Clone, Copy)]
struct Head {
    serial: i32,
    buffers_left: u32,
}

impl FrameReader {
    /// A reader at the start of a stream.
    pub fn new(limits: FrameLimits) -> FrameReader {
        FrameReader { limits, input: BytesMut::new(), head: None, at: 0, parts: Vec::new() }
    }

    /// Where the bytes go as they arrive. Only append to it.
    pub fn input(&mut self) -> &mut BytesMut {
        &mut self.input
    }

    /// How many more bytes are known to belong to the frame under way.
    pub fn missing(&self) -> usize {
        self.at.saturating_sub(self.input.len())
    }

    /// The next frame, or `None` until more bytes have arrived.
    ///
    /// # Errors
    /// The stream is no sequence of frames, or breaks a limit: nothing can be read from it again.
    pub fn next_frame(&mut self) -> Result<Option<Frame>, FrameError> {
        let head = match self.head {
            Some(head) => head,
            None => {
                let Some(bytes) = self.input.first_chunk::<8>() else { return Ok(None) };
                let [serial, count] = [&bytes[..4], &bytes[4..]].map(|mut four| four.get_i32());
                let limit = self.limits.buffer_count;
                let buffers_left = u32::try_from(count)
                    .ok()
                    .filter(|count| *count as usize <= limit)
                    .ok_or(FrameError::BufferCount { serial, count, limit })?;
                self.at = 8;
                Head { serial, buffers_left }
            }
        };
        self.read_buffers(head)
    }

    fn read_buffers(&mut self, mut head: Head) -> Result<Option<Frame>, FrameError> {
        loop {
            // `at` is behind the last complete length: the buffer's end, if one is under way
            if self.at > self.input.len() || head.buffers_left == 0 {
                break;
            }
            let Some(mut length) = self.input.get(self.at..self.at + 4) else { break };
            let length = length.get_i32();
            let Ok(len) = usize::try_from(length) else {
                let serial = head.serial;
                return Err(FrameError::BufferLength { serial, length });
            };
            let start = self.at + 4;
            let (bytes, limit) = (start + len, self.limits.frame_bytes);
            if bytes > limit {
                return Err(FrameError::TooLong { bytes, limit });
            }
            if len > 0 {
                self.parts.push(start..start + len);
            }
            self.at = start + len;
            head.buffers_left -= 1;
        }
        if head.buffers_left > 0 || self.at > self.input.len() {
            self.head = Some(head);
            return Ok(None);
        }
        let bytes = self.input.split_to(self.at);
        self.head = None;
        self.at = 0;
        Ok(Some(Frame { serial: head.serial, bytes, parts: std::mem::take(&mut self.parts) }))
    }
}

/// Appends a frame of two buffers to `out`: `head`, and what `write` appends.
///
/// # Panics
/// As [`write_frame`].
pub fn write_frame_with(
    serial: i32,
    head: &[u8],
    out: &mut Vec<u8>,
    write: impl FnOnce(&mut Vec<u8>),
) {
    write_frame(serial, &[head, &[]], out);
    let at = out.len();
    write(out);
    let len = i32::try_from(out.len() - at).expect("a buffer is below 2 GiB");
    out[at - 4..at].copy_from_slice(&len.to_be_bytes());
}

/// Appends a frame of `buffers` to `out`.
///
/// # Panics
/// If a buffer has 2 GiB or more: what is sent is limited far below.
pub fn write_frame(serial: i32, buffers: &[&[u8]], out: &mut Vec<u8>) {
    let number = |n: usize| i32::try_from(n).expect("a frame is below 2 GiB").to_be_bytes();
    out.extend_from_slice(&serial.to_be_bytes());
    out.extend_from_slice(&number(buffers.len()));
    for buffer in buffers {
        out.extend_from_slice(&number(buffer.len()));
        out.extend_from_slice(buffer);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: FrameLimits = FrameLimits { frame_bytes: 1 << 16, buffer_count: 100 };

    fn message(frame: &mut Frame) -> Vec<u8> {
        frame.chunks().concat()
    }

    #[test]
    fn frames_come_out_whole_however_the_stream_is_cut() {
        fn property(frames: Vec<(i32, Vec<Vec<u8>>)>, cuts: Vec<u8>) -> bool {
            let (mut wire, mut expected) = (Vec::new(), Vec::new());
            for (serial, buffers) in &frames {
                let buffers: Vec<&[u8]> = buffers.iter().map(Vec::as_slice).collect();
                write_frame(*serial, &buffers, &mut wire);
                expected.push((*serial, buffers.concat()));
            }
            let mut reader = FrameReader::new(LIMITS);
            let (mut rest, mut seen) = (&wire[..], Vec::new());
            let mut cuts = cuts.iter().chain(std::iter::repeat(&1));
            while !rest.is_empty() {
                let cut = usize::from(*cuts.next().unwrap()).min(rest.len());
                reader.input().extend_from_slice(&rest[..cut]);
                rest = &rest[cut..];
                while let Some(mut frame) = reader.next_frame().unwrap() {
                    seen.push((frame.serial, message(&mut frame)));
                }
            }
            seen == expected && reader.input().is_empty()
        }
        let property = property as fn(Vec<(i32, Vec<Vec<u8>>)>, Vec<u8>) -> bool;
        quickcheck::QuickCheck::new().tests(20).quickcheck(property);
    }

    #[test]
    fn any_bytes_are_read_without_panic_or_large_allocation() {
        fn property(bytes: Vec<u8>) -> bool {
            let mut reader = FrameReader::new(LIMITS);
            for piece in bytes.chunks(3) {
                reader.input().extend_from_slice(piece);
                while let Ok(Some(mut frame)) = reader.next_frame() {
                    message(&mut frame);
                }
            }
            reader.parts.capacity() <= 128 && reader.input.capacity() <= 4 * bytes.len() + 64
        }
        quickcheck::quickcheck(property as fn(Vec<u8>) -> bool);
    }

    fn refused(bytes: &[u8]) -> FrameError {
        let mut reader = FrameReader::new(LIMITS);
        reader.input().extend_from_slice(bytes);
        reader.next_frame().unwrap_err()
    }

    #[test]
    fn lies_are_refused_before_their_bytes_arrive() {
        let count = |count: [u8; 4], limit| {
            let count = i32::from_be_bytes(count);
            FrameError::BufferCount { serial: 1, count, limit }
        };
        assert_eq!(refused(&[0, 0, 0, 1, 255, 255, 255, 255]), count([255; 4], 100));
        assert_eq!(refused(&[0, 0, 0, 1, 0, 0, 0, 101]), count([0, 0, 0, 101], 100));
        let negative = [0, 0, 0, 1, 0, 0, 0, 1, 255, 255, 255, 254];
        assert_eq!(refused(&negative), FrameError::BufferLength { serial: 1, length: -2 });
        let long = [0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 255, 245];
        assert_eq!(refused(&long), FrameError::TooLong { bytes: 65537, limit: 65536 });
    }

    #[test]
    fn another_protocol_is_named() {
        let check = |bytes: &[u8], expected: &str| {
            let error = refused(bytes).to_string();
            assert!(error.contains(expected), "{error}");
        };
        check(b"GET / HTTP/1.1\r\n", "text, no Avro RPC");
        check(&[0x78, 0x9c, 0x62, 0x60, 0x60, 0x60, 0x60, 0x02], "compression-type");
        check(&[0x16, 0x03, 0x01, 0x02, 0x00, 0x01, 0x00, 0x01, 0xfc, 3, 3, 0], "TLS");
        let negative = [0x16, 0x03, 0x01, 0x02, 0, 0, 0, 1, 0xfc, 3, 3, 0];
        check(&negative, "TLS");
    }

    #[test]
    fn many_small_buffers_are_moved_together() {
        let mut wire = Vec::new();
        write_frame(7, &[&b"ab"[..]; 20], &mut wire);
        let mut reader = FrameReader::new(LIMITS);
        reader.input().extend_from_slice(&wire);
        let mut frame = reader.next_frame().unwrap().unwrap();
        assert_eq!(frame.chunks(), [b"ab".repeat(20)]);
    }
}
