//! The real peers as processes: Flume's and Log4j's clients, and a small HDFS. `tests/peers/install`
//! puts them into `target/peers`; each is ended when its value is dropped.

use crate::support::skip;
use std::collections::HashMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

/// How long a peer may take for one thing.
const PATIENCE: Duration = Duration::from_secs(120);

/// Where the peers are installed.
pub struct Lab {
    dir: PathBuf,
}

impl Lab {
    /// The installed peers. None, with a line on standard error that no capture hides, if there
    /// are none and the test is to be passed over.
    ///
    /// # Panics
    /// There are none, and `LEVADA_PEERS=require` is set.
    pub fn find(test: &str) -> Option<Lab> {
        let built = Path::new(env!("CARGO_TARGET_TMPDIR")).parent().unwrap().join("peers");
        let dir = std::env::var_os("LEVADA_PEERS_DIR").map_or(built, PathBuf::from);
        if ["flume", "hdfs"].iter().all(|part| dir.join(part).join("installed").exists()) {
            return Some(Lab { dir });
        }
        let why = format!("no peers in {}: run tests/peers/install", dir.display());
        skip(test, &why);
        None
    }

    /// A class of a part's programs or jars, with a JVM's options.
    fn java(&self, part: &str, options: &[String], class: &str) -> Command {
        let (dir, source) = (self.dir.join(part), Path::new(env!("CARGO_MANIFEST_DIR")));
        let source = source.join("tests/peers").join(part);
        let mut command = Command::new("java");
        command.args(["-Xmx512m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1"]);
        command.arg("-Dpeers.log=ERROR");
        command.arg(format!("-Dlog4j2.configurationFile={}/log4j2.xml", source.display()));
        command.arg(format!("-Dlog4j.configuration=file:{}/log4j.properties", source.display()));
        command.args(options);
        command.arg("-cp").arg(format!("{0}/classes:{0}/jars/*", dir.display())).arg(class);
        command
    }

    /// Flume's RPC client, its arguments as `FlumeLoad` knows them.
    pub fn load(&self, address: SocketAddr, arguments: &str) -> Load {
        let mut command = self.java("flume", &[], "FlumeLoad");
        command.arg(format!("host={}", address.ip())).arg(format!("port={}", address.port()));
        command.args(arguments.split_whitespace());
        Load(Peer::spawn("Flume's client", &mut command))
    }

    /// Flume's `avro-client`: sends the lines of a file, each an event.
    pub fn avro_client(&self, address: SocketAddr, file: &Path) {
        let class = "org.apache.flume.client.avro.AvroCLIClient";
        let mut command = self.java("flume", &[], class);
        command.args(["-H", &address.ip().to_string(), "-p", &address.port().to_string(), "-F"]);
        Peer::spawn("Flume's avro-client", command.arg(file)).finish();
    }

    /// A Flume agent `a` of this config, whose source listens on `port`.
    pub fn flume_agent(&self, config: &Path, port: u16) -> FlumeAgent {
        let mut command = self.java("flume", &[], "org.apache.flume.node.Application");
        command.args(["-n", "a", "--no-reload-conf", "-f"]).arg(config);
        let agent = FlumeAgent(Peer::spawn("Flume's agent", &mut command));
        let deadline = Instant::now() + PATIENCE;
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            assert!(Instant::now() < deadline, "Flume's agent does not listen");
            std::thread::sleep(Duration::from_millis(100));
        }
        agent
    }

    /// An application that logs `count` events by Log4j 2's Flume appender. Returns the last line
    /// of its output.
    pub fn appender(&self, address: SocketAddr, batch: u32, count: u32) -> String {
        let config = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/peers/flume/log4j2-appender.xml");
        let options = [
            format!("-Dlog4j2.configurationFile={config}"),
            format!("-Dpeers.port={}", address.port()),
            format!("-Dpeers.batch={batch}"),
        ];
        let mut command = self.java("flume", &options, "AppenderApp");
        Peer::spawn("Log4j's appender", command.arg(count.to_string())).finish()
    }

    /// The events of the SequenceFiles below a local directory, read by Hadoop.
    pub fn sequence_events(&self, dir: &Path) -> Vec<String> {
        let out = tempfile::NamedTempFile::new().unwrap();
        let mut command = self.java("hdfs", &[], "ReadBack");
        command.args(["sequence", &format!("file://{}", dir.display())]).arg(out.path());
        Peer::spawn("Hadoop's reader", &mut command).finish();
        lines(out.path())
    }

    /// An HDFS of so many datanodes; its state is below `dir`.
    pub fn hdfs(&self, dir: &Path, datanodes: usize) -> Hdfs {
        let mut command = self.java("hdfs", &[], "MiniDfs");
        let mut peer = Peer::spawn("HDFS", command.arg(dir).arg(datanodes.to_string()));
        let line = peer.line();
        let words: Vec<_> = line.split(' ').collect();
        let ["ready", _, conf] = words[..] else { panic!("HDFS did not start: {line}") };
        Hdfs { peer, conf: conf.into() }
    }
}

