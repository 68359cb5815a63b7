//! The parts of a plan: each listed component becomes a part, or is left out with a reason.
//!
//! Order: channels, sources, sinks, because each of the latter two is checked against its channels.
//! A part is left out if one of the problems about it is an error; what is left out only because
//! its channel was, is not blamed again.

mod groups;

use super::common::{AGENT_KEYS, common_keys};
use super::exec;
use super::groups::DEFAULT_GROUP;
use super::key::{Component, Origin, Problem, Role, Settings, Severity, Value, find_key};
use super::nearest::did_you_mean;
use super::plan::{ChannelPlan, Plan, SinkPlan, SourcePlan};
use super::rules::{check_address, check_batch, check_capacity, check_selector};
use super::tree::{AgentTree, Values};
use std::collections::{BTreeMap, BTreeSet};

/// Makes the plan of an agent.
pub(super) fn build(tree: &AgentTree, components: &[&'static Component], lenient: bool) -> Plan {
    let own = Origin { file: tree.agent.as_str().into(), line: 0 };
    let agent = Settings::new(tree.agent.clone(), own, AGENT_KEYS, tree.own.clone());
    let plan = Plan::empty(&tree.agent);
    let mut builder = Builder {
        tree,
        components,
        agent,
        plan,
        levels: BTreeMap::new(),
        sink_levels: BTreeMap::new(),
        broken_groups: BTreeSet::new(),
        fatal: Vec::new(),
    };
    builder.later_sections();
    builder.agent_level();
    builder.check_lists();
    let listed: Vec<_> = Role::ALL.into_iter().map(|role| builder.listed(role)).collect();
    let [sources, channels, sinks] = &listed[..] else { unreachable!("three roles") };
    channels.iter().for_each(|(name, value)| builder.channel(name, value));
    sources.iter().for_each(|(name, value)| builder.source(name, value));
    sinks.iter().for_each(|(name, value)| builder.sink(name, value));
    builder.groups();
    builder.sink_groups(lenient);
    builder.drop_unused_channels();
    builder.finish(lenient, &listed)
}

struct Builder<'a> {
    tree: &'a AgentTree,
    components: &'a [&'static Component],
    /// `exec.*` of the agent.
    agent: Settings,
    plan: Plan,
    /// `exec.*` of each channel in the plan.
    levels: BTreeMap<String, Settings>,
    /// The common keys of each sink in the plan.
    sink_levels: BTreeMap<String, Settings>,
    /// Flume sink groups that can't be made.
    broken_groups: BTreeSet<String>,
    /// Errors that leniency does not take away.
    fatal: Vec<Problem>,
}

/// A component that has settings. Also a broken one is looked at to the end: every problem at once.
struct Part {
    /// Its type; `None` if that is unknown, or an error was found.
    component: Option<&'static Component>,
    settings: Settings,
    common: Settings,
}

