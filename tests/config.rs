//! Texts to plans: each problem with its words and line, what survives, and levels of `exec.*`.
//! The components are the test's own: the config knows none.

use levada::channel::keys::FILE;
use levada::config::{
    BalancerKind, Component, ConfigText, Exhausted, Key, Kind, Lookup, Plan, PolicyKind,
    PolicySettings, Request, Role, Severity, plan,
};
use std::collections::BTreeMap;
use std::time::Duration;

static AVRO: Component = Component {
    role: Role::Source,
    alias: "avro",
    class: "org.apache.flume.source.AvroSource",
    doc: "Takes events.",
    keys: &[
        Key::required("bind", Kind::Text, "", "Host."),
        Key::optional("port", Kind::PORT, "", "Port."),
        Key::new("compression-type", Kind::Choice(&["none", "deflate"]), "none", "", "How."),
    ],
};

static SEQ: Component = Component {
    role: Role::Source,
    alias: "seq",
    class: "org.apache.flume.source.SequenceGeneratorSource",
    doc: "Counts.",
    keys: &[Key::new("batchSize", Kind::POSITIVE, "1", "events", "Events in a put.")],
};

static MEMORY: Component = Component {
    role: Role::Channel,
    alias: "memory",
    class: "org.apache.flume.channel.MemoryChannel",
    doc: "Holds events.",
    keys: &[
        Key::new("capacity", Kind::POSITIVE, "100", "events", "The most events."),
        Key::new("transactionCapacity", Kind::POSITIVE, "100", "events", "The most in a batch."),
        Key::optional("encryption.*", Kind::Secret, "", "Encryption.").not_yet(),
    ],
};

static HDFS: Component = Component {
    role: Role::Sink,
    alias: "hdfs",
    class: "org.apache.flume.sink.hdfs.HDFSEventSink",
    doc: "Writes files.",
    keys: &[
        Key::required("hdfs.path", Kind::Text, "", "Directory."),
        Key::new("hdfs.batchSize", Kind::POSITIVE, "100", "events", "Events in a batch."),
        Key::optional("serializer.*", Kind::Text, "", "For the serializer."),
    ],
};

static FILE_ROLL: Component = Component {
    role: Role::Sink,
    alias: "file_roll",
    class: "org.apache.flume.sink.RollingFileSink",
    doc: "Writes local files.",
    keys: &[
        Key::required("sink.directory", Kind::Path, "", "Directory."),
        Key::new("sink.rollInterval", Kind::COUNT, "30", "s", "Age of a file."),
        Key::new("sink.batchSize", Kind::POSITIVE, "100", "events", "Events in a batch."),
    ],
};

static NULL: Component = Component {
    role: Role::Sink,
    alias: "null",
    class: "org.apache.flume.sink.NullSink",
    doc: "Forgets.",
    keys: &[Key::new("batchSize", Kind::POSITIVE, "100", "events", "Events in a batch.")],
};

struct Input<'a> {
    texts: &'a [(&'a str, &'a str)],
    agent: Option<&'a str>,
    lenient: bool,
}

fn plan_of(input: &Input<'_>) -> Plan {
    let text = |(name, text): &(&str, &str)| ConfigText {
        name: (*name).to_owned(),
        bytes: text.as_bytes().to_vec(),
    };
    let texts: Vec<_> = input.texts.iter().map(text).collect();
    let system = BTreeMap::new();
    plan(&Request {
        texts: &texts,
        agent: input.agent,
        lookup: Lookup {
            env: &|name| (name == "PORT").then(|| "4141".to_owned()),
            system: &system,
        },
        components: &[&AVRO, &SEQ, &MEMORY, &FILE, &HDFS, &FILE_ROLL, &NULL],
        lenient: input.lenient,
    })
}

fn said(plan: &Plan) -> Vec<String> {
    let word = |severity| if severity == Severity::Error { "error" } else { "warning" };
    plan.problems.iter().map(|p| format!("{}: {p}", word(p.severity))).collect()
}

/// The problems of one file `t`.
fn check(text: &str, expected: &[&str]) {
    let plan = plan_of(&Input { texts: &[("t", text)], agent: None, lenient: false });
    assert_eq!(said(&plan), expected, "of\n{text}");
    assert_eq!(plan.is_refused(), expected.iter().any(|line| line.starts_with("error")));
}

/// Eight lines without a problem; what follows begins in line 9.
const FINE: &str = "\
a.sources = s
a.channels = c
a.sinks = k
a.sources.s.type = seq
a.sources.s.channels = c
a.channels.c.type = memory
a.sinks.k.type = null
a.sinks.k.channel = c
";

