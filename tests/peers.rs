//! levada among the real ones: Flume's RPC client and avro-client, Log4j 2's Flume appender, and an
//! HDFS that Hadoop itself reads back. All of it is Java and is installed by `tests/peers/install`;
//! where it is not, each test says so on standard error and passes (`LEVADA_PEERS=require`: fails).
//!
//! Flume's client keeps the record of what was acknowledged; files say what was delivered.
//! `LEVADA_KILLS` sets how often the agent is killed under load (default 4).

#![allow(clippy::unwrap_used)] // a failed step is a panic

#[path = "peers/lab.rs"]
mod lab;
mod support;

use lab::{Hdfs, Lab, lines};
use levada::event::Event;
use levada::rpc::avro::Status;
use std::collections::HashSet;
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;
use std::time::{Duration, Instant};
use support::{Agent, PATIENCE, Producer, lines_below, skip, walctl};

/// The tests that run the seed's config take turns: it has a fixed port.
static SEED_PORT: Mutex<()> = Mutex::new(());

/// Lines of a config: an Avro source on a port, a `file` channel that syncs each put.
fn config(port: u16, more: &str) -> String {
    format!(
        "a.sources = s\na.channels = c\n\
         a.sources.s.type = avro\na.sources.s.bind = 127.0.0.1\na.sources.s.port = {port}\n\
         a.sources.s.channels = c\n\
         a.channels.c.type = file\na.channels.c.dataDirs = log\na.channels.c.fsync = always\n\
         a.channels.c.maxFileSize = 1048576\na.channels.c.minimumRequiredSpace = 0\n{more}"
    )
}

/// One sink that writes a line an event below `out`.
const FILE_ROLL: &str = "a.sinks = k\na.sinks.k.type = file_roll\na.sinks.k.channel = c\n\
     a.sinks.k.sink.directory = out\n";

fn write_config(dir: &Path, text: &str) -> PathBuf {
    std::fs::create_dir_all(dir.join("out")).unwrap();
    let path = dir.join("agent.properties");
    std::fs::write(&path, text).unwrap();
    path
}

/// The ids of events: the first word of a body.
fn ids(events: &[String]) -> Vec<&str> {
    events.iter().map(|event| event.split(' ').next().unwrap()).collect()
}

fn missing(acknowledged: &[String], delivered: &[String]) -> usize {
    let delivered: HashSet<_> = ids(delivered).into_iter().collect();
    acknowledged.iter().filter(|id| !delivered.contains(id.as_str())).count()
}

/// Each acknowledged event was delivered once, and nothing else was.
fn assert_each_once(acknowledged: &[String], delivered: &[String]) {
    assert!(!acknowledged.is_empty(), "something was sent");
    let missing = missing(acknowledged, delivered);
    assert_eq!(missing, 0, "of {} acknowledged events are missing", acknowledged.len());
    assert_eq!(delivered.len(), acknowledged.len(), "delivered, and acknowledged");
}

/// Waits until every acknowledged event is below `dir/out`, stops the agent in order, and returns
/// what was delivered.
fn stop_when_delivered(agent: Agent, dir: &Path, acknowledged: &[String]) -> Vec<String> {
    let deadline = Instant::now() + PATIENCE;
    while missing(acknowledged, &lines_below(&dir.join("out"))) > 0 {
        let late = Instant::now() > deadline;
        assert!(!late, "{} are missing", missing(acknowledged, &lines_below(&dir.join("out"))));
        std::thread::sleep(Duration::from_millis(50));
    }
    stop(agent);
    lines_below(&dir.join("out"))
}

fn stop(agent: Agent) {
    let (status, log) = agent.stop();
    println!("{log}");
    assert_eq!(status.code(), Some(0), "a clean stop");
}

fn flume_client_in_batches(test: &str, compression: &str) {
    let Some(lab) = Lab::find(test) else { return };
    let dir = tempfile::tempdir().unwrap();
    let text = config(0, FILE_ROLL) + "a.sources.s.compression-type = " + compression;
    let mut agent = Agent::start(dir.path(), &write_config(dir.path(), &text), &[]);
    let address = agent.address();
    let mut acknowledged = Vec::new();
    for (batch, events) in [(1, 500), (100, 10_000), (1000, 40_000)] {
        let record = dir.path().join(format!("acked-{batch}"));
        let load = lab.load(
            address,
            &format!(
                "connections=4 batch={batch} events={events} prefix=b{batch} headers=2 \
                 compression={compression} acked={}",
                record.display()
            ),
        );
        assert_eq!(load.finish()["events"], f64::from(events), "batches of {batch}");
        acknowledged.extend(lines(&record));
    }
    let delivered = stop_when_delivered(agent, dir.path(), &acknowledged);
    assert_each_once(&acknowledged, &delivered);
}

