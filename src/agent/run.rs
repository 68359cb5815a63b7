//! From a plan to running components, and to an ordered stop: sources, then sinks up to a time
//! limit, then cursors and logs.

use super::build::{Built, BuiltChannel, build};
use super::burials::Burials;
use super::control::ControlSocket;
use super::delivery::{Delivery, DeliveryParts, Ending, is_replay};
use super::progress::{self, Watched};
use super::source_task;
use crate::channel::Channel;
use crate::channel::cursors;
use crate::channel::dead::{self, DeadLog, Uncounted};
use crate::channel::log::LogChannel;
use crate::config::{Plan, Problem};
use crate::cursor::GroupState;
use crate::dispatch::DispatchOptions;
use crate::ingest::Ingest;
use crate::log::{OpenReport, Opened};
use crate::source::Stop;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::runtime::Handle;
use tokio::signal::unix::{Signal, SignalKind, signal};

/// How long a stop may take: below the 30 s that Kubernetes and systemd give.
const STOP_MAX: Duration = Duration::from_secs(25);
/// What of it the sources may take.
const SOURCES_STOP_MAX: Duration = Duration::from_secs(8);

/// What an agent is given besides its plan.
#[derive(Clone, Default, Debug)]
pub struct RunOptions {
    /// `-c DIR`: where Hadoop's files are looked for.
    pub conf_dir: Option<PathBuf>,
    /// Whether to print a line a second of what goes through.
    pub progress: bool,
}

/// Why an agent did not run, or not to its end.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// Components that can't be built: every problem.
    #[error("{} problem(s) in the configuration", .0.len())]
    Config(Vec<Problem>),
    /// Something failed.
    #[error("{0}")]
    Failed(String),
}

/// Runs an agent until it is told to stop by SIGTERM or SIGINT. A second signal ends it at once.
///
/// # Errors
/// A component can't be built, a channel can't be opened, or one failed while it ran.
pub fn run(plan: &Plan, options: &RunOptions) -> Result<(), RunError> {
    let built = build(plan, options).map_err(RunError::Config)?;
    let workers = std::thread::available_parallelism().map_or(2, |n| n.get().max(2));
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(workers)
        .thread_name("levada")
        .enable_all()
        .build()
        .map_err(|error| RunError::Failed(format!("start the runtime: {error}")))?;
    let result = runtime.block_on(run_built(built, options));
    runtime.shutdown_timeout(Duration::from_secs(1));
    result.map_err(RunError::Failed)
}

/// A running channel.
struct Running {
    /// Dropped first, while the log's lock is held.
    control: Option<ControlSocket>,
    channel: Arc<LogChannel>,
    delivery: Option<Delivery>,
}

async fn run_built(built: Built, options: &RunOptions) -> Result<(), String> {
    let mut signals = Signals::new()?;
    let mut running = start_channels(built.channels)?;
    let (stopper, stop) = Stop::new();
    let mut sources = tokio::task::JoinSet::new();
    let mut ingests = Vec::new();
    for (name, channels, source) in built.sources {
        let channels = channels.iter().filter_map(|name| {
            let running = running.iter().find(|running| running.channel.name() == name)?;
            Some(Arc::clone(&running.channel) as Arc<dyn Channel>)
        });
        let ingest = Ingest::new(channels.collect());
        ingests.push(ingest.clone());
        sources.spawn(source_task::run(name, source, ingest, stop.clone()));
    }
    let progress = options.progress.then(|| {
        let deliveries = running.iter().map(|r| (Arc::clone(&r.channel), delivery_counts(r)));
        let watched = Watched { ingests, channels: deliveries.collect() };
        tokio::spawn(progress::run(watched))
    });
    let failed = tokio::select! {
        name = signals.next() => {
            tracing::info!("{name}: stopping (a second signal ends it at once)");
            None
        }
        failure = first_failure(&mut running) => {
            tracing::error!("stopping: {failure}");
            Some(failure)
        }
    };
    if let Some(progress) = progress {
        progress.abort();
    }
    let asked = Instant::now();
    let stopped = tokio::select! {
        stopped = stop_all(asked, stopper, sources, running) => stopped,
        name = signals.next() => Err(format!("{name}: ended at once; the logs keep what is in them")),
    };
    match failed {
        Some(failure) => Err(failure),
        None => stopped,
    }
}

