//! Tables and labelled lines for people.

use super::{bytes, escape, time};
use crate::channel::dead::DeadLetter;
use crate::cli::walctl::hold::HoldRow;
use crate::control::{GroupRow as LiveGroupRow, SinkRow};
use crate::inspect::{CursorRow, GroupRow, LossRow, Problem, Report, SegmentRow, Stat};

/// Columns, as wide as their widest cell; numbers to the right.
fn columns(head: &[&str], rows: &[Vec<String>]) -> String {
    let width = |i: usize| {
        let cells = rows.iter().map(|row| row[i].chars().count());
        cells.chain([head[i].len()]).max().unwrap_or(0)
    };
    let widths: Vec<_> = (0..head.len()).map(width).collect();
    let is_number = |i: usize| {
        let mut cells = rows.iter().map(|row| row[i].as_str());
        cells.all(|cell| cell.starts_with(|c: char| c.is_ascii_digit()) && !cell.contains('T'))
            && !rows.is_empty()
    };
    let numbers: Vec<_> = (0..head.len()).map(is_number).collect();
    let line = |cells: &mut dyn Iterator<Item = &str>| {
        let cells = cells.enumerate().map(|(i, cell)| match numbers[i] {
            true => format!("{cell:>0$}", widths[i]),
            false => format!("{cell:<0$}", widths[i]),
        });
        cells.collect::<Vec<_>>().join("  ").trim_end().to_owned() + "\n"
    };
    let mut text = line(&mut head.iter().copied());
    text.extend(rows.iter().map(|row| line(&mut row.iter().map(String::as_str))));
    text
}

/// `walctl ls`.
pub(crate) fn segments(rows: &[SegmentRow]) -> String {
    if rows.is_empty() {
        return "no segments: nothing was put yet\n".to_owned();
    }
    let cells = rows.iter().map(|row| {
        vec![
            row.file.clone(),
            row.state.to_owned(),
            row.base_offset.to_string(),
            row.events.to_string(),
            row.bytes.to_string(),
            time(row.first_time_ms),
            time(row.last_time_ms),
        ]
    });
    let head = ["file", "state", "base_offset", "events", "bytes", "first_time", "last_time"];
    columns(&head, &cells.collect::<Vec<_>>())
}

/// `walctl cursors`.
pub(crate) fn cursors(rows: &[CursorRow]) -> String {
    if rows.is_empty() {
        return "no cursors: no sink has read from this log yet\n".to_owned();
    }
    let ranges = |ranges: &[[u64; 2]]| match ranges {
        [] => "-".to_owned(),
        _ => ranges.iter().map(|[from, to]| format!("{from}..{to}")).collect::<Vec<_>>().join(" "),
    };
    let cells = rows.iter().map(|row| {
        vec![
            escape(row.group.as_bytes()),
            escape(row.sink.as_bytes()),
            row.position.to_string(),
            row.watermark.to_string(),
            ranges(&row.acked_above),
            ranges(&row.leases),
        ]
    });
    let head = ["group", "sink", "position", "watermark", "acked_above", "leases"];
    columns(&head, &cells.collect::<Vec<_>>())
}

/// `walctl sinks`.
pub(crate) fn live_groups(rows: &[LiveGroupRow]) -> String {
    let cells = rows.iter().flat_map(|group| {
        let cells = |sink: &str, state: &str, numbers: [String; 3]| {
            let [position, leased, delivered] = numbers;
            let (watermark, backlog) = (group.watermark.to_string(), group.backlog.to_string());
            let group = escape(group.name.as_bytes());
            vec![group, watermark, backlog, name(sink), state.into(), position, leased, delivered]
        };
        if group.sinks.is_empty() {
            let nothing = || "-".to_owned();
            return vec![cells("", "nobody reads", [nothing(), nothing(), nothing()])];
        }
        let of_sink = |sink: &SinkRow| {
            let state = match sink.wait_ms {
                0 => sink.state.clone(),
                wait_ms => format!("{}, {wait_ms} ms left", sink.state),
            };
            let numbers = [sink.position.0, sink.leased, sink.delivered];
            cells(&sink.name, &state, numbers.map(|number| number.to_string()))
        };
        group.sinks.iter().map(of_sink).collect()
    });
    let head =
        ["group", "watermark", "backlog", "sink", "state", "position", "leased", "delivered"];
    columns(&head, &cells.collect::<Vec<_>>())
}

/// `walctl losses`.
pub(crate) fn losses(rows: &[LossRow]) -> String {
    if rows.is_empty() {
        return "no losses: no event was given up\n".to_owned();
    }
    let cells = rows.iter().map(|row| {
        vec![
            escape(row.group.as_bytes()),
            name(&row.sink),
            format!("{}..{}", row.from, row.to),
            row.what.to_owned(),
            name(&row.cause),
            time(row.time_ms),
            escape(row.reason.as_bytes()),
        ]
    });
    let head = ["group", "sink", "offsets", "what", "cause", "time", "reason"];
    columns(&head, &cells.collect::<Vec<_>>())
}

/// A name, or that there is none.
fn name(text: &str) -> String {
    if text.is_empty() { "-".to_owned() } else { escape(text.as_bytes()) }
}

