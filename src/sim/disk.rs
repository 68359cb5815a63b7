//! What is on a simulated disk, and in the cache above it.

use super::PAGE;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

const SECTOR: usize = 512;

#[derive(Clone)]
pub(super) struct Page {
    pub(super) bytes: Arc<[u8; PAGE]>,
    pub(super) hash: u32,
}

impl Page {
    pub(super) fn new(bytes: [u8; PAGE]) -> Page {
        Page { hash: crc32fast::hash(&bytes), bytes: Arc::new(bytes) }
    }

    /// This page with some sectors of `other`.
    pub(super) fn mixed(&self, other: &Page, mut takes: impl FnMut(usize) -> bool) -> Page {
        let mut bytes = *self.bytes;
        for sector in (0..PAGE).step_by(SECTOR).filter(|at| takes(*at / SECTOR)) {
            bytes[sector..sector + SECTOR].copy_from_slice(&other.bytes[sector..sector + SECTOR]);
        }
        Page::new(bytes)
    }

    /// This page with a sector of which the write to `new` was cut short: it is of no use any more,
    /// also where nothing was to change.
    pub(super) fn broken(&self, new: &Page, sector: usize) -> Page {
        let mut bytes = *self.bytes;
        let at = sector * SECTOR..(sector + 1) * SECTOR;
        bytes[at.clone()].iter_mut().zip(&new.bytes[at]).for_each(|(byte, new)| *byte = !*new);
        Page::new(bytes)
    }
}

#[derive(Clone)]
pub(super) struct FileData {
    pub(super) len: usize,
    pub(super) seen: Vec<Page>,
    pub(super) durable: Vec<Page>,
    /// Pages written since the last sync, and what they were in between.
    pub(super) dirty: BTreeMap<usize, Vec<Page>>,
    /// Pages whose write-back failed: the cache holds them, no later sync writes them.
    pub(super) lost: BTreeSet<usize>,
}

impl FileData {
    pub(super) fn zeros(len: usize, zero: &Page) -> FileData {
        let seen = vec![zero.clone(); len.div_ceil(PAGE)];
        let (dirty, lost) = (BTreeMap::new(), BTreeSet::new());
        FileData { len, durable: seen.clone(), seen, dirty, lost }
    }

    pub(super) fn of(bytes: &[u8]) -> FileData {
        let page = |chunk: &[u8]| {
            let mut page = [0; PAGE];
            page[..chunk.len()].copy_from_slice(chunk);
            Page::new(page)
        };
        let seen: Vec<_> = bytes.chunks(PAGE).map(page).collect();
        let (dirty, lost) = (BTreeMap::new(), BTreeSet::new());
        FileData { len: bytes.len(), durable: seen.clone(), seen, dirty, lost }
    }

    pub(super) fn read(&self, position: usize, buffer: &mut [u8]) -> usize {
        let len = self.len.saturating_sub(position).min(buffer.len());
        let mut done = 0;
        while done < len {
            let at = position + done;
            let page = &self.seen[at / PAGE].bytes[at % PAGE..];
            let some = page.len().min(len - done);
            buffer[done..done + some].copy_from_slice(&page[..some]);
            done += some;
        }
        len
    }

    pub(super) fn bytes(&self) -> Vec<u8> {
        let mut bytes = vec![0; self.len];
        self.read(0, &mut bytes);
        bytes
    }

    pub(super) fn write(&mut self, position: usize, bytes: &[u8]) {
        assert!(position + bytes.len() <= self.len, "the engine writes inside its files");
        let mut done = 0;
        while done < bytes.len() {
            let at = position + done;
            let (number, from) = (at / PAGE, at % PAGE);
            let some = (PAGE - from).min(bytes.len() - done);
            let mut page = *self.seen[number].bytes;
            page[from..from + some].copy_from_slice(&bytes[done..done + some]);
            let before = std::mem::replace(&mut self.seen[number], Page::new(page));
            match self.dirty.get_mut(&number) {
                Some(versions) => versions.push(before),
                None => drop(self.dirty.insert(number, Vec::new())),
            }
            self.lost.remove(&number);
            done += some;
        }
    }

    /// Changes bytes in the cache and on the disk.
    pub(super) fn overwrite(&mut self, position: usize, bytes: &[u8]) {
        self.write(position, bytes);
        for number in position / PAGE..(position + bytes.len()).div_ceil(PAGE) {
            self.durable[number] = self.seen[number].clone();
            self.dirty.remove(&number);
        }
    }

    pub(super) fn sync(&mut self) {
        for number in std::mem::take(&mut self.dirty).into_keys() {
            self.durable[number] = self.seen[number].clone();
        }
    }

    /// As Linux does it: told once, and the pages count as clean, written or not.
    pub(super) fn fail_sync(&mut self, rng: &mut fastrand::Rng) {
        for number in std::mem::take(&mut self.dirty).into_keys() {
            if rng.u8(..4) == 0 {
                self.durable[number] = self.seen[number].clone();
            } else {
                self.lost.insert(number);
            }
        }
    }

    pub(super) fn drop_cache(&mut self, position: usize) {
        for number in self.lost.split_off(&position.div_ceil(PAGE)) {
            self.seen[number] = self.durable[number].clone();
        }
    }
}

#[derive(Clone)]
pub(super) enum DirChange {
    Create(String, usize),
    Rename(String, String),
    Remove(String),
}

impl DirChange {
    pub(super) fn apply(self, names: &mut BTreeMap<String, usize>) {
        match self {
            DirChange::Create(name, file) => {
                names.insert(name, file);
            }
            DirChange::Rename(from, to) => {
                if let Some(file) = names.remove(&from) {
                    names.insert(to, file);
                }
            }
            DirChange::Remove(name) => {
                names.remove(&name);
            }
        }
    }

    pub(super) fn dir(&self) -> &str {
        let (DirChange::Create(name, _) | DirChange::Rename(_, name) | DirChange::Remove(name)) =
            self;
        dir_of(name)
    }
}

pub(super) fn dir_of(name: &str) -> &str {
    name.rsplit_once('/').map_or(".", |(dir, _)| dir)
}

/// What is on the disk, and in the cache above it.
#[derive(Clone)]
pub(super) struct Content {
    pub(super) files: Vec<Arc<FileData>>,
    pub(super) names: BTreeMap<String, usize>,
    pub(super) durable_names: BTreeMap<String, usize>,
    pub(super) pending: Vec<DirChange>,
    pub(super) boot: u8,
    /// What time it is, and how much later it is each time that somebody asks.
    pub(super) time_ns: u64,
    pub(super) tick_ns: u64,
    pub(super) full: bool,
}
