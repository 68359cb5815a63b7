//! What a peer does for the workloads, one file a peer.

mod fjall;
mod okaywal;
mod raft_engine;
mod rsyslog;
mod walrus;

use crate::Result;
use crate::args::{Args, PeerName, Workload};

/// How many events a reader takes before it makes its place durable, where the peer leaves that
/// to its caller.
const PLACE_EVENTS: u64 = 10_000;

/// The events of one put: `count` times the same record.
#[derive(Clone, Copy)]
pub struct Batch<'a> {
    pub record: &'a [u8],
    pub count: usize,
}

pub trait Peer: Send + Sync {
    /// Stores the batch; it is durable on return.
    fn put(&self, producer: usize, batch: Batch) -> Result<()>;

    /// Stores the batch as producer 0, durable when `sync` has returned.
    fn store(&self, batch: Batch) -> Result<()> {
        self.put(0, batch)
    }

    /// Makes durable what `store` stored.
    fn sync(&self) -> Result<()> {
        Ok(())
    }

    /// Gives up to `count` events to `each` and returns how many; 0 when there are none just now.
    /// At most [`PLACE_EVENTS`] events later the reader's place is durable.
    fn take(&self, count: usize, each: &mut dyn FnMut(&[u8])) -> Result<usize>;

    /// Gives disk back, for peers that wait to be told.
    fn reclaim(&self) -> Result<()> {
        Ok(())
    }

    /// The process that does the work, if it is not this one.
    fn server(&self) -> Option<u32> {
        None
    }

    /// What the reader of the figures must know, if the peer keeps less than the contract asks.
    fn note(&self) -> Option<&'static str> {
        None
    }
}

/// Refuses what the peer cannot do, and sets up the process where the peer asks for that.
pub fn prepare(args: &Args) -> Result<()> {
    let reads = !matches!(args.workload, Workload::Take | Workload::Both);
    match args.peer {
        PeerName::Okaywal if !reads => Err(format!(
            "okaywal has no '{}': it gives events back only when a log is opened",
            args.workload
        )
        .into()),
        PeerName::Rsyslog if args.workload != Workload::Put => Err(format!(
            "rsyslog has no '{}': it hands events to its own outputs only",
            args.workload
        )
        .into()),
        PeerName::Walrus => walrus::prepare(&args.dir),
        _ => Ok(()),
    }
}

pub fn open(args: &Args) -> Result<Box<dyn Peer>> {
    Ok(match args.peer {
        PeerName::Okaywal => Box::new(okaywal::Okaywal::open(args)?),
        PeerName::RaftEngine => Box::new(raft_engine::RaftEngine::open(args)?),
        PeerName::Fjall => Box::new(fjall::Fjall::open(args)?),
        PeerName::Rsyslog => Box::new(rsyslog::Rsyslog::open(args)?),
        PeerName::Walrus => Box::new(walrus::WalrusTopics::open(args)?),
    })
}
