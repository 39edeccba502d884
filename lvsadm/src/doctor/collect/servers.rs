//! Virtual addresses and real servers, and what they answer.

use std::collections::{BTreeSet, HashMap};
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use lvs_common::abi::Forward;
use lvs_director::rules::{Family, ServiceEntry, ServiceKey};

use super::super::facts::{Answer, Facts, Server, Vip, Way};
use super::super::wire::{Kind, Path, Probe, Question, Tunnelled, ask as ask_hosts, who_has};
use crate::network::Network;

/// Clients that do not exist: the dummy address of RFC 7600, and one of the prefix that routers discard (RFC 6666).
const NOBODY: (Ipv4Addr, Ipv6Addr) = (Ipv4Addr::new(192, 0, 0, 8), Ipv6Addr::new(0x100, 0, 0, 0, 0, 0, 0, 8));

/// Sizes of packets that are tried on the way through a tunnel, beside the largest one.
const SIZES: [u32; 20] = [
    9000, 8000, 4000, 2000, 1500, 1492, 1480, 1472, 1460, 1450, 1440, 1420, 1400, 1380, 1350, 1320, 1280, 1240, 1000,
    576,
];

/// Virtual addresses and real servers of services, before anybody is asked.
pub fn servers(
    services: &[ServiceEntry],
    waiting: &HashMap<(IpAddr, u16), (u32, u32)>,
    network: &Network,
) -> (Vec<Vip>, Vec<Server>) {
    let addresses: BTreeSet<IpAddr> = services.iter().filter_map(|entry| vip(&entry.service.key)).collect();
    let vip = |address| Vip { address, is_own: network.is_own(address), others: Vec::new() };
    let mut servers = Vec::new();
    for entry in services {
        for dest in &entry.destinations {
            let server = Server::new(entry.service.key, &dest.destination);
            servers.push(Server {
                way: network.route(server.address).way,
                packets: (dest.statistics.in_packets, dest.statistics.out_packets),
                waiting: waiting.get(&(server.address, server.port)).copied().unwrap_or_default(),
                ..server
            });
        }
    }
    (addresses.into_iter().map(vip).collect(), servers)
}

/// The virtual address of a service.
fn vip(key: &ServiceKey) -> Option<IpAddr> {
    match *key {
        ServiceKey::Address { address, .. } => Some(address),
        ServiceKey::Fwmark { .. } => None,
    }
}

/// Asks neighbours who has which address, and then real servers whether they answer.
pub fn ask(facts: &mut Facts, network: &Network) -> io::Result<()> {
    let hops = ask_neighbours(facts, network)?;
    let vips: Vec<IpAddr> = facts.vips.iter().map(|vip| vip.address).collect();
    let own: Vec<IpAddr> = facts.vips.iter().filter(|vip| vip.is_own).map(|vip| vip.address).collect();
    for (server, (device, _)) in facts.servers.iter_mut().zip(&hops) {
        server.source = network.address(*device, Family::of(server.address), &vips);
    }
    let mut asked = Asked::default();
    for (at, server) in facts.servers.iter().enumerate() {
        asked.add(at, server, hops[at], network, &vips, &own);
    }
    asked.ask(&mut facts.servers)?;
    let mut sizes = Asked::default();
    for (at, server) in facts.servers.iter().enumerate() {
        sizes.add_sizes(at, server, hops[at], network, &vips);
    }
    sizes.ask(&mut facts.servers)
}

/// A next hop: its device and, if it answered, its MAC address.
type Hop = (u32, Option<[u8; 6]>);

