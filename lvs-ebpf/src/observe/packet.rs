//! Access to a packet in XDP and in TC, as far as it is observed.

use core::ffi::c_void;

use aya_ebpf::{
    bindings::{__sk_buff, BPF_RB_NO_WAKEUP, TC_ACT_SHOT, TC_ACT_UNSPEC, xdp_action, xdp_md},
    btf_maps::ProgramArray,
    helpers::generated::{bpf_ringbuf_output, bpf_skb_load_bytes, bpf_xdp_load_bytes},
};
use lvs_common::{
    abi::observe::{Gate, HEAD, MOST, Observed},
    verifier::opaque,
};

use crate::maps::{L3_GATES, L3_PROGRAMS, LOST, REPORTS, TC_GATES, TC_PROGRAMS, Visit, XDP_GATES, XDP_PROGRAMS};

/// Programs that are attached, and the one that writes the log.
pub type Gates = ProgramArray<{ Gate::ALL.len() + 1 }>;

/// A packet.
pub trait Packet {
    const PASS: i32;
    const DROP: i32;
    /// Its place among the two of a CPU in the map of visits.
    const VISIT: u32;
    /// Whether it begins with the IP header.
    const IS_BARE: bool;

    fn gates() -> &'static Gates;
    fn programs() -> &'static ProgramArray<128>;

    fn context(&self) -> *mut c_void;
    /// Bytes, with the link-layer header.
    fn length(&self) -> u32;
    /// Index of its device.
    fn device(&self) -> u32;
    /// Its firewall mark.
    fn mark(&self) -> u32;
    /// In TC's egress: whether the data plane has had it before, or would have. That leaves such packets alone.
    fn was_served(&self) -> bool;
    /// Copies bytes from its beginning on; whether it could.
    fn load(&self, to: *mut c_void, length: u32) -> bool;

    /// Copies how it begins: how many bytes.
    #[inline(always)]
    fn read(&self, head: &mut [u8; HEAD]) -> u32 {
        const { assert!(HEAD.is_power_of_two()) };
        // The verifier wants to see that it is neither 0 nor more than there is room for.
        let length = (opaque(self.length().min(HEAD as u32).wrapping_sub(1)) & (HEAD as u32 - 1)) + 1;
        if self.load(head.as_mut_ptr().cast(), length) { length } else { 0 }
    }

    /// Reports it with `most` of its bytes. Nobody is woken: that would cost more than the report, and the reader looks by itself.
    #[inline(always)]
    fn report(&self, visit: &mut Visit, most: u32) {
        const { assert!(MOST.is_power_of_two()) };
        // Of a report without bytes, one is loaded: as above.
        let length = (opaque(self.length().min(most).wrapping_sub(1)) & (MOST - 1)) + 1;
        if !self.load(visit.bytes.as_mut_ptr().cast(), length) {
            return;
        }
        let (ring, report) = ((&raw const REPORTS).cast_mut().cast(), (&raw mut visit.report).cast());
        let size = size_of::<Observed>() as u64 + length as u64;
        // SAFETY: a ring buffer; the report, and after it that many bytes, in an element of a map.
        let failed = unsafe { bpf_ringbuf_output(ring, report, size, BPF_RB_NO_WAKEUP as u64) };
        if failed != 0
            && let Some(lost) = LOST.get_ptr_mut(0)
        {
            // SAFETY: this CPU's own element.
            unsafe { *lost += 1 }
        }
    }
}

/// A packet in XDP.
pub struct Xdp(pub *mut xdp_md);

impl Packet for Xdp {
    const PASS: i32 = xdp_action::XDP_PASS as i32;
    const DROP: i32 = xdp_action::XDP_DROP as i32;
    const VISIT: u32 = 0;
    const IS_BARE: bool = false;

    #[inline(always)]
    fn gates() -> &'static Gates {
        &XDP_GATES
    }

    #[inline(always)]
    fn programs() -> &'static ProgramArray<128> {
        &XDP_PROGRAMS
    }

    #[inline(always)]
    fn context(&self) -> *mut c_void {
        self.0.cast()
    }

    #[inline(always)]
    fn length(&self) -> u32 {
        // SAFETY: the context is valid for the program's whole run.
        unsafe { ((*self.0).data_end as u64).wrapping_sub((*self.0).data as u64) as u32 }
    }

    #[inline(always)]
    fn device(&self) -> u32 {
        // SAFETY: as above.
        unsafe { (*self.0).ingress_ifindex }
    }

    #[inline(always)]
    fn mark(&self) -> u32 {
        0
    }

    #[inline(always)]
    fn was_served(&self) -> bool {
        false
    }

    #[inline(always)]
    fn load(&self, to: *mut c_void, length: u32) -> bool {
        // SAFETY: as many bytes as the caller has room for.
        unsafe { bpf_xdp_load_bytes(self.0, 0, to, length) == 0 }
    }
}

/// A packet in TC, with an Ethernet header or without one.
pub struct Skb<const BARE: bool>(pub *mut __sk_buff);

/// `tc_index` of what the director itself sends once that has been served: see `packet/tc.rs`.
const SERVED: u32 = 0x4c56;

impl<const BARE: bool> Packet for Skb<BARE> {
    const PASS: i32 = TC_ACT_UNSPEC;
    const DROP: i32 = TC_ACT_SHOT;
    const VISIT: u32 = 1;
    const IS_BARE: bool = BARE;

    #[inline(always)]
    fn gates() -> &'static Gates {
        if BARE { &L3_GATES } else { &TC_GATES }
    }

    #[inline(always)]
    fn programs() -> &'static ProgramArray<128> {
        if BARE { &L3_PROGRAMS } else { &TC_PROGRAMS }
    }

    #[inline(always)]
    fn context(&self) -> *mut c_void {
        self.0.cast()
    }

    #[inline(always)]
    fn length(&self) -> u32 {
        // SAFETY: the context is valid for the program's whole run.
        unsafe { (*self.0).len }
    }

    #[inline(always)]
    fn device(&self) -> u32 {
        // SAFETY: as above.
        unsafe { (*self.0).ifindex }
    }

    #[inline(always)]
    fn mark(&self) -> u32 {
        // SAFETY: as above.
        unsafe { (*self.0).mark }
    }

    #[inline(always)]
    fn was_served(&self) -> bool {
        // SAFETY: as above.
        unsafe { (*self.0).ingress_ifindex != 0 || (*self.0).tc_index == SERVED }
    }

    #[inline(always)]
    fn load(&self, to: *mut c_void, length: u32) -> bool {
        // SAFETY: as many bytes as the caller has room for.
        unsafe { bpf_skb_load_bytes(self.0.cast(), 0, to, length) == 0 }
    }
}
