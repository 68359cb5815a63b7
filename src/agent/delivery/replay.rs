//! Replays: events of the log once more, to a sink made for that, beside the live groups.
//!
//! A replay is a group of its own from an offset to another: it claims the log while it runs, and
//! the cursors of other groups are not touched. It ends with the process. What its sink gives up is
//! counted and put on no list: the log has lost nothing by it.

use super::{SinkEnd, Work};
use crate::agent::build::Spares;
use crate::agent::control::Reply;
use crate::channel::dead::Place;
use crate::control::{Answer, Progress, Replayed};
use crate::dispatch::{Action, Burial, GroupOptions, Notice, SinkId, Start};
use crate::event::{EventBatch, LogEvent};
use crate::offset::OffsetRange;
use crate::sink::{FailedEvents, Failure, Outcome, Sink, SinkError};
use async_trait::async_trait;
use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};
use tokio::runtime::Handle;
use tokio::task::JoinHandle;
use tokio::time::timeout;

/// Replays at a time.
const REPLAYS_MAX: usize = 4;
/// How long the sink of a replay may take to finish what it has and to close.
const CLOSE_MAX: Duration = Duration::from_secs(20);
/// The same, of all sinks together, when the agent stops.
const STOP_CLOSE_MAX: Duration = Duration::from_secs(3);
/// How the groups of replays are called, with a number behind.
const PREFIX: &str = "replay-";

/// Whether a group that nobody reads for was a replay's.
pub(in crate::agent) fn is_replay(group: &str) -> bool {
    let number = group.strip_prefix(PREFIX);
    number.is_some_and(|number| !number.is_empty() && number.bytes().all(|b| b.is_ascii_digit()))
}

/// What is asked.
pub(super) struct ReplayOrder {
    pub(super) from: Place,
    pub(super) to: Option<Place>,
    pub(super) headers: Vec<(String, String)>,
    pub(super) sink: String,
    pub(super) rate_events: u64,
}

/// The replays of a delivery.
pub(super) struct Replays {
    spares: Spares,
    running: Vec<Replay>,
    /// Those that are over and whose sinks are closing.
    closing: Vec<JoinHandle<()>>,
    begun: u64,
    /// Groups of replays of this process, also those that are over.
    groups: Vec<String>,
}

struct Replay {
    group: String,
    sink: SinkId,
    range: OffsetRange,
    wanted: Wanted,
    counts: Arc<Counts>,
    reply: Reply,
}

impl Replays {
    pub(super) fn new(spares: Spares) -> Replays {
        Replays { spares, running: Vec::new(), closing: Vec::new(), begun: 0, groups: Vec::new() }
    }

    /// Whether a group is, or was, that of a replay: its name alone does not say so.
    pub(super) fn has(&self, group: &str) -> bool {
        self.groups.iter().any(|of_replay| of_replay == group)
    }

    pub(super) fn any(&self) -> bool {
        !self.running.is_empty()
    }
}

/// Headers that an event must have.
#[derive(Clone)]
struct Wanted(Vec<(String, String)>);

impl Wanted {
    fn is(&self, event: &LogEvent<'_>) -> bool {
        self.0.iter().all(|(name, value)| event.event.header(name) == Some(value))
    }
}

#[derive(Default)]
struct Counts {
    sent: AtomicU64,
    passed: AtomicU64,
    failed: AtomicU64,
}

impl Counts {
    fn add(count: &AtomicU64, events: usize) {
        count.fetch_add(events as u64, Ordering::Relaxed);
    }

    fn replayed(&self, range: &OffsetRange) -> Replayed {
        let get = |count: &AtomicU64| count.load(Ordering::Relaxed);
        let (sent, passed, failed) = (get(&self.sent), get(&self.passed), get(&self.failed));
        let missing = range.end.since(range.start).saturating_sub(sent + passed + failed);
        Replayed { from: range.start, to: range.end, sent, passed, failed, missing }
    }
}

/// A sink that sees only the events that are wanted, and counts.
struct Filtered {
    sink: Box<dyn Sink>,
    wanted: Wanted,
    counts: Arc<Counts>,
}

#[async_trait]
impl Sink for Filtered {
    async fn open(&mut self) -> Result<(), SinkError> {
        self.sink.open().await
    }

