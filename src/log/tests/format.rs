//! The bytes on disk: every structure survives its bytes, every flipped bit is seen, no bytes make
//! anything panic.

use super::*;
use crate::log::format::{
    BATCH_HEADER_LEN, BatchHeader, BatchKind, IndexEntry, NUMBER_END, SEGMENT_HEADER_LEN,
    payload_crc, seal_position, usable_end,
};
use crate::sim::{Cut as Loss, Sim};
use quickcheck::{Arbitrary, Gen, QuickCheck};

const SEGMENT: &str = "log/0000000000000001.seg";

/// Numbers that a structure can hold: small and large ones, none beyond all bounds.
fn number(g: &mut Gen) -> u64 {
    let bits = u32::arbitrary(g) % 62;
    u64::arbitrary(g) & ((1 << bits) - 1)
}

fn bytes16(g: &mut Gen) -> [u8; 16] {
    std::array::from_fn(|_| u8::arbitrary(g))
}

impl Arbitrary for SegmentHeader {
    fn arbitrary(g: &mut Gen) -> SegmentHeader {
        SegmentHeader {
            log_uuid: bytes16(g),
            segment_id: number(g),
            base_lsn: number(g),
            base_offset: number(g),
            segment_bytes: 1 << (16 + u32::arbitrary(g) % 15),
            epoch: number(g),
            salt: u64::arbitrary(g),
            prev_segment_id: number(g),
            prev_end_lsn: number(g),
            prev_end_offset: number(g),
            prev_chain_crc: u32::arbitrary(g),
            incompat: u32::arbitrary(g) & crate::log::format::INCOMPAT_GAP,
            activated_ns: u64::arbitrary(g),
        }
    }
}

impl Arbitrary for BatchHeader {
    fn arbitrary(g: &mut Gen) -> BatchHeader {
        use BatchKind::{Cursors, Data, Pad, Seal, Watermark};
        BatchHeader {
            kind: *g.choose(&[Data, Pad, Watermark, Seal, Cursors]).unwrap(),
            payload_len: u32::arbitrary(g),
            payload_crc: u32::arbitrary(g),
            lsn: number(g),
            base_offset: number(g),
            count: u32::arbitrary(g),
            prev_crc: u32::arbitrary(g),
            durable_lsn: number(g),
            time_ns: u64::arbitrary(g),
            flags: 0,
            schema: u16::arbitrary(g),
            orig_len: u32::arbitrary(g),
        }
    }
}

impl Arbitrary for Trailer {
    fn arbitrary(g: &mut Gen) -> Trailer {
        Trailer {
            segment_id: number(g),
            end_lsn: number(g),
            end_offset: number(g),
            first_time_ms: number(g) >> 18,
            last_time_ms: number(g) >> 18,
            chain_crc: u32::arbitrary(g),
        }
    }
}

impl Arbitrary for Meta {
    fn arbitrary(g: &mut Gen) -> Meta {
        let (created_ms, segment_bytes) = (u64::arbitrary(g), u64::arbitrary(g));
        Meta { log_uuid: bytes16(g), epoch: number(g), created_ms, segment_bytes }
    }
}

impl Arbitrary for State {
    fn arbitrary(g: &mut Gen) -> State {
        State {
            epoch: number(g),
            boot_id: bytes16(g),
            pid: u32::arbitrary(g),
            clean: bool::arbitrary(g),
            poisoned: bool::arbitrary(g),
            written_lsn: number(g),
            durable_lsn: number(g),
            tail: number(g),
            durable_tail: number(g),
            segment_id: number(g),
            time_ms: number(g),
        }
    }
}

/// A seal, and the base offset it is of.
#[derive(Clone, Debug)]
struct SealOf(u64, Seal);

impl Arbitrary for SealOf {
    fn arbitrary(g: &mut Gen) -> SealOf {
        let base = number(g) >> 1;
        let entry = |g: &mut Gen| IndexEntry {
            position: u64::from(u32::arbitrary(g) >> 6) * 64,
            offset: base + u64::from(u32::arbitrary(g)),
            time_ms: u64::arbitrary(g),
        };
        let seal = Seal {
            end_lsn: number(g),
            end_offset: number(g),
            batches: number(g),
            events: number(g),
            first_time_ms: number(g),
            last_time_ms: number(g),
            index: (0..u8::arbitrary(g) % 40).map(|_| entry(g)).collect(),
        };
        SealOf(base, seal)
    }
}

