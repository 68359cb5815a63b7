//! A key is declared once, beside its component: name, kind, default, unit, meaning. The typed
//! getters of [`Settings`], `levada keys`, `levada check` and the unknown-key warning all read that
//! one declaration.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

/// What a component is.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Role {
    /// Takes events in.
    Source,
    /// Holds events.
    Channel,
    /// Gives events out.
    Sink,
}

impl Role {
    /// Every role, in the order in which events meet them.
    pub const ALL: [Role; 3] = [Role::Source, Role::Channel, Role::Sink];

    /// `source`, `channel`, `sink`
    pub const fn word(self) -> &'static str {
        match self {
            Role::Source => "source",
            Role::Channel => "channel",
            Role::Sink => "sink",
        }
    }

    /// The list of an agent that names them: `sources`, `channels`, `sinks`.
    pub const fn list(self) -> &'static str {
        match self {
            Role::Source => "sources",
            Role::Channel => "channels",
            Role::Sink => "sinks",
        }
    }
}

/// The declaration of a component type: what `registry` collects.
#[derive(Clone, Copy, Debug)]
pub struct Component {
    /// Source, channel or sink.
    pub role: Role,
    /// Flume's alias, as in `type = alias` (compared without regard to case).
    pub alias: &'static str,
    /// Flume's class name, accepted too.
    pub class: &'static str,
    /// One sentence.
    pub doc: &'static str,
    /// Its keys, without those that every component of the role has.
    pub keys: &'static [Key],
}

/// One configuration key.
#[derive(Clone, Copy, Debug)]
pub struct Key {
    /// As it stands behind `<agent>.<role>.<name>.`; a trailing `*` takes any suffix.
    pub name: &'static str,
    /// How its text is read.
    pub kind: Kind,
    /// Text of the default; `None`: no value.
    pub default: Option<&'static str>,
    /// Whether the component can't do without.
    pub required: bool,
    /// Unit of a number: `ms`, `s`, `events`, `bytes`; empty if none.
    pub unit: &'static str,
    /// What it does, one sentence.
    pub doc: &'static str,
    /// Whether it does so in this version.
    pub status: Status,
}

/// Whether a key does anything in this version.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Status {
    /// It does what its doc says.
    Used,
    /// Accepted, because Flume has it; it changes nothing here.
    Ignored,
    /// Known, but not there yet: giving it is an error, so that nobody relies on it.
    NotYet,
}

impl Key {
    /// The same key, accepted and without effect.
    pub const fn ignored(mut self) -> Key {
        self.status = Status::Ignored;
        self
    }

    /// The same key, refused until a later version brings it.
    pub const fn not_yet(mut self) -> Key {
        self.status = Status::NotYet;
        self
    }

    /// A key with a default.
    pub const fn new(
        name: &'static str,
        kind: Kind,
        default: &'static str,
        unit: &'static str,
        doc: &'static str,
    ) -> Key {
        Key { name, kind, default: Some(default), required: false, unit, doc, status: Status::Used }
    }

    /// A key without a default.
    pub const fn optional(
        name: &'static str,
        kind: Kind,
        unit: &'static str,
        doc: &'static str,
    ) -> Key {
        Key { name, kind, default: None, required: false, unit, doc, status: Status::Used }
    }

    /// A key that must be given.
    pub const fn required(
        name: &'static str,
        kind: Kind,
        unit: &'static str,
        doc: &'static str,
    ) -> Key {
        Key { name, kind, default: None, required: true, unit, doc, status: Status::Used }
    }

    /// Whether `name` is this key (or has its prefix, for a key that ends in `*`).
    pub fn matches(&self, name: &str) -> bool {
        match self.name.strip_suffix('*') {
            Some(prefix) => name.len() > prefix.len() && name.starts_with(prefix),
            None => self.name == name,
        }
    }
}

/// How the text of a key is read.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// `true` in any case is true, everything else false (Flume's rule).
    Bool,
    /// A whole number within bounds, both inclusive.
    Int {
        /// Least.
        min: i64,
        /// Greatest.
        max: i64,
    },
    /// Any text.
    Text,
    /// A path of the local file system.
    Path,
    /// Words separated by white space.
    List,
    /// One of these words, without regard to case, `_` and `-`.
    Choice(&'static [&'static str]),
    /// Text that never appears in a log, a page or an error.
    Secret,
}

impl Kind {
    /// What `levada keys` calls it.
    pub fn word(&self) -> String {
        match self {
            Kind::Bool => "bool".to_owned(),
            Kind::Int { min: i64::MIN, max: i64::MAX } => "int".to_owned(),
            Kind::Int { min, max: i64::MAX } => format!("int from {min}"),
            Kind::Int { min, max } => format!("int {min}..={max}"),
            Kind::Text => "text".to_owned(),
            Kind::Path => "path".to_owned(),
            Kind::List => "list".to_owned(),
            Kind::Choice(words) => words.join(" | "),
            Kind::Secret => "secret".to_owned(),
        }
    }

