//! The options of `levada avro-client`: Flume's flags, and the properties of `-P`.

use super::input::Headers;
use super::{ClientError, Compression, ConnectOptions};
use crate::config::{Properties, Severity};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Flume's batch size with `-H` and `-p`.
const BATCH_EVENTS: usize = 5;
/// Flume's batch size with `-P`.
const BATCH_EVENTS_PROPS: usize = 100;
/// Flume takes its default instead of a shorter time.
const TIMEOUT_MS_MIN: u64 = 1000;

/// Flags of `levada avro-client`.
#[derive(Clone, Default, Debug, clap::Args)]
pub struct AvroClientOptions {
    /// Host of the Avro source
    #[arg(short = 'H', long, requires = "port")]
    pub host: Option<String>,
    /// Port of the Avro source
    #[arg(short, long, requires = "host")]
    pub port: Option<u16>,
    /// Properties of the RPC client (hosts, batch-size, compression-type, …), instead of -H and -p
    #[arg(short = 'P', long = "rpcProps", alias = "rpc-props", value_name = "FILE")]
    #[arg(conflicts_with = "host")]
    pub rpc_props: Option<PathBuf>,
    /// File to send, an event a line; without -F and --dirname: standard input
    #[arg(short = 'F', long)]
    pub filename: Option<PathBuf>,
    /// Directory whose files to send, each renamed to NAME.COMPLETED when it is sent
    #[arg(long, conflicts_with = "filename")]
    pub dirname: Option<PathBuf>,
    /// Properties file: the headers of every event
    #[arg(short = 'R', long = "headerFile", alias = "header-file", value_name = "FILE")]
    pub header_file: Option<PathBuf>,
    /// Events in a batch (default 5, as Flume's; 100 with -P)
    #[arg(long, value_name = "EVENTS")]
    pub batch_size: Option<usize>,
    /// How often a batch is sent before the client gives up
    #[arg(long, default_value_t = 8)]
    pub attempts: u32,
}

/// Where to send, and how.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Target {
    /// `host:port`, in the order in which they are tried; not empty.
    pub(super) hosts: Vec<String>,
    pub(super) connect: ConnectOptions,
    pub(super) batch_events: usize,
    pub(super) attempts: u32,
}

impl AvroClientOptions {
    pub(super) fn target(&self) -> Result<Target, ClientError> {
        let mut target = match (&self.rpc_props, &self.host, self.port) {
            (Some(file), ..) => target_of(&file.display().to_string(), &read_properties(file)?)?,
            (None, Some(host), Some(port)) => Target {
                hosts: vec![match host.contains(':') && !host.starts_with('[') {
                    true => format!("[{host}]:{port}"),
                    false => format!("{host}:{port}"),
                }],
                connect: ConnectOptions::default(),
                batch_events: BATCH_EVENTS,
                attempts: 0,
            },
            _ => return Err(usage("give -H HOST and -p PORT, or -P FILE")),
        };
        if let Some(events) = self.batch_size {
            target.batch_events = events;
        }
        if target.batch_events == 0 {
            return Err(usage("a batch has at least one event"));
        }
        target.attempts = self.attempts.max(1);
        Ok(target)
    }

    pub(super) fn headers(&self) -> Result<Headers, ClientError> {
        let Some(file) = &self.header_file else { return Ok(Headers::default()) };
        let properties = read_properties(file)?;
        let pairs = properties.iter().map(|(key, value)| (key.to_owned(), value.text.clone()));
        Ok(pairs.collect::<Vec<_>>().into())
    }
}

fn usage(message: impl Into<String>) -> ClientError {
    ClientError::Usage(message.into())
}

fn read_properties(file: &Path) -> Result<Properties, ClientError> {
    let path = file.display().to_string();
    let bytes =
        std::fs::read(file).map_err(|error| ClientError::Input { path: path.clone(), error })?;
    let mut problems = Vec::new();
    let properties = Properties::read(&path, &bytes, &mut problems);
    match problems.iter().find(|problem| problem.severity == Severity::Error) {
        Some(problem) => Err(usage(problem.to_string())),
        None => Ok(properties),
    }
}