fn check_with(more: &str, expected: &[&str]) {
    check(&format!("{FINE}{more}"), expected);
}

/// `FINE` with the line that begins with `key` replaced.
fn fine_but(key: &str, line: &str) -> String {
    let lines = FINE.lines().map(|old| if old.starts_with(key) { line } else { old });
    lines.collect::<Vec<_>>().join("\n")
}

#[test]
fn plan_has_the_parts_in_the_order_of_their_lists() {
    let text = "\
a.sources = s2 s1
a.channels = c2 c1
a.sinks = k2 k1
a.sources.s1.type = SEQ
a.sources.s1.channels = c2 c1
a.sources.s2.type = org.apache.flume.source.SequenceGeneratorSource
a.sources.s2.channels = c1
a.sources.s2.batchSize = 7
a.channels.c1.type = memory
a.channels.c2.type = Memory
a.sinks.k1.type = null
a.sinks.k1.channel = c1
a.sinks.k2.type = hdfs
a.sinks.k2.channel = c2
a.sinks.k2.hdfs.path = /x/${env:PORT}
";
    let plan = plan_of(&Input { texts: &[("t", text)], agent: None, lenient: false });
    assert_eq!(said(&plan), [""; 0]);
    assert_eq!(plan.agent, "a");
    let sources: Vec<_> = plan.sources.iter().map(|s| (&*s.name, s.channels.join(" "))).collect();
    assert_eq!(sources, [("s2", "c1".to_owned()), ("s1", "c2 c1".to_owned())]);
    let channels: Vec<_> = plan.channels.iter().map(|c| &*c.name).collect();
    assert_eq!(channels, ["c2", "c1"]);
    let sinks: Vec<_> = plan.sinks.iter().map(|k| (&*k.name, &*k.channel)).collect();
    assert_eq!(sinks, [("k2", "c2"), ("k1", "c1")]);
    assert_eq!(plan.sources[0].settings.int("batchSize"), Ok(7));
    assert_eq!(plan.sources[0].settings.component(), "a.sources.s2");
    assert_eq!(plan.sinks[0].settings.text("hdfs.path"), Ok("/x/4141"));
}

#[test]
fn seeds_config_parses_unchanged() {
    let text = include_str!("../conf/agent1.properties");
    let plan = plan_of(&Input { texts: &[("agent1", text)], agent: None, lenient: false });
    assert_eq!(said(&plan), [""; 0]);
    assert_eq!(plan.agent, "agent1");
    let [source] = &plan.sources[..] else { panic!("one source") };
    assert_eq!((source.component.alias, &source.channels[..]), ("avro", &["c1".to_owned()][..]));
    let address = levada::config::bind_address(&source.settings);
    assert_eq!(address, Ok(("localhost".to_owned(), 44444)));
    let [channel] = &plan.channels[..] else { panic!("one channel") };
    assert_eq!(channel.component.alias, "memory");
    assert_eq!(plan.groups[0].balancer, BalancerKind::RoundRobin);
    let [sink] = &plan.sinks[..] else { panic!("one sink") };
    assert_eq!((sink.component.alias, &*sink.channel), ("hdfs", "c1"));
    assert_eq!(sink.settings.text("hdfs.path"), Ok("/user/hive/flume"));
    assert_eq!(
        sink.policy,
        PolicySettings {
            kind: PolicyKind::RetryAndResume,
            backoff: Duration::from_secs(1),
            max_backoff: Duration::from_secs(60),
            max_attempts: 0,
            on_exhausted: Exhausted::Stop,
            isolate: false,
        }
    );
}

#[test]
fn quickstart_has_no_problem() {
    let text = include_str!("../conf/quickstart.properties");
    let plan = plan_of(&Input { texts: &[("q", text)], agent: None, lenient: false });
    assert_eq!(said(&plan), [""; 0]);
    assert_eq!((plan.sources.len(), plan.channels.len(), plan.sinks.len()), (1, 1, 1));
    assert_eq!(plan.channels[0].component.alias, "file");
    let fsync = levada::channel::keys::fsync(&plan.channels[0].settings);
    assert_eq!(fsync, Ok(levada::log::Durability::Always));
}

