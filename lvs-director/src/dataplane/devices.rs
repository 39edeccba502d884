//! The network devices of this network namespace, and what their drivers can do.

use std::collections::BTreeMap;

use anyhow::{Context, Result};
use nix::ifaddrs::getifaddrs;
use nix::net::if_::InterfaceFlags;

use super::features;
use crate::netlink::{self, Request};

/// A device.
#[derive(Clone, Debug)]
pub struct NetDevice {
    /// Its name.
    pub name: String,
    /// Its index.
    pub index: u32,
    /// Its MAC address.
    pub mac: [u8; 6],
    /// Whether it is up.
    pub up: bool,
    /// Whether it carries Ethernet frames.
    pub ethernet: bool,
    /// Whether it is software only, a veth for one.
    pub is_virtual: bool,
    /// Whether XDP in its driver is known to lose nothing: the driver runs it and takes frames sent back or redirected.
    pub xdp_everywhere: bool,
    /// Why not, if not.
    pub why_not_xdp: String,
}

/// As much of a device as every command looks at.
#[derive(Clone, Debug)]
pub struct Link {
    /// The device's name.
    pub name: String,
    /// Its index.
    pub index: u32,
    /// Whether it is up.
    pub up: bool,
    /// Whether it carries Ethernet frames.
    pub ethernet: bool,
}

/// Every device, by one request: to ask what their drivers can do takes many.
pub fn links() -> Result<Vec<Link>> {
    // `RTEXT_FILTER_SKIP_STATS`: a third of the answer.
    const SKIP_STATISTICS: u32 = 1 << 3;
    let mut request = Request::new(libc::RTM_GETLINK, libc::NLM_F_DUMP);
    // struct ifinfomsg: family, pad, type, index, flags, change.
    request.bytes(&[0; 16]);
    request.attribute(libc::IFLA_EXT_MASK, &SKIP_STATISTICS.to_ne_bytes());
    let messages = request.send().context("cannot list the network devices")?;
    Ok(messages.iter().filter_map(|message| link(message)).collect())
}

/// A link from the kernel's message.
fn link(message: &[u8]) -> Option<Link> {
    let name = netlink::attribute(message.get(16..)?, libc::IFLA_IFNAME)?;
    let flags = u32::from_ne_bytes(message[8..12].try_into().ok()?);
    Some(Link {
        name: String::from_utf8_lossy(name.strip_suffix(b"\0").unwrap_or(name)).into_owned(),
        index: u32::from_ne_bytes(message[4..8].try_into().ok()?),
        up: flags & libc::IFF_UP as u32 != 0,
        ethernet: u16::from_ne_bytes(message[2..4].try_into().ok()?) == libc::ARPHRD_ETHER,
    })
}

/// All devices, in the order of their indices.
pub fn all() -> Result<Vec<NetDevice>> {
    let features = features::all();
    let mut found = BTreeMap::new();
    for interface in getifaddrs().context("cannot list the network devices")? {
        let Some(link) = interface.address.as_ref().and_then(|address| address.as_link_addr()) else { continue };
        let index = link.ifindex() as u32;
        let (xdp_everywhere, why_not_xdp) = features::judge(&features, index, &interface.interface_name);
        let device = NetDevice {
            index,
            mac: link.addr().unwrap_or_default(),
            up: interface.flags.contains(InterfaceFlags::IFF_UP),
            ethernet: link.hatype() == libc::ARPHRD_ETHER,
            is_virtual: features::is_virtual(&interface.interface_name),
            name: interface.interface_name,
            xdp_everywhere,
            why_not_xdp,
        };
        found.insert(index, device);
    }
    Ok(found.into_values().collect())
}
