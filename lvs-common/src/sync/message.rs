//! Reading messages: a message is understood wholly, or refused wholly.

use super::malformed::Malformed;
use super::numbers::number16;
use super::record::Record;
use super::{v0, v1};

/// A version of the protocol (`sync_version`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Version {
    /// IPv4 only, without marks and timeouts.
    V0,
    /// IPVS's since Linux 2.6.39.
    V1,
}

/// A message that was understood.
#[derive(Clone, Copy, Debug)]
pub struct Message<'a> {
    /// Its version.
    pub version: Version,
    /// Which group of directors it is for.
    pub syncid: u8,
    count: u8,
    body: &'a [u8],
}

/// Bytes of the header that both versions have: a number, the syncid, the length.
const COMMON: usize = 4;

impl<'a> Message<'a> {
    /// Reads a message.
    ///
    /// # Errors
    /// [`Malformed`]; nothing of such a message is to be believed.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, Malformed> {
        let [first, syncid, ..] = *bytes else { return Err(Malformed::Short) };
        let length = number16(bytes, 2).ok_or(Malformed::Short)?;
        if usize::from(length) != bytes.len() {
            return Err(Malformed::Length);
        }
        let message = match v1::header(bytes) {
            Some(count) => {
                Message { version: Version::V1, syncid, count, body: bytes.get(v1::HEADER..).unwrap_or_default() }
            }
            // What version 1 begins with says "nothing" in version 0: the header is neither's.
            None if first == 0 => return Err(Malformed::Version),
            None => {
                Message { version: Version::V0, syncid, count: first, body: bytes.get(COMMON..).unwrap_or_default() }
            }
        };
        let mut records = message.records();
        for _ in 0..message.count {
            records.read()?;
        }
        // Records begin at multiples of four bytes, so fewer than four may follow the last.
        if records.rest.len() > v1::PADDING { Err(Malformed::Rest) } else { Ok(message) }
    }

    /// Its records, in their order.
    pub fn records(&self) -> Records<'a> {
        Records { version: self.version, left: self.count, rest: self.body }
    }

    /// How many records it has.
    pub fn count(&self) -> u8 {
        self.count
    }
}

/// The records of a message.
#[derive(Clone, Debug)]
pub struct Records<'a> {
    version: Version,
    left: u8,
    rest: &'a [u8],
}

impl<'a> Records<'a> {
    /// Reads the next record.
    fn read(&mut self) -> Result<Record<'a>, Malformed> {
        let (record, length) = match self.version {
            Version::V0 => v0::read(self.rest)?,
            Version::V1 => v1::read(self.rest)?,
        };
        let next = if self.left > 1 { length.next_multiple_of(v1::ALIGNMENT) } else { length };
        self.left = self.left.saturating_sub(1);
        self.rest = self.rest.get(next..).unwrap_or_default();
        Ok(record)
    }
}

impl<'a> Iterator for Records<'a> {
    type Item = Record<'a>;

    fn next(&mut self) -> Option<Record<'a>> {
        if self.left == 0 { None } else { self.read().ok() }
    }
}
