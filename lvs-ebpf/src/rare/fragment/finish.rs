//! Fragments that a program has finished before the neighbour that they go to was known.

use lvs_common::{
    abi::{Address, IpAddress},
    exit::Exit,
    wire::{Ipv4, Ipv6},
};

use crate::{
    egress::{route, send},
    exits,
    kernel::clock,
    packet::access::{Packet, TcPacket},
    values::parsed::L3,
};

/// The program: sends the fragment to where its header says, by the kernel's neighbour output, which keeps it until the
/// neighbour answers. [`split`](super::split) has counted it.
#[inline(always)]
pub fn run<A: IpAddress>(packet: TcPacket) -> i32 {
    let to = if A::IS_V4 {
        packet.read::<Ipv4>(L3).map(|h| h.destination.widen())
    } else {
        packet.read::<Ipv6>(L3).map(|h| Address(h.destination))
    };
    let Some(to) = to else { return TcPacket::DROP };
    route::with(
        packet,
        #[inline(always)]
        |route| {
            if !route::route(packet, A::FAMILY, &to, clock::jiffies(), route) || route.local {
                return exits::drop(packet, Exit::DropNoRoute);
            }
            send::send_tc(packet, route)
        },
    )
}