impl Builder<'_> {
    fn problem(&mut self, severity: Severity, at: Option<&Origin>, path: &str, message: String) {
        let (origin, component) = (at.cloned(), path.to_owned());
        self.plan.problems.push(Problem { severity, origin, component, message });
    }

    fn path(&self, role: Role, name: &str) -> String {
        format!("{}.{}.{name}", self.tree.agent, role.list())
    }

    /// Adds `problems`; whether one of them is an error.
    fn has_error(&mut self, problems: Vec<Problem>) -> bool {
        let has_error = problems.iter().any(|problem| problem.severity == Severity::Error);
        self.plan.problems.extend(problems);
        has_error
    }

    /// Takes the value, or notes why there is none.
    fn take<T>(&mut self, result: Result<T, Problem>) -> Option<T> {
        result.map_err(|problem| self.plan.problems.push(problem)).ok()
    }

    /// What a later version brings is never ignored in silence.
    fn later_sections(&mut self) {
        let agent = self.tree.agent.clone();
        if let Some(value) = self.tree.lists.get("configfilters") {
            let message = format!(
                "{agent}.configfilters: config filters are not supported yet by this version"
            );
            self.problem(Severity::Error, Some(&value.origin), &agent, message);
        }
        for list in ["sinkgroups", "configfilters"] {
            let listed = self.tree.lists.get(list).map_or("", |value| value.text.as_str());
            for (name, values) in self.tree.parts.get(list).into_iter().flatten() {
                if !listed.split_whitespace().any(|listed| listed == name) {
                    let at = first_line(values);
                    let message =
                        format!("{agent}.{list}.{name} is not in the list '{agent}.{list}'");
                    self.problem(Severity::Warning, Some(at), &agent, message);
                }
            }
        }
    }

    fn agent_level(&mut self) {
        let problems = self.agent.check();
        self.has_error(problems);
    }

    /// The names of a list, each once, with the list's value; names without settings and settings
    /// without name are said here.
    fn listed(&mut self, role: Role) -> Vec<(String, Value)> {
        let tree = self.tree;
        let none = BTreeMap::new();
        let parts = tree.parts.get(role.list()).unwrap_or(&none);
        let value = tree.lists.get(role.list());
        let list = format!("{}.{}", tree.agent, role.list());
        let mut names = Vec::<(String, Value)>::new();
        for name in value.iter().flat_map(|value| value.text.split_whitespace()) {
            let at = value.expect("a name is in a value");
            if names.iter().any(|(earlier, _)| earlier == name) {
                let message = format!("{list}: '{name}' is listed twice");
                self.problem(Severity::Warning, Some(&at.origin), &list, message);
            } else {
                names.push((name.to_owned(), at.clone()));
            }
        }
        for (name, values) in parts {
            if !names.iter().any(|(listed, _)| listed == name) {
                let message = format!("{list}.{name} is not in the list '{list}': it does not run");
                let path = self.path(role, name);
                self.problem(Severity::Warning, Some(first_line(values)), &path, message);
            }
        }
        names
    }

    /// What every role has in common: settings, a known type, keys that are known and well.
    fn part(&mut self, role: Role, name: &str, list: &Value) -> Option<Part> {
        let path = self.path(role, name);
        let parts = self.tree.parts.get(role.list());
        let Some(values) = parts.and_then(|parts| parts.get(name)) else {
            let known = parts.into_iter().flat_map(|parts| parts.keys()).map(String::as_str);
            let hint = did_you_mean(name, known);
            let message = format!("{path} is listed, but nothing of it is set{hint}");
            self.problem(Severity::Error, Some(&list.origin), &path, message);
            return None;
        };
        let declared = first_line(values);
        let component = values.get("type").and_then(|kind| self.component(role, &path, kind));
        let (own, common) = self.split(role, &path, component, values);
        let keys = component.map_or(&[][..], |component| component.keys);
        let settings = Settings::new(path.clone(), declared.clone(), keys, own);
        let common = Settings::new(path, declared.clone(), common_keys(role), common);
        let problems = [settings.check(), common.check()].concat();
        let is_broken = self.has_error(problems);
        let component = component.filter(|_| !is_broken);
        Some(Part { component, settings, common })
    }

    /// The component that `type` names, by alias or by class.
    fn component(&mut self, role: Role, path: &str, kind: &Value) -> Option<&'static Component> {
        let word = &kind.text;
        let of_role = self.components.iter().filter(|component| component.role == role);
        let is_it = |c: &&&'static Component| {
            c.alias.eq_ignore_ascii_case(word) || c.class.eq_ignore_ascii_case(word)
        };
        if let Some(component) = of_role.clone().find(is_it) {
            return Some(component);
        }
        let words: Vec<_> = of_role.map(|component| component.alias).collect();
        let mut hint = did_you_mean(word, words.iter().copied());
        if hint.is_empty() {
            hint = format!("; there is: {}", words.join(", "));
        }
        let message = format!("{path}.type: unknown {} type '{word}'{hint}", role.word());
        self.problem(Severity::Error, Some(&kind.origin), path, message);
        None
    }

    /// The component's own values and the role's; unknown keys are said and left out.
    fn split(
        &mut self,
        role: Role,
        path: &str,
        component: Option<&'static Component>,
        values: &Values,
    ) -> (Values, Values) {
        let common = common_keys(role);
        let (mut own_values, mut common_values) = (Values::new(), Values::new());
        for (name, value) in values {
            let is_common = find_key(common, name).is_some();
            if is_common {
                common_values.insert(name.clone(), value.clone());
            }
            let Some(component) = component else { continue };
            if find_key(component.keys, name).is_some() {
                own_values.insert(name.clone(), value.clone());
            } else if !is_common {
                let known = component.keys.iter().chain(common).map(|key| key.name);
                let hint = did_you_mean(name, known.filter(|name| !name.ends_with('*')));
                let kind = format!("{} type '{}'", role.word(), component.alias);
                let message = format!("unknown key '{path}.{name}' for {kind}{hint}");
                self.problem(Severity::Warning, Some(&value.origin), path, message);
            }
        }
        (own_values, common_values)
    }

    fn channel(&mut self, name: &str, list: &Value) {
        let Some(part) = self.part(Role::Channel, name, list) else { return };
        let Part { component, settings, common } = part;
        let capacity = self.take(check_capacity(&settings));
        if let (Some(component), Some(())) = (component, capacity) {
            let name = name.to_owned();
            self.levels.insert(name.clone(), common);
            self.plan.channels.push(ChannelPlan { name, component, settings });
        }
    }

    fn source(&mut self, name: &str, list: &Value) {
        let Some(part) = self.part(Role::Source, name, list) else { return };
        let Part { component, settings, common } = part;
        let Some(names) = self.take(common.list("channels")) else { return };
        let mut channels: Vec<String> = Vec::new();
        for channel in names {
            if self.find_channel(&common, "channels", channel)
                && !channels.iter().any(|earlier| earlier == channel)
            {
                channels.push(channel.to_owned());
            }
        }
        let selector = self.take(check_selector(&common));
        let address = self.take(check_address(&settings));
        let batches = self.batch_fits(&settings, &channels);
        let is_fine = selector.is_some() && address.is_some() && batches && !channels.is_empty();
        if let (Some(component), true) = (component, is_fine) {
            let name = name.to_owned();
            self.plan.sources.push(SourcePlan { name, component, channels, settings });
        }
    }

    fn sink(&mut self, name: &str, list: &Value) {
        let Some(part) = self.part(Role::Sink, name, list) else { return };
        let Part { component, settings, common } = part;
        let Some(channel) = self.take(common.text("channel")).map(str::to_owned) else { return };
        if !self.find_channel(&common, "channel", &channel) {
            return;
        }
        let above = &self.levels[&channel];
        let policy = exec::policy(&common, above, &self.agent);
        let rate = exec::rate(&[&common, above, &self.agent]);
        let max_backoff_given =
            [&common, above, &self.agent].iter().any(|level| level.has("exec.maxBackoff"));
        let (policy, rate) = (self.take(policy), self.take(rate));
        let batches = self.batch_fits(&settings, std::slice::from_ref(&channel));
        let group = common.text("group").unwrap_or(DEFAULT_GROUP).to_owned();
        if let (Some(component), Some(policy), Some(rate), true) =
            (component, policy, rate, batches)
        {
            let name = name.to_owned();
            self.sink_levels.insert(name.clone(), common);
            self.plan.sinks.push(SinkPlan {
                name,
                component,
                channel,
                settings,
                policy,
                group,
                priority: 0,
                rate,
                max_backoff_given,
            });
        }
    }

    /// Whether the channel is in the plan; if it isn't even listed, that is an error.
    fn find_channel(&mut self, common: &Settings, key: &str, channel: &str) -> bool {
        if self.plan.channels.iter().any(|c| c.name == channel) {
            return true;
        }
        let list = self.tree.lists.get(Role::Channel.list());
        let listed: Vec<_> = list.iter().flat_map(|list| list.text.split_whitespace()).collect();
        if !listed.contains(&channel) {
            let mut hint = did_you_mean(channel, listed.iter().copied());
            if hint.is_empty() {
                hint = match listed.len() {
                    0 => "; none is listed".to_owned(),
                    _ => format!("; there is: {}", listed.join(", ")),
                };
            }
            let message = format_args!("unknown channel '{channel}'{hint}").to_string();
            self.plan.problems.push(common.problem(key, message));
        }
        false
    }

    fn batch_fits(&mut self, settings: &Settings, channels: &[String]) -> bool {
        let channels = self.plan.channels.iter().filter(|c| channels.contains(&c.name));
        let problems = channels.filter_map(|c| check_batch(settings, &c.settings).err()).collect();
        !self.has_error(problems)
    }

    fn drop_unused_channels(&mut self) {
        let sources = self.plan.sources.iter().flat_map(|source| &source.channels);
        let sinks = self.plan.sinks.iter().map(|sink| &sink.channel);
        let used: BTreeSet<String> = sources.chain(sinks).cloned().collect();
        // while something is broken, what uses a channel is not known
        let is_whole = self.plan.error_count() == 0;
        let channels = std::mem::take(&mut self.plan.channels);
        for channel in channels {
            if used.contains(&channel.name) {
                self.plan.channels.push(channel);
            } else if is_whole {
                let path = self.path(Role::Channel, &channel.name);
                let list = &self.tree.lists[Role::Channel.list()];
                let message = format!("{path} has no source and no sink: it is not opened");
                self.problem(Severity::Warning, Some(&list.origin), &path, message);
            }
        }
    }

    /// An agent needs a list of channels, and one of sources or of sinks.
    fn check_lists(&mut self) {
        let agent = &self.tree.agent;
        let has = |role: Role| self.tree.lists.contains_key(role.list());
        if !has(Role::Channel) {
            self.refuse(format!("{agent}.channels: required, but not set"));
        } else if !has(Role::Source) && !has(Role::Sink) {
            self.refuse(format!("{agent} has channels, but no list of sources and none of sinks"));
        }
    }

    /// An error even when lenient.
    fn refuse(&mut self, message: String) {
        let origin = self.tree.lists.values().map(|value| &value.origin).min_by_key(|o| o.line);
        let (origin, component) = (origin.cloned(), self.tree.agent.clone());
        self.fatal.push(Problem { severity: Severity::Error, origin, component, message });
    }

    fn finish(mut self, lenient: bool, listed: &[Vec<(String, Value)>]) -> Plan {
        if lenient {
            self.say_left_out(listed);
            self.plan.problems.iter_mut().for_each(|p| p.severity = Severity::Warning);
        }
        let is_idle = self.plan.sources.is_empty() && self.plan.sinks.is_empty();
        // next to other errors it would say nothing new
        if is_idle && self.fatal.is_empty() && self.plan.error_count() == 0 {
            self.refuse(format!("{}: no source and no sink can run", self.tree.agent));
        }
        self.plan.problems.append(&mut self.fatal);
        self.plan
    }

    fn say_left_out(&mut self, listed: &[Vec<(String, Value)>]) {
        for (role, names) in Role::ALL.into_iter().zip(listed) {
            for (name, list) in names {
                let is_in = match role {
                    Role::Source => self.plan.sources.iter().any(|part| part.name == *name),
                    Role::Channel => self.plan.channels.iter().any(|part| part.name == *name),
                    Role::Sink => self.plan.sinks.iter().any(|part| part.name == *name),
                };
                if !is_in {
                    let path = self.path(role, name);
                    let message = format!("{path} is left out");
                    self.problem(Severity::Warning, Some(&list.origin), &path, message);
                }
            }
        }
    }
}

/// The line of the first value; there is one.
fn first_line(values: &Values) -> &Origin {
    let first = values.values().map(|value| &value.origin).min_by_key(|origin| origin.line);
    first.expect("a component is known by its values")
}
