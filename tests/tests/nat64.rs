//! FullNAT between families: clients of IPv6 and real servers of IPv4, and the other way round.

use std::net::{IpAddr, SocketAddr};

use anyhow::{Context, Result, ensure};
use serde_json::json;
use tests::balanced::{Balanced, FULLNAT, FULLNAT_TOA, TIERS, check};
use tests::eventually;
use tests::topology::{Arms, Datagrams, Origin, Session, VIP, VIP6};

#[test]
fn both_ways() {
    check(FULLNAT, Arms::Two, &TIERS, true).unwrap();
}

/// A real server's sockets for both families tell the client of the other one.
#[test]
fn real_servers_are_told() {
    check(FULLNAT_TOA, Arms::Two, &TIERS, true).unwrap();
}

#[test]
fn one_armed() {
    check(FULLNAT, Arms::One, &[TIERS[0], TIERS[3]], true).unwrap();
}

/// The local address that real servers of the other family than `vip` know.
fn local(vip: IpAddr) -> &'static str {
    if vip.is_ipv4() { "2001:db8:b::100" } else { "192.168.122.100" }
}

/// How many connections local addresses have, IPv4's and IPv6's.
fn in_use(balanced: &Balanced) -> Result<Vec<u64>> {
    let pools = balanced.cluster.director.json("--get-laddr --json")?;
    let addresses = pools[0]["addresses"].as_array().context("no pool")?;
    addresses.iter().map(|address| address["connections"].as_u64().context("no number")).collect()
}

/// A connection is listed with what it is between, and what it held is free once it is over.
#[test]
fn connections_are_listed_and_end() {
    let balanced = Balanced::new(FULLNAT, Arms::Two, true).unwrap();
    balanced.carry_by(TIERS[0]).unwrap();
    let director = &balanced.cluster.director;
    for vip in [VIP, VIP6] {
        let service = SocketAddr::new(vip, 80);
        let mut sessions: Vec<Session> = (0..2)
            .map(|_| Session::open(&balanced.cluster.client, service, Origin::default()).expect("a connection"))
            .collect();
        for session in &mut sessions {
            session.ask().unwrap();
        }
        let listed = director.connections().unwrap();
        assert_eq!(listed.len(), 2, "{listed:?}");
        for (connection, session) in listed.iter().zip(&sessions) {
            assert_eq!(connection["virtual"]["address"], json!(vip), "{connection}");
            assert_eq!(connection["local"]["address"], json!(local(vip)), "{connection}");
            let real: IpAddr = serde_json::from_value(connection["destination"]["address"].clone()).unwrap();
            assert_ne!(real.is_ipv4(), vip.is_ipv4(), "{connection}");
            let _ = session.port().unwrap();
        }
        assert_eq!(in_use(&balanced).unwrap(), if vip.is_ipv4() { [0, 2] } else { [2, 0] });
        // A real server that is taken out keeps its connections until they are ended.
        let (v4, v6) = balanced.cluster.server_addresses(1);
        let server = SocketAddr::new(if vip.is_ipv4() { v6 } else { v4 }, 80);
        director.lvsadm(&format!("drain -t {service} -r {server} --timeout 0 --reset")).unwrap();
        let rest = director.connections().unwrap();
        assert_eq!(rest.len(), 1, "{rest:?}");
        // Idle ones expire.
        director.lvsadm(&format!("-E -t {service} -s rr --conn-timeout 1:1:1")).unwrap();
        for session in &mut sessions {
            let _ = session.ask();
        }
        eventually("they expire", || director.connections().unwrap().is_empty());
        assert_eq!(in_use(&balanced).unwrap(), [0, 0]);
    }
}
