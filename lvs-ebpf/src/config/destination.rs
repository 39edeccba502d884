//! Destinations as they are in force.

use crate::maps::DESTS;
use lvs_common::abi::{Address, DestConfig, DestId, Destination, NextHop, ServiceId, dest_flags};
use lvs_common::byte_order::Be16;

/// A destination with the copy of its configuration that is in force.
#[derive(Clone, Copy)]
pub struct DestRef {
    pub id: DestId,
    pub it: *mut Destination,
    pub config: *const DestConfig,
}

impl DestRef {
    /// Destination `id` at `epoch`.
    #[inline(always)]
    pub fn get(id: DestId, epoch: u64) -> Option<DestRef> {
        if id.is_none() {
            return None;
        }
        let it = DESTS.get_ptr_mut(id.get())?;
        Some(DestRef { id, it, config: DestRef::in_force(it, epoch) })
    }

    /// The copy of a destination's configuration that is in force at `epoch`.
    #[inline(always)]
    pub fn in_force(it: *mut Destination, epoch: u64) -> *const DestConfig {
        // SAFETY: an element of the map; which copy is a bit.
        unsafe { (&raw const (*it).config).cast::<DestConfig>().add((*it).switch.copy(epoch) & 1) }
    }

    /// Its configuration.
    #[inline(always)]
    pub fn config(&self) -> &DestConfig {
        // SAFETY: an element of the map, written by `lvsadm` only while it is not in force.
        unsafe { &*self.config }
    }

    /// Whether it is configured.
    #[inline(always)]
    pub fn available(&self) -> bool {
        self.config().flags & dest_flags::AVAILABLE != 0
    }

    /// The real server's address.
    #[inline(always)]
    pub fn address<'a>(&self) -> &'a Address {
        // SAFETY: an element of a map, which lives as long as the program. `lvsadm` writes the field before the destination
        // is available, and again only when nothing refers to the destination any more.
        unsafe { &(*self.it).address }
    }

    /// The family of the address, `AF_INET` or `AF_INET6`.
    #[inline(always)]
    pub fn family(&self) -> u8 {
        // SAFETY: as for `address`.
        unsafe { (*self.it).family }
    }

    /// The real server's port.
    #[inline(always)]
    pub fn port(&self) -> Be16 {
        // SAFETY: as for `address`.
        unsafe { (*self.it).port }
    }

    /// The destination's service.
    #[inline(always)]
    pub fn service(&self) -> ServiceId {
        // SAFETY: as for `address`.
        unsafe { (*self.it).service }
    }

    /// The director's address toward the real server, for tunnels; all 0 until it is known.
    #[inline(always)]
    pub fn source<'a>(&self) -> &'a Address {
        // SAFETY: an element of a map. Every CPU writes the same value.
        unsafe { &(*self.it).source }
    }

    /// Remembers the director's address toward the real server.
    #[inline(always)]
    pub fn set_source(&self, source: Address) {
        // SAFETY: as for `source`.
        unsafe { (*self.it).source = source }
    }

    /// Where the next hop is cached.
    #[inline(always)]
    pub fn hop(&self) -> *mut NextHop {
        // SAFETY: an element of a map; the place of a field.
        unsafe { &raw mut (*self.it).hop }
    }
}
