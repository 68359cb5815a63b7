//! The main promise, on the built binary: what was acknowledged at `fsync = always` survives
//! `kill -9`, whenever it comes. Producers keep their own record of the acknowledgements; sinks'
//! files say what was delivered.
//!
//! `LEVADA_KILLS` sets how often the agent is killed (default 6; a long run takes 1,000: some 0.15 s each).

#![allow(clippy::unwrap_used)] // a failed step is a panic

mod support;

use levada::rpc::avro::Status;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use support::record::Record;
use support::{Agent, Producer, lines_below, number, report, seed, walctl};

/// An agent lives this long under load, at most.
const KILL_AFTER_MS: u64 = 150;

fn config(dir: &Path, sinks: usize, policy: &str) -> PathBuf {
    let names: Vec<_> = (1..=sinks).map(|k| format!("k{k}")).collect();
    let mut text = format!(
        "a.sources = s\na.channels = c\na.sinks = {}\n\
         a.sources.s.type = avro\na.sources.s.bind = 127.0.0.1\na.sources.s.port = 0\n\
         a.sources.s.channels = c\n\
         a.channels.c.type = file\na.channels.c.dataDirs = log\na.channels.c.fsync = always\n\
         a.channels.c.maxFileSize = 1048576\na.channels.c.minimumRequiredSpace = 0\n",
        names.join(" ")
    );
    for name in names {
        text += &format!(
            "a.sinks.{name}.type = file_roll\na.sinks.{name}.channel = c\n\
             a.sinks.{name}.sink.directory = out/{name}\na.sinks.{name}.sink.batchSize = 50\n\
             a.sinks.{name}.exec.type = {policy}\n"
        );
        std::fs::create_dir_all(dir.join("out").join(name)).unwrap();
    }
    let path = dir.join("agent.properties");
    std::fs::write(&path, text).unwrap();
    path
}

fn kill_loop(sinks: usize, policy: &str) {
    let kills = number("LEVADA_KILLS", 6);
    let seed = seed();
    println!("reproduce: LEVADA_SEED={seed} LEVADA_KILLS={kills} cargo test --test crash");
    let mut random = fastrand::Rng::with_seed(seed);
    let dir = tempfile::tempdir().unwrap();
    let config = config(dir.path(), sinks, policy);
    let log = dir.path().join("log");
    let record = Record::default();
    let began = Instant::now();
    std::thread::scope(|scope| {
        let _stop = record.start_producers(scope);
        for kill in 0..kills {
            let mut agent = Agent::start(dir.path(), &config, &[]);
            if kill > 0 && random.u8(..) < 64 {
                // one in four dies while it starts and recovers
                std::thread::sleep(Duration::from_millis(random.u64(0..30)));
            } else {
                record.agent_is_at(agent.address());
                std::thread::sleep(Duration::from_millis(random.u64(1..KILL_AFTER_MS)));
            }
            agent.kill();
            record.agent_is_gone();
            let (code, report) = walctl(&["verify", log.to_str().unwrap(), "--json"]);
            assert_eq!(code, 0, "walctl verify after kill -9: {report}");
        }
    });
    let took = began.elapsed().as_secs_f64();
    let acknowledged = record.count();
    assert!(acknowledged > kills, "the producers got through: {acknowledged}");
    let delivered = record.deliver_the_rest(dir.path(), &config);
    report(&format!(
        "kill -9, {sinks} sink(s): {kills} kills in {took:.1} s, {acknowledged} acknowledged, \
         {delivered} delivered, none missing"
    ));
}

#[test]
fn acknowledged_events_survive_kill_9_at_random_moments() {
    kill_loop(1, "retryAndResume");
}

#[test]
fn acknowledged_events_survive_kill_9_with_two_sinks_that_compete() {
    kill_loop(2, "requeue");
}

#[test]
fn clean_stop_delivers_nothing_twice_and_each_event_to_one_sink() {
    let dir = tempfile::tempdir().unwrap();
    let config = config(dir.path(), 2, "requeue");
    let record = Record::default();
    for round in 0..3 {
        let mut agent = Agent::start(dir.path(), &config, &[]);
        let mut producer = Producer::connect(agent.address()).unwrap();
        for batch in 0..20 {
            let ids = (0..37).map(|n| format!("{round}-{batch}-{n}")).collect();
            assert_eq!(record.put(&mut producer, ids).unwrap(), Status::Ok);
        }
        let (status, log) = agent.stop();
        assert_eq!(status.code(), Some(0), "{log}");
    }
    let delivered = record.deliver_the_rest(dir.path(), &config);
    assert_eq!(delivered, 3 * 20 * 37);
    assert_eq!(lines_below(&dir.path().join("out")).len(), delivered, "none twice");
    for sink in ["k1", "k2"] {
        assert!(!lines_below(&dir.path().join("out").join(sink)).is_empty(), "{sink} got some");
    }
}
