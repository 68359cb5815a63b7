//! `levada check`, and how a plan's problems look.

use super::config::ConfigArgs;
use super::{CONFIG, print};
use crate::config::{Plan, Problem, Severity};
use std::fmt::Write;
use std::process::ExitCode;

/// Prints every problem, and a last line that sums up.
pub(super) fn check(args: &ConfigArgs) -> ExitCode {
    let plan = args.plan();
    let mut text = String::new();
    for notice in args.notices() {
        writeln!(text, "notice: {notice}").expect("a string takes everything");
    }
    print(&(text + &report(&plan)));
    if plan.is_refused() { CONFIG.into() } else { ExitCode::SUCCESS }
}

/// A line for each problem, and one that sums up.
pub(super) fn report(plan: &Plan) -> String {
    let mut text: String = plan.problems.iter().map(|problem| line(problem) + "\n").collect();
    let errors = plan.error_count();
    let warnings = plan.problems.len() - errors;
    let found = [counted(errors, "error"), counted(warnings, "warning")].join(", ");
    let agent = &plan.agent;
    let verdict = match (plan.is_refused(), agent.is_empty()) {
        (true, true) => format!("refused: {found}"),
        (true, false) => format!("agent {agent} is refused: {found}"),
        (false, _) => {
            let parts = [
                counted(plan.sources.len(), "source"),
                counted(plan.channels.len(), "channel"),
                counted(plan.sinks.len(), "sink"),
            ];
            format!("agent {agent} is fine: {}; {found}", parts.join(", "))
        }
    };
    text.push_str(&verdict);
    text.push('\n');
    text
}

/// `FILE:LINE: error: what`, as editors understand it.
fn line(problem: &Problem) -> String {
    let word = match problem.severity {
        Severity::Error => "error",
        Severity::Warning => "warning",
    };
    match &problem.origin {
        Some(origin) => format!("{origin}: {word}: {}", problem.message),
        None => format!("{word}: {}", problem.message),
    }
}

fn counted(count: usize, noun: &str) -> String {
    match count {
        1 => format!("1 {noun}"),
        _ => format!("{count} {noun}s"),
    }
}
