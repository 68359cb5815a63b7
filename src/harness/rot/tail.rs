//! Torn tails: a group that was being written when the process or the machine died.

use super::harm::Extent;
use super::image::{BLOCK, Files, live};
use crate::harness::{World, stop_process};
use crate::sim::{Cut, Sim};

const SECTOR: usize = 512;
/// Most pages of the last group.
const PAGES_MAX: usize = 6;

/// Cuts the last group of a log at every sector, and leaves every subset of its pages: each time the
/// log opens without help, with everything that was acknowledged. In one turn of `extent.tails`.
pub(super) fn every_cut(seed: u64, extent: &Extent) -> u64 {
    let group = Group::new(seed);
    let mut count = 0;
    // the process died and STATE proves what was acknowledged; the machine died and nothing does
    let kept = Cut::All { pages: true, names: true };
    for (how, disk) in
        [("kill", group.world.sim.kill()), ("power cut", group.world.sim.power_cut(kept))]
    {
        disk.image().iter().for_each(|(name, bytes)| disk.plant(name, bytes));
        let sectors = group.new.len() / SECTOR;
        let cuts = (0..=sectors).map(|end| (format!("cut at sector {end}"), end));
        for (what, end) in cuts.skip(extent.turn % extent.tails).step_by(extent.tails) {
            group.check(&disk, &format!("{how}, {what}"), |sector| sector < end);
            count += 1;
        }
        let subsets =
            (0..1 << (group.new.len() / BLOCK)).map(|set: u32| (format!("pages {set:b}"), set));
        for (what, set) in subsets.skip(extent.turn % extent.tails).step_by(extent.tails) {
            let in_set = |sector: usize| set >> (sector * SECTOR / BLOCK) & 1 == 1;
            group.check(&disk, &format!("{how}, {what}"), in_set);
            count += 1;
        }
    }
    count
}

/// A log whose last group was written, and not synced.
struct Group {
    world: World,
    file: String,
    at: usize,
    old: Vec<u8>,
    new: Vec<u8>,
}

impl Group {
    /// Stops the machine as late as it can be before the group is acknowledged: in its sync.
    fn new(seed: u64) -> Group {
        let mut stops = (0..).map_while(|calls| stopped(seed, calls));
        let mut last = stops.next().expect("there is a call before the answer");
        stops.for_each(|stop| last = stop);
        let (world, before) = last;
        let after = world.sim.image();
        let changed = |(name, bytes): &(&String, &Vec<u8>)| {
            name.starts_with("log/") && before.get(*name).is_some_and(|old| old != *bytes)
        };
        let (file, new) = after.iter().find(changed).expect("the group was written");
        let old = &before[file];
        let differs =
            |block: &usize| old[block * BLOCK..][..BLOCK] != new[block * BLOCK..][..BLOCK];
        let blocks: Vec<_> = (0..new.len() / BLOCK).filter(differs).collect();
        let (first, last) = (blocks[0] * BLOCK, blocks[blocks.len() - 1] * BLOCK + BLOCK);
        assert!(last - first <= PAGES_MAX * BLOCK, "the group is small");
        let put: usize = world.limbo.iter().flatten().map(|record| record.len()).sum();
        assert!(last - first >= put, "the group was written as a whole");
        let (old, new) = (old[first..last].to_vec(), new[first..last].to_vec());
        Group { file: file.clone(), world, at: first, old, new }
    }

    /// Opens the disk on which the sectors of the last group are there that `kept` says.
    fn check(&self, disk: &Sim, what: &str, kept: impl Fn(usize) -> bool) {
        let sim = disk.kill();
        let mut bytes = self.old.clone();
        for sector in (0..bytes.len() / SECTOR).filter(|sector| kept(*sector)) {
            let range = sector * SECTOR..(sector + 1) * SECTOR;
            bytes[range.clone()].copy_from_slice(&self.new[range]);
        }
        sim.overwrite(&self.file, self.at, &bytes);
        let mut world = self.world.clone();
        world.sim = sim;
        let told = Told { what: format!("{}, byte {}: {what}", self.file, self.at) };
        // all that was acknowledged must be there, and of the rest whole batches
        let log = world.open().expect("a torn tail opens without help");
        stop_process(&world.sim, log);
        drop(told);
    }
}

/// The machine stops in the call that comes after `calls` of a group: that, and the files before the
/// group; `None` if the group was acknowledged before.
fn stopped(seed: u64, calls: usize) -> Option<(World, Files)> {
    let (mut world, _) = live(seed);
    let log = world.open().expect("nothing is in the way");
    world.put(&log, &[vec![600, 900]]);
    let before = world.sim.image();
    world.sim.crash_after(calls);
    let records = world.rng.usize(1..5);
    let bytes_max = (PAGES_MAX * BLOCK - 1024) / records;
    let lens = (0..records).map(|_| world.rng.usize(bytes_max / 3..bytes_max));
    let lens = lens.collect();
    world.put(&log, &[lens]);
    stop_process(&world.sim, log);
    (!world.limbo.is_empty()).then_some((world, before))
}

/// Says what was being done if a check panics.
struct Told {
    what: String,
}

impl Drop for Told {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("torn tail of {}", self.what);
        }
    }
}
