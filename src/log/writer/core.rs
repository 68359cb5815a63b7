//! The writer's own state: the active segment, and where the next batch goes.

use super::Tails;
use super::gather::Returns;
use crate::log::defect::{Defect, planted};
use crate::log::format::{BATCH_HEADER_LEN, BatchHeader, BatchKind, GROUP_ALIGN, round_up};
use crate::log::segment::{Segment, SegmentEnd, Summing};
use crate::log::sync::Arc;
use std::task::Waker;

pub(super) struct Active {
    pub(super) segment: Arc<Segment>,
    pub(super) position: u64,
    pub(super) sum: Summing,
}

/// The writer's own state.
pub(in crate::log) struct Core {
    pub(super) active: Option<Active>,
    /// The segment before the active one, or the last one, and its end.
    pub(super) previous: Option<(u64, SegmentEnd)>,
    /// Where the next segment starts.
    pub(super) next_base_lsn: u64,
    pub(super) next_offset: u64,
    pub(super) gap: bool,
    pub(super) chain: u32,
    pub(super) tails: Tails,
    /// The durable tail that the newest header on disk speaks of.
    pub(super) evident_lsn: u64,
    pub(super) last_time_ns: u64,
    pub(super) returns: Returns,
    /// The last group, until those who wait for it are woken. Nobody lets the core go before.
    pub(super) untold: Option<Untold>,
}

/// A group whose puts have their results.
pub(super) struct Untold {
    pub(super) puts: usize,
    /// Of the threads that wait.
    pub(super) crowd: u64,
    /// Of the tasks that wait.
    pub(super) wakers: Vec<Waker>,
}

impl Core {
    /// The header of a batch at the active segment's position.
    pub(super) fn place(
        &self,
        kind: BatchKind,
        payload_len: u32,
        payload_crc: u32,
        count: u32,
    ) -> BatchHeader {
        let active = self.active.as_ref().expect("a batch has a segment");
        let mut header = BatchHeader {
            kind,
            payload_len,
            payload_crc,
            lsn: active.segment.header.base_lsn + active.position,
            base_offset: self.next_offset,
            count,
            prev_crc: self.chain,
            durable_lsn: self.tails.durable_lsn,
            time_ns: self.last_time_ns,
            flags: 0,
            schema: 1,
            orig_len: payload_len,
        };
        if planted(Defect::TailAheadInHeader) {
            header.durable_lsn = header.end_lsn();
        }
        if planted(Defect::TailNotInHeader) {
            header.durable_lsn = 0;
        }
        header
    }

    /// Writes a placed header into its buffer, and moves on behind the batch.
    pub(super) fn put_header(&mut self, header: &BatchHeader, buffer: &mut [u8]) {
        let active = self.active.as_mut().expect("a batch has a segment");
        self.chain = header.encode(active.segment.seed, buffer);
        active.sum.add(header, self.chain);
        if header.kind == BatchKind::Data {
            active.segment.note(header);
        }
        active.position += header.stored_len();
        self.next_offset += u64::from(header.count);
        self.evident_lsn = header.durable_lsn;
    }

    /// A pad up to the block border, if there is a gap: its header, and how many zeros follow.
    pub(super) fn pad(&mut self) -> Option<([u8; BATCH_HEADER_LEN as usize], usize)> {
        let position = self.active.as_ref()?.position;
        let gap = round_up(position, GROUP_ALIGN) - position;
        if gap == 0 || planted(Defect::NoPadding) {
            return None;
        }
        let zeros = gap - BATCH_HEADER_LEN;
        let header = self.place(BatchKind::Pad, zeros as u32, 0, 0);
        let mut head = [0; BATCH_HEADER_LEN as usize];
        self.put_header(&header, &mut head);
        Some((head, zeros as usize))
    }
}
