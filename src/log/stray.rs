//! Segments that no longer open as segments: never taken for spares.
//!
//! A spare waits behind the last segment, and its header names another file or nothing. A file that
//! lies below the last segment, or that names itself and still does not fit, is a segment of which
//! header or length are damaged. It held events: it is reported, and under `quarantine` moved aside.

use super::error::{FormatError, LogError};
use super::format::{SEGMENT_HEADER_LEN, SegmentHeader, usable_end};
use super::journal::Mark;
use super::recovery::{Damage, QUARANTINE_DIR};
use super::scan::{FaultKind, Hole};
use super::segment::{SEGMENT_DIR, Segment, segment_name};
use super::storage::{Storage, StorageFile};
use super::sync::Arc;
use std::io::IoSlice;

/// A file that is not a segment: its id, its length, itself.
pub type SpareFile = (u64, u64, Arc<dyn StorageFile>);

/// Which of `spares` are damaged segments. `segments` rise without a gap; `mark` says which offsets
/// nobody needs any more.
///
/// # Errors
/// A file can't be read.
pub fn strays(
    segments: &[Segment],
    spares: &[SpareFile],
    mark: &Mark,
) -> Result<Vec<Damage>, LogError> {
    let first = segments.first().map(Segment::id);
    let mut damage = Vec::new();
    for (id, len, file) in spares {
        let name = segment_name(*id);
        let header = header_of(&**file).map_err(LogError::io(format!("read {name}")))?;
        let own = header.as_ref().ok().filter(|header| header.segment_id == *id);
        let next = segments.iter().find(|segment| segment.id() > *id);
        let (from, to) = match (next.map(|next| next.header.base_offset), own) {
            (Some(to), _) if next.map(Segment::id) == first => {
                if mark.released >= to {
                    continue; // left over from an interrupted reclaim: nobody needs it
                }
                (mark.released, to)
            }
            // between others: the first of a gap is said to be missing, for all that are
            (Some(_), _) if segments.iter().any(|segment| segment.id() + 1 == *id) => continue,
            (Some(to), _) => (to, to),
            (None, Some(own)) => (own.base_offset, own.base_offset.max(mark.durable_tail)),
            (None, None) => continue,
        };
        let error = match header {
            Err(error) => error,
            Ok(_) => FormatError::Value { what: "the file's length or log", value: *len },
        };
        let fault = FaultKind::Segment(error);
        let hole = Hole { position: 0, end_position: *len, from, to, fault };
        damage.push(Damage { file: name, hole });
    }
    Ok(damage)
}

fn header_of(file: &dyn StorageFile) -> std::io::Result<Result<SegmentHeader, FormatError>> {
    let mut page = vec![0; SEGMENT_HEADER_LEN as usize];
    let read = file.read_at(0, &mut page)?;
    Ok(SegmentHeader::decode(&page[..read]))
}

/// Whether a spare holds a part of a segment's header: one that tore in a crash, so that it is none.
/// A new header written over it could tear in its turn, and what is left of both be the old one:
/// events that were given up would come back. Such a file is not used again. The whole header of an
/// earlier segment, which a recycled file has, opens nothing under a later name, whole or torn.
///
/// # Errors
/// The file can't be read.
pub(super) fn may_come_back(file: &dyn StorageFile, id: u64, len: u64) -> std::io::Result<bool> {
    let mut page = vec![0; SEGMENT_HEADER_LEN as usize];
    for position in [0, usable_end(len.max(2 * SEGMENT_HEADER_LEN))] {
        let read = file.read_at(position, &mut page)?;
        let blank = page[..read].iter().all(|&byte| byte == 0);
        let header = SegmentHeader::decode(&page[..read]);
        if !blank && !header.is_ok_and(|header| header.segment_id < id) {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Moves the files among `spares` that `damage` names into the quarantine, each with a note.
///
/// # Errors
/// The storage fails; a file is in one of the two places all the same.
pub(super) fn set_aside(
    storage: &dyn Storage,
    spares: &mut Vec<SpareFile>,
    damage: &[Damage],
    epoch: u64,
) -> Result<(), LogError> {
    for Damage { file, hole } in damage {
        let Some(at) = spares.iter().position(|(id, ..)| segment_name(*id) == *file) else {
            continue;
        };
        let (id, len, _) = spares.remove(at);
        let io = || LogError::io(format!("move {file} aside"));
        storage.create_dir(QUARANTINE_DIR).map_err(io())?;
        let stem = format!("{QUARANTINE_DIR}/{id:016x}-{epoch}");
        let why =
            format!("no segment any more: offsets {}..{} ({})", hole.from, hole.to, hole.fault);
        let note = serde_json::json!({ "file": file, "bytes": len, "why": why }).to_string();
        let made = storage.create(&format!("{stem}.json"), note.len() as u64).map_err(io())?;
        made.write_at(0, &[IoSlice::new(note.as_bytes())]).map_err(io())?;
        made.sync().map_err(io())?;
        storage.rename(file, &format!("{stem}.seg")).map_err(io())?;
        // first where it is now: a cut between the two leaves it in both places, not in none
        storage.sync_dir(QUARANTINE_DIR).map_err(io())?;
        storage.sync_dir(SEGMENT_DIR).map_err(io())?;
    }
    Ok(())
}
