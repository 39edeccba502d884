//! Errors that go on: to the real server as its packets do, or to the client as if the virtual address had sent them.

use crate::kernel::global::global_fn;
use crate::packet::parse::Family;
use crate::rare::icmp::{path, read};
use aya_ebpf::bindings::__sk_buff;
use lvs_common::abi::IpAddress;
use lvs_common::byte_order::{Be16, Be32};
use lvs_common::{
    abi::{Connection, Mode, Settings},
    checksum,
    exit::Exit,
    icmp,
    wire::{Icmp, Ipv4, Ipv6},
};

use crate::{
    config::destination::DestRef,
    egress::{
        gate::{self, Limits, Passage, Way},
        route, send,
    },
    exits,
    forward::{
        fullnat::options,
        nat::{self, Side},
        tunnel::{self, Outer},
    },
    packet::{access::Packet, access::TcPacket, ttl},
    stats,
    values::{icmp_error::IcmpError, route::By},
};

/// Sends an error about a reply to the real server that made it.
#[inline(always)]
pub fn to_server<A: Family>(
    packet: TcPacket,
    report: &IcmpError<A>,
    settings: &Settings,
    c: &Connection<A>,
    now: u64,
) -> i32 {
    let mode = c.forward;
    if mode == Mode::BYPASS {
        return exits::pass(packet, Exit::Bypass);
    }
    if !read::is_intact(packet, report) {
        return exits::drop(packet, Exit::DropMalformed);
    }
    let Some(dest) = DestRef::get(c.dest, settings.epoch) else { return exits::drop(packet, Exit::DropNoDestination) };
    let (to, family, cache) = (dest.address(), dest.family(), dest.hop());
    let p = &report.outer;
    // Whatever becomes of it on its way, it counts, as it does for IPVS.
    if dest.available() {
        stats::packet_in(dest.id, p.length);
    }
    if mode == Mode::LOCAL {
        return exits::pass(packet, Exit::Local);
    }
    let source = dest.source();
    let outer = || Outer::new(dest.config(), family, source, to, p.df && settings.sysctls.pmtu_disc != 0);
    let is_tunnel = mode == Mode::TUNNEL;
    let overhead = if is_tunnel { outer().overhead() } else { 0 };
    // An error is never so big that it has to be fragmented.
    let passage = Passage { is_direct: mode == Mode::ROUTE, ..Passage::<A>::new(cache, family, to, None) };
    route::with(
        packet,
        #[inline(always)]
        |route| {
            let way = match gate::pass(packet, p, &passage, |mtu| Limits::new(mtu, overhead, false), now, route) {
                Ok(way) => way,
                Err(verdict) => return verdict,
            };
            let is_local = way == Way::Local;
            let by_stack = way == Way::Stack;
            if by_stack && mode == Mode::ROUTE {
                return exits::drop(packet, Exit::DropStackRoute);
            }
            let lower = way.is_own() && packet.device() != 0;
            let done = if mode == Mode::MASQ || mode == Mode::FULLNAT {
                replace(packet, Side::Destination, &c.real, c.real_port, lower)
                // To the real server everything comes from the director.
                && (mode == Mode::MASQ || replace(packet, Side::Source, &c.local, c.local_port, false))
            } else {
                (!lower || ttl::lower_ttl::<_, A>(packet))
                    && (!is_tunnel || is_local || tunnel::apply(packet, p, &outer(), true))
            };
            if !done {
                return exits::drop(packet, Exit::DropInternal);
            }
            if is_local {
                return exits::pass(packet, Exit::Local);
            }
            if by_stack {
                return send::hand_over(packet, mode != Mode::MASQ);
            }
            exits::leave(packet, Exit::IcmpForwarded, send::send_tc(packet, route))
        },
    )
}

/// Sends an error about a client's packet to the client.
#[inline(always)]
pub fn to_client<A: Family>(
    packet: TcPacket,
    report: &IcmpError<A>,
    settings: &Settings,
    c: &Connection<A>,
    now: u64,
) -> i32 {
    let is_fullnat = c.forward == Mode::FULLNAT;
    if c.forward != Mode::MASQ && !is_fullnat {
        // The client knows the packet as it is quoted.
        if stack_forwards(packet, report, now) {
            count_reply(c, settings, report.outer.length);
        }
        return exits::pass(packet, Exit::Reply);
    }
    if !read::is_intact(packet, report) {
        return exits::drop(packet, Exit::DropMalformed);
    }
    // An error that was translated from the other family has been learnt from as it came.
    if is_fullnat
        && let Some(dest) = DestRef::get(c.dest, settings.epoch)
        && dest.family() == A::FAMILY
    {
        path::learn(packet, report, dest.address(), false);
    }
    // A packet of the director's own, the real server being itself, is on its way to the client already.
    let is_own = packet.device() == 0;
    let p = &report.outer;
    let to = if is_fullnat { c.client } else { p.destination }.widen();
    route::with(
        packet,
        #[inline(always)]
        |route| {
            if !is_own {
                if let Err(exit) = route::route(packet, A::FAMILY, &to, now, route) {
                    return exits::drop(packet, exit);
                }
                if route.by == By::Neighbour && p.ttl <= 1 {
                    return exits::drop(packet, Exit::DropTtl);
                }
            }
            let done = replace(packet, Side::Source, &c.virt, c.virt_port, !is_own && route.by == By::Neighbour)
                && (!is_fullnat
                    || replace(packet, Side::Destination, &c.client, c.client_port, false)
                        && lower_mtu(packet, report, options::added(c, settings)));
            if !done {
                return exits::drop(packet, Exit::DropInternal);
            }
            count_reply(c, settings, p.length);
            let verdict = if is_own { TcPacket::PASS } else { send::send_own(packet, route) };
            exits::leave(packet, Exit::IcmpForwarded, verdict)
        },
    )
}

