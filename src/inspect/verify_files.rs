//! What `verify` asks of everything but the batches: segment headers and footers, META, STATE, the
//! cursor journal, the log's end, and the notes of recovery.

use super::dir::{InspectError, LogDir};
use super::snapshot::Snapshot;
use super::verify::Report;
use crate::log::{
    BadRecord, LogError, META_LEN, Meta, SEGMENT_HEADER_LEN, Segment, SegmentEnd, SegmentHeader,
    State, StorageFile, Summary, TRAILER_LEN, Trailer, check_journal, seal_position, segment_name,
    usable_end,
};
use std::time::Duration;

/// How often something is looked at again before it counts as wrong: it may be being written.
const LOOKS: usize = 4;
const PAUSE: Duration = Duration::from_millis(15);
/// Of a trailer's bytes, more than so many must be as expected for it to have been written once:
/// one of an earlier life of a recycled file differs in its checksum, the chain and the id.
const TRAILER_ALIKE: usize = 58;

fn page(file: &dyn StorageFile, position: u64, len: u64) -> Vec<u8> {
    let mut bytes = vec![0; len as usize];
    let read = file.read_at(position, &mut bytes).unwrap_or(0);
    bytes.truncate(read);
    bytes
}

/// META.a and META.b, and STATE.
pub(super) fn identity(
    dir: &LogDir,
    log: &Snapshot,
    report: &mut Report,
) -> Result<(), InspectError> {
    let newest = log.segments.last().map_or(0, |segment| segment.header.epoch);
    let epoch = log.meta.map_or(newest, |meta| meta.epoch);
    for name in ["META.a", "META.b"] {
        let mut problem = None;
        for look in 0..LOOKS {
            problem = meta_problem(dir, log, name, epoch)?;
            if problem.is_none() {
                break;
            }
            if look + 1 < LOOKS {
                std::thread::sleep(PAUSE);
            }
        }
        match problem {
            Some((true, detail)) => report.note(name, 0, None, "torn-meta", detail),
            Some((false, detail)) => report.problem(name, 0, None, "meta", detail),
            None => {}
        }
    }
    match &log.state {
        None => {
            let detail = "missing or not readable: who owned the log and how far is not known";
            report.note("STATE", 0, None, "no-state", detail);
        }
        Some(state) => {
            let State { written_lsn, durable_lsn, tail, durable_tail, .. } = *state;
            if durable_lsn > written_lsn || durable_tail > tail {
                let detail = format!(
                    "durable to lsn {durable_lsn}, offset {durable_tail}, \
                     but written only to lsn {written_lsn}, offset {tail}"
                );
                report.problem("STATE", 0, Some(tail), "state", detail);
            }
        }
    }
    Ok(())
}

/// What is wrong with a copy, and whether a start that a power cut ended explains it.
fn meta_problem(
    dir: &LogDir,
    log: &Snapshot,
    name: &str,
    epoch: u64,
) -> Result<Option<(bool, String)>, InspectError> {
    let file = match dir.storage().open(name, false) {
        // the first open writes one of them only
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            let due = epoch != 1 || name == "META.b";
            return Ok(due.then(|| (false, "missing; the next start writes it anew".to_owned())));
        }
        file => file.map_err(LogError::io(format!("open {name}")))?,
    };
    let page = page(&*file, 0, META_LEN);
    Ok(match Meta::decode(&page) {
        // the first open makes both, and writes one
        Err(_) if epoch == 1 && name == "META.a" && page.iter().all(|byte| *byte == 0) => None,
        Ok(meta) if meta.log_uuid != log.log_uuid => {
            Some((false, "is of another log: it was copied here".to_owned()))
        }
        Ok(_) => None,
        Err(error) => {
            let torn = !log.same_boot && log.meta.is_some_and(|other| other.explains(&page));
            Some((torn, format!("{error}; the other copy or the segments say whose log it is")))
        }
    })
}

