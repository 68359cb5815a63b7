//! Log → sinks: who gets which events, and what a failure does. A state machine without I/O.
//!
//! [`Dispatcher::apply`] takes one [`Action`] and the time, does the specific thing, then puts
//! everything in order (`maintain`) and returns the [`Command`]s that follow. Whoever runs it reads
//! the log, drives the sinks, keeps the timer and stores [`Dispatcher::snapshot`]; here is no file,
//! socket, thread or clock, so a test is a list of actions and the commands they must produce.
//!
//! **What runs a sink** gets its commands over one first-in-first-out queue, works on one lease at
//! a time, and answers each lease exactly once:
//!
//! - [`Command::Open`]: opens the sink; answers [`Action::SinkReady`] or [`Action::SinkDown`].
//! - [`Command::Deliver`]: delivers; answers [`Action::Delivered`] or [`Action::Failed`]. What the
//!   log cannot give is told first, by [`Action::Damaged`]; the lease is answered all the same.
//! - After its own `Failed` or `SinkDown` it begins nothing until [`Command::Recall`] comes along
//!   the queue, one for each of them: it answers every `Deliver` with [`Action::Returned`] and passes
//!   over an `Open`. (So it counts: up with each failure it tells, down with each `Recall`.)
//! - One that takes the place of a task that is gone keeps the queue and the count. It says
//!   `SinkDown`, then [`Action::Abandon`] for the lease that task was at, and goes on as above.
//!
//! The dispatcher sends `Recall` when it learns of the failure, behind whatever it had sent before,
//! and lends the sink nothing until all it had out is answered. So a lease that was on its way
//! when the one before it failed comes back untouched, and the sink's order holds.

mod answers;
mod balancer;
mod burials;
mod conservation;
mod dispatcher;
mod failure;
mod group;
mod lending;
mod restore;
mod sink;
mod view;
mod waiting;

#[cfg(test)]
mod model;
#[cfg(test)]
mod tests;

pub use balancer::{Balance, Balancer, SinkLoad, Speed};
pub use conservation::Conservation;
pub use dispatcher::{Dispatcher, NameTaken};
pub use failure::{
    Backoff, Decision, Exhausted, FailedDelivery, FailurePolicy, Jitter, Order, Policy,
};
pub use view::{GroupView, SinkView, Standing};

pub use crate::fate::{Cause, Grave};
use crate::offset::{Offset, OffsetRange};
use crate::sink::Failure;

/// A group with this many acked ranges above its watermark is lent nothing new until the lowest
/// offsets come in: a cursor stays small whatever the sinks do.
pub const ACKED_RANGES_MAX: usize = if cfg!(test) { 64 } else { 4_096 };

/// Milliseconds since any fixed moment; never goes back (an earlier time counts as the latest).
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Millis(pub u64);

impl Millis {
    /// The time `ms` later.
    pub const fn plus(self, ms: u64) -> Millis {
        Millis(self.0.saturating_add(ms))
    }
}

/// A sink of the channel: its place in [`DispatchOptions`], counted through all groups from 0.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct SinkId(pub usize);

/// A lease, numbered in the order of lending, from 0 at each start.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct LeaseId(pub u64);

/// What is taken out of a group's way, numbered from 0 at each start.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct BurialId(pub u64);

/// What a channel's dispatcher is built from.
#[derive(Clone, Default, PartialEq, Eq, Debug)]
pub struct DispatchOptions {
    /// The consumer groups; each sees every event.
    pub groups: Vec<GroupOptions>,
    /// Where the jitter of the back-off begins.
    pub seed: u64,
}

/// Sinks that compete for events.
#[derive(Clone, Default, PartialEq, Eq, Debug)]
pub struct GroupOptions {
    /// Unique in the channel; the group's cursor is found by it.
    pub name: String,
    /// Who gets the next batch.
    pub balance: Balance,
    /// In config order.
    pub sinks: Vec<SinkOptions>,
    /// Where it begins if it has no cursor yet.
    pub start: Start,
    /// It ends here: nothing at or above is lent, and [`Command::Ended`] comes when all below is
    /// done. `None`: it goes on for ever.
    pub end: Option<Offset>,
    /// After an outage new events go out first, and what had piled up follows as the sinks' rate
    /// allows. Not for a group whose sinks keep their order.
    pub fresh_first: bool,
    /// What becomes of events that are too old.
    pub expired: Expired,
}

