//! Runs one workload on one log or store written in Rust and prints one line of JSON. The contract
//! is `benches/peers/README.md`; what each peer calls a durable put stands in its file in `peer/`.

mod args;
mod measure;
mod peer;
mod workload;

use std::error::Error;
use std::io::Write;
use std::process::ExitCode;

use rustix::process::{Signal, getpid, kill_process};

use crate::args::{Args, Workload};

/// What went wrong, as one sentence.
pub type Result<T> = std::result::Result<T, Box<dyn Error + Send + Sync>>;

fn main() -> ExitCode {
    let args = match args::parse() {
        Ok(args) => args,
        Err(stop) => return stop,
    };
    match run(&args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("levada-peers-rust: {} {}: {error}", args.peer, args.workload);
            ExitCode::FAILURE
        }
    }
}

fn run(args: &Args) -> Result<()> {
    peer::prepare(args)?;
    let (line, peer) = workload::run(args)?;
    let mut out = std::io::stdout().lock();
    writeln!(out, "{}", serde_json::to_string(&line)?)?;
    out.flush()?;
    if args.workload == Workload::Fill {
        kill_process(getpid(), Signal::KILL)?;
    }
    if peer.server().is_some() {
        return Ok(());
    }
    // Closing is no part of any workload, and some peers flush all they have for it.
    std::mem::forget(peer);
    Ok(())
}
