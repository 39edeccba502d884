//! Destinations as they are in force.

use crate::maps::DESTS;
use lvs_common::abi::{DestConfig, DestId, Destination, dest_flags};

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
}
