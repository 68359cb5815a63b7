//! A disk in memory, of pages that are shared until they are written: a copy costs little.
//!
//! Each file is kept as the process sees it and as it is durable; names likewise. A power cut keeps
//! what was synced and, by the caller's choice, any of the rest; a kill keeps all. One call, or
//! every call from one on, can be made to fail, or to be the machine's last.

use levada::log::{Storage, StorageFile, View};
use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, IoSlice};
use std::sync::{Arc, Mutex, MutexGuard};

const PAGE: usize = 4096;
const ZEROS: [u8; PAGE] = [0; PAGE];

/// `None`: zeros.
type Page = Option<Arc<[u8; PAGE]>>;

/// What befalls a call.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Fault {
    /// It fails, once.
    Once,
    /// It and all that follow fail.
    ForEver,
    /// The machine stops in it.
    Off,
}

#[derive(Clone, Default)]
struct FileData {
    len: usize,
    seen: Vec<Page>,
    durable: Vec<Page>,
    /// Pages written since the last sync.
    dirty: BTreeSet<usize>,
    /// Pages whose write-back failed: the cache has them, no later sync writes them.
    lost: BTreeSet<usize>,
}

impl FileData {
    fn new(len: usize) -> FileData {
        let pages = vec![None; len.div_ceil(PAGE)];
        FileData { len, seen: pages.clone(), durable: pages, ..FileData::default() }
    }

    fn read(&self, from: usize, out: &mut [u8]) -> usize {
        let len = self.len.saturating_sub(from).min(out.len());
        let mut done = 0;
        while done < len {
            let (page, at) = ((from + done) / PAGE, (from + done) % PAGE);
            let part = (PAGE - at).min(len - done);
            match &self.seen[page] {
                Some(bytes) => out[done..done + part].copy_from_slice(&bytes[at..at + part]),
                None => out[done..done + part].fill(0),
            }
            done += part;
        }
        len
    }

    fn write(&mut self, from: usize, bytes: &[u8]) {
        assert!(from + bytes.len() <= self.len, "the engine writes inside its files");
        let mut done = 0;
        while done < bytes.len() {
            let (page, at) = ((from + done) / PAGE, (from + done) % PAGE);
            let part = (PAGE - at).min(bytes.len() - done);
            let held = self.seen[page].get_or_insert_with(|| Arc::new([0; PAGE]));
            Arc::make_mut(held)[at..at + part].copy_from_slice(&bytes[done..done + part]);
            self.dirty.insert(page);
            self.lost.remove(&page);
            done += part;
        }
    }

    fn bytes(&self) -> Vec<u8> {
        let mut bytes = vec![0; self.len];
        self.read(0, &mut bytes);
        bytes
    }

    fn of_bytes(bytes: &[u8]) -> FileData {
        let mut file = FileData::new(bytes.len());
        for (page, part) in bytes.chunks(PAGE).enumerate() {
            if part != &ZEROS[..part.len()] {
                file.write(page * PAGE, part);
            }
        }
        file.dirty.clear();
        file.durable = file.seen.clone();
        file
    }
}

#[derive(Clone)]
enum DirChange {
    Create(String, usize),
    Rename(String, String),
    Remove(String),
}

impl DirChange {
    fn apply(self, names: &mut BTreeMap<String, usize>) {
        match self {
            DirChange::Create(name, file) => drop(names.insert(name, file)),
            DirChange::Rename(from, to) => {
                if let Some(file) = names.remove(&from) {
                    names.insert(to, file);
                }
            }
            DirChange::Remove(name) => drop(names.remove(&name)),
        }
    }

    fn dir(&self) -> &str {
        let (DirChange::Create(name, _) | DirChange::Rename(_, name) | DirChange::Remove(name)) =
            self;
        dir_of(name)
    }
}

fn dir_of(name: &str) -> &str {
    name.rsplit_once('/').map_or(".", |(dir, _)| dir)
}

#[derive(Clone, Default)]
struct State {
    files: Vec<FileData>,
    names: BTreeMap<String, usize>,
    durable_names: BTreeMap<String, usize>,
    pending: Vec<DirChange>,
    boot: u8,
    /// Calls until the fault, and the fault.
    armed: Option<(usize, Fault)>,
    off: bool,
    /// Calls that failed.
    failures: usize,
    /// Whether nothing can be allocated.
    full: bool,
}

