//! What a running agent is asked: `walctl sinks`, `walctl replay`, and the commands of dead.rs on a
//! channel that an agent has.

use super::args::{GroupsArgs, ReplayArgs, RewindArgs, SinksArgs};
use super::render::{json_text, table};
use super::{Done, Failure, print};
use crate::channel::dead::Place;
use crate::control::{self, Answer, ControlError, Progress, Request};
use crate::inspect::{Bound, LogDir, Snapshot};
use crate::offset::Offset;
use std::io::{self, IsTerminal, Write};
use std::path::Path;

/// Asks the agent; on a terminal, with a line of how far it is.
pub(super) fn ask(dir: &Path, request: &Request) -> Result<Answer, ControlError> {
    let shows = io::stderr().is_terminal();
    let mut shown = false;
    let show = |progress: Progress| {
        if shows {
            let Progress { done, seen, of } = progress;
            let _ = write!(io::stderr(), "\r\x1b[K{seen} of {of} looked at, {done} done");
            shown = true;
        }
    };
    let answer = control::ask_with(dir, request, show);
    if shown {
        let _ = write!(io::stderr(), "\r\x1b[K"); // a terminal may go away
    }
    answer
}

/// An answer to another question.
pub(super) fn strange(answer: &Answer) -> Failure {
    Failure::Usage(format!("the agent answered something else than was asked: {answer:?}"))
}

/// `walctl sinks`.
pub(super) fn sinks(args: &SinksArgs) -> Result<Done, Failure> {
    let dir = LogDir::open(&args.target.dir)?;
    let json = args.target.json;
    if let Some(sink) = &args.resume {
        let answer = ask(dir.path(), &Request::Resume { sink: sink.clone() })?;
        let Answer::Resumed { sink, was_stopped } = &answer else { return Err(strange(&answer)) };
        print(&match (json, was_stopped) {
            (true, _) => {
                json_text(&serde_json::json!({ "sink": sink, "was_stopped": was_stopped }))
            }
            (false, true) => format!("sink {sink} is used again\n"),
            (false, false) => format!("sink {sink} was not stopped; it is tried at once\n"),
        })?;
        return Ok(Done::Fine);
    }
    let answer = ask(dir.path(), &Request::Groups)?;
    let Answer::Groups { tail, groups } = &answer else { return Err(strange(&answer)) };
    print(&match json {
        true => json_text(&serde_json::json!({ "tail": tail, "groups": groups })),
        false => table::live_groups(groups),
    })?;
    Ok(Done::Fine)
}

fn place(dir: &LogDir, bound: Bound) -> Result<Place, Failure> {
    Ok(match bound {
        Bound::Offset(offset) => Place::Offset(Offset(offset)),
        Bound::Time(time_ms) => Place::Time(time_ms),
        Bound::BeforeTail(count) => {
            let tail = Snapshot::take(dir)?.tail();
            Place::Offset(Offset(tail.0.saturating_sub(count)))
        }
    })
}

/// `walctl rewind`, of a channel that an agent has.
pub(super) fn rewind(args: &RewindArgs) -> Result<Done, Failure> {
    let dir = LogDir::open(&args.target.dir)?;
    let to = place(&dir, args.to)?;
    let answer = ask(dir.path(), &Request::Rewind { group: args.group.clone(), to })?;
    let Answer::Rewound { group, from, to } = &answer else { return Err(strange(&answer)) };
    print(&match args.target.json {
        true => json_text(&serde_json::json!({ "group": group, "from": from, "to": to })),
        false => format!("group {group}: set from offset {from} to {to}, by its agent\n"),
    })?;
    Ok(Done::Fine)
}

/// `walctl groups --drop`, of a channel that an agent has.
pub(super) fn drop_group(args: &GroupsArgs, name: &str) -> Result<Done, Failure> {
    let dir = LogDir::open(&args.target.dir)?;
    let answer = ask(dir.path(), &Request::DropGroup { name: name.to_owned() })?;
    let Answer::Dropped { name } = &answer else { return Err(strange(&answer)) };
    print(&match args.target.json {
        true => json_text(&serde_json::json!({ "dropped": name })),
        false => format!("group {name}: removed, by the agent; configured again, it begins anew\n"),
    })?;
    Ok(Done::Fine)
}

/// `walctl replay`.
pub(super) fn replay(args: &ReplayArgs) -> Result<Done, Failure> {
    let dir = LogDir::open(&args.target.dir)?;
    let request = Request::Replay {
        from: place(&dir, args.from)?,
        to: args.to.map(|to| place(&dir, to)).transpose()?,
        headers: args.headers.clone(),
        sink: args.sink.clone(),
        rate_events: args.rate.unwrap_or(0),
    };
    let answer = ask(dir.path(), &request)?;
    let Answer::Replayed(replayed) = &answer else { return Err(strange(&answer)) };
    print(&match args.target.json {
        true => json_text(replayed),
        false => format!(
            "offsets {}..{}: {} events sent to sink {}, {} passed, {} failed, {} missing\n",
            replayed.from,
            replayed.to,
            replayed.sent,
            args.sink,
            replayed.passed,
            replayed.failed,
            replayed.missing
        ),
    })?;
    let whole = replayed.failed == 0 && replayed.missing == 0;
    Ok(if whole { Done::Fine } else { Done::Trouble })
}
