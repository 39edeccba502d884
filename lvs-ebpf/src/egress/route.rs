//! Last stage: the next hop, and out.

use crate::values::route::Route;
use core::ptr::null_mut;

use aya_ebpf::bindings::{__sk_buff, bpf_fib_lookup, xdp_md};
use lvs_common::abi::{AF_INET, Address, NextHop, device_flags, hop_flags};

use crate::{
    config::device::device,
    exits,
    kernel::{clear::clear, params, reload::reload, scratch},
    maps::{FIBS, ROUTES},
    packet::{access::Packet, access::TcPacket, access::XdpPacket},
};
use lvs_common::exit::Exit;

/// `lo`'s index, the same in every network namespace. Looking a route up from `lo` asks for it as the host itself would,
/// so that DR and TUN work on a host that forwards nothing else.
pub const LOOPBACK: u32 = 1;
/// `BPF_FIB_LKUP_RET_*`.
const FIB_SUCCESS: i64 = 0;
const FIB_NOT_FORWARDED: i64 = 4;
const FIB_NO_NEIGHBOUR: i64 = 7;
/// `BPF_FIB_LOOKUP_SRC`.
const FIB_WITH_SOURCE: u32 = 1 << 4;

/// Lends this CPU's place for a route, which is too large for the stack. `None` if there is none.
///
/// `work` must not ask for the place again: every function here that takes a route is given one.
#[inline(always)]
pub fn lend<R>(work: impl FnOnce(&mut Route) -> R) -> Option<R> {
    scratch::lend(
        &ROUTES,
        #[inline(always)]
        |route| {
            // A hop from the cache fills in nothing but the hop.
            route.local = false;
            route.family = 0;
            work(route)
        },
    )
}

/// [`lend`] for what ends with a verdict.
#[inline(always)]
pub fn with<P: Packet>(packet: P, work: impl FnOnce(&mut Route) -> i32) -> i32 {
    match lend(work) {
        Some(verdict) => verdict,
        None => exits::drop(packet, Exit::DropInternal),
    }
}

/// Whether an address is one of the director's own.
#[inline(always)]
pub fn is_local<P: Packet>(packet: P, family: u8, address: &Address, now: u64) -> bool {
    lend(
        #[inline(always)]
        |found| route(packet, family, address, now, found) && found.local,
    )
    .unwrap_or(false)
}

/// Looks up the route to `to`, an address of `family`.
#[inline(always)]
pub fn route<P: Packet>(packet: P, family: u8, to: &Address, now: u64, route: &mut Route) -> bool {
    look_up(packet, null_mut(), family, to, now, route)
}

/// Looks a route up and remembers its hop.
#[inline(always)]
pub fn look_up<P: Packet>(
    packet: P,
    cache: *mut NextHop,
    family: u8,
    to: &Address,
    now: u64,
    route: &mut Route,
) -> bool {
    route.gateway = copy(to);
    route.family = family;
    // Each tier's context has a type of its own, which the verifier checks.
    match packet.in_tc() {
        Ok(packet) => look_up_tc(packet.0, route, cache, now) != 0,
        Err(_) => look_up_xdp(packet.context().cast(), route, cache, now) != 0,
    }
}

/// [`find`] as a global function: see "global functions" in docs/develop/verifier.md.
macro_rules! global_look_up {
    ($name:ident, $context:ty, $packet:expr) => {
        #[unsafe(no_mangle)]
        #[inline(never)]
        extern "C" fn $name(context: *mut $context, route: *mut Route, cache: *mut NextHop, now: u64) -> u32 {
            if route.is_null() {
                return 0;
            }
            // SAFETY: this CPU's own element, which the caller was lent and lends on.
            find($packet(context), unsafe { &mut *route }, cache, now) as u32
        }
    };
}

global_look_up!(look_up_xdp, xdp_md, XdpPacket);
global_look_up!(look_up_tc, __sk_buff, TcPacket);

/// Looks up the route to the gateway that `route` names, and stores its hop in `cache`.
#[inline(always)]
fn find<P: Packet>(packet: P, route: &mut Route, cache: *mut NextHop, now: u64) -> bool {
    scratch::lend(
        &FIBS,
        #[inline(always)]
        |params| find_with(packet, params, route, cache, now),
    )
    .unwrap_or(false)
}

