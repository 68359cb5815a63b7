//! The harness's own test: every defect of `log::defect` is planted in turn, in a process of its own,
//! and the harness must find each, and nothing where there is none. Prints a table and the score.
//!
//! `cargo test --release --features defects --test defects`, with names of defects behind `--` to look
//! for those alone.

#![allow(clippy::unwrap_used)] // a failed step is a panic

use levada::harness::defects::check;
use levada::log::defect::Defect;
use std::process::Command;
use std::sync::Mutex;
use std::time::Instant;

/// What a process says that was told to look for one defect.
const CHILD: &str = "--planted";
const SURVIVES: &str = "survives";
const NONE: &str = "none";

fn main() {
    let args: Vec<String> = std::env::args().skip(1).filter(|arg| !arg.is_empty()).collect();
    if args.first().is_some_and(|arg| arg == CHILD) {
        return look_for(&args[1]);
    }
    let mut wanted: Vec<&str> =
        args.iter().map(String::as_str).filter(|arg| !arg.starts_with('-')).collect();
    if wanted.is_empty() {
        wanted = [NONE].into_iter().chain(Defect::ALL.iter().map(|d| d.name())).collect();
    }
    std::process::exit(i32::from(!run(&wanted)));
}

/// In a process of its own: plants one defect, and says how it was found.
fn look_for(name: &str) {
    let defect = Defect::parse(name);
    assert!(defect.is_some() || name == NONE, "no defect is called {name}");
    match check(defect) {
        None => println!("{SURVIVES}"),
        Some(caught) => {
            let message: String = caught.message.split_whitespace().collect::<Vec<_>>().join(" ");
            let message: String = message.chars().take(90).collect();
            println!("{:<12} | {:>4} | {message}", caught.part, caught.seed);
        }
    }
}

/// Looks for each, some at a time; whether all is as it must be.
fn run(wanted: &[&str]) -> bool {
    println!("{:<26} | {:<12} | seed | what was said", "defect", "caught by");
    let next = Mutex::new(wanted.iter());
    let results = Mutex::new(Vec::new());
    let processes = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..processes {
            scope.spawn(|| {
                loop {
                    let Some(name) = next.lock().unwrap().next() else { return };
                    let started = Instant::now();
                    let caught = child(name);
                    let seconds = started.elapsed().as_secs_f32();
                    println!("{name:<26} | {caught} ({seconds:.1} s)");
                    results.lock().unwrap().push((*name, caught));
                }
            });
        }
    });
    let results = results.into_inner().unwrap();
    let survives = |caught: &str| caught == SURVIVES;
    let defects = || results.iter().filter(|(name, _)| *name != NONE);
    let caught = defects().filter(|(_, caught)| !survives(caught)).count();
    println!("\nmutation score: {caught} of {}", defects().count());
    for (name, _) in defects().filter(|(_, caught)| survives(caught)) {
        println!("{name} survives: {}", Defect::parse(name).unwrap().what());
    }
    let sound = results.iter().all(|(name, caught)| *name != NONE || survives(caught));
    if !sound {
        println!("something is found where no defect was planted");
    }
    sound && caught == defects().count()
}

fn child(name: &str) -> String {
    let mut child = Command::new(std::env::current_exe().unwrap());
    let output = child.args([CHILD, name]).output().unwrap();
    assert!(output.status.success(), "{name}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}
