//! The command line of `levada`: words to one call, and its exit code.
//!
//! Flume's flags and its habits hold: long options with one dash, `-Dkey=value`, `-X…`. What has no
//! meaning here is accepted if that is harmless, with a notice, and refused by name if it is not.

mod agent;
mod args;
mod avro_client;
mod check;
mod config;
#[cfg(feature = "sim")]
pub mod harness;
mod keys;
mod version;
pub mod walctl;

pub use agent::{AgentArgs, agent};
pub use config::ConfigArgs;

use args::{Cli, Command, flume_style};
use clap::Parser;
use std::ffi::OsString;
use std::io::Write;
use std::process::ExitCode;

/// Exit code: something failed.
pub const FAILURE: u8 = 1;
/// Exit code: the command line is wrong (`EX_USAGE`).
pub const USAGE: u8 = 64;
/// Exit code: the config is refused (`EX_CONFIG`).
pub const CONFIG: u8 = 78;

/// Runs the command line of the process.
pub fn main() -> ExitCode {
    allow_open_files();
    run(std::env::args_os())
}

/// Runs one command line, its first word the program's name.
pub fn run(args: impl Iterator<Item = OsString>) -> ExitCode {
    let cli = match Cli::try_parse_from(flume_style(args)) {
        Ok(cli) => cli,
        Err(error) => {
            // a closed terminal is no reason for another exit code
            let _ = error.print();
            return if error.use_stderr() { USAGE.into() } else { ExitCode::SUCCESS };
        }
    };
    let result = match cli.command {
        Command::Agent(args) => args.validate().map(|()| agent(args)),
        Command::Check(args) => args.validate().map(|()| check::check(&args)),
        Command::Keys(args) => keys::keys(&args),
        Command::Version => Ok(version::version()),
        Command::AvroClient(flags) => flags.validate().map(avro_client::avro_client),
    };
    result.unwrap_or_else(|UsageError(message)| {
        say(&format!("error: {message}\n\nFor more information, try 'levada help'.\n"));
        USAGE.into()
    })
}

/// Lets the process open as many files as it may: a log has one open for each segment, so that a
/// backlog of 64 GB reaches the usual limit of 1024.
fn allow_open_files() {
    use rustix::process::{Resource, getrlimit, setrlimit};
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    // refused: then opening says what is missing
    let _ = setrlimit(Resource::Nofile, limit);
}

/// A command line that can't be followed: what is wrong and what to do.
#[derive(Clone, PartialEq, Eq, Debug)]
struct UsageError(String);

/// Writes to standard output; a reader that has gone away is no failure.
fn print(text: &str) {
    let _ = std::io::stdout().lock().write_all(text.as_bytes());
}

/// Writes to standard error.
fn say(text: &str) {
    let _ = std::io::stderr().lock().write_all(text.as_bytes());
}
