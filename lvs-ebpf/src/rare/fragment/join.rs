//! The fragments of a packet, which have all come, are joined.

use lvs_common::{
    abi::IpAddress,
    byte_order::Be16,
    checksum,
    exit::Exit,
    fragments::{FRAGMENTS, JOINED},
    programs::Program,
    wire::{Ipv4, Ipv6},
};

use crate::{
    exits,
    kernel::loops::repeat,
    packet::{
        access::{Packet, TcPacket},
        control_block,
        fragment::Fragment,
    },
    programs::jump,
    table::fragments::{self, List},
    values::parsed::L3,
};

/// Bytes of IPv6's fragment header.
const FRAGMENT_HEADER: u32 = 8;

/// Where a next-header byte can be.
const LINKS: u32 = 127;

/// The program: makes the packet at hand, the last fragment that came, the whole one.
#[inline(always)]
pub fn run<A: IpAddress>(packet: TcPacket) -> i32 {
    let Some(fragment) = Fragment::read::<A>(packet) else { return exits::drop(packet, Exit::DropInternal) };
    let Some(known) = fragments::find(&fragment.key) else { return exits::drop(packet, Exit::DropFragmentAged) };
    let (total, list) = (known.total(), known.take());
    fragments::forget(&fragment.key);
    let Some(first) = list.next(0) else { return exits::drop(packet, Exit::DropFragmentAged) };
    let (link, headers) = (first.link() & LINKS, first.at().wrapping_sub(if A::IS_V4 { 0 } else { FRAGMENT_HEADER }));
    if total == 0 || total > JOINED || first.offset() != 0 {
        return exits::drop(packet, Exit::DropFragmentAged);
    }
    let is_made = packet.change_tail(headers.wrapping_add(total)) && first.write_headers(packet, headers);
    let Some(largest) = join(packet, list, headers, total).filter(|_| is_made) else {
        return exits::drop(packet, Exit::DropFragmentAged);
    };
    let is_headed = match A::IS_V4 {
        true => head4(packet, headers, total),
        false => head6(packet, headers, total, link, fragment.key.protocol as u8),
    };
    if !is_headed {
        return exits::drop(packet, Exit::DropInternal);
    }
    control_block::clear(packet);
    control_block::set_largest(packet, largest);
    jump::<A, _>(packet, Program::Receive)
}

/// Writes the payload of every fragment; the length of the longest, bytes of IP packet, or `None` if one is missing.
#[inline(always)]
fn join(packet: TcPacket, list: List, headers: u32, total: u32) -> Option<u32> {
    let (mut end, mut largest) = (0, 0);
    repeat(FRAGMENTS, &mut |_| {
        let Some(waiting) = list.next(end) else { return true };
        if waiting.offset() != end || !waiting.write_payload(packet, headers.wrapping_add(end)) {
            return true;
        }
        let size = waiting.size();
        if size > largest {
            largest = size;
        }
        end = end.wrapping_add(waiting.length());
        false
    });
    list.free();
    (end == total).then_some(largest)
}

/// Makes the IPv4 header that of the whole packet.
#[inline(always)]
fn head4(packet: TcPacket, headers: u32, total: u32) -> bool {
    let length = Be16::new((headers.wrapping_add(total)).wrapping_sub(L3 as u32) as u16);
    packet.update::<Ipv4>(L3, |h| {
        let change = checksum::difference(h.length, length) + checksum::difference(h.fragment, Be16::ZERO);
        h.length = length;
        h.fragment = Be16::ZERO;
        h.check = checksum::update(h.check, change);
    })
}

/// Makes the IPv6 headers those of the whole packet, which carries `carried`; `link` is where that is said.
#[inline(always)]
fn head6(packet: TcPacket, headers: u32, total: u32, link: u32, carried: u8) -> bool {
    let length = Be16::new(headers.wrapping_add(total).wrapping_sub(L3 as u32 + 40) as u16);
    packet.update::<Ipv6>(L3, |h| h.payload_length = length) && packet.store_unsummed(link as usize, &[carried])
}
