//! Fragments are kept until a packet is whole.

use crate::values::datagram::Datagram;
use crate::values::datagram::Key;
use crate::values::datagram::MASK;
use crate::values::datagram::SLOTS;
use aya_ebpf::helpers::generated::{bpf_skb_change_tail, bpf_skb_load_bytes, bpf_skb_store_bytes};
use lvs_common::byte_order::Be16;
use lvs_common::programs::Program;
use lvs_common::{
    abi::{Address, IpAddress},
    checksum,
    exit::Exit,
    reassembly::{Added, PAYLOAD},
    wire::{Ipv4, Ipv6, Ipv6Fragment, fragment, protocol},
};

use crate::{
    config::{self, watch},
    exits,
    kernel::{atomics, clock, loops::KernelLoop, params},
    maps::DATAGRAMS,
    packet::{access::Packet, access::TcPacket, control_block, parse::Family},
    programs::jump,
    values::parsed::L3,
};

/// Seconds fragments wait for the others, as the kernel's (`ipfrag_time`).
const PATIENCE: u32 = 30;

/// A fragment.
struct Piece {
    key: Key,
    offset: u32,
    length: u32,
    more: bool,
    /// Offset of its payload in the frame.
    at: u32,
    /// Bytes of IP packet.
    packet: u32,
}

/// Serves a fragment.
#[inline(always)]
pub fn run<A: Family>(packet: TcPacket) -> i32 {
    let Some(piece) = read::<A>(packet) else { return exits::pass(packet, Exit::NotOurs) };
    let Some(settings) = config::settings() else { return TcPacket::PASS };
    let (virt, reply) = watch::watched(A::narrow(piece.key.source), A::narrow(piece.key.destination), settings);
    let balanced = matches!(piece.key.protocol as u8, protocol::TCP | protocol::UDP | protocol::SCTP);
    if !(virt || reply) || !balanced || settings.flags == 0 || !packet.for_this_host() {
        return exits::pass(packet, Exit::NotOurs);
    }
    let Some(datagram) = DATAGRAMS.get_ptr_mut(slot_of(&piece.key)) else { return exits::pass(packet, Exit::NotOurs) };
    // SAFETY: an element of the map.
    if atomics::exchange32(unsafe { &raw mut (*datagram).lock }, 1) != 0 {
        return exits::drop(packet, Exit::DropBusy);
    }
    // SAFETY: as above, locked.
    let outcome = keep(packet, &piece, unsafe { &mut *datagram });
    if outcome != Added::Complete {
        // SAFETY: as above.
        atomics::exchange32(unsafe { &raw mut (*datagram).lock }, 0);
    }
    match outcome {
        Added::Complete => {}
        Added::Waiting | Added::Duplicate => return exits::drop(packet, Exit::Held),
        Added::TooLong => return exits::drop(packet, Exit::DropTooBig),
        Added::Overlap => return exits::drop(packet, Exit::DropMalformed),
    }
    // SAFETY: as above, still locked.
    let (whole, largest) = unsafe { (join::<A>(packet, &*datagram), (*datagram).largest) };
    // SAFETY: as above.
    unsafe { (*datagram).deadline = 0 };
    // SAFETY: as above.
    atomics::exchange32(unsafe { &raw mut (*datagram).lock }, 0);
    if !whole {
        return exits::drop(packet, Exit::DropInternal);
    }
    control_block::set_largest(packet, largest);
    jump::<A, _>(packet, Program::Receive)
}

/// The slot of a packet.
#[inline(always)]
fn slot_of(key: &Key) -> u32 {
    let (a, b) = (key.source.0, key.destination.0);
    let mix = a[0] ^ a[1] ^ a[2] ^ a[3] ^ (b[0] ^ b[1] ^ b[2] ^ b[3]).rotate_left(13) ^ key.id.rotate_left(7);
    ((mix ^ params::secret() as u32).wrapping_mul(0x9e37_79b1) >> 16) % SLOTS
}

#[inline(always)]
fn same(a: &Key, b: &Key) -> bool {
    a.source == b.source && a.destination == b.destination && a.id == b.id && a.protocol == b.protocol
}

