//! `walctl dead` and `walctl losses`. Reading goes by `crate::inspect`, at any time; what writes
//! takes the channel for itself ([`own`]), or asks the agent that has it.

use super::args::{DeadCommand, FilterArgs, LettersArgs, PurgeArgs, RedriveArgs, Target};
use super::live::{self, strange};
use super::render::{json_letter, json_text, table};
use super::{Done, Failure, print};
use crate::channel::dead::{self, DeadLog, LetterFilter, Place, Redrive, Redriven};
use crate::control::{Answer, ControlError, Request};
use crate::inspect::{Bound, DeadLetters, LetterItem, LogDir, LossRow, Snapshot};
use crate::log::{self, FileStorage, Log, LogError, LogOptions, Storage};
use crate::offset::Offset;
use std::io::{self, BufWriter, Write};
use std::ops::ControlFlow;

pub(super) fn dead(command: &DeadCommand) -> Result<Done, Failure> {
    match command {
        DeadCommand::Ls(args) => list(&args.target, args.filter.filter()?, false),
        DeadCommand::Cat(args) => list(&args.target, args.filter.filter()?, true),
        DeadCommand::Redrive(args) => redrive(args),
        DeadCommand::Purge(args) => purge(args),
    }
}

/// `walctl dead ls` and `cat`: letters to lines.
fn list(target: &Target, filter: LetterFilter, whole: bool) -> Result<Done, Failure> {
    let mut out = BufWriter::with_capacity(64 << 10, io::stdout().lock());
    let done = each(target, &filter, |letter| {
        if target.json {
            return writeln!(out, "{}", json_letter(&letter));
        }
        out.write_all(table::letter(&letter).as_bytes())?;
        if whole { out.write_all(table::letter_event(&letter).as_bytes()) } else { Ok(()) }
    })?;
    out.flush()?;
    Ok(done)
}

/// `walctl losses`.
pub(super) fn losses(args: &LettersArgs) -> Result<Done, Failure> {
    let filter = LetterFilter { graves: LetterFilter::losses().graves, ..args.filter.filter()? };
    let mut rows = Vec::new();
    let done = each(&args.target, &filter, |letter| {
        rows.push(LossRow::of(letter.letter));
        Ok(())
    })?;
    print(&match args.target.json {
        true => json_text(&rows),
        false => table::losses(&rows),
    })?;
    Ok(done)
}

/// Gives the letters that `filter` means to `take`; what does not read back is said on standard
/// error.
fn each(
    target: &Target,
    filter: &LetterFilter,
    mut take: impl FnMut(dead::DeadLetter) -> io::Result<()>,
) -> Result<Done, Failure> {
    let channel = LogDir::open(&target.dir)?;
    let Some(letters) = DeadLetters::of(&channel)? else { return Ok(Done::Fine) };
    let mut trouble = false;
    let mut failed = None;
    let mut say = |text: String| {
        let _ = writeln!(io::stderr(), "walctl: {text}"); // nobody may be listening
        trouble = true;
        ControlFlow::Continue(())
    };
    letters.read(filter, |item| match item {
        LetterItem::Letter(letter) => match take(letter) {
            Ok(()) => ControlFlow::Continue(()),
            Err(error) => {
                failed = Some(error);
                ControlFlow::Break(())
            }
        },
        LetterItem::Strange(offset, error) => {
            say(format!("the event at dead offset {offset} is no letter: {error}"))
        }
        LetterItem::Damage(damage) => {
            let (file, hole) = (&damage.file, &damage.hole);
            say(format!(
                "dead offsets {}..{} are damaged: {}/{file} at byte {}: {}",
                hole.from,
                hole.to,
                dead::DIR,
                hole.position,
                hole.fault
            ))
        }
    })?;
    match failed {
        Some(error) => Err(error.into()),
        None => Ok(if trouble { Done::Trouble } else { Done::Fine }),
    }
}

