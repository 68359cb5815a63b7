//! The typed values of one component, read by the keys it declares.

use super::key::{Key, Kind, Origin, Problem, Severity, Status, Value, find_key, is_word};
use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

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
        let word = words.iter().find(|word| is_word(word, text)).copied();
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

#[cfg(test)]
mod tests {
    use super::*;

    const KEYS: &[Key] = &[
        Key::required("dir", Kind::Path, "", "A directory."),
        Key::new("count", Kind::Int { min: 1, max: 9 }, "3", "events", "A number."),
        Key::new("mode", Kind::Choice(&["roundRobin", "none"]), "none", "", "A word."),
        Key::new("pace", Kind::Choice(&["once", "every:N"]), "once", "", "A word or a number."),
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
        check(&[("dir", "/x"), ("pace", "Every:20")], &[]);
        for wrong in ["every", "every:", "every:0", "every:x", "once:1"] {
            let said = format!("inline: a.sinks.k.pace: '{wrong}' is none of: once, every:N");
            check(&[("dir", "/x"), ("pace", wrong)], &[&said]);
        }
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
