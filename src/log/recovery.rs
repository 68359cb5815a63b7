//! Recovery: what opening a log decides about the segment that was being written.
//!
//! Sealed segments are not looked at: a valid trailer proves that they were durable. The last
//! segment without one is synced first, its doubtful cache is dropped, and what is then read is on
//! disk *now*. The walk stops at the first place `x` where no whole batch is; then this table
//! decides (`DECISIONS` is the same table as data, and has a test a row):
//!
//! | proof that `x` was durable | whole batches behind `x` | verdict | what happens |
//! |---|---|---|---|
//! | no  | none | end         | the log ends at `x`; a torn batch there was never acknowledged |
//! | no  | some | reordered   | the log ends at `x`; what is behind it was never acknowledged either |
//! | yes | any  | damage      | nothing is cut: `halt`, or a recorded hole and on behind it |
//!
//! Proof is any of: a batch further on whose header says that the log was durable beyond `x`; a
//! cursor record that says so; STATE of the same boot; a later segment (segments before the last
//! are sealed, or their end stands in their successor's header). Left open, and said so: bits that
//! rot in the very last group, in the crash itself, look like a torn tail. A watermark batch after
//! 100 ms of idleness and the cursor records (every ack) keep that window short.

use super::defect::{Defect, planted};
use super::error::{FormatError, LogError};
use super::journal::Mark;
use super::open::SCAN_WINDOW;
use super::options::OnCorruption;
use super::scan::{Batches, Fault, FaultKind, Hole, Place};
use super::segment::{Segment, Summary, Summing};
use super::storage::{Storage, View, is_full};
use std::io::{self, IoSlice};

/// The directory for bytes that recovery cut or passed over.
pub const QUARANTINE_DIR: &str = "quarantine";
/// Most bytes that are saved of one place.
const SAVE_BYTES_MAX: u64 = 64 << 20;

/// What recovery makes of a place where no whole batch is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Verdict {
    /// The log ends here.
    End,
    /// The log ends here; batches behind it reached the disk before their predecessor did.
    Reordered,
    /// Acknowledged bytes are damaged.
    Damage,
}

/// The decision table: (proof of durability, whole batches behind) → verdict.
pub const DECISIONS: [(bool, bool, Verdict); 4] = [
    (false, false, Verdict::End),
    (false, true, Verdict::Reordered),
    (true, false, Verdict::Damage),
    (true, true, Verdict::Damage),
];

/// Looks a decision up.
pub fn decide(proof: bool, later: bool) -> Verdict {
    let proof = (proof || planted(Defect::TornIsDamage)) && !planted(Defect::DamageIsCut);
    let row = DECISIONS.iter().find(|(p, l, _)| (*p, *l) == (proof, later));
    row.expect("the table is complete").2
}

/// How far the log is known to have been durable, from outside the segment.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Evidence {
    /// Everything below was durable.
    pub lsn: u64,
    /// Offset behind the last durable event.
    pub tail: u64,
}

impl Evidence {
    /// Of a cursor record.
    pub fn of_mark(mark: &Mark) -> Evidence {
        Evidence { lsn: mark.durable_lsn, tail: mark.durable_tail }
    }

    /// The farther of two.
    pub fn max(self, other: Evidence) -> Evidence {
        Evidence { lsn: self.lsn.max(other.lsn), tail: self.tail.max(other.tail) }
    }
}

/// Bytes at the end that were never acknowledged, and are no part of the log.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Cut {
    /// The segment's file.
    pub file: String,
    /// Where the log ends now.
    pub position: u64,
    /// Bytes of what was begun there, as far as they can be told; 0 if nothing was.
    pub bytes: u64,
    /// Whole batches behind it that go with it.
    pub reordered: usize,
    /// What does not fit at `position`.
    pub fault: FaultKind,
}

/// A damaged range of a log.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Damage {
    /// The segment's file.
    pub file: String,
    /// Where, and which offsets.
    pub hole: Hole,
}

/// What the walk through the last segment came to.
pub struct TailScan {
    /// Its seal and end.
    pub summary: Summary,
    /// What was cut; `None` if the segment ends where nothing was begun.
    pub cut: Option<Cut>,
    /// What is damaged.
    pub damage: Vec<Damage>,
    /// What only a newer build knows, if there is any: then nothing may be cut or passed over.
    pub newer: Option<FormatError>,
}

/// Walks the last segment and decides where it ends. Pure but for the view.
pub fn scan_tail(segment: &Segment, view: &dyn View, evidence: Evidence) -> TailScan {
    let base_lsn = segment.header.base_lsn;
    let batches = segment.batches(view, u64::MAX);
    let mut place = segment.start();
    let mut sum = Summing::new(&segment.header);
    let (mut damage, mut newer, mut kept) = (Vec::new(), None, 0);
    // the evidence may reach beyond this segment: what is lost there is no part of it
    while place.position < batches.end {
        let fault = match batches.batch_at(place) {
            Ok(batch) => {
                sum.add(&batch.header, batch.header_crc);
                place = Place {
                    position: batch.end_position(),
                    offset: batch.header.end_offset(),
                    chain: Some(batch.header_crc),
                };
                if place.position - kept >= SCAN_WINDOW as u64 {
                    view.forget(kept, (place.position - kept) as usize);
                    kept = place.position;
                }
                continue;
            }
            Err(fault) => fault,
        };
        newer = newer.or_else(|| fault.kind.newer().cloned());
        let mut later = Later::behind(&batches, &fault);
        if planted(Defect::LaterIgnored) {
            later.durable_lsn = 0;
        }
        let x = base_lsn + fault.position;
        let proof = evidence.lsn.max(later.durable_lsn) > x;
        if decide(proof, later.count > 0) != Verdict::Damage {
            let cut = cut_of(segment, &fault, &later);
            if planted(Defect::AppendBehindTorn) {
                let (bytes, torn) = (cut.as_ref().map_or(0, |cut| cut.bytes), fault.header);
                sum.skip(x + bytes, torn.map_or(place.offset, |torn| torn.end_offset()));
            }
            return TailScan { summary: sum.finish(), cut, damage, newer };
        }
        let hole = hole_of(&batches, base_lsn, &fault, &later, place.offset, evidence);
        sum.skip(base_lsn + hole.end_position, hole.to);
        place = Place { position: hole.end_position, offset: hole.to, chain: None };
        damage.push(Damage { file: segment.name(), hole });
    }
    TailScan { summary: sum.finish(), cut: None, damage, newer }
}

