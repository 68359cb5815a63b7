//! The built `walctl` on dead-letter logs made through the library: what it lists, puts back and
//! throws away, and when it refuses.

#![allow(clippy::unwrap_used)] // a failed step is a panic

mod support;

use levada::channel::cursors;
use levada::channel::dead::{self, DeadLog};
use levada::channel::letter::Letter;
use levada::cursor::{GroupState, SinkState};
use levada::event::Event;
use levada::fate::Grave;
use levada::log::{BatchBuilder, Log, LogOptions};
use levada::offset::Offset;
use serde_json::Value;
use std::os::unix::fs::FileExt;
use std::path::Path;
use support::walctl;
use tempfile::TempDir;

const EVENTS: u64 = 40;
/// Time of death of the letter at offset 0.
const DIED_MS: u64 = 1_700_000_000_000;

fn log_options() -> LogOptions {
    LogOptions { segment_bytes: 64 << 10, background: false, ..LogOptions::default() }
}

fn dead_options() -> LogOptions {
    LogOptions { background: false, ..dead::options(64 << 20) }
}

fn event(n: u64) -> Event {
    let headers = vec![("n".to_owned(), n.to_string()), ("levada.dead.sink".into(), "own".into())];
    Event { headers, body: format!("event {n}").into() }
}

/// Letters of even offsets are of sink k1, the others of k2; 7 is no text; 9 went round 3 times.
fn letter(n: u64) -> Letter {
    let mut event = event(n);
    if n == 7 {
        event.body = vec![0xff, 0xfe];
    }
    Letter {
        grave: Grave::Dead,
        channel: "c1".into(),
        group: "default".into(),
        sink: if n.is_multiple_of(2) { "k1" } else { "k2" }.into(),
        range: Offset(n)..Offset(n + 1),
        appended_ms: DIED_MS - 5,
        cause: if n < 5 { "refused" } else { "timeout" }.into(),
        reason: format!("no\x1b answer to {n}"),
        attempts: 2,
        time_ms: DIED_MS + n * 1_000,
        redrives: if n == 9 { 3 } else { 0 },
        event,
    }
}

fn lost(from: u64, to: u64, grave: Grave) -> Letter {
    let sink = if grave == Grave::Lost { "k1" } else { "" };
    let range = Offset(from)..Offset(to);
    Letter { grave, range, sink: sink.into(), event: Event::default(), ..letter(from) }
}

/// A channel of 40 events, of which the first ten are dead, 10..15 lost and 15..17 expired; the
/// cursor counts them.
fn channel() -> (TempDir, Log, DeadLog) {
    let dir = TempDir::new().unwrap();
    let (log, _) = Log::open_dir(dir.path(), log_options()).unwrap();
    let mut batch = BatchBuilder::new();
    (0..EVENTS).for_each(|n| batch.push_with(|out| event(n).encode(out)));
    log.put(batch).unwrap();
    let mut dead = DeadLog::open_dir(dir.path().join(dead::DIR), dead_options());
    dead.append(&(0..10).map(letter).collect::<Vec<_>>()).unwrap();
    dead.append(&[lost(10, 15, Grave::Lost), lost(15, 17, Grave::Expired)]).unwrap();
    let state = GroupState {
        name: "default".into(),
        watermark: Offset(20),
        sinks: vec![SinkState { name: "k1".into(), ..SinkState::default() }],
        lost_events: 5,
        dead_events: 10,
        expired_events: 2,
        dead_tail: dead.tail().unwrap(),
        ..GroupState::default()
    };
    log.save_cursors(&cursors::encode(&[state]), Offset(20), Offset(20)).unwrap();
    (dir, log, dead)
}

fn closed() -> TempDir {
    let (dir, log, mut dead) = channel();
    dead.close().unwrap();
    log.close().unwrap();
    dir
}

fn run(command: &[&str], dir: &Path, more: &[&str]) -> (i32, String) {
    walctl(&[command, &[dir.to_str().unwrap()], more].concat())
}

/// Exit code, and what is said on standard error.
fn complaint(command: &[&str], dir: &Path, more: &[&str]) -> (i32, String) {
    let mut walctl = std::process::Command::new(env!("CARGO_BIN_EXE_walctl"));
    let output = walctl.args(command).arg(dir).args(more).output().unwrap();
    let text = String::from_utf8(output.stderr).unwrap();
    (output.status.code().unwrap(), text)
}

