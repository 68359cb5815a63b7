//! Small logs, made in order and then edited: where the `segment` target starts from.

use super::disk::Disk;
use byteorder::{ByteOrder, LE};
use levada::channel::cursors;
use levada::cursor::{GroupState, SinkState};
use levada::event::Event;
use levada::log::{
    BatchBuilder, Durability, Log, LogOptions, Meta, SegmentHeader, is_data, list_segments,
};
use levada::offset::Offset;
use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock};

/// Length of the segments: the least that the engine takes.
pub const SEGMENT_BYTES: u64 = 64 << 10;
/// Where batches end: 8 KiB before the end of the file.
pub const USABLE_END: usize = (SEGMENT_BYTES - 8192) as usize;
/// Where the seal stands: behind the copy of the header.
pub const SEAL: usize = USABLE_END + 4096;
/// Where the trailer stands.
pub const TRAILER: usize = SEGMENT_BYTES as usize - 64;
const LOG_UUID: [u8; 16] = [7; 16];

/// A log, and what was put into it.
pub struct Image {
    /// Its files.
    pub disk: Disk,
    /// Every record that was acknowledged, by its offset.
    pub records: BTreeMap<u64, Vec<u8>>,
    /// Its files by name, but for the lock.
    pub names: Vec<String>,
    /// Where batches stand, by segment.
    pub batches: BTreeMap<String, Vec<usize>>,
}

/// Options without threads: every call does its work in a fixed order.
pub fn options(durability: Durability) -> LogOptions {
    LogOptions {
        durability,
        segment_bytes: SEGMENT_BYTES,
        spare_count: 1,
        background: false,
        ..LogOptions::default()
    }
}

/// One killed while it wrote, one of dense batches (synced now and then), one closed in order.
pub fn images() -> &'static [Image; 3] {
    static IMAGES: OnceLock<[Image; 3]> = OnceLock::new();
    IMAGES.get_or_init(|| {
        let os = Durability::Os;
        [make(Durability::Always, 30, false), make(os, 90, false), make(os, 70, true)]
    })
}

/// The record of a number: an event with a header, of several lengths.
pub fn record(number: u64) -> Vec<u8> {
    let len = [20, 300, 7, 2000, 60, 900, 4000, 1][number as usize % 8];
    let mut body = number.to_le_bytes().to_vec();
    body.resize(8 + len, number as u8);
    let headers = vec![("number".to_owned(), number.to_string())];
    let mut bytes = Vec::new();
    Event { headers, body }.encode(&mut bytes);
    bytes
}

fn make(durability: Durability, puts: u64, close: bool) -> Image {
    fastrand::seed(7); // the salts of the segments
    let disk = Disk::default();
    let meta = Meta { log_uuid: LOG_UUID, epoch: 1, created_ms: 1, segment_bytes: SEGMENT_BYTES };
    disk.put("META.b", &meta.encode());
    let opened = Log::open(Arc::new(disk.clone()), options(durability));
    let (log, _) = opened.expect("nothing fails");
    let (mut records, mut number) = (BTreeMap::new(), 0);
    for put in 0..puts {
        let mut batch = BatchBuilder::new();
        for _ in 0..1 + put % 3 {
            let record = record(number);
            batch.push(&record);
            records.insert(number, record);
            number += 1;
        }
        let range = log.put(batch).expect("nothing fails");
        assert_eq!(range.end, Offset(number), "offsets are dense");
        if put % 7 == 6 {
            log.sync().expect("nothing fails");
            let payload = cursors::encode(&[group(number)]);
            let saved = log.save_cursors(&payload, Offset(number), Offset(0));
            saved.and_then(|()| log.sync_cursors()).expect("nothing fails");
        }
    }
    log.sync().expect("nothing fails");
    if close {
        log.close().expect("nothing fails");
    } else {
        disk.stop();
    }
    drop(log);
    let disk = disk.killed();
    let names = disk.names().into_iter().filter(|name| name != "LOCK").collect();
    Image { batches: batches(&disk), disk, records, names }
}

/// A group that was lent all up to `end` and has answered for some of it.
fn group(end: u64) -> GroupState {
    let sink = SinkState { name: "k1".into(), position: Offset(end), ..SinkState::default() };
    GroupState {
        name: "default".into(),
        watermark: Offset(end / 2),
        waiting: vec![levada::cursor::TriedRange::new(Offset(end / 2)..Offset(end), 2)],
        sinks: vec![sink],
        ..GroupState::default()
    }
}