/// Asks for the next hops to real servers, which are the answer, and who else has virtual addresses.
fn ask_neighbours(facts: &mut Facts, network: &Network) -> io::Result<Vec<Hop>> {
    let mac = |device| network.devices.get(&device).map(|(_, mac)| *mac).filter(|mac| *mac != [0; 6]);
    let question = |device, target: IpAddr, from| Some(Question { device, mac: mac(device)?, from, target });
    let hop = |server: &Server| {
        let Way::Route { gateway, .. } = server.way else { return None };
        let (device, target) = (network.route(server.address).device, gateway.unwrap_or(server.address));
        question(device, target, network.address(device, Family::of(target), &[]))
    };
    let hops: Vec<Option<Question>> = facts.servers.iter().map(hop).collect();
    let served = || facts.devices.iter().filter(|device| device.up && device.attached.is_some());
    let vips: Vec<(usize, Question)> = (0..facts.vips.len())
        .flat_map(|at| served().map(move |device| (at, device.index)))
        .filter_map(|(at, device)| Some((at, question(device, facts.vips[at].address, network.link_address(device))?)))
        .collect();
    let unique: std::collections::HashSet<Question> =
        hops.iter().flatten().copied().chain(vips.iter().map(|(_, question)| *question)).collect();
    let owners = who_has(&unique.into_iter().collect::<Vec<_>>())?;
    let of = |question: &Question| owners.get(&(question.device, question.target)).cloned().unwrap_or_default();
    let mut found = Vec::new();
    for (server, question) in facts.servers.iter_mut().zip(&hops) {
        let answered = question.as_ref().map(of);
        found.push((
            question.map_or(0, |question| question.device),
            answered.as_ref().and_then(|macs| macs.first().copied()),
        ));
        server.remembered = question.and_then(|it| network.remembered.get(&(it.device, it.target)).copied());
        server.answered = answered;
    }
    for (at, question) in &vips {
        let whose = |mac: &[u8; 6]| {
            let answers = |server: &&Server| {
                matches!(server.way, Way::Route { gateway: None, .. })
                    && server.answered.as_ref().is_some_and(|all| all.contains(mac))
            };
            facts.servers.iter().find(answers).map(|server| server.address)
        };
        let is_own = |mac: &[u8; 6]| network.devices.values().any(|(_, own)| own == mac);
        let others =
            of(question).into_iter().filter(|mac| !is_own(mac)).map(|mac| (mac, whose(&mac))).collect::<Vec<_>>();
        facts.vips[*at].others.extend(others);
    }
    Ok(found)
}

/// What a question is about.
#[derive(Clone, Copy)]
enum About {
    /// The server's own address.
    Own,
    /// The virtual address, by the tunnel if there is one.
    Vip,
    /// The virtual address without the tunnel.
    Bare,
    /// The way of answers to clients.
    Back,
    /// A packet of this size, with the outer headers.
    Size(u32),
}

/// Questions, each with the number of its server.
#[derive(Default)]
struct Asked {
    probes: Vec<Probe>,
    about: Vec<(usize, About)>,
}

impl Asked {
    fn push(&mut self, server: usize, about: About, probe: Probe) {
        self.probes.push(probe);
        self.about.push((server, about));
    }

    /// A ping and, if there is a port to ask, a request for a connection.
    fn both(&mut self, server: usize, about: About, probe: Probe, port: Option<u16>) {
        self.push(server, about, probe);
        if let Some(port) = port {
            self.push(server, about, Probe { kind: Kind::Syn(port), ..probe });
        }
    }

    /// The questions to a real server.
    fn add(&mut self, at: usize, server: &Server, hop: Hop, network: &Network, vips: &[IpAddr], own: &[IpAddr]) {
        if !matches!(server.way, Way::Route { .. }) {
            return;
        }
        let (device, mac) = hop;
        let family = Family::of(server.address);
        let Some(from) = network.address(device, family, vips) else { return };
        let port = Some(server.port).filter(|port| server.is_tcp() && *port != 0);
        let rewrites = matches!(server.forward, Forward::Masq | Forward::FullNat);
        let probe = Probe { from, to: server.address, kind: Kind::Echo, path: Path::Route, size: 0 };
        self.both(at, About::Own, probe, port.filter(|_| rewrites));
        let vip = server.vip_address();
        if server.forward == Forward::Masq && vip.is_none_or(|vip| own.contains(&vip)) {
            let nobody = if family == Family::V4 { NOBODY.0.into() } else { NOBODY.1.into() };
            self.both(at, About::Back, Probe { from: nobody, ..probe }, port);
        }
        let ServiceKey::Address { address: vip, port, .. } = server.service else { return };
        let port = Some(port).filter(|port| server.is_tcp() && *port != 0);
        let is_on_link = matches!(server.way, Way::Route { gateway: None, .. });
        let direct = mac.filter(|_| is_on_link && Family::of(vip) == family).map(|mac| Path::Neighbour(device, mac));
        match (server.forward, direct, self.tunnel(server, from, network, vips)) {
            (Forward::Route, Some(path), _) => self.both(at, About::Vip, Probe { to: vip, path, ..probe }, port),
            (Forward::Tunnel, direct, Some(through)) => {
                self.both(at, About::Vip, through, port);
                if let Some(path) = direct {
                    self.push(at, About::Bare, Probe { to: vip, path, ..probe });
                }
            }
            _ => {}
        }
    }

