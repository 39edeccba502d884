//! HTTP and UDP through a director: every mode, in both families, by each tier, with and without offloads.

use std::net::SocketAddr;
use std::time::Duration;

use tests::balanced::{
    Balanced, DR, FULLNAT, FULLNAT_TOA, GRE, GRE_CSUM, GUE, GUE_CSUM, GUE_REMCSUM, IPIP, NAT, SERVERS, TIERS, VXLAN,
    check,
};
use tests::topology::{Arms, PacketSocket, Site, VIP};

/// One test for each mode, so that each has its name in the results.
macro_rules! modes {
    ($($name:ident: $mode:expr),* $(,)?) => { $(#[test] fn $name() { check($mode, Arms::Two, &TIERS, false).unwrap(); })* };
}

modes! {
    nat: NAT,
    fullnat: FULLNAT,
    fullnat_with_toa: FULLNAT_TOA,
    direct_routing: DR,
    tunnel_ipip: IPIP,
    tunnel_gue: GUE,
    tunnel_gue_with_checksum: GUE_CSUM,
    tunnel_gue_with_remote_checksum: GUE_REMCSUM,
    tunnel_gre: GRE,
    tunnel_gre_with_checksum: GRE_CSUM,
    tunnel_vxlan: VXLAN,
}

#[test]
fn tunnels_carry_the_other_family() {
    for (name, mode) in [("ipip", IPIP), ("gue", GUE), ("gre", GRE), ("vxlan", VXLAN)] {
        check(mode, Arms::Two, &TIERS, true).unwrap_or_else(|error| panic!("{name}: {error:#}"));
    }
}

#[test]
fn one_armed() {
    for (name, mode) in [("nat", NAT), ("dr", DR), ("ipip", IPIP), ("fullnat", FULLNAT)] {
        check(mode, Arms::One, &[TIERS[0], TIERS[3]], false).unwrap_or_else(|error| panic!("{name}: {error:#}"));
    }
}

/// A mode is defined by what a real server gets to see: the frame of the first request.
#[test]
fn frames_at_the_real_server() {
    let cases = [("nat", NAT, "192.168.122.101"), ("dr", DR, "10.10.10.10"), ("ipip", IPIP, "192.168.123.101")];
    for (name, mode, destination) in cases {
        let balanced = Balanced::new(mode, Arms::Two, false).unwrap();
        let destination: std::net::Ipv4Addr = destination.parse().unwrap();
        for tier in TIERS {
            balanced.carry_by(tier).unwrap();
            let server = &balanced.cluster.servers[0];
            let wire = PacketSocket::open(server, "eth0").unwrap();
            balanced.cluster.client().spread(SocketAddr::new(VIP, 80), SERVERS).unwrap();
            let is_request = |frame: &[u8]| {
                frame.len() >= 34 && frame[12..14] == [8, 0] && frame[30..34] == destination.octets() && frame[23] != 1
            };
            let frame = wire.receive(Duration::from_secs(2), is_request).unwrap();
            let frame = frame.unwrap_or_else(|| panic!("{name} {tier:?}: no packet for {destination}"));
            let source: &[u8] = if mode.site == Site::Remote { &[192, 168, 122, 100] } else { &[10, 10, 10, 1] };
            assert_eq!(&frame[26..30], source, "{name} {tier:?}: source address");
            // The client's hop limit less one for the director; the router's is off the tunnel packet.
            assert_eq!(frame[if mode.site == Site::Remote { 42 } else { 22 }], 63, "{name} {tier:?}: TTL");
        }
    }
}
