//! okaywal: a put is one entry with a chunk for each event; its commit syncs, one thread for all
//! that wait. A segment goes to the manager when it is full, here to nobody, and is used again.

use std::io;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Mutex, PoisonError};

use okaywal::{Configuration, Entry, EntryId, LogManager, LogVoid, SegmentReader, WriteAheadLog};

use super::{Batch, Peer};
use crate::Result;
use crate::args::{Args, Workload};

pub struct Okaywal {
    log: WriteAheadLog,
    recovered: Mutex<Receiver<Vec<u8>>>,
}

impl Okaywal {
    pub fn open(args: &Args) -> Result<Self> {
        let config = Configuration::default_for(&args.dir);
        let (first, recovered) = channel();
        let log = if matches!(args.workload, Workload::Fill | Workload::Reopen) {
            // Nothing is handed over and lost: the one segment grows for as long as `fill` runs.
            let config = config.checkpoint_after_bytes(u64::MAX);
            config.open(FirstEvent { first: Some(first) })?
        } else {
            config.open(LogVoid)?
        };
        Ok(Self { log, recovered: Mutex::new(recovered) })
    }
}

impl Peer for Okaywal {
    fn put(&self, _producer: usize, batch: Batch) -> Result<()> {
        let mut entry = self.log.begin_entry()?;
        for _ in 0..batch.count {
            entry.write_chunk(batch.record)?;
        }
        entry.commit()?;
        Ok(())
    }

    fn take(&self, _count: usize, each: &mut dyn FnMut(&[u8])) -> Result<usize> {
        let recovered = self.recovered.lock().unwrap_or_else(PoisonError::into_inner);
        let Ok(record) = recovered.try_recv() else { return Ok(0) };
        each(&record);
        Ok(1)
    }
}

/// Keeps the first event that recovery sees.
#[derive(Debug)]
struct FirstEvent {
    first: Option<Sender<Vec<u8>>>,
}

impl LogManager for FirstEvent {
    /// Reads every chunk to its checksum: okaywal goes four bytes too far when it passes over one
    /// by itself (0.3.1), and then takes the rest of the log for torn.
    fn recover(&mut self, entry: &mut Entry<'_>) -> io::Result<()> {
        let mut chunks = entry.read_all_chunks()?.into_iter().flatten();
        let (Some(record), Some(first)) = (chunks.next(), self.first.take()) else { return Ok(()) };
        first.send(record).map_err(io::Error::other)
    }

    fn checkpoint_to(
        &mut self,
        _last: EntryId,
        _entries: &mut SegmentReader,
        _log: &WriteAheadLog,
    ) -> io::Result<()> {
        Ok(())
    }
}
