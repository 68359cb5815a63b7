//! A simulated disk: what is written but not synced may be lost in a crash, in any legal way.
//!
//! Each file is kept twice, in pages of 4 KiB: as the process sees it, and as it is durable. A page
//! that was written since the last sync is dirty; its earlier versions are kept too. Directory
//! operations are kept until their directory is synced. A power cut leaves of each dirty page the
//! durable version, any later one, or the last one torn at 512 bytes, and any subset of the pending
//! directory operations ([`Cut`] says which); a kill leaves everything.
//!
//! Every call that changes something has a number, so a trace can be crashed, or made to fail
//! ([`Plan`]), at each of them in turn; [`Sim::record`] keeps the disk as it was after each.

mod cut;
mod disk;
mod storage;
mod within;

pub use self::cut::Cut;
pub use self::within::Within;

use self::cut::Keeper;
use self::disk::{Content, DirChange, FileData, Page, dir_of};
use std::collections::{BTreeMap, BTreeSet};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

const PAGE: usize = 4096;
const EIO: i32 = 5;

/// What a call does to the disk.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Call {
    /// Creates a file of zeros.
    Create,
    /// Writes inside a file.
    Write,
    /// Syncs a file.
    Sync,
    /// Renames a file.
    Rename,
    /// Removes a file.
    Remove,
    /// Syncs a directory.
    SyncDir,
    /// Opens a file.
    Open,
    /// Lists a directory.
    List,
    /// Counted only if [`Sim::count_reads`] says so.
    Read,
}

/// How a simulated machine ends.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum End {
    /// The process dies, the machine goes on: everything written is there.
    Kill,
    /// The machine dies: only what was synced is certainly there.
    PowerCut,
}

/// Which call fails, and how.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Plan {
    /// Its number, from the disk's first call on.
    pub at: usize,
    /// If so, only such calls count: of this kind, on a file whose name starts so.
    pub only: Option<(Call, &'static str)>,
    /// What the system says.
    pub errno: i32,
    /// Whether every later call that would change something fails too.
    pub for_ever: bool,
}

impl Plan {
    /// The sync of a segment that comes after `at` others fails with an I/O error.
    pub fn segment_sync(at: usize) -> Plan {
        Plan { only: Some((Call::Sync, "log/")), ..Plan::once(at) }
    }

    /// One call fails with an I/O error.
    pub fn once(at: usize) -> Plan {
        Plan { at, only: None, errno: EIO, for_ever: false }
    }
}

struct Disk {
    content: Content,
    zero: Page,
    /// Calls so far, each with its file or directory.
    calls: Vec<(Call, String)>,
    count_reads: bool,
    /// The content after each call that changed something, if that is wanted.
    record: Option<Vec<(usize, Content)>>,
    /// Number of the call in which the machine stops.
    crash_at: Option<usize>,
    crashed: bool,
    plan: Option<Plan>,
    /// Calls so far that the plan counts.
    planned: usize,
    /// How long each write takes, and each creation of a file.
    write_time: Duration,
    create_time: Duration,
    /// Number of the first call that was made to fail.
    failed: Option<usize>,
    /// Pages of files that were asked for.
    resident: BTreeSet<(usize, usize)>,
    rng: fastrand::Rng,
}

/// A simulated disk. Clones are the same disk.
#[derive(Clone)]
pub struct Sim {
    disk: Arc<Mutex<Disk>>,
}

/// What `Disk::begin` says of a call.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Fate {
    Done,
    /// It fails so, and may have been done in part.
    Fails(i32),
    /// The machine stops in it.
    Crashes,
}

impl Disk {
    /// Counts a call.
    fn begin(&mut self, call: Call, what: &str) -> io::Result<Fate> {
        if self.crashed {
            return Err(io::Error::other("the machine is off"));
        }
        if call == Call::Read && !self.count_reads {
            return Ok(Fate::Done);
        }
        let number = self.calls.len();
        self.calls.push((call, what.to_owned()));
        if self.crash_at == Some(number) {
            self.crashed = true;
            return Ok(Fate::Crashes);
        }
        if let Some(plan) = self.plan
            && self.counts(&plan, call, what, number)
        {
            self.failed.get_or_insert(number);
            return Ok(Fate::Fails(plan.errno));
        }
        Ok(Fate::Done)
    }

    /// Whether it is this call's turn to fail.
    fn counts(&mut self, plan: &Plan, call: Call, what: &str, number: usize) -> bool {
        let number = match plan.only {
            Some((kind, name)) if kind == call && what.starts_with(name) => self.planned,
            Some(_) => return false,
            None => number,
        };
        self.planned += 1;
        let looks = matches!(call, Call::Open | Call::List | Call::Read);
        number == plan.at || (plan.for_ever && number > plan.at && !looks)
    }

