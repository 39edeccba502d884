//! A director on the host and the model, side by side.

use std::net::IpAddr;

use aya_ebpf::skb::Incoming;
use fuzz::model::ipvs::{Entry, Ipvs, Packet, Verdict};
use fuzz::model::rules::{self, Counted, End, Method, Name, Protocol, Selector};
use fuzz::packets::frames::{self, ETHERNET, Plan};
use fuzz::packets::world::{self, CLIENTS, MARK, SERVERS, VIP4, VIP6};
use host_director::director::Director;
use host_director::director::packet::{Fate, Outcome, Sent};
use host_director::director::rules::{Destination, Ip, Service};
use lvs_common::abi::{
    Connection, DestId, EntryKind, Forward, IpAddress, Scheduler, ServiceId, conn_flags, service_flags,
};

use crate::scenario::{self, Step};

/// Flags of TCP segments and types of SCTP chunks that packets have.
const SEGMENTS: [u8; 16] = [2, 2, 2, 2, 16, 16, 24, 17, 1, 4, 20, 18, 0, 8, 3, 2];
const CHUNKS: [u8; 16] = [1, 1, 1, 1, 0, 2, 10, 11, 3, 6, 7, 8, 9, 14, 0, 1];

/// Both.
pub struct Bench {
    director: Director,
    model: Ipvs,
    /// The director's numbers of the model's services and destinations, and the destinations as the director takes them.
    services: Vec<ServiceId>,
    dests: Vec<(DestId, Destination)>,
}

impl Bench {
    /// Both with these rules. Of services that are found by the same, the first counts.
    pub fn new(all: &[scenario::Service]) -> Self {
        let director = world::director();
        director.kernel.network.borrow_mut().silent.clear();
        let mut bench = Bench { director, model: Ipvs::default(), services: Vec::new(), dests: Vec::new() };
        bench.model.now = bench.director.kernel.jiffies();
        for service in all {
            let selector = selector(service);
            if bench.model.services.iter().all(|other| other.selector != selector) {
                bench.add_service(service, selector);
            }
        }
        bench
    }

    fn add_service(&mut self, service: &scenario::Service, selector: Selector) {
        let mut own = rules::Service::new(selector, service.scheduler);
        let bits = if service.is_v4 { [24, 32] } else { [64, 128] };
        own.persistence = service.persistence.map(|(seconds, all)| (seconds * 1000, bits[usize::from(all)]));
        own.is_one_packet = service.is_one_packet;
        let place = self.model.services.len();
        let mut its = service_of(selector, service.scheduler);
        if let Some((milliseconds, bits)) = own.persistence {
            its.flags |= service_flags::PERSISTENT;
            its.timeout = (milliseconds / 1000) as u32;
            let mask = u32::MAX.checked_shl(32 - bits.min(32)).unwrap_or(0).to_be();
            its.netmask = if service.is_v4 { mask } else { bits };
        }
        if own.is_one_packet {
            its.flags |= service_flags::ONE_PACKET;
        }
        let id = self.director.add_service(&its).expect("room for a service");
        self.services.push(id);
        self.model.services.push(own);
        self.director.commit();
        for (number, dest) in service.dests.iter().enumerate() {
            let is_v4 = service.is_v4 != (dest.is_crossed && dest.method == Method::Tunnel);
            let port = if dest.has_own_port && dest.method == Method::Masq { 8080 } else { service.port };
            let server = world::server(number, is_v4);
            let forward = match dest.method {
                Method::Masq => Forward::Masq,
                Method::Route => Forward::Route,
                Method::Tunnel => Forward::Tunnel,
            };
            let own = rules::Destination::new(place, (ip(server), port), dest.method);
            let mut its = Destination::new(server, port, forward);
            (its.weight, its.thresholds) = (dest.weight, dest.thresholds);
            let number = self.director.add_dest(id, &its).expect("room for a destination");
            self.dests.push((number, its));
            self.model.dests.push(own);
            self.model.add(self.dests.len() - 1, dest.weight, dest.thresholds);
            self.director.commit();
        }
    }

    /// Has the steps happen to both, and compares after each.
    ///
    /// # Panics
    /// If they differ.
    pub fn run(&mut self, steps: &[Step]) {
        for step in steps {
            self.step(step);
            // What the sweep has not come to yet counts still.
            while self.model.unswept > self.model.now {
                self.pass(1);
            }
            if self.model.is_unclear {
                return;
            }
            self.compare(step);
        }
    }

