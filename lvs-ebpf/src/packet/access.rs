//! Access to a packet, the same for XDP and TC.

use core::ffi::c_void;

use aya_ebpf::{
    bindings::{__sk_buff, bpf_fib_lookup, xdp_md},
    btf_maps::ProgramArray,
    helpers::generated::{bpf_check_mtu, bpf_fib_lookup as fib_lookup, bpf_tail_call},
};
use lvs_common::byte_order::Be16;
use lvs_common::wire::{Ethernet, Icmp, Ipv4, Ipv6, Ipv6Fragment, Sctp, Tcp, Udp, ethertype};

use crate::link;

/// What packet bytes may be read and written as.
///
/// # Safety
/// The type has no padding, and all bytes are values of it.
pub unsafe trait Wire: Copy {}

macro_rules! wire {
    ($($type:ty),+ $(,)?) => {
        // SAFETY: integers, or `repr(C)` structures of integers without padding.
        $(unsafe impl Wire for $type {})+
    };
}

wire!(
    Be16,
    [Be16; 2],
    Ethernet,
    Icmp,
    Ipv4,
    Ipv6,
    Ipv6Fragment,
    Sctp,
    Tcp,
    Udp,
    u16,
    u32,
    [u16; 2],
    [u16; 4],
    [u16; 6],
    [u32; 2],
    [u32; 3],
    [u32; 5]
);

// SAFETY: bytes.
unsafe impl<const N: usize> Wire for [u8; N] {}

/// The bytes of a value.
#[inline(always)]
pub fn bytes<T: Wire>(value: &T) -> &[u8] {
    // SAFETY: a `T` has no padding, so all its bytes are initialised.
    unsafe { core::slice::from_raw_parts((&raw const *value).cast(), size_of::<T>()) }
}

/// A place in a packet. Only this file reads and writes there: helpers that change the packet invalidate it.
pub struct Place<T>(*mut T);

/// A packet in TC, ingress or egress.
#[derive(Clone, Copy)]
pub struct TcPacket(pub *mut __sk_buff);

/// A packet in XDP.
#[derive(Clone, Copy)]
pub struct XdpPacket(pub *mut xdp_md);

/// A packet in one of the two tiers.
///
/// XDP serves what is simple and leaves everything else to TC, *unchanged and uncounted*; TC sees it then, and serves it all.
pub trait Packet: Copy {
    /// The verdict that leaves the packet to whoever comes next: in XDP the stack, with TC first; in TC the device's other
    /// programs and filters, then the stack.
    const PASS: i32;
    /// The verdict that drops it.
    const DROP: i32;
    /// Whether this tier can sum a whole payload.
    const SUMS_PAYLOAD: bool;

    /// The packet in TC. In XDP, the verdict that leaves it to TC: `packet.in_tc()?` ends what only TC can do.
    fn in_tc(self) -> Result<TcPacket, i32>;
    /// The context that the kernel's helpers take.
    fn context(self) -> *mut c_void;
    /// Where the packet's linear part begins and ends, read anew. See "volatile context pointers" in docs/develop/verifier.md.
    fn bounds(self) -> (usize, usize);
    /// The place of a `T` at `offset`, if the packet's linear part reaches so far.
    #[inline(always)]
    fn at<T>(self, offset: usize) -> Option<Place<T>> {
        let (start, end) = self.bounds();
        if start + offset + size_of::<T>() > end { None } else { Some(Place((start + offset) as *mut T)) }
    }
    /// Device the packet came in on; 0 if the director itself made it.
    fn device(self) -> u32;
    /// Whether the frame is addressed to this host.
    fn for_this_host(self) -> bool;
    /// Mark of the packet.
    fn mark(self) -> u32;
    /// Bytes of a segment if the packet is to be cut into segments (GSO), else 0.
    fn segment(self) -> u32;
    /// Adds to the transport checksum at `offset` what changed in addresses and ports (sums of [`difference`]s).
    ///
    /// [`difference`]: lvs_common::checksum::difference
    fn update_l4(self, offset: usize, addresses: u64, ports: u64, udp: bool) -> bool;
    /// Makes room for `length` bytes between Ethernet and network header, and leaves space for an Ethernet header.
    /// `v6`: the outer header is IPv6; `l4` the outer protocol; `plain`: the packet is to be cut into fragments, which the
    /// kernel's helpers refuse to do with one marked as encapsulated.
    fn encapsulate(self, length: usize, v6: bool, l4: u8, plain: bool) -> bool;
    /// Whether the checksum at `offset` is `CHECKSUM_PARTIAL`. In TC the probe *modifies* the checksum field, so call it only
    /// before the field is rewritten.
    fn is_partial(self, offset: usize) -> bool;
    /// Removes `options` bytes after the fixed part of the network header, and then what is beyond `length` bytes of frame.
    fn strip(self, options: u32, length: u32) -> bool;
    /// Writes a word of the control block; nothing in XDP, which has none.
    fn set_control(self, index: usize, value: u32);
    /// A word of the control block; 0 in XDP.
    fn control(self, index: usize) -> u32;
    /// Puts an Ethernet header in front of a packet that came without, as sending wants it: to a device without Ethernet headers
    /// the kernel sends the packet without it.
    fn put_link_header(self) -> bool;
    /// The tier's program array.
    fn programs() -> &'static ProgramArray<128>;

