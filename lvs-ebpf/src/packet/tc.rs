//! A packet in TC, ingress or egress.

use crate::packet::access::TcPacket;
use aya_ebpf::btf_maps::ProgramArray;
use aya_ebpf::{
    bindings::{
        __sk_buff, BPF_F_ADJ_ROOM_ENCAP_L3_IPV4, BPF_F_ADJ_ROOM_ENCAP_L3_IPV6, BPF_F_ADJ_ROOM_ENCAP_L4_GRE,
        BPF_F_ADJ_ROOM_ENCAP_L4_UDP, BPF_F_ADJ_ROOM_FIXED_GSO, BPF_F_MARK_MANGLED_0, BPF_F_PSEUDO_HDR,
        BPF_F_RECOMPUTE_CSUM, TC_ACT_SHOT, TC_ACT_UNSPEC,
    },
    helpers::generated::{
        bpf_clone_redirect, bpf_l4_csum_replace, bpf_skb_adjust_room, bpf_skb_change_head, bpf_skb_change_proto,
        bpf_skb_change_tail, bpf_skb_load_bytes, bpf_skb_pull_data, bpf_skb_store_bytes,
    },
};
use core::{ffi::c_void, hint::black_box};
use lvs_common::byte_order::Be16;
use lvs_common::wire::{Ethernet, ethertype, protocol};

use crate::{
    kernel::reload::reload,
    link,
    maps::TC_PROGRAMS,
    packet::access::{Packet, Wire, bytes},
};

/// `PACKET_HOST`.
const PACKET_HOST: u32 = 0;

/// A packet's `tc_index`, which stays with it, once the director has served it. Nobody else is likely to use the number.
const SERVED: u32 = 0x4c56;

/// The same of one that a program has finished, and that only lacks the neighbour it goes to.
const FINISHED: u32 = 0x4c57;

/// After which header [`TcPacket::adjust_room`] adds or removes bytes.
#[derive(Clone, Copy)]
#[repr(u32)]
pub enum Room {
    /// After the fixed part of the network header (`BPF_ADJ_ROOM_NET`).
    AfterNetwork = 0,
    /// After the Ethernet header (`BPF_ADJ_ROOM_MAC`).
    AfterEthernet = 1,
}

/// The number modulo `N`, a power of two. See "known-length masks" in docs/develop/verifier.md.
#[inline(always)]
fn masked<const N: usize>(number: usize) -> usize {
    const { assert!(N.is_power_of_two()) };
    // LLVM, which may know that the number is less, keeps the mask.
    black_box(number) & (N - 1)
}

/// A length from 1 to `N`, likewise.
#[inline(always)]
fn masked_length<const N: usize>(length: u32) -> usize {
    masked::<N>(length.wrapping_sub(1) as usize) + 1
}

/// A sum as the kernel's checksum helpers take it: 32 bits.
#[inline(always)]
fn wsum(sum: u64) -> u64 {
    let sum = (sum & 0xffff_ffff) + (sum >> 32);
    (sum & 0xffff_ffff) + (sum >> 32)
}

impl TcPacket {
    /// The fields of the context, of which reads by programs are allowed.
    #[inline(always)]
    fn skb<'a>(self) -> &'a __sk_buff {
        // SAFETY: the context is valid for the program's whole run.
        unsafe { &*self.0 }
    }

    /// Adds a change to the checksum at `offset`, unless it is `CHECKSUM_PARTIAL` and the change is not of the pseudo header.
    #[inline(always)]
    fn replace_checksum(self, offset: usize, change: u64, flags: u64) -> bool {
        // SAFETY: a helper call with a valid context.
        unsafe { bpf_l4_csum_replace(self.0, offset as u32, 0, change, flags) == 0 }
    }

    /// Bytes of the frame.
    #[inline(always)]
    pub fn length(self) -> u32 {
        self.skb().len
    }

    /// What the kernel says that the packet is.
    #[inline(always)]
    pub fn ethertype(self) -> Be16 {
        Be16::from_word(self.skb().protocol as u16)
    }

    /// Whether a VLAN tag stands beside the packet: it belongs to a VLAN device and is served there.
    #[inline(always)]
    pub fn tagged(self) -> bool {
        self.skb().vlan_present != 0
    }

    /// Whether a packet of the director's own was served at a device before: it comes by again where it leaves.
    #[inline(always)]
    pub fn is_served(self) -> bool {
        self.skb().tc_index == SERVED
    }

    /// Notes that it is served now.
    #[inline(always)]
    pub fn set_served(self) {
        // SAFETY: the context is valid for the program's whole run; the field may be written.
        unsafe { (*self.0).tc_index = SERVED }
    }

    /// Whether a program has finished the packet, so that it only lacks the neighbour it goes to.
    #[inline(always)]
    pub fn is_finished(self) -> bool {
        // SAFETY: as above.
        unsafe { (*self.0).tc_index == FINISHED }
    }

