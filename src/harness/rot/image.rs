//! A clean image of a log: its files, what each byte of them means, and what must come out of it.

use crate::harness::{World, stop_process};
use crate::log::{
    Durability, Log, SEGMENT_HEADER_LEN, Segment, Step, TRAILER_LEN, Walk, is_data, list_segments,
    read_meta, read_state, seal_position, usable_end,
};
use crate::offset::Offset;
use crate::sim::{Cut, End, Sim};
use byteorder::{ByteOrder, LE};
use std::collections::BTreeMap;
use std::ops::Range;

/// Every file of a log, by name.
pub(super) type Files = BTreeMap<String, Vec<u8>>;

/// Bytes of a batch header.
pub(super) const HEADER: usize = 64;
/// Bytes of a block.
pub(super) const BLOCK: usize = 4096;
/// The files of the cursor journal.
pub(super) const JOURNAL: [&str; 2] = ["cursor/A.cur", "cursor/B.cur"];

/// How the log's last owner ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Ending {
    /// It closed the log.
    Closed,
    /// The process was killed: STATE is of this boot, and proves.
    Killed,
    /// The machine died with every byte on its disk: STATE proves nothing.
    PowerCut,
}

/// What some bytes of a file are.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum What {
    /// A batch; of a pad the header only, for its payload means nothing.
    Batch {
        lsn: u64,
        offsets: Range<u64>,
        durable_lsn: u64,
    },
    /// One of the two copies of a segment's header.
    Header,
    Seal,
    Trailer,
    Meta,
    State,
    /// A record of the cursor journal.
    Cursors {
        generation: u64,
        number: u64,
        durable_lsn: u64,
    },
}

/// A structure in a file.
#[derive(Clone, Debug)]
pub(super) struct Part {
    pub(super) file: String,
    pub(super) bytes: Range<usize>,
    pub(super) what: What,
}

/// A segment with batches.
pub(super) struct Piece {
    pub(super) name: String,
    pub(super) offsets: Range<u64>,
    pub(super) sealed: bool,
}

/// A log at rest.
pub(super) struct Image {
    /// What was put and saved, and the disk: nothing on it is dirty.
    pub(super) world: World,
    pub(super) ending: Ending,
    pub(super) files: Files,
    pub(super) parts: Vec<Part>,
    pub(super) pieces: Vec<Piece>,
    /// What the files held earlier in their lives.
    pub(super) earlier: Vec<Files>,
    /// Another log.
    pub(super) other: Files,
    /// What STATE proves durable.
    pub(super) state_lsn: u64,
}

impl Image {
    /// Draws one: some sealed segments, recycled ones among them, and a last one.
    pub(super) fn new(seed: u64) -> Image {
        let ending = [Ending::Killed, Ending::PowerCut, Ending::Closed][(seed % 3) as usize];
        let (mut world, earlier) = live(seed);
        let log = world.open().expect("nothing is in the way");
        fill(&mut world, &log, 4);
        world.save_at(&log, Offset(world.reclaimed));
        world.sync_cursors(&log);
        fill(&mut world, &log, 3); // of all but the last one, only later headers tell
        match ending {
            Ending::Closed => log.close().expect("the disk is well"),
            Ending::Killed | Ending::PowerCut => stop_process(&world.sim, log),
        }
        world.sim = match ending {
            Ending::PowerCut => world.sim.power_cut(Cut::All { pages: true, names: true }),
            Ending::Closed | Ending::Killed => world.sim.kill(),
        };
        let files = world.sim.image();
        files.iter().for_each(|(name, bytes)| world.sim.plant(name, bytes));
        let state = read_state(&world.sim).expect("an owner was there");
        let state_lsn = if ending == Ending::PowerCut { 0 } else { state.durable_lsn };
        let other = live(seed ^ 0x5eed_0000).0.sim.image();
        let (parts, pieces) = parts(&world.sim, &files);
        Image { world, ending, files, parts, pieces, earlier, other, state_lsn }
    }

    /// The first offset that somebody needs.
    pub(super) fn first(&self) -> u64 {
        self.world.reclaimed
    }

    /// Batches of a file.
    pub(super) fn batches(&self, file: &str) -> impl Iterator<Item = &Part> {
        let batch = |part: &&Part| matches!(part.what, What::Batch { .. });
        self.parts.iter().filter(move |part| part.file == file).filter(batch)
    }
}

