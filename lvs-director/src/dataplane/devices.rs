//! The network devices of this network namespace, and what their drivers can do.

use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::link::{LinkAttribute, LinkExtentMask, LinkFlags, LinkHeader, LinkLayerType, LinkMessage};

use super::error::{Context, Result};
use super::features;
use crate::netlink::{self, Message, ROUTE};

/// Bytes of `struct ifinfomsg`.
const LINK_HEADER: usize = 16;
/// `IFLA_XDP_PROG_ID`.
const XDP_PROGRAM: u16 = 4;

/// As much of a device as every command looks at.
#[derive(Clone, Debug)]
pub struct Link {
    /// The device's name.
    pub name: String,
    /// Its index.
    pub index: u32,
    /// Its MAC address; zeros where it has none of six bytes.
    pub mac: [u8; 6],
    /// Whether it is up.
    pub up: bool,
    /// Whether it carries Ethernet frames.
    pub ethernet: bool,
    /// Number of the XDP program that runs on it, 0 for none.
    pub xdp_program: u32,
}

/// A device.
#[derive(Clone, Debug)]
pub struct NetDevice {
    /// Its name.
    pub name: String,
    /// Its index.
    pub index: u32,
    /// Its MAC address; zeros where it has none of six bytes.
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
    /// Number of the XDP program that runs on it, 0 for none.
    pub xdp_program: u32,
}

/// Every device, by one request: to ask what their drivers can do takes many.
pub fn links() -> Result<Vec<Link>> {
    let mut request = LinkMessage::default();
    // A third of the answer would be statistics.
    request.attributes.push(LinkAttribute::ExtMask(vec![LinkExtentMask::SkipStats]));
    let messages =
        netlink::dump(ROUTE, RouteNetlinkMessage::GetLink(request)).context("cannot list the network devices")?;
    Ok(messages.iter().filter_map(link).collect())
}

/// A link from the kernel's message.
fn link(message: &Message) -> Option<Link> {
    let header = LinkHeader::parse(&message.body).ok()?;
    let name = message.attribute(LINK_HEADER, libc::IFLA_IFNAME)?;
    let mac = message.attribute(LINK_HEADER, libc::IFLA_ADDRESS).and_then(|address| address.try_into().ok());
    Some(Link {
        name: String::from_utf8_lossy(name.strip_suffix(b"\0").unwrap_or(name)).into_owned(),
        index: header.index,
        mac: mac.unwrap_or_default(),
        up: header.flags.contains(LinkFlags::Up),
        ethernet: header.link_layer_type == LinkLayerType::Ether,
        xdp_program: message.attribute(LINK_HEADER, libc::IFLA_XDP).and_then(xdp_program).unwrap_or(0),
    })
}

/// The program's number from the attribute about XDP, which is attributes in turn.
fn xdp_program(xdp: &[u8]) -> Option<u32> {
    let inner = Message { kind: 0, body: xdp.to_vec() };
    Some(u32::from_ne_bytes(inner.attribute(0, XDP_PROGRAM)?.try_into().ok()?))
}

/// All devices, in the order of their indices.
pub fn all() -> Result<Vec<NetDevice>> {
    let features = features::all();
    let mut links = links()?;
    links.sort_by_key(|link| link.index);
    let device = |link: Link| {
        let (xdp_everywhere, why_not_xdp) = features::judge(&features, link.index, &link.name);
        NetDevice {
            is_virtual: features::is_virtual(&link.name),
            name: link.name,
            index: link.index,
            mac: link.mac,
            up: link.up,
            ethernet: link.ethernet,
            xdp_everywhere,
            why_not_xdp,
            xdp_program: link.xdp_program,
        }
    };
    Ok(links.into_iter().map(device).collect())
}
