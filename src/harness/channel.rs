//! The whole channel against a model: log, dispatcher and cursors on a simulated disk, driven as the
//! agent drives them, in one thread. Any sequence of puts, deliveries, part deliveries, failures,
//! waits, crashes, faults, restarts and changes of the configuration; at its end everything must
//! have been delivered. A sequence that fails is shrunk and printed as Rust; pasted into
//! `tests::FOUND` it is run every time.
//!
//! The agent's [`Keeper`] is the real one; its loop (`agent/delivery.rs`) and its sinks' tasks
//! (`agent/sink_task.rs`), which need a runtime, are played by [`life`](self::life) and
//! [`sinks`](self::sinks).

mod life;
mod model;
mod ops;
mod sinks;

use self::life::Life;
use self::model::Truth;
use self::ops::{Answer, Op, Setup, Trace, dispatch_options};
use super::world::World;
use super::{batch, record, run_trace};
use crate::agent::Keeper;
use crate::channel::cursors;
use crate::channel::log::{ChannelOptions, LogChannel};
use crate::dispatch::{Action, DispatchOptions};
use crate::log::{Durability, LogError};
use crate::sim::{Cut, End, Plan};
use byteorder::{ByteOrder, LE};
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

/// quickcheck's size of a trace.
const TRACE_SIZE: usize = 80;

/// Segments have 64 KiB: as many of these records fill one.
const ROLL: [usize; 4] = [12_000; 4];

/// Rounds in which a channel without trouble has delivered everything.
const ROUNDS_MAX: usize = 2_000;

/// Cursors that were given to be saved.
struct Save {
    bytes: Vec<u8>,
    /// What was known then, by group.
    truths: Vec<Truth>,
    /// What the room counts as released.
    released: u64,
}

/// A channel and what it must be like, under way.
struct Machine {
    world: World,
    setup: Setup,
    options: DispatchOptions,
    life: Option<Life>,
    /// By group.
    truths: Vec<Truth>,
    /// Every save that a restart may find; the first is "none", or what was found.
    saves: Vec<Save>,
    /// Of these, the last that was saved, and that was synced.
    kept: usize,
    synced: usize,
    /// Numbers of acknowledged events that no legal loss excuses.
    must: BTreeSet<u64>,
    /// Numbers of events that a sink took, by group.
    arrived: Vec<BTreeSet<u64>>,
    /// Whether the sinks are those of the beginning.
    same_sinks: bool,
    /// How the machine ends when it stops by itself.
    next_end: Option<u16>,
}

impl Machine {
    fn new(setup: Setup) -> Machine {
        let mut world = World::new(1);
        world.capacity_events = setup.capacity_events;
        world.durability = setup.level.durability();
        let truths = vec![Truth::default(); setup.groups];
        let none = Save { bytes: Vec::new(), truths: truths.clone(), released: 0 };
        let mut machine = Machine {
            world,
            setup,
            options: dispatch_options(setup.groups, setup.sinks),
            life: None,
            truths,
            saves: vec![none],
            kept: 0,
            synced: 0,
            must: BTreeSet::new(),
            arrived: vec![BTreeSet::new(); setup.groups],
            same_sinks: true,
            next_end: None,
        };
        machine.open();
        machine
    }

    /// Opens until it succeeds: a fault or a crash may be in the way.
    fn open(&mut self) {
        let mut tries = 0;
        while !self.try_open() {
            tries += 1;
            assert!(tries < 3, "nothing is in the way any more");
            self.world.sim.set_full(false);
            self.restart();
        }
    }