    /// Notes that it is finished.
    #[inline(always)]
    pub fn set_finished(self) {
        // SAFETY: as above; a field that may be written.
        unsafe { (*self.0).tc_index = FINISHED }
    }

    /// The device at which the program runs.
    #[inline(always)]
    pub fn place(self) -> u32 {
        // SAFETY: as above.
        unsafe { (*self.0).ifindex }
    }

    /// Makes the packet one other than that which came in; a sum over it that a device has told is forgotten.
    #[inline(always)]
    pub fn renew(self) -> bool {
        // The kernel forgets it when a packet grows.
        self.change_tail(self.length().wrapping_add(1))
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
        self.set_carried(to)
    }

    /// Makes the first `length` bytes linear.
    #[inline(always)]
    pub fn pull(self, length: usize) -> bool {
        let length = length as u32;
        // SAFETY: a helper call with a valid context.
        length <= self.length() && unsafe { bpf_skb_pull_data(self.0, length) == 0 }
    }

    /// Has a TCP packet be cut into segments that are `by` bytes shorter. Pointers into the packet are void after it.
    #[inline(always)]
    pub fn shorten_segments(self, by: u32) -> bool {
        // The helper moves 4,095 bytes at most; a jumbo frame's segment is shortened in two steps. Bytes that are put in come
        // out of each segment's size; bytes that are taken out again do not count where sizes are fixed.
        let half = by.div_ceil(2) as i32;
        let shorten =
            || self.adjust_room(half, Room::AfterEthernet) && self.adjust_segments_room(-half, Room::AfterEthernet);
        shorten() && shorten()
    }

    /// Makes the frame `length` bytes long: cuts it, or appends zeroes.
    #[inline(always)]
    pub fn change_tail(self, length: u32) -> bool {
        // SAFETY: a helper call with a valid context.
        unsafe { bpf_skb_change_tail(self.0, length, 0) == 0 }
    }

    /// Adds `difference` bytes after a header, or removes them if it is negative.
    #[inline(always)]
    pub fn adjust_room(self, difference: i32, room: Room) -> bool {
        self.adjust_room_with(difference, room, 0)
    }

    /// The same, and the segments that the packet is to be cut into keep their size.
    #[inline(always)]
    pub fn adjust_segments_room(self, difference: i32, room: Room) -> bool {
        self.adjust_room_with(difference, room, BPF_F_ADJ_ROOM_FIXED_GSO)
    }

    #[inline(always)]
    fn adjust_room_with(self, difference: i32, room: Room, flags: u32) -> bool {
        // SAFETY: a helper call with a valid context.
        unsafe { bpf_skb_adjust_room(self.0, difference, room as u32, flags as u64) == 0 }
    }

    /// Sends a copy of the packet out of a device, or with [`INGRESS`](crate::kernel::redirect::INGRESS) into it.
    #[inline(always)]
    pub fn clone_redirect(self, ifindex: u32, flags: u64) -> bool {
        // SAFETY: a helper call with a valid context.
        unsafe { bpf_clone_redirect(self.0, ifindex, flags) == 0 }
    }

    /// Loads `length` bytes from `from` on, linear or not, to the beginning of `to`. The length is from 1 to `N`; others count
    /// modulo `N`.
    #[inline(always)]
    pub fn load_bytes<const N: usize>(self, from: u32, to: &mut [u8; N], length: u32) -> bool {
        let length = masked_length::<N>(length);
        to.get_mut(..length).is_some_and(|to| self.load_slice(from, to))
    }

    /// As [`load_bytes`](Self::load_bytes), to `at` within `to`, of which half is for offsets: offset and length count modulo
    /// `HALF`.
    #[inline(always)]
    pub fn load_bytes_at<const HALF: usize, const N: usize>(
        self,
        from: u32,
        to: &mut [u8; N],
        at: u32,
        length: u32,
    ) -> bool {
        const { assert!(2 * HALF <= N) };
        let (at, length) = (masked::<HALF>(at as usize), masked_length::<HALF>(length));
        to.get_mut(at..at + length).is_some_and(|to| self.load_slice(from, to))
    }

    /// Stores the first `length` bytes of `from` at `to`, and leaves `skb->csum` as it is. The length is from 1 to `N`; others
    /// count modulo `N`.
    #[inline(always)]
    pub fn store_bytes<const N: usize>(self, to: u32, from: &[u8; N], length: u32) -> bool {
        let length = masked_length::<N>(length);
        from.get(..length).is_some_and(|from| self.store_slice(to, from, 0))
    }

    /// As [`store_bytes`](Self::store_bytes), from `at` within `from`, of which half is for offsets: offset and length count
    /// modulo `HALF`.
    #[inline(always)]
    pub fn store_bytes_at<const HALF: usize, const N: usize>(
        self,
        to: u32,
        from: &[u8; N],
        at: u32,
        length: u32,
    ) -> bool {
        const { assert!(2 * HALF <= N) };
        let (at, length) = (masked::<HALF>(at as usize), masked_length::<HALF>(length));
        from.get(at..at + length).is_some_and(|from| self.store_slice(to, from, 0))
    }

