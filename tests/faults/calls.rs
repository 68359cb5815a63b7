//! An agent of whose system calls one fails: strace puts the error in its place.

use crate::mounts::is_there;
use crate::support::Agent;
use std::path::{Path, PathBuf};
use std::process::Command;

/// A call that fails.
#[derive(Clone, Copy, Debug)]
pub struct Failure {
    /// Whether on the segments; else on the cursor journal.
    pub segments: bool,
    /// The call's name.
    pub call: &'static str,
    /// What it says.
    pub error: &'static str,
    /// Which call it is, of each thread's, from 1 on.
    pub nth: u64,
    /// Whether those after it fail too.
    pub for_ever: bool,
}

/// What strace saw.
#[derive(Debug)]
pub struct Trace {
    /// Syncs of segments that succeeded before the failure.
    pub syncs_before: usize,
    /// Whether a call failed.
    pub failed: bool,
    /// Writes and syncs of segments that were begun after the failure.
    pub calls_after: Vec<String>,
}

/// Why no call can be made to fail, if that is so.
pub fn why_not() -> Option<&'static str> {
    if !is_there("strace") {
        return Some("no strace: run tests/faults/install");
    }
    let mut tried = Command::new("strace");
    tried.args(["-f", "--seccomp-bpf", "-e", "trace=fsync", "-o", "/dev/null", "true"]);
    (!tried.status().is_ok_and(|status| status.success())).then_some("strace may not trace here")
}

/// Starts an agent on the log in `disk/c` below `dir`; strace is its child, not its parent.
pub fn start(dir: &Path, config: &Path, failure: Failure) -> Agent {
    let Failure { segments, call, error, nth, for_ever } = failure;
    let log = dir.canonicalize().unwrap().join("disk/c");
    let files: Vec<PathBuf> = match segments {
        true => (1..100).map(|id| log.join(format!("log/{id:016x}.seg"))).collect(),
        false => ["A.cur", "B.cur"].map(|name| log.join("cursor").join(name)).into(),
    };
    let more = if for_ever { "+" } else { "" };
    let mut command = Command::new("strace");
    command.args(["-D", "-f", "-y", "--seccomp-bpf", "-o"]).arg(trace_file(dir));
    command.args(["-e", "trace=pwritev,pwrite64,fdatasync,fsync"]);
    command.arg("-e").arg(format!("inject={call}:error={error}:when={nth}{more}"));
    for file in files {
        command.arg("-P").arg(file);
    }
    command.arg(env!("CARGO_BIN_EXE_levada")).args(["agent", "-f"]).arg(config);
    Agent::spawn(command.current_dir(dir))
}

fn trace_file(dir: &Path) -> PathBuf {
    dir.join("trace")
}

/// Reads what strace wrote of an agent that has ended.
pub fn trace(dir: &Path) -> Trace {
    let text = std::fs::read_to_string(trace_file(dir)).unwrap();
    let lines: Vec<_> = text.lines().collect();
    let failure = lines.iter().position(|line| line.ends_with("(INJECTED)"));
    let (before, after) = lines.split_at(failure.unwrap_or(lines.len()));
    let is_sync =
        |line: &&&str| line.contains("fdatasync") && line.split(" = ").last() == Some("0");
    let began = |line: &&&str| line.contains(" pwritev(") || line.contains(" fdatasync(");
    Trace {
        syncs_before: before.iter().filter(is_sync).count(),
        failed: failure.is_some(),
        calls_after: after.iter().skip(1).filter(began).map(|line| (*line).to_owned()).collect(),
    }
}