    fn try_open(&mut self) -> bool {
        let before = self.world.records.clone();
        let Some((log, opened, looked)) = self.world.open_records() else { return false };
        let seen = before.range(self.world.reclaimed..);
        for (_, record) in seen.filter(|(at, _)| !self.world.records.contains_key(at)) {
            self.must.remove(&number_of(record)); // that this is legal was just checked
        }
        let found = opened.cursors.unwrap_or_default();
        let found = self.saves.iter().rposition(|save| save.bytes == found);
        let found = found.expect("cursors that were never saved are found");
        let least = if self.world.unsynced_lost { self.synced } else { self.kept };
        assert!(found >= least, "cursors went back from save {least} to {found}");
        self.world.unsynced_lost &= !looked;
        let save = self.saves.swap_remove(found);
        self.truths.clone_from(&save.truths);
        let states = match &save.bytes[..] {
            [] => Vec::new(),
            bytes => cursors::decode(bytes).expect("they were encoded"),
        };
        (self.saves, self.kept, self.synced) = (vec![save], 0, 0); // opening makes it durable
        let tail = log.tails().tail;
        for state in &states {
            assert!(
                state.end() <= tail,
                "the cursors know {}, the log ends at {tail}",
                state.end()
            );
        }
        let dir = Some("simulated".into());
        let log_options = self.world.options();
        let options = ChannelOptions { dir, ..ChannelOptions::of_log("c", log_options) };
        let channel = LogChannel::over(options, log);
        let keeper = Keeper::new(Arc::clone(&channel), &self.options, &states);
        self.life = Some(Life::new(channel, keeper, &self.options, &states));
        let tail = self.life().keeper.tail();
        self.act(vec![Action::Timer, Action::Tail(tail)]);
        true
    }

    /// The process dies, or the machine.
    fn restart(&mut self) {
        match self.next_end.take() {
            None => self.world.restart(End::Kill),
            Some(seed) => {
                self.world.unsynced_lost = true;
                self.world.sim = self.world.sim.power_cut(Cut::Seeded(seed.into()));
            }
        }
        self.life = None; // what it still writes goes to a disk that is no more
    }

    fn die(&mut self, power_cut: Option<u16>) {
        self.next_end = power_cut;
        self.restart();
        self.open();
    }

    fn life(&mut self) -> &mut Life {
        self.life.as_mut().expect("open between the steps")
    }

    fn step(&mut self, op: Op) {
        match op {
            Op::Put { batches, records, len } => {
                self.put(&vec![vec![len.into(); records.max(1).into()]; batches.into()]);
            }
            Op::Roll => self.put(&[ROLL.to_vec()]),
            Op::Serve { sink, answer, late } => self.serve(sink.into(), answer, late),
            Op::Hang { sink } => {
                let runners = &mut self.life().runners;
                let sink = usize::from(sink) % runners.len();
                let answers = runners[sink].replace();
                self.life().answers.extend(answers);
            }
            Op::Wait { ms } => self.wait(ms.into()),
            Op::SyncCursors => self.sync_cursors(),
            Op::SyncLog => {
                let channel = Arc::clone(&self.life().channel);
                let synced = channel.log().sync();
                assert!(synced.is_ok() || self.world.excused(), "{synced:?}");
            }
            Op::Restart { hurry } => self.stop(hurry, self.setup),
            Op::Reconfigure { sinks, level, capacity_events } => {
                self.stop(false, Setup { sinks, level, capacity_events, ..self.setup });
            }
            Op::Kill => self.die(None),
            Op::PowerCut { seed } => self.die(Some(seed)),
            Op::CrashIn { calls, power_cut } => {
                self.world.sim.crash_after(calls.into());
                self.next_end = power_cut;
            }
            Op::Fault { calls, for_ever, reads } => {
                let at = self.world.sim.call_count() + usize::from(calls);
                if reads {
                    self.world.sim.count_reads();
                }
                self.world.sim.fail(Some(Plan { for_ever, ..Plan::once(at) }));
            }
            Op::Full { on } => self.world.sim.set_full(on),
        }
        self.look_after_failure();
        self.check();
    }

    /// What has failed ends; the agent is started again.
    fn look_after_failure(&mut self) {
        let life = self.life.as_ref().expect("open between the steps");
        let failed = life.failed || life.channel.log().poisoned().is_some();
        if failed || self.world.sim.crashed() {
            assert!(self.world.excused(), "a channel fails and nothing is wrong");
            let crashed = self.world.sim.crashed();
            self.next_end = self.next_end.filter(|_| crashed);
            self.restart();
            self.open();
        }
    }

