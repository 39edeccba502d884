//! What a callback tells of its connection: the packet at hand and the peer it is from.

use aya_ebpf::btf_maps::lpm_trie::Key;
use aya_ebpf::programs::SockOpsContext;
use lvs_common::abi::{AF_INET, AF_INET6};
use lvs_common::toa::Options;

/// Bytes of a TCP header before its options.
const HEADER: usize = 20;

/// The connection of a callback about a packet; as [`Options`], the options of that packet.
pub struct Connection<'a>(pub &'a SockOpsContext);

impl Connection<'_> {
    /// The peer, as a key of the trusted prefixes.
    #[inline(always)]
    pub fn peer(&self) -> Key<[u32; 5]> {
        const MAPPED: u32 = 0xffffu32.to_be();
        let v4 = |address| Key::new(160, [AF_INET.into(), address, 0, 0, 0]);
        if self.0.family() == AF_INET.into() {
            return v4(self.0.remote_ip4());
        }
        match self.0.remote_ip6() {
            // An IPv4 connection to a listener for both families.
            [0, 0, MAPPED, address] => v4(address),
            [a, b, c, d] => Key::new(160, [AF_INET6.into(), a, b, c, d]),
        }
    }

    /// Whether data had been received before this packet.
    #[inline(always)]
    pub fn has_brought_data(&self) -> bool {
        // SAFETY: the context's pointer is the program's argument, and the field may be read.
        unsafe { (*self.0.ops).bytes_received != 0 }
    }
}

impl Options for Connection<'_> {
    #[inline(always)]
    fn bytes<const N: usize>(&self, at: usize) -> Option<[u8; N]> {
        // SAFETY: as above. The header lies between the two; both are 0 where there is no packet. Read anew each time: the
        // compiler must not take one check for another that is equal only in sum, for the verifier knows pointers and not
        // sums.
        let (start, end) = unsafe {
            (
                (&raw const (*self.0.ops).__bindgen_anon_3.skb_data).read_volatile() as usize,
                (&raw const (*self.0.ops).__bindgen_anon_4.skb_data_end).read_volatile() as usize,
            )
        };
        // The verifier wants a limit, which no header reaches.
        let from = start + HEADER + (at & 63);
        if from + N > end {
            return None;
        }
        // SAFETY: checked; bytes have no alignment.
        Some(unsafe { *(from as *const [u8; N]) })
    }
}
