//! A packet in TC, and what the helpers do to it.

use crate::bindings::__sk_buff;
use crate::memory::Memory;
use crate::program::{Clone, Redirect};

/// Bytes in front of a packet that helpers may grow into.
const HEADROOM: usize = 512;
/// Bytes of the memory of a packet.
const MEMORY: usize = 128 << 10;
/// Bytes of an Ethernet header.
const ETHERNET: usize = 14;
/// Bytes that a packet can grow to at TC ingress: `SKB_MAX_ALLOC`.
pub const LONGEST: usize = 16_064;

const EFAULT: i64 = -14;
const EINVAL: i64 = -22;
const ENOMEM: i64 = -12;
const EALREADY: i64 = -114;
const ENOTSUPP: i64 = -524;

/// `BPF_F_ADJ_ROOM_FIXED_GSO`, `…_ENCAP_L3_IPV4`, `…_ENCAP_L3_IPV6`, `…_ENCAP_L4_GRE`, `…_ENCAP_L4_UDP`.
const FIXED_GSO: u64 = 1;
const ENCAP_L3_IPV4: u64 = 2;
const ENCAP_L3_IPV6: u64 = 4;
const ENCAP_L4_GRE: u64 = 8;
const ENCAP_L4_UDP: u64 = 16;
const ENCAP: u64 = ENCAP_L3_IPV4 | ENCAP_L3_IPV6 | ENCAP_L4_GRE | ENCAP_L4_UDP;

/// `BPF_F_PSEUDO_HDR` and `BPF_F_MARK_MANGLED_0`.
const PSEUDO_HEADER: u64 = 1 << 4;
const MARK_MANGLED: u64 = 1 << 5;

/// `ETH_P_IP` and `ETH_P_IPV6`.
const IPV4: u16 = 0x0800;
const IPV6: u16 = 0x86dd;

/// A packet as it comes in.
#[derive(Clone, Copy, Debug, Default)]
pub struct Incoming {
    /// Bytes that are linear; the rest is in pages. More than the packet has is all of it.
    pub linear: usize,
    /// Device it came in on; 0 if the host sends it.
    pub device: u32,
    /// The device at whose hook the program runs.
    pub place: u32,
    /// `PACKET_HOST` is 0.
    pub kind: u32,
    /// Mark.
    pub mark: u32,
    /// Bytes of a segment that the packet is to be cut into; 0 for none.
    pub segment: u32,
    /// Whether the packet to be cut is of TCP.
    pub is_tcp: bool,
    /// Whether the transport checksum is unfinished (`CHECKSUM_PARTIAL`).
    pub is_partial: bool,
}

/// A packet. It begins with the context that a program gets.
#[repr(C)]
pub struct Skb {
    fields: __sk_buff,
    memory: Memory,
    /// Where the packet begins in the memory, and how long it and its linear part are.
    start: usize,
    length: usize,
    linear: usize,
    /// `skb->protocol`, host order.
    protocol: u16,
    is_partial: bool,
    is_gso_tcp: bool,
    is_encapsulated: bool,
    /// At egress a packet is no longer than the device's MTU.
    longest: usize,
}

impl Default for Skb {
    fn default() -> Self {
        Self::new()
    }
}

impl Skb {
    /// Memory for packets, one after another.
    pub fn new() -> Self {
        Skb {
            // SAFETY: integers, and pointers that nobody follows.
            fields: unsafe { std::mem::zeroed() },
            memory: Memory::new(MEMORY),
            start: HEADROOM,
            length: 0,
            linear: 0,
            protocol: 0,
            is_partial: false,
            is_gso_tcp: false,
            is_encapsulated: false,
            longest: LONGEST,
        }
    }

    /// Makes it a packet with these bytes, from the Ethernet header on.
    pub fn receive(&mut self, bytes: &[u8], incoming: &Incoming) {
        // SAFETY: integers.
        self.fields = unsafe { std::mem::zeroed() };
        self.start = HEADROOM;
        self.length = bytes.len().min(MEMORY - 2 * HEADROOM);
        self.linear = incoming.linear.max(ETHERNET).min(self.length);
        let bytes = &bytes[..self.length];
        self.bytes_mut().copy_from_slice(bytes);
        self.protocol = bytes.get(12..14).map_or(0, |kind| u16::from_be_bytes([kind[0], kind[1]]));
        self.is_partial = incoming.is_partial;
        self.is_gso_tcp = incoming.is_tcp;
        self.is_encapsulated = false;
        self.fields.ingress_ifindex = incoming.device;
        self.fields.ifindex = incoming.place;
        self.fields.pkt_type = incoming.kind;
        self.fields.mark = incoming.mark;
        self.fields.gso_size = incoming.segment;
        self.publish();
    }

