//! What opening makes of a log that was not closed, row by row of the decision table, and of damage.
//! Every case is opened twice: the second time finds the same. `files.rs` has whole files.

use super::*;
use crate::log::format::GROUP_ALIGN;
use crate::sim::{Cut as Loss, End, Sim};

pub(super) const FIRST: &str = "log/0000000000000001.seg";
pub(super) const SECOND: &str = "log/0000000000000002.seg";
pub(super) const THIRD: &str = "log/0000000000000003.seg";

pub(super) fn options(on_corruption: OnCorruption) -> LogOptions {
    LogOptions { on_corruption, spare_count: 1, ..quiet() }
}

pub(super) fn open_on(sim: &Sim, on_corruption: OnCorruption) -> Result<(Log, Opened), LogError> {
    Log::open(Arc::new(sim.clone()), options(on_corruption))
}

pub(super) fn must_open(sim: &Sim, on_corruption: OnCorruption) -> (Log, Opened) {
    open_on(sim, on_corruption).unwrap_or_else(|error| panic!("{error}"))
}

/// Opens; an error is what the test is about.
pub(super) fn refused(sim: &Sim, on_corruption: OnCorruption) -> LogError {
    open_on(sim, on_corruption).err().expect("it does not open")
}

/// The process stops, without a word.
pub(super) fn stop(log: Log) {
    std::mem::forget(log);
}

/// The machine stops too, and everything that was written is there: STATE proves nothing any more.
pub(super) fn power_cut(sim: &Sim) -> Sim {
    sim.power_cut(Loss::All { pages: true, names: true })
}

/// Puts a group of `count` batches of one record each, numbered from `from` on.
fn put_group(log: &Log, from: u64, count: u64) -> Vec<PutResult> {
    let mut tickets = Vec::new();
    for number in from..from + count {
        let batch = batch(&[record(number, 300)]);
        assert!(log.try_reserve(&batch).unwrap());
        tickets.push(log.writer.submit(batch.seal()));
    }
    log.writer.lead();
    tickets.into_iter().map(|t| ticket::block_on(t, None).unwrap()).collect()
}

/// A log of one segment, after a power cut that kept every byte. Groups of three batches: offsets
/// 0..3 and 3..6 acknowledged, 6..9 written and not synced.
fn crashed() -> Sim {
    let sim = Sim::new(1);
    let (log, _) = must_open(&sim, OnCorruption::Halt);
    for group in 0..2 {
        assert!(put_group(&log, group * 3, 3).iter().all(Result::is_ok));
    }
    sim.crash_after(1); // in the sync, after the write
    assert!(put_group(&log, 6, 3).iter().all(Result::is_err));
    stop(log);
    power_cut(&sim)
}

/// The whole batches of a file, by walking it.
pub(super) fn batches_of(sim: &Sim, name: &str) -> Vec<FoundBatch> {
    let uuid = read_meta(sim).unwrap().unwrap().log_uuid;
    let listing = list_segments(sim, &uuid, false).unwrap();
    let segment = listing.segments.iter().find(|segment| segment.name() == name).unwrap();
    let view = segment.view().unwrap();
    view.prefetch(0, view.len() as usize).unwrap();
    let mut walk = Walk::new(segment.batches(&*view, u64::MAX), segment.start(), 0);
    let mut found = Vec::new();
    while let Step::Batch(batch) = walk.step() {
        found.push(batch);
    }
    found
}

/// Position of the batch that holds an offset.
pub(super) fn place_of(sim: &Sim, name: &str, offset: u64) -> FoundBatch {
    let holds = |batch: &FoundBatch| {
        is_data(batch) && (batch.header.base_offset..batch.header.end_offset()).contains(&offset)
    };
    batches_of(sim, name).into_iter().find(holds).unwrap()
}

pub(super) fn flip(sim: &Sim, name: &str, position: u64) {
    sim.damage(name, |bytes| bytes[position as usize] ^= 0x40);
}

