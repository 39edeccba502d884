//! The egress gate: what every packet passes before it is rewritten and sent. The gate finds the next hop, and decides by local
//! delivery, TTL, path MTU and the longest fragment whether the packet leaves whole, leaves in fragments, is answered with an
//! ICMP error, or is dropped.

use aya_ebpf::bindings::__sk_buff;
use lvs_common::{
    abi::{AF_INET, Address, IpAddress, NextHop, hop_flags},
    exit::Exit,
    programs::Program,
    wire::{Tcp, Udp, protocol},
};

use crate::{
    config::destination::DestRef,
    egress::{
        fib,
        refuse::{self, Sender},
        route,
    },
    exits,
    packet::{
        access::Packet,
        access::TcPacket,
        access::XdpPacket,
        control_block, jumbo,
        offsets::{TCP_CHECK, UDP_CHECK},
    },
    values::{
        parsed::{L3, OFFSETS, Parsed},
        route::{By, Route},
    },
};

/// `gso_size` of an SCTP packet whose pieces have lengths of their own (`GSO_BY_FRAGS`).
const BY_FRAGS: u32 = 0xffff;

/// Where a packet goes, and what becomes of it if it cannot.
pub struct Passage<'a, A> {
    /// Where the next hop is cached.
    pub cache: *mut NextHop,
    /// Family of `to`.
    pub family: u8,
    /// The address whose next hop is looked up.
    pub to: &'a Address,
    /// The source that the host's rules (`ip rule`) are asked about, for replies.
    pub from: Option<&'a A>,
    /// The real server, for requests.
    pub server: Option<&'a DestRef>,
    /// Whether the packet keeps its addresses (DR).
    pub is_direct: bool,
    /// Who sends the ICMP error; without a sender, the packet is dropped and counted, as for errors about errors
    /// (RFC 1122 §3.2.2).
    pub refusal: Option<Sender>,
}

impl<'a, A> Passage<'a, A> {
    /// To an address, from any, of no real server.
    #[inline(always)]
    pub fn new(cache: *mut NextHop, family: u8, to: &'a Address, refusal: Option<Sender>) -> Self {
        Passage { cache, family, to, from: None, server: None, is_direct: false, refusal }
    }
}

/// What a next hop with a certain MTU takes of a packet.
pub struct Limits {
    /// Bytes that the IP packet may have as it stands now: the MTU less what the rewriting adds.
    pub room: u32,
    /// The MTU that an ICMP error reports.
    pub reported: u32,
    /// Whether the packet may leave in fragments.
    pub may_fragment: bool,
}

impl Limits {
    /// Of a packet that gets `overhead` bytes longer.
    #[inline(always)]
    pub fn new(mtu: u32, overhead: u32, may_fragment: bool) -> Limits {
        let room = mtu.wrapping_sub(overhead);
        Limits { room, reported: room, may_fragment }
    }
}

/// How a packet leaves.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// The director's own stack takes it.
    Local,
    /// The director's own stack sends it: by a route that encapsulates, or through IPsec.
    Stack,
    /// As one packet.
    Whole,
    /// In fragments of at most this many bytes of IP packet.
    Fragments(u32),
}

impl Way {
    /// Whether the data plane sends the packet itself, and so lowers its TTL.
    #[inline(always)]
    pub fn is_own(self) -> bool {
        !matches!(self, Way::Local | Way::Stack)
    }
}

/// The whole gate in TC: the way, with `route` filled in, or the verdict on a packet that cannot leave.
#[inline(always)]
pub fn pass<A: IpAddress, B: IpAddress>(
    packet: TcPacket,
    p: &Parsed<A>,
    passage: &Passage<'_, B>,
    limits: impl FnOnce(u32) -> Limits,
    now: u64,
    route: &mut Route,
) -> Result<Way, i32> {
    match find_hop(packet, p, passage, now, route)? {
        Way::Whole => fit(packet, p, passage, limits(route.hop.mtu as u32), route),
        way => Ok(way),
    }
}

