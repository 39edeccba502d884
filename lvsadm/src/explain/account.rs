//! The account of a packet: what the programs did, and the reasons.

use std::collections::HashMap;
use std::net::SocketAddr;

use etherparse::{Ipv4Header, Ipv6Header};
use lvs_common::wire::protocol;
use lvs_director::dataplane::{Held, Performance, Reasons, Room};
use lvs_director::rules::{DestinationKey, ServiceKey, scheduler_name};
use serde::Serialize;

use super::packets::{Given, parsed};
use crate::network::colons;

/// Bytes of an Ethernet header.
const ETHERNET: usize = 14;
/// Per cent of a table from which on room is scarce.
const SCARCE: u64 = 80;

/// A step of the account.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Step {
    /// What it is about.
    pub step: &'static str,
    /// What is told of it.
    pub what: String,
}

/// An account.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Account {
    /// The packet.
    pub packet: String,
    /// The steps, in their order.
    pub steps: Vec<Step>,
    /// The exits that counted it.
    pub exits: Vec<&'static str>,
    /// Its service, as one gives it on the command line without the option.
    pub service: Option<String>,
    /// The real server of its connection.
    pub real_server: Option<String>,
    /// The device that it leaves by, as far as the programs noted it.
    pub leaves_by: Option<String>,
    /// Whether the programs did what the reasons let expect.
    pub agrees: bool,
}

/// What became of a packet that was waited for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen {
    /// In a sentence.
    pub what: String,
    /// Whether it has made a connection.
    pub has_made_connection: bool,
}

/// What an account is made of.
pub struct Told<'a> {
    /// The packet.
    pub given: &'a Given,
    /// The name of its device, and how that is served.
    pub device: (&'a str, &'a str),
    /// What became of it, if it was waited for.
    pub seen: Option<&'a Seen>,
    /// The reasons.
    pub reasons: &'a Reasons,
    /// What the programs did.
    pub performance: &'a Performance,
    /// Names of devices.
    pub devices: &'a HashMap<u32, String>,
    /// Connections that the table of the packet's family has, and for how many there is room.
    pub held: Option<(u32, u32)>,
}

impl Told<'_> {
    /// What there is to tell of the room for a connection that the packet opens.
    fn room(&self) -> impl Iterator<Item = String> {
        let taken = self.held.filter(|(held, room)| u64::from(*held) * 100 >= u64::from(*room) * SCARCE);
        let taken = taken.map(|(held, room)| format!("{held} of {room} places are taken"));
        let Performance { exits, yielded, .. } = self.performance;
        let is_refused = exits.iter().any(|(exit, _)| *exit == "drop-table-full");
        let refused = is_refused.then(|| {
            let twice = self.held.map_or(0, |(held, room)| u64::from(held.max(room)) * 2);
            format!("full of what is in use, where this connection may stand: it is refused. Mend: lvsadm resize --conns {twice}")
        });
        let gives_way = |held: &Held| {
            let what = if held.client.port() == 0 { "the template of" } else { "the connection" };
            let (client, virt) = (bare(held.client), bare(held.virt));
            format!("full where this connection may stand: {what} {client} > {virt}, {}, gives way to it", held.why)
        };
        taken.into_iter().chain(yielded.iter().map(gives_way).collect::<Vec<_>>()).chain(refused)
    }
}

