//! `levada`: the agent and what belongs to it. `levada help` lists the commands.

use std::process::ExitCode;

fn main() -> ExitCode {
    levada::cli::main()
}
