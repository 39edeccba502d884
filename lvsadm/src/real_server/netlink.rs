//! The few requests to the kernel's route netlink that a real server's set-up needs.

use std::net::IpAddr;

use anyhow::{Context, Result};
use lvs_director::netlink::{self, Message, NLM_F_CREATE, NLM_F_EXCL, ROUTE};
use netlink_packet_route::address::{AddressAttribute, AddressMessage, AddressScope, CacheInfo};
use netlink_packet_route::tc::{TcHandle, TcHeader, TcMessage};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};
use nix::net::if_::if_nametoindex;

/// The handle of a clsact queueing discipline, and the parents of its filters.
const CLSACT: TcHandle = TcHandle { major: u16::MAX, minor: 0 };
const INGRESS: TcHandle = TcHandle { major: u16::MAX, minor: TcHandle::MIN_INGRESS };
const EGRESS: TcHandle = TcHandle { major: u16::MAX, minor: TcHandle::MIN_EGRESS };

/// Adds the address to `lo` as a host's own: never announced, never chosen as the source of the host's own packets.
pub fn add_to_loopback(address: IpAddr) -> Result<()> {
    let mut message = address_message(address)?;
    if address.is_ipv6() {
        // Preferred for 0 s keeps it from being chosen as a source; valid for ever.
        let mut lifetimes = CacheInfo::default();
        (lifetimes.ifa_preferred, lifetimes.ifa_valid) = (0, u32::MAX);
        message.attributes.push(AddressAttribute::CacheInfo(lifetimes));
    }
    Ok(netlink::act(ROUTE, RouteNetlinkMessage::NewAddress(message), NLM_F_CREATE | NLM_F_EXCL)?)
}

/// Removes it.
pub fn remove_from_loopback(address: IpAddr) -> Result<()> {
    Ok(netlink::act(ROUTE, RouteNetlinkMessage::DelAddress(address_message(address)?), 0)?)
}

fn address_message(address: IpAddr) -> Result<AddressMessage> {
    let (family, length) = match address {
        IpAddr::V4(_) => (AddressFamily::Inet, 32),
        IpAddr::V6(_) => (AddressFamily::Inet6, 128),
    };
    let mut message = AddressMessage::default();
    message.header.family = family;
    message.header.prefix_len = length;
    message.header.scope = AddressScope::Host;
    message.header.index = if_nametoindex("lo").context("there is no lo")?;
    message.attributes = vec![AddressAttribute::Local(address), AddressAttribute::Address(address)];
    Ok(message)
}

/// Whether the device has a filter of this priority on ingress.
pub fn has_ingress_filter(device: &str, priority: u16) -> Result<bool> {
    Ok(filters(device, INGRESS)?.contains(&u32::from(priority)))
}

/// Whether the device has a filter of this priority on egress.
pub fn has_egress_filter(device: &str, priority: u16) -> Result<bool> {
    Ok(filters(device, EGRESS)?.contains(&u32::from(priority)))
}

/// Removes the device's clsact queueing discipline unless somebody has a filter on it.
pub fn remove_unused_clsact(device: &str) -> Result<()> {
    if !filters(device, INGRESS)?.is_empty() || !filters(device, EGRESS)?.is_empty() {
        return Ok(());
    }
    let message = traffic_control(device, CLSACT, TcHandle::CLSACT)?;
    Ok(netlink::act(ROUTE, RouteNetlinkMessage::DelQueueDiscipline(message), 0)?)
}

/// The priorities of a device's filters; none if it has no clsact queueing discipline.
fn filters(device: &str, parent: TcHandle) -> Result<Vec<u32>> {
    let message = traffic_control(device, TcHandle::UNSPEC, parent)?;
    let answer = netlink::dump(ROUTE, RouteNetlinkMessage::GetTrafficFilter(message))?;
    // The information word of a filter has its priority in the upper half.
    let priority = |message: &Message| TcHeader::parse(&message.body).ok().map(|header| header.info >> 16);
    Ok(answer.iter().filter_map(priority).collect())
}

/// A message about a device's queueing disciplines or filters.
fn traffic_control(device: &str, handle: TcHandle, parent: TcHandle) -> Result<TcMessage> {
    let index = if_nametoindex(device).with_context(|| format!("there is no device {device}"))?;
    let mut message = TcMessage::default();
    message.header.index = index as i32;
    message.header.handle = handle;
    message.header.parent = parent;
    Ok(message)
}
