//! Balancers and failure policies on the built binary, from a config file: two Avro sinks, targets
//! that refuse, hang or end, and what the dead letters, the loss list and the targets say after.
//!
//! `LEVADA_POISON_EVENTS` sets among how many events one is poison (default 30,000; a release build
//! takes a million in a minute), `LEVADA_DEAD_KILLS` how often an agent is killed that writes dead
//! letters (default 6), `LEVADA_OUTAGE_SECS` how long a sink is cut off (default 3; its figures mean
//! something in a release build alone).

#![allow(clippy::unwrap_used)] // a failed step is a panic

mod support;

use levada::event::Event;
use levada::rpc::avro::Status;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};
use support::receiver::{POISON, Receiver};
use support::record::wait;
use support::{Agent, Producer, number, report, seed, walctl};

const BALANCERS: [&str; 3] = ["roundrobin", "leastLoad", "targetQueueSize"];
const POLICIES: [&str; 4] = ["requeue", "retryAndResume", "fail", "deadLetter"];

/// An agent with an Avro source, a file channel and an Avro sink for each of `ports`.
fn config(dir: &Path, ports: &[u16], more: &str) -> PathBuf {
    let names: Vec<_> = (1..=ports.len()).map(|k| format!("k{k}")).collect();
    let mut text = format!(
        "a.sources = s\na.channels = c\na.sinks = {}\n\
         a.sources.s.type = avro\na.sources.s.bind = 127.0.0.1\na.sources.s.port = 0\n\
         a.sources.s.channels = c\n\
         a.channels.c.type = file\na.channels.c.dataDirs = log\n\
         a.channels.c.maxFileSize = 1048576\na.channels.c.minimumRequiredSpace = 0\n\
         a.exec.backoff = 50\na.exec.maxBackoff = 200\n{more}\n",
        names.join(" ")
    );
    for (name, port) in names.iter().zip(ports) {
        text += &format!(
            "a.sinks.{name}.type = avro\na.sinks.{name}.channel = c\n\
             a.sinks.{name}.hostname = 127.0.0.1\na.sinks.{name}.port = {port}\n\
             a.sinks.{name}.batch-size = 50\na.sinks.{name}.request-timeout = 1000\n\
             a.sinks.{name}.connect-timeout = 1000\n"
        );
    }
    let path = dir.join("agent.properties");
    std::fs::write(&path, text).unwrap();
    path
}

fn event(body: &str, poison: bool) -> Event {
    let headers = if poison { vec![(POISON.to_owned(), "1".to_owned())] } else { Vec::new() };
    Event { headers, body: body.into() }
}

fn put(producer: &mut Producer, events: &[Event]) {
    assert_eq!(producer.append(events).unwrap(), Status::Ok);
}

