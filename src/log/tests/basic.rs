//! What a log does when nothing goes wrong, and what it refuses.

use super::*;
use crate::sim::{End, Sim};

#[test]
fn put_returns_dense_offsets_and_the_reader_gives_the_records_back() {
    let dir = TempDir::new().unwrap();
    let (log, _) = open(&dir, small());
    let mut expected = Vec::new();
    for i in 0..100u64 {
        let records: Vec<_> = (0..3).map(|j| record(i * 3 + j, 700)).collect();
        let offsets = log.put(batch(&records)).unwrap();
        assert_eq!(offsets, Offset(i * 3)..Offset(i * 3 + 3));
        expected.extend(records.into_iter().zip(i * 3..).map(|(r, at)| (at, r)));
    }
    assert_eq!(read_all(&log, Offset(0)..Offset(300)), expected);
    // and from the middle of a batch, far back
    assert_eq!(read_all(&log, Offset(4)..Offset(6)), expected[4..6]);
    log.close().unwrap();
}

#[test]
fn group_that_is_written_in_parts_reads_as_one() {
    let dir = TempDir::new().unwrap();
    let options = LogOptions { segment_bytes: 8 << 20, background: false, ..LogOptions::default() };
    let (log, _) = open(&dir, options.clone());
    // no part ends at the border of a page; one batch alone is more than a part
    let lens = [300_000, 300_001, 700_000, 10, 299_999];
    let records: Vec<_> = (0..).zip(lens).map(|(id, len)| record(id, len)).collect();
    let groups = log.counts().groups;
    let (last, first) = records.split_last().unwrap();
    for one in first {
        let one = batch(std::slice::from_ref(one));
        assert!(log.try_reserve(&one).unwrap());
        drop(log.queue(one));
    }
    assert_eq!(log.put(batch(std::slice::from_ref(last))).unwrap(), Offset(4)..Offset(5));
    assert_eq!(log.counts().groups - groups, 1);
    log.close().unwrap();
    let (log, opened) = open(&dir, options);
    assert_eq!(opened.report.tail, Offset(5));
    let read: Vec<_> = read_all(&log, Offset(0)..Offset(5)).into_iter().map(|(_, r)| r).collect();
    assert!(read == records);
}

#[test]
fn clean_close_leaves_nothing_to_recover() {
    let dir = TempDir::new().unwrap();
    let (log, opened) = open(&dir, small());
    assert!(opened.report.created);
    log.put(batch(&[record(1, 10)])).unwrap();
    log.save_cursors(b"cursors", Offset(1), Offset(0)).unwrap();
    log.close().unwrap();
    let (log, opened) = open(&dir, small());
    assert!(!opened.report.created);
    assert_eq!(opened.report.epoch, 2);
    assert_eq!((opened.report.cut, opened.report.damage.len()), (None, 0));
    assert_eq!(opened.report.tail, Offset(1));
    assert_eq!(opened.cursors.as_deref(), Some(&b"cursors"[..]));
    assert_eq!(log.put(batch(&[record(2, 10)])).unwrap(), Offset(1)..Offset(2));
    assert_eq!(read_all(&log, Offset(0)..Offset(2)).len(), 2);
}

#[test]
fn second_owner_is_refused_and_told_who_has_it() {
    let dir = TempDir::new().unwrap();
    let (_log, _) = open(&dir, small());
    let refused = Log::open_dir(dir.path(), small()).err().unwrap();
    let owner = format!("pid {}", std::process::id());
    assert!(matches!(&refused, LogError::InUse { owner: o, .. } if *o == owner), "{refused}");
}

#[test]
fn flume_file_channel_directory_is_refused_with_a_way_out() {
    let dir = TempDir::new().unwrap();
    std::fs::write(path(&dir, "log-12"), b"x").unwrap();
    let refused = Log::open_dir(dir.path(), small()).err().unwrap().to_string();
    assert!(refused.contains("file channel of Apache Flume (log-12)"), "{refused}");
    assert!(!path(&dir, "log").exists(), "nothing was made there");
}

#[test]
fn batch_that_fits_no_segment_is_refused_at_once() {
    let dir = TempDir::new().unwrap();
    let (log, _) = open(&dir, small());
    let refused = log.put(batch(&[vec![0; 60 << 10]])).unwrap_err();
    assert!(matches!(refused, LogError::TooLarge { limit, .. } if limit < 60 << 10), "{refused}");
    let limit = crate::log::format::payload_bytes_max(64 << 10) as usize;
    log.put(batch(&[vec![0; limit - 4]])).unwrap();
}