impl State {
    /// Counts a call; says what befalls it.
    fn begin(&mut self) -> Option<Fault> {
        if self.off {
            self.failures += 1;
            return Some(Fault::Off);
        }
        let (left, fault) = self.armed?;
        if left > 0 {
            self.armed = Some((left - 1, fault));
            return None;
        }
        match fault {
            Fault::Once => self.armed = None,
            Fault::ForEver => {}
            Fault::Off => self.off = true,
        }
        self.failures += 1;
        Some(fault)
    }

    fn check(&mut self) -> io::Result<()> {
        self.begin().map_or(Ok(()), |_| Err(io::Error::from_raw_os_error(5)))
    }

    fn change(&mut self, change: DirChange) {
        change.clone().apply(&mut self.names);
        self.pending.push(change);
    }
}

/// A disk. Clones of the handle are the same disk.
#[derive(Clone)]
pub struct Disk(Arc<Mutex<State>>);

impl Default for Disk {
    fn default() -> Disk {
        Disk(Arc::new(Mutex::new(State { boot: 1, ..State::default() })))
    }
}

impl Disk {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().expect("no holder panics")
    }

    /// Another disk with the same files.
    pub fn copy(&self) -> Disk {
        let state = State { armed: None, off: false, ..self.state().clone() };
        Disk(Arc::new(Mutex::new(state)))
    }

    /// The disk after a kill: everything that was written is there.
    pub fn killed(&self) -> Disk {
        self.copy()
    }

    /// The disk after a power cut; `keep` decides of each change that was not synced.
    pub fn power_cut(&self, mut keep: impl FnMut() -> bool) -> Disk {
        let mut state = self.state().clone();
        state.names = state.durable_names.clone();
        for change in std::mem::take(&mut state.pending) {
            if keep() {
                change.apply(&mut state.names);
            }
        }
        state.durable_names = state.names.clone();
        for file in &mut state.files {
            for page in std::mem::take(&mut file.dirty) {
                if keep() {
                    file.durable[page] = file.seen[page].clone();
                }
            }
            file.lost.clear();
            file.seen = file.durable.clone();
        }
        state.boot = state.boot.wrapping_add(1);
        state.armed = None;
        state.off = false;
        Disk(Arc::new(Mutex::new(state)))
    }

    /// `fault` befalls the call that comes after `calls` more.
    pub fn arm(&self, calls: usize, fault: Fault) {
        self.state().armed = Some((calls, fault));
    }

    /// How many calls have failed.
    pub fn failures(&self) -> usize {
        self.state().failures
    }

    /// Whether nothing can be allocated from now on.
    pub fn set_full(&self, full: bool) {
        self.state().full = full;
    }

    /// Whether nothing can be allocated.
    pub fn is_full(&self) -> bool {
        self.state().full
    }

    /// The machine stops now.
    pub fn stop(&self) {
        self.state().off = true;
    }

    /// Every name.
    pub fn names(&self) -> Vec<String> {
        self.state().names.keys().cloned().collect()
    }

    /// A file's bytes, if there is one of that name.
    pub fn bytes(&self, name: &str) -> Option<Vec<u8>> {
        let state = self.state();
        state.names.get(name).map(|file| state.files[*file].bytes())
    }

    /// Puts a file there, durable.
    pub fn put(&self, name: &str, bytes: &[u8]) {
        let mut state = self.state();
        let file = state.files.len();
        state.files.push(FileData::of_bytes(bytes));
        state.names.insert(name.to_owned(), file);
        state.durable_names.insert(name.to_owned(), file);
    }

    /// Removes a file, as if it had never been there.
    pub fn lose(&self, name: &str) {
        let mut state = self.state();
        state.names.remove(name);
        state.durable_names.remove(name);
    }
}

struct DiskFile {
    disk: Disk,
    file: usize,
}

impl StorageFile for DiskFile {
    fn len(&self) -> io::Result<u64> {
        Ok(self.disk.state().files[self.file].len as u64)
    }

    fn read_at(&self, position: u64, buffer: &mut [u8]) -> io::Result<usize> {
        let mut state = self.disk.state();
        state.check()?;
        let from = usize::try_from(position).unwrap_or(usize::MAX);
        Ok(state.files[self.file].read(from, buffer))
    }

