//! Source `avro`: Avro RPC as Flume's clients, agents and appenders speak it.
//!
//! A call is answered `OK` when its events are as durable as the channels promise, `FAILED` when a
//! channel did not take them (the client sends again). Each connection is a task of its own
//! (`connection.rs`); what one peer sends never disturbs another.

mod connection;
mod pipeline;

use super::complaint::{Complaints, Refusals};
use super::serve::{listen, serve};
use super::{Source, SourceError, Stop};
use crate::config::{Component, Key, Kind, Problem, Role, Settings, bind_address};
use crate::ingest::Ingest;
use crate::rpc::avro::FrameLimits;
use async_trait::async_trait;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpListener;

const FRAME_BYTES: Kind = Kind::Int { min: 1024, max: i32::MAX as i64 };

/// The declaration of the source.
pub static COMPONENT: Component = Component {
    role: Role::Source,
    alias: "avro",
    class: "org.apache.flume.source.AvroSource",
    doc: "Listens for Avro RPC of Flume's clients, agents and appenders.",
    keys: &[
        Key::required("bind", Kind::Text, "", "Host to listen on, or host:port."),
        Key::optional("port", Kind::PORT, "", "Port to listen on; 0 takes a free one."),
        Key::optional("threads", Kind::Text, "", "Threads of Flume's server.").ignored(),
        Key::new(
            "compression-type",
            Kind::Choice(&["none", "deflate"]),
            "none",
            "",
            "How both directions are compressed; must be the client's.",
        ),
        Key::new("ssl", Kind::Bool, "false", "", "TLS; true is refused, it is not there yet."),
        Key::optional("keystore", Kind::Path, "", "Key and certificate for ssl."),
        Key::optional("keystore-password", Kind::Secret, "", "Password of the keystore."),
        Key::optional("keystore-type", Kind::Text, "", "Type of the keystore."),
        Key::optional("exclude-protocols", Kind::List, "", "TLS versions not to be used."),
        Key::optional("include-protocols", Kind::List, "", "TLS versions to be used."),
        Key::optional("exclude-cipher-suites", Kind::List, "", "Ciphers not to be used."),
        Key::optional("include-cipher-suites", Kind::List, "", "Ciphers to be used."),
        Key::new("ipFilter", Kind::Bool, "false", "", "Rules; true is refused, not there yet."),
        Key::optional("ipFilterRules", Kind::Text, "", "Which addresses may connect."),
        Key::new("maxFrameBytes", FRAME_BYTES, "67108864", "bytes", "Longest request."),
        Key::new("maxBatchEvents", Kind::POSITIVE, "1000000", "events", "Largest batch."),
        Key::new("maxConnections", Kind::POSITIVE, "10000", "", "Connections open at a time."),
        Key::new("idleTimeout", Kind::COUNT, "0", "s", "Closes silent connections; 0: never."),
    ],
};

/// What the connections of a source share.
struct Shared {
    name: String,
    options: Options,
    complaints: Complaints,
    refusals: Refusals,
}

#[derive(Clone, Copy, Debug)]
struct Options {
    deflate: bool,
    limits: FrameLimits,
    batch_events_max: usize,
    /// Zero: none.
    idle: Duration,
}

/// The source `avro`.
pub struct AvroSource {
    host: String,
    port: u16,
    connections_max: usize,
    shared: Arc<Shared>,
    listener: Option<TcpListener>,
}

/// A source of these settings.
///
/// # Errors
/// A value can't be used, or asks for what is not there yet (TLS, address rules): never served in
/// clear text, never open to all instead.
pub fn build(settings: &Settings) -> Result<Box<dyn Source>, Problem> {
    Ok(Box::new(AvroSource::new(settings)?))
}

impl AvroSource {
    /// As [`build`].
    pub fn new(settings: &Settings) -> Result<AvroSource, Problem> {
        for key in ["ssl", "ipFilter"] {
            if settings.bool(key)? {
                return Err(settings.problem(key, "not supported yet; set it to false"));
            }
        }
        let (host, port) = bind_address(settings)?;
        let size = |key| Ok(usize::try_from(settings.count(key)?).unwrap_or(usize::MAX));
        let options = Options {
            deflate: settings.choice("compression-type")? == "deflate",
            limits: FrameLimits::of_frame_bytes(size("maxFrameBytes")?),
            batch_events_max: size("maxBatchEvents")?,
            idle: settings.duration("idleTimeout")?,
        };
        let shared = Shared {
            name: settings.name().to_owned(),
            options,
            complaints: Complaints::default(),
            refusals: Refusals::default(),
        };
        let connections_max = size("maxConnections")?;
        Ok(AvroSource { host, port, connections_max, shared: Arc::new(shared), listener: None })
    }

    /// Where it listens, between `open` and `run`: with `port = 0` only this and the log know.
    pub fn local_addr(&self) -> Option<SocketAddr> {
        self.listener.as_ref().and_then(|listener| listener.local_addr().ok())
    }
}

#[async_trait]
impl Source for AvroSource {
    async fn open(&mut self) -> Result<(), SourceError> {
        self.listener = Some(listen(&self.shared.name, &self.host, self.port).await?);
        Ok(())
    }

    async fn run(&mut self, ingest: Ingest, stop: Stop) -> Result<(), SourceError> {
        let Some(listener) = self.listener.take() else {
            return Err(SourceError("run before open".to_owned()));
        };
        let shared = &self.shared;
        let handle = |socket, peer, stop| {
            connection::run(shared.clone(), ingest.clone(), socket, peer, stop)
        };
        serve(&shared.name, listener, self.connections_max, stop, &shared.complaints, handle).await;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problem(pairs: &[(&str, &str)]) -> String {
        let settings = Settings::of_pairs("a.sources.r", COMPONENT.keys, pairs);
        AvroSource::new(&settings).err().expect("a problem").message
    }

    #[test]
    fn what_is_not_there_yet_is_refused_rather_than_left_out() {
        let at = ("bind", "localhost:1");
        assert_eq!(
            problem(&[at, ("ssl", "TRUE")]),
            "a.sources.r.ssl: not supported yet; set it to false"
        );
        assert_eq!(
            problem(&[at, ("ipFilter", "true")]),
            "a.sources.r.ipFilter: not supported yet; set it to false"
        );
        assert!(problem(&[at, ("compression-type", "gzip")]).contains("'gzip'"));
        assert!(problem(&[at, ("maxFrameBytes", "1")]).contains("maxFrameBytes"));
        assert!(problem(&[("bind", "localhost")]).contains("port"));
    }

    #[test]
    fn defaults_of_every_key_are_accepted() {
        let pairs = [("bind", "localhost:0"), ("ssl", "false"), ("threads", "many")];
        let settings = Settings::of_pairs("a.sources.r", COMPONENT.keys, &pairs);
        let source = AvroSource::new(&settings).unwrap();
        assert_eq!(source.shared.options.limits.frame_bytes, 64 << 20);
        assert_eq!(source.connections_max, 10_000);
    }
}
