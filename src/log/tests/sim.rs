//! A simulated disk: what is written but not synced may be lost in a crash, in any legal way.
//!
//! Each file is kept twice: as the process sees it, and as it is durable. Pages of 4 KiB in which
//! the two may differ are dirty. Directory operations are kept until their directory is synced. A
//! power cut keeps any subset of dirty pages (torn at 512 bytes, if it wants) and any subset of
//! pending directory operations; a kill keeps everything. One call can be made to fail.
//!
//! Every call that changes something has a number, so a trace can be crashed, or made to fail, at
//! each of them in turn.

use crate::log::{Storage, StorageFile, View};
use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, IoSlice};
use std::sync::{Arc, Mutex, MutexGuard};

const PAGE: usize = 4096;
const SECTOR: usize = 512;

/// What a call does to the disk.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) enum Call {
    Create,
    Write,
    Sync,
    Rename,
    Remove,
    SyncDir,
    Open,
    List,
}

/// How a simulated machine ends.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum End {
    /// The process dies, the machine goes on: everything written is there.
    Kill,
    /// The machine dies: only what was synced is certainly there.
    PowerCut,
}

#[derive(Clone, Default)]
struct FileData {
    seen: Vec<u8>,
    durable: Vec<u8>,
    /// Pages written since the last sync.
    dirty: BTreeSet<usize>,
    /// Pages whose write-back failed: the cache holds them, no later sync writes them.
    lost: BTreeSet<usize>,
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

    fn dir(&self) -> &str {
        let (DirChange::Create(name, _) | DirChange::Rename(_, name) | DirChange::Remove(name)) =
            self;
        dir_of(name)
    }
}

fn dir_of(name: &str) -> &str {
    name.rsplit_once('/').map_or(".", |(dir, _)| dir)
}

struct Disk {
    files: Vec<FileData>,
    names: BTreeMap<String, usize>,
    durable_names: BTreeMap<String, usize>,
    pending: Vec<DirChange>,
    boot: u8,
    /// Calls so far.
    calls: Vec<Call>,
    /// Number of the call in which the machine stops.
    crash_at: Option<usize>,
    crashed: bool,
    /// Number of the call that fails.
    fail_at: Option<usize>,
    failed: Option<Call>,
    /// Whether nothing can be allocated.
    full: bool,
    rng: fastrand::Rng,
}

/// A simulated disk. Clones are the same disk.
#[derive(Clone)]
pub(super) struct Sim {
    disk: Arc<Mutex<Disk>>,
}

/// What `Disk::begin` says of a call.
#[derive(PartialEq, Eq)]
enum Fate {
    Done,
    /// It fails, and may have been done in part.
    Fails,
    /// The machine stops in it.
    Crashes,
}

impl Disk {
    /// Counts a call.
    fn begin(&mut self, call: Call) -> io::Result<Fate> {
        if self.crashed {
            return Err(io::Error::other("the machine is off"));
        }
        let number = self.calls.len();
        self.calls.push(call);
        if self.crash_at == Some(number) {
            self.crashed = true;
            return Ok(Fate::Crashes);
        }
        if self.fail_at == Some(number) {
            self.failed = Some(call);
            return Ok(Fate::Fails);
        }
        Ok(Fate::Done)
    }

    fn change(&mut self, change: DirChange) {
        change.clone().apply(&mut self.names);
        self.pending.push(change);
    }
}

/// The error of a call that did not come through.
fn eio(fate: &Fate) -> io::Result<()> {
    match fate {
        Fate::Done => Ok(()),
        Fate::Fails => Err(io::Error::from_raw_os_error(5)),
        Fate::Crashes => Err(io::Error::other("the machine is off")),
    }
}

impl Sim {
    pub(super) fn new(seed: u64) -> Sim {
        let disk = Disk {
            files: Vec::new(),
            names: BTreeMap::new(),
            durable_names: BTreeMap::new(),
            pending: Vec::new(),
            boot: 1,
            calls: Vec::new(),
            crash_at: None,
            crashed: false,
            fail_at: None,
            failed: None,
            full: false,
            rng: fastrand::Rng::with_seed(seed),
        };
        Sim { disk: Arc::new(Mutex::new(disk)) }
    }

