//! Re-driving and purging while the channel is delivered: in steps, between which deliveries go on.

use super::Work;
use crate::agent::control::Reply;
use crate::channel::dead::{DeadLog, LetterFilter, Redrive, Redriven, purge_part, redrive_part};
use crate::channel::log::LogChannel;
use crate::control::{Answer, Progress};
use crate::log::{BatchBuilder, Durability, LogError};
use crate::offset::{Offset, OffsetRange};
use std::time::Duration;

/// Letters that are looked at in a step.
const STEP_LETTERS: u64 = 100;

/// What becomes of the letters.
pub(super) enum Fate {
    /// Back into the channel.
    Redrive {
        /// How often at most.
        max_redrives: Option<u32>,
        /// Count, and do nothing.
        dry_run: bool,
    },
    /// Away.
    Purge,
}

/// Letters that are on their way.
pub(super) struct LetterJob {
    fate: Fate,
    /// Its limit is what is left of it.
    filter: LetterFilter,
    reply: Reply,
    first: Offset,
    /// What was not looked at yet, by offsets of the dead-letter log.
    rest: OffsetRange,
    done: Redriven,
}

impl LetterJob {
    fn progress(&self) -> Progress {
        let (seen, of) = (self.rest.start.since(self.first), self.rest.end.since(self.first));
        Progress { done: self.done.events, seen, of }
    }

    fn is_done(&self) -> bool {
        self.rest.is_empty() || self.filter.limit == Some(0)
    }

    fn answer(&self) -> Answer {
        let Redriven { events, skipped } = self.done;
        match self.fate {
            Fate::Redrive { .. } => Answer::Redriven { events, skipped },
            Fate::Purge => Answer::Purged { letters: events },
        }
    }

    fn step(&mut self, dead: &mut DeadLog, channel: &LogChannel) -> Result<(), String> {
        let end = self.rest.start.plus(STEP_LETTERS).min(self.rest.end);
        let range = self.rest.start..end;
        let done = match self.fate {
            Fate::Redrive { max_redrives, dry_run } => {
                let options = channel.options();
                let events_max = u64::from(Redrive::default().batch_events_max);
                let events_max = events_max.min(options.transaction_events_max);
                let redrive = Redrive {
                    max_redrives: max_redrives.unwrap_or(options.dead.redrives_max),
                    batch_events_max: u32::try_from(events_max).unwrap_or(u32::MAX),
                    dry_run,
                    ..Redrive::into_log(options.log.segment_bytes)
                };
                let put = |batch| put(channel, batch);
                redrive_part(dead, range, &self.filter, &redrive, put)
                    .map_err(|error| error.after(self.done).to_string())?
            }
            Fate::Purge => {
                let purged = purge_part(dead, range, &self.filter, false).map_err(|e| {
                    format!("{e} ({} letters were purged before)", self.done.events)
                })?;
                Redriven { events: purged.letters, skipped: 0 }
            }
        };
        self.rest.start = end;
        self.done.events += done.events;
        self.done.skipped += done.skipped;
        self.filter.limit = self.filter.limit.map(|limit| limit.saturating_sub(done.events));
        Ok(())
    }
}

/// Puts a batch so that it survives a power cut. Never waits for room: this thread makes it.
fn put(channel: &LogChannel, batch: BatchBuilder) -> Result<(), String> {
    let log = channel.log();
    let put = log.put_within(batch, Some(Duration::ZERO)).and_then(|_| {
        // its letter goes for good
        let is_synced = matches!(channel.options().log.durability, Durability::Always);
        if is_synced { Ok(()) } else { log.sync() }
    });
    put.map_err(|error| match error {
        LogError::Full { .. } => {
            format!("channel {} is full: try again when there is room ({error})", channel.name())
        }
        error => error.to_string(),
    })
}

impl Work {
    /// Begins with the letters that are here now.
    pub(super) fn begin_letters(&mut self, fate: Fate, filter: LetterFilter, reply: Reply) {
        let Some(burials) = &mut self.burials else {
            return reply.end(Err(format!("channel {} keeps no letters", self.channel.name())));
        };
        match burials.log().here() {
            Ok(rest) => {
                let (first, done) = (rest.start, Redriven::default());
                self.letter_jobs.push_back(LetterJob { fate, filter, reply, first, rest, done });
                self.expect_progress();
            }
            Err(error) => reply.end(Err(error.to_string())),
        }
    }

    /// A step of the job whose turn it is.
    pub(super) fn letter_step(&mut self) {
        let Some(mut job) = self.letter_jobs.pop_front() else { return };
        let Some(burials) = &mut self.burials else { return };
        let channel = self.channel.name();
        if job.reply.is_gone() {
            let events = job.done.events;
            tracing::warn!("channel {channel}: who asked went away: {events} letters are done");
            return;
        }
        if !job.is_done()
            && let Err(error) = job.step(burials.log(), &self.channel)
        {
            return job.reply.end(Err(error));
        }
        if !job.is_done() {
            return self.letter_jobs.push_back(job);
        }
        let events = job.done.events;
        match job.fate {
            Fate::Redrive { dry_run: true, .. } => {}
            Fate::Redrive { .. } => tracing::info!("channel {channel}: {events} events re-driven"),
            Fate::Purge => tracing::info!("channel {channel}: {events} letters purged"),
        }
        self.sync(); // gives back what is settled, once the cursors that count it are durable
        job.reply.end(Ok(job.answer()));
    }

    pub(super) fn tell_letter_progress(&self) {
        self.letter_jobs.iter().for_each(|job| job.reply.progress(job.progress()));
    }

    /// There is no time for them any more.
    pub(super) fn refuse_letter_jobs(&mut self) {
        for job in self.letter_jobs.drain(..) {
            let events = job.done.events;
            job.reply.end(Err(format!("the agent is stopping; {events} letters are done")));
        }
    }
}