    /// The packet.
    pub fn bytes(&self) -> &[u8] {
        // SAFETY: within the memory; nobody writes while the borrow lasts.
        unsafe { std::slice::from_raw_parts(self.memory.start().add(self.start), self.length) }
    }

    fn bytes_mut(&mut self) -> &mut [u8] {
        // SAFETY: as above.
        unsafe { std::slice::from_raw_parts_mut(self.memory.start().add(self.start), self.length) }
    }

    /// Bytes of a segment that the packet is to be cut into, 0 for none.
    pub fn segment(&self) -> u32 {
        self.fields.gso_size
    }

    /// Whether the transport checksum is unfinished.
    pub fn is_partial(&self) -> bool {
        self.is_partial
    }

    /// The context that a program gets.
    pub fn context(&mut self) -> *mut __sk_buff {
        (&raw mut *self).cast()
    }

    /// A copy of it that goes somewhere.
    pub fn cloned(&self, to: Redirect) -> Clone {
        Clone { to, bytes: self.bytes().to_vec(), index: self.fields.tc_index as u16, control: self.fields.cb }
    }

    /// Makes it a copy that comes in again, at a device.
    pub fn receive_clone(&mut self, clone: &Clone) {
        let device = clone.to.device;
        self.receive(&clone.bytes, &Incoming { linear: usize::MAX, device, place: device, ..Incoming::default() });
        self.fields.tc_index = clone.index.into();
        self.fields.cb = clone.control;
    }

    /// The words of the control block.
    pub fn control(&mut self) -> &mut [u32; 5] {
        &mut self.fields.cb
    }

    /// Shows programs what has changed.
    fn publish(&mut self) {
        let data = self.memory.start() as usize + self.start;
        self.fields.len = self.length as u32;
        self.fields.data = data as u32;
        self.fields.data_end = (data + self.linear) as u32;
        self.fields.protocol = self.protocol.to_be().into();
    }

    /// Puts zeroes in at `at`: everything before moves down.
    fn push(&mut self, at: usize, length: usize) -> bool {
        if length > self.start || at > self.linear {
            return false;
        }
        self.start -= length;
        self.length += length;
        self.linear += length;
        let bytes = self.bytes_mut();
        bytes.copy_within(length..length + at, 0);
        bytes[at..at + length].fill(0);
        true
    }

    /// Takes bytes out at `at`: everything before moves up.
    fn pop(&mut self, at: usize, length: usize) -> bool {
        if at + length > self.length {
            return false;
        }
        self.linear = self.linear.max(at + length);
        self.bytes_mut().copy_within(..at, length);
        self.start += length;
        self.length -= length;
        self.linear -= length;
        true
    }

    /// Bytes of the shortest network header.
    fn network_header(&self) -> Option<usize> {
        match self.protocol {
            IPV4 => Some(20),
            IPV6 => Some(40),
            _ => None,
        }
    }

    /// `bpf_skb_adjust_room`.
    pub fn adjust_room(&mut self, difference: i32, mode: u32, flags: u64) -> i64 {
        let by = difference.unsigned_abs() as usize;
        if by > 0xfff || difference == 0 {
            return EFAULT;
        }
        let Some(header) = self.network_header() else { return ENOTSUPP };
        // After the network header's fixed part, or after the Ethernet header.
        let at = ETHERNET + if mode == 0 { header } else { 0 };
        let is_gso = self.fields.gso_size != 0;
        let result = if difference < 0 {
            let current = self.length - ETHERNET;
            if by >= current || current - by < header {
                return ENOTSUPP;
            }
            // The size of a segment is that of a datagram: it must stay.
            if is_gso && !self.is_gso_tcp && flags & FIXED_GSO == 0 {
                return ENOTSUPP;
            }
            let is_done = self.pop(at, by);
            if is_done && is_gso && flags & FIXED_GSO == 0 {
                self.fields.gso_size += by as u32;
            }
            if is_done { 0 } else { ENOMEM }
        } else {
            if self.length + by > self.longest && !is_gso {
                return ENOTSUPP;
            }
            if is_gso && !self.is_gso_tcp && flags & FIXED_GSO == 0 {
                return ENOTSUPP;
            }
            if flags & ENCAP != 0 && self.is_encapsulated {
                return EALREADY;
            }
            if !self.push(at, by) {
                return ENOMEM;
            }
            if flags & ENCAP != 0 {
                self.is_encapsulated = true;
                self.protocol = if flags & ENCAP_L3_IPV6 != 0 { IPV6 } else { IPV4 };
            }
            if is_gso && flags & FIXED_GSO == 0 {
                self.fields.gso_size = self.fields.gso_size.saturating_sub(by as u32).max(1);
            }
            0
        };
        self.publish();
        result
    }

