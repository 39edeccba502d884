//! What devices do with VLAN tags, and whether they merge packets, asked of the kernel's `ethtool` netlink family (Linux 5.7). A device that takes tags out of
//! frames hides from XDP that they belong to a VLAN.

use std::collections::HashMap;

use netlink_packet_core::{DefaultNla, NlasIterator};

use super::features::family;
use crate::netlink::{self, GENERIC, Message};

/// Bytes of `struct genlmsghdr`.
const HEADER: usize = 4;
/// `ETHTOOL_MSG_FEATURES_GET`, and attributes of its answer.
const FEATURES_GET: u8 = 11;
const FEATURES_HEADER: u16 = 1;
const FEATURES_ACTIVE: u16 = 4;
/// `ETHTOOL_A_HEADER_DEV_INDEX`.
const HEADER_INDEX: u16 = 1;
/// The bits of a set, and the name of one.
const SET_BITS: u16 = 3;
const BIT_NAME: u16 = 2;

/// What a device does with tags.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tags {
    /// It takes them out of frames.
    pub takes_out: bool,
    /// It drops frames of VLANs that no device of the host is for.
    pub filters: bool,
    /// It merges packets in a way that cannot be undone (LRO).
    pub merges: bool,
}

impl Tags {
    /// Whether XDP may see a frame of a VLAN as one without: `has_vlans` says that the host has devices for some of its VLANs.
    pub fn hides_vlans(self, has_vlans: bool) -> bool {
        self.takes_out && (has_vlans || !self.filters)
    }
}

/// All devices by their indices; empty where the kernel does not tell.
pub fn all() -> HashMap<u32, Tags> {
    ask().unwrap_or_default()
}

fn ask() -> Option<HashMap<u32, Tags>> {
    let request = Message::new(family("ethtool")?, &[FEATURES_GET, 1, 0, 0], &[] as &[DefaultNla]);
    Some(netlink::dump(GENERIC, request).ok()?.iter().filter_map(read).collect())
}

/// A device's features.
fn read(message: &Message) -> Option<(u32, Tags)> {
    let inside = |body: &[u8]| Message { kind: 0, body: body.to_vec() };
    let header = inside(message.attribute(HEADER, FEATURES_HEADER)?);
    let index = u32::from_ne_bytes(header.attribute(0, HEADER_INDEX)?.try_into().ok()?);
    let active = inside(message.attribute(HEADER, FEATURES_ACTIVE)?);
    let bits = active.attribute(0, SET_BITS).unwrap_or_default();
    let mut tags = Tags::default();
    for bit in NlasIterator::new(bits).map_while(Result::ok) {
        match inside(bit.value()).attribute(0, BIT_NAME) {
            Some(b"rx-vlan-hw-parse\0") => tags.takes_out = true,
            Some(b"rx-vlan-filter\0") => tags.filters = true,
            Some(b"rx-lro\0") => tags.merges = true,
            _ => {}
        }
    }
    Some((index, tags))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tags_that_are_taken_out_hide_vlans_unless_frames_with_tags_are_dropped() {
        let tags = |takes_out, filters| Tags { takes_out, filters, merges: false };
        assert!(!tags(false, false).hides_vlans(true), "XDP sees them");
        assert!(tags(true, false).hides_vlans(false) && tags(true, true).hides_vlans(true));
        assert!(!tags(true, true).hides_vlans(false), "none come");
    }

    #[test]
    fn the_kernel_tells_of_its_devices() {
        // `lo` is in every network namespace, and takes out nothing.
        let tags = all();
        assert_eq!(tags.get(&1).copied().unwrap_or_default(), Tags::default());
    }
}
