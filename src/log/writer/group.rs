//! One group: taken from the queue, placed, written, synced, told; and what rolls a segment.

use super::core::{Active, Core, Untold};
use super::{GROUP_BATCHES_MAX, GROUP_BYTES_MAX, Pending, Writer, ZEROS};
use crate::log::batch::SealedBatch;
use crate::log::defect::{Defect, planted, unless};
use crate::log::error::LogError;
use crate::log::format::{
    BATCH_HEADER_LEN, BatchKind, GROUP_ALIGN, INCOMPAT_GAP, SEGMENT_HEADER_LEN, SegmentHeader,
    payload_crc, usable_end,
};
use crate::log::options::Durability;
use crate::log::segment::{Segment, SegmentEnd, Summing, write_header, write_seal};
use crate::log::storage::StorageFile;
use crate::log::sync::{Arc, Instant};
use crate::offset::Offset;
use std::io::{self, IoSlice};
use std::task::Waker;

/// So many bytes of a big group, and what is left of a batch, are handed to the disk while the next
/// are copied.
const PART_BYTES: usize = 512 << 10;

/// Writes what is to be synced next, part by part.
fn write_parts(file: &dyn StorageFile, start: u64, slices: &[IoSlice<'_>]) -> io::Result<()> {
    let (mut at, mut left) = (start, slices);
    loop {
        let mut bytes = 0;
        let is_last = |slice: &IoSlice<'_>| {
            bytes += slice.len();
            bytes >= PART_BYTES
        };
        let end = left.iter().position(is_last).map_or(left.len(), |last| last + 1);
        let (part, rest) = left.split_at(end);
        file.write_at(at, part)?;
        if rest.is_empty() {
            return Ok(());
        }
        file.begin_sync(at, bytes as u64);
        (at, left) = (at + bytes as u64, rest);
    }
}

impl Writer {
    /// Writes groups of what is queued until nothing is, or `more` says no.
    pub(super) fn commit(&self, core: &mut Core, more: impl Fn() -> bool) {
        while self.commit_group(core) && more() {}
        self.tell(core);
    }

    /// Writes one group of what is queued; false if nothing was.
    fn commit_group(&self, core: &mut Core) -> bool {
        let next = || self.lock_queue().pending.front().map(|p| p.batch.buffer.len() as u64);
        let next = next().or_else(|| {
            self.tell(core);
            next() // of those who were told
        });
        let Some(next) = next else { return false };
        if let Err(error) = self.usable().and_then(|()| self.make_room(core, next)) {
            self.refuse_all(error);
            return true;
        }
        self.gather(core);
        let (mut group, crowd) = self.take_group(core);
        match self.write_group(core, &mut group) {
            Ok(()) => self.complete(core, group, crowd),
            Err(error) => {
                group.into_iter().for_each(|pending| self.refuse(pending, error.clone()));
                self.refuse_all(error);
            }
        }
        true
    }

    /// Sees to an active segment with room for a batch of `len` bytes.
    fn make_room(&self, core: &mut Core, len: u64) -> Result<(), LogError> {
        let end = usable_end(self.options.segment_bytes);
        if core.active.as_ref().is_some_and(|active| active.position + len <= end) {
            return Ok(());
        }
        self.tell(core); // a segment may take its time
        // the new segment first: without one, the old one goes on taking batches that fit
        let spare = self.take_spare()?;
        self.seal_active(core)?;
        let (prev_segment_id, prev) = match core.previous {
            Some((id, end)) => (id, end),
            None => {
                (0, SegmentEnd { lsn: 0, offset: 0, chain: 0, first_time_ms: 0, last_time_ms: 0 })
            }
        };
        let header = SegmentHeader {
            log_uuid: self.log_uuid,
            segment_id: spare.id,
            base_lsn: core.next_base_lsn,
            base_offset: core.next_offset,
            segment_bytes: self.options.segment_bytes,
            epoch: self.epoch,
            salt: self.maker.storage().random(),
            prev_segment_id,
            prev_end_lsn: prev.lsn,
            prev_end_offset: prev.offset,
            prev_chain_crc: core.chain,
            incompat: if core.gap { INCOMPAT_GAP } else { 0 },
            activated_ns: self.now_ns(),
        };
        let written = write_header(&*spare.file, &header);
        self.check(|| format!("write the header of segment {:016x}", spare.id), written)?;
        let segment = Arc::new(Segment::new(header, spare.file));
        let sum = Summing::new(&header);
        self.segments.write().expect("no holder panics").push_back(Arc::clone(&segment));
        core.gap = false;
        core.next_base_lsn = header.base_lsn + header.segment_bytes;
        core.active = Some(Active { segment, position: SEGMENT_HEADER_LEN, sum });
        Ok(())
    }

