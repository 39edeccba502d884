//! Classification rules: which traffic gets which firewall mark, for services by mark.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use lvs_common::abi::Address;
use lvs_common::marks::prefix;

use super::service::{Family, Protocol};

/// Every port, and packets without one.
pub const EVERY_PORT: (u16, u16) = (0, u16::MAX);

/// Why a text does not say which traffic, or which mark.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TrafficError {
    /// It is no prefix.
    #[error("`{0}' is no address, nor one with /LENGTH after it")]
    Prefix(String),
    /// A prefix of this length is none of the family's.
    #[error("the length of such a prefix is from 0 to {whole}, not `{length}'")]
    Length {
        /// What is written after the `/`.
        length: String,
        /// Bits of an address.
        whole: u8,
    },
    /// It is neither a port nor a range of ports.
    #[error("ports are PORT or FIRST-LAST, from 0 to 65535, not `{0}'")]
    Ports(String),
    /// The range's first port is greater than its last.
    #[error("ports {0}-{1}: the first is greater than the last")]
    Range(u16, u16),
    /// It is no mark.
    #[error("a mark is a number from 1 to {max}, not `{0}'", max = u32::MAX)]
    Mark(String),
}

/// Addresses that begin alike.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Prefix {
    /// The first of them.
    pub address: IpAddr,
    /// How many bits they have in common.
    pub length: u8,
}

impl Prefix {
    /// Every address of a family.
    pub fn every(family: Family) -> Self {
        let address = match family {
            Family::V4 => Ipv4Addr::UNSPECIFIED.into(),
            Family::V6 => Ipv6Addr::UNSPECIFIED.into(),
        };
        Prefix { address, length: 0 }
    }

    /// Reads `ADDRESS` or `ADDRESS/LENGTH`.
    pub fn parse(text: &str) -> Result<Self, TrafficError> {
        let (address, length) = text.split_once('/').map_or((text, None), |(address, length)| (address, Some(length)));
        let Ok(address) = address.parse::<IpAddr>() else {
            return Err(TrafficError::Prefix(text.to_owned()));
        };
        let whole = if address.is_ipv4() { 32 } else { 128 };
        let length = match length {
            None => whole,
            Some(length) => length
                .parse()
                .ok()
                .filter(|length| *length <= whole)
                .ok_or_else(|| TrafficError::Length { length: length.to_owned(), whole })?,
        };
        Ok(Prefix { address: first(address, length), length })
    }
}

/// An address with everything after the prefix set to 0.
fn first(address: IpAddr, length: u8) -> IpAddr {
    match address {
        IpAddr::V4(v4) => Ipv4Addr::from(prefix(Address::v4(v4.octets()), length).octets4()).into(),
        IpAddr::V6(v6) => Ipv6Addr::from(prefix(Address::v6(v6.octets()), length).octets6()).into(),
    }
}

impl fmt::Display for Prefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let whole = if self.address.is_ipv4() { 32 } else { 128 };
        match self.length {
            length if length == whole => self.address.fmt(f),
            length => write!(f, "{}/{length}", self.address),
        }
    }
}

/// What a rule is about, which is what it is found by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Traffic {
    /// Where packets go.
    pub to: Prefix,
    /// Where they come from; of the same family.
    pub from: Prefix,
    /// The first and the last destination port, [`EVERY_PORT`] for any.
    pub ports: (u16, u16),
    /// The protocol, `None` for any that is balanced.
    pub protocol: Option<Protocol>,
}

impl Traffic {
    /// All traffic of a family.
    pub fn every(family: Family) -> Self {
        let every = Prefix::every(family);
        Traffic { to: every, from: every, ports: EVERY_PORT, protocol: None }
    }

    /// The family of its addresses.
    pub fn family(&self) -> Family {
        Family::of(self.to.address)
    }
}

/// As options of `lvsadm mark`, empty for all traffic over IPv4.
impl fmt::Display for Traffic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut options = Vec::new();
        if let Some(protocol) = self.protocol {
            options.push(format!("--protocol {}", protocol.name()));
        }
        if self.family() == Family::V6 && self.to.length == 0 && self.from.length == 0 {
            options.push("-6".to_owned());
        }
        let prefixes = [("--to", self.to), ("--from", self.from)].into_iter().filter(|(_, prefix)| prefix.length != 0);
        options.extend(prefixes.map(|(option, prefix)| format!("{option} {prefix}")));
        match self.ports {
            EVERY_PORT => {}
            (first, last) if first == last => options.push(format!("--dport {first}")),
            (first, last) => options.push(format!("--dport {first}-{last}")),
        }
        f.write_str(&options.join(" "))
    }
}

