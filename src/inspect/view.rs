//! A segment's bytes for one who looks on: read, not mapped.
//!
//! An owner may recycle a file under a reader, and a disk may fail to give a block: with a mapping
//! the one changes bytes that are borrowed, the other is a signal. Read bytes stay what they were,
//! and checksums say whether they were any good.

use crate::log::{StorageFile, View};
use std::io;
use std::sync::{Arc, OnceLock};

/// Bytes read at a time.
const CHUNK: u64 = 1 << 20;

/// A view that reads on demand, and keeps what it read as long as it lives.
pub(super) struct ReadView {
    file: Arc<dyn StorageFile>,
    len: u64,
    chunks: Vec<Chunk>,
    error: OnceLock<io::Error>,
}

#[derive(Default)]
struct Chunk {
    bytes: OnceLock<Vec<u8>>,
    /// Ranges that start in this chunk and end behind it.
    across: OnceLock<Box<Across>>,
}

struct Across {
    position: u64,
    /// What was asked for; fewer bytes: the file or the disk did not have them.
    len: usize,
    bytes: Vec<u8>,
    next: OnceLock<Box<Across>>,
}

impl ReadView {
    /// A view of `file` as long as it is now.
    pub(super) fn new(file: &Arc<dyn StorageFile>) -> io::Result<ReadView> {
        let len = file.len()?;
        let count = len.div_ceil(CHUNK) as usize;
        let chunks = std::iter::repeat_with(Chunk::default).take(count).collect();
        Ok(ReadView { file: Arc::clone(file), len, chunks, error: OnceLock::new() })
    }

    /// The first read that failed: what is missing since then is not what the bytes say.
    pub(super) fn error(&self) -> Option<&io::Error> {
        self.error.get()
    }

    fn read(&self, position: u64, len: u64) -> Vec<u8> {
        let mut bytes = vec![0; len as usize];
        let read = self.file.read_at(position, &mut bytes).unwrap_or_else(|error| {
            let _ = self.error.set(error); // the first one counts
            0
        });
        bytes.truncate(read);
        bytes
    }
}

impl View for ReadView {
    fn len(&self) -> u64 {
        self.len
    }

    fn bytes(&self, position: u64, len: usize) -> Option<&[u8]> {
        let end = position.checked_add(len as u64).filter(|end| *end <= self.len)?;
        let chunk = self.chunks.get((position / CHUNK) as usize)?;
        let start = position / CHUNK * CHUNK;
        if end <= start + CHUNK {
            let size = CHUNK.min(self.len - start);
            let bytes = chunk.bytes.get_or_init(|| self.read(start, size));
            return bytes.get((position - start) as usize..(end - start) as usize);
        }
        let mut slot = &chunk.across;
        loop {
            let across = slot.get_or_init(|| {
                let bytes = self.read(position, len as u64);
                Box::new(Across { position, len, bytes, next: OnceLock::new() })
            });
            if across.position == position && across.len >= len {
                return across.bytes.get(..len);
            }
            slot = &across.next;
        }
    }

    fn prefetch(&self, _: u64, _: usize) -> io::Result<()> {
        Ok(())
    }
}
