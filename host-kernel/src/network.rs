//! Devices, routes and neighbours.

/// `AF_INET`.
const AF_INET: u8 = 2;

/// A device.
#[derive(Clone, Copy, Debug)]
pub struct Device {
    /// Its index.
    pub index: u32,
    /// Bytes of IP packet that it sends.
    pub mtu: u32,
    /// Its MAC address.
    pub mac: [u8; 6],
}

/// A route. The one with the longest prefix decides.
#[derive(Clone, Copy, Debug)]
pub struct Route {
    /// `AF_INET` or `AF_INET6`.
    pub family: u8,
    /// The prefix; of IPv4 the first four bytes.
    pub prefix: [u8; 16],
    /// Its length, bits.
    pub length: u32,
    /// What it does.
    pub way: Way,
}

/// What a route does.
#[derive(Clone, Copy, Debug)]
pub enum Way {
    /// The host itself has the address.
    Local,
    /// `bpf_fib_lookup` answers with this number: blackhole, unreachable, prohibited, encapsulated.
    Answer(i64),
    /// Out of a device.
    Out {
        /// The device.
        device: u32,
        /// The gateway and its family; none for a destination on the link.
        gateway: Option<(u8, [u8; 16])>,
        /// The route's own MTU, 0 for the device's.
        mtu: u32,
        /// The address of the host's that packets get as a source.
        source: [u8; 16],
    },
}

/// The host's network.
#[derive(Debug, Default)]
pub struct Network {
    /// The devices.
    pub devices: Vec<Device>,
    /// The routes, in any order.
    pub routes: Vec<Route>,
    /// Neighbours that the kernel does not know: a look-up says so.
    pub silent: Vec<[u8; 16]>,
    /// Whether `lo` forwards.
    pub forwards: bool,
}

impl Network {
    /// The device with this index.
    pub fn device(&self, index: u32) -> Option<&Device> {
        self.devices.iter().find(|device| device.index == index)
    }

    /// What the most specific route does with an address.
    pub fn way(&self, family: u8, to: &[u8; 16]) -> Option<&Way> {
        let of_family = self.routes.iter().filter(|route| route.family == family);
        of_family.filter(|route| covers(route, to)).max_by_key(|route| route.length).map(|route| &route.way)
    }

    /// The MAC address of a neighbour, made of its address; `None` if it is silent.
    pub fn neighbour(&self, family: u8, address: &[u8; 16]) -> Option<[u8; 6]> {
        if self.silent.contains(address) {
            return None;
        }
        let [a, b, c, d, .., w, x, y, z] = *address;
        Some(if family == AF_INET { [2, family, a, b, c, d] } else { [2, family, w, x, y, z] })
    }
}

/// Whether a route's prefix has an address.
fn covers(route: &Route, address: &[u8; 16]) -> bool {
    is_prefix(&route.prefix, route.length, address)
}

/// Whether the first `bits` bits of both are the same.
pub fn is_prefix(prefix: &[u8], bits: u32, of: &[u8]) -> bool {
    let (whole, rest) = (bits as usize / 8, bits % 8);
    if prefix.get(..whole) != of.get(..whole) {
        return false;
    }
    let mask = !(0xffu16 >> rest) as u8;
    rest == 0 || prefix.get(whole).zip(of.get(whole)).is_some_and(|(a, b)| (a ^ b) & mask == 0)
}
