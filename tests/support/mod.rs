//! What tests of the built binary share: agents as processes, producers that keep their own record
//! of what was acknowledged.
#![allow(dead_code, clippy::unwrap_used)] // each test uses a part; a failed step is a panic

pub mod receiver;
pub mod record;

use levada::client::{AvroClient, ClientError, Compression};
use levada::event::Event;
use levada::rpc::avro::Status;
use std::io::{BufRead, BufReader, Write};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

/// How long anything may take before a test gives up.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// A running agent: killed when dropped.
pub struct Agent {
    child: Child,
    lines: Receiver<String>,
    /// Every line of its log so far.
    pub log: Vec<String>,
}

impl Agent {
    /// Starts `levada agent -f config` in `dir`, with more arguments behind.
    pub fn start(dir: &Path, config: &Path, more: &[&str]) -> Agent {
        let mut command = Command::new(env!("CARGO_BIN_EXE_levada"));
        Agent::spawn(command.args(["agent", "-f"]).arg(config).args(more).current_dir(dir))
    }

    /// Starts an agent by a command line of the test's own.
    pub fn spawn(command: &mut Command) -> Agent {
        let mut child = command
            .env("NO_COLOR", "1")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let stderr = BufReader::new(child.stderr.take().unwrap());
        let (send, lines) = channel();
        std::thread::spawn(move || {
            for line in stderr.lines().map_while(Result::ok) {
                if send.send(line).is_err() {
                    break;
                }
            }
        });
        Agent { child, lines, log: Vec::new() }
    }

    /// Waits for a line that holds `text`.
    pub fn wait_for(&mut self, text: &str) -> String {
        self.find(text).unwrap_or_else(|| {
            panic!("no line with '{text}' in the agent's log:\n{}", self.log.join("\n"))
        })
    }

    /// Waits for a line that holds `text`; none if the agent ends without it.
    fn find(&mut self, text: &str) -> Option<String> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let line = self.lines.recv_timeout(left).ok()?;
            self.log.push(line.clone());
            if line.contains(text) {
                return Some(line);
            }
        }
    }

    /// The address that the first source listens on.
    pub fn address(&mut self) -> SocketAddr {
        self.address_or_end().unwrap_or_else(|| {
            panic!("the agent did not get so far as to listen:\n{}", self.log.join("\n"))
        })
    }

    /// The address that the first source listens on; none if the agent ends before.
    pub fn address_or_end(&mut self) -> Option<SocketAddr> {
        let line = self.find("listening on ")?;
        let (_, rest) = line.split_once("listening on ").unwrap();
        let text = rest.split_whitespace().next().unwrap().trim_end_matches([',', ';']);
        Some(text.parse().unwrap_or_else(|_| panic!("no address in '{line}'")))
    }

    /// `kill -9`.
    pub fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// SIGTERM, and waits for the end. Returns the exit status and the whole log.
    pub fn stop(self) -> (ExitStatus, String) {
        self.signal(rustix::process::Signal::TERM);
        self.wait()
    }

    /// Sends a signal.
    pub fn signal(&self, signal: rustix::process::Signal) {
        let pid = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(pid, signal).unwrap();
    }

    /// Whether the process runs.
    pub fn is_alive(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }

    /// Waits for the end. Returns the exit status and the whole log.
    pub fn wait(mut self) -> (ExitStatus, String) {
        let deadline = Instant::now() + PATIENCE;
        let status = loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                break status;
            }
            assert!(Instant::now() < deadline, "the agent did not end:\n{}", self.log.join("\n"));
            std::thread::sleep(Duration::from_millis(5));
        };
        while let Ok(line) = self.lines.recv_timeout(Duration::from_secs(1)) {
            self.log.push(line);
        }
        (status, self.log.join("\n"))
    }

    /// The process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        let _ = self.child.kill(); // gone already: all the better
        let _ = self.child.wait();
        if std::thread::panicking() {
            while let Ok(line) = self.lines.recv_timeout(Duration::from_millis(100)) {
                self.log.push(line);
            }
            let last = self.log.len().saturating_sub(60);
            println!("the agent's log, its end:\n{}", self.log[last..].join("\n"));
        }
    }
}

/// A connection to an Avro source that waits for each answer.
pub struct Producer {
    runtime: tokio::runtime::Runtime,
    client: AvroClient,
}

impl Producer {
    /// Connects.
    pub fn connect(address: SocketAddr) -> Result<Producer, ClientError> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let address = address.to_string();
        let client = runtime.block_on(AvroClient::connect(&address, Compression::None))?;
        Ok(Producer { runtime, client })
    }

    /// Sends a batch and waits for its status.
    pub fn append(&mut self, events: &[Event]) -> Result<Status, ClientError> {
        self.runtime.block_on(self.client.append_batch(events))
    }
}

/// Passes over a test, with a line on standard error that no capture hides.
///
/// # Panics
/// `LEVADA_PEERS=require` is set.
pub fn skip(test: &str, why: &str) {
    let required = std::env::var("LEVADA_PEERS").is_ok_and(|value| value == "require");
    assert!(!required, "{test}: {why}; LEVADA_PEERS=require is set");
    report(&format!("SKIPPED: {test}: {why}"));
}

/// Says what a test did: on standard error, and not by eprintln!, which the test harness captures.
pub fn report(line: &str) {
    std::io::stderr().write_all(format!("{line}\n").as_bytes()).unwrap();
}

/// A number of the environment.
pub fn number(name: &str, otherwise: usize) -> usize {
    std::env::var(name).map_or(otherwise, |text| text.parse().unwrap())
}

/// The seed `LEVADA_SEED`, or any.
pub fn seed() -> u64 {
    std::env::var("LEVADA_SEED").map_or_else(|_| fastrand::u64(..), |text| text.parse().unwrap())
}

/// Runs `walctl` and returns its exit code and standard output.
pub fn walctl(args: &[&str]) -> (i32, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_walctl")).args(args).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.code() != Some(101), "walctl panicked: {errors}");
    (output.status.code().unwrap_or(-1), text)
}

/// Every line of every file below `dir`.
pub fn lines_below(dir: &Path) -> Vec<String> {
    let mut lines = Vec::new();
    for entry in std::fs::read_dir(dir).into_iter().flatten() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            lines.extend(lines_below(&path));
        } else {
            let text = std::fs::read(&path).unwrap();
            let text = String::from_utf8_lossy(&text).into_owned();
            // a line without its end was being written when the process was killed
            lines.extend(
                text.split_inclusive('\n').filter_map(|l| l.strip_suffix('\n')).map(str::to_owned),
            );
        }
    }
    lines
}