#[test]
fn nearer_level_of_exec_wins_key_by_key() {
    let more = "\
a.exec.failure = retryAndResume
a.exec.type = LEAST_LOAD
a.exec.maxAttempts = 0
a.exec.queueSize = 5
a.exec.rate.events = 70
a.channel.c.exec.failure = re-queue
a.channels.c.exec.backoff = 20
a.sinks.k.exec.maxBackoff = 3000
";
    let check = |more: &str, kind: PolicyKind, backoff, queue_leases| {
        let text = format!("{FINE}{more}");
        let plan = plan_of(&Input { texts: &[("t", &text)], agent: None, lenient: false });
        assert_eq!(said(&plan), [""; 0]);
        assert_eq!(plan.groups[0].queue_leases, queue_leases);
        assert_eq!(plan.sinks[0].policy.kind, kind);
        assert_eq!(plan.sinks[0].policy.backoff, Duration::from_millis(backoff));
        plan
    };
    let plan = check(more, PolicyKind::Requeue, 20, 5);
    let policy = plan.sinks[0].policy;
    assert_eq!((policy.max_attempts, policy.max_backoff), (0, Duration::from_secs(3)));
    assert_eq!(plan.groups[0].balancer, BalancerKind::LeastLoad);
    assert_eq!(plan.sinks[0].rate.events, 70);
    let nearer = format!("{more}a.sinks.k.exec.type = RETRY_AND_RESUME\n");
    check(&nearer, PolicyKind::RetryAndResume, 20, 5);
    check("a.exec.failure = retryAndResume\n", PolicyKind::RetryAndResume, 1000, 2);
    check("", PolicyKind::Requeue, 1000, 2);
}

/// The config on a file channel.
fn on_disk(more: &str) -> String {
    format!("{}\n{more}\n", fine_but("a.channels.c.type", "a.channels.c.type = file"))
}

#[test]
fn each_policy_has_its_own_defaults() {
    let check = |more: &str, kind, attempts, on_exhausted, isolate| {
        let text = on_disk(more);
        let plan = plan_of(&Input { texts: &[("t", &text)], agent: None, lenient: false });
        assert_eq!(said(&plan), [""; 0], "{more}");
        let policy = plan.sinks[0].policy;
        let seen = (policy.kind, policy.max_attempts, policy.on_exhausted, policy.isolate);
        assert_eq!(seen, (kind, attempts, on_exhausted, isolate), "{more}");
    };
    let (dead, fail, stop) = (Exhausted::DeadLetter, Exhausted::Fail, Exhausted::Stop);
    check("", PolicyKind::Requeue, 0, stop, false);
    check("a.channel.c.exec.failure = deadLetter", PolicyKind::DeadLetter, 1, dead, true);
    check("a.sink.k.exec.type = fail", PolicyKind::Fail, 1, fail, false);
    check(
        "a.sinks.k.exec.type = fail\na.sinks.k.exec.onFail = stop",
        PolicyKind::Fail,
        1,
        stop,
        false,
    );
    let three = "a.exec.maxAttempts = 3\na.sinks.k.exec.type = ";
    check(&format!("{three}deadLetter"), PolicyKind::DeadLetter, 3, dead, true);
    check(&format!("{three}fail"), PolicyKind::Fail, 1, fail, false);
    let bounded = "a.sinks.k.exec.maxAttempts = 4\na.sinks.k.exec.onExhausted = dead-letter";
    check(bounded, PolicyKind::Requeue, 4, dead, true);
    let whole = format!("{bounded}\na.sinks.k.exec.isolate = false");
    check(&whole, PolicyKind::Requeue, 4, dead, false);
}

#[test]
fn policies_that_contradict_themselves_are_refused() {
    let check_with = |more: &str, expect: &[&str]| {
        let at = 9;
        let expect: Vec<_> =
            expect.iter().map(|text| format!("error: t:{at}: a.sinks.k.exec.{text}")).collect();
        let plan = plan_of(&Input { texts: &[("t", &on_disk(more))], agent: None, lenient: false });
        assert_eq!(said(&plan), expect, "{more}");
    };
    check_with(
        "a.sinks.k.exec.type = roundrobin",
        &["type: 'roundrobin' is none of: requeue, retryAndResume, fail, deadLetter"],
    );
    check_with(
        "a.sinks.k.exec.onExhausted = fail",
        &["onExhausted: needs exec.maxAttempts: without it events are tried without end"],
    );
    check_with(
        "a.sinks.k.exec.maxAttempts = 3\na.sinks.k.exec.type = fail",
        &["maxAttempts: fail has one attempt; requeue and retryAndResume have them, \
           with exec.onExhausted = fail"],
    );
    check_with(
        "a.sinks.k.exec.maxAttempts = 0\na.sinks.k.exec.type = deadLetter",
        &["maxAttempts: of deadLetter: 0 is without end, and nothing would be set aside"],
    );
    check_with(
        "a.sinks.k.exec.onExhausted = stop\na.sinks.k.exec.type = deadLetter",
        &["onExhausted: deadLetter knows where they go"],
    );
    check_with(
        "a.sinks.k.exec.onFail = stop",
        &["onFail: goes with exec.type = fail; here exec.onExhausted says what follows"],
    );
    check_with(
        "a.sinks.k.exec.backoff = 70000",
        &["backoff: 70000 ms is more than exec.maxBackoff, 60000 ms"],
    );
    check_with("a.sinks.k.exec.backoff = 0", &["backoff: 0 is outside 1..=86400000"]);
}