#[inline(always)]
fn find_with<P: Packet>(
    packet: P,
    params: &mut bpf_fib_lookup,
    route: &mut Route,
    cache: *mut NextHop,
    now: u64,
) -> bool {
    let (to, family) = (copy(&route.gateway), route.family);
    clear(params);
    clear(&mut route.hop);
    clear(&mut route.source);
    params.family = family;
    params.ifindex = LOOPBACK;
    // Any length makes the kernel tell the MTU.
    params.__bindgen_anon_1.tot_len = 1;
    if family == AF_INET {
        params.__bindgen_anon_4.ipv4_dst = to.0[0];
    } else {
        params.__bindgen_anon_4.ipv6_dst = to.0;
    }
    let flags = if params::fib_source() != 0 { FIB_WITH_SOURCE } else { 0 };
    let result = packet.fib(params, flags);
    if result == FIB_NOT_FORWARDED {
        route.local = true;
        return true;
    }
    if result != FIB_SUCCESS && result != FIB_NO_NEIGHBOUR {
        return false;
    }
    // SAFETY: the kernel filled the fields of the family asked for.
    unsafe {
        route.family = params.family;
        if params.family == AF_INET {
            route.gateway = Address([params.__bindgen_anon_4.ipv4_dst, 0, 0, 0]);
        } else {
            route.gateway = copy(&Address(params.__bindgen_anon_4.ipv6_dst));
        }
        if flags != 0 {
            if family == AF_INET {
                route.source = Address([params.__bindgen_anon_3.ipv4_src, 0, 0, 0]);
            } else {
                route.source = copy(&Address(params.__bindgen_anon_3.ipv6_src));
            }
        }
        route.hop.ifindex = params.ifindex;
        route.hop.checked = (now as u32) | 1;
        copy_mac(&params.dmac, &mut route.hop.destination);
        copy_mac(&params.smac, &mut route.hop.source);
        if result == FIB_SUCCESS {
            route.hop.mtu = params.__bindgen_anon_1.mtu_result;
            route.hop.flags |= hop_flags::NEIGHBOUR;
        } else {
            // The kernel does not report the route's MTU where there is no neighbour yet.
            route.hop.mtu = packet.device_mtu(params.ifindex) as u16;
        }
    }
    if let Some(device) = device(route.hop.ifindex) {
        if device.flags & device_flags::ACCEPTS_XDP != 0 {
            route.hop.flags |= hop_flags::XDP;
        }
        if device.flags & device_flags::NO_TX != 0 {
            route.hop.flags |= hop_flags::NO_TX;
        }
        if device.flags & device_flags::NO_ETHERNET != 0 {
            // There is nobody to ask for.
            route.hop.flags |= hop_flags::NEIGHBOUR;
        }
    }
    if !cache.is_null() {
        // SAFETY: an element of a map; the seal goes last.
        unsafe {
            (&raw mut (*cache).checked).write_volatile(0);
            (*cache).ifindex = route.hop.ifindex;
            copy_mac(&route.hop.destination, &raw mut (*cache).destination);
            copy_mac(&route.hop.source, &raw mut (*cache).source);
            (*cache).mtu = route.hop.mtu;
            (*cache).flags = route.hop.flags;
            (&raw mut (*cache).checked).write_volatile(route.hop.checked);
        }
    }
    true
}

/// A copy of an address, by words. See "memset and memcpy" in docs/develop/verifier.md.
#[inline(always)]
pub fn copy(address: &Address) -> Address {
    let [a, b, c, d] = &address.0;
    Address([reload(a), reload(b), reload(c), reload(d)])
}

/// A copy of a cached hop that is at most a second old and was not being written.
#[inline(always)]
fn fresh(cache: *mut NextHop, now: u64) -> Option<NextHop> {
    // SAFETY: an element of a map; a copy that another CPU was writing is noticed by its seal.
    let (copy, seal) = unsafe { (cache.read_volatile(), (&raw const (*cache).checked).read_volatile()) };
    // Odd like `checked`, which would else lie ahead of an even clock.
    let age = (now as u32 | 1).wrapping_sub(copy.checked);
    if copy.checked != 0 && copy.checked == seal && age <= params::hz() { Some(copy) } else { None }
}

/// The cached hop, looked up anew if it is older than a second, for XDP: `None` where the packet has to go up (no
/// route, no neighbour, a device that takes no XDP frames).
#[inline(always)]
pub fn hop<P: Packet>(packet: P, cache: *mut NextHop, family: u8, to: &Address, now: u64) -> Option<NextHop> {
    const USABLE: u16 = hop_flags::XDP | hop_flags::NEIGHBOUR;
    let hop = match fresh(cache, now) {
        Some(hop) => hop,
        None => {
            let found = lend(
                #[inline(always)]
                |found| {
                    let is_usable = look_up(packet, cache, family, to, now, found) && !found.local;
                    if is_usable { Some(found.hop) } else { None }
                },
            );
            found.flatten()?
        }
    };
    if hop.flags & USABLE == USABLE { Some(hop) } else { None }
}

/// The cached hop for TC, if its neighbour is known.
#[inline(always)]
pub fn cached(cache: *mut NextHop, now: u64, route: &mut Route) -> bool {
    match fresh(cache, now) {
        Some(hop) if hop.flags & hop_flags::NEIGHBOUR != 0 => {
            route.hop = hop;
            true
        }
        _ => false,
    }
}

/// Whether the kernel told the route's source address.
#[inline(always)]
pub fn has_source(route: &Route) -> bool {
    // A hop from the cache comes without.
    let s = route.source.0;
    route.family != 0 && s[0] | s[1] | s[2] | s[3] != 0
}

/// Copies a MAC address, by halves of words: of six bytes the compiler makes a call.
///
/// # Safety
/// Both are valid and begin at even addresses, as in frames and hops.
#[inline(always)]
pub unsafe fn copy_mac(from: *const [u8; 6], to: *mut [u8; 6]) {
    let (from, to) = (from.cast::<u16>(), to.cast::<u16>());
    // SAFETY: the caller's.
    unsafe {
        let halves = [from.read(), from.add(1).read(), from.add(2).read()];
        to.write_volatile(halves[0]);
        to.add(1).write_volatile(halves[1]);
        to.add(2).write_volatile(halves[2]);
    }
}
