//! levada's own driver, and the disk's.

use crate::Failure;
use crate::measure::{Measured, Usage};
use clap::Parser;
use levada::bench::{Bare, Channel, Figures, Load, Setup, Style};
use levada::client::{AvroClient, ConnectOptions};
use levada::event::Event;
use levada::log::Durability;
use levada::rpc::avro::{Status, encode_append_batch};
use std::path::PathBuf;
use std::time::{Duration, Instant};

#[derive(Parser, Clone)]
pub struct Args {
    /// levada, levada-tasks (producers are tasks), bare, bare-tasks, rpc (a client of any agent)
    peer: String,
    /// put, take, both, fill, reopen, rpc
    workload: String,
    #[arg(long)]
    dir: PathBuf,
    #[arg(long, default_value_t = 1)]
    producers: u32,
    #[arg(long, default_value_t = 1)]
    batch: u32,
    #[arg(long, default_value_t = 512)]
    body: u32,
    #[arg(long, default_value_t = 3.0)]
    seconds: f64,
    /// Events that are there before
    #[arg(long, default_value_t = 0)]
    events: u64,
    /// Groups that take, each everything
    #[arg(long, default_value_t = 1)]
    groups: u32,
    /// Sinks of a group
    #[arg(long, default_value_t = 1)]
    sinks: u32,
    #[arg(long, default_value_t = 64 << 20)]
    segment_bytes: u64,
    /// Of rpc: the agent's
    #[arg(long, default_value_t = 0)]
    port: u16,
    /// Of rpc: not counted, s
    #[arg(long, default_value_t = 5.0)]
    warmup: f64,
}

impl Args {
    fn span(&self) -> Duration {
        Duration::from_secs_f64(self.seconds)
    }

    fn load(&self) -> Load {
        let style = match self.peer.ends_with("-tasks") {
            true => Style::Tasks,
            false => Style::Threads,
        };
        Load { producers: self.producers, batch: self.batch, body: self.body, style }
    }

    fn channel(&self) -> Result<Channel, Failure> {
        let Args { groups, sinks, segment_bytes, .. } = *self;
        let setup = Setup { durability: Durability::Always, segment_bytes, groups, sinks };
        Ok(Channel::open(&self.dir, setup)?)
    }

    fn line(&self) -> Measured {
        Measured {
            peer: self.peer.clone(),
            workload: self.workload.clone(),
            producers: self.producers,
            batch: self.batch,
            body: self.body,
            ..Measured::default()
        }
    }
}

pub fn drive(args: &Args) -> Result<(), Failure> {
    std::fs::create_dir_all(&args.dir)?;
    let line = match (args.peer.as_str(), args.workload.as_str()) {
        ("bare" | "bare-tasks", "put") => bare(args)?,
        ("levada" | "levada-tasks", "put") => put(args)?,
        ("levada" | "levada-tasks", "take") => take(args)?,
        ("levada" | "levada-tasks", "both") => both(args)?,
        ("levada", "fill") => return fill(args),
        ("levada", "reopen") => reopen(args)?,
        ("rpc", "rpc") => rpc(args)?,
        (peer, workload) => return Err(format!("{peer} has no workload {workload}").into()),
    };
    println!("{}", serde_json::to_string(&line)?);
    Ok(())
}

fn figures(line: &mut Measured, figures: &Figures) {
    line.events_per_s = figures.events_per_s;
    line.events = (figures.events_per_s * line.seconds) as u64;
    let latency = figures.latency;
    line.p50_us = Some(latency.p50_us);
    line.p99_us = Some(latency.p99_us);
    line.p999_us = Some(latency.p999_us);
    line.max_us = Some(latency.max_us);
}

fn bare(args: &Args) -> Result<Measured, Failure> {
    let disk = Bare::new(&args.dir)?;
    disk.group_commit(&args.load(), Duration::from_millis(500))?; // not counted
    let (usage, mut line) = (Usage::start(&args.dir), args.line());
    let found = disk.group_commit(&args.load(), args.span())?;
    usage.note(&args.dir, &mut line);
    figures(&mut line, &found);
    Ok(line)
}

/// In the steady state: segments are recycled.
fn put(args: &Args) -> Result<Measured, Failure> {
    let channel = args.channel()?;
    channel.fill_kept(args.body)?;
    // not counted: several segments, until none is made any more
    let many = Load { producers: 8, batch: 100, ..args.load() };
    channel.put(&many, Duration::from_millis(600))?;
    channel.put(&args.load(), Duration::from_millis(300))?;
    let (usage, mut line, logged) = (Usage::start(&args.dir), args.line(), channel.log_bytes());
    let found = channel.put(&args.load(), args.span())?;
    usage.note(&args.dir, &mut line);
    line.log_mb = Some((channel.log_bytes() - logged) as f64 / 1e6);
    figures(&mut line, &found);
    Ok(line)
}