    async fn deliver(&mut self, batch: &EventBatch) -> Outcome {
        let wanted = batch.filter(|event| self.wanted.is(event));
        let mut passed = batch.len() - wanted.len();
        let outcome = match wanted.is_empty() {
            true => Outcome::Delivered,
            false => self.sink.deliver(&wanted).await,
        };
        let arrived = match &outcome {
            Outcome::Delivered => wanted.len(),
            Outcome::Failed(Failure { events: FailedEvents::Only(offsets), .. }) => {
                let failed = wanted.iter().filter(|event| offsets.contains(&event.offset)).count();
                // one that names no event of the lease stands for all of them
                if failed == 0 {
                    return outcome;
                }
                wanted.len() - failed
            }
            // what lies before it is done; the rest comes again
            Outcome::Failed(Failure { events: FailedEvents::From(first), .. }) => {
                let before =
                    |batch: &EventBatch| batch.iter().filter(|e| e.offset < *first).count();
                let arrived = before(&wanted);
                if arrived == wanted.len() {
                    return outcome; // it names nothing that was sent: all comes again
                }
                passed = before(batch) - arrived;
                arrived
            }
            Outcome::Failed(_) => return outcome,
        };
        Counts::add(&self.counts.sent, arrived);
        Counts::add(&self.counts.passed, passed);
        outcome
    }

    fn deadline(&self) -> Option<Instant> {
        self.sink.deadline()
    }

    async fn tick(&mut self) -> Result<(), SinkError> {
        self.sink.tick().await
    }

    async fn close(&mut self) -> Result<(), SinkError> {
        self.sink.close().await
    }

    fn batch_events_max(&self) -> u32 {
        self.sink.batch_events_max()
    }
}

impl Work {
    pub(super) fn begin_replay(&mut self, order: ReplayOrder, reply: Reply) {
        if let Err((text, reply)) = self.try_replay(order, reply) {
            reply.end(Err(text));
        }
    }

    fn try_replay(&mut self, order: ReplayOrder, reply: Reply) -> Result<(), (String, Reply)> {
        let prepared = self.range_of(&order).and_then(|range| {
            if self.replays.running.len() >= REPLAYS_MAX {
                return Err(format!("{REPLAYS_MAX} replays are under way: try again later"));
            }
            Ok((range, self.replays.spares.make(&order.sink)?))
        });
        let (range, (mut options, sink)) = match prepared {
            Ok(prepared) => prepared,
            Err(text) => return Err((text, reply)),
        };
        if range.is_empty() {
            let (from, to) = (range.start, range.end);
            reply.end(Ok(Answer::Replayed(Replayed { from, to, ..Replayed::default() })));
            return Ok(());
        }
        if order.rate_events > 0 {
            options.rate.events = order.rate_events;
        }
        let pays_bytes = options.rate.bytes > 0;
        let group = self.next_group();
        let end = Some(range.end);
        let start = Start::At(range.start);
        let sinks = vec![options];
        let options = GroupOptions { name: group.clone(), sinks, start, end, ..Default::default() };
        let reader = self.channel.log().reader();
        let readable = reader.first_offset()..reader.visible_tail();
        let sink_id = match self.keeper.dispatcher.add_group(&options, readable) {
            Ok(ids) => ids[0],
            Err(taken) => return Err((taken.to_string(), reply)),
        };
        self.replays.groups.push(group.clone());
        let wanted = Wanted(order.headers);
        let counts = Arc::new(Counts::default());
        let filtered = Filtered { sink, wanted: wanted.clone(), counts: Arc::clone(&counts) };
        let name = format!("{} ({group})", order.sink);
        let runtime = Handle::current();
        let end =
            SinkEnd::start(sink_id, name, Box::new(filtered), &self.answers, reader, &runtime);
        self.sinks.push(Some(end));
        self.pays_bytes.push(pays_bytes);
        assert!(self.sinks.len() == sink_id.0 + 1, "ids of sinks are their places");
        tracing::info!(
            "channel {}: {group}: offsets {}..{} to sink {}, as asked",
            self.channel.name(),
            range.start,
            range.end,
            order.sink
        );
        self.replays.running.push(Replay { group, sink: sink_id, range, wanted, counts, reply });
        self.expect_progress();
        self.save(); // its claim on the log counts before anything more is given back
        self.act(vec![Action::Timer]);
        Ok(())
    }

    /// A name that no group has.
    fn next_group(&mut self) -> String {
        loop {
            self.replays.begun += 1;
            let group = format!("{PREFIX}{}", self.replays.begun);
            if self.keeper.dispatcher.watermark(&group).is_none() {
                return group;
            }
        }
    }

