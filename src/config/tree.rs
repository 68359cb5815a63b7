//! The keys of one agent, sorted by what they belong to: its lists, its components, itself.

use super::common::AGENT_KEYS;
use super::key::{Origin, Problem, Role, Severity, Value, find_key};
use super::nearest::did_you_mean;
use super::properties::Properties;
use std::collections::{BTreeMap, BTreeSet};

/// Values by key.
pub(super) type Values = BTreeMap<String, Value>;

/// The keys of one agent.
#[derive(Debug)]
pub(super) struct AgentTree {
    pub agent: String,
    /// `sources`, `channels`, `sinks`, `sinkgroups`, `configfilters`
    pub lists: BTreeMap<&'static str, Value>,
    /// By list, then by name: the keys behind `<agent>.<list>.<name>.`
    pub parts: BTreeMap<&'static str, BTreeMap<String, Values>>,
    /// `exec.*` right below the agent.
    pub own: Values,
}

const LISTS: [&str; 5] = ["sources", "channels", "sinks", "sinkgroups", "configfilters"];

/// The agents of a config: what stands before the first dot of a list of components.
pub(super) fn agents(properties: &Properties) -> BTreeMap<String, Origin> {
    let mut agents = BTreeMap::new();
    for (key, value) in properties.iter() {
        if let Some((agent, list)) = key.split_once('.')
            && Role::ALL.iter().any(|role| role.list() == list)
        {
            agents.entry(agent.to_owned()).or_insert_with(|| value.origin.clone());
        }
    }
    agents
}

/// Sorts the keys of `agent`. Keys in `used` are variables of other values: they may stand
/// anywhere.
pub(super) fn sort(
    properties: &Properties,
    agent: &str,
    used: &BTreeSet<String>,
    problems: &mut Vec<Problem>,
) -> AgentTree {
    let tree = AgentTree {
        agent: agent.to_owned(),
        lists: BTreeMap::new(),
        parts: BTreeMap::new(),
        own: BTreeMap::new(),
    };
    let mut sorter = Sorter { tree, problems, used };
    let mut strangers: BTreeMap<&str, (&str, &Value)> = BTreeMap::new();
    let agents = agents(properties);
    for (key, value) in properties.iter() {
        match key.split_once('.') {
            Some((head, rest)) if head == agent => sorter.take(key, rest, value),
            Some((head, _)) if agents.contains_key(head) => {}
            _ if used.contains(key) => {}
            Some((head, _)) => {
                let first = strangers.entry(head).or_insert((key, value));
                if value.origin.line < first.1.origin.line {
                    *first = (key, value);
                }
            }
            None => sorter.warn(value, format!("'{key}' belongs to no agent: it is ignored")),
        }
    }
    for (head, (key, value)) in strangers {
        let hint = did_you_mean(head, agents.keys().map(String::as_str));
        sorter.warn(value, format!("'{key}' is ignored: '{head}' is no agent of this file{hint}"));
    }
    sorter.tree
}

struct Sorter<'a> {
    tree: AgentTree,
    problems: &'a mut Vec<Problem>,
    used: &'a BTreeSet<String>,
}

impl Sorter<'_> {
    fn take(&mut self, key: &str, rest: &str, value: &Value) {
        if value.text.is_empty() {
            return self.warn(value, format!("{key} has no value: it is ignored"));
        }
        let known_list = |word: &str| LISTS.into_iter().find(|list| *list == word);
        let Some((section, tail)) = rest.split_once('.') else {
            match known_list(rest) {
                Some(list) => drop(self.tree.lists.insert(list, value.clone())),
                None => self.unknown(key, rest, value),
            }
            return;
        };
        let singular = Role::ALL.into_iter().find(|role| role.word() == section);
        if let Some(list) = known_list(section).or(singular.map(Role::list)) {
            self.take_part(key, list, singular, tail, value);
        } else if find_key(AGENT_KEYS, rest).is_some() {
            self.tree.own.insert(rest.to_owned(), value.clone());
        } else {
            self.unknown(key, rest, value);
        }
    }

    /// A key of a component. `singular`: it was written `agent.sink.k1`, without the `s`.
    fn take_part(
        &mut self,
        key: &str,
        list: &'static str,
        singular: Option<Role>,
        tail: &str,
        value: &Value,
    ) {
        let Some((name, own)) = tail.split_once('.') else {
            return self.warn(value, format!("'{key}' names no key of '{tail}': it is ignored"));
        };
        // levada's own keys have always been written in the singular, too
        if singular.is_some() && !own.starts_with("exec.") {
            let agent = &self.tree.agent;
            self.warn(value, format!("'{key}' is read as '{agent}.{list}.{tail}'"));
        }
        let values = self.tree.parts.entry(list).or_default().entry(name.to_owned()).or_default();
        // keys come in order, and so the singular before the plural
        if let Some(earlier) = values.insert(own.to_owned(), value.clone()) {
            let place = earlier.origin;
            self.warn(value, format!("'{key}' is given at {place}, too: this one wins"));
        }
    }

    fn unknown(&mut self, key: &str, rest: &str, value: &Value) {
        if self.used.contains(key) {
            return;
        }
        let known = LISTS.into_iter().chain(AGENT_KEYS.iter().map(|key| key.name));
        // of "chanels.c1.type" the first word is what was meant
        let head = rest.split_once('.').map_or(rest, |(head, _)| head);
        let word = if head == "exec" { rest } else { head };
        let hint = did_you_mean(word, known);
        self.warn(value, format!("unknown key '{key}': it is ignored{hint}"));
    }

    fn warn(&mut self, value: &Value, message: String) {
        self.problems.push(Problem {
            severity: Severity::Warning,
            origin: Some(value.origin.clone()),
            component: self.tree.agent.clone(),
            message,
        });
    }
}
