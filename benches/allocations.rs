//! Allocations on the hot path, counted: `cargo bench --bench allocations`. Not a time: the same
//! on every machine. Prints a line of JSON for each path.

#![allow(unsafe_code)] // the allocator that counts

use levada::event::encode_event;
use levada::log::{BatchBuilder, Log, LogOptions};
use levada::offset::Offset;
use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicU64, Ordering};

static CALLS: AtomicU64 = AtomicU64::new(0);
static BYTES: AtomicU64 = AtomicU64::new(0);

/// The system's allocator, and a count.
struct Counting;

#[global_allocator]
static ALLOCATOR: Counting = Counting;

// SAFETY: every call goes to the system's allocator as it came.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        CALLS.fetch_add(1, Ordering::Relaxed);
        BYTES.fetch_add(layout.size() as u64, Ordering::Relaxed);
        // SAFETY: the caller's promises are passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: as above.
        unsafe { System.dealloc(pointer, layout) }
    }
}

const BODY: [u8; 512] = [b'x'; 512];

/// Runs `work`, which handles `events`, and prints what it allocated for each; `stored` is the
/// bytes of an event in the log.
fn count(path: &str, batch: u32, events: u64, stored: f64, work: impl FnOnce()) {
    let before = (CALLS.load(Ordering::Relaxed), BYTES.load(Ordering::Relaxed));
    work();
    let calls = (CALLS.load(Ordering::Relaxed) - before.0) as f64 / events as f64;
    let bytes = (BYTES.load(Ordering::Relaxed) - before.1) as f64 / events as f64;
    println!(
        r#"{{"path":"{path}","batch":{batch},"allocations_per_event":{calls:.4},"allocations_per_batch":{:.2},"bytes_per_event":{bytes:.1},"bytes_per_stored_byte":{:.3}}}"#,
        calls * f64::from(batch),
        bytes / stored
    );
}

fn batch(events: u32) -> BatchBuilder {
    let mut batch = BatchBuilder::with_capacity(events as usize * (BODY.len() + 23));
    for _ in 0..events {
        let headers = [("host", "bench"), ("n", "1")];
        batch.push_with(|out| encode_event(headers.into_iter(), &BODY, out));
    }
    batch
}

fn main() {
    let dir = tempfile::tempdir().expect("a directory");
    let (log, _) = Log::open_dir(dir.path(), LogOptions::default()).expect("the log opens");
    let stored = batch(1).byte_len() as f64;
    log.put(batch(1000)).expect("a put"); // the first one sees to a segment
    for events in [1, 100, 1000] {
        let puts = 200;
        count("put", events, puts * u64::from(events), stored, || {
            for _ in 0..puts {
                log.put(batch(events)).expect("a put");
            }
        });
    }
    let mut reader = log.reader();
    let tail = reader.visible_tail();
    reader.read(Offset(0)..Offset(1), 1).expect("a read"); // the first one maps the segment
    count("read", 1000, tail.0, stored, || {
        let mut next = Offset(0);
        while next < tail {
            let read = reader.read(next..tail, 1000).expect("a read");
            assert!(read.batch.iter().all(|event| event.event.body().len() == BODY.len()));
            next = read.next;
        }
    });
}