fn prove<A: Arbitrary + std::fmt::Debug>(property: fn(A) -> bool) {
    QuickCheck::new().tests(300).quickcheck(property);
}

#[test]
fn structures_survive_their_bytes() {
    prove(|header: SegmentHeader| SegmentHeader::decode(&header.encode()) == Ok(header));
    prove(|meta: Meta| Meta::decode(&meta.encode()) == Ok(meta));
    prove(|state: State| State::decode(&state.encode()) == Ok(state));
    prove(|(seed, trailer): (u32, Trailer)| {
        Trailer::decode(seed, &trailer.encode(seed)) == Ok(trailer)
    });
    prove(|(seed, header): (u32, BatchHeader)| {
        let mut bytes = [0; BATCH_HEADER_LEN as usize];
        let crc = header.encode(seed, &mut bytes);
        BatchHeader::decode(seed, &bytes) == Ok((header, crc))
    });
    prove(|SealOf(base, seal): SealOf| Seal::decode(base, &seal.encode(base)) == Ok(seal));
}

#[test]
fn structures_of_another_seed_are_not_there() {
    prove(|(seed, other, header): (u32, u32, BatchHeader)| {
        let mut bytes = [0; BATCH_HEADER_LEN as usize];
        header.encode(seed, &mut bytes);
        seed == other || BatchHeader::decode(other, &bytes).is_err()
    });
    prove(|(seed, other, trailer): (u32, u32, Trailer)| {
        seed == other || Trailer::decode(other, &trailer.encode(seed)).is_err()
    });
}

#[test]
fn cursor_records_survive_their_bytes() {
    fn property(saved: Vec<(Vec<u8>, u16, u16)>) -> bool {
        let sim = Sim::new(1);
        let (mut journal, _) = Journal::open(&sim, &[7; 16], journal::FILE_LEN).unwrap();
        let mut last = None;
        let (mut seen, mut done) = (0, 0);
        for (payload, seen_tail, released) in saved {
            (seen, done) = (u64::from(seen_tail).max(seen), u64::from(released).max(done));
            let (seen_tail, released) = (seen_tail.into(), released.into());
            let mark = Mark { durable_lsn: 5, durable_tail: 6, seen_tail, released };
            journal.record(mark, &payload, 9).unwrap();
            last = Some((payload, Mark { seen_tail: seen, released: done, ..mark }));
        }
        let (_, found) = Journal::open(&sim, &[7; 16], journal::FILE_LEN).unwrap();
        let other = read_journal(&sim, &[8; 16]).unwrap();
        other.newest.is_none() && found.newest.map(|r| (r.payload, r.mark)) == last
    }
    QuickCheck::new().tests(60).quickcheck(property as fn(_) -> _);
}

/// Flips each bit of `bytes`; `seen` says whether that was noticed.
fn each_bit(what: &str, bytes: &[u8], seen: impl Fn(&[u8]) -> bool) {
    assert!(!seen(bytes), "{what} is good as it is");
    let mut bytes = bytes.to_vec();
    for bit in 0..bytes.len() * 8 {
        bytes[bit / 8] ^= 1 << (bit % 8);
        assert!(seen(&bytes), "{what}: bit {bit} flipped, and nobody saw it");
        bytes[bit / 8] ^= 1 << (bit % 8);
    }
}

#[test]
fn each_flipped_bit_of_each_structure_is_seen() {
    let g = &mut Gen::new(10);
    let seed = 0x1234_5678;
    each_bit("segment header", &SegmentHeader::arbitrary(g).encode(), |bytes| {
        SegmentHeader::decode(bytes).is_err()
    });
    each_bit("META", &Meta::arbitrary(g).encode(), |bytes| Meta::decode(bytes).is_err());
    each_bit("STATE", &State::arbitrary(g).encode(), |bytes| State::decode(bytes).is_err());
    each_bit("trailer", &Trailer::arbitrary(g).encode(seed), |bytes| {
        Trailer::decode(seed, bytes).is_err()
    });
    let payload: Vec<u8> = (0..300u32).map(|i| (i * 7) as u8).collect();
    for kind in [BatchKind::Data, BatchKind::Watermark, BatchKind::Seal, BatchKind::Cursors] {
        let payload_crc = payload_crc(&payload);
        let header = BatchHeader { kind, payload_crc, ..BatchHeader::arbitrary(g) };
        let mut bytes = vec![0; BATCH_HEADER_LEN as usize];
        header.encode(seed, &mut bytes);
        bytes.extend_from_slice(&payload);
        each_bit("batch", &bytes, |bytes| {
            let (head, payload) = bytes.split_at(BATCH_HEADER_LEN as usize);
            BatchHeader::decode(seed, head).and_then(|(h, _)| h.verify(payload)).is_err()
        });
    }
}

