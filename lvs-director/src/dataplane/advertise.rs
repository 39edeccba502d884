//! Virtual addresses as routes in a table of the kernel's, which a routing daemon announces (`advertise_table`): this is how the
//! routers of a fleet of directors learn which of them serve. A route is there as long as packets for the address would be served here. The
//! table is no rule's, so no packet is routed by it.

use std::collections::BTreeSet;
use std::io;
use std::net::IpAddr;

use ipnet::IpNet;
use lvs_common::abi::Sysctls;
use netlink_packet_route::route::{RouteAddress, RouteAttribute, RouteMessage, RouteProtocol, RouteScope, RouteType};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};

use super::convert;
use super::error::{Context, Result};
use super::plane::Plane;
use crate::netlink::{self, NLM_F_CREATE, NLM_F_EXCL, ROUTE};
use crate::rules::ServiceKey;

/// Whose routes they are (`rtm_protocol`): no routing daemon that iproute2 knows has this number.
const PROTOCOL: RouteProtocol = RouteProtocol::Other(173);

/// `RT_TABLE_LOCAL`
const LOCAL: u32 = 255;

/// Bytes of `struct rtmsg`, and where in it the length of the destination's prefix is.
const ROUTE_HEADER: usize = 12;
const PREFIX_LENGTH: usize = 1;

/// What a director has routing daemons announce.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Advertisement {
    /// The table.
    pub table: u32,
    /// Whether nothing is to be announced.
    pub drained: bool,
    /// Addresses that have a route.
    pub addresses: BTreeSet<IpAddr>,
    /// Addresses that should have one, but have not; of a drained director, those that would.
    pub missing: BTreeSet<IpAddr>,
}

impl Plane {
    /// Gives routes to the addresses that are served here, and takes those of others away. Does nothing where no table is set.
    ///
    /// # Errors
    /// The kernel's first refusal. The other routes are right all the same.
    pub fn advertise(&self) -> Result<()> {
        let table = self.settings().sysctls.advertise_table;
        if table == 0 {
            return Ok(());
        }
        let wanted = if self.settings().drained == 0 { self.servable()? } else { BTreeSet::new() };
        bring(table, &wanted)
    }

    /// Sets the sysctls, and has the routes follow them.
    ///
    /// # Errors
    /// As [`advertise`](Self::advertise). The sysctls are set all the same.
    pub fn set_sysctls(&mut self, sysctls: &Sysctls) -> Result<()> {
        let before = self.settings().sysctls.advertise_table;
        self.set(|settings| settings.sysctls = *sysctls);
        if before != sysctls.advertise_table && before != 0 {
            bring(before, &BTreeSet::new())?;
        }
        self.advertise()
    }

    /// What is announced.
    pub fn advertisement(&self) -> Result<Option<Advertisement>> {
        let settings = self.settings();
        let table = settings.sysctls.advertise_table;
        if table == 0 {
            return Ok(None);
        }
        let addresses = advertised(table)?;
        let missing = self.servable()?.difference(&addresses).copied().collect();
        Ok(Some(Advertisement { table, drained: settings.drained != 0, addresses, missing }))
    }

    /// Takes this director out of its fleet, or back into it.
    pub fn drain_director(&mut self, drained: bool) -> Result<()> {
        self.set(|settings| settings.drained = drained.into());
        self.advertise()
    }

    /// The addresses of services that have a real server with a weight. Unless packets in transit are served (`transit`), the address
    /// must be the host's own.
    fn servable(&self) -> Result<BTreeSet<IpAddr>> {
        let mut addresses = BTreeSet::new();
        for id in self.service_ids() {
            let ServiceKey::Address { address, .. } = convert::service_key(&self.services.get(id)) else { continue };
            let has_server = || self.list(id).into_iter().any(|dest| self.dest_config(dest).weight > 0);
            if !address.is_loopback() && !address.is_unspecified() && !addresses.contains(&address) && has_server() {
                addresses.insert(address);
            }
        }
        if self.settings().sysctls.transit == 0 && !addresses.is_empty() {
            let own = routes(Some(LOCAL), RouteType::Local, RouteProtocol::Unspec)?;
            addresses.retain(|address| own.iter().any(|(_, prefix)| prefix.contains(address)));
        }
        Ok(addresses)
    }
}

/// Takes all routes away that any data plane of this network namespace made, in whatever table.
pub(super) fn withdraw() -> Result<()> {
    let tables: BTreeSet<u32> = ours(None)?.into_iter().map(|(table, _)| table).collect();
    tables.into_iter().map(|table| bring(table, &BTreeSet::new())).fold(Ok(()), Result::and)
}

