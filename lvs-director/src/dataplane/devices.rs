//! The network devices of this network namespace, and what their drivers can do.

use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::link::{LinkAttribute, LinkExtentMask, LinkFlags, LinkHeader, LinkLayerType, LinkMessage};

use super::error::{Context, Result};
use super::features;
use super::pins::LOOPBACK;
use super::tags;
use crate::netlink::{self, Message, ROUTE};
use crate::rules::AttachMode;

/// Bytes of `struct ifinfomsg`.
const LINK_HEADER: usize = 16;
/// `IFLA_XDP_PROG_ID`.
const XDP_PROGRAM: u16 = 4;
/// `IFLA_MACVLAN_MODE`, and its value for a macvlan that takes all frames of the device below (`MACVLAN_MODE_PASSTHRU`).
const MACVLAN_MODE: u16 = 1;
const PASSTHRU: u32 = 8;

/// What a device's packets begin with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Headers {
    /// An Ethernet header.
    Ethernet,
    /// The IP header: tun, WireGuard, ppp, IP tunnels.
    Ip,
    /// Something else, or nothing that comes from outside: `lo`.
    Other,
}

impl Headers {
    /// Those of a device of this type (`linux/if_arp.h`).
    fn of(kind: LinkLayerType) -> Self {
        match kind {
            LinkLayerType::Ether => Headers::Ethernet,
            LinkLayerType::None
            | LinkLayerType::Rawip
            | LinkLayerType::Ppp
            | LinkLayerType::Tunnel
            | LinkLayerType::Tunnel6
            | LinkLayerType::Sit
            | LinkLayerType::Ipgre
            | LinkLayerType::Ip6gre => Headers::Ip,
            _ => Headers::Other,
        }
    }
}

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
    /// What its packets begin with.
    pub headers: Headers,
    /// Why it cannot be served, if it cannot.
    pub unservable: Option<String>,
    /// Whether the host has devices for VLANs on it.
    pub has_vlans: bool,
    /// What it is a VLAN of, if XDP could make its frames.
    pub tag: Option<Tag>,
    /// Longest packet that it takes, in bytes.
    pub mtu: u32,
    /// Number of the XDP program that runs on it, 0 for none.
    pub xdp_program: u32,
}

impl Link {
    /// Whether it is attached to without being named, once it is up.
    pub fn is_usual(&self) -> bool {
        self.headers != Headers::Other && self.unservable.is_none()
    }

    /// `lo`, as far as attaching to it matters.
    pub fn loopback() -> Self {
        Link {
            name: "lo".to_owned(),
            index: LOOPBACK,
            mac: [0; 6],
            up: true,
            headers: Headers::Other,
            unservable: None,
            has_vlans: false,
            tag: None,
            mtu: 0,
            xdp_program: 0,
        }
    }
}

/// The tag of a VLAN's frames, IEEE 802.1Q without priorities.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tag {
    /// Index of the device that carries the frames.
    pub parent: u32,
    /// The VLAN.
    pub vlan: u16,
}

/// A device.
#[derive(Clone, Debug)]
pub struct NetDevice {
    /// As much of it as every command looks at.
    pub link: Link,
    /// Whether it is software only, a veth for one.
    pub is_virtual: bool,
    /// Whether XDP in its driver is known to lose nothing: the driver runs it and takes frames sent back or redirected.
    pub xdp_everywhere: bool,
    /// Why not, if not.
    pub why_not_xdp: String,
    /// Whether it merges packets that it receives in a way that cannot be undone (LRO).
    pub lro: bool,
}

impl NetDevice {
    /// Why it cannot be attached in this mode, if it cannot.
    pub fn why_not(&self, mode: AttachMode) -> Option<String> {
        let has_xdp = matches!(mode, AttachMode::Native | AttachMode::Generic);
        if has_xdp && self.link.headers == Headers::Ip {
            return Some("XDP needs Ethernet headers, which its packets do not have: use --mode tc".to_owned());
        }
        self.link.unservable.clone()
    }
}

