//! The log's parts, each alone: encoding, append, group commit, read, acknowledgement, opening. `walctl bench DIR` measures
//! the whole, beside what the disk can do. Set `TMPDIR` to a directory on the disk to be measured.

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use levada::event::{EventRef, Records, encode_event};
use levada::log::{BatchBuilder, Durability, Log, LogOptions};
use levada::offset::Offset;
use std::fs::File;
use std::hint::black_box;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

const BODY_BYTES: usize = 512;

fn batch(events: u32) -> BatchBuilder {
    let body = [b'x'; BODY_BYTES];
    let mut batch = BatchBuilder::with_capacity(events as usize * (BODY_BYTES + 32));
    for _ in 0..events {
        let headers = [("host", "bench"), ("n", "1")];
        batch.push_with(|out| encode_event(headers.into_iter(), &body, out));
    }
    batch
}

fn open(dir: &Path, durability: Durability) -> Log {
    let options = LogOptions { durability, ..LogOptions::default() };
    Log::open_dir(dir, options).expect("the log opens").0
}

/// Gives everything back now and then, so that the disk does not fill.
fn drain(log: &Log) {
    let tail = log.tails().durable_tail;
    log.save_cursors(&[0; 64], tail, tail).expect("cursors are saved");
    log.sync_cursors().expect("cursors are synced");
    log.reclaim(tail);
}

/// Events to bytes and back, without a log.
fn format(c: &mut Criterion) {
    let mut group = c.benchmark_group("format");
    group.throughput(Throughput::Elements(100));
    group.bench_function("encode/100", |b| b.iter(|| black_box(batch(100))));
    let encoded = batch(100);
    group.bench_function("decode/100", |b| {
        b.iter(|| {
            let records = Records::new(encoded.records());
            let events = records.map(|record| EventRef::decode(record).expect("an event"));
            events.map(|event| event.body().len()).sum::<usize>()
        });
    });
    group.finish();
}

/// What an acknowledgement costs: the cursors of a channel with one sink are written, not synced.
fn ack(c: &mut Criterion) {
    let dir = tempfile::tempdir().expect("a directory");
    let log = open(dir.path(), Durability::Os);
    log.put(batch(1)).expect("a put");
    c.bench_function("ack", |b| {
        b.iter(|| log.save_cursors(&[0; 64], Offset(1), Offset(0)).expect("cursors are saved"));
    });
}

/// One producer: a put at each durability.
fn append(c: &mut Criterion) {
    let mut group = c.benchmark_group("append");
    for (name, durability) in [("os", Durability::Os), ("always", Durability::Always)] {
        for events in [1, 100] {
            let dir = tempfile::tempdir().expect("a directory");
            let log = open(dir.path(), durability);
            group.throughput(Throughput::Elements(events.into()));
            let mut puts = 0u64;
            group.bench_function(BenchmarkId::new(name, events), |b| {
                b.iter(|| {
                    log.put(batch(events)).expect("a put");
                    puts += 1;
                    if puts.is_multiple_of(1000) {
                        drain(&log);
                    }
                });
            });
        }
    }
    group.finish();
}

/// Several producers share syncs; time is that of all puts of all producers.
fn group_commit(c: &mut Criterion) {
    let mut group = c.benchmark_group("group_commit");
    group.sample_size(10);
    for producers in [1, 4, 16, 64] {
        let dir = tempfile::tempdir().expect("a directory");
        let log = open(dir.path(), Durability::Always);
        group.throughput(Throughput::Elements(100));
        group.bench_function(BenchmarkId::new("puts_of_100", producers), |b| {
            b.iter_custom(|puts| {
                let began = Instant::now();
                std::thread::scope(|scope| {
                    for _ in 0..producers {
                        scope.spawn(|| {
                            for _ in 0..puts.div_ceil(producers) {
                                log.put(batch(100)).expect("a put");
                            }
                        });
                    }
                });
                let took = began.elapsed();
                drain(&log);
                took
            });
        });
    }
    group.finish();
}

/// A reader over 64 MiB that are in the page cache, checksums included.
fn read(c: &mut Criterion) {
    let dir = tempfile::tempdir().expect("a directory");
    let log = open(dir.path(), Durability::Os);
    let bytes = (0..1000).map(|_| {
        let batch = batch(120);
        let bytes = batch.byte_len() as u64;
        log.put(batch).expect("a put");
        bytes
    });
    let bytes = bytes.sum();
    let mut group = c.benchmark_group("read");
    group.throughput(Throughput::Bytes(bytes));
    group.bench_function("hot", |b| {
        b.iter(|| {
            let mut reader = log.reader();
            let (mut next, tail) = (Offset(0), reader.visible_tail());
            while next < tail {
                let read = reader.read(next..tail, 1000).expect("a read");
                black_box(read.batch.len());
                next = read.next;
            }
        });
    });
    group.finish();
}

/// Opening after a crash: the backlog must not matter, only the last segment is walked.
fn recovery(c: &mut Criterion) {
    let mut group = c.benchmark_group("open");
    group.sample_size(20).measurement_time(Duration::from_secs(5));
    for events in [2_000u32, 2_000_000] {
        let dir = tempfile::tempdir().expect("a directory");
        let log = open(dir.path(), Durability::Os);
        for _ in 0..events / 1000 {
            log.put(batch(1000)).expect("a put");
        }
        log.sync().expect("a sync");
        // never closed: what opens is what a kill would leave
        let image = tempfile::tempdir().expect("a directory");
        copy(dir.path(), image.path());
        drop(log);
        let last = last_segment(image.path());
        let crashed = std::fs::read(&last).expect("a file");
        group.bench_function(BenchmarkId::new("unread_events", events), |b| {
            b.iter_custom(|times| {
                let mut took = Duration::ZERO;
                for _ in 0..times {
                    // as the crash left it: without the seal that the last opening wrote
                    std::fs::write(&last, &crashed).expect("a file is written");
                    File::open(&last).and_then(|file| file.sync_all()).expect("a sync");
                    let (options, began) = (LogOptions::default(), Instant::now());
                    let (log, opened) = Log::open_dir(image.path(), options).expect("it opens");
                    took += began.elapsed();
                    assert_eq!(opened.report.tail, Offset(events.into()));
                    log.close().expect("it closes");
                }
                took
            });
        });
    }
    group.finish();
}

/// The last file that holds batches; spares behind it hold zeros.
fn last_segment(dir: &Path) -> PathBuf {
    let files = std::fs::read_dir(dir.join("log")).expect("a directory");
    let mut files: Vec<_> = files.map(|entry| entry.expect("an entry").path()).collect();
    files.sort_unstable();
    let holds = |path: &PathBuf| std::fs::read(path).expect("a file")[..8] != [0; 8];
    files.into_iter().rfind(holds).expect("a segment")
}

/// Copies a directory and what is below it.
fn copy(from: &Path, to: &Path) {
    for entry in std::fs::read_dir(from).expect("a directory") {
        let entry = entry.expect("an entry");
        let (path, target) = (entry.path(), to.join(entry.file_name()));
        if path.is_dir() {
            std::fs::create_dir(&target).expect("a directory is made");
            copy(&path, &target);
        } else {
            std::fs::copy(path, target).expect("a file is copied");
        }
    }
}

criterion_group!(benches, format, append, group_commit, read, ack, recovery);
criterion_main!(benches);