    /// Takes from the queue what fits into one group and into the active segment.
    fn take_group(&self, core: &Core) -> (Vec<Pending>, u64) {
        let position = core.active.as_ref().expect("made room for it").position;
        let room = (usable_end(self.options.segment_bytes) - position) as usize;
        let mut queue = self.lock_queue();
        let mut group = Vec::with_capacity(queue.pending.len().min(GROUP_BATCHES_MAX));
        let mut bytes = 0;
        while let Some(next) = queue.pending.front().map(|p| p.batch.buffer.len()) {
            let full = bytes + next > room
                || (bytes > 0 && bytes + next > GROUP_BYTES_MAX)
                || group.len() == GROUP_BATCHES_MAX;
            if full {
                break;
            }
            bytes += next;
            let pending = &mut queue.pending;
            group.extend(match planted(Defect::QueueSwapped) {
                false => pending.pop_front(),
                true => pending.pop_back(),
            });
        }
        assert!(!group.is_empty(), "the first one fits: room was made for it");
        let crowd = queue.crowd;
        if queue.pending.is_empty() {
            queue.crowd += 1; // who comes now is not of this group
        }
        (group, crowd)
    }

    /// Places, writes and, at `always`, syncs a group.
    fn write_group(&self, core: &mut Core, group: &mut [Pending]) -> Result<(), LogError> {
        let time_ns = self.now_ns().max(core.last_time_ns);
        core.last_time_ns = time_ns;
        let start = core.active.as_ref().expect("made room for it").position;
        for pending in group.iter_mut() {
            let SealedBatch { payload_len, payload_crc, count, .. } = pending.batch;
            let header = core.place(BatchKind::Data, payload_len, payload_crc, count);
            core.put_header(&header, &mut pending.batch.buffer);
        }
        let always = self.options.durability == Durability::Always;
        let pad = if always { core.pad() } else { None };
        let mut slices: Vec<_> =
            group.iter().map(|pending| IoSlice::new(&pending.batch.buffer)).collect();
        slices.truncate(if planted(Defect::PartOfGroupWritten) { 1 } else { slices.len() });
        if let Some((head, zeros)) = &pad {
            slices.extend([IoSlice::new(head), IoSlice::new(&ZEROS[..*zeros])]);
        }
        let active = core.active.as_ref().expect("made room for it");
        let (segment, end) = (Arc::clone(&active.segment), active.position);
        let file = &*segment.file;
        let written =
            if always { write_parts(file, start, &slices) } else { file.write_at(start, &slices) };
        if core.untold.is_some() {
            file.begin_sync(start, end - start);
            self.tell(core);
        }
        self.check(|| format!("write {} at byte {start}", segment.name()), written)?;
        core.tails.written_lsn = segment.header.base_lsn + end;
        core.tails.tail = Offset(core.next_offset);
        self.count(group, end - start);
        if always && !planted(Defect::AckBeforeSync) {
            self.sync_active(core)?;
        }
        Ok(())
    }

    fn count(&self, group: &[Pending], bytes: u64) {
        let mut counts = self.counts.lock().expect("no holder panics");
        counts.groups += 1;
        counts.batches += group.len() as u64;
        counts.events += group.iter().map(|p| u64::from(p.batch.count)).sum::<u64>();
        counts.bytes += bytes;
    }

    /// Publishes what has been written, and gives each put its result.
    fn complete(&self, core: &mut Core, group: Vec<Pending>, crowd: u64) {
        let reserved: u64 = group.iter().map(|p| p.batch.buffer.len() as u64).sum();
        let position = core.active.as_ref().map_or(0, |active| active.position);
        self.room.written(reserved, position);
        self.publish(&core.tails);
        self.write_state(&core.tails, false);
        let events: u64 = group.iter().map(|p| u64::from(p.batch.count)).sum();
        let mut first = Offset(core.next_offset - events);
        let puts = group.len();
        let mut wakers = Vec::with_capacity(puts);
        for pending in group {
            let end = first.plus(pending.batch.count.into());
            wakers.extend(pending.ticket.fill(Ok(first..end)));
            first = end;
        }
        debug_assert!(core.untold.is_none(), "the group before was told when this one was written");
        core.untold = Some(Untold { puts, crowd, wakers });
    }