    /// Any whole number that is not negative.
    pub const COUNT: Kind = Kind::Int { min: 0, max: i64::MAX };
    /// Any whole number from 1.
    pub const POSITIVE: Kind = Kind::Int { min: 1, max: i64::MAX };
    /// A TCP or UDP port; 0 asks the system for a free one.
    pub const PORT: Kind = Kind::Int { min: 0, max: 65535 };
}

/// Where a value was written.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Origin {
    /// The file, or what stands for one: `-D`, `default`.
    pub file: Arc<str>,
    /// Line, from 1; 0 if the origin has no lines.
    pub line: u32,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.line {
            0 => write!(f, "{}", self.file),
            line => write!(f, "{}:{line}", self.file),
        }
    }
}

/// A value with its origin.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Value {
    /// Trimmed text.
    pub text: String,
    /// Where it was written.
    pub origin: Origin,
}

/// How bad a [`Problem`] is.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Severity {
    /// Said, and that is all.
    Warning,
    /// The component can't be built.
    Error,
}

/// Something wrong with the configuration: where, what, what to do.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Problem {
    /// Whether it stops the component.
    pub severity: Severity,
    /// Where, if a line is to blame.
    pub origin: Option<Origin>,
    /// `agent1.sinks.k1`, or the agent's name.
    pub component: String,
    /// What is wrong and what to do.
    pub message: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(origin) = &self.origin {
            write!(f, "{origin}: ")?;
        }
        write!(f, "{}", self.message)
    }
}

impl std::error::Error for Problem {}

/// The settings of one component, read by the keys it declares.
///
/// A getter of a key that the component does not declare is a bug and panics.
#[derive(Clone, Debug)]
pub struct Settings {
    component: String,
    declared: Origin,
    keys: &'static [Key],
    values: BTreeMap<String, Value>,
}

impl Settings {
    /// The settings of `component` (`agent1.sinks.k1`), declared at `declared`.
    pub fn new(
        component: impl Into<String>,
        declared: Origin,
        keys: &'static [Key],
        values: BTreeMap<String, Value>,
    ) -> Settings {
        Settings { component: component.into(), declared, keys, values }
    }

    /// Settings from pairs, as a test or a program gives them.
    pub fn of_pairs(component: &str, keys: &'static [Key], pairs: &[(&str, &str)]) -> Settings {
        let origin = Origin { file: "inline".into(), line: 0 };
        let value = |text: &str| Value { text: text.to_owned(), origin: origin.clone() };
        let values = pairs.iter().map(|(k, v)| ((*k).to_owned(), value(v))).collect();
        Settings::new(component, origin, keys, values)
    }

    /// `agent1.sinks.k1`
    pub fn component(&self) -> &str {
        &self.component
    }

    /// `k1`
    pub fn name(&self) -> &str {
        self.component.rsplit('.').next().unwrap_or_default()
    }

