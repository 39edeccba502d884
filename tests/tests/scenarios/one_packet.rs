//! One-packet scheduling with NAT: each datagram is scheduled for itself, and its answer comes from the virtual address.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use tests::topology::{CLIENT, CLIENT6, Cluster, Layout, Offloads, Server, VIP, VIP6};

const PORT: u16 = 53;
const PATIENCE: Duration = Duration::from_secs(5);
/// How packets are carried, and what devices do for their hosts.
const TIERS: [(&str, Offloads); 2] = [("native", Offloads::Off), ("tc", Offloads::On)];

/// A director with a one-packet service for each family and three real servers.
fn bench() -> Result<(Cluster, Vec<Server>)> {
    let cluster = Cluster::new(Layout::default())?;
    cluster.director.sysctl(&["net/ipv4/ip_forward=1", "net/ipv6/conf/all/forwarding=1"])?;
    let mut servers = Vec::new();
    for vip in [VIP, VIP6] {
        let service = SocketAddr::new(vip, PORT);
        cluster.director.lvsadm(&format!("-A -u {service} -s rr -o"))?;
        for number in 1..=3 {
            let (v4, v6) = cluster.server_addresses(number);
            let real = if vip.is_ipv4() { v4 } else { v6 };
            cluster.director.lvsadm(&format!("-a -u {service} -r {} -m", SocketAddr::new(real, PORT)))?;
            servers.push(Server::udp(&cluster.servers[number - 1], real, PORT, &format!("rs{number}"))?);
        }
    }
    Ok((cluster, servers))
}

fn socket(cluster: &Cluster, client: IpAddr) -> Result<UdpSocket> {
    let socket = cluster.client.enter(|| Ok(UdpSocket::bind((client, 0))?))?;
    socket.set_read_timeout(Some(PATIENCE))?;
    Ok(socket)
}

/// Who answers a datagram, and from which address.
fn ask(socket: &UdpSocket, to: SocketAddr) -> Result<(String, SocketAddr)> {
    socket.send_to(&tests::text(100), to)?;
    let mut buffer = [0; 200];
    let (length, from) = tests::uninterrupted(|| socket.recv_from(&mut buffer))?;
    let answer = String::from_utf8_lossy(&buffer[..length]).into_owned();
    Ok((answer.split(' ').next().unwrap_or_default().to_owned(), from))
}

#[test]
fn answers_of_one_packet_scheduling_come_from_the_virtual_address() {
    let (cluster, _servers) = bench().unwrap();
    let director = &cluster.director;
    for (tier, offloads) in TIERS {
        cluster.set_offloads(offloads).unwrap();
        director.lvsadm(&format!("attach --mode {tier}")).unwrap();
        for (vip, client) in [(VIP, CLIENT), (VIP6, CLIENT6)] {
            let service = SocketAddr::new(vip, PORT);
            // One socket: its datagrams differ in nothing but the real server that they go to.
            let socket = socket(&cluster, client).unwrap();
            let mut who = BTreeSet::new();
            for number in 0..9 {
                let (name, from) =
                    ask(&socket, service).with_context(|| format!("{tier}, {vip}, datagram {number}")).unwrap();
                assert_eq!(from, service, "{tier}, datagram {number} was answered by {name}");
                who.insert(name);
            }
            assert_eq!(who.len(), 3, "{tier}, {vip}: only {who:?} answered");
        }
    }
    // Neither listings nor counters know of it, as with IPVS.
    assert_eq!(director.connections().unwrap(), Vec::<serde_json::Value>::new());
    for vip in [VIP, VIP6] {
        let service = format!("-u {}", SocketAddr::new(vip, PORT));
        for counts in director.destinations(&service).unwrap().into_values() {
            assert_eq!((counts.active, counts.inactive), (0, 0));
        }
    }
    let listed = director.json("-L --stats --json").unwrap();
    for service in listed.as_array().unwrap() {
        let counted = |name: &str| service["statistics"][name].as_u64();
        let named = ["connections", "in_packets", "out_packets"].map(counted);
        assert_eq!(named, [Some(18), Some(18), Some(0)], "{service}");
    }
}

#[test]
fn an_answer_comes_from_the_address_that_was_asked_last() {
    let (cluster, _servers) = bench().unwrap();
    let director = &cluster.director;
    let other = SocketAddr::new("10.10.10.20".parse().unwrap(), PORT);
    director.ip(&["addr add 10.10.10.20/32 dev lo"]).unwrap();
    cluster.client.ip(&["route add 10.10.10.20/32 via 10.10.10.10"]).unwrap();
    director.lvsadm(&format!("-A -u {other} -s rr -o")).unwrap();
    for number in 1..=3 {
        let real = SocketAddr::new(cluster.server_addresses(number).0, PORT);
        director.lvsadm(&format!("-a -u {other} -r {real} -m")).unwrap();
    }
    let socket = socket(&cluster, CLIENT).unwrap();
    for service in [SocketAddr::new(VIP, PORT), other].repeat(6) {
        assert_eq!(ask(&socket, service).unwrap().1, service);
    }
}

#[test]
fn answers_keep_the_real_servers_address_where_that_is_set() {
    let (cluster, _servers) = bench().unwrap();
    cluster.director.lvsadm("sysctl one_packet_nat=0").unwrap();
    let check = |vip: IpAddr, client: IpAddr| -> Result<()> {
        let socket = socket(&cluster, client)?;
        for _ in 0..3 {
            let (name, from) = ask(&socket, SocketAddr::new(vip, PORT))?;
            let number = name.trim_start_matches("rs").parse()?;
            let (v4, v6) = cluster.server_addresses(number);
            ensure!(from == SocketAddr::new(if vip.is_ipv4() { v4 } else { v6 }, PORT), "{name} answers from {from}");
        }
        Ok(())
    };
    check(VIP, CLIENT).unwrap();
    check(VIP6, CLIENT6).unwrap();
}
