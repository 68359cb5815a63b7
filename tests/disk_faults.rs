//! Faults of a real disk under the built binary: a full one, a journaled one, one whose calls fail,
//! one that loses what was not synced; and an agent that stands still. Producers keep their own
//! record of what was acknowledged; sinks on a healthy disk say what arrived.
//!
//! | variable | |
//! |---|---|
//! | `LEVADA_FULL_DISKS` | cycles of a full disk, on tmpfs and on ext4 each (4) |
//! | `LEVADA_POWER_CUTS` | power cuts (10) |
//! | `LEVADA_CALL_FAILURES` | rounds of failing system calls, of 8 kinds (1) |
//! | `LEVADA_SEED` | the seed of a run with power cuts or failing calls |
//!
//! These tests need root and Linux' tools (`tests/faults/install`); where they can't be had, each
//! says so on standard error and passes (`LEVADA_PEERS=require`: fails).

#![allow(clippy::unwrap_used)] // a failed step is a panic

#[path = "faults/calls.rs"]
mod calls;
#[path = "faults/fuse.rs"]
mod fuse;
#[path = "faults/lossy.rs"]
mod lossy;
#[path = "faults/mounts.rs"]
mod mounts;
mod support;

use calls::Failure;
use fuse::{LossyFs, unmount};
use lossy::Lost;
use mounts::{Eater, SinkDisk, in_own_mounts, mount_ext4, mount_tmpfs, run};
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};
use support::record::{Record, wait};
use support::{Agent, Producer, lines_below, number, report, seed, skip, walctl};

/// Writes a config: an Avro source, a log in `disk/c`, and a sink that tries again soon. Some keys
/// may be given.
fn config(dir: &Path) -> PathBuf {
    let text = "a.sources = s\na.channels = c\na.sinks = k\n\
         a.sources.s.type = avro\na.sources.s.bind = 127.0.0.1\na.sources.s.port = 0\n\
         a.sources.s.channels = c\n\
         a.channels.c.type = file\na.channels.c.dataDirs = disk/c\na.channels.c.fsync = always\n\
         a.channels.c.maxFileSize = 1048576\na.channels.c.minimumRequiredSpace = 0\n\
         a.sinks.k.type = file_roll\na.sinks.k.channel = c\na.sinks.k.sink.directory = out\n\
         a.sinks.k.sink.batchSize = 500\na.sinks.k.exec.type = retryAndResume\n\
         a.sinks.k.exec.backoff = 20\na.sinks.k.exec.maxBackoff = 100\n";
    std::fs::create_dir_all(dir.join("out")).unwrap();
    let path = dir.join("agent.properties");
    std::fs::write(&path, text).unwrap();
    path
}

fn verify(log: &Path, when: &str) {
    let (code, report) = walctl(&["verify", log.to_str().unwrap(), "--json"]);
    assert_eq!(code, 0, "walctl verify {when}: {report}");
}

/// A log on a disk that becomes full again and again, and producers who never stop.
struct FullDisk<'a> {
    dir: &'a Path,
    config: PathBuf,
    out: SinkDisk,
    record: &'a Record,
    agent: Agent,
    /// How often it was killed while full, and got space from outside.
    kills: usize,
    healed: usize,
}

impl FullDisk<'_> {
    /// Waits until puts are refused and none gets through, and looks whether the agent says why.
    fn wait_until_full(&mut self) {
        let count = |counter: &std::sync::atomic::AtomicUsize| counter.load(Ordering::Relaxed);
        let (mut acks, mut refusals) = (count(&self.record.acks), count(&self.record.refusals));
        wait("puts are refused, and only refused", || {
            if count(&self.record.acks) > acks {
                (acks, refusals) = (count(&self.record.acks), count(&self.record.refusals));
            }
            count(&self.record.refusals) > refusals + 20
        });
        let line = self.agent.wait_for("its peers are told to send again");
        let why = ["bytes free in", "No space left on device"].iter().any(|why| line.contains(why));
        assert!(line.contains("channel c can't grow: ") && why, "{line}");
        assert!(self.agent.is_alive(), "a full disk does not end the agent");
    }

    /// `kill -9` with the disk full, and a start with the disk full.
    fn kill_and_start(&mut self) {
        self.kills += 1;
        self.record.agent_is_gone();
        self.agent.signal(rustix::process::Signal::KILL);
        wait("the agent is dead", || !self.agent.is_alive());
        verify(&self.dir.join("disk/c"), "after kill -9 on a full disk");
        self.agent = Agent::start(self.dir, &self.config, &[]);
        self.record.agent_is_at(self.agent.address());
    }

    /// One full disk; of four cycles in turn each is another one.
    fn cycle(&mut self, number: usize) {
        let (outside, kill) = (number.is_multiple_of(2), number % 4 >= 2);
        self.record.wait_for_acks(10, "before the disk is full");
        self.out.fill();
        let eater = Eater::eat(self.dir.join("disk/eater"));
        self.wait_until_full();
        if kill {
            self.kill_and_start();
        }
        // what the log has of the disk by itself may leave less than a segment to give back
        if outside && eater.has_mib(2) {
            // space comes from outside, and nothing is delivered yet: puts go on by themselves
            self.healed += 1;
            eater.leave();
            self.record.wait_for_acks(10, "when there is space again");
            self.out.free();
        } else {
            // the disk stays full: sinks go on, and what they have taken makes room
            self.out.free();
            self.record.wait_until_delivered(&self.out.0);
            self.record.wait_for_acks(10, "when the sinks have made room");
            eater.leave();
        }
        self.record.wait_until_delivered(&self.out.0);
    }
}