/// Where a group without a cursor begins.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub enum Start {
    /// With the oldest event that is kept.
    #[default]
    Oldest,
    /// With what comes after its first start.
    Tail,
    /// At an offset, or the first that is kept above it.
    At(Offset),
}

/// What becomes of events that are too old.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub enum Expired {
    /// They are passed and listed.
    #[default]
    Pass,
    /// They go to the dead letters.
    DeadLetter,
}

/// One sink, as the dispatcher wants to know it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SinkOptions {
    /// Unique in the group; the sink's cursor is found by it.
    pub name: String,
    /// The most events in a lease; 0 counts as 1.
    pub batch_events_max: u32,
    /// The most leases out; 0 counts as 1.
    pub queue_size: u32,
    /// What a failure does.
    pub policy: Policy,
    /// How long the sink, and what it failed, wait.
    pub backoff: Backoff,
    /// No more events are lent to it than this, a batch aside (`targetQueueSize`); 0: no bound.
    pub target_events: u64,
    /// The greater, the sooner (`failover`).
    pub priority: i32,
    /// What it may take in a second.
    pub rate: Rate,
}

/// What a sink may take in a second; 0: no limit.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub struct Rate {
    /// Events.
    pub events: u64,
    /// Bytes of records; told by [`Action::Read`], and so paid afterwards.
    pub bytes: u64,
}

impl SinkOptions {
    /// A sink with the defaults: batches of 100, a queue of 2, requeue.
    pub fn named(name: impl Into<String>) -> SinkOptions {
        SinkOptions {
            name: name.into(),
            batch_events_max: 100,
            queue_size: 2,
            policy: Policy::default(),
            backoff: Backoff::default(),
            target_events: 0,
            priority: 0,
            rate: Rate::default(),
        }
    }
}

/// What happened.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Action {
    /// Every offset below can be read.
    Tail(Offset),
    /// The sink is open.
    SinkReady(SinkId),
    /// The sink could not open, or had to be closed: it gets nothing before it is ready again.
    SinkDown {
        /// Which.
        sink: SinkId,
        /// Where, what, what to do.
        reason: String,
    },
    /// Every event of the lease arrived (but those told as damaged).
    Delivered {
        /// Which; an answer for a lease that is not out changes nothing.
        lease: LeaseId,
    },
    /// Some or all events of the lease did not arrive.
    Failed {
        /// Which; an answer for a lease that is not out changes nothing.
        lease: LeaseId,
        /// Which events, and why. One that names no event of the lease stands for all of them:
        /// rather twice than never.
        failure: Failure,
    },
    /// The sink never saw the lease: this is no attempt.
    Returned {
        /// Which; an answer for a lease that is not out changes nothing.
        lease: LeaseId,
    },
    /// Nobody will answer for the lease any more: the sink's task is gone (say `SinkDown` first), or
    /// the time limit of a stop is over. The lease counts as an attempt, and its events as failed.
    Abandon {
        /// Which; a lease that is not out changes nothing.
        lease: LeaseId,
    },
    /// The log cannot give these. In every group they are passed and counted as lost; what lies at
    /// or above the tail is ignored.
    Damaged(OffsetRange),
    /// So many bytes of records were read for the lease.
    Read {
        /// Which; a lease that is not out changes nothing.
        lease: LeaseId,
        /// Bytes of its records.
        bytes: u64,
    },
    /// What was to be taken out of the way is recorded, durably: the cursor may pass it.
    Buried(BurialId),
    /// It can't be recorded (the dead-letter log is full): it stays in the group, the sink that
    /// failed it gets nothing, and after that sink's back-off it is asked for again.
    NotBuried {
        /// Which.
        burial: BurialId,
        /// Where, what, what to do.
        reason: String,
    },
    /// A part of a burial that is recorded, durably, before the rest was or could not be.
    Letters {
        /// Whose; one that is not there changes nothing.
        group: String,
        /// What they are.
        grave: Grave,
        /// Which; what is done already is ignored.
        range: OffsetRange,
    },
    /// Everything below is too old for the group; what is leased now may still be delivered.
    Expire {
        /// Whose; one that is not there changes nothing.
        group: String,
        /// The first offset that is not too old.
        below: Offset,
    },
    /// The group goes on at another offset, back or ahead: what is leased comes back as it may, and
    /// counts begin anew. Bounded by what the log has.
    Rewind {
        /// Whose; one that is not there changes nothing.
        group: String,
        /// The first offset that is to be delivered.
        to: Offset,
    },
    /// A stopped sink is used again.
    Resume(SinkId),
    /// The time of [`Command::WakeAt`] came; also the first action, when there is no other.
    Timer,
    /// Nothing more is lent; leases that are out may finish.
    Stop,
}

