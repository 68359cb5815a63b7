//! From texts to a [`Plan`]: what to run, with typed settings, and every problem at once.
//!
//! An error refuses the whole config. With `lenient` (Flume's way) the parts with errors are left
//! out, what needs them too, the rest runs, and each error becomes a warning; what leaves nothing
//! to run, or makes the text ambiguous, is an error even then.

use super::build::build;
use super::exec::{PolicySettings, RateSettings};
use super::groups::GroupPlan;
use super::key::{Component, Problem, Settings, Severity};
use super::properties::Properties;
use super::substitute::{Lookup, substitute};
use super::tree::{self, agents};
use std::collections::BTreeMap;

/// The text of one config file.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ConfigText {
    /// What problems call it: its path as it was given.
    pub name: String,
    /// Its bytes.
    pub bytes: Vec<u8>,
}

/// What [`plan`] works from.
pub struct Request<'a> {
    /// The files in order: of a key in several, the later one wins.
    pub texts: &'a [ConfigText],
    /// The agent to run; `None` if the files have exactly one.
    pub agent: Option<&'a str>,
    /// Where `${…}` is looked up.
    pub lookup: Lookup<'a>,
    /// Every component there is.
    pub components: &'a [&'static Component],
    /// Leave broken parts out instead of refusing.
    pub lenient: bool,
}

/// What an agent runs. If [`Plan::is_refused`], it must not be run.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The agent's name; empty if none could be chosen.
    pub agent: String,
    /// In the order of the list.
    pub sources: Vec<SourcePlan>,
    /// In the order of the list; each has a source or a sink.
    pub channels: Vec<ChannelPlan>,
    /// In the order of the list, which is the order of the round robin.
    pub sinks: Vec<SinkPlan>,
    /// Groups of sinks, in the order of their first sinks.
    pub groups: Vec<GroupPlan>,
    /// By file and line.
    pub problems: Vec<Problem>,
}

/// A source to run.
#[derive(Clone, Debug)]
pub struct SourcePlan {
    /// `s1` of `a1.sources.s1`
    pub name: String,
    /// Its type.
    pub component: &'static Component,
    /// The names of its channels, at least one, each in [`Plan::channels`].
    pub channels: Vec<String>,
    /// The keys of the type.
    pub settings: Settings,
}

/// A channel to open.
#[derive(Clone, Debug)]
pub struct ChannelPlan {
    /// `c1` of `a1.channels.c1`
    pub name: String,
    /// Its type.
    pub component: &'static Component,
    /// The keys of the type.
    pub settings: Settings,
}

/// A sink to run.
#[derive(Clone, Debug)]
pub struct SinkPlan {
    /// `k1` of `a1.sinks.k1`
    pub name: String,
    /// Its type.
    pub component: &'static Component,
    /// The name of its channel, in [`Plan::channels`].
    pub channel: String,
    /// The keys of the type.
    pub settings: Settings,
    /// What a failed delivery does.
    pub policy: PolicySettings,
    /// Its group, in [`Plan::groups`] with its channel.
    pub group: String,
    /// The greater, the sooner (of a `failover` sink group).
    pub priority: i32,
    /// What it may take in a second.
    pub rate: RateSettings,
    /// Whether its longest pause was given, and is no default.
    pub(super) max_backoff_given: bool,
}

impl Plan {
    /// Whether an error stands against running it.
    pub fn is_refused(&self) -> bool {
        self.error_count() > 0
    }

    /// The number of errors; the other problems are warnings.
    pub fn error_count(&self) -> usize {
        let errors = self.problems.iter().filter(|p| p.severity == Severity::Error);
        errors.count()
    }

    pub(super) fn empty(agent: &str) -> Plan {
        Plan {
            agent: agent.to_owned(),
            sources: Vec::new(),
            channels: Vec::new(),
            sinks: Vec::new(),
            groups: Vec::new(),
            problems: Vec::new(),
        }
    }
}

/// Reads, merges and resolves the texts, chooses the agent, and checks everything that can be
/// checked without opening anything.
pub fn plan(request: &Request<'_>) -> Plan {
    let mut problems = Vec::new();
    let mut properties = Properties::default();
    for text in request.texts {
        properties.merge(Properties::read(&text.name, &text.bytes, &mut problems));
    }
    let used = substitute(&mut properties, &request.lookup, &mut problems);
    let agents = agents(&properties);
    let mut plan = match choose(request, agents.keys().map(String::as_str).collect()) {
        Ok(agent) => {
            // what is wrong with other agents is theirs
            let is_other = |name: &str| name != agent && agents.contains_key(name);
            problems.retain(|problem| !is_other(head(&problem.component)));
            let tree = tree::sort(&properties, agent, &used, &mut problems);
            build(&tree, request.components, request.lenient)
        }
        Err(problem) => Plan { problems: vec![problem], ..Plan::empty("") },
    };
    plan.problems.extend(problems);
    sort(&mut plan.problems, request.texts);
    plan
}

fn head(component: &str) -> &str {
    component.split('.').next().unwrap_or_default()
}

fn choose<'a>(request: &Request<'a>, agents: Vec<&'a str>) -> Result<&'a str, Problem> {
    let files: Vec<_> = request.texts.iter().map(|text| text.name.as_str()).collect();
    let files = files.join(", ");
    let message = match (request.agent, &agents[..]) {
        (Some(name), agents) if agents.contains(&name) => return Ok(name),
        (None, [only]) => return Ok(only),
        (_, []) => format!("{files}: no agent: nothing like 'NAME.sources = s1' was found"),
        (Some(name), _) => format!("{files}: no agent '{name}'; there is: {}", agents.join(", ")),
        (None, _) => {
            format!("{files}: several agents, choose one with -n: {}", agents.join(", "))
        }
    };
    let component = request.agent.unwrap_or_default().to_owned();
    Err(Problem { severity: Severity::Error, origin: None, component, message })
}

/// By file (in their order) and line, each problem once.
fn sort(problems: &mut Vec<Problem>, texts: &[ConfigText]) {
    let files: BTreeMap<_, _> = texts.iter().map(|text| text.name.as_str()).zip(0..).collect();
    let place = |problem: &Problem| {
        let origin = problem.origin.as_ref();
        origin.map(|origin| (files.get(&*origin.file).copied(), origin.line))
    };
    problems.sort_by(|a, b| {
        (place(a), &a.component, &a.message).cmp(&(place(b), &b.component, &b.message))
    });
    problems.dedup_by(|a, b| a.origin == b.origin && a.message == b.message);
}
