//! Log to sinks, for one channel: reads what the dispatcher lends, hands it to the sinks' tasks,
//! takes their answers back, and keeps the cursors.
//!
//! One thread a channel, with a dispatcher of its own: reading cold segments blocks nobody else.

mod ending;
mod keeping;
mod letters;
mod notices;
mod orders;
mod reading;
mod replay;

use self::ending::abandoned;
use self::keeping::RECLAIM;
use self::letters::LetterJob;
use self::notices::Quiet;
use self::replay::Replays;
pub(super) use self::replay::is_replay;
use super::build::Spares;
use super::burials::Burials;
use super::control::Order;
use super::keeper::Keeper;
use super::sink_task::{Alarm, Job, SinkTask, until};
use crate::channel::dead::Uncounted;
use crate::channel::log::LogChannel;
use crate::cursor::GroupState;
use crate::dispatch::{Action, Burial, Command, DispatchOptions, Grave, Millis, Notice, SinkId};
use crate::log::{LogError, Reader};
use crate::sink::Sink;
use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;
use tokio::runtime::Handle;
use tokio::sync::mpsc::{self, UnboundedReceiver, UnboundedSender};
use tokio::sync::{Notify, oneshot};
use tokio::task::JoinHandle;
use tokio::time::Instant;

/// How often cursors are synced at the least while there is something to sync.
const SYNC_MAX: Duration = Duration::from_secs(3600);

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
pub enum Ending {
    /// Finish what is lent, lend nothing new: the log keeps the rest.
    Finish,
    /// Deliver everything first: what is left would be lost.
    Drain,
    /// Wait no longer.
    Abandon,
}

/// What a delivery is made of, beside its sinks.
pub(super) struct DeliveryParts {
    pub(super) channel: Arc<LogChannel>,
    pub(super) options: DispatchOptions,
    /// The cursors that were saved last.
    pub(super) states: Vec<GroupState>,
    /// `None` for a channel that has no place for dead letters.
    pub(super) burials: Option<Burials>,
    /// Letters that the saved cursors do not count.
    pub(super) letters: Vec<Uncounted>,
    /// Groups whose events are passed when they are older.
    pub(super) max_ages: Vec<(String, Duration)>,
    /// Sinks for replays.
    pub(super) spares: Spares,
}

/// A running delivery.
pub struct Delivery {
    pub(super) counts: Arc<DeliveryCounts>,
    /// What clients of the control socket ask.
    pub(super) orders: UnboundedSender<Order>,
    endings: UnboundedSender<Ending>,
    /// `None` once it was answered.
    done: Option<oneshot::Receiver<Result<(), String>>>,
}

impl Delivery {
    /// Starts the thread and the sinks' tasks. The options name the sinks in the order of `sinks`.
    pub(super) fn start(
        parts: DeliveryParts,
        sinks: Vec<(String, Box<dyn Sink>)>,
        runtime: &Handle,
    ) -> std::io::Result<Delivery> {
        let channel = &parts.channel;
        let (answers, from_sinks) = mpsc::unbounded_channel();
        let (endings, from_agent) = mpsc::unbounded_channel();
        let mut ends = Vec::new();
        for (i, (name, sink)) in sinks.into_iter().enumerate() {
            let reader = channel.log().reader();
            ends.push(Some(SinkEnd::start(SinkId(i), name, sink, &answers, reader, runtime)));
        }
        let (orders, from_clients) = mpsc::unbounded_channel();
        let counts = Arc::new(DeliveryCounts::default());
        let work = Work::new(parts, ends, answers, Arc::clone(&counts));
        let (tell, done) = oneshot::channel();
        let handle = runtime.clone();
        let thread = std::thread::Builder::new().name(format!("deliver-{}", work.channel.name()));
        thread.spawn(move || {
            let result = handle.block_on(work.run(from_sinks, from_clients, from_agent));
            let _ = tell.send(result); // nobody waits if the agent failed elsewhere
        })?;
        Ok(Delivery { counts, orders, endings, done: Some(done) })
    }

    /// A delivery of a channel that has no cursors yet, without dead letters.
    ///
    /// # Errors
    /// A thread can't be had.
    pub fn of_channel(
        channel: &Arc<LogChannel>,
        options: DispatchOptions,
        sinks: Vec<(String, Box<dyn Sink>)>,
        runtime: &Handle,
    ) -> std::io::Result<Delivery> {
        let parts = DeliveryParts {
            channel: Arc::clone(channel),
            options,
            states: Vec::new(),
            burials: None,
            letters: Vec::new(),
            max_ages: Vec::new(),
            spares: Spares::default(),
        };
        Delivery::start(parts, sinks, runtime)
    }

