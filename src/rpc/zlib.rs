//! `compression-type = deflate`: each direction of a connection is one zlib stream, flushed behind
//! every frame.

use bytes::{Buf, BytesMut};
use flate2::{Compress, Compression, Decompress, FlushCompress, FlushDecompress, Status};

/// How much is inflated at a time.
const STEP_BYTES: usize = 64 << 10;

/// Why a stream can't be read on.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum ZlibError {
    /// The bytes are no zlib stream.
    #[error(
        "compressed byte {position} is no zlib stream (is the peer's compression-type deflate?)"
    )]
    Corrupt {
        /// Compressed bytes read so far.
        position: u64,
    },
    /// The stream ended, and more bytes came.
    #[error("{bytes} bytes follow the end of the zlib stream")]
    Trailing {
        /// How many.
        bytes: usize,
    },
}

/// Reads one direction of a compressed connection.
pub struct Inflater {
    zlib: Decompress,
    input: BytesMut,
    ended: bool,
}

impl Default for Inflater {
    fn default() -> Inflater {
        Inflater { zlib: Decompress::new(true), input: BytesMut::new(), ended: false }
    }
}

impl Inflater {
    /// Where the compressed bytes go as they arrive.
    pub fn input(&mut self) -> &mut BytesMut {
        &mut self.input
    }

    /// Appends what the input gives to `out`, `room` bytes or a little more at a time, so that a
    /// few bytes which inflate to gigabytes never do so at once. Returns whether anything came.
    ///
    /// # Errors
    /// The stream can't be read on: the connection is of no more use.
    pub fn inflate(&mut self, out: &mut BytesMut, room: usize) -> Result<bool, ZlibError> {
        let start = out.len();
        while out.len() - start < room {
            if self.ended && !self.input.is_empty() {
                return Err(ZlibError::Trailing { bytes: self.input.len() });
            }
            let (at, read, written) = (out.len(), self.zlib.total_in(), self.zlib.total_out());
            out.resize(at + STEP_BYTES, 0);
            let result = self.zlib.decompress(&self.input, &mut out[at..], FlushDecompress::None);
            let read = (self.zlib.total_in() - read) as usize;
            let written = (self.zlib.total_out() - written) as usize;
            out.truncate(at + written);
            self.input.advance(read);
            match result {
                Err(_) => return Err(ZlibError::Corrupt { position: self.zlib.total_in() }),
                Ok(Status::StreamEnd) => self.ended = true,
                Ok(_) => {}
            }
            if read == 0 && written == 0 {
                break;
            }
        }
        Ok(out.len() > start)
    }
}

/// Writes one direction of a compressed connection.
pub struct Deflater {
    zlib: Compress,
}

impl Deflater {
    /// A stream of compression `level` 0 to 9 (above: 9); Flume's default is 6.
    pub fn new(level: u32) -> Deflater {
        Deflater { zlib: Compress::new(Compression::new(level.min(9)), true) }
    }

    /// Appends `bytes` to `out`, compressed, and flushed: the peer can read all of them.
    pub fn deflate(&mut self, bytes: &[u8], out: &mut Vec<u8>) {
        let start = self.zlib.total_in();
        loop {
            let done = (self.zlib.total_in() - start) as usize;
            out.reserve(((bytes.len() - done) / 2).max(512));
            let status = self.zlib.compress_vec(&bytes[done..], out, FlushCompress::Sync);
            status.expect("memory to memory, never finished: zlib has no other failure");
            let done = (self.zlib.total_in() - start) as usize;
            // room left over means that the flush is complete
            if done == bytes.len() && out.len() < out.capacity() {
                return;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn inflate_all(inflater: &mut Inflater, room: usize) -> Result<BytesMut, ZlibError> {
        let mut out = BytesMut::new();
        while inflater.inflate(&mut out, room)? {}
        Ok(out)
    }

    #[test]
    fn each_flushed_piece_comes_out_whole_however_the_stream_is_cut() {
        fn property(pieces: Vec<Vec<u8>>, cut: u8) -> bool {
            let (mut deflater, mut inflater) = (Deflater::new(6), Inflater::default());
            pieces.iter().all(|piece| {
                let mut wire = Vec::new();
                deflater.deflate(piece, &mut wire);
                let mut seen = Vec::new();
                for part in wire.chunks(usize::from(cut).max(1)) {
                    inflater.input().extend_from_slice(part);
                    seen.extend_from_slice(&inflate_all(&mut inflater, 1).unwrap());
                }
                seen == *piece
            })
        }
        quickcheck::QuickCheck::new()
            .tests(20)
            .quickcheck(property as fn(Vec<Vec<u8>>, u8) -> bool);
    }

    #[test]
    fn inflater_stops_at_its_room_when_little_gives_much() {
        let (mut wire, mut out) = (Vec::new(), BytesMut::new());
        Deflater::new(9).deflate(&vec![0; 8 << 20], &mut wire);
        assert!(wire.len() < 20_000);
        let mut inflater = Inflater::default();
        inflater.input().extend_from_slice(&wire);
        assert!(inflater.inflate(&mut out, 1000).unwrap());
        assert!(out.len() <= 1000 + STEP_BYTES);
        assert_eq!(out.len() + inflate_all(&mut inflater, 1 << 20).unwrap().len(), 8 << 20);
    }

    #[test]
    fn any_bytes_inflate_without_panic() {
        fn property(bytes: Vec<u8>, start_well: bool) -> bool {
            let mut inflater = Inflater::default();
            if start_well {
                inflater.input().extend_from_slice(&[0x78, 0x9c]);
            }
            inflater.input().extend_from_slice(&bytes);
            let _ = inflate_all(&mut inflater, 100);
            true
        }
        quickcheck::quickcheck(property as fn(Vec<u8>, bool) -> bool);
    }

    #[test]
    fn plain_bytes_are_refused_with_a_hint() {
        let mut inflater = Inflater::default();
        inflater.input().extend_from_slice(&[0, 0, 0, 1, 0, 0, 0, 2]);
        let error = inflate_all(&mut inflater, 100).unwrap_err();
        assert!(error.to_string().contains("compression-type"), "{error}");
    }
}
