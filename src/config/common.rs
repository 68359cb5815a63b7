//! The keys that every component of a role has, and those of the agent itself. Declared once, like
//! those of the components; the dispatcher's `exec.*` stand at three levels (`exec.rs`).

use super::exec::{BALANCER_WORDS, EXHAUSTED_WORDS, POLICY_WORDS};
use super::key::{Key, Kind, Role};

/// The common keys of a role.
pub fn common_keys(role: Role) -> &'static [Key] {
    match role {
        Role::Source => SOURCE_KEYS,
        Role::Channel => CHANNEL_KEYS,
        Role::Sink => SINK_KEYS,
    }
}

/// Keys right below the agent's name.
pub static AGENT_KEYS: &[Key] = &[
    Key::new("exec.type", BALANCER, "roundrobin", "", "Balancer of every channel."),
    Key::new("exec.failure", POLICY, "requeue", "", "Failure policy of every sink."),
    QUEUE_SIZE,
    BACKOFF,
    MAX_BACKOFF,
    MAX_ATTEMPTS,
    ON_EXHAUSTED,
];

static SOURCE_KEYS: &[Key] = &[
    TYPE,
    Key::required("channels", Kind::List, "", "The channels that every event is put into."),
    Key::new("selector.type", Kind::Text, "replicating", "", "Which channels an event goes to."),
    Key::optional("selector.*", Kind::Text, "", "Settings of the selector.").not_yet(),
    Key::optional("interceptors", Kind::List, "", "What changes or drops events.").not_yet(),
    Key::optional("interceptors.*", Kind::Text, "", "Settings of interceptors.").not_yet(),
];

static CHANNEL_KEYS: &[Key] = &[
    TYPE,
    Key::new("exec.type", BALANCER, "roundrobin", "", "Which sink gets the next batch."),
    Key::new("exec.failure", POLICY, "requeue", "", "Failure policy of the channel's sinks."),
    QUEUE_SIZE,
    Key::optional("exec.targetQueueSize", Kind::POSITIVE, "events", "Bound of a sink's queue.")
        .not_yet(),
    BACKOFF,
    MAX_BACKOFF,
    MAX_ATTEMPTS,
    ON_EXHAUSTED,
];

static SINK_KEYS: &[Key] = &[
    TYPE,
    Key::required("channel", Kind::Text, "", "The channel that the sink takes from."),
    Key::new("exec.type", POLICY, "requeue", "", "What a failed delivery does."),
    BACKOFF,
    MAX_BACKOFF,
    MAX_ATTEMPTS,
    ON_EXHAUSTED,
    Key::optional("exec.onFail", Kind::Text, "", "Go on or stop after a lost batch.").not_yet(),
    Key::optional("exec.isolate", Kind::Bool, "", "Split a batch to find what fails.").not_yet(),
    Key::optional("group", Kind::Text, "", "Each group of sinks gets every event.").not_yet(),
];

const BALANCER: Kind = Kind::Choice(BALANCER_WORDS);
const POLICY: Kind = Kind::Choice(POLICY_WORDS);

const TYPE: Key = Key::required("type", Kind::Text, "", "The component: its alias or class.");
const QUEUE_SIZE: Key =
    Key::new("exec.queueSize", SMALL_COUNT, "2", "leases", "Batches lent to a sink at a time.");
const BACKOFF: Key =
    Key::new("exec.backoff", PAUSE, "1000", "ms", "Pause after the first failure; it doubles.");
const MAX_BACKOFF: Key =
    Key::new("exec.maxBackoff", PAUSE, "60000", "ms", "The longest pause after a failure.");
const MAX_ATTEMPTS: Key = Key::new(
    "exec.maxAttempts",
    Kind::Int { min: 0, max: u32::MAX as i64 },
    "0",
    "",
    "Deliveries of a batch before exec.onExhausted; 0: without end.",
);
const ON_EXHAUSTED: Key = Key::new(
    "exec.onExhausted",
    Kind::Choice(EXHAUSTED_WORDS),
    "stop",
    "",
    "What happens after exec.maxAttempts; stop: the sink stops, its cursor stays.",
);
/// From 1, so that a sink that is down is never asked in a tight loop; a day at most.
const PAUSE: Kind = Kind::Int { min: 1, max: 86_400_000 };
const SMALL_COUNT: Kind = Kind::Int { min: 1, max: 1024 };