/// Both copies of a segment's header, which may be torn unless anything of the segment is known to
/// have been synced.
pub(super) fn headers(segment: &Segment, synced: bool, report: &mut Report) {
    for position in [0, usable_end(segment.header.segment_bytes)] {
        let page = page(&*segment.file, position, SEGMENT_HEADER_LEN);
        let detail = match SegmentHeader::decode(&page) {
            Ok(header) if header == segment.header => continue,
            Ok(_) => "differs from the other copy".to_owned(),
            Err(error) => format!("{error}; the other copy is good"),
        };
        let name = segment.name();
        if synced {
            let offset = Some(segment.header.base_offset);
            report.problem(&name, position, offset, "segment-header", detail);
        } else {
            report.note(&name, position, None, "torn-header", detail);
        }
    }
}

/// Seal and trailer, against each other and against what the walk found.
pub(super) fn footer(
    log: &Snapshot,
    segment: &Segment,
    end: &SegmentEnd,
    found: &Summary,
    holes: bool,
    last: bool,
    report: &mut Report,
) {
    let name = segment.name();
    let len = segment.header.segment_bytes;
    let (at, offset) = (len - TRAILER_LEN, Some(end.offset));
    let expected = Trailer {
        segment_id: segment.id(),
        end_lsn: found.end.lsn,
        end_offset: found.end.offset,
        first_time_ms: found.end.first_time_ms,
        last_time_ms: found.end.last_time_ms,
        chain_crc: found.end.chain,
    };
    let clean = log.state.is_some_and(|state| state.clean);
    let trailer = page(&*segment.file, at, TRAILER_LEN);
    match Trailer::decode(segment.seed, &trailer) {
        Ok(trailer) if trailer != expected && !holes => {
            let detail = format!(
                "says lsn {}, offset {}, the batches end at lsn {}, offset {}",
                trailer.end_lsn, trailer.end_offset, expected.end_lsn, expected.end_offset
            );
            report.problem(&name, at, offset, "trailer", detail);
        }
        Ok(_) => {}
        Err(error) => {
            let bytes = expected.encode(segment.seed);
            let alike = trailer.iter().zip(bytes).filter(|(found, wanted)| *found == wanted);
            let written = !last || (clean && log.owner.is_some()) || alike.count() > TRAILER_ALIKE;
            if written {
                report.problem(&name, at, offset, "trailer", error.to_string());
            }
            // without one, what stands at the seal's place is of another life, or half written
            if !written {
                return;
            }
        }
    }
    // the next segment of the same owner begins after the seal's sync; the end of an owner may tear it
    let next = log.segments.iter().find(|next| next.id() > segment.id());
    let torn = !(last && clean) && next.is_none_or(|next| next.header.epoch > segment.header.epoch);
    seal(segment, found, holes, torn, report);
}

/// The seal of a segment that has one. `torn`: a power cut may have taken it, and left the trailer.
fn seal(segment: &Segment, found: &Summary, holes: bool, torn: bool, report: &mut Report) {
    let (name, offset) = (segment.name(), Some(found.end.offset));
    let at = seal_position(segment.header.segment_bytes);
    match segment.read_seal() {
        Err(error) if torn => {
            let detail = format!("{error}; the trailer counts, and reading walks the batches");
            report.note(&name, at, offset, "torn-seal", detail);
        }
        Err(error) => report.problem(&name, at, offset, "seal", error.to_string()),
        Ok(_) if holes => {}
        Ok(seal) if seal.index != found.seal.index => {
            let detail = format!(
                "{} entries of the sparse index, not what the batches say ({} entries)",
                seal.index.len(),
                found.seal.index.len()
            );
            report.problem(&name, at, offset, "index", detail);
        }
        Ok(seal) if seal != found.seal => {
            let detail = format!(
                "says {} batches, {} events up to offset {}; there are {}, {} up to offset {}",
                seal.batches,
                seal.events,
                seal.end_offset,
                found.seal.batches,
                found.seal.events,
                found.seal.end_offset
            );
            report.problem(&name, at, offset, "seal", detail);
        }
        Ok(_) => {}
    }
}

