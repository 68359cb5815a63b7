//! The built `walctl` on logs made through the library: what it prints, and its exit codes.

#![allow(clippy::unwrap_used)] // a failed step is a panic

mod support;

use levada::event::Event;
use levada::log::{BatchBuilder, Log, LogOptions, seal_position};
use levada::offset::Offset;
use serde_json::Value;
use std::io::{BufRead, BufReader, Read};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};
use support::{Agent, walctl};
use tempfile::TempDir;

const SEGMENT: u64 = 64 << 10;

fn options() -> LogOptions {
    LogOptions { segment_bytes: SEGMENT, background: false, ..LogOptions::default() }
}

fn put(log: &Log, numbers: std::ops::Range<u64>) {
    let mut batch = BatchBuilder::new();
    for n in numbers {
        let headers = vec![("n".to_owned(), n.to_string())];
        let event = Event { headers, body: format!("event {n} {}", "x".repeat(300)).into() };
        batch.push_with(|out| event.encode(out));
    }
    log.put(batch).unwrap();
}

/// A log of `batches` batches of 10 events, some 3.5 KiB each.
fn make(dir: &Path, batches: u64) -> Log {
    let (log, _) = Log::open_dir(dir, options()).unwrap();
    (0..batches).for_each(|i| put(&log, i * 10..i * 10 + 10));
    log
}

fn closed(batches: u64) -> TempDir {
    let dir = TempDir::new().unwrap();
    make(dir.path(), batches).close().unwrap();
    dir
}

fn run(command: &str, dir: &Path, more: &[&str]) -> (i32, String) {
    walctl(&[&[command, dir.to_str().unwrap()], more].concat())
}

fn json(command: &str, dir: &Path) -> (i32, Value) {
    let (code, text) = run(command, dir, &["--json"]);
    (code, serde_json::from_str(&text).unwrap_or_else(|_| panic!("{command}: {code} {text}")))
}

fn offsets(text: &str) -> Vec<u64> {
    let lines = text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    lines.map(|event| event["offset"].as_u64().unwrap()).collect()
}

fn cat(dir: &Path, more: &[&str]) -> (i32, Vec<u64>) {
    let (code, text) = run("cat", dir, &[&["--json"], more].concat());
    (code, offsets(&text))
}

fn kinds(report: &Value, list: &str) -> Vec<String> {
    let problems = report[list].as_array().unwrap().iter();
    problems.map(|problem| problem["kind"].as_str().unwrap().to_owned()).collect()
}

fn flip(file: &Path, position: u64) {
    let file = std::fs::OpenOptions::new().read(true).write(true).open(file).unwrap();
    let mut byte = [0];
    file.read_exact_at(&mut byte, position).unwrap();
    file.write_all_at(&[byte[0] ^ 0x10], position).unwrap();
}

fn segment(dir: &Path, id: u64) -> std::path::PathBuf {
    dir.join(format!("log/{id:016x}.seg"))
}

#[test]
fn each_command_has_the_fields_of_the_contract() {
    let dir = closed(40);
    let (code, ls) = json("ls", dir.path());
    assert_eq!(code, 0);
    let segments = ls["segments"].as_array().unwrap();
    assert!(segments.len() >= 3, "{ls}");
    let mut next = 0;
    for segment in segments {
        assert_eq!(segment["state"], "sealed");
        assert_eq!(segment["base_offset"], next);
        assert_eq!(segment["bytes"], SEGMENT);
        assert!(segment["first_time_ms"].as_u64() <= segment["last_time_ms"].as_u64());
        assert!(segment["first_time_ms"].as_u64().unwrap() > 1_600_000_000_000);
        assert!(dir.path().join(segment["file"].as_str().unwrap()).exists());
        next += segment["events"].as_u64().unwrap();
    }
    assert_eq!(next, 400);
    let (code, stat) = json("stat", dir.path());
    assert_eq!(code, 0);
    for (key, value) in [("tail", 400), ("durable_tail", 400), ("watermark", 0), ("backlog", 400)] {
        assert_eq!(stat[key], value, "{key} of {stat}");
    }
    assert_eq!((&stat["dead_letters"], &stat["clean"]), (&0.into(), &true.into()));
    assert_eq!(stat["format_version"], "1.0");
    assert!(stat["bytes_on_disk"].as_u64().unwrap() > 3 * SEGMENT);
    assert_eq!(json("cursors", dir.path()), (0, Value::Array(vec![])));
    let (code, report) = json("verify", dir.path());
    assert_eq!((code, &report["ok"]), (0, &true.into()), "{report}");
    assert_eq!((&report["batches"], &report["events"]), (&40.into(), &400.into()));
    assert_eq!(report["segments"], segments.len());
    assert_eq!(report["problems"], Value::Array(vec![]));
    let (_, text) = run("cat", dir.path(), &["--json", "--limit", "1"]);
    let event: Value = serde_json::from_str(&text).unwrap();
    assert_eq!((&event["offset"], &event["headers"]["n"]), (&0.into(), &"0".into()));
    assert!(event["body"].as_str().unwrap().starts_with("event 0 x"));
}

