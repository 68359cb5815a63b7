//! The harness's own test: a defect is planted in the engine, and the parts of the harness are run
//! until one finds it. What none finds, the harness would not find in a change of the engine either.

use super::run::{keep_panics, message_of};
use super::{Seen, crash, fault, machine, rot};
use crate::log::defect::{Defect, plant};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::time::Duration;

/// A part of the harness.
struct Part {
    name: &'static str,
    /// How many seeds it gets.
    seeds: u64,
    /// A run that takes longer hangs.
    limit: Duration,
    run: fn(u64),
}

/// What is run, until the defect is found. Bounded: the same for every defect, and for none.
const PARTS: [Part; 7] = [
    Part { name: "machine", seeds: 40, limit: Duration::from_secs(10), run: machine::run_once },
    Part { name: "crash", seeds: 150, limit: Duration::from_secs(10), run: crash::run },
    Part { name: "states", seeds: 3, limit: LIMIT, run: every_state },
    Part { name: "fault", seeds: fault::CASES.len() as u64, limit: LIMIT, run: every_call },
    Part { name: "fault twice", seeds: 6, limit: LIMIT, run: fail_twice },
    Part { name: "rot", seeds: 2, limit: LIMIT, run: rot_seed },
    Part { name: "crash", seeds: 600, limit: Duration::from_secs(10), run: crash::run },
];
/// Of what looks at thousands of states in a run.
const LIMIT: Duration = Duration::from_secs(120);

fn every_state(seed: u64) {
    crash::every_state(seed, &Seen::default());
}

fn rot_seed(seed: u64) {
    rot::rot_seed(seed);
}

fn every_call(number: u64) {
    fault::every_call(fault::CASES[number as usize]);
}

fn fail_twice(seed: u64) {
    fault::fail_twice(seed);
}

/// How a defect was found.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Caught {
    /// By which part.
    pub part: &'static str,
    /// Of which seed.
    pub seed: u64,
    /// What it said.
    pub message: String,
}

/// Plants a defect and looks for it. `None` as the defect looks for what is there without any.
/// Panics are not printed from now on. A run that hangs is found too; its thread goes on, so a process
/// should not look for many.
pub fn check(defect: Option<Defect>) -> Option<Caught> {
    keep_panics();
    plant(defect);
    let caught = PARTS.iter().find_map(|part| {
        (0..part.seeds).find_map(|seed| {
            let message = fails(part, seed)?;
            Some(Caught { part: part.name, seed, message })
        })
    });
    plant(None);
    caught
}

/// Runs a part; what it says if it fails.
fn fails(part: &Part, seed: u64) -> Option<String> {
    let (done, result) = channel();
    let run = part.run;
    std::thread::spawn(move || {
        let result = std::panic::catch_unwind(|| run(seed));
        let _ = done.send(result.err().map(|panic| message_of(&*panic))); // nobody waits any more for one that hung
    });
    match result.recv_timeout(part.limit) {
        Ok(message) => message,
        Err(RecvTimeoutError::Timeout) => Some(format!("hangs for {:?}", part.limit)),
        Err(RecvTimeoutError::Disconnected) => Some("ends without a result".to_owned()),
    }
}
