//! Sink `hdfs` on the local file system, through the contract of a sink: what is delivered is in
//! the files, under the right names, once, and nothing is lost when something goes wrong.

#![allow(clippy::unwrap_used)] // a failed step is a panic

use levada::codec::sequence_file::records;
use levada::config::Settings;
use levada::event::{Event, EventBatch};
use levada::offset::Offset;
use levada::sink::hdfs::{COMPONENT, HdfsSink};
use levada::sink::{FailedEvents, Outcome, Sink, SinkEnv};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

const TEXT: &[(&str, &str)] = &[("hdfs.fileType", "DataStream")];
const NO_ROLL: &[(&str, &str)] =
    &[("hdfs.rollInterval", "0"), ("hdfs.rollSize", "0"), ("hdfs.rollCount", "0")];

struct Place {
    dir: tempfile::TempDir,
}

impl Place {
    fn new() -> Place {
        Place { dir: tempfile::tempdir().unwrap() }
    }

    fn out(&self) -> PathBuf {
        self.dir.path().join("out")
    }

    fn state(&self) -> PathBuf {
        self.dir.path().join("state")
    }

    fn sink(&self, pairs: &[&[(&str, &str)]]) -> HdfsSink {
        self.sink_at(self.out().to_str().unwrap(), pairs)
    }

    fn sink_at(&self, path: &str, pairs: &[&[(&str, &str)]]) -> HdfsSink {
        let path = if path.contains("://") { path.to_owned() } else { format!("file:{path}") };
        let mut all = vec![("hdfs.path", path.as_str())];
        all.extend(pairs.concat());
        let settings = Settings::of_pairs("a.sinks.k", COMPONENT.keys, &all);
        assert_eq!(settings.check(), []);
        let env = SinkEnv { conf_dir: None, state_dir: Some(self.state()) };
        HdfsSink::new(&settings, &env).unwrap()
    }

    async fn opened(&self, pairs: &[&[(&str, &str)]]) -> HdfsSink {
        let mut sink = self.sink(pairs);
        sink.open().await.unwrap();
        sink
    }

    /// Name (relative to the output directory) and content of every file.
    fn files(&self) -> BTreeMap<String, Vec<u8>> {
        let (mut files, mut dirs) = (BTreeMap::new(), vec![self.out()]);
        while let Some(dir) = dirs.pop() {
            let Ok(entries) = std::fs::read_dir(dir) else { continue };
            for path in entries.map(|entry| entry.unwrap().path()) {
                if path.is_dir() {
                    dirs.push(path);
                } else {
                    let name = path.strip_prefix(self.out()).unwrap().to_str().unwrap().to_owned();
                    files.insert(name, std::fs::read(path).unwrap());
                }
            }
        }
        files
    }

    /// All bytes of all text files, in the order of their names.
    fn text(&self) -> String {
        String::from_utf8(self.files().into_values().flatten().collect()).unwrap()
    }

    fn open_files(&self) -> usize {
        self.files().keys().filter(|name| name.ends_with(".tmp")).count()
    }
}

fn batch(first: u64, bodies: &[&str]) -> EventBatch {
    let events: Vec<_> = bodies.iter().map(|body| Event::of_body(*body)).collect();
    EventBatch::of_events(Offset(first), 1_700_000_000_000, &events)
}

fn with_headers(events: &[(&str, &[(&str, &str)])]) -> EventBatch {
    let owned = |(k, v): &(&str, &str)| ((*k).to_owned(), (*v).to_owned());
    let events: Vec<_> = events
        .iter()
        .map(|(body, headers)| Event {
            headers: headers.iter().map(owned).collect(),
            body: body.as_bytes().to_vec(),
        })
        .collect();
    EventBatch::of_events(Offset(0), 1_700_000_000_000, &events)
}

fn numbers(range: std::ops::Range<u32>) -> Vec<String> {
    range.map(|n| n.to_string()).collect()
}

