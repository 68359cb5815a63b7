//! What the disk can do without a log: positioned writes and `fdatasync`, nothing else.

use super::{BenchError, Figures, Latency, Options};
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::{Condvar, Mutex};
use std::time::{Duration, Instant};

/// Bytes of the file that is written to, round and round: as a log's recycled segments.
const FILE_BYTES: u64 = 256 << 20;
const BLOCK: u64 = 4096;

/// A prepared file, and the load of the bare loop.
pub(super) struct Bare {
    file: File,
    producers: u32,
    /// What one put of the log under test stores.
    put_bytes: usize,
    batch: u32,
    body: u32,
}

impl Bare {
    /// Makes and zero-fills the file.
    pub(super) fn new(dir: &Path, options: &Options) -> Result<Bare, BenchError> {
        let path = dir.join("bare");
        let io = || BenchError::io(format!("prepare {}", path.display()));
        let file = File::options().read(true).write(true).create_new(true).open(&path);
        let file = file.map_err(io())?;
        let zeros = vec![0; 1 << 20];
        for at in (0..FILE_BYTES).step_by(zeros.len()) {
            file.write_all_at(&zeros, at).map_err(io())?;
        }
        file.sync_all().map_err(io())?;
        let Options { producers, batch, body, .. } = *options;
        // as in the log: a frame of 8 bytes and two small headers an event, 64 bytes a batch
        let put_bytes = (batch as usize * (body as usize + 25)).next_multiple_of(64) + 64;
        Ok(Bare { file, producers, put_bytes, batch, body })
    }

    /// One write of 4 KiB and its `fdatasync` after the other; the latency of both together.
    pub(super) fn fdatasync(&self, span: Duration) -> Result<Latency, BenchError> {
        let (began, block) = (Instant::now(), vec![b'x'; BLOCK as usize]);
        let (mut calls, mut at) = (Vec::new(), 0);
        while began.elapsed() < span {
            let call = Instant::now();
            self.write_synced(&block, at).map_err(BenchError::io("sync 4 KiB"))?;
            calls.push(call.elapsed());
            at = (at + BLOCK) % FILE_BYTES;
        }
        Ok(Latency::of(calls))
    }

    /// Sequential writes, MB/s.
    pub(super) fn sequential(&self, span: Duration) -> Result<f64, BenchError> {
        let (began, block) = (Instant::now(), vec![b'x'; 4 << 20]);
        let (mut written, mut at) = (0u64, 0);
        while began.elapsed() < span {
            for _ in 0..16 {
                self.file.write_all_at(&block, at).map_err(BenchError::io("write 4 MiB"))?;
                at = (at + block.len() as u64) % FILE_BYTES;
                written += block.len() as u64;
            }
            self.file.sync_data().map_err(BenchError::io("sync 64 MiB"))?;
        }
        Ok(written as f64 / 1e6 / began.elapsed().as_secs_f64())
    }

    /// The bare group-commit loop: producers hand their bytes to one thread, which writes and syncs
    /// all that waits and wakes them.
    pub(super) fn group_commit(&self, span: Duration) -> Result<Figures, BenchError> {
        let began = Instant::now();
        let queue = Queue::default();
        let (calls, written) = std::thread::scope(|scope| {
            let writer = scope.spawn(|| self.commit_groups(&queue));
            let producers: Vec<_> = (0..self.producers)
                .map(|_| scope.spawn(|| self.produce(&queue, began, span)))
                .collect();
            let calls: Vec<Duration> = producers
                .into_iter()
                .flat_map(|producer| producer.join().expect("a producer does not panic"))
                .collect();
            queue.state().closing = true;
            queue.changed.notify_all();
            (calls, writer.join().expect("the writer does not panic"))
        });
        written.map_err(BenchError::io("write a group"))?;
        let events = calls.len() as u64 * u64::from(self.batch);
        Ok(Figures::new(events, self.body, began.elapsed(), calls))
    }

    fn produce(&self, queue: &Queue, began: Instant, span: Duration) -> Vec<Duration> {
        let mut calls = Vec::new();
        while began.elapsed() < span {
            let call = Instant::now();
            // the bytes of a put are new ones each time, as a source's are
            if !queue.put(vec![b'x'; self.put_bytes]) {
                break;
            }
            calls.push(call.elapsed());
        }
        calls
    }

    fn commit_groups(&self, queue: &Queue) -> io::Result<()> {
        let mut at = 0;
        while let Some((group, last)) = queue.take() {
            let written = self.write_group(&group, &mut at);
            let mut state = queue.state();
            state.done = last;
            state.failed |= written.is_err();
            drop(state);
            queue.changed.notify_all();
            written?;
        }
        Ok(())
    }

    fn write_group(&self, group: &[Vec<u8>], at: &mut u64) -> io::Result<()> {
        let bytes = group.iter().map(|put| put.len() as u64).sum::<u64>();
        if *at + bytes > FILE_BYTES {
            *at = 0;
        }
        let slices: Vec<_> = group.iter().map(|put| io::IoSlice::new(put)).collect();
        let mut place = *at;
        for slices in slices.chunks(1024) {
            let all = slices.iter().map(|slice| slice.len()).sum::<usize>();
            let written = rustix::io::pwritev(&self.file, slices, place)?;
            if written < all {
                return Err(io::Error::other("a short write: the disk is full"));
            }
            place += all as u64;
        }
        self.file.sync_data()?;
        *at = place.next_multiple_of(BLOCK) % FILE_BYTES;
        Ok(())
    }

    fn write_synced(&self, bytes: &[u8], at: u64) -> io::Result<()> {
        self.file.write_all_at(bytes, at)?;
        self.file.sync_data()
    }
}

#[derive(Default)]
struct State {
    waiting: Vec<Vec<u8>>,
    /// Puts handed in so far, and how many of them are synced.
    put: u64,
    done: u64,
    closing: bool,
    failed: bool,
}

#[derive(Default)]
struct Queue {
    state: Mutex<State>,
    changed: Condvar,
}

impl Queue {
    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().expect("no holder panics")
    }

    /// Hands bytes in and waits until they are synced; false if that failed.
    fn put(&self, bytes: Vec<u8>) -> bool {
        let mut state = self.state();
        state.waiting.push(bytes);
        state.put += 1;
        let ticket = state.put;
        self.changed.notify_all();
        let wait = |state: &mut State| state.done < ticket && !state.failed;
        !self.changed.wait_while(state, wait).expect("no holder panics").failed
    }

    /// Everything that waits, and the number of the last; `None` at the end.
    fn take(&self) -> Option<(Vec<Vec<u8>>, u64)> {
        let wait = |state: &mut State| state.waiting.is_empty() && !state.closing;
        let mut state = self.changed.wait_while(self.state(), wait).expect("no holder panics");
        if state.waiting.is_empty() {
            return None;
        }
        Some((std::mem::take(&mut state.waiting), state.put))
    }
}
