//! A VLAN's tag in a frame (IEEE 802.1Q): four bytes after the MAC addresses.

use aya_ebpf::helpers::generated::bpf_xdp_adjust_head;
use lvs_common::{byte_order::Be16, wire::ethertype};

use crate::packet::access::{Packet, XdpPacket};

/// Bytes of a tag.
const LENGTH: i32 = 4;
/// Where it stands.
const PLACE: usize = 12;
/// The part of a tag's second half that names the VLAN; the rest is a priority.
const VLAN: u16 = 0xfff;

/// A tag: its type, and what it says.
#[derive(Clone, Copy)]
pub struct Tag([u16; 2]);

impl Tag {
    /// The tag of a VLAN, without a priority.
    #[inline(always)]
    pub fn of(vlan: u16) -> Tag {
        Tag([ethertype::VLAN.word(), vlan.to_be()])
    }

    /// The tag of a frame, if it has one.
    #[inline(always)]
    pub fn read(packet: XdpPacket) -> Option<Tag> {
        let [kind, said] = packet.read::<[u16; 2]>(PLACE)?;
        if Be16::from_word(kind) == ethertype::VLAN { Some(Tag([kind, said])) } else { None }
    }

    /// The VLAN that it names, 0 for none.
    #[inline(always)]
    pub fn vlan(self) -> u32 {
        (u16::from_be(self.0[1]) & VLAN) as u32
    }

    /// Puts it into a frame. After `false` the frame is no use.
    #[inline(always)]
    pub fn put_in(self, packet: XdpPacket) -> bool {
        shift(packet, -LENGTH) && packet.write(PLACE, self.0)
    }
}

/// Takes the tag out of a frame that has one. After `false` the frame is no use.
#[inline(always)]
pub fn take_out(packet: XdpPacket) -> bool {
    shift(packet, LENGTH)
}

/// Makes a frame's room between the MAC addresses and what follows them so many bytes shorter.
#[inline(always)]
fn shift(packet: XdpPacket, length: i32) -> bool {
    let Some(addresses) = packet.read::<[u32; 3]>(0) else { return false };
    // SAFETY: a helper call with a valid context.
    unsafe { bpf_xdp_adjust_head(packet.0, length) == 0 && packet.write(0, addresses) }
}
