//! The dead-letter log: each letter once, whatever fails; what is counted, settled, given back.

use super::*;
use crate::channel::letter::{REDRIVES, redrives_of};
use crate::event::{Event, EventRef, Records};
use crate::harness::quiet;
use crate::sim::{End, Plan, Sim};
use std::collections::{BTreeMap, BTreeSet};

/// The letter of the event at `offset`: of every third the range is lost, not kept.
fn letter(offset: u64) -> Letter {
    Letter {
        grave: if offset % 3 == 2 { Grave::Lost } else { Grave::Dead },
        channel: "c".into(),
        group: if offset.is_multiple_of(2) { "even" } else { "odd" }.into(),
        sink: format!("k{}", offset % 5),
        range: Offset(offset)..Offset(offset + 1),
        appended_ms: 1,
        cause: "refused".into(),
        reason: format!("refused event {offset}"),
        attempts: 1,
        time_ms: 1_000 + offset,
        redrives: (offset % 4) as u32,
        event: Event {
            headers: vec![("n".into(), offset.to_string())],
            body: vec![offset as u8; 2_500],
        },
    }
}

fn letters(offsets: impl IntoIterator<Item = u64>) -> Vec<Letter> {
    offsets.into_iter().map(letter).collect()
}

fn on(sim: &Sim) -> DeadLog {
    DeadLog::on(Arc::new(sim.clone()), quiet())
}

/// The origins of letters.
fn origins(letters: Letters) -> Vec<u64> {
    letters.map(|read| read.unwrap().letter.range.start.0).collect()
}

fn open_of(dead: &mut DeadLog) -> Vec<u64> {
    origins(dead.open_letters().unwrap())
}

fn state(name: &str, dead_tail: u64) -> GroupState {
    GroupState { name: name.into(), dead_tail: Offset(dead_tail), ..GroupState::default() }
}

#[test]
fn log_is_not_made_before_the_first_letter() {
    let sim = Sim::new(1);
    let mut dead = on(&sim);
    assert_eq!(dead.tail().unwrap(), Offset(0));
    assert_eq!(dead.append(&[]).unwrap(), Offset(0)..Offset(0));
    assert_eq!(dead.open_count().unwrap(), OpenCount::default());
    assert_eq!(dead.uncounted(&[state("even", 0)], "c").unwrap(), []);
    dead.settle(&[Offset(0)..Offset(9)]).unwrap();
    assert_eq!(dead.reclaim(Offset(9)).unwrap(), 0);
    dead.close().unwrap();
    assert!(sim.image().is_empty());
    assert_eq!(dead.append(&letters(0..3)).unwrap(), Offset(0)..Offset(3));
    dead.close().unwrap();
    let mut dead = on(&sim);
    assert_eq!(dead.tail().unwrap(), Offset(3));
    let all: Vec<_> = dead.open_letters().unwrap().map(|read| read.unwrap().letter).collect();
    assert_eq!(all, letters(0..3));
}

#[test]
fn letters_above_a_groups_saved_tail_are_uncounted() {
    let sim = Sim::new(1);
    let mut dead = on(&sim);
    let mut other = letter(1);
    other.channel = "d".into();
    dead.append(&[letters(0..8), vec![other]].concat()).unwrap();
    let mut told = |states: &[GroupState]| {
        let uncounted = dead.uncounted(states, "c").unwrap();
        let tell = |u: Uncounted| {
            assert_eq!(u.dead_tail, Offset(9));
            (u.group, u.grave.word(), u.range.start.0..u.range.end.0)
        };
        uncounted.into_iter().map(tell).collect::<Vec<_>>()
    };
    let odd = |grave, range| ("odd".to_owned(), grave, range);
    let even = |grave, range| ("even".to_owned(), grave, range);
    assert_eq!(told(&[state("odd", 4), state("even", 9)]), [odd("lost", 5..6), odd("dead", 7..8)]);
    let all = [odd("lost", 5..6), even("dead", 6..7), odd("dead", 7..8)];
    assert_eq!(told(&[state("even", 5), state("odd", 5)]), all);
    assert_eq!(told(&[state("even", 9), state("none", 0)]), []);
    // a tail beyond the log's is another log's: everything here is told
    assert_eq!(told(&[state("odd", 99)]).len(), 4);
}

