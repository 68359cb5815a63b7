//! The built `levada` as a script sees it: exit codes, and on which stream what is said.

use std::io::Write;
use std::process::{Command, Output};
use tempfile::NamedTempFile;

fn levada(args: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_levada"));
    command.args(args).current_dir(env!("CARGO_MANIFEST_DIR"));
    command.env_remove("RUST_LOG").env("COLUMNS", "100");
    command.output().expect("levada is built")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).expect("levada speaks UTF-8")
}

/// Exit code, and words that must stand in what is said on standard output and error.
#[track_caller]
fn check(args: &[&str], code: i32, out: &[&str], err: &[&str]) {
    let output = levada(args);
    let (seen_out, seen_err) = (text(&output.stdout), text(&output.stderr));
    let seen = format!("levada {args:?}\n--- out\n{seen_out}--- err\n{seen_err}");
    assert_eq!(output.status.code(), Some(code), "{seen}");
    for (expected, seen_in) in [(out, &seen_out), (err, &seen_err)] {
        assert_eq!(expected.is_empty(), seen_in.is_empty(), "{seen}");
        for words in expected {
            assert!(seen_in.contains(words), "'{words}' is missing in {seen}");
        }
    }
}

fn config(text: &str) -> NamedTempFile {
    let file = tempfile::Builder::new().suffix(".properties").tempfile();
    let mut file = file.expect("a temporary file");
    file.write_all(text.as_bytes()).expect("room for a few lines");
    file
}

fn name(file: &NamedTempFile) -> &str {
    file.path().to_str().expect("a plain path")
}

const BROKEN: &str = "\
a.channels = c
a.sinks = k
a.channels.c.type = memory
a.channels.c.capcity = 1
a.sinks.k.type = nothing-like-it
a.sinks.k.channel = c
";

#[test]
fn help_and_version_end_with_0() {
    check(&["help"], 0, &["Usage: levada <COMMAND>", "avro-client", "check", "keys"], &[]);
    check(&["--help"], 0, &["Usage: levada <COMMAND>"], &[]);
    check(&["agent", "-help"], 0, &["--conf-file <FILE>", "--lenient"], &[]);
    let version = concat!("levada ", env!("CARGO_PKG_VERSION"));
    check(&["version"], 0, &[version], &[]);
    assert_eq!(text(&levada(&["version"]).stdout).lines().count(), 5);
}

#[test]
fn wrong_command_line_ends_with_64() {
    check(&[], 64, &[], &["Usage: levada <COMMAND>"]);
    check(&["frobnicate"], 64, &[], &["unrecognized subcommand 'frobnicate'"]);
    check(&["agent", "--frob"], 64, &[], &["unexpected argument '--frob'"]);
    check(&["agent", "-n", "a"], 64, &[], &["no config: give it with -f FILE"]);
    check(&["check"], 64, &[], &["no config: give it with -f FILE"]);
    check(&["agent", "-f", "x", "-D", "=1"], 64, &[], &["a system property is -DKEY=VALUE"]);
    check(&["keys", "memry"], 64, &[], &["no component 'memry'; did you mean 'memory'?"]);
    check(&["avro-client", "-F", "x"], 64, &[], &["no target: give -H HOST -p PORT, or -P FILE"]);
    check(&["avro-client", "-H", "h"], 64, &[], &["--port"]);
    check(&["avro-client", "-H", "h", "-p", "66000"], 64, &[], &["66000 is not in 0..=65535"]);
    check(
        &["avro-client", "-H", "h", "-p", "1", "-F", "x", "--dirname", "y"],
        64,
        &[],
        &["cannot be used with"],
    );
}

#[test]
fn options_of_flume_that_can_not_be_followed_are_named() {
    let not = "is not supported by this version: use -f FILE";
    for (option, said) in [
        ("-u", "-u/--conf-uri"),
        ("-prov", "-prov/--conf-provider"),
        ("--conf-provider", "-prov/--conf-provider"),
        ("-user", "-user/--conf-user"),
        ("-pwd", "-pwd/--conf-password"),
        ("-z", "-z/--zkConnString"),
        ("-p", "-p/--zkBasePath"),
        ("-b", "-b/--backup-directory"),
    ] {
        check(&["agent", "-n", "a", option, "x"], 64, &[], &[&format!("{said} {not}")]);
    }
}

