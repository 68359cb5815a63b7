//! A batch on its way into the log.

/// Room in front of the records, for the batch header that the writer fills in.
pub(crate) const HEADER_LEN: usize = 64;

/// Records gathered by a producer for one put: whole or absent, after any crash.
///
/// The buffer already has the shape of the batch in the segment, so that it goes to the file as it is.
#[derive(Clone, Debug)]
pub struct BatchBuilder {
    buffer: Vec<u8>,
    count: u32,
}

impl Default for BatchBuilder {
    fn default() -> BatchBuilder {
        BatchBuilder::new()
    }
}

impl BatchBuilder {
    /// An empty batch.
    pub fn new() -> BatchBuilder {
        BatchBuilder::with_capacity(0)
    }

    /// An empty batch with room for `record_bytes`, lengths included.
    pub fn with_capacity(record_bytes: usize) -> BatchBuilder {
        let mut buffer = Vec::with_capacity(HEADER_LEN + record_bytes + 64);
        buffer.resize(HEADER_LEN, 0);
        BatchBuilder { buffer, count: 0 }
    }

    /// Adds a record.
    pub fn push(&mut self, record: &[u8]) {
        self.push_with(|out| out.extend_from_slice(record));
    }

    /// Adds a record that `write` appends to the buffer it is given.
    pub fn push_with(&mut self, write: impl FnOnce(&mut Vec<u8>)) {
        let at = self.buffer.len();
        self.buffer.extend_from_slice(&[0; 4]);
        write(&mut self.buffer);
        let len = u32::try_from(self.buffer.len() - at - 4).expect("a record is below 4 GiB");
        self.buffer[at..at + 4].copy_from_slice(&len.to_le_bytes());
        self.count += 1;
    }

    /// The number of records.
    pub fn count(&self) -> u32 {
        self.count
    }

    /// Bytes of the records, lengths included.
    pub fn byte_len(&self) -> usize {
        self.buffer.len() - HEADER_LEN
    }

    /// The records' bytes: `record*`, `record := len u32 | bytes`.
    pub fn records(&self) -> &[u8] {
        &self.buffer[HEADER_LEN..]
    }
}

/// A batch ready for the writer: checksummed, padded, its header still empty.
pub(crate) struct SealedBatch {
    /// Header room, records, zeros up to the next 64-byte border.
    pub(crate) buffer: Vec<u8>,
    /// Bytes of the records.
    pub(crate) payload_len: u32,
    /// Checksum of the records.
    pub(crate) payload_crc: u32,
    /// Records.
    pub(crate) count: u32,
}

impl BatchBuilder {
    /// Does the producer's share of the work: the checksum, outside any lock.
    pub(crate) fn seal(self) -> SealedBatch {
        let mut buffer = self.buffer;
        let payload = &buffer[HEADER_LEN..];
        let payload_len = u32::try_from(payload.len()).expect("checked against the segment size");
        let payload_crc = super::format::payload_crc(payload);
        buffer.resize(buffer.len().next_multiple_of(super::format::BATCH_ALIGN as usize), 0);
        SealedBatch { buffer, payload_len, payload_crc, count: self.count }
    }
}