/// `walctl dead redrive`.
fn redrive(args: &RedriveArgs) -> Result<Done, Failure> {
    let filter = args.filter.chosen(args.all)?;
    let channel = LogDir::open(&args.target.dir)?;
    let redriven = if args.dry_run {
        would_redrive(args, &filter)?
    } else if channel.dead().is_none() {
        Redriven::default()
    } else {
        let mut owned = match own(&channel, true)? {
            Owner::This(owned) => *owned,
            Owner::Other(owner) => {
                let (max_redrives, dry_run) = (args.max_redrives, false);
                let request = Request::Redrive { filter, max_redrives, dry_run };
                let answer = ask(&channel, &owner, &request)?;
                let Answer::Redriven { events, skipped } = answer else {
                    return Err(strange(&answer));
                };
                return redriven_text(args, Redriven { events, skipped });
            }
        };
        let log = owned.log.take().expect("it was asked for");
        let options =
            Redrive { max_redrives: args.max_redrives(), ..Redrive::into_log(owned.segment_bytes) };
        let put = |batch| log.put(batch).map(drop);
        let redriven = dead::redrive(&mut owned.dead, &filter, &options, put);
        let closed = log.close();
        let redriven = redriven?;
        closed?;
        owned.give_back()?;
        redriven
    };
    redriven_text(args, redriven)
}

fn redriven_text(args: &RedriveArgs, redriven: Redriven) -> Result<Done, Failure> {
    let Redriven { events, skipped } = redriven;
    let dry_run = args.dry_run;
    let value = serde_json::json!({ "redriven": events, "skipped": skipped, "dry_run": dry_run });
    let kept = match skipped {
        0 => String::new(),
        _ => format!("; {skipped} letters stay: re-driven too often before (--max-redrives)"),
    };
    let verb = if dry_run { "would be put" } else { "put" };
    print(&match args.target.json {
        true => json_text(&value),
        false => format!("{events} events {verb} back into the channel{kept}\n"),
    })?;
    Ok(Done::Fine)
}

/// What a redrive would do: a look, which an agent does not hinder.
fn would_redrive(args: &RedriveArgs, filter: &LetterFilter) -> Result<Redriven, Failure> {
    let limit = filter.limit.unwrap_or(u64::MAX);
    let mut redriven = Redriven::default();
    let all = LetterFilter { limit: None, ..filter.clone() };
    each(&args.target, &all, |letter| {
        if letter.letter.redrives >= args.max_redrives() {
            redriven.skipped += u64::from(redriven.events < limit);
        } else if redriven.events < limit {
            redriven.events += 1;
        }
        Ok(())
    })?;
    Ok(redriven)
}

/// `walctl dead purge`.
fn purge(args: &PurgeArgs) -> Result<Done, Failure> {
    let mut filter = args.filter.chosen(args.all)?;
    if args.losses {
        filter.graves = LetterFilter::losses().graves;
    }
    if !args.yes && !args.dry_run {
        let text = "purged letters are gone for good: look with --dry-run, then give --yes";
        return Err(Failure::Usage(text.into()));
    }
    let channel = LogDir::open(&args.target.dir)?;
    let letters = if args.dry_run {
        let mut letters = 0u64;
        each(&args.target, &filter, |_| {
            letters += 1;
            Ok(())
        })?;
        letters
    } else if channel.dead().is_none() {
        0
    } else {
        match own(&channel, false)? {
            Owner::This(mut owned) => {
                let purged = dead::purge(&mut owned.dead, &filter, false)?;
                owned.give_back()?;
                purged.letters
            }
            Owner::Other(owner) => {
                let request = Request::Purge { filter, losses: args.losses };
                match ask(&channel, &owner, &request)? {
                    Answer::Purged { letters } => letters,
                    answer => return Err(strange(&answer)),
                }
            }
        }
    };
    let verb = if args.dry_run { "would be purged" } else { "purged" };
    print(&match args.target.json {
        true => json_text(&serde_json::json!({ "purged": letters, "dry_run": args.dry_run })),
        false => format!("{letters} letters {verb}\n"),
    })?;
    Ok(Done::Fine)
}

/// A channel that no agent has meanwhile.
struct Owned {
    /// Its log, if events are to be put.
    log: Option<Log>,
    /// Its lock, if not.
    _lock: Option<Box<dyn Send + Sync>>,
    dead: DeadLog,
    /// Up to where every group's cursor counts its letters.
    counted: Offset,
    segment_bytes: u64,
}

