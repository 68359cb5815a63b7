//! A log in memory against a plain list: puts, reads, and segments that are given back.

use super::*;
use quickcheck::{Arbitrary, Gen, QuickCheck};

/// One step; parts are 256ths of what there is.
#[derive(Clone, Copy, Debug)]
enum Op {
    Put { records: u8, len: u16 },
    Read { from: u8, count: u8 },
    Reclaim { done: u8 },
}
use Op::{Put, Read, Reclaim};

impl Arbitrary for Op {
    fn arbitrary(g: &mut Gen) -> Op {
        let (a, b, len) = (u8::arbitrary(g), u8::arbitrary(g), u16::arbitrary(g));
        match u8::arbitrary(g) % 5 {
            0 | 1 => Put { records: b % 5, len: if a < 40 { len % 13_000 } else { len % 700 } },
            2 | 3 => Read { from: a, count: b },
            _ => Reclaim { done: a },
        }
    }
}

#[test]
fn memory_log_does_what_a_list_does() {
    fn property(ops: Vec<Op>) {
        let options = LogOptions { capacity_events: 10_000, ..quiet() };
        let (log, _) = Log::in_memory(options).unwrap();
        let mut list: Vec<Vec<u8>> = Vec::new();
        let (mut reader, mut released) = (log.reader(), 0);
        for op in ops {
            let at = |part: u8| released + (list.len() - released) * usize::from(part) / 255;
            match op {
                Put { records, len } => {
                    let first = list.len() as u64;
                    let numbers = first..first + u64::from(records);
                    let put: Vec<_> = numbers.map(|n| record(n, len.into())).collect();
                    let offsets = log.put(batch(&put)).unwrap();
                    assert_eq!(offsets, Offset(first)..Offset(first + u64::from(records)));
                    list.extend(put);
                }
                Read { from, count } => {
                    let range = Offset(at(from) as u64)..Offset(list.len() as u64);
                    let read = reader.read(range.clone(), count.into()).unwrap();
                    let parts = read.batch.parts().iter();
                    let records = parts.flat_map(|part| crate::event::Records::new(&part.records));
                    let expected = list[at(from)..].iter().take(count.into());
                    assert!(records.eq(expected), "{range:?}");
                    assert_eq!(read.missing, []);
                }
                Reclaim { done } => {
                    released = at(done);
                    let offset = Offset(released as u64);
                    log.save_cursors(b"", offset, offset).unwrap();
                    log.sync().unwrap();
                    log.reclaim(offset);
                    assert_eq!(log.usage().events, (list.len() - released) as u64);
                }
            }
        }
        let kept = log.writer.segments.read().unwrap().len();
        let bytes = log.usage().bytes;
        assert!(bytes <= (kept as u64 + 1) << 16, "{bytes} bytes in {kept} segments");
    }
    QuickCheck::new().tests(500).quickcheck(property as fn(Vec<Op>));
}
