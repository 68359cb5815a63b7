//! The engine's tests, by question.

mod basic;
mod fault;
mod files;
mod format;
mod golden;
mod keep;
mod memory;
mod race;
mod read;
mod recovery;
#[cfg(feature = "shuttle")]
mod shuttle;

use super::*;
pub(super) use crate::harness::{batch, quiet, record};
use crate::offset::OffsetRange;
use byteorder::{ByteOrder, LE};
use tempfile::TempDir;

/// Segments of 64 KiB, so that rolls happen in every test.
pub(super) fn small() -> LogOptions {
    LogOptions { segment_bytes: 64 << 10, ..LogOptions::default() }
}

pub(super) fn open(dir: &TempDir, options: LogOptions) -> (Log, Opened) {
    Log::open_dir(dir.path(), options).unwrap()
}

/// Every record of a range, as the reader gives it.
pub(super) fn read_all(log: &Log, range: OffsetRange) -> Vec<(u64, Vec<u8>)> {
    let mut reader = log.reader();
    let mut next = range.start;
    let mut records = Vec::new();
    while next < range.end {
        let read = reader.read(next..range.end, 7).unwrap();
        assert!(read.missing.is_empty(), "{:?}", read.missing);
        assert!(read.next > next, "the reader moves on");
        for part in read.batch.parts() {
            let walk = crate::event::Records::new(&part.records);
            let numbered = walk.zip(part.first.0..).map(|(record, at)| (at, record.to_vec()));
            records.extend(numbered);
        }
        next = read.next;
    }
    records
}

/// A file of the log's directory.
pub(super) fn path(dir: &TempDir, name: &str) -> std::path::PathBuf {
    dir.path().join(name)
}
