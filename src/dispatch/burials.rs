//! Events that leave a group without being delivered: set aside, given up, too old; and a group
//! that is set to another offset.

use super::dispatcher::Turn;
use super::failure::{Backoff, Exhausted, Jitter};
use super::group::Group;
use super::waiting::joined;
use super::{Burial, BurialId, Cause, Command, Expired, Grave, Millis, Notice};
use crate::cursor::TriedRange;
use crate::offset::{Offset, OffsetRange, RangeSet};

/// Events from the watermark on that go to the dead letters for their age in one turn: the others
/// are not to wait for it.
const EXPIRE_MAX: u64 = 10_000;

/// What is to be recorded, and was not yet answered for.
#[derive(Debug)]
pub(super) struct Pending {
    pub(super) burial: Burial,
    /// The sink that failed it.
    pub(super) index: Option<usize>,
    /// The past of its offsets.
    pub(super) past: TriedRange,
    /// It could not be recorded, so often.
    refusals: u32,
    /// When it is asked for again; `None`: an answer is awaited.
    pub(super) due: Option<Millis>,
}

impl Group {
    /// What becomes of events whose attempts are used up.
    pub(super) fn give_up(
        &mut self,
        index: usize,
        tried: TriedRange,
        cause: Cause,
        reason: String,
        turn: &mut Turn,
    ) {
        let grave = match self.sinks[index].options.policy.on_exhausted {
            Exhausted::DeadLetter => Grave::Dead,
            Exhausted::Fail => Grave::Lost,
            Exhausted::Stop => {
                let sink = &mut self.sinks[index];
                if !std::mem::replace(&mut sink.stopped, true) {
                    let (sink, offset) = (sink.id, tried.range.start);
                    let notice = Notice::SinkStopped { sink, reason, offset };
                    turn.commands.push(Command::Notice(notice));
                }
                return self.sinks[index].retry.insert(tried);
            }
        };
        self.bury(Some(index), tried, grave, Some(cause), reason, turn);
    }

    /// Wants `tried` to be recorded, at the end of this turn; it stays where it is until that is
    /// answered.
    fn bury(
        &mut self,
        index: Option<usize>,
        tried: TriedRange,
        grave: Grave,
        cause: Option<Cause>,
        reason: String,
        turn: &mut Turn,
    ) {
        let id = turn.next_burial();
        let burial = Burial {
            id,
            group: self.name.clone(),
            sink: index.map(|index| self.sinks[index].id),
            range: tried.range.clone(),
            grave,
            attempts: tried.attempts,
            cause,
            reason,
        };
        let due = Some(turn.now);
        self.burials.insert(id, Pending { burial, index, past: tried, refusals: 0, due });
        self.changed = true;
    }

    /// Asks for what was not recorded yet, and is due; a stop waits for no second try.
    pub(super) fn ask_for_burials(&mut self, turn: &mut Turn) {
        let (now, stopping) = (turn.now, turn.stopping);
        let is_due = |pending: &&mut Pending| {
            pending.due.is_some_and(|due| due <= now) && !(stopping && pending.refusals > 0)
        };
        let mut done = Vec::new();
        for pending in self.burials.values_mut().filter(is_due) {
            let range = pending.burial.range.clone();
            let open = self.acked.gaps(range.start.max(self.watermark)..range.end).next();
            pending.due = None;
            match open {
                Some(open) => {
                    pending.burial.range.start = open.start;
                    turn.commands.push(Command::Bury(pending.burial.clone()));
                }
                None => done.push(pending.burial.id),
            }
        }
        done.into_iter().for_each(|id| self.buried(id, turn));
    }

    /// When something is asked for again.
    pub(super) fn next_burial(&self) -> Option<Millis> {
        self.burials.values().filter_map(|pending| pending.due).min()
    }

    /// Whether an answer is awaited.
    pub(super) fn is_burying(&self) -> bool {
        self.burials.values().any(|pending| pending.due.is_none())
    }

    /// It is recorded: the cursor passes it.
    pub(super) fn buried(&mut self, id: BurialId, turn: &mut Turn) {
        let Some(pending) = self.burials.remove(&id) else { return };
        let Burial { sink, range, grave, reason, .. } = pending.burial;
        let events = self.ack(range.clone());
        self.count(grave, events);
        if let Some(index) = pending.index {
            let sink = &mut self.sinks[index];
            match grave {
                Grave::Dead => sink.counters.dead_events += events,
                Grave::Lost => sink.counters.lost_events += events,
                Grave::Expired => {}
            }
            sink.unburied -= u32::from(pending.refusals > 0);
        }
        self.changed = true;
        if events == 0 {
            return;
        }
        let group = self.name.clone();
        let notice = Notice::Buried { group, sink, range, grave, reason };
        turn.commands.push(Command::Notice(notice));
    }

