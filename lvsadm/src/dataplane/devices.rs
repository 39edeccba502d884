//! The network devices of this network namespace, and what their drivers can do.

use std::collections::BTreeMap;

use anyhow::{Context, Result};
use nix::ifaddrs::getifaddrs;
use nix::net::if_::InterfaceFlags;

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

/// All devices, in the order of their indices.
pub fn all() -> Result<Vec<NetDevice>> {
    let features = super::features::all();
    let mut found = BTreeMap::new();
    for interface in getifaddrs().context("cannot list the network devices")? {
        let Some(link) = interface.address.as_ref().and_then(|address| address.as_link_addr()) else { continue };
        let index = link.ifindex() as u32;
        let (xdp_everywhere, why_not_xdp) = super::features::judge(&features, index, &interface.interface_name);
        let device = NetDevice {
            index,
            mac: link.addr().unwrap_or_default(),
            up: interface.flags.contains(InterfaceFlags::IFF_UP),
            ethernet: link.hatype() == libc::ARPHRD_ETHER,
            is_virtual: super::features::is_virtual(&interface.interface_name),
            name: interface.interface_name,
            xdp_everywhere,
            why_not_xdp,
        };
        found.insert(index, device);
    }
    Ok(found.into_values().collect())
}
