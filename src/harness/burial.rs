//! Crashes around dead letters: a channel whose sink refuses some events, the agent's own keeper and
//! burials, and an end of the process at any call, or exactly between a letter and the cursor.
//! Whatever happens: each event is delivered or in the dead letters, none twice in these.
//!
//! On the simulated disk both logs crash together ([`run`]); on a real one the child ([`child`])
//! kills itself where a letter is durable and the cursor has not moved ([`kill_between`]).

use super::{quiet, record};
use crate::agent::{Burials, Keeper};
use crate::channel::cursors;
use crate::channel::dead::DeadLog;
use crate::channel::log::{ChannelOptions, LogChannel};
use crate::dispatch::{
    Action, Backoff, Cause, Command, DispatchOptions, FailurePolicy, GroupOptions, Millis,
    SinkOptions,
};
use crate::event::{Event, EventBatch};
use crate::log::{BatchBuilder, FileStorage, Log, LogError, LogOptions, Storage};
use crate::sim::{Cut, Sim, Within};
use crate::sink::{FailedEvents, Failure};
use std::collections::{BTreeSet, VecDeque};
use std::io::Write;
use std::path::Path;
use std::process::{Command as Process, Stdio};
use std::sync::Arc;

/// The hidden word of the command line that makes a process the child; its directory follows, and
/// after how many burials it kills itself (0: it ends in order).
pub const CHILD: &str = "__bury-until-killed";

/// Events of a run.
const EVENTS: u64 = 120;
/// Crashes of a run, before the life that ends in order.
pub const CRASHES: usize = 3;
/// Turns of one life: far more than a channel without trouble takes.
const TURNS_MAX: usize = 20_000;

/// Whether the sink refuses the event of this number.
fn is_poison(number: u64) -> bool {
    number % 7 == 3 || (60..64).contains(&number)
}

/// What may end a life.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Moment {
    /// A letter is durable, the cursor has not moved.
    Between,
    /// Anything else.
    Other,
}

/// What has happened in all lives.
#[derive(Default)]
struct Story {
    /// Numbers of the events that the sink took.
    taken: BTreeSet<u64>,
    /// Whether each is told on the output as it is taken.
    tells: bool,
}

fn dispatch_options(seed: u64) -> DispatchOptions {
    let sink = SinkOptions {
        batch_events_max: 1 + (seed % 20) as u32,
        queue_size: 1 + (seed % 3) as u32,
        policy: FailurePolicy::DeadLetter.into(),
        backoff: Backoff { first_ms: 1, max_ms: 4 },
        ..SinkOptions::named("k")
    };
    let group = GroupOptions { name: "g".into(), sinks: vec![sink], ..GroupOptions::default() };
    DispatchOptions { groups: vec![group], seed }
}

/// A channel and its dead letters, open.
struct Life {
    keeper: Keeper,
    burials: Burials,
    channel: Arc<LogChannel>,
}

impl Life {
    /// Opens both logs, as the agent does.
    fn open(
        main: Arc<dyn Storage>,
        dead: Arc<dyn Storage>,
        options: &LogOptions,
        seed: u64,
    ) -> Result<Life, String> {
        let (log, opened) = Log::open(main, options.clone()).map_err(|e| e.to_string())?;
        let states = match &opened.cursors {
            Some(bytes) => cursors::decode(bytes).map_err(|e| e.to_string())?,
            None => Vec::new(),
        };
        let channel = LogChannel::over(ChannelOptions::of_log("c", options.clone()), log);
        let mut dead = DeadLog::on(dead, options.clone());
        let letters = Burials::uncounted(&mut dead, "c", &dispatch_options(seed), &states);
        let letters = letters.map_err(|e| e.to_string())?;
        let burials = Burials::new(Arc::clone(&channel), dead).map_err(|e| e.to_string())?;
        let mut keeper = Keeper::new(Arc::clone(&channel), &dispatch_options(seed), &states);
        for letter in letters {
            keeper.dispatcher.written_before(&letter.group, letter.grave, letter.range);
        }
        Ok(Life { keeper, burials, channel })
    }

