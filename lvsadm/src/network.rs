//! Routes, neighbours and addresses, as the kernel has them.

use std::collections::HashMap;
use std::io;
use std::net::IpAddr;

use anyhow::Result;
use lvs_director::dataplane;
use lvs_director::netlink::{self, Message, ROUTE};
use lvs_director::rules::Family;
use netlink_packet_core::DefaultNla;

/// Bytes of `struct rtmsg` and `struct ndmsg`.
const FIXED: usize = 12;
/// `RTA_VIA`, `RTAX_MTU`.
const VIA: u16 = 18;
const MTU: u16 = 2;

/// A MAC address.
pub type Mac = [u8; 6];

/// The way to an address.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Way {
    /// Nobody asked.
    #[default]
    Unknown,
    /// It is the host.
    Own,
    /// There is none, says the kernel.
    None(String),
    /// There is one.
    Route {
        /// The device.
        device: String,
        /// The gateway, if it is not on the device's network.
        gateway: Option<IpAddr>,
        /// Bytes of a packet at most.
        mtu: u32,
    },
}

/// A MAC address as `ip` writes it.
pub fn colons(mac: Mac) -> String {
    mac.map(|byte| format!("{byte:02x}")).join(":")
}

/// A route to an address.
#[derive(Clone, Debug, Default)]
pub struct Route {
    /// The way, for the checks.
    pub way: Way,
    /// Index of its device.
    pub device: u32,
}

/// What the kernel knows of the network.
pub struct Network {
    /// The host's own addresses, each with its device.
    own: Vec<(u32, IpAddr)>,
    /// Names and MAC addresses of devices, by index.
    pub devices: HashMap<u32, (String, Mac)>,
    /// MTUs of devices.
    mtus: HashMap<u32, u32>,
    /// MAC addresses that the kernel remembers.
    pub remembered: HashMap<(u32, IpAddr), Mac>,
}

impl Network {
    /// As it is now.
    pub fn read() -> Result<Self> {
        let mut own = Vec::new();
        for interface in nix::ifaddrs::getifaddrs()? {
            let Some(storage) = interface.address else { continue };
            let v4 = storage.as_sockaddr_in().map(|v4| IpAddr::V4(v4.ip()));
            let Some(address) = v4.or_else(|| storage.as_sockaddr_in6().map(|v6| IpAddr::V6(v6.ip()))) else {
                continue;
            };
            own.push((nix::net::if_::if_nametoindex(&*interface.interface_name).unwrap_or_default(), address));
        }
        let links = dataplane::devices()?;
        let devices = links.iter().map(|device| (device.link.index, (device.link.name.clone(), device.link.mac)));
        Ok(Network { own, devices: devices.collect(), mtus: mtus()?, remembered: remembered()? })
    }

    /// Whether an address is the host's own.
    pub fn is_own(&self, address: IpAddr) -> bool {
        self.own.iter().any(|(_, own)| *own == address)
    }

    /// An address of the host of a family that hosts elsewhere can answer, and that is none of `others`: of a device, if it has one.
    pub fn address(&self, device: u32, family: Family, others: &[IpAddr]) -> Option<IpAddr> {
        let is_link = |address: &IpAddr| matches!(address, IpAddr::V6(v6) if v6.is_unicast_link_local());
        let suits = |(_, address): &&(u32, IpAddr)| {
            Family::of(*address) == family && !address.is_loopback() && !is_link(address) && !others.contains(address)
        };
        let on_device = self.own.iter().filter(suits).find(|(on, _)| *on == device);
        on_device.or_else(|| self.own.iter().find(suits)).map(|(_, address)| *address)
    }

    /// The link's address of a device over IPv6.
    pub fn link_address(&self, device: u32) -> Option<IpAddr> {
        let own = self.own.iter().filter(|(on, _)| *on == device);
        own.map(|(_, address)| *address).find(|address| matches!(address, IpAddr::V6(v6) if v6.is_unicast_link_local()))
    }

    /// The route to an address.
    pub fn route(&self, to: IpAddr) -> Route {
        if self.is_own(to) {
            return Route { way: Way::Own, ..Route::default() };
        }
        match ask(to) {
            Ok(message) => self.read_route(&message),
            Err(error) => Route { way: Way::None(error), ..Route::default() },
        }
    }