#[test]
fn dead_letters_need_a_channel_on_disk() {
    let message = "a memory channel has no place for dead letters: use a file channel";
    check_with(
        "a.sinks.k.exec.type = deadLetter",
        &[&format!("error: t:9: a.sinks.k.exec.type: {message}")],
    );
    check_with(
        "a.channels.c.exec.maxAge = 60\na.channels.c.exec.onExpired = deadLetter",
        &[&format!("error: t:10: a.channels.c.exec.onExpired: {message}")],
    );
}

/// Sinks k1 to k3 on one channel.
const THREE: &str = "\
a.sources = s
a.channels = c
a.sinks = k1 k2 k3
a.sources.s.type = seq
a.sources.s.channels = c
a.channels.c.type = memory
a.sinks.k1.type = null
a.sinks.k1.channel = c
a.sinks.k2.type = null
a.sinks.k2.channel = c
a.sinks.k3.type = null
a.sinks.k3.channel = c
";

fn three(more: &str) -> Plan {
    let text = format!("{THREE}{more}\n");
    plan_of(&Input { texts: &[("t", &text)], agent: None, lenient: false })
}

fn check_three(more: &str, expect: &[&str]) {
    assert_eq!(said(&three(more)), expect, "{more}");
}

#[test]
fn groups_have_settings_of_their_own() {
    let plan = three(
        "a.sinks.k2.group = audit\na.channels.c.group.audit.start = tail\n\
         a.channels.c.group.audit.exec.type = targetQueueSize\n\
         a.channels.c.group.audit.exec.targetQueueSize = 500\n\
         a.channels.c.exec.maxAge = 3600\na.channels.c.exec.freshFirst = true",
    );
    assert_eq!(said(&plan), [""; 0]);
    let [default, audit] = &plan.groups[..] else { panic!("{:?}", plan.groups) };
    assert_eq!((default.name.as_str(), audit.name.as_str()), ("default", "audit"));
    assert_eq!((default.from_oldest, audit.from_oldest), (true, false));
    assert_eq!(default.balancer, BalancerKind::RoundRobin);
    assert_eq!(audit.balancer, BalancerKind::TargetQueueSize);
    assert_eq!((default.target_events, audit.target_events), (None, Some(500)));
    for group in [default, audit] {
        assert_eq!(group.max_age, Some(Duration::from_secs(3_600)));
        assert!(group.fresh_first);
    }
    let groups: Vec<_> = plan.sinks.iter().map(|sink| sink.group.as_str()).collect();
    assert_eq!(groups, ["default", "audit", "default"]);
}

#[test]
fn what_is_wrong_with_a_group_is_said() {
    check_three(
        "a.sinks.k1.group = audit\na.channels.c.group.audit.strat = tail",
        &["warning: t:14: unknown key 'a.channels.c.group.audit.strat' for a group; \
           did you mean 'start'?"],
    );
    check_three(
        "a.sinks.k1.group = audit\na.channels.c.group.audti.start = tail",
        &["warning: t:14: a.channels.c.group.audti: no sink is in this group; \
           did you mean 'audit'?"],
    );
    check_three(
        "a.sinks.k1.group.start = tail\na.sinks.k2.group.start = oldest",
        &["error: t:14: a.sinks.k2.group.start: another sink of the group says otherwise: \
           say it once"],
    );
    check_three(
        "a.channels.c.exec.targetQueueSize = 9",
        &["error: t:13: a.channels.c.exec.targetQueueSize: goes with exec.type = targetQueueSize"],
    );
    check_three(
        "a.channels.c.exec.freshFirst = true\na.sinks.k2.exec.type = retryAndResume",
        &["error: t:13: a.channels.c.exec.freshFirst: the sink k2 keeps its order \
           (retryAndResume), and can't take new events first"],
    );
}