/// The JSON lines that a `walctl` command prints.
fn lines(args: &[&str]) -> Vec<Value> {
    let (code, text) = walctl(args);
    assert_eq!(code, 0, "{args:?}: {text}");
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn document(args: &[&str]) -> Value {
    let (code, text) = walctl(args);
    assert_eq!(code, 0, "{args:?}: {text}");
    serde_json::from_str(&text).unwrap()
}

/// What became of the events of the default group, from `walctl stat`: the sum is closed.
fn counts(log: &str) -> BTreeMap<String, u64> {
    let mut group = None;
    wait("the group has cursors", || {
        let stat = document(&["stat", log, "--json"]);
        group = stat["groups"].as_array().unwrap().first().cloned();
        group.is_some()
    });
    let group = group.unwrap();
    let count = |name: &str| group[name].as_u64().unwrap_or_else(|| panic!("{name} in {group}"));
    let names = ["appended", "delivered", "dead", "lost", "expired", "backlog"];
    let counts: BTreeMap<_, _> = names.iter().map(|n| ((*n).to_owned(), count(n))).collect();
    let sum: u64 = names[1..].iter().map(|name| counts[*name]).sum();
    assert_eq!(counts["appended"], sum, "{counts:?}");
    counts
}

/// Bodies of the dead letters.
fn dead(log: &str) -> Vec<String> {
    let body = |letter: &Value| letter["body"].as_str().unwrap().to_owned();
    lines(&["dead", "ls", log, "--json"]).iter().map(body).collect()
}

/// Offsets on the loss list.
fn lost(log: &str) -> BTreeSet<u64> {
    let losses = document(&["losses", log, "--json"]);
    let ranges = losses.as_array().unwrap().iter();
    let ends = ranges.map(|loss| loss["from"].as_u64().unwrap()..loss["to"].as_u64().unwrap());
    ends.flatten().collect()
}

/// One cell of the table: three events of 300 are poison for both targets.
fn cell(balancer: &str, policy: &str) {
    let dir = tempfile::tempdir().unwrap();
    let log = dir.path().join("log");
    let log = log.to_str().unwrap();
    let targets = [Receiver::start(), Receiver::start()];
    let more = format!("a.channels.c.exec.type = {balancer}\na.channels.c.exec.failure = {policy}");
    let config = config(dir.path(), &targets.each_ref().map(Receiver::port), &more);
    let mut agent = Agent::start(dir.path(), &config, &[]);
    let mut producer = Producer::connect(agent.address()).unwrap();
    let body = |n: usize| format!("event-{n:03}");
    let is_poison = |n: usize| [17, 150, 288].contains(&n);
    for first in (0..300).step_by(20) {
        let batch: Vec<_> = (first..first + 20).map(|n| event(&body(n), is_poison(n))).collect();
        put(&mut producer, &batch);
    }
    if matches!(policy, "requeue" | "retryAndResume") {
        // the poison is tried for ever: until its targets take it
        wait("the poison is refused", || targets.iter().any(|target| target.refused() > 2));
        targets.iter().for_each(Receiver::heal);
    }
    wait("the backlog is empty", || counts(log)["backlog"] == 0);
    let (status, said) = agent.stop();
    assert_eq!(status.code(), Some(0), "{said}");
    let taken = targets.each_ref().map(Receiver::taken);
    let arrived: BTreeSet<String> = taken.iter().flatten().cloned().collect();
    let (dead, lost) = (dead(log), lost(log));
    let all: BTreeSet<String> = (0..300).map(body).collect();
    let poison: Vec<String> = (0..300).filter(|n| is_poison(*n)).map(body).collect();
    match policy {
        "requeue" | "retryAndResume" => {
            assert_eq!(arrived, all);
            assert!(dead.is_empty() && lost.is_empty(), "{dead:?} {lost:?}");
        }
        "fail" => {
            // whole batches are given up, and every event is on one side
            assert!(dead.is_empty());
            let lost: BTreeSet<_> = lost.into_iter().map(|at| body(at as usize)).collect();
            assert!(poison.iter().all(|event| lost.contains(event)), "{lost:?}");
            assert!(lost.len() <= 3 * 50, "at most the poison's batches: {}", lost.len());
            assert!(arrived.is_disjoint(&lost));
            assert_eq!(&arrived | &lost, all);
        }
        _ => {
            assert_eq!(dead.iter().cloned().collect::<BTreeSet<_>>().len(), dead.len(), "{dead:?}");
            assert_eq!(dead.into_iter().collect::<BTreeSet<_>>(), poison.into_iter().collect());
            assert!(lost.is_empty());
            assert_eq!(arrived.len(), 297);
        }
    }
    if policy == "retryAndResume" {
        for taken in &taken {
            let mut once = taken.clone();
            once.dedup();
            assert!(once.is_sorted(), "a sink's order is kept: {once:?}");
        }
    }
}

#[test]
fn each_balancer_with_each_policy_does_what_the_readme_says_when_events_are_refused() {
    for balancer in BALANCERS {
        for policy in POLICIES {
            println!("{balancer} × {policy}");
            cell(balancer, policy);
        }
    }
}

#[test]
fn one_poison_event_among_many_is_the_only_dead_letter_and_comes_back_by_redrive() {
    let events = number("LEVADA_POISON_EVENTS", 30_000);
    let dir = tempfile::tempdir().unwrap();
    let log = dir.path().join("log");
    let log = log.to_str().unwrap();
    let target = Receiver::start();
    let more = "a.sinks.k1.exec.type = deadLetter\na.sinks.k1.exec.maxBackoff = 50";
    let config = config(dir.path(), &[target.port()], more);
    let text = std::fs::read_to_string(&config).unwrap();
    std::fs::write(&config, text.replace("batch-size = 50", "batch-size = 1000")).unwrap();
    let mut agent = Agent::start(dir.path(), &config, &[]);
    let mut producer = Producer::connect(agent.address()).unwrap();
    let poison = events * 2 / 3 + 1;
    for first in (0..events).step_by(1000) {
        let last = events.min(first + 1000);
        let batch: Vec<_> = (first..last).map(|n| event(&n.to_string(), n == poison)).collect();
        put(&mut producer, &batch);
    }
    wait("all are out of the way", || counts(log)["backlog"] == 0);
    assert_eq!(dead(log), [poison.to_string()], "exactly that event");
    let distinct = |target: &Receiver| target.taken().into_iter().collect::<BTreeSet<_>>().len();
    assert_eq!(distinct(&target), events - 1);
    assert_eq!(counts(log)["dead"], 1);
    target.heal();
    let (status, said) = agent.stop();
    assert_eq!(status.code(), Some(0), "{said}");
    let (code, said) = walctl(&["dead", "redrive", log, "--all"]);
    assert_eq!(code, 0, "{said}");
    let agent = Agent::start(dir.path(), &config, &[]);
    wait("it is delivered", || distinct(&target) == events);
    wait("it is no dead letter any more", || dead(log).is_empty());
    let (status, said) = agent.stop();
    assert_eq!(status.code(), Some(0), "{said}");
    report(&format!(
        "poison: 1 of {events} in the dead letters, {} delivered before and {events} after redrive",
        events - 1
    ));
}

#[test]
fn agent_killed_while_it_writes_dead_letters_loses_none_and_writes_none_twice() {
    let kills = number("LEVADA_DEAD_KILLS", 6);
    let seed = seed();
    println!("reproduce: LEVADA_SEED={seed} LEVADA_DEAD_KILLS={kills} cargo test --test policies");
    let mut random = fastrand::Rng::with_seed(seed);
    let dir = tempfile::tempdir().unwrap();
    let log = dir.path().join("log");
    let log = log.to_str().unwrap();
    let target = Receiver::start();
    let more = "a.sinks.k1.exec.type = deadLetter\na.exec.backoff = 1\na.exec.maxBackoff = 2";
    let config = config(dir.path(), &[target.port()], more);
    let (mut acknowledged, mut poison) = (Vec::new(), BTreeSet::new());
    let mut next = 0;
    for _ in 0..kills {
        let mut agent = Agent::start(dir.path(), &config, &[]);
        let address = agent.address();
        let end = Instant::now() + Duration::from_millis(random.u64(5..200));
        let mut producer = Producer::connect(address).unwrap();
        // each letter is synced: no more than they can write
        for _ in 0..5 {
            if Instant::now() > end {
                break;
            }
            let batch: Vec<_> = (next..next + 20).collect();
            next += 20;
            let is_poison = |n: &i32| n % 5 == 0;
            let events: Vec<_> =
                batch.iter().map(|n| event(&n.to_string(), is_poison(n))).collect();
            put(&mut producer, &events);
            poison.extend(batch.iter().filter(|n| is_poison(n)).map(i32::to_string));
            acknowledged.extend(batch.iter().map(i32::to_string));
        }
        std::thread::sleep(end.saturating_duration_since(Instant::now()));
        agent.kill();
    }
    let agent = Agent::start(dir.path(), &config, &[]);
    let mut backlog = counts(log)["backlog"];
    while backlog > 0 {
        let before = backlog;
        wait("some more are out of the way", || {
            backlog = counts(log)["backlog"];
            backlog < before || backlog == 0
        });
    }
    let (status, said) = agent.stop();
    assert_eq!(status.code(), Some(0), "{said}");
    let letters = lines(&["dead", "ls", log, "--json"]);
    let body = |letter: &Value| letter["body"].as_str().unwrap().to_owned();
    let once: BTreeSet<_> = letters.iter().map(body).collect();
    assert_eq!(once.len(), letters.len(), "none twice in the dead letters");
    // what was out at three ends of the agent in a row may be there for that
    let for_crashes =
        |letter: &&Value| letter["reason"].as_str().unwrap().starts_with("the process ended");
    let crashed: BTreeSet<_> = letters.iter().filter(for_crashes).map(body).collect();
    assert!(poison.is_subset(&once), "each poison event");
    assert!(once.is_subset(&(&poison | &crashed)), "and no other");
    let taken: BTreeSet<_> = target.taken().into_iter().collect();
    let missing = acknowledged.iter().filter(|id| !taken.contains(*id) && !once.contains(*id));
    assert_eq!(missing.count(), 0, "of {} acknowledged", acknowledged.len());
    report(&format!(
        "dead letters: {kills} kills, {} acknowledged, {} of them dead letters ({} for the kills), \
         none twice or lost",
        acknowledged.len(),
        once.len(),
        crashed.len()
    ));
}

#[test]
fn sink_that_hangs_holds_up_neither_the_other_sink_nor_the_source() {
    let dir = tempfile::tempdir().unwrap();
    let targets = [Receiver::start(), Receiver::start()];
    let config = config(dir.path(), &targets.each_ref().map(Receiver::port), "");
    let mut agent = Agent::start(dir.path(), &config, &[]);
    let mut producer = Producer::connect(agent.address()).unwrap();
    let mut next = 0;
    let mut put_some = |batches: usize| {
        for _ in 0..batches {
            let batch: Vec<_> = (next..next + 50).map(|n| event(&n.to_string(), false)).collect();
            next += 50;
            put(&mut producer, &batch);
        }
    };
    put_some(20);
    wait("both sinks work", || targets.iter().all(|target| target.count() > 0));
    targets[1].hang(true);
    for _ in 0..5 {
        let before = targets[0].count();
        put_some(20);
        // 1,000 events more, of which the one that hangs holds at most its queue
        wait("the other goes on", || targets[0].count() >= before + 800);
    }
    targets[1].hang(false);
    let all = || targets.iter().flat_map(Receiver::taken).collect::<BTreeSet<_>>().len();
    wait("each event arrives", || all() == 6_000);
    let (status, said) = agent.stop();
    assert_eq!(status.code(), Some(0), "{said}");
}

#[test]
fn sink_that_is_cut_off_costs_the_other_nothing_and_its_events_arrive_there() {
    let outage = Duration::from_secs(number("LEVADA_OUTAGE_SECS", 3) as u64);
    let dir = tempfile::tempdir().unwrap();
    let targets = [Receiver::start(), Receiver::start()];
    let more = "a.channels.c.capacity = 50000";
    let config = config(dir.path(), &targets.each_ref().map(Receiver::port), more);
    let mut agent = Agent::start(dir.path(), &config, &[]);
    let mut producer = Producer::connect(agent.address()).unwrap();
    let (done, acknowledged) = (AtomicBool::new(false), AtomicU64::new(0));
    let rate = |span: Duration| {
        let (start, before) = (Instant::now(), targets[0].count());
        std::thread::sleep(span);
        (targets[0].count() - before) as f64 / start.elapsed().as_secs_f64()
    };
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                let first = acknowledged.load(Ordering::Relaxed);
                let batch: Vec<_> =
                    (first..first + 50).map(|n| event(&n.to_string(), false)).collect();
                // refused while the channel is full
                while producer.append(&batch).unwrap() != Status::Ok {}
                acknowledged.fetch_add(50, Ordering::Relaxed);
            }
        });
        wait("both sinks work", || targets.iter().all(|target| target.count() > 1_000));
        let before = rate(outage / 3);
        targets[1].cut_off(true);
        let (cut, put_before) = (Instant::now(), acknowledged.load(Ordering::Relaxed));
        let other_way = || {
            std::thread::sleep(Duration::from_millis(100)); // looking costs time of its own
            let at = targets.iter().flat_map(Receiver::taken);
            let ids: BTreeSet<u64> = at.map(|body| body.parse().unwrap()).collect();
            ids.range(..put_before).count() as u64 == put_before
        };
        wait("what the one had arrives through the other", other_way);
        let took = cut.elapsed();
        let during = rate(outage.saturating_sub(took).max(outage / 3));
        targets[1].cut_off(false);
        let at_the_other = targets[1].count();
        wait("it is used again", || targets[1].count() > at_the_other);
        let after = rate(outage / 3);
        done.store(true, Ordering::Relaxed);
        report(&format!(
            "outage of {outage:?}: the other sink took {before:.0} events/s before, {during:.0} \
             meanwhile, {after:.0} after; within {took:?} all that was put before had arrived"
        ));
    });
    let all = acknowledged.load(Ordering::Relaxed) as usize;
    let log = dir.path().join("log");
    wait("the backlog is empty", || counts(log.to_str().unwrap())["backlog"] == 0);
    let arrived = targets.iter().flat_map(Receiver::taken).collect::<BTreeSet<_>>().len();
    assert_eq!(arrived, all, "each event arrives");
    let (status, said) = agent.stop();
    assert_eq!(status.code(), Some(0), "{said}");
}

