//! Records of version 0: IPv4 only.

use super::malformed::Malformed;
use super::numbers::number16;
use super::record::{Record, Sequence, flags};
use crate::abi::Address;
use crate::byte_order::Be16;

/// Bytes of a message's header.
pub const HEADER: usize = 4;
/// Bytes of a record.
const FIXED: usize = 24;
/// Bytes of the shifts that follow it where its flags say so.
const SEQUENCES: usize = 24;
/// Flags that say so.
const SHIFTED: u32 = flags::IN_SEQUENCE | flags::OUT_SEQUENCE;

/// Reads the record at the beginning of `bytes`: also, how long it is.
pub fn read(bytes: &[u8]) -> Result<(Record<'static>, usize), Malformed> {
    let mut record = fields(bytes).ok_or(Malformed::Record)?;
    if record.flags & SHIFTED == 0 {
        return Ok((record, FIXED));
    }
    let shifts = bytes.get(FIXED..).ok_or(Malformed::Record)?;
    record.sequences = Some(sequences(shifts).ok_or(Malformed::Record)?);
    Ok((record, FIXED + SEQUENCES))
}

/// Reads what every record has.
fn fields(bytes: &[u8]) -> Option<Record<'static>> {
    let address = |at: usize| Some(Address::v4(*bytes.get(at..)?.first_chunk()?));
    Some(Record {
        protocol: *bytes.get(1)?,
        client_port: Be16::new(number16(bytes, 2)?),
        virt_port: Be16::new(number16(bytes, 4)?),
        real_port: Be16::new(number16(bytes, 6)?),
        client: address(8)?,
        virt: address(12)?,
        real: address(16)?,
        flags: number16(bytes, 20)?.into(),
        state: number16(bytes, 22)?,
        ..Record::default()
    })
}

/// Reads the shifts, which this version has in the sender's byte order: on hosts that speak to each other it is the same.
fn sequences(bytes: &[u8]) -> Option<[Sequence; 2]> {
    let number = |at: usize| Some(u32::from_ne_bytes(*bytes.get(at..)?.first_chunk()?));
    let one = |at: usize| Some(Sequence { initial: number(at)?, delta: number(at + 4)?, previous: number(at + 8)? });
    Some([one(0)?, one(12)?])
}

/// How long a record will be, bytes; `None` for one that no message can hold.
pub fn length(record: &Record<'_>) -> Option<usize> {
    if record.is_v6 || record.other_real.is_some() || record.local.is_some() {
        return None;
    }
    Some(if record.sequences.is_some() { FIXED + SEQUENCES } else { FIXED })
}

/// Writes a record of [`length`] bytes over `out`, which is as long.
pub fn write(record: &Record<'_>, out: &mut [u8]) {
    let mut at = 0;
    let mut put = |bytes: &[u8]| {
        if let Some(place) = out.get_mut(at..at + bytes.len()) {
            place.copy_from_slice(bytes);
        }
        at += bytes.len();
    };
    put(&[0, record.protocol]);
    for port in [record.client_port, record.virt_port, record.real_port] {
        put(&port.get().to_be_bytes());
    }
    for address in [record.client, record.virt, record.real] {
        put(&address.octets4());
    }
    let shifted = if record.sequences.is_some() { SHIFTED } else { 0 };
    let flags = record.flags & !SHIFTED | if record.flags & shifted != 0 { record.flags & SHIFTED } else { shifted };
    put(&(flags as u16).to_be_bytes());
    put(&record.state.to_be_bytes());
    for Sequence { initial, delta, previous } in record.sequences.into_iter().flatten() {
        [initial, delta, previous].iter().for_each(|number| put(&number.to_ne_bytes()));
    }
}