#[test]
fn flumes_sink_groups_are_the_balancer_of_their_group() {
    let plan = three(
        "a.sinkgroups = g\na.sinkgroups.g.sinks = k1 k2 k3\n\
         a.sinkgroups.g.processor.type = failover\n\
         a.sinkgroups.g.processor.priority.k2 = 10\n\
         a.sinkgroups.g.processor.maxpenalty = 10000\na.sinks.k3.exec.maxBackoff = 5000",
    );
    assert_eq!(said(&plan), [""; 0]);
    assert_eq!(plan.groups[0].balancer, BalancerKind::Failover);
    let sinks: Vec<_> =
        plan.sinks.iter().map(|sink| (sink.priority, sink.policy.max_backoff.as_secs())).collect();
    assert_eq!(sinks, [(-1, 10), (10, 10), (-2, 5)]);
    let balance = |more: &str| {
        let plan = three(&format!(
            "a.sinkgroups = g\na.sinkgroups.g.sinks = k1 k2 k3\n\
             a.sinkgroups.g.processor.type = load_balance\n{more}"
        ));
        assert_eq!(said(&plan), [""; 0]);
        plan.groups[0].balancer
    };
    assert_eq!(balance(""), BalancerKind::RoundRobin);
    assert_eq!(balance("a.sinkgroups.g.processor.selector = RANDOM"), BalancerKind::Random);
}

#[test]
fn sink_groups_that_contradict_something_are_refused() {
    let group = "a.sinkgroups = g\na.sinkgroups.g.processor.type = load_balance\n\
                 a.sinkgroups.g.sinks = ";
    let check = |more: &str, expect: &str| {
        check_three(&format!("{group}{more}"), &[expect]);
    };
    check(
        "k1 k2",
        "error: t:15: a.sinkgroups.g.sinks: the sink 'k3' takes from the same channel without \
         being in the sink group: add it, or give it a group of its own (…sinks.k3.group = NAME), \
         which sees every event",
    );
    check(
        "k1 k2 k3\na.sinks.k3.group = audit",
        "error: t:15: a.sinkgroups.g.sinks: 'k3' is of the group 'audit' of the channel c, others \
         are not: a sink group shares out the events of one group of one channel",
    );
    check(
        "k1 k2 k3\na.channels.c.exec.type = leastLoad",
        "error: t:16: a.channels.c.exec.type: contradicts the sink group a.sinkgroups.g, which \
         decides who gets the next batch: take one of them out",
    );
    check(
        "k1 k2 k3\na.sinkgroups.g.processor.selector = com.example.Mine",
        "error: t:16: a.sinkgroups.g.processor.selector: 'com.example.Mine' is none of: \
         round_robin, random; classes are not loaded",
    );
    check("k1", "error: t:14: a.sinkgroups.g.processor.type: load_balance takes two sinks or more");
    check_three(
        "a.sinkgroups = g\na.sinkgroups.g.sinks = k1",
        &["error: t:14: a.sinkgroups.g.processor.type: required, but not set"],
    );
}

#[test]
fn type_that_is_missing_or_unknown_is_named() {
    check(&fine_but("a.sinks.k.type", "#"), &["error: t:8: a.sinks.k.type: required, but not set"]);
    check(
        &fine_but("a.sinks.k.type", "a.sinks.k.type = nul"),
        &["error: t:7: a.sinks.k.type: unknown sink type 'nul'; did you mean 'null'?"],
    );
    check(
        &fine_but("a.channels.c.type", "a.channels.c.type = com.x.Mine"),
        &["error: t:6: a.channels.c.type: unknown channel type 'com.x.Mine'; \
             there is: memory, file"],
    );
}

#[test]
fn part_of_an_unknown_type_is_looked_at_to_the_end() {
    let text = fine_but("a.sources.s.type", "a.sources.s.type = memory");
    let text = text.replace("s.channels = c", "s.channels = x");
    check(
        &format!("{text}\na.sources.s.interceptors = i\na.sources.s.own = ${{env:NO}}"),
        &[
            "error: t:4: a.sources.s.type: unknown source type 'memory'; there is: avro, seq",
            "error: t:5: a.sources.s.channels: unknown channel 'x'; there is: c",
            "error: t:9: a.sources.s.interceptors: not supported yet by this version",
            "warning: t:10: a.sources.s.own: '${env:NO}' is not in the environment; \
             it is left as it is",
        ],
    );
}

#[test]
fn source_and_sink_need_a_channel_that_is_listed() {
    check(
        &fine_but("a.sources.s.channels", "#"),
        &["error: t:4: a.sources.s.channels: required, but not set"],
    );
    check(
        &fine_but("a.sinks.k.channel", "#"),
        &["error: t:7: a.sinks.k.channel: required, but not set"],
    );
    check(
        &fine_but("a.sources.s.channels", "a.sources.s.channels = c d"),
        &["error: t:5: a.sources.s.channels: unknown channel 'd'; there is: c"],
    );
    check(
        &fine_but("a.sinks.k.channel", "a.sinks.k.channel = other"),
        &["error: t:8: a.sinks.k.channel: unknown channel 'other'; there is: c"],
    );
}

