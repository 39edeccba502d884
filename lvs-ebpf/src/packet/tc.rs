//! A packet in TC, ingress or egress.

use crate::packet::access::TcPacket;
use aya_ebpf::{
    bindings::{
        BPF_F_ADJ_ROOM_ENCAP_L3_IPV4, BPF_F_ADJ_ROOM_ENCAP_L3_IPV6, BPF_F_ADJ_ROOM_ENCAP_L4_GRE,
        BPF_F_ADJ_ROOM_ENCAP_L4_UDP, BPF_F_MARK_MANGLED_0, BPF_F_PSEUDO_HDR, BPF_F_RECOMPUTE_CSUM, TC_ACT_OK,
        TC_ACT_SHOT, bpf_fib_lookup,
    },
    helpers::generated::{
        bpf_check_mtu, bpf_fib_lookup as fib_lookup, bpf_l4_csum_replace, bpf_skb_adjust_room, bpf_skb_change_proto,
        bpf_skb_change_tail, bpf_skb_pull_data, bpf_skb_store_bytes, bpf_tail_call,
    },
};
use core::ffi::c_void;
use lvs_common::wire::{Ethernet, ethertype, protocol};

use crate::{maps::TC_PROGRAMS, packet::access::Packet};

/// `BPF_ADJ_ROOM_NET`.
const ROOM_AFTER_L3: u32 = 0;
/// `BPF_ADJ_ROOM_MAC`.
const ROOM_AFTER_MAC: u32 = 1;
/// `PACKET_HOST`.
const PACKET_HOST: u32 = 0;

/// A packet's `tc_index`, which stays with it, once the director has served it. Nobody else is likely to use the number.
const SERVED: u32 = 0x4c56;

/// A sum as the kernel's checksum helpers take it: 32 bits.
#[inline(always)]
fn wsum(sum: u64) -> u64 {
    let sum = (sum & 0xffff_ffff) + (sum >> 32);
    (sum & 0xffff_ffff) + (sum >> 32)
}

impl TcPacket {
    /// Bytes of the frame.
    #[inline(always)]
    pub fn length(self) -> u32 {
        // SAFETY: the context is valid for the program's whole run.
        unsafe { (*self.0).len }
    }

    /// Whether a VLAN tag stands beside the packet: it belongs to a VLAN device and is served there.
    #[inline(always)]
    pub fn tagged(self) -> bool {
        // SAFETY: as above.
        unsafe { (*self.0).vlan_present != 0 }
    }

    /// Whether a packet of the director's own was served at a device before: it comes by again where it leaves.
    #[inline(always)]
    pub fn is_served(self) -> bool {
        // SAFETY: as above.
        unsafe { (*self.0).tc_index == SERVED }
    }

    /// Notes that it is served now.
    #[inline(always)]
    pub fn set_served(self) {
        // SAFETY: as above; a field that may be written.
        unsafe { (*self.0).tc_index = SERVED }
    }

    /// Makes the packet one of the other family, with room for a network header in place of the old one, and of its
    /// Ethernet header one that says so. Segments that it is to be cut into keep their size.
    #[inline(always)]
    pub fn change_family(self, v6: bool) -> bool {
        let to = if v6 { ethertype::IPV6 } else { ethertype::IPV4 };
        // SAFETY: a helper call with a valid context.
        if unsafe { bpf_skb_change_proto(self.0, to.word(), 0) } != 0 {
            return false;
        }
        let Some(ethernet) = self.at::<Ethernet>(0) else { return false };
        // SAFETY: checked by `at`.
        unsafe { (*ethernet).ethertype = to }
        true
    }

    /// Makes the first `length` bytes linear.
    #[inline(always)]
    pub fn pull(self, length: usize) -> bool {
        let length = length as u32;
        // SAFETY: a helper call with a valid context.
        length <= self.length() && unsafe { bpf_skb_pull_data(self.0, length) == 0 }
    }

    /// Writes a header, in whose place there was something else; a sum over the packet that a device has told stays true.
    #[inline(always)]
    pub fn store<T>(self, at: usize, header: &T) -> bool {
        let (from, length) = ((header as *const T).cast(), size_of::<T>() as u32);
        // SAFETY: a helper call with a valid context.
        unsafe { bpf_skb_store_bytes(self.0, at as u32, from, length, BPF_F_RECOMPUTE_CSUM as u64) == 0 }
    }
}

impl Packet for TcPacket {
    const PASS: i32 = TC_ACT_OK;
    const DROP: i32 = TC_ACT_SHOT;
    const SUMS_PAYLOAD: bool = true;

    #[inline(always)]
    fn in_tc(self) -> Result<TcPacket, i32> {
        Ok(self)
    }

    #[inline(always)]
    fn context(self) -> *mut c_void {
        self.0.cast()
    }