#[test]
fn cat_begins_and_ends_where_it_is_told() {
    let dir = closed(40);
    let check = |more: &[&str], expected: std::ops::Range<u64>| {
        assert_eq!(cat(dir.path(), more), (0, expected.collect()), "{more:?}");
    };
    check(&[], 0..400);
    check(&["--from", "137"], 137..400);
    check(&["--from", "137", "--to", "142"], 137..142);
    check(&["--from", "300", "--limit", "5"], 300..305);
    check(&["--from", "-5"], 395..400);
    check(&["--from", "-20", "--to", "-10"], 380..390);
    check(&["--limit", "0"], 0..0);
    check(&["--from", "5", "--to", "5"], 0..0);
    check(&["--from", "9999"], 0..0);
    check(&["--from", "1990-01-01T00:00:00Z"], 0..400);
    check(&["--to", "1990-01-01T00:00:00Z"], 0..0);
    check(&["--from", "2990-01-01T00:00:00Z"], 0..0);
    // a follower with an end ends
    check(&["--from", "10", "--to", "20", "--follow"], 10..20);
}

#[test]
fn cat_seeks_by_time_across_segments() {
    let dir = TempDir::new().unwrap();
    let (log, _) = Log::open_dir(dir.path(), options()).unwrap();
    (0..30).for_each(|i| put(&log, i * 10..i * 10 + 10));
    std::thread::sleep(Duration::from_millis(20));
    let between = jiff::Timestamp::now().to_string();
    std::thread::sleep(Duration::from_millis(20));
    (30..60).for_each(|i| put(&log, i * 10..i * 10 + 10));
    log.close().unwrap();
    assert_eq!(cat(dir.path(), &["--from", &between]), (0, (300..600).collect()));
    assert_eq!(cat(dir.path(), &["--to", &between]), (0, (0..300).collect()));
}

#[test]
fn human_output_shows_what_matters_and_no_control_character() {
    let dir = TempDir::new().unwrap();
    let (log, _) = Log::open_dir(dir.path(), options()).unwrap();
    let mut batch = BatchBuilder::new();
    let headers = vec![("k".to_owned(), "a\x1b[31m".to_owned())];
    batch.push_with(|out| Event { headers, body: b"\x1b[2Jx\n\xff".to_vec() }.encode(out));
    batch.push(b"no");
    log.put(batch).unwrap();
    let (code, text) = run("ls", dir.path(), &[]);
    assert_eq!(code, 0);
    let lines: Vec<_> = text.lines().collect();
    assert!(lines[0].starts_with("file                      state"), "{text}");
    assert!(lines[1].starts_with("log/0000000000000001.seg  active"), "{text}");
    let (_, text) = run("stat", dir.path(), &[]);
    let owner = format!("owner         pid {}, running\n", std::process::id());
    assert!(text.contains(&owner), "{text}");
    assert!(text.contains("backlog       2 events\n"), "{text}");
    log.close().unwrap();
    let (_, text) = run("cat", dir.path(), &[]);
    let lines: Vec<_> = text.lines().collect();
    assert!(lines[0].starts_with("0 2"), "{text}");
    assert!(lines[0].ends_with("Z {k=a\\x1b[31m} \\x1b[2Jx\\n\\xff"), "{text}");
    assert!(lines[1].ends_with("Z {} no"), "{text}");
    let (_, text) = run("cat", dir.path(), &["--json"]);
    let events: Vec<Value> = text.lines().map(|l| serde_json::from_str(l).unwrap()).collect();
    assert_eq!(events[0]["body_base64"], "G1sySngK/w==");
    assert_eq!((&events[0]["body"], &events[1]["raw"]), (&Value::Null, &true.into()));
    let (_, text) = run("verify", dir.path(), &[]);
    assert_eq!(text, "ok: 1 segments, 1 batches, 2 events, tail 2\n");
    let (_, text) = run("cursors", dir.path(), &[]);
    assert_eq!(text, "no cursors: no sink has read from this log yet\n");
}