#[test]
fn list_and_settings_must_agree() {
    check(
        &fine_but("a.sinks = k", "a.sinks = k k2 k"),
        &[
            "warning: t:3: a.sinks: 'k' is listed twice",
            "error: t:3: a.sinks.k2 is listed, but nothing of it is set",
        ],
    );
    check_with(
        "a.sinks.other.type = null",
        &["warning: t:9: a.sinks.other is not in the list 'a.sinks': it does not run"],
    );
}

#[test]
fn unknown_key_is_a_warning_with_the_nearest_one() {
    check_with(
        "a.channels.c.capcity = 1\na.sinks.k.foo = 1\na.sinks.k.Type = x",
        &[
            "warning: t:9: unknown key 'a.channels.c.capcity' for channel type 'memory'; \
         did you mean 'capacity'?",
            "warning: t:10: unknown key 'a.sinks.k.foo' for sink type 'null'",
            "warning: t:11: unknown key 'a.sinks.k.Type' for sink type 'null'; \
             did you mean 'type'?",
        ],
    );
    check_with(
        "a.chanels = d\na.sink.k2 = x\na.channels.c = x\na.exec.typ = roundrobin",
        &[
            "warning: t:9: unknown key 'a.chanels': it is ignored; did you mean 'channels'?",
            "warning: t:10: 'a.sink.k2' names no key of 'k2': it is ignored",
            "warning: t:11: 'a.channels.c' names no key of 'c': it is ignored",
            "warning: t:12: unknown key 'a.exec.typ': it is ignored; did you mean 'exec.type'?",
        ],
    );
}

#[test]
fn key_of_no_agent_is_a_warning_unless_a_value_refers_to_it() {
    check_with("SIZE = 5\nROLL.s = 1\na.sources.s.batchSize = ${SIZE}${ROLL.s}", &[]);
    check_with(
        "SIZE = 5\nagnt.sink.k.type = null\nagnt.sink.k.a = null",
        &[
            "warning: t:9: 'SIZE' belongs to no agent: it is ignored",
            "warning: t:10: 'agnt.sink.k.type' is ignored: 'agnt' is no agent of this file",
        ],
    );
}

#[test]
fn value_that_does_not_fit_is_an_error_and_no_value_a_warning() {
    check_with(
        "a.channels.c.capacity = many\na.sources.s.batchSize = 0\na.exec.type =",
        &[
            "error: t:9: a.channels.c.capacity: 'many' is not a whole number",
            "error: t:10: a.sources.s.batchSize: 0 is below 1",
            "warning: t:11: a.exec.type has no value: it is ignored",
        ],
    );
    let text = fine_but("a.sinks.k.type", "a.sinks.k.type = hdfs");
    check(&text, &["error: t:7: a.sinks.k.hdfs.path: required, but not set"]);
}

#[test]
fn batch_must_fit_into_the_channels_transactions() {
    check_with(
        "a.sinks.k.batchSize = 101\na.sources.s.batchSize = 1000",
        &[
            "error: t:9: a.sinks.k.batchSize: 101 is more than \
             a.channels.c.transactionCapacity, 100",
            "error: t:10: a.sources.s.batchSize: 1000 is more than \
         a.channels.c.transactionCapacity, 100",
        ],
    );
    check_with(
        "a.channels.c.transactionCapacity = 50",
        &["error: t:7: a.sinks.k.batchSize: 100 is more than a.channels.c.transactionCapacity, 50"],
    );
    check_with(
        "a.channels.c.transactionCapacity = 101",
        &["error: t:9: a.channels.c.transactionCapacity: \
         a transaction of 101 does not fit into 100 events"],
    );
}

#[test]
fn source_that_listens_must_know_where() {
    let text = fine_but("a.sources.s.type", "a.sources.s.type = avro\na.sources.s.bind = h");
    check(
        &text,
        &["error: t:4: a.sources.s.port: required, but not set (bind = HOST:PORT does as well)"],
    );
    check(&text.replace("= h", "= h:4141"), &[]);
}

#[test]
fn sections_of_later_versions_are_refused_and_never_ignored() {
    let later = "not supported yet by this version";
    check_with("a.sources.s.selector.type = REPLICATING", &[]);
    check_with(
        "a.sources.s.selector.type = multiplexing\na.sources.s.interceptors = i\n\
         a.configfilters = f\n\
         a.channels.c.encryption.keyProvider = x",
        &[
            &format!(
                "error: t:9: a.sources.s.selector.type: the selector 'multiplexing' is {later}"
            ),
            &format!("error: t:10: a.sources.s.interceptors: {later}"),
            &format!("error: t:11: a.configfilters: config filters are {later}"),
            &format!("error: t:12: a.channels.c.encryption.keyProvider: {later}"),
        ],
    );
    check_with(
        "a.sources.s.selector.type = multiplexing",
        &[&format!(
            "error: t:9: a.sources.s.selector.type: the selector 'multiplexing' is {later}"
        )],
    );
    check_with(
        "a.sources.s.selector.optional = c",
        &[&format!("error: t:9: a.sources.s.selector.optional: {later}")],
    );
    check_with(
        "a.sinkgroups.g.sinks = k",
        &["warning: t:9: a.sinkgroups.g is not in the list 'a.sinkgroups'"],
    );
}

