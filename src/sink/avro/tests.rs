//! The sink `avro` against levada's source, and against a server that does as it is told.

use super::*;
use crate::channel::collect::CollectChannel;
use crate::event::Event;
use crate::ingest::Ingest;
use crate::offset::Offset;
use crate::rpc::avro::{Call, FrameLimits, FrameReader, ServerSession, decode_events};
use crate::source::avro::AvroSource;
use crate::source::{Source, Stop, Stopper};
use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// What the server does with a call.
#[derive(Clone, Copy, PartialEq, Debug)]
enum Reaction {
    Answer(Status),
    Error,
    Silence,
    Close,
    /// Answers `OK`, and closes the connection behind it.
    Last,
}

/// What the server does, and what it got: the connection of each call, and its bodies.
#[derive(Default)]
struct Script {
    next: Mutex<VecDeque<Reaction>>,
    calls: Mutex<Vec<(usize, Vec<String>)>>,
}

impl Script {
    fn take_calls(&self) -> Vec<(usize, Vec<String>)> {
        std::mem::take(&mut self.calls.lock().unwrap())
    }
}

/// A server that answers `OK` to what its script has no word for.
async fn server(reactions: &[Reaction]) -> (SocketAddr, Arc<Script>) {
    let script = Arc::new(Script::default());
    script.next.lock().unwrap().extend(reactions);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (address, shared) = (listener.local_addr().unwrap(), script.clone());
    tokio::spawn(async move {
        for connection in 0.. {
            let (socket, _) = listener.accept().await.unwrap();
            tokio::spawn(serve(socket, connection, shared.clone()));
        }
    });
    (address, script)
}

/// Serves a connection until it is to be closed; a silent one stays open.
async fn serve(mut socket: TcpStream, connection: usize, script: Arc<Script>) {
    let mut frames = FrameReader::new(FrameLimits::of_frame_bytes(64 << 20));
    let mut session = ServerSession::default();
    loop {
        while let Some(mut frame) = frames.next_frame().unwrap() {
            let request = session.request(&mut frame).unwrap();
            let (mut out, mut bodies) = (Vec::new(), Vec::new());
            let mut reaction = Reaction::Answer(Status::Ok);
            match request.call {
                Call::AppendBatch(mut reader) => {
                    let mut push = |_: &[(&str, &str)], body: &[u8]| {
                        bodies.push(String::from_utf8_lossy(body).trim_end().to_owned());
                    };
                    decode_events(&mut reader, 1000, &mut push).unwrap();
                    reaction = script.next.lock().unwrap().pop_front().unwrap_or(reaction);
                    script.calls.lock().unwrap().push((connection, bodies));
                    match reaction {
                        Reaction::Answer(status) => request.reply.status(status, &mut out),
                        Reaction::Last => request.reply.status(Status::Ok, &mut out),
                        Reaction::Error => request.reply.error("not so", &mut out),
                        Reaction::Silence | Reaction::Close => {}
                    }
                }
                _ => request.reply.empty(&mut out),
            }
            let _ = socket.write_all(&out).await; // it may have been given up
            if matches!(reaction, Reaction::Close | Reaction::Last) {
                return;
            }
        }
        match socket.read_buf(frames.input()).await {
            Ok(count) if count > 0 => {}
            _ => return,
        }
    }
}

fn sink(address: SocketAddr, pairs: &[(&str, &str)]) -> AvroSink {
    let port = address.port().to_string();
    let pairs = [&[("hostname", "127.0.0.1"), ("port", &port)], pairs].concat();
    let settings = Settings::of_pairs("a.sinks.k", COMPONENT.keys, &pairs);
    assert_eq!(settings.check(), []);
    AvroSink::new(&settings).unwrap()
}

fn batch_of(from: u64, bodies: &[&str]) -> EventBatch {
    let events: Vec<_> = bodies.iter().map(|body| Event::of_body(*body)).collect();
    EventBatch::of_events(Offset(from), 0, &events)
}

fn call(connection: usize, bodies: &[&str]) -> (usize, Vec<String>) {
    (connection, bodies.iter().map(|body| (*body).to_owned()).collect())
}

