//! Rot in sealed segments of a log that is open: opening does not look at them, reading does.

use super::harm::{Extent, Harm, How};
use super::image::{HEADER, Image, Piece, What};
use crate::event::Records;
use crate::harness::stop_process;
use crate::log::{Log, MissingReason};
use crate::offset::{Offset, OffsetRange};
use std::sync::Arc;

/// Flips bits of the batch headers in sealed segments, every one in `extent.read_bits` turns, and
/// reads the segment each time. Returns how many flips cost their batch, and it alone.
pub(super) fn header_bits(image: &Image, extent: &Extent) -> u64 {
    let sim = image.world.sim.kill();
    let (log, _) = match Log::open(Arc::new(sim.clone()), image.world.options()) {
        Err(error) => panic!("a clean log does not open: {error}"),
        Ok(opened) => opened,
    };
    let mut count = 0;
    for piece in image.pieces.iter().filter(|piece| piece.sealed) {
        for part in image.batches(&piece.name) {
            let What::Batch { offsets, .. } = &part.what else { continue };
            let from = offsets.start.max(image.first());
            if from >= offsets.end {
                continue; // a pad, or nobody needs it any more
            }
            let turns = extent.read_bits;
            for bit in (extent.turn % turns..HEADER * 8).step_by(turns) {
                let bit = part.bytes.start * 8 + bit;
                let harm = Harm { file: piece.name.clone(), how: How::Flip { bit } };
                harm.apply(image, &sim);
                check(image, piece, &harm, &log, Offset(from)..Offset(offsets.end));
                sim.overwrite(&piece.name, bit / 8, &image.files[&piece.name][bit / 8..][..1]);
                count += 1;
            }
        }
    }
    stop_process(&sim, log);
    count
}

/// The batch with the offsets `lost` is missed aloud, and every other event of the segment is there.
fn check(image: &Image, piece: &Piece, harm: &Harm, log: &Log, lost: OffsetRange) {
    let needed = Offset(piece.offsets.start.max(image.first()))..Offset(piece.offsets.end);
    let read = match log.reader().read(needed.clone(), u64::MAX) {
        Err(error) => panic!("{harm}: reading fails: {error}"),
        Ok(read) => read,
    };
    assert_eq!(read.missing.len(), 1, "{harm}: {:?}", read.missing);
    let missing = &read.missing[0];
    assert_eq!(missing.range, lost, "{harm}: {:?}", missing.reason);
    let MissingReason::Damaged { file, .. } = &missing.reason else {
        panic!("{harm}: {:?}", missing.reason)
    };
    assert_eq!(*file, harm.file, "{harm}");
    let mut count = 0;
    for part in read.batch.parts() {
        for (at, record) in (part.first.0..).zip(Records::new(&part.records)) {
            let put = image.world.records.get(&at).map(|put| &**put);
            assert_eq!(Some(record), put, "{harm}: offset {at} is not what was put");
            count += 1;
        }
    }
    assert_eq!(count + lost.end.since(lost.start), needed.end.since(needed.start), "{harm}");
}