/// Whether the log ends where it is known to have been durable.
pub(super) fn end(log: &Snapshot, report: &mut Report) {
    let end = log.ends.last().map_or((0, 0), |end| (end.lsn, end.offset));
    let evidence = log.evidence;
    if evidence.lsn > end.0 && evidence.tail > end.1 && log.live().is_none() {
        let id = log.segments.last().map_or(1, |segment| segment.id() + 1);
        let detail = format!(
            "offsets {}..{} were durable, and are not there (the log ends at lsn {}, not at {})",
            end.1, evidence.tail, end.0, evidence.lsn
        );
        report.problem(&segment_name(id), 0, Some(end.1), "lost-end", detail);
    }
}

/// The journal's records, and what the newest one says.
pub(super) fn cursors(
    dir: &LogDir,
    log: &Snapshot,
    report: &mut Report,
) -> Result<(), InspectError> {
    let mut bad = check_journal(dir.storage(), &log.log_uuid)?;
    for _ in 1..LOOKS {
        if bad.is_empty() {
            break;
        }
        std::thread::sleep(PAUSE);
        // what is still the same was not just being written
        let again = check_journal(dir.storage(), &log.log_uuid)?;
        bad.retain(|record| again.contains(record));
    }
    for record in &bad {
        let BadRecord { file, position, error, header } = record;
        let number = header.map_or(String::new(), |(number, _)| format!("record {number}: "));
        let detail = format!("{number}{error}");
        if may_be_torn(log, record) {
            report.note(file, *position, None, "torn-cursor", detail + "; another one counts");
        } else {
            report.problem(file, *position, None, "cursor", detail);
        }
    }
    let Some(newest) = &log.journal.newest else { return Ok(()) };
    match log.groups(dir) {
        Err(error) if newest.payload.is_empty() => drop(error), // a log without a dispatcher
        Err(error) => report.problem("cursor", 0, None, "cursors", error.to_string()),
        Ok(groups) => {
            let tail = log.tail();
            for group in groups.iter().filter(|group| group.watermark > tail) {
                let detail = format!(
                    "group {}: watermark {} is beyond the tail {tail}",
                    group.name, group.watermark
                );
                report.problem("cursor", 0, Some(tail.0), "cursors", detail);
            }
        }
    }
    Ok(())
}

/// Whether a crash explains a bad record: a power cut takes any that was not synced, and may leave
/// later ones; a kill cuts the newest one short, between its blocks.
fn may_be_torn(log: &Snapshot, record: &BadRecord) -> bool {
    let newest = log.journal.newest.as_ref().map_or(0, |newest| newest.generation);
    // STATE is never synced: an older owner's says nothing of how the last one ended
    let of_last_owner = |state: &&State| log.meta.is_none_or(|meta| meta.epoch == state.epoch);
    match log.state.as_ref().filter(of_last_owner) {
        Some(state) if state.clean => false,
        Some(_) if log.same_boot => {
            record.header.is_some_and(|(number, bytes)| number > newest && bytes > 4096)
        }
        _ => true,
    }
}

/// What recovery saved.
pub(super) fn quarantine(dir: &LogDir, report: &mut Report) -> Result<(), InspectError> {
    let files = dir.storage().list("quarantine").map_err(LogError::io("list quarantine"))?;
    let mut names: Vec<_> = files.into_iter().map(|(name, _)| name).collect();
    names.sort();
    for name in names.iter().filter(|name| name.ends_with(".json")) {
        let file = format!("quarantine/{name}");
        let opened = dir.storage().open(&file, false).map_err(LogError::io("open a note"))?;
        let text = page(&*opened, 0, 4096);
        let note: serde_json::Value = serde_json::from_slice(&text).unwrap_or_default();
        let detail = match (&note["file"], &note["position"], &note["why"]) {
            (serde_json::Value::String(of), at, serde_json::Value::String(why)) => {
                format!("{of} at byte {at}: {why}")
            }
            _ => "a note that can't be read".to_owned(),
        };
        report.note(&file, 0, None, "kept-aside", detail);
    }
    Ok(())
}
