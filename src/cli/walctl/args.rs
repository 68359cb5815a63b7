//! The words of `walctl`'s command line.

use crate::bench;
use crate::inspect::Bound;
use clap::{Args, Parser, Subcommand};
use std::path::PathBuf;

/// Looks into a channel's log: read-only, at any time, the agent running or dead. `hold` writes
/// beside it, at any time too; `rewind` and `groups --drop` change cursors, with no agent running;
/// `bench` writes in a directory of its own that it removes.
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
  walctl hold /var/lib/levada/c1 --name audit --from 2026-01-31T08:00:00Z --to 2026-01-31T09:00:00Z
  walctl rewind /var/lib/levada/c1 --group default --to 120000";

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
    /// Keep a range of events, whatever the sinks have done with it
    Hold(HoldArgs),
    /// List the consumer groups, or remove what is stored of one
    Groups(GroupsArgs),
    /// Set a group back, or ahead: what is there is delivered again; no agent may run
    Rewind(RewindArgs),
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
    /// Remove what is stored of this group; no agent may run
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
    /// Dead letters: not in this version
    #[arg(long)]
    pub dead: bool,
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
