//! The command line of `walctl`: words to one call of `crate::inspect` or `crate::bench`, and its exit code.

mod args;
mod cat;
mod dead;
mod groups;
mod hold;
mod live;
mod own;
mod render;

use crate::bench;
use crate::channel::dead::{DeadError, RedriveError};
use crate::control::ControlError;
use crate::inspect::{InspectError, LogDir, Snapshot, cursors, segments, stat, verify};
use crate::log::LogError;
use args::{Cli, Command, Target};
use clap::Parser;
use render::{json_text, table};
use std::ffi::OsString;
use std::io::{self, Write};
use std::process::ExitCode;

/// Exit code: damage, or something that contradicts itself.
pub const TROUBLE: u8 = 1;
/// Exit code: a command line that can't be followed, or a log that can't be read.
pub const FAILURE: u8 = 2;

/// Commands that the design names and a later version brings.
const LATER: [&str; 4] = ["grep", "repair", "export", "top"];

/// Runs the command line of the process.
pub fn main() -> ExitCode {
    super::allow_open_files();
    run(std::env::args_os().collect())
}

/// Runs one command line, its first word the program's name.
pub fn run(args: Vec<OsString>) -> ExitCode {
    if let Some(name) = args.get(1).and_then(|arg| arg.to_str())
        && LATER.contains(&name)
    {
        return fail(&format!("'walctl {name}' is not in this version; see 'walctl --help'"));
    }
    let cli = match Cli::try_parse_from(args) {
        Ok(cli) => cli,
        Err(error) => {
            // a closed terminal is no reason for another exit code
            let _ = error.print();
            return if error.use_stderr() { FAILURE.into() } else { ExitCode::SUCCESS };
        }
    };
    match command(cli.command) {
        Ok(Done::Fine) => ExitCode::SUCCESS,
        Ok(Done::Trouble) => TROUBLE.into(),
        // who reads has seen enough
        Err(Failure::Write(error)) if error.kind() == io::ErrorKind::BrokenPipe => {
            ExitCode::SUCCESS
        }
        Err(error) => fail(&error.to_string()),
    }
}

/// What a command came to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Done {
    Fine,
    Trouble,
}

/// Why a command was not done.
#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error("{0}")]
    Usage(String),
    #[error(transparent)]
    Inspect(#[from] InspectError),
    #[error(transparent)]
    Log(#[from] LogError),
    #[error(transparent)]
    Bench(#[from] bench::BenchError),
    #[error(transparent)]
    Dead(#[from] DeadError),
    #[error(transparent)]
    Redrive(#[from] RedriveError),
    #[error(transparent)]
    Control(#[from] ControlError),
    #[error("write the output: {0}")]
    Write(#[from] io::Error),
}

fn command(command: Command) -> Result<Done, Failure> {
    match command {
        Command::Ls(target) => {
            let (_, log) = open(&target)?;
            let rows = segments(&log)?;
            print(&match target.json {
                true => json_text(&serde_json::json!({ "segments": rows })),
                false => table::segments(&rows),
            })?;
        }
        Command::Stat(target) => {
            let (dir, log) = open(&target)?;
            let stat = stat(&dir, &log)?;
            print(&match target.json {
                true => json_text(&stat),
                false => table::stat(&stat),
            })?;
        }
        Command::Cursors(target) => {
            let (dir, log) = open(&target)?;
            let rows = cursors(&dir, &log)?;
            print(&match target.json {
                true => json_text(&rows),
                false => table::cursors(&rows),
            })?;
        }
        Command::Verify(target) => {
            let report = verify(&LogDir::open(&target.dir)?)?;
            print(&match target.json {
                true => json_text(&report),
                false => table::report(&report),
            })?;
            if !report.ok {
                return Ok(Done::Trouble);
            }
        }
        Command::Cat(args) => return cat::cat(&args),
        Command::Dead(command) => return dead::dead(&command),
        Command::Losses(args) => return dead::losses(&args),
        Command::Hold(args) => return hold::hold(&args),
        Command::Groups(args) => return groups::groups(&args),
        Command::Rewind(args) => return groups::rewind(&args),
        Command::Sinks(args) => return live::sinks(&args),
        Command::Replay(args) => return live::replay(&args),
        Command::Bench(args) => {
            let report = bench::run(&args.options)?;
            print(&match args.json {
                true => json_text(&report),
                false => report.to_string(),
            })?;
        }
    }
    Ok(Done::Fine)
}

fn open(target: &Target) -> Result<(LogDir, Snapshot), Failure> {
    let dir = LogDir::open(&target.dir)?;
    let log = Snapshot::take(&dir)?;
    Ok((dir, log))
}

fn print(text: &str) -> Result<(), Failure> {
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes())?;
    Ok(out.flush()?)
}

fn fail(message: &str) -> ExitCode {
    let _ = writeln!(io::stderr(), "walctl: {message}"); // nobody may be listening
    FAILURE.into()
}