/// Has a table hold routes to these addresses, and no other ones of ours.
fn bring(table: u32, wanted: &BTreeSet<IpAddr>) -> Result<()> {
    let there = advertised(table)?;
    let gone = there.difference(wanted).map(|address| {
        let request = RouteNetlinkMessage::DelRoute(message(table, *address));
        match netlink::act(ROUTE, request, 0) {
            // Another command was first.
            Err(netlink::Error::Refused(error)) if error.raw_os_error() == Some(libc::ESRCH) => Ok(()),
            done => done.with_context(|| format!("cannot take the route to {address} out of table {table}")),
        }
    });
    let new = wanted.difference(&there).map(|address| {
        let request = RouteNetlinkMessage::NewRoute(message(table, *address));
        match netlink::act(ROUTE, request, NLM_F_CREATE | NLM_F_EXCL) {
            Err(netlink::Error::Refused(error)) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
            done => done.with_context(|| format!("cannot put a route to {address} into table {table}")),
        }
    });
    // All are tried.
    gone.chain(new).fold(Ok(()), Result::and)
}

/// The addresses that have a route of ours in a table.
fn advertised(table: u32) -> Result<BTreeSet<IpAddr>> {
    let whole = |prefix: &IpNet| prefix.prefix_len() == prefix.max_prefix_len();
    Ok(ours(Some(table))?.into_iter().filter(|(_, prefix)| whole(prefix)).map(|(_, prefix)| prefix.addr()).collect())
}

/// The routes of ours in a table, or in all of them.
fn ours(table: Option<u32>) -> Result<Vec<(u32, IpNet)>> {
    routes(table, RouteType::BlackHole, PROTOCOL)
}

/// The routes of a table, or of all, that are of a type and a protocol (`Unspec` for any): the table of each, and its destination.
fn routes(table: Option<u32>, kind: RouteType, protocol: RouteProtocol) -> Result<Vec<(u32, IpNet)>> {
    let mut routes = Vec::new();
    for family in [AddressFamily::Inet, AddressFamily::Inet6] {
        let mut request = of_table(family, table);
        (request.header.kind, request.header.protocol) = (kind, protocol);
        let messages = match netlink::select(ROUTE, RouteNetlinkMessage::GetRoute(request)) {
            Ok(messages) => messages,
            // The kernel makes a table with its first route; it may have no IPv6.
            Err(netlink::Error::Refused(error))
                if [Some(libc::ENOENT), Some(libc::EOPNOTSUPP)].contains(&error.raw_os_error()) =>
            {
                continue;
            }
            Err(error) => return Err(error).context("cannot list the routes"),
        };
        routes.extend(messages.iter().filter_map(|message| route(family, message)));
    }
    Ok(routes)
}

/// The table and the destination of a route's message.
fn route(family: AddressFamily, message: &netlink::Message) -> Option<(u32, IpNet)> {
    let length = *message.body.get(PREFIX_LENGTH)?;
    let bytes = message.attribute(ROUTE_HEADER, libc::RTA_DST)?;
    let address = match family {
        AddressFamily::Inet => IpAddr::from(<[u8; 4]>::try_from(bytes).ok()?),
        _ => IpAddr::from(<[u8; 16]>::try_from(bytes).ok()?),
    };
    let table = message.attribute(ROUTE_HEADER, libc::RTA_TABLE)?;
    Some((u32::from_ne_bytes(table.try_into().ok()?), IpNet::new(address, length).ok()?))
}

/// A message about routes of a table, or of all.
fn of_table(family: AddressFamily, table: Option<u32>) -> RouteMessage {
    let mut message = RouteMessage::default();
    message.header.address_family = family;
    if let Some(table) = table {
        // The attribute is what counts; the header has room for the first tables only.
        message.header.table = u8::try_from(table).unwrap_or_default();
        message.attributes.push(RouteAttribute::Table(table));
    }
    message
}

/// The route to an address. It blackholes what is routed by it, which nothing is.
fn message(table: u32, address: IpAddr) -> RouteMessage {
    let (family, destination) = match address {
        IpAddr::V4(address) => (AddressFamily::Inet, RouteAddress::Inet(address)),
        IpAddr::V6(address) => (AddressFamily::Inet6, RouteAddress::Inet6(address)),
    };
    let mut message = of_table(family, Some(table));
    message.header.destination_prefix_length = IpNet::from(address).prefix_len();
    message.header.protocol = PROTOCOL;
    message.header.scope = RouteScope::Universe;
    message.header.kind = RouteType::BlackHole;
    message.attributes.push(RouteAttribute::Destination(destination));
    message
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hosts_own_addresses_are_prefixes_of_the_local_table() {
        let own = routes(Some(LOCAL), RouteType::Local, RouteProtocol::Unspec).unwrap();
        let is_own = |address: [u8; 4]| own.iter().any(|(_, prefix)| prefix.contains(&IpAddr::from(address)));
        assert!(is_own([127, 0, 0, 1]) && !is_own([192, 0, 2, 1]));
        assert!(own.iter().all(|(table, _)| *table == LOCAL));
    }

    #[test]
    fn a_table_that_is_not_there_has_no_routes() {
        assert_eq!(advertised(4_000_000_000).unwrap(), BTreeSet::new());
    }
}