fn full_disks(name: &str, dir: &Path) {
    let cycles = number("LEVADA_FULL_DISKS", 4);
    let (began, config) = (Instant::now(), config(dir));
    let out = SinkDisk::mount(dir.join("out"));
    let record = Record::of_large_events(1000);
    let (kills, healed) = std::thread::scope(|scope| {
        let _stop = record.start_producers(scope);
        let mut agent = Agent::start(dir, &config, &[]);
        record.agent_is_at(agent.address());
        let (config, record, kills, healed) = (config.clone(), &record, 0, 0);
        let mut disk = FullDisk { dir, config, out, record, agent, kills, healed };
        for number in 0..cycles {
            disk.cycle(number);
        }
        let (status, log) = disk.agent.stop();
        assert_eq!(status.code(), Some(0), "a clean stop: {log}");
        verify(&dir.join("disk/c"), "after a clean stop");
        (disk.kills, disk.healed)
    });
    assert!(healed > 0 || cycles == 0, "space came from outside");
    let (acknowledged, delivered) = (record.count(), record.deliver_the_rest(dir, &config));
    report(&format!(
        "{name}: {cycles} cycles in {:.1} s ({kills} kills while full, {healed} times space from \
         outside), {acknowledged} acknowledged, {} puts refused, {delivered} delivered, none missing",
        began.elapsed().as_secs_f64(),
        record.refusals.load(Ordering::Relaxed),
    ));
}

#[test]
fn full_disk_refuses_puts_loses_nothing_and_heals() {
    let name = "full_disk_refuses_puts_loses_nothing_and_heals";
    in_own_mounts(name, &["mount"], || {
        let dir = tempfile::tempdir().unwrap();
        mount_tmpfs(&dir.path().join("disk"), 16 << 10);
        full_disks(name, dir.path());
    });
}

#[test]
fn ext4_that_is_full_refuses_puts_loses_nothing_and_heals() {
    let name = "ext4_that_is_full_refuses_puts_loses_nothing_and_heals";
    in_own_mounts(name, &["mount", "mkfs.ext4", "/dev/loop-control"], || {
        let dir = tempfile::tempdir().unwrap();
        mount_ext4(&dir.path().join("disk"), &dir.path().join("image"), 64);
        full_disks(name, dir.path());
    });
}

#[test]
fn sigstop_keeps_the_log_owned_and_loses_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let (dir, began) = (dir.path(), Instant::now());
    let config = config(dir);
    let record = Record::default();
    let acks = || record.acks.load(Ordering::Relaxed);
    std::thread::scope(|scope| {
        let _stop = record.start_producers(scope);
        let mut agent = Agent::start(dir, &config, &[]);
        record.agent_is_at(agent.address());
        for _ in 0..2 {
            record.wait_for_acks(20, "under load");
            agent.signal(rustix::process::Signal::STOP);
            std::thread::sleep(Duration::from_millis(100)); // answers that are on their way
            let before = acks();
            let (status, log) = Agent::start(dir, &config, &[]).wait();
            assert_eq!(status.code(), Some(1), "a second owner is refused: {log}");
            let why = format!("is in use by another process (pid {}): stop it first", agent.pid());
            assert!(log.contains(&why), "{log}");
            std::thread::sleep(Duration::from_millis(500));
            assert_eq!(acks(), before, "who stands still acknowledges nothing");
            agent.signal(rustix::process::Signal::CONT);
            record.wait_for_acks(20, "after SIGCONT");
        }
        let (status, log) = agent.stop();
        assert_eq!(status.code(), Some(0), "a clean stop: {log}");
        verify(&dir.join("disk/c"), "after a clean stop");
    });
    let (acknowledged, delivered) = (record.count(), record.deliver_the_rest(dir, &config));
    assert_eq!(lines_below(&dir.join("out")).len(), delivered, "a pause delivers nothing twice");
    report(&format!(
        "SIGSTOP: 2 pauses in {:.1} s, 2 second owners refused, {acknowledged} acknowledged, \
         {delivered} delivered, none missing",
        began.elapsed().as_secs_f64()
    ));
}

