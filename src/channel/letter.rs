//! A letter: what the dead-letter log keeps of an event, or of a range that was given up.
//!
//! It is stored as an event, so that every tool that reads a log reads letters: the event's own
//! headers and body as they were, then [`HEADERS`] in this order behind them. An event that brings
//! headers of these names keeps them: only the last ones count.

use crate::event::{Event, EventRef, encode_event};
use crate::fate::Grave;
use crate::offset::{Offset, OffsetRange};

/// The headers behind an event's own, in this order.
pub const HEADERS: [&str; 12] = [
    "levada.dead.grave",
    "levada.dead.channel",
    "levada.dead.group",
    "levada.dead.sink",
    "levada.dead.from",
    "levada.dead.to",
    "levada.dead.appended_ms",
    "levada.dead.cause",
    "levada.dead.reason",
    "levada.dead.attempts",
    "levada.dead.time_ms",
    "levada.dead.redrives",
];

/// The header that a re-driven event carries: how often it was, so that no event goes round for ever.
pub const REDRIVES: &str = "levada.redrives";

/// The longest reason that is kept, bytes.
pub const REASON_MAX: usize = 1024;

/// What is kept.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Letter {
    /// What became of it.
    pub grave: Grave,
    /// The channel it lay in.
    pub channel: String,
    /// The group it was to go to.
    pub group: String,
    /// The sink that failed it last; empty if none ever had it.
    pub sink: String,
    /// Its offset in the channel's log; more than one for ranges that were given up.
    pub range: OffsetRange,
    /// When the channel took it (the first of a range), ms since 1970.
    pub appended_ms: u64,
    /// What kind of failure was the last, by [`crate::fate::Cause::word`]; empty if there was none.
    pub cause: String,
    /// What the sink said, at most [`REASON_MAX`] bytes.
    pub reason: String,
    /// Deliveries begun.
    pub attempts: u32,
    /// When it was given up, ms since 1970.
    pub time_ms: u64,
    /// How often it had been re-driven before.
    pub redrives: u32,
    /// The event, byte for byte; without headers and body for ranges that were given up.
    pub event: Event,
}

/// Why an event is no letter.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum LetterError {
    /// Its last headers are not [`HEADERS`].
    #[error("its last headers are not the twelve of a letter ('levada.dead.grave' … 'redrives')")]
    NotALetter,
    /// One of them has a value that can't be.
    #[error("its header '{name}' is '{value}', which can't be")]
    Value {
        /// Its name.
        name: &'static str,
        /// Its value.
        value: String,
    },
}

impl Letter {
    /// Appends the bytes of the letter, an event's, to `out`.
    pub fn encode(&self, out: &mut Vec<u8>) {
        let own = self.event.headers.iter().map(|(name, value)| (name.as_str(), value.as_str()));
        let numbers = [self.range.start.0, self.range.end.0, self.appended_ms];
        let [from, to, appended] = numbers.map(|number| number.to_string());
        let (attempts, time) = (self.attempts.to_string(), self.time_ms.to_string());
        let redrives = self.redrives.to_string();
        let values: [&str; 12] = [
            self.grave.word(),
            &self.channel,
            &self.group,
            &self.sink,
            &from,
            &to,
            &appended,
            &self.cause,
            cut(&self.reason),
            &attempts,
            &time,
            &redrives,
        ];
        encode_event(own.chain(HEADERS.into_iter().zip(values)), &self.event.body, out);
    }

    /// Reads a letter.
    ///
    /// # Errors
    /// The event is none.
    pub fn decode(event: &EventRef<'_>) -> Result<Letter, LetterError> {
        let headers: Vec<_> = event.headers().collect();
        let split = headers.len().checked_sub(HEADERS.len()).ok_or(LetterError::NotALetter)?;
        let (own, last) = headers.split_at(split);
        if !last.iter().map(|(name, _)| *name).eq(HEADERS) {
            return Err(LetterError::NotALetter);
        }
        let text = |i: usize| last[i].1.to_owned();
        let range = Offset(number(last, 4)?)..Offset(number(last, 5)?);
        let grave = GRAVES.into_iter().find(|grave| grave.word() == last[0].1);
        if range.is_empty() {
            return Err(wrong(last, 5));
        }
        Ok(Letter {
            grave: grave.ok_or_else(|| wrong(last, 0))?,
            channel: text(1),
            group: text(2),
            sink: text(3),
            range,
            appended_ms: number(last, 6)?,
            cause: text(7),
            reason: text(8),
            attempts: number(last, 9)?,
            time_ms: number(last, 10)?,
            redrives: number(last, 11)?,
            event: Event {
                headers: own.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect(),
                body: event.body().to_vec(),
            },
        })
    }

    /// The event as it goes back into its channel: its own, with [`REDRIVES`] one higher.
    pub fn redriven(&self) -> Event {
        let mut event = self.event.clone();
        event.headers.retain(|(name, _)| name != REDRIVES);
        event.headers.push((REDRIVES.to_owned(), self.redrives.saturating_add(1).to_string()));
        event
    }
}

