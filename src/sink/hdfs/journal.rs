//! The journal of open files: what a later process needs to know of the files that this one had
//! open when it died.
//!
//! One file per sink, a line of JSON each, read up to the first line that is none:
//!
//! | line | durable when | means |
//! |---|---|---|
//! | `boot` | at the start of every file | the boot of the machine in which all that follows was written |
//! | `open` | before the file is created | there may be such a file, and it is ours if it was made |
//! | `made` | like the page cache | it was created by us |
//! | `wrote` | like the page cache | so many bytes of it are durable; written before they are acknowledged |
//! | `done` | like the page cache | it has its final name, or is gone |
//!
//! The page cache outlives `kill -9`, so in the same boot the last `wrote` is exact and a file may
//! be cut to it. After a power cut it may be too low: then nothing is cut ([`Known::Unsure`]).
//! A missing `done` costs a look at a file that is not there.

use super::bucket::FileName;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Beyond this the journal is written anew with what is still open.
const BYTES_MAX: u64 = 1 << 20;

/// What the journal knows of a file.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Known {
    /// It was about to be created; whoever has such a file, it may not be ours.
    Planned,
    /// It is ours, and nothing in it was acknowledged.
    Made,
    /// It is ours, and so many bytes of it were acknowledged.
    Wrote(u64),
    /// The machine went down since: it may hold more than the journal says.
    Unsure,
}

/// A file of the journal.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(super) struct Entry {
    /// The URI of its file system.
    pub(super) fs: String,
    pub(super) name: FileName,
    pub(super) known: Known,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Line {
    Boot(String),
    Open(u64, Entry),
    Made(u64),
    Wrote(u64, u64),
    Done(u64),
}

/// The journal of one sink; without a directory it remembers nothing.
pub(super) struct Journal {
    state: Mutex<State>,
}

struct State {
    path: Option<PathBuf>,
    file: Option<File>,
    /// Bytes of whole lines.
    len: u64,
    boot: String,
    open: BTreeMap<u64, Entry>,
    next_id: u64,
}

