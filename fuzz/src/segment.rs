//! A log whose files hold edited bytes: opened by `halt` and by `quarantine`, read, looked into.
//!
//! Input: which log, which checksums are put right afterwards, then edits. Without the latter every
//! event that is read must be the one that was put at that offset: damage may lose, it may not
//! invent. With them the bytes are forged, and what is left is: no panic, no hang, no great memory.

use super::disk::Disk;
use super::image::{Image, SEAL, SEGMENT_BYTES, TRAILER, USABLE_END, fit, images, options, refit};
use super::input::Input;
use levada::channel::cursors;
use levada::event::{EventRef, Records};
use levada::log::{
    BatchBuilder, Durability, Evidence, Log, LogError, LogOptions, OnCorruption, OpenReport,
    Segment, Step, Walk, list_segments, read_journal, read_meta, read_state, scan_tail,
};
use levada::offset::Offset;
use std::collections::BTreeMap;
use std::sync::Arc;

const EDITS_MAX: usize = 24;
const PAGE: usize = 4096;

/// Edits a log as `data` says, and does to it what an owner and an onlooker do.
pub fn run(data: &[u8]) {
    let mut input = Input::new(data);
    let image = &images()[input.below(3)];
    let bits = input.u8() & fit::ANY;
    let disk = image.disk.copy();
    for _ in 0..EDITS_MAX {
        if input.is_empty() {
            break;
        }
        edit(&disk, image, &mut input, bits != 0);
    }
    if bits != 0 {
        refit(&disk, image, bits);
    }
    let known = (bits == 0).then_some(&image.records);
    look_into(&disk);
    for on_corruption in [OnCorruption::Halt, OnCorruption::Quarantine] {
        own(&disk.copy(), on_corruption, known);
    }
}

/// One edit. Free choice of bytes only where they are forged anyway: elsewhere it could, one day,
/// hit upon a checksum.
fn edit(disk: &Disk, image: &Image, input: &mut Input<'_>, forged: bool) {
    let kind = input.below(if forged { 10 } else { 8 });
    let name = &image.names[input.below(image.names.len())];
    let Some(mut bytes) = disk.bytes(name) else { return };
    let at = place(image, name, input, bytes.len());
    let end = |len: usize| (at + len).min(bytes.len());
    match kind {
        0 => {
            let (end, mut noise) = (end(input.u16() as usize % 8192), noise(input));
            bytes[at..end].iter_mut().for_each(|byte| *byte ^= noise.u8(..));
        }
        1 => {
            let end = end(1 << input.below(14));
            bytes[at..end].fill(0);
        }
        2 => {
            let end = end(1);
            bytes[at..end].iter_mut().for_each(|byte| *byte ^= 1 << input.below(8));
        }
        3 => bytes.truncate(at),
        4 => {
            let len = (bytes.len() + input.u16() as usize).min(1 << 21);
            bytes.resize(len, 0);
        }
        5 => return swap(disk, image, name, input, false),
        6 => return swap(disk, image, name, input, true),
        7 => return disk.lose(name),
        8 => {
            let new = input.bytes(8);
            let end = (at + new.len()).min(bytes.len());
            bytes[at..end].copy_from_slice(&new[..end - at]);
        }
        _ => {
            let end = end(8);
            bytes[at..end].fill([0xff, 0x7f, 0x80, 1][input.below(4)]);
        }
    }
    disk.put(name, &bytes);
}

fn noise(input: &mut Input<'_>) -> fastrand::Rng {
    fastrand::Rng::with_seed(input.u16().into())
}

/// A byte of a file: anywhere, or where a structure stands.
fn place(image: &Image, name: &str, input: &mut Input<'_>, len: usize) -> usize {
    let at = match input.below(4) {
        0 => input.u32() as usize,
        1 => input.u8() as usize,
        2 => [0, USABLE_END, SEAL, TRAILER, PAGE][input.below(5)] + input.u8() as usize,
        _ => {
            let places = image.batches.get(name).map_or(&[0][..], Vec::as_slice);
            places[input.u8() as usize % places.len()] + input.u8() as usize
        }
    };
    at % len.max(1)
}

/// Puts a page, or everything, of one file into the place of another's; both, or one way.
fn swap(disk: &Disk, image: &Image, name: &str, input: &mut Input<'_>, whole: bool) {
    let other = &image.names[input.below(image.names.len())];
    let (Some(mut a), Some(mut b)) = (disk.bytes(name), disk.bytes(other)) else { return };
    let stale = input.u8() & 1 == 0;
    if whole {
        std::mem::swap(&mut a, &mut b);
    } else {
        let (i, j) = (input.below(256) * PAGE, input.below(256) * PAGE);
        let (Some(x), Some(y)) = (a.get_mut(i..i + PAGE), b.get_mut(j..j + PAGE)) else { return };
        x.swap_with_slice(y);
    }
    disk.put(name, &a);
    if !stale && name != other {
        disk.put(other, &b);
    }
}