#[test]
fn singular_is_read_as_plural_with_a_notice() {
    let text = fine_but("a.sinks.k.channel", "a.sink.k.channel = c");
    check(&text, &["warning: t:8: 'a.sink.k.channel' is read as 'a.sinks.k.channel'"]);
    check_with(
        "a.channel.c.capacity = 200",
        &["warning: t:9: 'a.channel.c.capacity' is read as 'a.channels.c.capacity'"],
    );
    check_with("a.channel.c.exec.queueSize = 3", &[]);
    check_with(
        "a.channels.c.exec.queueSize = 4\na.channel.c.exec.queueSize = 3",
        &["warning: t:9: 'a.channels.c.exec.queueSize' is given at t:10, too: this one wins"],
    );
}

#[test]
fn channel_without_source_and_sink_is_not_opened() {
    let text =
        format!("{}\na.channels.d.type = memory", fine_but("a.channels =", "a.channels = c d"));
    check(&text, &["warning: t:2: a.channels.d has no source and no sink: it is not opened"]);
    let plan = plan_of(&Input { texts: &[("t", &text)], agent: None, lenient: false });
    assert_eq!(plan.channels.len(), 1);
}

#[test]
fn agent_without_its_lists_is_refused() {
    check(
        "a.sinks = k",
        &[
            "error: t:1: a.channels: required, but not set",
            "error: t:1: a.sinks.k is listed, but nothing of it is set",
        ],
    );
    check(
        "a.channels = c\na.channels.c.type = memory",
        &[
            "error: t:1: a has channels, but no list of sources and none of sinks",
            "warning: t:1: a.channels.c has no source and no sink: it is not opened",
        ],
    );
}

#[test]
fn agent_must_be_named_if_there_are_several() {
    let check = |texts: &[(&str, &str)], agent, expected: &str| {
        let plan = plan_of(&Input { texts, agent, lenient: false });
        assert_eq!(said(&plan), [expected]);
        assert!(plan.is_refused());
    };
    let two = [("t", "b.sources = x\na.sinks = y\nc.other = z")];
    check(&two, None, "error: t: several agents, choose one with -n: a, b");
    check(&two, Some("c"), "error: t: no agent 'c'; there is: a, b");
    check(
        &[("t", ""), ("u", "x = 1")],
        None,
        "error: t, u: no agent: nothing like 'NAME.sources = s1' was found",
    );
}

#[test]
fn other_agents_are_left_alone() {
    let text = format!("{FINE}b.sources = s\nb.sources.s.type = nothing\nb.x = ${{env:NO}}\nb.y =");
    let plan = plan_of(&Input { texts: &[("t", &text)], agent: Some("a"), lenient: false });
    assert_eq!(said(&plan), [""; 0]);
}

#[test]
fn later_file_wins_and_problems_come_in_the_order_of_files() {
    let second = "a.sinks.k.type = hdfs\na.sinks.k.foo = 1\n";
    let third = "a.sinks.k.hdfs.path = /x\n";
    let texts = [("z", FINE), ("t", second), ("b", third)];
    let plan = plan_of(&Input { texts: &texts, agent: None, lenient: false });
    assert_eq!(said(&plan), ["warning: t:2: unknown key 'a.sinks.k.foo' for sink type 'hdfs'"]);
    assert_eq!(plan.sinks[0].component.alias, "hdfs");
}

#[test]
fn problems_of_the_text_refuse_even_when_lenient() {
    let text = format!("{FINE}a.sources.s.batchSize = \\u00\n");
    for lenient in [false, true] {
        let plan = plan_of(&Input { texts: &[("t", &text)], agent: None, lenient });
        assert_eq!(
            said(&plan),
            ["error: t:9: value of 'a.sources.s.batchSize': \
             malformed \\u escape: four hex digits must follow '\\u'",]
        );
    }
}

