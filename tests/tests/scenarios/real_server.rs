//! `lvsadm real-server` against tunnel packets made byte by byte: what is opened, what is left alone, what `--off` undoes.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use anyhow::Result;
use tests::fixtures::frame;
use tests::topology::{Client, Namespace, Offloads, PacketSocket, Server, connect};

const VIP: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 10, 10, 10));
const VIP6: IpAddr = IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0xa, 0, 0, 0, 0, 0x10));
const CLIENT: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 10, 10, 1));
const CLIENT6: IpAddr = IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0xa, 0, 0, 0, 0, 1));
const HOST: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 168, 122, 101));
const HOST6: IpAddr = IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0xb, 0, 0, 0, 0, 0x101));
const DIRECTOR: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 168, 122, 100));
const DIRECTOR6: IpAddr = IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0xb, 0, 0, 0, 0, 0x100));
const PORT: u16 = 7777;

/// Congestion experienced, and able to say so, in the IP header.
const CONGESTED: u8 = 3;
const CAPABLE: u8 = 2;

/// A real server with a UDP service on both virtual addresses, and the network it is on.
struct Bench {
    _servers: Vec<Server>,
    host: Namespace,
    network: Namespace,
    wire: PacketSocket,
    mac: [u8; 6],
}

impl Bench {
    /// `arguments` are those of `lvsadm real-server`.
    fn new(arguments: &str) -> Result<Self> {
        Self::with(arguments, Offloads::Off)
    }

    fn with(arguments: &str, offloads: Offloads) -> Result<Self> {
        let (host, network) = (Namespace::new("host")?, Namespace::new("network")?);
        connect((&host, "eth0"), (&network, "eth0"), offloads)?;
        host.ip(&[
            "link set eth0 address 02:00:00:00:00:01",
            "addr add 192.168.122.101/24 dev eth0",
            "addr add 2001:db8:b::101/64 dev eth0 nodad",
            "route add default via 192.168.122.100",
            "route add default via 2001:db8:b::100",
        ])?;
        network.ip(&["addr add 192.168.122.100/24 dev eth0", "addr add 2001:db8:b::100/64 dev eth0 nodad"])?;
        host.lvsadm(&format!("real-server {arguments}"))?;
        let configured = [VIP, VIP6].into_iter().filter(|vip| arguments.contains(&vip.to_string()));
        let servers = configured.map(|vip| Server::udp(&host, vip, PORT, "server")).collect::<Result<_>>()?;
        let wire = PacketSocket::open(&network, "eth0")?;
        Ok(Bench { _servers: servers, host, network, wire, mac: [2, 0, 0, 0, 0, 1] })
    }

    /// Sends a packet to the host.
    fn send(&self, packet: &[u8]) {
        let ether_type = ether_type(packet).to_be_bytes();
        let frame = [&self.mac[..], &[2, 0, 0, 0, 0, 2], &ether_type, packet].concat();
        self.wire.send(&frame).expect("cannot send");
    }

    /// Whether `from` answers after this packet.
    fn answers(&self, packet: &[u8], from: IpAddr) -> bool {
        self.send(packet);
        let is_answer = |frame: &[u8]| match from {
            IpAddr::V4(vip) => frame.len() > 42 && frame[26..30] == vip.octets() && frame[23] == 17,
            IpAddr::V6(vip) => frame.len() > 62 && frame[22..38] == vip.octets() && frame[20] == 17,
        };
        self.wire.receive(Duration::from_millis(700), is_answer).expect("cannot receive").is_some()
    }
}

fn octets(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(v4) => v4.octets().to_vec(),
        IpAddr::V6(v6) => v6.octets().to_vec(),
    }
}

fn sum(bytes: &[u8]) -> u16 {
    let words = bytes.chunks(2).map(|pair| u32::from(pair[0]) << 8 | u32::from(*pair.get(1).unwrap_or(&0)));
    let mut sum: u32 = words.sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    sum as u16
}

