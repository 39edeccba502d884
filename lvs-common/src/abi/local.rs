//! Local addresses of FullNAT: `LOCALS`, an array, and `PORTS`, which of their ports are taken.

use super::address::Address;
use crate::byte_order::Be16;

/// Most local addresses; 0 is none.
pub const LOCAL_ADDRESSES: u32 = 4096;

/// A local address. It is one, whatever pools it is in: no two connections may share a tuple.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct LocalAddress {
    /// Of the layout for tests only.
    #[cfg(feature = "test-layout")]
    pub sample: u64,
    /// The address.
    pub address: Address,
    /// Connections that have a port of it.
    pub conns: u32,
    /// First of the ports that the host itself gives out where it has this address, host order; see `ports`.
    pub host_first: u16,
    /// Last of them; 0 where the address is not the host's.
    pub host_last: u16,
    /// New connections that found no free port here.
    pub conflicts: u64,
    /// `AF_INET` or `AF_INET6`; 0 is a free slot.
    pub family: u32,
    /// In how many pools it is; only `lvsadm` reads it. One that is in none stays while connections have ports of it.
    pub pools: u32,
    /// When it was taken out of its last pool, nanoseconds of the sweep's clock; 0 while it is in one.
    pub removed: u64,
}

/// Slots of a pool's table in front of the addresses: how many there are of IPv4, which come first, and of IPv6.
pub const POOL_HEAD: u32 = 2;

/// Ports of a chunk.
pub const CHUNK_PORTS: u32 = 4096;
/// Chunks of all ports.
pub const CHUNKS: u32 = 65536 / CHUNK_PORTS;
/// Words of a chunk.
pub const CHUNK_WORDS: u32 = CHUNK_PORTS / 64;

/// Key of `PORTS`: some ports of a local address toward one real server and port. Toward another one each may be used
/// again.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[repr(C)]
pub struct PortKey {
    /// Real server.
    pub real: Address,
    /// Index in `LOCALS`.
    pub local: u32,
    /// Its port.
    pub real_port: Be16,
    /// IP protocol number.
    pub protocol: u8,
    /// Which chunk.
    pub chunk: u8,
}

/// Value of `PORTS`: a bit for each port, set while it is taken.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct Ports {
    /// Bits that are set.
    pub taken: u32,
    /// Always 0.
    pub pad: u32,
    /// The bits.
    pub bits: [u64; CHUNK_WORDS as usize],
}

const _: () = assert!(cfg!(feature = "test-layout") || size_of::<LocalAddress>() == 48);
const _: () = assert!(size_of::<PortKey>() == 24);
const _: () = assert!(size_of::<Ports>() == 520);
