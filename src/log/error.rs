//! What can be wrong with a log, with where and what to do.

use std::io;

/// Bytes that are not what they should be.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum FormatError {
    /// The magic number is missing.
    #[error("no such structure here")]
    NotThere,
    /// The bytes changed, or are of another place.
    #[error("checksum fails (stored {stored:08x}, computed {computed:08x})")]
    Checksum {
        /// In the file.
        stored: u32,
        /// Of what is there.
        computed: u32,
    },
    /// Written by another major version.
    #[error("format version {found}, this build reads version {known}: use a matching levada")]
    Version {
        /// In the file.
        found: u16,
        /// Of this build.
        known: u16,
    },
    /// Needs something this build does not have.
    #[error("uses features that this build does not know (bits {bits:#x}): use a newer levada")]
    Feature {
        /// The unknown bits.
        bits: u32,
    },
    /// A batch of a kind that this build does not know.
    #[error("batch kind {kind} is not known to this build: use a newer levada")]
    Kind {
        /// In the header.
        kind: u8,
    },
    /// A value that can't be.
    #[error("{what} is {value}, which can't be")]
    Value {
        /// The field.
        what: &'static str,
        /// Its value.
        value: u64,
    },
}

impl FormatError {
    /// Whether the bytes are good, and a newer build knows what they are: then they are refused, and
    /// neither cut nor passed over.
    pub fn is_newer(&self) -> bool {
        matches!(self, Self::Version { .. } | Self::Feature { .. } | Self::Kind { .. })
    }
}

/// Why a log can't do what it was asked.
#[derive(Clone, Debug, thiserror::Error)]
pub enum LogError {
    /// The storage failed.
    #[error("{what}: {error}")]
    Io {
        /// Verb and object.
        what: String,
        /// What the system said.
        error: std::sync::Arc<io::Error>,
    },
    /// Another process owns the log.
    #[error("{dir} is in use by another process ({owner}): stop it first")]
    InUse {
        /// The log's directory.
        dir: String,
        /// What the lock file says of the owner.
        owner: String,
    },
    /// The directory holds something else.
    #[error("{dir} {what}")]
    Foreign {
        /// The log's directory.
        dir: String,
        /// What is there, and what to do.
        what: String,
    },
    /// Acknowledged bytes are damaged, and the log was told to halt.
    #[error(
        "segment {file}: damage at byte {position} (offsets {from}..{to}): {detail}; \
         {damaged} damaged place(s) in all; nothing was cut; \
         see 'walctl verify', then set onCorruption = quarantine to deliver the rest"
    )]
    Damaged {
        /// The segment's file.
        file: String,
        /// Byte in it.
        position: u64,
        /// First offset that is missing.
        from: u64,
        /// Offset behind the last one missing.
        to: u64,
        /// What does not fit.
        detail: String,
        /// How many such places were found.
        damaged: usize,
    },
    /// A structure that the whole log hangs on is not readable.
    #[error("{file}: {error}")]
    Format {
        /// The file.
        file: String,
        /// What is wrong.
        error: FormatError,
    },
    /// Segments are missing between others.
    #[error(
        "segment {missing:016x}.seg is missing between its neighbours: restore it, or move the segments before it away"
    )]
    MissingSegment {
        /// The id that is not there.
        missing: u64,
    },
    /// A write or a sync failed earlier: nothing is acknowledged until the log is opened again.
    #[error("the log stopped taking events: {reason}; open it again to go on")]
    Poisoned {
        /// What failed.
        reason: String,
    },
    /// The batch can't fit into a segment.
    #[error(
        "a batch of {size} bytes does not fit into a segment ({limit} bytes): raise maxFileSize or send less at once"
    )]
    TooLarge {
        /// Bytes of the batch.
        size: u64,
        /// Bytes that fit.
        limit: u64,
    },
    /// There is no room for another segment.
    #[error("no room for another segment: {reason}")]
    NoSpace {
        /// What is full.
        reason: String,
    },
    /// The log's capacity is used up, and stayed so for the time the put could wait.
    #[error("the log is full: {events} events in {bytes} bytes of segments")]
    Full {
        /// Events in it.
        events: u64,
        /// Bytes of its segments.
        bytes: u64,
    },
    /// The log is being closed.
    #[error("the log is closed")]
    Closed,
}

impl LogError {
    /// An I/O error with verb and object.
    pub fn io(what: impl Into<String>) -> impl FnOnce(io::Error) -> LogError {
        let what = what.into();
        move |error| LogError::Io { what, error: error.into() }
    }

    /// A structure of `file` is not readable.
    pub fn format(file: &str, error: FormatError) -> LogError {
        LogError::Format { file: file.to_owned(), error }
    }
}