    /// Overwrites the bytes at `at`, linear or not, and corrects `skb->csum` (`CHECKSUM_COMPLETE`).
    #[inline(always)]
    pub fn store<T: Wire>(self, at: usize, value: &T) -> bool {
        self.store_slice(at as u32, bytes(value), BPF_F_RECOMPUTE_CSUM as u64)
    }

    /// Overwrites the bytes at `at`, linear or not, and leaves `skb->csum` as it is.
    #[inline(always)]
    pub fn store_unsummed<T: Wire>(self, at: usize, value: &T) -> bool {
        self.store_slice(at as u32, bytes(value), 0)
    }

    #[inline(always)]
    fn load_slice(self, from: u32, to: &mut [u8]) -> bool {
        // SAFETY: a helper call with a valid context, and a buffer of this length.
        unsafe { bpf_skb_load_bytes(self.0.cast(), from, to.as_mut_ptr().cast(), to.len() as u32) == 0 }
    }

    #[inline(always)]
    fn store_slice(self, to: u32, from: &[u8], flags: u64) -> bool {
        // SAFETY: a helper call with a valid context, and a buffer of this length.
        unsafe { bpf_skb_store_bytes(self.0, to, from.as_ptr().cast(), from.len() as u32, flags) == 0 }
    }
}

impl Packet for TcPacket {
    /// Goes on with the device's next program or filter (`TCX_NEXT`, the same number): the chain is not ours to end.
    const PASS: i32 = TC_ACT_UNSPEC;
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
    fn bounds(self) -> (usize, usize) {
        (reload(&self.skb().data) as usize, reload(&self.skb().data_end) as usize)
    }

    #[inline(always)]
    fn device(self) -> u32 {
        self.skb().ingress_ifindex
    }

    #[inline(always)]
    fn for_this_host(self) -> bool {
        self.device() == 0 || self.skb().pkt_type == PACKET_HOST
    }

    #[inline(always)]
    fn mark(self) -> u32 {
        self.skb().mark
    }

    #[inline(always)]
    fn segment(self) -> u32 {
        self.skb().gso_size
    }

    #[inline(always)]
    fn update_l4(self, offset: usize, addresses: u64, ports: u64, udp: bool) -> bool {
        let zero = if udp { BPF_F_MARK_MANGLED_0 as u64 } else { 0 };
        // The helper knows partial and complete checksums: a partial one covers the addresses and nothing else.
        (addresses == 0 || self.replace_checksum(offset, wsum(addresses), BPF_F_PSEUDO_HDR as u64 | zero))
            && (ports == 0 || self.replace_checksum(offset, wsum(ports), zero))
    }

    #[inline(always)]
    fn encapsulate(self, length: usize, v6: bool, l4: u8, plain: bool) -> bool {
        let l3 = if v6 { BPF_F_ADJ_ROOM_ENCAP_L3_IPV6 } else { BPF_F_ADJ_ROOM_ENCAP_L3_IPV4 };
        let l4 = match l4 {
            protocol::UDP => BPF_F_ADJ_ROOM_ENCAP_L4_UDP,
            protocol::GRE => BPF_F_ADJ_ROOM_ENCAP_L4_GRE,
            _ => 0,
        };
        // The segments to be cut fit with the tunnel's headers, and datagrams have to stay what they are.
        let flags = BPF_F_ADJ_ROOM_FIXED_GSO | if plain { 0 } else { l3 | l4 };
        self.adjust_room_with(length as i32, Room::AfterEthernet, flags)
    }

    #[inline(always)]
    fn is_partial(self, offset: usize) -> bool {
        let check = || self.read::<u16>(offset).unwrap_or(0);
        let before = check();
        // A change of the data, as the helper takes it, changes a finished checksum only.
        self.replace_checksum(offset, 1, 0);
        check() == before
    }

    #[inline(always)]
    fn strip(self, options: u32, length: u32) -> bool {
        (options == 0 || self.adjust_room(-(options as i32), Room::AfterNetwork)) && self.change_tail(length)
    }

    #[inline(always)]
    fn set_control(self, index: usize, value: u32) {
        // SAFETY: the context is valid for the program's whole run; the control block is the program's to write.
        unsafe { (&raw mut (*self.0).cb[index]).write_volatile(value) }
    }

    #[inline(always)]
    fn control(self, index: usize) -> u32 {
        reload(&self.skb().cb[index])
    }

    #[inline(always)]
    fn put_link_header(self) -> bool {
        if link::HEADER != 0 {
            return true;
        }
        let kind = self.carried();
        // SAFETY: a helper call with a valid context.
        let put = unsafe { bpf_skb_change_head(self.0, size_of::<Ethernet>() as u32, 0) } == 0;
        put && self.update::<Ethernet>(0, |h| h.ethertype = kind)
    }

    #[inline(always)]
    fn programs() -> &'static ProgramArray<128> {
        &TC_PROGRAMS
    }
}