    /// Keeps the content after a call, if that is wanted.
    fn end(&mut self) {
        let content = self.record.is_some().then(|| self.content.clone());
        if let (Some(record), Some(content)) = (&mut self.record, content) {
            record.push((self.calls.len() - 1, content));
        }
    }

    fn change(&mut self, change: DirChange) {
        change.clone().apply(&mut self.content.names);
        self.content.pending.push(change);
    }

    fn name_of(&self, file: usize) -> String {
        let name = self.content.names.iter().find(|(_, f)| **f == file);
        name.map_or_else(String::new, |(name, _)| name.clone())
    }
}

/// The error of a call that did not come through.
fn error_of(fate: Fate) -> io::Result<()> {
    match fate {
        Fate::Done => Ok(()),
        Fate::Fails(errno) => Err(io::Error::from_raw_os_error(errno)),
        Fate::Crashes => Err(io::Error::other("the machine is off")),
    }
}

impl Sim {
    /// An empty disk; `seed` draws what its failures and crashes leave.
    pub fn new(seed: u64) -> Sim {
        let content = Content {
            files: Vec::new(),
            names: BTreeMap::new(),
            durable_names: BTreeMap::new(),
            pending: Vec::new(),
            boot: 1,
            time_ns: 1_800_000_000_000_000_000,
            tick_ns: 10_000_000,
            full: false,
        };
        Sim::with(content, seed, Page::new([0; PAGE]))
    }

    fn with(content: Content, seed: u64, zero: Page) -> Sim {
        let disk = Disk {
            content,
            zero,
            calls: Vec::new(),
            count_reads: false,
            record: None,
            crash_at: None,
            crashed: false,
            plan: None,
            planned: 0,
            write_time: Duration::ZERO,
            create_time: Duration::ZERO,
            failed: None,
            resident: BTreeSet::new(),
            rng: fastrand::Rng::with_seed(seed),
        };
        Sim { disk: Arc::new(Mutex::new(disk)) }
    }

