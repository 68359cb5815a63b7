//! Tests of the protocol: its lines, and a client against agents that misbehave.

use super::*;
use std::os::unix::net::UnixListener;

fn check_request(request: &Request, line: &str) {
    assert_eq!(serde_json::to_string(request).unwrap(), line);
    assert_eq!(serde_json::from_str::<Request>(line).unwrap(), *request);
}

#[test]
fn requests_are_lines_of_json_that_do_not_change() {
    check_request(&Request::Groups, r#""groups""#);
    check_request(
        &Request::Rewind { group: "g".into(), to: Place::Time(5) },
        r#"{"rewind":{"group":"g","to":{"time":5}}}"#,
    );
    check_request(
        &Request::Replay {
            from: Place::Offset(Offset(3)),
            to: None,
            headers: vec![("h".into(), "v".into())],
            sink: "k2".into(),
            rate_events: 7,
        },
        r#"{"replay":{"from":{"offset":3},"to":null,"where":[["h","v"]],"sink":"k2","rate_events":7}}"#,
    );
    let short = r#"{"redrive":{"filter":{"sink":"k1"},"max_redrives":3}}"#;
    let filter = LetterFilter { sink: Some("k1".into()), ..LetterFilter::default() };
    let request = Request::Redrive { filter, max_redrives: Some(3), dry_run: false };
    assert_eq!(serde_json::from_str::<Request>(short).unwrap(), request);
}

#[test]
fn what_is_no_request_is_refused() {
    for line in [
        "",
        "{}",
        "null",
        r#""redrive""#,
        r#"{"resume":{"sink":"k","and":1}}"#,
        r#"{"purge":{"filter":{"sinks":"k"}}}"#,
        r#"{"resume":{"sink":"k"},"groups":null}"#,
    ] {
        assert!(serde_json::from_str::<Request>(line).is_err(), "{line}");
    }
}

/// What a client gets from an agent that answers with these bytes and hangs up.
fn against(answer: &'static [u8]) -> (Result<Answer, ControlError>, Vec<Progress>) {
    let dir = tempfile::tempdir().unwrap();
    let listener = UnixListener::bind(dir.path().join(SOCKET)).unwrap();
    let agent = std::thread::spawn(move || {
        let (mut socket, _) = listener.accept().unwrap();
        let mut line = String::new();
        BufReader::new(socket.try_clone().unwrap()).read_line(&mut line).unwrap();
        socket.write_all(answer).unwrap();
        line
    });
    let mut seen = Vec::new();
    let answer = ask_with(dir.path(), &Request::Groups, |at| seen.push(at));
    assert_eq!(agent.join().unwrap(), "\"groups\"\n");
    (answer, seen)
}

#[test]
fn client_gives_progress_and_the_last_line() {
    let (answer, seen) = against(
        b"{\"progress\":{\"done\":1,\"seen\":2,\"of\":3}}\n{\"ok\":{\"dropped\":{\"name\":\"g\"}}}\n",
    );
    assert_eq!(answer.unwrap(), Answer::Dropped { name: "g".into() });
    assert_eq!(seen, [Progress { done: 1, seen: 2, of: 3 }]);
    let (answer, _) = against(b"{\"error\":\"no such group\"}\n");
    assert_eq!(answer.unwrap_err().to_string(), "no such group");
}

#[test]
fn client_says_what_is_wrong_with_an_agent() {
    let (answer, _) = against(b"");
    assert!(matches!(answer, Err(ControlError::Io { .. })), "{answer:?}");
    let (answer, _) = against(b"{\"ok\":{\"new\":1}}\n");
    assert!(matches!(answer, Err(ControlError::Strange { .. })), "{answer:?}");
    let dir = tempfile::tempdir().unwrap();
    let answer = ask(dir.path(), &Request::Groups);
    assert!(matches!(answer, Err(ControlError::NoAgent { .. })), "{answer:?}");
    drop(UnixListener::bind(dir.path().join(SOCKET)).unwrap());
    let answer = ask(dir.path(), &Request::Groups);
    assert!(matches!(answer, Err(ControlError::NoAgent { .. })), "a stale socket: {answer:?}");
}

#[test]
fn socket_in_a_directory_with_a_long_path_is_found() {
    let dir = tempfile::tempdir().unwrap();
    let long = dir.path().join("d".repeat(100)).join("e".repeat(100));
    std::fs::create_dir_all(&long).unwrap();
    let listener = UnixListener::bind(Address::of(&long).unwrap().path()).unwrap();
    assert!(long.join(SOCKET).exists());
    UnixStream::connect(Address::of(&long).unwrap().path()).unwrap();
    drop(listener);
}
