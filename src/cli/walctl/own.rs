//! A log whose cursors are changed from outside: owned for that moment.

use super::Failure;
use crate::channel::cursors;
use crate::cursor::GroupState;
use crate::inspect::{InspectError, LogDir, Snapshot};
use crate::log::{Log, LogOptions};
use crate::offset::Offset;
use std::path::Path;

/// A log that this process owns, and its cursors.
pub(super) struct Owned {
    pub log: Log,
    /// As they were saved last.
    pub groups: Vec<GroupState>,
}

/// Owns the log in `path`, if no agent does. Opening it does what an agent's start does, a
/// torn tail is cut, for instance.
///
/// # Errors
/// There is no log, an agent owns it, or it does not open.
pub(super) fn own(path: &Path) -> Result<Owned, Failure> {
    let dir = LogDir::open(path)?;
    let found = Snapshot::take(&dir)?;
    let segment_bytes = found.segment_bytes().unwrap_or(LogOptions::default().segment_bytes);
    let options = LogOptions { segment_bytes, background: false, ..LogOptions::default() };
    let (log, opened) = Log::open_dir(path, options)?;
    let groups = match opened.cursors {
        None => Vec::new(),
        Some(bytes) => cursors::decode(&bytes)
            .map_err(|error| InspectError::Cursors { dir: path.display().to_string(), error })?,
    };
    Ok(Owned { log, groups })
}

impl Owned {
    /// The place of the group `name` among the groups.
    ///
    /// # Errors
    /// There is none of that name, with those that there are.
    pub(super) fn find(&self, name: &str) -> Result<usize, Failure> {
        let found = self.groups.iter().position(|group| group.name == name);
        found.ok_or_else(|| {
            let names: Vec<_> = self.groups.iter().map(|group| group.name.as_str()).collect();
            let there = match names[..] {
                [] => "no sink has read from this log yet".to_owned(),
                _ => format!("there are: {}", names.join(", ")),
            };
            Failure::Usage(format!("no group '{name}' is stored; {there}"))
        })
    }

    /// Saves the groups, durably, and closes the log.
    pub(super) fn save(self) -> Result<(), Failure> {
        let released = self.groups.iter().map(|group| group.watermark).min();
        // a sink may have seen whatever there is, before its group was set back
        let seen_tail = self.log.tails().tail;
        let bytes = cursors::encode(&self.groups);
        self.log.save_cursors(&bytes, seen_tail, released.unwrap_or(Offset(0)))?;
        self.log.sync_cursors()?;
        Ok(self.log.close()?)
    }
}
