//! The control block: five words (`skb->cb`) in which a TC program leaves facts for the next one. XDP has none: there every
//! word reads as 0.
//!
//! | Word | Programs of a served packet | `Reject` | `Split` | `lvs_drain`, `lvs_expel`, `lvs_import`, `lvs_move` |
//! |---|---|---|---|---|
//! | 0 | – | ICMP type and code | longest fragment | destination (`lvs_drain`) |
//! | 1 | destination (`Tunnel`) | ICMP's second word | destination | first bucket or element; whether they are of IPv6 (`lvs_move`) |
//! | 2 | – | destination to answer from | headers in front of what came in fragments | number of them |
//! | 3 | – | destination to count for | – | – |
//! | 4 | flags; upper half: longest fragment that came | the same | the same | – |
//!
//! `SendFragment` finds the words of `Split`: they stay with a copy of a packet that comes in again.
//!
//! `Reject` and `Split` end a packet's journey, so their words may overwrite those of the programs before them.

use lvs_common::abi::DestId;

use crate::packet::{access::Packet, access::TcPacket};

const FLAGS: usize = 4;
const LARGEST_SHIFT: u32 = 16;

/// A flag of a packet.
#[derive(Clone, Copy)]
#[repr(u32)]
pub enum Flag {
    /// `Schedule` has decided that the existing connection takes this packet.
    KeepsConnection = 1,
    /// The packet is for a watched virtual address.
    ForVip = 2,
    /// The packet is from a watched address of a real server.
    FromRealServer = 4,
    /// FullNAT has dealt with the TCP or IP options.
    OptionsDone = 8,
    /// The packet has carried resets of expired connections.
    CarriedResets = 16,
    /// The packet is a fragment that is forwarded by itself; [`largest`] is its length.
    Fragment = 32,
    /// The fragment is not the first one.
    LaterFragment = 64,
    /// What was parsed is the packet that an ICMP error quotes.
    Quoted = 128,
    /// The generation of the data plane before this one does not know the packet's connection.
    Returned = 256,
}

/// What a packet keeps when another generation of the data plane takes it over, whatever build that is of: these flags and
/// [`largest`].
const KEPT: u32 =
    Flag::CarriedResets as u32 | Flag::Fragment as u32 | Flag::LaterFragment as u32 | !((1 << LARGEST_SHIFT) - 1);

/// Forgets what an earlier packet or program left.
#[inline(always)]
pub fn clear(packet: TcPacket) {
    packet.set_control(FLAGS, 0);
}

/// Begins anew with a packet of another generation of the data plane, which has looked for its connection if it `is_returned`.
#[inline(always)]
pub fn take_over(packet: TcPacket, is_returned: bool) {
    let returned = if is_returned { Flag::Returned as u32 } else { 0 };
    packet.set_control(FLAGS, packet.control(FLAGS) & KEPT | returned);
}

/// Sets a flag.
#[inline(always)]
pub fn set<P: Packet>(packet: P, flag: Flag) {
    packet.set_control(FLAGS, packet.control(FLAGS) | flag as u32);
}

/// Whether a flag is set.
#[inline(always)]
pub fn has<P: Packet>(packet: P, flag: Flag) -> bool {
    packet.control(FLAGS) & flag as u32 != 0
}

/// Sets what the watch filter says.
#[inline(always)]
pub fn set_watched(packet: TcPacket, for_vip: bool, from_real_server: bool) {
    let (vip, server) = (Flag::ForVip as u32, Flag::FromRealServer as u32);
    let others = packet.control(FLAGS) & !(vip | server);
    packet.set_control(FLAGS, others | if for_vip { vip } else { 0 } | if from_real_server { server } else { 0 });
}

/// Sets the length of the longest fragment that the packet was put together from, bytes of IP packet. The flags stay.
#[inline(always)]
pub fn set_largest(packet: TcPacket, largest: u32) {
    let flags = packet.control(FLAGS) & ((1 << LARGEST_SHIFT) - 1);
    packet.set_control(FLAGS, flags | largest << LARGEST_SHIFT);
}

/// The length of the longest fragment; 0 if the packet came whole.
#[inline(always)]
pub fn largest<P: Packet>(packet: P) -> u32 {
    packet.control(FLAGS) >> LARGEST_SHIFT
}

/// The length of the longest fragment that the packet was joined from; 0 if it was not, a fragment that is forwarded by itself
/// included.
#[inline(always)]
pub fn joined<P: Packet>(packet: P) -> u32 {
    match packet.control(FLAGS) {
        flags if flags & Flag::Fragment as u32 != 0 => 0,
        flags => flags >> LARGEST_SHIFT,
    }
}

/// Passes a destination to the program `Tunnel`.
#[inline(always)]
pub fn set_destination(packet: TcPacket, dest: DestId) {
    packet.set_control(1, dest.get());
}

/// The destination that was passed.
#[inline(always)]
pub fn destination(packet: TcPacket) -> DestId {
    DestId::new(packet.control(1))
}

/// What the program `Reject` is to answer.
#[derive(Clone, Copy)]
pub struct IcmpAnswer {
    /// ICMP type in the upper, code in the lower byte.
    pub kind: u32,
    /// The ICMP header's second word, host order.
    pub rest: u32,
    /// The destination whose recorded source address the answer comes from; 0 for the packet's own destination address.
    pub from: DestId,
    /// The destination that the answer counts for as a reply, 0 for none.
    pub counts_for: DestId,
}

/// Passes an answer to the program `Reject`.
#[inline(always)]
pub fn set_icmp_answer(packet: TcPacket, answer: &IcmpAnswer) {
    packet.set_control(0, answer.kind);
    packet.set_control(1, answer.rest);
    packet.set_control(2, answer.from.get());
    packet.set_control(3, answer.counts_for.get());
}

/// The answer that was passed.
#[inline(always)]
pub fn icmp_answer(packet: TcPacket) -> IcmpAnswer {
    IcmpAnswer {
        kind: packet.control(0),
        rest: packet.control(1),
        from: DestId::new(packet.control(2)),
        counts_for: DestId::new(packet.control(3)),
    }
}

/// How the program `Split` is to cut a packet.
#[derive(Clone, Copy)]
pub struct Cutting {
    /// The length of the longest fragment there may be, bytes of IP packet.
    pub most: u32,
    /// The destination; 0 for a packet that goes where its header says.
    pub dest: DestId,
    /// Bytes of headers in front of a packet that came in fragments of IPv6, if a tunnel over IPv6 has added some.
    pub lead: u32,
}

/// Passes to the program `Split` how it is to cut.
#[inline(always)]
pub fn set_cutting(packet: TcPacket, cutting: Cutting) {
    packet.set_control(0, cutting.most);
    packet.set_control(1, cutting.dest.get());
    packet.set_control(2, cutting.lead);
}

/// What was passed to `Split`.
#[inline(always)]
pub fn cutting(packet: TcPacket) -> Cutting {
    Cutting { most: packet.control(0), dest: DestId::new(packet.control(1)), lead: packet.control(2) }
}

/// The destination that `lvsadm` passes to `lvs_drain`.
#[inline(always)]
pub fn drained(packet: TcPacket) -> DestId {
    DestId::new(packet.control(0))
}

/// The part that `lvsadm` passes to a program that ends connections or makes some: the first bucket of each family's table, or the
/// first element of `INCOMING`, and how many.
#[inline(always)]
pub fn part(packet: TcPacket) -> (u32, u32) {
    (packet.control(1), packet.control(2))
}