/// Offsets that the log gives, and those that it says are missing.
pub(super) fn content(log: &Log) -> (Vec<u64>, Vec<OffsetRange>) {
    let read = log.reader().read(Offset(0)..log.tails().tail, u64::MAX).unwrap();
    let mut offsets = Vec::new();
    for part in read.batch.parts() {
        for (at, bytes) in (part.first.0..).zip(crate::event::Records::new(&part.records)) {
            let number = LE::read_u64(bytes);
            assert_eq!(bytes, record(number, 300), "the bytes that were put");
            offsets.push(at);
        }
    }
    (offsets, read.missing.into_iter().map(|missing| missing.range).collect())
}

pub(super) fn range(from: u64, to: u64) -> OffsetRange {
    Offset(from)..Offset(to)
}

/// What opening must come to.
pub(super) struct Expected {
    /// Offsets that are there.
    pub(super) events: std::ops::Range<u64>,
    /// Offsets of them that are damaged.
    pub(super) hole: Option<std::ops::Range<u64>>,
    pub(super) cut: bool,
}

/// Opens with `quarantine`, twice, and compares; in between puts an event that must not lie on
/// anything there was.
pub(super) fn check_opened(sim: &Sim, what: &str, expected: &Expected) {
    let Expected { events, hole, cut } = expected;
    let kept: Vec<_> =
        events.clone().filter(|at| hole.as_ref().is_none_or(|h| !h.contains(at))).collect();
    let holes: Vec<_> = hole.iter().map(|h| range(h.start, h.end)).collect();
    let (log, opened) = must_open(sim, OnCorruption::Quarantine);
    assert_eq!(opened.report.tail, Offset(events.end), "{what}: {:?}", opened.report);
    assert_eq!(opened.report.cut.is_some(), *cut, "{what}: {:?}", opened.report.cut);
    assert_eq!(opened.report.damage.len(), holes.len(), "{what}: {:?}", opened.report.damage);
    assert_eq!(content(&log), (kept.clone(), holes.clone()), "{what}");
    stop(log);
    let sim = sim.restart(End::Kill);
    let (log, opened) = must_open(&sim, OnCorruption::Quarantine);
    assert_eq!(opened.report.tail, Offset(events.end), "{what}, again");
    assert_eq!(content(&log), (kept.clone(), holes.clone()), "{what}, again");
    let put = log.put(batch(&[record(99, 300)])).unwrap();
    assert_eq!(put, range(events.end, events.end + 1), "{what}: the next offset");
    log.close().unwrap();
    let (log, opened) = must_open(&sim, OnCorruption::Quarantine);
    assert_eq!((opened.report.cut, opened.report.damage), (None, vec![]), "{what}: all said");
    let with_new: Vec<_> = kept.into_iter().chain([events.end]).collect();
    assert_eq!(content(&log), (with_new, holes), "{what}, and one more");
}

/// `halt` refuses, and changes nothing.
pub(super) fn check_refused(sim: &Sim, what: &str) -> LogError {
    let before = sim.image();
    let error = refused(sim, OnCorruption::Halt);
    let after = sim.image();
    let differs = |(name, bytes): &(&String, &Vec<u8>)| before.get(*name) != Some(*bytes);
    let changed: Vec<_> = after.iter().filter(differs).map(|(name, _)| name).collect();
    assert!(changed.is_empty() && before.len() == after.len(), "{what}: {changed:?} changed");
    error
}

#[test]
fn each_row_of_the_decision_table_is_what_opening_does() {
    for (proof, later, verdict) in DECISIONS {
        let what = format!("proof {proof}, whole batches behind {later}: {verdict:?}");
        let sim = crashed();
        // proof stands behind what was synced; what is behind goes if there is to be none
        let offset = if proof { 3 } else { 6 };
        let hit = place_of(&sim, FIRST, offset);
        flip(&sim, FIRST, hit.payload_position());
        if !later {
            let from = if proof { hit.position } else { hit.end_position() } as usize;
            sim.damage(FIRST, |bytes| bytes[from..from + 8192].fill(0));
        }
        if proof && !later {
            plant_evidence(&sim, 6);
        }
        match verdict {
            Verdict::End | Verdict::Reordered => {
                let expected = Expected { events: 0..6, hole: None, cut: true };
                let (log, opened) = must_open(&sim.kill(), OnCorruption::Halt);
                let cut = opened.report.cut.expect(&what);
                assert_eq!(cut.reordered > 0, verdict == Verdict::Reordered, "{what}: {cut:?}");
                assert_eq!(cut.position, hit.position, "{what}");
                stop(log);
                check_opened(&sim, &what, &expected);
            }
            Verdict::Damage => {
                let error = check_refused(&sim, &what);
                assert!(matches!(&error, LogError::Damaged { from: 3, .. }), "{what}: {error}");
                // of the last three nothing is left in the one case, all but the hit in the other
                let (events, hole) = if later { (0..9, 3..4) } else { (0..6, 3..6) };
                check_opened(&sim, &what, &Expected { events, hole: Some(hole), cut: false });
            }
        }
    }
}

