//! Events ↔ bytes of files. Pure: no file, no clock, no randomness of its own.
//!
//! A serializer writes one file from its first byte to its last into buffers that its caller
//! writes on; so one contract serves `file_roll`, `hdfs` and whatever comes later.

use crate::event::EventRef;

pub mod avro;
pub mod sequence_file;
pub mod text;

/// Turns events into the bytes of one file. Order of life: `begin`, then `event` and `flush`, then
/// `end`. Each appends to `out`; what is in `out` belongs to the caller.
pub trait EventSerializer: Send {
    /// The bytes a file begins with.
    ///
    /// # Errors
    /// The settings can't be written as a file header.
    fn begin(&mut self, out: &mut Vec<u8>) -> Result<(), CodecError>;

    /// One event; `time_ms` is when the log took it (ms since 1970), for formats that want a time
    /// and find none in the event's headers. May hold bytes back until `flush`.
    ///
    /// # Errors
    /// This event can't be written in this format; nothing of it was appended, and the next one may.
    fn event(
        &mut self,
        event: EventRef<'_>,
        time_ms: u64,
        out: &mut Vec<u8>,
    ) -> Result<(), CodecError>;

    /// Appends what was held back, so that a reader of the file finds every event given so far.
    ///
    /// # Errors
    /// What was held back can't be written.
    fn flush(&mut self, out: &mut Vec<u8>) -> Result<(), CodecError>;

    /// The bytes a file ends with, `flush` included.
    ///
    /// # Errors
    /// As [`EventSerializer::flush`].
    fn end(&mut self, out: &mut Vec<u8>) -> Result<(), CodecError>;
}

/// Why bytes could not be made or read: a lower-case sentence with what and what to do.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{0}")]
pub struct CodecError(pub String);
