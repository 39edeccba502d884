//! Fragments: what is known of a packet while its fragments come, and how a packet is cut.

/// Bytes that all of it takes: the cells, and for each packet its key, what is known of it, and the kernel's own part of a map's
/// element.
pub const MEMORY: u32 = CELLS * (CELL + HEADERS + size_of::<Held>()) as u32 + DATAGRAMS * (40 + 48 + 64);

/// Packets whose fragments are known at a time. The one that was looked at longest ago gives way.
pub const DATAGRAMS: u32 = 16_384;

/// Bytes of payload in a cell: most fragments take one.
pub const CELL: usize = 2_048;

/// Bytes before a fragment's payload, Ethernet header included, at most.
pub const HEADERS: usize = 128;

/// Rings of cells. A source uses one of them, so a flood from one source takes no more than that.
pub const RINGS: u32 = 16;

/// Cells of a ring. In each ring the oldest fragment gives way.
pub const RING: u32 = 256;

/// Cells in all.
pub const CELLS: u32 = RINGS * RING;

/// Cells of one fragment at most.
pub const FRAGMENT_CELLS: u32 = 8;

/// Fragments of a packet that wait at most. A link of 576 bytes cuts the longest packet into 119.
pub const FRAGMENTS: u32 = 128;

/// Longest payload that is joined: what a packet of the kernel's can grow to in a BPF program. The fragments of a longer one are
/// forwarded one by one, once all have come.
pub const JOINED: u32 = 16_384 - 512;

/// Longest payload of an IP packet.
const LONGEST: u32 = 65_535;

/// Seconds that fragments wait for the others, as the kernel's do (`ipfrag_time`).
pub const PATIENCE: u32 = 30;

/// Least MTU of IPv6.
const LEAST_MTU6: u32 = 1280;

/// What stands in a cell. Its bytes stand in another map.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct Held {
    /// Tells the packet from others; 0 if the cell is free.
    pub serial: u32,
    /// Which of the fragment's cells this is, from 0 on. The fields below stand in the first one.
    pub number: u32,
    /// The cell, plus 1, of the fragment that came before this one.
    pub older: u32,
    /// Where in the packet's payload the fragment begins.
    pub offset: u32,
    /// Bytes of its payload.
    pub length: u32,
    /// Where its payload begins in the frame.
    pub at: u32,
    /// Bytes of IP packet.
    pub size: u32,
    /// IPv6: where in the frame the byte is that announces the fragment header.
    pub link: u32,
}

const _: () = assert!(size_of::<Held>() == 32);

/// The part of a packet's payload that a fragment has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Part {
    /// Where it begins.
    pub offset: u32,
    /// Its bytes.
    pub length: u32,
    /// Others follow it.
    pub more: bool,
}

impl Part {
    /// Where it ends.
    #[inline(always)]
    pub const fn end(&self) -> u32 {
        self.offset.wrapping_add(self.length)
    }

    /// Whether there can be such a fragment (RFC 791, RFC 8200 §4.5).
    #[inline(always)]
    pub const fn is_sound(&self) -> bool {
        self.length != 0 && self.length <= LONGEST && self.end() <= LONGEST && (!self.more || self.length & 7 == 0)
    }

    /// What it is to a fragment of the same packet that has come before.
    #[inline(always)]
    pub const fn against(&self, offset: u32, length: u32) -> Against {
        if self.offset >= offset.wrapping_add(length) || self.end() <= offset {
            Against::Apart
        } else if self.offset == offset && self.length == length {
            Against::Same
        } else {
            Against::Overlap
        }
    }
}

/// What a fragment is to another one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Against {
    /// They have no byte in common.
    Apart,
    /// It is the same one again.
    Same,
    /// They overlap: the packet is refused (RFC 5722).
    Overlap,
}

/// Cells that a payload of this length takes.
#[inline(always)]
pub const fn cells(length: u32) -> u32 {
    length.div_ceil(CELL as u32)
}

/// How a payload is cut: bytes of the first fragment, and of those after it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cut {
    /// Bytes of the first one.
    pub first: u32,
    /// Bytes of each of the others; the last one has what is left.
    pub step: u32,
}

impl Cut {
    /// Where fragment `index` begins.
    #[inline(always)]
    pub const fn begin(&self, index: u32) -> u32 {
        match index {
            0 => 0,
            _ => self.first.wrapping_add(index.wrapping_sub(1).wrapping_mul(self.step)),
        }
    }

