//! Runs one sink: jobs in over a queue, an answer out for each lease. The protocol is the
//! dispatcher's (`dispatch/mod.rs`).

use crate::dispatch::{Action, LeaseId, SinkId};
use crate::event::EventBatch;
use crate::sink::{Cause, FailedEvents, Failure, Outcome, Sink};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender};
use tokio::time::{Instant, sleep_until};

/// What a sink's task is told.
pub(super) enum Job {
    /// Open the sink.
    Open,
    /// Deliver a batch; an empty one is done without the sink.
    Deliver(LeaseId, EventBatch),
    /// The batch could not be read from the log: answer as if the sink had failed.
    Unreadable(LeaseId, String),
    /// The last failure is known: go on with what comes behind this.
    Recall,
}

/// A sink and its queues.
pub(super) struct SinkTask {
    pub(super) id: SinkId,
    pub(super) name: String,
    pub(super) sink: Box<dyn Sink>,
    pub(super) jobs: UnboundedReceiver<Job>,
    pub(super) answers: UnboundedSender<Action>,
    /// Failures told and not yet recalled.
    pub(super) untold: usize,
}

impl SinkTask {
    /// Works until the queue is closed, then closes the sink.
    pub(super) async fn run(mut self) {
        let mut tick_failing = false;
        loop {
            let due = self.sink.deadline().map(Instant::from_std);
            tokio::select! {
                job = self.jobs.recv() => match job {
                    Some(job) => self.work(job).await,
                    None => break,
                },
                () = until(due) => self.tick(&mut tick_failing).await,
            }
        }
        if let Err(error) = self.sink.close().await {
            tracing::warn!("sink {}: close: {error}", self.name);
        }
    }

    /// Housekeeping; only the first failure in a row is a line.
    async fn tick(&mut self, failing: &mut bool) {
        match self.sink.tick().await {
            Ok(()) => *failing = false,
            Err(error) => {
                if !std::mem::replace(failing, true) {
                    tracing::warn!("sink {}: {error}", self.name);
                }
                // a sink whose housekeeping is due for ever must not spin
                tokio::time::sleep(std::time::Duration::from_millis(100)).await;
            }
        }
    }

    async fn work(&mut self, job: Job) {
        let answer = match job {
            Job::Recall => {
                assert!(self.untold > 0, "a recall follows a failure");
                self.untold -= 1;
                return;
            }
            Job::Open if self.untold > 0 => return,
            Job::Open => match self.sink.open().await {
                Ok(()) => Action::SinkReady(self.id),
                Err(error) => Action::SinkDown { sink: self.id, reason: error.to_string() },
            },
            Job::Deliver(lease, _) | Job::Unreadable(lease, _) if self.untold > 0 => {
                Action::Returned { lease }
            }
            Job::Deliver(lease, batch) if batch.is_empty() => Action::Delivered { lease },
            Job::Deliver(lease, batch) => match self.sink.deliver(&batch).await {
                Outcome::Delivered => Action::Delivered { lease },
                Outcome::Failed(failure) => Action::Failed { lease, failure },
            },
            Job::Unreadable(lease, reason) => {
                let failure = Failure {
                    events: FailedEvents::All,
                    cause: Cause::Unreadable,
                    retryable: true,
                    reason,
                };
                Action::Failed { lease, failure }
            }
        };
        if matches!(answer, Action::Failed { .. } | Action::SinkDown { .. }) {
            self.untold += 1;
        }
        // the other end is gone only when the delivery is over
        let _ = self.answers.send(answer);
    }
}

/// Waits for a time; for ever if there is none.
pub(super) async fn until(due: Option<Instant>) {
    match due {
        Some(due) => sleep_until(due).await,
        None => std::future::pending().await,
    }
}

/// Says so if a sink's task panics: nobody would answer for its leases.
pub(super) struct Alarm {
    pub(super) id: SinkId,
    pub(super) panicked: Arc<AtomicBool>,
    pub(super) answers: UnboundedSender<Action>,
}

impl Drop for Alarm {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.panicked.store(true, Ordering::Relaxed);
            // the answer wakes the delivery, which then sees the flag
            let reason = "its task panicked".to_owned();
            let _ = self.answers.send(Action::SinkDown { sink: self.id, reason });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn task_that_panics_raises_the_alarm_and_wakes_the_delivery() {
        let (answers, mut delivery) = tokio::sync::mpsc::unbounded_channel();
        let panicked = Arc::new(AtomicBool::new(false));
        let alarm = Alarm { id: SinkId(3), panicked: Arc::clone(&panicked), answers };
        let task = tokio::spawn(async move {
            let _alarm = alarm;
            tokio::task::yield_now().await;
            panic!("as a sink might");
        });
        assert!(task.await.is_err_and(|error| error.is_panic()));
        assert!(panicked.load(Ordering::Relaxed));
        let down = matches!(delivery.recv().await, Some(Action::SinkDown { sink: SinkId(3), .. }));
        assert!(down);
    }
}
