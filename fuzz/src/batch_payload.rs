//! Records, events and headers: the bytes of a batch, walked as sinks walk them.
//!
//! Whatever the bytes are, the walk ends inside them; what it gives can be written again and is then
//! read as the same.

use bytes::Bytes;
use levada::event::{BatchPart, Event, EventBatch, EventRef, Records};
use levada::log::BatchBuilder;
use levada::offset::Offset;

/// Reads `data` as an event, and as the records of a batch.
pub fn run(data: &[u8]) {
    event(data);
    let mut walk = Records::new(data);
    let mut used = 0;
    let mut records = Vec::new();
    for record in walk.by_ref() {
        used += 4 + record.len();
        records.push(record);
    }
    assert!(used <= data.len(), "records lie inside their bytes");
    assert_eq!(walk.rest().len(), data.len() - used, "the rest is what was not walked");
    records.iter().for_each(|record| event(record));
    rebuilt(&records, &data[..used]);
    batch(data, &records);
}

/// An event that was read once is written and read again without a change.
fn event(record: &[u8]) {
    let Some(event) = EventRef::decode(record) else { return };
    let owned = event.to_event();
    assert_eq!(owned.body, event.body());
    assert_eq!(owned.headers.len(), event.headers().count());
    for (name, value) in event.headers() {
        assert!(event.header(name).is_some(), "a header that is there is found");
        assert!(name.len() + value.len() <= record.len());
    }
    let mut bytes = Vec::new();
    owned.encode(&mut bytes);
    assert!(bytes.len() <= record.len(), "nothing was made up");
    let again = EventRef::decode(&bytes).map(|event| event.to_event());
    assert_eq!(again, Some(owned));
}

/// Records that are put again are the bytes they came from.
fn rebuilt(records: &[&[u8]], bytes: &[u8]) {
    let mut builder = BatchBuilder::with_capacity(bytes.len());
    records.iter().for_each(|record| builder.push(record));
    assert_eq!(builder.count() as usize, records.len());
    assert_eq!(builder.records(), bytes);
}

/// A batch as a sink gets it: each event has its number.
fn batch(data: &[u8], records: &[&[u8]]) {
    let bytes = Bytes::copy_from_slice(data);
    let count = records.len() as u32;
    let part = BatchPart { first: Offset(7), count, time_ms: 1, records: bytes };
    let batch = EventBatch::new(vec![part]);
    let mut events: Vec<Event> = Vec::new();
    for event in batch.iter() {
        let record = records[event.offset.since(Offset(7)) as usize];
        assert_eq!(Some(event.event), EventRef::decode(record));
        events.push(event.event.to_event());
    }
    let again = EventBatch::of_events(Offset(7), 1, &events);
    let seen: Vec<_> = again.iter().map(|event| event.event.to_event()).collect();
    assert_eq!(seen, events);
}
