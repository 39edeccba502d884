//! Attached devices: `DEVICES`, an array indexed by `ifindex % DEVICE_SLOTS`.

/// Slots of the device table: a device whose slot another one holds is served by TC.
pub const DEVICE_SLOTS: u32 = 1024;

/// What the XDP program must know of a device. Elements of an array map stand at multiples of eight bytes, and `lvsadm`
/// finds them in mapped memory: hence the alignment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C, align(8))]
pub struct Device {
    /// The device; 0 is an unused slot.
    pub ifindex: u32,
    /// [`device_flags`].
    pub flags: u16,
    /// Its MAC address: XDP serves only frames addressed to it, as IPVS serves only packets for this host.
    pub mac: [u8; 6],
    /// The device that carries its frames with a tag, 0 if none does.
    pub parent: u32,
    /// The tag's VLAN.
    pub vlan: u16,
    /// Zero.
    pub pad: u16,
}

/// Key of `VLANS`, whose values are VLAN devices: which device is a VLAN of which one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[repr(C)]
pub struct VlanKey {
    /// The device that carries the VLAN's frames.
    pub parent: u32,
    /// The VLAN, 1 to 4094.
    pub vlan: u32,
}

/// Flags of a [`Device`].
pub mod device_flags {
    /// Takes frames that XDP programs redirect or send back.
    pub const ACCEPTS_XDP: u16 = 1;
    /// Sends frames back only when they are redirected to it: a veth whose far end has no XDP program leaves what
    /// `XDP_TX` sends in a ring that nobody is told of.
    pub const NO_TX: u16 = 2;
    /// IPv4: a new client's source must be reached by this device (`rp_filter` 1).
    pub const STRICT_SOURCES: u16 = 4;
    /// IPv4: a new client's source must be reached by some device (`rp_filter` 2).
    pub const ROUTED_SOURCES: u16 = 8;
    /// Sources may be the host's own addresses (`accept_local`).
    pub const OWN_SOURCES: u16 = 16;
    /// IPv4's loopback addresses may come in (`route_localnet`).
    pub const ROUTES_LOOPBACK: u16 = 32;
    /// Its packets have no Ethernet header, so it has no neighbours.
    pub const NO_ETHERNET: u16 = 64;
    /// A VLAN whose tag XDP takes out of frames and puts into them: its parent takes XDP frames.
    pub const TAGGED: u16 = 128;

    /// What the host's settings demand of sources.
    pub const SOURCES: u16 = STRICT_SOURCES | ROUTED_SOURCES | OWN_SOURCES | ROUTES_LOOPBACK;
}

const _: () = assert!(size_of::<Device>() == 24);
const _: () = assert!(size_of::<VlanKey>() == 8);
