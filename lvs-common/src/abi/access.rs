//! Lists of clients that may come in, or may not: `LISTS4` and `LISTS6`, tries of prefixes, each with the number of its list in
//! front. [`ServiceConfig::blocked`](super::ServiceConfig) and [`ServiceConfig::allowed`](super::ServiceConfig) say which lists
//! are in force; those of service 0 are for all services.

/// Bits of a key of `LISTS4` before the address.
pub const LIST_BITS4: u32 = 32;
/// Bits of a key of `LISTS6` before the address.
pub const LIST_BITS6: u32 = 64;

/// An entry without an end.
pub const FOR_GOOD: u64 = u64::MAX;

/// Key of `LISTS4`, without the length of its prefix.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct ListKey4 {
    /// The list's number, never 0.
    pub list: u32,
    /// First address of the prefix, network order.
    pub address: u32,
}

/// Key of `LISTS6`, without the length of its prefix.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct ListKey6 {
    /// The list's number, never 0.
    pub list: u32,
    /// Always 0.
    pub pad: u32,
    /// First address of the prefix, network order.
    pub address: [u32; 4],
}

/// Value of `LISTS4` and `LISTS6`: a prefix on a list.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct ListEntry {
    /// `CLOCK_MONOTONIC` at which it ends, ns; [`FOR_GOOD`] without an end.
    pub until: u64,
    /// Packets that were refused for it, of an entry that blocks.
    #[cfg(not(feature = "test-layout"))]
    pub packets: u64,
    /// Length of the prefix, without the bits before the address.
    pub length: u32,
    /// Always 0.
    pub pad: u32,
    /// As above; the layout for tests has it here.
    #[cfg(feature = "test-layout")]
    pub packets: u64,
}

const _: () = assert!(size_of::<ListKey4>() == 8);
const _: () = assert!(size_of::<ListKey6>() == 24);
const _: () = assert!(size_of::<ListEntry>() == 24);
