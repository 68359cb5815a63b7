//! Avro's basic types, read from a message that lies in several pieces.

use std::borrow::Cow;

/// A message that is not what it should be, and where.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("byte {position} of the message: {flaw}")]
pub struct DecodeError {
    /// Bytes of the message in front of what is wrong.
    pub position: usize,
    /// What is wrong.
    pub flaw: Flaw,
}

/// What can be wrong with a message.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Flaw {
    /// It ends too early.
    #[error("the message ends here, more is expected")]
    Short,
    /// A number of more than 64 bits.
    #[error("a number has more than 64 bits")]
    Number,
    /// A length or count that is negative or beyond any memory.
    #[error("a length of {0}")]
    Length(i64),
    /// Text that is no UTF-8.
    #[error("a text is not UTF-8")]
    Text,
    /// A branch that the union does not have.
    #[error("a union has no branch {0}")]
    Branch(i64),
    /// A word that the enum does not have.
    #[error("an enum has no word {0}")]
    Word(i64),
    /// Too many headers in an event.
    #[error("an event has more than {0} headers")]
    Headers(usize),
    /// Too many events in a batch.
    #[error("a batch has more than {0} events (maxBatchEvents)")]
    Events(usize),
    /// Bytes behind the end.
    #[error("{0} bytes are left over")]
    Trailing(usize),
}

/// Walks a message. Each method reads one value, or fails and leaves the place undefined.
#[derive(Clone, Debug)]
pub struct Reader<'a> {
    chunk: &'a [u8],
    rest: std::vec::IntoIter<&'a [u8]>,
    /// Bytes not read yet, `chunk` included.
    remaining: usize,
    total: usize,
}

impl<'a> Reader<'a> {
    /// A reader of the concatenation of `chunks`.
    pub fn new(chunks: Vec<&'a [u8]>) -> Reader<'a> {
        let total = chunks.iter().map(|chunk| chunk.len()).sum();
        let mut reader = Reader { chunk: &[], rest: chunks.into_iter(), remaining: total, total };
        reader.step();
        reader
    }

    /// Goes to the next piece that has bytes, if this one is read.
    fn step(&mut self) {
        while self.chunk.is_empty()
            && let Some(next) = self.rest.next()
        {
            self.chunk = next;
        }
    }

    /// Bytes not read yet.
    pub fn remaining(&self) -> usize {
        self.remaining
    }

    /// What can be read without crossing a border.
    pub(super) fn chunk(&self) -> &'a [u8] {
        self.chunk
    }

    /// An error at this place.
    pub fn error(&self, flaw: Flaw) -> DecodeError {
        DecodeError { position: self.total - self.remaining, flaw }
    }

    /// Skips `count` bytes.
    pub fn skip(&mut self, mut count: usize) -> Result<(), DecodeError> {
        if count > self.remaining {
            return Err(self.error(Flaw::Short));
        }
        self.remaining -= count;
        while count > self.chunk.len() {
            count -= self.chunk.len();
            self.chunk = self.rest.next().unwrap_or_default();
        }
        self.chunk = &self.chunk[count..];
        self.step();
        Ok(())
    }

    /// The next `count` bytes, or all that there are, appended to `out`; they are not consumed.
    pub(super) fn peek(&self, count: usize, out: &mut Vec<u8>) {
        let mut wanted = count;
        for chunk in std::iter::once(&self.chunk).chain(self.rest.as_slice()) {
            let part = wanted.min(chunk.len());
            out.extend_from_slice(&chunk[..part]);
            wanted -= part;
            if wanted == 0 {
                break;
            }
        }
    }

    /// One byte.
    pub fn byte(&mut self) -> Result<u8, DecodeError> {
        let byte = *self.chunk.first().ok_or_else(|| self.error(Flaw::Short))?;
        self.skip(1)?;
        Ok(byte)
    }

