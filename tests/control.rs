//! What a running agent does that is asked over its control socket: the built binary, with Avro
//! sinks to targets that refuse, and `walctl` or the client beside it.

#![allow(clippy::unwrap_used)] // a failed step is a panic

mod support;

use levada::channel::dead::Place;
use levada::control::{Answer, ControlError, GroupRow, Line, REQUEST_BYTES_MAX, Request, SOCKET};
use levada::control::{Replayed, ask};
use levada::event::Event;
use levada::offset::Offset;
use levada::rpc::avro::Status;
use serde_json::Value;
use std::io::{Read, Write};
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use support::receiver::{POISON, Receiver};
use support::record::wait;
use support::{Agent, Producer, lines_below, walctl};

/// An agent with an Avro source, a file channel, and Avro sinks to `ports`, each in its own group.
fn config(dir: &Path, ports: &[u16], more: &str) -> PathBuf {
    let names: Vec<_> = (1..=ports.len()).map(|k| format!("k{k}")).collect();
    let mut text = format!(
        "a.sources = s\na.channels = c\na.sinks = {}\n\
         a.sources.s.type = avro\na.sources.s.bind = 127.0.0.1\na.sources.s.port = 0\n\
         a.sources.s.channels = c\n\
         a.channels.c.type = file\na.channels.c.dataDirs = log\n\
         a.channels.c.minimumRequiredSpace = 0\n\
         a.exec.backoff = 1\na.exec.maxBackoff = 20\n{more}\n",
        names.join(" ")
    );
    for (name, port) in names.iter().zip(ports) {
        text += &format!(
            "a.sinks.{name}.type = avro\na.sinks.{name}.channel = c\na.sinks.{name}.group = of-{name}\n\
             a.sinks.{name}.hostname = 127.0.0.1\na.sinks.{name}.port = {port}\n\
             a.sinks.{name}.batch-size = 50\n"
        );
    }
    let path = dir.join("agent.properties");
    std::fs::write(&path, text).unwrap();
    path
}

/// Events `n…`, of which those that `is_poison` names are refused, and each third has `kind=c`.
fn put(producer: &mut Producer, range: std::ops::Range<usize>, is_poison: fn(usize) -> bool) {
    let event = |n: usize| {
        let kind = ["a", "b", "c"][n % 3];
        let mut headers = vec![("kind".to_owned(), kind.to_owned())];
        headers.extend(is_poison(n).then(|| (POISON.to_owned(), "1".to_owned())));
        Event { headers, body: format!("event-{n}").into() }
    };
    let events: Vec<_> = range.map(event).collect();
    for batch in events.chunks(100) {
        assert_eq!(producer.append(batch).unwrap(), Status::Ok);
    }
}

fn groups(log: &Path) -> Vec<GroupRow> {
    match ask(log, &Request::Groups).unwrap() {
        Answer::Groups { groups, .. } => groups,
        answer => panic!("{answer:?}"),
    }
}

fn backlog(log: &Path) -> u64 {
    groups(log).iter().map(|group| group.backlog).sum()
}

fn refusal(log: &Path, request: &Request) -> String {
    match ask(log, request) {
        Err(ControlError::Refused(text)) => text,
        other => panic!("{request:?}: {other:?}"),
    }
}

/// The JSON document that a `walctl` command prints.
fn document(log: &Path, words: &[&str], more: &[&str]) -> Value {
    let args = [words, &[log.to_str().unwrap(), "--json"], more].concat();
    let (code, text) = walctl(&args);
    assert_eq!(code, 0, "{args:?}: {text}");
    serde_json::from_str(&text).unwrap_or_else(|error| panic!("{args:?}: {error}: {text}"))
}

fn letters(log: &Path) -> usize {
    let (code, text) = walctl(&["dead", "ls", log.to_str().unwrap()]);
    assert_eq!(code, 0, "{text}");
    text.lines().count()
}

fn stop(agent: Agent) -> String {
    let (status, said) = agent.stop();
    assert_eq!(status.code(), Some(0), "{said}");
    said
}

