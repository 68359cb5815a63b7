//! The words of `walctl`'s command line.

use crate::bench;
use crate::fate::Cause;
use crate::inspect::Bound;
use clap::{Args, Parser, Subcommand};
use std::path::PathBuf;

/// Looks into a channel's log: read-only, at any time, the agent running or dead. `hold` writes
/// beside it, at any time too; `dead redrive`, `dead purge`, `rewind` and `groups --drop` change it:
/// an agent that has it is asked to do that. `sinks` and `replay` ask the agent that has it. `bench`
/// writes in a directory of its own that it removes.
#[derive(Parser, Debug)]
#[command(name = "walctl", version, after_help = AFTER)]
pub(super) struct Cli {
    #[command(subcommand)]
    pub command: Command,
}

const AFTER: &str = "\
DIR is the channel's data directory: the key dataDirs of its configuration.

Exit codes:
  0  done
  1  found trouble: damage, or something that contradicts itself
  2  the command line can't be followed, or the log can't be read

Examples:
  walctl stat /var/lib/levada/c1
  walctl cat /var/lib/levada/c1 --from -10
  walctl cat /var/lib/levada/c1 --from 2026-01-31T08:00:00Z --limit 100 --json
  walctl cat /var/lib/levada/c1 --from -0 --follow
  walctl verify /var/lib/levada/c1 --json | jq .problems
  walctl dead ls /var/lib/levada/c1 --cause refused --from 2026-01-31T08:00:00Z
  walctl dead redrive /var/lib/levada/c1 --sink k1 --dry-run
  walctl hold /var/lib/levada/c1 --name audit --from 2026-01-31T08:00:00Z --to 2026-01-31T09:00:00Z
  walctl rewind /var/lib/levada/c1 --group default --to 120000
  walctl sinks /var/lib/levada/c1 --resume k1
  walctl replay /var/lib/levada/c1 --from -1000 --where host=web1 --sink k2 --rate 100";

#[derive(Subcommand, Debug)]
pub(super) enum Command {
    /// List the segments
    Ls(Target),
    /// Say how far the log is, who owns it, what waits
    Stat(Target),
    /// Print events, one a line
    Cat(CatArgs),
    /// Say where each sink is, and what it has been lent
    Cursors(Target),
    /// Check every byte that the log relies on: exit code 1 if something is wrong
    Verify(Target),
    /// List, show, re-drive or purge dead letters
    #[command(subcommand)]
    Dead(DeadCommand),
    /// List events that were given up, or too old
    Losses(LettersArgs),
    /// Keep a range of events, whatever the sinks have done with it
    Hold(HoldArgs),
    /// List the consumer groups, or remove what is stored of one
    Groups(GroupsArgs),
    /// Set a group back, or ahead: what is there is delivered again
    Rewind(RewindArgs),
    /// Ask the running agent what its sinks do, or to use a stopped one again
    Sinks(SinksArgs),
    /// Have the running agent deliver events once more; other sinks are not touched
    Replay(ReplayArgs),
    /// Measure puts and takes here, beside what this disk can do without a log
    Bench(BenchArgs),
}

