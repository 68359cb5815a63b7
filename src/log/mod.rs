//! The engine: a segmented, checksummed, durable log of records, with cursors. It knows nothing of
//! Flume, of events' headers, of sinks or of an async runtime.

mod batch;

pub use batch::BatchBuilder;
