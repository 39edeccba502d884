//! Values: numbers as `strtol` reads them, masks, groups.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::ops::RangeInclusive;

use super::command::Failure;

/// Greatest timeout: 31 days.
const MAX_TIMEOUT: i64 = 31 * 24 * 60 * 60;

/// A decimal number: leading blanks and a sign are fine, anything after the digits is not.
pub fn number(text: &str, range: RangeInclusive<i64>) -> Option<i64> {
    let digits = text.trim_start_matches([' ', '\t', '\n', '\r', '\x0b', '\x0c']);
    // The standard parser takes a sign and digits, and nothing else, as strtol does.
    digits.parse().ok().filter(|value| range.contains(value))
}

/// A number in range, or a sentence.
pub fn ranged(text: &str, least: i64, greatest: i64, sentence: &str) -> Result<u32, Failure> {
    match number(text, least..=greatest) {
        Some(number) => Ok(number as u32),
        None => Failure::usage(sentence),
    }
}

/// A timeout in seconds.
pub fn timeout(text: &str, least: i64) -> Result<u32, Failure> {
    ranged(text, least, MAX_TIMEOUT, &format!("invalid timeout value `{text}' specified"))
}

/// The first `length` bytes, or fewer where a character would be cut in two.
pub fn cut(text: &str, length: usize) -> &str {
    let end = (0..=length.min(text.len())).rev().find(|&end| text.is_char_boundary(end)).unwrap_or(0);
    &text[..end]
}

/// The number at the start of a text, as `atoi` reads it.
pub fn leading_number(text: &str) -> i64 {
    let text = text.trim_start();
    let signed = usize::from(text.starts_with(['+', '-']));
    let digits = text[signed..].bytes().take_while(u8::is_ascii_digit).count();
    text[..signed + digits].parse().unwrap_or(0)
}

/// An IPv4 address in any of the forms `inet_aton` takes: one to four parts, decimal, octal or hexadecimal, the last
/// of which fills the bytes that are left.
pub fn inet_aton(text: &str) -> Option<Ipv4Addr> {
    let text = text.split(|c: char| c.is_ascii_whitespace()).next()?;
    let parts = text.split('.').map(part).collect::<Option<Vec<u64>>>()?;
    let (&last, first) = parts.split_last()?;
    if first.len() > 3 || first.iter().any(|&part| part > 255) || last >= 1 << (8 * (4 - first.len())) {
        return None;
    }
    let upper = first.iter().enumerate().map(|(index, part)| part << (24 - 8 * index)).sum::<u64>();
    u32::try_from(upper | last).ok().map(Ipv4Addr::from)
}

/// One part of an IPv4 address.
fn part(text: &str) -> Option<u64> {
    let (digits, radix) = match text.strip_prefix("0x").or_else(|| text.strip_prefix("0X")) {
        Some(hexadecimal) => (hexadecimal, 16),
        None if text.len() > 1 && text.starts_with('0') => (text, 8),
        None => (text, 10),
    };
    // `from_str_radix` takes a sign, which an address has not.
    if digits.starts_with(['+', '-']) { None } else { u64::from_str_radix(digits, radix).ok() }
}

/// A multicast address; the family by whether there is a colon. The error is the family's name.
pub fn multicast_group(text: &str) -> Result<IpAddr, &'static str> {
    if text.contains(':') {
        text.parse::<Ipv6Addr>().ok().filter(Ipv6Addr::is_multicast).map(IpAddr::V6).ok_or("IPv6")
    } else {
        inet_aton(text).filter(Ipv4Addr::is_multicast).map(IpAddr::V4).ok_or("IPv4")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_strtols() {
        for (text, value) in
            [("80", Some(80)), (" +080", Some(80)), ("-1", Some(-1)), ("80x", None), ("0x50", None), ("", None)]
        {
            assert_eq!(number(text, -1..=100), value, "{text:?}");
        }
        assert_eq!(number("99999999999999999999", 0..=i64::MAX), None);
        assert_eq!((leading_number("64x"), leading_number("x"), leading_number("-1")), (64, 0, -1));
    }

    #[test]
    fn addresses_are_inet_atons() {
        let read = |text| inet_aton(text).map(|address| address.to_string());
        for (text, value) in [
            ("1.2.3.4", Some("1.2.3.4")),
            ("1.2.3", Some("1.2.0.3")),
            ("1.2", Some("1.0.0.2")),
            ("16909060", Some("1.2.3.4")),
            ("0x0a000001", Some("10.0.0.1")),
            ("010.0.0.1", Some("8.0.0.1")),
            ("256.0.0.0", None),
            ("1.2.3.4.5", None),
            ("08", None),
            ("4294967296", None),
            ("", None),
            ("+1", None),
            ("1.", None),
        ] {
            assert_eq!(read(text), value.map(str::to_owned), "{text:?}");
        }
    }
}
