//! A disk that loses, when its power goes, what was not synced: pages and sectors of them, lengths,
//! names. As POSIX has it: a file's sync says nothing of its name, which a sync of its directory
//! makes durable; and what is not synced may be durable all the same, in any order.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::{OsStr, OsString};

/// The inode of the root.
pub const ROOT: u64 = 1;
const PAGE: usize = 4096;
const SECTOR: usize = 512;

/// A directory and a name in it.
pub type Place = (u64, OsString);

/// Why a call fails.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Refusal {
    /// No such file or directory.
    NotThere,
    /// The name is in use.
    Exists,
    /// The directory holds something.
    NotEmpty,
    /// The power is off.
    Off,
}

/// What a power cut took.
#[derive(Clone, Copy, Default, Debug)]
pub struct Lost {
    /// Pages that are as they were before.
    pub pages: usize,
    /// Pages of which some sectors are new.
    pub torn: usize,
    /// Creations, renames and removals that did not happen.
    pub names: usize,
}

enum Node {
    Dir,
    File(FileData),
}

#[derive(Default)]
struct FileData {
    seen: Vec<u8>,
    durable: Vec<u8>,
    /// Numbers of the pages that were written since the last sync.
    dirty: BTreeSet<usize>,
}

enum Change {
    Create(Place, u64),
    Rename(Place, Place),
    Remove(Place),
}

/// The disk, and the cache above it.
pub struct Disk {
    nodes: BTreeMap<u64, Node>,
    names: BTreeMap<Place, u64>,
    durable_names: BTreeMap<Place, u64>,
    /// Changes of names that no sync of their directory has made durable.
    pending: Vec<Change>,
    next_inode: u64,
    random: fastrand::Rng,
    /// How many calls that change something there will still be.
    calls_left: Option<u64>,
    is_off: bool,
}

impl Disk {
    /// An empty disk. What it loses is drawn.
    pub fn new(seed: u64) -> Disk {
        Disk {
            nodes: BTreeMap::from([(ROOT, Node::Dir)]),
            names: BTreeMap::new(),
            durable_names: BTreeMap::new(),
            pending: Vec::new(),
            next_inode: ROOT + 1,
            random: fastrand::Rng::with_seed(seed),
            calls_left: None,
            is_off: false,
        }
    }

    /// Lets the power go in the midst of the call that follows on so many: writes, syncs, and
    /// changes of names.
    pub fn power_goes_after(&mut self, calls: u64) {
        self.calls_left = Some(calls);
    }

    /// Whether the power is off.
    pub fn is_off(&self) -> bool {
        self.is_off
    }

    /// Loses what is lost, and goes on with what is left. The power is on again.
    pub fn cut(&mut self) -> Lost {
        let mut lost = Lost::default();
        let share = self.share();
        for change in std::mem::take(&mut self.pending) {
            if self.random.u32(..256) < share {
                change.apply(&mut self.durable_names);
            } else {
                lost.names += 1;
            }
        }
        self.names = self.durable_names.clone();
        self.forget_the_nameless();
        let share = self.share();
        for node in self.nodes.values_mut() {
            if let Node::File(file) = node {
                file.cut(&mut self.random, share, &mut lost);
            }
        }
        (self.calls_left, self.is_off) = (None, false);
        lost
    }

    /// How much of 256 a cut keeps: everything, nothing, or some.
    fn share(&mut self) -> u32 {
        match self.random.u8(..8) {
            0 => 256,
            1 | 2 => 0,
            _ => self.random.u32(20..236),
        }
    }

    /// Removes what can't be reached from the root.
    fn forget_the_nameless(&mut self) {
        let mut reached = BTreeSet::from([ROOT]);
        let mut dirs = vec![ROOT];
        while let Some(dir) = dirs.pop() {
            let new: Vec<_> = self.entries(dir).map(|(_, inode)| inode).collect();
            dirs.extend(new.into_iter().filter(|inode| reached.insert(*inode)));
        }
        self.nodes.retain(|inode, _| reached.contains(inode));
        self.names.retain(|(dir, _), _| reached.contains(dir));
        self.durable_names = self.names.clone();
    }

    /// Counts a call that changes something.
    ///
    /// # Errors
    /// The power is off, or goes with this call.
    fn call(&mut self) -> Result<(), Refusal> {
        match &mut self.calls_left {
            _ if self.is_off => {}
            Some(0) => self.is_off = true,
            Some(left) => *left -= 1,
            None => {}
        }
        if self.is_off { Err(Refusal::Off) } else { Ok(()) }
    }

    /// The inode of a name.
    pub fn lookup(&self, dir: u64, name: &OsStr) -> Result<u64, Refusal> {
        self.names.get(&(dir, name.to_owned())).copied().ok_or(Refusal::NotThere)
    }

    /// Names and inodes in a directory.
    pub fn entries(&self, dir: u64) -> impl Iterator<Item = (&OsStr, u64)> {
        let of_dir = self.names.range((dir, OsString::new())..(dir + 1, OsString::new()));
        of_dir.map(|((_, name), inode)| (name.as_os_str(), *inode))
    }

    /// The bytes of a file; none of a directory.
    pub fn bytes(&self, inode: u64) -> Result<Option<&[u8]>, Refusal> {
        match self.nodes.get(&inode) {
            Some(Node::Dir) => Ok(None),
            Some(Node::File(file)) => Ok(Some(&file.seen)),
            None => Err(Refusal::NotThere),
        }
    }

    fn file(&mut self, inode: u64) -> Result<&mut FileData, Refusal> {
        match self.nodes.get_mut(&inode) {
            Some(Node::File(file)) => Ok(file),
            _ => Err(Refusal::NotThere),
        }
    }

