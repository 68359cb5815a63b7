//! The bytes of format 1.0 stay what they are: a log that was written by its first version is read as
//! it was written, and the writer still writes the same.

use super::*;
use crate::sim::Sim;
use std::collections::BTreeMap;

/// The file that holds the bytes of a log as format 1.0 has them.
const GOLDEN: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/log-1.0.txt");
const GOLDEN_NS: u64 = 1_764_000_000_123_456_789;

/// The records of the golden log, put by put.
fn golden_puts() -> Vec<Vec<Vec<u8>>> {
    let mut puts = vec![
        vec![b"the first record".to_vec(), Vec::new(), vec![0xff; 3]],
        vec![record(1, 20_000)],
        vec![record(2, 20_000), record(3, 64)],
        vec![record(4, 20_000)], // goes into the second segment
    ];
    puts.push((5..25).map(|number| record(number, 50)).collect());
    puts.push(vec![b"after the second opening, and never closed".to_vec()]);
    puts
}

/// What the writer of this build makes of the golden log's puts.
fn golden_written() -> BTreeMap<String, Vec<u8>> {
    let sim = Sim::new(1);
    sim.stop_clock(GOLDEN_NS);
    let log_uuid = *b"levada's golden!";
    let meta = Meta { log_uuid, epoch: 0, created_ms: 1, segment_bytes: 64 << 10 };
    sim.plant("META.a", &meta.encode());
    let options = LogOptions { spare_count: 1, ..quiet() };
    let puts = golden_puts();
    let (log, _) = Log::open(Arc::new(sim.clone()), options.clone()).unwrap();
    for records in &puts[..puts.len() - 1] {
        log.put(batch(records)).unwrap();
    }
    log.save_cursors(b"cursors, the first", Offset(4), Offset(3)).unwrap();
    log.save_cursors(b"cursors, the second", Offset(5), Offset(4)).unwrap();
    log.close().unwrap();
    let (log, _) = Log::open(Arc::new(sim.clone()), options).unwrap();
    log.put(batch(&puts[puts.len() - 1])).unwrap();
    log.save_cursors(b"cursors, the third", Offset(6), Offset(5)).unwrap();
    std::mem::forget(log);
    let mut image = sim.image();
    let state = image.get_mut("STATE").unwrap();
    let decoded = State::decode(state).unwrap();
    *state = State { pid: 4711, ..decoded }.encode().to_vec();
    image
}

/// Files as text: rows of 32 bytes, those that repeat once, zeros not at all.
fn dump(files: &BTreeMap<String, Vec<u8>>) -> String {
    let mut text = String::new();
    for (name, bytes) in files {
        text += &format!("file {name} {}\n", bytes.len());
        let rows: Vec<_> = bytes.chunks(32).collect();
        let mut at = 0;
        while at < rows.len() {
            let same = rows[at..].iter().take_while(|row| **row == rows[at]).count();
            if rows[at].iter().any(|byte| *byte != 0) {
                let hex: String = rows[at].iter().map(|byte| format!("{byte:02x}")).collect();
                text += &format!("{:06x} {same} {hex}\n", at * 32);
            }
            at += same;
        }
    }
    text
}

fn undump(text: &str) -> BTreeMap<String, Vec<u8>> {
    let mut files = BTreeMap::new();
    let mut name = String::new();
    for line in text.lines() {
        let words: Vec<_> = line.split(' ').collect();
        if words[0] == "file" {
            name = words[1].to_owned();
            files.insert(name.clone(), vec![0; words[2].parse().unwrap()]);
            continue;
        }
        let bytes = files.get_mut(&name).unwrap();
        let mut at = usize::from_str_radix(words[0], 16).unwrap();
        let digits = words[2].as_bytes().chunks(2);
        let row: Vec<_> = digits
            .map(|two| u8::from_str_radix(std::str::from_utf8(two).unwrap(), 16).unwrap())
            .collect();
        for _ in 0..words[1].parse::<usize>().unwrap() {
            bytes[at..at + row.len()].copy_from_slice(&row);
            at += row.len();
        }
    }
    files
}

#[test]
fn golden_log_of_format_1_0_opens_and_reads_as_it_was_written() {
    let files = undump(&std::fs::read_to_string(GOLDEN).unwrap());
    let dir = TempDir::new().unwrap();
    for (name, bytes) in &files {
        let path = path(&dir, name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, bytes).unwrap();
    }
    let (log, opened) = open(&dir, quiet());
    let records: Vec<_> = golden_puts().concat();
    let tail = Offset(records.len() as u64);
    assert_eq!(log.uuid(), uuid::Uuid::from_bytes(*b"levada's golden!"));
    assert_eq!((opened.report.epoch, opened.report.tail), (3, tail));
    assert_eq!((opened.report.cut, opened.report.damage), (None, vec![]));
    assert_eq!(opened.report.segments, 3);
    assert_eq!(opened.cursors.as_deref(), Some(&b"cursors, the third"[..]));
    let expected: Vec<_> = (0..).zip(records).collect();
    assert_eq!(read_all(&log, Offset(0)..tail), expected);
    let read = log.reader().read(Offset(0)..tail, 100).unwrap();
    assert!(read.batch.parts().iter().all(|part| part.time_ms == GOLDEN_NS / 1_000_000));
    assert_eq!(log.put(batch(&[record(0, 8)])).unwrap().start, tail, "and it goes on");
}

#[test]
fn writer_writes_the_golden_log_byte_for_byte() {
    let written = dump(&golden_written());
    if std::env::var_os("LEVADA_GOLDEN_WRITE").is_some() {
        std::fs::write(GOLDEN, &written).unwrap();
    }
    let golden = std::fs::read_to_string(GOLDEN).unwrap();
    let mut file = "";
    for (now, then) in written.lines().zip(golden.lines()) {
        if then.starts_with("file") {
            file = then;
        }
        assert_eq!(
            now, then,
            "{file}: the writer's bytes changed. If that is meant, it is a new format: raise the \
             version, keep this golden file readable, and write a new one (LEVADA_GOLDEN_WRITE=1)"
        );
    }
    assert_eq!(written.lines().count(), golden.lines().count());
}