/// Bytes that a process had written to disk.
fn bytes_written(agent: &Agent) -> u64 {
    let io = std::fs::read_to_string(format!("/proc/{}/io", agent.pid())).unwrap();
    let line = io.lines().find_map(|line| line.strip_prefix("write_bytes: ")).unwrap();
    line.parse().unwrap()
}

#[test]
fn two_groups_on_a_channel_cost_one_write() {
    let written = |groups: &[&str]| {
        let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
        let targets: Vec<_> = groups.iter().map(|_| Receiver::start()).collect();
        let ports: Vec<_> = targets.iter().map(Receiver::port).collect();
        let of = |(k, group): (usize, &&str)| format!("a.sinks.k{}.group = {group}\n", k + 1);
        let more: String = groups.iter().enumerate().map(of).collect();
        let config = config(dir.path(), &ports, &more);
        let mut agent = Agent::start(dir.path(), &config, &[]);
        let mut producer = Producer::connect(agent.address()).unwrap();
        for batch in 0..200 {
            let text = format!("{batch} {}", "x".repeat(512));
            put(&mut producer, &vec![event(&text, false); 100]);
        }
        for target in &targets {
            wait("each group gets each event", || target.count() == 20_000);
        }
        let bytes = bytes_written(&agent);
        let (status, said) = agent.stop();
        assert_eq!(status.code(), Some(0), "{said}");
        bytes
    };
    let (one, two) = (written(&["default"]), written(&["default", "audit"]));
    report(&format!("bytes written for 20,000 events: one group {one}, two groups {two}"));
    assert!(one >= 20_000 * 512, "the file system counts writes");
    assert!(two as f64 <= one as f64 * 1.05, "one group {one}, two groups {two}");
}