#[test]
fn full_log_waits_for_room_then_says_full_and_takes_events_again() {
    let dir = TempDir::new().unwrap();
    let (log, _) = open(&dir, LogOptions { capacity_events: 2, ..small() });
    let one = || batch(&[record(0, 8)]);
    log.put(one()).unwrap();
    log.put(one()).unwrap();
    let wait = Some(Duration::from_millis(1));
    assert!(matches!(log.put_within(one(), wait), Err(LogError::Full { events: 2, .. })));
    log.save_cursors(b"", Offset(1), Offset(1)).unwrap();
    log.put_within(one(), wait).unwrap();
    assert_eq!(log.usage().events, 2);
}

#[test]
fn put_that_waits_goes_on_when_room_comes() {
    let dir = TempDir::new().unwrap();
    let (log, _) = open(&dir, LogOptions { capacity_events: 1, ..small() });
    log.put(batch(&[record(0, 8)])).unwrap();
    std::thread::scope(|scope| {
        let waiting = scope.spawn(|| log.put(batch(&[record(1, 8)])));
        log.save_cursors(b"", Offset(1), Offset(1)).unwrap();
        assert_eq!(waiting.join().unwrap().unwrap(), Offset(1)..Offset(2));
    });
}

#[test]
fn reclaim_gives_whole_segments_back_and_recycles_them() {
    let dir = TempDir::new().unwrap();
    let (log, _) = open(&dir, quiet());
    for i in 0..100 {
        log.put(batch(&[record(i, 4000)])).unwrap();
    }
    let segments = std::fs::read_dir(path(&dir, "log")).unwrap().count();
    assert!(segments >= 7, "rolls happened");
    log.save_cursors(b"", Offset(100), Offset(100)).unwrap();
    log.sync_cursors().unwrap();
    let freed = log.reclaim(Offset(100));
    assert_eq!(freed, segments - 1, "all but the active one");
    for i in 100..200 {
        log.put(batch(&[record(i, 4000)])).unwrap();
    }
    let made = std::fs::read_dir(path(&dir, "log")).unwrap().count();
    assert!(made <= segments + log.writer.options.spare_count, "{made} files, {segments} before");
    assert_eq!(read_all(&log, Offset(190)..Offset(200)).len(), 10);
    let missing = log.reader().read(Offset(0)..Offset(200), 1000).unwrap().missing;
    assert_eq!(missing[0].reason, MissingReason::Reclaimed);
}

#[test]
fn spares_that_a_backlog_left_are_removed_one_a_second_and_used_after_a_kill() {
    let sim = Sim::new(1);
    let options = || LogOptions { spare_count: 1, ..quiet() };
    let files = |sim: &Sim| sim.list("log").unwrap().len();
    let second = 1_000_000_000;
    let begun = sim.now_ns();
    sim.stop_clock(begun);
    let (log, _) = Log::open(Arc::new(sim.clone()), options()).unwrap();
    for i in 0..200 {
        log.put(batch(&[record(i, 4000)])).unwrap();
    }
    log.save_cursors(b"", Offset(200), Offset(200)).unwrap();
    log.sync_cursors().unwrap();
    let segments = files(&sim);
    assert!(log.reclaim(Offset(200)) > 10);
    assert_eq!(files(&sim), segments, "all are spares now");
    // for a second they might have been needed
    for seconds in 1..5 {
        sim.stop_clock(begun + seconds * second);
        log.writer.maker.retire_now(); // nothing more, but the time has come
        assert_eq!(files(&sim), segments - (seconds as usize - 1));
    }
    let sim = sim.restart(End::Kill);
    drop(log);
    let (log, _) = Log::open(Arc::new(sim.clone()), options()).unwrap();
    assert_eq!(files(&sim), segments - 3, "opening removes none");
    for i in 200..400 {
        log.put(batch(&[record(i, 4000)])).unwrap();
    }
    assert_eq!(read_all(&log, Offset(200)..Offset(400)).len(), 200);
}

#[test]
fn slice_that_a_sink_still_holds_keeps_its_bytes_through_reclaim() {
    let dir = TempDir::new().unwrap();
    let (log, _) = open(&dir, quiet());
    for i in 0..60 {
        log.put(batch(&[record(i, 4000)])).unwrap();
    }
    let held = log.reader().read(Offset(0)..Offset(1), 1).unwrap().batch;
    log.reclaim(Offset(60));
    for i in 60..200 {
        log.put(batch(&[record(i, 4000)])).unwrap();
        log.reclaim(Offset(i));
    }
    assert_eq!(&held.parts()[0].records[4..], record(0, 4000));
}

#[test]
fn memory_log_is_the_same_engine() {
    let (log, _) = Log::in_memory(LogOptions { segment_bytes: 64 << 10, ..small() }).unwrap();
    for i in 0..200 {
        log.put(batch(&[record(i, 4000)])).unwrap();
    }
    let seen = read_all(&log, Offset(0)..Offset(200));
    assert!(seen.iter().all(|(at, r)| *r == record(*at, 4000)));
    log.save_cursors(b"", Offset(200), Offset(200)).unwrap();
    assert!(log.reclaim(Offset(200)) > 5);
    log.close().unwrap();
}

