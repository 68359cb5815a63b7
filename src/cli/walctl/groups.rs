//! `walctl groups` and `walctl rewind`: the consumer groups that are stored, and where they go on.

use super::args::{GroupsArgs, RewindArgs};
use super::own::own;
use super::render::{escape, json_text, table};
use super::{Done, Failure, live, open, print};
use crate::inspect::{Bound, stat};
use crate::log::LogError;
use crate::offset::Offset;
use serde_json::json;

/// Lists the groups, or removes one.
pub(super) fn groups(args: &GroupsArgs) -> Result<Done, Failure> {
    let target = &args.target;
    let Some(name) = &args.drop else {
        let (dir, log) = open(target)?;
        let rows = stat(&dir, &log)?.groups;
        print(&match target.json {
            true => json_text(&json!({ "groups": rows })),
            false => table::groups(&rows),
        })?;
        return Ok(Done::Fine);
    };
    let mut owned = match own(&target.dir) {
        Err(Failure::Log(LogError::InUse { .. })) => return live::drop_group(args, name),
        owned => owned?,
    };
    let at = owned.find(name)?;
    let group = owned.groups.remove(at);
    let waiting = owned.log.reader().visible_tail().since(group.watermark);
    owned.save()?;
    print(&match target.json {
        true => {
            let watermark = group.watermark.0;
            json_text(&json!({ "dropped": name, "watermark": watermark, "backlog": waiting }))
        }
        false => format!(
            "group {}: removed, at offset {}; {waiting} events waited for it; configured again, it \
             begins anew\n",
            escape(name.as_bytes()),
            group.watermark
        ),
    })?;
    Ok(Done::Fine)
}

/// Sets a group to another place.
pub(super) fn rewind(args: &RewindArgs) -> Result<Done, Failure> {
    let mut owned = match own(&args.target.dir) {
        Err(Failure::Log(LogError::InUse { .. })) => return live::rewind(args),
        owned => owned?,
    };
    let at = owned.find(&args.group)?;
    let reader = owned.log.reader();
    let (first, tail) = (reader.first_offset(), reader.visible_tail());
    let to = match args.to {
        Bound::Offset(offset) => Offset(offset),
        Bound::BeforeTail(count) => Offset(tail.0.saturating_sub(count)),
        Bound::Time(time_ms) => reader.seek_time(time_ms)?,
    };
    if to < first {
        let text = format!("offset {to} is not kept any more: the oldest that is kept is {first}");
        return Err(Failure::Usage(text));
    }
    if to > tail {
        let text = format!("offset {to} is not there yet: the next event gets offset {tail}");
        return Err(Failure::Usage(text));
    }
    let from = owned.groups[at].watermark;
    owned.groups[at] = owned.groups[at].rewound(to);
    owned.save()?;
    print(&match args.target.json {
        true => json_text(&json!({
            "group": args.group, "from": from.0, "to": to.0, "backlog": tail.since(to),
            "first_offset": first.0, "tail": tail.0,
        })),
        false => {
            let what = match to.cmp(&from) {
                std::cmp::Ordering::Less => format!("{} events come again", from.since(to)),
                std::cmp::Ordering::Equal => "what was lent and done above comes again".to_owned(),
                std::cmp::Ordering::Greater => format!("{} events are passed", to.since(from)),
            };
            let (name, backlog) = (escape(args.group.as_bytes()), tail.since(to));
            format!(
                "group {name}: set from offset {from} to {to}: {what}; {backlog} events wait (kept \
                 are {first}..{tail})\n"
            )
        }
    })?;
    Ok(Done::Fine)
}
