//! Balancer and failure policy: plain data, read from `exec.*` at three levels.
//!
//! ```text
//! <agent>.exec.type                balancer      <agent>.exec.failure                policy
//! <agent>.channels.<c>.exec.type   balancer      <agent>.channels.<c>.exec.failure   policy
//!                                                <agent>.sinks.<k>.exec.type         policy
//! ```
//! The nearer level wins, key by key; a group of sinks stands between its channel and nothing else
//! (`groups.rs`).

use super::key::{Problem, Settings};
use std::time::Duration;

/// Who gets the next batch of a group.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub enum BalancerKind {
    /// The next sink in config order.
    #[default]
    RoundRobin,
    /// The sink that will be done first.
    LeastLoad,
    /// The sink with the shortest queue.
    TargetQueueSize,
    /// The greatest priority that works (of Flume's sink groups).
    Failover,
    /// Any (of Flume's sink groups).
    Random,
}

/// What a failed delivery does.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub enum PolicyKind {
    /// The lease is released; any sink may get it, after a pause.
    #[default]
    Requeue,
    /// The same sink sends it again after a pause, and only then what follows.
    RetryAndResume,
    /// No second attempt: the cursor passes it.
    Fail,
    /// It goes to the dead letters.
    DeadLetter,
}

/// What happens to events when their attempts are used up.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub enum Exhausted {
    /// The sink stops, its cursor in place: nothing is lost.
    #[default]
    Stop,
    /// The cursor passes them; they are listed as lost.
    Fail,
    /// They go to the dead letters.
    DeadLetter,
}

/// The failure policy of one sink.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct PolicySettings {
    /// What a failure does.
    pub kind: PolicyKind,
    /// Pause after the first failure; it doubles with each further one.
    pub backoff: Duration,
    /// The longest pause.
    pub max_backoff: Duration,
    /// Deliveries of one event; 0: without end.
    pub max_attempts: u32,
    /// What follows the last of them.
    pub on_exhausted: Exhausted,
    /// Whether a batch that fails as a whole is halved until what fails is found.
    pub isolate: bool,
}

/// What a sink may take in a second; 0: no limit.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub struct RateSettings {
    /// Events.
    pub events: u64,
    /// Bytes.
    pub bytes: u64,
}

pub(super) static BALANCER_WORDS: &[&str] = &["roundrobin", "leastLoad", "targetQueueSize"];
pub(super) static POLICY_WORDS: &[&str] = &["requeue", "retryAndResume", "fail", "deadLetter"];
pub(super) static EXHAUSTED_WORDS: &[&str] = &["stop", "deadLetter", "fail"];

fn balancer_of(word: &str) -> BalancerKind {
    match word {
        "leastLoad" => BalancerKind::LeastLoad,
        "targetQueueSize" => BalancerKind::TargetQueueSize,
        _ => BalancerKind::RoundRobin,
    }
}

fn policy_of(word: &str) -> PolicyKind {
    match word {
        "retryAndResume" => PolicyKind::RetryAndResume,
        "fail" => PolicyKind::Fail,
        "deadLetter" => PolicyKind::DeadLetter,
        _ => PolicyKind::Requeue,
    }
}

fn exhausted_of(word: &str) -> Exhausted {
    match word {
        "deadLetter" => Exhausted::DeadLetter,
        "fail" => Exhausted::Fail,
        _ => Exhausted::Stop,
    }
}

/// The balancer of a group or channel.
pub(super) fn balancer(levels: &[&Settings]) -> Result<BalancerKind, Problem> {
    nearest(levels, "exec.type").choice("exec.type").map(balancer_of)
}

/// How many batches a sink of the channel holds at a time.
pub(super) fn queue_leases(levels: &[&Settings]) -> Result<u32, Problem> {
    let leases = nearest(levels, "exec.queueSize").int("exec.queueSize")?;
    Ok(u32::try_from(leases).expect("the key's bounds are within u32"))
}

/// The most events a second that a sink takes.
pub(super) fn rate(levels: &[&Settings]) -> Result<RateSettings, Problem> {
    Ok(RateSettings {
        events: nearest(levels, "exec.rate.events").count("exec.rate.events")?,
        bytes: nearest(levels, "exec.rate.bytes").count("exec.rate.bytes")?,
    })
}

