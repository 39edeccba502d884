//! The director as a client of its own services, and as a real server of them.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};

use anyhow::{Context, Result, ensure};
use tests::topology::{Client, Cluster, Layout, Offloads, Server, VIP, VIP6};

/// How packets are carried, and what devices do for their hosts.
const TIERS: [(&str, Offloads); 3] = [("native", Offloads::Off), ("tc", Offloads::Off), ("tc", Offloads::On)];
/// Bytes of a transfer that takes many packets.
const LONG: usize = 300_000;

/// A director that forwards, between a client and two real servers.
fn cluster() -> Result<Cluster> {
    let cluster = Cluster::new(Layout { servers: 2, ..Layout::default() })?;
    cluster.director.sysctl(&["net/ipv4/ip_forward=1", "net/ipv6/conf/all/forwarding=1"])?;
    Ok(cluster)
}

/// Checks with every tier in turn.
fn each_tier(cluster: &Cluster, check: impl Fn() -> Result<()>) -> Result<()> {
    TIERS.iter().try_for_each(|(tier, offloads)| {
        cluster.set_offloads(*offloads)?;
        cluster.director.lvsadm(&format!("attach --mode {tier}"))?;
        check().with_context(|| format!("{tier}, offloads {offloads:?}"))
    })
}

/// Short and long transfers and datagrams from `client`, which servers know as `address`.
fn is_served(client: Client<'_>, address: IpAddr, web: SocketAddr, names: &str) -> Result<()> {
    let names: Vec<&str> = names.split(' ').collect();
    let spread = client.spread(web, 2 * names.len())?;
    let even: BTreeMap<String, usize> = names.iter().map(|name| ((*name).to_owned(), 2)).collect();
    ensure!(spread == even, "not evenly spread: {spread:?}");
    let long = client.get(web, &format!("/bytes/{LONG}")).context("a long answer")?;
    ensure!(long.len() == LONG, "{} of {LONG} bytes came", long.len());
    let answer = client.post(web, LONG).context("a long request")?;
    ensure!(answer.trim_end().ends_with(&format!(" {address} {LONG}")), "a wrong answer: {answer}");
    for length in [1, 1200] {
        let answer = client.datagram(SocketAddr::new(web.ip(), 53), length)?;
        ensure!(answer == format!("dns {address} {length}\n"), "a wrong answer: {answer}");
    }
    Ok(())
}

#[test]
fn the_director_is_a_client() {
    let cluster = cluster().unwrap();
    let mut servers = Vec::new();
    for vip in [VIP, VIP6] {
        for (kind, port) in [("-t", 80), ("-u", 53)] {
            let service = SocketAddr::new(vip, port);
            cluster.director.lvsadm(&format!("-A {kind} {service} -s rr")).unwrap();
            for number in 1..=2 {
                let (v4, v6) = cluster.server_addresses(number);
                let server = SocketAddr::new(if vip.is_ipv4() { v4 } else { v6 }, port);
                cluster.director.lvsadm(&format!("-a {kind} {service} -r {server} -m")).unwrap();
                if port == 53 {
                    servers.push(Server::udp(&cluster.servers[number - 1], server.ip(), port, "dns").unwrap());
                }
            }
        }
    }
    // It talks to its own address, so that is what it comes from; and it serves others as before.
    each_tier(&cluster, || {
        for (vip, client) in [(VIP, tests::topology::CLIENT), (VIP6, tests::topology::CLIENT6)] {
            let web = SocketAddr::new(vip, 80);
            is_served(Client(&cluster.director), vip, web, "rs1 rs2").with_context(|| format!("director, {vip}"))?;
            is_served(cluster.client(), client, web, "rs1 rs2").with_context(|| format!("client, {vip}"))?;
        }
        Ok(())
    })
    .unwrap();
}

/// A service whose real server is the director, on another port of its address in the servers' network, beside a real
/// server that is another host.
#[test]
fn the_director_is_a_real_server() {
    let cluster = cluster().unwrap();
    let mut servers = vec![Server::http(&cluster.director, 8080, "director").unwrap()];
    servers.push(Server::http(&cluster.servers[0], 8080, "rs1").unwrap());
    for (vip, local) in [(VIP, "192.168.122.100"), (VIP6, "2001:db8:b::100")] {
        let local: IpAddr = local.parse().unwrap();
        let (v4, v6) = cluster.server_addresses(1);
        let remote = if vip.is_ipv4() { v4 } else { v6 };
        servers.push(Server::udp(&cluster.director, local, 5353, "dns").unwrap());
        servers.push(Server::udp(&cluster.servers[0], remote, 5353, "dns").unwrap());
        for (kind, port, real_port) in [("-t", 80, 8080), ("-u", 53, 5353)] {
            let service = SocketAddr::new(vip, port);
            cluster.director.lvsadm(&format!("-A {kind} {service} -s rr")).unwrap();
            for address in [local, remote] {
                let server = SocketAddr::new(address, real_port);
                cluster.director.lvsadm(&format!("-a {kind} {service} -r {server} -m")).unwrap();
            }
        }
    }
    each_tier(&cluster, || {
        for (vip, client) in [(VIP, tests::topology::CLIENT), (VIP6, tests::topology::CLIENT6)] {
            let web = SocketAddr::new(vip, 80);
            is_served(cluster.client(), client, web, "director rs1").with_context(|| format!("client, {vip}"))?;
            is_served(Client(&cluster.director), vip, web, "director rs1")
                .with_context(|| format!("director, {vip}"))?;
        }
        Ok(())
    })
    .unwrap();
}