#[test]
fn letters_are_redriven_and_purged_while_the_agent_delivers() {
    let dir = tempfile::tempdir().unwrap();
    let log = dir.path().join("log");
    let target = Receiver::start();
    let config = config(dir.path(), &[target.port()], "a.sinks.k1.exec.type = deadLetter");
    let mut agent = Agent::start(dir.path(), &config, &[]);
    let mut producer = Producer::connect(agent.address()).unwrap();
    // more than a step of a redrive
    put(&mut producer, 0..1_000, |n| n % 4 == 1);
    wait("all is delivered or dead", || backlog(&log) == 0);
    assert_eq!(letters(&log), 250);
    let purged = document(&log, &["dead", "purge"], &["--where", "kind=a", "--yes"]);
    // every twelfth event is both
    assert_eq!(purged["purged"], 83);
    target.heal();
    let dry = document(&log, &["dead", "redrive"], &["--all", "--dry-run"]);
    assert_eq!(dry["redriven"], 167);
    let some = document(&log, &["dead", "redrive"], &["--limit", "110"]);
    assert_eq!((&some["redriven"], letters(&log)), (&110.into(), 57));
    put(&mut producer, 1_000..1_100, |_| false);
    let rest = document(&log, &["dead", "redrive"], &["--all"]);
    assert_eq!((&rest["redriven"], letters(&log)), (&57.into(), 0));
    wait("all is delivered", || backlog(&log) == 0);
    let mut taken = target.taken();
    taken.sort_unstable();
    let arrived = taken.len();
    taken.dedup();
    assert_eq!((arrived, taken.len()), (1_100 - 83, 1_100 - 83), "each event once");
    assert_eq!(document(&log, &["verify"], &[])["ok"], true);
    stop(agent);
}

#[test]
fn events_that_are_redriven_too_often_stay_and_a_full_channel_is_an_error() {
    let dir = tempfile::tempdir().unwrap();
    let log = dir.path().join("log");
    let target = Receiver::start();
    let more = "a.sinks.k1.exec.type = deadLetter\na.channels.c.capacity = 200\n\
                a.channels.c.transactionCapacity = 200";
    let config = config(dir.path(), &[target.port()], more);
    let mut agent = Agent::start(dir.path(), &config, &[]);
    let mut producer = Producer::connect(agent.address()).unwrap();
    put(&mut producer, 0..150, |_| true);
    wait("all are dead", || backlog(&log) == 0);
    let filter = levada::channel::dead::LetterFilter::dead;
    let redrive =
        |max_redrives| Request::Redrive { filter: filter(), max_redrives, dry_run: false };
    let answer = ask(&log, &redrive(Some(0))).unwrap();
    assert_eq!(answer, Answer::Redriven { events: 0, skipped: 150 });
    // 150 events that do not leave: half of the letters have room
    target.hang(true);
    put(&mut producer, 150..250, |_| false);
    let text = refusal(&log, &redrive(None));
    assert!(text.contains("channel c is full") && text.contains("100 were put back"), "{text}");
    assert_eq!(letters(&log), 50);
    target.heal();
    target.hang(false);
    wait("all is delivered", || backlog(&log) == 0);
    assert_eq!(ask(&log, &redrive(None)).unwrap(), Answer::Redriven { events: 50, skipped: 0 });
    wait("all has arrived", || target.count() == 250);
    stop(agent);
}

#[test]
fn stopped_sink_is_used_again_when_it_is_resumed() {
    let dir = tempfile::tempdir().unwrap();
    let log = dir.path().join("log");
    let target = Receiver::start();
    let more = "a.sinks.k1.exec.maxAttempts = 2\na.sinks.k1.exec.onExhausted = stop";
    let config = config(dir.path(), &[target.port()], more);
    let mut agent = Agent::start(dir.path(), &config, &[]);
    let mut producer = Producer::connect(agent.address()).unwrap();
    put(&mut producer, 0..100, |n| n == 7);
    let sink = || groups(&log)[0].sinks[0].clone();
    wait("the sink stops", || sink().state == "stopped");
    assert!(sink().position.0 <= 7, "{:?}", sink());
    let text = refusal(&log, &Request::Resume { sink: "k9".into() });
    assert_eq!(text, "no sink k9; there is: k1");
    target.heal();
    assert_eq!(document(&log, &["sinks"], &["--resume", "k1"])["was_stopped"], true);
    wait("all is delivered", || backlog(&log) == 0);
    assert_eq!(sink().state, "open");
    assert_eq!(document(&log, &["sinks"], &[])["groups"][0]["sinks"][0]["delivered"], 100);
    let (_, text) = walctl(&["sinks", log.to_str().unwrap()]);
    assert!(text.starts_with("group  watermark  backlog  sink  state"), "{text}");
    stop(agent);
}

