//! What programs of TC tell those that they jump to, in words that travel with the packet. In XDP, where everything about
//! an established flow is one program, they are always 0.

use lvs_common::abi::DestId;

use crate::packet::access::Packet;

/// Word with the destination a packet goes to.
const DEST: usize = 1;
/// Word with flags, and in its upper half the length of the longest fragment.
const FLAGS: usize = 4;

/// The connection that a request hits is to take it, `schedule` has decided.
const SETTLED: u32 = 1;
/// The packet is for a watched virtual address.
const VIRTUAL: u32 = 2;
/// The packet is from a watched real server.
const REPLY: u32 = 4;
/// The packet has carried resets.
const CARRIED: u32 = 16;
/// What FullNAT does to a packet's TCP options is done.
const OPTIONS: u32 = 8;

/// Forgets what an earlier packet or program left.
#[inline(always)]
pub fn clear<P: Packet>(packet: P) {
    packet.set_note(FLAGS, 0);
}

/// Notes what the watch filter says.
#[inline(always)]
pub fn watched<P: Packet>(packet: P, virt: bool, reply: bool) {
    let flags = packet.note(FLAGS) & !(VIRTUAL | REPLY);
    packet.set_note(FLAGS, flags | if virt { VIRTUAL } else { 0 } | if reply { REPLY } else { 0 });
}

/// Whether the packet is for a watched virtual address.
#[inline(always)]
pub fn is_virtual<P: Packet>(packet: P) -> bool {
    packet.note(FLAGS) & VIRTUAL != 0
}

/// Whether the packet is from a watched real server.
#[inline(always)]
pub fn is_reply<P: Packet>(packet: P) -> bool {
    packet.note(FLAGS) & REPLY != 0
}

/// Notes that `schedule` has decided.
#[inline(always)]
pub fn settle<P: Packet>(packet: P) {
    packet.set_note(FLAGS, packet.note(FLAGS) | SETTLED);
}

/// Whether `schedule` has decided.
#[inline(always)]
pub fn is_settled<P: Packet>(packet: P) -> bool {
    packet.note(FLAGS) & SETTLED != 0
}

/// Notes that FullNAT has done what it does to TCP options.
#[inline(always)]
pub fn options_done<P: Packet>(packet: P) {
    packet.set_note(FLAGS, packet.note(FLAGS) | OPTIONS);
}

/// Whether FullNAT has done what it does to TCP options.
#[inline(always)]
pub fn are_options_done<P: Packet>(packet: P) -> bool {
    packet.note(FLAGS) & OPTIONS != 0
}

/// Notes that the packet has carried resets.
#[inline(always)]
pub fn carried<P: Packet>(packet: P) {
    packet.set_note(FLAGS, packet.note(FLAGS) | CARRIED);
}

/// Whether the packet has carried resets.
#[inline(always)]
pub fn has_carried<P: Packet>(packet: P) -> bool {
    packet.note(FLAGS) & CARRIED != 0
}

/// Notes the destination.
#[inline(always)]
pub fn set_dest<P: Packet>(packet: P, dest: DestId) {
    packet.set_note(DEST, dest.get());
}

/// The destination noted.
#[inline(always)]
pub fn dest<P: Packet>(packet: P) -> DestId {
    DestId::new(packet.note(DEST))
}

/// Notes the length of the longest fragment the packet was put together from, bytes of IP packet.
#[inline(always)]
pub fn set_largest<P: Packet>(packet: P, largest: u32) {
    packet.set_note(FLAGS, largest << 16);
}

/// Length of the longest fragment; 0 if the packet came whole.
#[inline(always)]
pub fn largest<P: Packet>(packet: P) -> u32 {
    packet.note(FLAGS) >> 16
}