    /// Jumps to the program in this slot of the tier's program array. Returns only if the kernel refuses.
    #[inline(always)]
    fn tail_call(self, slot: u32) {
        // SAFETY: a helper call with the context and a program array.
        unsafe { bpf_tail_call(self.context(), (&raw const *Self::programs()).cast_mut().cast(), slot) };
    }

    /// The kernel's FIB look-up: its return code, or a negative error.
    #[inline(always)]
    fn fib(self, params: &mut bpf_fib_lookup, flags: u32) -> i64 {
        // SAFETY: a helper call with a valid context; the kernel is given the structure's size.
        unsafe { fib_lookup(self.context(), params, size_of::<bpf_fib_lookup>() as i32, flags) }
    }

    /// The MTU of a device, 0 if the kernel does not say.
    #[inline(always)]
    fn device_mtu(self, ifindex: u32) -> u32 {
        let mut mtu = 0;
        // SAFETY: a helper call with a valid context. It reports the MTU, whatever it says of this packet.
        unsafe { bpf_check_mtu(self.context(), ifindex, &mut mtu, 0, 0) };
        mtu
    }

    /// What the link layer says that it carries; the packet itself where there is no such header.
    #[inline(always)]
    fn carried(self) -> Be16 {
        if link::HEADER != 0 {
            return self.read::<Ethernet>(0).map_or(Be16::ZERO, |h| h.ethertype);
        }
        // Two bytes: of one LLVM makes a comparison with the end from which the verifier learns nothing.
        match self.read::<[u8; 2]>(0).map(|[first, _]| first >> 4) {
            Some(4) => ethertype::IPV4,
            Some(6) => ethertype::IPV6,
            _ => Be16::ZERO,
        }
    }

    /// Has the Ethernet header, if there is one, say that it carries this.
    #[inline(always)]
    fn set_carried(self, kind: Be16) -> bool {
        link::HEADER == 0 || self.update::<Ethernet>(0, |h| h.ethertype = kind)
    }

    /// Reads the `T` at `offset`; `None` if the packet's linear part does not reach so far.
    #[inline(always)]
    fn read<T: Wire>(self, offset: usize) -> Option<T> {
        self.look(offset, |value: &T| *value)
    }

    /// What `look` makes of the `T` at `offset`; `None` if the packet's linear part does not reach so far. For fields of a small
    /// structure in the fast path: LLVM puts eight bytes that are read as a value together from their fields, and takes them apart
    /// again.
    #[inline(always)]
    fn look<T: Wire, R>(self, offset: usize, look: impl FnOnce(&T) -> R) -> Option<R> {
        // SAFETY: `at` has checked the bounds, any bytes are a `T`, and the packet is this program's alone.
        self.at::<T>(offset).map(|Place(place)| look(unsafe { &*place }))
    }

    /// Whether the packet's linear part is at least `length` bytes long.
    #[inline(always)]
    fn holds(self, length: usize) -> bool {
        let (start, end) = self.bounds();
        start + length <= end
    }

    /// Looks at the `T` at `offset`; `false` if the packet's linear part does not reach so far.
    #[inline(always)]
    fn view<T: Wire>(self, offset: usize, look: impl FnOnce(&T)) -> bool {
        self.look(offset, look).is_some()
    }

    /// Writes `value` at `offset`; `false` if the packet's linear part does not reach so far.
    #[inline(always)]
    fn write<T: Wire>(self, offset: usize, value: T) -> bool {
        self.update(offset, |place| *place = value)
    }

    /// Changes the `T` at `offset`; `false` if the packet's linear part does not reach so far. `change` calls no helper that
    /// changes the packet.
    #[inline(always)]
    fn update<T: Wire>(self, offset: usize, change: impl FnOnce(&mut T)) -> bool {
        let Some(Place(place)) = self.at::<T>(offset) else { return false };
        // SAFETY: `at` has checked the bounds, any bytes are a `T`, and the packet is this program's alone.
        change(unsafe { &mut *place });
        true
    }
}