fn delivery_counts(running: &Running) -> Option<Arc<super::delivery::DeliveryCounts>> {
    running.delivery.as_ref().map(|delivery| Arc::clone(&delivery.counts))
}

fn start_channels(channels: Vec<BuiltChannel>) -> Result<Vec<Running>, String> {
    let mut running = Vec::new();
    for BuiltChannel { options, dispatch, sinks, max_ages, spares } in channels {
        let name = options.name.clone();
        let began = Instant::now();
        let opened = LogChannel::open(options);
        let (channel, opened) = opened.map_err(|error| format!("open channel {name}: {error}"))?;
        let mut states = states_of(&channel, &opened)?;
        // a replay ends with its process
        let has_sinks = |state: &GroupState| dispatch.groups.iter().any(|g| g.name == state.name);
        states.retain(|state| has_sinks(state) || !is_replay(&state.name));
        tell_opened(&channel, &opened.report, &states, began.elapsed());
        let delivery = if sinks.is_empty() {
            None
        } else {
            let runtime = Handle::current();
            let (burials, letters) = burials_of(&channel, &dispatch, &states)?;
            let parts = DeliveryParts {
                channel: Arc::clone(&channel),
                options: dispatch,
                states,
                burials,
                letters,
                max_ages,
                spares,
            };
            let started = Delivery::start(parts, sinks, &runtime);
            Some(started.map_err(|error| format!("channel {name}: start a thread: {error}"))?)
        };
        let control = delivery.as_ref().and_then(|delivery| control_of(&channel, delivery));
        running.push(Running { control, channel, delivery });
    }
    Ok(running)
}

/// The control socket of a channel that has a directory. An agent can do without.
fn control_of(channel: &LogChannel, delivery: &Delivery) -> Option<ControlSocket> {
    let dir = channel.options().dir.as_ref()?;
    let listening = ControlSocket::listen(dir, delivery.orders.clone());
    listening
        .map_err(|error| {
            tracing::warn!(
                "channel {}: no control socket {}: {error}; 'walctl' can't ask this agent",
                channel.name(),
                dir.join(crate::control::SOCKET).display()
            );
        })
        .ok()
}

/// The place of a channel's dead letters, and those that its saved cursors do not count.
fn burials_of(
    channel: &Arc<LogChannel>,
    dispatch: &DispatchOptions,
    states: &[GroupState],
) -> Result<(Option<Burials>, Vec<Uncounted>), String> {
    let options = channel.options();
    let Some(dir) = &options.dir else { return Ok((None, Vec::new())) };
    let failed = |error| format!("channel {}: {error}", options.name);
    let dead_options = dead::options(options.dead.max_bytes);
    let mut dead = DeadLog::open_dir(dir.join(dead::DIR), dead_options);
    let letters = Burials::uncounted(&mut dead, &options.name, dispatch, states);
    let letters = letters.map_err(failed)?;
    let burials = Burials::new(Arc::clone(channel), dead).map_err(failed)?;
    Ok((Some(burials), letters))
}

fn states_of(channel: &LogChannel, opened: &Opened) -> Result<Vec<GroupState>, String> {
    let Some(bytes) = &opened.cursors else { return Ok(Vec::new()) };
    let states = cursors::decode(bytes);
    states.map_err(|error| format!("channel {}: cursor journal: {error}", channel.name()))
}

fn tell_opened(channel: &LogChannel, report: &OpenReport, states: &[GroupState], took: Duration) {
    let name = channel.name();
    let Some(dir) = &channel.options().dir else {
        tracing::info!("channel {name}: in memory: what is in it is lost with the process");
        return;
    };
    let watermark = states.iter().map(|state| state.watermark).min();
    let backlog = report.tail.since(watermark.unwrap_or(report.first).max(report.first));
    let dir = std::path::absolute(dir).unwrap_or_else(|_| dir.clone());
    let made = if report.created { "made" } else { "opened" };
    tracing::info!(
        "channel {name}: log {} {made} in {:.1} ms: {backlog} events wait, next offset {}",
        dir.display(),
        took.as_secs_f64() * 1e3,
        report.tail
    );
    if let Some(cut) = &report.cut {
        tracing::warn!(
            "channel {name}: {}: cut {} bytes at byte {} that were never acknowledged ({})",
            cut.file,
            cut.bytes,
            cut.position,
            cut.fault
        );
    }
    for damage in &report.damage {
        let hole = &damage.hole;
        tracing::error!(
            "channel {name}: {}: damage at byte {} (offsets {}..{}): {}; set aside in quarantine/",
            damage.file,
            hole.position,
            hole.from,
            hole.to,
            hole.fault
        );
    }
    if report.gap > 0 {
        tracing::warn!("channel {name}: {} offsets are left out: cursors were ahead", report.gap);
    }
    if report.bad_cursor_records > 0 {
        tracing::warn!(
            "channel {name}: {} cursor record(s) torn or damaged: an older one counts, some events \
             may be delivered again",
            report.bad_cursor_records
        );
    }
}