/// A log on a disk that loses what was not synced, and a machine that boots again and again.
struct Machine<'a> {
    dir: &'a Path,
    config: PathBuf,
    fs: LossyFs,
    record: &'a Record,
    random: fastrand::Rng,
}

impl Machine<'_> {
    /// Boots, looks at the log, and mounts the disk. Nothing of the last boot is known by its id.
    fn boot(&self) -> fuser::BackgroundSession {
        std::fs::write(self.dir.join("boot_id"), uuid::Uuid::new_v4().to_string()).unwrap();
        let session = self.fs.mount(&self.dir.join("disk"));
        if self.record.count() > 0 {
            verify(&self.dir.join("disk/c"), "after a power cut");
        }
        session
    }

    /// Runs the agent under load until the power goes: anywhere, or within its start.
    fn run_until_cut(&mut self) -> Lost {
        let session = self.boot();
        // a start makes some 40 calls, a put 3, a new segment 3
        let calls = if self.random.u8(..4) == 0 { 0..60 } else { 0..1500 };
        self.fs.disk().power_goes_after(self.random.u64(calls));
        let mut agent = Agent::start(self.dir, &self.config, &[]);
        match agent.address_or_end() {
            Some(address) => self.record.agent_is_at(address),
            None => assert!(self.fs.disk().is_off(), "it starts: {}", agent.log.join("\n")),
        }
        let deadline = Instant::now() + Duration::from_millis(400);
        while !self.fs.disk().is_off() && Instant::now() < deadline {
            assert!(agent.is_alive() || self.fs.disk().is_off(), "it runs");
            std::thread::sleep(Duration::from_millis(1));
        }
        agent.kill();
        self.record.agent_is_gone();
        unmount(session);
        self.fs.disk().cut()
    }
}

#[test]
fn power_cut_loses_nothing_that_was_acknowledged() {
    let name = "power_cut_loses_nothing_that_was_acknowledged";
    in_own_mounts(name, &["mount", "/dev/fuse"], || {
        let dir = tempfile::tempdir().unwrap();
        let dir = dir.path();
        std::fs::create_dir(dir.join("disk")).unwrap();
        std::fs::write(dir.join("boot_id"), "").unwrap();
        let mut mount = std::process::Command::new("mount");
        run(mount.arg("--bind").arg(dir.join("boot_id")).arg("/proc/sys/kernel/random/boot_id"));
        power_cuts(name, dir);
    });
}

fn power_cuts(name: &str, dir: &Path) {
    let (cuts, seed) = (number("LEVADA_POWER_CUTS", 10), seed());
    println!("reproduce: LEVADA_SEED={seed} LEVADA_POWER_CUTS={cuts} cargo test {name}");
    let (began, config, record) = (Instant::now(), config(dir), Record::of_large_events(1000));
    let (fs, random) = (LossyFs::new(seed), fastrand::Rng::with_seed(seed));
    let mut machine = Machine { dir, config: config.clone(), fs, record: &record, random };
    let mut lost = Lost::default();
    std::thread::scope(|scope| {
        let _stop = record.start_producers(scope);
        for _ in 0..cuts {
            let Lost { pages, torn, names } = machine.run_until_cut();
            lost.pages += pages;
            lost.torn += torn;
            lost.names += names;
        }
    });
    assert!(record.count() > 10 * cuts, "the producers got through: {}", record.count());
    let session = machine.boot();
    let delivered = record.deliver_the_rest(dir, &config);
    unmount(session);
    report(&format!(
        "{name}: {cuts} cuts in {:.1} s, {} pages, {} torn pages, {} names lost; {} acknowledged, \
         {delivered} delivered, none missing",
        began.elapsed().as_secs_f64(),
        lost.pages,
        lost.torn,
        lost.names,
        record.count(),
    ));
}