#[test]
fn lenient_leaves_out_what_is_broken_and_what_needs_it() {
    let text = "\
a.sources = s1 s2 s3
a.channels = c1 c2
a.sinks = k1 k2 k3
a.sources.s1.type = seq
a.sources.s1.channels = c1 c2 c3
a.sources.s2.type = seq
a.sources.s2.channels = c2
a.sources.s3.type = seq
a.sources.s3.channels = c1
a.sources.s3.interceptors = i
a.channels.c1.type = memory
a.channels.c2.type = memory
a.channels.c2.capacity = x
a.sinks.k1.type = null
a.sinks.k1.channel = c1
a.sinks.k2.type = null
a.sinks.k2.channel = c2
a.sinks.k3.type = hdfs
a.sinks.k3.channel = c1
";
    let plan = plan_of(&Input { texts: &[("t", text)], agent: None, lenient: true });
    assert_eq!(
        said(&plan),
        [
            "warning: t:1: a.sources.s2 is left out",
            "warning: t:1: a.sources.s3 is left out",
            "warning: t:2: a.channels.c2 is left out",
            "warning: t:3: a.sinks.k2 is left out",
            "warning: t:3: a.sinks.k3 is left out",
            "warning: t:5: a.sources.s1.channels: unknown channel 'c3'; there is: c1, c2",
            "warning: t:10: a.sources.s3.interceptors: not supported yet by this version",
            "warning: t:13: a.channels.c2.capacity: 'x' is not a whole number",
            "warning: t:18: a.sinks.k3.hdfs.path: required, but not set",
        ]
    );
    let names = |plan: &Plan| {
        let sources = plan.sources.iter().map(|s| format!("{} {}", s.name, s.channels.join(" ")));
        let channels = plan.channels.iter().map(|c| c.name.clone());
        let sinks = plan.sinks.iter().map(|k| format!("{} {}", k.name, k.channel));
        sources.chain(channels).chain(sinks).collect::<Vec<_>>()
    };
    assert_eq!(names(&plan), ["s1 c1", "c1", "k1 c1"]);
    assert!(!plan.is_refused());
}

#[test]
fn lenient_with_nothing_left_to_run_is_refused() {
    let text = fine_but("a.channels.c.type", "a.channels.c.type = memori");
    let plan = plan_of(&Input { texts: &[("t", &text)], agent: None, lenient: true });
    assert!(plan.is_refused());
    let errors: Vec<_> = said(&plan).into_iter().filter(|p| p.starts_with("error")).collect();
    assert_eq!(errors, ["error: t:1: a: no source and no sink can run"]);
}

#[test]
fn lenient_does_not_run_the_sinks_of_a_group() {
    let text = format!("{FINE}a.sinkgroups = g\na.sinkgroups.g.sinks = k\n");
    let plan = plan_of(&Input { texts: &[("t", &text)], agent: None, lenient: true });
    assert_eq!(
        said(&plan),
        [
            "warning: t:3: a.sinks.k is left out",
            "warning: t:10: a.sinkgroups.g.processor.type: required, but not set",
        ]
    );
    assert_eq!((plan.sinks.len(), plan.channels.len()), (0, 1));
}

#[test]
fn any_lines_make_a_plan_that_holds_together() {
    fn property(picks: Vec<(u8, u8)>, lenient: bool) -> bool {
        const KEYS: [&str; 16] = [
            "a.sources",
            "a.channels",
            "a.sinks",
            "a.sources.s.type",
            "a.sources.s.channels",
            "a.channels.c.type",
            "a.channels.d.type",
            "a.sinks.k.type",
            "a.sinks.k.channel",
            "a.sinks.k.exec.type",
            "a.exec.failure",
            "a.sinkgroups",
            "b.sources",
            "a.channel.c.type",
            "a.sources.s.batchSize",
            "a.sinks..type",
        ];
        const VALUES: [&str; 12] = [
            "s",
            "c d",
            "k",
            "c",
            "seq",
            "memory",
            "null",
            "requeue",
            "",
            "7",
            "${a.sinks}",
            "fail",
        ];
        let line = |&(key, value): &(u8, u8)| {
            let value = VALUES[value as usize % VALUES.len()];
            format!("{} = {value}\n", KEYS[key as usize % KEYS.len()])
        };
        let text = format!("{FINE}{}", picks.iter().map(line).collect::<String>());
        let plan = plan_of(&Input { texts: &[("t", &text)], agent: Some("a"), lenient });
        let has = |name: &String| plan.channels.iter().any(|channel| channel.name == *name);
        let runs = !plan.sources.is_empty() || !plan.sinks.is_empty();
        (plan.is_refused() || runs)
            && plan.sources.iter().all(|s| !s.channels.is_empty() && s.channels.iter().all(has))
            && plan.sinks.iter().all(|k| has(&k.channel))
    }
    quickcheck::quickcheck(property as fn(Vec<(u8, u8)>, bool) -> bool);
}