/// A log of two segments, the first one sealed: the sim, and the first one's bytes.
fn two_segments() -> (Sim, Vec<u8>) {
    let sim = Sim::new(3);
    let (log, _) = Log::open(Arc::new(sim.clone()), quiet()).unwrap();
    for number in 0..20 {
        log.put(batch(&[record(number, 2000), record(number, 1500)])).unwrap();
    }
    log.save_cursors(b"these are cursors", Offset(3), Offset(0)).unwrap();
    log.close().unwrap();
    let bytes = sim.bytes(SEGMENT);
    (sim, bytes)
}

struct Bytes(Vec<u8>);

impl View for Bytes {
    fn len(&self) -> u64 {
        self.0.len() as u64
    }

    fn bytes(&self, position: u64, len: usize) -> Option<&[u8]> {
        let from = usize::try_from(position).ok()?;
        self.0.get(from..from.checked_add(len)?)
    }

    fn prefetch(&self, _: u64, _: usize) -> std::io::Result<()> {
        Ok(())
    }
}

/// Bytes of which a range can't be read.
struct Unreadable(Bytes, std::ops::Range<u64>);

impl View for Unreadable {
    fn len(&self) -> u64 {
        self.0.len()
    }

    fn bytes(&self, position: u64, len: usize) -> Option<&[u8]> {
        self.0.bytes(position, len)
    }

    fn prefetch(&self, position: u64, len: usize) -> std::io::Result<()> {
        match position < self.1.end && self.1.start < position + len as u64 {
            true => Err(std::io::Error::other("a bad block")),
            false => Ok(()),
        }
    }
}

/// Windows of a search grow; what is stepped over when a block can't be read does not.
#[test]
fn search_steps_over_no_more_than_what_cannot_be_read() {
    const BAD: u64 = 3 << 20;
    let place = BAD + (64 << 10); // behind the smallest window that has the bad block
    let mut bytes = vec![0; 4 << 20];
    let header = BatchHeader {
        kind: BatchKind::Pad,
        payload_len: 0,
        lsn: place,
        ..BatchHeader::arbitrary(&mut Gen::new(10))
    };
    header.encode(7, &mut bytes[place as usize..]);
    let view = Unreadable(Bytes(bytes), BAD..BAD + 4096);
    let batches = Batches { view: &view, seed: 7, base_lsn: 0, end: view.len() };
    assert_eq!(batches.resync(0).map(|found| found.position), Some(place));
}

/// Data batches and holes of the first segment, by walking its bytes.
fn walk(sim: &Sim, view: &Bytes) -> (Vec<FoundBatch>, Vec<Hole>) {
    let uuid = read_meta(sim).unwrap().unwrap().log_uuid;
    let listing = list_segments(sim, &uuid, false).unwrap();
    let segment = &listing.segments[0];
    let end = segment.end().unwrap();
    let mut walk = Walk::new(segment.batches(view, end.lsn), segment.start(), end.offset);
    let (mut found, mut holes) = (Vec::new(), Vec::new());
    loop {
        match walk.step() {
            Step::Batch(batch) if is_data(&batch) => found.push(batch),
            Step::Batch(_) => {}
            Step::Hole(hole) => holes.push(hole),
            Step::End => return (found, holes),
        }
    }
}

#[test]
fn flipped_bit_of_a_segment_costs_its_batch_and_no_other() {
    let (sim, bytes) = two_segments();
    let (whole, holes) = walk(&sim, &Bytes(bytes.clone()));
    assert!(whole.len() > 5 && holes.is_empty());
    let mut rng = fastrand::Rng::with_seed(11);
    for (i, hit) in whole.iter().enumerate() {
        let header_bits = 0..BATCH_HEADER_LEN * 8;
        let payload_len = u64::from(hit.header.payload_len);
        let payload = (0..100).map(|_| (BATCH_HEADER_LEN + rng.u64(..payload_len)) * 8 + 3);
        for bit in header_bits.chain(payload.collect::<Vec<_>>()) {
            let mut view = Bytes(bytes.clone());
            view.0[(hit.position + bit / 8) as usize] ^= 1 << (bit % 8);
            let (found, holes) = walk(&sim, &view);
            assert_eq!(holes.len(), 1, "batch {i}, bit {bit}");
            let (from, to) = (hit.header.base_offset, hit.header.end_offset());
            assert_eq!((holes[0].from, holes[0].to), (from, to), "batch {i}, bit {bit}");
            let rest = whole.iter().filter(|batch| *batch != hit);
            assert!(found.iter().eq(rest), "batch {i}, bit {bit}: the others are there");
        }
    }
}

