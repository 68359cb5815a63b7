//! Sink `hdfs` on a real HDFS: what is acknowledged is there, whole, and Hadoop reads it.
//!
//! | variable | |
//! |---|---|
//! | `LEVADA_TEST_HDFS_CONF` | directory with the `core-site.xml` of a running HDFS; without it all is skipped |
//! | `LEVADA_TEST_HDFS_CAT` | command that prints a SequenceFile as Hadoop reads it: URI in; `key`, tab, hex of the value, a record a line out (`tests/peers/hdfs/SeqCat.java`) |
//! | `LEVADA_TEST_HDFS_CTL` | command that takes `stop-dn N` and `start-dn N`: datanode N goes down at once, and comes back |
//!
//! It needs three datanodes or more. Each test works in a directory of its own below `/levada-test`.

#![cfg(feature = "hdfs")]
#![allow(clippy::unwrap_used)] // a failed step is a panic

use bytes::Bytes;
use hdfs_native::{Client, ClientBuilder, HdfsError};
use levada::codec::sequence_file::records;
use levada::config::Settings;
use levada::event::{Event, EventBatch};
use levada::offset::Offset;
use levada::sink::hdfs::{COMPONENT, HdfsSink};
use levada::sink::{Outcome, Sink, SinkEnv};
use serde_json::json;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};
use tokio::sync::Mutex;

/// One test at a time: one of them stops a datanode.
static CLUSTER: Mutex<()> = Mutex::const_new(());

/// A directory of a test on the real HDFS.
struct Place {
    client: Client,
    conf: PathBuf,
    uri: String,
    dir: String,
    state: tempfile::TempDir,
}

impl Place {
    /// `None`, said loudly, if there is no HDFS to test with.
    fn new(test: &str) -> Option<Place> {
        let Some(conf) = std::env::var_os("LEVADA_TEST_HDFS_CONF").map(PathBuf::from) else {
            eprintln!("SKIPPED: {test}: LEVADA_TEST_HDFS_CONF names no running HDFS");
            return None;
        };
        let client = ClientBuilder::new().with_config_dir(conf.to_str().unwrap()).build().unwrap();
        let core_site = std::fs::read_to_string(conf.join("core-site.xml")).unwrap();
        let uri = core_site.split("hdfs://").nth(1).unwrap().split('<').next().unwrap();
        let uri = format!("hdfs://{}", uri.trim().trim_end_matches('/'));
        let dir = format!("/levada-test/{test}-{}", std::process::id());
        Some(Place { client, conf, uri, dir, state: tempfile::tempdir().unwrap() })
    }

    async fn opened(&self, pairs: &[(&str, &str)]) -> HdfsSink {
        let mut all = vec![("hdfs.path", self.dir.as_str())];
        all.extend(pairs);
        let settings = Settings::of_pairs("a.sinks.k", COMPONENT.keys, &all);
        assert_eq!(settings.check(), []);
        let env = SinkEnv {
            conf_dir: Some(self.conf.clone()),
            state_dir: Some(self.state.path().to_owned()),
        };
        let mut sink = HdfsSink::new(&settings, &env).unwrap();
        sink.open().await.unwrap();
        sink
    }

    /// Path and length of every file.
    async fn names(&self) -> BTreeMap<String, usize> {
        match self.client.list_status(&self.dir, true).await {
            Ok(files) => files.into_iter().map(|file| (file.path, file.length)).collect(),
            Err(HdfsError::FileNotFound(_)) => BTreeMap::new(),
            Err(error) => panic!("list {}: {error}", self.dir),
        }
    }

