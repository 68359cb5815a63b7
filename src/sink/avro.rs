//! Sink `avro`: sends batches by Avro RPC to the Avro source of another agent, levada's or Flume's.
//!
//! A batch is delivered when the source has answered `OK`: its channel has it then. After any other
//! answer, and after none, the connection is given up (an answer that comes late must not be taken
//! for that of a later call, and behind a balancer the next connection may meet another agent); the
//! next batch makes a new one. A batch whose answer got lost is sent again, so it may arrive twice.
//!
//! Large batches go in several calls: the source holds a call in memory as a whole, and must answer
//! within the `request-timeout`. What an earlier call delivered is not named as failed.

use super::{Cause, FailedEvents, Failure, Outcome, Sink, SinkEnv, SinkError};
use crate::client::{AvroClient, ClientError, Compression, ConnectOptions};
use crate::config::{Component, Key, Kind, Problem, Role, Settings};
use crate::event::{EventBatch, LogEvent};
use crate::rpc::avro::Status;
use async_trait::async_trait;
use std::time::{Duration, Instant};

/// Flume takes its default instead of less than a second; here it is refused.
const TIMEOUT_MS: Kind = Kind::Int { min: 1000, max: i32::MAX as i64 };

/// The declaration of the sink.
pub static COMPONENT: Component = Component {
    role: Role::Sink,
    alias: "avro",
    class: "org.apache.flume.sink.AvroSink",
    doc: "Sends events by Avro RPC to another agent's Avro source.",
    keys: &[
        Key::required("hostname", Kind::Text, "", "Host of the Avro source."),
        Key::required("port", Kind::Int { min: 1, max: 65535 }, "", "Port of the Avro source."),
        Key::new("batch-size", Kind::POSITIVE, "100", "events", "Events in a batch, at most."),
        Key::new(
            "connect-timeout",
            TIMEOUT_MS,
            "20000",
            "ms",
            "How long a connection and its handshake may take.",
        ),
        Key::new("request-timeout", TIMEOUT_MS, "20000", "ms", "How long an answer may take."),
        Key::new(
            "reset-connection-interval",
            Kind::COUNT,
            "0",
            "s",
            "An older connection is made anew, for balancers; 0: never.",
        ),
        Key::new(
            "compression-type",
            Kind::Choice(&["none", "deflate"]),
            "none",
            "",
            "How both directions are compressed; must be the source's.",
        ),
        Key::new(
            "compression-level",
            Kind::Int { min: 0, max: 9 },
            "6",
            "",
            "How hard deflate tries; 0: not at all.",
        ),
        Key::optional("maxIoWorkers", Kind::Text, "", "Threads of Flume's client.").ignored(),
        Key::new("ssl", Kind::Bool, "false", "", "TLS; true is refused, it is not there yet."),
        Key::optional("trust-all-certs", Kind::Bool, "", "Takes any certificate.").not_yet(),
        Key::optional("truststore", Kind::Path, "", "Certificates to trust.").not_yet(),
        Key::optional("truststore-password", Kind::Secret, "", "Password of it.").not_yet(),
        Key::optional("truststore-type", Kind::Text, "", "Type of it.").not_yet(),
        Key::optional("keystore", Kind::Path, "", "Key and certificate for ssl.").not_yet(),
        Key::optional("keystore-password", Kind::Secret, "", "Password of it.").not_yet(),
        Key::optional("keystore-type", Kind::Text, "", "Type of it.").not_yet(),
        Key::optional("exclude-protocols", Kind::List, "", "TLS versions not to be used.")
            .not_yet(),
        Key::optional("include-protocols", Kind::List, "", "TLS versions to be used.").not_yet(),
        Key::optional("exclude-cipher-suites", Kind::List, "", "Ciphers not to be used.").not_yet(),
        Key::optional("include-cipher-suites", Kind::List, "", "Ciphers to be used.").not_yet(),
        Key::optional("client.type", Kind::Text, "", "One host, failover, balance.").not_yet(),
        Key::optional("hosts", Kind::List, "", "Names of several hosts.").not_yet(),
        Key::optional("hosts.*", Kind::Text, "", "host:port of each of them.").not_yet(),
        Key::optional("host-selector", Kind::Text, "", "Which host is next.").not_yet(),
        Key::optional("max-attempts", Kind::COUNT, "", "Hosts tried for a batch.").not_yet(),
        Key::optional("backoff", Kind::Bool, "", "Lets a failed host rest.").not_yet(),
        Key::optional("maxBackoff", Kind::COUNT, "ms", "The longest such rest.").not_yet(),
    ],
};

/// Bytes of events after which a call takes no more of them.
const CALL_BYTES: usize = 16 << 20;

/// The sink `avro`.
pub struct AvroSink {
    name: String,
    /// `host:port`
    address: String,
    options: ConnectOptions,
    /// Zero: a connection is kept as long as it works.
    age_max: Duration,
    batch_events: u32,
    call_bytes: usize,
    open: Option<Connection>,
}

