//! Access to a packet, the same for XDP and TC.

use aya_ebpf::bindings::{__sk_buff, bpf_fib_lookup};
use lvs_common::abi::NextHop;

use crate::values::route::Route;

/// A packet in one of the two tiers.
///
/// XDP serves what is simple and hands everything else up *unchanged*; TC, which sees it then, has to serve it all.
pub trait Packet: Copy {
    /// TC: what this tier cannot do, nobody will.
    const COMPLETE: bool;
    /// The verdict that leaves the packet to the stack (in XDP: to TC).
    const PASS: i32;
    /// The verdict that drops it.
    const DROP: i32;

    /// The `T` at `offset`, if the packet's linear part reaches so far.
    fn at<T>(self, offset: usize) -> Option<*mut T>;
    /// Makes the first `length` bytes linear.
    fn pull(self, length: usize) -> bool;
    /// Device the packet came in on; 0 if the director itself made it.
    fn device(self) -> u32;
    /// Whether the frame is addressed to this host.
    fn for_this_host(self) -> bool;
    /// Mark of the packet.
    fn mark(self) -> u32;
    /// Bytes of a segment if the packet is to be cut into such (GSO), else 0.
    fn segment(self) -> u32;
    /// Adds to the transport checksum at `offset` what changed in addresses and ports (sums of [`difference`]s).
    ///
    /// [`difference`]: lvs_common::checksum::difference
    fn update_l4(self, offset: usize, addresses: u64, ports: u64, udp: bool) -> bool;
    /// Makes room for `length` bytes between Ethernet and network header, and leaves space for an Ethernet header.
    /// `v6`: the outer header is IPv6; `l4` the outer protocol; `plain`: the packet is to be cut into fragments, which the
    /// kernel's helpers refuse to do with one marked as encapsulated.
    fn encapsulate(self, length: usize, v6: bool, l4: u8, plain: bool) -> bool;
    /// Whether the checksum at `offset` is unfinished, as it is between hosts of one machine: finished where the packet leaves.
    /// In TC, finding out may spoil it.
    fn is_partial(self, offset: usize) -> bool;
    /// Takes `options` bytes out behind the network header's fixed part, and off the end all that is beyond `length` bytes of
    /// frame then.
    fn strip(self, options: u32, length: u32) -> bool;
    /// The kernel's FIB look-up: its return code, or a negative error.
    fn fib(self, params: &mut bpf_fib_lookup, flags: u32) -> i64;
    /// [`deliver::look_up`](crate::egress::route::look_up) of this tier, `route` telling where to; 0 without a route.
    fn look_up(self, route: &mut Route, cache: *mut NextHop, now: u64) -> u32;
    /// The packet as the kernel's helpers for TC take it; null in XDP, where nothing reaches for it.
    fn skb(self) -> *mut __sk_buff;
    /// Leaves a word for a program that is jumped to.
    fn set_note(self, index: usize, value: u32);
    /// A word that a program which jumped here left; always 0 in XDP.
    fn note(self, index: usize) -> u32;
    /// Tells the MTU of a device.
    fn check_mtu(self, ifindex: u32, mtu: &mut u32);
    /// Jumps to another program of this tier.
    fn tail_call(self, index: u32);
}
