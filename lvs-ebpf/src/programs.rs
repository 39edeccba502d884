//! Programs reached by tail call: the rare and the long are kept out of the established flows' path.

use crate::packet::access::Packet;

/// Index of a program in `XDP_PROGRAMS` and `TC_PROGRAMS`; the order is that of `lvsadm`'s loader.
#[derive(Clone, Copy)]
#[repr(u32)]
pub enum Tail {
    /// The IPv6 pipeline.
    Ipv6 = 0,
    /// Scheduling of an IPv4 packet that no live connection takes.
    New4 = 1,
    /// The same for IPv6.
    New6 = 2,
    /// IPv4 ICMP errors (TC only).
    Icmp4 = 3,
    /// ICMPv6 errors (TC only).
    Icmp6 = 4,
    /// IPv4 fragments (TC only).
    Fragment4 = 5,
    /// IPv6 fragments (TC only).
    Fragment6 = 6,
    /// Answers an IPv4 packet with an ICMP error (TC only).
    Reject4 = 7,
    /// Answers an IPv6 packet with an ICMPv6 error (TC only).
    Reject6 = 8,
    /// Sends an IPv4 packet in fragments (TC only).
    Split = 9,
    /// Forwards a packet of a one-packet IPv4 service (TC only).
    Once4 = 10,
    /// The same for IPv6.
    Once6 = 11,
    /// The IPv4 pipeline, for a packet whose connection was just made.
    Ipv4 = 12,
    /// Replies over IPv4 (TC only).
    Reply4 = 13,
    /// Replies over IPv6 (TC only).
    Reply6 = 14,
    /// The service's scheduler.
    Pick = 15,
    /// Makes an IPv4 connection.
    Open4 = 16,
    /// Makes an IPv6 connection.
    Open6 = 17,
    /// IPv4 ICMP errors about tunnels (TC only).
    Tunnel4 = 18,
    /// ICMPv6 errors about tunnels (TC only).
    Tunnel6 = 19,
    /// Tunnels of IPv4 packets (TC only).
    Encapsulate4 = 20,
    /// Tunnels of IPv6 packets (TC only).
    Encapsulate6 = 21,
    /// The IPv4 pipeline behind parsing (TC only).
    Serve4 = 22,
    /// The IPv6 pipeline behind parsing (TC only).
    Serve6 = 23,
    /// Writes a line of the log.
    Log = 24,
    /// Forwards an IPv4 packet of a connection without a real server (TC only).
    Bypass4 = 25,
    /// The same for IPv6.
    Bypass6 = 26,
    /// Takes a local address for an IPv4 connection (FullNAT).
    Claim4 = 27,
    /// The same for IPv6.
    Claim6 = 28,
    /// Forwards a client's IPv4 packet by FullNAT.
    FullNat4 = 29,
    /// The same for IPv6.
    FullNat6 = 30,
    /// Forwards a real server's IPv4 packet by FullNAT.
    FullNatReply4 = 31,
    /// The same for IPv6.
    FullNatReply6 = 32,
    /// Makes the IPv4 connection that a local address was taken for.
    Enter4 = 33,
    /// The same for IPv6.
    Enter6 = 34,
    /// TCP options of a client's IPv4 packet: TOA (FullNAT, TC only).
    Tell4 = 35,
    /// The same for IPv6.
    Tell6 = 36,
    /// TCP options of a real server's IPv4 packet: room for TOA (FullNAT, TC only).
    Room4 = 37,
    /// The same for IPv6.
    Room6 = 38,
    /// Has an IPv4 packet carry resets of expired connections (TC only).
    Reset4 = 39,
    /// The same for IPv6.
    Reset6 = 40,
    /// Challenges the source of an IPv4 packet, or takes its answer.
    Challenge4 = 41,
    /// The same for IPv6.
    Challenge6 = 42,
    /// Forwards a client's IPv4 packet to a real server of IPv6 (FullNAT, TC only).
    Cross4 = 43,
    /// Forwards a client's IPv6 packet to a real server of IPv4 (FullNAT, TC only).
    Cross6 = 44,
    /// Makes a real server's IPv4 packet one for a client of IPv6 (FullNAT, TC only).
    CrossReply4 = 45,
    /// Makes a real server's IPv6 packet one for a client of IPv4 (FullNAT, TC only).
    CrossReply6 = 46,
    /// IPv4 ICMP errors about connections between families (TC only).
    CrossIcmp4 = 47,
    /// ICMPv6 errors about connections between families (TC only).
    CrossIcmp6 = 48,
    /// Sends an IPv4 ICMP error that was one of ICMPv6 to the client (TC only).
    CrossedIcmp4 = 49,
    /// Sends an ICMPv6 error that was one of IPv4 to the client (TC only).
    CrossedIcmp6 = 50,
}

/// Jumps; returns only if the program array has no such program.
#[inline(always)]
pub fn jump<P: Packet>(packet: P, to: Tail) -> i32 {
    packet.tail_call(to as u32);
    P::PASS
}