/// Counts an error about a client's packet as a reply of its connection.
#[inline(always)]
fn count_reply<A>(c: &Connection<A>, settings: &Settings, length: u32) {
    if let Some(dest) = DestRef::get(c.dest, settings.epoch)
        && dest.available()
    {
        stats::packet_out(dest.id, length);
    }
}

/// Whether the stack sends an error on that is not translated: not one whose TTL has run out, nor one that comes from an address
/// of the director's own.
#[inline(always)]
fn stack_forwards<A: Family>(packet: TcPacket, report: &IcmpError<A>, now: u64) -> bool {
    let p = &report.outer;
    if packet.device() == 0 {
        return true;
    }
    let is_local = |address: A| route::is_local(packet, A::FAMILY, &address.widen(), now);
    !(A::IS_V4 && is_local(p.source)) && (p.ttl > 1 || is_local(p.destination))
}

/// Takes `less` bytes off the MTU that an error tells: what the director adds to the client's packets. The quoted packet is
/// longer than the client's by as much, and stays so: nobody looks at that.
#[inline(always)]
fn lower_mtu<A: Family>(packet: TcPacket, r: &IcmpError<A>, less: u32) -> bool {
    packet.update::<Icmp>(r.header(), |h| {
        let before = h.rest;
        if let Some(rest) = icmp::rest_of_inner(!A::IS_V4, h.kind, h.code, before.get(), true, less) {
            h.rest = Be32::new(rest);
            h.check = checksum::update(h.check, checksum::difference(before, h.rest));
        }
    })
}

global_fn! {
    /// [`replace`]; `how` is 1 for the source, and 2 more to lower the TTL.
    fn replace_by<A>(skb: *mut __sk_buff, how: u32, address: &A, port: u32) -> u32
        = replace_in_error4, replace_in_error6 => replace_in_error
}

fn replace_in_error<A: IpAddress>(skb: *mut __sk_buff, how: u32, address: &A, port: u32) -> u32 {
    let Some(report) = read::last::<A>() else { return 0 };
    let side = if how & 1 != 0 { Side::Source } else { Side::Destination };
    replace_in(TcPacket(skb), report, side, *address, Be16::from_word(port as u16), how & 2 != 0) as u32
}

/// Replaces address and port of one side of the error, and in the packet it quotes those of the other side. The quoted
/// packet's transport checksum stays as it is: the quote is seldom long enough to judge it by.
#[inline(always)]
fn replace<A: IpAddress>(packet: TcPacket, side: Side, address: &A, port: Be16, lower: bool) -> bool {
    replace_by::<A>(packet.0, (side == Side::Source) as u32 | (lower as u32) << 1, address, port.word() as u32) != 0
}

#[inline(always)]
fn replace_in<A: IpAddress>(
    packet: TcPacket,
    r: &IcmpError<A>,
    side: Side,
    address: A,
    port: Be16,
    lower: bool,
) -> bool {
    let (old_outer, old_inner, old_port, port_at) = match side {
        Side::Destination => (r.outer.destination, r.about.destination, r.about.destination_port, r.transport()),
        Side::Source => (r.outer.source, r.about.source, r.about.source_port, r.transport() + 2),
    };
    let outer = nat::address_difference(old_outer, address);
    let inner = nat::address_difference(old_inner, address);
    let mut change = inner;
    let words = address.widen().0;
    let is_changed = if A::IS_V4 {
        packet.update::<Ipv4>(r.quote(), |h| {
            match side {
                Side::Destination => h.source = words[0],
                Side::Source => h.destination = words[0],
            }
            let check = checksum::update(h.check, inner);
            change += checksum::difference(h.check as u32, check as u32);
            h.check = check;
        })
    } else {
        // ICMPv6's checksum covers the addresses.
        change += outer;
        packet.update::<Ipv6>(r.quote(), |h| match side {
            Side::Destination => h.source = words,
            Side::Source => h.destination = words,
        })
    };
    if !is_changed {
        return false;
    }
    if r.about.has_ports() && old_port != port {
        if !packet.write(port_at, port) {
            return false;
        }
        change += checksum::difference(old_port, port);
    }
    packet.update::<Icmp>(r.header(), |h| h.check = checksum::update(h.check, change))
        && nat::replace_address(packet, side, address, outer, lower)
}
