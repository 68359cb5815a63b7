//! `walctl`: looks into a channel's log. `walctl --help` lists the commands.

use std::process::ExitCode;

fn main() -> ExitCode {
    levada::cli::walctl::main()
}