    fn step(&mut self, step: &Step) {
        match *step {
            Step::Request(service, client, port, to, kind, length) => {
                self.request(service, client, port, to, kind, length);
            }
            Step::Reply(nth, kind, length) => self.reply(nth, kind, length),
            Step::Pass(seconds) => self.pass(seconds),
            Step::Set(setting, value) => self.set(setting, value),
            Step::Edit(number, weight, thresholds) if !self.dests.is_empty() => {
                let place = number % self.dests.len();
                let (id, dest) = &mut self.dests[place];
                (dest.weight, dest.thresholds) = (weight, thresholds);
                let own = &self.model.dests[place];
                if own.is_available {
                    self.director.edit_dest(self.services[own.service], *id, dest);
                    self.director.commit();
                    self.model.edit(place, weight, thresholds);
                }
            }
            Step::Toggle(number) if !self.dests.is_empty() => self.toggle(number % self.dests.len()),
            Step::Edit(..) | Step::Toggle(_) => {}
        }
    }

    fn pass(&mut self, seconds: u64) {
        self.director.pass(seconds * 1000);
        self.model.pass(seconds * 1000);
    }

    fn toggle(&mut self, place: usize) {
        let (id, dest) = &self.dests[place];
        let service = self.services[self.model.dests[place].service];
        if self.model.dests[place].is_available {
            self.director.remove_dest(service, *id);
            self.director.commit();
            self.model.remove(place);
            if self.model.sysctls.expire_nodest_conn {
                // The director's sweep removes the connections.
                self.pass(3);
            }
        } else {
            self.director.put_dest(service, *id, dest);
            self.director.commit();
            self.model.add(place, dest.weight, dest.thresholds);
        }
    }

    fn set(&mut self, setting: usize, value: u32) {
        let sysctls = &mut self.model.sysctls;
        let is_on = value % 2 == 1;
        match setting {
            0 => sysctls.expire_nodest_conn = is_on,
            1 => sysctls.expire_quiescent_template = is_on,
            2 => sysctls.conn_reuse_mode = value,
            _ => sysctls.sloppy_tcp = is_on,
        }
        let own = *sysctls;
        self.director.set(|settings| {
            settings.sysctls.expire_nodest_conn = own.expire_nodest_conn.into();
            settings.sysctls.expire_quiescent_template = own.expire_quiescent_template.into();
            settings.sysctls.conn_reuse_mode = own.conn_reuse_mode;
            settings.sysctls.sloppy_tcp = own.sloppy_tcp.into();
        });
    }

    fn request(&mut self, service: usize, client: usize, port: u16, to: usize, kind: usize, length: usize) {
        let service = service % self.model.services.len();
        let all = [Protocol::Tcp, Protocol::Udp, Protocol::Sctp];
        let (protocol, is_v4, to, mark) = match self.model.services[service].selector {
            Selector::Address(protocol, (address, 0)) => (protocol, address.is_ipv4(), [80, 81, 443][to], 0),
            Selector::Address(protocol, (address, port)) => (protocol, address.is_ipv4(), port + u16::from(to == 2), 0),
            Selector::Mark(mark, is_v4) => (all[kind % 3], is_v4, [80, 80, 443][to], mark),
        };
        let vip = if is_v4 { VIP4 } else { VIP6 };
        let ends = ((world::client(client, is_v4), 1000 + port), (vip, to));
        let (packet, frame) = packet(CLIENTS.1, ends, protocol, kind, length, mark);
        let incoming = incoming(CLIENTS.0, mark);
        let outcome = self.director.receive(&frame, &incoming);
        let seen = self.seen(&outcome, packet.to);
        let told = match (seen, self.model.find_service(&packet)) {
            (Verdict::Sent(Some((_, server)), ..), Some(service)) => self.server(service, server),
            _ => None,
        };
        let expected = self.model.request(&packet, || told);
        // The host limits how many errors it sends.
        let is_silent = (seen, expected) == (Verdict::Dropped, Verdict::Refused);
        assert!(seen == expected || is_silent, "{packet:?}: {seen:?}, expected {expected:?}");
    }

    /// A real server's destination of a service.
    fn server(&self, service: usize, address: IpAddr) -> Option<usize> {
        self.model.services[service].list.iter().copied().find(|place| self.model.dests[*place].end.0 == address)
    }

    fn reply(&mut self, nth: usize, kind: usize, length: usize) {
        let is_masq = |entry: &&Entry| entry.method == Method::Masq && entry.template.is_none();
        let all: Vec<&Entry> = self.model.entries.iter().filter(is_masq).collect();
        if all.is_empty() {
            return;
        }
        let entry = all[nth % all.len()];
        let (protocol, ends) = (entry.protocol.expect("a protocol"), (of_end(entry.real), of_end(entry.client)));
        let (packet, frame) = packet(SERVERS.1, ends, protocol, kind, length, 0);
        let outcome = self.director.receive(&frame, &incoming(SERVERS.0, 0));
        let seen = self.seen(&outcome, packet.to);
        assert_eq!(seen, self.model.reply(&packet), "{packet:?}");
    }

