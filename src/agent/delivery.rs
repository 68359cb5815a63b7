//! Log to sinks, for one channel: reads what the dispatcher lends, hands it to the sinks' tasks,
//! takes their answers back, and keeps the cursors.
//!
//! One thread a channel, with a dispatcher of its own: reading cold segments blocks nobody else.

use super::keeper::Keeper;
use super::sink_task::{Job, SinkTask, until};
use crate::channel::log::LogChannel;
use crate::cursor::GroupState;
use crate::dispatch::{Action, Command, DispatchOptions, LeaseId, Millis, Notice, SinkId};
use crate::event::EventBatch;
use crate::log::{LogError, Missing, MissingReason, OnCorruption, Reader};
use crate::offset::OffsetRange;
use crate::sink::Sink;
use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::runtime::Handle;
use tokio::sync::mpsc::{self, UnboundedReceiver, UnboundedSender};
use tokio::sync::{Notify, oneshot};
use tokio::task::JoinHandle;
use tokio::time::Instant;

/// How often cursors are synced at the least while there is something to sync.
const SYNC_MAX: Duration = Duration::from_secs(3600);

/// How often it is asked what need not be kept any more, though no event comes or goes.
const RECLAIM: Duration = Duration::from_secs(1);

/// What a delivery has done, for those who look on.
#[derive(Default, Debug)]
pub struct DeliveryCounts {
    /// Events delivered, over all sinks.
    pub delivered_events: AtomicU64,
    /// Lowest offset that some group still waits for.
    pub watermark: AtomicU64,
}

/// How a delivery is told to end.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Ending {
    /// Finish what is lent, lend nothing new: the log keeps the rest.
    Finish,
    /// Deliver everything first: what is left would be lost.
    Drain,
    /// Wait no longer.
    Abandon,
}

/// A running delivery.
pub(super) struct Delivery {
    pub(super) counts: Arc<DeliveryCounts>,
    endings: UnboundedSender<Ending>,
    /// `None` once it was answered.
    done: Option<oneshot::Receiver<Result<(), String>>>,
}

impl Delivery {
    /// Starts the thread and the sinks' tasks. `options` names the sinks in the order of `sinks`.
    pub(super) fn start(
        channel: Arc<LogChannel>,
        options: &DispatchOptions,
        sinks: Vec<(String, Box<dyn Sink>)>,
        states: &[GroupState],
        runtime: &Handle,
    ) -> std::io::Result<Delivery> {
        let (answers, from_sinks) = mpsc::unbounded_channel();
        let (endings, from_agent) = mpsc::unbounded_channel();
        let mut ends = Vec::new();
        for (i, (name, sink)) in sinks.into_iter().enumerate() {
            let (jobs, queue) = mpsc::unbounded_channel();
            let answers = answers.clone();
            let (id, task_name) = (SinkId(i), name.clone());
            let task = SinkTask { id, name: task_name, sink, jobs: queue, answers, untold: 0 };
            ends.push(SinkEnd {
                name,
                jobs,
                task: runtime.spawn(task.run()),
                reader: channel.log().reader(),
            });
        }
        let counts = Arc::new(DeliveryCounts::default());
        let work = Work::new(channel, options, ends, states, Arc::clone(&counts));
        let (tell, done) = oneshot::channel();
        let handle = runtime.clone();
        let thread = std::thread::Builder::new().name(format!("deliver-{}", work.channel.name()));
        thread.spawn(move || {
            let result = handle.block_on(work.run(from_sinks, from_agent));
            let _ = tell.send(result); // nobody waits if the agent failed elsewhere
        })?;
        Ok(Delivery { counts, endings, done: Some(done) })
    }

    /// Tells the delivery to end.
    pub(super) fn end(&self, ending: Ending) {
        let _ = self.endings.send(ending); // gone already: it has ended
    }

    /// Waits for the end.
    ///
    /// # Errors
    /// What ended it before it was told to.
    pub(super) async fn ended(&mut self) -> Result<(), String> {
        let Some(done) = &mut self.done else { return Ok(()) };
        let ended = done.await;
        self.done = None;
        ended.unwrap_or_else(|_| Err("the delivery thread panicked".to_owned()))
    }
}

struct SinkEnd {
    name: String,
    jobs: UnboundedSender<Job>,
    task: JoinHandle<()>,
    reader: Reader,
}

struct Work {
    channel: Arc<LogChannel>,
    keeper: Keeper,
    sinks: Vec<SinkEnd>,
    counts: Arc<DeliveryCounts>,
    started: Instant,
    wake_at: Option<Millis>,
    /// When the saved cursors must be durable.
    sync_due: Option<Instant>,
    /// When kept segments are looked at again; never in memory.
    reclaim_due: Option<Instant>,
    ending: Option<Ending>,
    stopped: bool,
    failed: Option<String>,
    saving: bool,
}

