//! Places in a log as people name them: an offset, a time, a distance from the tail.

use std::str::FromStr;

/// Where to begin or end.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Bound {
    /// An offset.
    Offset(u64),
    /// So many events before the tail.
    BeforeTail(u64),
    /// A time, ms since 1970.
    Time(u64),
}

/// A word that names no place.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error(
    "'{0}' is neither an offset, nor -N (before the tail), nor an RFC 3339 time \
     such as 2026-01-31T08:00:00Z"
)]
pub struct BoundError(String);

impl FromStr for Bound {
    type Err = BoundError;

    fn from_str(text: &str) -> Result<Bound, BoundError> {
        if let Ok(offset) = text.parse() {
            return Ok(Bound::Offset(offset));
        }
        if let Some(count) = text.strip_prefix('-').and_then(|count| count.parse().ok()) {
            return Ok(Bound::BeforeTail(count));
        }
        let time: jiff::Timestamp = text.parse().map_err(|_| BoundError(text.to_owned()))?;
        // before 1970 there was no log
        Ok(Bound::Time(u64::try_from(time.as_millisecond()).unwrap_or(0)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn place_is_an_offset_a_distance_or_a_time() {
        assert_eq!("17".parse(), Ok(Bound::Offset(17)));
        assert_eq!("-3".parse(), Ok(Bound::BeforeTail(3)));
        assert_eq!("1970-01-01T00:00:01.5Z".parse(), Ok(Bound::Time(1500)));
        assert_eq!("1970-01-01T01:00:00+01:00".parse(), Ok(Bound::Time(0)));
        assert_eq!("1960-01-01T00:00:00Z".parse(), Ok(Bound::Time(0)));
        for wrong in ["", "x", "-", "1.5", "--3", "2026-01-31", "2026-01-31T08:00:00"] {
            assert!(wrong.parse::<Bound>().is_err(), "{wrong}");
        }
    }
}
