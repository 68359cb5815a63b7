//! The command line of `crash-harness`: words to runs of `crate::harness`, and its exit code.

#[cfg(feature = "defects")]
mod defects;

use crate::harness::run::{Broken, Count, Course, Part, keep_panics, run as run_part};
use crate::harness::{burial, kill};
use clap::Parser;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use jiff::SignedDuration;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// Exit code: a promise was broken.
const BROKEN: u8 = 1;
/// Exit code: a command line that can't be followed, or a directory that can't be used.
const FAILURE: u8 = 2;

/// Tries to make levada's log break a promise: crashes it at every call of random traces on a
/// simulated disk, lets calls fail, compares it with a plain list, and, with --dir, kills a process
/// that writes to a real disk.
#[derive(Parser, Debug)]
#[command(name = "crash-harness", version, max_term_width = 100)]
struct Cli {
    /// What to do, with shares of the time: states, crashes, machine, channel, burials, faults,
    /// rot, kill, kill-between
    #[arg(long, value_name = "PART[=SHARE],…", value_delimiter = ',', value_parser = share)]
    mix: Vec<(Part, u32)>,
    /// How long, in all; "90s", "10m", "2h"
    #[arg(long, value_name = "TIME", value_parser = time)]
    duration: Option<Duration>,
    /// End each part after so many seeds
    #[arg(long, value_name = "N")]
    seeds: Option<u64>,
    /// End "states" after so many distinct crash states
    #[arg(long, value_name = "N")]
    states: Option<u64>,
    /// End "kill" and "kill-between" after so many kills
    #[arg(long, value_name = "N")]
    kills: Option<u64>,
    /// First seed; the same seeds do the same again
    #[arg(long, value_name = "N", default_value_t = 0)]
    seed: u64,
    /// Seeds at a time [default: one for each core]
    #[arg(long, value_name = "N")]
    threads: Option<usize>,
    /// Directory on the disk to be tested: adds the kills; the log stays there if a promise is broken
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
    /// The harness's own test: plants each of the engine's known defects, and must find it
    #[cfg(feature = "defects")]
    #[arg(long, conflicts_with_all = ["mix", "duration", "seeds", "states", "kills", "dir"])]
    defects: bool,
    /// Plant this defect first
    #[cfg(feature = "defects")]
    #[arg(long, value_name = "NAME", value_parser = parse_defect)]
    defect: Option<crate::log::defect::Defect>,
}

fn share(text: &str) -> Result<(Part, u32), String> {
    let (name, share) = text.split_once('=').unwrap_or((text, "1"));
    let part = Part::ALL.into_iter().find(|part| part.name() == name);
    let part = part.ok_or_else(|| {
        let names: Vec<_> = Part::ALL.iter().map(|part| part.name()).collect();
        format!("there is no part '{name}'; there are {}", names.join(", "))
    })?;
    let share = share.parse().map_err(|_| format!("'{share}' is not a whole number"))?;
    Ok((part, share))
}

fn time(text: &str) -> Result<Duration, String> {
    let time: SignedDuration = text.parse().map_err(|error| format!("{error}"))?;
    Duration::try_from(time).map_err(|_| "a time can't be negative".to_owned())
}

#[cfg(feature = "defects")]
fn parse_defect(name: &str) -> Result<crate::log::defect::Defect, String> {
    let defect = crate::log::defect::Defect::parse(name);
    defect.ok_or_else(|| format!("no defect is called '{name}'; --defects names them all"))
}

/// Runs the command line of the process.
pub fn main() -> ExitCode {
    let args: Vec<_> = std::env::args_os().collect();
    if let [_, word, dir] = &args[..]
        && word == kill::CHILD
    {
        return kill::child(Path::new(dir)).map_or_else(
            |error| fail(&format!("{}: {error}", Path::new(dir).display())),
            |()| ExitCode::SUCCESS,
        );
    }
    if let [_, word, dir, kill_after] = &args[..]
        && word == burial::CHILD
    {
        let kill_after = kill_after.to_string_lossy().parse().unwrap_or(0);
        let lived = burial::child(Path::new(dir), kill_after);
        return lived.map_or_else(|error| fail(&error), |()| ExitCode::SUCCESS);
    }
    #[cfg(feature = "defects")]
    if let [_, word, name] = &args[..]
        && word == defects::CHILD
    {
        return defects::child(&name.to_string_lossy());
    }
    let cli = match Cli::try_parse_from(args) {
        Ok(cli) => cli,
        Err(error) => {
            let _ = error.print(); // a closed terminal is no reason for another exit code
            return if error.use_stderr() { FAILURE.into() } else { ExitCode::SUCCESS };
        }
    };
    #[cfg(feature = "defects")]
    {
        if cli.defects {
            return defects::find_all(threads(&cli));
        }
        crate::log::defect::plant(cli.defect);
    }
    match plan(&cli) {
        Ok(plan) => follow(&plan),
        Err(error) => fail(&error),
    }
}