/// An IP packet of either family.
fn ip(source: IpAddr, destination: IpAddr, protocol: u8, ecn: u8, payload: &[u8]) -> Vec<u8> {
    let (source4, length) = (source.is_ipv4(), payload.len() as u16);
    let mut header = match source4 {
        true => [&[0x45, ecn][..], &(length + 20).to_be_bytes(), &[0, 1, 0x40, 0, 63, protocol, 0, 0]].concat(),
        false => [&[0x60, ecn << 4, 0, 0][..], &length.to_be_bytes(), &[protocol, 63]].concat(),
    };
    header.extend([octets(source), octets(destination)].concat());
    if source4 {
        let checksum = !sum(&header);
        header[10..12].copy_from_slice(&checksum.to_be_bytes());
    }
    [header, payload.to_vec()].concat()
}

/// How complete the checksum of a UDP datagram is.
#[derive(Clone, Copy, PartialEq)]
enum Checksum {
    Full,
    /// Only of the pseudo header, as remote checksum offload leaves it.
    Pseudo,
}

fn udp(source: IpAddr, destination: IpAddr, ports: (u16, u16), payload: &[u8], checksum: Checksum) -> Vec<u8> {
    let length = payload.len() as u16 + 8;
    let header = [ports.0.to_be_bytes(), ports.1.to_be_bytes(), length.to_be_bytes(), [0, 0]].concat();
    let mut datagram = [header, payload.to_vec()].concat();
    let pseudo = [octets(source), octets(destination), vec![0, 17], length.to_be_bytes().to_vec()].concat();
    let value = match checksum {
        Checksum::Full => !sum(&[pseudo, datagram.clone()].concat()),
        Checksum::Pseudo => sum(&pseudo),
    };
    datagram[6..8].copy_from_slice(&value.to_be_bytes());
    datagram
}

fn ether_type(packet: &[u8]) -> u16 {
    if packet[0] >> 4 == 4 { 0x0800 } else { 0x86dd }
}

/// A request from the client to the virtual address of its family.
fn request(v4: bool, ecn: u8, payload: &[u8], checksum: Checksum) -> Vec<u8> {
    let (client, vip) = if v4 { (CLIENT, VIP) } else { (CLIENT6, VIP6) };
    ip(client, vip, 17, ecn, &udp(client, vip, (5555, PORT), payload, checksum))
}

/// The protocol number and the payload of the outer packet for a tunnel of `kind`.
fn encapsulate(kind: &str, inner: &[u8], outer: (IpAddr, IpAddr)) -> (u8, Vec<u8>) {
    let family = if inner[0] >> 4 == 4 { 4 } else { 41 };
    let in_udp =
        |port, headers: &[u8]| (17, udp(outer.0, outer.1, (40000, port), &[headers, inner].concat(), Checksum::Full));
    let ether_type = ether_type(inner).to_be_bytes();
    match kind {
        "ipip" => (family, inner.to_vec()),
        "gre" => (47, [&[0, 0], &ether_type, inner].concat()),
        // With a checksum, which is not verified, as the inner one is.
        "gre-csum" => (47, [&[0x80, 0], &ether_type[..], &[0, 0, 0, 0], inner].concat()),
        "gue" => in_udp(6080, &[0, family, 0, 0]),
        // Private flags: remote checksum; sum from the UDP header on, into its checksum field.
        "gue-remcsum" => {
            let start = if family == 4 { 20 } else { 40 };
            in_udp(6080, &[2, family, 0, 1, 0x80, 0, 0, 0, 0, start, 0, start + 6])
        }
        "vxlan" => in_udp(4789, &[&[8, 0, 0, 0, 0, 0, 0, 0][..], &[2; 12], &ether_type].concat()),
        _ => panic!("no such tunnel: {kind}"),
    }
}

/// The complete outer packet.
fn tunnelled(kind: &str, outer4: bool, ecn: u8, inner: &[u8]) -> Vec<u8> {
    let outer = if outer4 { (DIRECTOR, HOST) } else { (DIRECTOR6, HOST6) };
    let (protocol, payload) = encapsulate(kind, inner, outer);
    ip(outer.0, outer.1, protocol, ecn, &payload)
}

fn vip(v4: bool) -> IpAddr {
    if v4 { VIP } else { VIP6 }
}

