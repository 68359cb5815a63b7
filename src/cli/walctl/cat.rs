//! `walctl cat`: events to lines.

use super::args::CatArgs;
use super::render::{escape, json_event, time};
use super::{Done, Failure};
use crate::channel::dead::Settled;
use crate::channel::letter::Letter;
use crate::fate::Grave;
use crate::inspect::{DeadLetters, EventRecord, Events, Item, LogDir, Snapshot};
use crate::offset::Offset;
use std::io::{self, BufWriter, Write};
use std::ops::ControlFlow;
use std::time::Duration;

/// How often `--follow` looks for more.
const POLL: Duration = Duration::from_millis(100);

/// Prints events; what is missing is said on standard error.
pub(super) fn cat(args: &CatArgs) -> Result<Done, Failure> {
    let channel = LogDir::open(&args.target.dir)?;
    let (dir, mut log, settled) = match args.dead {
        false => {
            let log = Snapshot::take(&channel)?;
            (channel, log, None)
        }
        true => {
            let Some(letters) = DeadLetters::of(&channel)? else { return Ok(Done::Fine) };
            let (dir, log, settled) = letters.into_log();
            (dir, log, Some(settled))
        }
    };
    let mut events = Events::new(&dir, &log, args.from, args.to)?;
    let mut printer = Printer {
        dir: &dir,
        settled,
        out: BufWriter::with_capacity(64 << 10, io::stdout().lock()),
        json: args.target.json,
        left: args.limit.unwrap_or(u64::MAX),
        trouble: false,
        failed: None,
    };
    if printer.left == 0 {
        return Ok(Done::Fine);
    }
    loop {
        let flow = events.read(&log, |item| printer.item(item))?;
        if let Some(error) = printer.failed.take() {
            return Err(error.into());
        }
        printer.out.flush()?;
        if !args.follow || flow.is_break() || events.is_done() {
            break;
        }
        log = grown(&dir, &log, &mut printer.out)?;
    }
    Ok(if printer.trouble { Done::Trouble } else { Done::Fine })
}

/// Waits until the log has changed, and takes it anew.
fn grown(dir: &LogDir, log: &Snapshot, out: &mut impl Write) -> Result<Snapshot, Failure> {
    loop {
        std::thread::sleep(POLL);
        reader_is_there(out)?;
        let state = Snapshot::state_of(dir);
        if state.is_none() || state != log.state {
            return Ok(Snapshot::take(dir)?);
        }
    }
}

/// An idle log writes nothing to a pipe, so its reader's end has to be asked for.
fn reader_is_there(out: &mut impl Write) -> Result<(), Failure> {
    out.flush()?;
    let stdout = io::stdout();
    let mut fds = [rustix::event::PollFd::new(&stdout, rustix::event::PollFlags::empty())];
    let gone = rustix::event::PollFlags::ERR | rustix::event::PollFlags::HUP;
    let now = rustix::event::Timespec { tv_sec: 0, tv_nsec: 0 };
    match rustix::event::poll(&mut fds, Some(&now)) {
        Ok(_) if fds[0].revents().intersects(gone) => {
            Err(Failure::Write(io::ErrorKind::BrokenPipe.into()))
        }
        _ => Ok(()),
    }
}

struct Printer<'a, W: Write> {
    dir: &'a LogDir,
    /// Of a dead-letter log, the letters that are done with.
    settled: Option<Settled>,
    out: W,
    json: bool,
    left: u64,
    trouble: bool,
    failed: Option<io::Error>,
}

impl<W: Write> Printer<'_, W> {
    fn item(&mut self, item: Item<'_>) -> ControlFlow<()> {
        match item {
            Item::Event(event) if self.is_passed(&event) => {}
            Item::Event(event) => {
                if let Err(error) = self.event(&event) {
                    self.failed = Some(error);
                    return ControlFlow::Break(());
                }
                self.left -= 1;
                if self.left == 0 {
                    return ControlFlow::Break(());
                }
            }
            Item::Gap(range) => {
                let text = format!("offsets {}..{} are not there any more", range.start, range.end);
                self.say(&text);
            }
            Item::Damage(damage) => {
                let (file, hole) = (&damage.file, &damage.hole);
                let known = self.dir.is_quarantined(file, hole.position);
                self.trouble |= !known;
                let word = if known { "quarantined" } else { "damaged" };
                self.say(&format!(
                    "offsets {}..{} are {word}: {file} at byte {}: {}",
                    hole.from, hole.to, hole.position, hole.fault
                ));
            }
        }
        ControlFlow::Continue(())
    }

    /// Whether it is a letter that is settled, or holds no event.
    fn is_passed(&self, event: &EventRecord<'_>) -> bool {
        let Some(settled) = &self.settled else { return false };
        let letter = event.event.as_ref().and_then(|event| Letter::decode(event).ok());
        settled.contains(Offset(event.offset))
            || letter.is_some_and(|letter| letter.grave != Grave::Dead)
    }

    fn say(&mut self, text: &str) {
        let _ = self.out.flush(); // in order; a failure shows at the next line
        let _ = writeln!(io::stderr(), "walctl: {text}");
    }

    fn event(&mut self, event: &EventRecord<'_>) -> io::Result<()> {
        if self.json {
            return writeln!(self.out, "{}", json_event(event));
        }
        write!(self.out, "{} {} {{", event.offset, time(event.time_ms))?;
        let mut body = event.record;
        if let Some(event) = &event.event {
            for (i, (key, value)) in event.headers().enumerate() {
                let comma = if i > 0 { ", " } else { "" };
                write!(self.out, "{comma}{}={}", escape(key.as_bytes()), escape(value.as_bytes()))?;
            }
            body = event.body();
        }
        writeln!(self.out, "}} {}", escape(body))
    }
}
