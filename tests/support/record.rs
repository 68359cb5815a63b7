//! Conservation, seen from outside: producers write down what they sent and what was acknowledged,
//! the sinks' files say what arrived, and at the end the two are compared.

use super::{Agent, PATIENCE, Producer, lines_below};
use levada::event::Event;
use levada::rpc::avro::Status;
use std::collections::{HashMap, HashSet};
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU16, AtomicUsize, Ordering};
use std::thread::Scope;
use std::time::{Duration, Instant};

/// What the producers know.
#[derive(Default)]
pub struct Record {
    /// Ids of the events whose put was acknowledged, in the order of the answers.
    pub acknowledged: Mutex<Vec<String>>,
    /// Ids of all events that were sent.
    pub sent: Mutex<HashSet<String>>,
    /// Puts that were acknowledged.
    pub acks: AtomicUsize,
    /// Puts that were refused by an answer.
    pub refusals: AtomicUsize,
    /// Headers of every event: they make it larger in the log, and not in the sinks' files.
    headers: Vec<(String, String)>,
    /// Where the agent listens; 0 while it is down.
    port: AtomicU16,
    arrivals: Mutex<Arrivals>,
    stop: AtomicBool,
}

/// Stops the producers of a record when dropped, also when a check fails: the scope waits for them.
pub struct StopAtEnd<'a>(&'a Record);

impl Drop for StopAtEnd<'_> {
    fn drop(&mut self) {
        self.0.stop.store(true, Ordering::Relaxed);
    }
}

impl Record {
    /// Nothing yet; events that take at least so many bytes in a log.
    pub fn of_large_events(bytes: usize) -> Record {
        let headers = vec![("padding".to_owned(), " ".repeat(bytes))];
        Record { headers, ..Record::default() }
    }

    /// Lets the producers connect to an agent.
    pub fn agent_is_at(&self, address: SocketAddr) {
        self.port.store(address.port(), Ordering::Relaxed);
    }

    /// Tells the producers that there is no agent.
    pub fn agent_is_gone(&self) {
        self.port.store(0, Ordering::Relaxed);
    }