/// The first lives of a log: rolled, reclaimed in part, rolled again into recycled files, and closed.
pub(super) fn live(seed: u64) -> (World, Vec<Files>) {
    let mut world = World::new(seed);
    world.durability = Durability::Always;
    let log = world.open().expect("nothing is in the way");
    fill(&mut world, &log, 9);
    let mut earlier = vec![world.sim.image()];
    let released = world.end() * 2 / 3;
    world.reclaim_at(&log, Offset(released));
    fill(&mut world, &log, 7);
    earlier.push(world.sim.image());
    log.close().expect("the disk is well");
    world.restart(End::Kill);
    (world, earlier)
}

/// Puts groups of a few KiB, and saves cursors now and then.
fn fill(world: &mut World, log: &Log, groups: usize) {
    for group in 0..groups {
        let puts = world.rng.usize(1..4);
        let lens = (0..puts).map(|_| {
            let records = world.rng.usize(1..4);
            (0..records).map(|_| world.rng.usize(8..4200)).collect::<Vec<_>>()
        });
        let lens: Vec<_> = lens.collect();
        world.put(log, &lens);
        if group % 4 == 3 {
            world.save_at(log, Offset(world.reclaimed));
        }
    }
}

/// What the bytes of every file are.
fn parts(sim: &Sim, files: &Files) -> (Vec<Part>, Vec<Piece>) {
    let meta = read_meta(sim).expect("the disk is well").expect("the log has an identity");
    let listing = list_segments(sim, &meta.log_uuid, false).expect("the disk is well");
    let (mut parts, mut pieces) = (Vec::new(), Vec::new());
    for segment in &listing.segments {
        pieces.push(segment_parts(segment, &files[&segment.name()], &mut parts));
    }
    let mut whole = |name: &str, what| {
        let bytes = 0..files[name].len();
        parts.push(Part { file: name.to_owned(), bytes, what });
    };
    whole("META.a", What::Meta);
    whole("META.b", What::Meta);
    whole("STATE", What::State);
    for name in JOURNAL {
        for (at, page) in (0..).step_by(BLOCK).zip(files[name].chunks(BLOCK)) {
            if page.starts_with(b"LVB1") {
                let bytes = at..at + HEADER + LE::read_u32(&page[8..]) as usize;
                let (generation, durable_lsn) =
                    (LE::read_u64(&page[16..]), LE::read_u64(&page[40..]));
                let number = LE::read_u64(&page[HEADER + 16..]); // behind the mark
                let what = What::Cursors { generation, number, durable_lsn };
                parts.push(Part { file: name.to_owned(), bytes, what });
            }
        }
    }
    (parts, pieces)
}

fn segment_parts(segment: &Segment, bytes: &[u8], parts: &mut Vec<Part>) -> Piece {
    let file = segment.name();
    let len = segment.header.segment_bytes;
    let mut part = |at: u64, len: u64, what| {
        let bytes = at as usize..(at + len) as usize;
        parts.push(Part { file: file.clone(), bytes, what });
    };
    part(0, SEGMENT_HEADER_LEN, What::Header);
    part(usable_end(len), SEGMENT_HEADER_LEN, What::Header);
    let view = segment.view().expect("the disk is well");
    view.prefetch(0, len as usize).expect("the disk is well");
    let end = segment.end().map_or(u64::MAX, |end| end.lsn);
    let mut walk = Walk::new(segment.batches(&*view, end), segment.start(), 0);
    let mut end = segment.header.base_offset;
    while let Step::Batch(batch) = walk.step() {
        let header = batch.header;
        let payload = if is_data(&batch) { u64::from(header.payload_len) } else { 0 };
        end = header.end_offset();
        let (lsn, durable_lsn) = (header.lsn, header.durable_lsn);
        let what = What::Batch { lsn, offsets: header.base_offset..end, durable_lsn };
        part(batch.position, HEADER as u64 + payload, what);
    }
    if segment.end().is_some() {
        let at = seal_position(len);
        let payload = LE::read_u32(&bytes[at as usize + 8..]);
        part(at, HEADER as u64 + u64::from(payload), What::Seal);
        part(len - TRAILER_LEN, TRAILER_LEN, What::Trailer);
    }
    let sealed = segment.end().is_some();
    Piece { name: file, offsets: segment.header.base_offset..end, sealed }
}