/// How often an event was re-driven, by its header [`REDRIVES`]; 0 if that is no number.
pub fn redrives_of(event: &EventRef<'_>) -> u32 {
    event.header(REDRIVES).and_then(|value| value.parse().ok()).unwrap_or(0)
}

const GRAVES: [Grave; 3] = [Grave::Dead, Grave::Lost, Grave::Expired];

/// What is kept of a reason: at most [`REASON_MAX`] bytes, no character torn.
fn cut(reason: &str) -> &str {
    &reason[..reason.floor_char_boundary(REASON_MAX)]
}

fn number<T: std::str::FromStr>(headers: &[(&str, &str)], i: usize) -> Result<T, LetterError> {
    headers[i].1.parse().map_err(|_| wrong(headers, i))
}

fn wrong(headers: &[(&str, &str)], i: usize) -> LetterError {
    LetterError::Value { name: HEADERS[i], value: headers[i].1.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn letter(event: Event) -> Letter {
        Letter {
            grave: Grave::Dead,
            channel: "c1".into(),
            group: "default".into(),
            sink: "k1".into(),
            range: Offset(7)..Offset(8),
            appended_ms: 5,
            cause: "refused".into(),
            reason: "no".into(),
            attempts: 3,
            time_ms: 9,
            redrives: 2,
            event,
        }
    }

    fn bytes(letter: &Letter) -> Vec<u8> {
        let mut bytes = Vec::new();
        letter.encode(&mut bytes);
        bytes
    }

    fn read(bytes: &[u8]) -> Result<Letter, LetterError> {
        Letter::decode(&EventRef::decode(bytes).unwrap())
    }

    #[test]
    fn letter_survives_its_bytes() {
        type Numbers = (u64, u32, u64, u64, u32, u32);
        type Texts = (String, String, String, String, String);
        fn property(numbers: Numbers, texts: Texts, own: Vec<(String, String)>, body: Vec<u8>) {
            let (from, len, appended_ms, time_ms, attempts, redrives) = numbers;
            let (channel, group, sink, cause, reason) = texts;
            let from = from >> 1;
            let letter = Letter {
                grave: GRAVES[(from % 3) as usize],
                channel,
                group,
                sink,
                range: Offset(from)..Offset(from + u64::from(len) + 1),
                appended_ms,
                cause,
                reason,
                attempts,
                time_ms,
                redrives,
                event: Event { headers: own, body },
            };
            assert_eq!(read(&bytes(&letter)), Ok(letter));
        }
        quickcheck::quickcheck(property as fn(Numbers, Texts, Vec<(String, String)>, Vec<u8>));
    }

    #[test]
    fn event_that_brings_headers_of_a_letter_keeps_them() {
        let inner = read(&bytes(&letter(Event::of_body("x")))).unwrap();
        let mut event = inner.event.clone();
        event.headers = HEADERS.map(|name| (name.to_owned(), "own".to_owned())).to_vec();
        assert_eq!(read(&bytes(&letter(event.clone()))), Ok(letter(event)));
    }

    #[test]
    fn reason_is_cut_between_characters() {
        let mut long = letter(Event::default());
        long.reason = "ä".repeat(REASON_MAX); // two bytes each
        long.reason.insert(0, 'x');
        let kept = read(&bytes(&long)).unwrap().reason;
        assert_eq!(kept.len(), REASON_MAX - 1);
        assert!(long.reason.starts_with(&kept));
    }

    #[test]
    fn what_is_no_letter_is_refused() {
        let of = |headers: Vec<(String, String)>| {
            let mut bytes = Vec::new();
            Event { headers, body: Vec::new() }.encode(&mut bytes);
            read(&bytes)
        };
        let event = EventRef::decode(&bytes(&letter(Event::default()))).unwrap().to_event();
        assert_eq!(of(event.headers.clone()), Ok(letter(Event::default())));
        assert_eq!(of(Vec::new()), Err(LetterError::NotALetter));
        assert_eq!(of(event.headers[1..].to_vec()), Err(LetterError::NotALetter));
        let mut swapped = event.headers.clone();
        swapped.swap(0, 1);
        assert_eq!(of(swapped), Err(LetterError::NotALetter));
        for (i, value) in [(0, "buried"), (4, "8"), (5, "-1"), (9, "4294967296"), (11, "")] {
            let mut headers = event.headers.clone();
            headers[i].1 = value.into();
            assert!(matches!(of(headers), Err(LetterError::Value { .. })), "{value}");
        }
    }

    #[test]
    fn redriven_event_counts_its_rounds() {
        let headers = vec![(REDRIVES.to_owned(), "2".to_owned()), ("a".into(), "b".into())];
        let event = letter(Event { headers, body: b"x".to_vec() }).redriven();
        let expected = [("a".to_owned(), "b".to_owned()), (REDRIVES.into(), "3".into())];
        assert_eq!((&event.headers[..], &event.body[..]), (&expected[..], &b"x"[..]));
        let mut bytes = Vec::new();
        event.encode(&mut bytes);
        assert_eq!(redrives_of(&EventRef::decode(&bytes).unwrap()), 3);
    }
}
