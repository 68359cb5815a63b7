//! The main promise, on the built binary: what was acknowledged at `fsync = always` survives
//! `kill -9`, whenever it comes. Producers keep their own record of the acknowledgements; sinks'
//! files say what was delivered.
//!
//! `LEVADA_KILLS` sets how often the agent is killed (default 6; the long run takes 50 and more).

#![allow(clippy::unwrap_used)] // a failed step is a panic

mod support;

use levada::event::Event;
use levada::rpc::avro::Status;
use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU16, Ordering};
use std::time::{Duration, Instant};
use support::{Agent, PATIENCE, Producer, lines_below, walctl};

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

/// What the producers know.
#[derive(Default)]
struct Record {
    acknowledged: Mutex<HashSet<String>>,
    sent: Mutex<HashSet<String>>,
    /// Where the agent listens; 0 while it is down.
    port: AtomicU16,
    stop: AtomicBool,
}

struct StopAtEnd<'a>(&'a AtomicBool);

impl Drop for StopAtEnd<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Sends numbered events until told to stop; after each lost connection it goes on with new numbers.
fn produce(producer: usize, record: &Record) {
    let mut next = 0u64;
    let mut connection: Option<Producer> = None;
    while !record.stop.load(Ordering::Relaxed) {
        let Some(open) = &mut connection else {
            let port = record.port.load(Ordering::Relaxed);
            if port > 0 {
                connection = Producer::connect(([127, 0, 0, 1], port).into()).ok();
            }
            std::thread::sleep(Duration::from_millis(2));
            continue;
        };
        let count = 1 + next % 40;
        let ids: Vec<_> = (next..next + count).map(|n| format!("{producer}-{n}")).collect();
        next += count;
        let events: Vec<_> = ids.iter().map(|id| Event::of_body(id.as_bytes())).collect();
        record.sent.lock().unwrap().extend(ids.iter().cloned());
        match open.append(&events) {
            Ok(Status::Ok) => record.acknowledged.lock().unwrap().extend(ids),
            Ok(_) => {}
            Err(_) => connection = None,
        }
    }
}

fn kill_loop(sinks: usize, policy: &str) {
    let kills: usize = std::env::var("LEVADA_KILLS").map_or(6, |n| n.parse().unwrap());
    let seed =
        std::env::var("LEVADA_SEED").map_or_else(|_| fastrand::u64(..), |s| s.parse().unwrap());
    println!("reproduce: LEVADA_SEED={seed} LEVADA_KILLS={kills} cargo test --test crash");
    let mut random = fastrand::Rng::with_seed(seed);
    let dir = tempfile::tempdir().unwrap();
    let config = config(dir.path(), sinks, policy);
    let log = dir.path().join("log");
    let record = Record::default();
    std::thread::scope(|scope| {
        // also if a check fails: the scope waits for the producers
        let _stop = StopAtEnd(&record.stop);
        for producer in 0..3 {
            let record = &record;
            scope.spawn(move || produce(producer, record));
        }
        for kill in 0..kills {
            let mut agent = Agent::start(dir.path(), &config, &[]);
            if kill > 0 && random.u8(..) < 64 {
                // one in four dies while it starts and recovers
                std::thread::sleep(Duration::from_millis(random.u64(0..30)));
            } else {
                record.port.store(agent.address().port(), Ordering::Relaxed);
                std::thread::sleep(Duration::from_millis(random.u64(1..400)));
            }
            agent.kill();
            record.port.store(0, Ordering::Relaxed);
            let (code, report) = walctl(&["verify", log.to_str().unwrap(), "--json"]);
            assert_eq!(code, 0, "walctl verify after kill -9: {report}");
        }
    });
    let acknowledged = record.acknowledged.into_inner().unwrap();
    let sent = record.sent.into_inner().unwrap();
    assert!(acknowledged.len() > kills, "the producers got through: {}", acknowledged.len());
    let delivered = deliver_the_rest(dir.path(), &config, &acknowledged);
    let unknown: Vec<_> = delivered.iter().filter(|id| !sent.contains(*id)).collect();
    assert!(unknown.is_empty(), "delivered, but never sent: {unknown:?}");
    println!("{kills} kills, {} acknowledged, all delivered", acknowledged.len());
}

/// Lets the agent deliver what is left, and stops it in order.
fn deliver_the_rest(dir: &Path, config: &Path, acknowledged: &HashSet<String>) -> HashSet<String> {
    let mut agent = Agent::start(dir, config, &[]);
    agent.address();
    let deadline = Instant::now() + PATIENCE;
    loop {
        let delivered: HashSet<_> = lines_below(&dir.join("out")).into_iter().collect();
        let missing = acknowledged.difference(&delivered).count();
        if missing == 0 {
            let (status, log) = agent.stop();
            assert_eq!(status.code(), Some(0), "a clean stop: {log}");
            return delivered;
        }
        assert!(Instant::now() < deadline, "{missing} acknowledged events are missing");
        std::thread::sleep(Duration::from_millis(50));
    }
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
    let mut ids = Vec::new();
    for round in 0..3 {
        let mut agent = Agent::start(dir.path(), &config, &[]);
        let mut producer = Producer::connect(agent.address()).unwrap();
        for batch in 0..20 {
            let these: Vec<_> = (0..37).map(|n| format!("{round}-{batch}-{n}")).collect();
            let events: Vec<_> = these.iter().map(|id| Event::of_body(id.as_bytes())).collect();
            assert_eq!(producer.append(&events).unwrap(), Status::Ok);
            ids.extend(these);
        }
        let (status, log) = agent.stop();
        assert_eq!(status.code(), Some(0), "{log}");
    }
    let sent: HashSet<_> = ids.iter().cloned().collect();
    let delivered: HashSet<_> = deliver_the_rest(dir.path(), &config, &sent);
    assert_eq!(delivered, sent);
    assert_eq!(lines_below(&dir.path().join("out")).len(), ids.len(), "none twice");
    for sink in ["k1", "k2"] {
        assert!(!lines_below(&dir.path().join("out").join(sink)).is_empty(), "{sink} got some");
    }
}