    /// Wakes those who wait for the last group, and those who look on.
    pub(super) fn tell(&self, core: &mut Core) {
        let Some(Untold { puts, crowd, wakers }) = core.untold.take() else { return };
        core.returns.woken(puts, self.lock_queue().pending.len());
        self.crowds.wake(crowd);
        wakers.into_iter().for_each(Waker::wake);
        self.notify();
    }

    /// Pads to the block border if it must, and syncs the active segment.
    pub(super) fn sync_active(&self, core: &mut Core) -> Result<(), LogError> {
        let Some(active) = &core.active else { return Ok(()) };
        let start = active.position;
        if let Some((head, zeros)) = core.pad() {
            let active = core.active.as_ref().expect("it is there");
            let slices = [IoSlice::new(&head), IoSlice::new(&ZEROS[..zeros])];
            let written = active.segment.file.write_at(start, &slices);
            self.check(|| format!("write {} at byte {start}", active.segment.name()), written)?;
            core.tails.written_lsn = active.segment.header.base_lsn + active.position;
        }
        let active = core.active.as_ref().expect("it is there");
        if planted(Defect::TailBeforeSync) {
            core.tails.durable_lsn = core.tails.written_lsn;
            self.publish(&core.tails);
        }
        let began = Instant::now();
        let mut synced = unless(Defect::SkipSync, || active.segment.file.sync());
        core.returns.synced(began.elapsed());
        if planted(Defect::RetrySync) {
            synced = synced.or_else(|_| active.segment.file.sync());
        }
        self.check(|| format!("sync {}", active.segment.name()), synced)?;
        self.counts.lock().expect("no holder panics").syncs += 1;
        core.tails.durable_lsn = core.tails.written_lsn;
        core.tails.durable_tail = core.tails.tail;
        self.publish(&core.tails);
        Ok(())
    }

    /// Makes the active segment durable, then seals it: a valid trailer proves durability.
    pub(super) fn seal_active(&self, core: &mut Core) -> Result<(), LogError> {
        let behind = core.tails.durable_lsn < core.tails.written_lsn;
        if behind && !planted(Defect::TrailerBeforeSync) {
            self.sync_active(core)?;
        }
        let Some(active) = core.active.take() else { return Ok(()) };
        let summary = active.sum.finish();
        let sealed = write_seal(&active.segment, &summary);
        self.check(|| format!("seal {}", active.segment.name()), sealed)?;
        active.segment.set_end(summary.end);
        core.previous = Some((active.segment.id(), summary.end));
        self.room.sealed(|done| self.sealed(done));
        Ok(())
    }

    /// After an idle time: writes how far the log is durable, if no header on disk says so yet.
    pub(super) fn mark_durable(&self) {
        let Ok(mut core) = self.core.try_lock() else { return };
        let core = &mut *core;
        if self.options.durability != Durability::Always
            || core.evident_lsn >= core.tails.durable_lsn
            || self.poison.get().is_some()
        {
            return;
        }
        let Some(active) = &core.active else { return };
        let start = active.position;
        if start + GROUP_ALIGN > usable_end(self.options.segment_bytes) {
            return;
        }
        let header = core.place(BatchKind::Watermark, 0, payload_crc(&[]), 0);
        let mut head = [0; BATCH_HEADER_LEN as usize];
        core.put_header(&header, &mut head);
        let written = {
            let active = core.active.as_ref().expect("it is there");
            active.segment.file.write_at(start, &[IoSlice::new(&head)])
        };
        if self.check(|| "write a watermark".to_owned(), written).is_ok() {
            let active = core.active.as_ref().expect("it is there");
            core.tails.written_lsn = active.segment.header.base_lsn + active.position;
            if self.sync_active(core).is_ok() {
                core.evident_lsn = core.tails.durable_lsn; // of itself nothing more needs saying
                self.write_state(&core.tails, false);
            }
        }
    }
}