fn fail(message: &str) -> ExitCode {
    eprintln!("crash-harness: {message}");
    FAILURE.into()
}

fn threads(cli: &Cli) -> usize {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    cli.threads.unwrap_or(cores).max(1)
}

/// Which parts, how far.
fn plan(cli: &Cli) -> Result<Vec<(Part, Course)>, String> {
    let mut mix = cli.mix.clone();
    if mix.is_empty() {
        mix = Part::ALL.iter().map(|part| (*part, 1)).collect();
        mix.retain(|(part, _)| !part.is_real() || cli.dir.is_some());
    }
    if let Some((part, _)) = mix.iter().find(|(part, _)| part.is_real() && cli.dir.is_none()) {
        let part = part.name();
        return Err(format!("the part '{part}' needs --dir DIR, on the disk to be tested"));
    }
    if let Some(dir) = &cli.dir {
        std::fs::create_dir_all(dir).map_err(|e| format!("make {}: {e}", dir.display()))?;
    }
    let threads = threads(cli);
    let shares: u32 = mix.iter().map(|(_, share)| share).sum();
    let counted = cli.seeds.is_some() || cli.states.is_some() || cli.kills.is_some();
    let duration = cli.duration.or((!counted).then_some(Duration::from_secs(60)));
    let courses = mix.into_iter().filter(|(_, share)| *share > 0).map(|(part, share)| {
        let cases = match part {
            Part::States => cli.states,
            Part::KillBetween => cli.kills,
            _ => None,
        };
        let seeds = if part == Part::Kill { cli.kills.or(cli.seeds) } else { cli.seeds };
        let time = duration.map(|time| time * share / shares);
        let dir = cli.dir.as_ref().map(|dir| dir.join("log"));
        (part, Course { seed: cli.seed, threads, seeds, cases, time, dir })
    });
    let courses: Vec<_> = courses.collect();
    let endless = courses.iter().find(|(_, c)| (c.seeds, c.cases, c.time) == (None, None, None));
    match endless {
        Some((part, _)) => {
            Err(format!("nothing ends '{}': give --duration or --seeds", part.name()))
        }
        None => Ok(courses),
    }
}

/// Runs the parts, one after the other; says what they came to.
fn follow(plan: &[(Part, Course)]) -> ExitCode {
    keep_panics();
    let mut broken = None;
    println!("{:<10} {:>10} {:>14} {:>9}", "part", "seeds", "cases", "time");
    for (part, course) in plan {
        let started = Instant::now();
        let count = Count::default();
        let result = with_bar(*part, course, &count);
        let took = format!("{:.1} s", started.elapsed().as_secs_f64());
        let (seeds, cases) = (count.seeds(), count.cases());
        let said = if result.is_ok() { "" } else { ": BROKEN" };
        println!("{:<10} {seeds:>10} {cases:>14} {took:>9}  {}{said}", part.name(), part.cases());
        if let Some(details) = count.details() {
            println!("{:<10} {details}", "");
        }
        if let Err(found) = result {
            broken = Some(found);
            break;
        }
    }
    match broken {
        None => {
            println!("no promise was broken");
            ExitCode::SUCCESS
        }
        Some(Broken { part, seed, what }) => {
            println!("a promise was broken, by '{}' with seed {seed}:\n{what}", part.name());
            let dir = if part.is_real() { " --dir DIR" } else { "" };
            let part = part.name();
            println!("see it again: crash-harness --mix {part} --seed {seed} --seeds 1{dir}");
            BROKEN.into()
        }
    }
}

/// Runs a part under a progress bar, if there is a terminal.
fn with_bar(part: Part, course: &Course, count: &Count) -> Result<(), Broken> {
    let goal = course.cases.or(course.seeds);
    let style = match goal {
        Some(_) => "{prefix:<10} {bar:30} {pos}/{len} {msg} {elapsed}",
        None => "{prefix:<10} {spinner} {msg} {elapsed}",
    };
    let bar = ProgressBar::with_draw_target(goal, ProgressDrawTarget::stderr());
    bar.set_style(ProgressStyle::with_template(style).expect("it is a template"));
    bar.set_prefix(part.name());
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                let (seeds, cases) = (count.seeds(), count.cases());
                bar.set_position(if course.cases.is_some() { cases } else { seeds });
                bar.set_message(format!("{seeds} seeds, {cases} {}", part.cases()));
                std::thread::sleep(Duration::from_millis(100));
            }
        });
        let result = run_part(part, course, count);
        done.store(true, Ordering::Relaxed);
        bar.finish_and_clear();
        result
    })
}