fn strs(texts: &[String]) -> Vec<&str> {
    texts.iter().map(String::as_str).collect()
}

/// Lets background work go on until `done`.
async fn until(what: &str, done: impl Fn() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while !done() {
        assert!(Instant::now() < deadline, "{what}: did not happen");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// What `kill -9` leaves: the sink is gone, its files are as they are.
fn kill(sink: HdfsSink) {
    drop(sink);
}

#[tokio::test]
async fn seeds_defaults_write_sequence_files_of_ten_events() {
    let place = Place::new();
    let mut sink = place.opened(&[]).await;
    assert_eq!(sink.batch_events_max(), 100);
    let bodies = numbers(0..25);
    assert_eq!(sink.deliver(&batch(0, &strs(&bodies))).await, Outcome::Delivered);
    let files = place.files();
    let open: Vec<_> = files.keys().map(|name| name.ends_with(".tmp")).collect();
    assert_eq!(open, [false, false, true], "{:?}", files.keys());
    sink.close().await.unwrap();
    let files = place.files();
    assert!(files.keys().all(|name| {
        let counter = name.strip_prefix("FlumeData.").unwrap();
        counter.parse::<u64>().unwrap() > 1_600_000_000_000
    }));
    let records: Vec<_> = files.values().map(|file| records(file).unwrap()).collect();
    assert!(records.iter().all(|r| r.clone().all(|(key, _)| key == 1_700_000_000_000)));
    let sizes: Vec<_> = records.iter().map(|r| r.clone().count()).collect();
    assert_eq!(sizes, [10, 10, 5]);
    let seen: Vec<_> = records.into_iter().flatten().map(|(_, body)| body).collect();
    assert_eq!(seen, bodies.iter().map(String::as_bytes).collect::<Vec<_>>());
}

#[tokio::test]
async fn events_go_to_the_bucket_of_their_headers_and_time() {
    let place = Place::new();
    let path = format!("{}/%{{app}}/%Y-%m-%d", place.out().display());
    let more: &[(&str, &str)] =
        &[("hdfs.timeZone", "UTC"), ("hdfs.filePrefix", "p-%H"), ("hdfs.fileSuffix", ".log")];
    let mut sink = place.sink_at(&path, &[TEXT, NO_ROLL, more]);
    sink.open().await.unwrap();
    let at = |ms: &'static str, app| [("timestamp", ms), ("app", app)];
    let (a, b, c) = (at("0", "x"), at("3600000", "x"), at("86400000", "../y"));
    let batch = with_headers(&[("1", &a), ("2", &b), ("3", &c), ("4", &a)]);
    assert_eq!(sink.deliver(&batch).await, Outcome::Delivered);
    sink.close().await.unwrap();
    let files = place.files();
    let seen: Vec<_> = files
        .iter()
        .map(|(name, bytes)| {
            let (bucket, rest) = name.rsplit_once("p-").unwrap();
            assert!(rest.ends_with(".log"), "{name}");
            (format!("{bucket}{}", &rest[..2]), String::from_utf8(bytes.clone()).unwrap())
        })
        .collect();
    let expected = [
        ("%2E%2E/y/1970-01-02/00", "3\n"),
        ("x/1970-01-01/00", "1\n4\n"),
        ("x/1970-01-01/01", "2\n"),
    ];
    assert_eq!(seen, expected.map(|(k, v)| (k.to_owned(), v.to_owned())));
}

#[tokio::test]
async fn event_without_time_fails_alone() {
    let place = Place::new();
    let path = format!("{}/%Y", place.out().display());
    let mut sink = place.sink_at(&path, &[TEXT]);
    sink.open().await.unwrap();
    let time: &[(&str, &str)] = &[("timestamp", "0")];
    let batch = with_headers(&[("a", time), ("b", &[]), ("c", time)]);
    let Outcome::Failed(failure) = sink.deliver(&batch).await else { panic!("it was delivered") };
    assert_eq!(failure.events, FailedEvents::Only(vec![Offset(1)]));
    assert!(!failure.retryable);
    assert!(failure.reason.contains("timestamp"), "{}", failure.reason);
    sink.close().await.unwrap();
    assert_eq!(place.text(), "a\nc\n");
}

#[tokio::test]
async fn file_is_rolled_by_size_of_bodies() {
    let place = Place::new();
    let size: &[(&str, &str)] = &[("hdfs.rollSize", "6")];
    let mut sink = place.opened(&[TEXT, &NO_ROLL[..1], &NO_ROLL[2..], size]).await;
    let batch = batch(0, &["aaa", "bbb", "ccccccc", "d", "e"]);
    assert_eq!(sink.deliver(&batch).await, Outcome::Delivered);
    sink.close().await.unwrap();
    let files: Vec<_> = place.files().into_values().collect();
    assert_eq!(files, [&b"aaa\nbbb\n"[..], b"ccccccc\n", b"d\ne\n"]);
}

#[tokio::test]
async fn file_is_closed_at_its_age_and_when_idle() {
    for key in ["hdfs.rollInterval", "hdfs.idleTimeout"] {
        let place = Place::new();
        let mut sink = place.opened(&[TEXT, NO_ROLL, &[(key, "1")]]).await;
        assert_eq!(sink.deadline(), None);
        assert_eq!(sink.deliver(&batch(0, &["a"])).await, Outcome::Delivered);
        let due = sink.deadline().unwrap();
        sink.tick().await.unwrap();
        assert_eq!(place.open_files(), 1, "{key}: not before its time");
        tokio::time::sleep_until(due.into()).await;
        sink.tick().await.unwrap();
        assert_eq!((place.open_files(), place.files().len()), (0, 1), "{key}");
        assert_eq!(sink.deadline(), None);
        sink.close().await.unwrap();
    }
}

#[tokio::test]
async fn longest_unused_files_are_closed_beyond_the_limit() {
    let place = Place::new();
    let path = format!("{}/%{{b}}", place.out().display());
    let mut sink = place.sink_at(&path, &[TEXT, NO_ROLL, &[("hdfs.maxOpenFiles", "2")]]);
    sink.open().await.unwrap();
    for bucket in ["1", "2", "1", "3"] {
        let batch = with_headers(&[("x", &[("b", bucket)])]);
        assert_eq!(sink.deliver(&batch).await, Outcome::Delivered);
    }
    let open: Vec<_> = place
        .files()
        .into_keys()
        .filter(|name| name.ends_with(".tmp"))
        .map(|n| n[..1].to_owned())
        .collect();
    assert_eq!(open, ["1", "3"]);
    let many: Vec<_> = numbers(10..20);
    let headers: Vec<_> = many.iter().map(|b| [("b", b.as_str())]).collect();
    let events: Vec<_> = headers.iter().map(|h| ("y", &h[..])).collect();
    assert_eq!(sink.deliver(&with_headers(&events)).await, Outcome::Delivered);
    assert_eq!(place.open_files(), 2);
    sink.close().await.unwrap();
    assert_eq!((place.open_files(), place.files().len()), (0, 13));
}

#[tokio::test]
async fn two_sinks_on_one_directory_never_share_or_overwrite_a_file() {
    let place = Place::new();
    let other = Place::new();
    let out = place.out();
    let mut sinks = Vec::new();
    for state in [&place, &other] {
        let mut sink = state.sink_at(out.to_str().unwrap(), &[TEXT, &[("hdfs.rollCount", "1")]]);
        sink.open().await.unwrap();
        sinks.push(sink);
    }
    let bodies = numbers(0..300);
    let (mut a, mut b) = (sinks.pop().unwrap(), sinks.pop().unwrap());
    let (one, two) = (batch(0, &strs(&bodies)), batch(0, &strs(&bodies)));
    let (a_done, b_done) = tokio::join!(a.deliver(&one), b.deliver(&two));
    assert_eq!((a_done, b_done), (Outcome::Delivered, Outcome::Delivered));
    a.close().await.unwrap();
    b.close().await.unwrap();
    assert_eq!((place.open_files(), place.files().len()), (0, 600));
    let mut seen: Vec<u32> = place.text().lines().map(|line| line.parse().unwrap()).collect();
    seen.sort_unstable();
    let expected: Vec<_> = (0..300).flat_map(|n| [n, n]).collect();
    assert_eq!(seen, expected);
}

#[tokio::test]
async fn killed_sinks_file_is_cut_to_what_was_acknowledged_and_named_at_the_next_start() {
    let place = Place::new();
    let mut sink = place.opened(&[TEXT, NO_ROLL]).await;
    for body in ["a", "b"] {
        assert_eq!(sink.deliver(&batch(0, &[body])).await, Outcome::Delivered);
    }
    kill(sink);
    let left = place.files().into_keys().next().unwrap();
    assert!(left.ends_with(".tmp"));
    // bytes of a batch that was never acknowledged
    let path = place.out().join(&left);
    std::fs::write(&path, [&std::fs::read(&path).unwrap()[..], b"torn"].concat()).unwrap();
    let mut sink = place.opened(&[TEXT, NO_ROLL]).await;
    until("the file is finished", || place.open_files() == 0).await;
    assert_eq!(place.text(), "a\nb\n");
    assert_eq!(sink.deliver(&batch(2, &["c"])).await, Outcome::Delivered);
    sink.close().await.unwrap();
    assert_eq!((place.files().len(), place.text()), (2, "a\nb\nc\n".to_owned()));
}

#[tokio::test]
async fn file_left_open_before_a_power_cut_keeps_every_byte() {
    let place = Place::new();
    let mut sink = place.opened(&[TEXT, NO_ROLL]).await;
    assert_eq!(sink.deliver(&batch(0, &["a"])).await, Outcome::Delivered);
    assert_eq!(sink.deliver(&batch(1, &["b"])).await, Outcome::Delivered);
    kill(sink);
    // the journal's later lines were lost with the page cache
    let journal = place.state().join("k.open-files");
    let text = std::fs::read_to_string(&journal).unwrap();
    let boot = text.lines().next().unwrap();
    let first = text.split("{\"wrote\"").next().unwrap();
    let old = first.replace(boot, "{\"boot\":\"another\"}") + "{\"wrote\":[0,2]}\n";
    std::fs::write(&journal, old).unwrap();
    let mut sink = place.opened(&[TEXT, NO_ROLL]).await;
    until("the file is finished", || place.open_files() == 0).await;
    assert_eq!(place.text(), "a\nb\n");
    sink.close().await.unwrap();
}

#[tokio::test]
async fn start_touches_no_file_that_it_did_not_make() {
    let place = Place::new();
    std::fs::create_dir_all(place.out()).unwrap();
    let others = place.out().join("FlumeData.1.tmp");
    std::fs::write(&others, "another's").unwrap();
    let mut sink = place.opened(&[TEXT, NO_ROLL]).await;
    assert_eq!(sink.deliver(&batch(0, &["a"])).await, Outcome::Delivered);
    kill(sink);
    let mut sink = place.opened(&[TEXT, NO_ROLL]).await;
    until("the own file is finished", || place.open_files() == 1).await;
    sink.close().await.unwrap();
    assert_eq!(std::fs::read(others).unwrap(), b"another's");
}

#[tokio::test]
async fn final_name_that_is_taken_is_passed_over() {
    let place = Place::new();
    let mut sink = place.opened(&[TEXT, NO_ROLL]).await;
    assert_eq!(sink.deliver(&batch(0, &["a"])).await, Outcome::Delivered);
    let open = place.files().into_keys().next().unwrap();
    let taken = place.out().join(open.strip_suffix(".tmp").unwrap());
    std::fs::write(&taken, "there before\n").unwrap();
    sink.close().await.unwrap();
    assert_eq!(std::fs::read(taken).unwrap(), b"there before\n");
    assert_eq!((place.open_files(), place.text()), (0, "there before\na\n".to_owned()));
}

#[tokio::test]
async fn failed_delivery_is_told_and_the_sink_goes_on_when_the_cause_is_gone() {
    let place = Place::new();
    std::fs::write(place.out(), "a file where the directory should be").unwrap();
    let mut sink = place.opened(&[TEXT, NO_ROLL]).await;
    for _ in 0..3 {
        let Outcome::Failed(failure) = sink.deliver(&batch(0, &["a", "b"])).await else {
            panic!("it was delivered");
        };
        assert_eq!((failure.events, failure.retryable), (FailedEvents::All, true));
        assert!(failure.reason.starts_with("create "), "{}", failure.reason);
    }
    std::fs::remove_file(place.out()).unwrap();
    assert_eq!(sink.deliver(&batch(0, &["a", "b"])).await, Outcome::Delivered);
    sink.close().await.unwrap();
    assert_eq!(place.text(), "a\nb\n");
}

#[tokio::test]
async fn only_the_events_of_the_bucket_that_failed_are_sent_again() {
    let place = Place::new();
    std::fs::create_dir_all(place.out()).unwrap();
    std::fs::write(place.out().join("bad"), "").unwrap();
    let path = format!("{}/%{{b}}", place.out().display());
    let mut sink = place.sink_at(&path, &[TEXT, NO_ROLL]);
    sink.open().await.unwrap();
    let batch = with_headers(&[("1", &[("b", "good")]), ("2", &[("b", "bad")])]);
    let Outcome::Failed(failure) = sink.deliver(&batch).await else { panic!("it was delivered") };
    assert_eq!((failure.events, failure.retryable), (FailedEvents::Only(vec![Offset(1)]), true));
    sink.close().await.unwrap();
    assert_eq!(place.text(), "1\n");
}

#[tokio::test]
async fn name_that_no_file_can_have_is_not_retryable() {
    let place = Place::new();
    let path = format!("{}/%{{b}}", place.out().display());
    let mut sink = place.sink_at(&path, &[TEXT, NO_ROLL]);
    sink.open().await.unwrap();
    let long = "x".repeat(300);
    let batch = with_headers(&[("1", &[("b", "good")]), ("2", &[("b", &long)])]);
    let Outcome::Failed(failure) = sink.deliver(&batch).await else { panic!("it was delivered") };
    assert_eq!((failure.events, failure.retryable), (FailedEvents::Only(vec![Offset(1)]), false));
    sink.close().await.unwrap();
}

/// A full disk tears a batch: what was acknowledged stays whole, the rest comes again elsewhere.
#[tokio::test]
async fn full_disk_tears_nothing_that_was_acknowledged() {
    let place = Place::new();
    let mount = place.out();
    std::fs::create_dir_all(&mount).unwrap();
    let mounted = std::process::Command::new("mount")
        .args(["-t", "tmpfs", "-o", "size=256k", "none"])
        .arg(&mount)
        .status();
    if !mounted.is_ok_and(|status| status.success()) {
        eprintln!(
            "SKIPPED: full_disk_tears_nothing_that_was_acknowledged: no tmpfs can be mounted"
        );
        return;
    }
    let _unmount = Unmount(&mount);
    let mut sink = place.opened(&[TEXT, NO_ROLL]).await;
    assert_eq!(sink.deliver(&batch(0, &["acknowledged"])).await, Outcome::Delivered);
    let big = "x".repeat(400 << 10);
    let Outcome::Failed(failure) = sink.deliver(&batch(1, &[&big])).await else {
        panic!("it was delivered");
    };
    assert!(failure.retryable);
    until("the torn file is finished", || place.open_files() == 0).await;
    assert_eq!(place.text(), "acknowledged\n");
    assert_eq!(sink.deliver(&batch(1, &["smaller"])).await, Outcome::Delivered);
    sink.close().await.unwrap();
    assert_eq!(place.text(), "acknowledged\nsmaller\n");
    drop(sink);
}

struct Unmount<'a>(&'a Path);

impl Drop for Unmount<'_> {
    fn drop(&mut self) {
        let _ = std::process::Command::new("umount").arg("-l").arg(self.0).status();
    }
}