    fn disk(&self) -> MutexGuard<'_, Disk> {
        self.disk.lock().expect("no holder panics")
    }

    /// The calls so far.
    pub(super) fn calls(&self) -> Vec<Call> {
        self.disk().calls.clone()
    }

    /// The machine stops in the call that comes after `calls` more.
    pub(super) fn crash_after(&self, calls: usize) {
        let mut disk = self.disk();
        disk.crash_at = Some(disk.calls.len() + calls);
    }

    pub(super) fn crashed(&self) -> bool {
        self.disk().crashed
    }

    /// The call `number` fails (counted from the disk's first).
    pub(super) fn fail_at(&self, number: usize) {
        self.disk().fail_at = Some(number);
    }

    /// The call that was made to fail, if it came to it.
    pub(super) fn failed(&self) -> Option<Call> {
        self.disk().failed
    }

    /// Whether nothing can be allocated from now on.
    pub(super) fn set_full(&self, full: bool) {
        self.disk().full = full;
    }

    /// The disk as the next owner finds it.
    pub(super) fn restart(&self, end: End) -> Sim {
        let mut old = self.disk();
        let next = Sim::new(old.rng.u64(..));
        let mut disk = next.disk();
        disk.full = old.full;
        if end == End::Kill {
            disk.boot = old.boot;
            disk.names = old.names.clone();
            disk.durable_names = old.durable_names.clone();
            disk.pending = old.pending.clone();
            disk.files = old.files.clone();
        } else {
            disk.boot = old.boot.wrapping_add(1);
            let mut names = old.durable_names.clone();
            let keep = Keep::draw(&mut old.rng);
            for change in old.pending.clone() {
                if keep.flip(&mut old.rng) {
                    change.apply(&mut names);
                }
            }
            let keep = Keep::draw(&mut old.rng);
            let mut rng = old.rng.fork();
            disk.files = old.files.iter().map(|file| cut(file, keep, &mut rng)).collect();
            disk.names = names.clone();
            disk.durable_names = names;
        }
        drop(disk);
        next
    }

    /// Names below a directory.
    pub(super) fn names(&self, dir: &str) -> Vec<String> {
        let disk = self.disk();
        disk.names.keys().filter(|name| dir_of(name) == dir).cloned().collect()
    }

    /// The bytes of a file, as the process sees them.
    pub(super) fn bytes(&self, name: &str) -> Vec<u8> {
        let disk = self.disk();
        disk.files[disk.names[name]].seen.clone()
    }

    /// Changes the bytes of a file, in cache and on disk: damage.
    pub(super) fn damage(&self, name: &str, change: impl FnOnce(&mut Vec<u8>)) {
        let mut disk = self.disk();
        let file = disk.names[name];
        let file = &mut disk.files[file];
        change(&mut file.seen);
        file.durable = file.seen.clone();
        file.dirty.clear();
    }

    /// Removes a file as if it had never been there.
    pub(super) fn lose(&self, name: &str) {
        let mut disk = self.disk();
        disk.names.remove(name);
        disk.durable_names.remove(name);
    }

    /// Every name and its bytes, but for the lock.
    pub(super) fn image(&self) -> BTreeMap<String, Vec<u8>> {
        let disk = self.disk();
        disk.names.iter().map(|(n, f)| (n.clone(), disk.files[*f].seen.clone())).collect()
    }
}

/// How much of what is not synced a power cut keeps.
#[derive(Clone, Copy)]
enum Keep {
    All,
    None,
    Some(u8),
}

impl Keep {
    fn draw(rng: &mut fastrand::Rng) -> Keep {
        match rng.u8(..8) {
            0 => Keep::All,
            1 | 2 => Keep::None,
            _ => Keep::Some(rng.u8(20..236)),
        }
    }

    fn flip(self, rng: &mut fastrand::Rng) -> bool {
        match self {
            Keep::All => true,
            Keep::None => false,
            Keep::Some(share) => rng.u8(..) < share,
        }
    }
}

/// A file after a power cut.
fn cut(file: &FileData, keep: Keep, rng: &mut fastrand::Rng) -> FileData {
    let mut left = file.durable.clone();
    for &page in &file.dirty {
        let torn = rng.u8(..4) == 0;
        let end = ((page + 1) * PAGE).min(left.len());
        for sector in (page * PAGE..end).step_by(SECTOR) {
            // a page is kept or lost as a whole, or sector by sector if it is torn
            let decided = torn || sector % PAGE == 0;
            if decided && keep.flip(rng) {
                let to = if torn { sector + SECTOR } else { sector + PAGE };
                let to = to.min(end);
                left[sector..to].copy_from_slice(&file.seen[sector..to]);
            }
        }
    }
    FileData { seen: left.clone(), durable: left, ..FileData::default() }
}

struct SimFile {
    sim: Sim,
    file: usize,
}

impl SimFile {
    fn with<T>(&self, f: impl FnOnce(&mut FileData) -> T) -> T {
        f(&mut self.sim.disk().files[self.file])
    }
}

impl StorageFile for SimFile {
    fn len(&self) -> io::Result<u64> {
        Ok(self.with(|file| file.seen.len() as u64))
    }

    fn read_at(&self, position: u64, buffer: &mut [u8]) -> io::Result<usize> {
        let from = position as usize;
        Ok(self.with(|file| {
            let len = file.seen.len().saturating_sub(from).min(buffer.len());
            if len > 0 {
                buffer[..len].copy_from_slice(&file.seen[from..from + len]);
            }
            len
        }))
    }

