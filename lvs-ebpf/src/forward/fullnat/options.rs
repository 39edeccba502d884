//! Options of TCP and IPv4 headers: read, copied to where they can be walked, and what they add to a packet.

use crate::{
    kernel::scratch,
    maps::SCRATCH,
    packet::{access::Packet, access::TcPacket},
    values::{
        parsed::{L3, Parsed},
        scratch::{PAYLOAD, Scratch},
    },
};
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
    let h = packet.read::<Tcp>(p.l4())?;
    let length = header(&h);
    let is_plain = match length {
        HEADER => true,
        32 => packet.read::<[u8; 4]>(p.l4() + HEADER) == Some(TIMESTAMPS),
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
pub struct Copy<'a> {
    pub scratch: &'a Scratch,
    /// Bytes of options.
    options: usize,
}

impl Options for Copy<'_> {
    #[inline(always)]
    fn bytes<const N: usize>(&self, at: usize) -> Option<[u8; N]> {
        let at = at & 63;
        if at + N > self.options {
            return None;
        }
        self.scratch.payload.get(at..at + N)?.first_chunk().copied()
    }

    #[inline(always)]
    fn first(&self) -> usize {
        // A field of a map's element, of which the verifier knows nothing.
        self.scratch.zero as usize
    }
}

/// Copies `length` bytes from `from` on, up to [`PAYLOAD`] of them, of which `options` are options, and lends the copy. `None`
/// if the packet is not that long.
#[inline(always)]
pub fn lend_copy<R>(
    packet: TcPacket,
    from: usize,
    length: usize,
    options: usize,
    work: impl FnOnce(&Copy<'_>) -> R,
) -> Option<R> {
    scratch::lend(
        &SCRATCH,
        #[inline(always)]
        |scratch| {
            let bytes = &mut scratch.payload;
            if length != 0 && !packet.load_bytes_at::<PAYLOAD, _>(from as u32, bytes, 0, length as u32) {
                return None;
            }
            Some(work(&Copy { scratch, options }))
        },
    )
    .flatten()
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