/// Calls on segments or on the cursor journal, what they say, which one at most, and whether it
/// ends the agent. Those that do not are the making of a segment: puts are refused meanwhile.
const FAILURES: [(bool, &str, &str, u64, bool); 8] = [
    (true, "fdatasync", "EIO", 60, true),
    (true, "fdatasync", "ENOSPC", 60, true),
    (true, "pwritev", "EIO", 60, true),
    (true, "pwritev", "ENOSPC", 60, true),
    (false, "fdatasync", "EIO", 3, true),
    (false, "pwritev", "EIO", 20, true),
    (true, "pwrite64", "ENOSPC", 3, false),
    (true, "fsync", "EIO", 3, false),
];

#[derive(Default, Debug)]
struct Failures {
    runs: usize,
    failed: usize,
    ended: usize,
    acknowledged: usize,
    delivered: usize,
}

#[test]
fn eio_ends_acknowledgement_and_the_agent_and_loses_nothing() {
    let name = "eio_ends_acknowledgement_and_the_agent_and_loses_nothing";
    if let Some(why) = calls::why_not() {
        return skip(name, why);
    }
    let (rounds, seed, began) = (number("LEVADA_CALL_FAILURES", 1), seed(), Instant::now());
    println!("reproduce: LEVADA_SEED={seed} LEVADA_CALL_FAILURES={rounds} cargo test {name}");
    let mut random = fastrand::Rng::with_seed(seed);
    let mut counts = Failures::default();
    for _ in 0..rounds {
        for (segments, call, error, nth_max, ends) in FAILURES {
            let nth = random.u64(1..=nth_max);
            let for_ever = random.bool();
            let failure = Failure { segments, call, error, nth, for_ever };
            println!("{failure:?}");
            call_fails(failure, ends, &mut counts);
        }
    }
    let Failures { runs, failed, ended, acknowledged, delivered } = counts;
    assert!(failed * 2 > runs, "most runs came to the call that fails: {failed} of {runs}");
    report(&format!(
        "failing calls: {failed} in {runs} runs in {:.1} s, {ended} agents ended by them, \
         {acknowledged} acknowledged, {delivered} delivered, none missing",
        began.elapsed().as_secs_f64()
    ));
}

/// One failure under one producer, which waits for each answer; the next start heals it.
fn call_fails(failure: Failure, ends: bool, counts: &mut Failures) {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    let (config, record) = (config(dir), Record::of_large_events(1000));
    if ends {
        // so that the start has something to recover
        let mut agent = Agent::start(dir, &config, &[]);
        put_until_end(&mut agent, &record, "first", 3);
        agent.kill();
    }
    let acks_before = record.acks.load(Ordering::Relaxed);
    let mut agent = calls::start(dir, &config, failure);
    put_until_end(&mut agent, &record, "second", 200);
    let acks = record.acks.load(Ordering::Relaxed) - acks_before;
    // what fails in the delivery, fails a little later
    let deadline = Instant::now() + Duration::from_millis(500);
    while ends && agent.is_alive() && Instant::now() < deadline {
        std::thread::sleep(Duration::from_millis(5));
    }
    let alive = agent.is_alive();
    let (status, log) = if alive { agent.stop() } else { agent.wait() };
    let trace = calls::trace(dir);
    if ends && trace.failed {
        assert_eq!(status.code(), Some(1), "{failure:?}: it ends: {log}");
        let told = ["Input/output error", "No space left on device"];
        assert!(told.iter().any(|text| log.contains(text)), "{failure:?}: it says why: {log}");
        counts.ended += usize::from(!alive);
    } else {
        assert_eq!(status.code(), Some(0), "{failure:?}: it lives: {log}");
    }
    if ends && failure.segments {
        // each put of a lone producer needs a sync of its own
        assert!(acks <= trace.syncs_before, "{failure:?}: {acks} acknowledged, {trace:?}");
        assert!(trace.calls_after.is_empty(), "{failure:?}: nothing is tried again: {trace:?}");
    }
    verify(&dir.join("disk/c"), &format!("after {failure:?}"));
    counts.runs += 1;
    counts.failed += usize::from(trace.failed);
    counts.acknowledged += record.count();
    counts.delivered += record.deliver_the_rest(dir, &config);
}

/// Puts one batch after the other until the agent ends, or so many were answered.
fn put_until_end(agent: &mut Agent, record: &Record, name: &str, puts: usize) {
    let Some(mut producer) = agent.address_or_end().and_then(|at| Producer::connect(at).ok())
    else {
        return;
    };
    for put in 0..puts {
        let ids = (0..20).map(|n| format!("{name}-{put}-{n}")).collect();
        if record.put(&mut producer, ids).is_err() {
            return;
        }
    }
}
