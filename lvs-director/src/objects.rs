//! The eBPF objects, embedded. An object is empty if it was not built before this crate was: see `build.rs`.

/// The director's programs.
pub static DIRECTOR: &[u8] = aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/lvs"));

/// The director's programs for devices without Ethernet headers.
pub static L3: &[u8] = aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/l3"));

/// A real server's programs for tunnels.
pub static REAL_SERVER: &[u8] = aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/real_server"));

/// A real server's programs for TOA.
pub static TOA: &[u8] = aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/toa"));

/// The programs that observe packets.
pub static OBSERVE: &[u8] = aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/observe"));