/// The gate's first half: next hop and TTL. [`Way::Whole`] for a packet that the data plane sends.
#[inline(always)]
pub fn find_hop<A: IpAddress, B: IpAddress>(
    packet: TcPacket,
    p: &Parsed<A>,
    passage: &Passage<'_, B>,
    now: u64,
    route: &mut Route,
) -> Result<Way, i32> {
    if !route::cached(passage.cache, now, route) {
        let way = ask(packet, passage, now, route).map_err(|exit| unreachable::<A, B>(packet, passage, exit))?;
        if way != Way::Whole {
            return Ok(way);
        }
    }
    // What the director sends itself has its TTL already.
    if p.ttl <= 1 && packet.device() != 0 {
        return Err(match passage.refusal {
            Some(sender) => refuse::time_exceeded::<A>(packet, sender),
            None => exits::drop(packet, Exit::DropTtl),
        });
    }
    Ok(Way::Whole)
}

/// Asks the kernel for the way, [`Way::Whole`] for one by a neighbour.
#[inline(always)]
fn ask<B: IpAddress>(packet: TcPacket, passage: &Passage<'_, B>, now: u64, route: &mut Route) -> Result<Way, Exit> {
    let was_known = route::has_neighbour(passage.cache);
    route::look_up(packet, passage.cache, passage.family, passage.from, passage.to, now, route)?;
    match route.by {
        By::Neighbour => match passage.server {
            Some(dest) if route.hop.flags & hop_flags::NEIGHBOUR == 0 && dest.is_silent(now, was_known) => {
                Err(Exit::DropNoNeighbour)
            }
            _ => Ok(Way::Whole),
        },
        By::Protected if passage.is_direct => Ok(Way::Whole),
        By::Stack | By::Protected => Ok(Way::Stack),
        // The kernel answers alike for its own addresses and for those without a route.
        By::Local => match passage.server {
            Some(dest) if dest.is_remote() && !fib::is_own(packet, passage.family, passage.to) => {
                Err(Exit::DropNoRoute)
            }
            _ => Ok(Way::Local),
        },
    }
}

/// The verdict on a packet that has no way: as for IPVS, clients are told, and real servers are not.
#[inline(always)]
fn unreachable<A: IpAddress, B>(packet: TcPacket, passage: &Passage<'_, B>, exit: Exit) -> i32 {
    match passage.refusal {
        Some(sender) if passage.server.is_some() => refuse::host_unreachable::<A>(packet, exit, sender),
        _ => exits::drop(packet, exit),
    }
}

/// The gate's second half: path MTU and the longest fragment.
#[inline(always)]
pub fn fit<A: IpAddress, B>(
    packet: TcPacket,
    p: &Parsed<A>,
    passage: &Passage<'_, B>,
    limits: Limits,
    route: &Route,
) -> Result<Way, i32> {
    let mtu = route.hop.mtu as u32;
    let came = match control_block::largest(packet) {
        0 => longest(packet, p, &limits),
        largest => largest,
    };
    // A buffer of several datagrams would arrive as one, cut into fragments: each datagram is too big.
    if came > limits.room && (!limits.may_fragment || packet.segment() != 0) {
        return Err(match passage.refusal {
            Some(sender) => refuse::too_big::<A>(packet, limits.reported, sender),
            None => exits::drop(packet, Exit::DropTooBig),
        });
    }
    // A packet joined from fragments leaves in fragments no longer than those. Read again: see "spilled Options" in
    // docs/develop/verifier.md.
    let (length, most) = match control_block::joined(packet) {
        0 => (came, mtu),
        largest => (p.length, if largest > mtu { mtu } else { largest }),
    };
    let added = mtu.wrapping_sub(limits.room);
    if length.wrapping_add(added) <= most {
        return Ok(Way::Whole);
    }
    // A fragment has no checksum that a device could finish.
    let may_be_unfinished =
        A::IS_V4 && passage.family == AF_INET && !passage.is_direct && control_block::largest(packet) == 0;
    if may_be_unfinished && has_unfinished_checksum(packet.0, p.l4() as u32, p.carried as u32) != 0 {
        return Ok(Way::Stack);
    }
    Ok(Way::Fragments(most))
}

