//! Offsets of fields in transport headers.

/// The checksum in TCP's header.
pub const TCP_CHECK: usize = 16;
/// The checksum in UDP's header.
pub const UDP_CHECK: usize = 6;