#[test]
fn flume_client_sends_batches_of_1_100_1000_over_4_connections() {
    flume_client_in_batches("plain batches", "none");
}

#[test]
fn flume_client_sends_deflated_batches_of_1_100_1000_over_4_connections() {
    flume_client_in_batches("deflated batches", "deflate");
}

#[test]
fn flume_avro_client_sends_each_line_of_a_file() {
    let Some(lab) = Lab::find("avro-client") else { return };
    let dir = tempfile::tempdir().unwrap();
    let mut agent = Agent::start(dir.path(), &write_config(dir.path(), &config(0, FILE_ROLL)), &[]);
    let sent: Vec<_> = (0..1003).map(|n| format!("line-{n}")).collect();
    let file = dir.path().join("lines");
    std::fs::write(&file, sent.join("\n") + "\n").unwrap();
    lab.avro_client(agent.address(), &file);
    let delivered = stop_when_delivered(agent, dir.path(), &sent);
    assert_eq!(delivered, sent, "each once, and in order");
}

#[test]
fn log4j_appender_sends_each_log_event() {
    let Some(lab) = Lab::find("Log4j 2's Flume appender") else { return };
    for batch in [1, 10] {
        let dir = tempfile::tempdir().unwrap();
        let config = write_config(dir.path(), &config(0, FILE_ROLL));
        let mut agent = Agent::start(dir.path(), &config, &[]);
        assert_eq!(lab.appender(agent.address(), batch, 300), "events=300");
        let logged: Vec<_> = (0..300).map(|n| format!("log-{n}")).collect();
        let delivered = stop_when_delivered(agent, dir.path(), &logged);
        assert_eq!(delivered, logged, "each once, and in order");
    }
}

#[test]
fn kill_9_under_flume_client_load_loses_nothing_acknowledged() {
    let Some(lab) = Lab::find("kill -9 under Flume's client") else { return };
    let kills: usize = std::env::var("LEVADA_KILLS").map_or(4, |n| n.parse().unwrap());
    let dir = tempfile::tempdir().unwrap();
    let mut agent = Agent::start(dir.path(), &write_config(dir.path(), &config(0, FILE_ROLL)), &[]);
    // the client comes back to the address it knows
    let address = agent.address();
    let config = write_config(dir.path(), &config(address.port(), FILE_ROLL));
    let record = dir.path().join("acked");
    let arguments = format!("batch=50 body=100 reconnect=true acked={}", record.display());
    let load = lab.load(address, &arguments);
    wait_until("the first acknowledgement", || record.metadata().is_ok_and(|file| file.len() > 0));
    for _ in 0..kills {
        std::thread::sleep(Duration::from_millis(fastrand::u64(20..600)));
        agent.kill();
        let (code, report) = walctl(&["verify", dir.path().join("log").to_str().unwrap()]);
        assert_eq!(code, 0, "walctl verify after kill -9: {report}");
        agent = Agent::start(dir.path(), &config, &[]);
        agent.address();
    }
    std::thread::sleep(Duration::from_millis(500));
    let counted = load.finish();
    assert!(counted["connects"] > 4.0, "it connected again: {counted:?}");
    let acknowledged = lines(&record);
    stop_when_delivered(agent, dir.path(), &acknowledged);
    println!("{kills} kills, {} acknowledged, all delivered", acknowledged.len());
}

/// A config of Flume's agent: an Avro source, its file channel, a line an event below `dir/out`.
fn flume_config(dir: &Path, port: u16, compression: &str) -> PathBuf {
    std::fs::create_dir_all(dir.join("out")).unwrap();
    let (path, dir) = (dir.join("flume.properties"), dir.display());
    let text = format!(
        "a.sources = s\na.channels = c\na.sinks = k\n\
         a.sources.s.type = avro\na.sources.s.bind = 127.0.0.1\na.sources.s.port = {port}\n\
         a.sources.s.compression-type = {compression}\na.sources.s.channels = c\n\
         a.channels.c.type = file\na.channels.c.dataDirs = {dir}/data\n\
         a.channels.c.checkpointDir = {dir}/checkpoint\n\
         a.channels.c.minimumRequiredSpace = 1048576\n\
         a.sinks.k.type = file_roll\na.sinks.k.channel = c\na.sinks.k.sink.directory = {dir}/out\n\
         a.sinks.k.sink.rollInterval = 0\na.sinks.k.sink.serializer = HEADER_AND_TEXT\n"
    );
    std::fs::write(&path, text).unwrap();
    path
}