/// Good checksums, at the right place: what does not follow the batch before it is damage all the same.
#[test]
fn batch_that_does_not_follow_the_one_before_is_seen() {
    let (sim, bytes) = two_segments();
    let (whole, _) = walk(&sim, &Bytes(bytes.clone()));
    let seed = SegmentHeader::decode(&bytes[..4096]).unwrap().seed();
    let (at, header) = (whole[3].position as usize, whole[3].header);
    let forged = |header: BatchHeader| {
        let mut view = Bytes(bytes.clone());
        header.encode(seed, &mut view.0[at..at + 64]);
        let (found, holes) = walk(&sim, &view);
        assert!(!found.iter().any(|batch| batch.header == header));
        holes[0].fault.clone()
    };
    let chain = forged(BatchHeader { prev_crc: header.prev_crc ^ 1, ..header });
    assert!(matches!(chain, FaultKind::Chain { .. }), "{chain}");
    for offset in [header.base_offset - 1, header.base_offset + 1] {
        let fault = forged(BatchHeader { base_offset: offset, ..header });
        assert!(matches!(fault, FaultKind::Offset { .. }), "{fault}");
    }
    let fault = forged(BatchHeader { payload_len: 1 << 20, ..header });
    assert!(matches!(fault, FaultKind::Length { .. }), "{fault}");
}

#[test]
fn arbitrary_bytes_are_no_structure_and_no_panic() {
    prove(|(seed, mut bytes, magic): (u32, Vec<u8>, u8)| {
        bytes.resize(SEGMENT_HEADER_LEN as usize, magic);
        let magics: [&[u8]; 6] =
            [b"", b"LEVADA\x00\x01", b"LVB1", b"LVMETA\x00\x01", b"LVSTATE\x01", b"LVSEALED"];
        let magic = magics[usize::from(magic) % magics.len()];
        bytes[..magic.len()].copy_from_slice(magic);
        let _ = Seal::decode(0, &bytes);
        SegmentHeader::decode(&bytes).is_err()
            && Meta::decode(&bytes).is_err()
            && State::decode(&bytes).is_err()
            && BatchHeader::decode(seed, &bytes).is_err()
            && Trailer::decode(seed, &bytes[..64]).is_err()
    });
    for len in [0, 1, 63, 64, 127, 4095] {
        let bytes = vec![0; len];
        assert!(SegmentHeader::decode(&bytes).is_err() && Meta::decode(&bytes).is_err());
        assert!(State::decode(&bytes).is_err() && BatchHeader::decode(0, &bytes).is_err());
        assert!(Trailer::decode(0, &bytes).is_err());
        let no_entry = (56..72).contains(&len);
        assert_eq!(Seal::decode(0, &bytes).is_ok(), no_entry, "zeros say: no entries");
    }
}

/// A number from where limits are.
fn wild(g: &mut Gen) -> u64 {
    let near = [0, 1, 64, 4096, 65_536, u32::MAX.into(), NUMBER_END, u64::MAX];
    let base = *g.choose(&near).unwrap();
    base.wrapping_add(u64::arbitrary(g) % 5).wrapping_sub(2)
}

/// Bytes of a file that get a number of `len` bytes, and the sum that is then made good again.
#[derive(Clone, Debug)]
struct Forgery {
    file: usize,
    field: usize,
    number: u64,
}

impl Arbitrary for Forgery {
    fn arbitrary(g: &mut Gen) -> Forgery {
        let (file, field) = (usize::arbitrary(g) % 7, usize::arbitrary(g) % 32);
        Forgery { file, field, number: wild(g) }
    }
}

