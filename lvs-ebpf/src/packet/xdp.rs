//! A packet in XDP.

use crate::config::device::device;
use crate::packet::access::TcPacket;
use crate::packet::access::XdpPacket;
use aya_ebpf::{
    bindings::{xdp_action, xdp_md},
    btf_maps::ProgramArray,
    helpers::generated::{bpf_xdp_adjust_head, bpf_xdp_adjust_tail},
};
use core::ffi::c_void;
use lvs_common::{checksum, wire::Ethernet};

use crate::{
    kernel::reload::reload,
    maps::XDP_PROGRAMS,
    packet::access::{Packet, Wire},
};

impl XdpPacket {
    /// The fields of the context, of which reads by programs are allowed.
    #[inline(always)]
    fn context_fields<'a>(self) -> &'a xdp_md {
        // SAFETY: the context is valid for the program's whole run.
        unsafe { &*self.0 }
    }

    /// Like [`Packet::look`], and tells `look` how many bytes of the frame there are from `offset` on.
    #[inline(always)]
    pub fn look_with_rest<T: Wire, R>(self, offset: usize, look: impl FnOnce(&T, u32) -> R) -> Option<R> {
        let (start, end) = self.bounds();
        let place = start + offset;
        if place + size_of::<T>() > end {
            return None;
        }
        // SAFETY: the bounds are checked, any bytes are a `T`, and the packet is this program's alone.
        Some(look(unsafe { &*(place as *const T) }, (end - place) as u32))
    }
}

impl XdpPacket {
    /// Whether the frame is addressed to the device of this address.
    #[inline(always)]
    pub fn is_for(self, own: [u8; 6]) -> bool {
        let Some(mac) = self.look(0, |h: &Ethernet| h.destination) else { return false };
        let words = |m: [u8; 6]| (u32::from_ne_bytes([m[0], m[1], m[2], m[3]]), u16::from_ne_bytes([m[4], m[5]]));
        words(own) == words(mac)
    }
}

impl Packet for XdpPacket {
    const PASS: i32 = xdp_action::XDP_PASS as i32;
    const DROP: i32 = xdp_action::XDP_DROP as i32;
    const SUMS_PAYLOAD: bool = false;

    #[inline(always)]
    fn in_tc(self) -> Result<TcPacket, i32> {
        Err(Self::PASS)
    }

    #[inline(always)]
    fn context(self) -> *mut c_void {
        self.0.cast()
    }

    #[inline(always)]
    fn bounds(self) -> (usize, usize) {
        (reload(&self.context_fields().data) as usize, reload(&self.context_fields().data_end) as usize)
    }

    #[inline(always)]
    fn device(self) -> u32 {
        self.context_fields().ingress_ifindex
    }

    #[inline(always)]
    fn for_this_host(self) -> bool {
        device(self.device()).is_some_and(|device| self.is_for(device.mac))
    }

    #[inline(always)]
    fn mark(self) -> u32 {
        0
    }

    #[inline(always)]
    fn segment(self) -> u32 {
        0
    }

    #[inline(always)]
    fn update_l4(self, offset: usize, addresses: u64, ports: u64, udp: bool) -> bool {
        self.update::<u16>(
            offset,
            #[inline(always)]
            |check| {
                let change = addresses + ports;
                *check = if udp { checksum::update_udp(*check, change) } else { checksum::update(*check, change) };
            },
        )
    }

    #[inline(always)]
    fn encapsulate(self, length: usize, _: bool, _: u8, _: bool) -> bool {
        // SAFETY: a helper call with a valid context.
        unsafe { bpf_xdp_adjust_head(self.0, -(length as i32)) == 0 }
    }

    #[inline(always)]
    fn is_partial(self, _: usize) -> bool {
        false
    }

    #[inline(always)]
    fn strip(self, _: u32, length: u32) -> bool {
        let frame = self.context_fields().data_end.wrapping_sub(self.context_fields().data);
        // SAFETY: a helper call with a valid context.
        unsafe { bpf_xdp_adjust_tail(self.0, length.wrapping_sub(frame) as i32) == 0 }
    }

    #[inline(always)]
    fn set_control(self, _: usize, _: u32) {}

    #[inline(always)]
    fn control(self, _: usize) -> u32 {
        0
    }

    #[inline(always)]
    fn put_link_header(self) -> bool {
        true
    }

    #[inline(always)]
    fn programs() -> &'static ProgramArray<128> {
        &XDP_PROGRAMS
    }
}