    fn range_of(&self, order: &ReplayOrder) -> Result<OffsetRange, String> {
        let from = self.offset_of(order.from)?;
        let to = order.to.map_or(Ok(self.keeper.tail()), |to| self.offset_of(to))?;
        match from <= to {
            true => Ok(from..to),
            false => Err(format!("offset {from} lies behind the end, offset {to}")),
        }
    }

    /// A replay is over: all is done, or what stopped it. Its client is told when its sink is
    /// closed.
    pub(super) fn end_replay(
        &mut self,
        group: &str,
        result: Result<(), String>,
        actions: &mut VecDeque<Action>,
    ) {
        let at = self.replays.running.iter().position(|replay| replay.group == group);
        let Some(at) = at else { return };
        let Replay { sink, range, counts, reply, .. } = self.replays.running.remove(at);
        self.keeper.dispatcher.remove_group(group);
        actions.push_back(Action::Timer); // saves that it is gone
        let Some(SinkEnd { name, jobs, mut task, .. }) = self.sinks[sink.0].take() else { return };
        drop(jobs);
        self.replays.closing.retain(|closing| !closing.is_finished());
        self.replays.closing.push(tokio::spawn(async move {
            let closed = match timeout(CLOSE_MAX, &mut task).await {
                Ok(Ok(())) => Ok(()),
                Ok(Err(error)) => Err(format!("sink {name} failed: {error}")),
                Err(_) => {
                    task.abort();
                    Err(format!("sink {name} was not closed within {CLOSE_MAX:?}: left as it was"))
                }
            };
            let replayed = counts.replayed(&range);
            let Replayed { sent, passed, failed, .. } = replayed;
            let result = result.and(closed);
            match &result {
                Ok(()) => tracing::info!(
                    "sink {name}: replay done: {sent} events sent, {passed} passed, {failed} failed"
                ),
                Err(text) => tracing::warn!("sink {name}: {text}; {sent} events were sent"),
            }
            let failed = |text| format!("{text}; {sent} events were sent");
            reply.end(result.map(|()| Answer::Replayed(replayed)).map_err(failed));
        }));
    }

    /// What a replay's sink gives up is counted here, not buried. Whether it is a replay's.
    pub(super) fn replay_burial(&mut self, burial: &Burial) -> bool {
        let replay = self.replays.running.iter().find(|replay| replay.group == burial.group);
        let Some(replay) = replay else {
            return self.replays.has(&burial.group);
        };
        let mut reader = self.channel.log().reader();
        // what can't be read counts as missing
        if let Ok(batch) = self.keeper.read(&mut reader, burial.range.clone(), &mut Vec::new()) {
            let failed = batch.iter().filter(|event| replay.wanted.is(event)).count();
            Counts::add(&replay.counts.failed, failed);
            Counts::add(&replay.counts.passed, batch.len() - failed);
        }
        true
    }

    /// Whether nothing more is to be said of a notice.
    pub(super) fn replay_notice(
        &mut self,
        notice: &Notice,
        actions: &mut VecDeque<Action>,
    ) -> bool {
        match notice {
            Notice::Buried { group, .. } | Notice::Lost { group, .. } => self.replays.has(group),
            Notice::SinkStopped { sink, reason, offset } => {
                let replay = self.replays.running.iter().find(|replay| replay.sink == *sink);
                let Some(group) = replay.map(|replay| replay.group.clone()) else { return false };
                let text = format!("the sink stopped at offset {offset}: {reason}");
                self.end_replay(&group, Err(text), actions);
                true
            }
            _ => false,
        }
    }

    /// Tells how far replays are; ends those that nobody waits for.
    pub(super) fn tell_replay_progress(&mut self) {
        let mut ended = Vec::new();
        for Replay { group, range, counts, reply, sink, .. } in &self.replays.running {
            if reply.is_gone() {
                ended.push((group.clone(), "who asked for it went away"));
            } else if self.sinks[sink.0].as_ref().is_some_and(|end| end.task.is_finished()) {
                ended.push((group.clone(), "its sink failed"));
            }
            let watermark = self.keeper.dispatcher.watermark(group).unwrap_or(range.start);
            reply.progress(Progress {
                done: counts.sent.load(Ordering::Relaxed),
                seen: watermark.since(range.start),
                of: range.end.since(range.start),
            });
        }
        let mut actions = VecDeque::new();
        for (group, why) in ended {
            self.end_replay(&group, Err(why.to_owned()), &mut actions);
        }
        self.act(actions.into());
    }