/// A rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mark {
    /// What it is about.
    pub traffic: Traffic,
    /// The mark that the traffic gets, never 0.
    pub mark: u32,
}

/// As options of `lvsadm mark add`.
impl fmt::Display for Mark {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(format!("--mark {} {}", self.mark, self.traffic).trim_end())
    }
}

/// A change of the list of rules.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MarkChange {
    /// All rules go.
    Flush,
    /// A rule comes, in the place of one about the same traffic.
    Add(Mark),
    /// The rule about this traffic goes.
    Delete(Traffic),
}

impl MarkChange {
    /// Makes the change to a list, as far as there is anything to change.
    pub fn apply(&self, marks: &mut Vec<Mark>) {
        match self {
            MarkChange::Flush => marks.clear(),
            MarkChange::Delete(traffic) => marks.retain(|mark| mark.traffic != *traffic),
            MarkChange::Add(mark) => {
                MarkChange::Delete(mark.traffic).apply(marks);
                marks.push(*mark);
            }
        }
    }
}

/// Reads `PORT` or `FIRST-LAST`.
pub fn ports(text: &str) -> Result<(u16, u16), TrafficError> {
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    match (first.parse(), last.parse()) {
        (Ok(first), Ok(last)) if first <= last => Ok((first, last)),
        (Ok(first), Ok(last)) => Err(TrafficError::Range(first, last)),
        _ => Err(TrafficError::Ports(text.to_owned())),
    }
}

/// Reads a mark, decimal or hexadecimal after `0x`.
pub fn mark(text: &str) -> Result<u32, TrafficError> {
    let number = match text.strip_prefix("0x").or_else(|| text.strip_prefix("0X")) {
        Some(digits) => u32::from_str_radix(digits, 16).ok(),
        None => text.parse().ok(),
    };
    number.filter(|mark| *mark != 0).ok_or_else(|| TrafficError::Mark(text.to_owned()))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn prefixes_are_read_and_cut() {
        let read = |text| Prefix::parse(text).map(|prefix| prefix.to_string());
        for (text, shown) in [
            ("192.0.2.7", "192.0.2.7"),
            ("192.0.2.7/32", "192.0.2.7"),
            ("192.0.2.7/24", "192.0.2.0/24"),
            ("192.0.2.7/0", "0.0.0.0/0"),
            ("2001:db8::7/33", "2001:db8::/33"),
            ("::1", "::1"),
            ("::1/0", "::/0"),
        ] {
            assert_eq!(read(text).as_deref(), Ok(shown));
        }
        for (text, sentence) in [
            ("192.0.2.7/33", "the length of such a prefix is from 0 to 32, not `33'"),
            ("::/129", "the length of such a prefix is from 0 to 128, not `129'"),
            ("192.0.2.7/", "the length of such a prefix is from 0 to 32, not `'"),
            ("192.0.2", "`192.0.2' is no address, nor one with /LENGTH after it"),
        ] {
            assert_eq!(read(text).map_err(|error| error.to_string()), Err(sentence.to_owned()));
        }
    }

    #[test]
    fn ports_and_marks_are_kept_in_range() {
        assert_eq!((ports("80"), ports("80-90"), ports("0-65535")), (Ok((80, 80)), Ok((80, 90)), Ok(EVERY_PORT)));
        assert_eq!(ports("90-80"), Err(TrafficError::Range(90, 80)));
        assert_eq!(TrafficError::Range(90, 80).to_string(), "ports 90-80: the first is greater than the last");
        for text in ["", "80-", "-80", "65536", "http", "80-90-100"] {
            assert!(ports(text).is_err(), "{text}");
        }
        assert_eq!((mark("7"), mark("0xdeadBEEF"), mark("4294967295")), (Ok(7), Ok(0xdead_beef), Ok(u32::MAX)));
        for text in ["0", "0x0", "-1", "4294967296", "0x", ""] {
            assert!(mark(text).is_err(), "{text}");
        }
    }

    proptest! {
        #[test]
        fn a_prefix_is_the_first_of_its_addresses(bits: u128, length in 0u8..=128) {
            let prefix = Prefix::parse(&format!("{}/{length}", Ipv6Addr::from(bits))).unwrap();
            prop_assert_eq!(Prefix::parse(&prefix.to_string()), Ok(prefix));
            let IpAddr::V6(first) = prefix.address else { panic!("another family") };
            let behind = if length == 128 { 0 } else { u128::MAX >> length };
            prop_assert_eq!(u128::from(first), bits & !behind);
        }
    }
}
