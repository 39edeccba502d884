//! The virtual service of a packet without a connection.

use crate::config::service::ServiceRef;
use lvs_common::byte_order::Be16;
use lvs_common::{
    abi::{FwmarkKey, IpAddress, ServiceKey, Settings, service_flags, settings_flags},
    wire::protocol,
};

use crate::{
    kernel::shared::value,
    maps::{FWMARKS, SERVICE4, SERVICE6},
    values::parsed::Parsed,
};

/// FTP's port.
pub const FTP: Be16 = Be16::new(21);
/// FTP's data port.
pub const FTP_DATA: Be16 = Be16::new(20);
/// First port that needs no privilege: FTP's passive data connections go there.
const UNPRIVILEGED: u16 = 1024;

/// The service on exactly this address, port and protocol.
#[inline(always)]
fn exact<A: IpAddress>(address: A, port: Be16, protocol: u8, epoch: u64) -> Option<ServiceRef> {
    let id = if A::IS_V4 {
        value(&SERVICE4, &ServiceKey { address: address.widen().0[0], port, protocol, pad: 0 })
    } else {
        value(&SERVICE6, &ServiceKey { address: address.widen().0, port, protocol, pad: 0 })
    };
    ServiceRef::get(id?.load(), epoch)
}

/// Finds the service of a packet with `mark` in IPVS's order: mark, exact port, FTP's data ports, any port.
#[inline(always)]
pub fn find<A: IpAddress>(p: &Parsed<A>, mark: u32, settings: &Settings) -> Option<ServiceRef> {
    let epoch = settings.epoch;
    if mark != 0 && settings.flags & settings_flags::FWMARK != 0 {
        let id = value(&FWMARKS, &FwmarkKey { mark, family: A::FAMILY as u32 });
        if let Some(found) = id.and_then(|id| ServiceRef::get(id.load(), epoch)) {
            return Some(found);
        }
    }
    if let Some(found) = exact(p.destination, p.destination_port, p.protocol, epoch) {
        return Some(found);
    }
    if p.protocol == protocol::TCP
        && settings.flags & settings_flags::FTP != 0
        && (p.destination_port == FTP_DATA || p.destination_port.get() >= UNPRIVILEGED)
        && let Some(found) = exact(p.destination, FTP, protocol::TCP, epoch)
    {
        return Some(found);
    }
    if settings.flags & settings_flags::ANY_PORT != 0 {
        return exact(p.destination, Be16::ZERO, p.protocol, epoch);
    }
    None
}

/// Whether one-packet scheduling (`-o`) applies to a packet.
#[inline(always)]
pub fn is_one_packet<A>(p: &Parsed<A>, service: &ServiceRef) -> bool {
    service.config().flags & service_flags::ONE_PACKET != 0 && p.protocol == protocol::UDP
}
