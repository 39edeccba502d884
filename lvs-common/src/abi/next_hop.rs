//! A resolved next hop, cached where the packets that need it find it anyway.

/// Prefixes of IPsec policies there is room for.
pub const PROTECTED: u32 = 256;

/// Where a frame goes. Filled by the data plane from a FIB lookup and looked up anew once a second at most.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct NextHop {
    /// Outgoing device; 0 is unresolved.
    pub ifindex: u32,
    /// Low 32 bits of jiffies at the last look-up, never 0 once resolved; cleared while the fields change.
    pub checked: u32,
    /// Destination MAC address.
    pub destination: [u8; 6],
    /// Source MAC address.
    pub source: [u8; 6],
    /// MTU of the route, bytes of IP packet.
    pub mtu: u16,
    /// [`hop_flags`].
    pub flags: u16,
}

/// Flags of a [`NextHop`].
pub mod hop_flags {
    /// The outgoing device takes XDP frames.
    pub const XDP: u16 = 1;
    /// The MAC addresses are known; without it only the kernel's neighbour output can send there.
    pub const NEIGHBOUR: u16 = 2;
    /// The device's own frames are sent back by redirection (`device_flags::NO_TX`).
    pub const NO_TX: u16 = 4;
    /// The outgoing device is a VLAN whose tag XDP puts into frames (`device_flags::TAGGED`).
    pub const TAGGED: u16 = 8;
}

const _: () = assert!(size_of::<NextHop>() == 24);
