//! `walctl verify`: everything that a log says of itself, checked against what is there.
//!
//! | kind | what does not fit |
//! |---|---|
//! | `header`, `payload` | a batch: its header (place, length, order included), or its records |
//! | `chain` | a batch or segment that does not follow the one before it |
//! | `records` | a payload that is whole, but not the records that its header counts |
//! | `segment-header`, `seal`, `trailer`, `index` | what a segment says of itself |
//! | `missing-segment`, `lost-end` | bytes that are known to have been there |
//! | `meta`, `state`, `cursor`, `cursors` | a file beside the segments; cursors that can't be |
//! | `letter` | an event of the dead-letter log that is no letter |
//! | `unreadable` | the disk does not give the bytes |
//!
//! No trouble, and told as notes: `torn` (an end that was never acknowledged), `quarantined` (a hole
//! that recovery recorded), `gap` (offsets that were given up), `kept-aside`, `torn-cursor`, `torn-header`,
//! `torn-meta`, `torn-seal`.

use super::dead::verify_letters;
use super::dir::{InspectError, LogDir};
use super::events::WINDOW;
use super::snapshot::Snapshot;
use super::verify_files;
use super::view::ReadView;
use crate::event::Records;
use crate::log::{
    FaultKind, FoundBatch, Hole, INCOMPAT_GAP, Segment, SegmentEnd, Step, Summing, Walk, is_data,
};
use serde::Serialize;

/// Something at a place.
#[derive(Clone, PartialEq, Eq, Serialize, Debug)]
pub struct Problem {
    /// The file, below the log's directory.
    pub file: String,
    /// Byte in it.
    pub position: u64,
    /// The first offset that it is about, if it is about events.
    pub offset: Option<u64>,
    /// A stable word.
    pub kind: &'static str,
    /// What does not fit.
    pub detail: String,
}

/// What verifying came to.
#[derive(Clone, PartialEq, Eq, Default, Serialize, Debug)]
pub struct Report {
    /// Whether there is no problem.
    pub ok: bool,
    /// Segments with batches.
    pub segments: usize,
    /// Puts in them.
    pub batches: u64,
    /// Events in them.
    pub events: u64,
    /// Where checking stopped: the next offset.
    pub tail: u64,
    /// Damage and contradictions.
    pub problems: Vec<Problem>,
    /// What is worth knowing and is no trouble.
    pub notes: Vec<Problem>,
}

impl Report {
    pub(super) fn problem(
        &mut self,
        file: &str,
        position: u64,
        offset: Option<u64>,
        kind: &'static str,
        detail: impl Into<String>,
    ) {
        let (file, detail) = (file.to_owned(), detail.into());
        self.problems.push(Problem { file, position, offset, kind, detail });
    }

    pub(super) fn note(
        &mut self,
        file: &str,
        position: u64,
        offset: Option<u64>,
        kind: &'static str,
        detail: impl Into<String>,
    ) {
        let (file, detail) = (file.to_owned(), detail.into());
        self.notes.push(Problem { file, position, offset, kind, detail });
    }
}

/// Checks a channel's log from end to end, and its dead-letter log (files below `dead/`).
///
/// # Errors
/// It can't be read at all, or is of another version. Damage is no error: it is in the report.
pub fn verify(dir: &LogDir) -> Result<Report, InspectError> {
    let mut report = verify_log(dir)?;
    if let Some(dead) = dir.dead() {
        let mut below = verify_log(&dead)?;
        if below.ok {
            verify_letters(&dead, &mut below)?;
        }
        for problem in below.problems.iter_mut().chain(&mut below.notes) {
            problem.file = format!("{}/{}", crate::channel::dead::DIR, problem.file);
        }
        report.problems.append(&mut below.problems);
        report.notes.append(&mut below.notes);
        report.ok = report.problems.is_empty();
    }
    Ok(report)
}

