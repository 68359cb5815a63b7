//! rsyslog: a daemon with a disk queue that syncs its files, fed over RELP, the one protocol by
//! which it answers that it has an event. A put is `B` events sent and their answers waited for;
//! each is answered when it stands in the queue. What is queued goes to /dev/null by itself.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, PoisonError};
use std::thread::sleep;
use std::time::{Duration, Instant};

use super::{Batch, Peer};
use crate::Result;
use crate::args::Args;

/// Events sent before their answers are read.
const WINDOW_EVENTS: usize = 128;
/// The highest number of a frame; 1 follows.
const FRAME_MAX: u32 = 999_999_999;

pub struct Rsyslog {
    daemon: Child,
    connections: Vec<Mutex<Connection>>,
}

impl Rsyslog {
    pub fn open(args: &Args) -> Result<Self> {
        let root = root()?;
        let modules = root.join("usr/lib/x86_64-linux-gnu/rsyslog");
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        let port = listener.local_addr()?.port();
        drop(listener);
        fs::create_dir_all(&args.dir)?;
        let config = args.dir.join("rsyslog.conf");
        fs::write(&config, configuration(&args.dir, port))?;
        let daemon = Command::new(root.join("usr/sbin/rsyslogd"))
            .args(["-n", "-f"])
            .arg(&config)
            .arg("-i")
            .arg(args.dir.join("pid"))
            .arg("-M")
            .arg(&modules)
            .env("LD_LIBRARY_PATH", root.join("usr/lib/x86_64-linux-gnu"))
            .stdout(Stdio::null())
            .spawn()?;
        let mut peer = Self { daemon, connections: Vec::new() };
        for _ in 0..args.producer_count() {
            peer.connections.push(Mutex::new(Connection::open(port)?));
        }
        Ok(peer)
    }
}

impl Peer for Rsyslog {
    fn put(&self, producer: usize, batch: Batch) -> Result<()> {
        let mut connection =
            self.connections[producer].lock().unwrap_or_else(PoisonError::into_inner);
        let mut left = batch.count;
        while left > 0 {
            let count = left.min(WINDOW_EVENTS);
            connection.send(batch.record, count)?;
            left -= count;
        }
        Ok(())
    }

    fn take(&self, _count: usize, _each: &mut dyn FnMut(&[u8])) -> Result<usize> {
        Err("it hands events to its own outputs only".into())
    }

    fn server(&self) -> Option<u32> {
        Some(self.daemon.id())
    }
}

impl Drop for Rsyslog {
    fn drop(&mut self) {
        let _ = self.daemon.kill();
        let _ = self.daemon.wait();
    }
}

/// One RELP session.
struct Connection {
    stream: BufReader<TcpStream>,
    frame: u32,
    out: Vec<u8>,
}

impl Connection {
    /// Connects as soon as the daemon listens.
    fn open(port: u16) -> Result<Self> {
        let until = Instant::now() + Duration::from_secs(5);
        let stream = loop {
            match TcpStream::connect((Ipv4Addr::LOCALHOST, port)) {
                Ok(stream) => break stream,
                Err(error) if Instant::now() > until => {
                    return Err(format!("rsyslogd does not listen: {error}").into());
                }
                Err(_) => sleep(Duration::from_millis(20)),
            }
        };
        stream.set_nodelay(true)?;
        let mut connection = Self { stream: BufReader::new(stream), frame: 0, out: Vec::new() };
        connection.frame("open", &[b"relp_version=0\nrelp_software=levada-peers\ncommands=syslog"]);
        connection.flush(1)?;
        Ok(connection)
    }

    fn send(&mut self, record: &[u8], count: usize) -> Result<()> {
        // Text, as syslog wants it; rsyslog would write other bytes as escapes.
        let text: Vec<u8> = record.iter().map(|byte| b'0' + byte % 64).collect();
        for _ in 0..count {
            self.frame("syslog", &[b"<13>1 2026-01-01T00:00:00Z bench levada - - - ", &text]);
        }
        self.flush(count)
    }

    fn frame(&mut self, command: &str, parts: &[&[u8]]) {
        self.frame = self.frame % FRAME_MAX + 1;
        let bytes: usize = parts.iter().map(|part| part.len()).sum();
        self.out.extend_from_slice(format!("{} {command} {bytes} ", self.frame).as_bytes());
        parts.iter().for_each(|part| self.out.extend_from_slice(part));
        self.out.push(b'\n');
    }

    /// Sends the frames and waits for that many answers, all of which must be good.
    fn flush(&mut self, answers: usize) -> Result<()> {
        self.stream.get_mut().write_all(&self.out)?;
        self.out.clear();
        for _ in 0..answers {
            self.answer()?;
        }
        Ok(())
    }

    fn answer(&mut self) -> Result<()> {
        let mut head = Vec::new();
        for _ in 0..3 {
            self.stream.read_until(b' ', &mut head)?;
        }
        let head = String::from_utf8_lossy(&head).into_owned();
        let words: Vec<&str> = head.split_whitespace().collect();
        let &[_, "rsp", bytes] = words.as_slice() else {
            return Err(format!("rsyslogd answered '{head}'").into());
        };
        let mut text = vec![0; bytes.parse::<usize>()? + 1];
        self.stream.read_exact(&mut text)?;
        if !text.starts_with(b"200") {
            return Err(format!("refused: {}", String::from_utf8_lossy(&text).trim_end()).into());
        }
        Ok(())
    }
}

/// Where `build` unpacked Debian's packages: beside the driver.
fn root() -> Result<PathBuf> {
    let root = std::env::current_exe()?.with_file_name("rsyslog");
    if !root.join("usr/sbin/rsyslogd").exists() {
        return Err(format!("no rsyslogd in {}; run 'build --rsyslog'", root.display()).into());
    }
    Ok(root)
}

/// A queue without its index of every event is lost in a crash, hence the interval of 1.
fn configuration(dir: &Path, port: u16) -> String {
    let dir = dir.display();
    format!(
        r#"global(workDirectory="{dir}")
module(load="imrelp")
main_queue(queue.type="Disk" queue.filename="queue" queue.syncqueuefiles="on"
           queue.checkpointinterval="1" queue.maxfilesize="64m" queue.size="10000000")
input(type="imrelp" address="127.0.0.1" port="{port}" maxDataSize="2m")
action(type="omfile" file="/dev/null")
"#
    )
}