    /// It could not be recorded: nothing is dropped, and who failed it gets nothing more before it
    /// is. What of it was recorded was told before.
    pub(super) fn not_buried(&mut self, id: BurialId, reason: String, turn: &mut Turn) {
        let Some(pending) = self.burials.get_mut(&id) else { return };
        pending.refusals += 1;
        let sink = pending.index.map(|index| &mut self.sinks[index]);
        let backoff = sink.as_ref().map_or(Backoff::default(), |sink| sink.options.backoff);
        let wait_ms = backoff.delay_ms(pending.refusals, Jitter::draw(&mut turn.random));
        pending.due = Some(turn.now.plus(wait_ms));
        if let Some(sink) = sink.filter(|_| pending.refusals == 1) {
            sink.unburied += 1;
            let (sink, offset) = (sink.id, pending.burial.range.start);
            turn.commands.push(Command::Notice(Notice::SinkStopped { sink, reason, offset }));
        }
    }

    /// What is out of the way already: recorded by an earlier process, or as a part of a burial.
    pub(super) fn letters(&mut self, grave: Grave, range: OffsetRange) -> u64 {
        let events = self.pass(range);
        self.count(grave, events);
        events
    }

    /// A part of a burial is out of the way.
    pub(super) fn partly_buried(&mut self, grave: Grave, range: OffsetRange, turn: &mut Turn) {
        if self.letters(grave, range.clone()) > 0 {
            let (group, reason) = (self.name.clone(), "a part of what is set aside".to_owned());
            let notice = Notice::Buried { group, sink: None, range, grave, reason };
            turn.commands.push(Command::Notice(notice));
        }
    }

    fn count(&mut self, grave: Grave, events: u64) {
        match grave {
            Grave::Dead => self.dead_events += events,
            Grave::Lost => self.lost_events += events,
            Grave::Expired => self.expired_events += events,
        }
    }

    /// Buries everything below that no sink has.
    pub(super) fn expire(&mut self, below: Offset, turn: &mut Turn) {
        let below = match self.expired {
            Expired::Pass => below.min(self.limit()),
            Expired::DeadLetter => below.min(self.limit()).min(self.watermark.plus(EXPIRE_MAX)),
        };
        // what could not be recorded is asked for again, and does not pile up meanwhile
        let waits = self.burials.values().any(|pending| pending.index.is_none());
        if below <= self.watermark || waits {
            return;
        }
        let old = self.watermark..below;
        let retry = self.sinks.iter().flat_map(|sink| sink.retry.iter());
        let tried = self.waiting.sorted().into_iter().chain(retry);
        let clipped = tried.filter(|tried| tried.range.start < below).map(|tried| {
            let range = tried.range.start..tried.range.end.min(below);
            tried.of(range)
        });
        let mut tried: Vec<_> = clipped.collect();
        if self.frontier < below {
            tried.push(TriedRange::new(self.frontier..below, 0));
            self.frontier = below;
        }
        self.waiting.remove(&old);
        for sink in &mut self.sinks {
            sink.retry.remove(&old);
        }
        let grave = match self.expired {
            Expired::Pass => Grave::Expired,
            Expired::DeadLetter => Grave::Dead,
        };
        let reason = "older than the group's age limit";
        for tried in joined(tried) {
            self.bury(None, tried, grave, None, reason.to_owned(), turn);
        }
    }

    /// The group goes on at `to`, and counts anew. What is out is answered for its sink alone.
    pub(super) fn rewind(&mut self, to: Offset) {
        let to = to.min(self.tail);
        for sink in &mut self.sinks {
            sink.retry = Default::default();
            sink.leases.iter_mut().for_each(|lease| lease.stale = true);
            sink.reach = to;
            sink.unburied = 0;
        }
        self.waiting = Default::default();
        self.burials.clear();
        self.acked = RangeSet::default();
        (self.first, self.watermark, self.frontier) = (to, to, to);
        (self.lost_events, self.dead_events, self.expired_events) = (0, 0, 0);
        self.ended = false;
        self.changed = true;
    }
}
