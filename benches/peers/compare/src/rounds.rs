//! Runs the plan: each round measures every cell once, in turn, so that what the machine does
//! meanwhile falls on all.

use crate::Failure;
use crate::measure::{Measured, cpu_s, peak_mb};
use crate::plan::{Before, Cell, Driver, RPC_WARMUP, Section, cells};
use clap::ValueEnum;
use std::fs::{File, OpenOptions};
use std::io::Write;
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

#[derive(clap::Args)]
pub struct Args {
    /// Directory on the disk to be measured
    #[arg(long)]
    dir: PathBuf,
    /// What the tables call that disk
    #[arg(long, default_value = "root")]
    disk: String,
    /// File that a line is added to for each measurement
    #[arg(long)]
    results: PathBuf,
    /// Where the peers' drivers are: rust/driver, jvm/driver, go/driver
    #[arg(long, env = "LEVADA_PEERS_LAB")]
    lab: Option<PathBuf>,
    /// levada's binary, for rpc
    #[arg(long, default_value = "target/release/levada")]
    levada: PathBuf,
    #[arg(long, default_value_t = 5)]
    rounds: u32,
    #[arg(long, default_value_t = 2.0)]
    seconds: f64,
    /// Only these
    #[arg(long, value_delimiter = ',')]
    sections: Vec<Section>,
    /// Only these peers
    #[arg(long, value_delimiter = ',')]
    peers: Vec<String>,
}

pub fn run(args: &Args) -> Result<(), Failure> {
    std::fs::create_dir_all(&args.dir)?;
    let mut out = OpenOptions::new().create(true).append(true).open(&args.results)?;
    let sections = match args.sections.as_slice() {
        [] => Section::value_variants(),
        some => some,
    };
    for section in sections {
        for round in 1..=args.rounds {
            for cell in cells(*section, args.seconds) {
                if args.peers.is_empty() || args.peers.iter().any(|peer| peer == cell.shown) {
                    measure(args, &cell, round, &mut out)?;
                }
            }
        }
    }
    Ok(())
}

fn measure(args: &Args, cell: &Cell, round: u32, out: &mut File) -> Result<(), Failure> {
    let scratch = tempfile::Builder::new().prefix("compare-").tempdir_in(&args.dir)?;
    match one(args, cell, scratch.path()) {
        Ok(line) => {
            let line = Measured {
                cell: cell.name.clone(),
                peer: cell.shown.to_owned(),
                disk: args.disk.clone(),
                round,
                ..line
            };
            writeln!(out, "{}", serde_json::to_string(&line)?)?;
            let p50 = line.p50_us.unwrap_or_default();
            eprintln!(
                "{round} {:24} {:14} {:>12.0}/s {p50:>10.0} µs",
                cell.name, cell.shown, line.events_per_s
            );
        }
        // one that fails is told, and missing in the tables
        Err(error) => eprintln!("{round} {:24} {:14} FAILED: {error}", cell.name, cell.shown),
    }
    Ok(())
}

fn one(args: &Args, cell: &Cell, scratch: &Path) -> Result<Measured, Failure> {
    let data = scratch.join("data");
    let mut agent = None;
    let mut more = Vec::new();
    match &cell.before {
        Before::Nothing | Before::Verify => {}
        Before::Fill(words) => {
            // it kills itself
            drive(args, cell, words, &data)?.wait_with_output()?;
        }
        Before::Levada => {
            let port = free_port()?;
            agent = Some(Agent(levada_agent(args, scratch, port)?));
            more = vec!["--port".to_owned(), port.to_string()];
            wait_for(port)?;
        }
        Before::Flume(channel) => {
            let port = free_port()?;
            let mut command = Command::new(lab(args)?.join("jvm/driver"));
            command.args(["flume-agent", "agent", "--channel", channel, "--port"]);
            command.arg(port.to_string()).arg("--dir").arg(&data);
            agent = Some(Agent(quiet(&mut command).spawn()?));
            more = vec!["--port".to_owned(), port.to_string()];
            wait_for(port)?;
        }
    }
    let words = [cell.args.as_slice(), &more].concat();
    let mut driver = drive(args, cell, &words, &data)?;
    if cell.before == Before::Verify {
        verify_until_done(args, &data, &mut driver)?;
    }
    let agent = agent.map(Watched::warmed_up);
    let done = driver.wait_with_output()?;
    let of_agent = agent.map(|agent| agent.used());
    if !done.status.success() {
        let text = String::from_utf8_lossy(&done.stderr);
        return Err(text.lines().last().unwrap_or("no word").to_owned().into());
    }
    let text = String::from_utf8(done.stdout)?;
    let line = serde_json::from_str(text.lines().last().ok_or("the driver printed nothing")?)?;
    let Some((cpu_s, rss_mb)) = of_agent else { return Ok(line) };
    Ok(Measured { cpu_s: Some(cpu_s), rss_mb, ..line })
}