    /// Delivers until nothing is left, or `ends` says so, or the disk fails. True when all is done.
    fn live(&mut self, story: &mut Story, mut ends: impl FnMut(Moment) -> bool) -> bool {
        let mut reader = self.channel.log().reader();
        let mut now = 0;
        let mut actions = VecDeque::from([Action::Timer, Action::Tail(self.keeper.tail())]);
        for _ in 0..TURNS_MAX {
            let Some(action) = actions.pop_front() else {
                let done = self.keeper.dispatcher.watermark_min() == Some(self.keeper.tail());
                if done {
                    return self.save().and_then(|()| self.keeper.sync()).is_ok();
                }
                now += 5;
                actions.push_back(Action::Timer);
                continue;
            };
            if ends(Moment::Other) {
                return false;
            }
            for command in self.keeper.dispatcher.apply(Millis(now), action) {
                match command {
                    Command::Save if self.save().is_err() => return false,
                    Command::Open { sink } => actions.push_back(Action::SinkReady(sink)),
                    Command::Deliver { lease, range, .. } => {
                        let read = self.keeper.read(&mut reader, range, &mut Vec::new());
                        let Ok(batch) = read else { return false };
                        actions.push_back(match serve(&batch, story) {
                            None => Action::Delivered { lease },
                            Some(failure) => Action::Failed { lease, failure },
                        });
                    }
                    Command::Bury(burial) => {
                        actions.extend(self.burials.bury(&burial, "k", &mut Vec::new()));
                        if ends(Moment::Between) {
                            return false;
                        }
                    }
                    _ => {}
                }
            }
        }
        panic!("the channel does not come to an end");
    }

    fn save(&mut self) -> Result<(), LogError> {
        self.keeper.dispatcher.dead_tail_at(self.burials.tail());
        self.keeper.save()
    }
}

/// What the sink makes of a batch: all or nothing, as most targets do.
fn serve(batch: &EventBatch, story: &mut Story) -> Option<Failure> {
    let numbers: Vec<u64> = batch.iter().map(|event| number_of(event.event.body())).collect();
    if numbers.iter().any(|number| is_poison(*number)) {
        return Some(Failure {
            events: FailedEvents::All,
            cause: Cause::Refused,
            retryable: true,
            reason: "poison".to_owned(),
        });
    }
    if story.tells {
        // a line is told or not; the parent reads it after the end
        let lines: String = numbers.iter().map(|number| format!("{number}\n")).collect();
        std::io::stdout().write_all(lines.as_bytes()).expect("the parent reads");
    }
    story.taken.extend(numbers);
    None
}

fn number_of(body: &[u8]) -> u64 {
    u64::from_le_bytes(body[..8].try_into().expect("a body has eight bytes"))
}

/// Puts the events of a run, each with its number.
fn put_events(log: &Log, len: usize) -> Result<(), LogError> {
    for first in (0..EVENTS).step_by(10) {
        let mut batch = BatchBuilder::new();
        for number in first..first + 10 {
            batch.push_with(|out| Event::of_body(record(number, len)).encode(out));
        }
        log.put(batch)?;
    }
    Ok(())
}

/// Compares what was taken and what is in the dead letters with what there was. What was out at
/// three ends of the process may be there for that, too.
fn check(story: &Story, dead: &mut DeadLog) {
    let read = dead.open_letters().expect("nothing fails any more");
    let letters: Vec<_> =
        read.map(|letter| letter.expect("nothing fails any more").letter).collect();
    let offsets: BTreeSet<_> = letters.iter().map(|letter| letter.range.start).collect();
    assert_eq!(offsets.len(), letters.len(), "an event is twice in the dead letters");
    let mut left: BTreeSet<u64> = (0..EVENTS).collect();
    for letter in &letters {
        let number = number_of(&letter.event.body);
        left.remove(&number);
        let for_cause = is_poison(number) || letter.cause == Cause::Crashed.word();
        assert!(for_cause, "{number} is no event that the sink refuses: {}", letter.reason);
    }
    assert!(story.taken.iter().all(|number| !is_poison(*number)), "the sink takes no poison");
    let missing: Vec<_> = left.difference(&story.taken).collect();
    assert!(missing.is_empty(), "neither delivered nor in the dead letters: {missing:?}");
}

