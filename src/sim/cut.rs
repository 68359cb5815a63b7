//! What a power cut leaves.

use super::disk::Page;

/// What a power cut leaves of the dirty pages and the pending directory operations, both numbered
/// as [`Sim::dirty`] counts them.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Cut {
    /// All pages or none, all operations or none.
    All {
        /// Whether the pages are kept.
        pages: bool,
        /// Whether the operations are.
        names: bool,
    },
    /// Every page but this one.
    PageLost(usize),
    /// This page alone.
    PageKept(usize),
    /// The pages before this one, and the first sectors of it; the one behind them was under way,
    /// and holds neither what it held nor what it should.
    PagesBefore(usize, usize),
    /// The operations before this one.
    NamesBefore(usize),
    /// This operation alone.
    NameKept(usize),
    /// Drawn: any version of each page, torn pages, any subset of operations.
    Seeded(u64),
}

/// Decides what a power cut keeps.
pub(super) struct Keeper {
    cut: Cut,
    rng: fastrand::Rng,
    /// Of 256, if drawn.
    page_share: u32,
    name_share: u32,
}

impl Keeper {
    pub(super) fn new(cut: Cut) -> Keeper {
        let mut rng = fastrand::Rng::with_seed(if let Cut::Seeded(seed) = cut { seed } else { 0 });
        let mut share = || match rng.u8(..8) {
            0 => 256,
            1 | 2 => 0,
            _ => rng.u32(20..236),
        };
        let (page_share, name_share) = (share(), share());
        Keeper { cut, rng, page_share, name_share }
    }

    pub(super) fn keeps_name(&mut self, number: usize) -> bool {
        match self.cut {
            Cut::All { names, .. } => names,
            Cut::PageLost(_) | Cut::PageKept(_) | Cut::PagesBefore(..) => true,
            Cut::NamesBefore(end) => number < end,
            Cut::NameKept(kept) => number == kept,
            Cut::Seeded(_) => self.rng.u32(..256) < self.name_share,
        }
    }

    pub(super) fn page(
        &mut self,
        number: usize,
        old: &Page,
        versions: &[Page],
        new: &Page,
    ) -> Page {
        let whole = |kept: bool| if kept { new.clone() } else { old.clone() };
        match self.cut {
            Cut::All { pages, .. } => whole(pages),
            Cut::PageLost(lost) => whole(number != lost),
            Cut::PageKept(kept) => whole(number == kept),
            Cut::PagesBefore(end, 0) if number == end => old.clone(),
            Cut::PagesBefore(end, sectors) if number == end => {
                old.mixed(new, |at| at < sectors).broken(new, sectors)
            }
            Cut::PagesBefore(end, _) => whole(number < end),
            Cut::NamesBefore(_) | Cut::NameKept(_) => whole(true),
            Cut::Seeded(_) => self.drawn(old, versions, new),
        }
    }

    fn drawn(&mut self, old: &Page, versions: &[Page], new: &Page) -> Page {
        if self.rng.u8(..4) == 0 {
            let (share, rng) = (self.page_share, &mut self.rng);
            let torn = old.mixed(new, |_| rng.u32(..256) < share);
            return if rng.bool() { torn.broken(new, rng.usize(..8)) } else { torn };
        }
        if self.rng.u32(..256) >= self.page_share {
            return old.clone();
        }
        // the last version most often, but any of those before it too
        match versions.len() {
            0 => new.clone(),
            some if self.rng.bool() => versions[self.rng.usize(..some)].clone(),
            _ => new.clone(),
        }
    }
}
