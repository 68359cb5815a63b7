//! `levada avro-client`: sends lines of a file, a directory or standard input by Avro RPC, as
//! Flume's does; and [`AvroClient`], the connection under it.
//!
//! Other than Flume's: a batch that was answered `FAILED`, or whose connection broke, is sent again
//! (so events may come twice, and none is left out), bodies keep their bytes even where they are
//! not UTF-8, and the exit code is not 0 if anything was left unsent.

mod connection;
mod input;
mod options;

pub use connection::{AvroClient, Compression, ConnectOptions};
pub use options::AvroClientOptions;

use crate::event::Event;
use crate::rpc::avro::Status;
use input::{Headers, Input};
use options::Target;
use std::time::Duration;
use tokio::time::sleep;

/// The rest after a batch that failed: doubled each time, from the first to the last.
const REST: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(5));

/// What was sent.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub struct Summary {
    /// Events that were answered `OK`.
    pub events: u64,
    /// Batches of them.
    pub batches: u64,
    /// Batches that had to be sent again.
    pub retries: u64,
}

/// Why events could not be sent.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// The options contradict each other, or a file of theirs is wrong.
    #[error("{0}")]
    Usage(String),
    /// The connection could not be made, or broke.
    #[error("{peer}: {reason}")]
    Connection {
        /// `host:port`
        peer: String,
        /// What happened.
        reason: String,
    },
    /// The source did not answer within the request-timeout, or did not read.
    #[error("{peer}: no answer in {} s", .wait.as_secs_f64())]
    Late {
        /// `host:port`
        peer: String,
        /// The request-timeout.
        wait: Duration,
    },
    /// The source answered a call with an error.
    #[error("{peer} refused the call: {reason}")]
    Refused {
        /// `host:port`
        peer: String,
        /// What it said.
        reason: String,
    },
    /// A batch was answered `FAILED` each time.
    #[error("{peer} answered {status:?} to {attempts} attempts; {sent} events were taken before")]
    Failed {
        /// `host:port`
        peer: String,
        /// The last answer.
        status: Status,
        /// How often the batch was sent.
        attempts: u32,
        /// Events answered `OK` before it.
        sent: u64,
    },
    /// The input could not be read.
    #[error("{path}: {error}")]
    Input {
        /// What was read.
        path: String,
        /// What happened.
        error: std::io::Error,
    },
}

/// Sends the whole input; returns when each of its events was answered `OK`.
///
/// # Errors
/// The first that could not be overcome; what was answered before it is not sent again by it.
pub async fn run(options: AvroClientOptions) -> Result<Summary, ClientError> {
    let target = options.target()?;
    let headers = options.headers()?;
    let mut sender = Sender { target, host: 0, client: None, summary: Summary::default() };
    sender.client = Some(sender.connect().await?);
    for input in Input::list(&options)? {
        sender.send_input(&input, &headers).await?;
        input.complete()?;
    }
    Ok(sender.summary)
}

struct Sender {
    target: Target,
    /// The host in use.
    host: usize,
    client: Option<AvroClient>,
    summary: Summary,
}

impl Sender {
    async fn send_input(&mut self, input: &Input, headers: &Headers) -> Result<(), ClientError> {
        let mut batches = input.batches(self.target.batch_events, headers.clone());
        while let Some(batch) = batches.recv().await {
            let batch = batch.map_err(|error| ClientError::Input { path: input.name(), error })?;
            self.send(&batch).await?;
            self.summary.events += batch.len() as u64;
            self.summary.batches += 1;
        }
        Ok(())
    }

    /// Sends a batch until it is answered `OK`.
    async fn send(&mut self, batch: &[Event]) -> Result<(), ClientError> {
        let mut rest = REST.0;
        for attempt in 1.. {
            let error = match self.try_once(batch).await {
                Ok(Status::Ok) => return Ok(()),
                Ok(status) => ClientError::Failed {
                    peer: self.target.hosts[self.host].clone(),
                    status,
                    attempts: attempt,
                    sent: self.summary.events,
                },
                Err(error) => {
                    self.client = None;
                    self.host = (self.host + 1) % self.target.hosts.len();
                    error
                }
            };
            if attempt >= self.target.attempts || matches!(error, ClientError::Refused { .. }) {
                return Err(error);
            }
            tracing::warn!("{error}; the batch is sent again in {} ms", rest.as_millis());
            sleep(rest).await;
            rest = (rest * 2).min(REST.1);
            self.summary.retries += 1;
        }
        unreachable!("the loop ends with a result")
    }

    async fn try_once(&mut self, batch: &[Event]) -> Result<Status, ClientError> {
        let client = match self.client.take() {
            Some(client) => client,
            None => self.connect().await?,
        };
        self.client.insert(client).append_batch(batch).await
    }

    /// Connects to the host in use, or to the first after it that answers.
    async fn connect(&mut self) -> Result<AvroClient, ClientError> {
        let mut failure = None;
        for _ in 0..self.target.hosts.len() {
            let host = &self.target.hosts[self.host];
            match AvroClient::connect_with(host, self.target.connect).await {
                Ok(client) => return Ok(client),
                Err(error) => failure = Some(error),
            }
            self.host = (self.host + 1) % self.target.hosts.len();
        }
        Err(failure.expect("a target has a host"))
    }
}