/// A cursor record that says the log was durable up to `tail`, as a sink's answer would have left it.
fn plant_evidence(sim: &Sim, tail: u64) {
    let uuid = read_meta(sim).unwrap().unwrap().log_uuid;
    let (mut journal, _) = Journal::open(sim, &uuid, journal::FILE_LEN).unwrap();
    let durable_lsn = crate::log::format::SEGMENT_HEADER_LEN + 2 * GROUP_ALIGN;
    let mark = Mark { durable_lsn, durable_tail: tail, seen_tail: 0, released: 0 };
    journal.record(mark, b"", 1).unwrap();
    journal.sync().unwrap();
}

#[test]
fn torn_tails_are_cut_whatever_they_look_like() {
    type Tear = fn(&mut [u8], &FoundBatch);
    let tears: [(&str, Tear, bool); 5] = [
        ("header torn off", |bytes, hit| bytes[hit.position as usize..][..64].fill(0), true),
        ("payload torn off", |bytes, hit| bytes[hit.position as usize + 64..][..512].fill(0), true),
        ("one bit of the header", |bytes, hit| bytes[hit.position as usize + 20] ^= 1, true),
        ("zeros", |bytes, hit| bytes[hit.position as usize..][..4096].fill(0), false),
        ("noise", |bytes, hit| bytes[hit.position as usize..][..4096].fill(0xa5), false),
    ];
    for (what, tear, cut) in tears {
        let sim = crashed();
        let hit = place_of(&sim, FIRST, 6);
        sim.damage(FIRST, |bytes| tear(bytes, &hit));
        check_opened(&sim, what, &Expected { events: 0..6, hole: None, cut });
    }
}

#[test]
fn whole_group_that_was_not_acknowledged_is_kept() {
    check_opened(&crashed(), "nothing torn", &Expected { events: 0..9, hole: None, cut: false });
}

#[test]
fn what_is_cut_is_saved_with_a_note() {
    let sim = crashed();
    let hit = place_of(&sim, FIRST, 7);
    flip(&sim, FIRST, hit.payload_position());
    let before = sim.bytes(FIRST);
    stop(must_open(&sim, OnCorruption::Halt).0);
    let names = sim.names("quarantine");
    let stem = format!("quarantine/0000000000000001-{}", hit.position);
    assert_eq!(names, [format!("{stem}.bin"), format!("{stem}.json")]);
    let saved = sim.bytes(&names[0]);
    assert_eq!(saved, before[hit.position as usize..][..saved.len()]);
    let note: serde_json::Value = serde_json::from_slice(&sim.bytes(&names[1])).unwrap();
    assert_eq!(note["position"], hit.position);
    assert!(note["why"].as_str().unwrap().contains("never acknowledged"), "{note}");
}

/// The bytes could not be saved aside, and the log did not open: no sink could make room.
#[test]
fn torn_tail_and_damage_on_a_full_disk_do_not_keep_the_log_shut() {
    for offset in [1, 7] {
        let sim = crashed();
        flip(&sim, FIRST, place_of(&sim, FIRST, offset).payload_position());
        sim.set_full(true);
        let (log, opened) = must_open(&sim, OnCorruption::Quarantine);
        assert_eq!(opened.report.cut.is_some(), offset == 7);
        assert_eq!(opened.report.damage.len(), usize::from(offset == 1));
        assert!(matches!(log.put(batch(&[record(9, 300)])), Err(LogError::NoSpace { .. })));
        log.save_cursors(b"", Offset(7), Offset(7)).unwrap();
        log.sync_cursors().unwrap();
    }
}

