//! Parts of the harness by the seed: on several threads, up to a goal.

use super::rot::{Counts, rot_seed};
use super::{Seen, burial, channel, crash, fault, kill, machine};
use std::any::Any;
use std::cell::RefCell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// A way to put the promises to the test.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Part {
    /// Every legal state after a power cut or a kill, at each call of a trace.
    States,
    /// Random runs that are crashed some times, recovery included.
    Crashes,
    /// Random operations against a plain list.
    Machine,
    /// The same over the whole channel: leases, failures, cursors, several sinks.
    Channel,
    /// The same around dead letters: a channel and its dead-letter log are crashed together.
    Burials,
    /// The n-th storage call fails, for each n of a trace.
    Faults,
    /// Bits flip, blocks are lost, stale, swapped or misdirected in clean images of a log.
    Rot,
    /// `kill -9` of a process that puts into a log on a real disk.
    Kill,
    /// The same of one that writes dead letters, always between a letter and the cursor.
    KillBetween,
}

impl Part {
    /// All of them.
    pub const ALL: [Part; 9] = [
        Part::States,
        Part::Crashes,
        Part::Machine,
        Part::Channel,
        Part::Burials,
        Part::Faults,
        Part::Rot,
        Part::Kill,
        Part::KillBetween,
    ];

    /// Whether it needs a directory on a real disk.
    pub fn is_real(self) -> bool {
        matches!(self, Part::Kill | Part::KillBetween)
    }

    /// As the command line calls it.
    pub fn name(self) -> &'static str {
        match self {
            Part::States => "states",
            Part::Crashes => "crashes",
            Part::Machine => "machine",
            Part::Channel => "channel",
            Part::Burials => "burials",
            Part::Faults => "faults",
            Part::Rot => "rot",
            Part::Kill => "kill",
            Part::KillBetween => "kill-between",
        }
    }

    /// What its cases are.
    pub fn cases(self) -> &'static str {
        match self {
            Part::States => "distinct crash states",
            Part::Crashes | Part::Burials => "crashes",
            Part::KillBetween => "kills",
            Part::Machine | Part::Channel => "traces",
            Part::Faults => "failed calls",
            Part::Rot => "harms and torn tails",
            Part::Kill => "acknowledged puts",
        }
    }
}

/// Where and how long parts are run.
#[derive(Clone, Debug)]
pub struct Course {
    /// The first seed; the others follow it.
    pub seed: u64,
    /// Threads that take seeds.
    pub threads: usize,
    /// Ends a part after so many seeds.
    pub seeds: Option<u64>,
    /// Ends a part after so many cases.
    pub cases: Option<u64>,
    /// Ends a part after so long.
    pub time: Option<Duration>,
    /// Directory of the logs on a real disk.
    pub dir: Option<PathBuf>,
}

/// A promise that was broken.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Broken {
    /// Which part found it.
    pub part: Part,
    /// With which seed: the same again breaks it again (but for [`Part::Kill`], which has a real
    /// clock).
    pub seed: u64,
    /// What was not as it must be.
    pub what: String,
}

/// How far a part has come; readable while it runs.
#[derive(Default)]
pub struct Count {
    seeds: AtomicU64,
    cases: AtomicU64,
    seen: Seen,
    story: Mutex<kill::Story>,
    rot: Mutex<Counts>,
}

impl Count {
    /// Seeds that are done.
    pub fn seeds(&self) -> u64 {
        self.seeds.load(Ordering::Relaxed)
    }

    /// Cases that are done; see [`Part::cases`].
    pub fn cases(&self) -> u64 {
        self.cases.load(Ordering::Relaxed) + self.seen.len()
    }

    /// What else there is to say.
    pub fn details(&self) -> Option<String> {
        let rot = *self.rot.lock().expect("no holder panics");
        (rot != Counts::default()).then(|| rot.to_string())
    }
}

