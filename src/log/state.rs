//! STATE: where the owner of a log is, and what that proves to who opens it next.

use super::format::{GROUP_ALIGN, STATE_LEN, SegmentHeader, State};
use super::journal::Mark;
use super::recovery::{Evidence, UNKNOWN_REACH};
use super::segment::Segment;
use super::storage::Storage;
use super::sync::thread;
use super::writer::GROUP_BYTES_MAX;

/// The file's name.
pub(super) const STATE_FILE: &str = "STATE";

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

/// From which position of the last segment on no batch begins, as STATE says: a group is written
/// only when STATE speaks of the one before it, or names another segment.
pub(super) fn reach_of(storage: &dyn Storage, state: Option<&State>, last: &Segment) -> u64 {
    let SegmentHeader { epoch, base_lsn, .. } = last.header;
    let speaks = |state: &&State| {
        let same_boot = storage.boot_id() == Some(state.boot_id);
        same_boot && (state.epoch, state.segment_id) == (epoch, last.id())
    };
    state.filter(speaks).map_or(UNKNOWN_REACH, |state| {
        let written = state.written_lsn.saturating_sub(base_lsn);
        written + GROUP_BYTES_MAX as u64 + GROUP_ALIGN
    })
}
