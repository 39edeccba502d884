//! Virtual services as they are in force.

use crate::kernel::shared::{Shared, element, field};
use crate::maps::SERVICES;
use lvs_common::abi::{Service, ServiceConfig, ServiceId, service_flags};
use lvs_common::byte_order::Be16;

/// A service with the copy of its configuration that is in force.
#[derive(Clone, Copy)]
pub struct ServiceRef {
    pub id: ServiceId,
    it: Shared<Service>,
    config: Shared<ServiceConfig>,
}

impl ServiceRef {
    /// Service `id` at `epoch`, whether it is configured or not.
    #[inline(always)]
    pub fn get_any(id: ServiceId, epoch: u64) -> Option<ServiceRef> {
        let it = element(&SERVICES, id.get())?;
        let config = field!(it.config).at(it.get().switch.copy(epoch));
        Some(ServiceRef { id, it, config })
    }

    /// Service `id` at `epoch`, if it is configured.
    #[inline(always)]
    pub fn get(id: ServiceId, epoch: u64) -> Option<ServiceRef> {
        let found = Self::get_any(id, epoch)?;
        if found.config().flags & service_flags::PRESENT != 0 { Some(found) } else { None }
    }

    /// Its configuration, which `lvsadm` writes only while it is not in force.
    #[inline(always)]
    pub fn config<'a>(&self) -> &'a ServiceConfig {
        self.config.get()
    }

    /// The scheduler's word of state, which packets change.
    #[inline(always)]
    pub fn scheduler_state(&self) -> Shared<u64> {
        let config = self.config;
        field!(config.sched_state)
    }

    /// Its virtual port.
    #[inline(always)]
    pub fn port(&self) -> Be16 {
        self.it.get().port
    }

    /// Its protocol, 0 for a mark's service.
    #[inline(always)]
    pub fn protocol(&self) -> u8 {
        self.it.get().protocol
    }

    /// Its mark, 0 for an address service.
    #[inline(always)]
    pub fn fwmark(&self) -> u32 {
        self.it.get().fwmark
    }

    /// Whose turn of the local addresses it is.
    #[inline(always)]
    pub fn local_turn(&self) -> Shared<u32> {
        let it = self.it;
        field!(it.local_turn)
    }

    /// Where its address was last found to be the host's own: see [`admission::known_here`](lvs_common::admission::known_here).
    #[inline(always)]
    pub fn here(&self) -> Shared<u64> {
        let it = self.it;
        field!(it.here)
    }

    /// The count of requests of unverified sources: see [`challenge::spend`](lvs_common::challenge::spend).
    #[inline(always)]
    pub fn requests(&self) -> Shared<u32> {
        let it = self.it;
        field!(it.requests)
    }
}
