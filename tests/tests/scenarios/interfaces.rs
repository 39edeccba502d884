//! A director of five network devices: clients behind two of them, servers behind the others, one of which answers by
//! another way than it is asked.
//!
//! ```text
//!   client1 10.1.0.1 ── 10.1.0.254 eth0 ┐          ┌ eth2 10.3.0.254 ── 10.3.0.1 rs1
//!                                       │ director │ eth3 10.4.0.254 ── 10.4.0.1 rs2, for requests
//!   client2 10.2.0.1 ── 10.2.0.254 eth1 ┘          └ eth4 10.5.0.254 ── 10.5.0.1 rs2, for answers
//! ```
//!
//! IPv6 is alike: 2001:db8:1::1 and so on. The virtual addresses are on `lo`.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use anyhow::{Context, Result, ensure};
use tests::topology::{Client, Namespace, Offloads, Server, connect, set_offloads};

const VIPS: [IpAddr; 2] =
    [IpAddr::V4(Ipv4Addr::new(192, 0, 2, 10)), IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0xf, 0, 0, 0, 0, 0x10))];
/// Bytes of a transfer that takes many packets.
const LONG: usize = 300_000;

struct Star {
    _servers: Vec<Server>,
    director: Namespace,
    clients: [Namespace; 2],
    real_servers: [Namespace; 2],
}

/// Address of the host in network `number`, or of the director there.
fn address(number: u16, director: bool, vip: IpAddr) -> IpAddr {
    let host = if director { 254 } else { 1 };
    match vip {
        IpAddr::V4(_) => Ipv4Addr::new(10, number as u8, 0, host).into(),
        IpAddr::V6(_) => Ipv6Addr::new(0x2001, 0xdb8, number, 0, 0, 0, 0, host.into()).into(),
    }
}

impl Star {
    fn new() -> Result<Self> {
        let new = |labels: [&str; 2]| -> Result<[Namespace; 2]> {
            Ok([Namespace::new(labels[0])?, Namespace::new(labels[1])?])
        };
        let (clients, real_servers) = (new(["client1", "client2"])?, new(["rs1", "rs2"])?);
        let director = Namespace::new("director")?;
        director.sysctl(&["net/ipv4/ip_forward=1", "net/ipv6/conf/all/forwarding=1"])?;
        // Answers come from where no route leads to, and by whom no request went.
        for host in [&director, &real_servers[1]] {
            host.sysctl(&["net/ipv4/conf/all/rp_filter=0", "net/ipv4/conf/default/rp_filter=0"])?;
        }
        director.ip(&["addr add 192.0.2.10/32 dev lo", "addr add 2001:db8:f::10/128 dev lo nodad"])?;
        let ends = [
            (&clients[0], "eth0"),
            (&clients[1], "eth0"),
            (&real_servers[0], "eth0"),
            (&real_servers[1], "eth0"),
            (&real_servers[1], "eth1"),
        ];
        for (number, (host, device)) in ends.into_iter().enumerate() {
            let inside = format!("eth{number}");
            connect((&director, &inside), (host, device), Offloads::On)?;
            for vip in VIPS {
                let length = if vip.is_ipv4() { "24" } else { "64 nodad" };
                let (own, other) = (address(number as u16 + 1, true, vip), address(number as u16 + 1, false, vip));
                let with = |address: IpAddr, device: &str| {
                    let (length, flags) = length.split_once(' ').unwrap_or((length, ""));
                    format!("addr add {address}/{length} dev {device} {flags}")
                };
                director.ip(&[with(own, &inside)])?;
                // The last way that is told is the one that is taken.
                host.ip(&[with(other, device), format!("route replace default via {own}")])?;
            }
        }
        let mut servers = Vec::new();
        for (host, name, number) in [(&real_servers[0], "rs1", 3), (&real_servers[1], "rs2", 4)] {
            servers.push(Server::http(host, 80, name)?);
            for vip in VIPS {
                servers.push(Server::udp(host, address(number, false, vip), 53, name)?);
            }
        }
        for vip in VIPS {
            for (kind, port) in [("-t", 80), ("-u", 53)] {
                let service = SocketAddr::new(vip, port);
                director.lvsadm(&format!("-A {kind} {service} -s rr"))?;
                for number in [3, 4] {
                    let server = SocketAddr::new(address(number, false, vip), port);
                    director.lvsadm(&format!("-a {kind} {service} -r {server} -m"))?;
                }
            }
        }
        Ok(Star { _servers: servers, director, clients, real_servers })
    }

    fn set_offloads(&self, offloads: Offloads) -> Result<()> {
        for host in self.clients.iter().chain(&self.real_servers).chain([&self.director]) {
            host.cables()?.iter().try_for_each(|device| set_offloads(host, device, offloads))?;
        }
        Ok(())
    }

    /// Bytes that a device of the director has received.
    fn received(&self, device: &str) -> Result<usize> {
        Ok(self.director.run(&format!("cat /sys/class/net/{device}/statistics/rx_bytes"))?.trim().parse()?)
    }

    /// Both clients are served by both servers.
    fn serves(&self, vip: IpAddr) -> Result<()> {
        for (number, client) in self.clients.iter().enumerate() {
            let (client, own) = (Client(client), address(number as u16 + 1, false, vip));
            let web = SocketAddr::new(vip, 80);
            let spread = client.spread(web, 4)?;
            ensure!(spread == BTreeMap::from(["rs1", "rs2"].map(|name| (name.to_owned(), 2))), "{spread:?}");
            // One of each server.
            for _ in 0..2 {
                let long = client.get(web, &format!("/bytes/{LONG}")).context("a long answer")?;
                ensure!(long.len() == LONG, "{} of {LONG} bytes came", long.len());
            }
            for _ in 0..2 {
                let answer = client.post(web, LONG).context("a long request")?;
                ensure!(answer.trim_end().ends_with(&format!(" {own} {LONG}")), "a wrong answer: {answer}");
            }
            for length in [1, 1200] {
                let answer = client.datagram(SocketAddr::new(vip, 53), length)?;
                ensure!(answer.ends_with(&format!(" {own} {length}\n")), "a wrong answer: {answer}");
            }
        }
        Ok(())
    }
}

#[test]
fn answers_come_in_by_another_device_than_requests_leave_by() {
    let star = Star::new().unwrap();
    for (tier, offloads) in [("native", Offloads::Off), ("tc", Offloads::Off), ("tc", Offloads::On)] {
        star.set_offloads(offloads).unwrap();
        star.director.lvsadm(&format!("attach --mode {tier}")).unwrap();
        for vip in VIPS {
            let before = ["eth3", "eth4"].map(|device| star.received(device).unwrap());
            star.serves(vip).unwrap_or_else(|error| panic!("{tier}, offloads {offloads:?}, {vip}: {error:#}"));
            let after = ["eth3", "eth4"].map(|device| star.received(device).unwrap());
            // Of rs2's answers, all the long ones came by the second device and none by the first.
            assert!(after[1] - before[1] > 2 * LONG, "{tier}, {vip}: {before:?} {after:?}");
            assert!(after[0] - before[0] < LONG / 10, "{tier}, {vip}: {before:?} {after:?}");
        }
    }
}
