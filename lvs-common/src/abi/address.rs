//! Addresses as the maps hold them, and what differs between the two families.

/// Address family numbers as Linux has them (`AF_INET`, `AF_INET6`).
pub const AF_INET: u8 = 2;
/// See [`AF_INET`].
pub const AF_INET6: u8 = 10;

/// An address of either family in network byte order, as four words of memory; IPv4 fills the first and leaves the
/// others 0.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(transparent)]
pub struct Address(pub [u32; 4]);

impl Address {
    /// The IPv4 address whose bytes are `octets`.
    pub const fn v4(octets: [u8; 4]) -> Self {
        Address([u32::from_ne_bytes(octets), 0, 0, 0])
    }

    /// The IPv6 address whose bytes are `o`.
    pub const fn v6(o: [u8; 16]) -> Self {
        Address([
            u32::from_ne_bytes([o[0], o[1], o[2], o[3]]),
            u32::from_ne_bytes([o[4], o[5], o[6], o[7]]),
            u32::from_ne_bytes([o[8], o[9], o[10], o[11]]),
            u32::from_ne_bytes([o[12], o[13], o[14], o[15]]),
        ])
    }

    /// The bytes of the IPv4 address in it.
    pub const fn octets4(self) -> [u8; 4] {
        self.0[0].to_ne_bytes()
    }

    /// The 16 bytes of the IPv6 address in it.
    pub const fn octets6(self) -> [u8; 16] {
        let [a, b, c, d] =
            [self.0[0].to_ne_bytes(), self.0[1].to_ne_bytes(), self.0[2].to_ne_bytes(), self.0[3].to_ne_bytes()];
        [a[0], a[1], a[2], a[3], b[0], b[1], b[2], b[3], c[0], c[1], c[2], c[3], d[0], d[1], d[2], d[3]]
    }

    /// All words XORed, in host byte order: how dh, sh, mh, lblc and lblcr fold an IPv6 address into one word, and the
    /// plain value of an IPv4 address.
    #[inline(always)]
    pub const fn fold(self) -> u32 {
        u32::from_be(self.0[0] ^ self.0[1] ^ self.0[2] ^ self.0[3])
    }
}

/// What the code that is written once for both families needs to know of an address.
pub trait IpAddress: Copy + PartialEq + Default + 'static {
    /// `AF_INET` or `AF_INET6`.
    const FAMILY: u8;
    /// Whether it is an IPv4 address.
    const IS_V4: bool;
    /// An address of the other family.
    type Other: IpAddress<Other = Self>;
    /// Bytes of a header without options or extensions.
    const HEADER: usize;
    /// As the family-independent form.
    fn widen(self) -> Address;
    /// From the family-independent form, which must be of this family.
    fn narrow(address: Address) -> Self;
    /// Two 32-bit words that depend on every bit of the address, for hashing.
    fn words(self) -> (u32, u32);
}

impl IpAddress for u32 {
    const FAMILY: u8 = AF_INET;
    const IS_V4: bool = true;
    type Other = [u32; 4];
    const HEADER: usize = 20;

    #[inline(always)]
    fn widen(self) -> Address {
        Address([self, 0, 0, 0])
    }

    #[inline(always)]
    fn narrow(address: Address) -> Self {
        address.0[0]
    }

    #[inline(always)]
    fn words(self) -> (u32, u32) {
        (self, 0)
    }
}

impl IpAddress for [u32; 4] {
    const FAMILY: u8 = AF_INET6;
    const IS_V4: bool = false;
    type Other = u32;
    const HEADER: usize = 40;

    #[inline(always)]
    fn widen(self) -> Address {
        Address(self)
    }

    #[inline(always)]
    fn narrow(address: Address) -> Self {
        address.0
    }

    #[inline(always)]
    fn words(self) -> (u32, u32) {
        // Rotations keep prefix and interface identifier from cancelling out.
        (self[0] ^ self[2].rotate_left(15), self[1] ^ self[3].rotate_left(7))
    }
}