#[test]
fn damage_is_refused_or_passed_over_whatever_it_looks_like() {
    type Harm = fn(&mut [u8], &FoundBatch);
    let harms: [(&str, Harm, std::ops::Range<u64>); 5] = [
        ("payload bit", |bytes, hit| bytes[hit.payload_position() as usize + 9] ^= 8, 1..2),
        ("header bit", |bytes, hit| bytes[hit.position as usize + 33] ^= 1, 1..2),
        ("magic", |bytes, hit| bytes[hit.position as usize] ^= 1, 1..2),
        ("zeroed block", |bytes, _| bytes[4096..8192].fill(0), 0..3),
        ("sector", |bytes, hit| bytes[hit.position as usize & !511..][..512].fill(0x11), 0..2),
    ];
    for (what, harm, hole) in harms {
        let sim = crashed();
        let hit = place_of(&sim, FIRST, 1);
        sim.damage(FIRST, |bytes| harm(bytes, &hit));
        let error = check_refused(&sim, what);
        assert!(matches!(error, LogError::Damaged { damaged: 1, .. }), "{what}: {error}");
        check_opened(&sim, what, &Expected { events: 0..9, hole: Some(hole), cut: false });
        assert!(!sim.names("quarantine").is_empty(), "{what}: the bytes are saved");
    }
}

#[test]
fn state_of_the_same_boot_is_proof_and_of_another_is_none() {
    let sim = crashed();
    let (log, _) = must_open(&sim, OnCorruption::Halt);
    assert!(put_group(&log, 9, 3).iter().all(Result::is_ok));
    stop(log);
    let hit = place_of(&sim, SECOND, 9);
    let zero =
        |sim: &Sim| sim.damage(SECOND, |bytes| bytes[hit.position as usize..][..4096].fill(0));
    let same_boot = sim.restart(End::Kill);
    zero(&same_boot);
    let error = check_refused(&same_boot, "same boot");
    assert!(matches!(error, LogError::Damaged { from: 9, to: 12, .. }), "{error}");
    // what is whole behind it in the same group says nothing, and is delivered all the same
    let first_of_group = sim.restart(End::Kill);
    flip(&first_of_group, SECOND, hit.payload_position());
    let expected = Expected { events: 0..12, hole: Some(9..10), cut: false };
    check_opened(&first_of_group, "first of the last group", &expected);
    same_boot.lose("STATE");
    let expected = Expected { events: 0..9, hole: None, cut: false };
    check_opened(&same_boot, "STATE lost", &expected);
    let other_boot = power_cut(&sim);
    zero(&other_boot);
    check_opened(&other_boot, "power cut", &expected);
}

/// A log of three segments, the last one active, closed by nothing, after a power cut. Offsets 0..36,
/// one group each; segments start at 0, 13 and 26.
pub(super) fn rolled() -> Sim {
    let sim = Sim::new(2);
    let (log, _) = must_open(&sim, OnCorruption::Halt);
    for number in 0..36 {
        log.put(batch(&[record(number, 300)])).unwrap();
    }
    stop(log);
    assert_eq!(sim.names("log").len(), 3);
    power_cut(&sim)
}

pub(super) fn bases(sim: &Sim) -> Vec<u64> {
    let name = |name: &&str| sim.names("log").iter().any(|n| n == *name);
    let names = [FIRST, SECOND, THIRD].into_iter().filter(name);
    names.map(|name| SegmentHeader::decode(&sim.bytes(name)[..4096]).unwrap().base_offset).collect()
}

#[test]
fn log_of_three_segments_opens_as_it_was() {
    let sim = rolled();
    assert_eq!(bases(&sim), [0, 13, 26]);
    check_opened(&sim, "nothing wrong", &Expected { events: 0..36, hole: None, cut: false });
}

#[test]
fn sealed_segment_opens_without_its_seal_or_trailer() {
    let at = crate::log::format::seal_position(64 << 10) as usize;
    for (what, from, to) in [("seal", at, at + 64), ("trailer", 65_472, 65_536)] {
        for name in [FIRST, SECOND] {
            let sim = rolled();
            sim.damage(name, |bytes| bytes[from..to].fill(0x33));
            check_opened(&sim, what, &Expected { events: 0..36, hole: None, cut: false });
        }
    }
}