fn verify_log(dir: &LogDir) -> Result<Report, InspectError> {
    let mut report = Report::default();
    let log = match Snapshot::take(dir) {
        Ok(log) => log,
        Err(InspectError::NoIdentity(detail)) => {
            report.problem("META.a", 0, None, "meta", detail);
            return Ok(report);
        }
        Err(error) => return Err(error),
    };
    let log = settled(dir, log)?;
    verify_files::identity(dir, &log, &mut report)?;
    sequence(dir, &log, &mut report);
    for (i, (segment, end)) in log.segments.iter().zip(&log.ends).enumerate() {
        let before = report.problems.len();
        let (batches, events) = (report.batches, report.events);
        Check { dir, log: &log, report: &mut report }.segment(i, segment, end);
        if report.problems.len() > before && !dir.has(&segment.name()) {
            // reclaimed under our hands: what its bytes say now is of another life
            report.problems.truncate(before);
            (report.batches, report.events) = (batches, events);
        }
    }
    verify_files::end(&log, &mut report);
    verify_files::cursors(dir, &log, &mut report)?;
    verify_files::quarantine(dir, &mut report)?;
    report.segments = log.segments.len();
    report.tail = log.ends.last().map_or(log.tail().0, |end| end.offset);
    report.ok = report.problems.is_empty();
    Ok(report)
}

/// A snapshot whose list of segments was not read while it changed.
fn settled(dir: &LogDir, mut log: Snapshot) -> Result<Snapshot, InspectError> {
    for _ in 0..5 {
        let whole = log.segments.windows(2).all(|two| two[1].id() == two[0].id() + 1);
        let sealed = log.segments.iter().rev().skip(1).all(|segment| segment.end().is_some());
        if whole && sealed {
            break;
        }
        std::thread::sleep(std::time::Duration::from_millis(10));
        log = Snapshot::take(dir)?;
    }
    Ok(log)
}

/// Ids follow each other, and each segment starts where the one before it ended.
fn sequence(dir: &LogDir, log: &Snapshot, report: &mut Report) {
    let mark = log.journal.newest.as_ref().map(|record| record.mark);
    if let (Some(first), Some(mark)) = (log.segments.first(), mark)
        && first.header.prev_end_offset > mark.released
        && first.id() > 1
        && first.header.prev_end_offset > released_now(dir, log)
    {
        let (from, to) = (mark.released, first.header.prev_end_offset);
        let file = crate::log::segment_name(first.id() - 1);
        let detail = format!("offsets {from}..{to} are not released, and are not there");
        report.problem(&file, 0, Some(from), "missing-segment", detail);
    }
    for (two, ends) in log.segments.windows(2).zip(log.ends.windows(2)) {
        let (segment, next, end) = (&two[0], &two[1].header, &ends[0]);
        let name = two[1].name();
        if two[1].id() != segment.id() + 1 {
            let released = mark.is_some_and(|mark| mark.released >= next.base_offset);
            let file = crate::log::segment_name(segment.id() + 1);
            let detail = format!("the segments up to {:016x} are not there", two[1].id());
            if released {
                report.note(&file, 0, None, "left-over", detail + "; all before them is released");
            } else {
                let spare = dir.has(&file);
                let why = if spare { "; the file has no readable header of its own" } else { "" };
                report.problem(&file, 0, Some(end.offset), "missing-segment", detail + why);
            }
            continue;
        }
        let told = (next.prev_end_lsn, next.prev_end_offset, next.prev_chain_crc);
        if told != (end.lsn, end.offset, end.chain) || next.prev_segment_id != segment.id() {
            let detail = format!(
                "names lsn {}, offset {}, checksum {:08x} as its predecessor's end; \
                 that one ends at lsn {}, offset {}, checksum {:08x}",
                told.0, told.1, told.2, end.lsn, end.offset, end.chain
            );
            report.problem(&name, 0, Some(next.base_offset), "chain", detail);
        }
        if next.base_offset != next.prev_end_offset {
            let (from, to) = (next.prev_end_offset, next.base_offset);
            let detail = format!("offsets {from}..{to} belong to no event");
            if next.incompat & INCOMPAT_GAP != 0 && from < to {
                report.note(&name, 0, Some(from), "gap", detail + ", as recovery recorded");
            } else {
                report.problem(&name, 0, Some(from), "chain", detail + ", and no gap is recorded");
            }
        }
    }
}