    fn write_at(&self, position: u64, buffers: &[IoSlice<'_>]) -> io::Result<()> {
        let mut disk = self.sim.disk();
        let fate = disk.begin(Call::Write)?;
        let mut bytes: Vec<u8> = buffers.iter().flat_map(|buffer| buffer.to_vec()).collect();
        if fate != Fate::Done {
            let len = disk.rng.usize(..=bytes.len());
            bytes.truncate(len);
        }
        let from = position as usize;
        let file = &mut disk.files[self.file];
        assert!(from + bytes.len() <= file.seen.len(), "the engine writes inside its files");
        file.seen[from..from + bytes.len()].copy_from_slice(&bytes);
        for page in from / PAGE..(from + bytes.len()).div_ceil(PAGE) {
            file.dirty.insert(page);
            file.lost.remove(&page);
        }
        eio(&fate)
    }

    fn sync(&self) -> io::Result<()> {
        let mut disk = self.sim.disk();
        let fate = disk.begin(Call::Sync)?;
        let file = &mut disk.files[self.file];
        match fate {
            Fate::Done => {
                for page in std::mem::take(&mut file.dirty) {
                    let to = ((page + 1) * PAGE).min(file.seen.len());
                    file.durable[page * PAGE..to].copy_from_slice(&file.seen[page * PAGE..to]);
                }
            }
            // as Linux does it: told once, and the pages count as clean
            Fate::Fails => file.lost.append(&mut file.dirty),
            Fate::Crashes => {}
        }
        eio(&fate)
    }

    fn drop_cache(&self, position: u64) -> io::Result<()> {
        self.with(|file| {
            let lost = file.lost.split_off(&(position as usize).div_ceil(PAGE));
            for page in lost {
                let to = ((page + 1) * PAGE).min(file.seen.len());
                file.seen[page * PAGE..to].copy_from_slice(&file.durable[page * PAGE..to]);
            }
        });
        Ok(())
    }

    fn view(&self) -> io::Result<Arc<dyn View>> {
        Ok(Arc::new(Snapshot(self.with(|file| file.seen.clone()))))
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

impl Storage for Sim {
    fn describe(&self) -> String {
        "sim".to_owned()
    }

    fn create_dir(&self, _: &str) -> io::Result<()> {
        Ok(()) // directories are there from the start; `FileStorage` syncs the names of new ones
    }

    fn create(&self, name: &str, len: u64) -> io::Result<Arc<dyn StorageFile>> {
        let mut disk = self.disk();
        if disk.full {
            return Err(io::ErrorKind::StorageFull.into());
        }
        let fate = disk.begin(Call::Create)?;
        let len = match fate {
            Fate::Done => len as usize,
            Fate::Fails => return Err(io::ErrorKind::StorageFull.into()),
            Fate::Crashes => disk.rng.usize(..=len as usize),
        };
        let data = FileData { seen: vec![0; len], durable: vec![0; len], ..FileData::default() };
        let file = disk.files.len();
        disk.files.push(data);
        disk.change(DirChange::Create(name.to_owned(), file));
        eio(&fate)?;
        Ok(Arc::new(SimFile { sim: self.clone(), file }))
    }

    fn open(&self, name: &str, _: bool) -> io::Result<Arc<dyn StorageFile>> {
        let mut disk = self.disk();
        let fate = disk.begin(Call::Open)?;
        eio(&fate)?;
        let file = *disk.names.get(name).ok_or(io::ErrorKind::NotFound)?;
        Ok(Arc::new(SimFile { sim: self.clone(), file }))
    }

    fn list(&self, dir: &str) -> io::Result<Vec<(String, u64)>> {
        let mut disk = self.disk();
        let fate = disk.begin(Call::List)?;
        eio(&fate)?;
        let files = disk.names.iter().filter(|(name, _)| dir_of(name) == dir);
        let file = |(name, file): (&String, &usize)| {
            let short = name.rsplit('/').next().unwrap_or_default();
            (short.to_owned(), disk.files[*file].seen.len() as u64)
        };
        Ok(files.map(file).collect())
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        let mut disk = self.disk();
        let fate = disk.begin(Call::Rename)?;
        if fate == Fate::Fails {
            return eio(&fate);
        }
        if !disk.names.contains_key(from) {
            return Err(io::ErrorKind::NotFound.into());
        }
        disk.change(DirChange::Rename(from.to_owned(), to.to_owned()));
        eio(&fate)
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        let mut disk = self.disk();
        let fate = disk.begin(Call::Remove)?;
        if fate == Fate::Fails {
            return eio(&fate);
        }
        if !disk.names.contains_key(name) {
            return Err(io::ErrorKind::NotFound.into());
        }
        disk.change(DirChange::Remove(name.to_owned()));
        eio(&fate)
    }

    fn sync_dir(&self, dir: &str) -> io::Result<()> {
        let mut disk = self.disk();
        let fate = disk.begin(Call::SyncDir)?;
        if fate == Fate::Done {
            let pending = std::mem::take(&mut disk.pending);
            for change in pending {
                if change.dir() == dir {
                    change.apply(&mut disk.durable_names);
                } else {
                    disk.pending.push(change);
                }
            }
        }
        eio(&fate)
    }

    fn lock(&self, _: &str, _: &str) -> io::Result<Result<Box<dyn Send + Sync>, String>> {
        Ok(Ok(Box::new(())))
    }

    fn free_bytes(&self) -> io::Result<u64> {
        Ok(u64::MAX)
    }

    fn boot_id(&self) -> Option<[u8; 16]> {
        Some([self.disk().boot; 16])
    }
}
