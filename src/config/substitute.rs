//! `${…}` in values: Flume's substitution, done after merging.
//!
//! `${env:X}` is an environment variable, `${sys:p}` a `-Dp=value`, `${key}` another key of the
//! config; `${…:-text}` has a default, `$${…}` stands for a literal `${…}`, references nest.
//!
//! All references resolve whatever the order of the keys (Flume resolves some, by the order of a
//! hash map). What can't be resolved stays as it is, with a warning; a cycle is an error. No
//! message shows a value: it may be a secret.

use super::key::{Problem, Severity};
use super::properties::Properties;
use std::collections::{BTreeMap, BTreeSet};

/// The most references that one value may lead to: keys that each name another one twice would
/// otherwise grow without end.
const STEPS_MAX: u32 = 10_000;

/// Where references outside the config are looked up.
pub struct Lookup<'a> {
    /// The environment.
    pub env: &'a dyn Fn(&str) -> Option<String>,
    /// The `-Dkey=value` of the command line.
    pub system: &'a BTreeMap<String, String>,
}

impl Lookup<'_> {
    /// Whether a plain `${NAME}` may be an environment variable, as Flume did before 1.10.
    fn plain_env(&self) -> bool {
        let name = self.system.get("propertiesImplementation");
        name.is_some_and(|name| name == "org.apache.flume.node.EnvVarResolverProperties")
    }
}

/// Resolves the references in every value. Returns the keys that others refer to.
pub fn substitute(
    properties: &mut Properties,
    lookup: &Lookup<'_>,
    problems: &mut Vec<Problem>,
) -> BTreeSet<String> {
    let raw = properties.clone();
    let mut used = BTreeSet::new();
    for (key, value) in properties.values_mut() {
        if !value.text.contains("${") {
            continue;
        }
        let path = vec![key.to_owned()];
        let notes = Vec::new();
        let mut resolver = Resolver { raw: &raw, lookup, path, used: &mut used, notes, steps: 0 };
        let resolved = resolver.text(&value.text);
        problems.extend(resolver.notes.into_iter().map(|(severity, note)| Problem {
            severity,
            origin: Some(value.origin.clone()),
            component: component_of(key),
            message: format!("{key}: {note}"),
        }));
        value.text = resolved.trim().to_owned();
    }
    used
}

/// `a1.sinks.k1` of `a1.sinks.k1.hdfs.path`; the agent's name for its own keys.
fn component_of(key: &str) -> String {
    let mut parts = key.split('.');
    let head: Vec<_> = parts.by_ref().take(3).collect();
    match parts.next() {
        Some(_) => head.join("."),
        None => head.first().copied().unwrap_or_default().to_owned(),
    }
}

/// Resolves one value.
struct Resolver<'a> {
    raw: &'a Properties,
    lookup: &'a Lookup<'a>,
    /// The references that are being resolved, outermost first.
    path: Vec<String>,
    used: &'a mut BTreeSet<String>,
    notes: Vec<(Severity, String)>,
    /// References seen so far.
    steps: u32,
}

