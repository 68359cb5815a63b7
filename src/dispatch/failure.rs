//! What a failed delivery does, and how long the next attempt waits: pure decisions.

use crate::fate::Cause;

/// The policies by name; each is a [`Policy`] with its own defaults.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub enum FailurePolicy {
    /// The range is released: any sink of the group may take it after the back-off (Flume's
    /// rollback).
    #[default]
    Requeue,
    /// The sink's cursor rewinds: the same sink sends it again, before anything later.
    RetryAndResume,
    /// No second attempt: the cursor passes the range, which is listed as lost.
    Fail,
    /// After its attempts an event goes to the dead-letter log.
    DeadLetter,
}

/// Where events wait for another attempt.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub enum Order {
    /// Among all: any sink of the group may take them.
    #[default]
    Release,
    /// With their sink, which takes nothing later before them.
    Rewind,
}

/// What becomes of events whose attempts are used up.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub enum Exhausted {
    /// The sink stops, its cursor in place: nothing is lost.
    #[default]
    Stop,
    /// The cursor passes them; they are listed as lost.
    Fail,
    /// They go to the dead-letter log.
    DeadLetter,
}

/// What a failed delivery does.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub struct Policy {
    /// Where events wait for another attempt.
    pub order: Order,
    /// Deliveries of an event before `on_exhausted`; 0: without end. What the sink calls not
    /// retryable has none left if there is a bound.
    pub max_attempts: u32,
    /// What follows the last of them.
    pub on_exhausted: Exhausted,
    /// Whether a batch that fails as a whole is split until the events that fail are found; only
    /// these are exhausted.
    pub isolate: bool,
}

impl From<FailurePolicy> for Policy {
    /// The policy with the defaults of its name.
    fn from(name: FailurePolicy) -> Policy {
        let plain = Policy::default();
        match name {
            FailurePolicy::Requeue => plain,
            FailurePolicy::RetryAndResume => Policy { order: Order::Rewind, ..plain },
            FailurePolicy::Fail => {
                Policy { max_attempts: 1, on_exhausted: Exhausted::Fail, ..plain }
            }
            FailurePolicy::DeadLetter => Policy {
                max_attempts: 1,
                on_exhausted: Exhausted::DeadLetter,
                isolate: true,
                ..plain
            },
        }
    }
}

/// A delivery that failed, as far as a policy wants to know it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct FailedDelivery {
    /// Deliveries begun so far, this one included.
    pub attempts: u32,
    /// Whether the sink thinks that trying the same again can help.
    pub retryable: bool,
    /// What kind of failure.
    pub cause: Cause,
    /// Whether nobody knows which events of the lease it is about.
    pub whole: bool,
    /// Events of the lease.
    pub events: u64,
}

/// What becomes of the events that were not delivered.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Decision {
    /// They are tried again.
    Again(Order),
    /// They are tried again in halves, to find those that fail.
    Split(Order),
    /// Their attempts are used up.
    GiveUp(Exhausted),
}

/// A connection that breaks is nothing against the events; after so many of them in a row, each
/// with a sink that had opened again, it is.
const UNREACHABLE_ATTEMPTS: u32 = 8;

impl Policy {
    /// What to do with a failed delivery.
    ///
    /// Without a bound, also what the sink calls not retryable is tried again: giving an event up
    /// needs a place to put it, or the user's word that it may be lost.
    pub fn decide(self, failed: &FailedDelivery) -> Decision {
        let excused = self.isolate && failed.cause == Cause::Unreachable;
        let attempts_max =
            if excused { self.max_attempts.max(UNREACHABLE_ATTEMPTS) } else { self.max_attempts };
        let used_up = failed.attempts >= attempts_max || !failed.retryable && !excused;
        // what this machine could not read never came to the sink
        let unread = failed.cause == Cause::Unreadable;
        if self.max_attempts == 0 || !used_up || unread {
            Decision::Again(self.order)
        } else if self.isolate && failed.whole && failed.events > 1 {
            Decision::Split(self.order)
        } else {
            Decision::GiveUp(self.on_exhausted)
        }
    }

    /// Whether a sink's own order of offsets is kept.
    pub fn keeps_order(self) -> bool {
        self.order == Order::Rewind
    }
}

/// Exponential back-off.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Backoff {
    /// The wait after the first failure, ms.
    pub first_ms: u64,
    /// No wait is longer, jitter aside, ms.
    pub max_ms: u64,
}

impl Default for Backoff {
    fn default() -> Backoff {
        Backoff { first_ms: 1_000, max_ms: 60_000 }
    }
}

impl Backoff {
    /// The wait after the `failures`-th failure in a row, ms: doubled from failure to failure up
    /// to the maximum, then times `jitter`.
    pub fn delay_ms(&self, failures: u32, jitter: Jitter) -> u64 {
        let doublings = failures.saturating_sub(1).min(63);
        let delay = u128::from(self.first_ms) << doublings;
        let delay = delay.min(self.max_ms.into()) * u128::from(jitter.per_mille) / 1_000;
        u64::try_from(delay).unwrap_or(u64::MAX)
    }
}