    fn released(&self) -> u64 {
        self.saves[self.kept].released
    }

    fn put(&mut self, puts: &[Vec<usize>]) {
        let (channel, released) = (Arc::clone(&self.life().channel), self.released());
        let log = channel.log();
        let mut waiting = log.tails().tail.0.saturating_sub(released);
        let room = self.world.capacity_events;
        let fitting = puts.iter().take_while(|put| {
            let fits = waiting == 0 || waiting.saturating_add(put.len() as u64) <= room;
            waiting += put.len() as u64;
            fits
        });
        let fitting = fitting.count();
        let before = self.world.end();
        self.world.put(log, &puts[..fitting]);
        let new = self.world.records.range(before..).map(|(_, record)| number_of(record));
        self.must.extend(new);
        if let Some(put) = puts.get(fitting)
            && !self.world.excused()
        {
            let records: Vec<_> = put.iter().map(|len| record(0, *len)).collect();
            let refused = log.put_within(batch(&records), Some(Duration::ZERO));
            assert!(matches!(refused, Err(LogError::Full { .. })), "{refused:?}");
        }
        let tail = self.life().keeper.tail();
        self.act(vec![Action::Tail(tail)]);
    }

    /// A sink does one thing; unless it is late, the dispatcher hears all there is to hear.
    fn serve(&mut self, sink: usize, answer: Answer, late: bool) {
        let sink = sink % self.life().runners.len();
        self.check_order(sink);
        let runner = &mut self.life().runners[sink];
        let group = runner.group;
        let done = runner.work(answer);
        self.arrived[group].extend(done.arrived.iter().map(|record| number_of(record)));
        self.life().answers.extend(done.answer);
        if !late {
            let answers = std::mem::take(&mut self.life().answers);
            self.act(answers.into());
        }
    }

    fn wait(&mut self, ms: u64) {
        let life = self.life();
        life.now += ms;
        if life.wake_at.take_if(|at| *at <= life.now).is_some() {
            self.act(vec![Action::Timer]);
        }
    }

    /// Stops as the agent does, and starts with another setup.
    fn stop(&mut self, hurry: bool, setup: Setup) {
        self.act(vec![Action::Stop]);
        if hurry {
            let leases = self.life().keeper.dispatcher.leases();
            self.life().answers.clear(); // nobody listens any more
            self.act(leases.into_iter().map(|lease| Action::Abandon { lease }).collect());
        } else {
            self.deliver_all(|life| life.stopped);
        }
        assert!(self.life().stopped, "a stop comes to its end");
        assert!(self.life().out.is_empty(), "a stop leaves no lease unanswered");
        self.save();
        self.sync_cursors();
        let channel = Arc::clone(&self.life().channel);
        let closed = if self.life().failed { Ok(()) } else { channel.log().close() };
        assert!(closed.is_ok() || self.world.excused(), "{closed:?}");
        let died = self.life().failed || closed.is_err() || self.world.sim.crashed();
        if setup != self.setup {
            self.world.weak |= self.world.durability != Durability::Always;
            self.world.durability = setup.level.durability();
            self.world.capacity_events = setup.capacity_events;
            self.same_sinks &= setup.sinks == self.setup.sinks;
            self.setup = setup;
            self.options = dispatch_options(setup.groups, setup.sinks);
        }
        if died {
            self.restart();
        } else {
            self.life = None;
        }
        drop(channel);
        self.open();
    }

    /// Every sink does what it has, and succeeds, until all is as wanted or nobody has anything.
    fn deliver_all(&mut self, wanted: impl Fn(&Life) -> bool) {
        for _ in 0..ROUNDS_MAX {
            let life = self.life();
            let answered = life.answers.is_empty();
            if wanted(life) && answered {
                return;
            }
            let idle = answered && life.runners.iter().all(|runner| runner.queue.is_empty());
            if idle {
                let Some(at) = life.wake_at else { return };
                let ms = at.saturating_sub(life.now);
                self.wait(ms);
            }
            for sink in 0..self.life().runners.len() {
                self.serve(sink, Answer::Ack, false);
            }
        }
    }