#[test]
fn what_is_no_log_is_refused_with_the_nearest_one() {
    let dir = closed(1);
    let check = |path: &Path, said: &[&str]| {
        let output = Command::new(env!("CARGO_BIN_EXE_walctl")).arg("stat").arg(path).output();
        let output = output.unwrap();
        let text = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2), "{text}");
        assert!(output.stdout.is_empty());
        said.iter().for_each(|words| assert!(text.contains(words), "'{words}' not in {text}"));
    };
    let mean = format!("did you mean {}?", dir.path().display());
    check(&dir.path().join("log"), &["is not a log of levada", &mean]);
    check(&dir.path().join("cursor/A.cur"), &["is a file", &mean]);
    let parent = TempDir::new().unwrap();
    check(parent.path(), &["is empty", "name a channel's data directory"]);
    check(&parent.path().join("no"), &["no such directory"]);
    std::fs::create_dir_all(parent.path().join("a/b")).unwrap();
    make(&parent.path().join("a/b"), 1).close().unwrap();
    let below = format!("did you mean {}?", parent.path().join("a/b").display());
    check(parent.path(), &[&below]);
    check(&parent.path().join("a/bb"), &["no such directory", &below]);
    let flume = TempDir::new().unwrap();
    std::fs::write(flume.path().join("log-1.meta"), b"x").unwrap();
    check(flume.path(), &["file channel of Apache Flume (log-1.meta)"]);
}

#[test]
fn command_lines_that_can_not_be_followed_end_with_2() {
    let dir = closed(1);
    let path = dir.path().to_str().unwrap();
    for name in ["grep", "repair", "export", "top"] {
        let output = Command::new(env!("CARGO_BIN_EXE_walctl")).args([name, path]).output();
        let output = output.unwrap();
        let text = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2));
        assert!(text.contains(&format!("'walctl {name}' is not in this version")), "{text}");
    }
    for args in [&["frob", path][..], &["cat", path, "--from", "noon"], &["dead", "redrive", path]]
    {
        assert_eq!(walctl(args), (2, String::new()), "{args:?}");
    }
    assert_eq!(walctl(&[]).0, 2);
    let (code, text) = walctl(&["--help"]);
    assert_eq!(code, 0);
    assert!(text.contains("Exit codes:") && text.contains("Examples:"), "{text}");
}

#[test]
fn bench_prints_its_figures_and_leaves_nothing_behind() {
    let dir = TempDir::new().unwrap();
    let quick = ["--seconds", "0.02", "--rounds", "1", "--producers", "2", "--json"];
    let (code, text) = run("bench", dir.path(), &quick);
    let report: Value = serde_json::from_str(&text).unwrap();
    assert_eq!((code, &report["producers"]), (0, &2.into()));
    assert!(report["ratios"]["put_to_group_commit"].as_f64().unwrap() > 0.0, "{report}");
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
    assert_eq!(run("bench", dir.path(), &["--producers", "0"]).0, 2);
}