    /// Tells the delivery to end.
    pub fn end(&self, ending: Ending) {
        let _ = self.endings.send(ending); // gone already: it has ended
    }

    /// Waits for the end.
    ///
    /// # Errors
    /// What ended it before it was told to.
    pub async fn ended(&mut self) -> Result<(), String> {
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
    panicked: Arc<AtomicBool>,
    reader: Reader,
}

impl SinkEnd {
    /// Starts a sink's task.
    fn start(
        id: SinkId,
        name: String,
        sink: Box<dyn Sink>,
        answers: &UnboundedSender<Action>,
        reader: Reader,
        runtime: &Handle,
    ) -> SinkEnd {
        let (jobs, queue) = mpsc::unbounded_channel();
        let (task_name, answers) = (name.clone(), answers.clone());
        let panicked = Arc::new(AtomicBool::new(false));
        let alarm = Alarm { id, panicked: Arc::clone(&panicked), answers: answers.clone() };
        let task = SinkTask { id, name: task_name, sink, jobs: queue, answers, untold: 0 };
        let task = runtime.spawn(async move {
            let _alarm = alarm;
            task.run().await;
        });
        SinkEnd { name, jobs, task, panicked, reader }
    }
}

struct Work {
    channel: Arc<LogChannel>,
    keeper: Keeper,
    burials: Option<Burials>,
    max_ages: Vec<(String, Duration)>,
    /// By [`SinkId`]; `None`: removed.
    sinks: Vec<Option<SinkEnd>>,
    /// Where the sinks' tasks answer.
    answers: UnboundedSender<Action>,
    /// Whether each sink pays for bytes.
    pays_bytes: Vec<bool>,
    counts: Arc<DeliveryCounts>,
    started: Instant,
    wake_at: Option<Millis>,
    /// When the saved cursors must be durable.
    sync_due: Option<Instant>,
    /// When events are looked at for their age.
    expire_due: Option<Instant>,
    quiet: Quiet,
    /// When kept segments are looked at again; never in memory.
    reclaim_due: Option<Instant>,
    /// Re-driving and purging, step by step in turn.
    letter_jobs: VecDeque<LetterJob>,
    replays: Replays,
    /// When clients are told how far it is.
    progress_due: Option<Instant>,
    ending: Option<Ending>,
    stopped: bool,
    failed: Option<String>,
    saving: bool,
}

impl Work {
    fn new(
        parts: DeliveryParts,
        sinks: Vec<Option<SinkEnd>>,
        answers: UnboundedSender<Action>,
        counts: Arc<DeliveryCounts>,
    ) -> Work {
        let DeliveryParts { channel, options, states, burials, letters, max_ages, spares } = parts;
        let mut keeper = Keeper::new(Arc::clone(&channel), &options, &states);
        for Uncounted { group, grave, range, .. } in letters {
            keeper.dispatcher.written_before(&group, grave, range);
        }
        counts.watermark.store(keeper.released().0, Ordering::Relaxed);
        for name in keeper.dispatcher.orphans() {
            tracing::warn!(
                "channel {}: no sink is in group {name} any more: its events are kept, from offset \
                 {} on",
                channel.name(),
                keeper.dispatcher.watermark(name).unwrap_or_default()
            );
        }
        let all = options.groups.iter().flat_map(|group| &group.sinks);
        let on_disk = channel.options().dir.is_some();
        Work {
            channel,
            keeper,
            burials,
            expire_due: (!max_ages.is_empty()).then(Instant::now),
            max_ages,
            pays_bytes: all.map(|sink| sink.rate.bytes > 0).collect(),
            quiet: Quiet::default(),
            letter_jobs: VecDeque::new(),
            replays: Replays::new(spares),
            progress_due: None,
            sinks,
            answers,
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
        mut orders: UnboundedReceiver<Order>,
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
                () = until(self.expire_due) => self.expire(&mut actions),
                () = until(self.reclaim_due) => self.reclaim(),
                Some(order) = orders.recv() => self.order(order),
                () = std::future::ready(()), if !self.letter_jobs.is_empty() => self.letter_step(),
                () = until(self.progress_due) => self.tell_progress(),
                ending = endings.recv() => self.end(ending.unwrap_or(Ending::Abandon), &mut actions),
            }
            while let Ok(answer) = answers.try_recv() {
                actions.push(answer);
            }
            self.act(actions);
            self.look_after_log();
        }
        self.finish(endings).await
    }

