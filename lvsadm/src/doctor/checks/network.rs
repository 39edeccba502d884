//! Addresses, routes and next hops.

use std::net::IpAddr;

use lvs_common::abi::Forward;

use super::super::facts::{Facts, Server, Way, colons};
use super::super::finding::Found;

/// What a check finds of real servers, once for each address.
pub fn by_address(facts: &Facts, judge: impl Fn(&Server) -> Option<Found>) -> Vec<Found> {
    let mut found: Vec<Found> = Vec::new();
    for new in facts.servers.iter().filter_map(judge) {
        if !found.contains(&new) {
            found.push(new);
        }
    }
    found
}

pub fn vip(facts: &Facts) -> Vec<Found> {
    let foreign = facts.vips.iter().filter(|vip| !vip.is_own && facts.sysctls.transit == 0);
    foreign
        .map(|vip| {
            let length = if vip.address.is_ipv4() { 32 } else { 128 };
            let what = format!("{} is no address of this host: its packets are left to the stack", vip.address);
            let mend = format!(
                "ip addr add {}/{length} dev lo (on the master of a pair), or lvsadm sysctl transit=1",
                vip.address
            );
            Found::warning(what, mend)
        })
        .collect()
}

pub fn arp(facts: &Facts) -> Vec<Found> {
    let mut found = Vec::new();
    for vip in &facts.vips {
        for (mac, server) in &vip.others {
            let protocol = if vip.address.is_ipv4() { "ARP" } else { "neighbour discovery" };
            found.push(match server {
                Some(server) => Found::failure(
                    format!("real server {server} ({}) answers {protocol} for {}", colons(*mac), vip.address),
                    format!("on {server}: lvsadm real-server --dr --vip {}", vip.address),
                ),
                None if vip.is_own => {
                    Found::failure(format!("{} answers {protocol} for {} as well", colons(*mac), vip.address), "")
                }
                // Another director has it.
                None => continue,
            });
        }
    }
    found
}

pub fn routes(facts: &Facts) -> Vec<Found> {
    by_address(facts, |server| {
        let address = server.address;
        match &server.way {
            Way::None(why) => Some(Found::failure(
                format!("there is no way to real server {address}: {why}"),
                format!("ip route add {address} …"),
            )),
            Way::Route { gateway: Some(gateway), .. } if server.forward == Forward::Route => Some(Found::failure(
                format!("real server {address} is reached by gateway {gateway}, and direct routing takes none"),
                "use -i (a tunnel) or --fullnat for it",
            )),
            _ => None,
        }
    })
}

/// Whom packets to a server go to first.
fn next_hop(server: &Server) -> IpAddr {
    match server.way {
        Way::Route { gateway: Some(gateway), .. } => gateway,
        _ => server.address,
    }
}

pub fn neighbours(facts: &Facts) -> Vec<Found> {
    by_address(facts, |server| {
        let (hop, answered) = (next_hop(server), server.answered.as_ref()?);
        let Way::Route { device, .. } = &server.way else { return None };
        match answered[..] {
            [] => Some(Found::failure(
                format!("{hop} does not answer on {device}; it is the next hop to real server {}", server.address),
                format!("ip neigh show {hop}, and look at the cable, the VLAN and the host"),
            )),
            [one] => {
                let other = server.remembered.filter(|other| *other != one)?;
                let what =
                    format!("{hop} is {} on the wire, and {} in the kernel's memory", colons(one), colons(other));
                Some(Found::warning(what, format!("ip neigh del {hop} dev {device}")))
            }
            [first, second, ..] => Some(Found::failure(
                format!("{} and {} both answer for {hop} on {device}", colons(first), colons(second)),
                "give one of them another address",
            )),
        }
    })
}

#[cfg(test)]
mod tests {
    use super::super::super::facts::Vip;
    use super::super::super::facts::tests::{server, with};
    use super::super::super::finding::Level;
    use super::*;

    fn way(gateway: Option<&str>) -> Way {
        Way::Route { device: "eth1".into(), gateway: gateway.map(|text| text.parse().unwrap()), mtu: 1500 }
    }

    fn vips(is_own: bool, others: Vec<([u8; 6], Option<IpAddr>)>) -> Facts {
        Facts { vips: vec![Vip { address: "10.10.10.10".parse().unwrap(), is_own, others }], ..Facts::default() }
    }

    #[test]
    fn a_virtual_address_is_the_hosts_own() {
        assert_eq!(vip(&vips(true, vec![])), []);
        let mut foreign = vips(false, vec![]);
        assert_eq!(vip(&foreign).len(), 1);
        foreign.sysctls.transit = 1;
        assert_eq!(vip(&foreign), []);
    }

    #[test]
    fn nobody_else_answers_for_it() {
        assert_eq!(arp(&vips(true, vec![])), []);
        assert_eq!(arp(&vips(false, vec![([2; 6], None)])), [], "the master of a pair");
        assert_eq!(arp(&vips(true, vec![([2; 6], None)])).len(), 1);
        let server = Some("192.168.122.101".parse().unwrap());
        let found = arp(&vips(false, vec![([2; 6], server)]));
        assert_eq!(found[0].mend.as_deref(), Some("on 192.168.122.101: lvsadm real-server --dr --vip 10.10.10.10"));
    }

    #[test]
    fn direct_routing_takes_no_gateway() {
        let of = |forward, way| routes(&with(Server { forward, way, ..server() })).len();
        assert_eq!(of(Forward::Route, way(None)), 0);
        assert_eq!(of(Forward::Route, way(Some("192.168.122.1"))), 1);
        assert_eq!(of(Forward::Tunnel, way(Some("192.168.122.1"))), 0);
        assert_eq!(of(Forward::Masq, Way::None("Network is unreachable".into())), 1);
        assert_eq!(of(Forward::Masq, Way::Own), 0);
    }

    #[test]
    fn a_next_hop_is_one_host_and_the_one_that_is_remembered() {
        let of = |answered: Option<&[[u8; 6]]>, remembered| {
            let answered = answered.map(<[_]>::to_vec);
            let found = neighbours(&with(Server { way: way(None), answered, remembered, ..server() }));
            found.first().map(|found| found.level)
        };
        assert_eq!(of(None, None), None);
        assert_eq!(of(Some(&[[2; 6]]), Some([2; 6])), None);
        assert_eq!(of(Some(&[[2; 6]]), Some([3; 6])), Some(Level::Warning));
        assert_eq!(of(Some(&[]), None), Some(Level::Failure));
        assert_eq!(of(Some(&[[2; 6], [3; 6]]), None), Some(Level::Failure));
    }
}
