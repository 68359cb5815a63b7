//! The Avro source, the netcat source and the client, end to end on the loopback.

#![allow(clippy::unwrap_used, reason = "helpers of tests are tests")]

use async_trait::async_trait;
use levada::channel::collect::CollectChannel;
use levada::channel::{Channel, PutError};
use levada::client::{AvroClient, AvroClientOptions, ClientError, Compression, Summary, run};
use levada::config::Settings;
use levada::event::Event;
use levada::ingest::Ingest;
use levada::log::BatchBuilder;
use levada::rpc::avro::{Status, encode_append_batch, write_frame};
use levada::source::avro::AvroSource;
use levada::source::netcat::NetcatSource;
use levada::source::{Source, Stop, Stopper};
use levada::source::{avro, netcat};
use std::net::SocketAddr;
use std::sync::Arc;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;

/// A source at work; dropping it stops it.
struct Running {
    address: SocketAddr,
    stopper: Stopper,
    task: JoinHandle<()>,
}

impl Running {
    fn spawn(mut source: impl Source + 'static, address: SocketAddr, ingest: Ingest) -> Running {
        let (stopper, stop) = Stop::new();
        let task = tokio::spawn(async move { source.run(ingest, stop).await.unwrap() });
        Running { address, stopper, task }
    }

    fn at(&self) -> String {
        self.address.to_string()
    }

    async fn client(&self) -> AvroClient {
        AvroClient::connect(&self.at(), Compression::None).await.unwrap()
    }

    async fn raw(&self) -> TcpStream {
        TcpStream::connect(self.address).await.unwrap()
    }
}

async fn avro_into(channels: Vec<Arc<dyn Channel>>, pairs: &[(&str, &str)]) -> Running {
    let pairs = [&[("bind", "127.0.0.1"), ("port", "0")], pairs].concat();
    let settings = Settings::of_pairs("a.sources.r", avro::COMPONENT.keys, &pairs);
    let mut source = AvroSource::new(&settings).unwrap();
    source.open().await.unwrap();
    let address = source.local_addr().unwrap();
    Running::spawn(source, address, Ingest::new(channels))
}

async fn avro_source(pairs: &[(&str, &str)]) -> (Running, Arc<CollectChannel>) {
    let channel = Arc::new(CollectChannel::default());
    (avro_into(vec![channel.clone()], pairs).await, channel)
}

fn event(number: usize, bytes: usize) -> Event {
    let mut body = format!("{number} ").into_bytes();
    body.resize(bytes.max(body.len()), b'x');
    Event { headers: vec![("n".into(), number.to_string()), ("host".into(), "h".into())], body }
}

fn events(count: usize, bytes: usize) -> Vec<Event> {
    (0..count).map(|number| event(number, bytes)).collect()
}

/// Reads until the peer closes.
async fn read_all(socket: &mut TcpStream) -> Vec<u8> {
    let mut bytes = Vec::new();
    // a reset is a close too
    let _ = socket.read_to_end(&mut bytes).await;
    bytes
}

#[tokio::test]
async fn batches_arrive_whole_and_in_order() {
    for (word, compression) in [("none", Compression::None), ("deflate", Compression::Deflate(6))] {
        let (source, channel) = avro_source(&[("compression-type", word)]).await;
        let mut client = AvroClient::connect(&source.at(), compression).await.unwrap();
        let batches =
            [events(1, 0), vec![], events(100, 50), events(1000, 512), events(3, 300_000)];
        for batch in &batches {
            assert_eq!(client.append_batch(batch).await.unwrap(), Status::Ok);
        }
        assert_eq!(channel.events(), batches.concat());
        assert_eq!(channel.batches().len(), 4, "an empty batch is answered, and not put");
    }
}

#[tokio::test]
async fn pipelined_requests_are_all_answered_and_put_in_their_order() {
    let (source, channel) = avro_source(&[]).await;
    let mut client = source.client().await;
    let mut sent = Vec::new();
    for number in 0..50 {
        sent.push(client.send(&[event(number, 2000)]).await.unwrap());
    }
    for serial in sent {
        assert_eq!(client.next_answer().await.unwrap(), (serial, Status::Ok));
    }
    assert_eq!(channel.events(), (0..50).map(|n| event(n, 2000)).collect::<Vec<_>>());
}