#[test]
fn replay_delivers_what_is_wanted_once_more_beside_live_traffic() {
    let dir = tempfile::tempdir().unwrap();
    let log = dir.path().join("log");
    let targets = [Receiver::start(), Receiver::start()];
    let config = config(dir.path(), &targets.each_ref().map(Receiver::port), "");
    let mut agent = Agent::start(dir.path(), &config, &[]);
    let mut producer = Producer::connect(agent.address()).unwrap();
    put(&mut producer, 0..600, |_| false);
    wait("all is delivered", || targets.iter().all(|target| target.count() == 600));
    wait("and known to be", || backlog(&log) == 0);
    let before = groups(&log);
    let replayed =
        document(&log, &["replay"], &["--from", "100", "--where", "kind=c", "--sink", "k2"]);
    let count = |key: &str| replayed[key].as_u64().unwrap();
    let counts = ["from", "to", "sent", "passed", "failed", "missing"].map(count);
    assert_eq!(counts, [100, 600, 167, 333, 0, 0]);
    let again = targets[1].taken().split_off(600);
    let expected: Vec<_> =
        (100..600).filter(|n| n % 3 == 2).map(|n| format!("event-{n}")).collect();
    assert_eq!(again, expected);
    assert_eq!(groups(&log), before, "the live cursors, and no group of a replay");
    // beside live traffic, while its own target hangs
    targets[1].hang(true);
    let asked = std::thread::spawn({
        let log = log.clone();
        move || document(&log, &["replay"], &["--from=-600", "--to", "300", "--sink", "k2"])
    });
    wait("it runs", || groups(&log).len() == 3);
    put(&mut producer, 600..700, |_| false);
    wait("live events do not wait for it", || targets[0].count() == 700);
    assert_eq!(groups(&log).len(), 3, "it still runs");
    targets[1].hang(false);
    assert_eq!(asked.join().unwrap()["sent"], 300);
    assert_eq!(targets[0].count(), 700, "the other sink has seen nothing twice");
    let asked = std::time::Instant::now();
    document(&log, &["replay"], &["--from", "0", "--to", "300", "--sink", "k2", "--rate", "200"]);
    assert!(asked.elapsed().as_secs() >= 1, "at 200 a second");
    for (more, why) in [
        (["--from", "0", "--sink", "k7"], "there is: k1, k2"),
        (["--from", "701", "--sink", "k2"], "above the tail"),
    ] {
        let args = [&["replay", log.to_str().unwrap()], &more[..]].concat();
        let output = std::process::Command::new(env!("CARGO_BIN_EXE_walctl")).args(&args).output();
        let text = String::from_utf8(output.unwrap().stderr).unwrap();
        assert!(text.contains(why), "{args:?}: {text}");
    }
    stop(agent);
}

#[test]
fn replay_that_nobody_waits_for_or_that_a_kill_ended_leaves_no_group() {
    let dir = tempfile::tempdir().unwrap();
    let log = dir.path().join("log");
    let target = Receiver::start();
    let config = config(dir.path(), &[target.port()], "");
    let mut agent = Agent::start(dir.path(), &config, &[]);
    put(&mut Producer::connect(agent.address()).unwrap(), 0..500, |_| false);
    wait("all is delivered", || target.count() == 500 && backlog(&log) == 0);
    let replay = |rate_events| Request::Replay {
        from: Place::Offset(Offset(0)),
        to: None,
        headers: Vec::new(),
        sink: "k1".into(),
        rate_events,
    };
    let begin = || {
        let mut socket = UnixStream::connect(log.join(SOCKET)).unwrap();
        let line = serde_json::to_string(&replay(20)).unwrap() + "\n";
        socket.write_all(line.as_bytes()).unwrap();
        wait("it runs", || groups(&log).len() == 2);
        socket
    };
    drop(begin());
    wait("it is over", || groups(&log).len() == 1);
    let socket = begin();
    agent.kill();
    drop(socket);
    let orphan = document(&log, &["cursors"], &[]).to_string();
    assert!(orphan.contains("replay-2"), "its cursor was saved: {orphan}");
    let mut agent = Agent::start(dir.path(), &config, &[]);
    agent.address();
    assert_eq!(groups(&log).len(), 1);
    let waits = std::thread::spawn({
        let (log, request) = (log.clone(), replay(20));
        move || ask(&log, &request)
    });
    wait("it runs", || groups(&log).len() == 2);
    stop(agent);
    let answer = waits.join().unwrap();
    assert!(answer.is_err(), "a stop ends it: {answer:?}");
    assert!(!document(&log, &["cursors"], &[]).to_string().contains("replay-"));
}

