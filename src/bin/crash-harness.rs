//! `crash-harness`: tries to make the log break a promise. `crash-harness --help` says how.

use std::process::ExitCode;

fn main() -> ExitCode {
    levada::cli::harness::main()
}