/// The whole headers behind a fault.
#[derive(Default)]
struct Later {
    count: usize,
    /// The farthest that any of them says the log was durable.
    durable_lsn: u64,
    /// Position and offset of the first.
    first: Option<(u64, u64)>,
    /// Where the last one ends.
    end: u64,
}

impl Later {
    fn behind(batches: &Batches<'_>, fault: &Fault) -> Later {
        let mut later = Later::default();
        let mut from = match &fault.header {
            Some(header) => fault.position + header.stored_len(),
            None => fault.position + super::format::BATCH_ALIGN,
        };
        while let Some(batch) = batches.resync(from) {
            later.count += 1;
            later.durable_lsn = later.durable_lsn.max(batch.header.durable_lsn);
            later.first.get_or_insert((batch.position, batch.header.base_offset));
            later.end = batch.end_position();
            from = later.end;
        }
        later
    }
}

fn cut_of(segment: &Segment, fault: &Fault, later: &Later) -> Option<Cut> {
    let end = match &fault.header {
        Some(header) => later.end.max(fault.position + header.stored_len()),
        None => later.end,
    };
    let bytes = end.saturating_sub(fault.position);
    (bytes > 0).then(|| Cut {
        file: segment.name(),
        position: fault.position,
        bytes,
        reordered: later.count,
        fault: fault.kind.clone(),
    })
}

fn hole_of(
    batches: &Batches<'_>,
    base_lsn: u64,
    fault: &Fault,
    later: &Later,
    from: u64,
    evidence: Evidence,
) -> Hole {
    let (end_position, to) = match (&fault.header, later.first) {
        (Some(header), _) => (fault.position + header.stored_len(), header.end_offset()),
        (None, Some(first)) => first,
        // nothing behind it: the evidence says how far the log went
        (None, None) => {
            let end = evidence.lsn.saturating_sub(base_lsn).min(batches.end);
            (end.max(fault.position + super::format::BATCH_ALIGN), evidence.tail)
        }
    };
    let (position, fault) = (fault.position, fault.kind.clone());
    Hole { position, end_position, from, to: to.max(from), fault }
}

/// Saves bytes that are no part of the log any more, or are passed over, with a note. A full disk
/// is no reason not to open: the segment keeps the bytes too, until it is reclaimed.
///
/// # Errors
/// They could not be saved; the log is not touched before they are.
pub fn save_aside(
    storage: &dyn Storage,
    view: &dyn View,
    file: &str,
    position: u64,
    bytes: u64,
    why: &str,
) -> Result<(), LogError> {
    let bytes = if planted(Defect::NothingSaved) { 0 } else { bytes };
    let len = bytes.min(SAVE_BYTES_MAX).min(view.len().saturating_sub(position));
    let Some(data) = view.bytes(position, len as usize).filter(|data| !data.is_empty()) else {
        return Ok(());
    };
    let stem = file.rsplit('/').next().unwrap_or(file).trim_end_matches(".seg");
    let name = format!("{QUARANTINE_DIR}/{stem}-{position}");
    let note = serde_json::json!({
        "file": file, "position": position, "bytes": bytes, "saved": len, "why": why,
    });
    let note = note.to_string();
    match write_aside(storage, &name, data, &note) {
        Err(error) if is_full(&error) => {
            tracing::warn!(target: "levada::log", "no room to save {bytes} bytes aside: {note}");
            Ok(())
        }
        written => written.map_err(LogError::io(format!("save {bytes} bytes of {file} aside"))),
    }
}

fn write_aside(storage: &dyn Storage, name: &str, data: &[u8], note: &str) -> io::Result<()> {
    storage.create_dir(QUARANTINE_DIR)?;
    for (suffix, content) in [("bin", data), ("json", note.as_bytes())] {
        let made = storage.create(&format!("{name}.{suffix}"), content.len() as u64)?;
        made.write_at(0, &[IoSlice::new(content)])?;
        made.sync()?;
    }
    storage.sync_dir(QUARANTINE_DIR)
}

/// What `onCorruption` makes of damage that was found.
///
/// # Errors
/// `halt`, and there is damage.
pub fn judge(damage: &[Damage], on_corruption: OnCorruption) -> Result<(), LogError> {
    let Some(first) = damage.first() else { return Ok(()) };
    if on_corruption == OnCorruption::Quarantine {
        return Ok(());
    }
    Err(LogError::Damaged {
        file: first.file.clone(),
        position: first.hole.position,
        from: first.hole.from,
        to: first.hole.to,
        detail: first.hole.fault.to_string(),
        damaged: damage.len(),
    })
}