/// levada's agent between a producer and Flume's agent, which is killed and comes back. What
/// Flume's files have is compared with what levada acknowledged.
fn avro_sink_to_flume(compression: &str) {
    let Some(lab) = Lab::find("levada's Avro sink to Flume's agent") else { return };
    let dir = tempfile::tempdir().unwrap();
    let (flume_dir, levada_dir) = (dir.path().join("flume"), dir.path().join("levada"));
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let flume = flume_config(&flume_dir, port, compression);
    let sink = format!(
        "a.sinks = k\na.sinks.k.type = avro\na.sinks.k.channel = c\na.sinks.k.port = {port}\n\
         a.sinks.k.hostname = 127.0.0.1\na.sinks.k.compression-type = {compression}\n\
         a.sinks.k.exec.backoff = 50\na.sinks.k.exec.maxBackoff = 500\n"
    );
    let mut receiver = Some(lab.flume_agent(&flume, port));
    let config = write_config(&levada_dir, &config(0, &sink));
    let mut agent = Agent::start(&levada_dir, &config, &[]);
    let mut producer = Producer::connect(agent.address()).unwrap();
    let mut expected = HashSet::new();
    for round in 0..3 {
        for batch in 0..20 {
            if (round, batch) == (1, 10) {
                receiver.take().unwrap().kill();
            }
            let events = (0..50).map(|n| {
                let id = format!("{round}-{batch}-{n}");
                Event { headers: vec![("id".into(), id.clone())], body: id.into() }
            });
            let events: Vec<_> = events.collect();
            assert_eq!(producer.append(&events).unwrap(), Status::Ok);
            let line = |event: &Event| format!("{{id={0}}} {0}", event.headers[0].1);
            expected.extend(events.iter().map(line));
        }
        if receiver.is_none() {
            agent.wait_for("sink k: 127.0.0.1:");
            receiver = Some(lab.flume_agent(&flume, port));
        }
    }
    wait_until("Flume's agent has all of it", || is_in(&expected, &flume_dir));
    stop(agent);
    let lines: HashSet<_> = lines_below(&flume_dir.join("out")).into_iter().collect();
    assert_eq!(lines, expected, "every event with its header, and nothing else");
}

fn is_in(expected: &HashSet<String>, dir: &Path) -> bool {
    let lines: HashSet<_> = lines_below(&dir.join("out")).into_iter().collect();
    expected.is_subset(&lines)
}

#[test]
fn avro_sink_delivers_to_flume_s_agent_through_its_kill_9() {
    avro_sink_to_flume("none");
}

#[test]
fn avro_sink_delivers_deflated_to_flume_s_agent_through_its_kill_9() {
    avro_sink_to_flume("deflate");
}

