//! The one table of components. Each is declared beside its code; here they only meet.

use crate::channel::keys;
use crate::config::{Component, Problem, SinkPlan, SourcePlan};
use crate::sink::{Sink, SinkEnv};
use crate::source::Source;

/// Every component there is, by role: sources, channels, sinks.
pub fn components() -> Vec<&'static Component> {
    vec![&keys::MEMORY, &keys::FILE]
}

/// Builds a source; opens nothing.
///
/// # Errors
/// A key's value can't be.
pub fn build_source(plan: &SourcePlan) -> Result<Box<dyn Source>, Problem> {
    Err(plan.settings.problem("type", "not in this build"))
}

/// Builds a sink; opens nothing.
///
/// # Errors
/// A key's value can't be.
pub fn build_sink(plan: &SinkPlan, _env: &SinkEnv) -> Result<Box<dyn Sink>, Problem> {
    Err(plan.settings.problem("type", "not in this build"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn no_two_components_of_a_role_share_a_name() {
        let mut seen = BTreeSet::new();
        for component in components() {
            for name in [component.alias, component.class] {
                let is_new = seen.insert((component.role, name.to_lowercase()));
                assert!(is_new, "{name} is declared twice");
            }
        }
    }

    #[test]
    fn every_default_fits_its_kind() {
        use crate::config::{Settings, common_keys};
        for component in components() {
            for keys in [component.keys, common_keys(component.role)] {
                let defaults = keys.iter().filter_map(|key| Some((key.name, key.default?)));
                let defaults: Vec<_> = defaults.collect();
                let settings = Settings::of_pairs(component.alias, keys, &defaults);
                let mut problems = settings.check();
                problems.retain(|problem| !problem.message.ends_with("required, but not set"));
                assert_eq!(problems, []);
            }
        }
    }
}