fn take(args: &Args) -> Result<Measured, Failure> {
    let channel = args.channel()?;
    channel.fill(args.events, args.body)?;
    let (usage, mut line) = (Usage::start(&args.dir), args.line());
    let found = channel.take(args.batch, args.body)?;
    usage.note(&args.dir, &mut line);
    figures(&mut line, &found);
    Ok(line)
}

fn both(args: &Args) -> Result<Measured, Failure> {
    const TAKE_BATCH: u32 = 1000;
    let channel = args.channel()?;
    if args.events == 0 {
        channel.both(&args.load(), TAKE_BATCH, Duration::from_secs(1))?; // not counted
    }
    channel.fill(args.events, args.body)?;
    let (usage, mut line, logged) = (Usage::start(&args.dir), args.line(), channel.log_bytes());
    let found = channel.both(&args.load(), TAKE_BATCH, args.span())?;
    usage.note(&args.dir, &mut line);
    line.log_mb = Some((channel.log_bytes() - logged) as f64 / 1e6);
    figures(&mut line, &found);
    Ok(line)
}

/// Fills, and dies.
fn fill(args: &Args) -> Result<(), Failure> {
    let channel = args.channel()?;
    channel.fill(args.events, args.body)?;
    println!("{}", serde_json::to_string(&args.line())?);
    let own = std::process::id().to_string();
    std::process::Command::new("kill").args(["-9", &own]).status()?;
    Err("it was killed, and lives".into())
}

/// From the call that opens to the first event at a sink.
fn reopen(args: &Args) -> Result<Measured, Failure> {
    let (usage, mut line, began) = (Usage::start(&args.dir), args.line(), Instant::now());
    let channel = args.channel()?;
    let opened = began.elapsed();
    channel.first()?;
    let took = began.elapsed();
    usage.note(&args.dir, &mut line);
    line.seconds = took.as_secs_f64();
    line.events = 1;
    line.p50_us = Some(took.as_secs_f64() * 1e6);
    line.note = Some(format!("{:.1} ms to open", opened.as_secs_f64() * 1e3));
    Ok(line)
}

/// Sends batches to an agent that runs, over several connections; each waits for its answer.
fn rpc(args: &Args) -> Result<Measured, Failure> {
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
    let (runtime, mut line) = (runtime?, args.line());
    let event = Event {
        headers: vec![("host".into(), "bench".into()), ("n".into(), "1".into())],
        body: vec![b'x'; args.body as usize],
    };
    let batch = encode_append_batch(&vec![event; args.batch as usize]);
    let address = format!("127.0.0.1:{}", args.port);
    let send = |span: Duration| {
        runtime.block_on(async {
            let began = Instant::now();
            let clients = (0..args.producers)
                .map(|_| tokio::spawn(client(address.clone(), batch.clone(), began, span)));
            let mut calls = Vec::new();
            for client in clients.collect::<Vec<_>>() {
                calls.extend(client.await??);
            }
            Ok::<_, Failure>((calls, began.elapsed()))
        })
    };
    send(Duration::from_secs_f64(args.warmup))?;
    let usage = Usage::start(&args.dir);
    let (mut calls, took) = send(args.span())?;
    usage.note(&args.dir, &mut line);
    line.events = calls.len() as u64 * u64::from(args.batch);
    line.events_per_s = line.events as f64 / took.as_secs_f64();
    calls.sort_unstable();
    let at = |q: f64| {
        let rank = ((calls.len() as f64 * q).ceil() as usize).max(1);
        calls.get(rank - 1).map(|call| call.as_secs_f64() * 1e6)
    };
    (line.p50_us, line.p99_us, line.p999_us, line.max_us) = (at(0.5), at(0.99), at(0.999), at(1.0));
    Ok(line)
}

async fn client(
    address: String,
    batch: Vec<u8>,
    began: Instant,
    span: Duration,
) -> Result<Vec<Duration>, String> {
    let connected = AvroClient::connect_with(&address, ConnectOptions::default()).await;
    let mut client = connected.map_err(|error| error.to_string())?;
    let mut calls = Vec::new();
    while began.elapsed() < span {
        let call = Instant::now();
        client.send_encoded(&batch).await.map_err(|error| error.to_string())?;
        match client.next_answer().await.map_err(|error| error.to_string())? {
            (_, Status::Ok) => calls.push(call.elapsed()),
            // a full channel: Flume's client tries again as well
            (_, _) => tokio::time::sleep(Duration::from_millis(1)).await,
        }
    }
    Ok(calls)
}