/// What the kernel tells of every device.
fn messages() -> Result<Vec<Message>> {
    let mut request = LinkMessage::default();
    // A third of the answer would be statistics.
    request.attributes.push(LinkAttribute::ExtMask(vec![LinkExtentMask::SkipStats]));
    netlink::dump(ROUTE, RouteNetlinkMessage::GetLink(request)).context("cannot list the network devices")
}

/// Index and MTU of the device of a name, if there is one.
pub fn named(name: &str) -> Result<Option<(u32, u32)>> {
    Ok(messages()?.iter().find_map(|message| {
        let found = message.attribute(LINK_HEADER, libc::IFLA_IFNAME)?;
        let mtu = message.attribute(LINK_HEADER, libc::IFLA_MTU)?.try_into().ok()?;
        let index = LinkHeader::parse(&message.body).ok()?.index;
        (without_zero(found) == name).then_some((index, u32::from_ne_bytes(mtu)))
    }))
}

/// Whether the device of an index is up, and its cable connected.
pub fn has_carrier(index: u32) -> Result<bool> {
    let headers = messages()?;
    let mut headers = headers.iter().filter_map(|message| LinkHeader::parse(&message.body).ok());
    Ok(headers.any(|header| header.index == index && header.flags.contains(LinkFlags::Up | LinkFlags::LowerUp)))
}

/// Every device, by one request: to ask what their drivers can do takes many.
pub fn links() -> Result<Vec<Link>> {
    let messages = messages()?;
    let (mut links, relations): (Vec<Link>, Vec<Relation>) = messages.iter().filter_map(link).unzip();
    for link in &mut links {
        link.has_vlans = relations.iter().any(|relation| relation.vlan_of == link.index);
    }
    for at in 0..links.len() {
        if links[at].unservable.is_none() {
            links[at].unservable = relations[at].who_decides(&links[at], &links, &relations);
        }
    }
    Ok(links)
}

/// What a device has to do with others.
#[derive(Debug, Default)]
struct Relation {
    /// The device that it is a port of, 0 for none.
    master: u32,
    /// The master only names the port's routing table (VRF), and sees no packets before it.
    is_routing_domain: bool,
    /// The device below a macvlan that takes all of its frames, 0 for none.
    taken_from: u32,
    /// The device below a VLAN's, 0 for none.
    vlan_of: u32,
}

impl Relation {
    /// Who decides which of the device's packets come in, if that is another device.
    fn who_decides(&self, device: &Link, links: &[Link], relations: &[Relation]) -> Option<String> {
        if self.master != 0 && !self.is_routing_domain {
            let master =
                links.iter().find(|link| link.index == self.master).map_or("another device", |link| &link.name);
            return Some(format!("it is a port of {master}, which decides what comes in: attach to {master}"));
        }
        let at = relations.iter().position(|relation| relation.taken_from == device.index)?;
        Some(format!("{} takes all of its packets: attach to {}", links[at].name, links[at].name))
    }
}

