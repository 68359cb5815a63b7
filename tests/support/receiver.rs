//! A target that an Avro sink sends to, and that does as a test tells it: takes events, refuses
//! those marked as poison, hangs, or is not there.

use levada::rpc::avro::{
    Call, FrameLimits, FrameReader, Reply, ServerSession, Status, decode_events,
};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// The header of an event that is refused, and every batch with it.
pub const POISON: &str = "poison";

/// What arrived, and how to answer.
#[derive(Default)]
struct Shared {
    /// Bodies of the events that were answered with OK, in the order of their arrival.
    taken: Mutex<Vec<String>>,
    count: AtomicU64,
    /// Batches that were refused.
    refused: AtomicU64,
    heals: AtomicBool,
    hangs: AtomicBool,
    cut: AtomicBool,
    gone: AtomicBool,
}

/// A listening target; ends when dropped.
pub struct Receiver {
    shared: Arc<Shared>,
    address: SocketAddr,
}

impl Receiver {
    /// Listens on a free port.
    pub fn start() -> Receiver {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let shared = Arc::new(Shared::default());
        let own = Arc::clone(&shared);
        std::thread::spawn(move || {
            for socket in listener.incoming() {
                if own.gone.load(Ordering::Relaxed) {
                    return;
                }
                let shared = Arc::clone(&own);
                std::thread::spawn(move || drop(serve(&shared, socket.unwrap())));
            }
        });
        Receiver { shared, address }
    }

    /// Its port.
    pub fn port(&self) -> u16 {
        self.address.port()
    }

    /// Takes poison from now on.
    pub fn heal(&self) {
        self.shared.heals.store(true, Ordering::Relaxed);
    }

    /// Answers nothing from now on, or again.
    pub fn hang(&self, hangs: bool) {
        self.shared.hangs.store(hangs, Ordering::Relaxed);
    }

    /// Is cut off from now on, or again within reach: what is sent to it meanwhile is lost.
    pub fn cut_off(&self, cut: bool) {
        self.shared.cut.store(cut, Ordering::Relaxed);
    }

    /// Bodies of the events it took.
    pub fn taken(&self) -> Vec<String> {
        self.shared.taken.lock().unwrap().clone()
    }

    /// How many events it took.
    pub fn count(&self) -> u64 {
        self.shared.count.load(Ordering::Relaxed)
    }

    /// How many batches it refused.
    pub fn refused(&self) -> u64 {
        self.shared.refused.load(Ordering::Relaxed)
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        self.shared.gone.store(true, Ordering::Relaxed);
        let _ = TcpStream::connect(self.address); // wakes the listener
    }
}

fn serve(shared: &Shared, mut socket: TcpStream) -> std::io::Result<()> {
    let mut session = ServerSession::default();
    let mut frames = FrameReader::new(FrameLimits::of_frame_bytes(64 << 20));
    let mut bytes = vec![0; 64 << 10];
    loop {
        while let Some(mut frame) = frames.next_frame().unwrap() {
            if shared.cut.load(Ordering::Relaxed) {
                continue;
            }
            let request = session.request(&mut frame).unwrap();
            let mut out = Vec::new();
            answer(shared, request.call, request.reply, &mut out);
            while shared.hangs.load(Ordering::Relaxed) && !shared.gone.load(Ordering::Relaxed) {
                std::thread::sleep(Duration::from_millis(5));
            }
            socket.write_all(&out)?;
        }
        let len = socket.read(&mut bytes)?;
        if len == 0 || shared.gone.load(Ordering::Relaxed) {
            return Ok(());
        }
        frames.input().extend_from_slice(&bytes[..len]);
    }
}

fn answer(shared: &Shared, call: Call<'_>, reply: Reply, out: &mut Vec<u8>) {
    let (Call::Append(mut events) | Call::AppendBatch(mut events)) = call else {
        return reply.empty(out);
    };
    let (mut bodies, mut poison) = (Vec::new(), false);
    let mut push = |headers: &[(&str, &str)], body: &[u8]| {
        poison |= headers.iter().any(|(name, _)| *name == POISON);
        bodies.push(String::from_utf8_lossy(body).into_owned());
    };
    decode_events(&mut events, usize::MAX, &mut push).unwrap();
    if poison && !shared.heals.load(Ordering::Relaxed) {
        shared.refused.fetch_add(1, Ordering::Relaxed);
        return reply.status(Status::Failed, out);
    }
    shared.count.fetch_add(bodies.len() as u64, Ordering::Relaxed);
    shared.taken.lock().unwrap().append(&mut bodies);
    reply.status(Status::Ok, out);
}
