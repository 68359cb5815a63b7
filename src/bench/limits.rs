//! What the disk can do without a log: positioned writes and `fdatasync`, nothing else.

use super::load::{Calls, Load, Style, on_one_thread, on_threads};
use super::{BenchError, Figures, Latency};
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::time::{Duration, Instant};
use tokio::sync::watch;

/// Bytes of the file that is written to, round and round: as a log's recycled segments.
const FILE_BYTES: u64 = 256 << 20;
const BLOCK: u64 = 4096;
/// Slices of one vectored write, at most.
const SLICES_MAX: usize = 1024;

/// A prepared file.
pub struct Bare {
    file: File,
}

impl Bare {
    /// Makes and zero-fills the file.
    ///
    /// # Errors
    /// The disk does not take it.
    pub fn new(dir: &Path) -> Result<Bare, BenchError> {
        let path = dir.join("bare");
        let io = || BenchError::io(format!("prepare {}", path.display()));
        let file = File::options().read(true).write(true).create_new(true).open(&path);
        let file = file.map_err(io())?;
        let zeros = vec![0; 1 << 20];
        for at in (0..FILE_BYTES).step_by(zeros.len()) {
            file.write_all_at(&zeros, at).map_err(io())?;
        }
        file.sync_all().map_err(io())?;
        Ok(Bare { file })
    }

    /// One write of 4 KiB and its `fdatasync` after the other; the latency of both together.
    ///
    /// # Errors
    /// The disk fails.
    pub fn fdatasync(&self, span: Duration) -> Result<Latency, BenchError> {
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
    ///
    /// # Errors
    /// The disk fails.
    pub fn sequential(&self, span: Duration) -> Result<f64, BenchError> {
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
    ///
    /// # Errors
    /// The disk fails.
    pub fn group_commit(&self, load: &Load, span: Duration) -> Result<Figures, BenchError> {
        let began = Instant::now();
        let queue = Arc::new(Queue::default());
        let (calls, written) = std::thread::scope(|scope| {
            let writer = scope.spawn(|| self.commit_groups(&queue));
            let task = |_| produce_task(Arc::clone(&queue), *load, began, span);
            let calls = match load.style {
                Style::Threads => on_threads(load.producers, || produce(&queue, load, began, span)),
                Style::Tasks => on_one_thread((0..load.producers).map(task)),
            };
            queue.state().closing = true;
            queue.queued.notify_one();
            (calls, writer.join().expect("the writer does not panic"))
        });
        written.map_err(BenchError::io("write a group"))?;
        Ok(Figures::of_puts(load, began.elapsed(), calls))
    }

    fn commit_groups(&self, queue: &Queue) -> io::Result<()> {
        let mut at = 0;
        while let Some((group, number)) = queue.take() {
            let written = self.write_group(&group, &mut at);
            queue.finish(number, written.is_err());
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
        for slices in slices.chunks(SLICES_MAX) {
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

/// One producer with a thread of its own.
fn produce(queue: &Queue, load: &Load, began: Instant, span: Duration) -> Calls {
    let mut calls = Calls::new(span);
    while began.elapsed() < span {
        let call = Instant::now();
        // the bytes of a put are new ones each time, as a source's are
        let number = queue.put(vec![b'x'; load.put_bytes()]);
        if !queue.wait(number) {
            break;
        }
        calls.note(call);
    }
    calls
}

/// One producer that is a task.
async fn produce_task(queue: Arc<Queue>, load: Load, began: Instant, span: Duration) -> Calls {
    let mut calls = Calls::new(span);
    let mut done = queue.done.subscribe();
    while began.elapsed() < span {
        let call = Instant::now();
        let number = queue.put(vec![b'x'; load.put_bytes()]);
        let waited = done.wait_for(|done| *done >= number).await;
        if waited.is_err() || queue.state().failed {
            break;
        }
        calls.note(call);
    }
    calls
}

#[derive(Default)]
struct State {
    waiting: Vec<Vec<u8>>,
    /// Groups that were taken, and how many of them are synced.
    taken: u64,
    done: u64,
    closing: bool,
    failed: bool,
}

#[derive(Default)]
struct Queue {
    state: Mutex<State>,
    queued: Condvar,
    /// Two groups have waiters at most: that under way, and the next. Nobody wakes for another's.
    synced: [Condvar; 2],
    /// The same for tasks.
    done: watch::Sender<u64>,
}

impl Queue {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no holder panics")
    }

    fn synced(&self, number: u64) -> &Condvar {
        &self.synced[number as usize % 2]
    }

    /// Hands bytes in; the number of their group.
    fn put(&self, bytes: Vec<u8>) -> u64 {
        let mut state = self.state();
        state.waiting.push(bytes);
        let (number, first) = (state.taken + 1, state.waiting.len() == 1);
        drop(state);
        if first {
            self.queued.notify_one();
        }
        number
    }

    /// Waits until a group is synced; false if that failed.
    fn wait(&self, number: u64) -> bool {
        let wait = |state: &mut State| state.done < number && !state.failed;
        !self.synced(number).wait_while(self.state(), wait).expect("no holder panics").failed
    }

    /// Everything that waits, as a group with its number; `None` at the end.
    fn take(&self) -> Option<(Vec<Vec<u8>>, u64)> {
        let wait = |state: &mut State| state.waiting.is_empty() && !state.closing;
        let mut state = self.queued.wait_while(self.state(), wait).expect("no holder panics");
        if state.waiting.is_empty() {
            return None;
        }
        state.taken += 1;
        Some((std::mem::take(&mut state.waiting), state.taken))
    }

    fn finish(&self, number: u64, failed: bool) {
        let mut state = self.state();
        state.done = number;
        state.failed |= failed;
        drop(state);
        // after a failure no later group comes: whoever waits for one must not wait on
        self.done.send_replace(if failed { u64::MAX } else { number });
        if failed {
            self.synced.iter().for_each(Condvar::notify_all);
        } else {
            self.synced(number).notify_all();
        }
    }
}
