//! Third stage: the virtual service of a packet without a connection.

use lvs_common::{
    abi::{
        FwmarkKey, IpAddress, Service, ServiceConfig, ServiceId, ServiceKey, Settings, service_flags, settings_flags,
    },
    wire::protocol,
};

use crate::{
    maps::{FWMARKS, SERVICE4, SERVICE6, SERVICES},
    packet::parse::Parsed,
};

/// FTP's port.
pub const FTP: u16 = 21u16.to_be();
/// FTP's data port.
pub const FTP_DATA: u16 = 20u16.to_be();
/// First port that needs no privilege: FTP's passive data connections go there.
const UNPRIVILEGED: u16 = 1024;

/// A service with the copy of its configuration that is in force.
#[derive(Clone, Copy)]
pub struct Found {
    pub id: ServiceId,
    pub it: *mut Service,
    pub config: *mut ServiceConfig,
}

impl Found {
    /// Service `id` at `epoch`, whether it is configured or not.
    #[inline(always)]
    pub fn get_any(id: ServiceId, epoch: u64) -> Option<Found> {
        let it = SERVICES.get_ptr_mut(id)?;
        // SAFETY: an element of the map; which copy is a bit.
        let config = unsafe { (&raw mut (*it).config).cast::<ServiceConfig>().add((*it).switch.copy(epoch) & 1) };
        Some(Found { id, it, config })
    }

    /// Service `id` at `epoch`, if it is configured.
    #[inline(always)]
    pub fn get(id: ServiceId, epoch: u64) -> Option<Found> {
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
    pub fn port(&self) -> u16 {
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

/// The service on exactly this address, port and protocol.
#[inline(always)]
fn exact<A: IpAddress>(address: A, port: u16, protocol: u8, epoch: u64) -> Option<Found> {
    // SAFETY: the value is a plain number, copied at once.
    let id = unsafe {
        if A::HEADER == 20 {
            let key = ServiceKey { address: address.widen().0[0], port, protocol, pad: 0 };
            SERVICE4.get(key).copied()
        } else {
            let key = ServiceKey { address: address.widen().0, port, protocol, pad: 0 };
            SERVICE6.get(key).copied()
        }
    }?;
    Found::get(id, epoch)
}

/// Finds the service of a packet with `mark` in IPVS's order: mark, exact port, FTP's data ports, any port.
#[inline(always)]
pub fn find<A: IpAddress>(p: &Parsed<A>, mark: u32, settings: &Settings) -> Option<Found> {
    let epoch = settings.epoch;
    if mark != 0 && settings.flags & settings_flags::FWMARK != 0 {
        // SAFETY: as in `exact`.
        let id = unsafe { FWMARKS.get(FwmarkKey { mark, family: A::FAMILY as u32 }).copied() };
        if let Some(found) = id.and_then(|id| Found::get(id, epoch)) {
            return Some(found);
        }
    }
    if let Some(found) = exact(p.destination, p.destination_port, p.protocol, epoch) {
        return Some(found);
    }
    if p.protocol == protocol::TCP
        && settings.flags & settings_flags::FTP != 0
        && (p.destination_port == FTP_DATA || u16::from_be(p.destination_port) >= UNPRIVILEGED)
        && let Some(found) = exact(p.destination, FTP, protocol::TCP, epoch)
    {
        return Some(found);
    }
    if settings.flags & settings_flags::ANY_PORT != 0 {
        return exact(p.destination, 0, p.protocol, epoch);
    }
    None
}
