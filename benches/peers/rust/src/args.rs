//! The command line.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, ValueEnum};

/// The headers `host`=`bench` and `n`=`1`, stored in front of the body by peers without headers.
const HEADERS: &[u8; 14] = b"host=bench;n=1";

#[derive(Parser)]
#[command(name = "levada-peers-rust", version, about = "Runs one workload on one log")]
pub struct Args {
    /// The log or store to run on
    pub peer: PeerName,
    /// What to do with it
    pub workload: Workload,
    /// A directory of its own, empty at first (for `reopen`: what `fill` left)
    #[arg(long)]
    pub dir: PathBuf,
    /// How many threads put at the same time
    #[arg(long, default_value_t = 1, value_parser = 1..=1024)]
    pub producers: i64,
    /// Events in a put, and in a take of `take`
    #[arg(long, default_value_t = 100, value_parser = 1..=100_000)]
    pub batch: i64,
    /// Bytes in the body of an event
    #[arg(long, default_value_t = 512, value_parser = 0..=1 << 20)]
    pub body: i64,
    /// How long to put
    #[arg(long, default_value_t = 3.0, value_parser = seconds)]
    pub seconds: f64,
    /// How many events to store for `take` and `fill`
    #[arg(long, default_value_t = 1_000_000, value_parser = 1..)]
    pub events: i64,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum PeerName {
    Okaywal,
    RaftEngine,
    Fjall,
    Walrus,
    Rsyslog,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Workload {
    Put,
    Take,
    Both,
    Fill,
    Reopen,
}

impl Args {
    pub fn producer_count(&self) -> usize {
        self.producers as usize
    }

    pub fn batch_count(&self) -> usize {
        self.batch as usize
    }

    pub fn event_count(&self) -> u64 {
        self.events as u64
    }

    /// The bytes of every event. The body does not compress: no peer stores less than asked.
    pub fn record(&self) -> Vec<u8> {
        let mut state = 0x9e37_79b9_7f4a_7c15_u64;
        let body = (0..self.body).map(|_| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state as u8
        });
        HEADERS.iter().copied().chain(body).collect()
    }
}

impl std::fmt::Display for PeerName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.to_possible_value().expect("no peer is skipped").get_name())
    }
}

impl std::fmt::Display for Workload {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.to_possible_value().expect("no workload is skipped").get_name())
    }
}

/// The arguments, or the exit code after a help text or a sentence on what is wrong with them.
pub fn parse() -> std::result::Result<Args, ExitCode> {
    Args::try_parse().map_err(|error| {
        if !error.use_stderr() {
            print!("{error}");
            return ExitCode::SUCCESS;
        }
        let text = error.to_string();
        let text = text.strip_prefix("error: ").unwrap_or(&text);
        let first = text.split("\n\n").next().unwrap_or(text);
        let words: Vec<&str> = first.split_whitespace().collect();
        eprintln!("levada-peers-rust: {}", words.join(" "));
        ExitCode::FAILURE
    })
}

fn seconds(text: &str) -> std::result::Result<f64, String> {
    match text.parse() {
        Ok(seconds) if seconds > 0.0 && seconds <= 86_400.0 => Ok(seconds),
        _ => Err("expected a number of seconds above 0, at most 86400".to_owned()),
    }
}