#[test]
fn replay_keeps_what_it_has_not_read_and_gives_it_back_when_it_is_over() {
    let dir = tempfile::tempdir().unwrap();
    let log = dir.path().join("log");
    let target = Receiver::start();
    let more = "a.channels.c.maxFileSize = 1048576\na.channels.c.cursorSyncInterval = 0";
    let config = config(dir.path(), &[target.port()], more);
    let text = std::fs::read_to_string(&config).unwrap().replace("a.sinks = k1", "a.sinks = k1 n");
    let text = text + "a.sinks.n.type = null\na.sinks.n.channel = c\na.sinks.n.group = other\n";
    std::fs::write(&config, text).unwrap();
    let mut agent = Agent::start(dir.path(), &config, &[]);
    let mut producer = Producer::connect(agent.address()).unwrap();
    target.hang(true);
    let event = Event { headers: Vec::new(), body: vec![7; 4_000] };
    for _ in 0..12 {
        assert_eq!(producer.append(&vec![event.clone(); 100]).unwrap(), Status::Ok);
    }
    let first = || {
        let segments = document(&log, &["ls"], &[])["segments"].take();
        segments[0]["base_offset"].as_u64().unwrap()
    };
    assert_eq!(first(), 0, "a sink waits for it");
    let headers = Vec::new();
    let from = Place::Offset(Offset(0));
    let replay = Request::Replay { from, to: None, headers, sink: "n".into(), rate_events: 5 };
    let mut socket = UnixStream::connect(log.join(SOCKET)).unwrap();
    socket.write_all((serde_json::to_string(&replay).unwrap() + "\n").as_bytes()).unwrap();
    wait("it runs", || groups(&log).len() == 3);
    target.hang(false);
    wait("all is delivered", || target.count() == 1_200);
    wait("and known to be", || groups(&log)[..2].iter().all(|group| group.backlog == 0));
    assert!(groups(&log)[2].backlog > 500, "the replay has most of it before it");
    assert_eq!(first(), 0, "it is kept for the replay");
    drop(socket);
    wait("the replay is over", || groups(&log).len() == 2);
    wait("its segments are given back", || first() > 0);
    stop(agent);
}

#[test]
fn replay_counts_what_its_sink_gives_up_and_lists_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let log = dir.path().join("log");
    let target = Receiver::start();
    let config = config(dir.path(), &[target.port()], "a.sinks.k1.exec.type = deadLetter");
    let mut agent = Agent::start(dir.path(), &config, &[]);
    put(&mut Producer::connect(agent.address()).unwrap(), 0..90, |n| n == 5 || n == 40);
    wait("all is delivered or dead", || backlog(&log) == 0);
    let (from, headers) = (Place::Time(0), vec![("kind".to_owned(), "c".to_owned())]);
    let replay = Request::Replay { from, to: None, headers, sink: "k1".into(), rate_events: 0 };
    let (from, to) = (Offset(0), Offset(90));
    let expected = Replayed { from, to, sent: 29, passed: 60, failed: 1, missing: 0 };
    assert_eq!(ask(&log, &replay).unwrap(), Answer::Replayed(expected));
    assert_eq!(letters(&log), 2, "as before");
    stop(agent);
}