/// A line of `walctl dead ls`.
pub(crate) fn letter(dead: &DeadLetter) -> String {
    let letter = &dead.letter;
    let texts = [&letter.channel, &letter.group, &letter.sink, &letter.cause];
    let [channel, group, sink, cause] = texts.map(|text| name(text));
    let times = match letter.attempts {
        1 => "1 attempt".to_owned(),
        attempts => format!("{attempts} attempts"),
    };
    let redriven = match letter.redrives {
        0 => String::new(),
        redrives => format!(", re-driven {redrives} times"),
    };
    format!(
        "{} {} {channel}@{} {group}/{sink} {cause} ({times}{redriven}): {}\n",
        dead.offset,
        time(letter.time_ms),
        letter.range.start,
        escape(letter.reason.as_bytes())
    )
}

/// The event of a letter, below its line.
pub(crate) fn letter_event(dead: &DeadLetter) -> String {
    let event = &dead.letter.event;
    let header = |(key, value): &(String, String)| {
        format!("{}={}", escape(key.as_bytes()), escape(value.as_bytes()))
    };
    let headers: Vec<_> = event.headers.iter().map(header).collect();
    format!("    {{{}}} {}\n", headers.join(", "), escape(&event.body))
}

/// `walctl groups`.
pub(crate) fn groups(rows: &[GroupRow]) -> String {
    if rows.is_empty() {
        return "no groups: no sink has read from this log yet\n".to_owned();
    }
    let cells = rows.iter().map(|row| {
        let sinks: Vec<_> = row.sinks.iter().map(|sink| escape(sink.sink.as_bytes())).collect();
        let (watermark, backlog) = (row.watermark.to_string(), row.backlog.to_string());
        vec![escape(row.group.as_bytes()), watermark, backlog, sinks.join(" ")]
    });
    columns(&["group", "watermark", "backlog", "sinks"], &cells.collect::<Vec<_>>())
}

/// `walctl hold --list`.
pub(crate) fn holds(rows: &[HoldRow]) -> String {
    if rows.is_empty() {
        return "no holds\n".to_owned();
    }
    let cells = rows.iter().map(|row| {
        let HoldRow { name, from, to, made_ms, kept_from } = row;
        let kept = match kept_from {
            None => "none of it".to_owned(),
            Some(kept) if kept == from => "whole".to_owned(),
            Some(kept) => format!("from {kept}"),
        };
        vec![name.clone(), from.to_string(), to.to_string(), time(*made_ms), kept]
    });
    columns(&["name", "from", "to", "made", "kept"], &cells.collect::<Vec<_>>())
}

/// `walctl stat`.
pub(crate) fn stat(stat: &Stat) -> String {
    let owner = match &stat.owner {
        Some(owner) if owner.alive => format!("pid {}, running", owner.pid),
        Some(owner) if stat.clean => format!("none (pid {} closed it in order)", owner.pid),
        Some(owner) => format!("none (pid {} is gone without closing it)", owner.pid),
        None => "none known".to_owned(),
    };
    let mut lines = vec![
        ("log", stat.log_uuid.clone()),
        ("format", stat.format_version.clone()),
        ("owner", owner),
        ("epoch", stat.epoch.to_string()),
        ("first offset", stat.first_offset.to_string()),
        ("watermark", stat.watermark.to_string()),
        ("durable tail", stat.durable_tail.to_string()),
        ("tail", stat.tail.to_string()),
        ("backlog", format!("{} events", stat.backlog)),
        ("dead letters", stat.dead_letters.to_string()),
        ("on disk", bytes(stat.bytes_on_disk)),
        ("segments", format!("{}, and {} spare", stat.segments, stat.spares)),
    ];
    if stat.poisoned {
        lines.push(("poisoned", "a write or sync failed; start the agent again".to_owned()));
    }
    if stat.quarantined > 0 {
        lines.push(("quarantine", format!("{} notes; see 'walctl verify'", stat.quarantined)));
    }
    for group in &stat.groups {
        let (name, waiting) = (escape(group.group.as_bytes()), group.backlog);
        let (delivered, appended) = (group.delivered, group.appended);
        let mut text =
            format!("{name}: {waiting} events to go, {delivered} of {appended} delivered");
        let gone = [(group.dead, "dead"), (group.lost, "lost"), (group.expired, "expired")];
        for (count, word) in gone.iter().filter(|(count, _)| *count > 0) {
            text += &format!(", {count} {word}");
        }
        lines.push(("group", text));
        for sink in &group.sinks {
            let text = format!(
                "{}: {} delivered, {} failed, {} redelivered, position {}",
                escape(sink.sink.as_bytes()),
                sink.delivered_events,
                sink.failed_events,
                sink.redelivered_events,
                sink.position
            );
            lines.push(("  sink", text));
        }
    }
    lines.into_iter().map(|(label, value)| format!("{label:<13} {value}\n")).collect()
}

/// `walctl verify`.
pub(crate) fn report(report: &Report) -> String {
    let line = |word: &str, problem: &Problem| {
        let Problem { file, position, offset, kind, detail } = problem;
        let offset = offset.map_or(String::new(), |offset| format!(", offset {offset}"));
        format!(
            "{word}: {kind}: {file} at byte {position}{offset}: {}\n",
            escape(detail.as_bytes())
        )
    };
    let mut text: String = report.problems.iter().map(|p| line("problem", p)).collect();
    text.extend(report.notes.iter().map(|p| line("note", p)));
    let verdict = match report.problems.len() {
        0 => "ok".to_owned(),
        1 => "1 problem".to_owned(),
        count => format!("{count} problems"),
    };
    let Report { segments, batches, events, tail, .. } = report;
    text + &format!(
        "{verdict}: {segments} segments, {batches} batches, {events} events, tail {tail}\n"
    )
}
