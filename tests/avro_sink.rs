//! Agents in a row, on the built binary: one whose two Avro sinks send to the Avro sources of two
//! others, which write files. Producers keep the record of what the first one acknowledged; the
//! files of the last ones say what arrived, whatever happened to them on the way.
//!
//! `LEVADA_KILLS` sets how often a receiver is killed under load (default 4).

#![allow(clippy::unwrap_used)] // a failed step is a panic

mod support;

use levada::rpc::avro::Status;
use rustix::process::Signal;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;
use support::record::{Record, wait};
use support::{Agent, Producer, lines_below, number, report, seed, walctl};

/// An Avro source on a port, in front of a log that syncs each put.
fn head(port: u16, more: &str) -> String {
    format!(
        "a.sources = s\na.channels = c\n\
         a.sources.s.type = avro\na.sources.s.bind = 127.0.0.1\na.sources.s.port = {port}\n\
         a.sources.s.channels = c\n\
         a.channels.c.type = file\na.channels.c.dataDirs = log\na.channels.c.fsync = always\n\
         a.channels.c.capacity = 20000\na.channels.c.maxFileSize = 1048576\n\
         a.channels.c.minimumRequiredSpace = 0\n{more}"
    )
}

fn write(dir: &Path, text: &str) -> PathBuf {
    std::fs::create_dir_all(dir).unwrap();
    let path = dir.join("agent.properties");
    std::fs::write(&path, text).unwrap();
    path
}

/// An agent that writes what it gets below `out`.
struct Receiver {
    dir: PathBuf,
    out: PathBuf,
    more: &'static str,
    agent: Option<Agent>,
    address: SocketAddr,
}

impl Receiver {
    fn start(root: &Path, name: &str, more: &'static str) -> Receiver {
        let (dir, out) = (root.join(name), root.join("out").join(name));
        std::fs::create_dir_all(&out).unwrap();
        let address = ([127, 0, 0, 1], 0).into();
        let mut receiver = Receiver { dir, out, more, agent: None, address };
        receiver.start_again();
        receiver
    }

    /// Starts it where it was; the first time on a free port.
    fn start_again(&mut self) {
        let sink = format!(
            "a.sinks = k\na.sinks.k.type = file_roll\na.sinks.k.channel = c\n\
             a.sinks.k.sink.directory = {}\n{}",
            self.out.display(),
            self.more
        );
        let config = write(&self.dir, &head(self.address.port(), &sink));
        let agent = self.agent.insert(Agent::start(&self.dir, &config, &[]));
        self.address = agent.address();
    }

    fn kill(&mut self) {
        self.agent.take().unwrap().kill();
    }

    fn signal(&self, signal: Signal) {
        self.agent.as_ref().unwrap().signal(signal);
    }

    fn stop(self) {
        let (status, log) = self.agent.unwrap().stop();
        assert_eq!(status.code(), Some(0), "a clean stop: {log}");
    }
}

/// The agent that sends, with a sink for each receiver.
fn sender(root: &Path, receivers: [&Receiver; 2], policy: &str, keys: &[(&str, &str)]) -> Agent {
    let mut text = head(0, "a.sinks = k1 k2\n");
    for (name, receiver) in ["k1", "k2"].iter().zip(receivers) {
        let port = receiver.address.port();
        text += &format!(
            "a.sinks.{name}.type = avro\na.sinks.{name}.channel = c\n\
             a.sinks.{name}.hostname = localhost\na.sinks.{name}.port = {port}\n\
             a.sinks.{name}.exec.type = {policy}\na.sinks.{name}.exec.backoff = 20\n\
             a.sinks.{name}.exec.maxBackoff = 200\n"
        );
        for (key, value) in keys {
            text += &format!("a.sinks.{name}.{key} = {value}\n");
        }
    }
    let dir = root.join("sender");
    let config = write(&dir, &text);
    Agent::start(&dir, &config, &[])
}

fn stop(agent: Agent) -> String {
    let (status, log) = agent.stop();
    assert_eq!(status.code(), Some(0), "a clean stop: {log}");
    log
}