    /// The keys that the component declares.
    pub fn keys(&self) -> &'static [Key] {
        self.keys
    }

    /// The values that were given, by key.
    pub fn given(&self) -> impl Iterator<Item = (&str, &Value)> {
        self.values.iter().map(|(k, v)| (k.as_str(), v))
    }

    /// Whether the key was given.
    pub fn has(&self, key: &str) -> bool {
        self.values.contains_key(key)
    }

    /// An error about `key`, at the line that gave it.
    pub fn problem(&self, key: &str, message: impl fmt::Display) -> Problem {
        let origin = self.values.get(key).map_or(&self.declared, |value| &value.origin);
        Problem {
            severity: Severity::Error,
            origin: Some(origin.clone()),
            component: self.component.clone(),
            message: format!("{}.{key}: {message}", self.component),
        }
    }

    /// The text given, or the default's; `None` if there is neither.
    ///
    /// # Errors
    /// A required key is missing.
    pub fn opt_text(&self, key: &str) -> Result<Option<&str>, Problem> {
        let declared = self.key(key);
        match self.values.get(key) {
            Some(value) => Ok(Some(&value.text)),
            None if declared.required => Err(self.problem(key, "required, but not set")),
            None => Ok(declared.default),
        }
    }

    /// The text of a key that has a default or is required.
    pub fn text(&self, key: &str) -> Result<&str, Problem> {
        self.opt_text(key)?.ok_or_else(|| self.problem(key, "not set"))
    }

    /// A whole number, within the declared bounds.
    pub fn int(&self, key: &str) -> Result<i64, Problem> {
        self.opt_int(key)?.ok_or_else(|| self.problem(key, "not set"))
    }

    /// A whole number, within the declared bounds, if there is one.
    pub fn opt_int(&self, key: &str) -> Result<Option<i64>, Problem> {
        let Some(text) = self.opt_text(key)? else { return Ok(None) };
        let number: i64 = text
            .parse()
            .map_err(|_| self.problem(key, format_args!("'{text}' is not a whole number")))?;
        if let Kind::Int { min, max } = self.key(key).kind
            && !(min..=max).contains(&number)
        {
            return Err(match max {
                i64::MAX => self.problem(key, format_args!("{number} is below {min}")),
                _ => self.problem(key, format_args!("{number} is outside {min}..={max}")),
            });
        }
        Ok(Some(number))
    }

    /// A count: a whole number that is not negative.
    pub fn count(&self, key: &str) -> Result<u64, Problem> {
        let number = self.int(key)?;
        u64::try_from(number).map_err(|_| self.problem(key, format_args!("{number} is negative")))
    }

    /// A span of time given in the key's unit (`ms` or `s`).
    pub fn duration(&self, key: &str) -> Result<Duration, Problem> {
        let number = self.count(key)?;
        Ok(match self.key(key).unit {
            "s" => Duration::from_secs(number),
            _ => Duration::from_millis(number),
        })
    }

    /// Flume's boolean: `true` in any case, everything else false.
    pub fn bool(&self, key: &str) -> Result<bool, Problem> {
        Ok(self.opt_text(key)?.is_some_and(|text| text.eq_ignore_ascii_case("true")))
    }

    /// The declared word that the text is, in the declaration's case.
    pub fn choice(&self, key: &str) -> Result<&'static str, Problem> {
        let Kind::Choice(words) = self.key(key).kind else { panic!("key '{key}' is no choice") };
        let text = self.text(key)?;
        let word = words.iter().find(|word| same_word(word, text)).copied();
        word.ok_or_else(|| {
            self.problem(key, format_args!("'{text}' is none of: {}", words.join(", ")))
        })
    }

    /// Words separated by white space.
    pub fn list(&self, key: &str) -> Result<Vec<&str>, Problem> {
        Ok(self.opt_text(key)?.unwrap_or_default().split_whitespace().collect())
    }

    /// The keys given below a prefix (`serializer.`), with the prefix taken off.
    pub fn section<'a>(&'a self, prefix: &'a str) -> impl Iterator<Item = (&'a str, &'a Value)> {
        self.given().filter_map(move |(key, value)| Some((key.strip_prefix(prefix)?, value)))
    }

    /// Every problem that the declarations alone show: required keys that are missing, texts that
    /// don't fit their kind, keys that are not supported yet.
    pub fn check(&self) -> Vec<Problem> {
        let missing = self.keys.iter().filter(|key| key.required && !self.has(key.name));
        let missing = missing.filter_map(|key| self.opt_text(key.name).err());
        let wrong = self.values.keys().filter_map(|name| self.check_value(name).err());
        missing.chain(wrong).collect()
    }

    fn check_value(&self, name: &str) -> Result<(), Problem> {
        let Some(key) = find_key(self.keys, name) else { return Ok(()) };
        if key.status == Status::NotYet {
            return Err(self.problem(name, "not supported yet by this version"));
        }
        if key.status == Status::Ignored {
            return Ok(());
        }
        match key.kind {
            Kind::Int { .. } => self.opt_int(name).map(|_| ()),
            Kind::Choice(_) => self.choice(name).map(|_| ()),
            _ => Ok(()),
        }
    }

    fn key(&self, name: &str) -> &'static Key {
        let key = find_key(self.keys, name);
        key.unwrap_or_else(|| panic!("key '{name}' is not declared by {}", self.component))
    }
}

/// The declaration of `name` among `keys`; its own goes before one with a `*`.
pub fn find_key(keys: &'static [Key], name: &str) -> Option<&'static Key> {
    let exact = keys.iter().find(|key| key.name == name);
    exact.or_else(|| keys.iter().find(|key| key.matches(name)))
}

/// Whether two words are the same but for case, `_` and `-`.
pub fn same_word(a: &str, b: &str) -> bool {
    let letters = |word: &str| {
        let letters = word.chars().filter(|c| !matches!(c, '_' | '-'));
        letters.map(|c| c.to_ascii_lowercase()).collect::<String>()
    };
    letters(a) == letters(b)
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEYS: &[Key] = &[
        Key::required("dir", Kind::Path, "", "A directory."),
        Key::new("count", Kind::Int { min: 1, max: 9 }, "3", "events", "A number."),
        Key::new("mode", Kind::Choice(&["roundRobin", "none"]), "none", "", "A word."),
        Key::optional("size.*", Kind::COUNT, "bytes", "Sizes."),
        Key::optional("later", Kind::Text, "", "Comes later.").not_yet(),
        Key::new("old", Kind::COUNT, "1", "", "Flume's.").ignored(),
    ];

    fn check(pairs: &[(&str, &str)], expected: &[&str]) {
        let settings = Settings::of_pairs("a.sinks.k", KEYS, pairs);
        let seen: Vec<_> = settings.check().iter().map(ToString::to_string).collect();
        assert_eq!(seen, expected);
    }

    #[test]
    fn check_finds_what_the_declarations_show() {
        check(&[("dir", "/x"), ("count", "9"), ("mode", "ROUND_ROBIN"), ("old", "no")], &[]);
        check(
            &[("count", "10"), ("mode", "x"), ("size.a", "-1"), ("later", "1")],
            &[
                "inline: a.sinks.k.dir: required, but not set",
                "inline: a.sinks.k.count: 10 is outside 1..=9",
                "inline: a.sinks.k.later: not supported yet by this version",
                "inline: a.sinks.k.mode: 'x' is none of: roundRobin, none",
                "inline: a.sinks.k.size.a: -1 is below 0",
            ],
        );
    }
}
