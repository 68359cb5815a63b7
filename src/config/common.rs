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
    TARGET_QUEUE_SIZE,
    BACKOFF,
    MAX_BACKOFF,
    MAX_ATTEMPTS,
    ON_EXHAUSTED,
    ON_FAIL,
    ISOLATE,
    RATE_EVENTS,
    RATE_BYTES,
    MAX_AGE,
    ON_EXPIRED,
    FRESH_FIRST,
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
    TARGET_QUEUE_SIZE,
    BACKOFF,
    MAX_BACKOFF,
    MAX_ATTEMPTS,
    ON_EXHAUSTED,
    ON_FAIL,
    ISOLATE,
    RATE_EVENTS,
    RATE_BYTES,
    MAX_AGE,
    ON_EXPIRED,
    FRESH_FIRST,
    Key::optional("group.*", Kind::Text, "", "Settings of one group: group.<name>.<key>."),
];

/// The keys of a group of sinks, behind `<agent>.channels.<c>.group.<name>.`
pub static GROUP_KEYS: &[Key] = &[
    START,
    Key::new("exec.type", BALANCER, "roundrobin", "", "Which sink of it gets the next batch."),
    QUEUE_SIZE,
    TARGET_QUEUE_SIZE,
    MAX_AGE,
    ON_EXPIRED,
    FRESH_FIRST,
];

/// The keys of a Flume sink group, behind `<agent>.sinkgroups.<g>.`
pub static SINK_GROUP_KEYS: &[Key] = &[
    Key::required("sinks", Kind::List, "", "Its sinks: all that their channel's group has."),
    Key::required("processor.type", PROCESSOR, "", "Which of them gets the next batch."),
    Key::optional("processor.priority.*", NUMBER, "", "failover: the greater, the sooner."),
    Key::new("processor.maxpenalty", PAUSE, "30000", "ms", "failover: longest pause of a sink."),
    Key::new("processor.backoff", Kind::Bool, "false", "", "load_balance: use its maxTimeOut."),
    Key::new("processor.selector", Kind::Text, "round_robin", "", "round_robin or random."),
    Key::new(
        "processor.selector.maxTimeOut",
        PAUSE,
        "30000",
        "ms",
        "load_balance with backoff: longest pause of a sink.",
    ),
];

static SINK_KEYS: &[Key] = &[
    TYPE,
    Key::required("channel", Kind::Text, "", "The channel that the sink takes from."),
    Key::new("exec.type", POLICY, "requeue", "", "What a failed delivery does."),
    BACKOFF,
    MAX_BACKOFF,
    MAX_ATTEMPTS,
    ON_EXHAUSTED,
    ON_FAIL,
    ISOLATE,
    RATE_EVENTS,
    RATE_BYTES,
    Key::new("group", Kind::Text, "default", "", "Each group of sinks gets every event."),
    Key::optional("group.start", Kind::Choice(START_WORDS), "", "The group's start, see there."),
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
const MAX_ATTEMPTS: Key = Key::optional(
    "exec.maxAttempts",
    Kind::Int { min: 0, max: u32::MAX as i64 },
    "",
    "Deliveries of an event before exec.onExhausted; 0 (of deadLetter: 1): without end.",
);
const ON_EXHAUSTED: Key = Key::new(
    "exec.onExhausted",
    Kind::Choice(EXHAUSTED_WORDS),
    "stop",
    "",
    "What follows exec.maxAttempts; stop: the sink stops, its cursor stays.",
);
const ON_FAIL: Key = Key::new(
    "exec.onFail",
    Kind::Choice(&["pass", "stop"]),
    "pass",
    "",
    "Of the policy fail: pass over what failed, or stop the sink.",
);
const ISOLATE: Key = Key::optional(
    "exec.isolate",
    Kind::Bool,
    "",
    "Halve a batch that fails as a whole until what fails is found; of dead letters: true.",
);
const TARGET_QUEUE_SIZE: Key = Key::optional(
    "exec.targetQueueSize",
    Kind::POSITIVE,
    "events",
    "Of the balancer targetQueueSize: no more is lent to a sink, a batch aside.",
);
const RATE_EVENTS: Key =
    Key::new("exec.rate.events", Kind::COUNT, "0", "", "Events a second for a sink; 0: no limit.");
const RATE_BYTES: Key =
    Key::new("exec.rate.bytes", Kind::COUNT, "0", "", "Bytes a second for a sink; 0: no limit.");
const MAX_AGE: Key = Key::optional(
    "exec.maxAge",
    Kind::Int { min: 1, max: 10 * 365 * 86_400 },
    "s",
    "Older events are not delivered, see exec.onExpired.",
);
const ON_EXPIRED: Key = Key::new(
    "exec.onExpired",
    Kind::Choice(&["pass", "deadLetter"]),
    "pass",
    "",
    "What becomes of events that are too old; pass: they are listed by 'walctl losses'.",
);
const FRESH_FIRST: Key = Key::new(
    "exec.freshFirst",
    Kind::Bool,
    "false",
    "",
    "After an outage new events go out first, and what had piled up behind them.",
);
const START: Key = Key::new(
    "start",
    Kind::Choice(START_WORDS),
    "oldest",
    "",
    "Where a new group begins: the oldest event that is kept, or what comes after its first start.",
);
const START_WORDS: &[&str] = &["oldest", "tail"];
const PROCESSOR: Kind = Kind::Choice(&["default", "failover", "load_balance"]);
const NUMBER: Kind = Kind::Int { min: i32::MIN as i64, max: i32::MAX as i64 };
/// From 1, so that a sink that is down is never asked in a tight loop; a day at most.
const PAUSE: Kind = Kind::Int { min: 1, max: 86_400_000 };
const SMALL_COUNT: Kind = Kind::Int { min: 1, max: 1024 };
