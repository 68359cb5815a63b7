//! Writes the seeds: inputs that already mean something, from which the fuzzers set out.
//!
//! `cargo run --example seeds -- DIR` makes `DIR/<target>/<name>`; README.md says what then.

use levada::event::Event;
use levada::log::BatchBuilder;
use levada::rpc::avro::{ClientSession, encode_append_batch};
use levada::rpc::{Deflater, avro::write_frame};
use std::path::PathBuf;

type Seeds = Vec<(String, Vec<u8>)>;

fn main() -> std::io::Result<()> {
    let dir = PathBuf::from(std::env::args().nth(1).unwrap_or_else(|| "corpus".to_owned()));
    let targets = [
        ("avro_rpc", avro_rpc()),
        ("batch_payload", batch_payload()),
        ("cursor_journal", cursor_journal()),
        ("log_ops", log_ops()),
        ("properties", properties()),
        ("segment", segment()),
    ];
    for (target, seeds) in targets {
        std::fs::create_dir_all(dir.join(target))?;
        for (name, bytes) in seeds {
            std::fs::write(dir.join(target).join(name), bytes)?;
        }
    }
    Ok(())
}

fn events() -> Vec<Event> {
    let event = |i: usize| Event {
        headers: [("host", "a"), ("seq", "1")][..i % 3]
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
            .collect(),
        body: vec![b'x'; [0, 5, 300][i % 3]],
    };
    (0..5).map(event).collect()
}

/// Flags, four sizes of pieces, then what a client sends: plain, in small buffers, compressed.
fn avro_rpc() -> Seeds {
    let client = ClientSession::default();
    let mut wire = Vec::new();
    client.append_batch(1, &encode_append_batch(&events()), &mut wire);
    let mut ping = Vec::new();
    client.ping(7, &mut ping);
    let mut open = Vec::new();
    let call = [&b"\0\x16appendBatch"[..], &encode_append_batch(&events())].concat();
    let pieces: Vec<_> = call.chunks(11).collect();
    write_frame(2, &pieces, &mut open);
    write_frame(3, &[b"\0\x0cappend", &[2, 2, b'k', 2, b'v', 0, 4, 1, 2]], &mut open);
    write_frame(4, &[b"\0\x08nope"], &mut open);
    let all = [ping, wire.clone(), open].concat();
    let mut packed = Vec::new();
    Deflater::new(6).deflate(&all, &mut packed);
    let input = |flags: u8, stream: &[u8]| [&[flags, 0, 3, 50, 7][..], stream].concat();
    vec![
        ("one_batch".to_owned(), input(0, &wire)),
        ("ping_batches_and_more".to_owned(), input(2, &all)),
        ("compressed".to_owned(), input(1, &packed)),
        ("text".to_owned(), input(0, b"GET / HTTP/1.1\r\n\r\n")),
    ]
}

fn batch_payload() -> Seeds {
    let mut batch = BatchBuilder::new();
    for event in events() {
        batch.push_with(|out| event.encode(out));
    }
    let mut event = Vec::new();
    events()[2].encode(&mut event);
    vec![("records".to_owned(), batch.records().to_vec()), ("event".to_owned(), event)]
}

/// A byte for short files, then records: flags, block, the header's fields, payload.
fn cursor_journal() -> Seeds {
    let record = |flags: u8, number: u8, payload: &[u8]| {
        let mut header = [0; 56];
        header[8] = number; // its generation
        let len = payload.len() as u8;
        [&[flags | len << 1, number, 0, 0][..], &header, payload].concat()
    };
    let marks = [[0; 8], [0; 8]].concat();
    let cursors = [&marks[..], &[1, 1, 1, b'g', 2, 0, 1, 4, 1, 0, 0]].concat();
    let two = [record(1, 1, &cursors), record(1 | 0x80, 2, &marks)].concat();
    vec![
        ("two_records".to_owned(), [&[0][..], &two].concat()),
        ("bad_record".to_owned(), [&[0][..], &record(0, 1, &cursors)].concat()),
        ("short_files".to_owned(), [&[3, 0, 16, 0, 32][..], &two].concat()),
        ("cursors".to_owned(), cursors[16..].to_vec()),
    ]
}