    /// In peace, everything is delivered, once.
    fn finish(&mut self) {
        self.world.sim.set_full(false);
        self.die(None);
        self.deliver_all(Life::is_drained);
        self.check();
        assert!(self.life().is_drained(), "nobody has anything to do, and events wait");
        for (group, arrived) in self.arrived.iter().enumerate() {
            let missing = self.must.difference(arrived).next();
            assert_eq!(missing, None, "an acknowledged event never reached group {group}");
        }
        self.stop(false, self.setup);
        self.check();
        let life = self.life();
        assert!(life.is_drained() && life.out.is_empty(), "what is delivered stays delivered");
    }

    fn check(&mut self) {
        let life = self.life.as_ref().expect("open between the steps");
        let tail = life.keeper.tail();
        let states = life.keeper.dispatcher.snapshot();
        for (state, truth) in states.iter().zip(&self.truths) {
            truth.check(state, tail, self.same_sinks);
        }
        let log = life.channel.log();
        let waiting = log.tails().tail.0.saturating_sub(self.released());
        assert_eq!(log.usage().events, waiting, "the room counts what waits");
        let (released, first) = (self.saves[self.synced].released, log.reader().first_offset());
        let gone = self.world.records.range(released..first.0.max(released)).next();
        assert_eq!(gone, None, "{first} is the first, and {released} is durably done");
    }
}

/// The number of a record of [`record`].
fn number_of(record: &[u8]) -> u64 {
    LE::read_u64(record)
}

fn run(setup: Setup, ops: &[Op]) {
    let mut machine = Machine::new(setup);
    ops.iter().for_each(|op| machine.step(*op));
    machine.finish();
}

fn holds(Trace(setup, ops): Trace) -> bool {
    run(setup, &ops);
    true
}

/// Runs the trace of `seed`; panics with the shortest trace that fails as it does.
pub fn run_seed(seed: u64) {
    run_trace(holds, TRACE_SIZE, seed);
}

#[cfg(test)]
mod tests {
    use super::super::machine::Level::Os;
    use super::Answer::Ack;
    use super::Op::{CrashIn, PowerCut, Put, Serve, SyncCursors};
    use super::*;

    #[test]
    fn channel_delivers_every_acknowledged_event_whatever_happens() {
        crate::harness::tests::each_seed("LEVADA_CHANNEL_RUNS", 500, run_seed);
    }

    /// Traces that failed once.
    const FOUND: &[(Setup, &[Op])] = &[
        // A lease was saved before its events counted as seen. The power cut took them and left the
        // cursors; the log gave their offsets to new events, the dispatcher lent what was not there,
        // the sink was done with an empty batch, and the new events were taken for delivered.
        (
            Setup { level: Os, capacity_events: 7, groups: 1, sinks: 3, sync_each: false },
            &[
                CrashIn { calls: 8, power_cut: Some(45808) },
                Put { batches: 1, records: 1, len: 0 },
                Serve { sink: 0, answer: Ack, late: false },
                SyncCursors,
                Put { batches: 1, records: 1, len: 0 },
            ],
        ),
        // The same to its end: acknowledged after the power cut, the second event was lost.
        (
            Setup { level: Os, capacity_events: 30, groups: 1, sinks: 2, sync_each: true },
            &[
                Serve { sink: 0, answer: Ack, late: false },
                Put { batches: 1, records: 1, len: 0 },
                PowerCut { seed: 0 },
                Serve { sink: 3, answer: Ack, late: false },
                Put { batches: 1, records: 1, len: 0 },
                Serve { sink: 255, answer: Ack, late: false },
            ],
        ),
    ];

    #[test]
    fn traces_that_failed_once_pass() {
        FOUND.iter().for_each(|(setup, ops)| run(*setup, ops));
    }
}