impl Journal {
    /// Opens the journal of sink `name` in `dir` and returns the files that an earlier process left
    /// open. `None`: a journal that remembers nothing.
    ///
    /// # Errors
    /// The journal can't be read or written.
    pub(super) fn open(dir: Option<&Path>, name: &str) -> io::Result<(Journal, Vec<(u64, Entry)>)> {
        let mut state = State {
            path: dir.map(|dir| dir.join(format!("{name}.open-files"))),
            file: None,
            len: 0,
            boot: boot_id(),
            open: BTreeMap::new(),
            next_id: 0,
        };
        let mut left = Vec::new();
        if let (Some(dir), Some(path)) = (dir, &state.path) {
            std::fs::create_dir_all(dir)?;
            match std::fs::read(path) {
                Ok(bytes) => state.open = replay(&bytes, &state.boot),
                Err(error) if error.kind() == ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
            state.next_id = state.open.keys().last().map_or(0, |last| last + 1);
            left = state.open.clone().into_iter().collect();
            state.rewrite()?;
        }
        Ok((Journal { state: Mutex::new(state) }, left))
    }

    /// Writes down that these files are about to be created, and returns their numbers. Blocks: it
    /// is durable when it returns.
    ///
    /// # Errors
    /// It is not written down: the files must not be created.
    pub(super) fn plan(&self, fs: &str, names: &[&FileName]) -> io::Result<Vec<u64>> {
        let mut state = self.lock();
        let first = state.next_id;
        state.next_id += names.len() as u64;
        let entry = |name: &&FileName| Entry {
            fs: fs.to_owned(),
            name: (*name).clone(),
            known: Known::Planned,
        };
        let planned: Vec<_> = (first..).zip(names.iter().map(entry)).collect();
        let lines: Vec<_> = planned.iter().cloned().map(|(id, e)| Line::Open(id, e)).collect();
        state.append(&lines)?;
        state.sync()?;
        if state.path.is_some() {
            state.open.extend(planned);
        }
        Ok((first..state.next_id).collect())
    }

    /// This file was created.
    pub(super) fn made(&self, id: u64) -> io::Result<()> {
        self.note(&[(id, Known::Made)])
    }

    /// What is known now of these files. To be called before bytes are acknowledged.
    ///
    /// # Errors
    /// It is not written down: nothing may be acknowledged.
    pub(super) fn note(&self, known: &[(u64, Known)]) -> io::Result<()> {
        let mut state = self.lock();
        let lines: Vec<_> = known.iter().filter_map(|(id, known)| line(*id, *known)).collect();
        state.append(&lines)?;
        for (id, known) in known {
            if let Some(entry) = state.open.get_mut(id) {
                entry.known = *known;
            }
        }
        Ok(())
    }

    /// These files need no one any more.
    pub(super) fn done(&self, ids: impl IntoIterator<Item = u64>) {
        let mut state = self.lock();
        let ids: Vec<_> = ids.into_iter().collect();
        for id in &ids {
            state.open.remove(id);
        }
        let lines: Vec<_> = ids.into_iter().map(Line::Done).collect();
        // a missing line costs a look at the next start
        let _ = state.append(&lines);
        if state.len > BYTES_MAX {
            let _ = state.rewrite();
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // every change is whole before anything can panic
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn line(id: u64, known: Known) -> Option<Line> {
    match known {
        Known::Made => Some(Line::Made(id)),
        Known::Wrote(len) => Some(Line::Wrote(id, len)),
        Known::Planned | Known::Unsure => None,
    }
}

impl State {
    fn append(&mut self, lines: &[Line]) -> io::Result<()> {
        let Some(path) = &self.path else { return Ok(()) };
        if lines.is_empty() {
            return Ok(());
        }
        if self.file.is_none() || !path.exists() {
            self.rewrite()?;
        }
        let bytes = encode(lines);
        let file = self.file.as_ref().expect("rewrite leaves a file");
        match file.write_all_at(&bytes, self.len) {
            Ok(()) => self.len += bytes.len() as u64,
            Err(error) => {
                // what stands there now is unknown: begin a new file next time
                self.file = None;
                return Err(error);
            }
        }
        Ok(())
    }

    fn sync(&mut self) -> io::Result<()> {
        let Some(file) = &self.file else { return Ok(()) };
        let synced = file.sync_data();
        if synced.is_err() {
            self.file = None;
        }
        synced
    }

    /// Replaces the file, durably, by one that holds what is open.
    fn rewrite(&mut self) -> io::Result<()> {
        let Some(path) = &self.path else { return Ok(()) };
        let dir = path.parent().unwrap_or(Path::new("."));
        let open = self.open.iter().map(|(id, entry)| Line::Open(*id, entry.clone()));
        let boot = Line::Boot(self.boot.clone());
        let bytes = encode(&std::iter::once(boot).chain(open).collect::<Vec<_>>());
        let temporary = path.with_extension("open-files.new");
        let mut file = File::create(&temporary)?;
        file.write_all(&bytes)?;
        file.sync_all()?;
        std::fs::rename(&temporary, path)?;
        File::open(dir)?.sync_all()?;
        self.len = bytes.len() as u64;
        self.file = Some(file);
        Ok(())
    }
}

fn encode(lines: &[Line]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for line in lines {
        serde_json::to_writer(&mut bytes, line).expect("strings and numbers are always JSON");
        bytes.push(b'\n');
    }
    bytes
}

/// The files still open at the end of a journal.
fn replay(bytes: &[u8], boot: &str) -> BTreeMap<u64, Entry> {
    let mut open: BTreeMap<u64, Entry> = BTreeMap::new();
    let mut same_boot = false;
    for line in bytes.split_inclusive(|&byte| byte == b'\n') {
        if !line.ends_with(b"\n") {
            break;
        }
        let Ok(line) = serde_json::from_slice(line) else { break };
        let known = |open: &mut BTreeMap<u64, Entry>, id, known| {
            if let Some(entry) = open.get_mut(&id) {
                entry.known = known;
            }
        };
        match line {
            Line::Boot(id) => same_boot = !boot.is_empty() && id == boot,
            Line::Open(id, entry) => drop(open.insert(id, entry)),
            Line::Made(id) => known(&mut open, id, Known::Made),
            Line::Wrote(id, len) => known(&mut open, id, Known::Wrote(len)),
            Line::Done(id) => drop(open.remove(&id)),
        }
    }
    if !same_boot {
        open.values_mut().for_each(|entry| entry.known = Known::Unsure);
    }
    open
}

/// What tells one boot of this machine from another; empty if it can't be told.
fn boot_id() -> String {
    let id = std::fs::read_to_string("/proc/sys/kernel/random/boot_id");
    id.map(|id| id.trim().to_owned()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sink::hdfs::keys::Names;

    fn name(counter: u64) -> FileName {
        FileName::new("/d/x", counter, &Names::default())
    }

    fn reopened(dir: &Path) -> Vec<(u64, Known)> {
        let (_, left) = Journal::open(Some(dir), "k").unwrap();
        left.into_iter().map(|(id, entry)| (id, entry.known)).collect()
    }

    #[test]
    fn journal_knows_after_a_restart_what_was_open() {
        let dir = tempfile::tempdir().unwrap();
        let (journal, left) = Journal::open(Some(dir.path()), "k").unwrap();
        assert_eq!(left, []);
        let ids = journal.plan("file:", &[&name(1), &name(2), &name(3), &name(4)]).unwrap();
        assert_eq!(ids, [0, 1, 2, 3]);
        for id in 1..4 {
            journal.made(id).unwrap();
        }
        journal.note(&[(2, Known::Wrote(10)), (3, Known::Wrote(5))]).unwrap();
        journal.note(&[(2, Known::Wrote(30))]).unwrap();
        journal.done([3]);
        let expected = [(0, Known::Planned), (1, Known::Made), (2, Known::Wrote(30))];
        assert_eq!(reopened(dir.path()), expected);
        assert_eq!(reopened(dir.path()), expected, "a start alone forgets nothing");
    }

    #[test]
    fn journal_is_read_up_to_a_torn_line_and_trusts_no_length_of_another_boot() {
        let dir = tempfile::tempdir().unwrap();
        let (journal, _) = Journal::open(Some(dir.path()), "k").unwrap();
        journal.plan("file:", &[&name(1)]).unwrap();
        journal.note(&[(0, Known::Wrote(10))]).unwrap();
        let path = dir.path().join("k.open-files");
        let text = std::fs::read_to_string(&path).unwrap();
        std::fs::write(&path, format!("{text}{{\"done\":0")).unwrap();
        assert_eq!(reopened(dir.path()), [(0, Known::Wrote(10))]);
        let other_boot = text.replace(&boot_id(), "another");
        assert!(other_boot != text);
        std::fs::write(&path, other_boot).unwrap();
        assert_eq!(reopened(dir.path()), [(0, Known::Unsure)]);
    }

    #[test]
    fn journal_stays_small_and_starts_anew_when_its_file_was_taken_away() {
        let dir = tempfile::tempdir().unwrap();
        let (journal, _) = Journal::open(Some(dir.path()), "k").unwrap();
        journal.plan("file:", &[&name(0)]).unwrap();
        for i in 1..20_000 {
            let ids = [i];
            journal
                .lock()
                .append(&[Line::Open(
                    i,
                    Entry { fs: "file:".into(), name: name(i), known: Known::Planned },
                )])
                .unwrap();
            journal.done(ids);
        }
        let path = dir.path().join("k.open-files");
        assert!(std::fs::metadata(&path).unwrap().len() <= BYTES_MAX + 200);
        std::fs::remove_file(&path).unwrap();
        journal.note(&[(0, Known::Wrote(7))]).unwrap();
        assert_eq!(reopened(dir.path()), [(0, Known::Wrote(7))]);
    }
}