/// A factor that keeps sinks from coming back all at once.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Jitter {
    per_mille: u32,
}

impl Jitter {
    /// The longest wait is this many per mille of the plain one, the shortest as far below.
    pub const PER_MILLE_MAX: u32 = 1_200;

    /// Draws a factor from 0.8 to 1.2.
    pub fn draw(random: &mut fastrand::Rng) -> Jitter {
        Jitter { per_mille: random.u32(2_000 - Jitter::PER_MILLE_MAX..=Jitter::PER_MILLE_MAX) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn failed(attempts: u32, cause: Cause, events: u64) -> FailedDelivery {
        FailedDelivery { attempts, retryable: true, cause, whole: true, events }
    }

    #[test]
    fn each_policy_decides_as_its_name_says() {
        use Decision::{Again, GiveUp, Split};
        let check = |name: FailurePolicy, attempts, expect| {
            let decision = Policy::from(name).decide(&failed(attempts, Cause::Refused, 10));
            assert_eq!(decision, expect, "{name:?} after {attempts}");
        };
        check(FailurePolicy::Requeue, u32::MAX, Again(Order::Release));
        check(FailurePolicy::RetryAndResume, u32::MAX, Again(Order::Rewind));
        check(FailurePolicy::Fail, 1, GiveUp(Exhausted::Fail));
        check(FailurePolicy::DeadLetter, 1, Split(Order::Release));
        let dead = Policy::from(FailurePolicy::DeadLetter);
        let alone = failed(2, Cause::Refused, 1);
        assert_eq!(dead.decide(&alone), GiveUp(Exhausted::DeadLetter));
        let named = FailedDelivery { whole: false, ..failed(1, Cause::Refused, 10) };
        assert_eq!(dead.decide(&named), GiveUp(Exhausted::DeadLetter));
    }

    #[test]
    fn bound_counts_attempts_and_ends_at_once_what_is_not_retryable() {
        let three = Policy { max_attempts: 3, ..Policy::default() };
        let again = Decision::Again(Order::Release);
        let stop = Decision::GiveUp(Exhausted::Stop);
        assert_eq!(three.decide(&failed(2, Cause::Storage, 5)), again);
        assert_eq!(three.decide(&failed(3, Cause::Storage, 5)), stop);
        let hopeless = FailedDelivery { retryable: false, ..failed(1, Cause::Invalid, 5) };
        assert_eq!(three.decide(&hopeless), stop);
        assert_eq!(Policy::default().decide(&hopeless), again, "there is no place to put it");
    }

    #[test]
    fn broken_connection_is_nothing_against_the_events_unless_it_goes_on() {
        let dead = Policy::from(FailurePolicy::DeadLetter);
        let decide = |attempts| dead.decide(&failed(attempts, Cause::Unreachable, 1));
        assert_eq!(decide(7), Decision::Again(Order::Release));
        assert_eq!(decide(8), Decision::GiveUp(Exhausted::DeadLetter));
        let fail = Policy::from(FailurePolicy::Fail);
        let decision = fail.decide(&failed(1, Cause::Unreachable, 9));
        assert_eq!(decision, Decision::GiveUp(Exhausted::Fail), "it has one attempt, whatever");
    }

    #[test]
    fn backoff_doubles_up_to_its_maximum() {
        let backoff = Backoff { first_ms: 1_000, max_ms: 60_000 };
        let delays = [1, 2, 3, 6, 7, 8, u32::MAX]
            .map(|failures| backoff.delay_ms(failures, Jitter { per_mille: 1_000 }));
        assert_eq!(delays, [1_000, 2_000, 4_000, 32_000, 60_000, 60_000, 60_000]);
        let endless = Backoff { first_ms: u64::MAX, max_ms: u64::MAX };
        assert_eq!(endless.delay_ms(99, Jitter { per_mille: 1_200 }), u64::MAX);
    }

    #[test]
    fn jitter_stays_within_a_fifth_and_is_the_same_for_the_same_seed() {
        let draws = |seed| {
            let mut random = fastrand::Rng::with_seed(seed);
            let backoff = Backoff { first_ms: 1_000, max_ms: 1_000 };
            let draw = |_| backoff.delay_ms(1, Jitter::draw(&mut random));
            (0..1_000).map(draw).collect::<Vec<_>>()
        };
        assert!(draws(7).iter().all(|delay| (800..=1_200).contains(delay)));
        assert!(draws(7).iter().any(|&delay| delay < 850));
        assert!(draws(7).iter().any(|&delay| delay > 1_150));
        assert_eq!(draws(7), draws(7));
        assert_ne!(draws(7), draws(8));
    }
}
