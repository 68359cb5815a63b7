//! levada: a durable write-ahead-log channel engine, and the event agent built on it.
//!
//! The modules stand in layer order; imports go down only (`tests/tidy.rs` checks it).
//! `ARCHITECTURE.md` has the picture, the data flow and the invariants.

// 0: words that everything shares
pub mod cursor;
pub mod event;
pub mod fate;
pub mod offset;
// 1: the engine, and pure text and byte formats
pub mod codec;
pub mod config;
pub mod log;
pub mod rpc;
// 2: the two ends of the log
pub mod channel;
pub mod control;
#[cfg(any(test, feature = "sim"))]
pub mod sim;
pub mod sink;
// 3: before the log, after the log
pub mod dispatch;
pub mod ingest;
// 4: intake from the outside
pub mod source;
// 5: the process, and the look inside
pub mod agent;
pub mod bench;
pub mod client;
#[cfg(any(test, feature = "sim"))]
pub mod harness;
pub mod inspect;
// 6: words of the command line to calls
pub mod cli;
