//! Fragments that a program has finished before the neighbour that they go to was known.

use lvs_common::{
    abi::{AF_INET, AF_INET6, Address, IpAddress},
    exit::Exit,
    wire::{Ipv4, Ipv6},
};

use crate::{
    config::{self, destination::DestRef},
    egress::{route, send},
    exits,
    kernel::clock,
    packet::{
        access::{Packet, TcPacket},
        control_block,
    },
    values::{parsed::L3, route::By},
};

/// The program: sends the fragment to where [`split`](super::split) was to send it, by the kernel's neighbour output, which keeps it
/// until the neighbour answers. It has been counted.
#[inline(always)]
pub fn run<A: IpAddress>(packet: TcPacket) -> i32 {
    let Some(settings) = config::settings() else { return TcPacket::DROP };
    let addressed = if A::IS_V4 {
        packet.read::<Ipv4>(L3).map(|h| (AF_INET, Address([h.destination, 0, 0, 0])))
    } else {
        packet.read::<Ipv6>(L3).map(|h| (AF_INET6, Address(h.destination)))
    };
    let dest = DestRef::get(control_block::cutting(packet).dest, settings.epoch);
    let Some((family, to)) = dest.map(|dest| (dest.family(), *dest.address())).or(addressed) else {
        return TcPacket::DROP;
    };
    route::with(
        packet,
        #[inline(always)]
        |route| {
            if let Err(exit) = route::route(packet, family, &to, clock::jiffies(), route) {
                return exits::drop(packet, exit);
            }
            if route.by == By::Local {
                return exits::drop(packet, Exit::DropNoRoute);
            }
            send::send_own(packet, route)
        },
    )
}
