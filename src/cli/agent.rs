//! `levada agent`: from options to a running agent.

use super::check::report;
use super::config::ConfigArgs;
use super::{CONFIG, FAILURE, UsageError, print, say};
use crate::agent::logging::{self, LogFormat};
use crate::agent::{RunError, RunOptions};
use crate::config::Plan;
use clap::{Args, ValueEnum};
use std::io::IsTerminal;
use std::process::ExitCode;

/// The options of `levada agent`.
#[derive(Args, Clone, Debug)]
pub struct AgentArgs {
    /// Which config.
    #[command(flatten)]
    pub config: ConfigArgs,
    /// Check the config and end, as 'levada check' does
    #[arg(short = 'd', long, alias = "dryrun")]
    pub dry_run: bool,
    /// How log lines look
    #[arg(long, value_enum, default_value = "text")]
    log_format: Format,
}

#[derive(ValueEnum, Clone, Copy, Debug)]
enum Format {
    Text,
    Json,
}

impl AgentArgs {
    pub(super) fn validate(&self) -> Result<(), UsageError> {
        self.config.validate()
    }
}

/// Runs the agent to its end. A config with errors is refused, every problem said.
pub fn agent(args: AgentArgs) -> ExitCode {
    let system = args.config.system();
    let root_logger = system.get("flume.root.logger").map(String::as_str);
    let format = match args.log_format {
        Format::Text => LogFormat::Text,
        Format::Json => LogFormat::Json,
    };
    let notice = logging::init(root_logger, format);
    for notice in notice.into_iter().chain(args.config.notices()) {
        tracing::warn!("{notice}");
    }
    let plan = args.config.plan();
    if plan.is_refused() {
        // not through the log: it may be off, and this is the answer to a command
        say(&report(&plan));
        return CONFIG.into();
    }
    if args.dry_run {
        print(&report(&plan));
        return ExitCode::SUCCESS;
    }
    for problem in &plan.problems {
        tracing::warn!("{problem}");
    }
    run(&plan, &args)
}

/// Runs a plan to its end.
fn run(plan: &Plan, args: &AgentArgs) -> ExitCode {
    let options = RunOptions {
        conf_dir: args.config.conf_dir.clone(),
        progress: std::io::stdout().is_terminal(),
    };
    match crate::agent::run(plan, &options) {
        Ok(()) => ExitCode::SUCCESS,
        Err(RunError::Config(problems)) => {
            problems.iter().for_each(|problem| say(&format!("error: {problem}\n")));
            CONFIG.into()
        }
        Err(error @ RunError::Failed(_)) => {
            tracing::error!("{error}");
            FAILURE.into()
        }
    }
}
