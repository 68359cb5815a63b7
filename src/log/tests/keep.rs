//! What is kept of what every group is done with: by retention, by holds, and how it gives way.

use super::*;
use std::time::Duration;

/// Puts `count` events, eight of them a segment at the most.
fn fill(log: &Log, count: u64) {
    for i in 0..count {
        log.put(batch(&[record(i, 6000)])).unwrap();
    }
}

/// Everything is done with, durably.
fn release(log: &Log) -> usize {
    let tail = log.tails().tail;
    log.save_cursors(b"", tail, tail).unwrap();
    log.sync_cursors().unwrap();
    log.reclaim(tail)
}

fn first(log: &Log) -> u64 {
    log.reader().first_offset().0
}

fn keeping(age: Option<Duration>, bytes: Option<u64>) -> LogOptions {
    LogOptions { retention: Retention { age, bytes }, ..quiet() }
}

const DAY: Duration = Duration::from_secs(86_400);

fn hold(dir: &TempDir, from: u64, to: u64) {
    let range = Offset(from)..Offset(to);
    let hold = Hold { name: "h".into(), range, made_ms: 0 };
    write_holds(&FileStorage::new(dir.path()), &[hold]).unwrap();
}

#[test]
fn retention_keeps_what_is_done_with_and_takes_no_room_for_it() {
    let dir = TempDir::new().unwrap();
    let (log, _) = open(&dir, keeping(Some(DAY), None));
    fill(&log, 100);
    let before = log.usage().bytes;
    assert_eq!((release(&log), first(&log)), (0, 0));
    assert!(before > 9 * (64 << 10), "{before}");
    assert!(log.usage().bytes <= 64 << 10, "{:?}", log.usage());
    assert_eq!(read_all(&log, Offset(0)..Offset(100)).len(), 100, "for replay");
    // the last one stays counted as long as an event of it is not done with
    fill(&log, 1);
    assert_eq!(log.usage().events, 1);
    log.close().unwrap();
    let (log, _) = open(&dir, keeping(None, Some(3 * (64 << 10))));
    let before = first(&log);
    assert!(release(&log) > 0);
    assert!(first(&log) > before);
    let kept = log.writer.segments.read().unwrap().len();
    assert!((3..=4).contains(&kept), "three, and the last one: {kept}");
}

#[test]
fn cursors_that_are_set_back_take_their_room_again() {
    let dir = TempDir::new().unwrap();
    let (log, _) = open(&dir, keeping(Some(DAY), None));
    fill(&log, 50);
    release(&log);
    let kept = log.usage().bytes;
    log.save_cursors(b"", Offset(50), Offset(10)).unwrap();
    assert!(log.usage().bytes > kept, "{:?}", log.usage());
}

#[test]
fn what_is_kept_goes_before_capacity_or_disk_is_short() {
    let dir = TempDir::new().unwrap();
    let capacity = 6 * (64 << 10);
    let options = LogOptions { capacity_bytes: capacity, ..keeping(Some(DAY), None) };
    let (log, _) = open(&dir, options);
    for _ in 0..20 {
        fill(&log, 10);
        release(&log);
        let segments = log.writer.segments.read().unwrap().len();
        assert!(segments <= 6, "{segments} segments are above maxBytes");
    }
    assert!(first(&log) > 0);
    assert!(log.tails().tail.since(log.reader().first_offset()) >= 30, "and no more than that");
    log.close().unwrap();
    let (log, _) = open(&dir, LogOptions { free_bytes_min: u64::MAX, ..keeping(Some(DAY), None) });
    release(&log);
    let before = first(&log);
    let kept = log.writer.segments.read().unwrap().len() as u64;
    fill(&log, 2 * 10);
    assert!(first(&log) > before, "recycled, for nothing new could be made");
    // with nothing done any more, the disk is full
    let put = (0..kept * 20).try_for_each(|i| log.put(batch(&[record(i, 6000)])).map(drop));
    assert!(matches!(put, Err(LogError::NoSpace { .. })), "{put:?}");
    assert!(first(&log) <= before + 100, "what nobody is done with stays");
}

#[test]
fn segments_that_are_kept_give_way_to_producers_with_the_logs_own_threads_too() {
    let dir = TempDir::new().unwrap();
    let retention = Retention { age: Some(DAY), bytes: None };
    let (log, _) = open(&dir, LogOptions { retention, ..small() });
    fill(&log, 100);
    release(&log);
    log.close().unwrap();
    let (log, _) = open(&dir, LogOptions { retention, free_bytes_min: u64::MAX, ..small() });
    release(&log);
    fill(&log, 40);
    assert!(first(&log) > 0);
    assert_eq!(read_all(&log, Offset(100)..Offset(140)).len(), 40);
}

#[test]
fn nothing_of_a_hold_is_reclaimed_also_when_room_is_short() {
    let dir = TempDir::new().unwrap();
    let options = LogOptions { capacity_bytes: 6 * (64 << 10), ..quiet() };
    let (log, _) = open(&dir, options);
    fill(&log, 30);
    hold(&dir, 15, 17);
    assert!(release(&log) > 0);
    let kept = first(&log);
    assert!((1..=15).contains(&kept), "{kept}");
    for _ in 0..5 {
        fill(&log, 20);
        assert_eq!(release(&log), 0);
    }
    assert_eq!((first(&log), read_all(&log, Offset(15)..Offset(130)).len()), (kept, 115));
    write_holds(&FileStorage::new(dir.path()), &[]).unwrap();
    assert!(release(&log) > 5);
}

#[test]
fn damaged_holds_stop_every_reclaim_until_they_are_mended() {
    let dir = TempDir::new().unwrap();
    let (log, _) = open(&dir, quiet());
    fill(&log, 30);
    hold(&dir, 100, 200);
    let bytes = std::fs::read(path(&dir, HOLDS_FILE)).unwrap();
    std::fs::write(path(&dir, HOLDS_FILE), &bytes[..bytes.len() - 5]).unwrap();
    assert_eq!(release(&log), 0);
    assert!(log.writer.holds_problem.lock().unwrap().is_some());
    std::fs::write(path(&dir, HOLDS_FILE), bytes).unwrap();
    assert!(release(&log) > 0);
    assert!(log.writer.holds_problem.lock().unwrap().is_none());
}

#[test]
fn nothing_goes_while_holds_are_being_changed() {
    let dir = TempDir::new().unwrap();
    let (log, _) = open(&dir, quiet());
    fill(&log, 30);
    let storage = FileStorage::new(dir.path());
    let lock = lock_holds(&storage).unwrap().unwrap();
    assert_eq!(release(&log), 0);
    drop(lock);
    assert!(release(&log) > 0);
    assert!(lock_holds(&storage).unwrap().is_some(), "let go when they are gone");
}