/// A run on the simulated disk that is crashed some times, at any call. Panics if an event is in no
/// place, or twice in the dead letters.
pub fn run(seed: u64) {
    let mut rng = fastrand::Rng::with_seed(seed);
    let mut sim = Sim::new(rng.u64(..));
    let mut story = Story::default();
    let (log, _) = Log::open(Arc::new(sim.clone()), quiet()).expect("nothing fails yet");
    put_events(&log, rng.usize(8..600)).expect("nothing fails yet");
    log.close().expect("nothing fails yet");
    for crash in 0..=CRASHES {
        if crash < CRASHES {
            let calls_max = if rng.bool() { 60 } else { 500 };
            sim.crash_after(rng.usize(..calls_max));
        }
        let storage: Arc<dyn Storage> = Arc::new(sim.clone());
        let dead: Arc<dyn Storage> = Arc::new(Within::new(Arc::clone(&storage), "dead"));
        match Life::open(storage, dead, &quiet(), rng.u64(..60)) {
            Ok(mut life) => {
                let done = life.live(&mut story, |_| sim.crashed());
                assert!(done || sim.crashed(), "a life ends by a crash, or with all done");
                if done && !sim.crashed() {
                    sim.crash_after(1 << 40);
                    check(&story, life.burials.log());
                }
                sim.stop();
            }
            Err(error) => assert!(sim.crashed(), "opening fails: {error}"),
        }
        let cut = Cut::Seeded(rng.u64(..));
        sim = if rng.bool() { sim.kill() } else { sim.power_cut(cut) };
    }
}

/// Delivers in the directory `dir`, and kills itself between a letter and the cursor after so many
/// burials; with 0, or with fewer to do, it ends in order. A line with its number on the output for
/// each event that the sink takes.
///
/// # Errors
/// What could not be opened or written.
pub fn child(dir: &Path, kill_after: u64) -> Result<(), String> {
    let main: Arc<dyn Storage> = Arc::new(FileStorage::new(dir));
    let dead: Arc<dyn Storage> = Arc::new(FileStorage::new(dir.join("dead")));
    let mut life = Life::open(main, dead, &quiet(), 7)?;
    let (mut story, mut buried) = (Story { tells: true, ..Story::default() }, 0);
    let done = life.live(&mut story, |moment| {
        buried += u64::from(moment == Moment::Between);
        if moment == Moment::Between && buried == kill_after {
            let own = rustix::process::getpid();
            let _ = rustix::process::kill_process(own, rustix::process::Signal::KILL);
        }
        false
    });
    if done { Ok(()) } else { Err("the channel did not come to an end".to_owned()) }
}

/// Kills a child in a new log beside `dir` again and again, always between a letter and the cursor,
/// until there is nothing left to do. Returns how often. Panics if an event is lost, or twice in the
/// dead letters.
pub fn kill_between(dir: &Path, seed: u64) -> u64 {
    let mut rng = fastrand::Rng::with_seed(seed);
    let mut killed = 0;
    let dir = dir.with_file_name(format!("burial-{seed}"));
    let (log, _) = Log::open_dir(&dir, quiet()).expect("the disk is well");
    put_events(&log, 100).expect("the disk is well");
    log.close().expect("the disk is well");
    drop(log);
    let mut story = Story::default();
    while spawn(&dir, rng.u64(1..4), &mut story) {
        killed += 1;
    }
    let dead: Arc<dyn Storage> = Arc::new(FileStorage::new(dir.join("dead")));
    let mut dead = DeadLog::on(dead, quiet());
    check(&story, &mut dead);
    drop(dead);
    std::fs::remove_dir_all(&dir).expect("the disk is well");
    killed
}

/// One life of a child; whether it was killed.
fn spawn(dir: &Path, kill_after: u64, story: &mut Story) -> bool {
    let program = std::env::current_exe().expect("this program has a path");
    let mut child = Process::new(program);
    child.arg(CHILD).arg(dir).arg(kill_after.to_string());
    let output = child.stdin(Stdio::null()).output().expect("a child can be started");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.code().is_none_or(|code| code == 0), "the child fails: {said}");
    let taken = String::from_utf8_lossy(&output.stdout);
    story.taken.extend(taken.lines().map(|line| line.parse::<u64>().expect("a number a line")));
    output.status.code().is_none()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::harness::tests::each_seed;

    #[test]
    fn each_event_is_delivered_or_once_in_the_dead_letters_whatever_call_crashes() {
        each_seed("LEVADA_BURIAL_RUNS", 300, run);
    }
}