/// A Flume agent at work.
pub struct FlumeAgent(Peer);

impl FlumeAgent {
    /// `kill -9`.
    pub fn kill(mut self) {
        self.0.child.kill().unwrap();
        self.0.child.wait().unwrap();
    }
}

/// Flume's client at work.
pub struct Load(Peer);

impl Load {
    /// Waits until it has sent everything. Returns what it counted.
    pub fn finish(self) -> HashMap<String, f64> {
        let line = self.0.finish();
        let pairs = line.split(' ').filter_map(|pair| pair.split_once('='));
        let parsed: HashMap<_, _> =
            pairs.map(|(key, value)| (key.to_owned(), value.parse().unwrap())).collect();
        assert!(parsed.contains_key("events"), "Flume's client said: {line}");
        parsed
    }
}

/// An HDFS at work.
pub struct Hdfs {
    peer: Peer,
    /// The directory of its `core-site.xml`.
    pub conf: PathBuf,
}

impl Hdfs {
    /// Sends a command (see `MiniDfs`) and returns its answer, or what it complains of.
    fn ask(&mut self, command: &str) -> Result<String, String> {
        writeln!(self.peer.input.as_mut().unwrap(), "{command}").unwrap();
        let line = self.peer.line();
        let answer = line.strip_prefix("ok").map(|rest| rest.trim().to_owned());
        answer.ok_or_else(|| format!("HDFS answered '{command}' by: {line}"))
    }

    /// Sends a command that does not fail.
    pub fn command(&mut self, command: &str) -> String {
        self.ask(command).unwrap_or_else(|complaint| panic!("{complaint}"))
    }

    /// The files below a directory; none if it is not there yet.
    pub fn files(&mut self, dir: &str) -> Vec<String> {
        let files = self.ask(&format!("ls {dir}")).unwrap_or_default();
        files.split_whitespace().map(str::to_owned).collect()
    }

    /// The events of a directory's files (`text` or `sequence`), read by Hadoop.
    pub fn events(&mut self, format: &str, dir: &str) -> Vec<String> {
        let out = tempfile::NamedTempFile::new().unwrap();
        let command = format!("read {format} {dir} {}", out.path().display());
        let deadline = Instant::now() + PATIENCE;
        // a file that is renamed or begun meanwhile is there at the next look
        while let Err(complaint) = self.ask(&command) {
            assert!(Instant::now() < deadline, "{complaint}");
            std::thread::sleep(Duration::from_millis(200));
        }
        lines(out.path())
    }
}

/// A Java process, killed when dropped.
struct Peer {
    name: &'static str,
    child: Child,
    input: Option<ChildStdin>,
    output: Receiver<String>,
}

impl Peer {
    fn spawn(name: &'static str, command: &mut Command) -> Peer {
        let command = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap_or_else(|error| panic!("{name}: java: {error}"));
        let (send, output) = channel();
        let stdout = BufReader::new(child.stdout.take().unwrap());
        let mut stderr = child.stderr.take().unwrap();
        std::thread::spawn(move || {
            for line in stdout.lines().map_while(Result::ok) {
                let _ = send.send(line); // nobody listens any more
            }
        });
        std::thread::spawn(move || {
            let mut text = String::new();
            let _ = stderr.read_to_string(&mut text);
            eprint!("{name}: {text}");
        });
        Peer { name, input: child.stdin.take(), child, output }
    }

    /// The next line of its output.
    fn line(&mut self) -> String {
        let line = self.output.recv_timeout(PATIENCE);
        line.unwrap_or_else(|_| panic!("{}: no answer; {:?}", self.name, self.child.try_wait()))
    }

    /// Ends its input and waits for its end. Returns the last line of its output.
    fn finish(mut self) -> String {
        drop(self.input.take());
        let deadline = Instant::now() + PATIENCE;
        let status = loop {
            match self.child.try_wait().unwrap() {
                Some(status) => break status,
                None if Instant::now() > deadline => panic!("{} does not end", self.name),
                None => std::thread::sleep(Duration::from_millis(10)),
            }
        };
        let output: Vec<_> = self.output.iter().collect();
        assert!(status.success(), "{}: {status}: {}", self.name, output.join("\n"));
        output.last().cloned().unwrap_or_default()
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        let _ = self.child.kill(); // gone already: all the better
        let _ = self.child.wait();
    }
}

/// The lines of a file.
pub fn lines(path: &Path) -> Vec<String> {
    std::fs::read_to_string(path).unwrap().lines().map(str::to_owned).collect()
}