    /// What the director has done with a packet to this end.
    fn seen(&self, outcome: &Outcome, to: End) -> Verdict {
        if outcome.fate == Fate::Stack {
            return Verdict::Stack;
        }
        let [sent] = &outcome.sent[..] else {
            assert!(outcome.sent.is_empty(), "more than one packet was sent: {outcome:?}");
            return Verdict::Dropped;
        };
        let packet = &sent.bytes[ETHERNET..];
        let hop = self.hop(sent);
        match read(packet) {
            (1 | 58, ..) => Verdict::Refused,
            (4 | 41, _, (outer, _)) => {
                assert_eq!(outer, hop, "a tunnel's packet goes by another host");
                let (_, from, inner) = read(&packet[if outer.is_ipv4() { 20 } else { 40 }..]);
                Verdict::Sent(Some((Method::Tunnel, outer)), from, inner)
            }
            (_, from, end) if hop == end.0 && end.0 != to.0 => Verdict::Sent(Some((Method::Masq, hop)), from, end),
            (_, from, end) if hop == end.0 => Verdict::Sent(None, from, end),
            (_, from, end) => Verdict::Sent(Some((Method::Route, hop)), from, end),
        }
    }

    /// The neighbour that a packet is sent to.
    fn hop(&self, sent: &Sent) -> IpAddr {
        let all = [true, false]
            .into_iter()
            .flat_map(|is_v4| (0..4).flat_map(move |n| [world::server(n, is_v4), world::client(n, is_v4)]));
        let network = self.director.kernel.network.borrow();
        let mac = match sent.to.neighbour {
            Some((family, address)) => network.neighbour(family, &address),
            None => sent.bytes[..6].try_into().ok(),
        };
        let is_it = |ip: &Ip| network.neighbour(ip.family, &ip.padded()) == mac;
        ip(all.into_iter().find(is_it).expect("a neighbour that there is"))
    }

    /// Compares tables and counters.
    fn compare(&self, step: &Step) {
        let (mut seen, entries) = (self.entries(), &self.model.entries);
        seen.sort();
        let mut expected: Vec<(View, u64)> = entries.iter().map(|e| (self.view(e), e.end() + e.late)).collect();
        // A template that lived on may end a little later, as the sweep came later: each takes the first that is not too late for it.
        expected.sort_by_key(|(_, latest)| *latest);
        let is_it =
            |(view, latest): &(View, u64), (what, end): &View| view.0 == *what && (view.1..=*latest).contains(end);
        let mut left = expected.clone();
        let is_known =
            |entry: &View| left.iter().position(|wanted| is_it(wanted, entry)).map(|at| left.remove(at)).is_some();
        let is_same = seen.len() == expected.len() && seen.iter().all(is_known);
        assert!(is_same, "after {step:?}\nentries {seen:#?}\nexpected, with the latest end {expected:#?}");
        for (place, (id, _)) in self.dests.iter().enumerate() {
            let own = &self.model.dests[place];
            let held = (own.active, own.inactive, own.persistent);
            assert_eq!(self.director.held(*id), held, "after {step:?}: active, inactive, templates of {own:?}");
            let its = self.director.counters(*id);
            let counted = Counted {
                connections: its.conns,
                from_clients: (its.in_packets, its.in_bytes),
                from_server: (its.out_packets, its.out_bytes),
            };
            assert_eq!(counted, own.counted, "after {step:?}: {own:?}");
        }
    }

    /// An entry of the model as it is compared.
    fn view(&self, entry: &Entry) -> View {
        let (protocol, virt) = match entry.template {
            Some(_) => (0, None),
            None => (entry.protocol.map_or(0, number), Some(entry.virt)),
        };
        let (dest, state) = (self.dests[entry.dest].0.get(), if virt.is_some() { entry.state as u32 } else { 0 });
        let flags = virt.map(|_| (!entry.is_active, entry.no_output));
        ((protocol, entry.client, virt, dest, state, flags), entry.end())
    }

    /// The director's entries.
    fn entries(&self) -> Vec<View> {
        let mut all = views::<u32>(&self.director);
        all.extend(views::<[u32; 4]>(&self.director));
        all
    }
}

/// What of an entry is compared: protocol, client, virtual side, destination, state and flags; and when it ends.
type View = ((u8, End, Option<End>, u32, u32, Option<(bool, bool)>), u64);