#[test]
fn damage_is_found_named_and_read_around() {
    let seal = SEGMENT - 8192 + 4096;
    let usable_end = SEGMENT - 8192;
    let check = |file: &str, position: u64, kind: &str, found_at: u64, lost: usize| {
        let dir = closed(40);
        flip(&dir.path().join(file), position);
        let (code, report) = json("verify", dir.path());
        assert_eq!(code, 1, "{kind}: {report}");
        let problems = report["problems"].as_array().unwrap();
        let found = problems.iter().find(|problem| problem["kind"] == kind);
        let found = found.unwrap_or_else(|| panic!("no {kind} in {report}"));
        assert_eq!((&found["file"], &found["position"]), (&file.into(), &found_at.into()));
        let (code, seen) = cat(dir.path(), &[]);
        assert_eq!((code, 400 - seen.len()), (i32::from(lost > 0), lost), "{kind}");
    };
    let second = "log/0000000000000002.seg";
    check(second, 4096 + 64 + 500, "payload", 4096, 10);
    check(second, 4096 + 20, "header", 4096, 10);
    check(second, 100, "segment-header", 0, 0);
    check(second, usable_end + 100, "segment-header", usable_end, 0);
    check(second, seal + 70, "seal", seal, 0);
    check(second, SEGMENT - 10, "trailer", SEGMENT - 64, 0);
    check(second, SEGMENT - 64, "trailer", SEGMENT - 64, 0);
    check("META.b", 20, "meta", 0, 0);
}

#[test]
fn damaged_cursor_record_is_found_and_a_torn_end_is_no_trouble() {
    let dir = TempDir::new().unwrap();
    let log = make(dir.path(), 3);
    for n in 1..4 {
        log.save_cursors(&[1, 0], Offset(n), Offset(0)).unwrap();
    }
    log.close().unwrap();
    assert_eq!(json("verify", dir.path()).0, 0);
    let cursor = dir.path().join("cursor/A.cur");
    for position in [4096 + 70, 4096 + 10, 4096, 8192 + 70] {
        flip(&cursor, position);
        let (code, report) = json("verify", dir.path());
        assert_eq!((code, kinds(&report, "problems")), (1, vec!["cursor".to_owned()]), "{report}");
        assert_eq!(report["problems"][0]["position"], position / 4096 * 4096);
        flip(&cursor, position);
    }
    assert_eq!(json("verify", dir.path()).0, 0);
}

/// A power cut within a roll left a segment's trailer and took its seal: that was reported as damage.
#[test]
fn torn_seal_is_a_note_where_an_owner_ended_and_trouble_elsewhere() {
    for (last, list, kind) in [(true, "notes", "torn-seal"), (false, "problems", "seal")] {
        let dir = closed(40);
        std::fs::remove_file(dir.path().join("STATE")).unwrap(); // lost with the power
        let segments = json("ls", dir.path()).1["segments"].as_array().unwrap().len() as u64;
        let torn = segment(dir.path(), if last { segments } else { 1 });
        let file = std::fs::OpenOptions::new().write(true).open(torn).unwrap();
        file.write_all_at(&[0; 512], seal_position(SEGMENT)).unwrap();
        let check = |when: &str| {
            let (code, report) = json("verify", dir.path());
            assert_eq!(code, i32::from(!last), "{when}: {report}");
            assert!(kinds(&report, list).iter().any(|found| found == kind), "{when}: {report}");
        };
        check("at once");
        // the next owner goes on behind it
        let (log, _) = Log::open_dir(dir.path(), options()).unwrap();
        put(&log, 400..410);
        log.close().unwrap();
        check("after a clean stop");
    }
}