#[test]
fn damage_in_a_sealed_segment_is_reported_when_it_is_read() {
    let sim = rolled();
    let hit = place_of(&sim, FIRST, 4);
    flip(&sim, FIRST, hit.payload_position() + 100);
    let (log, _) = must_open(&sim, OnCorruption::Halt);
    let read = log.reader().read(range(0, 13), 100).unwrap();
    let MissingReason::Damaged { file, hole } = &read.missing[0].reason else {
        panic!("{:?}", read.missing)
    };
    assert_eq!((file.as_str(), hole.position), (FIRST, hit.position));
    assert_eq!(read.missing[0].range, range(4, 5));
    assert_eq!(read.batch.len(), 12, "the rest is there");
}

#[test]
fn stale_bytes_of_a_recycled_file_are_never_taken_for_batches() {
    let sim = Sim::new(3);
    let (log, _) = must_open(&sim, OnCorruption::Halt);
    for number in 0..60 {
        log.put(batch(&[record(number, 300)])).unwrap();
        let tail = log.tails().tail;
        log.save_cursors(b"", tail, tail).unwrap();
        log.sync_cursors().unwrap();
        log.reclaim(tail);
    }
    stop(log);
    let sim = power_cut(&sim);
    let names = sim.names("log");
    let active = names.iter().find(|name| {
        SegmentHeader::decode(&sim.bytes(name)[..4096])
            .is_ok_and(|header| segment_name(header.segment_id) == **name)
    });
    let active = active.unwrap().clone();
    let last = batches_of(&sim, &active).pop().unwrap();
    let behind = sim.bytes(&active)[last.end_position() as usize..].to_vec();
    assert!(behind.windows(4).any(|four| four == b"LVB1"), "there are stale batches behind");
    let (log, opened) = must_open(&sim, OnCorruption::Halt);
    assert_eq!((opened.report.tail, opened.report.cut), (Offset(60), None));
    drop(log);
}

#[test]
fn misdirected_block_is_damage_and_never_taken_for_another() {
    let sim = rolled();
    let (from, to) = (place_of(&sim, THIRD, 28), place_of(&sim, THIRD, 30));
    sim.damage(THIRD, |bytes| {
        bytes.copy_within(
            from.position as usize..from.position as usize + 4096,
            to.position as usize,
        );
    });
    let error = check_refused(&sim, "block of the same segment");
    assert!(error.to_string().contains("names lsn"), "{error}");
    let expected = Expected { events: 0..36, hole: Some(30..31), cut: false };
    check_opened(&sim, "block of the same segment", &expected);
    let sim = rolled();
    let other = sim.bytes(SECOND);
    sim.damage(THIRD, |bytes| {
        bytes[to.position as usize..][..4096]
            .copy_from_slice(&other[to.position as usize..][..4096]);
    });
    check_refused(&sim, "block of another segment");
    check_opened(&sim, "block of another segment", &expected);
}

#[test]
fn stop_at_any_call_of_recovery_reaches_the_same_verdict() {
    let damaged = || {
        let sim = crashed();
        let (hit, torn) = (place_of(&sim, FIRST, 1), place_of(&sim, FIRST, 7));
        flip(&sim, FIRST, hit.payload_position());
        flip(&sim, FIRST, torn.payload_position());
        sim
    };
    let mut calls = 0;
    loop {
        let sim = damaged();
        sim.crash_after(calls);
        let opened = open_on(&sim, OnCorruption::Quarantine);
        if !sim.crashed() {
            break;
        }
        drop(opened.map(|(log, _)| stop(log)));
        for loss in [Loss::All { pages: true, names: true }, Loss::Seeded(calls as u64)] {
            let sim = sim.power_cut(loss);
            let (log, opened) = must_open(&sim, OnCorruption::Quarantine);
            assert_eq!(opened.report.tail, Offset(7), "stopped at call {calls}");
            assert_eq!(content(&log), (vec![0, 2, 3, 4, 5, 6], vec![range(1, 2)]));
            stop(log);
        }
        calls += 1;
    }
    assert!(calls > 15, "recovery has {calls} calls");
}
