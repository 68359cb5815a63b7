//! Opens what was harmed, reads everything, and judges it by what was promised.

use super::harm::{Harm, How};
use super::image::{Ending, HEADER, Image, JOURNAL, Part, What};
use crate::event::Records;
use crate::harness::{batch, record, stop_process};
use crate::inspect::{LogDir, verify};
use crate::log::{Log, LogError, LogOptions, MissingReason, OnCorruption, Opened};
use crate::offset::Offset;
use crate::sim::{End, Sim};
use byteorder::{ByteOrder, LE};
use std::collections::BTreeSet;
use std::sync::Arc;

/// What became of a harm.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Fate {
    /// Acknowledged bytes were hit: it was reported.
    Detected,
    /// Something was hit of which there is another copy, or which is not needed.
    Survived,
    /// Nothing proved that what was hit had been durable: it counts as never acknowledged.
    Torn,
    /// No structure was hit: a spare, padding, stale bytes.
    Unused,
}

/// Which parts of the image a harm has changed.
struct Hit<'a> {
    parts: Vec<&'a Part>,
    /// Nothing says any more what the file is: both headers are hit, or the file is not what it was.
    whole_file: bool,
}

/// What may be missing, and how loudly.
struct Promise {
    /// Offsets of batches that were hit.
    hit: BTreeSet<u64>,
    /// Those that are proved to have been durable.
    proved: BTreeSet<u64>,
    /// Offsets from here on may go without a word.
    torn_from: u64,
    /// First byte of the first batch that was hit and is proved.
    position: Option<usize>,
}

/// What opening and reading came to.
struct Found {
    delivered: BTreeSet<u64>,
    reported: BTreeSet<u64>,
    /// Damage that opening reported.
    damages: usize,
}

/// A harm on its image.
pub(super) struct Case<'a> {
    pub(super) image: &'a Image,
    pub(super) harm: &'a Harm,
}