impl Work {
    fn new(
        channel: Arc<LogChannel>,
        options: &DispatchOptions,
        sinks: Vec<SinkEnd>,
        states: &[GroupState],
        counts: Arc<DeliveryCounts>,
    ) -> Work {
        let keeper = Keeper::new(Arc::clone(&channel), options, states);
        counts.watermark.store(keeper.released().0, Ordering::Relaxed);
        let on_disk = channel.options().dir.is_some();
        Work {
            channel,
            keeper,
            sinks,
            counts,
            started: Instant::now(),
            wake_at: None,
            sync_due: None,
            reclaim_due: on_disk.then(|| Instant::now() + RECLAIM),
            ending: None,
            stopped: false,
            failed: None,
            saving: true,
        }
    }

    async fn run(
        mut self,
        mut answers: UnboundedReceiver<Action>,
        mut endings: UnboundedReceiver<Ending>,
    ) -> Result<(), String> {
        let grown = Arc::new(Notify::new());
        let notify = Arc::clone(&grown);
        self.channel.log().listen(move || notify.notify_one());
        self.act(vec![Action::Timer, Action::Tail(self.keeper.tail())]);
        while !self.stopped && self.failed.is_none() {
            let wake_at = self.wake_at.map(|at| self.started + Duration::from_millis(at.0));
            let mut actions = Vec::new();
            tokio::select! {
                answer = answers.recv() => actions.extend(answer),
                () = grown.notified() => actions.push(Action::Tail(self.keeper.tail())),
                () = until(wake_at) => {
                    self.wake_at = None;
                    actions.push(Action::Timer);
                }
                () = until(self.sync_due) => self.sync(),
                () = until(self.reclaim_due) => self.reclaim(),
                ending = endings.recv() => self.end(ending.unwrap_or(Ending::Abandon), &mut actions),
            }
            while let Ok(answer) = answers.try_recv() {
                actions.push(answer);
            }
            self.act(actions);
            self.look_after_log();
        }
        self.finish().await
    }

    /// Takes actions in and does what follows, until nothing follows.
    fn act(&mut self, actions: Vec<Action>) {
        let mut actions = VecDeque::from(actions);
        while !actions.is_empty() {
            let mut commands = Vec::new();
            let now = Millis(self.started.elapsed().as_millis() as u64);
            for action in actions.drain(..) {
                commands.extend(self.keeper.dispatcher.apply(now, action));
            }
            // once for many, and before the deliveries
            if commands.contains(&Command::Save) {
                self.save();
            }
            for command in commands {
                self.obey(command, &mut actions);
            }
        }
        if self.ending == Some(Ending::Drain)
            && self.keeper.dispatcher.watermark_min().is_none_or(|w| w >= self.keeper.tail())
        {
            self.ending = Some(Ending::Finish);
            self.act(vec![Action::Stop]);
        }
    }

    fn obey(&mut self, command: Command, actions: &mut VecDeque<Action>) {
        match command {
            Command::Save => {}
            Command::Open { sink } => self.tell(sink, Job::Open),
            Command::Recall { sink } => self.tell(sink, Job::Recall),
            Command::Deliver { sink, lease, range, .. } => {
                self.deliver(sink, lease, range, actions);
            }
            Command::Bury(_) | Command::Ended { .. } => {}
            Command::WakeAt(at) => self.wake_at = Some(at),
            Command::Notice(notice) => self.say(&notice),
            Command::Stopped => self.stopped = true,
        }
    }

    fn tell(&self, sink: SinkId, job: Job) {
        let end = &self.sinks[sink.0];
        assert!(end.jobs.send(job).is_ok() || end.task.is_finished(), "a live task takes jobs");
    }

    fn deliver(
        &mut self,
        sink: SinkId,
        lease: LeaseId,
        range: OffsetRange,
        actions: &mut VecDeque<Action>,
    ) {
        let job = match self.read(sink, range, actions) {
            Ok(batch) => Job::Deliver(lease, batch),
            Err(error) => Job::Unreadable(lease, error.to_string()),
        };
        self.tell(sink, job);
    }

    /// Reads a range; what the log can't give is told to the dispatcher.
    fn read(
        &mut self,
        sink: SinkId,
        range: OffsetRange,
        actions: &mut VecDeque<Action>,
    ) -> Result<EventBatch, LogError> {
        let mut missing = Vec::new();
        let read = self.keeper.read(&mut self.sinks[sink.0].reader, range, &mut missing);
        for Missing { range, reason } in missing {
            self.miss(&range, &reason);
            actions.push_back(Action::Damaged(range));
        }
        read
    }