/// Everything that is read beside an owner.
fn look_into(disk: &Disk) {
    let meta = read_meta(disk);
    let _ = read_state(disk);
    let Ok(Some(meta)) = meta else { return };
    let mark = read_journal(disk, &meta.log_uuid).ok().and_then(|found| found.newest);
    if let Some(record) = &mark {
        let _ = cursors::decode(&record.payload);
    }
    let Ok(listing) = list_segments(disk, &meta.log_uuid, false) else { return };
    for segment in listing.segments {
        walk(&segment);
        let view = segment.view().expect("the disk does not fail");
        scan_tail(&segment, &*view, Evidence::default());
        if let Some(record) = &mark {
            scan_tail(&segment, &*view, Evidence::of_mark(&record.mark));
        }
    }
}

fn walk(segment: &Segment) {
    let view = segment.view().expect("the disk does not fail");
    let _ = segment.read_seal();
    segment.load_index().expect("the disk does not fail");
    let (_, _) = (segment.seek(u64::MAX), segment.seek_time(0));
    let (end_lsn, end_offset) = segment.end().map_or((u64::MAX, 0), |end| (end.lsn, end.offset));
    let mut walk = Walk::new(segment.batches(&*view, end_lsn), segment.start(), end_offset);
    let mut steps = 0;
    while walk.step() != Step::End {
        steps += 1;
        assert!(steps <= SEGMENT_BYTES / 64, "each step of a walk goes on by a batch's least");
    }
}

/// Opens, reads, goes on, closes and opens again.
fn own(disk: &Disk, on_corruption: OnCorruption, known: Option<&BTreeMap<u64, Vec<u8>>>) {
    let before = segments_of(disk);
    let options = LogOptions { on_corruption, ..options(Durability::Always) };
    let (log, report) = match open(disk, &options) {
        Ok(opened) => opened,
        Err(error) => {
            assert!(!error.to_string().is_empty());
            assert!(segments_of(disk) == before, "what can't be opened is not changed: {error}");
            return;
        }
    };
    let found = read(&log, known);
    if known.is_some() {
        nothing_dropped(disk, &before, &report);
    }
    let mut batch = BatchBuilder::new();
    batch.push(b"one more");
    let put = log.put(batch);
    let closed = log.close();
    drop(log);
    if known.is_none() {
        return;
    }
    let range = put.expect("the disk does not fail");
    closed.expect("the disk does not fail");
    assert!(range.start >= report.tail, "no offset comes twice");
    let (log, _) = open(disk, &options).expect("a log that was closed opens again");
    let mut again = read(&log, None);
    assert_eq!(again.remove(&range.start.0).as_deref(), Some(&b"one more"[..]));
    assert!(again == found, "what was read once is read again");
}

fn open(disk: &Disk, options: &LogOptions) -> Result<(Log, OpenReport), LogError> {
    let opened = Log::open(Arc::new(disk.clone()), options.clone());
    opened.map(|(log, opened)| (log, opened.report))
}

fn segments_of(disk: &Disk) -> BTreeMap<String, Vec<u8>> {
    let names = disk.names().into_iter().filter(|name| name.ends_with(".seg"));
    names.filter_map(|name| disk.bytes(&name).map(|bytes| (name, bytes))).collect()
}

/// Every event, compared with what was put.
fn read(log: &Log, known: Option<&BTreeMap<u64, Vec<u8>>>) -> BTreeMap<u64, Vec<u8>> {
    let mut reader = log.reader();
    let (mut next, tail) = (Offset(0), log.tails().tail);
    let mut found = BTreeMap::new();
    let mut reads = 0;
    while next < tail {
        let read = match reader.read(next..tail, 11) {
            Ok(read) => read,
            // forged bytes may claim to be of a newer build: refused, not cut
            Err(LogError::Format { .. }) if known.is_none() => break,
            Err(error) => panic!("reading fails: {error}"),
        };
        assert!(read.next > next, "a read goes on: at {next} of {tail}");
        for part in read.batch.parts() {
            let records = Records::new(&part.records).take(part.count as usize);
            for (offset, record) in (part.first.0..).zip(records) {
                let _ = EventRef::decode(record).map(|event| event.to_event());
                if let Some(known) = known {
                    assert_eq!(known.get(&offset).map(Vec::as_slice), Some(record), "{offset}");
                }
                found.insert(offset, record.to_vec());
            }
        }
        next = read.next;
        reads += 1;
        if reads > 10_000 {
            assert!(known.is_none(), "a few hundred events take a few hundred reads");
            break; // a forged batch may count to 4 billion
        }
    }
    let _ = (reader.seek_time(0), reader.seek_time(1 << 41), reader.seek_time(u64::MAX));
    found
}

/// A segment below the last one is never a spare: whatever its bytes have become, the file stays.
fn nothing_dropped(disk: &Disk, before: &BTreeMap<String, Vec<u8>>, report: &OpenReport) {
    let Some(meta) = read_meta(disk).expect("it was just written") else { return };
    let listing = list_segments(disk, &meta.log_uuid, false).expect("it was just opened");
    let Some(last) = listing.segments.iter().map(Segment::id).max() else { return };
    for name in before.keys().filter(|name| **name < levada::log::segment_name(last)) {
        let stem = name.trim_start_matches("log/").trim_end_matches(".seg");
        let aside = disk.names().iter().any(|name| {
            let moved = name.strip_prefix("quarantine/").and_then(|name| name.strip_prefix(stem));
            moved.is_some_and(|rest| rest.ends_with(".seg"))
        });
        assert!(
            disk.bytes(name).is_some() || aside,
            "{name} is gone, and the log says: {report:?}"
        );
    }
}