/// What is released by now: segments may have gone since the cursors were read.
fn released_now(dir: &LogDir, log: &Snapshot) -> u64 {
    let found = crate::log::read_journal(dir.storage(), &log.log_uuid).ok();
    found.and_then(|found| found.newest).map_or(0, |newest| newest.mark.released)
}

/// The check of segments.
struct Check<'a> {
    dir: &'a LogDir,
    log: &'a Snapshot,
    report: &'a mut Report,
}

impl Check<'_> {
    fn segment(&mut self, i: usize, segment: &Segment, end: &SegmentEnd) {
        let last = i + 1 == self.log.segments.len();
        let scanned = self.log.scan.as_ref().filter(|_| last);
        let mut sum = Summing::new(&segment.header);
        let mut place = segment.start();
        let mut holes = 0;
        let mut durable_lsn = self.log.evidence.lsn;
        loop {
            let view = match ReadView::new(&segment.file) {
                Ok(view) => view,
                Err(error) => return self.unreadable(segment, place.position, &error),
            };
            let batches = segment.batches(&view, end.lsn);
            let mut walk = Walk::new(batches, place, end.offset);
            let from = place.position;
            let ended = loop {
                if walk.place().position - from > WINDOW {
                    break false;
                }
                let step = walk.step();
                if let Some(error) = view.error() {
                    return self.unreadable(segment, walk.place().position, error);
                }
                match step {
                    Step::End => break true,
                    Step::Batch(batch) => {
                        sum.add(&batch.header, batch.header_crc);
                        durable_lsn = durable_lsn.max(batch.header.durable_lsn);
                        self.batch(segment, &batch, batches.payload(&batch));
                    }
                    Step::Hole(hole) => {
                        holes += 1;
                        sum.skip(segment.header.base_lsn + hole.end_position, hole.to);
                        self.hole(segment, hole);
                    }
                }
            };
            place = walk.place();
            if ended {
                break;
            }
        }
        let found = sum.finish();
        let torn = scanned.and_then(|scan| scan.cut.as_ref());
        if let Some(cut) = torn {
            let name = segment.name();
            let detail = format!("{} bytes that were never acknowledged: {}", cut.bytes, cut.fault);
            self.report.note(&name, cut.position, Some(found.end.offset), "torn", detail);
        }
        let live = self.log.live().is_some() && last && segment.end().is_none();
        if !live {
            verify_files::footer(self.log, segment, end, &found, holes > 0, last, self.report);
        }
        // the first group's sync covers both copies of the header
        let synced = !last || segment.end().is_some() || durable_lsn > segment.header.base_lsn;
        verify_files::headers(segment, synced && found.seal.batches > 0, self.report);
    }

    fn unreadable(&mut self, segment: &Segment, position: u64, error: &std::io::Error) {
        self.report.problem(&segment.name(), position, None, "unreadable", error.to_string());
    }

    fn batch(&mut self, segment: &Segment, batch: &FoundBatch, payload: &[u8]) {
        if !is_data(batch) {
            return;
        }
        let header = &batch.header;
        self.report.batches += 1;
        self.report.events += u64::from(header.count);
        let mut records = Records::new(payload);
        let count = records.by_ref().count() as u64;
        if count != u64::from(header.count) || !records.rest().is_empty() {
            let rest = records.rest().len();
            let detail =
                format!("{count} records and {rest} bytes behind them, {} counted", header.count);
            let offset = Some(header.base_offset);
            self.report.problem(&segment.name(), batch.position, offset, "records", detail);
        }
    }

    fn hole(&mut self, segment: &Segment, hole: Hole) {
        let kind = match hole.fault {
            FaultKind::Segment(_) => "segment-header",
            FaultKind::Payload(_) => "payload",
            FaultKind::Chain { .. } => "chain",
            FaultKind::Header(_)
            | FaultKind::Place { .. }
            | FaultKind::Length { .. }
            | FaultKind::Offset { .. } => "header",
        };
        let name = segment.name();
        let Hole { position, end_position, from, to, fault } = hole;
        let detail = format!("bytes {position}..{end_position}, offsets {from}..{to}: {fault}");
        if self.dir.is_quarantined(&name, position) {
            self.report.note(&name, position, Some(from), "quarantined", detail);
        } else {
            self.report.problem(&name, position, Some(from), kind, detail);
        }
    }
}