#[test]
fn uncounted_letters_that_touch_are_one_range() {
    let sim = Sim::new(1);
    let mut dead = on(&sim);
    let of = |offset| Letter { group: "g".into(), grave: Grave::Dead, ..letter(offset) };
    dead.append(&[4, 5, 3, 9].map(of)).unwrap();
    let uncounted = dead.uncounted(&[state("g", 0)], "c").unwrap();
    let ranges: Vec<_> = uncounted.into_iter().map(|u| u.range).collect();
    assert_eq!(ranges, [Offset(3)..Offset(6), Offset(9)..Offset(10)]);
}

#[test]
fn settled_letters_are_not_open_and_their_segments_go_once_counted() {
    let sim = Sim::new(1);
    let mut dead = on(&sim);
    for i in 0..20 {
        dead.append(&letters(i * 4..i * 4 + 4)).unwrap();
    }
    assert_eq!(dead.open_count().unwrap(), OpenCount { dead: 54, lost: 26, expired: 0 });
    dead.settle(&[Offset(1)..Offset(60), Offset(70)..Offset(999)]).unwrap();
    let left: Vec<u64> = [0].into_iter().chain(60..70).collect();
    assert_eq!(open_of(&mut dead), left);
    let count = dead.open_count().unwrap();
    assert_eq!(dead.reclaim(Offset(80)).unwrap(), 0, "the first letter is open");
    dead.settle(&[Offset(0)..Offset(1)]).unwrap();
    assert_eq!(dead.reclaim(Offset(3)).unwrap(), 0, "most are not counted");
    assert!(dead.reclaim(Offset(80)).unwrap() > 0);
    assert_eq!(dead.letters(Offset(0)..Offset(1)).unwrap().count(), 0, "it is gone");
    dead.close().unwrap();
    let mut dead = on(&sim);
    assert_eq!(open_of(&mut dead), left[1..]);
    assert_eq!(dead.tail().unwrap(), Offset(80));
    let recount = dead.open_count().unwrap();
    assert_eq!(recount, OpenCount { dead: count.dead - 1, ..count }, "counts are kept as told");
    assert_eq!(dead.append(&letters([80])).unwrap(), Offset(80)..Offset(81));
    assert_eq!(dead.open_count().unwrap().lost, recount.lost + 1);
}

#[test]
fn full_log_says_so_and_takes_letters_again_when_some_are_gone() {
    let sim = Sim::new(1);
    let options = LogOptions { capacity_bytes: 256 << 10, ..quiet() };
    let mut dead = DeadLog::on(Arc::new(sim.clone()), options);
    let error = dead.append(&letters(0..600)).unwrap_err();
    assert!(matches!(error.error, DeadError::Full { .. }), "{error}");
    let written = error.written as u64;
    assert!((20..600).contains(&written), "{written} letters");
    assert_eq!(dead.tail().unwrap(), Offset(written), "those told as written, and no other");
    assert_eq!(dead.poisoned(), None);
    dead.settle(&[Offset(0)..Offset(written)]).unwrap();
    assert!(dead.reclaim(Offset(written)).unwrap() > 0);
    dead.append(&letters(written..written + 10)).unwrap();
}

#[test]
fn letter_larger_than_a_segment_gets_larger_segments() {
    let sim = Sim::new(1);
    let mut dead = on(&sim);
    let mut large = letter(1);
    large.event.body = vec![7; 300 << 10];
    let all = [letters([0]), vec![large.clone()], letters([3])].concat();
    assert_eq!(dead.append(&all).unwrap(), Offset(0)..Offset(3));
    dead.close().unwrap();
    let mut dead = on(&sim);
    dead.append(&letters([4])).unwrap();
    dead.append(&[Letter { range: Offset(5)..Offset(6), ..large }]).unwrap();
    assert_eq!(open_of(&mut dead), [0, 1, 3, 4, 5]);
}

/// What a run of [`Trace`] has been told, against which the log is held.
struct Trace {
    sim: Sim,
    /// Events below that are to be buried.
    next: u64,
    /// Events that need no letter any more, as the dispatcher would know.
    buried: BTreeSet<u64>,
    /// `dead_tail` of the cursors that are saved.
    saved: Offset,
    /// Which of `buried` the saved cursors count.
    counted: BTreeSet<u64>,
    /// Letters that are settled for certain; those that may be.
    settled: BTreeSet<u64>,
    maybe_settled: BTreeSet<u64>,
}

impl Trace {
    fn new() -> Trace {
        Trace {
            sim: Sim::new(3),
            next: 0,
            buried: BTreeSet::new(),
            saved: Offset(0),
            counted: BTreeSet::new(),
            settled: BTreeSet::new(),
            maybe_settled: BTreeSet::new(),
        }
    }

