//! fjall: a put is one write batch with an item for each event, under ever higher keys, committed
//! with fdatasync. The reader's place is a key of its own. What is old goes with its table (FIFO
//! compaction, made for such keys).

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use fjall::compaction::Fifo;
use fjall::config::CompressionPolicy;
use fjall::{
    CompressionType, Database, Keyspace, KeyspaceCreateOptions, PersistMode, UserKey, UserValue,
};

use super::{Batch, PLACE_EVENTS, Peer};
use crate::Result;
use crate::args::{Args, Workload};

const PLACE_KEY: &str = "next";
/// Bytes of old events that `put` leaves on disk.
const KEEP_BYTES: u64 = 1 << 30;

pub struct Fjall {
    database: Database,
    events: Keyspace,
    place: Keyspace,
    /// The key of the next event put.
    tail: Mutex<u64>,
    reader: Mutex<Reader>,
}

struct Reader {
    /// The key of the next event taken.
    next: u64,
    taken_since_place: u64,
}

impl Fjall {
    pub fn open(args: &Args) -> Result<Self> {
        let keep_bytes = if args.workload == Workload::Put { KEEP_BYTES } else { u64::MAX };
        // The bodies do not compress; the peer need not try.
        let database =
            Database::builder(&args.dir).journal_compression(CompressionType::None).open()?;
        let events = database.keyspace("events", || {
            KeyspaceCreateOptions::default()
                .data_block_compression_policy(CompressionPolicy::disabled())
                .compaction_strategy(Arc::new(Fifo::new(keep_bytes, None)))
        })?;
        let place = database.keyspace("place", KeyspaceCreateOptions::default)?;
        let tail = match events.last_key_value() {
            Some(last) => number(&last.key()?)? + 1,
            None => 0,
        };
        let next = match place.get(PLACE_KEY)? {
            Some(next) => number(&next)?,
            None => 0,
        };
        Ok(Self {
            database,
            events,
            place,
            tail: Mutex::new(tail),
            reader: Mutex::new(Reader { next, taken_since_place: 0 }),
        })
    }

    fn write(&self, batch: Batch, durability: Option<PersistMode>) -> Result<()> {
        let record = UserValue::from(batch.record);
        let mut write_batch = self.database.batch().durability(durability);
        // Held to the end, as keys must be committed in their order. It costs nothing: fjall has
        // one lock over the write and the sync of a batch.
        let mut tail = lock(&self.tail);
        for key in *tail..*tail + batch.count as u64 {
            write_batch.insert(&self.events, UserKey::from(key.to_be_bytes()), record.clone());
        }
        write_batch.commit()?;
        *tail += batch.count as u64;
        Ok(())
    }
}

impl Peer for Fjall {
    fn put(&self, _producer: usize, batch: Batch) -> Result<()> {
        self.write(batch, Some(PersistMode::SyncData))
    }

    fn store(&self, batch: Batch) -> Result<()> {
        self.write(batch, None)
    }

    fn sync(&self) -> Result<()> {
        Ok(self.database.persist(PersistMode::SyncData)?)
    }

    fn take(&self, count: usize, each: &mut dyn FnMut(&[u8])) -> Result<usize> {
        let mut reader = lock(&self.reader);
        let mut taken = 0;
        for event in self.events.range(reader.next.to_be_bytes()..).take(count) {
            each(&event.value()?);
            taken += 1;
        }
        reader.next += taken as u64;
        reader.taken_since_place += taken as u64;
        if reader.taken_since_place >= PLACE_EVENTS {
            reader.taken_since_place = 0;
            let mut write_batch = self.database.batch().durability(Some(PersistMode::SyncData));
            write_batch.insert(&self.place, PLACE_KEY, UserValue::from(reader.next.to_be_bytes()));
            write_batch.commit()?;
        }
        Ok(taken)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn number(bytes: &[u8]) -> Result<u64> {
    let bytes = bytes.try_into().map_err(|_| format!("a key has {} bytes, not 8", bytes.len()))?;
    Ok(u64::from_be_bytes(bytes))
}
