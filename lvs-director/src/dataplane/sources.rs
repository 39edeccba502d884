//! What the host's settings demand of packets' sources (`rp_filter`, `accept_local`, `route_localnet`). The data plane cannot
//! read them, so every command stores them with each device.

use std::fs;

use lvs_common::abi::{DEVICE_SLOTS, device_flags};
use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::link::{LinkAttribute, LinkExtentMask, LinkHeader, LinkMessage};

use super::error::{Context, Result};
use super::mapped::{field, put};
use super::plane::Plane;
use crate::netlink::{self, Message, ROUTE};

/// Bytes of `struct ifinfomsg`.
const LINK_HEADER: usize = 16;
/// The attribute of a link's IPv4 settings, in that of the family in that of all families.
const INET_CONF: u16 = 1;

/// The settings of one device, or those of all.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Demands {
    rp_filter: u32,
    accept_local: u32,
    route_localnet: u32,
}

impl Demands {
    /// Their places among a link's IPv4 settings (`IPV4_DEVCONF_*` less one).
    const PLACES: [usize; 3] = [7, 22, 25];

    /// What `conf/all` says.
    fn of_all() -> Self {
        let read = |name| {
            let text = fs::read_to_string(format!("/proc/sys/net/ipv4/conf/all/{name}"));
            // A kernel without IPv4 demands nothing.
            text.ok().and_then(|text| text.trim().parse().ok()).unwrap_or(0)
        };
        Demands {
            rp_filter: read("rp_filter"),
            accept_local: read("accept_local"),
            route_localnet: read("route_localnet"),
        }
    }

    /// What a link's message says of the device.
    fn of_link(message: &Message) -> Option<Self> {
        let families = message.attribute(LINK_HEADER, libc::IFLA_AF_SPEC)?;
        let nested =
            |body: &[u8], kind| Message { kind: 0, body: body.to_vec() }.attribute(0, kind).map(<[u8]>::to_vec);
        let settings = nested(&nested(families, libc::AF_INET as u16)?, INET_CONF)?;
        let word = |place: usize| {
            let bytes = settings.get(4 * place..4 * place + 4)?;
            Some(u32::from_ne_bytes(bytes.try_into().ok()?))
        };
        let [rp_filter, accept_local, route_localnet] = Self::PLACES.map(word);
        Some(Demands {
            rp_filter: rp_filter?,
            accept_local: accept_local?,
            route_localnet: route_localnet.unwrap_or(0),
        })
    }

    /// The flags of a device with these settings where `all` are those of all devices: the kernel takes the greater of the two.
    fn flags(self, all: Self) -> u16 {
        let reverse_path = match self.rp_filter.max(all.rp_filter) {
            0 => 0,
            1 => device_flags::STRICT_SOURCES,
            _ => device_flags::ROUTED_SOURCES,
        };
        let flag = |is_set, flag| if is_set { flag } else { 0 };
        reverse_path
            | flag(self.accept_local.max(all.accept_local) != 0, device_flags::OWN_SOURCES)
            | flag(self.route_localnet.max(all.route_localnet) != 0, device_flags::ROUTES_LOOPBACK)
    }
}

impl Plane {
    /// Notes with each device what the host's settings demand of sources now.
    pub fn know_sources(&mut self) -> Result<()> {
        let mut request = LinkMessage::default();
        request.attributes.push(LinkAttribute::ExtMask(vec![LinkExtentMask::SkipStats]));
        let links =
            netlink::dump(ROUTE, RouteNetlinkMessage::GetLink(request)).context("cannot list the network devices")?;
        let all = Demands::of_all();
        for link in &links {
            let (Ok(header), Some(demands)) = (LinkHeader::parse(&link.body), Demands::of_link(link)) else { continue };
            let slot = header.index % DEVICE_SLOTS;
            if field!(self.devices, slot, ifindex) != header.index {
                continue;
            }
            let before = field!(self.devices, slot, flags);
            let after = before & !device_flags::SOURCES | demands.flags(all);
            if after != before {
                put!(self.devices, slot, flags, after);
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_greater_of_a_setting_for_all_and_for_the_device_is_in_force() {
        let demands = |rp_filter| Demands { rp_filter, ..Demands::default() };
        let cases = [(0, 0, 0), (1, 0, 4), (0, 1, 4), (2, 1, 8), (1, 2, 8), (2, 0, 8)];
        for (all, own, flags) in cases {
            assert_eq!(demands(own).flags(demands(all)), flags, "all {all}, own {own}");
        }
        let local = Demands { accept_local: 1, ..Demands::default() };
        assert_eq!(local.flags(demands(0)), device_flags::OWN_SOURCES);
        assert_eq!(demands(0).flags(Demands { route_localnet: 1, ..local }), 48);
    }

    #[test]
    fn the_kernel_says_what_its_files_say() {
        let mut request = LinkMessage::default();
        request.attributes.push(LinkAttribute::ExtMask(vec![LinkExtentMask::SkipStats]));
        let links = netlink::dump(ROUTE, RouteNetlinkMessage::GetLink(request)).unwrap();
        let lo = links.iter().find(|link| LinkHeader::parse(&link.body).is_ok_and(|header| header.index == 1)).unwrap();
        let read =
            |name| fs::read_to_string(format!("/proc/sys/net/ipv4/conf/lo/{name}")).unwrap().trim().parse().unwrap();
        let expected = Demands {
            rp_filter: read("rp_filter"),
            accept_local: read("accept_local"),
            route_localnet: read("route_localnet"),
        };
        assert_eq!(Demands::of_link(lo), Some(expected));
    }
}