/// Does one seed of a part; panics if a promise is broken.
fn one(part: Part, seed: u64, course: &Course, count: &Count) {
    let cases = match part {
        Part::States => {
            crash::every_state(seed, &count.seen);
            0
        }
        Part::Crashes => {
            crash::run(seed);
            crash::CRASHES as u64
        }
        Part::Machine => {
            machine::run_seed(seed);
            1
        }
        Part::Channel => {
            channel::run_seed(seed);
            1
        }
        Part::Burials => {
            burial::run(seed);
            burial::CRASHES as u64
        }
        Part::Faults => {
            let failures = fault::every_call(fault::case(seed));
            (failures.values().sum::<usize>() + fault::fail_twice(seed)) as u64
        }
        Part::Rot => {
            let counts = rot_seed(seed);
            *count.rot.lock().expect("no holder panics") += counts;
            counts.cases + counts.tails
        }
        Part::KillBetween => {
            burial::kill_between(course.dir.as_deref().expect("asked for before"), seed)
        }
        Part::Kill => {
            let dir = course.dir.as_deref().expect("asked for before");
            kill::cycle(&mut count.story.lock().expect("only one is at it"), dir, seed)
        }
    };
    count.cases.fetch_add(cases, Ordering::Relaxed);
    count.seeds.fetch_add(1, Ordering::Relaxed);
}

/// Runs a part up to its goal, or until a promise is broken.
///
/// # Errors
/// The first promise that was found broken.
pub fn run(part: Part, course: &Course, count: &Count) -> Result<(), Broken> {
    let started = Instant::now();
    let next = AtomicU64::new(0);
    let broken = Mutex::new(None::<Broken>);
    let goes_on = || {
        let reached = |goal: Option<u64>, done: u64| goal.is_some_and(|goal| done >= goal);
        let late = course.time.is_some_and(|time| started.elapsed() >= time);
        let found = broken.lock().expect("no holder panics").is_some();
        !late && !found && !reached(course.cases, count.cases())
    };
    let work = || {
        while goes_on() {
            let number = next.fetch_add(1, Ordering::Relaxed);
            if course.seeds.is_some_and(|seeds| number >= seeds) {
                return;
            }
            let seed = course.seed.wrapping_add(number);
            let survived = catch_unwind(AssertUnwindSafe(|| one(part, seed, course, count)));
            if let Err(panic) = survived {
                let what = message_of(&*panic);
                let mut broken = broken.lock().expect("no holder panics");
                broken.get_or_insert(Broken { part, seed, what });
                return;
            }
        }
    };
    // a directory has one log, and one owner
    let threads = if part.is_real() { 1 } else { course.threads };
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(work);
        }
    });
    broken.into_inner().expect("no holder panics").map_or(Ok(()), Err)
}

thread_local! {
    /// Where this thread's last panic was.
    static PLACE: RefCell<String> = const { RefCell::new(String::new()) };
}

/// From now on a panic is a broken promise: kept for [`Broken`], not printed. A trace that is being
/// shrunk panics hundreds of times.
pub fn keep_panics() {
    std::panic::set_hook(Box::new(|info| {
        let place = info.location().map(ToString::to_string).unwrap_or_default();
        PLACE.set(place);
    }));
}

/// What a panic of this thread said, and where.
pub(super) fn message_of(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    let text = text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("a panic");
    let place = PLACE.take();
    if place.is_empty() { text.to_owned() } else { format!("{text} (at {place})") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn goals_end_a_part() {
        let course =
            Course { seed: 3, threads: 2, seeds: Some(4), cases: None, time: None, dir: None };
        let count = Count::default();
        assert_eq!(run(Part::Crashes, &course, &count), Ok(()));
        assert_eq!((count.seeds(), count.cases()), (4, 12));
        let course = Course { seeds: None, time: Some(Duration::ZERO), ..course };
        assert_eq!(run(Part::Crashes, &course, &count), Ok(()));
        assert_eq!(count.seeds(), 4);
    }

    #[test]
    fn a_panic_is_told_with_its_seed() {
        let course =
            Course { seed: 3, threads: 1, seeds: Some(1), cases: None, time: None, dir: None };
        // no directory was given
        let broken = run(Part::Kill, &course, &Count::default()).unwrap_err();
        assert_eq!((broken.part, broken.seed), (Part::Kill, 3));
        assert!(broken.what.contains("asked for before"), "{}", broken.what);
    }
}
