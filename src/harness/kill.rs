//! `kill -9` of a real process that puts into a log on a real disk.
//!
//! The child is this program once more ([`child`]). It says on its output what was acknowledged and
//! what it is done with; a line is written after the fact, so that what the parent read is true.
//! What the child put and did not come to tell may be there or not.

use super::{batch, record};
use crate::event::Records;
use crate::log::{Log, LogOptions};
use crate::offset::Offset;
use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// The hidden word of the command line that makes a process the child; its directory follows.
pub const CHILD: &str = "__put-until-killed";

/// Producers of the child: enough for the log to write one half's group before the other's are told.
const PRODUCERS: u64 = 24;
/// Most events that wait before the child gives segments back.
const BACKLOG: u64 = 400;

fn options() -> LogOptions {
    LogOptions { segment_bytes: 256 << 10, ..LogOptions::default() }
}

/// The records of a put, drawn from its number.
fn records(put: u64) -> Vec<Vec<u8>> {
    let mut rng = fastrand::Rng::with_seed(put);
    (0..rng.u64(1..6)).map(|i| record(put * 8 + i, rng.usize(8..3000))).collect()
}

/// Puts until it is killed, from several threads, and gives back what it has seen. One line for
/// each answer: `a FIRST PUT` (acknowledged), `r OFFSET` (about to be released), `d OFFSET` (done).
///
/// # Errors
/// What the log says.
pub fn child(dir: &Path) -> Result<(), Box<dyn std::error::Error>> {
    let (log, opened) = Log::open_dir(dir, options())?;
    let next = AtomicU64::new(opened.report.tail.0);
    let say = Mutex::new(std::io::stdout());
    let tell = |line: String| {
        let mut say = say.lock().expect("no holder panics");
        // one write: a line is told or not
        say.write_all(line.as_bytes()).and_then(|()| say.flush()).expect("the parent reads");
    };
    tell("o\n".to_owned());
    std::thread::scope(|scope| {
        for _ in 0..PRODUCERS {
            scope.spawn(|| {
                loop {
                    // a put has an offset or more: no later life uses a number again
                    let put = next.fetch_add(1, Ordering::Relaxed);
                    let offsets = log.put(batch(&records(put))).expect("the disk is well");
                    tell(format!("a {} {put}\n", offsets.start.0));
                }
            });
        }
        let mut released = log.tails().tail.0.saturating_sub(BACKLOG);
        loop {
            let tail = log.reader().visible_tail();
            let upto = tail.0.saturating_sub(BACKLOG);
            if upto > released {
                tell(format!("r {upto}\n"));
                let saved = log.save_cursors(&upto.to_le_bytes(), tail, Offset(upto));
                saved.and_then(|()| log.sync_cursors()).expect("the disk is well");
                tell(format!("d {upto}\n"));
                log.reclaim(Offset(upto));
                released = upto;
            }
            std::thread::sleep(Duration::from_millis(1));
        }
    })
}

/// What the children of a directory have said, over all their lives.
#[derive(Default)]
pub struct Story {
    /// Puts that were acknowledged, by first offset, of those that were not seen released.
    acknowledged: BTreeMap<u64, u64>,
    /// Highest offset that a child was about to release, and that one was done with.
    promised: u64,
    done: u64,
}

impl Story {
    /// Whether nothing was said yet: the directory may have the log of an earlier run.
    fn fresh(&self) -> bool {
        self.promised == 0
    }
}

/// Lets a child put into the log in `dir` for a while, kills it, and compares what is there with
/// what it said. Returns how many puts were acknowledged. Panics if a promise is broken.
pub fn cycle(story: &mut Story, dir: &Path, seed: u64) -> u64 {
    let program = std::env::current_exe().expect("this program has a path");
    let mut rng = fastrand::Rng::with_seed(seed);
    let mut child = Command::new(program);
    child.arg(CHILD).arg(dir).stdin(Stdio::null()).stdout(Stdio::piped());
    let mut child = child.spawn().expect("a child can be started");
    let said = BufReader::new(child.stdout.take().expect("it is piped"));
    let (open, opened) = std::sync::mpsc::channel();
    let listen = std::thread::spawn(move || {
        let mut heard = Story::default();
        for line in said.lines().map_while(Result::ok) {
            let words: Vec<_> = line.split(' ').collect();
            let number = |at: usize| words[at].parse::<u64>().expect("the child writes numbers");
            match words[0] {
                "o" => drop(open.send(())),
                "a" => drop(heard.acknowledged.insert(number(1), number(2))),
                "r" => heard.promised = number(1),
                _ => heard.done = number(1),
            }
        }
        heard
    });
    // some are killed while they open
    if rng.u8(..4) > 0 {
        opened.recv_timeout(Duration::from_secs(60)).expect("the child opens its log");
    }
    std::thread::sleep(Duration::from_millis(rng.u64(1..120)));
    child.kill().expect("a child can be killed");
    let status = child.wait().expect("it was started");
    let Story { acknowledged, promised, done } = listen.join().expect("it only reads");
    assert!(status.code().is_none(), "the child ended by itself: {status}");
    let count = acknowledged.len() as u64;
    story.acknowledged.extend(acknowledged);
    story.promised = story.promised.max(promised);
    story.done = story.done.max(done);
    look(story, dir);
    count
}

/// Opens the log as the next owner does, and looks for everything that was acknowledged.
fn look(story: &mut Story, dir: &Path) {
    let (log, found) = Log::open_dir(dir, options()).expect("a log opens after a kill");
    assert!(found.report.damage.is_empty(), "no damage was done: {:?}", found.report.damage);
    let cursor = found.cursors.as_deref().map_or(0, |bytes| {
        u64::from_le_bytes(bytes.try_into().expect("the child saves eight bytes"))
    });
    assert!(cursor >= story.done, "cursor {} became {cursor}", story.done);
    assert!(story.fresh() || cursor <= story.promised, "cursor {cursor} was never saved");
    let tail = log.tails().tail;
    let read = log.reader().read(Offset(cursor)..tail, u64::MAX).expect("the disk is well");
    assert!(read.missing.is_empty(), "every offset has its event: {:?}", read.missing);
    let mut there = BTreeMap::new();
    for part in read.batch.parts() {
        there.extend((part.first.0..).zip(Records::new(&part.records).map(<[u8]>::to_vec)));
    }
    for (first, put) in &story.acknowledged {
        for (at, record) in (*first..).zip(records(*put)) {
            if at >= cursor {
                assert_eq!(there.get(&at), Some(&record), "acknowledged offset {at}, put {put}");
            }
        }
    }
    story.acknowledged.retain(|first, _| *first >= cursor);
    log.close().expect("the disk is well");
}
