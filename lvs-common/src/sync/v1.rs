//! Records of version 1.

use super::malformed::Malformed;
use super::numbers::{number16, number32};
use super::record::{Engine, Local, Record, Sequence, option};
use crate::abi::Address;
use crate::byte_order::Be16;

/// Bytes of a message's header.
pub const HEADER: usize = 8;
/// A record begins at a multiple of so many bytes.
pub const ALIGNMENT: usize = 4;
/// Most bytes between two records.
pub const PADDING: usize = ALIGNMENT - 1;
/// Bytes of a record before its addresses.
const FIXED: usize = 24;
/// Bytes of the option [`option::SEQUENCES`].
const SEQUENCES: usize = 24;
/// Bytes of the option [`option::LOCAL`] before its address.
const LOCAL: usize = 8;
/// Bytes before an option's data: its type and its length.
const OPTION: usize = 2;
/// The type of a record of IPv6.
const V6: u8 = 1;
/// Bits of the word of version and length that are the length.
const LENGTH: u16 = 0xfff;

/// How many records a message has, if its header is one of version 1.
pub fn header(bytes: &[u8]) -> Option<u8> {
    match *bytes.first_chunk::<HEADER>()? {
        [0, _, _, _, count, 1, 0, 0] => Some(count),
        _ => None,
    }
}

/// Bytes of an address.
const fn address_length(is_v6: bool) -> usize {
    if is_v6 { 16 } else { 4 }
}

/// Bytes of a record before its options.
const fn head(is_v6: bool) -> usize {
    FIXED + 3 * address_length(is_v6)
}

/// Reads the record at the beginning of `bytes`: also, how long it is.
pub fn read(bytes: &[u8]) -> Result<(Record<'_>, usize), Malformed> {
    let word = number16(bytes, 2).ok_or(Malformed::Record)?;
    if word & !LENGTH != 0 {
        return Err(Malformed::Version);
    }
    let length = usize::from(word & LENGTH);
    let bytes = bytes.get(..length).ok_or(Malformed::Record)?;
    let mut record = fields(bytes).ok_or(Malformed::Record)?;
    let mut rest = bytes.get(head(record.is_v6)..).ok_or(Malformed::Record)?;
    let (mut name, mut data, mut local) = (None, None, None);
    while let [kind, length, after @ ..] = rest {
        let (kind, length) = (*kind, usize::from(*length));
        let value = after.get(..length).ok_or(Malformed::Option)?;
        rest = after.get(length..).unwrap_or_default();
        match kind {
            option::SEQUENCES if length == SEQUENCES && record.sequences.is_none() => {
                record.sequences = sequences(value);
            }
            option::ENGINE_DATA if length != 0 && data.is_none() => data = Some(value),
            option::ENGINE_NAME if (1..=option::LONGEST_NAME).contains(&length) && name.is_none() => name = Some(value),
            option::OTHER_REAL if record.other_real.is_none() => {
                record.other_real = Some(address(value, !record.is_v6).ok_or(Malformed::Option)?);
            }
            option::LOCAL if local.is_none() => local = Some(value),
            option::SEQUENCES | option::ENGINE_DATA | option::ENGINE_NAME | option::OTHER_REAL | option::LOCAL => {
                return Err(Malformed::Option);
            }
            kind if kind & option::MAY_BE_IGNORED != 0 => {}
            _ => record.is_unknown = true,
        }
    }
    if !rest.is_empty() {
        return Err(Malformed::Option);
    }
    if let Some(value) = local {
        record.local = Some(read_local(value, record.is_real_v6()).ok_or(Malformed::Option)?);
    }
    record.engine = data.map(|data| Engine { name: name.unwrap_or_default(), data });
    Ok((record, length))
}

/// Reads what every record has.
fn fields(bytes: &[u8]) -> Option<Record<'static>> {
    let (kind, protocol) = (*bytes.first()?, *bytes.get(1)?);
    let is_v6 = kind & V6 != 0;
    let length = address_length(is_v6);
    let address = |number: usize| address(bytes.get(FIXED + number * length..)?.get(..length)?, is_v6);
    Some(Record {
        is_v6,
        protocol,
        flags: number32(bytes, 4)?,
        state: number16(bytes, 8)?,
        client_port: Be16::new(number16(bytes, 10)?),
        virt_port: Be16::new(number16(bytes, 12)?),
        real_port: Be16::new(number16(bytes, 14)?),
        fwmark: number32(bytes, 16)?,
        timeout: number32(bytes, 20)?,
        client: address(0)?,
        virt: address(1)?,
        real: address(2)?,
        ..Record::default()
    })
}

