//! The next hop: from a connection's or destination's cache, or by the kernel's FIB look-up.

use crate::values::route::{By, Route};
use core::mem::transmute;
use core::ptr::null_mut;

use aya_ebpf::bindings::{__sk_buff, bpf_fib_lookup, xdp_md};
use aya_ebpf::btf_maps::lpm_trie::Key;
use lvs_common::abi::{AF_INET, Address, IpAddress, NextHop, device_flags, hop_flags};
use lvs_common::admission::fib;
use lvs_common::exit::Exit;
use lvs_common::neighbour;

use crate::{
    config::{self, device::device},
    exits,
    kernel::{clear::clear, global::global_fn, params, reload::reload, scratch, shared},
    maps::{CONFIRMED, FIBS, NEIGHBOURS, PATHS, PROTECTED, ROUTES},
    packet::{access::Packet, access::TcPacket, access::XdpPacket},
    stats,
};

/// `lo`'s index, the same in every network namespace. Looking a route up from `lo` asks for it as the host itself would,
/// so that DR and TUN work on a host that forwards nothing else.
pub const LOOPBACK: u32 = 1;
/// Bits of a whole address in `PROTECTED`, its family among them.
const ADDRESS_BITS: u32 = 160;
/// `BPF_FIB_LOOKUP_SRC`.
const FIB_WITH_SOURCE: u32 = 1 << 4;

/// What [`find`] answers: a route, none, or that the kernel does not say, as neither `lo` nor the packet's device forwards.
const FOUND: u32 = 0;
const NO_ROUTE: u32 = 1;
const FORWARDING_OFF: u32 = 2;

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
            route.by = By::Neighbour;
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
        |found| route(packet, family, address, now, found).is_ok() && found.by == By::Local,
    )
    .unwrap_or(false)
}

/// Looks up the route to `to`, an address of `family`.
#[inline(always)]
pub fn route<P: Packet>(packet: P, family: u8, to: &Address, now: u64, route: &mut Route) -> Result<(), Exit> {
    look_up(packet, null_mut(), family, None::<&u32>, to, now, route)
}

/// Looks up the route to `to`, and remembers its hop. The source `from` is for the host's rules (`ip rule`).
#[inline(always)]
pub fn look_up<P: Packet, A: IpAddress>(
    packet: P,
    cache: *mut NextHop,
    family: u8,
    from: Option<&A>,
    to: &Address,
    now: u64,
    route: &mut Route,
) -> Result<(), Exit> {
    route.gateway = copy(to);
    clear(&mut route.source);
    if let Some(from) = from {
        route.source = from.widen();
    }
    route.family = family;
    // Each tier's context has a type of its own, which the verifier checks.
    let answer = match packet.in_tc() {
        Ok(packet) => look_up_tc(packet.0, route, cache, now),
        Err(_) => look_up_xdp(packet.context().cast(), route, cache, now),
    };
    match answer {
        FOUND => Ok(()),
        FORWARDING_OFF => Err(Exit::DropForwardingOff),
        _ => Err(Exit::DropNoRoute),
    }
}

/// [`find`] as a global function: see "global functions" in docs/develop/verifier.md.
macro_rules! global_look_up {
    ($name:ident, $context:ty, $packet:expr) => {
        #[unsafe(no_mangle)]
        #[inline(never)]
        extern "C" fn $name(context: *mut $context, route: *mut Route, cache: *mut NextHop, now: u64) -> u32 {
            if route.is_null() {
                return NO_ROUTE;
            }
            // SAFETY: this CPU's own element, which the caller was lent and lends on.
            find($packet(context), unsafe { &mut *route }, cache, now)
        }
    };
}

global_look_up!(look_up_xdp, xdp_md, XdpPacket);
global_look_up!(look_up_tc, __sk_buff, TcPacket);

/// Looks up the route to the gateway that `route` names, and stores its hop in `cache`.
#[inline(always)]
fn find<P: Packet>(packet: P, route: &mut Route, cache: *mut NextHop, now: u64) -> u32 {
    scratch::lend(
        &FIBS,
        #[inline(always)]
        |params| find_with(packet, params, route, cache, now),
    )
    .unwrap_or(NO_ROUTE)
}