/// A row of the loss list or of the dead letters, by what became of the events.
fn losses(log: &str) -> Vec<Value> {
    document(&["losses", log, "--json"]).as_array().unwrap().clone()
}

#[test]
fn events_that_are_too_old_expire_and_are_listed() {
    let dir = tempfile::tempdir().unwrap();
    let log = dir.path().join("log");
    let log = log.to_str().unwrap();
    let target = Receiver::start();
    let more = "a.channels.c.exec.maxAge = 4";
    let config = config(dir.path(), &[target.port()], more);
    let mut agent = Agent::start(dir.path(), &config, &[]);
    let mut producer = Producer::connect(agent.address()).unwrap();
    let batch = |name: &str| (0..300).map(|n| event(&format!("{name}-{n}"), false)).collect();
    put(&mut producer, &[event("first", false)]);
    wait("the sink works", || target.count() == 1);
    target.cut_off(true);
    let old: Vec<Event> = batch("old");
    put(&mut producer, &old);
    // what the sink holds may still be delivered: the rest leaves
    wait("the old ones expire", || counts(log)["expired"] >= 200);
    target.cut_off(false);
    let new: Vec<Event> = batch("new");
    put(&mut producer, &new);
    wait("the backlog is empty", || counts(log)["backlog"] == 0);
    let arrived: BTreeSet<_> = target.taken().into_iter().collect();
    let (status, said) = agent.stop();
    let missing = (0..300).filter(|n| !arrived.contains(&format!("new-{n}"))).count();
    assert_eq!(missing, 0, "the new ones arrive: {:?} {said}", counts(log));
    assert_eq!(status.code(), Some(0), "{said}");
    let counts = counts(log);
    let listed: u64 = losses(log)
        .iter()
        .map(|row| row["to"].as_u64().unwrap() - row["from"].as_u64().unwrap())
        .sum();
    assert_eq!(listed, counts["expired"], "{counts:?}");
    assert!(said.contains("expired"), "{said}");
}