#[test]
fn every_tunnel_is_opened_in_every_mix_of_families() {
    let bench = Bench::new("--tun --vip 10.10.10.10 2001:db8:a::10 --tun-type ipip,gre,gue --tun-port 6080").unwrap();
    let vxlan = Bench::new("--tun --vip 10.10.10.10 2001:db8:a::10 --tun-type vxlan").unwrap();
    let mut failed = Vec::new();
    for kind in ["ipip", "gre", "gre-csum", "gue", "gue-remcsum", "vxlan"] {
        let bench = if kind == "vxlan" { &vxlan } else { &bench };
        let checksum = if kind == "gue-remcsum" { Checksum::Pseudo } else { Checksum::Full };
        for (outer4, inner4) in [(true, true), (true, false), (false, true), (false, false)] {
            // One too short to leave an IPv6 header's length, one that is odd, one of several chunks.
            for length in [1, 33, 1001] {
                let inner = request(inner4, 0, &vec![b'x'; length], checksum);
                let packet = tunnelled(kind, outer4, 0, &inner);
                if !bench.answers(&packet, vip(inner4)) {
                    failed.push(format!("{kind}, outer IPv4 {outer4}, inner IPv4 {inner4}, {length} bytes"));
                }
            }
        }
    }
    assert!(failed.is_empty(), "not answered: {failed:#?}");
}

/// A sender whose device segments and sums in hardware: tunnel packets are 64 KB long and their checksums unfinished.
#[test]
fn large_segments_with_unfinished_checksums_are_opened() {
    for offloads in [Offloads::On, Offloads::Off] {
        let bench = Bench::with("--tun --vip 10.10.10.10 --tun-type vxlan", offloads).unwrap();
        let tunnel = "type vxlan id 0 local 192.168.122.100 remote 192.168.122.101 dstport 4789 dev eth0";
        let commands = [
            &format!("link add tunnel {tunnel}"),
            "link set tunnel up",
            "addr add 10.10.10.1/24 dev tunnel",
            "neigh add 10.10.10.10 lladdr 02:00:00:00:00:03 dev tunnel",
        ];
        bench.network.ip(&commands).unwrap();
        let _http = Server::http(&bench.host, 80, "host").unwrap();
        let answer = Client(&bench.network).post(SocketAddr::new(VIP, 80), 5_000_000).unwrap();
        assert_eq!(answer, "host 10.10.10.1 5000000\n", "{offloads:?}");
    }
}

#[test]
fn what_is_not_for_it_is_left_alone() {
    let bench = Bench::new("--tun --vip 10.10.10.10 --tun-type gre").unwrap();
    let inner = request(true, 0, b"hello", Checksum::Full);
    let answers = |packet: Vec<u8>, from| bench.answers(&packet, from);
    assert!(answers(tunnelled("gre", true, 0, &inner), VIP));
    assert!(!answers(tunnelled("ipip", true, 0, &inner), VIP), "a type that is not configured");
    assert!(!answers(tunnelled("gre", true, 0, &request(false, 0, b"hello", Checksum::Full)), VIP6), "no VIP of its");
    let elsewhere = ip(
        DIRECTOR,
        IpAddr::V4(Ipv4Addr::new(192, 168, 122, 102)),
        47,
        0,
        &encapsulate("gre", &inner, (DIRECTOR, HOST)).1,
    );
    bench.host.sysctl(&["net/ipv4/ip_forward=1"]).unwrap();
    assert!(!answers(elsewhere, VIP), "another real server's packet, which this host forwards");
}

#[test]
fn congestion_is_passed_on_or_the_packet_dropped() {
    let bench = Bench::new("--tun --vip 10.10.10.10 2001:db8:a::10").unwrap();
    for v4 in [true, false] {
        let answers = |inner_ecn| {
            let packet = tunnelled("ipip", v4, CONGESTED, &request(v4, inner_ecn, b"hello", Checksum::Full));
            bench.answers(&packet, vip(v4))
        };
        assert!(answers(CAPABLE), "IPv4 {v4}: marked, with a header checksum that is right");
        assert!(!answers(0), "IPv4 {v4}: not able to carry a mark");
    }
}

#[test]
fn a_device_may_have_filters_of_others() {
    let bench = Bench::new("--dr --vip 10.10.10.10").unwrap();
    bench.host.run("tc qdisc add dev eth0 clsact").unwrap();
    bench.host.lvsadm("real-server --tun --vip 10.10.10.10").unwrap();
    let packet = tunnelled("ipip", true, 0, &request(true, 0, b"hello", Checksum::Full));
    assert!(bench.answers(&packet, VIP));
}