fn failure(outcome: Outcome) -> Failure {
    match outcome {
        Outcome::Failed(failure) => failure,
        Outcome::Delivered => panic!("it was delivered"),
    }
}

/// levada's own source, in front of a channel that keeps what it is given.
async fn levada(pairs: &[(&str, &str)]) -> (SocketAddr, Arc<CollectChannel>, Stopper) {
    let pairs = [&[("bind", "127.0.0.1:0")], pairs].concat();
    let keys = crate::source::avro::COMPONENT.keys;
    let mut source = AvroSource::new(&Settings::of_pairs("a.sources.r", keys, &pairs)).unwrap();
    source.open().await.unwrap();
    let address = source.local_addr().unwrap();
    let channel = Arc::new(CollectChannel::default());
    let (stopper, stop) = Stop::new();
    let ingest = Ingest::new(vec![channel.clone()]);
    tokio::spawn(async move { source.run(ingest, stop).await.unwrap() });
    (address, channel, stopper)
}

#[tokio::test]
async fn events_arrive_with_their_headers_compressed_or_not() {
    for (word, level) in [("none", "6"), ("deflate", "6"), ("DEFLATE", "0"), ("deflate", "9")] {
        let compression = ("compression-type", word);
        let (address, channel, _stopper) = levada(&[compression]).await;
        let mut sink = sink(address, &[compression, ("compression-level", level)]);
        let event = |n: usize| Event {
            headers: vec![("n".into(), n.to_string()), ("n".into(), "ö".repeat(n))],
            body: vec![n as u8; 10 * n],
        };
        let events: Vec<_> = (0..300).map(event).collect();
        sink.open().await.unwrap();
        for part in events.chunks(77) {
            let batch = EventBatch::of_events(Offset(5), 0, part);
            assert_eq!(sink.deliver(&batch).await, Outcome::Delivered);
        }
        assert_eq!(channel.events(), events);
        assert_eq!(sink.deliver(&EventBatch::default()).await, Outcome::Delivered);
        sink.close().await.unwrap();
        assert_eq!(channel.batches().len(), 4);
    }
}

#[tokio::test]
async fn one_connection_serves_many_batches() {
    let (address, script) = server(&[]).await;
    let mut sink = sink(address, &[]);
    sink.open().await.unwrap();
    sink.open().await.unwrap();
    for body in ["a", "b", "c"] {
        assert_eq!(sink.deliver(&batch_of(0, &[body, body])).await, Outcome::Delivered);
    }
    let expected = ["a", "b", "c"].map(|body| call(0, &[body, body]));
    assert_eq!(script.take_calls(), expected);
}

#[tokio::test]
async fn every_answer_but_ok_fails_the_batch_and_the_next_one_connects_again() {
    let rows = [
        (Reaction::Answer(Status::Failed), Cause::Refused, "answered Failed to a batch of 2"),
        (Reaction::Answer(Status::Unknown), Cause::Refused, "answered Unknown to a batch of 2"),
        (Reaction::Error, Cause::Refused, "refused the call: not so"),
        (Reaction::Close, Cause::Unreachable, "closed by the source"),
        (Reaction::Silence, Cause::Timeout, "no answer in 1.25 s"),
    ];
    for (reaction, cause, said) in rows {
        let (address, script) = server(&[reaction]).await;
        let wait = if reaction == Reaction::Silence { "1250" } else { "60000" };
        let mut sink = sink(address, &[("request-timeout", wait)]);
        let batch = batch_of(7, &["x", "y"]);
        let failure = failure(sink.deliver(&batch).await);
        assert_eq!((failure.cause, failure.retryable), (cause, true), "{reaction:?}");
        assert_eq!(failure.events, FailedEvents::All);
        assert!(failure.reason.starts_with(&address.to_string()), "{}", failure.reason);
        assert!(failure.reason.contains(said), "{}", failure.reason);
        sink.options.request_timeout = Duration::from_secs(60);
        assert_eq!(sink.deliver(&batch).await, Outcome::Delivered);
        assert_eq!(script.take_calls(), [call(0, &["x", "y"]), call(1, &["x", "y"])]);
    }
}