/// The address that is all of `bytes`.
fn address(bytes: &[u8], is_v6: bool) -> Option<Address> {
    Some(if is_v6 { Address::v6(bytes.try_into().ok()?) } else { Address::v4(bytes.try_into().ok()?) })
}

/// Reads the option [`option::LOCAL`].
fn read_local(value: &[u8], is_v6: bool) -> Option<Local> {
    Some(Local {
        toa_state: *value.first()?,
        port: Be16::new(number16(value, 2)?),
        first: number32(value, 4)?,
        address: address(value.get(LOCAL..)?, is_v6)?,
    })
}

/// Reads the option [`option::SEQUENCES`].
fn sequences(value: &[u8]) -> Option<[Sequence; 2]> {
    let one = |at: usize| {
        Some(Sequence {
            initial: number32(value, at)?,
            delta: number32(value, at + 4)?,
            previous: number32(value, at + 8)?,
        })
    };
    Some([one(0)?, one(12)?])
}

/// How long a record will be, bytes; `None` for one that no message can hold.
pub fn length(record: &Record<'_>) -> Option<usize> {
    let engine = match record.engine {
        Some(Engine { name, data }) => {
            if data.is_empty() || data.len() > u8::MAX.into() || name.len() > option::LONGEST_NAME {
                return None;
            }
            let name = if name.is_empty() { 0 } else { OPTION + name.len() };
            OPTION + data.len() + name
        }
        None => 0,
    };
    let sequences = if record.sequences.is_some() { OPTION + SEQUENCES } else { 0 };
    let address = OPTION + address_length(record.is_real_v6());
    let other_real = if record.other_real.is_some() { address } else { 0 };
    let local = if record.local.is_some() { LOCAL + address } else { 0 };
    Some(head(record.is_v6) + sequences + other_real + local + engine)
}

/// Writes a record of [`length`] bytes over `out`, which is as long.
pub fn write(record: &Record<'_>, out: &mut [u8]) {
    let length = out.len() as u16 & LENGTH;
    let mut at = 0;
    let mut put = |bytes: &[u8]| {
        if let Some(place) = out.get_mut(at..at + bytes.len()) {
            place.copy_from_slice(bytes);
        }
        at += bytes.len();
    };
    put(&[if record.is_v6 { V6 } else { 0 }, record.protocol]);
    put(&length.to_be_bytes());
    put(&record.flags.to_be_bytes());
    put(&record.state.to_be_bytes());
    for port in [record.client_port, record.virt_port, record.real_port] {
        put(&port.get().to_be_bytes());
    }
    put(&record.fwmark.to_be_bytes());
    put(&record.timeout.to_be_bytes());
    let put_address = |address: Address, is_v6: bool, put: &mut dyn FnMut(&[u8])| {
        if is_v6 { put(&address.octets6()) } else { put(&address.octets4()) }
    };
    for address in [record.client, record.virt, record.real] {
        put_address(address, record.is_v6, &mut put);
    }
    if let Some(sequences) = record.sequences {
        put(&[option::SEQUENCES, SEQUENCES as u8]);
        for Sequence { initial, delta, previous } in sequences {
            [initial, delta, previous].iter().for_each(|number| put(&number.to_be_bytes()));
        }
    }
    let is_real_v6 = record.is_real_v6();
    let length = address_length(is_real_v6);
    if let Some(address) = record.other_real {
        put(&[option::OTHER_REAL, length as u8]);
        put_address(address, is_real_v6, &mut put);
    }
    if let Some(Local { address, port, toa_state, first }) = record.local {
        put(&[option::LOCAL, (LOCAL + length) as u8, toa_state, 0]);
        put(&port.get().to_be_bytes());
        put(&first.to_be_bytes());
        put_address(address, is_real_v6, &mut put);
    }
    if let Some(Engine { name, data }) = record.engine {
        put(&[option::ENGINE_DATA, data.len() as u8]);
        put(data);
        if !name.is_empty() {
            put(&[option::ENGINE_NAME, name.len() as u8]);
            put(name);
        }
    }
}