/// A connection without a call under way.
struct Connection {
    client: AvroClient,
    since: Instant,
}

/// A sink of these settings.
///
/// # Errors
/// A value can't be used, or asks for what is not there yet: never sent in clear text instead.
pub fn build(settings: &Settings, _: &SinkEnv) -> Result<Box<dyn Sink>, Problem> {
    Ok(Box::new(AvroSink::new(settings)?))
}

impl AvroSink {
    /// As [`build`].
    pub fn new(settings: &Settings) -> Result<AvroSink, Problem> {
        if settings.bool("ssl")? {
            return Err(settings.problem("ssl", "not supported yet; set it to false"));
        }
        let level = settings.count("compression-level")? as u32;
        let compression = match settings.choice("compression-type")? {
            "deflate" => Compression::Deflate(level),
            _ => Compression::None,
        };
        Ok(AvroSink {
            name: settings.name().to_owned(),
            address: address(settings)?,
            options: ConnectOptions {
                compression,
                connect_timeout: settings.duration("connect-timeout")?,
                request_timeout: settings.duration("request-timeout")?,
            },
            age_max: settings.duration("reset-connection-interval")?,
            batch_events: super::batch_events(settings, "batch-size")?,
            call_bytes: CALL_BYTES,
            open: None,
        })
    }

    /// The connection there is, if it is of use; otherwise a new one. It is taken out: whoever is
    /// done with it, and got the answers to what was sent, puts it back.
    async fn connection(&mut self) -> Result<Connection, ClientError> {
        if let Some(open) = self.open.take()
            && (self.age_max.is_zero() || open.since.elapsed() < self.age_max)
            && !open.client.is_closed().await
        {
            return Ok(open);
        }
        let client = AvroClient::connect_with(&self.address, self.options).await?;
        tracing::debug!("sink {}: connected to {}", self.name, self.address);
        Ok(Connection { client, since: Instant::now() })
    }

    /// Makes one call, and says why its events were not taken.
    async fn call(&mut self, events: &[LogEvent<'_>]) -> Result<(), (Cause, String)> {
        let failed = |error: ClientError| (cause(&error), error.to_string());
        let mut open = self.connection().await.map_err(failed)?;
        match open.client.append_lent(events).await.map_err(failed)? {
            Status::Ok => {
                self.open = Some(open);
                Ok(())
            }
            status => {
                let reason = format!(
                    "{} answered {status:?} to a batch of {} events: its log says why (a full channel?)",
                    self.address,
                    events.len()
                );
                Err((Cause::Refused, reason))
            }
        }
    }
}

#[async_trait]
impl Sink for AvroSink {
    async fn open(&mut self) -> Result<(), SinkError> {
        let open = self.connection().await.map_err(|error| SinkError(error.to_string()))?;
        self.open = Some(open);
        Ok(())
    }

    async fn deliver(&mut self, batch: &EventBatch) -> Outcome {
        let events: Vec<_> = batch.iter().collect();
        let mut rest = &events[..];
        while !rest.is_empty() {
            let (call, later) = rest.split_at(call_len(rest, self.call_bytes));
            if let Err((cause, reason)) = self.call(call).await {
                let events = match rest.len() == events.len() {
                    true => FailedEvents::All,
                    false => FailedEvents::From(call[0].offset),
                };
                let retryable = cause != Cause::Invalid;
                return Outcome::Failed(Failure { events, cause, retryable, reason });
            }
            rest = later;
        }
        Outcome::Delivered
    }

    async fn close(&mut self) -> Result<(), SinkError> {
        self.open = None;
        Ok(())
    }

    fn batch_events_max(&self) -> u32 {
        self.batch_events
    }
}

/// `host:port`, with brackets around the host if it is an IPv6 address.
fn address(settings: &Settings) -> Result<String, Problem> {
    let (host, port) = (settings.text("hostname")?, settings.int("port")?);
    match host {
        "" => Err(settings.problem("hostname", "names no host")),
        v6 if v6.contains(':') && !v6.starts_with('[') => Ok(format!("[{v6}]:{port}")),
        _ => Ok(format!("{host}:{port}")),
    }
}

/// How many of `events`, at least one, go into a call of `bytes`.
fn call_len(events: &[LogEvent<'_>], bytes: usize) -> usize {
    let mut sum = 0;
    let fits = |lent: &&LogEvent<'_>| {
        sum += lent.event.byte_len();
        sum <= bytes
    };
    events.iter().take_while(fits).count().max(1)
}

fn cause(error: &ClientError) -> Cause {
    match error {
        ClientError::Late { .. } => Cause::Timeout,
        ClientError::Refused { .. } | ClientError::Failed { .. } => Cause::Refused,
        ClientError::Connection { .. } | ClientError::Input { .. } => Cause::Unreachable,
        ClientError::Usage(_) => Cause::Invalid,
    }
}

#[cfg(test)]
mod tests;