    /// A ping for the virtual address through the tunnel.
    fn tunnel(&self, server: &Server, end: IpAddr, network: &Network, vips: &[IpAddr]) -> Option<Probe> {
        let vip = server.vip_address()?;
        let from = if Family::of(vip) == Family::of(end) { end } else { network.address(0, Family::of(vip), vips)? };
        let ends = Tunnelled { from: end, to: server.address, tunnel: server.tunnel };
        Some(Probe { from, to: vip, kind: Kind::Echo, path: Path::Tunnel(ends), size: 0 })
    }

    /// Packets of several sizes to a real server that answers through its tunnel.
    fn add_sizes(&mut self, at: usize, server: &Server, hop: Hop, network: &Network, vips: &[IpAddr]) {
        let (Way::Route { mtu, .. }, Forward::Tunnel, true) = (&server.way, server.forward, server.vip.came()) else {
            return;
        };
        let Some(end) = network.address(hop.0, Family::of(server.address), vips) else { return };
        let Some(probe) = self.tunnel(server, end, network, vips) else { return };
        let kind = match (server.vip, server.service) {
            (Answer::Open | Answer::Refused, ServiceKey::Address { port, .. }) => Kind::Syn(port),
            _ => Kind::Echo,
        };
        for size in [*mtu].into_iter().chain(SIZES.into_iter().filter(|size| size < mtu)) {
            let inner = size.saturating_sub(server.overhead()) as usize;
            self.push(at, About::Size(size), Probe { kind, size: inner, ..probe });
        }
    }

    /// Asks, and notes the answers with the servers.
    fn ask(self, servers: &mut [Server]) -> io::Result<()> {
        if self.probes.is_empty() {
            return Ok(());
        }
        let answers = ask_hosts(&self.probes)?;
        for (((at, about), probe), answer) in self.about.into_iter().zip(&self.probes).zip(answers) {
            let server = &mut servers[at];
            let noted = match about {
                About::Own => &mut server.own,
                About::Vip => &mut server.vip,
                About::Bare => &mut server.bare,
                About::Back => &mut server.back,
                About::Size(size) => {
                    if answer.came() {
                        server.largest = server.largest.max(Some(size));
                    }
                    continue;
                }
            };
            *noted = together(*noted, answer, probe.kind != Kind::Echo);
        }
        Ok(())
    }
}

/// What an answer means after the one to the ping before it, if it is one of a port.
fn together(before: Answer, answer: Answer, of_port: bool) -> Answer {
    match (before, answer) {
        (Answer::Echo { .. }, Answer::Silent) if of_port => Answer::Echo { port: true },
        _ => answer,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_that_is_silent_after_a_ping_that_is_answered_is_told_apart() {
        let echo = Answer::Echo { port: false };
        assert_eq!(together(Answer::Unasked, echo, false), echo);
        assert_eq!(together(echo, Answer::Silent, true), Answer::Echo { port: true });
        assert_eq!(together(echo, Answer::Open, true), Answer::Open);
        assert_eq!(together(Answer::Silent, Answer::Open, true), Answer::Open);
        assert_eq!(together(Answer::Silent, Answer::Silent, true), Answer::Silent);
    }
}
