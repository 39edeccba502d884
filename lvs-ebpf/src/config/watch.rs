//! The watch filter: which addresses the data plane has to do with at all.

use crate::{
    kernel::shared::{element, field},
    maps::WATCH,
};
use lvs_common::{
    abi::{IpAddress, Settings, settings_flags},
    byte_order::Be16,
    watch,
};

/// Whether the watch filter knows a packet's destination as a virtual address, and its source as one replies come from.
#[inline(always)]
pub fn watched<A: IpAddress>(source: A, destination: A, settings: &Settings) -> (bool, bool) {
    let Some(filter) = WATCH.get(0) else { return (false, false) };
    let (word, bit) = watch::bit(destination);
    let known = filter.virt.get(word).copied().unwrap_or(0) & bit != 0;
    let virt = known || settings.flags & settings_flags::ANY_ADDRESS != 0;
    let (word, bit) = watch::bit(source);
    let reply = filter.reply.get(word).copied().unwrap_or(0) & bit != 0;
    (virt, reply)
}

/// Whether a service may be for a packet to a virtual address, where no connection is.
#[inline(always)]
pub fn may_be_served<A: IpAddress>(destination: A, port: Be16, protocol: u8, settings: &Settings) -> bool {
    if settings.flags & settings_flags::SEVERAL_PORTS != 0 {
        return true;
    }
    let Some(filter) = WATCH.get(0) else { return true };
    let (word, bit) = watch::port_bit(destination, port, protocol);
    filter.served.get(word).is_none_or(|word| word & bit != 0)
}

/// Has packets to an address, and those from it, looked at from now on: the virtual address of a connection that a mark led
/// to, which no rule names.
#[inline(always)]
pub fn watch<A: IpAddress>(destination: A) {
    let Some(filter) = element(&WATCH, 0) else { return };
    let (word, bit) = watch::bit(destination);
    for word in [field!(filter.virt).at(word), field!(filter.reply).at(word)] {
        if word.load() & bit == 0 {
            word.fetch_or(bit);
        }
    }
}
