//! A key is declared once, beside its component: name, kind, default, unit, meaning. The typed
//! getters of [`Settings`], `levada keys`, `levada check` and the unknown-key warning all read that
//! one declaration.

use std::fmt;
use std::sync::Arc;

pub use super::settings::Settings;

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
    /// One of these words, without regard to case, `_` and `-`. A word that ends in `:N` takes a
    /// whole number from 1 there.
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

/// Whether `text` is the declared `word`; `interval:N` is any `interval:7`.
pub(super) fn is_word(word: &str, text: &str) -> bool {
    match (word.strip_suffix(":N"), text.split_once(':')) {
        (Some(word), Some((text, number))) => {
            same_word(word, text) && number.parse::<u32>().is_ok_and(|number| number > 0)
        }
        (Some(_), None) => false,
        (None, _) => same_word(word, text),
    }
}