impl Resolver<'_> {
    fn text(&mut self, text: &str) -> String {
        let mut out = String::with_capacity(text.len());
        let mut rest = text;
        while let Some(at) = rest.find("${") {
            let Some(len) = reference_len(&rest[at..]) else { break };
            let (before, reference) = (&rest[..at], &rest[at..at + len]);
            match before.strip_suffix('$') {
                Some(before) => out.extend([before, reference]),
                None => {
                    out.push_str(before);
                    out.push_str(&self.reference(reference));
                }
            }
            rest = &rest[at + len..];
        }
        out + rest
    }

    /// The text that `${…}` stands for; itself, if it stands for nothing.
    fn reference(&mut self, reference: &str) -> String {
        self.steps += 1;
        if self.steps > STEPS_MAX {
            let note =
                format!("more than {STEPS_MAX} references in one value: resolving ends here");
            self.note(Severity::Error, note);
            return String::new();
        }
        let (name, default) = split_default(&reference[2..reference.len() - 1]);
        let name = self.text(name);
        let name = name.as_str();
        if self.path.iter().any(|outer| outer == name) {
            let round = self.path.iter().skip_while(|outer| *outer != name);
            let round: Vec<_> = round.map(String::as_str).chain([name]).collect();
            let note = format!("'${{{name}}}' refers to itself: {}", round.join(" -> "));
            self.note(Severity::Error, note);
            return reference.to_owned();
        }
        match (self.look_up(name), default) {
            (Some(found), _) => {
                self.path.push(name.to_owned());
                let resolved = self.text(&found);
                self.path.pop();
                resolved
            }
            (None, Some(default)) => self.text(default),
            (None, None) => {
                let note = format!("'${{{name}}}' {}; it is left as it is", self.why_not(name));
                self.note(Severity::Warning, note);
                reference.to_owned()
            }
        }
    }

    fn look_up(&mut self, name: &str) -> Option<String> {
        if let Some(variable) = name.strip_prefix("env:") {
            return (self.lookup.env)(variable);
        }
        if let Some(property) = name.strip_prefix("sys:") {
            return self.lookup.system.get(property).cloned();
        }
        if let Some(value) = self.raw.get(name) {
            self.used.insert(name.to_owned());
            return Some(value.text.clone());
        }
        if self.lookup.plain_env() { (self.lookup.env)(name) } else { None }
    }

    fn why_not(&self, name: &str) -> String {
        let prefix = name.split_once(':').map(|(prefix, _)| prefix);
        match prefix {
            Some("env") => "is not in the environment".to_owned(),
            Some("sys") => "is not given by -D".to_owned(),
            Some(prefix @ ("date" | "java")) => {
                format!("can't be resolved: the lookup '{prefix}' is not supported")
            }
            _ if (self.lookup.env)(name).is_some() => {
                format!("is no key of this config (for the environment, write ${{env:{name}}})")
            }
            _ => "is no key of this config".to_owned(),
        }
    }

    fn note(&mut self, severity: Severity, note: String) {
        if !self.notes.iter().any(|(_, earlier)| *earlier == note) {
            self.notes.push((severity, note));
        }
    }
}

/// Name and default of what stands between the braces; a `:-` of an inner reference is not ours.
fn split_default(inner: &str) -> (&str, Option<&str>) {
    let mut from = 0;
    loop {
        let Some(at) = inner[from..].find(":-").map(|at| from + at) else { return (inner, None) };
        match inner[from..at].find("${").and_then(|open| {
            let open = from + open;
            reference_len(&inner[open..]).map(|len| open + len)
        }) {
            Some(behind) => from = behind,
            None => return (&inner[..at], Some(&inner[at + 2..])),
        }
    }
}

