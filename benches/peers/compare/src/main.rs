//! levada beside its peers: `compare drive` is levada's own driver (benches/peers/README.md has the
//! contract), `compare run` measures everything in turn, round after round, and `compare report`
//! writes `docs/performance.md` and its plots from what was measured.

mod drive;
mod measure;
mod plan;
mod plot;
mod report;
mod rounds;

use clap::{Parser, Subcommand};
use std::process::ExitCode;

#[derive(Parser)]
#[command(about = "levada and its peers, measured in turn in one run")]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// One measurement of levada, or of the disk: prints a line of JSON
    Drive(drive::Args),
    /// Measure: appends a line to the file of results for each measurement
    Run(rounds::Args),
    /// Write the tables and plots of what was measured
    Report(report::Args),
}

fn main() -> ExitCode {
    let done = match Cli::parse().command {
        Command::Drive(args) => drive::drive(&args),
        Command::Run(args) => rounds::run(&args),
        Command::Report(args) => report::report(&args),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("compare: {error}");
            ExitCode::FAILURE
        }
    }
}

/// What went wrong, as one sentence.
type Failure = Box<dyn std::error::Error>;
