//! What `walctl ls`, `stat` and `cursors` say, as values that serialize to their JSON.

use super::dead::DeadLetters;
use super::dir::{InspectError, LogDir};
use super::events::headers;
use super::snapshot::Snapshot;
use super::view::ReadView;
use crate::cursor::{GroupState, TriedRange};
use crate::dispatch::Conservation;
use crate::log::{FORMAT_MAJOR, FORMAT_MINOR, LogError, Segment, SegmentEnd, is_data};
use crate::offset::OffsetRange;
use serde::Serialize;

/// One segment.
#[derive(Clone, PartialEq, Eq, Serialize, Debug)]
pub struct SegmentRow {
    /// Its file, below the log's directory.
    pub file: String,
    /// `active` or `sealed`.
    pub state: &'static str,
    /// Offset of its first event.
    pub base_offset: u64,
    /// Offset behind its last event.
    pub end_offset: u64,
    /// Events in it.
    pub events: u64,
    /// Bytes of the file.
    pub bytes: u64,
    /// Bytes of it that are used.
    pub used_bytes: u64,
    /// Append time of the first event, ms since 1970; 0 if there is none.
    pub first_time_ms: u64,
    /// Append time of the last event, ms since 1970; 0 if there is none.
    pub last_time_ms: u64,
    /// The owner's generation that wrote it.
    pub epoch: u64,
}

/// The segments, rising.
///
/// # Errors
/// One can't be read.
pub fn segments(log: &Snapshot) -> Result<Vec<SegmentRow>, InspectError> {
    let rows = log.segments.iter().zip(&log.ends).map(|(segment, end)| row(log, segment, end));
    rows.collect()
}

fn row(log: &Snapshot, segment: &Segment, end: &SegmentEnd) -> Result<SegmentRow, InspectError> {
    let header = &segment.header;
    let sealed = segment.end().is_some();
    let mut row = SegmentRow {
        file: segment.name(),
        state: if sealed { "sealed" } else { "active" },
        base_offset: header.base_offset,
        end_offset: end.offset,
        events: end.offset.saturating_sub(header.base_offset),
        bytes: header.segment_bytes,
        used_bytes: end.lsn.saturating_sub(header.base_lsn),
        first_time_ms: end.first_time_ms,
        last_time_ms: end.last_time_ms,
        epoch: header.epoch,
    };
    let last = log.segments.last().is_some_and(|last| last.id() == segment.id());
    if sealed {
        if let Ok(seal) = segment.read_seal() {
            row.events = seal.events;
        }
    } else if let Some(scan) = log.scan.as_ref().filter(|_| last) {
        row.events = scan.summary.seal.events;
    } else if last {
        let io = || LogError::io(format!("read {}", segment.name()));
        let view = ReadView::new(&segment.file).map_err(io())?;
        headers(&segment.batches(&view, end.lsn), segment.start().position, |batch| {
            if is_data(batch) {
                row.last_time_ms = batch.header.time_ns / 1_000_000;
                if row.first_time_ms == 0 {
                    row.first_time_ms = row.last_time_ms;
                }
            }
        });
    }
    Ok(row)
}

/// The state of a log in numbers.
#[derive(Clone, PartialEq, Eq, Serialize, Debug)]
pub struct Stat {
    /// The log's identity.
    pub log_uuid: String,
    /// `MAJOR.MINOR` of the bytes on disk that this build reads and writes.
    pub format_version: String,
    /// Writable opens so far.
    pub epoch: u64,
    /// When it was made, ms since 1970.
    pub created_ms: Option<u64>,
    /// The process that owns it, or owned it last.
    pub owner: Option<OwnerRow>,
    /// Whether the owner closed it in order.
    pub clean: bool,
    /// Whether a write or a sync failed.
    pub poisoned: bool,
    /// The first offset that is kept.
    pub first_offset: u64,
    /// The next offset to be written.
    pub tail: u64,
    /// The next offset not yet synced.
    pub durable_tail: u64,
    /// The lowest offset that some group is not done with.
    pub watermark: u64,
    /// Offsets from the watermark to the tail.
    pub backlog: u64,
    /// Dead letters that are neither re-driven nor purged.
    pub dead_letters: u64,
    /// Bytes of every file of the log.
    pub bytes_on_disk: u64,
    /// Segments with batches.
    pub segments: usize,
    /// Segment files that wait for use.
    pub spares: usize,
    /// Bytes of a new segment.
    pub segment_bytes: Option<u64>,
    /// Notes of what recovery cut or passed over.
    pub quarantined: usize,
    /// Cursor records that are torn or damaged.
    pub bad_cursor_records: usize,
    /// When the newest cursors were saved, ms since 1970.
    pub cursors_time_ms: Option<u64>,
    /// What the consumers have done.
    pub groups: Vec<GroupRow>,
}

/// A log's owner.
#[derive(Clone, PartialEq, Eq, Serialize, Debug)]
pub struct OwnerRow {
    /// Its process.
    pub pid: u32,
    /// Whether it still has the log.
    pub alive: bool,
}

/// A consumer group.
#[derive(Clone, PartialEq, Eq, Serialize, Debug)]
pub struct GroupRow {
    /// Its name.
    pub group: String,
    /// Every offset below is done.
    pub watermark: u64,
    /// Offsets that were given away since the group began: what follows, added up.
    pub appended: u64,
    /// Events that its sinks delivered.
    pub delivered: u64,
    /// Events that were set aside as dead letters.
    pub dead: u64,
    /// Events that were given up, or that the log could not give.
    pub lost: u64,
    /// Events that were too old.
    pub expired: u64,
    /// Events to be delivered.
    pub backlog: u64,
    /// As `lost`, by its older name.
    pub lost_events: u64,
    /// Its sinks.
    pub sinks: Vec<SinkRow>,
}

