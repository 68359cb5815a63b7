//! Opening a log: lock, identity, segments, the last segment's end, cursors; then a writer.

use super::defect::{Defect, planted, unless};
use super::error::{FormatError, LogError};
use super::format::{
    GROUP_ALIGN, META_LEN, Meta, STATE_LEN, SegmentHeader, State, round_up, usable_end,
};
use super::holds::lock_holds;
use super::journal::{Journal, JournalFound, Mark};
use super::maker::{Maker, Spare};
use super::options::{LogOptions, OnCorruption};
use super::recovery::{Cut, Damage, Evidence, TailScan, judge, save_aside, scan_tail};
use super::segment::{
    Opened, SEGMENT_DIR, Segment, SegmentEnd, mend_header, open_segment, segment_id_of,
    segment_name, write_seal,
};
use super::sequence::{Sequence, check_sequence, lost_end, lost_start};
use super::storage::{Storage, open_or_create};
use super::stray::{SpareFile, may_come_back, set_aside, strays};
use super::sync::{Arc, thread};
use super::writer::{Resume, Writer, WriterParts};
use crate::offset::Offset;
use std::collections::VecDeque;
use std::io::{self, IoSlice};

const META_FILES: [&str; 2] = ["META.a", "META.b"];
/// Bytes of a segment that are held in memory while it is looked through.
pub(super) const SCAN_WINDOW: usize = 8 << 20;
const STATE_FILE: &str = "STATE";
/// What the one owner of a log has locked, in its directory.
pub const LOCK_FILE: &str = "LOCK";

/// What opening a log found and did.
#[derive(Clone, Debug)]
pub struct OpenReport {
    /// Writable opens of this log so far.
    pub epoch: u64,
    /// Whether the log was made now.
    pub created: bool,
    /// Segments that hold batches.
    pub segments: usize,
    /// The first offset that is kept.
    pub first: Offset,
    /// The next offset to be written.
    pub tail: Offset,
    /// What was begun and never acknowledged, and is not part of the log.
    pub cut: Option<Cut>,
    /// Damage in acknowledged bytes (with `quarantine`: passed over).
    pub damage: Vec<Damage>,
    /// Offsets that no event has, because a cursor was ahead of the log.
    pub gap: u64,
    /// Cursor records that were torn or damaged; an older one counts.
    pub bad_cursor_records: usize,
}

/// An opened log, before its threads.
pub(super) struct Parts {
    pub(super) writer: Writer,
    pub(super) journal: Journal,
    pub(super) cursors: Option<Vec<u8>>,
    pub(super) report: OpenReport,
    pub(super) lock: Box<dyn Send + Sync>,
}

/// The identity of a log, as its META files or else its segments say; `None` if there is no log.
///
/// # Errors
/// A file can't be read, or is of a version that this build does not know.
pub fn read_meta(storage: &dyn Storage) -> Result<Option<Meta>, LogError> {
    let mut newest: Option<Meta> = None;
    for name in META_FILES {
        let file = match storage.open(name, false) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            file => file.map_err(LogError::io(format!("open {name}")))?,
        };
        let mut page = vec![0; META_LEN as usize];
        let read = file.read_at(0, &mut page).map_err(LogError::io(format!("read {name}")))?;
        match Meta::decode(&page[..read]) {
            Ok(meta) if newest.is_none_or(|newest| newest.epoch < meta.epoch) => {
                newest = Some(meta);
            }
            Err(error @ FormatError::Version { .. }) => return Err(LogError::format(name, error)),
            Ok(_) | Err(_) => {}
        }
    }
    Ok(newest)
}

/// Where the owner says it is; `None` if it never said so, or is just writing it.
pub fn read_state(storage: &dyn Storage) -> Option<State> {
    let file = storage.open(STATE_FILE, false).ok()?;
    let mut bytes = [0; STATE_LEN as usize];
    // a torn read is possible while the owner writes: try again
    for _ in 0..10 {
        let read = file.read_at(0, &mut bytes).ok()?;
        if let Ok(state) = State::decode(&bytes[..read]) {
            return Some(state);
        }
        thread::yield_now();
    }
    None
}

/// The segments and spares of a log, by id.
pub struct Listing {
    /// Files that hold batches, or may.
    pub segments: Vec<Segment>,
    /// Files that wait for use.
    pub spares: Vec<SpareFile>,
}