    /// Waits until a sink has finished what the one before had to leave: a lease takes its time.
    async fn all_finished(&self) {
        let mut sink = self.opened(&BIG_FILES).await;
        let deadline = Instant::now() + Duration::from_secs(240);
        while let Some(open) = self.names().await.keys().find(|name| name.ends_with(".tmp")) {
            assert!(Instant::now() < deadline, "{open} was not finished");
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
        sink.close().await.unwrap();
    }

    async fn read(&self, path: &str) -> Vec<u8> {
        let mut file = self.client.read(path).await.unwrap();
        let len = file.file_length();
        file.read_bytes(len).await.unwrap().to_vec()
    }

    /// The bodies of all SequenceFiles, in the order of their names; by Hadoop too, if it can.
    async fn bodies(&self) -> Vec<String> {
        let mut bodies = Vec::new();
        for path in self.names().await.keys() {
            assert!(!path.ends_with(".tmp"), "{path} is still open");
            let file = self.read(path).await;
            let reader = records(&file).unwrap();
            let here: Vec<_> = reader.map(|(key, body)| (key, body.to_vec())).collect();
            if let Some(there) = self.by_hadoop(path) {
                assert_eq!(there, here, "{path}: Hadoop reads something else");
            }
            bodies.extend(here.into_iter().map(|(_, body)| String::from_utf8(body).unwrap()));
        }
        bodies
    }

    fn by_hadoop(&self, path: &str) -> Option<Vec<(i64, Vec<u8>)>> {
        let out = run("LEVADA_TEST_HDFS_CAT", &format!("{}{path}", self.uri))?;
        let record = |line: &str| {
            let (key, hex) = line.split_once('\t').unwrap();
            let byte = |at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap();
            (key.parse().unwrap(), (0..hex.len()).step_by(2).map(byte).collect())
        };
        Some(out.lines().filter(|line| line.contains('\t')).map(record).collect())
    }
}

/// Runs the command of an environment variable; `None`, said loudly, if there is none.
fn run(variable: &str, arguments: &str) -> Option<String> {
    let Ok(command) = std::env::var(variable) else {
        eprintln!("SKIPPED: a part: {variable} is not set");
        return None;
    };
    let output =
        Command::new("sh").arg("-c").arg(format!("{command} {arguments}")).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command} {arguments}: {text}{error}");
    Some(text)
}

fn batch(range: std::ops::Range<u64>) -> EventBatch {
    let events: Vec<_> = range.clone().map(|n| Event::of_body(body(n))).collect();
    EventBatch::of_events(Offset(range.start), 1_700_000_000_000, &events)
}

fn body(n: u64) -> String {
    format!("event {n} {}", "x".repeat(n as usize % 700))
}

const BIG_FILES: [(&str, &str); 3] =
    [("hdfs.rollInterval", "0"), ("hdfs.rollSize", "0"), ("hdfs.rollCount", "0")];

