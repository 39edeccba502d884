//! The watch filter: which addresses the data plane has to do with at all.

use crate::{kernel::atomics, maps::WATCH};
use lvs_common::{
    abi::{IpAddress, Settings, settings_flags},
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

/// Has packets to an address, and those from it, looked at from now on: the virtual address of a connection that a mark led
/// to, which no rule names.
#[inline(always)]
pub fn watch<A: IpAddress>(destination: A) {
    let Some(filter) = WATCH.get_ptr_mut(0) else { return };
    let (word, bit) = watch::bit(destination);
    // SAFETY: words of the map's element; `bit` keeps the index in bounds.
    let words = unsafe {
        let (virt, reply) = (&raw mut (*filter).virt, &raw mut (*filter).reply);
        [virt.cast::<u64>().add(word & 1023), reply.cast::<u64>().add(word & 1023)]
    };
    for word in words {
        // SAFETY: as above.
        if unsafe { word.read_volatile() } & bit == 0 {
            atomics::fetch_or64(word, bit);
        }
    }
}
