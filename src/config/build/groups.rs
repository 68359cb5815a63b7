//! Groups of sinks in a plan: levada's own, then Flume's sink groups over them.

use super::super::groups::{self, GroupLevels};
use super::super::key::{Problem, Settings, Severity};
use super::super::nearest::did_you_mean;
use super::super::plan::{Plan, SinkPlan};
use super::Builder;
use std::collections::{BTreeMap, BTreeSet};

impl Builder<'_> {
    /// The groups of the sinks that run, in the order of their first sinks.
    pub(super) fn groups(&mut self) {
        let channels = std::mem::take(&mut self.plan.channels);
        let mut broken = Vec::new();
        for channel in &channels {
            let common = self.levels[&channel.name].clone();
            let sinks = self.plan.sinks.clone();
            let own = sinks.iter().filter(|sink| sink.channel == channel.name);
            let mut names: Vec<&str> = Vec::new();
            own.clone().for_each(|sink| {
                if !names.contains(&sink.group.as_str()) {
                    names.push(&sink.group);
                }
            });
            self.say_unused_groups(&common, &names);
            for name in names {
                let (settings, problems) = groups::group_settings(&common, name);
                let is_broken = self.has_error(problems);
                let members = own.clone().filter(|sink| sink.group == name);
                let level = |sink: &SinkPlan| self.sink_levels[&sink.name].clone();
                let members: Vec<_> = members.map(|sink| (level(sink), sink)).collect();
                let members: Vec<_> = members.iter().map(|(level, sink)| (level, *sink)).collect();
                let levels = GroupLevels { channel: &common, agent: &self.agent };
                let made = groups::group(name, &settings, &levels, &members).and_then(|group| {
                    let alias = channel.component.alias;
                    groups::check_memory(alias, &group, &common, &members).map(|()| group)
                });
                match self.take(made).filter(|_| !is_broken) {
                    Some(group) => self.plan.groups.push(group),
                    None => broken.push((channel.name.clone(), name.to_owned())),
                }
            }
        }
        self.plan
            .sinks
            .retain(|sink| !broken.contains(&(sink.channel.clone(), sink.group.clone())));
        self.plan.channels = channels;
    }

    /// Settings of groups that no sink names.
    fn say_unused_groups(&mut self, channel: &Settings, used: &[&str]) {
        let mut said = BTreeSet::new();
        let given: Vec<_> =
            channel.section("group.").map(|(k, v)| (k.to_owned(), v.clone())).collect();
        for (key, value) in given {
            let name = key.split('.').next().unwrap_or_default().to_owned();
            if !used.contains(&name.as_str()) && said.insert(name.clone()) {
                let path = channel.component().to_owned();
                let hint = did_you_mean(&name, used.iter().copied());
                let message = format!("{path}.group.{name}: no sink is in this group{hint}");
                self.problem(Severity::Warning, Some(&value.origin), &path, message);
            }
        }
    }

    /// Flume's sink groups, each the balancer of one group of sinks.
    pub(super) fn sink_groups(&mut self, lenient: bool) {
        let tree = self.tree;
        let Some(list) = tree.lists.get("sinkgroups") else { return };
        let mut seen: BTreeMap<String, String> = BTreeMap::new();
        for name in list.text.split_whitespace().collect::<BTreeSet<_>>() {
            let path = format!("{}.sinkgroups.{name}", tree.agent);
            let Some(values) = tree.parts.get("sinkgroups").and_then(|parts| parts.get(name))
            else {
                let message = format!("{path} is listed, but nothing of it is set");
                self.problem(Severity::Error, Some(&list.origin), &path, message);
                continue;
            };
            let (group, problems) = groups::sink_group(path, values);
            let is_broken = self.has_error(problems);
            let made = match group {
                Ok(group) => self.apply_sink_group(name, &group, &mut seen),
                Err(problem) if is_broken => Err(problem),
                Err(problem) => {
                    self.plan.problems.push(problem.clone());
                    Err(problem)
                }
            };
            if made.is_err() {
                self.broken_groups.insert(name.to_owned());
            }
        }
        if lenient {
            self.drop_grouped_sinks();
        }
    }

    fn apply_sink_group(
        &mut self,
        name: &str,
        group: &groups::SinkGroup,
        seen: &mut BTreeMap<String, String>,
    ) -> Result<(), Problem> {
        for sink in &group.sinks {
            if let Some(other) = seen.insert(sink.clone(), name.to_owned()) {
                let message = format!("'{sink}' is in the sink group {other} already");
                let problem = group.settings.problem("sinks", message);
                self.plan.problems.push(problem.clone());
                return Err(problem);
            }
        }
        let levels = &self.levels;
        let level = |channel: &str, name: &str| -> Vec<Settings> {
            let Some(channel) = levels.get(channel) else { return Vec::new() };
            vec![channel.clone(), groups::group_settings(channel, name).0]
        };
        let Plan { groups, sinks, .. } = &mut self.plan;
        let applied = groups::apply(group, groups, sinks, &level);
        applied.inspect_err(|problem| self.plan.problems.push(problem.clone()))
    }

    /// A group that can't be made takes its sinks with it, as in Flume: run alone, they would all
    /// take events where the group would have chosen.
    fn drop_grouped_sinks(&mut self) {
        let groups = self.tree.parts.get("sinkgroups").into_iter().flatten();
        let broken = groups.filter(|(name, _)| self.broken_groups.contains(*name));
        let members = broken.filter_map(|(_, values)| values.get("sinks"));
        let members: BTreeSet<_> =
            members.flat_map(|value| value.text.split_whitespace()).collect();
        self.plan.sinks.retain(|sink| !members.contains(sink.name.as_str()));
        let sinks = &self.plan.sinks;
        let has_sink = |group: &groups::GroupPlan| {
            sinks.iter().any(|sink| sink.channel == group.channel && sink.group == group.name)
        };
        self.plan.groups.retain(has_sink);
    }
}
