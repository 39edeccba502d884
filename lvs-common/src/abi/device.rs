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
}

/// Flags of a [`Device`].
pub mod device_flags {
    /// Takes frames that XDP programs redirect or send back.
    pub const ACCEPTS_XDP: u16 = 1;
    /// Sends frames back only when they are redirected to it: a veth whose far end has no XDP program leaves what
    /// `XDP_TX` sends in a ring that nobody is told of.
    pub const NO_TX: u16 = 2;
}

const _: () = assert!(size_of::<Device>() == 16);