    /// A `long`.
    pub fn long(&mut self) -> Result<i64, DecodeError> {
        let mut value = 0u64;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            value |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Ok((value >> 1) as i64 ^ -((value & 1) as i64));
            }
        }
        Err(self.error(Flaw::Number))
    }

    /// `count` bytes; copied only if they cross a border.
    pub fn fixed(&mut self, count: usize) -> Result<Cow<'a, [u8]>, DecodeError> {
        if let Some(bytes) = self.chunk.get(..count) {
            self.skip(count)?;
            return Ok(Cow::Borrowed(bytes));
        }
        if count > self.remaining {
            return Err(self.error(Flaw::Short));
        }
        let mut bytes = Vec::with_capacity(count);
        self.peek(count, &mut bytes);
        self.skip(count)?;
        Ok(Cow::Owned(bytes))
    }

    /// `bytes`.
    pub fn bytes(&mut self) -> Result<Cow<'a, [u8]>, DecodeError> {
        let length = self.long()?;
        let count = usize::try_from(length).map_err(|_| self.error(Flaw::Length(length)))?;
        self.fixed(count)
    }

    /// A `string`.
    pub fn string(&mut self) -> Result<String, DecodeError> {
        let bytes = self.bytes()?.into_owned();
        String::from_utf8(bytes).map_err(|_| self.error(Flaw::Text))
    }

    /// The branch of a union of two.
    pub fn branch(&mut self) -> Result<bool, DecodeError> {
        match self.long()? {
            0 => Ok(false),
            1 => Ok(true),
            other => Err(self.error(Flaw::Branch(other))),
        }
    }

    /// The number of items in the next block of an array or map; 0 is the end.
    pub fn block(&mut self) -> Result<u64, DecodeError> {
        let count = self.long()?;
        if count < 0 {
            // a negative count is followed by the block's bytes, for those who want to skip it
            self.long()?;
        }
        Ok(count.unsigned_abs())
    }

    /// A map of bytes, as metadata come: read over.
    pub fn skip_map(&mut self) -> Result<(), DecodeError> {
        loop {
            let count = self.block()?;
            if count == 0 {
                return Ok(());
            }
            // each entry takes bytes, so a count that lies ends at the end of the message
            for _ in 0..count {
                self.bytes()?;
                self.bytes()?;
            }
        }
    }

    /// That the message is read to its end.
    pub fn end(&self) -> Result<(), DecodeError> {
        match self.remaining {
            0 => Ok(()),
            bytes => Err(self.error(Flaw::Trailing(bytes))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::put_long;
    use super::*;

    #[test]
    fn numbers_survive_their_bytes_across_borders() {
        fn property(numbers: Vec<i64>) -> bool {
            let mut bytes = Vec::new();
            let mut ends = vec![i64::MIN, i64::MAX, 0, -1];
            ends.extend(numbers);
            ends.iter().for_each(|number| put_long(*number, &mut bytes));
            [1, 2, 7, bytes.len()].into_iter().all(|size| {
                let mut reader = Reader::new(bytes.chunks(size).collect());
                ends.iter().all(|number| reader.long() == Ok(*number)) && reader.end().is_ok()
            })
        }
        quickcheck::quickcheck(property as fn(Vec<i64>) -> bool);
    }

    #[test]
    fn lengths_that_lie_fail_at_their_place() {
        let read = |bytes: &[u8]| Reader::new(vec![bytes]).bytes().map(Cow::into_owned);
        assert_eq!(read(&[4, 1, 2]), Ok(vec![1, 2]));
        assert_eq!(read(&[6, 1, 2]), Err(DecodeError { position: 1, flaw: Flaw::Short }));
        assert_eq!(read(&[1]), Err(DecodeError { position: 1, flaw: Flaw::Length(-1) }));
        assert_eq!(read(&[255; 11]), Err(DecodeError { position: 10, flaw: Flaw::Number }));
        assert_eq!(read(&[]), Err(DecodeError { position: 0, flaw: Flaw::Short }));
    }

    #[test]
    fn skip_crosses_borders_and_stops_at_the_end() {
        let mut reader = Reader::new(vec![b"ab", b"", b"cde"]);
        reader.skip(3).unwrap();
        assert_eq!(reader.fixed(2).unwrap().as_ref(), b"de");
        assert_eq!(reader.skip(1).unwrap_err().position, 5);
    }
}