    /// What the agent does at its start, then some work; whether it came through.
    fn live(&mut self, steps: u64) -> Result<(), DeadError> {
        let mut dead = on(&self.sim);
        let done = self.work(&mut dead, steps);
        self.sim.stop();
        drop(dead);
        done
    }

    fn work(&mut self, dead: &mut DeadLog, steps: u64) -> Result<(), DeadError> {
        let acknowledged = std::mem::replace(&mut self.buried, self.counted.clone());
        let states = ["even", "odd"].map(|name| state(name, self.saved.0));
        let told = dead.uncounted(&states, "c").inspect_err(|_| {
            self.buried = acknowledged.clone(); // told at the next start
        })?;
        for told in told {
            for offset in told.range.start.0..told.range.end.0 {
                assert!(self.buried.insert(offset), "letter {offset} is counted and uncounted");
            }
        }
        assert!(self.buried.is_superset(&acknowledged), "an acknowledged letter is gone");
        self.check_settled(dead)?;
        for step in 0..steps {
            self.next += 1 + step % 3 * 4;
            self.bury(dead)?;
            if step % 3 == 1 {
                (self.saved, self.counted) = (dead.tail()?, self.buried.clone());
            }
            if step % 4 == 2 {
                self.settle(dead, step)?;
            }
            if step % 5 == 4 {
                dead.reclaim(self.saved)?;
            }
        }
        dead.close()
    }

    /// Buries what is not buried; a refusal that is no failure of the log is tried again.
    fn bury(&mut self, dead: &mut DeadLog) -> Result<(), DeadError> {
        for _ in 0..2 {
            let open: Vec<u64> = (0..self.next).filter(|o| !self.buried.contains(o)).collect();
            match dead.append(&letters(open.iter().copied())) {
                Ok(range) => {
                    assert_eq!(range.end.since(range.start), open.len() as u64);
                    self.buried.extend(open);
                    return Ok(());
                }
                Err(AppendError { written, error }) => {
                    self.buried.extend(&open[..written]);
                    if dead.poisoned().is_some() || self.sim.crashed() {
                        return Err(error);
                    }
                }
            }
        }
        Ok(())
    }

    fn settle(&mut self, dead: &mut DeadLog, step: u64) -> Result<(), DeadError> {
        let open: Vec<_> = dead.open_letters()?.collect::<Result<_, _>>()?;
        let some = open.iter().filter(|l| l.offset.0 % 7 != step % 7 || step > 5);
        let some: Vec<_> = some.take(20).collect();
        let origin = |letter: &&DeadLetter| letter.letter.range.start.0;
        self.maybe_settled.extend(some.iter().map(origin));
        let ranges: Vec<_> = some.iter().map(|l| l.offset..l.offset.plus(1)).collect();
        dead.settle(&ranges)?;
        self.settled.extend(some.iter().map(origin));
        Ok(())
    }

    /// Open is what was buried and never settled; a letter is there once.
    fn check_settled(&self, dead: &mut DeadLog) -> Result<(), DeadError> {
        let mut seen = BTreeMap::<u64, u32>::new();
        for letter in dead.letters(Offset(0)..Offset(u64::MAX >> 2))? {
            *seen.entry(letter?.letter.range.start.0).or_default() += 1;
        }
        assert!(seen.values().all(|count| *count == 1), "a letter is there twice: {seen:?}");
        let open: BTreeSet<u64> = dead
            .open_letters()?
            .map(|l| l.map(|l| l.letter.range.start.0))
            .collect::<Result<_, _>>()?;
        assert!(open.is_disjoint(&self.settled), "a settled letter is open");
        for offset in &self.buried {
            let open = open.contains(offset) || self.maybe_settled.contains(offset);
            assert!(open, "letter {offset} is gone");
        }
        Ok(())
    }

    /// A well disk: everything gets its letter.
    fn finish(&mut self, end: End) {
        self.sim = self.sim.restart(end);
        self.live(3).unwrap();
        self.sim = self.sim.restart(End::PowerCut);
        self.live(1).unwrap();
        assert_eq!(self.buried.len() as u64, self.next);
    }
}

/// Runs the trace with each call of it gone wrong by `harm`, and what is left then found by `end`.
fn at_each_call(end: End, harm: impl Fn(&Sim, usize)) {
    let mut whole = Trace::new();
    whole.live(8).unwrap();
    let calls = whole.sim.call_count();
    assert!(calls > 40, "{calls} calls");
    for at in 0..calls {
        let mut trace = Trace::new();
        harm(&trace.sim, at);
        let _ = trace.live(8); // it may end in any way
        trace.finish(end);
    }
}

