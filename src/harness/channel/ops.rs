//! What is done with a channel, drawn and shrunk by quickcheck.

use super::super::machine::Level;
use crate::dispatch::{
    Backoff, Balance, DispatchOptions, FailurePolicy, GroupOptions, SinkOptions,
};
use quickcheck::{Arbitrary, Gen};

/// What a sink makes of a batch.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Answer {
    /// Every event arrived; a sink that is to open does.
    Ack,
    /// The events whose bit is set (by place, modulo 8) did not arrive.
    Part { failed: u8 },
    /// Nothing arrived; a sink that is to open does not. `retryable`: trying again can help.
    Fail { retryable: bool },
}
use Answer::{Ack, Fail, Part};

/// One step. Numbers are taken modulo what there is, so that a shrunk trace still means something.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Op {
    /// So many batches in one group, of so many records of this length.
    Put { batches: u8, records: u8, len: u16 },
    /// Records that fill a segment.
    Roll,
    /// A sink does what is first in its queue. `late`: the dispatcher hears of it later.
    Serve { sink: u8, answer: Answer, late: bool },
    /// A sink's task hangs and is replaced.
    Hang { sink: u8 },
    /// Time passes.
    Wait { ms: u16 },
    /// Saved cursors are made durable, and what they are done with is given back.
    SyncCursors,
    /// What was put at `interval` or `os` is made durable.
    SyncLog,
    /// Stops and starts; in a hurry, what is lent is not waited for.
    Restart { hurry: bool },
    /// As a restart, with other sinks, another durability and another capacity.
    Reconfigure { sinks: u8, level: Level, capacity_events: u64 },
    /// The process dies.
    Kill,
    /// The machine dies.
    PowerCut { seed: u16 },
    /// After so many calls more the process dies, or the machine.
    CrashIn { calls: u8, power_cut: Option<u16> },
    /// After so many calls more one fails, or all do.
    Fault { calls: u8, for_ever: bool, reads: bool },
    /// Whether the disk is full.
    Full { on: bool },
}
use Op::{
    CrashIn, Fault, Full, Hang, Kill, PowerCut, Put, Reconfigure, Restart, Roll, Serve,
    SyncCursors, SyncLog, Wait,
};

fn capacity(g: &mut Gen) -> u64 {
    *g.choose(&[u64::MAX, u64::MAX, 1, 7, 30]).expect("there are some")
}

impl Arbitrary for Answer {
    fn arbitrary(g: &mut Gen) -> Answer {
        match u8::arbitrary(g) % 8 {
            0 => Part { failed: u8::arbitrary(g) },
            1 => Fail { retryable: bool::arbitrary(g) },
            _ => Ack,
        }
    }
}

impl Arbitrary for Op {
    fn arbitrary(g: &mut Gen) -> Op {
        let (a, b) = (u8::arbitrary(g), u8::arbitrary(g));
        let wide = u16::arbitrary(g);
        match u8::arbitrary(g) % 64 {
            0..=14 => {
                let len = if a < 30 { wide % 13_000 } else { wide % 700 };
                Put { batches: 1 + a % 3, records: 1 + b % 4, len }
            }
            15 => Roll,
            16..=38 => Serve { sink: a, answer: Answer::arbitrary(g), late: b < 60 },
            39 => Hang { sink: a },
            40..=43 => Wait { ms: wide % 1_500 },
            44..=47 => SyncCursors,
            48 => SyncLog,
            49 | 50 => Restart { hurry: a < 100 },
            51 => {
                let level = Level::arbitrary(g);
                Reconfigure { sinks: a % 8, level, capacity_events: capacity(g) }
            }
            52 | 53 => Kill,
            54..=56 => PowerCut { seed: wide },
            57..=59 => CrashIn { calls: a % 40, power_cut: (b < 180).then_some(wide) },
            60 | 61 => Fault { calls: a % 40, for_ever: b < 60, reads: b % 4 == 0 },
            _ => Full { on: a < 100 },
        }
    }

