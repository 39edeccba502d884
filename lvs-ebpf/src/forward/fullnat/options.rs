//! Options of TCP and IPv4 headers: read, copied to where they can be walked, and what they add to a packet.

use crate::{
    kernel::cpu,
    maps::SCRATCH,
    packet::{access::Packet, access::TcPacket},
    values::{
        parsed::{L3, Parsed},
        scratch::PAYLOAD,
    },
};
use aya_ebpf::helpers::generated::bpf_skb_load_bytes;
use core::hint::black_box;
use lvs_common::{
    abi::{Connection, IpAddress, Settings},
    fullnat::Segment,
    toa::{LENGTH4, LENGTH6, Options},
    wire::{Tcp, protocol},
};

/// Bytes of a TCP header before its options.
pub const HEADER: usize = size_of::<Tcp>();

/// Two bytes of padding, and an option for timestamps: what most segments have, and nothing else.
const TIMESTAMPS: [u8; 4] = [1, 1, 8, 10];

/// A TCP packet's segment; `None` for other packets.
#[inline(always)]
pub fn segment<P: Packet, A>(packet: P, p: &Parsed<A>) -> Option<Segment> {
    if p.carried != protocol::TCP {
        return None;
    }
    let h = packet.at::<Tcp>(p.l4())?;
    // SAFETY: checked by `at`.
    let h = unsafe { *h };
    let length = header(&h);
    let is_plain = match length {
        HEADER => true,
        // SAFETY: checked by `at`.
        32 => packet.at::<[u8; 4]>(p.l4() + HEADER).is_some_and(|word| unsafe { *word } == TIMESTAMPS),
        _ => false,
    };
    Some(Segment {
        flags: h.flags,
        sequence: h.sequence.get(),
        acknowledgment: h.acknowledgment.get(),
        has_data: p.length as usize > p.l4() - L3 + length,
        is_plain,
    })
}

/// Bytes of a TCP header.
#[inline(always)]
pub fn header(h: &Tcp) -> usize {
    (h.offset >> 4) as usize * 4
}

/// What follows a header's first twenty bytes, copied to where the verifier lets one look at any place of it.
pub struct Copy {
    pub bytes: *mut u8,
    /// Bytes of options.
    options: usize,
}

impl Options for Copy {
    #[inline(always)]
    fn bytes<const N: usize>(&self, at: usize) -> Option<[u8; N]> {
        let at = at & 63;
        if at + N > self.options {
            return None;
        }
        // SAFETY: within the scratch; bytes have no alignment.
        Some(unsafe { *(self.bytes.add(at) as *const [u8; N]) })
    }

    #[inline(always)]
    fn first(&self) -> usize {
        // SAFETY: within the scratch, behind any copy. What is read from a map's memory the verifier knows nothing of.
        unsafe {
            let place = self.bytes.add(PAYLOAD).cast::<u64>();
            place.write_volatile(0);
            place.read_volatile() as usize
        }
    }
}

impl Copy {
    /// Copies `length` bytes from `from` on, up to [`PAYLOAD`] of them, of which `options` are options.
    #[inline(always)]
    pub fn from(packet: TcPacket, from: usize, length: usize, options: usize) -> Option<Self> {
        let scratch = SCRATCH.get_ptr_mut(cpu::number())?;
        // SAFETY: this CPU's own element, which is longer than any masked length; a helper call with a valid context.
        unsafe {
            let bytes = (&raw mut (*scratch).payload).cast::<u8>();
            if length != 0 && bpf_skb_load_bytes(packet.0.cast(), from as u32, bytes.cast(), masked(length)) != 0 {
                return None;
            }
            Some(Copy { bytes, options })
        }
    }
}

/// A length from 1 to [`PAYLOAD`], in a form that the verifier reads so, and that the compiler, which knows it is one, keeps.
#[inline(always)]
pub fn masked(length: usize) -> u32 {
    (black_box(length as u32).wrapping_sub(1) & (PAYLOAD as u32 - 1)) + 1
}

/// Bytes that a connection's packets may get longer by on their way to the real server.
#[inline(always)]
pub fn added<A: IpAddress>(c: &Connection<A>, settings: &Settings) -> u32 {
    if c.protocol != protocol::TCP || settings.sysctls.toa == 0 {
        0
    } else if A::IS_V4 {
        LENGTH4 as u32
    } else {
        LENGTH6 as u32
    }
}
