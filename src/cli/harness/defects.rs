//! `crash-harness --defects`: each defect is planted in a process of its own, and must be found.

use crate::harness::defects::check;
use crate::log::defect::Defect;
use std::process::{Command, ExitCode};
use std::sync::Mutex;
use std::time::Instant;

/// The hidden word of the command line that makes a process look for one defect; its name follows.
pub(super) const CHILD: &str = "__find-defect";
/// Instead of a name: nothing is planted, and nothing may be found.
const NONE: &str = "none";
/// What a child says that found nothing.
const SURVIVES: &str = "survives";
/// Characters of what was said that are shown.
const SAID_MAX: usize = 90;

/// In a process of its own: plants one defect, and says how it was found.
pub(super) fn child(name: &str) -> ExitCode {
    let defect = Defect::parse(name);
    if defect.is_none() && name != NONE {
        return super::fail(&format!("no defect is called '{name}'"));
    }
    match check(defect) {
        None => println!("{SURVIVES}"),
        Some(caught) => {
            let words: Vec<_> = caught.message.split_whitespace().collect();
            let said: String = words.join(" ").chars().take(SAID_MAX).collect();
            println!("{:<12} {:>5}  {said}", caught.part, caught.seed);
        }
    }
    ExitCode::SUCCESS
}

/// Looks for every defect, and for one where there is none; prints a table and the score.
pub(super) fn find_all(threads: usize) -> ExitCode {
    let names: Vec<_> = [NONE].into_iter().chain(Defect::ALL.iter().map(|d| d.name())).collect();
    let next = Mutex::new(names.iter());
    let results = Mutex::new(Vec::new());
    println!("{:<26} {:<12} {:>5}  what was said", "defect", "caught by", "seed");
    let look = || {
        loop {
            let Some(name) = next.lock().expect("no holder panics").next() else { return };
            let started = Instant::now();
            let found = look_for(name);
            println!("{name:<26} {found} ({:.1} s)", started.elapsed().as_secs_f32());
            results.lock().expect("no holder panics").push((*name, found));
        }
    };
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(look);
        }
    });
    let results = results.into_inner().expect("no holder panics");
    let survives = |(_, found): &&(&str, String)| found == SURVIVES;
    let (none, planted): (Vec<_>, Vec<_>) = results.iter().partition(|(name, _)| *name == NONE);
    let survivors: Vec<_> = planted.iter().copied().filter(survives).collect();
    println!("mutation score: {} of {}", planted.len() - survivors.len(), planted.len());
    for (name, _) in &survivors {
        let what = Defect::parse(name).map_or("", Defect::what);
        println!("{name} survives: {what}");
    }
    let sound = none.iter().all(survives);
    if !sound {
        println!("something is found where no defect was planted");
    }
    if sound && survivors.is_empty() { ExitCode::SUCCESS } else { super::BROKEN.into() }
}

/// What the child says.
fn look_for(name: &str) -> String {
    let output = std::env::current_exe()
        .and_then(|program| Command::new(program).args([CHILD, name]).output());
    match output {
        Ok(output) if output.status.success() => {
            String::from_utf8_lossy(&output.stdout).trim().to_owned()
        }
        // the defect took the whole process with it: found
        Ok(output) => format!("{:<12} {:>5}  {}", "process", "", output.status),
        Err(error) => format!("{SURVIVES}: no process: {error}"),
    }
}
