//! A packet in XDP.

use crate::config::device::device;
use crate::packet::access::TcPacket;
use crate::packet::access::XdpPacket;
use aya_ebpf::{
    bindings::{bpf_fib_lookup, xdp_action},
    helpers::generated::{
        bpf_check_mtu, bpf_fib_lookup as fib_lookup, bpf_tail_call, bpf_xdp_adjust_head, bpf_xdp_adjust_tail,
    },
};
use core::ffi::c_void;
use lvs_common::{checksum, wire::Ethernet};

use crate::{maps::XDP_PROGRAMS, packet::access::Packet};

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
        // SAFETY: the context is valid for the program's whole run.
        unsafe {
            (
                (&raw const (*self.0).data).read_volatile() as usize,
                (&raw const (*self.0).data_end).read_volatile() as usize,
            )
        }
    }

    #[inline(always)]
    fn device(self) -> u32 {
        // SAFETY: as above.
        unsafe { (*self.0).ingress_ifindex }
    }

    #[inline(always)]
    fn for_this_host(self) -> bool {
        let (Some(device), Some(mac)) = (device(self.device()), self.look(0, |h: &Ethernet| h.destination)) else {
            return false;
        };
        let words = |m: [u8; 6]| (u32::from_ne_bytes([m[0], m[1], m[2], m[3]]), u16::from_ne_bytes([m[4], m[5]]));
        words(device.mac) == words(mac)
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
        // SAFETY: as above.
        unsafe {
            let frame = ((*self.0).data_end).wrapping_sub((*self.0).data);
            bpf_xdp_adjust_tail(self.0, length.wrapping_sub(frame) as i32) == 0
        }
    }

    #[inline(always)]
    fn fib(self, params: &mut bpf_fib_lookup, flags: u32) -> i64 {
        // SAFETY: as above; the kernel is told the structure's size.
        unsafe { fib_lookup(self.0.cast(), params, size_of::<bpf_fib_lookup>() as i32, flags) }
    }

    #[inline(always)]
    fn set_control(self, _: usize, _: u32) {}

    #[inline(always)]
    fn control(self, _: usize) -> u32 {
        0
    }

    #[inline(always)]
    fn device_mtu(self, ifindex: u32) -> u32 {
        let mut mtu = 0;
        // SAFETY: as above. What it says of this packet does not matter, it tells the MTU either way.
        unsafe { bpf_check_mtu(self.0.cast(), ifindex, &mut mtu, 0, 0) };
        mtu
    }

    #[inline(always)]
    fn put_link_header(self) -> bool {
        true
    }

    #[inline(always)]
    fn tail_call(self, index: u32) {
        // SAFETY: as above.
        unsafe {
            bpf_tail_call(self.0.cast(), (&raw const XDP_PROGRAMS).cast_mut().cast(), index);
        }
    }
}