    fn read_route(&self, message: &Message) -> Route {
        let read = |kind| message.attribute(FIXED, kind).and_then(address);
        let device = message.attribute(FIXED, libc::RTA_OIF).and_then(word).unwrap_or_default();
        // A gateway of the other family comes with its family before it.
        let via = || message.attribute(FIXED, VIA).and_then(|via| address(via.get(2..)?));
        let metrics = message.attribute(FIXED, libc::RTA_METRICS).unwrap_or_default();
        let metrics = Message { kind: 0, body: metrics.to_vec() };
        let mtu = metrics.attribute(0, MTU).and_then(word).filter(|mtu| *mtu != 0);
        let name = self.devices.get(&device).map(|(name, _)| name.clone()).unwrap_or_default();
        let own = self.mtus.get(&device).copied().unwrap_or_default();
        let way = match message.body.get(7) {
            Some(&libc::RTN_LOCAL) => Way::Own,
            _ => Way::Route {
                device: name,
                gateway: read(libc::RTA_GATEWAY).or_else(via),
                mtu: mtu.unwrap_or(own).min(own),
            },
        };
        Route { way, device }
    }
}

/// Asks the kernel for the route to an address.
fn ask(to: IpAddr) -> Result<Message, String> {
    let (family, bytes) = octets(to);
    let fixed = [family, (bytes.len() * 8) as u8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    let request = Message::new(libc::RTM_GETROUTE, &fixed, &[DefaultNla::new(libc::RTA_DST, bytes)]);
    let answer = netlink::get(ROUTE, request).map_err(|error| error.to_string())?;
    let message = answer.into_iter().next().ok_or_else(|| "no answer".to_owned())?;
    match message.body.get(7).copied() {
        Some(libc::RTN_UNICAST | libc::RTN_LOCAL) => Ok(message),
        Some(libc::RTN_BLACKHOLE) => Err("a blackhole route".to_owned()),
        Some(libc::RTN_PROHIBIT) => Err(io::Error::from_raw_os_error(libc::EACCES).to_string()),
        _ => Err(io::Error::from_raw_os_error(libc::EHOSTUNREACH).to_string()),
    }
}

/// The MTU of each device.
fn mtus() -> Result<HashMap<u32, u32>> {
    let request = Message::new(libc::RTM_GETLINK, &[0; 16], &[] as &[DefaultNla]);
    let links = netlink::dump(ROUTE, request)?;
    let read = |link: &Message| Some((word(link.body.get(4..8)?)?, word(link.attribute(16, libc::IFLA_MTU)?)?));
    Ok(links.iter().filter_map(read).collect())
}

/// The MAC addresses that the kernel remembers.
fn remembered() -> Result<HashMap<(u32, IpAddr), Mac>> {
    let request = Message::new(libc::RTM_GETNEIGH, &[0; FIXED], &[] as &[DefaultNla]);
    let read = |neighbour: &Message| {
        let device = word(neighbour.body.get(4..8)?)?;
        let state = u16::from_ne_bytes(neighbour.body.get(8..10)?.try_into().ok()?);
        let is_known = state & (libc::NUD_FAILED | libc::NUD_INCOMPLETE | libc::NUD_NOARP) == 0;
        let ip = address(neighbour.attribute(FIXED, libc::NDA_DST)?)?;
        let mac = neighbour.attribute(FIXED, libc::NDA_LLADDR)?.try_into().ok()?;
        is_known.then_some(((device, ip), mac))
    };
    Ok(netlink::dump(ROUTE, request)?.iter().filter_map(read).collect())
}

fn word(bytes: &[u8]) -> Option<u32> {
    Some(u32::from_ne_bytes(bytes.try_into().ok()?))
}

fn address(bytes: &[u8]) -> Option<IpAddr> {
    match bytes.len() {
        4 => Some(IpAddr::from(<[u8; 4]>::try_from(bytes).ok()?)),
        16 => Some(IpAddr::from(<[u8; 16]>::try_from(bytes).ok()?)),
        _ => None,
    }
}

/// The family's number and the bytes of an address.
fn octets(address: IpAddr) -> (u8, Vec<u8>) {
    match address {
        IpAddr::V4(v4) => (libc::AF_INET as u8, v4.octets().to_vec()),
        IpAddr::V6(v6) => (libc::AF_INET6 as u8, v6.octets().to_vec()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_way_to_the_host_itself_is_its_own() {
        let network = Network::read().unwrap();
        assert_eq!(network.route("127.0.0.1".parse().unwrap()).way, Way::Own);
        assert!(network.is_own("127.0.0.1".parse().unwrap()));
    }
}
