//! Devices and addresses of this network namespace.

use std::net::IpAddr;

use anyhow::{Context, Result, bail};
use nix::ifaddrs::{InterfaceAddress, getifaddrs};
use nix::net::if_::InterfaceFlags;

/// Names of the devices that are up and carry Ethernet frames.
pub fn ethernet_like() -> Result<Vec<String>> {
    let is_ethernet = |interface: &InterfaceAddress| {
        let link = interface.address.as_ref().and_then(|address| address.as_link_addr());
        link.is_some_and(|link| link.hatype() == libc::ARPHRD_ETHER) && interface.flags.contains(InterfaceFlags::IFF_UP)
    };
    let names: Vec<String> = all()?.filter(is_ethernet).map(|interface| interface.interface_name).collect();
    if names.is_empty() {
        bail!("no Ethernet-like device is up; name one with --dev");
    }
    Ok(names)
}

/// Whether `device` has the address.
pub fn has_address(device: &str, address: IpAddr) -> Result<bool> {
    Ok(all()?.filter(|interface| interface.interface_name == device).any(|interface| {
        let storage = interface.address.as_ref();
        let v4 = storage.and_then(|s| s.as_sockaddr_in()).map(|s| IpAddr::V4(s.ip()));
        let v6 = storage.and_then(|s| s.as_sockaddr_in6()).map(|s| IpAddr::V6(s.ip()));
        v4.or(v6) == Some(address)
    }))
}

fn all() -> Result<impl Iterator<Item = InterfaceAddress>> {
    getifaddrs().context("cannot list the network devices")
}
