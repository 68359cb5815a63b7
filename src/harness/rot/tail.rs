//! Torn tails: a group that was being written when the process or the machine died.

use super::harm::Extent;
use super::image::{BLOCK, live};
use crate::harness::World;
use crate::log::Log;
use crate::sim::{Cut, Sim};
use std::sync::Arc;

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
    fn new(seed: u64) -> Group {
        let (mut world, _) = live(seed);
        let log = world.open().expect("nothing is in the way");
        world.put(&log, &[vec![600, 900]]);
        let before = world.sim.image();
        world.sim.crash_after(1); // in the sync, behind the write
        let puts = world.rng.usize(1..4);
        let bytes_max = (PAGES_MAX * BLOCK - 1024) / puts;
        let mut lens = Vec::new();
        for _ in 0..puts {
            let first = world.rng.usize(bytes_max / 5..bytes_max / 2);
            lens.push(vec![first, world.rng.usize(bytes_max / 5..bytes_max / 2)]);
        }
        world.put(&log, &lens);
        std::mem::forget(log);
        assert!(world.sim.crashed(), "the machine stopped in the sync");
        let after = world.sim.image();
        let changed = after.iter().find(|(name, bytes)| before[*name] != **bytes);
        let (file, new) = changed.expect("the group was written");
        let old = &before[file];
        let differs =
            |block: &usize| old[block * BLOCK..][..BLOCK] != new[block * BLOCK..][..BLOCK];
        let blocks: Vec<_> = (0..new.len() / BLOCK).filter(differs).collect();
        let (first, last) = (blocks[0] * BLOCK, blocks[blocks.len() - 1] * BLOCK + BLOCK);
        assert!(last - first <= PAGES_MAX * BLOCK, "the group is small");
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
        let (log, opened) = match Log::open(Arc::new(world.sim.clone()), world.options()) {
            Err(error) => panic!("a torn tail needs help: {error}"),
            Ok(opened) => opened,
        };
        world.check(&log, &opened); // all that was acknowledged, and of the rest whole batches
        std::mem::forget(log);
        drop(told);
    }
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
