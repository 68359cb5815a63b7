//! Balancer and failure policy: plain data, read from `exec.*` at three levels.
//!
//! ```text
//! <agent>.exec.type                balancer      <agent>.exec.failure                policy
//! <agent>.channels.<c>.exec.type   balancer      <agent>.channels.<c>.exec.failure   policy
//!                                                <agent>.sinks.<k>.exec.type         policy
//! ```
//! The nearer level wins, key by key. A word that a later version brings is known and refused: to
//! bring it, give it a variant and a line in [`balancer_of`], [`policy_of`] or [`exhausted_of`].

use super::key::{Problem, Settings};
use std::time::Duration;

/// Who gets the next batch of a channel.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub enum BalancerKind {
    /// The next sink in config order.
    #[default]
    RoundRobin,
}

/// What a failed delivery does.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub enum PolicyKind {
    /// The lease is released; any sink may get it, after a pause.
    #[default]
    Requeue,
    /// The same sink sends it again after a pause, and only then what follows.
    RetryAndResume,
}

/// What happens to a batch when its attempts are used up.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub enum Exhausted {
    /// The sink stops, its cursor in place: nothing is lost.
    #[default]
    Stop,
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
    /// Deliveries of one batch; 0: without end, and the only value in this version.
    pub max_attempts: u32,
    /// What follows the last of them.
    pub on_exhausted: Exhausted,
}

pub(super) static BALANCER_WORDS: &[&str] = &["roundrobin", "leastLoad", "targetQueueSize"];
pub(super) static POLICY_WORDS: &[&str] = &["requeue", "retryAndResume", "fail", "deadLetter"];
pub(super) static EXHAUSTED_WORDS: &[&str] = &["stop", "deadLetter", "fail"];

fn balancer_of(word: &str) -> Option<BalancerKind> {
    match word {
        "roundrobin" => Some(BalancerKind::RoundRobin),
        _ => None,
    }
}

fn policy_of(word: &str) -> Option<PolicyKind> {
    match word {
        "requeue" => Some(PolicyKind::Requeue),
        "retryAndResume" => Some(PolicyKind::RetryAndResume),
        _ => None,
    }
}

fn exhausted_of(word: &str) -> Option<Exhausted> {
    match word {
        "stop" => Some(Exhausted::Stop),
        _ => None,
    }
}

/// The words of one level: `exec.type` and `exec.failure`, as far as the level has them.
pub(super) fn check_level(level: &Settings) -> Vec<Problem> {
    let balancer = level.has("exec.type").then(|| word(level, "exec.type", balancer_of).err());
    let policy = level.has("exec.failure").then(|| word(level, "exec.failure", policy_of).err());
    [balancer, policy].into_iter().flatten().flatten().collect()
}

/// The balancer of a channel.
pub(super) fn balancer(channel: &Settings, agent: &Settings) -> Result<BalancerKind, Problem> {
    word(nearest(&[channel, agent], "exec.type"), "exec.type", balancer_of)
}

/// How many batches a sink of the channel holds at a time.
pub(super) fn queue_leases(channel: &Settings, agent: &Settings) -> Result<u32, Problem> {
    let leases = nearest(&[channel, agent], "exec.queueSize").int("exec.queueSize")?;
    Ok(u32::try_from(leases).expect("the key's bounds are within u32"))
}

/// The failure policy of a sink.
pub(super) fn policy(
    sink: &Settings,
    channel: &Settings,
    agent: &Settings,
) -> Result<PolicySettings, Problem> {
    let kind = match sink.has("exec.type") {
        true => word(sink, "exec.type", policy_of)?,
        false => word(nearest(&[channel, agent], "exec.failure"), "exec.failure", policy_of)?,
    };
    let levels = [sink, channel, agent];
    let at = |key| nearest(&levels, key);
    let (first, longest) = (at("exec.backoff"), at("exec.maxBackoff"));
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
    let bound = at("exec.maxAttempts");
    let max_attempts = bound.int("exec.maxAttempts")?;
    if max_attempts != 0 {
        let message = "a bound comes with a later version of levada; 0 is without end";
        return Err(bound.problem("exec.maxAttempts", message));
    }
    let max_attempts = u32::try_from(max_attempts).expect("the key's bounds are those of u32");
    let on_exhausted = word(at("exec.onExhausted"), "exec.onExhausted", exhausted_of)?;
    Ok(PolicySettings { kind, backoff, max_backoff, max_attempts, on_exhausted })
}

/// The first level that gives `key`; the last one, for its default, if none does.
fn nearest<'a>(levels: &[&'a Settings], key: &str) -> &'a Settings {
    let given = levels.iter().find(|level| level.has(key));
    given.or(levels.last()).expect("there is a level")
}

fn word<T>(level: &Settings, key: &str, read: fn(&str) -> Option<T>) -> Result<T, Problem> {
    let word = level.choice(key)?;
    read(word).ok_or_else(|| {
        level.problem(key, format_args!("'{word}' comes with a later version of levada"))
    })
}