#[test]
fn refused_config_ends_with_78_and_every_problem_is_said() {
    let file = config(BROKEN);
    let file = name(&file);
    let lines = [
        format!("{file}:4: warning: unknown key 'a.channels.c.capcity' for channel type 'memory'"),
        format!("{file}:5: error: a.sinks.k.type: unknown sink type 'nothing-like-it'"),
        "agent a is refused: 1 error, 1 warning".to_owned(),
    ];
    let lines: Vec<_> = lines.iter().map(String::as_str).collect();
    check(&["check", "-f", file], 78, &lines, &[]);
    check(&["agent", "-f", file], 78, &[], &lines);
    check(&["agent", "-f", file, "--dry-run"], 78, &[], &lines);
    // a log that is off does not swallow the answer
    check(&["agent", "-f", file, "-Dflume.root.logger=OFF"], 78, &[], &lines);
    let nothing_left = "error: a: no source and no sink can run";
    check(&["agent", "-f", file, "--lenient"], 78, &[], &["a.sinks.k is left out", nothing_left]);
}

#[test]
fn config_that_can_not_be_read_ends_with_78() {
    check(&["check", "-f", "no/such.properties"], 78, &["no/such.properties: can't be read"], &[]);
    let json = ["a.json: json is not supported: a config is a .properties file"];
    check(&["check", "-f", "a.json"], 78, &json, &[]);
    let file = config("");
    let nothing = format!("{}: no agent: nothing like", name(&file));
    check(&["check", "-f", name(&file)], 78, &[&nothing, "refused: 1 error"], &[]);
}

#[test]
fn flumes_way_of_writing_options_is_understood() {
    let file = config(BROKEN);
    let spoken = &["a.sinks.k.type", "(-X…, -C, --plugins-path) do nothing here", "poll-interval"];
    let args = ["node", "-conf", "conf", "-conf-file", name(&file), "-Xmx20m", "-javaagent:a.jar"];
    let more = ["-C", "x:y", "--plugins-path", "p", "-name", "a", "-i", "30", "--no-reload-conf"];
    check(&[&args[..], &more[..]].concat(), 78, &[], spoken);
    let metrics = "-Dflume.monitoring.type does nothing: not supported yet by this version";
    check(&["agent", "-f", name(&file), "-Dflume.monitoring.type=http"], 78, &[], &[metrics]);
    let missing_dir = "-c no-such-dir: no such directory";
    check(&["agent", "-c", "no-such-dir", "-f", name(&file)], 78, &[], &[missing_dir]);
}

#[test]
fn defines_and_environment_reach_the_config() {
    let file = config(&BROKEN.replace("nothing-like-it", "${sys:kind}-${env:CARGO_PKG_NAME}"));
    let said = "unknown sink type 'odd-levada'";
    check(&["check", "-f", name(&file), "-Dkind=odd"], 78, &[said], &[]);
}

#[test]
fn keys_prints_a_table_and_json() {
    let table = [
        "channel memory (org.apache.flume.channel.MemoryChannel)",
        "transactionCapacity  ",
        "every sink",
        "exec.backoff",
    ];
    check(&["keys"], 0, &table, &[]);
    check(&["keys", "FILE"], 0, &["Not supported yet: refused. Encryption of the log."], &[]);
    let json = levada(&["keys", "--json"]);
    let groups: serde_json::Value = serde_json::from_slice(&json.stdout).unwrap();
    let memory = groups.as_array().unwrap().iter().find(|group| group["type"] == "memory");
    let capacity = memory.unwrap()["keys"].as_array().unwrap().iter();
    let capacity: Vec<_> = capacity.filter(|key| key["key"] == "capacity").collect();
    assert_eq!(capacity.len(), 1);
    assert_eq!(capacity[0]["default"], "100");
    assert_eq!(capacity[0]["unit"], "events");
}

/// The seed's own command, and the README's, up to the start.
#[test]
fn shipped_configs_are_fine() {
    let fine = "is fine: 1 source, 1 channel, 1 sink; 0 errors, 0 warnings";
    let seed = ["-c", "conf", "-f", "conf/agent1.properties", "-Dflume.root.logger=INFO"];
    check(&[&["agent"], &seed[..], &["-d"]].concat(), 0, &["agent agent1", fine], &[]);
    check(&["check", "-f", "conf/quickstart.properties"], 0, &["agent quick", fine], &[]);
}
