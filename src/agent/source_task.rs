//! Runs one source: opens it, again and again if it must, and lets it take events in until the stop.

use crate::ingest::Ingest;
use crate::source::{Source, Stop};
use std::time::Duration;

/// Flume looks after its components this often.
const RETRY: Duration = Duration::from_secs(3);

/// Runs `source` until `stop`. A source that can't start is one line, and tried again.
pub(super) async fn run(name: String, mut source: Box<dyn Source>, ingest: Ingest, stop: Stop) {
    let mut last: Option<String> = None;
    let mut failures = 0u64;
    while !stop.is_stopped() {
        let result = match source.open().await {
            Ok(()) => {
                if last.take().is_some() {
                    tracing::info!("source {name}: open after {failures} failures");
                }
                failures = 0;
                source.run(ingest.clone(), stop.clone()).await
            }
            Err(error) => Err(error),
        };
        let Err(error) = result else {
            if !stop.is_stopped() {
                tracing::info!("source {name}: has no more events");
            }
            return;
        };
        failures += 1;
        let text = error.to_string();
        if last.as_ref() != Some(&text) {
            tracing::error!("source {name}: {text}; tried again every {} s", RETRY.as_secs());
            last = Some(text);
        }
        let mut stopped = stop.clone();
        let _ = tokio::time::timeout(RETRY, stopped.stopped()).await;
    }
}