/// A power cut within a start tore the copy of META that it was writing: that was reported as damage.
#[test]
fn torn_meta_is_a_note_after_a_power_cut_and_any_other_damage_to_it_is_trouble() {
    let dir = closed(4);
    let copy = dir.path().join("META.a"); // as the next start will find it, and write it
    let written_by = |file: &str| std::fs::read(dir.path().join(file)).unwrap();
    let (before, first) = (written_by("META.a"), written_by("META.b"));
    Log::open_dir(dir.path(), options()).unwrap().0.close().unwrap();
    let after = written_by("META.a");
    assert_eq!(written_by("META.b"), first, "copies take turns");
    let check = |page: &[u8], found: (i32, &str, &str), when: &str| {
        std::fs::write(&copy, page).unwrap();
        let (code, report) = json("verify", dir.path());
        assert_eq!(code, found.0, "{when}: {report}");
        let kinds = kinds(&report, found.1);
        assert!(kinds.iter().any(|kind| kind == found.2), "{when}: {report}");
    };
    for head in [true, false] {
        let [of_head, rest] = if head { [&after, &before] } else { [&before, &after] };
        let torn = [&of_head[..512], &rest[512..]].concat();
        std::fs::write(dir.path().join("STATE"), "").unwrap(); // lost with the power
        check(&torn, (0, "notes", "torn-meta"), "torn");
        let mut rotten = torn.clone();
        rotten[40] ^= 1;
        check(&rotten, (1, "problems", "meta"), "of neither start");
    }
}

