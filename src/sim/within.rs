//! A directory of another storage, as a storage of its own: two logs on one disk, which crash
//! together.

use crate::log::{Storage, StorageFile};
use std::io;
use std::sync::Arc;

/// What lies below one directory of a storage.
pub struct Within {
    whole: Arc<dyn Storage>,
    dir: &'static str,
}

impl Within {
    /// The directory `dir` of `whole`.
    pub fn new(whole: Arc<dyn Storage>, dir: &'static str) -> Within {
        Within { whole, dir }
    }

    fn name(&self, name: &str) -> String {
        if name == "." { self.dir.to_owned() } else { format!("{}/{name}", self.dir) }
    }
}

impl Storage for Within {
    fn describe(&self) -> String {
        format!("{}/{}", self.whole.describe(), self.dir)
    }

    fn create_dir(&self, dir: &str) -> io::Result<()> {
        self.whole.create_dir(&self.name(dir))
    }

    fn create(&self, name: &str, len: u64) -> io::Result<Arc<dyn StorageFile>> {
        self.whole.create(&self.name(name), len)
    }

    fn open(&self, name: &str, write: bool) -> io::Result<Arc<dyn StorageFile>> {
        self.whole.open(&self.name(name), write)
    }

    fn list(&self, dir: &str) -> io::Result<Vec<(String, u64)>> {
        self.whole.list(&self.name(dir))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.whole.rename(&self.name(from), &self.name(to))
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        self.whole.remove(&self.name(name))
    }

    fn sync_dir(&self, dir: &str) -> io::Result<()> {
        self.whole.sync_dir(&self.name(dir))
    }

    fn lock(&self, name: &str, owner: &str) -> io::Result<Result<Box<dyn Send + Sync>, String>> {
        self.whole.lock(&self.name(name), owner)
    }

    fn free_bytes(&self) -> io::Result<u64> {
        self.whole.free_bytes()
    }

    fn boot_id(&self) -> Option<[u8; 16]> {
        self.whole.boot_id()
    }

    fn now_ns(&self) -> u64 {
        self.whole.now_ns()
    }

    fn random(&self) -> u64 {
        self.whole.random()
    }
}
