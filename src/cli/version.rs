//! `levada version`: five lines, as Flume's command prints them.

use super::print;
use std::process::ExitCode;

/// Prints version, sources, revision, target and what it stands in for.
pub(super) fn version() -> ExitCode {
    let repository = match env!("CARGO_PKG_REPOSITORY") {
        "" => "unknown",
        url => url,
    };
    let revision = option_env!("LEVADA_REVISION").unwrap_or("unknown");
    let build = if cfg!(debug_assertions) { "debug" } else { "release" };
    print(&format!(
        "levada {}\nSource code repository: {repository}\nRevision: {revision}\n\
         Compiled for {} {} ({build})\nReads the configs and speaks the Avro RPC of \
         Apache Flume 1.11\n",
        env!("CARGO_PKG_VERSION"),
        std::env::consts::OS,
        std::env::consts::ARCH,
    ));
    ExitCode::SUCCESS
}
