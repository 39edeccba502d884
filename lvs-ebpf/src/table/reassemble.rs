//! What becomes of a packet's waiting fragments: they are joined, or come in again.

use lvs_common::{
    abi::IpAddress,
    byte_order::Be16,
    checksum,
    fragments::{FRAGMENTS, JOINED},
    wire::{Ipv4, Ipv6},
};

use crate::{
    kernel::{loops::repeat, redirect::INGRESS},
    packet::{
        access::{Packet, TcPacket},
        fragment::Fragment,
    },
    table::fragments::{self, Known, List, Waiting},
    values::parsed::L3,
};

/// Bytes of IPv6's fragment header.
const FRAGMENT_HEADER: u32 = 8;

/// Where a next-header byte can be.
const LINKS: u32 = 127;

/// Makes the packet at hand, a fragment of a packet that is complete, the whole one. The length of the longest fragment, bytes of IP
/// packet; `None` if one has given way meanwhile.
#[inline(always)]
pub fn join<A: IpAddress>(packet: TcPacket, fragment: &Fragment, known: Known) -> Option<u32> {
    let (total, list) = (known.total(), known.take());
    fragments::forget(&fragment.key);
    let first = list.next(0)?;
    let (link, headers) = (first.link() & LINKS, first.at().wrapping_sub(if A::IS_V4 { 0 } else { FRAGMENT_HEADER }));
    if total == 0 || total > JOINED || first.offset() != 0 {
        return None;
    }
    let is_made = packet.change_tail(headers.wrapping_add(total)) && first.write_headers(packet, headers);
    let largest = write_all(packet, list, headers, total)?;
    let is_headed = match A::IS_V4 {
        true => head4(packet, headers, total),
        false => head6(packet, headers, total, link, fragment.key.protocol as u8),
    };
    (is_made && is_headed).then_some(largest)
}

/// Writes the payload of every fragment; the length of the longest, bytes of IP packet, or `None` if one is missing.
#[inline(always)]
fn write_all(packet: TcPacket, list: List, headers: u32, total: u32) -> Option<u32> {
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

/// Has all that wait come in again, in order: the packet at hand, one of them, is made each of them in turn, and a copy comes in.
#[inline(always)]
pub fn release(packet: TcPacket, known: Known) {
    let (list, device) = (known.take(), packet.device());
    if packet.renew() {
        let mut from = 0;
        repeat(FRAGMENTS, &mut |_| {
            let Some(waiting) = list.next(from) else { return true };
            from = waiting.offset().wrapping_add(1);
            if write(packet, waiting) {
                packet.clone_redirect(device, INGRESS);
            }
            false
        });
    }
    list.free();
}

/// Makes the packet a fragment that waits, as it came in.
#[inline(always)]
fn write(packet: TcPacket, waiting: Waiting) -> bool {
    let at = waiting.at();
    packet.change_tail(at.wrapping_add(waiting.length()))
        && waiting.write_headers(packet, at)
        && waiting.write_payload(packet, at)
}