#[test]
fn letter_exists_once_whichever_call_the_process_dies_in() {
    at_each_call(End::Kill, Sim::crash_after);
}

#[test]
fn letter_exists_once_whichever_call_the_power_goes_in() {
    at_each_call(End::PowerCut, Sim::crash_after);
}

#[test]
fn letter_exists_once_whichever_call_fails() {
    at_each_call(End::Kill, |sim, at| sim.fail(Some(Plan::once(at))));
    at_each_call(End::PowerCut, |sim, at| sim.fail(Some(Plan::once(at))));
}

#[test]
fn letter_exists_once_from_whichever_call_on_the_disk_fails() {
    let for_ever = |at| Plan { for_ever: true, ..Plan::once(at) };
    at_each_call(End::PowerCut, |sim, at| sim.fail(Some(for_ever(at))));
    at_each_call(End::Kill, |sim, at| sim.fail(Some(Plan { errno: 28, ..for_ever(at) })));
}

fn event_numbers(batch: &BatchBuilder) -> Vec<u64> {
    let events = Records::new(batch.records()).filter_map(EventRef::decode);
    events.map(|event| event.header("n").unwrap().parse().unwrap()).collect()
}

#[test]
fn redriven_events_are_put_before_their_letters_are_settled() {
    let sim = Sim::new(1);
    let mut dead = on(&sim);
    dead.append(&letters(0..20)).unwrap();
    let mut options = Redrive { batch_events_max: 3, dry_run: true, ..Redrive::default() };
    let never = |_| -> Result<(), String> { panic!("a dry run puts nothing") };
    // of 20 letters 14 hold events, and those at 3, 7, 15, 19 were re-driven three times
    let expected = Redriven { events: 10, skipped: 4 };
    let all = LetterFilter::dead();
    assert_eq!(redrive(&mut dead, &all, &options, never).unwrap(), expected);
    options.dry_run = false;
    let mut got = Vec::new();
    let third_fails = |batch: BatchBuilder| match got.len() < 6 {
        true => {
            got.extend(event_numbers(&batch));
            Ok(())
        }
        false => Err("the channel is full"),
    };
    let error = redrive(&mut dead, &all, &options, third_fails).unwrap_err();
    assert!(matches!(error, RedriveError::Put { done: Redriven { events: 6, .. }, .. }), "{error}");
    assert_eq!(got, [0, 1, 4, 6, 9, 10]);
    let open = open_of(&mut dead);
    assert!(got.iter().all(|offset| !open.contains(offset)) && open.len() == 14, "{open:?}");
    let mut marks = Vec::new();
    let rest = redrive(&mut dead, &all, &options, |batch| {
        let events = Records::new(batch.records()).filter_map(EventRef::decode);
        marks.extend(
            events.map(|event| (event.header(REDRIVES).map(str::to_owned), redrives_of(&event))),
        );
        Ok::<(), String>(())
    });
    assert_eq!(rest.unwrap().events, 4);
    let mark = |n: u32| (Some(n.to_string()), n);
    assert_eq!(marks, [mark(1), mark(2), mark(1), mark(3)], "events 12, 13, 16 and 18");
    let kept: Vec<u64> = vec![2, 3, 5, 7, 8, 11, 14, 15, 17, 19];
    assert_eq!(open_of(&mut dead), kept, "losses, and what went round too often");
}

/// The put is durable and the machine dies before the letters are settled: they are there again.
#[test]
fn redrive_that_dies_between_put_and_settle_loses_nothing() {
    let sim = Sim::new(1);
    on(&sim).append(&letters([0, 1, 4])).unwrap();
    let mut dead = on(&sim);
    let mut put = Vec::new();
    let died = redrive(&mut dead, &LetterFilter::dead(), &Redrive::default(), |batch| {
        put.extend(event_numbers(&batch));
        sim.stop();
        Ok::<(), String>(())
    });
    assert!(matches!(died, Err(RedriveError::Settle { unsettled: 3, .. })), "{died:?}");
    assert_eq!(put, [0, 1, 4]);
    drop(dead);
    assert_eq!(open_of(&mut on(&sim.restart(End::PowerCut))), [0, 1, 4]);
}