/// What to do now, in this order.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Command {
    /// The snapshot changed: store it. It stands before the deliveries, so that a snapshot written
    /// at once names a lease before its sink works on it (a batch that kills the process shows in
    /// its attempts); writing later, and once for many, loses no event.
    Save,
    /// Open the sink.
    Open {
        /// Which.
        sink: SinkId,
    },
    /// Deliver these events.
    Deliver {
        /// To whom.
        sink: SinkId,
        /// To be named in the answer.
        lease: LeaseId,
        /// What; never empty.
        range: OffsetRange,
        /// 1 for the first delivery.
        attempt: u32,
    },
    /// Record that these events are given up or set aside, durably; then answer
    /// [`Action::Buried`], or [`Action::NotBuried`].
    Bury(Burial),
    /// A group with an end has done all below it.
    Ended {
        /// Which.
        group: String,
    },
    /// The sink's failure is known here: it may work on what comes after this.
    Recall {
        /// Which.
        sink: SinkId,
    },
    /// Apply [`Action::Timer`] at this time; replaces the time given before.
    WakeAt(Millis),
    /// Something a log line should say; one for each change of state, with counts.
    Notice(Notice),
    /// After [`Action::Stop`]: no lease is out any more.
    Stopped,
}

/// Events to be taken out of a group's way.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Burial {
    /// To be named in the answer.
    pub id: BurialId,
    /// Whose.
    pub group: String,
    /// Which sink failed them last; `None` if they were never lent.
    pub sink: Option<SinkId>,
    /// Which; never empty.
    pub range: OffsetRange,
    /// What becomes of them.
    pub grave: Grave,
    /// Deliveries begun.
    pub attempts: u32,
    /// What kind of failure was the last; `None` for what expired.
    pub cause: Option<Cause>,
    /// What the sink said.
    pub reason: String,
}

/// A change of state worth a line.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Notice {
    /// The sink opened.
    SinkReady {
        /// Which.
        sink: SinkId,
        /// How often it failed in a row before.
        failures: u32,
    },
    /// The sink failed after it had worked; further failures are only counted.
    SinkFailing {
        /// Which.
        sink: SinkId,
        /// What it said.
        reason: String,
        /// Events that did not arrive.
        events: u64,
        /// It gets nothing for so long, ms.
        wait_ms: u64,
    },
    /// The sink delivered after it had failed.
    SinkRecovered {
        /// Which.
        sink: SinkId,
        /// How often it had failed in a row.
        failures: u32,
        /// Events of those failures, each failure counted.
        events: u64,
    },
    /// The sink's attempts are used up: it gets nothing until it is told to go on; its cursor stays.
    SinkStopped {
        /// Which.
        sink: SinkId,
        /// What it said last.
        reason: String,
        /// The first event that it could not deliver.
        offset: Offset,
    },
    /// Events are out of the way.
    Buried {
        /// Of which group.
        group: String,
        /// Which sink failed them.
        sink: Option<SinkId>,
        /// Which.
        range: OffsetRange,
        /// What became of them.
        grave: Grave,
        /// Why.
        reason: String,
    },
    /// Events that the log could not give were passed.
    Lost {
        /// In which group.
        group: String,
        /// Where they lie.
        range: OffsetRange,
        /// How many of the range.
        events: u64,
    },
    /// The group reached [`ACKED_RANGES_MAX`]: it is lent nothing new until the watermark rises.
    Crowded {
        /// Which.
        group: String,
        /// The lowest offset that is awaited.
        watermark: Offset,
    },
}
