//! Classification rules: `MARKS`, two copies of a list of which [`Settings::marks`](super::Settings) says which is in force.

use super::{address::Address, switch::Switch};

/// Most rules there can be.
pub const MARK_RULES: u32 = 1024;

/// A rule that gives packets a firewall mark: see `marks`. The rules of a copy are in the order in which they are asked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct MarkRule {
    /// Prefix of the destination address.
    #[cfg(not(feature = "test-layout"))]
    pub destination: Address,
    /// Prefix of the source address.
    pub source: Address,
    /// As above; the layout for tests has it here.
    #[cfg(feature = "test-layout")]
    pub destination: Address,
    /// The mark, never 0.
    pub mark: u32,
    /// First of the destination ports, host order.
    pub first_port: u16,
    /// Last of them.
    pub last_port: u16,
    /// Length of the destination's prefix.
    pub destination_bits: u8,
    /// Length of the source's prefix.
    pub source_bits: u8,
    /// IP protocol number, 0 for every one.
    pub protocol: u8,
    /// `AF_INET` or `AF_INET6`.
    pub family: u8,
    /// Always 0.
    pub pad: u32,
}

/// The lists of rules.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct MarkLists {
    /// Which copy is in force.
    pub switch: Switch,
    /// How many rules each copy has; those of copy 1 begin at [`MARK_RULES`].
    pub counts: [u32; 2],
}

const _: () = assert!(size_of::<MarkRule>() == 48);
const _: () = assert!(size_of::<MarkLists>() == 16);
