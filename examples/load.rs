//! Puts an Avro source under load: connections that send batch after batch, each when the one before
//! is answered `OK`, as Flume's client does.
//!
//! `cargo run --release --example load -- 127.0.0.1:4141 [CONNECTIONS] [EVENTS] [BYTES] [SECONDS]`

use levada::event::Event;
use levada::rpc::avro::{
    Answer, ClientSession, FrameLimits, FrameReader, Status, encode_append_batch,
};
use std::error::Error;
use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

struct Connection {
    socket: TcpStream,
    session: ClientSession,
    frames: FrameReader,
    chunk: Vec<u8>,
}

impl Connection {
    fn open(address: &str) -> Result<Connection, Box<dyn Error + Send + Sync>> {
        let socket = TcpStream::connect(address)?;
        socket.set_nodelay(true)?;
        let frames = FrameReader::new(FrameLimits::of_frame_bytes(1 << 20));
        let session = ClientSession::default();
        let mut connection = Connection { socket, session, frames, chunk: vec![0; 4096] };
        let mut ping = Vec::new();
        connection.session.ping(1, &mut ping);
        match connection.call(&ping)? {
            Answer::Open => Ok(connection),
            other => Err(format!("{other:?} to the handshake").into()),
        }
    }

    fn call(&mut self, request: &[u8]) -> Result<Answer, Box<dyn Error + Send + Sync>> {
        self.socket.write_all(request)?;
        loop {
            if let Some(mut frame) = self.frames.next_frame()? {
                return Ok(self.session.answer(&mut frame)?);
            }
            let read = self.socket.read(&mut self.chunk)?;
            if read == 0 {
                return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
            }
            self.frames.input().extend_from_slice(&self.chunk[..read]);
        }
    }
}

/// Sends until `until`; how many batches were answered `OK`, and how long each took.
fn send(
    address: &str,
    batch: &[Event],
    until: Instant,
) -> Result<Vec<Duration>, Box<dyn Error + Send + Sync>> {
    let mut connection = Connection::open(address)?;
    let mut request = Vec::new();
    connection.session.append_batch(2, &encode_append_batch(batch), &mut request);
    let mut took = Vec::new();
    loop {
        let asked = Instant::now();
        if asked >= until {
            return Ok(took);
        }
        match connection.call(&request)? {
            Answer::Status(Status::Ok) => took.push(asked.elapsed()),
            other => return Err(format!("answered {other:?}").into()),
        }
    }
}

fn main() -> Result<(), Box<dyn Error + Send + Sync>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let address = arguments.first().map_or("127.0.0.1:4141", String::as_str);
    let number = |i: usize, default: usize| arguments.get(i).map_or(Ok(default), |n| n.parse());
    let (connections, events) = (number(1, 4)?, number(2, 1000)?);
    let (bytes, seconds) = (number(3, 512)?, number(4, 5)?);
    let batch: Vec<Event> = (0..events).map(|i| Event::of_body(vec![i as u8; bytes])).collect();
    let started = Instant::now();
    let until = started + Duration::from_secs(seconds as u64);
    let mut took = std::thread::scope(|scope| {
        let threads = (0..connections).map(|_| scope.spawn(|| send(address, &batch, until)));
        let threads: Vec<_> = threads.collect();
        let results = threads.into_iter().map(|t| t.join().expect("no panics"));
        results.collect::<Result<Vec<_>, _>>().map(|all| all.concat())
    })?;
    let rate = (took.len() * events) as f64 / started.elapsed().as_secs_f64();
    took.sort_unstable();
    let at = |percent| took.get(took.len() * percent / 100).copied().unwrap_or_default();
    println!(
        "{connections} connections, batches of {events} × {bytes} B: {rate:.0} events/s \
         acknowledged, p50 {:?}, p99 {:?}",
        at(50),
        at(99)
    );
    Ok(())
}
