//! A packet in XDP, and what the helpers do to it.

use crate::bindings::xdp_md;
use crate::memory::Memory;

/// Bytes in front of a packet (`XDP_PACKET_HEADROOM`), of which a `struct xdp_frame` takes 40.
const HEADROOM: usize = 256;
const FRAME: usize = 40;
/// Bytes of the memory of a packet: a page, of which the kernel keeps 320 at the end.
const MEMORY: usize = 4096;
const RESERVED: usize = 320;
/// Bytes of an Ethernet header.
const ETHERNET: usize = 14;

/// Bytes of the longest packet.
pub const LONGEST: usize = MEMORY - RESERVED - HEADROOM;

const EINVAL: i64 = -22;

/// A packet. It begins with the context that a program gets.
#[repr(C)]
pub struct Xdp {
    fields: xdp_md,
    memory: Memory,
    start: usize,
    end: usize,
}

impl Default for Xdp {
    fn default() -> Self {
        Self::new()
    }
}

impl Xdp {
    /// Memory for packets, one after another.
    pub fn new() -> Self {
        // SAFETY: integers.
        let fields = unsafe { std::mem::zeroed() };
        Xdp { fields, memory: Memory::new(MEMORY), start: HEADROOM, end: HEADROOM }
    }

    /// Makes it a packet with these bytes that came in on a device.
    pub fn receive(&mut self, bytes: &[u8], device: u32) {
        let bytes = &bytes[..bytes.len().min(LONGEST)];
        // SAFETY: integers.
        self.fields = unsafe { std::mem::zeroed() };
        self.fields.ingress_ifindex = device;
        (self.start, self.end) = (HEADROOM, HEADROOM + bytes.len());
        // SAFETY: within the memory.
        unsafe { self.memory.start().add(self.start).copy_from_nonoverlapping(bytes.as_ptr(), bytes.len()) };
        self.publish();
    }

    /// The packet.
    pub fn bytes(&self) -> &[u8] {
        // SAFETY: within the memory.
        unsafe { std::slice::from_raw_parts(self.memory.start().add(self.start), self.end - self.start) }
    }

    /// The context that a program gets.
    pub fn context(&mut self) -> *mut xdp_md {
        (&raw mut *self).cast()
    }

    fn publish(&mut self) {
        let memory = self.memory.start() as usize;
        self.fields.data = (memory + self.start) as u32;
        self.fields.data_meta = self.fields.data;
        self.fields.data_end = (memory + self.end) as u32;
    }

    /// `bpf_xdp_adjust_head`.
    pub fn adjust_head(&mut self, by: i32) -> i64 {
        match self.start.checked_add_signed(by as isize) {
            Some(start) if start >= FRAME && start + ETHERNET <= self.end => self.start = start,
            _ => return EINVAL,
        }
        self.publish();
        0
    }

    /// `bpf_xdp_adjust_tail`.
    pub fn adjust_tail(&mut self, by: i32) -> i64 {
        let before = self.end;
        match self.end.checked_add_signed(by as isize) {
            Some(end) if end <= MEMORY - RESERVED && end >= self.start + ETHERNET => self.end = end,
            _ => return EINVAL,
        }
        if self.end > before {
            // SAFETY: within the memory.
            unsafe { self.memory.start().add(before).write_bytes(0, self.end - before) };
        }
        self.publish();
        0
    }
}
