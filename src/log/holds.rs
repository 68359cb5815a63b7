//! Holds: ranges of offsets that stay, whatever the cursors do. They stand in one small file, which
//! is written anew as a whole; whoever reclaims reads it before each time.
//!
//! ```text
//! levada holds 1
//! <from> <to> <made_ms> <name>          one line a hold
//! crc <CRC-32 of the lines above, hex>
//! ```
//! [`lock_holds`] is held by one who writes the file, from the change to the look at what is kept;
//! and by one who reclaims, from the reading to the last segment that is gone. So a hold that was
//! written and found whole is not reclaimed by an owner who read the file a moment earlier.

use super::error::{FormatError, LogError};
use super::storage::{Storage, read_exact};
use crate::offset::{Offset, OffsetRange};
use std::io::{self, IoSlice};

/// The file of the holds, below the log's directory.
pub const HOLDS_FILE: &str = "HOLDS";
const NEW_FILE: &str = "HOLDS.new";
const LOCK_FILE: &str = "HOLDS.lock";
const MAGIC: &str = "levada holds ";
const VERSION: u16 = 1;
/// Most bytes of the file.
const BYTES_MAX: u64 = 1 << 20;
/// Most bytes of a name.
const NAME_MAX: usize = 64;

/// A range that stays.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Hold {
    /// Its name, unique in its log.
    pub name: String,
    /// The offsets.
    pub range: OffsetRange,
    /// When it was made, ms since 1970.
    pub made_ms: u64,
}

impl Hold {
    /// Whether `name` can be a hold's: 1 to 64 letters, digits, `.`, `_` and `-` of ASCII.
    pub fn is_name(name: &str) -> bool {
        let fits = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
        (1..=NAME_MAX).contains(&name.len()) && name.bytes().all(fits)
    }
}

/// The bytes of the file.
fn encode(holds: &[Hold]) -> String {
    let mut text = format!("{MAGIC}{VERSION}\n");
    for Hold { name, range, made_ms } in holds {
        text += &format!("{} {} {made_ms} {name}\n", range.start, range.end);
    }
    let crc = crc32fast::hash(text.as_bytes());
    text + &format!("crc {crc:08x}\n")
}

fn decode(bytes: &[u8]) -> Result<Vec<Hold>, FormatError> {
    let text = std::str::from_utf8(bytes).map_err(|_| FormatError::NotThere)?;
    let (head, body) = text.split_once('\n').ok_or(FormatError::NotThere)?;
    let version = head.strip_prefix(MAGIC).and_then(|version| version.parse().ok());
    match version {
        Some(VERSION) => {}
        Some(found) => return Err(FormatError::Version { found, known: VERSION }),
        None => return Err(FormatError::NotThere),
    }
    let sum = body.strip_suffix('\n').map(|body| body.rsplit('\n').next().unwrap_or(body));
    let sum = sum.and_then(|line| line.strip_prefix("crc ")).ok_or(FormatError::NotThere)?;
    let stored = u32::from_str_radix(sum, 16).map_err(|_| FormatError::NotThere)?;
    let summed = bytes.len() - "crc \n".len() - sum.len();
    let computed = crc32fast::hash(&bytes[..summed]);
    if stored != computed {
        return Err(FormatError::Checksum { stored, computed });
    }
    let lines = text[head.len() + 1..summed].lines();
    lines.map(|line| hold(line).ok_or(FormatError::NotThere)).collect()
}

fn hold(line: &str) -> Option<Hold> {
    let mut words = line.split(' ');
    let mut number = || words.next()?.parse::<u64>().ok();
    let range = Offset(number()?)..Offset(number()?);
    let made_ms = number()?;
    let name = words.next().filter(|name| Hold::is_name(name))?.to_owned();
    words.next().is_none().then_some(Hold { name, range, made_ms })
}

/// The holds of a log; none if there is no such file.
///
/// # Errors
/// The file can't be read, or is damaged: then nobody knows what is held.
pub fn read_holds(storage: &dyn Storage) -> Result<Vec<Hold>, LogError> {
    let io = || LogError::io(format!("read {HOLDS_FILE}"));
    let file = match storage.open(HOLDS_FILE, false) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        file => file.map_err(io())?,
    };
    let len = file.len().map_err(io())?;
    if len > BYTES_MAX {
        let error = FormatError::Value { what: "the file's length", value: len };
        return Err(LogError::format(HOLDS_FILE, error));
    }
    let bytes = read_exact(&*file, 0, len as usize).map_err(io())?;
    decode(&bytes).map_err(|error| LogError::format(HOLDS_FILE, error))
}