    fn now(&self) -> Millis {
        Millis(self.started.elapsed().as_millis() as u64)
    }

    /// Takes actions in and does what follows, until nothing follows.
    fn act(&mut self, actions: Vec<Action>) {
        let mut actions = VecDeque::from(actions);
        while !actions.is_empty() {
            let mut commands = Vec::new();
            let now = self.now();
            for action in actions.drain(..) {
                commands.extend(self.keeper.dispatcher.apply(now, action));
            }
            self.list_damage(&commands);
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
            Command::Bury(burial) => self.bury(&burial, actions),
            Command::Ended { group } => self.end_replay(&group, Ok(()), actions),
            Command::WakeAt(at) => self.wake_at = Some(at),
            Command::Notice(notice) => self.notice(&notice, actions),
            Command::Stopped => self.stopped = true,
        }
    }

    fn notice(&mut self, notice: &Notice, actions: &mut VecDeque<Action>) {
        if self.replay_notice(notice, actions) {
            return;
        }
        self.say(notice);
    }

    fn bury(&mut self, burial: &Burial, actions: &mut VecDeque<Action>) {
        if self.replay_burial(burial) {
            return actions.push_back(Action::Buried(burial.id));
        }
        let end = burial.sink.and_then(|sink| self.sinks[sink.0].as_ref());
        let sink = end.map_or("", |end| end.name.as_str());
        match (&mut self.burials, burial.grave) {
            (Some(burials), _) => {
                let mut missing = Vec::new();
                let answers = burials.bury(burial, sink, &mut missing);
                if self.miss_all(missing, actions) {
                    actions.extend(answers);
                }
            }
            // a channel that ends with the process has no place to list what it gives up
            (None, Grave::Lost | Grave::Expired) => actions.push_back(Action::Buried(burial.id)),
            (None, Grave::Dead) => {
                let reason = format!("channel {} keeps no dead letters", self.channel.name());
                actions.push_back(Action::NotBuried { burial: burial.id, reason });
            }
        }
    }

    /// Saves the cursors; nothing that a sink has answered for is asked of it again after a crash
    /// of the process.
    fn save(&mut self) {
        if self.failed.is_some() {
            return; // what halted the channel must not be passed
        }
        if let Some(burials) = &self.burials {
            self.keeper.dispatcher.dead_tail_at(burials.tail());
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
        if self.saved(synced)
            && let Some(burials) = &mut self.burials
        {
            burials.reclaim(self.keeper.dead_tail());
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
                self.sinks.iter().flatten().for_each(|sink| sink.task.abort());
            }
        }
        self.ending = Some(ending);
        self.refuse_letter_jobs();
    }

    /// A failed log ends the delivery: what it has acknowledged is read again after a restart.
    fn look_after_log(&mut self) {
        if let Some(reason) = self.channel.log().poisoned() {
            self.failed.get_or_insert_with(|| format!("channel {}: {reason}", self.channel.name()));
        }
        let panicked = |sink: &&SinkEnd| sink.panicked.load(Ordering::Relaxed);
        if let Some(sink) = self.sinks.iter().flatten().find(panicked) {
            self.failed.get_or_insert_with(|| format!("sink {} panicked", sink.name));
        }
    }

    /// Closes the sinks, and saves where everything stands.
    async fn finish(mut self, mut endings: UnboundedReceiver<Ending>) -> Result<(), String> {
        let failed = self.failed.take();
        self.drop_replays();
        if failed.is_none() {
            self.save();
            self.sync();
        } else {
            self.save_leases();
            // nobody waits for a sink that hangs: the agent is to end
            self.sinks.iter().flatten().for_each(|sink| sink.task.abort());
        }
        if let Some(burials) = &mut self.burials {
            burials.close();
        }
        for SinkEnd { name, jobs, mut task, .. } in self.sinks.into_iter().flatten() {
            drop(jobs);
            let ended = tokio::select! {
                ended = &mut task => ended,
                () = abandoned(&mut endings) => {
                    task.abort();
                    task.await
                }
            };
            match ended {
                Err(error) if error.is_panic() => {
                    return Err(format!("sink {name} panicked: {error}"));
                }
                Err(_) => tracing::warn!("sink {name}: did not finish in time, left as it was"),
                Ok(()) => {}
            }
        }
        self.replays.closed().await;
        match failed {
            Some(reason) => Err(reason),
            None => Ok(()),
        }
    }
}
