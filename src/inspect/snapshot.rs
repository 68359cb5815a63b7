//! What a log is at one moment, by its files.

use super::dir::{InspectError, LogDir};
use super::view::ReadView;
use crate::cursor::GroupState;
use crate::log::{
    Evidence, JournalFound, LogError, Meta, Segment, SegmentEnd, State, TailScan, evidence_of,
    list_segments, newest_header, read_journal, read_meta, read_state, scan_tail,
};
use crate::offset::Offset;

/// The process that owns, or owned, a log.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Owner {
    /// Its number.
    pub pid: u32,
    /// Whether it still has the log.
    pub alive: bool,
}

/// A log at one moment.
pub struct Snapshot {
    /// Its identity; `None` if only the segments say it.
    pub meta: Option<Meta>,
    /// Its uuid.
    pub log_uuid: [u8; 16],
    /// Where its owner said it was.
    pub state: Option<State>,
    /// Who wrote `state`.
    pub owner: Option<Owner>,
    /// Whether `state` is of this boot of the machine.
    pub same_boot: bool,
    /// The newest cursors' record.
    pub journal: JournalFound,
    /// How far the log is known to have been durable.
    pub evidence: Evidence,
    /// Files that wait for use: id and bytes.
    pub spares: Vec<(u64, u64)>,
    /// Segments with batches, rising.
    pub segments: Vec<Segment>,
    /// Where each of them ends, for one who reads now.
    pub ends: Vec<SegmentEnd>,
    /// The scan of the last segment, if it is not sealed and nobody writes to it.
    pub scan: Option<TailScan>,
}

impl Snapshot {
    /// Takes one. Reads as much as recovery would: headers, trailers, and the last segment if
    /// nobody owns the log and it has none.
    ///
    /// # Errors
    /// A file can't be read, or is of a version that this build does not know.
    pub fn take(dir: &LogDir) -> Result<Snapshot, InspectError> {
        let storage = dir.storage();
        let meta = read_meta(storage)?;
        let log_uuid = match (meta, newest_header(storage)?) {
            (Some(meta), _) => meta.log_uuid,
            (None, Some(header)) => header.log_uuid,
            (None, None) => return Err(InspectError::NoIdentity(storage.describe())),
        };
        // cursors before STATE, STATE before the list: no cursor is then beyond the tail, and every
        // segment that STATE speaks of is in the list, or reclaimed
        let journal = read_journal(storage, &log_uuid)?;
        let state = read_state(storage);
        let owner = state.map(|state| owner_of(dir, &state));
        let same_boot = state.is_some_and(|state| storage.boot_id() == Some(state.boot_id));
        let listing = list_segments(storage, &log_uuid, false)?;
        let mark = journal.newest.as_ref().map(|record| record.mark).unwrap_or_default();
        let evidence = evidence_of(storage, state.as_ref(), &mark);
        let spares = listing.spares.iter().map(|(id, len, _)| (*id, *len)).collect();
        let mut taken = Snapshot {
            meta,
            log_uuid,
            state,
            owner,
            same_boot,
            journal,
            evidence,
            spares,
            segments: listing.segments,
            ends: Vec::new(),
            scan: None,
        };
        taken.find_ends()?;
        Ok(taken)
    }

    /// Only where the owner says it is: cheap, to see whether a new snapshot is worth taking.
    pub fn state_of(dir: &LogDir) -> Option<State> {
        read_state(dir.storage())
    }

    /// Where the segments end: by trailer, by successor, by STATE, or by a scan of the last.
    fn find_ends(&mut self) -> Result<(), LogError> {
        for (i, segment) in self.segments.iter().enumerate() {
            let end = match (segment.end(), self.segments.get(i + 1)) {
                (Some(end), _) => end,
                (None, Some(next)) => SegmentEnd {
                    lsn: next.header.prev_end_lsn,
                    offset: next.header.prev_end_offset,
                    chain: next.header.prev_chain_crc,
                    first_time_ms: segment.header.activated_ns / 1_000_000,
                    last_time_ms: next.header.activated_ns / 1_000_000,
                },
                (None, None) => match self.live() {
                    Some(state) => written_end(segment, state),
                    None => {
                        let io = || LogError::io(format!("read {}", segment.name()));
                        let view = ReadView::new(&segment.file).map_err(io())?;
                        let scan = scan_tail(segment, &view, self.evidence);
                        if let Some(error) = view.error() {
                            let error = std::io::Error::new(error.kind(), error.to_string());
                            return Err(io()(error));
                        }
                        let end = scan.summary.end;
                        self.scan = Some(scan);
                        end
                    }
                },
            };
            self.ends.push(end);
        }
        Ok(())
    }