impl Account {
    /// Of a packet.
    pub fn of(told: &Told<'_>) -> Self {
        let Told { given, device, reasons, performance, devices, .. } = told;
        let mut steps = Vec::new();
        let mut step = |step, what: String| steps.push(Step { step, what });
        step("device", format!("{}, {}", device.0, device.1));
        if let Some(seen) = told.seen {
            step("seen", seen.what.clone());
        }
        let decides = !performance.known;
        if performance.known {
            step("connection", "there is one, which decides".to_owned());
        }
        if let Some(rule) = &reasons.rule {
            step("mark", format!("{} by the rule: lvsadm mark add {rule}", reasons.mark));
        } else if reasons.mark != 0 {
            step("mark", reasons.mark.to_string());
        }
        match &reasons.service {
            Some(service) => {
                step("service", format!("{}, scheduler {}", label(&service.key), scheduler_name(service.scheduler)))
            }
            None => step("service", "none has this address, port and protocol, nor the mark".to_owned()),
        }
        if let (Some(exit), true) = (reasons.refused, decides) {
            step("lists", format!("the source is kept out ({exit}): see lvsadm block and lvsadm allow"));
        }
        for sentence in told.room().filter(|_| decides) {
            step("table", sentence);
        }
        if reasons.is_persistent && decides {
            step(
                "template",
                "the service is persistent: a template of this client decides, if there is one".to_owned(),
            );
        }
        for choice in reasons.choices.iter().filter(|_| decides) {
            let mark = if reasons.pick == Some(choice.key) { ", which the scheduler picks" } else { "" };
            let full = if choice.overloaded { ", kept from new connections by its threshold" } else { "" };
            let (key, weight, active, inactive) = (end(&choice.key), choice.weight, choice.active, choice.inactive);
            step(
                "candidate",
                format!("{key}, weight {weight}, {active} active and {inactive} inactive connections{full}{mark}"),
            );
        }
        for (address, free, all) in reasons.locals.iter().filter(|_| decides) {
            step("local", format!("{address}: {free} of {all} ports are free toward this real server"));
        }
        if reasons.is_random && decides {
            step("candidate", "the scheduler draws lots".to_owned());
        }
        for tier in &performance.tiers {
            step(tier.name, tier.verdict.to_owned());
        }
        for (exit, meaning) in &performance.exits {
            step("exit", format!("{exit}: {meaning}"));
        }
        if let Some((service, server)) = &performance.server {
            step("real server", format!("{} of {}", end(server), label(service)));
        }
        if performance.is_cut_short {
            step("fragments", "it waits for other fragments, or leaves in fragments: that is not rehearsed".to_owned());
        }
        step("becomes", becomes(&performance.frame, performance.frame.len()));
        let hop = performance.hop;
        if let Some(hop) = hop {
            let name = devices.get(&hop.ifindex).map_or("a device that is gone", String::as_str);
            let mac = if hop.destination == [0; 6] {
                "a neighbour that is not known yet".to_owned()
            } else {
                colons(hop.destination)
            };
            // A tunnel's headers take room.
            let added = performance.frame.len().saturating_sub(given.frame.len());
            let fits = usize::from(hop.mtu).saturating_sub(added);
            let room =
                if added == 0 { String::new() } else { format!(", so packets of up to {fits} bytes fit inside") };
            step("leaves", format!("by {name} to {mac}, MTU {}{room}", hop.mtu));
        }
        let agrees = agree(reasons, performance);
        let sentence = if agrees {
            "the programs did what these reasons let expect"
        } else {
            "the programs did something else: trust them, and report it"
        };
        step("agrees", sentence.to_owned());
        Account {
            packet: packet(given),
            steps,
            exits: performance.exits.iter().map(|(exit, _)| *exit).collect(),
            service: performance
                .server
                .as_ref()
                .map(|(service, _)| *service)
                .or(reasons.service.as_ref().map(|s| s.key))
                .map(|key| name(&key)),
            real_server: performance.server.as_ref().map(|(_, server)| end(server)),
            leaves_by: hop.and_then(|hop| devices.get(&hop.ifindex).cloned()),
            agrees,
        }
    }
}

/// A packet in a sentence.
pub fn packet(given: &Given) -> String {
    let protocol = match given.protocol {
        protocol::TCP => "tcp",
        protocol::UDP => "udp",
        protocol::SCTP => "sctp",
        protocol::GRE => "gre",
        protocol::IPIP | protocol::IPV6 => "ipip",
        protocol::ICMP | protocol::ICMPV6 => "icmp",
        _ => "another protocol",
    };
    let kind = if given.kind.is_empty() { String::new() } else { format!(" ({})", given.kind) };
    format!("{protocol} {} > {}{kind}", bare(given.source), bare(given.destination))
}

/// One end of a packet, without its port if it has none.
fn bare(end: SocketAddr) -> String {
    if end.port() == 0 { end.ip().to_string() } else { end.to_string() }
}

/// What a frame of a length is, from the outside in. The frame may be cut short.
pub fn becomes(frame: &[u8], length: usize) -> String {
    let Some(outer) = parsed(frame) else { return "no packet of IP".to_owned() };
    let inner = carried(&outer).map(|inner| format!(", which carries {}", packet(&inner))).unwrap_or_default();
    format!("{}, {length} bytes{inner}", packet(&outer))
}

/// The packet that an IP packet carries as it is.
fn carried(outer: &Given) -> Option<Given> {
    let is_v6 = match outer.protocol {
        protocol::IPIP => false,
        protocol::IPV6 => true,
        _ => return None,
    };
    let at = ETHERNET + if outer.source.is_ipv4() { Ipv4Header::MIN_LEN } else { Ipv6Header::LEN };
    let ether_type = if is_v6 { [0x86, 0xdd] } else { [0x08, 0x00] };
    parsed(&[&[0; ETHERNET - 2][..], &ether_type, outer.frame.get(at..)?].concat())
}

