//! What IPVS refuses whatever is configured already, as the error the kernel answers.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use lvs_common::abi::Forward;

use super::error::Error;
use crate::rules::{Destination, Family, Netmask, Service, ServiceKey};

/// Greatest weight and threshold: the kernel's are signed.
const GREATEST: u32 = i32::MAX as u32;

/// Whether a destination can belong to a service at all, before anything is looked up; checked for edits too.
pub fn destination(service: &ServiceKey, destination: &Destination) -> Result<(), Error> {
    let may_differ = matches!(destination.forward, Forward::Tunnel | Forward::FullNat);
    if destination.family() != service.family() && !may_differ {
        return Err(Error::Invalid);
    }
    if destination.weight > GREATEST || destination.lower > destination.upper {
        return Err(Error::OutOfRange);
    }
    let has_port = destination.tunnel.kind.form().has_port();
    if destination.forward == Forward::Tunnel && has_port && destination.tunnel.port == 0 {
        return Err(Error::Invalid);
    }
    Ok(())
}

/// Whether an address can be a new destination's, as far as that shows without the routing table (whose broadcast
/// addresses the kernel refuses as well, and whose link-local addresses it accepts where they are its own).
pub fn real_server_address(address: IpAddr) -> Result<(), Error> {
    let usable = match address {
        IpAddr::V4(v4) => !(v4 == Ipv4Addr::UNSPECIFIED || v4 == Ipv4Addr::BROADCAST || v4.is_multicast()),
        IpAddr::V6(v6) => {
            let mapped = v6.to_ipv4_mapped().is_some();
            !(v6 == Ipv6Addr::UNSPECIFIED || v6.is_multicast() || v6.is_unicast_link_local() || mapped)
        }
    };
    if usable { Ok(()) } else { Err(Error::Invalid) }
}

/// Whether an address can be a local address of a service, or of the default pool.
pub fn local_address(address: IpAddr) -> Result<(), Error> {
    if address.is_loopback() { Err(Error::Invalid) } else { real_server_address(address) }
}

/// Whether a service's family and netmask fit.
pub fn service(service: &Service) -> Result<(), Error> {
    match (service.key.family(), service.netmask) {
        (Family::V4, Netmask::V4(_)) | (Family::V6, Netmask::V6(1..=128)) => Ok(()),
        _ => Err(Error::Invalid),
    }
}