/// A link from the kernel's message.
fn link(message: &Message) -> Option<(Link, Relation)> {
    let header = LinkHeader::parse(&message.body).ok()?;
    let attribute = |kind| message.attribute(LINK_HEADER, kind);
    let number = |kind| attribute(kind).and_then(|bytes| bytes.try_into().ok()).map_or(0, u32::from_ne_bytes);
    let name = attribute(libc::IFLA_IFNAME)?;
    let mac = attribute(libc::IFLA_ADDRESS).and_then(|address| address.try_into().ok());
    let info = nested(attribute(libc::IFLA_LINKINFO).unwrap_or_default());
    let data = nested(info.attribute(0, libc::IFLA_INFO_DATA).unwrap_or_default());
    let word = |kind| info.attribute(0, kind).map(without_zero).unwrap_or_default();
    let kind = word(libc::IFLA_INFO_KIND);
    let headers = Headers::of(header.link_layer_type);
    let is_without_remote = attribute(libc::IFLA_BROADCAST).is_some_and(|remote| remote.iter().all(|byte| *byte == 0));
    let unservable = match &*kind {
        "gre" | "ip6gre" if headers == Headers::Ip && is_without_remote => {
            Some("a GRE device without a remote address keeps the outer headers in its packets".to_owned())
        }
        "xfrm" => Some("an xfrm device keeps the outer Ethernet header in its packets".to_owned()),
        _ if headers == Headers::Other && header.link_layer_type != LinkLayerType::Loopback => {
            Some("its packets begin with neither an Ethernet nor an IP header".to_owned())
        }
        _ => None,
    };
    let mode = data.attribute(0, MACVLAN_MODE).and_then(|mode| mode.try_into().ok()).map_or(0, u32::from_ne_bytes);
    let is_passthru = matches!(&*kind, "macvlan" | "macvtap") && mode == PASSTHRU;
    let relation = Relation {
        master: number(libc::IFLA_MASTER),
        is_routing_domain: word(libc::IFLA_INFO_SLAVE_KIND) == "vrf",
        taken_from: if is_passthru { number(libc::IFLA_LINK) } else { 0 },
        vlan_of: if kind == "vlan" { number(libc::IFLA_LINK) } else { 0 },
    };
    let link = Link {
        name: without_zero(name),
        index: header.index,
        mac: mac.unwrap_or_default(),
        up: header.flags.contains(LinkFlags::Up),
        headers,
        unservable,
        has_vlans: false,
        tag: tag(&kind, &data, number(libc::IFLA_LINK), attribute(libc::IFLA_LINK_NETNSID).is_some()),
        mtu: number(libc::IFLA_MTU),
        xdp_program: attribute(libc::IFLA_XDP).and_then(xdp_program).unwrap_or(0),
    };
    Some((link, relation))
}

/// The tag of a device's frames: of a VLAN in this network namespace, to whose frames the kernel gives no priority.
fn tag(kind: &str, data: &Message, parent: u32, is_elsewhere: bool) -> Option<Tag> {
    const ID: u16 = 1;
    const PRIORITIES: u16 = 3;
    const PROTOCOL: u16 = 5;
    const IEEE_802_1Q: [u8; 2] = [0x81, 0];
    let is_plain = data.attribute(0, PROTOCOL) == Some(&IEEE_802_1Q) && data.attribute(0, PRIORITIES).is_none();
    let vlan = u16::from_ne_bytes(data.attribute(0, ID)?.try_into().ok()?);
    (kind == "vlan" && is_plain && !is_elsewhere).then_some(Tag { parent, vlan })
}

/// Text of the kernel's, which ends with a zero.
fn without_zero(text: &[u8]) -> String {
    String::from_utf8_lossy(text.strip_suffix(b"\0").unwrap_or(text)).into_owned()
}

/// Attributes within an attribute.
fn nested(attribute: &[u8]) -> Message {
    Message { kind: 0, body: attribute.to_vec() }
}

/// The program's number from the attribute about XDP, which is attributes in turn.
fn xdp_program(xdp: &[u8]) -> Option<u32> {
    Some(u32::from_ne_bytes(nested(xdp).attribute(0, XDP_PROGRAM)?.try_into().ok()?))
}

/// All devices, in the order of their indices.
pub fn all() -> Result<Vec<NetDevice>> {
    let (features, tags) = (features::all(), tags::all());
    let mut links = links()?;
    links.sort_by_key(|link| link.index);
    let device = |link: Link| {
        let (xdp_everywhere, why_not_xdp) = match link.headers {
            Headers::Ip => (false, "its packets have no Ethernet headers, which XDP needs".to_owned()),
            _ => features::judge(&features, link.index, &link.name),
        };
        let hides_vlans = tags.get(&link.index).is_some_and(|tags| tags.hides_vlans(link.has_vlans));
        let (xdp_everywhere, why_not_xdp) = match xdp_everywhere && hides_vlans {
            true => (false, format!("it hides VLANs' tags from XDP: `ethtool -K {} rxvlan off`", link.name)),
            false => (xdp_everywhere, why_not_xdp),
        };
        let lro = tags.get(&link.index).is_some_and(|tags| tags.merges);
        NetDevice { is_virtual: features::is_virtual(&link.name), link, xdp_everywhere, why_not_xdp, lro }
    };
    Ok(links.into_iter().map(device).collect())
}
