//! What can happen to bytes at rest.

use super::image::{BLOCK, Files, HEADER, Image, JOURNAL, Part, What};
use crate::sim::Sim;
use std::fmt;

/// One thing that happened to one file.
#[derive(Clone, Debug)]
pub(super) struct Harm {
    pub(super) file: String,
    pub(super) how: How,
}

#[derive(Clone, Debug)]
pub(super) enum How {
    /// A bit flips.
    Flip { bit: usize },
    /// Bytes become zeros.
    Zero { at: usize, len: usize },
    /// Two blocks change places.
    Swap { at: usize, with: usize },
    /// A block of somewhere else, or of earlier, stands there.
    Block { at: usize, bytes: Vec<u8>, of: String },
    /// The rest of the file is gone.
    Truncate { len: usize },
    /// The file is gone.
    Lose,
    /// Another file stands under this name.
    Copy { of: String },
}

impl fmt::Display for Harm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: ", self.file)?;
        match &self.how {
            How::Flip { bit } => write!(f, "byte {}, bit {} flipped", bit / 8, bit % 8),
            How::Zero { at, len } => write!(f, "bytes {at}..{} zeroed", at + len),
            How::Swap { at, with } => write!(f, "blocks at bytes {at} and {with} swapped"),
            How::Block { at, of, .. } => write!(f, "block at byte {at} replaced by {of}"),
            How::Truncate { len } => write!(f, "cut to {len} bytes"),
            How::Lose => write!(f, "missing"),
            How::Copy { of } => write!(f, "replaced by a copy of {of}"),
        }
    }
}

impl Harm {
    /// Does it to a disk of `image`.
    pub(super) fn apply(&self, image: &Image, sim: &Sim) {
        let file = &self.file;
        match &self.how {
            How::Flip { bit } => {
                let byte = image.files[file][bit / 8] ^ (1 << (bit % 8));
                sim.overwrite(file, bit / 8, &[byte]);
            }
            How::Zero { at, len } => sim.overwrite(file, *at, &vec![0; *len]),
            How::Swap { at, with } => {
                let bytes = &image.files[file];
                sim.overwrite(file, *at, &bytes[*with..][..BLOCK]);
                sim.overwrite(file, *with, &bytes[*at..][..BLOCK]);
            }
            How::Block { at, bytes, .. } => sim.overwrite(file, *at, bytes),
            How::Truncate { len } => sim.damage(file, |bytes| bytes.truncate(*len)),
            How::Lose => sim.lose(file),
            How::Copy { of } => sim.plant(file, &image.files[of]),
        }
    }
}

/// How much is done.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Extent {
    /// Of so many bits, and of so many blocks, one is taken; `turn` says which.
    pub(super) bits: usize,
    pub(super) blocks: usize,
    /// The same of bits that are flipped in an open log, and of torn tails.
    pub(super) read_bits: usize,
    pub(super) tails: usize,
    /// Bits of payloads that are drawn.
    pub(super) payload_bits: usize,
    pub(super) turn: usize,
}

/// Bits of every structure: the fields of all in `extent.bits` turns, the zeros of whole pages in
/// sixteen times as many.
pub(super) fn bits(image: &Image, extent: &Extent) -> Vec<Harm> {
    let mut harms = Vec::new();
    for part in &image.parts {
        let (start, len) = (part.bytes.start, part.bytes.len());
        let len = match part.what {
            What::Batch { .. } => HEADER,
            _ => len,
        };
        for bit in 0..len * 8 {
            let zeros = len == BLOCK && (1024..(BLOCK - 4) * 8).contains(&bit);
            let share = if zeros { extent.bits * 16 } else { extent.bits };
            if bit % share == extent.turn % share {
                let bit = start * 8 + bit;
                harms.push(Harm { file: part.file.clone(), how: How::Flip { bit } });
            }
        }
    }
    harms
}

/// Drawn bits of drawn payloads.
pub(super) fn payload_bits(image: &Image, extent: &Extent, rng: &mut fastrand::Rng) -> Vec<Harm> {
    let data = |part: &&Part| matches!(part.what, What::Batch { .. }) && part.bytes.len() > HEADER;
    let data: Vec<_> = image.parts.iter().filter(data).collect();
    let draw = |_| {
        let part = data[rng.usize(..data.len())];
        let bit = rng.usize((part.bytes.start + HEADER) * 8..part.bytes.end * 8);
        Harm { file: part.file.clone(), how: How::Flip { bit } }
    };
    (0..extent.payload_bits).map(draw).collect()
}