#[test]
fn off_undoes_exactly_what_was_set() {
    let bench = Bench::new("--tun --vip 10.10.10.10 2001:db8:a::10").unwrap();
    let host = &bench.host;
    let arp =
        || host.run("cat /proc/sys/net/ipv4/conf/all/arp_ignore /proc/sys/net/ipv4/conf/all/arp_announce").unwrap();
    assert_eq!(arp(), "1\n2\n");
    let network = &bench.network;
    network.ip(&["route add 10.10.10.10/32 dev eth0", "route add 10.10.10.11/32 dev eth0"]).unwrap();
    assert!(network.run("ping -c 1 -W 1 10.10.10.10").is_err(), "nobody answers ARP for a virtual address");

    // An address that was there before stays, though it is asked for meanwhile.
    host.ip(&["addr add 10.10.10.11/32 dev lo"]).unwrap();
    host.lvsadm("real-server --dr --vip 10.10.10.10 10.10.10.11").unwrap();
    let addresses = host.run("ip -brief addr show lo").unwrap();
    assert!(addresses.contains("10.10.10.10/32") && !addresses.contains("2001:db8:a::10"), "{addresses}");
    assert!(!host.run("tc qdisc show dev eth0").unwrap().contains("clsact"), "DR needs no program");

    host.lvsadm("real-server --off").unwrap();
    let addresses = host.run("ip -brief addr show lo").unwrap();
    assert!(!addresses.contains("10.10.10.10/32") && addresses.contains("10.10.10.11/32"), "{addresses}");
    assert_eq!(arp(), "0\n0\n");
    network.run("ping -c 1 -W 2 10.10.10.11").unwrap();
    assert_eq!(host.lvsadm("real-server --status").unwrap().trim(), "nothing is set up");
}

/// The path between director and real server may cut them.
#[test]
fn tunnel_packets_in_fragments_are_opened() {
    let bench = Bench::new("--tun --vip 10.10.10.10 2001:db8:a::10 --tun-type ipip,gre,gue --tun-port 6080").unwrap();
    let vxlan = Bench::new("--tun --vip 10.10.10.10 2001:db8:a::10 --tun-type vxlan").unwrap();
    let (mut failed, mut id) = (Vec::new(), 0);
    for kind in ["ipip", "gre-csum", "gue", "gue-remcsum", "vxlan"] {
        let bench = if kind == "vxlan" { &vxlan } else { &bench };
        let checksum = if kind == "gue-remcsum" { Checksum::Pseudo } else { Checksum::Full };
        for (outer4, inner4) in [(true, true), (true, false), (false, true), (false, false)] {
            let inner = request(inner4, 0, &vec![b'x'; 4000], checksum);
            let packet = tunnelled(kind, outer4, 0, &inner);
            for backwards in [false, true] {
                id += 1;
                let mut fragments = frame::fragments(&packet, id, 1400);
                if backwards {
                    fragments.reverse();
                }
                let (last, others) = fragments.split_last().unwrap();
                others.iter().for_each(|fragment| bench.send(fragment));
                if !bench.answers(last, vip(inner4)) {
                    failed.push(format!("{kind}, outer IPv4 {outer4}, inner IPv4 {inner4}, backwards {backwards}"));
                }
            }
        }
    }
    assert!(failed.is_empty(), "not answered: {failed:#?}");
}

#[test]
fn fragments_of_other_packets_are_left_alone() {
    let bench = Bench::new("--tun --vip 10.10.10.10 2001:db8:a::10 --tun-type gue --tun-port 6080").unwrap();
    for (host, director) in [(HOST, DIRECTOR), (HOST6, DIRECTOR6)] {
        let _own = Server::udp(&bench.host, host, PORT, "host").unwrap();
        let packet = ip(director, host, 17, 0, &udp(director, host, (5555, PORT), &[b'x'; 20_000], Checksum::Full));
        for (id, backwards) in [(1, false), (2, true)] {
            let mut fragments = frame::fragments(&packet, id, 1400);
            if backwards {
                fragments.reverse();
            }
            let (last, others) = fragments.split_last().unwrap();
            others.iter().for_each(|fragment| bench.send(fragment));
            assert!(bench.answers(last, host), "{host}, backwards {backwards}");
        }
    }
}
