//! Where groups and sinks are, for those who look on.

use super::sink::{Service, SinkCursor};
use super::{Dispatcher, Millis, SinkId};
use crate::cursor::{GroupState, SinkState};
use crate::offset::Offset;

/// A group.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct GroupView {
    /// Its name.
    pub name: String,
    /// The lowest offset that is not done.
    pub watermark: Offset,
    /// Nobody reads for it.
    pub orphan: bool,
    /// In config order.
    pub sinks: Vec<SinkView>,
}

/// A sink.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SinkView {
    /// Which.
    pub id: SinkId,
    /// Its name.
    pub name: String,
    /// What it does.
    pub standing: Standing,
    /// The lowest offset that it owes, or the end of what it was lent.
    pub position: Offset,
    /// Events that are out with it.
    pub leased_events: u64,
    /// Events it has delivered.
    pub delivered_events: u64,
    /// Failures in a row.
    pub failures: u32,
}

/// What a sink does.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Standing {
    /// It may be lent events.
    Open,
    /// It is not open yet, or opening.
    Closed,
    /// It gets nothing for so long, ms.
    BackingOff(u64),
    /// It gets nothing until it is resumed.
    Stopped,
}

impl Dispatcher {
    /// Where everything is at `now`: groups with sinks first.
    pub fn view(&self, now: Millis) -> Vec<GroupView> {
        let view = |state: GroupState, orphan, sinks| GroupView {
            name: state.name,
            watermark: state.watermark,
            orphan,
            sinks,
        };
        let groups = self.groups.iter().map(|group| {
            let state = group.snapshot();
            let sinks = group.sinks.iter().zip(&state.sinks);
            let sinks = sinks.map(|(sink, state)| sink_view(sink, state, now)).collect();
            view(state, false, sinks)
        });
        let orphans = self.orphans.iter().map(|state| view(state.clone(), true, Vec::new()));
        groups.chain(orphans).collect()
    }
}

fn sink_view(sink: &SinkCursor, state: &SinkState, now: Millis) -> SinkView {
    let wait_ms = sink.backing_off.map_or(0, |until| until.0.saturating_sub(now.0));
    SinkView {
        id: sink.id,
        name: state.name.clone(),
        standing: match sink.service {
            _ if sink.stopped => Standing::Stopped,
            _ if wait_ms > 0 => Standing::BackingOff(wait_ms),
            Service::Open => Standing::Open,
            Service::Closed | Service::Opening => Standing::Closed,
        },
        position: state.position,
        leased_events: sink.leased_events(),
        delivered_events: sink.counters.delivered_events,
        failures: sink.failures,
    }
}