fn wait_until(what: &str, mut done: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !done() {
        assert!(Instant::now() < deadline, "{what} did not come");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// The seed's own command line, run in the project's directory; `wrapper` stands before it.
fn seed_command(wrapper: &[&str]) -> Command {
    let levada = env!("CARGO_BIN_EXE_levada");
    let words = ["agent", "-f", "conf/agent1.properties", "-Dflume.root.logger=INFO"];
    let line: Vec<_> = wrapper.iter().chain([&levada]).chain(&words).collect();
    let mut command = Command::new(line[0]);
    command.args(&line[1..]).current_dir(env!("CARGO_MANIFEST_DIR"));
    command.env_remove("HADOOP_CONF_DIR").env_remove("HADOOP_HOME");
    command
}

/// `/user`, where the seed's config writes on the local file system, made for one test.
struct UserDir {
    made: bool,
}

impl UserDir {
    fn make() -> std::io::Result<UserDir> {
        match std::fs::create_dir("/user") {
            Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {
                Ok(UserDir { made: false })
            }
            other => other.map(|()| UserDir { made: true }),
        }
    }
}

impl Drop for UserDir {
    fn drop(&mut self) {
        if self.made {
            let _ = std::fs::remove_dir("/user"); // somebody put something there: theirs
        }
    }
}

#[test]
fn seed_config_writes_to_the_local_file_system_what_flume_client_sends() {
    let Some(lab) = Lab::find("the seed's config") else { return };
    let turn = SEED_PORT.lock();
    let (Ok(true), Ok(_user)) = (
        Command::new("unshare").args(["-m", "true"]).status().map(|s| s.success()),
        UserDir::make(),
    ) else {
        return skip("the seed's config", "writing below /user needs root and a mount namespace");
    };
    let dir = tempfile::tempdir().unwrap();
    // the agent sees a directory of this test as /user: the machine's own stays clean
    let mount = "mount --bind \"$0\" /user && exec \"$@\"";
    let user = dir.path().join("user");
    std::fs::create_dir(&user).unwrap();
    let wrapper = ["unshare", "-m", "sh", "-c", mount, user.to_str().unwrap()];
    let mut agent = Agent::spawn(&mut seed_command(&wrapper));
    let address = agent.address();
    assert_eq!(address.port(), 44444);
    let record = dir.path().join("acked");
    // Flume's defaults make a file of each ten events
    let load = format!("batch=100 events=4000 acked={}", record.display());
    assert_eq!(lab.load(address, &load).finish()["events"], 4000.0);
    stop(agent);
    drop(turn);
    let written = user.join("hive/flume");
    let names: Vec<_> = std::fs::read_dir(&written).unwrap().map(|e| e.unwrap().path()).collect();
    assert!(names.iter().all(|path| path.extension().is_none_or(|ext| ext != "tmp")), "{names:?}");
    assert_each_once(&lines(&record), &lab.sequence_events(&written));
}

#[test]
fn seed_config_with_a_core_site_writes_to_hdfs_what_flume_client_sends() {
    let Some(lab) = Lab::find("the seed's config on HDFS") else { return };
    let dir = tempfile::tempdir().unwrap();
    let mut hdfs = lab.hdfs(dir.path(), 3);
    let turn = SEED_PORT.lock();
    let mut agent = Agent::spawn(seed_command(&[]).arg("-c").arg(&hdfs.conf));
    // Flume's defaults make a file of each ten events
    let acknowledged = send(&lab, agent.address(), dir.path(), "batch=100 events=1000");
    assert_eq!(acknowledged.len(), 1000);
    stop(agent);
    drop(turn);
    let files = hdfs.files("/user/hive/flume");
    assert!(files.iter().all(|file| !file.ends_with(".tmp")), "{files:?}");
    assert_each_once(&acknowledged, &hdfs.events("sequence", "/user/hive/flume"));
}

/// A config with one or two sinks into HDFS: `k1` into `/k1`, `k2` into `/k2`, with more keys.
fn hdfs_config(dir: &Path, port: u16, sinks: &[&str], keys: &[(&str, &str)]) -> PathBuf {
    let mut more = format!("a.sinks = {}\na.channels.c.exec.type = roundrobin\n", sinks.join(" "));
    for sink in sinks {
        let line = |(key, value): &(&str, &str)| format!("a.sinks.{sink}.{key} = {value}\n");
        let path = format!("/{sink}");
        more.extend([("type", "hdfs"), ("channel", "c"), ("hdfs.path", &path)].iter().map(line));
        more.extend(keys.iter().map(line));
    }
    write_config(dir, &config(port, &more))
}

/// Starts the agent once more, as a crash or the time limit of a stop may have left events in the
/// log, and stops it when every acknowledged event is in HDFS. Returns what is there.
fn deliver_the_rest(
    hdfs: &mut Hdfs,
    dir: &Path,
    config: &Path,
    format: &str,
    acknowledged: &[String],
) -> Vec<String> {
    let conf = hdfs.conf.to_str().unwrap().to_owned();
    let mut agent = Agent::start(dir, config, &["-c", &conf]);
    agent.address();
    // a lease to be recovered and a dead datanode that is still given out take their time
    let deadline = Instant::now() + 2 * PATIENCE;
    while missing(acknowledged, &hdfs.events(format, "/")) > 0 && Instant::now() < deadline {
        std::thread::sleep(Duration::from_millis(200));
    }
    stop(agent);
    let delivered = hdfs.events(format, "/");
    let missing = missing(acknowledged, &delivered);
    assert_eq!(missing, 0, "of {} acknowledged events are missing", acknowledged.len());
    delivered
}

#[test]
fn hdfs_sink_loses_nothing_when_a_datanode_of_its_open_file_stops() {
    let Some(lab) = Lab::find("a datanode that stops") else { return };
    let dir = tempfile::tempdir().unwrap();
    let mut hdfs = lab.hdfs(dir.path(), 4);
    let one_file = [("hdfs.rollInterval", "0"), ("hdfs.rollSize", "0"), ("hdfs.rollCount", "0")];
    let config = hdfs_config(dir.path(), 0, &["k1"], &one_file);
    let conf = hdfs.conf.to_str().unwrap().to_owned();
    let mut agent = Agent::start(dir.path(), &config, &["-c", &conf]);
    let record = dir.path().join("acked");
    let arguments = format!("batch=20 connections=2 acked={}", record.display());
    let load = lab.load(agent.address(), &arguments);
    wait_until("a file in HDFS", || !hdfs.files("/k1").is_empty());
    std::thread::sleep(Duration::from_secs(1));
    let open = hdfs.files("/k1").remove(0);
    let holder = hdfs.command(&format!("holder {open}"));
    hdfs.command(&format!("stop-dn {holder}"));
    std::thread::sleep(Duration::from_secs(3));
    load.finish();
    stop(agent);
    deliver_the_rest(&mut hdfs, dir.path(), &config, "sequence", &lines(&record));
}

#[test]
fn kill_9_under_flume_client_load_loses_nothing_on_its_way_to_hdfs() {
    let Some(lab) = Lab::find("kill -9 before HDFS") else { return };
    let kills: usize = std::env::var("LEVADA_KILLS").map_or(2, |n| n.parse().unwrap()).min(10);
    let dir = tempfile::tempdir().unwrap();
    let mut hdfs = lab.hdfs(dir.path(), 3);
    let conf = hdfs.conf.to_str().unwrap().to_owned();
    let keys =
        [("hdfs.fileType", "DataStream"), ("hdfs.rollSize", "0"), ("hdfs.rollCount", "2000")];
    let config = hdfs_config(dir.path(), 0, &["k1"], &keys);
    let mut agent = Agent::start(dir.path(), &config, &["-c", &conf]);
    let address = agent.address();
    let config = hdfs_config(dir.path(), address.port(), &["k1"], &keys);
    let record = dir.path().join("acked");
    let arguments = format!("batch=20 body=100 reconnect=true acked={}", record.display());
    let load = lab.load(address, &arguments);
    wait_until("a file in HDFS", || !hdfs.files("/k1").is_empty());
    for _ in 0..kills {
        std::thread::sleep(Duration::from_millis(fastrand::u64(50..900)));
        agent.kill();
        agent = Agent::start(dir.path(), &config, &["-c", &conf]);
        agent.address();
    }
    std::thread::sleep(Duration::from_millis(500));
    load.finish();
    agent.kill();
    deliver_the_rest(&mut hdfs, dir.path(), &config, "text", &lines(&record));
    let open: Vec<_> = hdfs.files("/").into_iter().filter(|file| file.ends_with(".tmp")).collect();
    assert!(open.is_empty(), "left open by a crash, and never finished: {open:?}");
}

#[test]
fn two_hdfs_sinks_on_one_channel_get_each_event_in_one_of_them() {
    let Some(lab) = Lab::find("two sinks on HDFS") else { return };
    let dir = tempfile::tempdir().unwrap();
    let mut hdfs = lab.hdfs(dir.path(), 3);
    let keys =
        [("hdfs.fileType", "DataStream"), ("hdfs.rollSize", "0"), ("hdfs.rollCount", "3000")];
    let config = hdfs_config(dir.path(), 0, &["k1", "k2"], &keys);
    let conf = hdfs.conf.to_str().unwrap().to_owned();
    let mut agent = Agent::start(dir.path(), &config, &["-c", &conf]);
    let acknowledged = send(&lab, agent.address(), dir.path(), "batch=100 events=20000");
    stop(agent);
    let delivered = deliver_the_rest(&mut hdfs, dir.path(), &config, "text", &acknowledged);
    assert_each_once(&acknowledged, &delivered);
    for sink in ["/k1", "/k2"] {
        assert!(!hdfs.events("text", sink).is_empty(), "{sink} got some");
    }
}

/// Sends by Flume's client; returns what was acknowledged.
fn send(lab: &Lab, address: SocketAddr, dir: &Path, arguments: &str) -> Vec<String> {
    let record = dir.join("acked");
    let arguments = format!("{arguments} acked={}", record.display());
    lab.load(address, &arguments).finish();
    lines(&record)
}
