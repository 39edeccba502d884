//! Writing messages.

use super::message::Version;
use super::record::Record;
use super::{v0, v1};

/// Most records of a message: their number is a byte.
const MOST: u8 = u8::MAX;

/// What became of a record that was to be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Push {
    /// It is in the message.
    Done,
    /// The message has no room for it: send the message, and write the record into another.
    Full,
    /// No message of this version and length can hold it.
    Never,
}

/// A message in the making, in a buffer that is as long as a message may be.
#[derive(Debug)]
pub struct Writer<'b> {
    buffer: &'b mut [u8],
    version: Version,
    syncid: u8,
    used: usize,
    count: u8,
}

impl<'b> Writer<'b> {
    /// Begins a message.
    pub fn new(buffer: &'b mut [u8], version: Version, syncid: u8) -> Self {
        let used = match version {
            Version::V0 => v0::HEADER,
            Version::V1 => v1::HEADER,
        };
        Writer { buffer, version, syncid, used, count: 0 }
    }

    /// Whether it has no record yet.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Adds a record.
    pub fn push(&mut self, record: &Record<'_>) -> Push {
        let (length, write): (_, fn(&Record<'_>, &mut [u8])) = match self.version {
            Version::V0 => (v0::length(record), v0::write),
            Version::V1 => (v1::length(record), v1::write),
        };
        let Some(length) = length else { return Push::Never };
        let at = if self.is_empty() { self.used } else { self.used.next_multiple_of(v1::ALIGNMENT) };
        let end = at + length;
        let place =
            if self.count < MOST && end <= u16::MAX.into() { self.buffer.get_mut(self.used..end) } else { None };
        let Some(place) = place else {
            return if self.is_empty() { Push::Never } else { Push::Full };
        };
        let (padding, place) = place.split_at_mut(at - self.used);
        padding.fill(0);
        write(record, place);
        (self.used, self.count) = (end, self.count + 1);
        Push::Done
    }

    /// Completes the message: its bytes, and none if it has no record.
    pub fn finish(self) -> &'b [u8] {
        let Writer { buffer, version, syncid, used, count } = self;
        if count == 0 {
            return &[];
        }
        let [high, low] = (used as u16).to_be_bytes();
        match version {
            Version::V0 => put(buffer, [count, syncid, high, low]),
            Version::V1 => put(buffer, [0, syncid, high, low, count, 1, 0, 0]),
        }
        buffer.get(..used).unwrap_or_default()
    }
}

/// The message without records by which a backup asks for the whole table when it begins. IPVS has no such question; to its daemons it is a
/// message that says nothing.
pub const fn question(syncid: u8) -> [u8; v1::HEADER] {
    [0, syncid, 0, v1::HEADER as u8, 0, 1, 0, 0]
}

/// Writes a header over the beginning of a buffer.
fn put<const N: usize>(buffer: &mut [u8], header: [u8; N]) {
    if let Some(place) = buffer.first_chunk_mut() {
        *place = header;
    }
}