/// Where batches stand.
fn batches(disk: &Disk) -> BTreeMap<String, Vec<usize>> {
    let listing = list_segments(disk, &LOG_UUID, false).expect("nothing fails");
    let mut places = BTreeMap::new();
    for segment in listing.segments {
        let view = segment.view().expect("nothing fails");
        let batches = segment.batches(&*view, u64::MAX);
        let (mut found, mut from, mut data) = (Vec::new(), 0, 0);
        while let Some(batch) = batches.resync(from) {
            found.push(batch.position as usize);
            data += usize::from(is_data(&batch));
            from = batch.end_position();
        }
        assert!(data > 3, "the image has something to be damaged");
        places.insert(segment.name(), found);
    }
    assert!(places.len() >= 2, "the image has several segments");
    places
}

/// What [`refit`] makes whole again, as bits.
pub mod fit {
    /// Segment headers.
    pub const HEADERS: u8 = 1;
    /// Batch headers and payloads.
    pub const BATCHES: u8 = 2;
    /// The chain from batch to batch.
    pub const CHAIN: u8 = 4;
    /// Seals and trailers.
    pub const SEALS: u8 = 8;
    /// META and STATE.
    pub const STATE: u8 = 16;
    /// Records of the cursor journal.
    pub const CURSORS: u8 = 32;
    /// Any of them.
    pub const ANY: u8 = 63;
}

fn crc(seed: u32, bytes: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new_with_initial(seed);
    hasher.update(bytes);
    hasher.finalize()
}

/// Puts right the checksums of edited files, as somebody would who forges a log: what lies behind
/// the checksums has to stand that, too.
pub fn refit(disk: &Disk, image: &Image, bits: u8) {
    for name in disk.names() {
        let Some(mut bytes) = disk.bytes(&name) else { continue };
        let before = bytes.clone();
        match name.as_str() {
            "META.a" | "META.b" if bits & fit::STATE != 0 => fit_page(&mut bytes, 0),
            "STATE" if bits & fit::STATE != 0 && bytes.len() >= 128 => {
                let sum = crc(0, &bytes[..124]);
                LE::write_u32(&mut bytes[124..], sum);
            }
            _ if name.ends_with(".cur") && bits & fit::CURSORS != 0 => fit_journal(&mut bytes),
            _ if name.ends_with(".seg") && bytes.len() as u64 == SEGMENT_BYTES => {
                let places = image.batches.get(&name).map_or(&[][..], Vec::as_slice);
                fit_segment(&mut bytes, places, bits);
            }
            _ => {}
        }
        if bytes != before {
            disk.put(&name, &bytes);
        }
    }
}

fn fit_page(bytes: &mut [u8], at: usize) {
    if let Some(page) = bytes.get_mut(at..at + 4096) {
        let sum = crc(0, &page[..4092]);
        LE::write_u32(&mut page[4092..], sum);
    }
}

fn fit_journal(bytes: &mut [u8]) {
    let seed = crc(crc(0, &LOG_UUID), b"cursor");
    for at in (0..bytes.len()).step_by(4096) {
        if bytes[at..].starts_with(b"LVB1") {
            fit_batch(&mut bytes[at..], seed);
        }
    }
}

/// Checksums of the payload and of the header in front of `bytes`.
fn fit_batch(bytes: &mut [u8], seed: u32) {
    if bytes.len() < 64 {
        return;
    }
    let len = LE::read_u32(&bytes[8..]) as usize;
    if let Some(payload) = bytes.get(64..).and_then(|rest| rest.get(..len)) {
        let sum = crc(0, payload);
        LE::write_u32(&mut bytes[12..], sum);
    }
    let sum = crc(seed, &bytes[8..64]);
    LE::write_u32(&mut bytes[4..], sum);
}

fn fit_segment(bytes: &mut [u8], places: &[usize], bits: u8) {
    if bits & fit::HEADERS != 0 {
        fit_page(bytes, 0);
        fit_page(bytes, USABLE_END);
    }
    let Ok(header) = SegmentHeader::decode(&bytes[..4096]) else { return };
    let seed = header.seed();
    let mut chain = header.prev_chain_crc;
    for &at in places {
        if bits & fit::CHAIN != 0 {
            LE::write_u32(&mut bytes[at + 36..], chain);
        }
        if bits & (fit::BATCHES | fit::CHAIN) != 0 {
            fit_batch(&mut bytes[at..USABLE_END], seed);
        }
        chain = LE::read_u32(&bytes[at + 4..]);
    }
    if bits & fit::SEALS != 0 {
        fit_batch(&mut bytes[SEAL..TRAILER], seed);
        let sum = crc(seed, &bytes[TRAILER..TRAILER + 60]);
        LE::write_u32(&mut bytes[TRAILER + 60..], sum);
    }
}