#[test]
fn replay_to_files_writes_to_files_of_its_own() {
    let dir = tempfile::tempdir().unwrap();
    let log = dir.path().join("log");
    let (target, out) = (Receiver::start(), dir.path().join("out"));
    let config = config(dir.path(), &[target.port()], "");
    let text = std::fs::read_to_string(&config).unwrap();
    let files = "a.sinks.f.type = file_roll\na.sinks.f.channel = c\na.sinks.f.group = files\n\
                 a.sinks.f.sink.directory = out\na.sinks.f.sink.rollInterval = 0\n\
                 a.sinks.h.type = hdfs\na.sinks.h.channel = c\na.sinks.h.group = hdfs\n\
                 a.sinks.h.hdfs.path = file:out-hdfs\na.sinks.h.hdfs.fileType = DataStream\n\
                 a.sinks.h.hdfs.rollInterval = 0\na.sinks.h.hdfs.rollCount = 0\n\
                 a.sinks.h.hdfs.rollSize = 0\n";
    let files = files.replace("file:out-hdfs", &format!("file:{}/out-hdfs", dir.path().display()));
    let text = text.replace("a.sinks = k1", "a.sinks = k1 f h") + &files;
    std::fs::write(&config, text).unwrap();
    let mut agent = Agent::start(dir.path(), &config, &[]);
    put(&mut Producer::connect(agent.address()).unwrap(), 0..40, |_| false);
    wait("all is delivered", || backlog(&log) == 0);
    for (sink, below) in [("f", out), ("h", dir.path().join("out-hdfs"))] {
        let replayed = document(&log, &["replay"], &["--from", "0", "--sink", sink]);
        assert_eq!(replayed["sent"], 40);
        let files = std::fs::read_dir(&below).unwrap().count();
        assert_eq!((files, lines_below(&below).len()), (2, 80), "{sink}");
    }
    stop(agent);
}

#[test]
fn cursor_is_set_back_and_an_orphan_dropped_durably() {
    let dir = tempfile::tempdir().unwrap();
    let log = dir.path().join("log");
    let targets = [Receiver::start(), Receiver::start()];
    let both = config(dir.path(), &targets.each_ref().map(Receiver::port), "");
    let mut agent = Agent::start(dir.path(), &both, &[]);
    put(&mut Producer::connect(agent.address()).unwrap(), 0..100, |_| false);
    wait("all is delivered", || backlog(&log) == 0);
    let rewind = |to| Request::Rewind { group: "of-k1".into(), to };
    let text = refusal(&log, &rewind(Place::Offset(Offset(101))));
    assert!(text.contains("above the tail"), "{text}");
    let text = refusal(&log, &Request::Rewind { group: "x".into(), to: Place::Time(0) });
    assert!(text.contains("there is: of-k1, of-k2"), "{text}");
    let text = refusal(&log, &Request::DropGroup { name: "of-k2".into() });
    assert!(text.contains("has sinks"), "{text}");
    let (group, from, to) = ("of-k1".to_owned(), Offset(100), Offset(60));
    let answer = ask(&log, &rewind(Place::Offset(to))).unwrap();
    assert_eq!(answer, Answer::Rewound { group, from, to });
    wait("40 events come again", || targets[0].count() == 140);
    assert_eq!(targets[1].count(), 100);
    let ahead = ask(&log, &rewind(Place::Time(u64::MAX))).unwrap();
    assert!(matches!(ahead, Answer::Rewound { to: Offset(100), .. }), "{ahead:?}");
    stop(agent);
    let one = config(dir.path(), &[targets[0].port()], "");
    let mut agent = Agent::start(dir.path(), &one, &[]);
    agent.address();
    assert!(groups(&log)[1].orphan);
    assert_eq!(
        ask(&log, &Request::DropGroup { name: "of-k2".into() }).unwrap(),
        Answer::Dropped { name: "of-k2".into() }
    );
    agent.kill();
    assert!(!document(&log, &["cursors"], &[]).to_string().contains("of-k2"));
}

/// What comes back for these bytes.
fn raw(log: &Path, bytes: &[u8]) -> String {
    let mut socket = UnixStream::connect(log.join(SOCKET)).unwrap();
    // it may be closed before all is written
    let _ = socket.write_all(bytes);
    let _ = socket.shutdown(std::net::Shutdown::Write);
    let mut text = String::new();
    let _ = socket.read_to_string(&mut text); // reset if not all was read there
    text
}