#[derive(Args, Clone, Debug)]
pub(super) struct BenchArgs {
    #[command(flatten)]
    pub options: bench::Options,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

#[derive(Args, Clone, Debug)]
pub(super) struct Target {
    /// The channel's data directory
    pub dir: PathBuf,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

#[derive(Args, Clone, Debug)]
pub(super) struct HoldArgs {
    #[command(flatten)]
    pub target: Target,
    /// The hold's name: up to 64 letters, digits, '.', '_' and '-'
    #[arg(long, required_unless_present_any = ["list", "drop"])]
    pub name: Option<String>,
    /// The first event to keep: an offset, an RFC 3339 time, or -N: N events before the tail
    #[arg(long, value_name = "PLACE", allow_hyphen_values = true)]
    #[arg(required_unless_present_any = ["list", "drop"])]
    pub from: Option<Bound>,
    /// End before this place
    #[arg(long, value_name = "PLACE", allow_hyphen_values = true)]
    #[arg(required_unless_present_any = ["list", "drop"])]
    pub to: Option<Bound>,
    /// List the holds
    #[arg(long, conflicts_with_all = ["name", "from", "to", "drop"])]
    pub list: bool,
    /// Remove a hold: what it kept goes as the channel's retention says
    #[arg(long, value_name = "NAME", conflicts_with_all = ["name", "from", "to"])]
    pub drop: Option<String>,
}

#[derive(Args, Clone, Debug)]
pub(super) struct GroupsArgs {
    #[command(flatten)]
    pub target: Target,
    /// Remove what is stored of this group; a running agent removes only one without sinks
    #[arg(long, value_name = "NAME")]
    pub drop: Option<String>,
}

#[derive(Args, Clone, Debug)]
pub(super) struct RewindArgs {
    #[command(flatten)]
    pub target: Target,
    /// Which group
    #[arg(long)]
    pub group: String,
    /// The first event to be delivered: an offset, an RFC 3339 time, or -N: N before the tail
    #[arg(long, value_name = "PLACE", allow_hyphen_values = true)]
    pub to: Bound,
}

#[derive(Args, Clone, Debug)]
pub(super) struct CatArgs {
    #[command(flatten)]
    pub target: Target,
    /// Begin here: an offset, an RFC 3339 time, or -N: N events before the tail
    #[arg(long, value_name = "PLACE", allow_hyphen_values = true)]
    pub from: Option<Bound>,
    /// End before this place
    #[arg(long, value_name = "PLACE", allow_hyphen_values = true)]
    pub to: Option<Bound>,
    /// Print at most so many events
    #[arg(long, value_name = "N")]
    pub limit: Option<u64>,
    /// Go on with what comes, until interrupted
    #[arg(long)]
    pub follow: bool,
    /// The dead-letter log instead: letters that are neither re-driven nor purged, by their offsets
    /// there, with the headers that say what became of them
    #[arg(long)]
    pub dead: bool,
}

#[derive(Subcommand, Clone, Debug)]
pub(super) enum DeadCommand {
    /// List letters, one a line
    Ls(LettersArgs),
    /// Print letters with their events
    Cat(LettersArgs),
    /// Put events back into the channel; their letters go
    Redrive(RedriveArgs),
    /// Throw letters away for good
    Purge(PurgeArgs),
}

#[derive(Args, Clone, Debug)]
pub(super) struct LettersArgs {
    #[command(flatten)]
    pub target: Target,
    #[command(flatten)]
    pub filter: FilterArgs,
}

#[derive(Args, Clone, Debug)]
pub(super) struct RedriveArgs {
    #[command(flatten)]
    pub target: Target,
    #[command(flatten)]
    pub filter: FilterArgs,
    /// Every letter
    #[arg(long)]
    pub all: bool,
    /// Say what would be done, and do nothing
    #[arg(long)]
    pub dry_run: bool,
    /// Letters whose events were re-driven so often stay; if not given, what the agent's
    /// deadLetter.maxRedrives says, and 3 without an agent
    #[arg(long, value_name = "N")]
    pub max_redrives: Option<u32>,
}

#[derive(Args, Clone, Debug)]
pub(super) struct PurgeArgs {
    #[command(flatten)]
    pub target: Target,
    #[command(flatten)]
    pub filter: FilterArgs,
    /// Every letter
    #[arg(long)]
    pub all: bool,
    /// The list of 'walctl losses' instead of the letters
    #[arg(long)]
    pub losses: bool,
    /// Say what would be done, and do nothing
    #[arg(long)]
    pub dry_run: bool,
    /// Do it
    #[arg(long)]
    pub yes: bool,
}

#[derive(Args, Clone, Debug)]
pub(super) struct SinksArgs {
    #[command(flatten)]
    pub target: Target,
    /// Use this sink again, which stopped, or does not get on
    #[arg(long, value_name = "NAME")]
    pub resume: Option<String>,
}

#[derive(Args, Clone, Debug)]
pub(super) struct ReplayArgs {
    #[command(flatten)]
    pub target: Target,
    /// Begin here: an offset, an RFC 3339 time, or -N: N events before the tail
    #[arg(long, value_name = "PLACE", allow_hyphen_values = true)]
    pub from: Bound,
    /// End before this place; without it, with what is there now
    #[arg(long, value_name = "PLACE", allow_hyphen_values = true)]
    pub to: Option<Bound>,
    /// Only events that have this header; may be given more than once
    #[arg(long = "where", value_name = "HEADER=VALUE", value_parser = header)]
    pub headers: Vec<(String, String)>,
    /// To another sink with the settings of this one of the channel's
    #[arg(long, value_name = "NAME")]
    pub sink: String,
    /// Read at most so many events a second
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub rate: Option<u64>,
}

/// Which letters are meant: those that everything given fits.
#[derive(Args, Clone, Debug)]
pub(super) struct FilterArgs {
    /// Letters of this sink
    #[arg(long, value_name = "NAME")]
    pub sink: Option<String>,
    /// Letters of this consumer group
    #[arg(long, value_name = "NAME")]
    pub group: Option<String>,
    /// Letters with this text in their reason
    #[arg(long, value_name = "TEXT")]
    pub reason: Option<String>,
    /// Letters of this kind of failure
    #[arg(long, value_name = "WORD", value_parser = Cause::ALL.map(Cause::word))]
    pub cause: Option<String>,
    /// Letters whose event has this header; may be given more than once
    #[arg(long = "where", value_name = "HEADER=VALUE", value_parser = header)]
    pub headers: Vec<(String, String)>,
    /// Not before this offset of the channel, or RFC 3339 time of death
    #[arg(long, value_name = "PLACE", allow_hyphen_values = true)]
    pub from: Option<Bound>,
    /// Before this offset of the channel, or RFC 3339 time of death
    #[arg(long, value_name = "PLACE", allow_hyphen_values = true)]
    pub to: Option<Bound>,
    /// At most so many letters
    #[arg(long, value_name = "N")]
    pub limit: Option<u64>,
}

fn header(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok((name.to_owned(), value.to_owned())),
        _ => Err("a header is given as NAME=VALUE".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn declaration_of_the_command_line_is_sound() {
        Cli::command().debug_assert();
    }
}