/// Opens every segment file.
///
/// # Errors
/// One can't be read, or is of a version that this build does not know.
pub fn list_segments(
    storage: &dyn Storage,
    log_uuid: &[u8; 16],
    write: bool,
) -> Result<Listing, LogError> {
    let files = storage.list(SEGMENT_DIR).map_err(LogError::io("list the segments"))?;
    let mut ids: Vec<(u64, u64)> =
        files.iter().filter_map(|(name, len)| Some((segment_id_of(name)?, *len))).collect();
    ids.sort_unstable();
    let mut listing = Listing { segments: Vec::new(), spares: Vec::new() };
    for (id, len) in ids {
        match open_segment(storage, id, len, log_uuid, write) {
            Ok(Opened::Activated(segment)) => listing.segments.push(segment),
            Ok(Opened::Spare(file)) => listing.spares.push((id, len, file)),
            // a reader beside an owner: the file was reclaimed since it was listed
            Err(LogError::Io { error, .. })
                if !write && error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
    }
    Ok(listing)
}

/// Opens the log for writing, or makes it.
pub(super) fn open(storage: Arc<dyn Storage>, options: LogOptions) -> Result<Parts, LogError> {
    options.check();
    refuse_foreign(&*storage)?;
    let make = || LogError::io(format!("make {}", storage.describe()));
    storage.create_dir(SEGMENT_DIR).map_err(make())?;
    let lock = take_lock(&*storage)?;
    // its file is the owner's from the start, whoever holds something later; a full disk is no
    // reason to stay shut
    let _ = lock_holds(&*storage);
    let meta = read_meta(&*storage)?;
    let created = meta.is_none();
    let state = read_state(&*storage);
    let meta = match meta {
        Some(meta) => meta,
        None => adopt_or_create(&*storage, &options)?,
    };
    let (mut journal, found) = Journal::open(&*storage, &meta.log_uuid, options.cursor_file_bytes)?;
    let mark = found.newest.as_ref().map(|record| record.mark).unwrap_or_default();
    let listing = list_segments(&*storage, &meta.log_uuid, true)?;
    let evidence = evidence_of(&*storage, state.as_ref(), &mark);
    let (segments, mut spares) = (listing.segments, listing.spares);
    let segments = confirm_last(&*storage, segments)?;
    let Sequence { segments, left_over, missing } = check_sequence(segments, &mark);
    if let Some((id, _)) = missing.first().filter(|_| options.on_corruption == OnCorruption::Halt) {
        return Err(LogError::MissingSegment { missing: *id });
    }
    let mut damage = strays(&segments, &spares, &mark)?;
    damage.extend(missing.into_iter().map(|(_, damage)| damage));
    let lost = lost_start(&segments, &mark).filter(|_| found.newest.is_some());
    // one of the bad records may have released it: then it was reclaimed, and stays so
    let (lost, gone) = if found.bad_records == 0 { (lost, None) } else { (None, lost) };
    if damage.is_empty() {
        damage.extend(lost);
    }
    let recovered = recover(&segments, damage, evidence, &options)?;
    let epoch = next_epoch(&meta, &segments, state.as_ref());
    write_meta(&*storage, &Meta { epoch, segment_bytes: options.segment_bytes, ..meta })?;
    remove_left_over(&*storage, left_over)?;
    set_aside(&*storage, &mut spares, &recovered.damage, epoch)?;
    if let Some(last) = segments.last() {
        settle(&*storage, last, recovered.unsealed.as_ref())?;
    }
    journal.settle(&found, gone.map_or(0, |damage| damage.hole.to))?;
    let resume = resume_at(&segments, &recovered, &mark);
    let report = report_of(&segments, &recovered, &resume, &found, epoch, created);
    let writer =
        make_writer(storage, options, meta.log_uuid, epoch, segments, spares, resume, mark)?;
    let cursors = found.newest.map(|record| record.payload);
    Ok(Parts { writer, journal, cursors, report, lock })
}

/// Flume's own channel files are not a log of levada's, and must not be mixed with one.
fn refuse_foreign(storage: &dyn Storage) -> Result<(), LogError> {
    let files = storage.list(".").map_err(LogError::io("list the log's directory"))?;
    let flume = files.iter().map(|(name, _)| name.as_str()).find(|name| {
        let log = name.strip_prefix("log-").map(|rest| rest.trim_end_matches(".meta"));
        *name == "in_use.lock" || log.is_some_and(|n| n.parse::<u64>().is_ok())
    });
    let Some(name) = flume else { return Ok(()) };
    let what = format!(
        "holds a file channel of Apache Flume ({name}): drain it with Flume \
         (an agent with this channel and an Avro sink that points here), or name another directory"
    );
    Err(LogError::Foreign { dir: storage.describe(), what })
}

fn take_lock(storage: &dyn Storage) -> Result<Box<dyn Send + Sync>, LogError> {
    let owner = format!("pid {}", std::process::id());
    let taken = storage.lock(LOCK_FILE, &owner);
    let taken = taken.map_err(LogError::io(format!("lock {}", storage.describe())))?;
    taken.map_err(|owner| LogError::InUse { dir: storage.describe(), owner })
}

/// The header of the newest epoch that any segment file has, whosever it is: a log without META is
/// known by it.
///
/// # Errors
/// A file can't be read.
pub fn newest_header(storage: &dyn Storage) -> Result<Option<SegmentHeader>, LogError> {
    let files = storage.list(SEGMENT_DIR).map_err(LogError::io("list the segments"))?;
    let mut newest: Option<SegmentHeader> = None;
    for (name, len) in &files {
        let Some(id) = segment_id_of(name) else { continue };
        let name = segment_name(id);
        let file = match storage.open(&name, false) {
            // a reader beside an owner: the file was reclaimed since it was listed
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            file => file.map_err(LogError::io(format!("open {name}")))?,
        };
        for position in [0, usable_end((*len).max(8192))] {
            let mut page = vec![0; super::format::SEGMENT_HEADER_LEN as usize];
            let read =
                file.read_at(position, &mut page).map_err(LogError::io(format!("read {name}")))?;
            if let Ok(header) = SegmentHeader::decode(&page[..read])
                && header.segment_id == id
                && newest.is_none_or(|newest| newest.epoch < header.epoch)
            {
                newest = Some(header);
            }
        }
    }
    Ok(newest)
}

/// A log without META: a new one, unless there are segments that say whose they are.
fn adopt_or_create(storage: &dyn Storage, options: &LogOptions) -> Result<Meta, LogError> {
    let newest = newest_header(storage)?;
    if newest.is_some() {
        tracing::warn!(target: "levada::log",
            "{}: META.a and META.b are missing or damaged; the segments say whose log it is",
            storage.describe());
    }
    Ok(Meta {
        log_uuid: newest.map_or_else(|| new_uuid(storage), |header| header.log_uuid),
        epoch: newest.map_or(0, |header| header.epoch),
        created_ms: storage.now_ns() / 1_000_000,
        segment_bytes: options.segment_bytes,
    })
}

/// The identity of a log that is made.
fn new_uuid(storage: &dyn Storage) -> [u8; 16] {
    let drawn = [storage.random().to_le_bytes(), storage.random().to_le_bytes()].concat();
    let drawn = drawn.try_into().expect("twice eight bytes");
    uuid::Builder::from_random_bytes(drawn).into_uuid().into_bytes()
}

/// How far the log is known to have been durable, by STATE and the cursor journal.
pub fn evidence_of(storage: &dyn Storage, state: Option<&State>, mark: &Mark) -> Evidence {
    let evidence = Evidence::of_mark(mark);
    // within one boot what was synced is still what was synced, and STATE was written after it
    match (state, storage.boot_id()) {
        (Some(state), Some(boot_id)) if state.boot_id == boot_id => {
            evidence.max(Evidence { lsn: state.durable_lsn, tail: state.durable_tail })
        }
        _ => evidence,
    }
}

/// The epoch of this open: above every one that was ever written.
fn next_epoch(meta: &Meta, segments: &[Segment], state: Option<&State>) -> u64 {
    let segments = segments.iter().map(|segment| segment.header.epoch).max();
    meta.epoch.max(segments.unwrap_or(0)).max(state.map_or(0, |state| state.epoch))
        + if planted(Defect::EpochNotRaised) { 0 } else { 1 }
}

fn write_meta(storage: &dyn Storage, meta: &Meta) -> Result<(), LogError> {
    // the file that does not hold the newest one; both are made at once, for the disk may be full
    // when the other one's turn comes
    let (name, other) = match meta.epoch % if planted(Defect::MetaSameFile) { 1 } else { 2 } {
        0 => (META_FILES[0], META_FILES[1]),
        _ => (META_FILES[1], META_FILES[0]),
    };
    let io = || LogError::io(format!("write {name}"));
    let file = open_or_create(storage, name, META_LEN).map_err(io())?;
    open_or_create(storage, other, META_LEN).map_err(LogError::io(format!("make {other}")))?;
    file.write_at(0, &[IoSlice::new(&meta.encode())]).map_err(io())?;
    unless(Defect::MetaNotSynced, || file.sync()).map_err(io())?;
    storage.sync_dir(".").map_err(io())
}

/// What recovery decided.
struct Recovered {
    /// The last segment, if it has to be sealed.
    unsealed: Option<TailScan>,
    damage: Vec<Damage>,
    /// The end of the last segment.
    end: Option<SegmentEnd>,
    /// How far the log is known to have been durable.
    evident: Evidence,
}

fn recover(
    segments: &[Segment],
    damage: Vec<Damage>,
    evidence: Evidence,
    options: &LogOptions,
) -> Result<Recovered, LogError> {
    judge(&damage, options.on_corruption)?;
    let known = damage.iter().map(|damage| damage.hole.to).max().unwrap_or_default();
    let evident = evidence.max(Evidence { lsn: 0, tail: known });
    let mut recovered = Recovered { unsealed: None, damage, end: None, evident };
    if let Some(last) = segments.last() {
        recovered.end = last.end();
        if last.end().is_none() {
            let io = || LogError::io(format!("recover {}", last.name()));
            // it was synced just now; what only the cache has is dropped, and what the disk has is read
            let known = evidence.lsn.saturating_sub(last.header.base_lsn);
            let doubtful = known.min(last.header.segment_bytes) & !4095;
            unless(Defect::KeepCache, || last.file.drop_cache(doubtful)).map_err(io())?;
            let view = last.view().map_err(io())?;
            for from in (0..last.header.segment_bytes).step_by(SCAN_WINDOW) {
                view.prefetch(from, SCAN_WINDOW).map_err(io())?;
                view.forget(from, SCAN_WINDOW); // in the system's cache it stays
            }
            let scan = scan_tail(last, &*view, evidence);
            if let Some(error) = scan.newer.clone() {
                return Err(LogError::format(&last.name(), error));
            }
            recovered.end = Some(scan.summary.end);
            recovered.damage.extend_from_slice(&scan.damage);
            recovered.unsealed = Some(scan);
        }
    }
    let end = recovered.end.map_or((0, 0), |end| (end.lsn, end.offset));
    recovered.damage.extend(lost_end(segments.last(), end, evidence));
    judge(&recovered.damage, options.on_corruption)?;
    Ok(recovered)
}

/// Makes durable what a killed process left dirty in the last segment, and looks at it again, past
/// the cache: behind a failed sync, header and trailer may be
/// in the cache alone, and then prove nothing.
fn confirm_last(
    storage: &dyn Storage,
    mut segments: Vec<Segment>,
) -> Result<Vec<Segment>, LogError> {
    let Some(last) = segments.pop() else { return Ok(segments) };
    let SegmentHeader { log_uuid, segment_bytes, .. } = last.header;
    let io = || LogError::io(format!("recover {}", last.name()));
    unless(Defect::SkipResync, || last.file.sync()).map_err(io())?;
    let doubtful = usable_end(segment_bytes);
    unless(Defect::KeepTrailerCache, || last.file.drop_cache(doubtful)).map_err(io())?;
    match open_segment(storage, last.id(), segment_bytes, &log_uuid, true)? {
        Opened::Activated(again) => segments.push(again),
        Opened::Spare(_) => segments.push(last), // its batches were read: they decide
    }
    Ok(segments)
}

/// Removes what an interrupted reclaim left.
fn remove_left_over(storage: &dyn Storage, left_over: Vec<Segment>) -> Result<(), LogError> {
    for segment in left_over {
        let name = segment.name();
        storage.remove(&name).map_err(LogError::io(format!("remove {name}")))?;
    }
    Ok(()) // synced with the spares
}

/// Makes the last segment what it must be before another one follows it: its header on the disk, its
/// end sealed.
fn settle(
    storage: &dyn Storage,
    last: &Segment,
    unsealed: Option<&TailScan>,
) -> Result<(), LogError> {
    let io = || LogError::io(format!("seal {}", last.name()));
    let mended = !planted(Defect::SkipMend) && mend_header(last).map_err(io())?;
    match unsealed {
        Some(scan) => seal_recovered(storage, last, scan),
        None if mended => last.file.sync().map_err(io()),
        None => Ok(()),
    }
}

fn seal_recovered(storage: &dyn Storage, last: &Segment, scan: &TailScan) -> Result<(), LogError> {
    let io = || LogError::io(format!("seal {}", last.name()));
    let view = last.view().map_err(io())?;
    if let Some(cut) = &scan.cut {
        let why = format!("cut: never acknowledged ({})", cut.fault);
        save_aside(storage, &*view, &cut.file, cut.position, cut.bytes, &why)?;
    }
    for Damage { file, hole } in &scan.damage {
        let why = format!("damage: offsets {}..{} ({})", hole.from, hole.to, hole.fault);
        let bytes = hole.end_position - hole.position;
        save_aside(storage, &*view, file, hole.position, bytes, &why)?;
    }
    write_seal(last, &scan.summary).map_err(io())?;
    last.set_end(scan.summary.end);
    Ok(())
}

fn resume_at(segments: &[Segment], recovered: &Recovered, mark: &Mark) -> Resume {
    let end_offset = recovered.end.map_or(0, |end| end.offset);
    // a number that a sink may have seen is not used again for another event
    let seen_tail = if planted(Defect::OffsetReused) { 0 } else { mark.seen_tail };
    let next_offset = end_offset.max(recovered.evident.tail).max(seen_tail).max(mark.released);
    let last = segments.last();
    let next_base_lsn = last.map_or(0, |s| s.header.base_lsn + s.header.segment_bytes);
    Resume {
        previous: last.zip(recovered.end).map(|(segment, end)| (segment.id(), end)),
        // nor is an address: what proves that the lost bytes were durable must not prove it of others
        next_base_lsn: next_base_lsn.max(round_up(recovered.evident.lsn, GROUP_ALIGN)),
        next_offset,
        gap: next_offset > end_offset,
    }
}

fn report_of(
    segments: &[Segment],
    recovered: &Recovered,
    resume: &Resume,
    found: &JournalFound,
    epoch: u64,
    created: bool,
) -> OpenReport {
    let end_offset = recovered.end.map_or(0, |end| end.offset);
    OpenReport {
        epoch,
        created,
        segments: segments.len(),
        first: Offset(segments.first().map_or(resume.next_offset, |s| s.header.base_offset)),
        tail: Offset(resume.next_offset),
        cut: recovered.unsealed.as_ref().and_then(|scan| scan.cut.clone()),
        damage: recovered.damage.clone(),
        gap: resume.next_offset - end_offset.min(resume.next_offset),
        bad_cursor_records: found.bad_records,
    }
}

#[allow(clippy::too_many_arguments)] // each once, in one place
fn make_writer(
    storage: Arc<dyn Storage>,
    options: LogOptions,
    log_uuid: [u8; 16],
    epoch: u64,
    segments: Vec<Segment>,
    spares: Vec<SpareFile>,
    resume: Resume,
    mark: Mark,
) -> Result<Writer, LogError> {
    let io = || LogError::io(format!("write {STATE_FILE}"));
    let state_file = open_or_create(&*storage, STATE_FILE, STATE_LEN).map_err(io())?;
    let mut next_id = segments.last().map_or(1, |segment| segment.id() + 1);
    let mut usable = VecDeque::new();
    for (id, len, file) in spares {
        // spares must follow the last segment without a gap, have the right length, and hold nothing
        let name = segment_name(id);
        let spent = || may_come_back(&*file, id, len).map(|comes_back| !comes_back);
        let fits = id == next_id && len == options.segment_bytes;
        if fits && spent().map_err(LogError::io(format!("read {name}")))? {
            next_id += 1;
            usable.push_back(Spare { id, file });
        } else {
            drop(file);
            storage.remove(&name).map_err(LogError::io(format!("remove {name}")))?;
        }
    }
    let synced = unless(Defect::SkipDirSyncFound, || storage.sync_dir(SEGMENT_DIR));
    synced.map_err(LogError::io("sync the segment directory"))?;
    let maker = Maker::new(storage, &options, usable, next_id);
    let boot_id = maker.boot_id();
    let segments = segments.into_iter().map(Arc::new).collect();
    let released = mark.released;
    let parts = WriterParts {
        options,
        log_uuid,
        epoch,
        boot_id,
        maker,
        released,
        segments,
        state_file,
        resume,
    };
    Ok(Writer::new(parts))
}