/// A real server.
pub fn end(key: &DestinationKey) -> String {
    std::net::SocketAddr::new(key.address, key.port).to_string()
}

/// A service without its protocol.
pub fn name(key: &ServiceKey) -> String {
    match *key {
        ServiceKey::Address { address, port, .. } => std::net::SocketAddr::new(address, port).to_string(),
        ServiceKey::Fwmark { mark, .. } => format!("mark {mark}"),
    }
}

/// A service with its protocol.
pub fn label(key: &ServiceKey) -> String {
    match key {
        ServiceKey::Address { protocol, .. } => format!("{} {}", protocol.name(), name(key)),
        ServiceKey::Fwmark { .. } => name(key),
    }
}

/// Exits of packets that the reasons here are not about: what the packet's source or way refuses, a flood's defence, and what is left to
/// the stack for another reason.
const OTHERWISE: [&str; 14] = [
    "not-first",
    "transit",
    "drop-martian",
    "drop-rp-filter",
    "drop-loopback",
    "drop-table-full",
    "drop-busy",
    "drop-defence",
    "challenged",
    "verified",
    "drop-unverified",
    "drop-engine",
    "drop-forged",
    "drop-malformed",
];

/// Whether the programs did what the reasons let expect, as far as those go.
fn agree(reasons: &Reasons, performance: &Performance) -> bool {
    let exits: Vec<&str> = performance.exits.iter().map(|(exit, _)| *exit).collect();
    if !agree_on_room(reasons, performance, exits.contains(&"drop-table-full")) {
        return false;
    }
    if performance.known || performance.is_cut_short || exits.iter().any(|exit| OTHERWISE.contains(exit)) {
        return true;
    }
    let Some(service) = &reasons.service else {
        return performance.server.is_none();
    };
    if let Some(refused) = reasons.refused {
        return exits == [refused];
    }
    match (&performance.server, &reasons.pick) {
        (Some((of, server)), Some(pick)) => of == &service.key && (reasons.is_persistent || server == pick),
        (Some((of, server)), None) => {
            // By lot, or by a template.
            let is_choice = reasons.choices.iter().any(|choice| choice.key == *server);
            of == &service.key && is_choice && (reasons.is_random || reasons.is_persistent)
        }
        // Nobody was picked; or a packet was picked for that could not be sent, or has no connection (one-packet scheduling).
        (None, pick) => pick.is_none() || service.is_one_packet() || exits.iter().any(|exit| exit.starts_with("drop-")),
    }
}

/// Whether the programs made room as the reasons let expect. Those are of a connection that stands alone: a template or an alias that is
/// made with it takes room of its own.
fn agree_on_room(reasons: &Reasons, performance: &Performance, is_refused: bool) -> bool {
    let is_made = performance.server.is_some() && !performance.known;
    let stands_alone = reasons.service.as_ref().is_some_and(|service| !service.is_one_packet())
        && !reasons.is_persistent
        && reasons.locals.is_empty();
    if !stands_alone || !(is_made || is_refused) {
        return true;
    }
    match (&reasons.room, &performance.yielded[..]) {
        (Room::Left, []) => !is_refused,
        (Room::Yields(expected), [held]) => !is_refused && held.is(expected),
        (Room::Refused, []) => is_refused,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use lvs_director::rules::Protocol;

    use super::super::packets::made;
    use super::*;

    #[test]
    fn a_tunnels_packet_is_told_with_what_it_carries() {
        let ends = (Protocol::Tcp, "10.0.0.1:5".parse().unwrap(), "10.0.0.2:80".parse().unwrap());
        let inner = made(ends, false, [2; 6]).unwrap().frame;
        let (from, to) = ([192, 0, 2, 1], [192, 0, 2, 2]);
        let builder = etherparse::PacketBuilder::ethernet2([0; 6], [0; 6]).ipv4(from, to, 64);
        let mut frame = Vec::new();
        builder.write(&mut frame, etherparse::IpNumber(protocol::IPIP), &inner[ETHERNET..]).unwrap();
        let told = "ipip 192.0.2.1 > 192.0.2.2, 74 bytes, which carries tcp 10.0.0.1:5 > 10.0.0.2:80 (SYN)";
        assert_eq!(becomes(&frame, frame.len()), told);
        assert_eq!(becomes(&[0; 20], 20), "no packet of IP");
    }
}