    /// Replays end with the process: their groups go, before the cursors are saved.
    pub(super) fn drop_replays(&mut self) {
        let running = std::mem::take(&mut self.replays.running);
        for Replay { group, range, counts, reply, .. } in running {
            self.keeper.dispatcher.remove_group(&group);
            let sent = counts.replayed(&range).sent;
            reply.end(Err(format!("the agent is stopping; {sent} events were sent")));
        }
    }
}

impl Replays {
    /// Waits for the sinks of replays that were over before.
    pub(super) async fn closed(self) {
        let mut closing = self.closing;
        let all = async {
            for task in &mut closing {
                let _ = task.await; // its client is told
            }
        };
        if timeout(STOP_CLOSE_MAX, all).await.is_err() {
            tracing::warn!("sinks of replays did not close in time: left as they were");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::Event;
    use crate::fate::Cause;
    use crate::offset::Offset;
    use std::sync::Mutex;

    /// Answers as it is told, and keeps the offsets it was sent.
    struct Told {
        outcomes: Vec<Outcome>,
        seen: Arc<Mutex<Vec<u64>>>,
    }

    #[async_trait]
    impl Sink for Told {
        async fn open(&mut self) -> Result<(), SinkError> {
            Ok(())
        }

        async fn deliver(&mut self, batch: &EventBatch) -> Outcome {
            self.seen.lock().unwrap().extend(batch.iter().map(|event| event.offset.0));
            self.outcomes.remove(0)
        }

        async fn close(&mut self) -> Result<(), SinkError> {
            Ok(())
        }

        fn batch_events_max(&self) -> u32 {
            10
        }
    }

    fn failed(events: FailedEvents) -> Outcome {
        let reason = "no".to_owned();
        Outcome::Failed(Failure { events, cause: Cause::Refused, retryable: true, reason })
    }

    #[tokio::test]
    async fn sink_of_a_replay_sees_what_is_wanted_and_counts_what_arrived() {
        let event =
            |kind: &str| Event { headers: vec![("kind".into(), kind.into())], body: Vec::new() };
        let events = ["a", "b", "a", "c", "a"].map(event);
        let batch = EventBatch::of_events(Offset(0), 1, &events);
        let seen = Arc::new(Mutex::new(Vec::new()));
        let only = |offset| failed(FailedEvents::Only(vec![Offset(offset)]));
        let outcomes = vec![failed(FailedEvents::All), only(1), only(2), Outcome::Delivered];
        let counts = Arc::new(Counts::default());
        let mut sink = Filtered {
            sink: Box::new(Told { outcomes, seen: Arc::clone(&seen) }),
            wanted: Wanted(vec![("kind".into(), "a".into())]),
            counts: Arc::clone(&counts),
        };
        let mut expected = Vec::new();
        let mut check = |sent, passed| {
            expected.extend([0, 2, 4]);
            assert_eq!(*seen.lock().unwrap(), expected);
            let replayed = counts.replayed(&(Offset(0)..Offset(20)));
            assert_eq!((replayed.sent, replayed.passed), (sent, passed));
            assert_eq!(replayed.missing, 20 - sent - passed);
        };
        sink.deliver(&batch).await;
        check(0, 0);
        // it names no event that it was sent: nothing arrived
        sink.deliver(&batch).await;
        check(0, 0);
        sink.deliver(&batch).await;
        check(2, 2);
        sink.deliver(&batch).await;
        check(5, 4);
        sink.wanted = Wanted(vec![("kind".into(), "x".into())]);
        assert_eq!(sink.deliver(&batch).await, Outcome::Delivered, "without the sink");
        assert_eq!(counts.replayed(&(Offset(0)..Offset(20))).passed, 9);
        sink.wanted = Wanted(vec![("kind".into(), "a".into())]);
        // a sink that takes a batch in several calls, and breaks off: offsets 0, 1 are done
        sink.sink = Box::new(Told {
            outcomes: vec![failed(FailedEvents::From(Offset(2)))],
            seen: Arc::new(Mutex::new(Vec::new())),
        });
        sink.deliver(&batch).await;
        let replayed = counts.replayed(&(Offset(0)..Offset(20)));
        assert_eq!((replayed.sent, replayed.passed), (6, 10));
    }

    #[test]
    fn groups_of_replays_have_a_number() {
        assert!(is_replay("replay-1") && is_replay("replay-20"));
        assert!(!["replay-", "replay-x", "replay-1x", "replay", "1"].into_iter().any(is_replay));
    }
}