    fn miss(&mut self, range: &OffsetRange, reason: &MissingReason) {
        let channel = self.channel.name();
        let (from, to) = (range.start, range.end);
        match reason {
            MissingReason::Damaged { file, hole } => {
                let text = format!(
                    "channel {channel}: {file}: damage at byte {} (offsets {from}..{to}): {}; \
                     run 'walctl verify'",
                    hole.position, hole.fault
                );
                tracing::error!("{text}");
                if self.channel.options().log.on_corruption == OnCorruption::Halt {
                    self.failed = Some(text);
                }
            }
            MissingReason::Gap | MissingReason::Reclaimed => {
                tracing::warn!("channel {channel}: no events at offsets {from}..{to}: passed");
            }
        }
    }

    /// Saves the cursors; nothing that a sink has answered for is asked of it again after a crash
    /// of the process.
    fn save(&mut self) {
        if self.failed.is_some() {
            return; // what halted the channel must not be passed
        }
        let saved = self.keeper.save();
        let delivered = self.keeper.delivered_events();
        self.counts.delivered_events.store(delivered, Ordering::Relaxed);
        if !self.saved(saved) {
            return;
        }
        self.counts.watermark.store(self.keeper.released().0, Ordering::Relaxed);
        let interval = self.channel.options().cursor_sync;
        if self.channel.options().dir.is_none() {
            self.keeper.reclaim();
        } else if interval.is_zero() {
            self.sync();
        } else {
            self.sync_due.get_or_insert_with(|| Instant::now() + interval.min(SYNC_MAX));
        }
    }

    /// Makes the saved cursors durable, and gives back what they are done with.
    fn sync(&mut self) {
        self.sync_due = None;
        let synced = self.keeper.sync();
        self.saved(synced);
    }

    /// Gives back what time or the end of a hold made free.
    fn reclaim(&mut self) {
        self.reclaim_due = Some(Instant::now() + RECLAIM);
        if self.saving && !self.keeper.reclaim_kept() {
            self.save();
            self.sync();
        }
    }

    /// Whether cursors are being kept; says so once when that ends.
    fn saved(&mut self, result: Result<(), LogError>) -> bool {
        if let Err(error) = result
            && std::mem::replace(&mut self.saving, false)
        {
            let channel = self.channel.name();
            let text = format!("channel {channel}: cursors can't be saved: {error}");
            tracing::error!("{text}");
            self.failed = Some(text);
        }
        self.saving
    }

    fn end(&mut self, ending: Ending, actions: &mut Vec<Action>) {
        match ending {
            Ending::Finish => actions.push(Action::Stop),
            Ending::Drain => {}
            Ending::Abandon => {
                actions.push(Action::Stop);
                let leases = self.keeper.dispatcher.leases();
                actions.extend(leases.into_iter().map(|lease| Action::Abandon { lease }));
                self.sinks.iter().for_each(|sink| sink.task.abort());
            }
        }
        self.ending = Some(ending);
    }

    /// A failed log ends the delivery: what it has acknowledged is read again after a restart.
    fn look_after_log(&mut self) {
        if let Some(reason) = self.channel.log().poisoned() {
            self.failed.get_or_insert_with(|| format!("channel {}: {reason}", self.channel.name()));
        }
    }

    /// Closes the sinks, and saves where everything stands.
    async fn finish(mut self) -> Result<(), String> {
        let failed = self.failed.take();
        if failed.is_none() {
            self.save();
            self.sync();
        }
        for SinkEnd { name, jobs, task, .. } in self.sinks {
            drop(jobs);
            match task.await {
                Err(error) if error.is_panic() => {
                    return Err(format!("sink {name} panicked: {error}"));
                }
                Err(_) => tracing::warn!("sink {name}: did not finish in time, left as it was"),
                Ok(()) => {}
            }
        }
        match failed {
            Some(reason) => Err(reason),
            None => Ok(()),
        }
    }

    fn say(&self, notice: &Notice) {
        let name = |sink: &SinkId| self.sinks[sink.0].name.as_str();
        let channel = self.channel.name();
        match notice {
            Notice::SinkReady { sink, failures: 0 } => tracing::info!("sink {}: open", name(sink)),
            Notice::SinkReady { sink, failures } => {
                tracing::info!("sink {}: open after {failures} failures", name(sink));
            }
            Notice::SinkFailing { sink, reason, events, wait_ms } => tracing::warn!(
                "sink {}: {reason}; {events} events wait, tried again in {wait_ms} ms \
                 (further failures are only counted)",
                name(sink)
            ),
            Notice::SinkRecovered { sink, failures, events } => tracing::info!(
                "sink {}: works again after {failures} failures over {events} events",
                name(sink)
            ),
            Notice::SinkStopped { .. } | Notice::Buried { .. } => {}
            Notice::Lost { group, range, events } => tracing::error!(
                "channel {channel}: group {group} passed {events} events that the log can't give \
                 (offsets {}..{})",
                range.start,
                range.end
            ),
            Notice::Crowded { group, watermark } => tracing::warn!(
                "channel {channel}: group {group} waits for offset {watermark}: too much above it \
                 is acknowledged already"
            ),
        }
    }
}
