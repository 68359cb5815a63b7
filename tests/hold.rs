//! What is kept of a channel beyond its delivery, seen from outside: a real agent that delivers, and
//! `walctl hold`, `groups` and `rewind` beside it and after it.

#![allow(clippy::unwrap_used)] // a failed step is a panic

mod support;

use levada::event::Event;
use levada::log::{BatchBuilder, Log, LogOptions};
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};
use support::{Agent, PATIENCE, lines_below};
use tempfile::TempDir;

/// Events of a test's log, some 1 KiB each: several segments of 1 MiB.
const EVENTS: u64 = 6000;
const KEEP: &str = "a.channels.c.retention.hours = 24\n";

/// A log with [`EVENTS`] events that nobody has read.
fn made() -> TempDir {
    let dir = TempDir::new().unwrap();
    let options = LogOptions { segment_bytes: 1 << 20, ..LogOptions::default() };
    let (log, _) = Log::open_dir(data(&dir), options).unwrap();
    for first in (0..EVENTS).step_by(100) {
        let mut batch = BatchBuilder::new();
        for n in first..first + 100 {
            let body = format!("event {n} {}", "x".repeat(1000));
            let event = Event { headers: vec![], body: body.into() };
            batch.push_with(|out| event.encode(out));
        }
        log.put(batch).unwrap();
    }
    log.close().unwrap();
    dir
}

fn data(dir: &TempDir) -> PathBuf {
    dir.path().join("data")
}

/// An agent on the log that delivers to the directory `out`.
fn agent(dir: &TempDir, out: &str, keys: &str) -> Agent {
    let text = format!(
        "a.sources = s\na.channels = c\na.sinks = k\n\
         a.sources.s.type = avro\na.sources.s.bind = 127.0.0.1\na.sources.s.port = 0\n\
         a.sources.s.channels = c\n\
         a.channels.c.type = file\na.channels.c.dataDirs = data\n\
         a.channels.c.maxFileSize = 1048576\na.channels.c.minimumRequiredSpace = 0\n{keys}\
         a.sinks.k.type = file_roll\na.sinks.k.channel = c\na.sinks.k.sink.directory = {out}\n"
    );
    let path = dir.path().join("agent.properties");
    std::fs::write(&path, text).unwrap();
    std::fs::create_dir_all(dir.path().join(out)).unwrap();
    Agent::start(dir.path(), &path, &[])
}

/// Runs `walctl` on the log; exit code, output, errors.
fn walctl(command: &str, dir: &TempDir, more: &[&str]) -> (i32, String, String) {
    let mut walctl = Command::new(env!("CARGO_BIN_EXE_walctl"));
    let output = walctl.arg(command).arg(data(dir)).args(more).output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (output.status.code().unwrap(), text(output.stdout), text(output.stderr))
}

fn json(command: &str, dir: &TempDir, more: &[&str]) -> Value {
    let (code, text, errors) = walctl(command, dir, &[more, &["--json"]].concat());
    assert_eq!(code, 0, "{command} {more:?}: {errors}");
    serde_json::from_str(&text).unwrap()
}

fn first_offset(dir: &TempDir) -> u64 {
    json("stat", dir, &[])["first_offset"].as_u64().unwrap()
}