/// The first channel that fails; for ever if none does.
async fn first_failure(running: &mut [Running]) -> String {
    let mut poisons = Vec::new();
    for Running { channel, .. } in running.iter() {
        let grown = Arc::new(tokio::sync::Notify::new());
        let notify = Arc::clone(&grown);
        channel.log().listen(move || notify.notify_one());
        let channel = Arc::clone(channel);
        poisons.push(Box::pin(async move {
            loop {
                if let Some(reason) = channel.log().poisoned() {
                    return format!("channel {}: {reason}", channel.name());
                }
                grown.notified().await;
            }
        }));
    }
    let mut ends: Vec<_> = running
        .iter_mut()
        .filter_map(|running| running.delivery.as_mut())
        .map(|delivery| Box::pin(delivery.ended()))
        .collect();
    std::future::poll_fn(move |context| {
        use std::task::Poll;
        for poison in &mut poisons {
            if let Poll::Ready(reason) = poison.as_mut().poll(context) {
                return Poll::Ready(reason);
            }
        }
        for end in &mut ends {
            if let Poll::Ready(result) = end.as_mut().poll(context) {
                let reason = result.err();
                return Poll::Ready(reason.unwrap_or_else(|| "a delivery ended".to_owned()));
            }
        }
        Poll::Pending
    })
    .await
}

/// Stops in order; each step within what is left of the time.
async fn stop_all(
    asked: Instant,
    stopper: crate::source::Stopper,
    mut sources: tokio::task::JoinSet<()>,
    running: Vec<Running>,
) -> Result<(), String> {
    stopper.stop();
    let all = async { while sources.join_next().await.is_some() {} };
    if tokio::time::timeout(SOURCES_STOP_MAX, all).await.is_err() {
        tracing::warn!("{} source(s) did not stop in time: left", sources.len());
        sources.abort_all();
    }
    let mut result = Ok(());
    let deliveries: Vec<_> =
        running.iter().filter_map(|r| r.delivery.as_ref().map(|d| (r, d))).collect();
    for (running, delivery) in &deliveries {
        let lost_with_process = running.channel.options().dir.is_none();
        delivery.end(if lost_with_process { Ending::Drain } else { Ending::Finish });
    }
    drop(deliveries);
    for Running { control, channel, delivery } in running {
        let Some(mut delivery) = delivery else { continue };
        let left = STOP_MAX.saturating_sub(asked.elapsed());
        let ended = match tokio::time::timeout(left, delivery.ended()).await {
            Ok(ended) => ended,
            Err(_) => {
                let name = channel.name();
                tracing::warn!("channel {name}: sinks did not finish in {STOP_MAX:?}: abandoned");
                delivery.end(Ending::Abandon);
                delivery.ended().await
            }
        };
        result = result.and(ended);
        drop(control);
        result = result.and(close(channel).await);
    }
    if result.is_ok() {
        tracing::info!("stopped after {} ms", asked.elapsed().as_millis());
    }
    result
}

async fn close(channel: Arc<LogChannel>) -> Result<(), String> {
    let name = channel.name().to_owned();
    let closed = tokio::task::spawn_blocking(move || channel.log().close()).await;
    let closed = closed.map_err(|error| format!("channel {name}: close: {error}"))?;
    closed.map_err(|error| format!("channel {name}: close: {error}"))
}

/// SIGTERM and SIGINT.
struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    fn new() -> Result<Signals, String> {
        let on = |kind| signal(kind).map_err(|error| format!("listen for signals: {error}"));
        Ok(Signals {
            terminate: on(SignalKind::terminate())?,
            interrupt: on(SignalKind::interrupt())?,
        })
    }

    async fn next(&mut self) -> &'static str {
        tokio::select! {
            _ = self.terminate.recv() => "SIGTERM",
            _ = self.interrupt.recv() => "SIGINT",
        }
    }
}