#[test]
fn group_may_start_at_the_tail_and_keeps_its_events_when_its_sinks_are_gone() {
    let dir = tempfile::tempdir().unwrap();
    let log = dir.path().join("log");
    let log = log.to_str().unwrap();
    let targets = [Receiver::start(), Receiver::start()];
    let ports = targets.each_ref().map(Receiver::port);
    let batch = |name: &str| -> Vec<Event> {
        (0..100).map(|n| event(&format!("{name}-{n}"), false)).collect()
    };
    let run = |ports: &[u16], more: &str, name: &str, groups: usize| {
        let mut agent = Agent::start(dir.path(), &config(dir.path(), ports, more), &[]);
        let mut producer = Producer::connect(agent.address()).unwrap();
        put(&mut producer, &batch(name));
        let backlogs = || {
            let stat = document(&["stat", log, "--json"]);
            let groups = stat["groups"].as_array().unwrap().clone();
            groups.iter().map(|group| group["backlog"].as_u64().unwrap()).collect::<Vec<_>>()
        };
        wait("all is delivered", || {
            backlogs().len() >= groups && backlogs()[..groups] == vec![0; groups]
        });
        let (status, said) = agent.stop();
        assert_eq!(status.code(), Some(0), "{said}");
        (said, backlogs())
    };
    run(&ports[..1], "", "one", 1);
    let audit = "a.sinks.k2.group = audit\na.sinks.k2.group.start = tail";
    run(&ports, audit, "two", 2);
    assert_eq!(targets[0].count(), 200);
    assert!(targets[1].taken().iter().all(|body| body.starts_with("two-")), "from the tail on");
    assert_eq!(targets[1].count(), 100);
    let (said, backlogs) = run(&ports[..1], "", "three", 1);
    assert!(said.contains("no sink is in group audit any more"), "{said}");
    assert_eq!(backlogs, [0, 100], "kept for the group");
    run(&ports, audit, "four", 2);
    assert_eq!(targets[1].count(), 300, "it goes on where it was");
}