#[tokio::test]
async fn journal_that_cannot_be_written_stops_new_files_but_not_the_agent() {
    let place = Place::new();
    let mut sink = place.opened(&[TEXT, NO_ROLL]).await;
    let state = place.state();
    std::fs::remove_dir_all(&state).unwrap();
    std::fs::write(&state, "").unwrap();
    let Outcome::Failed(failure) = sink.deliver(&batch(0, &["a"])).await else {
        panic!("it was delivered");
    };
    assert!(failure.retryable && failure.reason.starts_with("journal"), "{}", failure.reason);
    assert_eq!(place.files().len(), 0);
    std::fs::remove_file(&state).unwrap();
    std::fs::create_dir(&state).unwrap();
    assert_eq!(sink.deliver(&batch(0, &["a"])).await, Outcome::Delivered);
    sink.close().await.unwrap();
    assert_eq!(place.text(), "a\n");
}

/// A namenode that takes connections and never answers.
#[cfg(feature = "hdfs")]
#[tokio::test]
async fn hdfs_that_does_not_answer_hangs_neither_delivery_nor_stop() {
    let place = Place::new();
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let uri = format!("hdfs://{}/x", silent.local_addr().unwrap());
    let mut sink = place.sink_at(&uri, &[TEXT, &[("hdfs.callTimeout", "200")]]);
    sink.open().await.unwrap();
    let began = Instant::now();
    let Outcome::Failed(failure) = sink.deliver(&batch(0, &["a"])).await else {
        panic!("it was delivered");
    };
    assert!(failure.retryable && failure.reason.contains("hdfs.callTimeout"), "{}", failure.reason);
    sink.close().await.unwrap();
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
}