#[tokio::test]
async fn source_that_reads_nothing_is_not_waited_for_without_end() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let handshake = tokio::spawn(async move {
        let (mut socket, _) = listener.accept().await.unwrap();
        let mut frames = FrameReader::new(FrameLimits::of_frame_bytes(1 << 20));
        let mut frame = loop {
            socket.read_buf(frames.input()).await.unwrap();
            if let Some(frame) = frames.next_frame().unwrap() {
                break frame;
            }
        };
        let mut out = Vec::new();
        ServerSession::default().request(&mut frame).unwrap().reply.empty(&mut out);
        socket.write_all(&out).await.unwrap();
        socket
    });
    let mut sink = sink(address, &[("request-timeout", "1000")]);
    sink.open().await.unwrap();
    let _unread = handshake.await.unwrap();
    // more than any socket buffer takes
    let batch = batch_of(0, &["x".repeat(40 << 20).as_str()]);
    assert_eq!(failure(sink.deliver(&batch).await).cause, Cause::Timeout);
}

#[tokio::test]
async fn large_batch_takes_several_calls_and_only_the_unanswered_ones_fail() {
    let (ok, failed) = (Reaction::Answer(Status::Ok), Reaction::Answer(Status::Failed));
    let (address, script) = server(&[ok, ok, failed]).await;
    let mut sink = sink(address, &[]);
    // an event of one byte takes 5 in the log, as each is counted: two fit
    sink.call_bytes = 10;
    let batch = batch_of(3, &["a", "b", "larger-than-a-call", "c", "d", "e"]);
    let failure = failure(sink.deliver(&batch).await);
    assert_eq!(failure.events, FailedEvents::From(Offset(6)));
    let calls = [&["a", "b"][..], &["larger-than-a-call"], &["c", "d"]];
    assert_eq!(script.take_calls(), calls.map(|bodies| call(0, bodies)));
    assert_eq!(sink.deliver(&batch).await, Outcome::Delivered);
    let calls = [&["a", "b"][..], &["larger-than-a-call"], &["c", "d"], &["e"]];
    assert_eq!(script.take_calls(), calls.map(|bodies| call(1, bodies)));
}

#[tokio::test]
async fn call_ends_at_16_mib() {
    let (address, script) = server(&[]).await;
    let mut sink = sink(address, &[]);
    // spaces: they are cut off where the server takes note of the bodies
    let padded: Vec<_> = (0..5).map(|n| n.to_string() + &" ".repeat((5 << 20) - 100)).collect();
    let bodies: Vec<_> = padded.iter().map(String::as_str).collect();
    assert_eq!(sink.deliver(&batch_of(0, &bodies)).await, Outcome::Delivered);
    assert_eq!(script.take_calls(), [call(0, &["0", "1", "2"]), call(0, &["3", "4"])]);
}

#[tokio::test]
async fn connection_closed_while_idle_costs_no_failure() {
    let (address, script) = server(&[Reaction::Last]).await;
    let mut sink = sink(address, &[]);
    assert_eq!(sink.deliver(&batch_of(0, &["a"])).await, Outcome::Delivered);
    while !sink.open.as_ref().unwrap().client.is_closed().await {
        tokio::task::yield_now().await;
    }
    assert_eq!(sink.deliver(&batch_of(1, &["b"])).await, Outcome::Delivered);
    assert_eq!(script.take_calls(), [call(0, &["a"]), call(1, &["b"])]);
}

#[tokio::test]
async fn connection_is_made_anew_when_it_is_old_enough() {
    let (address, script) = server(&[]).await;
    let mut sink = sink(address, &[("reset-connection-interval", "60")]);
    let grow_old = |sink: &mut AvroSink, seconds| {
        let open = sink.open.as_mut().unwrap();
        open.since = open.since.checked_sub(Duration::from_secs(seconds)).unwrap();
    };
    sink.open().await.unwrap();
    for (body, seconds) in [("a", 0), ("b", 30), ("c", 31)] {
        grow_old(&mut sink, seconds);
        assert_eq!(sink.deliver(&batch_of(0, &[body])).await, Outcome::Delivered);
    }
    assert_eq!(script.take_calls(), [call(0, &["a"]), call(0, &["b"]), call(1, &["c"])]);
}

