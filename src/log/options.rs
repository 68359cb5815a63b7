//! What a log is opened with.

use super::format::{SEGMENT_BYTES_MAX, SEGMENT_BYTES_MIN, SEGMENT_BYTES_TEST_MIN};
use super::journal::FILE_LEN as CURSOR_FILE_LEN;
use super::retention::Retention;
use std::time::Duration;

/// When a put returns.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Durability {
    /// When its bytes and all before them are synced; concurrent puts share a sync.
    Always,
    /// When they are in the page cache; they are synced at least this often.
    Interval(Duration),
    /// When they are in the page cache.
    Os,
}

/// What becomes of damage in acknowledged bytes.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub enum OnCorruption {
    /// The log does not open, or stops being read there.
    #[default]
    Halt,
    /// The damaged bytes are copied aside, the rest is delivered around the recorded hole.
    Quarantine,
}

/// Options of a log.
#[derive(Clone, Debug)]
pub struct LogOptions {
    /// When a put returns.
    pub durability: Durability,
    /// Length of a segment, bytes: a power of two, 1 MiB … 1 GiB.
    pub segment_bytes: u64,
    /// Most events that may wait; a put beyond waits for room.
    pub capacity_events: u64,
    /// Most bytes of segments with events that are not done with; a put beyond waits for room.
    pub capacity_bytes: u64,
    /// What is kept of what is done with. It takes no room from puts: it goes when, with it, the
    /// segments would have more than `capacity_bytes`, or the disk less than `free_bytes_min`.
    pub retention: Retention,
    /// Free bytes that must stay on the disk when a segment is made.
    pub free_bytes_min: u64,
    /// What becomes of damage.
    pub on_corruption: OnCorruption,
    /// Segments made ahead. As many again are kept of those that were reclaimed; what a backlog leaves
    /// beyond these is removed within minutes.
    pub spare_count: usize,
    /// Length of each of the two files of the cursor journal, bytes: 4 KiB … 1 MiB. Less than the
    /// most only where a test wants many turns from file to file.
    pub cursor_file_bytes: u64,
    /// Whether threads of the log's own write and prepare segments. Without them every call does
    /// its work itself, in a fixed order: for tests and simulation.
    pub background: bool,
}

impl Default for LogOptions {
    fn default() -> LogOptions {
        LogOptions {
            durability: Durability::Always,
            segment_bytes: 64 << 20,
            capacity_events: u64::MAX,
            capacity_bytes: u64::MAX,
            retention: Retention::default(),
            free_bytes_min: 0,
            on_corruption: OnCorruption::Halt,
            spare_count: 2,
            cursor_file_bytes: CURSOR_FILE_LEN,
            background: true,
        }
    }
}

impl LogOptions {
    /// The largest legal segment that is not above `bytes`, within 1 MiB … 1 GiB.
    pub fn segment_bytes_of(bytes: u64) -> u64 {
        let bytes = bytes.clamp(SEGMENT_BYTES_MIN, SEGMENT_BYTES_MAX);
        1 << bytes.ilog2()
    }

    /// Asserts what the engine relies on.
    pub(crate) fn check(&self) {
        assert!(self.segment_bytes.is_power_of_two(), "segment_bytes is a power of two");
        assert!(
            (SEGMENT_BYTES_TEST_MIN..=SEGMENT_BYTES_MAX).contains(&self.segment_bytes),
            "segment_bytes is within its bounds"
        );
        assert!(
            self.cursor_file_bytes.is_multiple_of(4096)
                && (4096..=CURSOR_FILE_LEN).contains(&self.cursor_file_bytes),
            "cursor_file_bytes is within its bounds"
        );
    }
}
