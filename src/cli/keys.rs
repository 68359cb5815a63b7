//! `levada keys`: the declarations of all keys, as a table or as JSON.

use super::{UsageError, print};
use crate::agent::registry;
use crate::config::{
    AGENT_KEYS, Component, GROUP_KEYS, Key, Role, SINK_GROUP_KEYS, Status, common_keys,
    did_you_mean,
};
use clap::Args;
use serde_json::json;
use std::fmt::Write;
use std::process::ExitCode;

/// The options of `levada keys`.
#[derive(Args, Clone, Debug)]
pub(super) struct KeysArgs {
    /// A type (file, hdfs), a role (source, channel, sink: what all of it have), 'agent', 'group'
    /// or 'sink-group'
    component: Option<String>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// A group of keys with a name of its own.
struct Group {
    /// `source`, `channel`, `sink`, `agent`, `group`, `sink-group`
    role: &'static str,
    /// The type; `None`: the keys of every component of the role.
    component: Option<&'static Component>,
    keys: &'static [Key],
}

/// Prints the keys of the component asked for, or of all.
pub(super) fn keys(args: &KeysArgs) -> Result<ExitCode, UsageError> {
    let mut groups = groups(&registry::components());
    if let Some(word) = &args.component {
        let names: Vec<_> = groups.iter().map(Group::name).collect();
        groups.retain(|group| group.is_called(word));
        if groups.is_empty() {
            let mut hint = did_you_mean(word, names.iter().copied());
            if hint.is_empty() {
                hint = format!("; there is: {}", names.join(", "));
            }
            return Err(UsageError(format!("no component '{word}'{hint}")));
        }
    }
    if args.json {
        let groups: Vec<_> = groups.iter().map(Group::json).collect();
        print(&format!("{:#}\n", serde_json::Value::Array(groups)));
    } else {
        print(&groups.iter().map(Group::table).collect::<Vec<_>>().join("\n"));
    }
    Ok(ExitCode::SUCCESS)
}

/// The agent's own keys, then role by role what all have, and each type.
fn groups(components: &[&'static Component]) -> Vec<Group> {
    let mut groups = vec![Group { role: "agent", component: None, keys: AGENT_KEYS }];
    for role in Role::ALL {
        groups.push(Group { role: role.word(), component: None, keys: common_keys(role) });
        let of_role = components.iter().filter(|component| component.role == role);
        groups.extend(of_role.map(|component| Group {
            role: role.word(),
            component: Some(component),
            keys: component.keys,
        }));
    }
    groups.push(Group { role: "group", component: None, keys: GROUP_KEYS });
    groups.push(Group { role: "sink-group", component: None, keys: SINK_GROUP_KEYS });
    groups
}

impl Group {
    fn name(&self) -> &'static str {
        self.component.map_or(self.role, |component| component.alias)
    }

    fn is_called(&self, word: &str) -> bool {
        let names = match self.component {
            Some(component) => [component.alias, component.class],
            None => [self.role, self.role],
        };
        names.iter().any(|name| name.eq_ignore_ascii_case(word))
    }

    fn json(&self) -> serde_json::Value {
        json!({
            "role": self.role,
            "type": self.component.map(|component| component.alias),
            "class": self.component.map(|component| component.class),
            "doc": self.component.map(|component| component.doc),
            "keys": self.keys.iter().map(key_json).collect::<Vec<_>>(),
        })
    }

    fn heading(&self) -> String {
        match self.role {
            "agent" => "agent\nRight below the agent's name.".to_owned(),
            "group" => "group\nOf one group: behind <agent>.channels.<c>.group.<name>.".to_owned(),
            "sink-group" => "sink-group\nBehind <agent>.sinkgroups.<g>.".to_owned(),
            role => format!("every {role}"),
        }
    }

    fn table(&self) -> String {
        let mut text = match self.component {
            Some(c) => format!("{} {} ({})\n{}\n", self.role, c.alias, c.class, c.doc),
            None => format!("{}\n", self.heading()),
        };
        let head = ["key", "type", "default", "unit", "meaning"].map(str::to_owned);
        let rows: Vec<_> = std::iter::once(head).chain(self.keys.iter().map(row)).collect();
        let width = |column: usize| {
            let cells = rows.iter().map(|row| row[column].chars().count());
            // one long cell must not push all others off the screen
            cells.filter(|cell| *cell <= CELL_MAX).max().unwrap_or(0)
        };
        let [w0, w1, w2, w3] = [0, 1, 2, 3].map(width);
        for [key, kind, default, unit, meaning] in &rows {
            writeln!(text, "  {key:w0$}  {kind:w1$}  {default:w2$}  {unit:w3$}  {meaning}")
                .expect("a string takes everything");
        }
        text
    }
}

/// Characters of a cell that still count for the width of its column.
const CELL_MAX: usize = 48;

fn row(key: &Key) -> [String; 5] {
    let default = match (key.required, key.default) {
        (true, _) => "required",
        (false, Some(default)) => default,
        (false, None) => "-",
    };
    let meaning = match key.status {
        Status::Used => key.doc.to_owned(),
        Status::Ignored => format!("No effect here. {}", key.doc),
        Status::NotYet => format!("Not supported yet: refused. {}", key.doc),
    };
    let unit = if key.unit.is_empty() { "-" } else { key.unit };
    [key.name.to_owned(), key.kind.word(), default.to_owned(), unit.to_owned(), meaning]
}

fn key_json(key: &Key) -> serde_json::Value {
    let status = match key.status {
        Status::Used => "used",
        Status::Ignored => "ignored",
        Status::NotYet => "not yet",
    };
    json!({
        "key": key.name,
        "type": key.kind.word(),
        "default": key.default,
        "required": key.required,
        "unit": key.unit,
        "status": status,
        "doc": key.doc,
    })
}