#[tokio::test]
async fn many_connections_lose_and_mix_nothing() {
    let (source, channel) = avro_source(&[]).await;
    let clients = (0..50).map(|_| {
        let at = source.at();
        tokio::spawn(async move {
            let mut client = AvroClient::connect(&at, Compression::None).await.unwrap();
            for _ in 0..4 {
                assert_eq!(client.append_batch(&events(25, 100)).await.unwrap(), Status::Ok);
            }
        })
    });
    for client in clients.collect::<Vec<_>>() {
        client.await.unwrap();
    }
    let batches = channel.batches();
    assert_eq!(batches.len(), 200);
    assert!(batches.iter().all(|batch| *batch == events(25, 100)));
}

#[tokio::test]
async fn refusing_channel_is_answered_failed_and_later_ok() {
    let (source, channel) = avro_source(&[]).await;
    let mut client = source.client().await;
    let full = PutError::Full { channel: "c".into(), events: 1, bytes: 1, waited_ms: 0 };
    channel.refuse(Some(full));
    assert_eq!(client.append_batch(&events(2, 9)).await.unwrap(), Status::Failed);
    assert_eq!(client.append_batch(&[]).await.unwrap(), Status::Ok);
    channel.refuse(None);
    assert_eq!(client.append_batch(&events(2, 9)).await.unwrap(), Status::Ok);
    assert_eq!(channel.events(), events(2, 9));
}

fn handshake_and(message: &str) -> Vec<u8> {
    let mut head = levada::rpc::avro::FLUME_1_11_HASH.to_vec();
    head.push(0);
    head.extend_from_slice(&levada::rpc::avro::FLUME_1_11_HASH);
    head.extend_from_slice(&[2, 0, 0, 2 * message.len() as u8]);
    head.extend_from_slice(message.as_bytes());
    head
}

#[tokio::test]
async fn flume_s_buffers_of_8_kib_are_read_byte_by_byte_and_in_any_cut() {
    let (source, channel) = avro_source(&[]).await;
    let (head, parameters) = (handshake_and("appendBatch"), encode_append_batch(&events(50, 700)));
    let mut buffers = vec![&head[..]];
    buffers.extend(parameters.chunks(8192));
    let mut wire = Vec::new();
    write_frame(77, &buffers, &mut wire);
    let reply = [0, 0, 0, 77, 0, 0, 0, 3, 0, 0, 0, 4, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 2, 0, 0];
    for cut in [1, 1000, wire.len()] {
        let mut socket = source.raw().await;
        for part in wire.chunks(cut) {
            socket.write_all(part).await.unwrap();
        }
        let mut seen = [0; 27];
        socket.read_exact(&mut seen).await.unwrap();
        assert_eq!(seen, reply);
    }
    assert_eq!(channel.batches(), vec![events(50, 700); 3]);
}

#[tokio::test]
async fn append_takes_one_event_and_a_malformed_call_gets_an_error() {
    let (source, channel) = avro_source(&[]).await;
    let mut socket = source.raw().await;
    let mut wire = Vec::new();
    write_frame(
        1,
        &[&handshake_and("append"), &[2, 2, b'k', 2, b'v', 0, 4, b'h', b'i']],
        &mut wire,
    );
    // the second call claims more bytes than it has; the third is well formed again
    let call = [&[0, 12][..], b"append"].concat();
    write_frame(2, &[&call, &[0, 100, b'x']], &mut wire);
    write_frame(3, &[&call, &[0, 2, b'x']], &mut wire);
    socket.write_all(&wire).await.unwrap();
    socket.shutdown().await.unwrap();
    let answers = read_all(&mut socket).await;
    let text = String::from_utf8_lossy(&answers).into_owned();
    assert!(text.contains("the message ends here, more is expected"), "{text}");
    assert!(
        answers.ends_with(&[0, 0, 0, 3, 0, 0, 0, 3, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 2, 0, 0])
    );
    let expected = Event { headers: vec![("k".into(), "v".into())], body: b"hi".to_vec() };
    assert_eq!(channel.events(), [expected, Event::of_body("x")]);
}