/// Runs `walctl verify`, which lies beside levada's binary, as long as the driver runs.
fn verify_until_done(args: &Args, data: &Path, driver: &mut Child) -> Result<(), Failure> {
    let walctl = args.levada.with_file_name("walctl");
    let mut passes = 0;
    while driver.try_wait()?.is_none() {
        std::thread::sleep(Duration::from_millis(100)); // at first there is no log
        let mut command = Command::new(&walctl);
        passes += usize::from(quiet(command.arg("verify").arg(data)).status()?.success());
    }
    match passes {
        0 => Err("walctl verify never ended well".into()),
        _ => Ok(()),
    }
}

/// An agent, from the time on when it has warmed up.
struct Watched {
    agent: Agent,
    pid: String,
    cpu_s: f64,
}

impl Watched {
    fn warmed_up(agent: Agent) -> Watched {
        std::thread::sleep(Duration::from_secs(RPC_WARMUP));
        let pid = agent.0.id().to_string();
        Watched { agent, cpu_s: cpu_s(&pid), pid }
    }

    /// CPU seconds that it used, and the most memory that it had.
    fn used(self) -> (f64, Option<f64>) {
        let used = (cpu_s(&self.pid) - self.cpu_s, peak_mb(&self.pid));
        drop(self.agent);
        used
    }
}

fn lab(args: &Args) -> Result<PathBuf, Failure> {
    let usual = std::env::temp_dir().join("levada-peers");
    let lab = args.lab.clone().unwrap_or(usual);
    match lab.is_dir() {
        true => Ok(lab),
        false => Err(format!("no {}: run benches/peers/*/build", lab.display()).into()),
    }
}

/// Starts the driver of a cell.
fn drive(args: &Args, cell: &Cell, words: &[String], data: &Path) -> Result<Child, Failure> {
    let mut command = match cell.driver {
        Driver::Own => {
            let mut command = Command::new(std::env::current_exe()?);
            command.arg("drive");
            command
        }
        Driver::Lab(name) => Command::new(lab(args)?.join(name).join("driver")),
    };
    command.arg(cell.peer).args(words).arg("--dir").arg(data);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    Ok(command.spawn()?)
}

fn quiet(command: &mut Command) -> &mut Command {
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null())
}

/// The config file of Flume's agents, with levada's channel.
fn levada_agent(args: &Args, scratch: &Path, port: u16) -> Result<Child, Failure> {
    let dir = scratch.join("agent");
    let config = scratch.join("agent.properties");
    let text = format!(
        "a.sources = s\na.channels = c\na.sinks = k\na.sources.s.type = avro\n\
         a.sources.s.bind = 127.0.0.1\na.sources.s.port = {port}\na.sources.s.channels = c\n\
         a.channels.c.type = file\na.channels.c.capacity = 4000000\n\
         a.channels.c.transactionCapacity = 10000\na.channels.c.checkpointDir = {dir}/checkpoint\n\
         a.channels.c.dataDirs = {dir}/data\na.sinks.k.type = null\na.sinks.k.batchSize = 1000\n\
         a.sinks.k.channel = c\n",
        dir = dir.display()
    );
    std::fs::write(&config, text)?;
    let mut command = Command::new(&args.levada);
    command.args(["agent", "-n", "a", "-f"]).arg(&config);
    let started = quiet(&mut command).spawn();
    started.map_err(|error| format!("start {}: {error}", args.levada.display()).into())
}

/// Killed when the measurement is over.
struct Agent(Child);

impl Drop for Agent {
    fn drop(&mut self) {
        let _ = self.0.kill(); // it may have ended by itself
        let _ = self.0.wait();
    }
}

fn free_port() -> Result<u16, Failure> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?.port())
}

fn wait_for(port: u16) -> Result<(), Failure> {
    let began = Instant::now();
    while TcpStream::connect(("127.0.0.1", port)).is_err() {
        if began.elapsed() > Duration::from_secs(60) {
            return Err(format!("no agent on port {port} after 60 s").into());
        }
        std::thread::sleep(Duration::from_millis(100));
    }
    Ok(())
}