    /// STATE, if its writer still owns the log.
    pub fn live(&self) -> Option<&State> {
        self.state.as_ref().filter(|_| self.owner.is_some_and(|owner| owner.alive))
    }

    /// The next offset to be written.
    pub fn tail(&self) -> Offset {
        let end = self.ends.last().map_or(0, |end| end.offset);
        let mark = self.journal.newest.as_ref().map(|r| r.mark).unwrap_or_default();
        let seen = mark.seen_tail.max(mark.released).max(mark.durable_tail);
        let told = self.live().map_or(self.evidence.tail, |state| state.tail);
        Offset(end.max(seen).max(told))
    }

    /// The next offset that is not known to be synced; of a dead log the tail, because opening it
    /// syncs what it finds.
    pub fn durable_tail(&self) -> Offset {
        let mark = self.journal.newest.as_ref().map(|r| r.mark).unwrap_or_default();
        let durable = |state: &State| Offset(state.durable_tail.max(mark.durable_tail));
        self.live().map_or(self.tail(), durable)
    }

    /// The first offset that is kept.
    pub fn first(&self) -> Offset {
        let first = self.segments.first().map(|segment| Offset(segment.header.base_offset));
        first.unwrap_or(self.tail())
    }

    /// Bytes of a new segment; `None` if nothing says so.
    pub fn segment_bytes(&self) -> Option<u64> {
        let newest = self.segments.last().map(|segment| segment.header.segment_bytes);
        self.meta.map(|meta| meta.segment_bytes).or(newest)
    }

    /// The first offset from which on no segment is missing: what lies before a gap goes when the
    /// log is opened next.
    pub fn kept_from(&self) -> Offset {
        let gap = |two: &[Segment]| two[1].id() != two[0].id() + 1;
        let first = self.segments.windows(2).rposition(gap).map_or(0, |at| at + 1);
        let first = self.segments.get(first).map(|segment| Offset(segment.header.base_offset));
        first.unwrap_or(self.tail())
    }

    /// The consumers' state, by the newest good record; nothing if there never was one.
    ///
    /// # Errors
    /// The record's bytes are no cursors of this version.
    pub fn groups(&self, dir: &LogDir) -> Result<Vec<GroupState>, InspectError> {
        let Some(record) = &self.journal.newest else { return Ok(Vec::new()) };
        crate::channel::cursors::decode(&record.payload)
            .map_err(|error| InspectError::Cursors { dir: dir.path().display().to_string(), error })
    }

    /// The lowest offset that some group is not done with.
    pub fn watermark(&self, groups: &[GroupState]) -> Offset {
        let lowest = groups.iter().map(|group| group.watermark).min();
        let released = self.journal.newest.as_ref().map(|record| Offset(record.mark.released));
        lowest.or(released).unwrap_or(self.first())
    }
}

/// Where a segment ends that its owner is writing to: what STATE says is written; of a poisoned
/// log, what is synced.
fn written_end(segment: &Segment, state: &State) -> SegmentEnd {
    let (lsn, offset) = match state.poisoned {
        true => (state.durable_lsn, state.durable_tail),
        false => (state.written_lsn, state.tail),
    };
    let begun = lsn > segment.header.base_lsn;
    SegmentEnd {
        lsn: lsn.max(segment.header.base_lsn),
        offset: if begun { offset } else { segment.header.base_offset },
        chain: 0,
        first_time_ms: 0,
        last_time_ms: 0,
    }
}

/// Whether the writer of `state` still has the log: the same boot, not closed, and a process of
/// that number that holds the lock file open.
fn owner_of(dir: &LogDir, state: &State) -> Owner {
    let gone = state.clean || dir.storage().boot_id() != Some(state.boot_id);
    Owner { pid: state.pid, alive: !gone && holds_lock(dir, state.pid) }
}

fn holds_lock(dir: &LogDir, pid: u32) -> bool {
    let Ok(lock) = dir.path().join("LOCK").canonicalize() else { return false };
    match std::fs::read_dir(format!("/proc/{pid}/fd")) {
        Ok(fds) => fds.flatten().any(|fd| fd.path().read_link().is_ok_and(|to| to == lock)),
        // another user's process: that it lives is all that can be seen
        Err(error) => error.kind() == std::io::ErrorKind::PermissionDenied,
    }
}
