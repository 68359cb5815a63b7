//! raft-engine: a put is one batch of log entries, written with `sync`; one thread syncs for all
//! that wait. Entries of a Raft group are numbered without gaps by their writer, so each producer
//! has a group of its own, as in TiKV, and the reader goes round the groups.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use protobuf::well_known_types::BytesValue;
use raft_engine::{Command, Config, Engine, LogBatch, MessageExt, ReadableSize};

use super::{Batch, PLACE_EVENTS, Peer};
use crate::Result;
use crate::args::{Args, Workload};

/// Bytes in front of the record that hold its index: an entry must know its own.
const INDEX_BYTES: usize = 8;

pub struct RaftEngine {
    engine: Engine,
    /// Last index of each producer's group.
    groups: Vec<AtomicU64>,
    reader: Mutex<Reader>,
    /// Whether events are wanted after their put.
    keep_unread: bool,
}

struct Reader {
    /// First index not taken, of each group.
    next: Vec<u64>,
    group: usize,
    taken_since_place: u64,
}

struct Record;

impl MessageExt for Record {
    type Entry = BytesValue;

    fn index(entry: &BytesValue) -> u64 {
        let (index, _) = entry.value.split_first_chunk().expect("every entry begins with one");
        u64::from_le_bytes(*index)
    }
}

impl RaftEngine {
    pub fn open(args: &Args) -> Result<Self> {
        let dir = args.dir.to_str().ok_or("raft-engine needs a --dir in UTF-8")?;
        let engine = Engine::open(Config {
            dir: dir.to_owned(),
            // The bodies do not compress; the peer need not try.
            batch_compression_threshold: ReadableSize(0),
            purge_threshold: ReadableSize::gb(1),
            ..Config::default()
        })?;
        let ids = 0..args.producer_count();
        let last = ids.clone().map(|id| engine.last_index(id as u64).unwrap_or(0));
        let next = ids.map(|id| engine.first_index(id as u64).unwrap_or(1)).collect();
        Ok(Self {
            groups: last.map(AtomicU64::new).collect(),
            engine,
            reader: Mutex::new(Reader { next, group: 0, taken_since_place: 0 }),
            keep_unread: args.workload != Workload::Put,
        })
    }

    fn write(&self, producer: usize, batch: Batch, sync: bool) -> Result<()> {
        let group = &self.groups[producer];
        let first = group.load(Ordering::Relaxed) + 1;
        let entries: Vec<BytesValue> = (first..first + batch.count as u64)
            .map(|index| {
                let mut entry = BytesValue::new();
                entry.value.reserve_exact(INDEX_BYTES + batch.record.len());
                entry.value.extend_from_slice(&index.to_le_bytes());
                entry.value.extend_from_slice(batch.record);
                entry
            })
            .collect();
        let mut log_batch = LogBatch::with_capacity(1);
        log_batch.add_entries::<Record>(producer as u64, &entries)?;
        self.engine.write(&mut log_batch, sync)?;
        // Published after the write: the reader goes no further than this.
        group.store(first + batch.count as u64 - 1, Ordering::Release);
        Ok(())
    }

    /// Gives up what is below `next` in each group.
    fn compact(&self, next: impl Iterator<Item = u64>, sync: bool) -> Result<()> {
        let mut log_batch = LogBatch::with_capacity(self.groups.len());
        for (id, index) in next.enumerate().filter(|(_, index)| *index > 1) {
            log_batch.add_command(id as u64, Command::Compact { index });
        }
        self.engine.write(&mut log_batch, sync)?;
        Ok(())
    }
}

impl Peer for RaftEngine {
    fn put(&self, producer: usize, batch: Batch) -> Result<()> {
        self.write(producer, batch, true)
    }

    fn store(&self, batch: Batch) -> Result<()> {
        self.write(0, batch, false)
    }

    fn sync(&self) -> Result<()> {
        // `Engine::sync` writes an empty batch, and an empty batch is not synced (0.4.2).
        let mut log_batch = LogBatch::with_capacity(1);
        log_batch.put(0, b"synced".to_vec(), Vec::new())?;
        self.engine.write(&mut log_batch, true)?;
        Ok(())
    }

    fn take(&self, count: usize, each: &mut dyn FnMut(&[u8])) -> Result<usize> {
        let mut reader = self.reader.lock().unwrap_or_else(PoisonError::into_inner);
        let mut entries = Vec::with_capacity(count);
        for _ in 0..self.groups.len() {
            let id = reader.group;
            let begin = reader.next[id];
            let unread = self.groups[id].load(Ordering::Acquire) + 1 - begin;
            let end = begin + unread.min((count - entries.len()) as u64);
            self.engine.fetch_entries_to::<Record>(id as u64, begin, end, None, &mut entries)?;
            reader.next[id] = end;
            if entries.len() == count {
                break;
            }
            reader.group = (id + 1) % self.groups.len();
        }
        entries.iter().for_each(|entry| each(&entry.value[INDEX_BYTES..]));
        reader.taken_since_place += entries.len() as u64;
        if reader.taken_since_place >= PLACE_EVENTS {
            reader.taken_since_place = 0;
            self.compact(reader.next.iter().copied(), true)?;
        }
        Ok(entries.len())
    }

    fn reclaim(&self) -> Result<()> {
        if !self.keep_unread {
            self.compact(self.groups.iter().map(|last| last.load(Ordering::Acquire)), false)?;
        }
        self.engine.purge_expired_files()?;
        Ok(())
    }
}
