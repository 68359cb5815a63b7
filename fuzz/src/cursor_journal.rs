//! The files of the cursor journal, and the cursors in them: raw bytes, and forged ones.
//!
//! Whatever the files hold: no panic, the valid record of the highest number counts, and a journal
//! that was opened takes a new record which is then the newest.

use super::disk::Disk;
use super::image::options;
use super::input::Input;
use byteorder::{ByteOrder, LE};
use levada::channel::cursors;
use levada::log::{Durability, Log, Meta, read_journal};
use levada::offset::Offset;
use std::sync::Arc;

const LOG_UUID: [u8; 16] = [9; 16];
const FILE_LEN: usize = 1 << 20;
const BLOCK: usize = 4096;
/// Record headers with this bit are given a checksum that fits.
const FIT: u8 = 1;

/// Lays out records as `data` says, reads them, and opens a log over them.
pub fn run(data: &[u8]) {
    decode(data);
    let disk = Disk::default();
    let meta = Meta { log_uuid: LOG_UUID, epoch: 1, created_ms: 1, segment_bytes: 64 << 10 };
    disk.put("META.b", &meta.encode());
    let mut input = Input::new(data);
    let mut files = [vec![0; FILE_LEN], vec![0; FILE_LEN]];
    let short = input.u8();
    for (file, bit) in files.iter_mut().zip([1, 2]) {
        if short & bit != 0 {
            file.truncate(input.u16().into());
        }
    }
    let mut newest = None;
    for _ in 0..32 {
        if input.is_empty() {
            break;
        }
        newest = lay(&mut files, &mut input); // the last one is certainly not overwritten
    }
    disk.put("cursor/A.cur", &files[0]);
    disk.put("cursor/B.cur", &files[1]);
    let found = read_journal(&disk, &LOG_UUID).expect("the disk does not fail");
    if let Some(record) = &found.newest {
        assert!(record.payload.len() <= FILE_LEN);
        decode(&record.payload);
    }
    if let Some(number) = newest {
        assert!(found.newest.is_some_and(|record| record.generation >= number));
    }
    own(&disk);
}

/// Cursors that were read are written again as the same.
fn decode(bytes: &[u8]) {
    if let Ok(groups) = cursors::decode(bytes) {
        groups.iter().for_each(|group| group.check().expect("decode has checked it"));
        assert!(groups.iter().all(|group| group.end() >= group.watermark));
        assert_eq!(cursors::decode(&cursors::encode(&groups)), Ok(groups));
    }
}

/// Writes a record's header and payload into a block; returns its number if it is valid.
fn lay(files: &mut [Vec<u8>; 2], input: &mut Input<'_>) -> Option<u64> {
    let flags = input.u8();
    let file = &mut files[usize::from(flags >> 7)];
    let at = input.below(FILE_LEN / BLOCK) * BLOCK;
    let mut header = [0; 64];
    header[..4].copy_from_slice(b"LVB1");
    let raw = input.bytes(56);
    header[8..8 + raw.len()].copy_from_slice(raw);
    let payload = input.bytes(usize::from(flags >> 1 & 63));
    if flags & FIT != 0 {
        LE::write_u32(&mut header[8..], payload.len() as u32);
        LE::write_u32(&mut header[12..], crc32fast::hash(payload));
        header[56] = 6; // cursors
        header[57] = 0;
        let mut hasher = crc32fast::Hasher::new();
        hasher.update(&LOG_UUID);
        hasher.update(b"cursor");
        let mut hasher = crc32fast::Hasher::new_with_initial(hasher.finalize());
        hasher.update(&header[8..]);
        LE::write_u32(&mut header[4..], hasher.finalize());
    }
    let bytes = [&header[..], payload].concat();
    let target = file.get_mut(at..at + bytes.len())?;
    target.copy_from_slice(&bytes);
    let numbers = [16, 24, 40].map(|at| LE::read_u64(&header[at..]));
    let marks = payload.get(..16)?.chunks(8).map(LE::read_u64);
    // what can't be a number of a log is refused in spite of its checksum
    let sane = numbers.into_iter().chain(marks).all(|number| number < 1 << 62);
    (flags & FIT != 0 && sane).then_some(numbers[0])
}

fn own(disk: &Disk) {
    let Ok((log, opened)) = Log::open(Arc::new(disk.clone()), options(Durability::Always)) else {
        return; // the marks claim events that are not there: `halt`
    };
    let before = opened.cursors;
    let saved = log.save_cursors(b"newer", Offset(0), Offset(0));
    let synced = log.sync_cursors();
    let _ = log.close();
    drop(log);
    let found = read_journal(disk, &LOG_UUID).expect("the disk does not fail");
    let newest = found.newest.map(|record| record.payload);
    match saved.and(synced) {
        Ok(()) => assert_eq!(newest.as_deref(), Some(&b"newer"[..])),
        Err(_) => assert_eq!(newest, before),
    }
}
