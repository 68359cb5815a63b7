//! Groups of sinks: levada's own, each of which sees every event, and Flume's sink groups, which are
//! the balancer of one of them.
//!
//! ```text
//! <agent>.sinks.<k>.group = audit              <agent>.sinkgroups.<g>.sinks = k1 k2
//! <agent>.channels.<c>.group.audit.start       <agent>.sinkgroups.<g>.processor.type = failover
//! ```
//! A Flume sink group has to name all sinks of one group of one channel: what is said of the one is
//! then true of the other.

use super::common::{GROUP_KEYS, SINK_GROUP_KEYS};
use super::exec::{self, BalancerKind, Exhausted, PolicyKind, nearest};
use super::key::{Origin, Problem, Settings, Severity, Value, find_key, same_word};
use super::nearest::did_you_mean;
use super::plan::SinkPlan;
use super::tree::Values;
use std::collections::BTreeMap;
use std::time::Duration;

/// The group of sinks that name none.
pub const DEFAULT_GROUP: &str = "default";

/// A group of sinks that compete for the events of a channel.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct GroupPlan {
    /// `audit` of `a1.sinks.k1.group = audit`
    pub name: String,
    /// Its channel.
    pub channel: String,
    /// Which of its sinks gets the next batch.
    pub balancer: BalancerKind,
    /// Batches that one sink may hold at a time.
    pub queue_leases: u32,
    /// Events a sink may hold at a time, for [`BalancerKind::TargetQueueSize`].
    pub target_events: Option<u64>,
    /// Whether it begins with the oldest event that is kept, and not with the newest.
    pub from_oldest: bool,
    /// Older events are not delivered.
    pub max_age: Option<Duration>,
    /// Whether events that are too old go to the dead letters.
    pub expired_to_dead: bool,
    /// Whether new events go first after an outage.
    pub fresh_first: bool,
}

/// What a group is made from.
pub(super) struct GroupLevels<'a> {
    pub channel: &'a Settings,
    pub agent: &'a Settings,
}

/// The settings of `group.<name>.*` of a channel, and what is wrong with their keys.
pub(super) fn group_settings(channel: &Settings, name: &str) -> (Settings, Vec<Problem>) {
    let prefix = format!("group.{name}.");
    let section = channel
        .given()
        .filter_map(|(key, value)| Some((key.strip_prefix(&prefix)?.to_owned(), value.clone())));
    let path = format!("{}.group.{name}", channel.component());
    settings_of(path, section.collect(), GROUP_KEYS, "a group")
}

/// Settings with known keys only, and what is wrong with the others.
fn settings_of(
    path: String,
    values: Values,
    keys: &'static [super::key::Key],
    what: &str,
) -> (Settings, Vec<Problem>) {
    let first = values.values().map(|value| &value.origin).min_by_key(|origin| origin.line);
    let declared = first.cloned().unwrap_or(Origin { file: path.as_str().into(), line: 0 });
    let (known, unknown): (Values, Values) =
        values.into_iter().partition(|(name, _)| find_key(keys, name).is_some());
    let unknown = unknown.into_iter().map(|(name, value)| {
        let hint = did_you_mean(&name, keys.iter().map(|key| key.name));
        Problem {
            severity: Severity::Warning,
            origin: Some(value.origin),
            component: path.clone(),
            message: format!("unknown key '{path}.{name}' for {what}{hint}"),
        }
    });
    let mut problems: Vec<_> = unknown.collect();
    let settings = Settings::new(path, declared, keys, known);
    problems.extend(settings.check());
    (settings, problems)
}