/// The target of Flume's RPC client properties.
fn target_of(file: &str, properties: &Properties) -> Result<Target, ClientError> {
    let text = |key: &str| properties.get(key).map(|value| value.text.as_str());
    let number = |key: &str, default: u64| match text(key) {
        None => Ok(default),
        Some(text) => text
            .parse::<u64>()
            .map_err(|_| usage(format!("{file}: {key}: '{text}' is not a whole number"))),
    };
    let is = |key: &str, word: &str| text(key).is_some_and(|text| text.eq_ignore_ascii_case(word));
    if is("ssl", "true") {
        return Err(usage(format!("{file}: ssl is not supported yet")));
    }
    let client_type = text("client.type").unwrap_or("default").to_ascii_lowercase();
    let hosts = hosts_of(file, properties)?;
    let hosts = match client_type.as_str() {
        "default" => hosts[..1].to_vec(),
        "default_failover" | "default_loadbalance" => hosts,
        other => return Err(usage(format!("{file}: client.type '{other}' is not supported"))),
    };
    let compression = match text("compression-type").unwrap_or("none") {
        word if word.eq_ignore_ascii_case("none") => Compression::None,
        word if word.eq_ignore_ascii_case("deflate") => {
            Compression::Deflate(number("compression-level", 6)?.min(9) as u32)
        }
        other => {
            return Err(usage(format!("{file}: compression-type '{other}' is not supported")));
        }
    };
    let defaults = ConnectOptions::default();
    let wait = |key: &str, default: Duration| match number(key, 0)? {
        ..TIMEOUT_MS_MIN => Ok::<_, ClientError>(default),
        ms => Ok(Duration::from_millis(ms)),
    };
    let connect = ConnectOptions {
        compression,
        connect_timeout: wait("connect-timeout", defaults.connect_timeout)?,
        request_timeout: wait("request-timeout", defaults.request_timeout)?,
    };
    let batch_events = match number("batch-size", 0)? {
        0 => BATCH_EVENTS_PROPS,
        events => usize::try_from(events).unwrap_or(usize::MAX),
    };
    Ok(Target { hosts, connect, batch_events, attempts: 0 })
}

fn hosts_of(file: &str, properties: &Properties) -> Result<Vec<String>, ClientError> {
    let names = properties.get("hosts").map_or("", |value| value.text.as_str());
    let host = |name: &str| {
        let key = format!("hosts.{name}");
        let Some(value) = properties.get(&key) else {
            return Err(usage(format!("{file}: hosts names '{name}', but {key} is not set")));
        };
        match value.text.rsplit_once(':') {
            Some((host, port)) if !host.is_empty() && port.parse::<u16>().is_ok() => {
                Ok(value.text.clone())
            }
            _ => Err(usage(format!("{}: {key}: '{}' is no host:port", value.origin, value.text))),
        }
    };
    let hosts: Vec<String> = names.split_whitespace().map(host).collect::<Result<_, _>>()?;
    match hosts.is_empty() {
        true => Err(usage(format!("{file}: hosts is not set"))),
        false => Ok(hosts),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn target(text: &str) -> Result<Target, String> {
        let properties = Properties::read("f", text.as_bytes(), &mut Vec::new());
        target_of("f", &properties).map_err(|error| error.to_string())
    }

    const HOSTS: &str = "hosts = a b\nhosts.a = x:1\nhosts.b = y:2\n";

    #[test]
    fn rpc_properties_give_hosts_batch_and_compression() {
        let plain = target(HOSTS).unwrap();
        assert_eq!(plain.hosts, ["x:1"]);
        assert_eq!((plain.batch_events, plain.connect), (100, ConnectOptions::default()));
        let more = "client.type = default_failover\nbatch-size = 7\nconnect-timeout = 5\n\
                    request-timeout = 1500\ncompression-type = deflate\n";
        let target = target(&format!("{HOSTS}{more}")).unwrap();
        assert_eq!((target.hosts.len(), target.batch_events), (2, 7));
        let expected = ConnectOptions {
            compression: Compression::Deflate(6),
            request_timeout: Duration::from_millis(1500),
            ..ConnectOptions::default()
        };
        assert_eq!(target.connect, expected);
    }

    #[test]
    fn rpc_properties_that_are_wrong_are_named() {
        let check = |more: &str, expected: &str| {
            assert_eq!(target(&format!("{HOSTS}{more}")).unwrap_err(), expected);
        };
        check("ssl = true", "f: ssl is not supported yet");
        check("client.type = thrift", "f: client.type 'thrift' is not supported");
        check("batch-size = x", "f: batch-size: 'x' is not a whole number");
        check("hosts.a = x", "f:4: hosts.a: 'x' is no host:port");
        check("hosts = c", "f: hosts names 'c', but hosts.c is not set");
        assert_eq!(target("").unwrap_err(), "f: hosts is not set");
    }
}