    /// Makes an empty file or directory.
    pub fn create(&mut self, place: Place, is_dir: bool) -> Result<u64, Refusal> {
        if self.names.contains_key(&place) {
            return Err(Refusal::Exists);
        }
        let inode = self.next_inode;
        self.next_inode += 1;
        self.nodes.insert(inode, if is_dir { Node::Dir } else { Node::File(FileData::default()) });
        self.change(Change::Create(place, inode)).map(|()| inode)
    }

    /// Renames; what had the new name is gone.
    pub fn rename(&mut self, from: Place, to: Place) -> Result<(), Refusal> {
        self.lookup(from.0, &from.1)?;
        self.change(Change::Rename(from, to))
    }

    /// Removes a name. Whoever has the file open keeps it.
    pub fn remove(&mut self, place: Place) -> Result<(), Refusal> {
        let inode = self.lookup(place.0, &place.1)?;
        if self.entries(inode).next().is_some() {
            return Err(Refusal::NotEmpty);
        }
        self.change(Change::Remove(place))
    }

    fn change(&mut self, change: Change) -> Result<(), Refusal> {
        if self.is_off {
            return Err(Refusal::Off);
        }
        change.apply(&mut self.names);
        self.pending.push(change);
        self.call()
    }

    /// Writes, beyond the end too.
    pub fn write(&mut self, inode: u64, position: usize, bytes: &[u8]) -> Result<(), Refusal> {
        if self.is_off {
            return Err(Refusal::Off);
        }
        // the kernel writes some pages back when it likes
        let back = (self.random.u8(..16) == 0).then(|| self.random.u64(..));
        let file = self.file(inode)?;
        file.write(position, bytes);
        if let Some(back) = back {
            file.write_back(back);
        }
        self.call()
    }

    /// Sets a file's length.
    pub fn set_len(&mut self, inode: u64, len: usize) -> Result<(), Refusal> {
        if self.is_off {
            return Err(Refusal::Off);
        }
        self.file(inode)?.set_len(len);
        self.call()
    }

    /// Makes a file's bytes and length durable.
    pub fn sync(&mut self, inode: u64) -> Result<(), Refusal> {
        self.call()?;
        self.file(inode)?.sync();
        Ok(())
    }

    /// Makes a directory's names durable.
    pub fn sync_dir(&mut self, dir: u64) -> Result<(), Refusal> {
        self.call()?;
        for change in std::mem::take(&mut self.pending) {
            if change.dir() == dir {
                change.apply(&mut self.durable_names);
            } else {
                self.pending.push(change);
            }
        }
        Ok(())
    }
}

impl Change {
    fn dir(&self) -> u64 {
        let (Change::Create(place, _) | Change::Rename(_, place) | Change::Remove(place)) = self;
        place.0
    }

    fn apply(&self, names: &mut BTreeMap<Place, u64>) {
        match self {
            Change::Create(place, inode) => drop(names.insert(place.clone(), *inode)),
            Change::Rename(from, to) => {
                if let Some(inode) = names.remove(from) {
                    names.insert(to.clone(), inode);
                }
            }
            Change::Remove(place) => drop(names.remove(place)),
        }
    }
}

impl FileData {
    fn write(&mut self, position: usize, bytes: &[u8]) {
        let end = position + bytes.len();
        if end > self.seen.len() {
            self.set_len(end);
        }
        self.seen[position..end].copy_from_slice(bytes);
        self.dirty.extend(position / PAGE..end.div_ceil(PAGE));
    }

    fn set_len(&mut self, len: usize) {
        let (from, to) = (self.seen.len().min(len), self.seen.len().max(len));
        self.seen.resize(len, 0);
        self.dirty.extend(from / PAGE..to.div_ceil(PAGE));
    }

    fn sync(&mut self) {
        self.durable.resize(self.seen.len(), 0);
        for page in std::mem::take(&mut self.dirty) {
            self.take_sectors(page, |_| true);
        }
    }

    /// Writes one dirty page back, with the length up to it.
    fn write_back(&mut self, which: u64) {
        let at = which as usize % self.dirty.len().max(1);
        let Some(page) = self.dirty.iter().nth(at).copied() else { return };
        let end = self.seen.len().min((page + 1) * PAGE);
        self.durable.resize(self.durable.len().max(end), 0);
        self.take_sectors(page, |_| true);
        self.dirty.remove(&page);
    }

    fn cut(&mut self, random: &mut fastrand::Rng, share: u32, lost: &mut Lost) {
        if self.durable.len() != self.seen.len() && random.u32(..256) < share {
            self.durable.resize(self.seen.len(), 0);
        }
        for page in std::mem::take(&mut self.dirty) {
            if random.u8(..4) == 0 {
                lost.torn += 1;
                self.take_sectors(page, |_| random.u32(..256) < share);
            } else if random.u32(..256) < share {
                self.take_sectors(page, |_| true);
            } else {
                lost.pages += 1;
            }
        }
        self.seen = self.durable.clone();
    }

    /// Makes sectors of a page durable, as far as the durable length goes.
    fn take_sectors(&mut self, page: usize, mut takes: impl FnMut(usize) -> bool) {
        let end = self.seen.len().min(self.durable.len()).min((page + 1) * PAGE);
        for sector in (page * PAGE..end).step_by(SECTOR).filter(|at| takes(*at)) {
            let to = end.min(sector + SECTOR);
            self.durable[sector..to].copy_from_slice(&self.seen[sector..to]);
        }
    }
}