#[tokio::test]
async fn garbage_closes_its_connection_and_no_other() {
    let (source, channel) = avro_source(&[]).await;
    let mut client = source.client().await;
    for garbage in
        [&b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"[..], &[0xff; 64], &[0; 8 + 4], &[0x16; 99]]
    {
        let mut socket = source.raw().await;
        socket.write_all(garbage).await.unwrap();
        assert_eq!(read_all(&mut socket).await, b"");
    }
    assert_eq!(client.append_batch(&events(1, 1)).await.unwrap(), Status::Ok);
    assert_eq!(channel.events(), events(1, 1));
}

#[tokio::test]
async fn peers_that_disagree_on_compression_are_disconnected() {
    let (plain, _) = avro_source(&[]).await;
    let (deflate, _) = avro_source(&[("compression-type", "deflate")]).await;
    let wrong = AvroClient::connect(&plain.at(), Compression::Deflate(6)).await;
    assert!(matches!(wrong, Err(ClientError::Connection { .. })));
    let wrong = AvroClient::connect(&deflate.at(), Compression::None).await;
    assert!(matches!(wrong, Err(ClientError::Connection { .. })));
}

#[tokio::test]
async fn limits_hold_for_events_frames_and_connections() {
    let limits = [("maxBatchEvents", "10"), ("maxFrameBytes", "5000"), ("maxConnections", "2")];
    let (source, channel) = avro_source(&limits).await;
    let mut first = source.client().await;
    let mut second = source.client().await;
    assert_eq!(read_all(&mut source.raw().await).await, b"", "a third is turned away");
    let Err(ClientError::Refused { reason, .. }) = first.append_batch(&events(11, 1)).await else {
        panic!("11 events were taken")
    };
    assert!(reason.ends_with("a batch has more than 10 events (maxBatchEvents)"), "{reason}");
    assert_eq!(first.append_batch(&events(10, 1)).await.unwrap(), Status::Ok);
    second.append_batch(&events(2, 3000)).await.unwrap_err();
    assert_eq!(channel.events(), events(10, 1));
}

#[tokio::test]
async fn silent_connection_is_closed_after_its_time() {
    let (source, _) = avro_source(&[("idleTimeout", "1")]).await;
    assert_eq!(read_all(&mut source.raw().await).await, b"");
}

/// Keeps what it is given, but not before it gets a permit.
struct SlowChannel {
    permits: Semaphore,
    arrived: Semaphore,
    inner: CollectChannel,
}

impl SlowChannel {
    fn new() -> Arc<SlowChannel> {
        let (permits, arrived) = (Semaphore::new(0), Semaphore::new(0));
        Arc::new(SlowChannel { permits, arrived, inner: CollectChannel::default() })
    }
}

#[async_trait]
impl Channel for SlowChannel {
    async fn put(&self, batch: BatchBuilder) -> Result<(), PutError> {
        // first in, first taken: as in a log
        self.inner.put(batch).await?;
        self.arrived.add_permits(1);
        self.permits.acquire().await.unwrap().forget();
        Ok(())
    }
}

#[tokio::test]
async fn stopping_source_answers_the_calls_under_way_and_takes_no_more() {
    let channel = SlowChannel::new();
    let source = avro_into(vec![channel.clone()], &[]).await;
    let mut client = source.client().await;
    let serials =
        [client.send(&events(1, 9)).await.unwrap(), client.send(&[event(5, 5)]).await.unwrap()];
    channel.arrived.acquire_many(2).await.unwrap().forget();
    source.stopper.stop();
    // the port is closed while the two calls still wait
    while TcpStream::connect(source.address).await.is_ok() {
        tokio::task::yield_now().await;
    }
    assert!(!source.task.is_finished());
    channel.permits.add_permits(2);
    for serial in serials {
        assert_eq!(client.next_answer().await.unwrap(), (serial, Status::Ok));
    }
    source.task.await.unwrap();
    client.append_batch(&events(1, 1)).await.unwrap_err();
    assert_eq!(channel.inner.events().len(), 2);
}

#[tokio::test]
async fn slow_channel_bounds_what_is_read_ahead_and_keeps_the_order_in_every_channel() {
    let (slow, after) = (SlowChannel::new(), Arc::new(CollectChannel::default()));
    let source = avro_into(vec![slow.clone(), after.clone()], &[]).await;
    let mut client = source.client().await;
    for number in 0..30 {
        client.send(&[event(number, 10)]).await.unwrap();
    }
    slow.arrived.acquire_many(8).await.unwrap().forget();
    assert_eq!(slow.arrived.available_permits(), 0, "the ninth waits for the first");
    slow.permits.add_permits(30);
    for _ in 0..30 {
        assert_eq!(client.next_answer().await.unwrap().1, Status::Ok);
    }
    let expected: Vec<Event> = (0..30).map(|number| event(number, 10)).collect();
    assert_eq!(slow.inner.events(), expected);
    assert_eq!(after.events(), expected);
}

fn options(source: &Running, more: impl FnOnce(&mut AvroClientOptions)) -> AvroClientOptions {
    let mut options = AvroClientOptions {
        host: Some(source.address.ip().to_string()),
        port: Some(source.address.port()),
        attempts: 3,
        ..AvroClientOptions::default()
    };
    more(&mut options);
    options
}

#[tokio::test]
async fn avro_client_sends_the_lines_of_a_file_with_the_headers_of_another() {
    let (source, channel) = avro_source(&[]).await;
    let dir = tempfile::tempdir().unwrap();
    let (lines, headers) = (dir.path().join("lines"), dir.path().join("headers"));
    std::fs::write(&lines, "one\ntwo\r\n\nvier € \n5\n6\nlast").unwrap();
    std::fs::write(&headers, "env = test\nhost: h1\n").unwrap();
    let options = options(&source, |options| {
        options.filename = Some(lines);
        options.header_file = Some(headers);
    });
    let summary = run(options).await.unwrap();
    assert_eq!(summary, Summary { events: 7, batches: 2, retries: 0 });
    let batches = channel.batches();
    assert_eq!(batches.iter().map(Vec::len).collect::<Vec<_>>(), [5, 2]);
    let bodies: Vec<_> =
        channel.events().into_iter().map(|e| String::from_utf8(e.body).unwrap()).collect();
    assert_eq!(bodies, ["one", "two", "", "vier € ", "5", "6", "last"]);
    let expected = [("env", "test"), ("host", "h1")].map(|(k, v)| (k.into(), v.into()));
    assert!(batches.concat().iter().all(|event| event.headers == expected));
}

#[tokio::test]
async fn avro_client_reports_a_source_that_fails_or_is_not_there() {
    let (source, channel) = avro_source(&[]).await;
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(&file, "one\n").unwrap();
    let options = options(&source, |options| options.filename = Some(file.path().to_owned()));
    channel.refuse(Some(PutError::Stopping { channel: "c".into() }));
    let error = run(options.clone()).await.unwrap_err();
    let expected =
        ClientError::Failed { peer: source.at(), status: Status::Failed, attempts: 3, sent: 0 };
    assert_eq!(error.to_string(), expected.to_string());
    source.stopper.stop();
    source.task.await.unwrap();
    let error = run(options).await.unwrap_err().to_string();
    assert!(error.starts_with(&format!("{}: ", source.address)), "{error}");
}

async fn netcat_source(pairs: &[(&str, &str)]) -> (Running, Arc<CollectChannel>) {
    let channel = Arc::new(CollectChannel::default());
    let pairs = [&[("bind", "127.0.0.1:0")], pairs].concat();
    let settings = Settings::of_pairs("a.sources.n", netcat::COMPONENT.keys, &pairs);
    let mut source = NetcatSource::new(&settings).unwrap();
    source.open().await.unwrap();
    let address = source.local_addr().unwrap();
    let ingest = Ingest::new(vec![channel.clone()]);
    (Running::spawn(source, address, ingest), channel)
}

#[tokio::test]
async fn netcat_answers_each_line_and_drops_what_has_no_newline() {
    let (source, channel) = netcat_source(&[]).await;
    let mut socket = source.raw().await;
    socket.write_all(b"one\ntwo\r\n\nrest").await.unwrap();
    socket.shutdown().await.unwrap();
    assert_eq!(read_all(&mut socket).await, b"OK\nOK\nOK\n");
    let bodies: Vec<_> = channel.events().into_iter().map(|event| event.body).collect();
    assert_eq!(bodies, [&b"one"[..], b"two\r", b""]);
}

#[tokio::test]
async fn netcat_refuses_long_lines_and_tells_of_a_channel_that_refuses() {
    let (source, channel) = netcat_source(&[]).await;
    let mut socket = source.raw().await;
    socket.write_all(&[&b"fine\n"[..], &[b'x'; 600]].concat()).await.unwrap();
    let answer = String::from_utf8(read_all(&mut socket).await).unwrap();
    let expected = "FAILED: Event exceeds the maximum length (512 chars, including newline)\n";
    assert_eq!(answer, format!("OK\n{expected}"));
    channel.refuse(Some(PutError::Stopping { channel: "c".into() }));
    let mut socket = source.raw().await;
    socket.write_all(b"a\n").await.unwrap();
    socket.shutdown().await.unwrap();
    assert_eq!(read_all(&mut socket).await, b"FAILED: channel c is stopping\n");
}

#[tokio::test]
async fn netcat_keeps_silent_where_no_answers_are_wanted() {
    let (source, channel) = netcat_source(&[("ack-every-event", "false")]).await;
    let mut socket = source.raw().await;
    socket.write_all(b"a\nb\n").await.unwrap();
    socket.shutdown().await.unwrap();
    assert_eq!(read_all(&mut socket).await, b"");
    assert_eq!(channel.events().len(), 2);
}