#[test]
fn settings_that_cannot_be_are_refused_by_name() {
    let cases: [(&[(&str, &str)], &str); 8] = [
        (&[("hdfs.fileType", "CompressedStream")], "CompressedStream is not supported yet"),
        (&[("hdfs.codeC", "gzip")], "'gzip' is not supported yet"),
        (&[("hdfs.path", "s3a://b/x")], "'s3a:' is not supported yet"),
        (&[("hdfs.path", "/x/%q")], "unknown escape '%q'"),
        (&[("hdfs.timeZone", "Mars/Olympus")], "is no time zone"),
        (&[("hdfs.round", "true"), ("hdfs.roundValue", "61")], "61 is outside 1..=60"),
        (&[("hdfs.inUsePrefix", "a/b")], "must not hold a '/'"),
        (&[("hdfs.fileType", "DataStream"), ("serializer", "csv")], "csv"),
    ];
    for (pairs, expected) in cases {
        let all = [&[("hdfs.path", "/x")], pairs].concat();
        let settings = Settings::of_pairs("a.sinks.k", COMPONENT.keys, &all);
        let refused = HdfsSink::new(&settings, &SinkEnv::default()).err();
        let problem = refused.unwrap_or_else(|| panic!("{pairs:?} was taken")).to_string();
        assert!(problem.contains(expected), "{problem}");
    }
    let fine = [("hdfs.path", "/x"), ("hdfs.timeZone", "GMT+05:30"), ("hdfs.codeC", "none")];
    let settings = Settings::of_pairs("a.sinks.k", COMPONENT.keys, &fine);
    assert!(HdfsSink::new(&settings, &SinkEnv::default()).is_ok());
}
