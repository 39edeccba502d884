//! The few requests to the kernel's route netlink that a real server's set-up needs.

use std::net::IpAddr;

use anyhow::{Context, Result};
use nix::net::if_::if_nametoindex;

use crate::netlink::Request;

/// Parents of the filters of a clsact queueing discipline, which itself has `CLSACT` as handle and parent.
const CLSACT: u32 = 0xffff_0000;
const INGRESS: u32 = 0xffff_fff2;
const EGRESS: u32 = 0xffff_fff3;

/// Adds the address to `lo` as a host's own: never announced, never chosen as the source of the host's own packets.
pub fn add_to_loopback(address: IpAddr) -> Result<()> {
    address_request(address, libc::RTM_NEWADDR, libc::NLM_F_CREATE | libc::NLM_F_EXCL)
}

/// Removes it.
pub fn remove_from_loopback(address: IpAddr) -> Result<()> {
    address_request(address, libc::RTM_DELADDR, 0)
}

fn address_request(address: IpAddr, kind: u16, flags: i32) -> Result<()> {
    let (family, octets) = match address {
        IpAddr::V4(v4) => (libc::AF_INET, v4.octets().to_vec()),
        IpAddr::V6(v6) => (libc::AF_INET6, v6.octets().to_vec()),
    };
    let mut request = Request::new(kind, flags);
    // struct ifaddrmsg: family, prefix length, flags, scope, index.
    request.bytes(&[family as u8, octets.len() as u8 * 8, 0, libc::RT_SCOPE_HOST]);
    request.bytes(&if_nametoindex("lo").context("there is no lo")?.to_ne_bytes());
    request.attribute(libc::IFA_LOCAL, &octets);
    request.attribute(libc::IFA_ADDRESS, &octets);
    if address.is_ipv6() && kind == libc::RTM_NEWADDR {
        // struct ifa_cacheinfo: preferred for 0 s keeps it from being chosen as a source, valid for ever.
        let lifetimes = [0, u32::MAX, 0, 0];
        request.attribute(libc::IFA_CACHEINFO, &lifetimes.map(u32::to_ne_bytes).concat());
    }
    request.send().map(drop)
}

/// Whether the device has a filter of ours (of the priority `decapsulation` uses) on ingress.
pub fn has_filter(device: &str) -> Result<bool> {
    let priority = u32::from(super::decapsulation::PRIORITY);
    Ok(filters(device, INGRESS)?.contains(&priority))
}

/// Removes the device's clsact queueing discipline unless somebody has a filter on it.
pub fn remove_unused_clsact(device: &str) -> Result<()> {
    if !filters(device, INGRESS)?.is_empty() || !filters(device, EGRESS)?.is_empty() {
        return Ok(());
    }
    let mut request = Request::new(libc::RTM_DELQDISC, 0);
    traffic_control(&mut request, device, CLSACT, 0xffff_fff1)?;
    request.send().map(drop)
}

/// The priorities of a device's filters; none if it has no clsact queueing discipline.
fn filters(device: &str, parent: u32) -> Result<Vec<u32>> {
    let mut request = Request::new(libc::RTM_GETTFILTER, libc::NLM_F_DUMP);
    traffic_control(&mut request, device, 0, parent)?;
    // The information word of a filter's struct tcmsg has its priority in the upper half.
    let information = |message: Vec<u8>| Some(u32::from_ne_bytes(message.get(16..20)?.try_into().ok()?) >> 16);
    Ok(request.send()?.into_iter().filter_map(information).collect())
}

/// Appends a `struct tcmsg`: family, index, handle, parent, information.
fn traffic_control(request: &mut Request, device: &str, handle: u32, parent: u32) -> Result<()> {
    let index = if_nametoindex(device).with_context(|| format!("there is no device {device}"))?;
    for word in [0, index, handle, parent, 0] {
        request.bytes(&word.to_ne_bytes());
    }
    Ok(())
}
