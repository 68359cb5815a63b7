//! `walctl hold`: ranges that stay, whatever the cursors do.

use super::args::HoldArgs;
use super::render::{json_text, table};
use super::{Done, Failure, open, print};
use crate::inspect::{Snapshot, offset_of};
use crate::log::{FileStorage, Hold, Storage, lock_holds, read_holds, write_holds};
use crate::offset::Offset;
use serde::Serialize;
use serde_json::json;
use std::time::{Duration, Instant};

/// How long to wait for an owner who is giving segments back.
const PATIENCE: Duration = Duration::from_secs(10);
const POLL: Duration = Duration::from_millis(20);

/// One hold.
#[derive(Serialize, Debug)]
pub(super) struct HoldRow {
    /// Its name.
    pub name: String,
    /// The first offset that stays.
    pub from: u64,
    /// The offset behind the last one.
    pub to: u64,
    /// When it was made, ms since 1970.
    pub made_ms: u64,
    /// The first of its offsets that is there; `None` if none is.
    pub kept_from: Option<u64>,
}

impl HoldRow {
    fn new(hold: &Hold, log: &Snapshot) -> HoldRow {
        let (from, to) = (hold.range.start, hold.range.end);
        let kept_from = from.max(log.kept_from());
        HoldRow {
            name: hold.name.clone(),
            from: from.0,
            to: to.0,
            made_ms: hold.made_ms,
            kept_from: (kept_from < to).then_some(kept_from.0),
        }
    }

    /// What is wrong with it, if something is.
    fn problem(&self) -> Option<String> {
        let HoldRow { name, from, to, kept_from, .. } = self;
        match kept_from {
            Some(kept) if kept == from => None,
            Some(kept) => Some(format!(
                "hold {name}: offsets {from}..{kept} are gone already: the oldest that is kept is \
                 {kept}; hold {kept}..{to} instead"
            )),
            None => Some(format!("hold {name}: offsets {from}..{to} are all gone already")),
        }
    }
}

/// Makes, lists or removes holds.
pub(super) fn hold(args: &HoldArgs) -> Result<Done, Failure> {
    let storage = FileStorage::new(&args.target.dir);
    let (_, log) = open(&args.target)?;
    if let Some(name) = &args.drop {
        return remove(args, &storage, name);
    }
    let (Some(name), Some(from), Some(to)) = (&args.name, args.from, args.to) else {
        return list(args, &storage, &log);
    };
    let (from, to) = (offset_of(&log, from)?, offset_of(&log, to)?);
    let made_ms = storage.now_ns() / 1_000_000;
    make(args, &storage, Hold { name: name.clone(), range: from..to, made_ms })
}

fn list(args: &HoldArgs, storage: &FileStorage, log: &Snapshot) -> Result<Done, Failure> {
    let holds = read_holds(storage)?;
    let rows: Vec<_> = holds.iter().map(|hold| HoldRow::new(hold, log)).collect();
    print(&match args.target.json {
        true => json_text(&json!({ "holds": rows })),
        false => table::holds(&rows),
    })?;
    Ok(Done::Fine)
}

fn make(args: &HoldArgs, storage: &FileStorage, hold: Hold) -> Result<Done, Failure> {
    // from here to the end nothing is reclaimed
    let _lock = lock(storage)?;
    let mut holds = read_holds(storage)?;
    let (_, log) = open(&args.target)?;
    check(&hold, &holds, log.tail()).map_err(Failure::Usage)?;
    if let Some(problem) = HoldRow::new(&hold, &log).problem() {
        return trouble(&problem);
    }
    holds.push(hold.clone());
    write_holds(storage, &holds)?;
    let (_, log) = open(&args.target)?;
    let row = HoldRow::new(&hold, &log);
    if let Some(problem) = row.problem() {
        return trouble(&format!("{problem}; what is left of it is held"));
    }
    let (name, from, to) = (&hold.name, hold.range.start, hold.range.end);
    print(&match args.target.json {
        true => json_text(&row),
        false => format!(
            "hold {name}: offsets {from}..{to} stay, and what is behind them, until 'walctl hold \
             DIR --drop {name}'\n"
        ),
    })?;
    Ok(Done::Fine)
}

/// Whether a hold can be made beside those that there are.
fn check(hold: &Hold, holds: &[Hold], tail: Offset) -> Result<(), String> {
    let (name, from, to) = (&hold.name, hold.range.start, hold.range.end);
    if !Hold::is_name(name) {
        return Err(format!("'{name}' is no name: 1 to 64 letters, digits, '.', '_' and '-'"));
    }
    if let Some(other) = holds.iter().find(|other| other.name == *name) {
        let (from, to) = (other.range.start, other.range.end);
        return Err(format!("there is a hold {name} already, of {from}..{to}: --drop it first"));
    }
    if to > tail {
        return Err(format!("offset {to} is not there yet: the next event gets offset {tail}"));
    }
    if from >= to {
        return Err(format!("no event lies in {from}..{to}"));
    }
    Ok(())
}

fn remove(args: &HoldArgs, storage: &FileStorage, name: &str) -> Result<Done, Failure> {
    let _lock = lock(storage)?;
    let mut holds = read_holds(storage)?;
    let Some(at) = holds.iter().position(|hold| hold.name == name) else {
        let names: Vec<_> = holds.iter().map(|hold| hold.name.as_str()).collect();
        let text = format!("there is no hold '{name}'; there are: [{}]", names.join(", "));
        return Err(Failure::Usage(text));
    };
    let hold = holds.remove(at);
    write_holds(storage, &holds)?;
    let (from, to) = (hold.range.start, hold.range.end);
    print(&match args.target.json {
        true => json_text(&json!({ "dropped": name, "from": from.0, "to": to.0 })),
        false => format!("hold {name}: removed; offsets {from}..{to} go as any others\n"),
    })?;
    Ok(Done::Fine)
}

fn lock(storage: &FileStorage) -> Result<Box<dyn Send + Sync>, Failure> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(lock) = lock_holds(storage)? {
            return Ok(lock);
        }
        if Instant::now() >= deadline {
            let text = "the holds are in use: another walctl, or an agent that can't give segments \
                        back; try again";
            return Err(Failure::Usage(text.to_owned()));
        }
        std::thread::sleep(POLL);
    }
}

fn trouble(problem: &str) -> Result<Done, Failure> {
    eprintln!("walctl: {problem}");
    Ok(Done::Trouble)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hold_is_of_events_that_are_there_and_has_a_name_of_its_own() {
        let hold = |name: &str, from, to| Hold {
            name: name.to_owned(),
            range: Offset(from)..Offset(to),
            made_ms: 0,
        };
        let there = [hold("a", 0, 1)];
        let refused = |new: Hold| check(&new, &there, Offset(10)).unwrap_err();
        assert_eq!(check(&hold("b", 0, 10), &there, Offset(10)), Ok(()));
        assert!(refused(hold("a", 5, 6)).contains("already, of 0..1"));
        assert!(refused(hold("b", 5, 11)).contains("the next event gets offset 10"));
        assert!(refused(hold("b", 5, 5)).contains("no event lies in 5..5"));
        assert!(refused(hold("b c", 5, 6)).contains("is no name"));
    }
}