    fn write_at(&self, position: u64, buffers: &[IoSlice<'_>]) -> io::Result<()> {
        let mut state = self.disk.state();
        let (was_off, fault) = (state.off, state.begin());
        let mut bytes = Vec::new();
        buffers.iter().for_each(|part| bytes.extend_from_slice(part));
        if fault.is_some() {
            bytes.truncate(bytes.len() / 2); // short: the first half arrived
        }
        if !was_off {
            state.files[self.file].write(position as usize, &bytes);
        }
        fault.map_or(Ok(()), |_| Err(io::Error::from_raw_os_error(5)))
    }

    fn sync(&self) -> io::Result<()> {
        let mut state = self.disk.state();
        let fault = state.begin();
        let file = &mut state.files[self.file];
        match fault {
            None => {
                for page in std::mem::take(&mut file.dirty) {
                    file.durable[page] = file.seen[page].clone();
                }
                Ok(())
            }
            Some(fault) => {
                // as Linux does it: told once, and the pages count as clean
                if fault != Fault::Off {
                    file.lost.append(&mut file.dirty);
                }
                Err(io::Error::from_raw_os_error(5))
            }
        }
    }

    fn drop_cache(&self, position: u64) -> io::Result<()> {
        let mut state = self.disk.state();
        let file = &mut state.files[self.file];
        for page in file.lost.split_off(&(position as usize).div_ceil(PAGE)) {
            file.seen[page] = file.durable[page].clone();
        }
        Ok(())
    }

    fn view(&self) -> io::Result<Arc<dyn View>> {
        let mut state = self.disk.state();
        state.check()?;
        Ok(Arc::new(Snapshot(state.files[self.file].bytes())))
    }

    fn is_lent(&self) -> bool {
        false // a view is a copy here
    }
}

struct Snapshot(Vec<u8>);

impl View for Snapshot {
    fn len(&self) -> u64 {
        self.0.len() as u64
    }

    fn bytes(&self, position: u64, len: usize) -> Option<&[u8]> {
        let from = usize::try_from(position).ok()?;
        self.0.get(from..from.checked_add(len)?)
    }

    fn prefetch(&self, _: u64, _: usize) -> io::Result<()> {
        Ok(())
    }
}

impl Storage for Disk {
    fn describe(&self) -> String {
        "the disk in memory".to_owned()
    }

    fn create_dir(&self, _: &str) -> io::Result<()> {
        Ok(())
    }

    fn create(&self, name: &str, len: u64) -> io::Result<Arc<dyn StorageFile>> {
        let mut state = self.state();
        if state.full {
            return Err(io::ErrorKind::StorageFull.into());
        }
        state.check()?;
        if let Some(&file) = state.names.get(name) {
            state.files[file] = FileData::new(len as usize); // the same file, cut to nothing first
            return Ok(Arc::new(DiskFile { disk: self.clone(), file }));
        }
        let file = state.files.len();
        state.files.push(FileData::new(len as usize));
        state.change(DirChange::Create(name.to_owned(), file));
        Ok(Arc::new(DiskFile { disk: self.clone(), file }))
    }

    fn open(&self, name: &str, _: bool) -> io::Result<Arc<dyn StorageFile>> {
        let mut state = self.state();
        state.check()?;
        let file = *state.names.get(name).ok_or(io::ErrorKind::NotFound)?;
        Ok(Arc::new(DiskFile { disk: self.clone(), file }))
    }

    fn list(&self, dir: &str) -> io::Result<Vec<(String, u64)>> {
        let mut state = self.state();
        state.check()?;
        let files = state.names.iter().filter(|(name, _)| dir_of(name) == dir);
        let file = |(name, file): (&String, &usize)| {
            let short = name.rsplit('/').next().unwrap_or_default();
            (short.to_owned(), state.files[*file].len as u64)
        };
        Ok(files.map(file).collect())
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        let mut state = self.state();
        state.check()?;
        if !state.names.contains_key(from) {
            return Err(io::ErrorKind::NotFound.into());
        }
        state.change(DirChange::Rename(from.to_owned(), to.to_owned()));
        Ok(())
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        let mut state = self.state();
        state.check()?;
        if !state.names.contains_key(name) {
            return Err(io::ErrorKind::NotFound.into());
        }
        state.change(DirChange::Remove(name.to_owned()));
        Ok(())
    }

    fn sync_dir(&self, dir: &str) -> io::Result<()> {
        let mut state = self.state();
        state.check()?;
        let (done, left): (Vec<_>, Vec<_>) =
            std::mem::take(&mut state.pending).into_iter().partition(|change| change.dir() == dir);
        state.pending = left;
        for change in done {
            change.apply(&mut state.durable_names);
        }
        Ok(())
    }

    fn lock(&self, _: &str, _: &str) -> io::Result<Result<Box<dyn Send + Sync>, String>> {
        Ok(Ok(Box::new(())))
    }

    fn free_bytes(&self) -> io::Result<u64> {
        Ok(if self.state().full { 0 } else { u64::MAX })
    }

    fn boot_id(&self) -> Option<[u8; 16]> {
        Some([self.state().boot; 16])
    }
}