    #[inline(always)]
    fn at<T>(self, offset: usize) -> Option<*mut T> {
        // SAFETY: as above.
        // Read anew each time: the compiler must not take one check for another that is equal only in sum, for the
        // verifier knows pointers and not sums.
        let (start, end) = unsafe {
            (
                (&raw const (*self.0).data).read_volatile() as usize,
                (&raw const (*self.0).data_end).read_volatile() as usize,
            )
        };
        if start + offset + size_of::<T>() > end { None } else { Some((start + offset) as *mut T) }
    }

    #[inline(always)]
    fn device(self) -> u32 {
        // SAFETY: as above.
        unsafe { (*self.0).ingress_ifindex }
    }

    #[inline(always)]
    fn for_this_host(self) -> bool {
        // SAFETY: as above.
        self.device() == 0 || unsafe { (*self.0).pkt_type == PACKET_HOST }
    }

    #[inline(always)]
    fn mark(self) -> u32 {
        // SAFETY: as above.
        unsafe { (*self.0).mark }
    }

    #[inline(always)]
    fn segment(self) -> u32 {
        // SAFETY: as above.
        unsafe { (*self.0).gso_size }
    }

    #[inline(always)]
    fn update_l4(self, offset: usize, addresses: u64, ports: u64, udp: bool) -> bool {
        let zero = if udp { BPF_F_MARK_MANGLED_0 as u64 } else { 0 };
        // The helper knows partial and complete checksums: a partial one covers the addresses and nothing else.
        // SAFETY: helper calls with a valid context.
        unsafe {
            (addresses == 0
                || bpf_l4_csum_replace(self.0, offset as u32, 0, wsum(addresses), BPF_F_PSEUDO_HDR as u64 | zero) == 0)
                && (ports == 0 || bpf_l4_csum_replace(self.0, offset as u32, 0, wsum(ports), zero) == 0)
        }
    }

    #[inline(always)]
    fn encapsulate(self, length: usize, v6: bool, l4: u8, plain: bool) -> bool {
        let l3 = if v6 { BPF_F_ADJ_ROOM_ENCAP_L3_IPV6 } else { BPF_F_ADJ_ROOM_ENCAP_L3_IPV4 };
        let l4 = match l4 {
            protocol::UDP => BPF_F_ADJ_ROOM_ENCAP_L4_UDP,
            protocol::GRE => BPF_F_ADJ_ROOM_ENCAP_L4_GRE,
            _ => 0,
        };
        let flags = if plain { 0 } else { (l3 | l4) as u64 };
        // SAFETY: as above.
        unsafe { bpf_skb_adjust_room(self.0, length as i32, ROOM_AFTER_MAC, flags) == 0 }
    }

    #[inline(always)]
    fn is_partial(self, offset: usize) -> bool {
        // SAFETY: checked by `at`.
        let check = || self.at::<u16>(offset).map_or(0, |check| unsafe { check.read_unaligned() });
        let before = check();
        // A change of the data, as the helper takes it, changes a finished checksum only.
        // SAFETY: a helper call with a valid context.
        let _ = unsafe { bpf_l4_csum_replace(self.0, offset as u32, 0, 1, 0) };
        check() == before
    }

    #[inline(always)]
    fn strip(self, options: u32, length: u32) -> bool {
        // SAFETY: as above.
        unsafe {
            (options == 0 || bpf_skb_adjust_room(self.0, -(options as i32), ROOM_AFTER_L3, 0) == 0)
                && bpf_skb_change_tail(self.0, length, 0) == 0
        }
    }

    #[inline(always)]
    fn fib(self, params: &mut bpf_fib_lookup, flags: u32) -> i64 {
        // SAFETY: as above; the kernel is told the structure's size.
        unsafe { fib_lookup(self.0.cast(), params, size_of::<bpf_fib_lookup>() as i32, flags) }
    }

    #[inline(always)]
    fn set_control(self, index: usize, value: u32) {
        // SAFETY: as above.
        unsafe { (&raw mut (*self.0).cb).cast::<u32>().add(index).write_volatile(value) }
    }

    #[inline(always)]
    fn control(self, index: usize) -> u32 {
        // SAFETY: as above.
        unsafe { (&raw const (*self.0).cb).cast::<u32>().add(index).read_volatile() }
    }

    #[inline(always)]
    fn device_mtu(self, ifindex: u32) -> u32 {
        let mut mtu = 0;
        // SAFETY: as above. What it says of this packet does not matter, it tells the MTU either way.
        unsafe { bpf_check_mtu(self.0.cast(), ifindex, &mut mtu, 0, 0) };
        mtu
    }

    #[inline(always)]
    fn tail_call(self, index: u32) {
        // SAFETY: as above.
        unsafe {
            bpf_tail_call(self.0.cast(), (&raw const TC_PROGRAMS).cast_mut().cast(), index);
        }
    }
}