    /// Starts some producers; they stop when what is returned is dropped.
    pub fn start_producers<'s, 'r>(&'r self, scope: &'s Scope<'s, 'r>) -> StopAtEnd<'r> {
        for producer in 0..3 {
            scope.spawn(move || self.produce(producer));
        }
        StopAtEnd(self)
    }

    /// Sends numbered events until told to stop, each put a batch of 1 to 40; after each lost
    /// connection it goes on with new numbers.
    fn produce(&self, producer: usize) {
        let mut next = 0u64;
        let mut connection: Option<Producer> = None;
        while !self.stop.load(Ordering::Relaxed) {
            let Some(open) = &mut connection else {
                let port = self.port.load(Ordering::Relaxed);
                if port > 0 {
                    connection = Producer::connect(([127, 0, 0, 1], port).into()).ok();
                }
                std::thread::sleep(Duration::from_millis(2));
                continue;
            };
            let count = 1 + next % 40;
            let ids = (next..next + count).map(|n| format!("{producer}-{n}")).collect();
            next += count;
            match self.put(open, ids) {
                Ok(Status::Ok) => {}
                Ok(_) => std::thread::sleep(Duration::from_millis(2)),
                Err(_) => connection = None,
            }
        }
    }

    /// Sends one batch and takes note of what becomes of it.
    pub fn put(
        &self,
        to: &mut Producer,
        ids: Vec<String>,
    ) -> Result<Status, levada::client::ClientError> {
        let event = |id: &String| Event { headers: self.headers.clone(), body: id.clone().into() };
        let events: Vec<_> = ids.iter().map(event).collect();
        self.sent.lock().unwrap().extend(ids.iter().cloned());
        let status = to.append(&events)?;
        if status == Status::Ok {
            self.acknowledged.lock().unwrap().extend(ids);
            self.acks.fetch_add(1, Ordering::Relaxed);
        } else {
            self.refusals.fetch_add(1, Ordering::Relaxed);
        }
        Ok(status)
    }

    /// Waits until `count` more puts are acknowledged.
    pub fn wait_for_acks(&self, count: usize, when: &str) {
        let before = self.acks.load(Ordering::Relaxed);
        wait(&format!("{count} puts acknowledged {when}"), || {
            self.acks.load(Ordering::Relaxed) >= before + count
        });
    }

    /// How many events were acknowledged.
    pub fn count(&self) -> usize {
        self.acknowledged.lock().unwrap().len()
    }

    /// Starts the agent once more, lets it deliver what is left, and stops it in order. Returns how
    /// many different events were delivered.
    ///
    /// # Panics
    /// An acknowledged event is missing, or one was delivered that was not sent.
    pub fn deliver_the_rest(&self, dir: &Path, config: &Path) -> usize {
        let mut agent = Agent::start(dir, config, &[]);
        agent.address();
        self.wait_until_delivered(&dir.join("out"));
        let (status, log) = agent.stop();
        assert_eq!(status.code(), Some(0), "a clean stop: {log}");
        self.check(&dir.join("out"))
    }

    /// Waits until what is acknowledged by now is delivered below `out`.
    pub fn wait_until_delivered(&self, out: &Path) {
        let mut arrivals = self.arrivals.lock().unwrap();
        let mut missing = self.acknowledged.lock().unwrap()[arrivals.settled..].to_vec();
        let end = arrivals.settled + missing.len();
        let deadline = Instant::now() + PATIENCE;
        loop {
            arrivals.update(out);
            missing.retain(|id| !arrivals.ids.contains(id));
            if missing.is_empty() {
                arrivals.settled = end;
                return;
            }
            let missing = missing.len();
            assert!(Instant::now() < deadline, "{missing} acknowledged events are missing");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Compares what was acknowledged and sent with what is below `out`. Returns how many different
    /// events are there.
    ///
    /// # Panics
    /// An acknowledged event is missing, or one was delivered that was not sent.
    pub fn check(&self, out: &Path) -> usize {
        let (delivered, missing) = self.compare(out);
        assert_eq!(missing, 0, "of {} acknowledged events are missing", self.count());
        delivered
    }

    /// How many different events are below `out`, and how many that were acknowledged are not.
    ///
    /// # Panics
    /// One was delivered that was not sent.
    pub fn compare(&self, out: &Path) -> (usize, usize) {
        let lines = lines_below(out);
        let delivered: HashSet<_> = lines.iter().map(|line| id_of(line)).collect();
        let (acknowledged, sent) = (self.acknowledged.lock().unwrap(), self.sent.lock().unwrap());
        let missing = acknowledged.iter().filter(|id| !delivered.contains(id.as_str())).count();
        let unknown: Vec<_> = delivered.iter().filter(|id| !sent.contains(**id)).collect();
        assert!(unknown.is_empty(), "delivered, but never sent: {unknown:?}");
        (delivered.len(), missing)
    }
}

/// The id of an event: its body's first word.
fn id_of(line: &str) -> &str {
    line.split(' ').next().unwrap()
}

/// Waits until something is so.
pub fn wait(what: &str, mut is_so: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !is_so() {
        assert!(Instant::now() < deadline, "not within {PATIENCE:?}: {what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// What was seen in the files of a sink: quick to ask again and again. A sink that gives a file up
/// cuts it back, so what was seen once is no proof; [`Record::check`] reads everything at the end.
#[derive(Default)]
struct Arrivals {
    ids: HashSet<String>,
    /// How many of the acknowledged events are known to be among them.
    settled: usize,
    /// Bytes of whole lines that were read, of each file.
    read: HashMap<PathBuf, u64>,
}

impl Arrivals {
    /// Reads what is new below `dir`.
    fn update(&mut self, dir: &Path) {
        for entry in std::fs::read_dir(dir).into_iter().flatten() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                self.update(&path);
                continue;
            }
            let Ok(mut file) = File::open(&path) else { continue }; // just given up
            let read = self.read.entry(path).or_default();
            let mut new = Vec::new();
            file.seek(SeekFrom::Start(*read)).unwrap();
            file.read_to_end(&mut new).unwrap();
            let whole = new.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
            *read += whole as u64;
            let text = String::from_utf8_lossy(&new[..whole]);
            self.ids.extend(text.lines().map(|line| id_of(line).to_owned()));
        }
    }
}