impl Owned {
    /// Gives segments back that hold nothing any more, and closes the dead-letter log.
    fn give_back(mut self) -> Result<(), Failure> {
        self.dead.reclaim(self.counted)?;
        Ok(self.dead.close()?)
    }
}

/// Who has a channel now.
enum Owner {
    /// This process.
    This(Box<Owned>),
    /// Another one, as its lock calls it.
    Other(String),
}

/// Asks the agent that has the channel to do it: it is not passed by.
fn ask(channel: &LogDir, owner: &str, request: &Request) -> Result<Answer, Failure> {
    live::ask(channel.path(), request).map_err(|error| match error {
        ControlError::NoAgent { error, .. } => Failure::Usage(format!(
            "{}: an agent has this channel ({owner}), and does not take requests \
             ({error}): stop it first; 'ls', 'cat' and --dry-run work beside it",
            channel.path().display()
        )),
        error => error.into(),
    })
}

/// Takes the channel for this process; with `put`, its log too.
fn own(channel: &LogDir, put: bool) -> Result<Owner, Failure> {
    let dir = channel.path();
    let now = Snapshot::take(channel)?;
    let counted = now.groups(channel).unwrap_or_default().iter().map(|g| g.dead_tail).min();
    let of_log = now.segment_bytes().unwrap_or(LogOptions::default().segment_bytes);
    let (mut log, mut lock) = (None, None);
    if put {
        let options = LogOptions { segment_bytes: of_log, ..LogOptions::default() };
        log = match Log::open_dir(dir, options) {
            Err(LogError::InUse { owner, .. }) => return Ok(Owner::Other(owner)),
            opened => Some(opened?.0),
        };
    } else {
        let taken = FileStorage::new(dir)
            .lock(log::LOCK_FILE, &format!("pid {}", std::process::id()))
            .map_err(LogError::io(format!("lock {}", dir.display())))?;
        match taken {
            Ok(taken) => lock = Some(taken),
            Err(owner) => return Ok(Owner::Other(owner)),
        }
    }
    let options = dead::options(u64::MAX);
    let segment_bytes = DeadLetters::of(channel)?.and_then(|letters| letters.segment_bytes());
    let options =
        LogOptions { segment_bytes: segment_bytes.unwrap_or(options.segment_bytes), ..options };
    Ok(Owner::This(Box::new(Owned {
        log,
        _lock: lock,
        dead: DeadLog::open_dir(dir.join(dead::DIR), options),
        counted: counted.unwrap_or_default(),
        segment_bytes: of_log,
    })))
}

impl RedriveArgs {
    /// The bound where no agent is asked.
    fn max_redrives(&self) -> u32 {
        self.max_redrives.unwrap_or(Redrive::default().max_redrives)
    }
}

impl FilterArgs {
    /// The filter of a command that changes something: it must be said what is meant.
    fn chosen(&self, all: bool) -> Result<LetterFilter, Failure> {
        let filter = self.filter()?;
        match (all, filter.is_all()) {
            (false, true) => Err(Failure::Usage(
                "say which letters are meant: --sink, --group, --reason, --cause, --where, \
                 --from, --to, --limit, or --all"
                    .into(),
            )),
            (true, false) => Err(Failure::Usage(
                "--all and a choice of letters contradict each other: leave one out".into(),
            )),
            _ => Ok(filter),
        }
    }

    /// The filter, of letters that hold events.
    fn filter(&self) -> Result<LetterFilter, Failure> {
        let place = |bound: Option<Bound>| match bound {
            None => Ok(None),
            Some(Bound::Offset(offset)) => Ok(Some(Place::Offset(Offset(offset)))),
            Some(Bound::Time(time_ms)) => Ok(Some(Place::Time(time_ms))),
            Some(Bound::BeforeTail(count)) => Err(Failure::Usage(format!(
                "'-{count}' is no place among letters: \
                 give an offset of the channel, or the time of death in RFC 3339"
            ))),
        };
        Ok(LetterFilter {
            sink: self.sink.clone(),
            group: self.group.clone(),
            reason: self.reason.clone(),
            cause: self.cause.clone(),
            headers: self.headers.clone(),
            from: place(self.from)?,
            to: place(self.to)?,
            limit: self.limit,
            ..LetterFilter::dead()
        })
    }
}