    /// Cuts into fragments of at most `most` bytes of IP packet, of which `headers` are headers.
    #[inline(always)]
    pub const fn evenly(most: u32, headers: u32) -> Cut {
        let step = most.wrapping_sub(headers) & !7;
        Cut { first: step, step }
    }

    /// Cuts an IPv6 packet that has `lead` bytes more in front of a payload which came in fragments of `largest` bytes of IP
    /// packet; `most` is what the way takes. As Linux does it: the fragments keep their boundaries if they may, and otherwise get
    /// as long as the largest, but no shorter than the least MTU.
    #[inline(always)]
    pub const fn tunnelled6(largest: u32, lead: u32, most: u32, headers: u32) -> Cut {
        let limit = limit6(largest, most);
        let came = Cut::evenly(largest, headers);
        if lead & 7 == 0 && lead + came.first + headers <= limit {
            return Cut { first: lead + came.first, step: came.step };
        }
        Cut::evenly(limit, headers)
    }
}

/// Longest fragment of an IPv6 packet that came in fragments of up to `largest` bytes, on a way that takes `most`.
#[inline(always)]
const fn limit6(largest: u32, most: u32) -> u32 {
    let limit = if largest < LEAST_MTU6 { LEAST_MTU6 } else { largest };
    if limit > most { most } else { limit }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Headers of IPv6 and of a fragment.
    const HEADERS6: u32 = 48;

    fn part(offset: u32, length: u32, more: bool) -> Part {
        Part { offset, length, more }
    }

    #[test]
    fn fragments_that_cannot_be_are_known() {
        assert!(part(0, 8, true).is_sound());
        assert!(part(65_528, 7, false).is_sound());
        assert!(!part(0, 0, false).is_sound());
        assert!(!part(0, 9, true).is_sound());
        assert!(!part(65_528, 8, false).is_sound());
        assert!(!part(8, 0u32.wrapping_sub(20), false).is_sound());
    }

    #[test]
    fn a_fragment_that_comes_again_is_not_one_that_overlaps() {
        let fragment = part(400, 400, true);
        assert_eq!(fragment.against(400, 400), Against::Same);
        assert_eq!(fragment.against(0, 400), Against::Apart);
        assert_eq!(fragment.against(800, 8), Against::Apart);
        for (offset, length) in [(392, 16), (400, 8), (792, 8), (0, 1000), (500, 10)] {
            assert_eq!(fragment.against(offset, length), Against::Overlap);
        }
    }

    /// What Linux 6.1's IPVS sends for datagrams over IPv6 whose fragments came with 400, 1232 and 1400 bytes.
    #[test]
    fn fragments_into_tunnels_over_ipv6_are_linuxs() {
        let outer = |largest, lead| Cut::tunnelled6(largest, lead, 1500, HEADERS6);
        let (ipip, gue, gre, gre_csum) = (40, 52, 44, 48);
        assert_eq!(outer(448, ipip), Cut { first: 440, step: 400 });
        assert_eq!(outer(448, gre_csum), Cut { first: 448, step: 400 });
        assert_eq!(outer(448, gue), Cut { first: 1232, step: 1232 });
        assert_eq!(outer(448, gre), Cut { first: 1232, step: 1232 });
        assert_eq!(outer(1280, ipip), Cut { first: 1232, step: 1232 });
        assert_eq!(outer(1448, ipip), Cut { first: 1400, step: 1400 });
    }

    proptest! {
        #[test]
        fn a_cut_payload_fits_its_way(largest in 56u32..1500, lead in 40u32..100, most in 1280u32..9000, length in 1u32..15_000) {
            let cut = Cut::tunnelled6(largest, lead, most, HEADERS6);
            prop_assert!(cut.first + HEADERS6 <= most && cut.step + HEADERS6 <= most && cut.step != 0);
            prop_assert!(cut.first.is_multiple_of(8) && cut.step.is_multiple_of(8));
            let count = (0..).take_while(|index| cut.begin(*index) < length).count() as u32;
            prop_assert!(cut.begin(count) >= length);
        }

        #[test]
        fn cells_hold_a_payload(length in 1u32..16_384) {
            prop_assert!(cells(length) * CELL as u32 >= length && (cells(length) - 1) * (CELL as u32) < length);
            prop_assert!(cells(length) <= FRAGMENT_CELLS);
        }
    }
}