/// A receiver is killed and started again while producers send to the agent before it.
fn receiver_killed_under_load(policy: &str, compression: &'static str) {
    let (kills, seed) = (number("LEVADA_KILLS", 4), seed());
    println!("reproduce: LEVADA_SEED={seed} LEVADA_KILLS={kills} cargo test --test avro_sink");
    let mut random = fastrand::Rng::with_seed(seed);
    let root = tempfile::tempdir().unwrap();
    let start = |name| Receiver::start(root.path(), name, compression);
    let (mut first, second) = (start("b1"), start("b2"));
    let word = compression.rsplit(' ').next().filter(|word| !word.is_empty()).unwrap_or("none");
    let keys =
        [("batch-size", "50"), ("compression-type", if word.is_empty() { "none" } else { word })];
    let mut agent = sender(root.path(), [&first, &second], policy, &keys);
    let (record, out) = (Record::default(), root.path().join("out"));
    record.agent_is_at(agent.address());
    std::thread::scope(|scope| {
        let _stop = record.start_producers(scope);
        for _ in 0..kills {
            let before = lines_below(&first.out).len();
            wait("the first receiver gets events", || lines_below(&first.out).len() > before);
            std::thread::sleep(Duration::from_millis(random.u64(0..100)));
            first.kill();
            std::thread::sleep(Duration::from_millis(random.u64(0..300)));
            first.start_again();
        }
    });
    let stat = || walctl(&["stat", root.path().join("sender/log").to_str().unwrap(), "--json"]).1;
    wait("all are out of the way", || {
        let stat: serde_json::Value = serde_json::from_str(&stat()).unwrap_or_default();
        stat["groups"][0]["backlog"] == 0
    });
    let log = stop(agent);
    let noticed = log.contains("k1: works again");
    assert!(noticed || policy == "fail", "it was noticed that the receiver was gone: {log}");
    for receiver in [first, second] {
        assert!(!lines_below(&receiver.out).is_empty(), "{} got some", receiver.out.display());
        receiver.stop();
    }
    let (delivered, missing) = record.compare(&out);
    let stat: serde_json::Value = serde_json::from_str(&stat()).unwrap();
    let group = &stat["groups"][0];
    let lost = group["lost"].as_u64().unwrap() as usize;
    assert_eq!(group["dead"], 0, "a broken connection is nothing against the events: {group}");
    assert!(policy == "fail" || lost == 0, "{group}");
    assert!(missing <= lost, "{missing} are missing, {lost} listed as lost");
    report(&format!(
        "kill -9 of a receiver, {policy}: {kills} kills, {} acknowledged, {delivered} delivered, \
         {lost} listed as lost, none else missing, {} twice",
        record.count(),
        lines_below(&out).len() - delivered
    ));
}

#[test]
fn receiver_killed_under_load_sends_nothing_to_the_dead_letters() {
    receiver_killed_under_load("deadLetter", "");
}

#[test]
fn receiver_killed_under_load_loses_only_what_fail_lists() {
    receiver_killed_under_load("fail", "");
}

#[test]
fn receiver_killed_under_load_loses_nothing_with_retry_and_resume() {
    receiver_killed_under_load("retryAndResume", "");
}

#[test]
fn receiver_killed_under_load_loses_nothing_with_requeue_and_deflate() {
    receiver_killed_under_load("requeue", "a.sources.s.compression-type = deflate");
}

/// Puts numbered events, `count` batches of 20.
fn put(record: &Record, to: SocketAddr, name: &str, count: usize) {
    let mut producer = Producer::connect(to).unwrap();
    for batch in 0..count {
        let ids = (0..20).map(|n| format!("{name}-{batch}-{n}")).collect();
        assert_eq!(record.put(&mut producer, ids).unwrap(), Status::Ok);
    }
}

#[test]
fn receiver_that_hangs_is_passed_over_and_used_again_when_it_wakes() {
    let root = tempfile::tempdir().unwrap();
    let [first, second] = ["b1", "b2"].map(|name| Receiver::start(root.path(), name, ""));
    let keys = [("request-timeout", "1000"), ("connect-timeout", "1000")];
    let mut agent = sender(root.path(), [&first, &second], "requeue", &keys);
    let (record, out) = (Record::default(), root.path().join("out"));
    let address = agent.address();
    put(&record, address, "awake", 20);
    record.wait_until_delivered(&out);
    first.signal(Signal::STOP);
    put(&record, address, "asleep", 50);
    record.wait_until_delivered(&out);
    agent.wait_for(": no answer in 1 s");
    first.signal(Signal::CONT);
    put(&record, address, "awake-again", 50);
    agent.wait_for("k1: works again");
    record.wait_until_delivered(&out);
    stop(agent);
    first.stop();
    second.stop();
    assert_eq!(record.check(&out), 120 * 20);
}

#[test]
fn receiver_that_refuses_gets_nothing_twice_and_the_other_takes_it() {
    let root = tempfile::tempdir().unwrap();
    let first = Receiver::start(root.path(), "b1", "a.sources.s.maxBatchEvents = 1");
    let second = Receiver::start(root.path(), "b2", "");
    let mut agent = sender(root.path(), [&first, &second], "requeue", &[("batch-size", "40")]);
    let (record, out) = (Record::default(), root.path().join("out"));
    put(&record, agent.address(), "e", 100);
    record.wait_until_delivered(&out);
    let log = stop(agent);
    assert!(log.contains("(maxBatchEvents)"), "the refusal is in the log: {log}");
    assert_eq!(lines_below(&first.out), Vec::<String>::new());
    first.stop();
    second.stop();
    assert_eq!(record.check(&out), 100 * 20);
    assert_eq!(lines_below(&out).len(), 100 * 20, "none twice");
}
