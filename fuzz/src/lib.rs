//! What the fuzz targets run, one module a target: `run(data)` returns, or panics with what is wrong.
//!
//! Everything here uses levada's public API only. `tests/fuzz_replay.rs` of levada includes these
//! files and runs them on the committed inputs, so that what was found once stays found.

pub mod avro_rpc;
pub mod batch_payload;
pub mod cursor_journal;
mod disk;
mod image;
mod input;
pub mod log_ops;
pub mod properties;
pub mod segment;