/// The group `name` of a channel, with its sinks' settings.
///
/// # Errors
/// A value can't be, or contradicts another.
pub(super) fn group(
    name: &str,
    own: &Settings,
    levels: &GroupLevels<'_>,
    sinks: &[(&Settings, &SinkPlan)],
) -> Result<GroupPlan, Problem> {
    let all = [own, levels.channel, levels.agent];
    let at = |key| nearest(&all, key);
    let balancer = exec::balancer(&all)?;
    let target = at("exec.targetQueueSize");
    let target_events = target.opt_int("exec.targetQueueSize")?.map(i64::unsigned_abs);
    if target_events.is_some() && balancer != BalancerKind::TargetQueueSize {
        let message = "goes with exec.type = targetQueueSize";
        return Err(target.problem("exec.targetQueueSize", message));
    }
    let fresh_first = at("exec.freshFirst").bool("exec.freshFirst")?;
    let ordered = sinks.iter().find(|(_, sink)| sink.policy.kind == PolicyKind::RetryAndResume);
    if let (true, Some((_, sink))) = (fresh_first, ordered) {
        let message = format!(
            "the sink {} keeps its order (retryAndResume), and can't take new events first",
            sink.name
        );
        return Err(at("exec.freshFirst").problem("exec.freshFirst", message));
    }
    let max_age = at("exec.maxAge").opt_int("exec.maxAge")?;
    Ok(GroupPlan {
        name: name.to_owned(),
        channel: levels.channel.name().to_owned(),
        balancer,
        queue_leases: exec::queue_leases(&all)?,
        target_events: target_events.filter(|_| balancer == BalancerKind::TargetQueueSize),
        from_oldest: start(own, sinks)? == "oldest",
        max_age: max_age.map(|seconds| Duration::from_secs(seconds.unsigned_abs())),
        expired_to_dead: at("exec.onExpired").choice("exec.onExpired")? == "deadLetter",
        fresh_first,
    })
}

/// Where a new group begins: as its sinks say, else as its own settings do.
fn start(own: &Settings, sinks: &[(&Settings, &SinkPlan)]) -> Result<&'static str, Problem> {
    let mut said: Option<&'static str> = None;
    for (sink, _) in sinks.iter().filter(|(sink, _)| sink.has("group.start")) {
        let word = sink.choice("group.start")?;
        if said.is_some_and(|said| said != word) {
            let message = "another sink of the group says otherwise: say it once";
            return Err(sink.problem("group.start", message));
        }
        said = Some(word);
    }
    match said {
        Some(word) => Ok(word),
        None => own.choice("start"),
    }
}

/// Dead letters have their place beside a log on disk.
pub(super) fn check_memory(
    channel_alias: &str,
    group: &GroupPlan,
    channel: &Settings,
    sinks: &[(&Settings, &SinkPlan)],
) -> Result<(), Problem> {
    if channel_alias != "memory" {
        return Ok(());
    }
    let message = "a memory channel has no place for dead letters: use a file channel";
    let dead = |policy: &exec::PolicySettings| policy.on_exhausted == Exhausted::DeadLetter;
    if let Some((sink, _)) = sinks.iter().find(|(_, sink)| dead(&sink.policy)) {
        return Err(sink.problem("exec.type", message));
    }
    match group.expired_to_dead && group.max_age.is_some() {
        true => Err(channel.problem("exec.onExpired", message)),
        false => Ok(()),
    }
}

/// A Flume sink group.
#[derive(Clone, Debug)]
pub(super) struct SinkGroup {
    pub settings: Settings,
    /// Its sinks, each once, in the order of its list.
    pub sinks: Vec<String>,
    pub balancer: BalancerKind,
    /// By sink.
    pub priorities: BTreeMap<String, i32>,
    /// The longest pause of its sinks, if they give none.
    pub max_backoff: Option<Duration>,
}

/// Reads a sink group, with what is wrong with its keys.
pub(super) fn sink_group(
    path: String,
    values: &Values,
) -> (Result<SinkGroup, Problem>, Vec<Problem>) {
    let (settings, problems) = settings_of(path, values.clone(), SINK_GROUP_KEYS, "a sink group");
    if problems.iter().any(|problem| problem.severity == Severity::Error) {
        let first = problems[0].clone();
        return (Err(first), problems);
    }
    (read_sink_group(settings), problems)
}