/// Writes the holds of a log in place of those that were there; durable when it returns. The caller
/// has [`lock_holds`].
///
/// # Errors
/// The file can't be written: the old one counts, or after a failed sync of the directory either.
pub fn write_holds(storage: &dyn Storage, holds: &[Hold]) -> Result<(), LogError> {
    let io = || LogError::io(format!("write {HOLDS_FILE}"));
    let text = encode(holds);
    let len = text.len() as u64;
    if len > BYTES_MAX {
        let error = FormatError::Value { what: "the file's length", value: len };
        return Err(LogError::format(HOLDS_FILE, error));
    }
    let file = storage.create(NEW_FILE, len).map_err(io())?;
    file.write_at(0, &[IoSlice::new(text.as_bytes())]).map_err(io())?;
    file.sync().map_err(io())?;
    storage.rename(NEW_FILE, HOLDS_FILE).map_err(io())?;
    storage.sync_dir(".").map_err(io())
}

/// Takes the holds' lock until the guard is dropped; `None` while somebody else has it.
///
/// # Errors
/// The lock's file can't be opened.
pub fn lock_holds(storage: &dyn Storage) -> Result<Option<Box<dyn Send + Sync>>, LogError> {
    // no owner's name in it: on a full disk it could not be written
    let taken = storage.lock(LOCK_FILE, "");
    Ok(taken.map_err(LogError::io(format!("lock {LOCK_FILE}")))?.ok())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::log::FileStorage;
    use tempfile::TempDir;

    fn holds() -> Vec<Hold> {
        let hold = |name: &str, from, to| Hold {
            name: name.to_owned(),
            range: Offset(from)..Offset(to),
            made_ms: 17,
        };
        vec![hold("audit-1", 10, 20), hold("b", 0, u64::MAX)]
    }

    #[test]
    fn holds_survive_their_file() {
        let dir = TempDir::new().unwrap();
        let storage = FileStorage::new(dir.path());
        assert_eq!(read_holds(&storage).unwrap(), []);
        for list in [holds(), vec![]] {
            write_holds(&storage, &list).unwrap();
            assert_eq!(read_holds(&storage).unwrap(), list);
        }
        assert!(!dir.path().join(NEW_FILE).exists());
    }

    #[test]
    fn changed_or_cut_file_is_refused_whatever_the_byte() {
        let bytes = encode(&holds()).into_bytes();
        assert_eq!(decode(&bytes), Ok(holds()));
        for len in 0..bytes.len() {
            assert!(decode(&bytes[..len]).is_err(), "{len} bytes");
        }
        for at in 0..bytes.len() {
            let mut bytes = bytes.clone();
            bytes[at] ^= 1;
            assert_ne!(decode(&bytes), Ok(holds()), "byte {at}");
        }
        let newer = "levada holds 2\nanything";
        assert_eq!(decode(newer.as_bytes()), Err(FormatError::Version { found: 2, known: 1 }));
    }

    #[test]
    fn any_bytes_decode_without_panic() {
        fn property(bytes: Vec<u8>) -> bool {
            let framed = [b"levada holds 1\n", &bytes[..], b"crc 0\n"].concat();
            decode(&bytes).is_err() && decode(&framed).is_err()
        }
        quickcheck::quickcheck(property as fn(Vec<u8>) -> bool);
    }

    #[test]
    fn lock_has_one_holder_at_a_time() {
        let dir = TempDir::new().unwrap();
        let storage = FileStorage::new(dir.path());
        let first = lock_holds(&storage).unwrap();
        assert!(first.is_some());
        assert!(lock_holds(&storage).unwrap().is_none());
        drop(first);
        assert!(lock_holds(&storage).unwrap().is_some());
    }

    #[test]
    fn name_is_one_word_of_plain_letters() {
        for good in ["a", "audit_2026-01.x", &"x".repeat(64)] {
            assert!(Hold::is_name(good), "{good}");
        }
        for bad in ["", "a b", "a\n", "ä", "../x/", &"x".repeat(65)] {
            assert!(!Hold::is_name(bad), "{bad}");
        }
    }
}