    fn disk(&self) -> MutexGuard<'_, Disk> {
        self.disk.lock().expect("no holder panics")
    }

    /// The number of calls so far.
    pub fn call_count(&self) -> usize {
        self.disk().calls.len()
    }

    /// How often `call` was made so far.
    pub fn count_of(&self, call: Call) -> usize {
        self.disk().calls.iter().filter(|(made, _)| *made == call).count()
    }

    /// From now on reads have numbers too, and can fail.
    pub fn count_reads(&self) {
        self.disk().count_reads = true;
    }

    /// The machine stops in the call that comes after `calls` more.
    pub fn crash_after(&self, calls: usize) {
        let mut disk = self.disk();
        disk.crash_at = Some(disk.calls.len() + calls);
    }

    /// The machine stops now: nothing that is done to the disk from here on reaches it.
    pub fn stop(&self) {
        self.disk().crashed = true;
    }

    /// Whether the machine has stopped.
    pub fn crashed(&self) -> bool {
        self.disk().crashed
    }

    /// Makes calls fail; `None` ends it.
    pub fn fail(&self, plan: Option<Plan>) {
        let mut disk = self.disk();
        (disk.plan, disk.planned) = (plan, 0);
    }

    /// Whether the calls that were made to fail go on failing.
    pub fn fails_for_ever(&self) -> bool {
        self.disk().plan.is_some_and(|plan| plan.for_ever)
    }

    /// The first call that was made to fail, and its file or directory.
    pub fn failed(&self) -> Option<(Call, String)> {
        let disk = self.disk();
        disk.failed.map(|number| disk.calls[number].clone())
    }

    /// The calls that came after it.
    pub fn calls_after_failure(&self) -> Vec<(Call, String)> {
        let disk = self.disk();
        disk.failed.map_or_else(Vec::new, |number| disk.calls[number + 1..].to_vec())
    }

    /// From now on each write takes so long.
    pub fn write_time(&self, time: Duration) {
        self.disk().write_time = time;
    }

    /// From now on each creation of a file takes so long.
    pub fn create_time(&self, time: Duration) {
        self.disk().create_time = time;
    }

    /// It is `time_ns` (since 1970) from now on, for ever.
    pub fn stop_clock(&self, time_ns: u64) {
        let content = &mut self.disk().content;
        (content.time_ns, content.tick_ns) = (time_ns, 0);
    }

    /// Whether nothing can be allocated from now on.
    pub fn set_full(&self, full: bool) {
        self.disk().content.full = full;
    }

    /// Whether nothing can be allocated.
    pub fn is_full(&self) -> bool {
        self.disk().content.full
    }

    /// Keeps the disk as it is after each call that changes something.
    pub fn record(&self) {
        self.disk().record = Some(Vec::new());
    }

    /// What was kept: numbers of calls, and the disk after each.
    pub fn recorded(&self) -> Vec<(usize, Sim)> {
        let mut disk = self.disk();
        let record = disk.record.take().unwrap_or_default();
        let zero = disk.zero.clone();
        let sim = |content| Sim::with(content, 0, zero.clone());
        record.into_iter().map(|(call, content)| (call, sim(content))).collect()
    }

    /// How many dirty pages and pending directory operations there are.
    pub fn dirty(&self) -> (usize, usize) {
        let disk = self.disk();
        let pages = disk.content.files.iter().map(|file| file.dirty.len()).sum();
        (pages, disk.content.pending.len())
    }

    /// The disk as the next owner finds it.
    pub fn restart(&self, end: End) -> Sim {
        let seed = self.disk().rng.u64(..);
        match end {
            End::Kill => self.kill(),
            End::PowerCut => self.power_cut(Cut::Seeded(seed)),
        }
    }

    /// The disk and its cache after the process died.
    pub fn kill(&self) -> Sim {
        let mut disk = self.disk();
        let seed = disk.rng.u64(..);
        Sim::with(disk.content.clone(), seed, disk.zero.clone())
    }

    /// The disk after the machine died.
    pub fn power_cut(&self, cut: Cut) -> Sim {
        let mut disk = self.disk();
        let mut keeper = Keeper::new(cut);
        let old = &disk.content;
        let mut names = old.durable_names.clone();
        for (number, change) in old.pending.iter().enumerate() {
            if keeper.keeps_name(number) {
                change.clone().apply(&mut names);
            }
        }
        let mut number = 0;
        let mut files = old.files.clone();
        for file in &mut files {
            if !file.dirty.is_empty() || !file.lost.is_empty() {
                let file = Arc::make_mut(file);
                for (page, versions) in std::mem::take(&mut file.dirty) {
                    let latest = file.seen[page].clone();
                    let left = keeper.page(number, &file.durable[page], &versions, &latest);
                    file.durable[page] = left;
                    number += 1;
                }
                file.lost.clear();
                file.seen = file.durable.clone();
            }
        }
        let content = Content {
            files,
            names: names.clone(),
            durable_names: names,
            pending: Vec::new(),
            boot: old.boot.wrapping_add(1),
            time_ns: old.time_ns,
            tick_ns: old.tick_ns,
            full: old.full,
        };
        let seed = disk.rng.u64(..);
        Sim::with(content, seed, disk.zero.clone())
    }

    /// Tells two states apart, but for hash collisions.
    pub fn fingerprint(&self) -> u64 {
        let disk = self.disk();
        let mut hasher = DefaultHasher::new();
        disk.content.boot.hash(&mut hasher);
        for (name, file) in &disk.content.names {
            let file = &disk.content.files[*file];
            (name, file.len, &file.lost).hash(&mut hasher);
            for (number, page) in file.seen.iter().enumerate() {
                if page.hash != disk.zero.hash {
                    (number, page.hash).hash(&mut hasher);
                }
            }
        }
        hasher.finish()
    }

    /// Names below a directory.
    pub fn names(&self, dir: &str) -> Vec<String> {
        let disk = self.disk();
        disk.content.names.keys().filter(|name| dir_of(name) == dir).cloned().collect()
    }

    /// The bytes of a file, as the process sees them.
    pub fn bytes(&self, name: &str) -> Vec<u8> {
        let disk = self.disk();
        disk.content.files[disk.content.names[name]].bytes()
    }

    /// Changes the bytes of a file, in cache and on disk: damage.
    pub fn damage(&self, name: &str, change: impl FnOnce(&mut Vec<u8>)) {
        let mut disk = self.disk();
        let file = disk.content.names[name];
        let mut bytes = disk.content.files[file].bytes();
        change(&mut bytes);
        disk.content.files[file] = Arc::new(FileData::of(&bytes));
    }

    /// Changes some bytes of a file, in cache and on disk: damage too, and cheaper.
    pub fn overwrite(&self, name: &str, position: usize, bytes: &[u8]) {
        let mut disk = self.disk();
        let file = disk.content.names[name];
        Arc::make_mut(&mut disk.content.files[file]).overwrite(position, bytes);
    }

    /// Removes a file as if it had never been there.
    pub fn lose(&self, name: &str) {
        let mut disk = self.disk();
        disk.content.names.remove(name);
        disk.content.durable_names.remove(name);
    }

    /// Puts a file there, as if it had always been.
    pub fn plant(&self, name: &str, bytes: &[u8]) {
        let mut disk = self.disk();
        let file = disk.content.files.len();
        disk.content.files.push(Arc::new(FileData::of(bytes)));
        disk.content.names.insert(name.to_owned(), file);
        disk.content.durable_names.insert(name.to_owned(), file);
    }

    /// Every name and its bytes.
    pub fn image(&self) -> BTreeMap<String, Vec<u8>> {
        let disk = self.disk();
        let content = &disk.content;
        content.names.iter().map(|(n, f)| (n.clone(), content.files[*f].bytes())).collect()
    }
}