#[test]
fn puts_of_many_threads_and_tasks_are_whole_and_in_each_ones_order() {
    let dir = TempDir::new().unwrap();
    let (log, _) = open(&dir, small());
    let puts = |producer: u64, log: &Log| {
        for i in 0..50u64 {
            let records = [record(producer << 32 | i, 100), record(producer << 32 | i, 100)];
            if producer.is_multiple_of(2) {
                log.put(batch(&records)).unwrap();
            } else {
                let batch = batch(&records);
                assert!(log.try_reserve(&batch).unwrap());
                ticket::block_on(log.submit(batch), None).unwrap().unwrap();
            }
        }
    };
    std::thread::scope(|scope| {
        for producer in 0..8 {
            let log = &log;
            scope.spawn(move || puts(producer, log));
        }
    });
    let seen = read_all(&log, Offset(0)..Offset(800));
    let mut next = [0u64; 8];
    for pair in seen.chunks(2) {
        assert_eq!(pair[0].1, pair[1].1, "a batch is whole");
        let id = u64::from_le_bytes(pair[0].1[..8].try_into().unwrap());
        let (producer, i) = ((id >> 32) as usize, id & 0xffff_ffff);
        assert_eq!(i, next[producer], "producer {producer} in order");
        next[producer] += 1;
    }
    assert_eq!(next, [50; 8]);
}

#[test]
fn seek_time_finds_the_first_event_at_or_after() {
    let dir = TempDir::new().unwrap();
    let (log, _) = open(&dir, quiet());
    for i in 0..50 {
        log.put(batch(&[record(i, 4000)])).unwrap();
    }
    let reader = log.reader();
    assert_eq!(reader.seek_time(0).unwrap(), Offset(0));
    assert_eq!(reader.seek_time(u64::MAX).unwrap(), Offset(50));
    let read = log.reader().read(Offset(30)..Offset(31), 1).unwrap();
    let time_ms = read.batch.parts()[0].time_ms;
    let found = reader.seek_time(time_ms).unwrap();
    assert!(found <= Offset(30), "{found}");
    let first = log.reader().read(found..found.plus(1), 1).unwrap();
    assert!(first.batch.parts()[0].time_ms >= time_ms);
}

/// A file that was replaced was cut to nothing first: whoever had it mapped (walctl, say, on a
/// segment that became a spare) died of SIGBUS.
#[test]
fn file_that_is_replaced_stays_whole_for_those_who_have_it_mapped() {
    let dir = TempDir::new().unwrap();
    let storage = FileStorage::new(dir.path());
    let old = storage.create("file", 8192).unwrap();
    old.write_at(0, &[std::io::IoSlice::new(b"mapped")]).unwrap();
    let view = old.view().unwrap();
    let new = storage.create("file", 4096).unwrap();
    assert_eq!(new.len().unwrap(), 4096);
    view.prefetch(0, 8192).unwrap();
    assert_eq!(view.bytes(0, 6), Some(&b"mapped"[..]));
}

#[test]
fn closed_log_touches_nothing_that_may_be_another_owners() {
    let dir = TempDir::new().unwrap();
    let (log, _) = open(&dir, quiet());
    for i in 0..60 {
        log.put(batch(&[record(i, 4000)])).unwrap();
    }
    let mut reader = log.reader();
    log.close().unwrap();
    let (other, opened) = open(&dir, quiet());
    assert_eq!(opened.report.cut, None);
    assert!(matches!(log.save_cursors(b"late", Offset(60), Offset(60)), Err(LogError::Closed)));
    assert!(matches!(log.sync_cursors(), Err(LogError::Closed)));
    assert!(matches!(log.put(batch(&[record(0, 8)])), Err(LogError::Closed)));
    assert_eq!(log.reclaim(Offset(60)), 0);
    log.sync().unwrap();
    log.close().unwrap();
    assert_eq!(reader.read(Offset(0)..Offset(60), 100).unwrap().batch.len(), 60);
    assert_eq!(other.put(batch(&[record(60, 8)])).unwrap(), Offset(60)..Offset(61));
    other.close().unwrap();
    let (_, opened) = open(&dir, quiet());
    assert_eq!((opened.cursors, opened.report.tail), (None, Offset(61)));
}

#[test]
fn log_without_spares_ahead_makes_each_segment_when_it_is_needed() {
    let dir = TempDir::new().unwrap();
    let (log, _) = open(&dir, LogOptions { spare_count: 0, ..small() });
    for i in 0..60 {
        log.put(batch(&[record(i, 4000)])).unwrap();
    }
    assert_eq!(read_all(&log, Offset(0)..Offset(60)).len(), 60);
}
