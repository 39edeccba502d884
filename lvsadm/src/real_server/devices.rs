//! Devices and addresses of this network namespace.

use std::net::IpAddr;

use anyhow::{Context, Result, bail};
use nix::ifaddrs::{InterfaceAddress, getifaddrs};
use nix::net::if_::InterfaceFlags;

/// The type of a device (`linux/if_arp.h`), from what is listed of it; addresses of the network are none of that.
fn kind(interface: &InterfaceAddress) -> Option<u16> {
    Some(interface.address.as_ref()?.as_link_addr()?.hatype())
}

/// Whether tunnels can be opened on the named devices: their packets begin with an Ethernet header. One that is not there is
/// somebody else's to name.
pub fn carry_ethernet(names: &[String]) -> Result<()> {
    let interfaces: Vec<_> = all()?.collect();
    for name in names {
        let mut entries = interfaces.iter().filter(|interface| interface.interface_name == *name).peekable();
        let is_there = entries.peek().is_some();
        if is_there && !entries.any(|i| matches!(kind(i), Some(libc::ARPHRD_ETHER | libc::ARPHRD_LOOPBACK))) {
            bail!(
                "cannot open tunnels on {name}: its packets have no Ethernet header; use a tunnel device of the kernel's (`ip link help`)"
            );
        }
    }
    Ok(())
}

/// Names of the devices that are up and carry Ethernet frames.
pub fn ethernet_like() -> Result<Vec<String>> {
    let is_ethernet = |interface: &InterfaceAddress| {
        kind(interface) == Some(libc::ARPHRD_ETHER) && interface.flags.contains(InterfaceFlags::IFF_UP)
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
