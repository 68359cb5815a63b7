//! The process's own log: `tracing` to stderr, one line each, RFC 3339 in UTC.
//!
//! How much is logged: `RUST_LOG` if it is set, else `-Dflume.root.logger=LEVEL[,appender…]`, else
//! `INFO`. Colour only on a terminal, and never with `NO_COLOR`.

use std::io::IsTerminal;
use tracing_subscriber::EnvFilter;

/// How a log line looks.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// One JSON object a line.
    Json,
}

/// Starts the log of the process; a second call changes nothing.
///
/// `root_logger` is the value of `-Dflume.root.logger`. What of it (or of `RUST_LOG`) can't be
/// understood is returned as a notice, and `INFO` is used.
pub fn init(root_logger: Option<&str>, format: LogFormat) -> Option<String> {
    let rust_log = std::env::var("RUST_LOG").ok();
    let (directives, notice) = directives(rust_log.as_deref(), root_logger);
    let filter = EnvFilter::new(directives);
    let no_color = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    let builder = tracing_subscriber::fmt()
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal() && !no_color)
        .with_env_filter(filter);
    // an error means that a log is there already: it stays
    let _ = match format {
        LogFormat::Text => builder.try_init(),
        LogFormat::Json => builder.json().try_init(),
    };
    notice
}

/// The directives to use, and what could not be understood.
fn directives(rust_log: Option<&str>, root_logger: Option<&str>) -> (String, Option<String>) {
    let default = "info".to_owned();
    if let Some(text) = rust_log.filter(|text| !text.trim().is_empty()) {
        return match EnvFilter::try_new(text) {
            Ok(_) => (text.to_owned(), None),
            Err(error) => (default, Some(format!("RUST_LOG is not understood: {error}"))),
        };
    }
    let Some(text) = root_logger else { return (default, None) };
    let word = text.split(',').next().unwrap_or_default().trim();
    match level(word) {
        Some(level) => (level.to_owned(), None),
        None => {
            let levels = "ALL, TRACE, DEBUG, INFO, WARN, ERROR, FATAL, OFF";
            (default, Some(format!("flume.root.logger: '{word}' is none of: {levels}")))
        }
    }
}

/// Log4j's levels, in any case.
fn level(word: &str) -> Option<&'static str> {
    Some(match word.to_ascii_uppercase().as_str() {
        "ALL" | "TRACE" => "trace",
        "DEBUG" => "debug",
        "INFO" => "info",
        "WARN" => "warn",
        "ERROR" | "FATAL" => "error",
        "OFF" => "off",
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(rust_log: Option<&str>, root_logger: Option<&str>, expected: &str, notice: bool) {
        let (seen, said) = directives(rust_log, root_logger);
        assert_eq!((seen.as_str(), said.is_some()), (expected, notice), "{said:?}");
    }

    #[test]
    fn level_comes_from_rust_log_then_flumes_property_then_info() {
        check(None, None, "info", false);
        check(None, Some("DEBUG,console"), "debug", false);
        check(None, Some("fatal"), "error", false);
        check(Some("levada=trace"), Some("INFO"), "levada=trace", false);
        check(Some(" "), Some("WARN"), "warn", false);
    }

    #[test]
    fn level_that_is_not_understood_is_said_and_info_is_used() {
        check(None, Some("LOUD"), "info", true);
        check(Some("a=b=c"), None, "info", true);
    }
}
