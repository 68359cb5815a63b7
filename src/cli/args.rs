//! The words of the command line, and Flume's way of writing them.

use super::agent::AgentArgs;
use super::avro_client::AvroClientFlags;
use super::config::ConfigArgs;
use super::keys::KeysArgs;
use clap::{CommandFactory, Parser, Subcommand};
use std::collections::BTreeSet;
use std::ffi::OsString;

/// Durable event agent: drop-in for Apache Flume 1.11.
#[derive(Parser, Debug)]
#[command(name = "levada", version, infer_long_args = true)]
pub(super) struct Cli {
    #[command(subcommand)]
    pub command: Command,
}

#[derive(Subcommand, Debug)]
pub(super) enum Command {
    /// Run an agent until it is told to stop
    #[command(visible_alias = "node")]
    Agent(AgentArgs),
    /// Say everything that is wrong with a config: exit code 0 if it would run, 78 if not
    Check(ConfigArgs),
    /// List every key: type, default, unit, meaning
    Keys(KeysArgs),
    /// Send a file, a directory or standard input to an Avro source
    AvroClient(AvroClientFlags),
    /// Print the version
    Version,
}

/// The arguments as clap reads them: `-conf-file x` becomes `--conf-file x`, options of the Java
/// machine become `-X…`.
pub(super) fn flume_style(args: impl Iterator<Item = OsString>) -> Vec<OsString> {
    let long = long_options();
    args.map(|arg| {
        let Some(word) = arg.to_str().and_then(|text| text.strip_prefix('-')) else { return arg };
        let name = word.split('=').next().unwrap_or_default();
        if name.len() > 1 && long.contains(name) {
            format!("--{word}").into()
        } else if ["agentlib", "agentpath", "javaagent"].iter().any(|java| word.starts_with(java)) {
            format!("-X{word}").into()
        } else {
            arg
        }
    })
    .collect()
}

/// The long names of the options of all commands.
fn long_options() -> BTreeSet<String> {
    let mut names = BTreeSet::from(["help".to_owned()]);
    for command in Cli::command().get_subcommands() {
        for arg in command.get_arguments() {
            let aliases = arg.get_all_aliases().unwrap_or_default();
            names.extend(arg.get_long().into_iter().chain(aliases).map(str::to_owned));
        }
    }
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn declaration_of_the_command_line_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn long_options_may_have_one_dash() {
        let check = |given: &str, expected: &str| {
            let seen = flume_style(std::iter::once(given.into()));
            assert_eq!(seen, [OsString::from(expected)]);
        };
        check("-name", "--name");
        check("-conf-file=x", "--conf-file=x");
        check("-prov", "--prov");
        check("-n", "-n");
        check("-na1", "-na1");
        check("--name", "--name");
        check("-Dname=x", "-Dname=x");
        check("-javaagent:x.jar", "-Xjavaagent:x.jar");
        check("name", "name");
        check("-", "-");
    }
}