#[test]
fn flumes_failover_uses_the_greatest_priority_that_works() {
    let dir = tempfile::tempdir().unwrap();
    let targets = [Receiver::start(), Receiver::start()];
    let more = "a.sinkgroups = g\na.sinkgroups.g.sinks = k1 k2\n\
                a.sinkgroups.g.processor.type = failover\n\
                a.sinkgroups.g.processor.priority.k1 = 5\n\
                a.sinkgroups.g.processor.priority.k2 = 10";
    let config = config(dir.path(), &targets.each_ref().map(Receiver::port), more);
    let mut agent = Agent::start(dir.path(), &config, &[]);
    let mut producer = Producer::connect(agent.address()).unwrap();
    let mut put_some = |name: &str| {
        for part in 0..10 {
            let text = |n: usize| format!("{name}-{part}-{n}");
            let batch: Vec<_> = (0..50).map(|n| event(&text(n), false)).collect();
            put(&mut producer, &batch);
        }
    };
    put_some("up");
    wait("the preferred one has all", || targets[1].count() == 500);
    assert_eq!(targets[0].count(), 0);
    targets[1].cut_off(true);
    put_some("down");
    wait("the other one steps in", || targets[0].count() == 500);
    targets[1].cut_off(false);
    let again = || {
        let before = targets[1].count();
        put_some("again");
        wait("they are taken", || targets.iter().map(Receiver::count).sum::<u64>() >= before + 500);
        targets[1].count() > before
    };
    let mut again = again;
    wait("the preferred one is used again", &mut again);
    let (status, said) = agent.stop();
    assert_eq!(status.code(), Some(0), "{said}");
}