fn wait(what: &str, mut done: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !done() {
        assert!(Instant::now() < deadline, "{what}: does not come");
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn numbers(dir: &Path) -> Vec<u64> {
    let lines = lines_below(dir);
    let number = |line: &String| line.split(' ').nth(1).unwrap().parse().unwrap();
    let mut numbers: Vec<u64> = lines.iter().map(number).collect();
    numbers.sort_unstable();
    numbers
}

/// Waits until the agent has delivered everything from `first` on, and stops it in order.
fn delivered(dir: &TempDir, out: &str, first: u64, agent: Agent) {
    let expected: Vec<_> = (first..EVENTS).collect();
    wait("delivery", || lines_below(&dir.path().join(out)).len() >= expected.len());
    let (status, log) = agent.stop();
    assert!(status.success(), "{log}");
    assert!(numbers(&dir.path().join(out)) == expected, "each event from {first} on, once");
}

#[test]
fn retention_keeps_delivered_events_and_rewind_delivers_them_again() {
    let dir = made();
    delivered(&dir, "out1", 0, agent(&dir, "out1", KEEP));
    assert_eq!(first_offset(&dir), 0, "all of it is kept");
    let groups = json("groups", &dir, &[]);
    let group = &groups["groups"][0];
    assert_eq!((&group["group"], &group["watermark"]), (&"default".into(), &EVENTS.into()));
    assert_eq!((&group["backlog"], &group["sinks"][0]["sink"]), (&0.into(), &"k".into()));
    let done = json("rewind", &dir, &["--group", "default", "--to", "4000"]);
    assert_eq!((&done["from"], &done["to"]), (&EVENTS.into(), &4000.into()), "{done}");
    assert_eq!(done["backlog"], EVENTS - 4000);
    assert_eq!(json("stat", &dir, &[])["backlog"], EVENTS - 4000);
    delivered(&dir, "out2", 4000, agent(&dir, "out2", KEEP));
    // by time: everything is from the first event's time on
    let (_, event, _) = walctl("cat", &dir, &["--limit", "1"]);
    let time = event.split(' ').nth(1).unwrap();
    let (code, text, errors) = walctl("rewind", &dir, &["--group", "default", "--to", time]);
    assert_eq!((code, errors.as_str()), (0, ""));
    let expected = "group default: set from offset 6000 to 0: 6000 events come again; \
                    6000 events wait (kept are 0..6000)\n";
    assert_eq!(text, expected);
    // without retention it goes as it is delivered
    let running = agent(&dir, "out3", "");
    wait("reclaim", || first_offset(&dir) > 4000);
    let (code, _, errors) = walctl("groups", &dir, &["--drop", "default"]);
    assert_eq!(code, 2, "the agent is asked, and refuses: {errors}");
    delivered(&dir, "out3", 0, running);
    let first = first_offset(&dir);
    let (code, _, errors) = walctl("rewind", &dir, &["--group", "default", "--to", "10"]);
    assert_eq!(code, 2);
    assert!(errors.contains(&format!("the oldest that is kept is {first}")), "{errors}");
    let (code, report, _) = walctl("verify", &dir, &[]);
    assert_eq!(code, 0, "{report}");
}

#[test]
fn hold_keeps_its_range_until_it_is_dropped_also_beside_an_agent() {
    let dir = made();
    let made = json("hold", &dir, &["--name", "audit", "--from", "3000", "--to", "3100"]);
    assert_eq!((&made["kept_from"], &made["to"]), (&3000.into(), &3100.into()), "{made}");
    delivered(&dir, "out1", 0, agent(&dir, "out1", ""));
    let first = first_offset(&dir);
    assert!((1000..=3000).contains(&first), "what lies before it goes, the range stays: {first}");
    // a group is set back into it, and gets all of it
    json("rewind", &dir, &["--group", "default", "--to", "3000"]);
    delivered(&dir, "out2", 3000, agent(&dir, "out2", ""));
    assert_eq!(first_offset(&dir), first);
    // an agent that has nothing to do hears of new holds and of dropped ones
    let idle = agent(&dir, "out3", "");
    json("hold", &dir, &["--name", "late", "--from", "5000", "--to", "-10"]);
    let (_, list, _) = walctl("hold", &dir, &["--list"]);
    assert!(list.contains("audit  3000  3100") && list.contains("late   5000  5990"), "{list}");
    json("hold", &dir, &["--drop", "audit"]);
    wait("reclaim", || first_offset(&dir) > 3000);
    wait("the files go", || walctl("hold", &dir, &["--list"]).0 == 0 && first_offset(&dir) > 4000);
    let first = first_offset(&dir);
    assert!(first <= 5000, "{first}");
    let (status, log) = idle.stop();
    assert!(status.success(), "{log}");
    let (code, _, errors) = walctl("hold", &dir, &["--name", "b", "--from", "10", "--to", "5500"]);
    assert_eq!(code, 1);
    assert!(errors.contains(&format!("10..{first} are gone already")), "{errors}");
    let (code, _, errors) = walctl("hold", &dir, &["--name", "b", "--from", "1", "--to", "9"]);
    assert_eq!(code, 1);
    assert!(errors.contains("1..9 are all gone already"), "{errors}");
    assert_eq!(json("hold", &dir, &["--list"])["holds"].as_array().unwrap().len(), 1);
}

#[test]
fn damaged_holds_are_said_once_and_nothing_goes() {
    let dir = made();
    json("hold", &dir, &["--name", "a", "--from", "0", "--to", "1"]);
    let holds = data(&dir).join("HOLDS");
    let text = std::fs::read_to_string(&holds).unwrap().replace("0 1", "0 2");
    std::fs::write(&holds, text).unwrap();
    let running = agent(&dir, "out", "");
    wait("delivery", || lines_below(&dir.path().join("out")).len() as u64 == EVENTS);
    std::thread::sleep(Duration::from_millis(1500)); // it is asked again and again meanwhile
    let (status, log) = running.stop();
    assert!(status.success(), "{log}");
    let said = log.lines().filter(|line| line.contains("nobody knows what is held"));
    assert_eq!(said.count(), 1, "{log}");
    assert_eq!(first_offset(&dir), 0);
    let (code, _, errors) = walctl("hold", &dir, &["--list"]);
    assert_eq!(code, 2);
    assert!(errors.contains("HOLDS: checksum fails"), "{errors}");
}

#[test]
fn groups_are_listed_dropped_and_refused_by_name() {
    let dir = made();
    let (code, text, _) = walctl("groups", &dir, &[]);
    assert_eq!((code, text.as_str()), (0, "no groups: no sink has read from this log yet\n"));
    let (code, _, errors) = walctl("rewind", &dir, &["--group", "g", "--to", "0"]);
    assert_eq!(code, 2);
    assert!(errors.contains("no sink has read from this log yet"), "{errors}");
    delivered(&dir, "out1", 0, agent(&dir, "out1", KEEP));
    let (code, text, _) = walctl("groups", &dir, &[]);
    assert_eq!(code, 0);
    let row = ["default", "6000", "0", "k"];
    let words: Vec<_> = text.lines().nth(1).unwrap().split_whitespace().collect();
    assert_eq!(words, row, "{text}");
    let (code, _, errors) = walctl("rewind", &dir, &["--group", "g", "--to", "0"]);
    assert_eq!(code, 2);
    assert!(errors.contains("no group 'g' is stored; there are: default"), "{errors}");
    let (code, _, errors) = walctl("rewind", &dir, &["--group", "default", "--to", "6001"]);
    assert_eq!(code, 2);
    assert!(errors.contains("the next event gets offset 6000"), "{errors}");
    assert_eq!(json("groups", &dir, &[])["groups"][0]["watermark"], EVENTS, "nothing changed");
    let dropped = json("groups", &dir, &["--drop", "default"]);
    assert_eq!((&dropped["dropped"], &dropped["backlog"]), (&"default".into(), &0.into()));
    assert_eq!(json("groups", &dir, &[])["groups"], Value::Array(vec![]));
}