/// A log has a file open for each segment, and a shell's limit is mostly 1024.
#[test]
fn log_of_more_segments_than_files_may_be_open_is_read() {
    let dir = closed(400);
    let segments = json("ls", dir.path()).1["segments"].as_array().unwrap().len();
    assert!(segments > 12, "{segments}");
    let command = "ulimit -Sn 12 && exec \"$0\" verify \"$1\"";
    let mut limited = std::process::Command::new("sh");
    let limited = limited.args(["-c", command, env!("CARGO_BIN_EXE_walctl")]).arg(dir.path());
    let output = limited.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

/// A power cut within the first sync of a segment left a batch of it and tore a copy of its header:
/// that was reported as damage.
#[test]
fn torn_segment_header_is_a_note_as_long_as_nothing_of_the_segment_is_known_to_be_durable() {
    for (batches, kind) in [(1, "notes"), (2, "problems")] {
        let (dir, copy) = (TempDir::new().unwrap(), TempDir::new().unwrap());
        let log = make(dir.path(), batches);
        copy_dir(dir.path(), copy.path());
        drop(log);
        std::fs::remove_file(copy.path().join("STATE")).unwrap(); // lost with the power
        flip(&segment(copy.path(), 1), 40);
        let (code, report) = json("verify", copy.path());
        assert_eq!(code, i32::from(kind == "problems"), "{report}");
        let of_header = kinds(&report, kind).iter().filter(|kind| kind.contains("header")).count();
        assert_eq!(of_header, 1, "{report}");
    }
}

#[test]
fn torn_end_of_a_killed_log_is_a_note_and_lost_durable_bytes_are_trouble() {
    let dir = TempDir::new().unwrap();
    let log = make(dir.path(), 5);
    let copy = TempDir::new().unwrap();
    copy_dir(dir.path(), copy.path());
    drop(log);
    // the state names this process, which has the other directory's lock: nobody owns the copy
    let (code, report) = json("verify", copy.path());
    assert_eq!((code, &report["events"]), (0, &50.into()), "{report}");
    assert_eq!(cat(copy.path(), &[]), (0, (0..50).collect()));
    let (_, stat) = json("stat", copy.path());
    assert_eq!((&stat["owner"]["alive"], &stat["tail"]), (&false.into(), &50.into()));
    let last = segment(copy.path(), 1);
    let file = std::fs::OpenOptions::new().write(true).open(&last).unwrap();
    // the last batch goes; STATE of the same boot proves that it was durable
    file.write_all_at(&[0; 4096], 4096 * 5).unwrap();
    let (code, report) = json("verify", copy.path());
    assert_eq!(code, 1, "{report}");
    std::fs::remove_file(copy.path().join("STATE")).unwrap();
    let (code, report) = json("verify", copy.path());
    assert_eq!((code, &report["events"]), (0, &40.into()), "{report}");
    assert_eq!(cat(copy.path(), &[]), (0, (0..40).collect()));
}

#[test]
fn hole_that_recovery_recorded_is_known_and_not_trouble() {
    let dir = TempDir::new().unwrap();
    let log = make(dir.path(), 8);
    let copy = TempDir::new().unwrap();
    copy_dir(dir.path(), copy.path());
    drop(log);
    flip(&segment(copy.path(), 1), 4096 * 3 + 700);
    let (code, report) = json("verify", copy.path());
    assert_eq!((code, kinds(&report, "problems")), (1, vec!["payload".to_owned()]), "{report}");
    assert_eq!(cat(copy.path(), &[]).0, 1);
    let quarantine =
        LogOptions { on_corruption: levada::log::OnCorruption::Quarantine, ..options() };
    let (log, opened) = Log::open_dir(copy.path(), quarantine).unwrap();
    assert_eq!(opened.report.damage.len(), 1);
    put(&log, 80..90);
    log.close().unwrap();
    let (code, report) = json("verify", copy.path());
    assert_eq!((code, &report["events"]), (0, &80.into()), "{report}");
    assert_eq!(kinds(&report, "notes"), ["quarantined", "kept-aside"]);
    let (code, seen) = cat(copy.path(), &[]);
    assert_eq!((code, seen), (0, (0..20).chain(30..90).collect()));
    assert_eq!(json("stat", copy.path()).1["quarantined"], 1);
}

#[test]
fn head_ends_cat_quietly_with_0() {
    let dir = closed(400);
    let output = Command::new("sh")
        .args(["-c", r#"{ "$0" cat "$1"; echo "code $?" >&2; } | head -n 1"#])
        .arg(env!("CARGO_BIN_EXE_walctl"))
        .arg(dir.path())
        .output()
        .unwrap();
    assert_eq!(String::from_utf8(output.stderr).unwrap(), "code 0\n");
    assert!(String::from_utf8(output.stdout).unwrap().starts_with("0 2"));
}

fn copy_dir(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let path = entry.unwrap().path();
        let target = to.join(path.file_name().unwrap());
        if path.is_dir() { copy_dir(&path, &target) } else { drop(std::fs::copy(path, target)) }
    }
}

#[test]
fn missing_segment_in_the_middle_is_trouble() {
    let dir = closed(40);
    std::fs::remove_file(segment(dir.path(), 2)).unwrap();
    let (code, report) = json("verify", dir.path());
    assert_eq!((code, kinds(&report, "problems")), (1, vec!["missing-segment".to_owned()]));
    let (code, seen) = cat(dir.path(), &[]);
    assert_eq!(code, 0, "the gap is said on standard error");
    assert!(seen.len() < 400 && seen.first() == Some(&0) && seen.last() == Some(&399));
}

#[test]
fn no_bytes_in_any_file_make_it_panic_or_hang() {
    let seed: u64 =
        std::env::var("LEVADA_SEED").map_or_else(|_| fastrand::u64(..), |s| s.parse().unwrap());
    println!("reproduce: LEVADA_SEED={seed} cargo test --test walctl no_bytes");
    let mut random = fastrand::Rng::with_seed(seed);
    let whole = TempDir::new().unwrap();
    let log = make(whole.path(), 30);
    log.save_cursors(&[1, 0], Offset(7), Offset(0)).unwrap();
    drop(log);
    let files = [
        "META.a",
        "META.b",
        "STATE",
        "cursor/A.cur",
        "log/0000000000000001.seg",
        "log/0000000000000002.seg",
        "log/0000000000000003.seg",
    ];
    for _ in 0..25 {
        let dir = TempDir::new().unwrap();
        copy_dir(whole.path(), dir.path());
        for _ in 0..random.usize(1..4) {
            let path = dir.path().join(random.choice(files).unwrap());
            let Ok(mut bytes) = std::fs::read(&path) else { continue };
            match random.u8(0..5) {
                0 => bytes.clear(),
                1 => bytes.truncate(random.usize(0..=bytes.len())),
                2 => bytes.iter_mut().for_each(|byte| *byte = random.u8(..)),
                3 => bytes.extend((0..random.usize(1..9000)).map(|_| random.u8(..))),
                _ => (0..20.min(bytes.len())).for_each(|_| {
                    let at = random.usize(0..bytes.len());
                    bytes[at] = random.u8(..);
                }),
            }
            std::fs::write(&path, bytes).unwrap();
        }
        for command in ["ls", "stat", "cat", "cursors", "verify"] {
            let begun = Instant::now();
            let (code, _) = run(command, dir.path(), &["--json"]);
            assert!((0..=2).contains(&code), "{command} ends with {code}");
            assert!(begun.elapsed() < Duration::from_secs(20), "{command} hangs");
        }
    }
}

#[test]
fn follower_prints_what_comes_and_ends_with_its_pipe() {
    let dir = TempDir::new().unwrap();
    let log = make(dir.path(), 2);
    let mut child = Command::new(env!("CARGO_BIN_EXE_walctl"))
        .args(["cat", dir.path().to_str().unwrap(), "--json", "--follow", "--from", "15"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let mut next = 15;
    for round in 2..20 {
        put(&log, round * 10..round * 10 + 10);
        while next < round * 10 + 10 {
            assert_eq!(offsets(&lines.next().unwrap().unwrap()), [next]);
            next += 1;
        }
    }
    drop(lines);
    let deadline = Instant::now() + Duration::from_secs(20);
    let status = loop {
        if let Some(status) = child.try_wait().unwrap() {
            break status;
        }
        assert!(Instant::now() < deadline, "it goes on without a reader");
        std::thread::sleep(Duration::from_millis(10));
    };
    let mut errors = String::new();
    child.stderr.take().unwrap().read_to_string(&mut errors).unwrap();
    assert_eq!((status.code(), errors.as_str()), (Some(0), ""));
}

#[test]
fn running_agent_that_writes_and_reclaims_is_never_called_damaged() {
    let dir = TempDir::new().unwrap();
    let config = dir.path().join("a.properties");
    let text = "a.sources = s\na.channels = c\na.sinks = k\na.sources.s.type = seq\n\
        a.sources.s.batchSize = 100\na.sources.s.channels = c\na.channels.c.type = file\n\
        a.channels.c.dataDirs = data\na.channels.c.maxFileSize = 1048576\n\
        a.channels.c.minimumRequiredSpace = 0\na.channels.c.capacity = 100000\n\
        a.sinks.k.type = null\na.sinks.k.channel = c\n";
    std::fs::write(&config, text).unwrap();
    let agent = Agent::start(dir.path(), &config, &[]);
    let data = dir.path().join("data");
    let deadline = Instant::now() + Duration::from_secs(30);
    while !data.join("log/0000000000000004.seg").exists() {
        assert!(Instant::now() < deadline, "the agent writes");
        std::thread::sleep(Duration::from_millis(20));
    }
    let pid = agent.pid();
    let (mut rounds, begun) = (0, Instant::now());
    while begun.elapsed() < Duration::from_secs(5) || rounds < 5 {
        let (code, report) = json("verify", &data);
        assert_eq!(code, 0, "round {rounds}: {report:#}");
        let (code, stat) = json("stat", &data);
        assert_eq!((code, &stat["owner"]["pid"]), (0, &pid.into()), "{stat}");
        assert_eq!(stat["owner"]["alive"], true);
        let number = |key: &str| stat[key].as_u64().unwrap();
        assert!(number("durable_tail") <= number("tail"));
        assert_eq!(json("ls", &data).0, 0);
        let (code, seen) = cat(&data, &["--limit", "3000"]);
        assert_eq!(code, 0);
        assert!(seen.windows(2).all(|two| two[0] < two[1]));
        let (code, rows) = json("cursors", &data);
        assert_eq!((code, &rows[0]["sink"]), (0, &"k".into()), "{rows}");
        rounds += 1;
    }
    assert!(!segment(&data, 1).exists(), "segments were reclaimed meanwhile");
    agent.kill();
    let (code, report) = json("verify", &data);
    assert_eq!(code, 0, "after kill -9: {report:#}");
}