#[test]
fn garbage_on_the_socket_harms_nobody_and_few_are_served_at_a_time() {
    let dir = tempfile::tempdir().unwrap();
    let log = dir.path().join("log");
    let target = Receiver::start();
    let config = config(dir.path(), &[target.port()], "");
    let mut agent = Agent::start(dir.path(), &config, &[]);
    let mut producer = Producer::connect(agent.address()).unwrap();
    let mode = std::fs::metadata(log.join(SOCKET)).unwrap();
    assert!(mode.file_type().is_socket());
    assert_eq!(mode.permissions().mode() & 0o777, 0o600);
    let is_refused = |bytes: &[u8]| {
        let text = raw(&log, bytes);
        let line = serde_json::from_str::<Line>(&text);
        assert!(matches!(line, Ok(Line::Error(_))), "{:?}: {text}", &bytes[..bytes.len().min(40)]);
    };
    for bytes in [&b""[..], b"\n", b"\0\xff\xfe\n", b"{\"groups\":", b"{\"purge\":{}}\n"] {
        is_refused(bytes);
    }
    is_refused(&[b'['; 60_000]);
    let mut long = vec![b' '; REQUEST_BYTES_MAX + 1];
    assert!(raw(&log, &long).contains("at most 65536 bytes"));
    long.splice(REQUEST_BYTES_MAX - 9.., *b"\"groups\"\n");
    assert!(raw(&log, &long).contains("\"ok\""), "the longest request");
    let mut random = fastrand::Rng::with_seed(support::seed());
    for _ in 0..200 {
        let len = random.usize(0..300);
        let bytes: Vec<u8> = std::iter::repeat_with(|| random.u8(..)).take(len).collect();
        raw(&log, &bytes);
    }
    // peers that say nothing
    let silent: Vec<_> = (0..8).map(|_| UnixStream::connect(log.join(SOCKET)).unwrap()).collect();
    let busy = || matches!(ask(&log, &Request::Groups), Err(ControlError::Refused(_)));
    wait("they take all places", busy);
    wait("they are dropped", || ask(&log, &Request::Groups).is_ok());
    drop(silent);
    put(&mut producer, 0..10, |_| false);
    wait("events are delivered", || target.count() == 10);
    stop(agent);
    assert!(!log.join(SOCKET).exists(), "a clean stop removes the socket");
}

#[test]
fn socket_that_a_kill_left_is_replaced_and_the_channel_can_be_used_meanwhile() {
    let dir = tempfile::tempdir().unwrap();
    let log = dir.path().join("log");
    let target = Receiver::start();
    let config = config(dir.path(), &[target.port()], "a.sinks.k1.exec.type = deadLetter");
    let mut agent = Agent::start(dir.path(), &config, &[]);
    put(&mut Producer::connect(agent.address()).unwrap(), 0..50, |n| n < 2);
    wait("two are dead", || backlog(&log) == 0);
    agent.kill();
    assert!(log.join(SOCKET).exists());
    assert!(matches!(ask(&log, &Request::Groups), Err(ControlError::NoAgent { .. })));
    let (code, _) = walctl(&["sinks", log.to_str().unwrap()]);
    assert_eq!(code, 2);
    assert_eq!(document(&log, &["verify"], &[])["ok"], true);
    assert_eq!(document(&log, &["dead", "purge"], &["--yes", "--limit", "1"])["purged"], 1);
    let mut agent = Agent::start(dir.path(), &config, &[]);
    agent.address();
    assert_eq!(groups(&log).len(), 1);
    assert_eq!(document(&log, &["dead", "purge"], &["--all", "--yes"])["purged"], 1);
    stop(agent);
    // what is there and is no socket is left alone
    std::fs::write(log.join(SOCKET), "mine").unwrap();
    let mut agent = Agent::start(dir.path(), &config, &[]);
    agent.wait_for("no control socket");
    stop(agent);
    assert_eq!(std::fs::read_to_string(log.join(SOCKET)).unwrap(), "mine");
}
