//! The look inside a log, by one who does not own it: `walctl`'s reading commands as values.
//!
//! Nothing here writes, locks or maps: it works on the log of a running agent as on a dead one's.
//! Beside a live owner it stops at the tail that STATE names; what is behind it is in flight, not
//! damaged. A segment that is reclaimed or recycled meanwhile is gone, not damaged: its name is
//! taken away before its bytes are written again, so the name is asked after whenever bytes do not
//! fit. Whether bytes fit is for `crate::log` to say: the checker is recovery's own.

mod bound;
mod dead;
mod dir;
mod events;
mod snapshot;
mod stat;
mod verify;
mod verify_files;
mod view;

pub use bound::{Bound, BoundError};
pub use dead::{DeadLetters, LetterItem, LossRow};
pub use dir::{InspectError, LogDir};
pub use events::{EventRecord, Events, Item, offset_of};
pub use snapshot::{Owner, Snapshot};
pub use stat::{CursorRow, GroupRow, SegmentRow, Stat, cursors, segments, stat};
pub use verify::{Problem, Report, verify};
