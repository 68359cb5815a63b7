//! What clients of the control socket ask of a delivery, between two of its actions.

use super::Work;
use super::letters::Fate;
use super::replay::ReplayOrder;
use crate::agent::control::Order;
use crate::channel::dead::{LetterFilter, Place};
use crate::control::{Answer, GroupRow, Request, SinkRow};
use crate::dispatch::{Action, SinkView, Standing};
use crate::offset::Offset;
use std::time::Duration;
use tokio::time::Instant;

/// How often clients are told how far it is.
const PROGRESS_EVERY: Duration = Duration::from_millis(500);

impl Work {
    /// Does what is asked, or begins it.
    pub(super) fn order(&mut self, order: Order) {
        let Order { request, reply } = order;
        if self.ending.is_some() {
            return reply.end(Err("the agent is stopping".to_owned()));
        }
        let done = match request {
            Request::Redrive { filter, max_redrives, dry_run } => {
                let fate = Fate::Redrive { max_redrives, dry_run };
                return self.begin_letters(fate, filter, reply);
            }
            Request::Purge { filter, losses } => {
                let meant = if losses { LetterFilter::losses() } else { LetterFilter::dead() };
                let filter = LetterFilter { graves: meant.graves, ..filter };
                return self.begin_letters(Fate::Purge, filter, reply);
            }
            Request::Replay { from, to, headers, sink, rate_events } => {
                let order = ReplayOrder { from, to, headers, sink, rate_events };
                return self.begin_replay(order, reply);
            }
            Request::Rewind { group, to } => self.rewind(group, to),
            Request::DropGroup { name } => self.drop_group(name),
            Request::Resume { sink } => self.resume(sink),
            Request::Groups => Ok(self.groups()),
        };
        reply.end(done);
    }

    /// The offset of a place in the log.
    pub(super) fn offset_of(&self, place: Place) -> Result<Offset, String> {
        let reader = self.channel.log().reader();
        let (first, tail) = (reader.first_offset(), reader.visible_tail());
        match place {
            Place::Offset(offset) if offset < first => {
                Err(format!("offset {offset} is no longer kept: the oldest event is {first}"))
            }
            Place::Offset(offset) if offset > tail => {
                Err(format!("offset {offset} is above the tail: the next event will be {tail}"))
            }
            Place::Offset(offset) => Ok(offset),
            Place::Time(time_ms) => {
                let found = reader.seek_time(time_ms).map_err(|error| error.to_string())?;
                Ok(found.clamp(first, tail))
            }
        }
    }

    /// Makes what was just done to the cursors durable.
    fn durable(&mut self) -> Result<(), String> {
        self.save();
        self.sync();
        self.failed.clone().map_or(Ok(()), Err)
    }

    fn rewind(&mut self, group: String, to: Place) -> Result<Answer, String> {
        let groups = self.keeper.dispatcher.view(self.now());
        let live = groups.iter().filter(|view| !view.orphan && !self.replays.has(&view.name));
        let Some(view) = live.clone().find(|view| view.name == group) else {
            let names: Vec<_> = live.map(|view| view.name.as_str()).collect();
            return Err(format!(
                "no group {group} that is read for; there is: {}",
                names.join(", ")
            ));
        };
        let (from, to) = (view.watermark, self.offset_of(to)?);
        self.act(vec![Action::Rewind { group: group.clone(), to }]);
        self.durable()?;
        let channel = self.channel.name();
        tracing::warn!("channel {channel}: group {group} set from offset {from} to {to}, as asked");
        Ok(Answer::Rewound { group, from, to })
    }

    fn drop_group(&mut self, name: String) -> Result<Answer, String> {
        if !self.keeper.dispatcher.orphans().any(|orphan| orphan == name) {
            return Err(match self.keeper.dispatcher.watermark(&name) {
                Some(_) => format!("group {name} has sinks: only one without is dropped"),
                None => format!("no group {name}"),
            });
        }
        self.keeper.dispatcher.remove_group(&name);
        self.durable()?;
        tracing::warn!("channel {}: group {name} dropped, as asked", self.channel.name());
        Ok(Answer::Dropped { name })
    }

    fn resume(&mut self, sink: String) -> Result<Answer, String> {
        let groups = self.keeper.dispatcher.view(self.now());
        let sinks = groups.iter().filter(|group| !self.replays.has(&group.name));
        let sinks = sinks.flat_map(|group| &group.sinks);
        let Some(view) = sinks.clone().find(|view| view.name == sink) else {
            let names: Vec<_> = sinks.map(|view| view.name.as_str()).collect();
            return Err(format!("no sink {sink}; there is: {}", names.join(", ")));
        };
        let was_stopped = view.standing == Standing::Stopped;
        self.act(vec![Action::Resume(view.id)]);
        tracing::info!("sink {sink}: resumed, as asked");
        Ok(Answer::Resumed { sink, was_stopped })
    }

    fn groups(&self) -> Answer {
        let tail = self.keeper.tail();
        let groups = self.keeper.dispatcher.view(self.now()).into_iter().map(|view| GroupRow {
            backlog: tail.since(view.watermark),
            name: view.name,
            watermark: view.watermark,
            orphan: view.orphan,
            sinks: view.sinks.into_iter().map(sink_row).collect(),
        });
        Answer::Groups { tail, groups: groups.collect() }
    }

    /// Somebody waits for news.
    pub(super) fn expect_progress(&mut self) {
        self.progress_due.get_or_insert_with(|| Instant::now() + PROGRESS_EVERY);
    }

    pub(super) fn tell_progress(&mut self) {
        self.progress_due = None;
        self.tell_letter_progress();
        self.tell_replay_progress();
        if !self.letter_jobs.is_empty() || self.replays.any() {
            self.expect_progress();
        }
    }
}

fn sink_row(view: SinkView) -> SinkRow {
    let (state, wait_ms) = match view.standing {
        Standing::Open => ("open", 0),
        Standing::Closed => ("closed", 0),
        Standing::BackingOff(wait_ms) => ("backing-off", wait_ms),
        Standing::Stopped => ("stopped", 0),
    };
    SinkRow {
        name: view.name,
        state: state.to_owned(),
        wait_ms,
        position: view.position,
        leased: view.leased_events,
        delivered: view.delivered_events,
        failures: view.failures,
    }
}
