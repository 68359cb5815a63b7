//! Which crash states were met, over all threads.

use std::collections::HashSet;
use std::sync::Mutex;

const SHARDS: usize = 16;

/// Fingerprints of states, counted once each.
#[derive(Default)]
pub struct Seen {
    shards: [Mutex<HashSet<u64>>; SHARDS],
}

impl Seen {
    /// Notes a state; false if it was met before.
    pub fn insert(&self, print: u64) -> bool {
        let shard = &self.shards[print as usize % SHARDS];
        shard.lock().expect("no holder panics").insert(print)
    }

    /// How many different states were met.
    pub fn len(&self) -> u64 {
        let len =
            |shard: &Mutex<HashSet<u64>>| shard.lock().expect("no holder panics").len() as u64;
        self.shards.iter().map(len).sum()
    }

    /// Whether none was met.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}
