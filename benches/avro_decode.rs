//! The hot path of the Avro source: 1000 events of 512 bytes with 2 headers, in buffers of 8 KiB as
//! Flume's client writes them, decoded directly and by apache-avro's generic values.

use apache_avro::Schema;
use apache_avro::reader::datum::GenericDatumReader;
use apache_avro::types::Value;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use levada::event::{Event, encode_event};
use levada::log::BatchBuilder;
use levada::rpc::avro::{FrameLimits, FrameReader, Reader};
use levada::rpc::avro::{decode_events, encode_append_batch, write_frame};
use std::hint::black_box;

const EVENTS: usize = 1000;
const SCHEMA: &str = r#"{"type": "array", "items": {"type": "record", "name": "AvroFlumeEvent",
    "fields": [{"name": "headers", "type": {"type": "map", "values": "string"}},
               {"name": "body", "type": "bytes"}]}}"#;

fn events() -> Vec<Event> {
    let event = |i: usize| Event {
        headers: vec![("thread".into(), "0".into()), ("seq".into(), i.to_string())],
        body: vec![b'x'; 512],
    };
    (0..EVENTS).map(event).collect()
}

fn direct(reader: &mut Reader<'_>, record_bytes: usize) -> BatchBuilder {
    let mut batch = BatchBuilder::with_capacity(record_bytes);
    let mut push = |headers: &[(&str, &str)], body: &[u8]| {
        batch.push_with(|out| encode_event(headers.iter().copied(), body, out));
    };
    let count = decode_events(reader, EVENTS, &mut push).expect("the bench's own bytes");
    assert_eq!(count, EVENTS);
    batch
}

fn generic(avro: &GenericDatumReader<'_>, mut bytes: &[u8]) -> BatchBuilder {
    let value = avro.read_value(&mut bytes).expect("the bench's own bytes");
    let Value::Array(events) = value else { panic!("no array") };
    let mut batch = BatchBuilder::with_capacity(0);
    for event in &events {
        let Value::Record(fields) = event else { panic!("no record") };
        let [(_, Value::Map(headers)), (_, Value::Bytes(body))] = &fields[..] else {
            panic!("no event")
        };
        let headers = headers.iter().map(|(name, value)| match value {
            Value::String(value) => (name.as_str(), value.as_str()),
            _ => panic!("no text"),
        });
        batch.push_with(|out| encode_event(headers, body, out));
    }
    batch
}

fn decode(criterion: &mut Criterion) {
    let bytes = encode_append_batch(&events());
    let buffers: Vec<&[u8]> = bytes.chunks(8192).collect();
    let mut wire = Vec::new();
    write_frame(1, &buffers, &mut wire);
    let schema = Schema::parse_str(SCHEMA).expect("the bench's own schema");
    let avro = GenericDatumReader::builder(&schema).build().expect("the bench's own schema");

    let mut group = criterion.benchmark_group("avro_decode");
    group.throughput(Throughput::Elements(EVENTS as u64));
    group.bench_function("direct, 8 KiB buffers", |bencher| {
        bencher.iter(|| {
            let mut reader = Reader::new(buffers.clone());
            black_box(direct(&mut reader, bytes.len() + bytes.len() / 8))
        });
    });
    group.bench_function("direct, one buffer", |bencher| {
        bencher.iter(|| {
            let mut reader = Reader::new(vec![&bytes]);
            black_box(direct(&mut reader, bytes.len() + bytes.len() / 8))
        });
    });
    group.bench_function("direct, 8 KiB buffers moved together first", |bencher| {
        bencher.iter(|| {
            let together = buffers.concat();
            let mut reader = Reader::new(vec![&together]);
            black_box(direct(&mut reader, bytes.len() + bytes.len() / 8))
        });
    });
    group.bench_function("apache-avro, generic values", |bencher| {
        bencher.iter(|| black_box(generic(&avro, &bytes)));
    });
    group.bench_function("from the wire: frame and direct", |bencher| {
        let mut frames = FrameReader::new(FrameLimits::of_frame_bytes(1 << 20));
        bencher.iter(|| {
            frames.input().extend_from_slice(&wire);
            let mut frame = frames.next_frame().expect("a frame").expect("whole");
            let mut reader = Reader::new(frame.chunks());
            black_box(direct(&mut reader, bytes.len() + bytes.len() / 8))
        });
    });
    group.finish();
}

criterion_group!(benches, decode);
criterion_main!(benches);