/// Bytes of the reference that `text` starts with, up to its own `}`; `None` if there is none.
fn reference_len(text: &str) -> Option<usize> {
    let mut depth = 0;
    let mut at = 0;
    while at < text.len() {
        let rest = &text[at..];
        if rest.starts_with("${") {
            depth += 1;
            at += 2;
        } else if rest.starts_with('}') {
            depth -= 1;
            at += 1;
            if depth == 0 {
                return Some(at);
            }
        } else {
            at += rest.chars().next().map_or(1, char::len_utf8);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn resolve_with(system: &[(&str, &str)], text: &str) -> (Vec<String>, Vec<String>) {
        let mut problems = Vec::new();
        let mut properties = Properties::read("t", text.as_bytes(), &mut problems);
        let env = |name: &str| (name == "HOME").then(|| "/home/flume".to_owned());
        let pairs = system.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned()));
        let lookup = Lookup { env: &env, system: &pairs.collect() };
        substitute(&mut properties, &lookup, &mut problems);
        let values = properties.iter().map(|(key, value)| format!("{key}={}", value.text));
        (values.collect(), problems.iter().map(ToString::to_string).collect())
    }

    fn check(text: &str, expected: &str, problems: &[&str]) {
        let (values, seen) = resolve_with(&[("region", "eu")], text);
        assert_eq!(values[0], expected, "of {text}");
        assert_eq!(seen, problems, "of {text}");
    }

    #[test]
    fn references_resolve_from_environment_command_line_and_keys() {
        check("a=x${env:HOME}y ${sys:region} ${b}\nb=1", "a=x/home/flumey eu 1", &[]);
    }

    #[test]
    fn references_resolve_in_any_order_and_through_others() {
        check("a=${b}/${z}\nb=1${z}\nz=2", "a=12/2", &[]);
        check("a=${z}\nz=${y}\ny=${sys:region}", "a=eu", &[]);
    }

    #[test]
    fn default_is_used_when_nothing_is_found() {
        check("a=${env:NO:-fall:-back}", "a=fall:-back", &[]);
        check("a=${env:NO:-${env:HOME}}", "a=/home/flume", &[]);
        check("a=${env:NO:-}x", "a=x", &[]);
        check("a=${b:-${env:NO}}\nb=1", "a=1", &[]);
        check("a=${c${n:-1}:-2}", "a=2", &[]);
    }

    #[test]
    fn nested_name_is_resolved_first() {
        check("a=${b${n}}\nb1=one\nn=1", "a=one", &[]);
    }

    #[test]
    fn doubled_dollar_is_a_literal() {
        check("a=$${env:HOME}", "a=${env:HOME}", &[]);
        check("a=$5 and %{host} and ${", "a=$5 and %{host} and ${", &[]);
    }

    #[test]
    fn unresolved_reference_stays_and_is_named() {
        let left = "it is left as it is";
        check(
            "a=${env:NO}",
            "a=${env:NO}",
            &[&format!("t:1: a: '${{env:NO}}' is not in the environment; {left}")],
        );
        check(
            "a=\n\na=${sys:x}",
            "a=${sys:x}",
            &[
                "t:3: 'a' is set in line 1 and again in line 3: the last wins",
                &format!("t:3: a: '${{sys:x}}' is not given by -D; {left}"),
            ],
        );
        check(
            "a=${HOME}",
            "a=${HOME}",
            &[&format!(
                "t:1: a: '${{HOME}}' is no key of this config \
             (for the environment, write ${{env:HOME}}); {left}"
            )],
        );
        check(
            "a=${date:yyyy}",
            "a=${date:yyyy}",
            &[&format!(
                "t:1: a: '${{date:yyyy}}' can't be resolved: \
                 the lookup 'date' is not supported; {left}"
            )],
        );
        check(
            "a=${base64Decoder:eA==}",
            "a=${base64Decoder:eA==}",
            &[&format!("t:1: a: '${{base64Decoder:eA==}}' is no key of this config; {left}")],
        );
    }

    #[test]
    fn cycle_is_an_error_with_its_round() {
        check(
            "a=${b}\nb=${c}\nc=x${b}",
            "a=x${b}",
            &[
                "t:1: a: '${b}' refers to itself: b -> c -> b",
                "t:2: b: '${b}' refers to itself: b -> c -> b",
                "t:3: c: '${c}' refers to itself: c -> b -> c",
            ],
        );
        check("a=${a}", "a=${a}", &["t:1: a: '${a}' refers to itself: a -> a"]);
    }

    #[test]
    fn references_that_double_at_each_step_come_to_an_end() {
        let lines = (0..40).map(|i| format!("k{i}=${{k{}}}${{k{}}}\n", i + 1, i + 1));
        let (_, problems) = resolve_with(&[], &lines.collect::<String>());
        assert!(problems.iter().any(|p| p.contains("more than 10000 references")));
    }

    #[test]
    fn plain_environment_needs_the_old_flume_switch() {
        let switch = ("propertiesImplementation", "org.apache.flume.node.EnvVarResolverProperties");
        let (values, problems) = resolve_with(&[switch], "a=${HOME}");
        assert_eq!(values, ["a=/home/flume"]);
        assert_eq!(problems, [""; 0]);
    }

    #[test]
    fn any_text_is_resolved_without_panic() {
        fn property(pieces: Vec<u8>) -> bool {
            const PIECES: [&str; 9] = ["${", "}", "$", ":-", "a", "b", "env:", "é", "c"];
            let text: String = pieces.iter().map(|&p| PIECES[p as usize % PIECES.len()]).collect();
            let (values, _) = resolve_with(&[], &format!("a={text}\nb=${{a}}x${{c}}\nc={text}"));
            values.len() == 3
        }
        quickcheck::quickcheck(property as fn(Vec<u8>) -> bool);
    }
}
