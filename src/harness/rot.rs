//! Bit rot: everything that can happen to bytes at rest, on clean images of a log.
//!
//! An image is drawn by seed: a log of several segments, recycled ones among them, that was closed,
//! killed, or lost its power. Each harm is done to a copy of it; the copy is opened under `halt` and
//! under `quarantine`, and everything is read. What is promised of it:
//! - no other bytes than those that were put are delivered, and nothing panics;
//! - what was hit and is proved to have been durable is reported, with its place, and under
//!   `quarantine` nothing else is missing: at most the batch, or the file if its headers are gone;
//! - what there is a copy of is survived, and `verify` reports it;
//! - what nothing proves to have been durable opens without help, as a torn tail.

mod check;
mod harm;
mod image;
mod reading;
mod tail;

use check::{Case, Fate};
use harm::{Extent, Harm};
use image::Image;
use std::fmt;
use std::ops::AddAssign;

/// So many seeds that follow each other do every bit of every structure's fields, and sixteen times as
/// many every bit of the zeros that fill up pages of META and segment headers.
pub const TURNS: u64 = 4;

/// What became of the harms.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Counts {
    /// Harms that were done.
    pub cases: u64,
    /// Of these: acknowledged bytes that are proved durable, and reported.
    pub detected: u64,
    /// A copy, or what is not needed, was hit: nothing is missing.
    pub repaired: u64,
    /// What nothing proves to have been durable was hit: opened without help.
    pub torn: u64,
    /// Bytes that mean nothing were hit.
    pub unused: u64,
    /// Cases that the checker of `walctl verify` was asked about too.
    pub verified: u64,
    /// Torn last groups, each opened without help: not among `cases`.
    pub tails: u64,
}

impl AddAssign for Counts {
    fn add_assign(&mut self, other: Counts) {
        self.cases += other.cases;
        self.detected += other.detected;
        self.repaired += other.repaired;
        self.torn += other.torn;
        self.unused += other.unused;
        self.verified += other.verified;
        self.tails += other.tails;
    }
}

impl fmt::Display for Counts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Counts { cases, detected, repaired, torn, unused, verified, tails } = self;
        write!(
            f,
            "{cases} cases: {detected} detected, {repaired} repaired, {torn} in what nothing proves, \
             {unused} unused bytes; {verified} compared with verify; {tails} torn tails opened"
        )
    }
}

/// Does to the image of `seed` what can happen to it: every block, every bit of every batch header in
/// sealed segments, 1000 bits of payloads, every torn tail, and one in [`TURNS`] of the other bits.
/// Panics if a promise is broken, with file, byte and bit.
pub fn rot_seed(seed: u64) -> Counts {
    let turn = seed as usize;
    let bits = TURNS as usize;
    let extent = Extent { bits, blocks: 1, read_bits: 1, tails: 1, payload_bits: 1000, turn };
    run(seed, &extent, 150)
}

/// `sampled`: of so many cases one is looked at with `verify`.
fn run(seed: u64, extent: &Extent, sampled: usize) -> Counts {
    let image = Image::new(seed);
    let mut rng = fastrand::Rng::with_seed(seed);
    let mut harms = harm::bits(&image, extent);
    harms.extend(harm::payload_bits(&image, extent, &mut rng));
    harms.extend(harm::blocks(&image, extent, &mut rng));
    let mut counts = Counts::default();
    for harm in &harms {
        let look = rng.usize(..sampled) == 0;
        let again = rng.usize(..64) == 0;
        counts.note(&image, harm, again, look);
    }
    let read = reading::header_bits(&image, extent);
    counts.cases += read;
    counts.detected += read;
    counts.tails = tail::every_cut(seed, extent);
    counts
}

impl Counts {
    fn note(&mut self, image: &Image, harm: &Harm, again: bool, look: bool) {
        let fate = Case { image, harm }.check(again, look);
        self.cases += 1;
        self.verified += u64::from(look);
        *match fate {
            Fate::Detected => &mut self.detected,
            Fate::Survived => &mut self.repaired,
            Fate::Torn => &mut self.torn,
            Fate::Unused => &mut self.unused,
        } += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rot_is_reported_or_survived_and_never_delivered() {
        let mut counts = Counts::default();
        for seed in 0..3 {
            let turn = seed as usize;
            let (bits, blocks, payload_bits) = (1000, 40, 15);
            let extent = Extent { bits, blocks, read_bits: 100, tails: 1, payload_bits, turn };
            counts += run(seed, &extent, 50);
        }
        println!("{counts}");
        assert!(counts.detected > 100 && counts.repaired > 100, "{counts}");
        assert!(counts.verified > 3 && counts.tails > 200, "{counts}");
    }
}
