//! Virtual services as they are in force.

use crate::maps::SERVICES;
use lvs_common::abi::{Service, ServiceConfig, ServiceId, service_flags};
use lvs_common::byte_order::Be16;

/// A service with the copy of its configuration that is in force.
#[derive(Clone, Copy)]
pub struct ServiceRef {
    pub id: ServiceId,
    pub it: *mut Service,
    pub config: *mut ServiceConfig,
}

impl ServiceRef {
    /// Service `id` at `epoch`, whether it is configured or not.
    #[inline(always)]
    pub fn get_any(id: ServiceId, epoch: u64) -> Option<ServiceRef> {
        let it = SERVICES.get_ptr_mut(id.get())?;
        // SAFETY: an element of the map; which copy is a bit.
        let config = unsafe { (&raw mut (*it).config).cast::<ServiceConfig>().add((*it).switch.copy(epoch) & 1) };
        Some(ServiceRef { id, it, config })
    }

    /// Service `id` at `epoch`, if it is configured.
    #[inline(always)]
    pub fn get(id: ServiceId, epoch: u64) -> Option<ServiceRef> {
        let found = Self::get_any(id, epoch)?;
        if found.config().flags & service_flags::PRESENT != 0 { Some(found) } else { None }
    }

    /// Its configuration.
    #[inline(always)]
    pub fn config(&self) -> &ServiceConfig {
        // SAFETY: an element of the map, written by `lvsadm` only while it is not in force.
        unsafe { &*self.config }
    }

    /// Its virtual port.
    #[inline(always)]
    pub fn port(&self) -> Be16 {
        // SAFETY: an element of the map.
        unsafe { (*self.it).port }
    }

    /// Its mark, 0 for an address service.
    #[inline(always)]
    pub fn fwmark(&self) -> u32 {
        // SAFETY: as above.
        unsafe { (*self.it).fwmark }
    }
}