fn read_sink_group(settings: Settings) -> Result<SinkGroup, Problem> {
    let mut sinks: Vec<String> = Vec::new();
    for name in settings.list("sinks")? {
        if !sinks.iter().any(|earlier| earlier == name) {
            sinks.push(name.to_owned());
        }
    }
    let kind = settings.choice("processor.type")?;
    let selector = settings.text("processor.selector")?;
    let (balancer, max_backoff) = match kind {
        "failover" => (BalancerKind::Failover, Some(settings.duration("processor.maxpenalty")?)),
        "load_balance" => {
            let longest = settings.duration("processor.selector.maxTimeOut")?;
            let max_backoff = settings.bool("processor.backoff")?.then_some(longest);
            let random = same_word(selector, "random");
            if !random && !same_word(selector, "round_robin") {
                let message =
                    format!("'{selector}' is none of: round_robin, random; classes are not loaded");
                return Err(settings.problem("processor.selector", message));
            }
            (if random { BalancerKind::Random } else { BalancerKind::RoundRobin }, max_backoff)
        }
        _ => (BalancerKind::RoundRobin, None),
    };
    match (kind, sinks.len()) {
        ("default", 2..) => {
            let message = "default takes one sink; see failover and load_balance";
            return Err(settings.problem("processor.type", message));
        }
        ("load_balance", 1) => {
            let message = "load_balance takes two sinks or more";
            return Err(settings.problem("processor.type", message));
        }
        _ => {}
    }
    let priorities = priorities(&settings, &sinks)?;
    Ok(SinkGroup { settings, sinks, balancer, priorities, max_backoff })
}

/// As Flume: a sink without a priority comes behind those before it in the list.
fn priorities(settings: &Settings, sinks: &[String]) -> Result<BTreeMap<String, i32>, Problem> {
    let mut next = 0;
    let mut priorities = BTreeMap::new();
    for sink in sinks {
        let key = format!("processor.priority.{sink}");
        let given: Option<&Value> = settings.given().find(|(k, _)| *k == key).map(|(_, v)| v);
        let priority = match given {
            Some(value) => value.text.parse().map_err(|_| {
                settings.problem(&key, format_args!("'{}' is no whole number", value.text))
            })?,
            None => {
                next -= 1;
                next
            }
        };
        priorities.insert(sink.clone(), priority);
    }
    Ok(priorities)
}

/// Puts a sink group in the place of its sinks' group's balancer.
///
/// # Errors
/// Its sinks are not all sinks of one group, or that group has a balancer of its own.
pub(super) fn apply(
    group: &SinkGroup,
    groups: &mut [GroupPlan],
    sinks: &mut [SinkPlan],
    levels: &dyn Fn(&str, &str) -> Vec<Settings>,
) -> Result<(), Problem> {
    let problem = |message: String| group.settings.problem("sinks", message);
    let mut place: Option<(String, String)> = None;
    for name in &group.sinks {
        let Some(sink) = sinks.iter().find(|sink| sink.name == *name) else {
            return Err(problem(format!("the sink '{name}' does not run: see what is said of it")));
        };
        let own = (sink.channel.clone(), sink.group.clone());
        if place.get_or_insert(own.clone()) != &own {
            let text = format!(
                "'{name}' is of the group '{}' of the channel {}, others are not: \
                 a sink group shares out the events of one group of one channel",
                sink.group, sink.channel
            );
            return Err(problem(text));
        }
    }
    let Some((channel, name)) = place else { return Ok(()) };
    let is_own = |sink: &&mut SinkPlan| sink.channel == channel && sink.group == name;
    if let Some(other) = sinks.iter_mut().filter(is_own).find(|s| !group.sinks.contains(&s.name)) {
        let text = format!(
            "the sink '{}' takes from the same channel without being in the sink group: add it, \
             or give it a group of its own (…sinks.{}.group = NAME), which sees every event",
            other.name, other.name
        );
        return Err(problem(text));
    }
    for level in levels(&channel, &name) {
        if level.has("exec.type") {
            let message = format!(
                "contradicts the sink group {}, which decides who gets the next batch: \
                 take one of them out",
                group.settings.component()
            );
            return Err(level.problem("exec.type", message));
        }
    }
    for plan in groups.iter_mut().filter(|plan| plan.channel == channel && plan.name == name) {
        plan.balancer = group.balancer;
        plan.target_events = None;
    }
    for sink in sinks.iter_mut().filter(|sink| group.sinks.contains(&sink.name)) {
        sink.priority = group.priorities.get(&sink.name).copied().unwrap_or(0);
        if let Some(longest) = group.max_backoff.filter(|_| !sink.max_backoff_given) {
            sink.policy.max_backoff = longest;
            sink.policy.backoff = sink.policy.backoff.min(longest);
        }
    }
    Ok(())
}