/// What a sink has done since its cursor was created.
#[derive(Clone, PartialEq, Eq, Serialize, Debug)]
pub struct SinkRow {
    /// Its name.
    pub sink: String,
    /// The lowest offset it still owes.
    pub position: u64,
    /// Leases lent to it.
    pub leases: u64,
    /// Events it delivered.
    pub delivered_events: u64,
    /// Events it failed to deliver, each failure counted.
    pub failed_events: u64,
    /// Events lent to it again.
    pub redelivered_events: u64,
}

/// The numbers of a log.
///
/// # Errors
/// A file can't be read, or the cursors are of another version.
pub fn stat(dir: &LogDir, log: &Snapshot) -> Result<Stat, InspectError> {
    let groups = log.groups(dir)?;
    let tail = log.tail();
    let watermark = log.watermark(&groups).min(tail);
    let header_epoch = log.segments.last().map_or(0, |segment| segment.header.epoch);
    let quarantine = dir.storage().list("quarantine").map_err(LogError::io("list quarantine"))?;
    Ok(Stat {
        log_uuid: uuid::Uuid::from_bytes(log.log_uuid).to_string(),
        format_version: format!("{FORMAT_MAJOR}.{FORMAT_MINOR}"),
        epoch: log.meta.map_or(header_epoch, |meta| meta.epoch),
        created_ms: log.meta.map(|meta| meta.created_ms),
        owner: log.owner.map(|owner| OwnerRow { pid: owner.pid, alive: owner.alive }),
        clean: log.state.is_some_and(|state| state.clean),
        poisoned: log.state.is_some_and(|state| state.poisoned),
        first_offset: log.first().0,
        tail: tail.0,
        durable_tail: log.durable_tail().0,
        watermark: watermark.0,
        backlog: tail.since(watermark),
        dead_letters: DeadLetters::of(dir)?.map_or(Ok(0), |dead| dead.count().map(|c| c.dead))?,
        bytes_on_disk: bytes_on_disk(dir)?,
        segments: log.segments.len(),
        spares: log.spares.len(),
        segment_bytes: log.meta.map(|meta| meta.segment_bytes),
        quarantined: quarantine.iter().filter(|(name, _)| name.ends_with(".json")).count(),
        bad_cursor_records: log.journal.bad_records,
        cursors_time_ms: log.journal.newest.as_ref().map(|record| record.time_ms),
        groups: groups.iter().map(|group| group_row(group, tail)).collect(),
    })
}

fn bytes_on_disk(dir: &LogDir) -> Result<u64, LogError> {
    let mut bytes = 0;
    for part in [".", "log", "cursor", "quarantine"] {
        let files = dir.storage().list(part).map_err(LogError::io(format!("list {part}")))?;
        bytes += files.iter().map(|(_, len)| len).sum::<u64>();
    }
    Ok(bytes)
}

fn group_row(group: &GroupState, tail: crate::offset::Offset) -> GroupRow {
    let sinks = group.sinks.iter().map(|sink| SinkRow {
        sink: sink.name.clone(),
        position: sink.position.0,
        leases: sink.counters.leases,
        delivered_events: sink.counters.delivered_events,
        failed_events: sink.counters.failed_events,
        redelivered_events: sink.counters.redelivered_events,
    });
    let counts = Conservation::of(group, tail);
    GroupRow {
        group: group.name.clone(),
        watermark: group.watermark.0,
        appended: counts.appended,
        delivered: counts.delivered,
        dead: counts.dead,
        lost: counts.lost,
        expired: counts.expired,
        backlog: counts.backlog,
        lost_events: group.lost_events,
        sinks: sinks.collect(),
    }
}

/// One sink's cursor. Ranges: from inclusive, to exclusive.
#[derive(Clone, PartialEq, Eq, Serialize, Debug)]
pub struct CursorRow {
    /// The sink's group.
    pub group: String,
    /// The sink.
    pub sink: String,
    /// The lowest offset the sink still owes.
    pub position: u64,
    /// Every offset below is done, by the group.
    pub watermark: u64,
    /// What the group has done above its watermark.
    pub acked_above: Vec<[u64; 2]>,
    /// What the sink has been lent and has not answered for.
    pub leases: Vec<[u64; 2]>,
    /// What this very sink sends again before anything new.
    pub retry: Vec<[u64; 2]>,
    /// What was given back and any sink of the group may take.
    pub waiting: Vec<[u64; 2]>,
}

/// The cursors that were saved last.
///
/// # Errors
/// They are of another version.
pub fn cursors(dir: &LogDir, log: &Snapshot) -> Result<Vec<CursorRow>, InspectError> {
    let range = |range: &OffsetRange| [range.start.0, range.end.0];
    let tried = |ranges: &[TriedRange]| ranges.iter().map(|t| range(&t.range)).collect();
    let groups = log.groups(dir)?;
    let rows = groups.iter().flat_map(|group| {
        group.sinks.iter().map(move |sink| CursorRow {
            group: group.name.clone(),
            sink: sink.name.clone(),
            position: sink.position.0,
            watermark: group.watermark.0,
            acked_above: group.acked.iter().map(range).collect(),
            leases: tried(&sink.leases),
            retry: tried(&sink.retry),
            waiting: tried(&group.waiting),
        })
    });
    Ok(rows.collect())
}