/// Whether a device is to finish the packet's checksum (`CHECKSUM_PARTIAL`). Pointers into the packet are void after it. A global
/// function: see "spilled Options" in docs/develop/verifier.md.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn has_unfinished_checksum(context: *mut __sk_buff, l4: u32, carried: u32) -> u32 {
    let packet = TcPacket(context);
    let field = match carried as u8 {
        protocol::TCP => TCP_CHECK,
        protocol::UDP => UDP_CHECK,
        _ => return 0,
    };
    let at = (l4 as usize & OFFSETS) + field;
    let Some(before) = packet.read::<u16>(at) else { return 0 };
    let is_partial = packet.is_partial(at);
    // The probe changes a finished one.
    if before == 0 || !packet.write(at, before) { 0 } else { is_partial as u32 }
}

/// Bytes of the IP packet, or of the longest of the segments that GSO will cut it into.
#[inline(always)]
fn longest<A>(packet: TcPacket, p: &Parsed<A>, limits: &Limits) -> u32 {
    if packet.segment() == 0 {
        return p.length;
    }
    let room = if limits.may_fragment { limits.room } else { u32::MAX };
    longest_segment(packet.0, p.l4() as u32, p.carried as u32, room)
}

/// [`longest`] of a packet for GSO, whose TCP segments are made shorter if they take more than `room`. Pointers into the packet
/// are void after it. A global function: see "spilled Options" in docs/develop/verifier.md.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn longest_segment(context: *mut __sk_buff, l4: u32, carried: u32, room: u32) -> u32 {
    let (packet, l4) = (TcPacket(context), l4 as usize & OFFSETS);
    let segment = packet.segment();
    // The segments have no header for the length of all of them.
    let is_big = packet.length() > jumbo::LONGEST + L3 as u32 && l4 == L3 + 40 + jumbo::HEADER as usize;
    let headers = l4.wrapping_sub(L3) as u32 - if is_big { jumbo::HEADER } else { 0 };
    let network = segment.wrapping_add(headers);
    if segment == BY_FRAGS {
        // The pieces are listed one by one, and fitted the sender's device.
        return 0;
    }
    if carried != protocol::TCP as u32 {
        return network.wrapping_add(size_of::<Udp>() as u32);
    }
    let Some(h) = packet.read::<Tcp>(l4) else { return network };
    let length = network.wrapping_add((h.offset >> 4) as u32 * 4);
    // A stream stays the same in shorter segments, which fragments of each are not better than.
    if length > room && packet.shorten_segments(length.wrapping_sub(room)) { room } else { length }
}

/// The gate in XDP: the next hop, or `None` for a packet that TC has to deal with. `TAGS`: it may leave with a VLAN's tag.
#[inline(always)]
pub fn pass_fast<A: IpAddress, const TAGS: bool>(
    packet: XdpPacket,
    p: &Parsed<A>,
    passage: &Passage<'_, A>,
    overhead: u32,
    now: u64,
) -> Option<NextHop> {
    if p.ttl <= 1 {
        return None;
    }
    let hop = route::hop::<A, TAGS>(packet, passage.cache, passage.family, passage.from, passage.to, now)?;
    if p.length + overhead > hop.mtu as u32 {
        return None;
    }
    Some(hop)
}

/// Where a packet goes that [`pass_fast`] let not pass: by a hop of a VLAN to the program that knows tags, else to TC.
#[inline(always)]
pub fn leave_fast<A: IpAddress, const TAGS: bool>(packet: XdpPacket, cache: *mut NextHop) -> i32 {
    if !TAGS && route::is_tagged(cache) {
        packet.tail_call(Program::Tagged.slot(A::IS_V4));
    }
    XdpPacket::PASS
}
