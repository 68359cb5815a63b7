//! Whether the segments of a log follow each other, and what is missing before, between or behind
//! them. Pure: headers and ends in, verdicts out.

use super::error::FormatError;
use super::format::usable_end;
use super::journal::Mark;
use super::recovery::{Damage, Evidence};
use super::scan::{FaultKind, Hole};
use super::segment::{Segment, SegmentEnd, segment_name};

/// The segments of a log, in order.
pub struct Sequence {
    /// Those that count, each but the last with its end.
    pub segments: Vec<Segment>,
    /// What an interrupted reclaim left: every group is done with it.
    pub left_over: Vec<Segment>,
    /// Ids of segments that are not there between others, and the offsets that went with them.
    pub missing: Vec<(u64, Damage)>,
}

/// Puts segments in order. Ids must follow each other; what lies before a gap may be left over from
/// an interrupted reclaim, if every group is done with it.
pub fn check_sequence(mut segments: Vec<Segment>, mark: &Mark) -> Sequence {
    let gap = |two: &[Segment]| two[1].id() != two[0].id() + 1;
    let mut left_over = Vec::new();
    while let Some(at) = segments.windows(2).position(gap) {
        if mark.released < segments[at + 1].header.base_offset {
            break;
        }
        left_over.extend(segments.drain(..=at));
    }
    set_ends(&segments);
    let gaps = segments.windows(2).filter(|two| gap(two));
    let missing = gaps.map(|two| {
        let (id, to) = (two[0].id() + 1, two[1].header.base_offset);
        let from = two[0].end().map_or(0, |end| end.offset);
        (id, no_file(id, from, to))
    });
    let missing = missing.collect();
    Sequence { segments, left_over, missing }
}

/// A segment before the last without a trailer ends where its successor says.
fn set_ends(segments: &[Segment]) {
    for two in segments.windows(2) {
        let (segment, next) = (&two[0], &two[1].header);
        if segment.end().is_some() {
            continue;
        }
        // if that can't be, all of it is walked, and what is no batch is a hole
        let mut end = (next.prev_end_lsn, next.prev_end_offset);
        if !segment.can_end(end.0, end.1) {
            let header = &segment.header;
            let usable = usable_end(header.segment_bytes);
            end = (header.base_lsn + usable, next.base_offset.max(header.base_offset));
        }
        segment.set_end(SegmentEnd {
            lsn: end.0,
            offset: end.1,
            chain: next.prev_chain_crc,
            first_time_ms: segment.header.activated_ns / 1_000_000,
            last_time_ms: next.activated_ns / 1_000_000,
        });
    }
}

/// The first segment names one before it that was not reclaimed: it held offsets that somebody needs.
pub fn lost_start(segments: &[Segment], mark: &Mark) -> Option<Damage> {
    let first = &segments.first()?.header;
    let lost = first.prev_segment_id != 0 && first.prev_end_offset > mark.released;
    lost.then(|| no_file(first.segment_id - 1, mark.released, first.prev_end_offset))
}

/// The log is known to have been longer than what is left of it; `end` is lsn and offset.
pub fn lost_end(last: Option<&Segment>, end: (u64, u64), evidence: Evidence) -> Option<Damage> {
    let id = last.map_or(1, |segment| segment.id() + 1);
    let lost = evidence.lsn > end.0 && evidence.tail > end.1;
    lost.then(|| no_file(id, end.1, evidence.tail))
}

fn no_file(id: u64, from: u64, to: u64) -> Damage {
    let fault = FaultKind::Segment(FormatError::NotThere);
    let hole = Hole { position: 0, end_position: 0, from, to: to.max(from), fault };
    Damage { file: segment_name(id), hole }
}