fn document(command: &[&str], dir: &Path, more: &[&str]) -> Value {
    let (code, text) = run(command, dir, &[&["--json"], more].concat());
    assert_eq!(code, 0, "{command:?}: {text}");
    serde_json::from_str(&text).unwrap_or_else(|_| panic!("{command:?}: {text}"))
}

fn lines(command: &[&str], dir: &Path, more: &[&str]) -> Vec<Value> {
    let (code, text) = run(command, dir, &[&["--json"], more].concat());
    assert_eq!(code, 0, "{command:?}: {text}");
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// The origins of the letters that are listed.
fn ls(dir: &Path, more: &[&str]) -> Vec<u64> {
    let listed = lines(&["dead", "ls"], dir, more);
    listed.iter().map(|letter| letter["origin_offset"].as_u64().unwrap()).collect()
}

#[test]
fn letters_and_losses_have_the_fields_of_the_contract() {
    let dir = closed();
    let listed = lines(&["dead", "ls"], dir.path(), &[]);
    assert_eq!(listed.len(), 10);
    let letter = &listed[4];
    for (key, value) in [
        ("dead_offset", 4.into()),
        ("origin_channel", "c1".into()),
        ("origin_offset", 4.into()),
        ("group", "default".into()),
        ("sink", "k1".into()),
        ("cause", "refused".into()),
        ("reason", "no\x1b answer to 4".into()),
        ("attempts", 2.into()),
        ("redrives", 0.into()),
        ("time_ms", Value::from(DIED_MS + 4_000)),
        ("headers", serde_json::json!({ "n": "4", "levada.dead.sink": "own" })),
        ("body", "event 4".into()),
    ] {
        assert_eq!(letter[key], value, "{key} of {letter}");
    }
    assert_eq!(listed[7]["body_base64"], "//4=");
    assert_eq!(lines(&["dead", "cat"], dir.path(), &[]), listed);
    let losses = document(&["losses"], dir.path(), &[]);
    let row = |i: usize| {
        let row = &losses[i];
        let texts = ["group", "sink", "what"].map(|key| row[key].as_str().unwrap());
        (texts, row["from"].as_u64().unwrap(), row["to"].as_u64().unwrap())
    };
    assert_eq!(losses.as_array().unwrap().len(), 2);
    assert_eq!(row(0), (["default", "k1", "lost"], 10, 15));
    assert_eq!(row(1), (["default", "", "expired"], 15, 17));
    assert_eq!(losses[0]["time_ms"], DIED_MS + 10_000);
    assert_eq!(losses[0]["reason"], "no\x1b answer to 10");
}

#[test]
fn text_for_people_moves_no_terminal() {
    let dir = closed();
    let (code, text) = run(&["dead", "ls"], dir.path(), &["--limit", "1"]);
    let expected = "0 2023-11-14T22:13:20.000Z c1@0 default/k1 refused (2 attempts): \
                    no\\x1b answer to 0\n";
    assert_eq!((code, &text[..]), (0, expected));
    let (_, text) = run(&["dead", "cat"], dir.path(), &["--limit", "1"]);
    assert_eq!(text, format!("{expected}    {{n=0, levada.dead.sink=own}} event 0\n"));
    let (_, text) = run(&["losses"], dir.path(), &[]);
    assert!(text.contains("10..15") && text.contains("expired"), "{text}");
    assert!(!text.contains('\x1b'), "{text:?}");
}

#[test]
fn channel_without_letters_has_none() {
    let dir = TempDir::new().unwrap();
    Log::open_dir(dir.path(), log_options()).unwrap().0.close().unwrap();
    assert_eq!(ls(dir.path(), &[]), [0u64; 0]);
    assert_eq!(document(&["losses"], dir.path(), &[]), Value::Array(vec![]));
    assert_eq!(document(&["dead", "redrive"], dir.path(), &["--all"])["redriven"], 0);
    assert_eq!(document(&["dead", "purge"], dir.path(), &["--all", "--yes"])["purged"], 0);
    assert_eq!(run(&["cat"], dir.path(), &["--dead"]), (0, String::new()));
    assert!(!dir.path().join(dead::DIR).exists());
    let (code, text) = complaint(&["dead", "ls"], &dir.path().join("log"), &[]);
    assert!(code == 2 && text.contains("did you mean"), "{text}");
}

#[test]
fn filters_choose_letters() {
    let dir = closed();
    let check =
        |more: &[&str], expected: &[u64]| assert_eq!(ls(dir.path(), more), expected, "{more:?}");
    check(&["--sink", "k2"], &[1, 3, 5, 7, 9]);
    check(&["--sink", "k2", "--cause", "refused"], &[1, 3]);
    check(&["--group", "other"], &[]);
    check(&["--reason", "to 3"], &[3]);
    check(&["--where", "n=6"], &[6]);
    check(&["--where", "n=6", "--where", "levada.dead.sink=k1"], &[]);
    check(&["--from", "3", "--to", "5"], &[3, 4]);
    check(&["--from", "2023-11-14T22:13:28Z"], &[8, 9]);
    check(&["--to", "2023-11-14T22:13:21Z"], &[0]);
    check(&["--limit", "2", "--sink", "k1"], &[0, 2]);
    check(&["--limit", "0"], &[]);
    let losses = |more: &[&str]| document(&["losses"], dir.path(), more).as_array().unwrap().len();
    assert_eq!(losses(&["--from", "14", "--to", "15"]), 1);
    assert_eq!(losses(&["--sink", "k2"]), 0);
    for wrong in [&["--cause", "bad"][..], &["--where", "n"], &["--from", "-3"], &["--from", "x"]] {
        assert_eq!(run(&["dead", "ls"], dir.path(), wrong).0, 2, "{wrong:?}");
    }
}

#[test]
fn redriven_events_are_in_the_channel_and_their_letters_are_gone() {
    let dir = closed();
    let dry = document(&["dead", "redrive"], dir.path(), &["--sink", "k2", "--dry-run"]);
    let expected =
        |dry_run: bool| serde_json::json!({ "redriven": 4, "skipped": 1, "dry_run": dry_run });
    assert_eq!(dry, expected(true));
    assert_eq!(document(&["stat"], dir.path(), &[])["tail"], EVENTS);
    assert_eq!(document(&["dead", "redrive"], dir.path(), &["--sink", "k2"]), expected(false));
    assert_eq!(ls(dir.path(), &[]), [0, 2, 4, 6, 8, 9]);
    let events = lines(&["cat"], dir.path(), &["--from", "40"]);
    let numbers: Vec<_> = events.iter().map(|event| event["headers"]["n"].clone()).collect();
    assert_eq!(numbers, ["1", "3", "5", "7"]);
    assert_eq!(events[0]["headers"]["levada.redrives"], "1");
    assert_eq!(events[0]["headers"]["levada.dead.sink"], "own", "as it was put");
    assert_eq!(
        (&events[0]["body"], &events[3]["body_base64"]),
        (&"event 1".into(), &"//4=".into())
    );
    let all = document(&["dead", "redrive"], dir.path(), &["--all", "--max-redrives", "4"]);
    assert_eq!((&all["redriven"], &all["skipped"]), (&6.into(), &0.into()));
    let stat = document(&["stat"], dir.path(), &[]);
    assert_eq!((&stat["tail"], &stat["dead_letters"]), (&50.into(), &0.into()));
    assert_eq!(
        lines(&["cat"], dir.path(), &["--from", "-1"])[0]["headers"]["levada.redrives"],
        "4"
    );
    let again = document(&["dead", "redrive"], dir.path(), &["--all"]);
    assert_eq!(again["redriven"], 0);
    assert_eq!(document(&["verify"], dir.path(), &[])["ok"], true);
    // the owner that comes next finds its cursor where it was
    let (log, opened) = Log::open_dir(dir.path(), log_options()).unwrap();
    let groups = cursors::decode(&opened.cursors.unwrap()).unwrap();
    assert_eq!((groups[0].watermark, groups[0].dead_events), (Offset(20), 10));
    log.close().unwrap();
}

#[test]
fn purged_letters_are_gone_and_losses_only_if_they_are_meant() {
    let dir = closed();
    let purge = |more: &[&str]| {
        let purged = document(&["dead", "purge"], dir.path(), more);
        purged["purged"].as_u64().unwrap()
    };
    assert_eq!(purge(&["--from", "8", "--dry-run"]), 2);
    assert_eq!(ls(dir.path(), &[]).len(), 10);
    assert_eq!(purge(&["--from", "8", "--yes"]), 2);
    assert_eq!(purge(&["--all", "--yes"]), 8);
    assert_eq!(document(&["losses"], dir.path(), &[]).as_array().unwrap().len(), 2);
    assert_eq!(purge(&["--all", "--losses", "--yes"]), 2);
    assert_eq!(document(&["losses"], dir.path(), &[]).as_array().unwrap().len(), 0);
    assert_eq!(document(&["stat"], dir.path(), &[])["tail"], EVENTS, "nothing came back");
}

#[test]
fn command_that_changes_something_says_what_and_needs_the_channel_for_itself() {
    let (dir, log, mut dead) = channel();
    let refused = |command: &str, more: &[&str], why: &str| {
        let (code, text) = complaint(&["dead", command], dir.path(), more);
        assert!(code == 2 && text.contains(why), "{command} {more:?}: {code} {text}");
    };
    refused("redrive", &[], "say which letters");
    refused("purge", &["--yes"], "say which letters");
    refused("redrive", &["--all", "--sink", "k1"], "contradict");
    refused("purge", &["--all"], "--yes");
    // this process has it, as an agent would
    refused("redrive", &["--all"], "an agent has this channel");
    refused("purge", &["--all", "--yes"], "an agent has this channel");
    // which hinders no look: what is durable is shown
    assert_eq!(ls(dir.path(), &[]), (0..10).collect::<Vec<_>>());
    dead.append(&[letter(20)]).unwrap();
    dead.settle(&[Offset(0)..Offset(9)]).unwrap();
    assert_eq!(ls(dir.path(), &[]), [9, 20]);
    assert_eq!(document(&["stat"], dir.path(), &[])["dead_letters"], 2);
    let dry = document(&["dead", "redrive"], dir.path(), &["--all", "--dry-run"]);
    assert_eq!((&dry["redriven"], &dry["skipped"]), (&1.into(), &1.into()));
    assert_eq!(document(&["verify"], dir.path(), &[])["ok"], true);
    drop((log, dead));
}

#[test]
fn cat_of_dead_letters_prints_open_ones_with_what_became_of_them() {
    let dir = closed();
    document(&["dead", "purge"], dir.path(), &["--to", "8", "--yes"]);
    let events = lines(&["cat"], dir.path(), &["--dead"]);
    let offsets: Vec<_> = events.iter().map(|event| event["offset"].clone()).collect();
    assert_eq!(offsets, [8, 9]);
    let headers = &events[1]["headers"];
    assert_eq!((&headers["n"], &headers["levada.dead.sink"]), (&"9".into(), &"k2".into()));
    assert_eq!(
        (&headers["levada.dead.from"], &headers["levada.dead.grave"]),
        (&"9".into(), &"dead".into())
    );
    assert_eq!(events[1]["body"], "event 9");
    assert_eq!(lines(&["cat"], dir.path(), &["--dead", "--from", "9"]).len(), 1);
}

#[test]
fn stat_says_what_became_of_each_event() {
    let dir = closed();
    let stat = document(&["stat"], dir.path(), &[]);
    assert_eq!(stat["dead_letters"], 10);
    let group = &stat["groups"][0];
    let sum: u64 = ["delivered", "dead", "lost", "expired", "backlog"]
        .iter()
        .map(|key| group[*key].as_u64().unwrap_or_else(|| panic!("{key} of {group}")))
        .sum();
    assert_eq!((&group["appended"], sum), (&40.into(), 40), "{group}");
    assert_eq!((&group["lost"], &group["backlog"]), (&5.into(), &20.into()));
}

#[test]
fn verify_finds_damage_among_the_letters() {
    let dir = closed();
    let report = document(&["verify"], dir.path(), &[]);
    assert_eq!((&report["ok"], &report["events"]), (&true.into(), &EVENTS.into()));
    // an event that is no letter
    let mut batch = BatchBuilder::new();
    batch.push_with(|out| event(1).encode(out));
    let at = dir.path().join(dead::DIR);
    let (log, _) = Log::open_dir(&at, dead_options()).unwrap();
    log.put(batch).unwrap();
    log.close().unwrap();
    let problems = || {
        let (code, text) = run(&["verify"], dir.path(), &["--json"]);
        let report: Value = serde_json::from_str(&text).unwrap();
        let problem = &report["problems"][0];
        let text = |key: &str| problem[key].as_str().unwrap_or_default().to_owned();
        (code, text("kind"), text("file"))
    };
    assert_eq!(problems(), (1, "letter".into(), "dead/log".into()));
    let segment = at.join("log/0000000000000001.seg");
    let file = std::fs::OpenOptions::new().read(true).write(true).open(&segment).unwrap();
    let mut byte = [0];
    file.read_exact_at(&mut byte, 4096 + 200).unwrap();
    file.write_all_at(&[byte[0] ^ 1], 4096 + 200).unwrap();
    assert_eq!(problems(), (1, "payload".into(), "dead/log/0000000000000001.seg".into()));
    let (code, text) = run(&["dead", "ls"], dir.path(), &["--json"]);
    assert_eq!((code, text.lines().filter(|line| line.starts_with('{')).count()), (1, 0), "{text}");
}
