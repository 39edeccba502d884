//! Questions to the kernel's routing that are about no packet's way out: is an address reached by a device, or the host's own?

use aya_ebpf::bindings::bpf_fib_lookup;
use lvs_common::{
    abi::{AF_INET, Address},
    admission::{self, Way},
};

use crate::{
    egress::route::{LOOPBACK, copy},
    kernel::{clear::clear, loops, params, random, scratch},
    maps::FIBS,
    packet::access::Packet,
};

/// `BPF_FIB_LOOKUP_SKIP_NEIGH`: nothing here is sent, so no neighbour is asked for.
const FIB_SKIPS_NEIGHBOUR: u32 = 1 << 2;

/// How often the answer of a route with several ways is asked for: the kernel chooses by a hash of the addresses.
const SAMPLES: u32 = 16;

/// Where `to` is, for a packet from `from` that comes in on `device` ([`LOOPBACK`]: for one of the host's own), and the device that it
/// would leave by.
#[inline(always)]
pub fn ask<P: Packet>(packet: P, family: u8, device: u32, from: &Address, to: &Address) -> (Way, u32) {
    scratch::lend(
        &FIBS,
        #[inline(always)]
        |fib| ask_with(packet, fib, family, device, from, to),
    )
    .unwrap_or((Way::Unknown, 0))
}

#[inline(always)]
fn ask_with<P: Packet>(
    packet: P,
    fib: &mut bpf_fib_lookup,
    family: u8,
    device: u32,
    from: &Address,
    to: &Address,
) -> (Way, u32) {
    clear(fib);
    fib.family = family;
    fib.ifindex = device;
    if family == AF_INET {
        fib.__bindgen_anon_3.ipv4_src = from.0[0];
        fib.__bindgen_anon_4.ipv4_dst = to.0[0];
    } else {
        fib.__bindgen_anon_3.ipv6_src = copy(from).0;
        fib.__bindgen_anon_4.ipv6_dst = copy(to).0;
    }
    let flags = if params::fib_skips_neighbour() != 0 { FIB_SKIPS_NEIGHBOUR } else { 0 };
    let way = Way::of(packet.fib(fib, flags));
    (way, fib.ifindex)
}

/// Where an address is for what comes in for it: asked for the packet's own device, or, where that does not forward, as the host itself
/// would.
#[inline(always)]
pub fn way_on<P: Packet>(packet: P, family: u8, from: &Address, to: &Address) -> Way {
    match ask(packet, family, packet.device(), from, to).0 {
        Way::Unknown => ask(packet, family, LOOPBACK, from, to).0,
        way => way,
    }
}

/// Whether an address that is [`Way::Here`] is the host's own, or a broadcast address: addresses next to it have a route. (An
/// address of a host that has no route to anything near it is taken for a stranger's without a route.)
#[inline(always)]
pub fn is_own<P: Packet>(packet: P, family: u8, address: &Address) -> bool {
    let routed = |nth| {
        let near = admission::near(family, address, nth);
        ask(packet, family, LOOPBACK, &Address::default(), &near).0 == Way::Out
    };
    routed(0) || routed(1)
}

/// Whether a route with several ways leads to `to` by `device`, too.
#[inline(always)]
pub fn leads_by<P: Packet>(packet: P, family: u8, device: u32, to: &Address) -> bool {
    let mut is_found = false;
    loops::repeat(SAMPLES, &mut |_| {
        let from = Address([random::word(), 0, 0, 0]);
        let (way, by) = ask(packet, family, LOOPBACK, &from, to);
        is_found = way == Way::Out && by == device;
        is_found
    });
    is_found
}