/// A checksum does not prove who wrote: numbers that can't be must be refused, not computed with.
#[test]
fn numbers_with_a_good_checksum_make_nothing_panic() {
    let (clean, first) = two_segments();
    let seed = SegmentHeader::decode(&first[..4096]).unwrap().seed();
    let forge = |sim: &Sim, Forgery { file, field, number }: &Forgery| {
        let page = |bytes: &mut Vec<u8>, at: usize| {
            let field = at + 16 + field * 4;
            LE::write_u64(&mut bytes[field..], *number);
            let sum = crc32fast::hash(&bytes[at..at + 4092]);
            LE::write_u32(&mut bytes[at + 4092..], sum);
        };
        let batch = |bytes: &mut Vec<u8>, at: usize, seed: u32| {
            let field = at + 8 + field % 14 * 4;
            LE::write_u32(&mut bytes[field..], *number as u32);
            LE::write_u32(&mut bytes[field.min(at + 56) + 4..], (*number >> 32) as u32);
            let mut hasher = crc32fast::Hasher::new_with_initial(seed);
            hasher.update(&bytes[at + 8..at + 64]);
            LE::write_u32(&mut bytes[at + 4..], hasher.finalize());
        };
        let last = "log/0000000000000002.seg";
        match file {
            0 => sim.damage("META.b", |bytes| page(bytes, 0)),
            1 => sim.damage(SEGMENT, |bytes| {
                page(bytes, 0);
                page(bytes, usable_end(64 << 10) as usize);
            }),
            2 => sim.damage(last, |bytes| page(bytes, 0)),
            3 => sim.damage(SEGMENT, |bytes| batch(bytes, 4096, seed)),
            4 => sim.damage(SEGMENT, |bytes| {
                let at = bytes.len() - 64;
                LE::write_u64(&mut bytes[at + 8 + field % 6 * 8..], *number);
                let mut hasher = crc32fast::Hasher::new_with_initial(seed);
                hasher.update(&bytes[at..at + 60]);
                LE::write_u32(&mut bytes[at + 60..], hasher.finalize());
            }),
            5 => {
                let uuid = read_meta(sim).ok().flatten().map_or([0; 16], |meta| meta.log_uuid);
                let Ok((mut journal, _)) = Journal::open(sim, &uuid, journal::FILE_LEN) else {
                    return;
                };
                let mut numbers = [1, 1, 1, 1];
                numbers[field % 4] = *number;
                let [durable_lsn, durable_tail, seen_tail, released] = numbers;
                let mark = Mark { durable_lsn, durable_tail, seen_tail, released };
                let _ = journal.record(mark, b"", 1);
            }
            _ => sim.damage("STATE", |bytes| {
                LE::write_u64(&mut bytes[8 + field % 10 * 8..], *number);
                let sum = crc32fast::hash(&bytes[..124]);
                LE::write_u32(&mut bytes[124..], sum);
            }),
        }
    };
    let mut g = Gen::new(10);
    for round in 0..400 {
        let sim = clean.power_cut(Loss::All { pages: true, names: true });
        let forgeries: Vec<_> = (0..=round % 3).map(|_| Forgery::arbitrary(&mut g)).collect();
        forgeries.iter().for_each(|forgery| forge(&sim, forgery));
        // the trailer too may be gone, so that the last segment is walked
        if round % 2 == 0 {
            sim.damage("log/0000000000000002.seg", |bytes| bytes[65_472..].fill(0));
        }
        let tried = std::panic::catch_unwind(|| {
            for on_corruption in [OnCorruption::Halt, OnCorruption::Quarantine] {
                let options = LogOptions { on_corruption, ..quiet() };
                let Ok((log, _)) = Log::open(Arc::new(sim.clone()), options) else { continue };
                let tail = log.tails().tail;
                let _ = log.reader().read(Offset(0)..tail, 100);
                let _ = log.reader().seek_time(1);
                let _ = log.put(batch(&[record(1, 10)]));
                let _ = log.close();
            }
        });
        assert!(tried.is_ok(), "round {round}: {forgeries:?}");
    }
}

#[test]
fn seal_says_what_is_in_its_segment() {
    let (sim, bytes) = two_segments();
    let seed = SegmentHeader::decode(&bytes[..4096]).unwrap().seed();
    let at = seal_position(64 << 10) as usize;
    let (header, _) = BatchHeader::decode(seed, &bytes[at..]).unwrap();
    let payload = &bytes[at + 64..at + 64 + header.payload_len as usize];
    header.verify(payload).unwrap();
    let seal = Seal::decode(0, payload).unwrap();
    let (whole, _) = walk(&sim, &Bytes(bytes.clone()));
    assert_eq!(seal.batches, whole.len() as u64);
    assert_eq!(seal.events, whole.iter().map(|b| u64::from(b.header.count)).sum::<u64>());
    assert_eq!(seal.index[0].offset, 0);
    assert!(seal.index.len() > 1);
}