#[tokio::test(flavor = "multi_thread")]
async fn hadoop_reads_what_the_sink_wrote() {
    let Some(place) = Place::new("read") else { return };
    let _alone = CLUSTER.lock().await;
    for format in ["Writable", "Text"] {
        let pairs =
            [("hdfs.writeFormat", format), ("hdfs.rollSize", "0"), ("hdfs.rollCount", "40")];
        let mut sink = place.opened(&pairs).await;
        for first in [0, 100] {
            assert_eq!(sink.deliver(&batch(first..first + 100)).await, Outcome::Delivered);
        }
        sink.close().await.unwrap();
    }
    assert_eq!(place.names().await.len(), 10);
    let expected: Vec<_> = (0..200).chain(0..200).map(body).collect();
    assert_eq!(place.bodies().await, expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn text_and_avro_files_are_whole_on_hdfs() {
    let Some(place) = Place::new("text") else { return };
    let _alone = CLUSTER.lock().await;
    let pairs = [BIG_FILES[1], BIG_FILES[2], ("hdfs.fileType", "DataStream")];
    let mut text = place.opened(&[&pairs[..], &[("hdfs.fileSuffix", ".txt")]].concat()).await;
    let avro = [("hdfs.fileSuffix", ".avro"), ("serializer", "avro_event")];
    let mut avro = place.opened(&[&pairs[..], &avro].concat()).await;
    for first in [0, 100, 200] {
        for sink in [&mut text, &mut avro] {
            assert_eq!(sink.deliver(&batch(first..first + 100)).await, Outcome::Delivered);
        }
    }
    text.close().await.unwrap();
    avro.close().await.unwrap();
    let names: Vec<_> = place.names().await.into_keys().collect();
    let [one, two] = names.try_into().unwrap();
    let (avro, text) = if one.ends_with(".avro") { (one, two) } else { (two, one) };
    let expected: String = (0..300).map(|n| body(n) + "\n").collect();
    assert_eq!(String::from_utf8(place.read(&text).await).unwrap(), expected);
    let file = place.read(&avro).await;
    let reader = apache_avro::Reader::new(&file[..]).unwrap();
    assert_eq!(reader.map(Result::unwrap).count(), 300);
}

#[tokio::test(flavor = "multi_thread")]
async fn file_of_a_writer_that_died_is_finished_by_the_next() {
    let Some(place) = Place::new("died") else { return };
    let _alone = CLUSTER.lock().await;
    let mut sink = place.opened(&BIG_FILES).await;
    for first in [0, 100] {
        assert_eq!(sink.deliver(&batch(first..first + 100)).await, Outcome::Delivered);
    }
    drop(sink);
    let open = place.names().await.into_keys().next().unwrap();
    assert!(open.ends_with(".tmp"), "{open}");
    let mut sink = place.opened(&BIG_FILES).await;
    assert_eq!(sink.deliver(&batch(200..300)).await, Outcome::Delivered);
    sink.close().await.ok(); // it may have more to do than it has time
    place.all_finished().await;
    assert_eq!(place.bodies().await, (0..300).map(body).collect::<Vec<_>>());
}

/// `kill -9` after the namenode made the file and before the journal says so: nothing tells it from
/// a file that somebody else made under that name, so it goes only if nothing is in it.
#[tokio::test(flavor = "multi_thread")]
async fn empty_file_that_the_journal_only_planned_is_deleted_and_a_full_one_is_left() {
    let Some(place) = Place::new("planned") else { return };
    let _alone = CLUSTER.lock().await;
    let named = |counter: u64| format!("{}/FlumeData.{counter}.tmp", place.dir);
    let boot = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap();
    let mut lines = vec![json!({"boot": boot.trim()})];
    lines.extend((1..=3).map(|counter| {
        let stem = format!("{}/FlumeData", place.dir);
        let name =
            json!({"in_use": named(counter), "stem": stem, "counter": counter, "suffix": ""});
        json!({"open": [counter, {"fs": place.uri, "name": name, "known": "planned"}]})
    }));
    let lines: String = lines.iter().map(|line| format!("{line}\n")).collect();
    let journal = place.state.path().join("k.open-files");
    std::fs::write(&journal, lines).unwrap();
    // 1 is open and empty, 2 holds another's event, 3 was not made
    let options = hdfs_native::WriteOptions::default;
    let empty = place.client.create(&named(1), options()).await.unwrap();
    let mut full = place.client.create(&named(2), options()).await.unwrap();
    full.write_bytes(Bytes::from_static(b"another's")).await.unwrap();
    full.hsync().await.unwrap();

    let mut sink = place.opened(&BIG_FILES).await;
    let deadline = Instant::now() + Duration::from_secs(240);
    while std::fs::read_to_string(&journal).unwrap().matches("done").count() < 3 {
        assert!(Instant::now() < deadline, "{:?}", place.names().await);
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    sink.close().await.unwrap();
    assert_eq!(place.names().await, BTreeMap::from([(named(2), 9)]));
    drop((empty, full));
}

#[tokio::test(flavor = "multi_thread")]
async fn stopped_datanode_costs_no_acknowledged_event() {
    let Some(place) = Place::new("datanode") else { return };
    let _alone = CLUSTER.lock().await;
    if std::env::var_os("LEVADA_TEST_HDFS_CTL").is_none() {
        eprintln!("SKIPPED: datanode: LEVADA_TEST_HDFS_CTL is not set");
        return;
    }
    let mut sink = place.opened(&BIG_FILES).await;
    let mut sent_again = 0;
    for round in 0..60 {
        match round {
            20 => drop(run("LEVADA_TEST_HDFS_CTL", "stop-dn 0")),
            40 => drop(run("LEVADA_TEST_HDFS_CTL", "start-dn 0")),
            _ => {}
        }
        let batch = batch(round * 50..(round + 1) * 50);
        let deadline = Instant::now() + Duration::from_secs(120);
        while let Outcome::Failed(failure) = sink.deliver(&batch).await {
            assert!(Instant::now() < deadline, "it never succeeds: {}", failure.reason);
            sent_again += 1;
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
    }
    sink.close().await.ok(); // as above
    place.all_finished().await;
    eprintln!("{sent_again} batches were sent again");
    let mut seen = place.bodies().await;
    seen.sort();
    let mut expected: Vec<_> = (0..3000).map(body).collect();
    expected.sort();
    assert!(seen == expected, "{} of {} events", seen.len(), expected.len());
}