    /// `bpf_skb_change_proto`; `to` is in host order.
    pub fn change_protocol(&mut self, to: u16) -> i64 {
        let is_done = match (self.protocol, to) {
            (IPV4, IPV6) => self.push(ETHERNET, 20),
            (IPV6, IPV4) => self.pop(ETHERNET, 20),
            _ => return ENOTSUPP,
        };
        if !is_done {
            return ENOMEM;
        }
        self.protocol = to;
        self.publish();
        0
    }

    /// `bpf_skb_change_tail`.
    pub fn change_tail(&mut self, length: usize) -> i64 {
        // No shorter than where the network header begins.
        if length > self.longest || length < ETHERNET {
            return EINVAL;
        }
        let before = self.length;
        self.length = length;
        self.linear = self.linear.min(length);
        if length > before {
            self.bytes_mut()[before..].fill(0);
            if self.linear == before {
                self.linear = length;
            }
        }
        // Segments of a packet of another length cannot be told.
        self.fields.gso_size = 0;
        self.publish();
        0
    }

    /// `bpf_skb_change_head`.
    pub fn change_head(&mut self, by: usize) -> i64 {
        if self.length + by > self.longest {
            return EINVAL;
        }
        if !self.push(0, by) {
            return ENOMEM;
        }
        self.publish();
        0
    }

    /// `bpf_skb_pull_data`.
    pub fn pull(&mut self, length: usize) -> i64 {
        if length > self.length {
            return ENOMEM;
        }
        self.linear = self.linear.max(if length == 0 { self.length } else { length });
        self.publish();
        0
    }

    /// `bpf_skb_load_bytes`.
    pub fn load(&self, from: usize, to: &mut [u8]) -> i64 {
        match self.bytes().get(from..from + to.len()) {
            Some(bytes) if !to.is_empty() => {
                to.copy_from_slice(bytes);
                0
            }
            _ => EFAULT,
        }
    }

    /// `bpf_skb_store_bytes`.
    pub fn store(&mut self, to: usize, from: &[u8]) -> i64 {
        let (is_linear, end) = (to + from.len() <= self.linear, to + from.len());
        let Some(place) = self.bytes_mut().get_mut(to..end) else { return EFAULT };
        place.copy_from_slice(from);
        if !is_linear {
            self.linear = end;
            self.publish();
        }
        0
    }

    /// `bpf_l4_csum_replace` by a difference.
    pub fn replace_checksum(&mut self, at: usize, difference: u32, flags: u64) -> i64 {
        if at > 0xffff || at & 1 != 0 {
            return EFAULT;
        }
        let (is_partial, is_marked) = (self.is_partial, flags & MARK_MANGLED != 0);
        let Some(place) = self.bytes_mut().get_mut(at..at + 2) else { return EFAULT };
        let before = u16::from_ne_bytes([place[0], place[1]]);
        if is_marked && before == 0 {
            return 0;
        }
        let after = if !is_partial {
            !fold(u64::from(!before) + u64::from(difference))
        } else if flags & PSEUDO_HEADER != 0 {
            fold(u64::from(before) + u64::from(difference))
        } else {
            before
        };
        let after = if is_marked && after == 0 { 0xffff } else { after };
        place.copy_from_slice(&after.to_ne_bytes());
        0
    }
}

/// A sum as 16 bits, with the carries added.
pub fn fold(mut sum: u64) -> u16 {
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    sum as u16
}