#[inline(always)]
fn find_with<P: Packet>(
    packet: P,
    params: &mut bpf_fib_lookup,
    route: &mut Route,
    cache: *mut NextHop,
    now: u64,
) -> u32 {
    let family = route.family;
    clear(params);
    clear(&mut route.hop);
    params.family = family;
    params.ifindex = LOOPBACK;
    // Any length makes the kernel tell the MTU.
    params.__bindgen_anon_1.tot_len = 1;
    if family == AF_INET {
        params.__bindgen_anon_3.ipv4_src = route.source.0[0];
        params.__bindgen_anon_4.ipv4_dst = route.gateway.0[0];
    } else {
        params.__bindgen_anon_3.ipv6_src = copy(&route.source).0;
        params.__bindgen_anon_4.ipv6_dst = copy(&route.gateway).0;
    }
    clear(&mut route.source);
    let flags = if params::fib_source() != 0 { FIB_WITH_SOURCE } else { 0 };
    let mut result = packet.fib(params, flags);
    if result == fib::FORWARDING_OFF {
        // Somebody has switched forwarding off for all devices: perhaps not for the one that the packet came in on.
        params.ifindex = packet.device();
        result = packet.fib(params, flags);
    }
    match result {
        fib::SUCCESS | fib::NO_NEIGHBOUR => {}
        fib::NOT_FORWARDED => {
            route.by = By::Local;
            return FOUND;
        }
        fib::ENCAPSULATED => {
            route.by = By::Stack;
            return FOUND;
        }
        // The look-up from no device fails in another way.
        _ if result == fib::FORWARDING_OFF || result < 0 => return keep(cache, now, route),
        _ => return NO_ROUTE,
    }
    let is_protected = is_protected(family, &route.gateway);
    let learnt = learnt_mtu(&route.gateway, now);
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
        if result == fib::SUCCESS {
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
        if device.flags & device_flags::TAGGED != 0 {
            route.hop.flags |= hop_flags::TAGGED;
        }
        if device.flags & device_flags::NO_ETHERNET != 0 {
            // There is nobody to ask for.
            route.hop.flags |= hop_flags::NEIGHBOUR;
        }
    }
    if learnt != 0 && learnt < route.hop.mtu as u32 {
        route.hop.mtu = learnt as u16;
    }
    if is_protected {
        // Never cached: the established path would not ask.
        route.by = By::Protected;
        return FOUND;
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
    FOUND
}

/// Goes on with the hop that was found when the kernel still said, for another second.
#[inline(always)]
fn keep(cache: *mut NextHop, now: u64, route: &mut Route) -> u32 {
    if cache.is_null() {
        return FORWARDING_OFF;
    }
    let (from, to) = (cache.cast::<u32>(), (&raw mut route.hop).cast::<u32>());
    // SAFETY: the words of an element of a map, and of this CPU's route. A hop that another CPU is writing is noticed by its seal.
    let seal = unsafe {
        for word in 0..size_of::<NextHop>() / 4 {
            to.add(word).write_volatile(from.add(word).read_volatile());
        }
        (&raw const (*cache).checked).read_volatile()
    };
    if seal == 0 || seal != route.hop.checked || route.hop.flags & hop_flags::NEIGHBOUR == 0 {
        return FORWARDING_OFF;
    }
    // SAFETY: as above; the rest of the hop stays as it is.
    unsafe { (&raw mut (*cache).checked).write_volatile((now as u32) | 1) }
    // It is sent by its MAC addresses.
    route.family = 0;
    stats::exit(Exit::HopKept);
    FOUND
}

/// Whether an IPsec policy of the host's covers what goes to an address.
#[inline(always)]
fn is_protected(family: u8, to: &Address) -> bool {
    let words = to.0;
    let data = [(family as u32).to_be(), words[0], words[1], words[2], words[3]];
    PROTECTED.get(&Key::new(ADDRESS_BITS, data)).is_some()
}

global_fn! {
    /// The path MTU toward an address that ICMP errors have told; 0 if there is none.
    fn learnt_mtu(to: &Address, now: u64) -> u32 = learnt_path_mtu => path_mtu
}

fn path_mtu(to: &Address, now: u64) -> u32 {
    let may_be_learnt = config::settings().is_some_and(|settings| settings.paths_until > now);
    // Linux 6.1 takes no key from memory that a global function was given.
    let key = copy(to);
    let Some(path) = (if may_be_learnt { shared::value(&PATHS, &key) } else { None }) else { return 0 };
    let path = path.load();
    let left = ((path >> 32) as u32).wrapping_sub(now as u32) as i32;
    if left > 0 { path as u32 } else { 0 }
}

/// Has a cached hop looked up anew with the next packet.
#[inline(always)]
pub fn forget(cache: *mut NextHop) {
    // SAFETY: an element of a map.
    unsafe { (&raw mut (*cache).checked).write_volatile(0) }
}

/// Whether the neighbour of a cached hop was known when it was looked up.
#[inline(always)]
pub fn has_neighbour(cache: *mut NextHop) -> bool {
    // SAFETY: a field of an element of a map.
    unsafe { (&raw const (*cache).flags).read_volatile() & hop_flags::NEIGHBOUR != 0 }
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
    let copy = sealed(cache)?;
    // Odd like `checked`, which would else lie ahead of an even clock.
    let age = (now as u32 | 1).wrapping_sub(copy.checked);
    if age <= params::hz() { Some(copy) } else { None }
}

/// A copy of a cached hop of any age that was not being written.
#[inline(always)]
fn sealed(cache: *mut NextHop) -> Option<NextHop> {
    // As words: MAC addresses would be read byte by byte.
    // SAFETY: an element of a map, words of which all are hops; a copy that another CPU was writing is noticed by its seal.
    let (copy, seal) = unsafe {
        let words = cache.cast::<[u32; size_of::<NextHop>() / 4]>().read_volatile();
        (transmute::<[u32; size_of::<NextHop>() / 4], NextHop>(words), (&raw const (*cache).checked).read_volatile())
    };
    if copy.checked != 0 && copy.checked == seal { Some(copy) } else { None }
}

/// Whether the kernel's neighbour output is to get the next packet to a neighbour, which it confirms by that. XDP alone would go on with
/// a MAC address that nobody has any more.
#[inline(always)]
fn is_to_be_confirmed(hop: &NextHop, now: u64) -> bool {
    let [.., a, b, c] = hop.destination;
    let slot = hop.ifindex ^ (a as u32) << 8 ^ (b as u32) << 4 ^ c as u32;
    let Some(confirmed) = shared::element(&CONFIRMED, slot % NEIGHBOURS) else { return false };
    let before = confirmed.load();
    let (is_due, after) = neighbour::confirm(before, now as u32, params::hz());
    if after != before {
        confirmed.store(after);
    }
    is_due
}

/// The cached hop, looked up anew if it is older than a second, for XDP: `None` where the packet has to go up (no
/// route, no neighbour or one that is to be confirmed, a device that takes no XDP frames).
#[inline(always)]
pub fn hop<A: IpAddress, const TAGS: bool>(
    packet: XdpPacket,
    cache: *mut NextHop,
    family: u8,
    from: Option<&A>,
    to: &Address,
    now: u64,
) -> Option<NextHop> {
    let hop = match fresh(cache, now) {
        Some(hop) => hop,
        None => {
            let found = lend(
                #[inline(always)]
                |found| {
                    let is_found = look_up(packet, cache, family, from, to, now, found).is_ok();
                    if !is_found || found.by != By::Neighbour {
                        return None;
                    }
                    // A hop without a family is one that the kernel does not tell now, so TC could not look it up.
                    if found.family != 0 && is_to_be_confirmed(&found.hop, now) {
                        // TC looks it up again, and so sends by the kernel's neighbour output.
                        forget(cache);
                        return None;
                    }
                    Some(found.hop)
                },
            );
            found.flatten()?
        }
    };
    if is_usable::<TAGS>(hop.flags) { Some(hop) } else { None }
}

/// Whether XDP can send by a hop with these flags.
#[inline(always)]
fn is_usable<const TAGS: bool>(flags: u16) -> bool {
    const USABLE: u16 = hop_flags::XDP | hop_flags::NEIGHBOUR;
    const BY_TAG: u16 = hop_flags::TAGGED | hop_flags::NEIGHBOUR;
    flags & USABLE == USABLE || TAGS && flags & BY_TAG == BY_TAG
}

/// Whether the cached hop is one of a VLAN by whose tag XDP can send.
#[inline(always)]
pub fn is_tagged(cache: *const NextHop) -> bool {
    const ALL: u16 = hop_flags::XDP | hop_flags::TAGGED | hop_flags::NEIGHBOUR;
    // SAFETY: an element of a map; the flags of a hop that changes meanwhile were right, or will be.
    unsafe { (*cache).flags & ALL == hop_flags::TAGGED | hop_flags::NEIGHBOUR }
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
