//! The connection that was found for a packet, for the programs of FullNAT.

use crate::table::entry::Entry;
use lvs_common::abi::{IpAddress, Settings};

use crate::{
    config,
    kernel::{cpu, scratch},
    maps::MATCHES,
    packet::handover,
    table,
    values::parsed::Parsed,
};

/// Stores the entry of the packet's connection.
#[inline(always)]
pub fn store(at: u32) -> bool {
    scratch::lend(&MATCHES, |place| *place = at).is_some()
}

/// The entry that was stored.
#[inline(always)]
pub fn entry() -> Option<u32> {
    MATCHES.get(cpu::number()).copied()
}

/// What a program of FullNAT works on.
pub struct Matched<A: IpAddress> {
    /// The packet.
    pub p: &'static Parsed<A>,
    /// The settings.
    pub settings: &'static Settings,
    /// The connection's entry.
    pub at: u32,
    /// The connection.
    pub connection: Entry<A>,
}

/// What the program before this one stored.
#[inline(always)]
pub fn load<A: IpAddress>() -> Option<Matched<A>> {
    let at = entry()?;
    Some(Matched { p: handover::load()?, settings: config::settings()?, at, connection: table::store::entry::<A>(at)? })
}