/// Keeps a fragment's payload.
#[inline(always)]
fn keep(packet: TcPacket, piece: &Piece, datagram: &mut Datagram) -> Added {
    let now = clock::jiffies();
    let live = datagram.deadline > now;
    if !live || !same(&datagram.key, &piece.key) {
        if live && datagram.key.id != piece.key.id {
            // Another packet is being put together here; the newer one gives way.
            return Added::Overlap;
        }
        datagram.key = piece.key;
        datagram.largest = 0;
        datagram.pieces.total = 0;
        for word in &mut datagram.pieces.have {
            *word = 0;
        }
        datagram.deadline = now.wrapping_add(PATIENCE.wrapping_mul(params::hz()) as u64);
    }
    let added = datagram.pieces.add(piece.offset, piece.length, piece.more, KernelLoop);
    match added {
        Added::Waiting | Added::Complete => {}
        Added::Duplicate => return added,
        Added::Overlap | Added::TooLong => {
            datagram.deadline = 0;
            return added;
        }
    }
    if piece.packet > datagram.largest {
        datagram.largest = piece.packet;
    }
    let offset = (piece.offset & MASK) as usize;
    let length = (piece.length.wrapping_sub(1) & MASK) + 1;
    // SAFETY: offset and length are masked to half the buffer each; a helper call with a valid context.
    let loaded = unsafe {
        let to = (&raw mut datagram.payload).cast::<u8>().add(offset);
        bpf_skb_load_bytes(packet.0.cast(), piece.at, to.cast(), length) == 0
    };
    if loaded {
        return added;
    }
    datagram.deadline = 0;
    Added::Overlap
}

/// Reads a fragment's header; `None` for one that is left to the stack.
#[inline(always)]
fn read<A: IpAddress>(packet: TcPacket) -> Option<Piece> {
    if A::IS_V4 {
        let h = packet.at::<Ipv4>(L3)?;
        // SAFETY: checked by `at`.
        let h = unsafe { *h };
        let header = (h.version_ihl & 15) as u32 * 4;
        let field = h.fragment.get();
        let total = h.length.get() as u32;
        return Some(Piece {
            key: Key {
                source: h.source.widen(),
                destination: h.destination.widen(),
                id: h.id.word() as u32,
                protocol: h.protocol as u32,
            },
            offset: (field & 0x1fff) as u32 * 8,
            length: total.wrapping_sub(header),
            more: !(h.fragment & fragment::MF).is_zero(),
            at: L3 as u32 + header,
            packet: total,
        });
    }
    let h = packet.at::<Ipv6>(L3)?;
    // SAFETY: checked by `at`.
    let (source, destination, next, payload) =
        unsafe { ((*h).source, (*h).destination, (*h).next_header, (*h).payload_length.get() as u32) };
    if next != protocol::FRAGMENT {
        // Behind other extension headers: too rare to be served.
        return None;
    }
    let f = packet.at::<Ipv6Fragment>(L3 + 40)?;
    // SAFETY: checked by `at`.
    let f = unsafe { *f };
    let field = f.offset.get();
    Some(Piece {
        key: Key {
            source: Address(source),
            destination: Address(destination),
            id: f.id.word(),
            protocol: f.next_header as u32,
        },
        offset: (field & 0xfff8) as u32,
        length: payload.wrapping_sub(8),
        more: field & 1 != 0,
        at: L3 as u32 + 48,
        packet: payload.wrapping_add(40),
    })
}

/// Makes the packet at hand, the last fragment that came, the whole one.
#[inline(always)]
fn join<A: IpAddress>(packet: TcPacket, datagram: &Datagram) -> bool {
    let header = if A::IS_V4 {
        let Some(h) = packet.at::<Ipv4>(L3) else { return false };
        // SAFETY: checked by `at`.
        (unsafe { (*h).version_ihl } & 15) as u32 * 4
    } else {
        40
    };
    let total = datagram.pieces.total;
    if total == 0 || total > PAYLOAD || header < 20 {
        return false;
    }
    let length = (total.wrapping_sub(1) & MASK) + 1;
    // SAFETY: the payload is that long; helper calls with a valid context.
    let stored = unsafe {
        bpf_skb_change_tail(packet.0, L3 as u32 + header + length, 0) == 0
            && bpf_skb_store_bytes(
                packet.0,
                L3 as u32 + header,
                (&raw const datagram.payload).cast_mut().cast(),
                length,
                0,
            ) == 0
    };
    if !stored {
        return false;
    }
    if A::IS_V4 {
        let Some(h) = packet.at::<Ipv4>(L3) else { return false };
        let all = Be16::new((header + length) as u16);
        // SAFETY: checked by `at`.
        unsafe {
            let change = checksum::difference((*h).length, all) + checksum::difference((*h).fragment, Be16::ZERO);
            (*h).length = all;
            (*h).fragment = Be16::ZERO;
            (*h).check = checksum::update((*h).check, change);
        }
    } else {
        let Some(h) = packet.at::<Ipv6>(L3) else { return false };
        // SAFETY: checked by `at`.
        unsafe {
            (*h).payload_length = Be16::new(length as u16);
            (*h).next_header = datagram.key.protocol as u8;
        }
    }
    true
}
