//! What became of a packet: made of a report, of the packet's bytes, and of what the data plane's tables say.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::Result;
use ipnet::IpNet;
use lvs_common::abi::observe::Gate;
use lvs_common::abi::{Mode, NextHop};
use lvs_common::exit::{EXITS, Exit};
use lvs_director::dataplane::observe::{Ends, Known, Lookup, Sight};
use lvs_director::dataplane::{self, Plane};
use lvs_director::rules::{DestinationKey, Prefix, ServiceKey};
use nix::time::{ClockId, clock_gettime};
use serde::Serialize;

use super::frame::{came_bare, framed, left_bare};
use crate::explain::{Given, Step, becomes, end, label, name, packet, parsed};
use crate::grammar::subcommands::Server;
use crate::network::colons;

/// Verdicts of XDP that send a packet back by its own device.
const SENT_BACK: u32 = 3;

/// What became of a packet.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Story {
    /// When it left: seconds since 1970.
    pub time: f64,
    /// The device that it came in on; of what the director itself sends, the device that it was to leave by.
    pub device: String,
    /// The tier that served it: `xdp` or `tc`.
    pub tier: &'static str,
    /// The packet as it came.
    pub packet: String,
    /// What was decided, in its order.
    pub steps: Vec<Step>,
    /// What the program said last.
    pub verdict: &'static str,
    /// The exits that counted it.
    pub exits: Vec<&'static str>,
    /// Its service.
    pub service: Option<String>,
    /// Its real server.
    pub real_server: Option<String>,
    /// The device that it left by, as far as that is known.
    pub leaves_by: Option<String>,
    /// What filters look at.
    #[serde(skip)]
    pub flow: Flow,
}

/// Whose packet it was.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Flow {
    /// The client.
    pub client: Option<SocketAddr>,
    /// The service.
    pub service: Option<ServiceKey>,
    /// The real server.
    pub server: Option<DestinationKey>,
    /// The device that it left by.
    pub leaves_by: Option<u32>,
}

/// Which flows are chosen.
#[derive(Clone, Debug, Default)]
pub struct Chosen {
    /// Of these clients.
    pub client: Option<Prefix>,
    /// Of this service.
    pub service: Option<ServiceKey>,
    /// To this real server.
    pub server: Option<Server>,
}

impl Chosen {
    /// Whether a flow is one of them.
    pub fn has(&self, flow: &Flow) -> bool {
        let is_in = |prefix: &Prefix, address| {
            IpNet::new(prefix.address, prefix.length).is_ok_and(|net: IpNet| net.contains(&address))
        };
        let is_client = |prefix: &Prefix| flow.client.is_some_and(|client| is_in(prefix, client.ip()));
        let is_server = |server: &Server| {
            flow.server.is_some_and(|it| it.address == server.address && server.port.is_none_or(|port| port == it.port))
        };
        self.client.as_ref().is_none_or(is_client)
            && self.service.as_ref().is_none_or(|service| flow.service.as_ref() == Some(service))
            && self.server.as_ref().is_none_or(is_server)
    }
}

/// Tells stories.
pub struct Teller {
    lookup: Lookup,
    devices: HashMap<u32, String>,
    /// What `CLOCK_MONOTONIC` counts from.
    start: SystemTime,
}

impl Teller {
    /// Of a data plane.
    pub fn new(plane: &Plane) -> Result<Self> {
        let elapsed = Duration::from(clock_gettime(ClockId::CLOCK_MONOTONIC)?);
        let start = SystemTime::now().checked_sub(elapsed).unwrap_or(UNIX_EPOCH);
        Ok(Teller { lookup: Lookup::new(plane)?, devices: HashMap::new(), start })
    }

    /// When something was reported: since 1970.
    pub fn time(&self, nanoseconds: u64) -> Duration {
        (self.start + Duration::from_nanos(nanoseconds)).duration_since(UNIX_EPOCH).unwrap_or_default()
    }

    /// The name of a device.
    pub fn device(&mut self, index: u32) -> String {
        if !self.devices.contains_key(&index) {
            let all = dataplane::devices().unwrap_or_default();
            self.devices.extend(all.into_iter().map(|device| (device.link.index, device.link.name)));
        }
        self.devices.get(&index).cloned().unwrap_or_else(|| format!("device {index}"))
    }

