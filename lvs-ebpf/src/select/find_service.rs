//! The virtual service of a packet without a connection.

use crate::config::service::ServiceRef;
use lvs_common::byte_order::Be16;
use lvs_common::{
    abi::{FwmarkKey, IpAddress, ServiceKey, Settings, service_flags},
    lookup,
    wire::protocol,
};

use crate::{
    kernel::shared::value,
    maps::{FWMARKS, SERVICE4, SERVICE6},
    values::parsed::Parsed,
};

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

/// Finds the service of a packet with `mark`: see [`lookup`].
#[inline(always)]
pub fn find<A: IpAddress>(p: &Parsed<A>, mark: u32, settings: &Settings) -> Option<ServiceRef> {
    let epoch = settings.epoch;
    lookup::service(
        p.destination_port,
        p.protocol,
        mark,
        settings.flags,
        #[inline(always)]
        |mark| {
            let id = value(&FWMARKS, &FwmarkKey { mark, family: A::FAMILY as u32 });
            ServiceRef::get(id?.load(), epoch)
        },
        #[inline(always)]
        |port, protocol| exact(p.destination, port, protocol, epoch),
    )
}

/// Whether one-packet scheduling (`-o`) applies to a packet.
#[inline(always)]
pub fn is_one_packet<A>(p: &Parsed<A>, service: &ServiceRef) -> bool {
    service.config().flags & service_flags::ONE_PACKET != 0 && p.protocol == protocol::UDP
}