/// Blocks that are zeroed, swapped, stale or misdirected, and files that are cut, missing or
/// another's.
pub(super) fn blocks(image: &Image, extent: &Extent, rng: &mut fastrand::Rng) -> Vec<Harm> {
    let mut harms = Vec::new();
    for (name, bytes) in &image.files {
        let mut push = |how| harms.push(Harm { file: name.clone(), how });
        for len in [512, BLOCK] {
            for at in (0..bytes.len()).step_by(len).filter(|at| bytes[*at..].len() >= len) {
                push(How::Zero { at, len });
            }
        }
        let whole = bytes.len() / BLOCK * BLOCK;
        for at in (0..whole).step_by(BLOCK) {
            push(How::Swap { at, with: rng.usize(..whole / BLOCK) * BLOCK });
            push(How::Swap { at, with: (at + BLOCK) % whole });
            push(How::Truncate { len: at });
            stale(image, name, at, &mut push);
            for of in [&image.files, &image.other] {
                misdirected(of, std::ptr::eq(of, &image.files), name, at, rng, &mut push);
            }
        }
        push(How::Truncate { len: bytes.len() / 2 });
        push(How::Lose);
        for of in image.files.keys().filter(|of| *of != name) {
            push(How::Copy { of: of.clone() });
        }
    }
    harms.retain(|harm| harm.changes(image));
    // of the journal's megabytes most blocks are zeros, and stay so
    let turn = extent.turn % extent.blocks;
    let taken = harms.into_iter().enumerate().filter(|(i, _)| i % extent.blocks == turn);
    let mut harms: Vec<_> = taken.map(|(_, harm)| harm).collect();
    harms.extend(duplicates(image));
    harms
}

impl Harm {
    /// Whether any byte changes.
    fn changes(&self, image: &Image) -> bool {
        let bytes = &image.files[&self.file];
        match &self.how {
            How::Flip { .. } | How::Lose => true,
            How::Zero { at, len } => bytes[*at..][..*len].iter().any(|byte| *byte != 0),
            How::Swap { at, with } => bytes[*at..][..BLOCK] != bytes[*with..][..BLOCK],
            How::Block { at, bytes: block, .. } => bytes[*at..][..BLOCK] != block[..],
            // of the journal what is cut must not be zeros only
            How::Truncate { len } => {
                !JOURNAL.contains(&&*self.file) || bytes[*len..].iter().any(|byte| *byte != 0)
            }
            How::Copy { of } => *bytes != image.files[of],
        }
    }
}

/// What stood there earlier: in this file, or in one that was recycled into it.
fn stale(image: &Image, name: &str, at: usize, push: &mut impl FnMut(How)) {
    let kind = name.rsplit('.').next();
    for (i, files) in image.earlier.iter().enumerate() {
        let same = files.iter().filter(|(of, _)| *of == name || kind == Some("seg"));
        for (of, bytes) in same.filter(|(of, _)| of.rsplit('.').next() == kind) {
            if let Some(block) = bytes.get(at..at + BLOCK).filter(|b| b.iter().any(|x| *x != 0)) {
                let of = format!("what {of} held earlier ({i})");
                push(How::Block { at, bytes: block.to_vec(), of });
            }
        }
    }
}

/// A block of somewhere else.
fn misdirected(
    files: &Files,
    own: bool,
    name: &str,
    at: usize,
    rng: &mut fastrand::Rng,
    push: &mut impl FnMut(How),
) {
    let kind = name.rsplit('.').next();
    let long = files.iter().filter(|(_, bytes)| bytes.len() >= BLOCK);
    // the same place of each file like it, and some other place
    let like = long.clone().filter(|(of, _)| of.rsplit('.').next() == kind);
    let mut sources: Vec<_> = like.map(|(of, bytes)| (of, at.min(bytes.len() - BLOCK))).collect();
    let long: Vec<_> = long.collect();
    let (of, bytes) = long[rng.usize(..long.len())];
    sources.push((of, rng.usize(..bytes.len() / BLOCK) * BLOCK));
    for (of, from) in sources {
        let block = files[of][from..][..BLOCK].to_vec();
        let of = format!("{of} at byte {from}, {}", if own { "this log" } else { "another log" });
        push(How::Block { at, bytes: block, of });
    }
}

/// Each file once more, under a name that nobody has.
fn duplicates(image: &Image) -> Vec<Harm> {
    let id = |name: &String| u64::from_str_radix(name.get(4..20)?, 16).ok();
    let last = image.files.keys().filter_map(id).max().unwrap_or(0);
    let mut harms = Vec::new();
    for of in image.files.keys() {
        let names = match of.split_once('/') {
            Some(("log", _)) => vec![
                crate::log::segment_name(last + 1),
                crate::log::segment_name(last + 7),
                format!("{of}.copy"),
            ],
            _ => vec![format!("{of}.copy")],
        };
        for file in names.into_iter().filter(|name| !image.files.contains_key(name)) {
            harms.push(Harm { file, how: How::Copy { of: of.clone() } });
        }
    }
    harms
}