impl Case<'_> {
    /// A disk with the harm done.
    pub(super) fn disk(&self) -> Sim {
        let sim = self.image.world.sim.kill();
        self.harm.apply(self.image, &sim);
        sim
    }

    /// Opens the disk both ways. Panics if a promise is broken.
    pub(super) fn check(&self, again: bool, look: bool) -> Fate {
        let sim = self.disk();
        let hit = self.hit(&sim);
        let promise = self.promise(&hit);
        let halted = self.open(&sim, OnCorruption::Halt);
        let refused = match halted {
            Err(error) => {
                self.check_refusal(&error, &promise, &hit);
                let same = !again || sim.fingerprint() == self.disk().fingerprint();
                assert!(same || self.in_journal(), "{self}: halt refuses, and changes something");
                true
            }
            Ok((log, opened)) => {
                let found = self.found(&log, &opened, &hit);
                stop_process(&sim, log);
                self.judge("halt", &found, &promise);
                assert_eq!(found.damages, 0, "{self}: halt opens in spite of damage");
                false
            }
        };
        // a refusal has changed nothing: what comes now finds the same
        let sim = if refused { sim } else { self.disk() };
        let (log, opened) = match self.open(&sim, OnCorruption::Quarantine) {
            Err(error) => panic!("{self}: quarantine does not open: {error}"),
            Ok(opened) => opened,
        };
        let found = self.found(&log, &opened, &hit);
        self.judge("quarantine", &found, &promise);
        assert_eq!(refused, found.damages > 0, "{self}: halt refuses what quarantine reports");
        if again {
            self.check_again(&sim, log, &found);
        } else {
            stop_process(&sim, log);
        }
        let fate = self.fate(&hit, &promise, &found);
        if look {
            self.check_verify(&hit, refused || fate == Fate::Detected);
        }
        fate
    }

    fn open(&self, sim: &Sim, on_corruption: OnCorruption) -> Result<(Log, Opened), LogError> {
        let options = LogOptions { on_corruption, ..self.image.world.options() };
        Log::open(Arc::new(sim.clone()), options)
    }

    fn hit(&self, sim: &Sim) -> Hit<'_> {
        let of_file = self.image.parts.iter().filter(|part| part.file == self.harm.file);
        if let How::Flip { bit } = self.harm.how {
            let parts = of_file.filter(|part| part.bytes.contains(&(bit / 8))).collect();
            return Hit { parts, whole_file: false };
        }
        let gone = matches!(self.harm.how, How::Lose);
        let bytes = if gone { Vec::new() } else { sim.bytes(&self.harm.file) };
        let Some(before) = self.image.files.get(&self.harm.file) else {
            return Hit { parts: Vec::new(), whole_file: false };
        };
        let changed =
            |part: &&Part| bytes.get(part.bytes.clone()) != before.get(part.bytes.clone());
        let parts: Vec<_> = of_file.filter(changed).collect();
        let headers = parts.iter().filter(|part| part.what == What::Header).count();
        let whole_file = headers == 2 || bytes.len() != before.len();
        Hit { parts, whole_file }
    }

    /// How far the log is known to have been durable, by what was not hit.
    fn evidence(&self, hit: &Hit<'_>) -> u64 {
        let image = self.image;
        let mut lsn =
            if hit.parts.iter().any(|part| part.what == What::State) { 0 } else { image.state_lsn };
        let spared = |part: &&Part| !hit.parts.iter().any(|hit| std::ptr::eq(*hit, *part));
        let records = image.parts.iter().filter(spared).filter_map(|part| match part.what {
            What::Cursors { generation, durable_lsn, .. } => Some((generation, durable_lsn)),
            _ => None,
        });
        lsn = lsn.max(records.max().map_or(0, |(_, durable_lsn)| durable_lsn));
        let last = image.pieces.last().expect("the log has segments");
        if hit.whole_file && self.harm.file == last.name {
            return lsn;
        }
        let headers = image.batches(&last.name).filter(|part| !self.header_hit(part, hit));
        let told = headers.filter_map(|part| match part.what {
            What::Batch { durable_lsn, .. } => Some(durable_lsn),
            _ => None,
        });
        lsn.max(told.max().unwrap_or(0))
    }

    /// Whether a batch's header is hit, and not its payload alone.
    fn header_hit(&self, part: &Part, hit: &Hit<'_>) -> bool {
        let header = part.bytes.start..part.bytes.start + HEADER;
        let among = hit.parts.iter().any(|other| std::ptr::eq(*other, part));
        match self.harm.how {
            How::Flip { bit } => among && header.contains(&(bit / 8)),
            _ => among, // it may be: such evidence is not counted on
        }
    }

    fn promise(&self, hit: &Hit<'_>) -> Promise {
        let mut promise = Promise {
            hit: BTreeSet::new(),
            proved: BTreeSet::new(),
            torn_from: u64::MAX,
            position: None,
        };
        let last = self.image.pieces.last().expect("the log has segments");
        let in_last = self.harm.file == last.name;
        let trailer = last.sealed
            && !hit.whole_file
            && !hit.parts.iter().any(|part| part.what == What::Trailer);
        let evidence = if in_last && !trailer { self.evidence(hit) } else { u64::MAX };
        let batches: Vec<&Part> = match hit.whole_file {
            true => self.image.batches(&self.harm.file).collect(),
            false => hit.parts.clone(),
        };
        for part in batches {
            let What::Batch { lsn, offsets, .. } = &part.what else { continue };
            let needed = offsets.start.max(self.image.first())..offsets.end;
            promise.hit.extend(needed.clone());
            if *lsn < evidence {
                promise.proved.extend(needed);
                promise.position.get_or_insert(part.bytes.start);
            } else {
                promise.torn_from = promise.torn_from.min(offsets.start);
            }
        }
        promise
    }

    fn found(&self, log: &Log, opened: &Opened, hit: &Hit<'_>) -> Found {
        let tail = log.tails().tail;
        let first = self.image.first();
        let read = match log.reader().read(Offset(first)..tail, u64::MAX) {
            Err(error) => panic!("{self}: reading fails: {error}"),
            Ok(read) => read,
        };
        let mut delivered = BTreeSet::new();
        for part in read.batch.parts() {
            for (at, record) in (part.first.0..).zip(Records::new(&part.records)) {
                let put = self.image.world.records.get(&at).map(|put| &**put);
                assert_eq!(Some(record), put, "{self}: offset {at} is not what was put");
                delivered.insert(at);
            }
        }
        let mut reported = BTreeSet::new();
        for missing in read.missing {
            if let MissingReason::Damaged { .. } = missing.reason {
                reported.extend(missing.range.start.0..missing.range.end.0);
            }
        }
        let damage = &opened.report.damage;
        damage.iter().for_each(|damage| reported.extend(damage.hole.from..damage.hole.to));
        self.check_cursors(opened, hit);
        Found { delivered, reported, damages: damage.len() }
    }

    /// Every offset is there, or was hit and is missed aloud, or nothing proves that it was durable.
    fn judge(&self, how: &str, found: &Found, promise: &Promise) {
        let image = self.image;
        for at in image.first()..image.world.end() {
            if found.delivered.contains(&at) {
                let hit = promise.hit.contains(&at) && self.is_flip();
                assert!(!hit, "{self}: {how}: offset {at} was hit, and is delivered");
                continue;
            }
            let torn = at >= promise.torn_from;
            let hit = promise.hit.contains(&at);
            assert!(hit || torn, "{self}: {how}: offset {at} was not hit, and is not delivered");
            let told = found.reported.contains(&at) || torn;
            assert!(told, "{self}: {how}: offset {at} is lost without a word");
        }
    }

    fn in_journal(&self) -> bool {
        JOURNAL.contains(&&*self.harm.file)
    }

    fn is_flip(&self) -> bool {
        matches!(self.harm.how, How::Flip { .. })
    }

    /// One bit of META's epoch makes a copy of the next start's, torn by a power cut.
    fn tells_of_next_start(&self) -> bool {
        let epoch = matches!(self.harm.how, How::Flip { bit } if bit == 32 * 8 + 1);
        epoch && self.image.ending == Ending::PowerCut
    }

    /// The refusal names the place.
    fn check_refusal(&self, error: &LogError, promise: &Promise, hit: &Hit<'_>) {
        match error {
            // an older record says that reclaimed offsets are still needed
            LogError::Damaged { .. } if self.in_journal() => {}
            LogError::Damaged { file, position, .. } => {
                assert_eq!(*file, self.harm.file, "{self}: {error}");
                let known = !hit.whole_file && !promise.proved.is_empty();
                let at = promise.position.filter(|_| known && self.is_flip());
                assert!(at.is_none_or(|at| at as u64 == *position), "{self}: {error}");
            }
            LogError::MissingSegment { missing } => {
                let file = crate::log::segment_name(*missing);
                assert_eq!(file, self.harm.file, "{self}: {error}");
            }
            error => panic!("{self}: {error}"),
        }
    }

    /// The newest record that was not hit counts, or one that is as new.
    fn check_cursors(&self, opened: &Opened, hit: &Hit<'_>) {
        let spared = |part: &&Part| !hit.parts.iter().any(|hit| std::ptr::eq(*hit, *part));
        let records = self.image.parts.iter().filter(spared).filter_map(|part| match part.what {
            What::Cursors { generation, number, .. } => Some((generation, number)),
            _ => None,
        });
        let least = records.max().map_or(0, |(_, number)| number);
        let cursors = opened.cursors.as_deref().map_or(0, LE::read_u64);
        assert!(cursors >= least, "{self}: cursors {least} became {cursors}");
        let saved = self.image.world.saved;
        assert!(cursors <= saved, "{self}: cursors {cursors} were never saved");
    }

    /// Opening again finds the same, and takes a new event behind it.
    fn check_again(&self, sim: &Sim, log: Log, found: &Found) {
        let number = u64::MAX;
        let put = log.put(batch(&[record(number, 100)]));
        let put = put.unwrap_or_else(|error| panic!("{self}: no put: {error}"));
        let last = found.delivered.last().copied();
        assert!(last.is_none_or(|last| last < put.start.0), "{self}: offset used again");
        stop_process(sim, log);
        let sim = sim.restart(End::Kill);
        let (log, _) = match self.open(&sim, OnCorruption::Quarantine) {
            Err(error) => panic!("{self}: does not open again: {error}"),
            Ok(opened) => opened,
        };
        let range = Offset(self.image.first())..put.end;
        let read = log.reader().read(range, u64::MAX).expect("the disk is well");
        let mut delivered = BTreeSet::new();
        for part in read.batch.parts() {
            delivered.extend(part.first.0..part.first.0 + u64::from(part.count));
        }
        assert!(delivered.remove(&put.start.0), "{self}: the new event is lost");
        assert_eq!(delivered, found.delivered, "{self}: opening again finds something else");
        stop_process(&sim, log);
    }

    fn fate(&self, hit: &Hit<'_>, promise: &Promise, found: &Found) -> Fate {
        let silent = |at: &u64| !found.delivered.contains(at) && !found.reported.contains(at);
        let mut offsets = self.image.first()..self.image.world.end();
        if !promise.proved.is_empty() {
            Fate::Detected
        } else if promise.torn_from != u64::MAX || offsets.any(|at| silent(&at)) {
            Fate::Torn
        } else if hit.parts.is_empty() {
            Fate::Unused
        } else {
            Fate::Survived
        }
    }

    /// The checker sees what opening saw, and each copy that is not good any more.
    fn check_verify(&self, hit: &Hit<'_>, damage: bool) {
        let report = verify(&LogDir::on(Arc::new(self.disk())));
        let report = match report {
            Err(_) => return, // it says that it can't look
            Ok(report) => report,
        };
        let newest = self.image.parts.iter().filter_map(|part| match part.what {
            What::Cursors { generation, .. } => Some(generation),
            _ => None,
        });
        let newest = newest.max();
        let plain = matches!(self.harm.how, How::Flip { .. } | How::Zero { .. });
        let copy = plain
            && hit.parts.iter().any(|part| match part.what {
                What::Header | What::Seal | What::Trailer => true,
                What::Meta => self.is_flip() && !self.tells_of_next_start(),
                // above the newest record nothing says that there was one
                What::Cursors { generation, .. } => Some(generation) != newest,
                What::State | What::Batch { .. } => false,
            });
        assert!(!(damage || copy) || !report.ok, "{self}: verify finds nothing: {report:?}");
    }
}

impl std::fmt::Display for Case<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let end = match self.image.ending {
            Ending::Closed => "closed log",
            Ending::Killed => "killed log",
            Ending::PowerCut => "log after a power cut",
        };
        write!(f, "{end}, {}", self.harm)
    }
}