    fn shrink(&self) -> Box<dyn Iterator<Item = Op>> {
        match *self {
            Put { batches, records, len } => {
                let less = (batches, records, len).shrink();
                let less = less.filter(|(_, records, _)| *records > 0);
                Box::new(less.map(|(batches, records, len)| Put { batches, records, len }))
            }
            Serve { sink, answer, late } => {
                let sinks = sink.shrink().map(move |sink| Serve { sink, answer, late });
                let plain = (answer != Ack).then_some(Serve { sink, answer: Ack, late });
                let now = late.then_some(Serve { sink, answer, late: false });
                Box::new(plain.into_iter().chain(now).chain(sinks))
            }
            PowerCut { seed } => {
                Box::new(std::iter::once(Kill).chain(seed.shrink().map(|seed| PowerCut { seed })))
            }
            CrashIn { calls, power_cut } => {
                let at_once = [power_cut.map_or(Kill, |seed| PowerCut { seed })];
                let less = calls.shrink().map(move |calls| CrashIn { calls, power_cut });
                Box::new(at_once.into_iter().chain(less))
            }
            Fault { calls, for_ever, reads } => {
                Box::new(calls.shrink().map(move |calls| Fault { calls, for_ever, reads }))
            }
            Wait { ms } => Box::new(ms.shrink().map(|ms| Wait { ms })),
            Reconfigure { .. } => Box::new(std::iter::once(Restart { hurry: false })),
            _ => Box::new(std::iter::empty()),
        }
    }
}

/// The channel that a trace begins with.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Setup {
    pub(super) level: Level,
    pub(super) capacity_events: u64,
    /// Consumer groups, 1 or 2: as many for the whole trace.
    pub(super) groups: usize,
    /// Which sinks; see [`dispatch_options`].
    pub(super) sinks: u8,
    /// Whether cursors are synced with each save.
    pub(super) sync_each: bool,
}

impl Arbitrary for Setup {
    fn arbitrary(g: &mut Gen) -> Setup {
        Setup {
            level: Level::arbitrary(g),
            capacity_events: capacity(g),
            groups: *g.choose(&[1, 1, 2]).expect("there are some"),
            sinks: u8::arbitrary(g) % 8,
            sync_each: u8::arbitrary(g) < 64,
        }
    }
}

/// What is done with which channel. Its debug form is Rust.
#[derive(Clone)]
pub(super) struct Trace(pub(super) Setup, pub(super) Vec<Op>);

impl std::fmt::Debug for Trace {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Trace(setup, ops) = self;
        write!(f, "({setup:?}, &{ops:?})")
    }
}

impl Arbitrary for Trace {
    fn arbitrary(g: &mut Gen) -> Trace {
        Trace(Setup::arbitrary(g), Vec::arbitrary(g))
    }

    fn shrink(&self) -> Box<dyn Iterator<Item = Trace>> {
        let Trace(setup, ops) = self.clone();
        let one = (setup.groups > 1).then(|| Trace(Setup { groups: 1, ..setup }, ops.clone()));
        Box::new(one.into_iter().chain(ops.shrink().map(move |ops| Trace(setup, ops))))
    }
}

/// The sinks of a channel: 0, 1, 2 … of each policy alone, or mixed. A new policy gets its line here,
/// and its place in `model::fate_of`.
pub(super) fn dispatch_options(groups: usize, sinks: u8) -> DispatchOptions {
    use FailurePolicy::{Requeue, RetryAndResume};
    const SINKS: [&[FailurePolicy]; 8] = [
        &[Requeue],
        &[RetryAndResume],
        &[Requeue, Requeue],
        &[RetryAndResume, RetryAndResume],
        &[RetryAndResume, Requeue],
        &[Requeue, Requeue, Requeue],
        &[RetryAndResume, Requeue, RetryAndResume],
        &[RetryAndResume, RetryAndResume, RetryAndResume],
    ];
    let sink = |(index, &policy): (usize, &FailurePolicy)| SinkOptions {
        batch_events_max: 3 + index as u32 * 4,
        queue_size: 1 + u32::from(sinks) % 3,
        policy: policy.into(),
        backoff: Backoff { first_ms: 100, max_ms: 1_000 },
        ..SinkOptions::named(format!("k{index}"))
    };
    let group = |index: usize| GroupOptions {
        name: format!("g{index}"),
        balance: Balance::RoundRobin,
        sinks: SINKS[(usize::from(sinks) + index) % 8].iter().enumerate().map(sink).collect(),
        ..GroupOptions::default()
    };
    DispatchOptions { groups: (0..groups).map(group).collect(), seed: sinks.into() }
}