/// The choice of durability and capacity, then pairs: operation, its choice.
fn log_ops() -> Seeds {
    let puts: Vec<u8> = [0, 2].repeat(12);
    let rolls: Vec<u8> = [4, 0x80].repeat(4);
    let cases: [(&str, &[u8]); 13] = [
        ("rolls_and_reclaims", &[8, 200, 4, 0, 8, 255, 5, 0, 90]),
        ("cursors", &[6, 100, 7, 0, 6, 200, 14, 0, 0, 0, 6, 255, 7, 0]),
        ("closes_in_order", &[14, 1, 0, 0, 0, 3, 14, 1, 0]),
        ("is_killed", &[14, 0, 0, 0, 0, 3, 5, 0, 255]),
        // after 14, 0 the machine is off: one byte for the opening that fails, then how it comes back
        ("power_is_cut", &[14, 0, 0, 1, 9, 0, 0, 5, 0, 255]),
        ("power_is_cut_and_half_is_kept", &[14, 0, 0, 3, 4, 1, 0, 5, 0, 255]),
        ("power_is_cut_in_a_roll", &[12, 5, 4, 0x80, 4, 0x80, 0, 3, 8, 2, 0, 0, 2]),
        ("power_is_cut_after_a_failed_sync", &[10, 1, 0, 0, 14, 0, 0, 1, 9, 0, 0, 0, 2]),
        ("power_is_cut_after_cursors", &[6, 90, 7, 0, 6, 99, 14, 0, 0, 3, 5, 5, 0, 8, 200]),
        ("power_is_cut_after_a_reclaim", &[8, 200, 0, 3, 14, 0, 0, 3, 7, 7, 0, 8, 255]),
        ("a_write_fails", &[10, 0, 0, 2, 0, 2, 14, 1, 0, 0, 0, 2]),
        ("stops_in_a_roll", &[12, 7, 4, 0x80, 4, 0x80, 3, 1, 1, 0, 0, 2]),
        ("disk_is_full", &[13, 1, 4, 0x80, 4, 0x80, 13, 0, 4, 0x80]),
    ];
    let mut seeds = Vec::new();
    for (name, end) in cases {
        for (durability, choice) in [("always", 0), ("os", 1), ("few", 2)] {
            let bytes = [&[choice][..], &puts, &rolls, end].concat();
            seeds.push((format!("{name}_{durability}"), bytes));
        }
    }
    seeds
}

fn properties() -> Seeds {
    let conf = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../conf");
    let mut seeds = Vec::new();
    for name in ["agent1.properties", "quickstart.properties"] {
        let bytes = std::fs::read(conf.join(name)).expect("the repository has its examples");
        seeds.push((name.to_owned(), [&[0][..], &without_comments(&bytes)].concat()));
    }
    let text = b"a.sources=s\na.channels=c d\na.sinks=k\na.sources.s.type=avro\n\
            a.sources.s.bind = ${env:HOST:-0.0.0.0}\na.sources.s.port=${env:PORT}\n\
            a.sources.s.channels=c\na.channels.c.type=memory\na.channels.d.type=FILE\n\
            a.sinks.k.type=null\na.sinks.k.channel=c\na.sinks.k.exec.policy=requeue\n\
            N=1${sys:region}\na.channels.c.capacity=${N}\\u0030\\\n  0\nx=${y}\ny=${x}\n\0\
            a.sinkgroups=g\na.sources.s.interceptors=i\nb.sources=s";
    seeds.push(("references".to_owned(), [&[1][..], text].concat()));
    seeds
}

fn without_comments(bytes: &[u8]) -> Vec<u8> {
    let lines = bytes.split(|byte| *byte == b'\n').filter(|line| !line.starts_with(b"#"));
    lines.collect::<Vec<_>>().join(&b'\n')
}

/// Which log, which checksums are put right, then edits: kind, file, way to the place, place, more.
fn segment() -> Seeds {
    let mut seeds = Vec::new();
    for log in 0..3 {
        for kind in 0..10 {
            for file in 0..8 {
                let fit = if kind < 8 { 0 } else { 63 };
                let edit = [log, fit, kind, file, 3, 2, 40, 255, 1, 255, 255, 255, 255, 255, 255];
                seeds.push((format!("log{log}_edit{kind}_file{file}"), edit.to_vec()));
            }
        }
    }
    seeds
}