#[test]
fn purge_takes_what_the_filter_means() {
    let sim = Sim::new(1);
    let mut dead = on(&sim);
    dead.append(&letters(0..20)).unwrap();
    let odd = LetterFilter { group: Some("odd".into()), ..LetterFilter::dead() };
    assert_eq!(purge(&mut dead, &odd, true).unwrap(), Purged { letters: 7 });
    assert_eq!(open_of(&mut dead).len(), 20);
    let two = LetterFilter { limit: Some(2), ..odd.clone() };
    assert_eq!(purge(&mut dead, &two, false).unwrap(), Purged { letters: 2 });
    assert_eq!(purge(&mut dead, &odd, false).unwrap(), Purged { letters: 5 });
    assert_eq!(dead.open_count().unwrap(), OpenCount { dead: 7, lost: 6, expired: 0 });
    assert_eq!(purge(&mut dead, &LetterFilter::losses(), false).unwrap().letters, 6);
    assert_eq!(open_of(&mut dead), [0, 4, 6, 10, 12, 16, 18]);
    // the last segment stays, whatever it holds
    assert_eq!(purge(&mut dead, &LetterFilter::default(), false).unwrap().letters, 7);
    assert!(open_of(&mut dead).is_empty());
}

#[test]
fn filter_means_letters_that_everything_in_it_fits() {
    let check = |filter: LetterFilter, expected: &[u64]| {
        let fits = (0..20).filter(|offset| filter.matches(&letter(*offset)));
        assert_eq!(fits.collect::<Vec<_>>(), expected, "{filter:?}");
    };
    let word = |text: &str| Some(text.to_owned());
    let all = LetterFilter::default;
    check(LetterFilter { sink: word("k3"), ..all() }, &[3, 8, 13, 18]);
    check(LetterFilter { sink: word("k3"), group: word("odd"), ..all() }, &[3, 13]);
    check(LetterFilter { sink: word("k3"), ..LetterFilter::losses() }, &[8]);
    check(
        LetterFilter { reason: word("event 1"), to: Some(Place::Offset(Offset(11))), ..all() },
        &[1, 10],
    );
    check(LetterFilter { cause: word("timeout"), ..all() }, &[]);
    check(LetterFilter { headers: vec![("n".into(), "7".into())], ..all() }, &[7]);
    check(LetterFilter { headers: vec![("m".into(), "7".into())], ..all() }, &[]);
    let (from, to) = (Some(Place::Time(1_017)), Some(Place::Time(1_019)));
    check(LetterFilter { from, to, ..all() }, &[17, 18]);
    let mut range = letter(3);
    range.range.end = Offset(9);
    let from = |offset| LetterFilter { from: Some(Place::Offset(Offset(offset))), ..all() };
    assert!(from(8).matches(&range) && !from(9).matches(&range));
}

/// Re-driving is interrupted at each of its calls, and asked for again: every event is put, at most
/// one batch of them twice, and no letter is left that should go.
#[test]
fn interrupted_redrive_puts_every_event_and_few_twice() {
    let meant: Vec<u64> = (0..30).filter(|n| n % 3 != 2 && n % 4 != 3).collect();
    let options = Redrive { batch_events_max: 4, ..Redrive::default() };
    let mut interrupted = 0;
    for at in 0.. {
        let sim = Sim::new(at as u64);
        on(&sim).append(&letters(0..30)).unwrap();
        let mut put = Vec::new();
        let mut run = |dead: &mut DeadLog| {
            redrive(dead, &LetterFilter::dead(), &options, |batch| {
                put.extend(event_numbers(&batch));
                Ok::<(), String>(())
            })
        };
        let mut dead = on(&sim);
        match at % 2 {
            0 => sim.crash_after(at / 2),
            _ => sim.fail(Some(Plan::once(sim.call_count() + at / 2))),
        }
        let first = run(&mut dead);
        let through = first.is_ok() && !sim.crashed() && sim.failed().is_none();
        sim.stop();
        drop(dead);
        let mut dead = on(&sim.restart(if at % 4 < 2 { End::PowerCut } else { End::Kill }));
        run(&mut dead).unwrap();
        assert!(open_of(&mut dead).iter().all(|n| !meant.contains(n)));
        assert!(put.len() <= meant.len() + 4, "{put:?}");
        put.sort_unstable();
        put.dedup();
        assert_eq!(put, meant);
        if through && at % 2 == 1 {
            break;
        }
        interrupted += usize::from(first.is_err());
    }
    assert!(interrupted > 10, "{interrupted} runs");
}