fn views<A: IpAddress>(director: &Director) -> Vec<View> {
    let view = |c: &Connection<A>| {
        let end = |address: A, port: u16| (ip(Ip { family: A::FAMILY, address: address.widen() }), port);
        let is_template = c.kind == EntryKind::TEMPLATE;
        let virt = (!is_template).then(|| end(c.virt, c.virt_port.get()));
        let (protocol, state) = if is_template { (0, 0) } else { (c.protocol, c.state & conn_flags::STATE) };
        let flags = virt.map(|_| (c.state & conn_flags::INACTIVE != 0, c.state & conn_flags::NO_OUTPUT != 0));
        let client = end(c.client, c.client_port.get());
        ((protocol, client, virt, c.dest.get(), state, flags), c.last_seen + u64::from(c.timeout))
    };
    let all = director.entries::<A>();
    all.iter()
        .filter(|(_, c)| matches!(c.kind, EntryKind::CONNECTION | EntryKind::TEMPLATE))
        .map(|(_, c)| view(c))
        .collect()
}

fn selector(service: &scenario::Service) -> Selector {
    let vip = if service.is_v4 { VIP4 } else { VIP6 };
    match service.protocol {
        Some(protocol) => Selector::Address(protocol, (ip(vip), service.port)),
        None => Selector::Mark(MARK, service.is_v4),
    }
}

fn service_of(selector: Selector, scheduler: Name) -> Service {
    let scheduler = match scheduler {
        Name::Rr => Scheduler::Rr,
        Name::Wrr => Scheduler::Wrr,
        Name::Lc => Scheduler::Lc,
        Name::Wlc => Scheduler::Wlc,
        Name::Sed => Scheduler::Sed,
        Name::Nq => Scheduler::Nq,
        Name::Fo => Scheduler::Fo,
        Name::Ovf => Scheduler::Ovf,
        Name::Dh => Scheduler::Dh,
        Name::Sh => Scheduler::Sh,
        Name::Mh => Scheduler::Mh,
        Name::Lblc => Scheduler::Lblc,
        Name::Lblcr => Scheduler::Lblcr,
        Name::Twos => Scheduler::Twos,
    };
    match selector {
        Selector::Address(protocol, (address, port)) => Service::new(number(protocol), of_ip(address), port, scheduler),
        Selector::Mark(mark, is_v4) => {
            Service { mark, ..Service::new(0, if is_v4 { VIP4 } else { VIP6 }, 0, scheduler) }
        }
    }
}

/// A packet, for the model and for the director.
fn packet(
    to: [u8; 6],
    ends: ((Ip, u16), (Ip, u16)),
    protocol: Protocol,
    kind: usize,
    length: usize,
    mark: u32,
) -> (Packet, Vec<u8>) {
    let event = if protocol == Protocol::Sctp { CHUNKS[kind] } else { SEGMENTS[kind] };
    let frame = frames::frame(&Plan {
        to,
        ends,
        protocol: number(protocol),
        flags: event,
        options: &[],
        length,
        ttl: 64,
        df: false,
        is_unsummed: false,
    });
    let end = |(address, port): (Ip, u16)| (ip(address), port);
    let length = (frame.len() - ETHERNET) as u64;
    (Packet { protocol, from: end(ends.0), to: end(ends.1), event, mark, length }, frame)
}

fn incoming(device: u32, mark: u32) -> Incoming {
    Incoming { linear: usize::MAX, device, place: device, mark, ..Incoming::default() }
}

/// Protocol and ends of an IP packet without options or extension headers.
fn read(packet: &[u8]) -> (u8, End, End) {
    let v4 = |at: usize| IpAddr::from(<[u8; 4]>::try_from(&packet[at..at + 4]).expect("four bytes"));
    let v6 = |at: usize| IpAddr::from(<[u8; 16]>::try_from(&packet[at..at + 16]).expect("sixteen bytes"));
    let (protocol, from, to, header) =
        if packet[0] >> 4 == 4 { (packet[9], v4(12), v4(16), 20) } else { (packet[6], v6(8), v6(24), 40) };
    let port = |at: usize| u16::from_be_bytes([packet[header + at], packet[header + at + 1]]);
    (protocol, (from, port(0)), (to, port(2)))
}

fn number(protocol: Protocol) -> u8 {
    match protocol {
        Protocol::Tcp => 6,
        Protocol::Udp => 17,
        Protocol::Sctp => 132,
    }
}

fn ip(ip: Ip) -> IpAddr {
    if ip.is_v4() { IpAddr::from(ip.address.octets4()) } else { IpAddr::from(ip.address.octets6()) }
}

fn of_ip(address: IpAddr) -> Ip {
    match address {
        IpAddr::V4(address) => Ip::v4(address.octets()),
        IpAddr::V6(address) => Ip::v6(address.octets()),
    }
}

fn of_end((address, port): End) -> (Ip, u16) {
    (of_ip(address), port)
}
