//! The one table of components. Each is declared beside its code; here they only meet.

use crate::channel::keys;
use crate::config::{Component, Problem, Settings, SinkPlan, SourcePlan};
use crate::sink::{self, Sink, SinkEnv, file_roll, hdfs, logger, null};
use crate::source::{Source, avro, netcat, seq};

type BuildSource = fn(&Settings) -> Result<Box<dyn Source>, Problem>;
type BuildSink = fn(&Settings, &SinkEnv) -> Result<Box<dyn Sink>, Problem>;

static SOURCES: [(&Component, BuildSource); 3] = [
    (&avro::COMPONENT, avro::build),
    (&netcat::COMPONENT, netcat::build),
    (&seq::COMPONENT, seq::build),
];

static CHANNELS: [&Component; 2] = [&keys::MEMORY, &keys::FILE];

static SINKS: [(&Component, BuildSink); 5] = [
    (&sink::avro::COMPONENT, sink::avro::build),
    (&file_roll::COMPONENT, file_roll::build),
    (&hdfs::COMPONENT, hdfs::build),
    (&logger::COMPONENT, logger::build),
    (&null::COMPONENT, null::build),
];

/// Every component there is, by role: sources, channels, sinks.
pub fn components() -> Vec<&'static Component> {
    let sources = SOURCES.iter().map(|(component, _)| *component);
    let sinks = SINKS.iter().map(|(component, _)| *component);
    sources.chain(CHANNELS).chain(sinks).collect()
}

/// Builds a source; opens nothing.
///
/// # Errors
/// A key's value can't be.
pub fn build_source(plan: &SourcePlan) -> Result<Box<dyn Source>, Problem> {
    let of_type = SOURCES.iter().find(|(component, _)| component.alias == plan.component.alias);
    let (_, build) = of_type.expect("a plan names components of this table");
    build(&plan.settings)
}

/// Builds a sink; opens nothing.
///
/// # Errors
/// A key's value can't be.
pub fn build_sink(plan: &SinkPlan, env: &SinkEnv) -> Result<Box<dyn Sink>, Problem> {
    let of_type = SINKS.iter().find(|(component, _)| component.alias == plan.component.alias);
    let (_, build) = of_type.expect("a plan names components of this table");
    build(&plan.settings, env)
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
