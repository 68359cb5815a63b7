//! From a plan to components that are built and not yet started.

use super::registry;
use super::run::RunOptions;
use crate::channel::log::ChannelOptions;
use crate::config::{
    BalancerKind, ChannelPlan, Exhausted, GroupPlan, Plan, PolicyKind, Problem, SinkPlan,
};
use crate::dispatch::{
    self, Backoff, Balance, DispatchOptions, Expired, FailurePolicy, GroupOptions, Policy, Rate,
    SinkOptions, Start,
};
use crate::sink::{Sink, SinkEnv};
use crate::source::Source;
use std::path::PathBuf;
use std::time::Duration;

/// Sinks of a channel, group by group, each in config order: as the dispatcher counts them.
pub(super) type NamedSinks = Vec<(String, Box<dyn Sink>)>;

/// Components that are built and not yet started.
pub struct Built {
    pub(super) sources: Vec<(String, Vec<String>, Box<dyn Source>)>,
    pub(super) channels: Vec<BuiltChannel>,
}

/// A channel that is not yet open, and what takes from it.
pub(super) struct BuiltChannel {
    pub(super) options: ChannelOptions,
    pub(super) dispatch: DispatchOptions,
    pub(super) sinks: NamedSinks,
    /// Groups that deliver nothing that is older.
    pub(super) max_ages: Vec<(String, Duration)>,
    /// Sinks for replays.
    pub(super) spares: Spares,
}

/// What a channel's sinks are made of, to make one more.
#[derive(Default)]
pub(super) struct Spares {
    sinks: Vec<(GroupPlan, SinkPlan)>,
    conf_dir: Option<PathBuf>,
}

impl Spares {
    /// Another sink of the settings of sink `name`. It has no place for files of its own: a journal
    /// of open files is the first one's.
    pub(super) fn make(&self, name: &str) -> Result<(SinkOptions, Box<dyn Sink>), String> {
        let Some((group, plan)) = self.sinks.iter().find(|(_, sink)| sink.name == name) else {
            let names: Vec<_> = self.sinks.iter().map(|(_, sink)| sink.name.as_str()).collect();
            return Err(format!("no sink {name} on this channel; there is: {}", names.join(", ")));
        };
        let env = SinkEnv { conf_dir: self.conf_dir.clone(), state_dir: None };
        let sink = registry::build_sink(plan, &env).map_err(|problem| problem.message)?;
        Ok((sink_options(group, plan, sink.batch_events_max()), sink))
    }
}

/// Builds every component of a plan; opens nothing.
///
/// # Errors
/// Every problem there is.
pub fn build(plan: &Plan, options: &RunOptions) -> Result<Built, Vec<Problem>> {
    let mut problems = Vec::new();
    let mut built = Built { sources: Vec::new(), channels: Vec::new() };
    for channel in &plan.channels {
        let made = build_channel(plan, channel, options, &mut problems);
        built.channels.extend(made);
    }
    for source in &plan.sources {
        match registry::build_source(source) {
            Ok(made) => {
                built.sources.push((source.name.clone(), source.channels.clone(), made));
            }
            Err(problem) => problems.push(problem),
        }
    }
    if problems.is_empty() { Ok(built) } else { Err(problems) }
}

fn build_channel(
    plan: &Plan,
    channel: &ChannelPlan,
    options: &RunOptions,
    problems: &mut Vec<Problem>,
) -> Option<BuiltChannel> {
    let opened_with = match channel.component.alias {
        "memory" => ChannelOptions::memory(&channel.settings),
        _ => ChannelOptions::file(&channel.settings),
    };
    let channel_options = opened_with.map_err(|problem| problems.push(problem)).ok()?;
    let env = SinkEnv {
        conf_dir: options.conf_dir.clone(),
        state_dir: channel_options.dir.as_ref().map(|dir| dir.join("sinks")),
    };
    let mut built = BuiltChannel {
        options: channel_options,
        dispatch: DispatchOptions { groups: Vec::new(), seed: fastrand::u64(..) },
        sinks: Vec::new(),
        max_ages: Vec::new(),
        spares: Spares { sinks: Vec::new(), conf_dir: options.conf_dir.clone() },
    };
    for group in plan.groups.iter().filter(|group| group.channel == channel.name) {
        let is_member =
            |sink: &&SinkPlan| sink.channel == group.channel && sink.group == group.name;
        let mut sinks = Vec::new();
        for sink in plan.sinks.iter().filter(is_member) {
            match registry::build_sink(sink, &env) {
                Ok(made) => {
                    sinks.push(sink_options(group, sink, made.batch_events_max()));
                    built.sinks.push((sink.name.clone(), made));
                    built.spares.sinks.push((group.clone(), sink.clone()));
                }
                Err(problem) => problems.push(problem),
            }
        }
        let max_age = group.max_age.map(|max_age| (group.name.clone(), max_age));
        built.max_ages.extend(max_age);
        built.dispatch.groups.push(group_options(group, sinks));
    }
    Some(built)
}

fn group_options(group: &GroupPlan, sinks: Vec<SinkOptions>) -> GroupOptions {
    GroupOptions {
        name: group.name.clone(),
        balance: match group.balancer {
            BalancerKind::RoundRobin => Balance::RoundRobin,
            BalancerKind::LeastLoad => Balance::LeastLoad,
            BalancerKind::TargetQueueSize => Balance::TargetQueueSize,
            BalancerKind::Failover => Balance::Failover,
            BalancerKind::Random => Balance::Random,
        },
        sinks,
        start: if group.from_oldest { Start::Oldest } else { Start::Tail },
        end: None,
        fresh_first: group.fresh_first,
        expired: if group.expired_to_dead { Expired::DeadLetter } else { Expired::Pass },
    }
}

fn sink_options(group: &GroupPlan, sink: &SinkPlan, batch_events_max: u32) -> SinkOptions {
    let policy = sink.policy;
    let name = match policy.kind {
        PolicyKind::Requeue => FailurePolicy::Requeue,
        PolicyKind::RetryAndResume => FailurePolicy::RetryAndResume,
        PolicyKind::Fail => FailurePolicy::Fail,
        PolicyKind::DeadLetter => FailurePolicy::DeadLetter,
    };
    SinkOptions {
        batch_events_max,
        queue_size: group.queue_leases,
        policy: Policy {
            max_attempts: policy.max_attempts,
            on_exhausted: match policy.on_exhausted {
                Exhausted::Stop => dispatch::Exhausted::Stop,
                Exhausted::Fail => dispatch::Exhausted::Fail,
                Exhausted::DeadLetter => dispatch::Exhausted::DeadLetter,
            },
            isolate: policy.isolate,
            ..name.into()
        },
        backoff: Backoff {
            first_ms: policy.backoff.as_millis() as u64,
            max_ms: policy.max_backoff.as_millis() as u64,
        },
        target_events: group.target_events.unwrap_or(0),
        priority: sink.priority,
        rate: Rate { events: sink.rate.events, bytes: sink.rate.bytes },
        ..SinkOptions::named(&sink.name)
    }
}
