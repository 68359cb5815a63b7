//! Sinks that do as they are told, by the protocol of `dispatch/mod.rs`.

use super::super::world::Put as Records;
use super::ops::Answer;
use crate::dispatch::{Action, LeaseId, SinkId};
use crate::log::Reader;
use crate::offset::{Offset, OffsetRange};
use crate::sink::{Cause, FailedEvents, Failure};
use std::collections::{BTreeSet, VecDeque};

/// What a sink is told.
pub(super) enum Job {
    Open,
    /// With the events, each at its offset; `None` if they could not be read.
    Deliver(LeaseId, OffsetRange, Option<(Vec<u64>, Records)>),
    Recall,
}

/// What runs one sink.
pub(super) struct Runner {
    pub(super) id: SinkId,
    pub(super) group: usize,
    pub(super) reader: Reader,
    pub(super) queue: VecDeque<Job>,
    /// Failures told and not recalled: it begins nothing.
    pub(super) untold: usize,
    /// Offsets it has to send again before any other, if it keeps its order.
    pub(super) owed: BTreeSet<u64>,
    /// The end of the last lease it began.
    pub(super) reach: u64,
}

/// What a sink did.
#[derive(Default)]
pub(super) struct Done {
    pub(super) answer: Option<Action>,
    /// Records that arrived.
    pub(super) arrived: Records,
}

fn all_failed(reason: &str, retryable: bool) -> Failure {
    Failure {
        events: FailedEvents::All,
        cause: Cause::Refused,
        retryable,
        reason: reason.to_owned(),
    }
}

impl Runner {
    /// Does what is first in the queue.
    pub(super) fn work(&mut self, answer: Answer) -> Done {
        let Some(job) = self.queue.pop_front() else { return Done::default() };
        let done = match job {
            Job::Recall => {
                assert!(self.untold > 0, "a recall follows a failure");
                self.untold -= 1;
                return Done::default();
            }
            Job::Open if self.untold > 0 => return Done::default(),
            Job::Open => {
                let sink = self.id;
                let answer = match answer {
                    Answer::Ack | Answer::Part { .. } => Action::SinkReady(sink),
                    Answer::Fail { .. } => Action::SinkDown { sink, reason: "refused".into() },
                };
                Done { answer: Some(answer), ..Done::default() }
            }
            Job::Deliver(lease, range, _) if self.untold > 0 => {
                self.owed.extend(range.start.0..range.end.0);
                Done { answer: Some(Action::Returned { lease }), ..Done::default() }
            }
            Job::Deliver(lease, range, None) => {
                self.owed.extend(range.start.0..range.end.0);
                let failure = all_failed("unreadable", true);
                Done { answer: Some(Action::Failed { lease, failure }), ..Done::default() }
            }
            Job::Deliver(lease, range, Some((offsets, records))) => {
                self.owed.retain(|at| !range.contains(&Offset(*at)));
                self.reach = range.end.0;
                self.deliver(lease, &offsets, records, answer)
            }
        };
        if let Some(Action::Failed { .. } | Action::SinkDown { .. }) = &done.answer {
            self.untold += 1;
        }
        done
    }

    fn deliver(
        &mut self,
        lease: LeaseId,
        offsets: &[u64],
        records: Records,
        answer: Answer,
    ) -> Done {
        let failed = |place: usize| match answer {
            Answer::Ack => false,
            Answer::Part { failed } => failed >> (place % 8) & 1 == 1,
            Answer::Fail { .. } => true,
        };
        let lost: Vec<u64> =
            (0..).zip(offsets).filter(|(i, _)| failed(*i)).map(|(_, o)| *o).collect();
        if lost.is_empty() {
            let answer = Some(Action::Delivered { lease });
            return Done { answer, arrived: records };
        }
        self.owed.extend(&lost);
        let failure = match answer {
            Answer::Fail { retryable } => all_failed("failed", retryable),
            _ => Failure {
                events: FailedEvents::Only(lost.into_iter().map(Offset).collect()),
                ..all_failed("failed in part", true)
            },
        };
        let arrived = (0..).zip(records).filter(|(i, _)| !failed(*i)).map(|(_, r)| r).collect();
        Done { answer: Some(Action::Failed { lease, failure }), arrived }
    }

    /// The task is gone, and another one takes its place.
    pub(super) fn replace(&mut self) -> Vec<Action> {
        let down = Action::SinkDown { sink: self.id, reason: "replaced".into() };
        let mut answers = vec![down];
        if self.untold == 0
            && let Some(Job::Deliver(lease, range, _)) = self.queue.front()
        {
            self.owed.extend(range.start.0..range.end.0);
            answers.push(Action::Abandon { lease: *lease });
            self.queue.pop_front();
        }
        self.untold += 1;
        answers
    }
}