#[tokio::test]
async fn sink_opens_when_its_source_comes_and_not_before() {
    // bound and not listening: nobody else gets the port
    let socket = tokio::net::TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let address = socket.local_addr().unwrap();
    let mut sink = sink(address, &[("connect-timeout", "60000")]);
    let error = sink.open().await.unwrap_err().to_string();
    assert!(error.starts_with(&format!("{address}: ")) && error.contains("refused"), "{error}");
    let refused = failure(sink.deliver(&batch_of(0, &["a"])).await);
    assert_eq!((refused.cause, refused.retryable), (Cause::Unreachable, true));
    let listener = socket.listen(8).unwrap();
    let script = Arc::new(Script::default());
    let shared = script.clone();
    tokio::spawn(async move { serve(listener.accept().await.unwrap().0, 0, shared).await });
    sink.open().await.unwrap();
    assert_eq!(sink.deliver(&batch_of(0, &["a"])).await, Outcome::Delivered);
    assert_eq!(script.take_calls(), [call(0, &["a"])]);
}

#[tokio::test]
async fn host_that_accepts_and_says_nothing_is_down_after_the_connect_timeout() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut sink = sink(listener.local_addr().unwrap(), &[("connect-timeout", "1000")]);
    let error = sink.open().await.unwrap_err().to_string();
    assert!(error.contains("within the connect-timeout"), "{error}");
}

#[tokio::test]
async fn delivery_that_is_given_up_leaves_no_answer_for_the_next() {
    let (address, script) = server(&[Reaction::Silence]).await;
    let mut sink = sink(address, &[]);
    sink.open().await.unwrap();
    let batch = batch_of(0, &["a"]);
    tokio::select! {
        _ = sink.deliver(&batch) => panic!("it was answered"),
        () = async { while script.calls.lock().unwrap().is_empty() {
            tokio::task::yield_now().await;
        } } => {}
    }
    assert_eq!(sink.deliver(&batch_of(1, &["b"])).await, Outcome::Delivered);
    assert_eq!(script.take_calls(), [call(0, &["a"]), call(1, &["b"])]);
}

fn problems(pairs: &[(&str, &str)]) -> Vec<String> {
    let settings = Settings::of_pairs("a.sinks.k", COMPONENT.keys, pairs);
    let mut problems: Vec<_> = settings.check().into_iter().map(|p| p.message).collect();
    if problems.is_empty() {
        problems.extend(AvroSink::new(&settings).err().map(|problem| problem.message));
    }
    problems
}

#[test]
fn values_that_flume_would_replace_and_keys_of_later_versions_are_refused() {
    let check = |key: &str, value: &str, said: &str| {
        let seen = problems(&[("hostname", "h"), ("port", "1"), (key, value)]);
        assert_eq!(seen, [format!("a.sinks.k.{key}: {said}")]);
    };
    check("batch-size", "0", "0 is below 1");
    check("connect-timeout", "999", "999 is outside 1000..=2147483647");
    check("request-timeout", "999", "999 is outside 1000..=2147483647");
    check("reset-connection-interval", "-1", "-1 is below 0");
    check("compression-type", "gzip", "'gzip' is none of: none, deflate");
    check("compression-level", "10", "10 is outside 0..=9");
    check("port", "0", "0 is outside 1..=65535");
    check("hostname", "", "names no host");
    check("ssl", "TRUE", "not supported yet; set it to false");
    for key in ["truststore", "keystore", "client.type", "hosts", "hosts.h1", "trust-all-certs"] {
        check(key, "x", "not supported yet by this version");
    }
    assert_eq!(problems(&[]).len(), 2, "hostname and port are required");
}

#[test]
fn flume_s_defaults_hold() {
    let pairs = [("hostname", "::1"), ("port", "4141"), ("ssl", "false"), ("maxIoWorkers", "x")];
    assert_eq!(problems(&pairs), Vec::<String>::new());
    let sink = AvroSink::new(&Settings::of_pairs("a.sinks.k", COMPONENT.keys, &pairs)).unwrap();
    assert_eq!(sink.address, "[::1]:4141");
    assert_eq!(sink.options, ConnectOptions::default());
    assert_eq!((sink.batch_events, sink.age_max), (100, Duration::ZERO));
}