/// The failure policy of a sink.
pub(super) fn policy(
    sink: &Settings,
    channel: &Settings,
    agent: &Settings,
) -> Result<PolicySettings, Problem> {
    let word = match sink.has("exec.type") {
        true => sink.choice("exec.type")?,
        false => nearest(&[channel, agent], "exec.failure").choice("exec.failure")?,
    };
    let levels = [sink, channel, agent];
    let (backoff, max_backoff) = backoff(&levels)?;
    let kind = policy_of(word);
    let (max_attempts, on_exhausted) = match kind {
        PolicyKind::Fail => (1, fail_then(sink, &levels)?),
        PolicyKind::DeadLetter => {
            refuse_own(sink, "exec.onExhausted", "deadletter", "deadLetter knows where they go")?;
            (dead_letter_attempts(&levels)?, Exhausted::DeadLetter)
        }
        PolicyKind::Requeue | PolicyKind::RetryAndResume => bound(&levels)?,
    };
    if kind != PolicyKind::Fail && sink.has("exec.onFail") {
        let message = "goes with exec.type = fail; here exec.onExhausted says what follows";
        return Err(sink.problem("exec.onFail", message));
    }
    let isolate = match nearest(&levels, "exec.isolate") {
        level if level.has("exec.isolate") => level.bool("exec.isolate")?,
        _ => on_exhausted == Exhausted::DeadLetter,
    };
    Ok(PolicySettings { kind, backoff, max_backoff, max_attempts, on_exhausted, isolate })
}

fn backoff(levels: &[&Settings]) -> Result<(Duration, Duration), Problem> {
    let (first, longest) = (nearest(levels, "exec.backoff"), nearest(levels, "exec.maxBackoff"));
    let backoff = first.duration("exec.backoff")?;
    let max_backoff = longest.duration("exec.maxBackoff")?;
    if backoff > max_backoff {
        let (backoff, max) = (backoff.as_millis(), max_backoff.as_millis());
        return Err(match longest.has("exec.maxBackoff") {
            true => longest.problem(
                "exec.maxBackoff",
                format_args!("{max} ms is less than exec.backoff, {backoff} ms"),
            ),
            false => first.problem(
                "exec.backoff",
                format_args!("{backoff} ms is more than exec.maxBackoff, {max} ms"),
            ),
        });
    }
    Ok((backoff, max_backoff))
}

/// `exec.maxAttempts` of the nearest level, if one gives it.
fn attempts(levels: &[&Settings]) -> Result<Option<u32>, Problem> {
    let attempts = nearest(levels, "exec.maxAttempts").opt_int("exec.maxAttempts")?;
    Ok(attempts.map(|attempts| u32::try_from(attempts).expect("the key's bounds are those of u32")))
}

/// The bound of a policy that tries again.
fn bound(levels: &[&Settings]) -> Result<(u32, Exhausted), Problem> {
    let max_attempts = attempts(levels)?.unwrap_or(0);
    let level = nearest(levels, "exec.onExhausted");
    let on_exhausted = exhausted_of(level.choice("exec.onExhausted")?);
    if max_attempts == 0 && on_exhausted != Exhausted::Stop {
        let message = "needs exec.maxAttempts: without it events are tried without end";
        return Err(level.problem("exec.onExhausted", message));
    }
    Ok((max_attempts, on_exhausted))
}

fn fail_then(sink: &Settings, levels: &[&Settings]) -> Result<Exhausted, Problem> {
    let hint = "requeue and retryAndResume have them, with exec.onExhausted = fail";
    if sink.has("exec.maxAttempts") && sink.int("exec.maxAttempts")? != 1 {
        let message = format!("fail has one attempt; {hint}");
        return Err(sink.problem("exec.maxAttempts", message));
    }
    refuse_own(sink, "exec.onExhausted", "fail", "fail passes over events; see exec.onFail")?;
    let on_fail = nearest(levels, "exec.onFail").choice("exec.onFail")?;
    Ok(if on_fail == "stop" { Exhausted::Stop } else { Exhausted::Fail })
}

fn dead_letter_attempts(levels: &[&Settings]) -> Result<u32, Problem> {
    let given = attempts(levels)?;
    let level = nearest(levels, "exec.maxAttempts");
    match given {
        Some(0) if std::ptr::eq(level, levels[0]) => {
            let message = "of deadLetter: 0 is without end, and nothing would be set aside";
            Err(level.problem("exec.maxAttempts", message))
        }
        // a general 'without end' is for the policies that try again
        Some(0) | None => Ok(1),
        Some(attempts) => Ok(attempts),
    }
}

/// A word of the sink's own that contradicts its policy.
fn refuse_own(sink: &Settings, key: &str, word: &str, message: &str) -> Result<(), Problem> {
    let contradicts = sink.has(key) && !sink.choice(key)?.eq_ignore_ascii_case(word);
    if contradicts { Err(sink.problem(key, message)) } else { Ok(()) }
}

/// The first level that gives `key`; the last one, for its default, if none does.
pub(super) fn nearest<'a>(levels: &[&'a Settings], key: &str) -> &'a Settings {
    let given = levels.iter().find(|level| level.has(key));
    given.or(levels.last()).expect("there is a level")
}