    /// What became of a packet that has left.
    pub fn tell(&mut self, plane: &Plane, sight: &Sight) -> Story {
        let report = &sight.report;
        let head = report.head.get(..report.head_length as usize).unwrap_or_default();
        let (came, left) = (framed(came_bare(report), head), framed(left_bare(report), &sight.bytes));
        let (before, after) = (parsed(&came), parsed(&left));
        let exits: Vec<_> = (0..EXITS.len()).filter(|exit| report.exits >> exit & 1 != 0).collect();
        let known = before.as_ref().and_then(|given| self.lookup.find(plane, &ends(given)));
        let asked = self.lookup.asked(plane, report);
        let hop = known.as_ref().and_then(|known| known.hop).filter(|_| is_sent(&exits));
        let flow = Flow {
            client: client(before.as_ref(), after.as_ref(), known.as_ref()),
            service: known.map(|known| known.service).or(asked.service),
            server: known.and_then(|known| known.server).or(asked.server),
            leaves_by: self.out(sight, hop),
        };
        let leaves_by = flow.leaves_by.map(|index| self.device(index));
        let steps = Steps { sight, known: known.as_ref(), asked: &flow, before: before.as_ref() }.all(
            &left,
            after.as_ref(),
            hop,
            leaves_by.as_deref(),
            &exits,
        );
        Story {
            time: self.time(report.time).as_secs_f64(),
            device: self.device(report.device),
            tier: if report.gate == Gate::Xdp as u32 { "xdp" } else { "tc" },
            packet: before.as_ref().map_or_else(|| "no packet of IP".to_owned(), packet),
            steps,
            verdict: verdict(report.gate, report.verdict),
            exits: exits.iter().map(|exit| EXITS[*exit].0).collect(),
            service: flow.service.as_ref().map(name),
            real_server: flow.server.as_ref().map(end),
            leaves_by,
            flow,
        }
    }

    /// The device that a packet left by.
    fn out(&self, sight: &Sight, hop: Option<NextHop>) -> Option<u32> {
        let report = &sight.report;
        if report.gate == Gate::Xdp as u32 && report.verdict == SENT_BACK {
            return Some(report.device);
        }
        hop.map(|hop| hop.ifindex)
    }
}

fn ends(given: &Given) -> Ends {
    Ends { protocol: given.protocol, source: given.source, destination: given.destination }
}

/// Whether packets of these exits are sent to the next hop of their connection.
fn is_sent(exits: &[usize]) -> bool {
    let sent = [Exit::Nat, Exit::NatReply, Exit::FullNat, Exit::FullNatReply, Exit::Route, Exit::Tunnel];
    sent.iter().any(|exit| exits.contains(&(*exit as usize)))
}

/// The client of a packet: a reply's is whom it goes to in the end.
fn client(before: Option<&Given>, after: Option<&Given>, known: Option<&Known>) -> Option<SocketAddr> {
    match known {
        Some(known) if known.is_reply => after.or(before).map(|given| given.destination),
        _ => before.map(|given| given.source),
    }
}

/// What the steps are made of.
struct Steps<'a> {
    sight: &'a Sight,
    known: Option<&'a Known>,
    asked: &'a Flow,
    before: Option<&'a Given>,
}

impl Steps<'_> {
    fn all(
        &self,
        left: &[u8],
        after: Option<&Given>,
        hop: Option<NextHop>,
        leaves_by: Option<&str>,
        exits: &[usize],
    ) -> Vec<Step> {
        let report = &self.sight.report;
        let mut steps = Vec::new();
        let mut step = |step, what| steps.push(Step { step, what });
        if report.mark != 0 {
            step("mark", report.mark.to_string());
        }
        if let Some(connection) = self.connection() {
            step("connection", connection);
        } else if let Some(service) = &self.asked.service {
            step("service", label(service));
        }
        let is_changed = after.is_some_and(|after| self.before.is_none_or(|before| ends(before) != ends(after)));
        if is_changed || report.length != report.came_length {
            step("becomes", becomes(left, report.length as usize));
        }
        if let Some(device) = leaves_by {
            let to = hop.filter(|hop| hop.destination != [0; 6]).map(|hop| format!(" to {}", colons(hop.destination)));
            step("leaves", format!("by {device}{}", to.unwrap_or_default()));
        }
        step("verdict", verdict(report.gate, report.verdict).to_owned());
        for exit in exits {
            step("exit", format!("{}: {}", EXITS[*exit].0, EXITS[*exit].1));
        }
        steps
    }

    /// What is told of the packet's connection.
    fn connection(&self) -> Option<String> {
        let known = self.known?;
        let report = &self.sight.report;
        let server = known.server.as_ref().map_or_else(|| "a real server that was deleted".to_owned(), end);
        let way = match (report.dest != 0, report.template != 0, known.is_reply) {
            (true, true, _) => "made, with the real server of a template",
            (true, false, _) => "made, with the real server that the scheduler picked",
            (false, _, true) => "found: the packet is a reply",
            (false, _, false) => "found",
        };
        let mode = mode(known.mode);
        Some(format!("{way}: {}, {server}, {mode}", label(&known.service)))
    }
}

fn mode(mode: Mode) -> &'static str {
    match mode {
        Mode::MASQ => "NAT",
        Mode::LOCAL => "local",
        Mode::TUNNEL => "tunnel",
        Mode::ROUTE => "direct routing",
        Mode::BYPASS => "bypass",
        Mode::FULLNAT => "FullNAT",
        _ => "unknown",
    }
}

/// A program's verdict in words.
fn verdict(gate: u32, verdict: u32) -> &'static str {
    if gate == Gate::Xdp as u32 { dataplane::xdp_verdict(verdict) } else { dataplane::tc_verdict(verdict) }
}
