//! The model: services, destinations, connections and templates, and what becomes of packets.

use std::net::IpAddr;

use super::rules::{Destination, End, Method, Protocol, Selector, Service, Sysctls};
use super::schedulers::Pick;
use super::states::{self, Way};

/// A packet of a client, or of a real server.
#[derive(Clone, Copy, Debug)]
pub struct Packet {
    /// Its protocol.
    pub protocol: Protocol,
    /// Where it comes from.
    pub from: End,
    /// Where it goes to.
    pub to: End,
    /// TCP's flags, or the type of SCTP's first chunk.
    pub event: u8,
    /// Its mark.
    pub mark: u32,
    /// Bytes of the IP packet.
    pub length: u64,
}

/// What becomes of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The host's stack has it.
    Stack,
    /// It is dropped.
    Dropped,
    /// It is dropped, and its sender told that the port cannot be reached.
    Refused,
    /// It is sent on: the real server whose neighbour or tunnel it is sent by, with these ends.
    Sent(Option<(Method, IpAddr)>, End, End),
}

/// A connection, or a template.
#[derive(Clone, Debug)]
pub struct Entry {
    /// Its number: entries that come later have greater ones.
    pub number: u64,
    /// The protocol; none for a template of a service by mark.
    pub protocol: Option<Protocol>,
    /// The client, of a template without its port and under the service's mask.
    pub client: End,
    /// The virtual address, of a template as [`Ipvs::template_key`] says.
    pub virt: End,
    /// The destination, by its place.
    pub dest: usize,
    /// Where packets go.
    pub real: End,
    /// How.
    pub method: Method,
    /// See [`states`].
    pub state: usize,
    /// Whether it counts as active.
    pub is_active: bool,
    /// Whether no reply has passed and none is expected.
    pub no_output: bool,
    /// When the last packet came, and how long after that it ends: milliseconds.
    pub last: u64,
    /// See `last`.
    pub timeout: u64,
    /// Its template's number.
    pub control: Option<u64>,
    /// Connections that it controls.
    pub controlled: u32,
    /// Whether it is a template, and whether it leads clients no more.
    pub template: Option<Lead>,
    /// How much later a director may end it, whose sweep came late when the template was to end before: milliseconds.
    pub late: u64,
}

/// Whether a template leads clients to its destination.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lead {
    /// It does.
    Leads,
    /// Its destination must not be used: it only runs out.
    Aside,
}

impl Entry {
    /// When it ends.
    pub fn end(&self) -> u64 {
        self.last + self.timeout
    }
}

/// How long a template that controls connections lives on when it would end, milliseconds.
const EXTENSION: u64 = 60_000;

/// How much later than an entry's end a director's sweep comes by, milliseconds.
const SWEEP: u64 = 1100;

/// IPVS.
#[derive(Clone, Debug, Default)]
pub struct Ipvs {
    /// Services.
    pub services: Vec<Service>,
    /// Destinations, those that were removed included.
    pub dests: Vec<Destination>,
    /// Settings.
    pub sysctls: Sysctls,
    /// Connections and templates.
    pub entries: Vec<Entry>,
    /// Milliseconds.
    pub now: u64,
    /// Until when a director may still have an entry that has ended.
    pub unswept: u64,
    /// Whether a template was to end at about the same time as one of its connections: a director's sweep may have come the other way
    /// round, and what follows cannot be compared.
    pub is_unclear: bool,
    /// When templates' connections ended last, by the template.
    released: Vec<(u64, u64)>,
    number: u64,
}

impl Ipvs {
    /// Configures a destination, or one that was removed again.
    pub fn add(&mut self, place: usize, weight: u32, thresholds: (u32, u32)) {
        let dest = &mut self.dests[place];
        dest.is_available = true;
        self.services[dest.service].list.insert(0, place);
        self.edit(place, weight, thresholds);
    }

    /// Changes a destination's weight and thresholds.
    pub fn edit(&mut self, place: usize, weight: u32, thresholds: (u32, u32)) {
        let dest = &mut self.dests[place];
        if thresholds.0 == 0 || thresholds.0 > dest.thresholds.0 {
            dest.is_overloaded = false;
        }
        (dest.weight, dest.thresholds) = (weight, thresholds);
        self.note(place, None);
    }

    /// Removes a destination.
    pub fn remove(&mut self, place: usize) {
        self.dests[place].is_available = false;
        let list = &mut self.services[self.dests[place].service].list;
        let at = list.iter().position(|other| *other == place).expect("a destination that is there");
        let before = at.checked_sub(1).map(|before| list[before]);
        list.remove(at);
        self.note(place, Some((place, before)));
        if self.sysctls.expire_nodest_conn {
            // In the background, of every destination that was ever removed: connections first, then the templates that control
            // nothing any more.
            for is_template in [false, true] {
                let is_left = |e: &&Entry| !self.dests[e.dest].is_available && e.template.is_some() == is_template;
                let numbers: Vec<u64> = self.entries.iter().filter(is_left).map(|e| e.number).collect();
                numbers.into_iter().for_each(|number| self.end(number));
            }
        }
    }

    /// Tells the scheduler of a destination's service of a change.
    fn note(&mut self, place: usize, removed: Option<(usize, Option<usize>)>) {
        let service = &mut self.services[self.dests[place].service];
        let list: Vec<(usize, &Destination)> = service.list.iter().map(|place| (*place, &self.dests[*place])).collect();
        service.scheduler.note(&list, &mut service.memory, removed);
    }

    /// Lets time pass.
    pub fn pass(&mut self, milliseconds: u64) {
        let until = self.now + milliseconds;
        while let Some(entry) = self.entries.iter().filter(|e| e.end() < until).min_by_key(|e| (e.end(), e.number)) {
            let (number, end, swept) = (entry.number, entry.end(), entry.end() + SWEEP + entry.late);
            self.unswept = self.unswept.max(swept);
            if entry.template.is_some() {
                let is_soon = |e: &Entry| e.control == Some(number) && e.end() <= swept;
                let is_late = |(template, at): &(u64, u64)| *template == number && at + SWEEP >= end;
                self.is_unclear |= self.entries.iter().any(is_soon) || self.released.iter().any(is_late);
            }
            if entry.controlled == 0 {
                self.released.extend(entry.control.map(|control| (control, end)));
                self.end(number);
            } else {
                let entry = self.entry(number);
                (entry.last, entry.timeout, entry.late) = (end, EXTENSION, entry.late + SWEEP);
            }
        }
        self.now = until;
    }

    fn entry(&mut self, number: u64) -> &mut Entry {
        self.entries.iter_mut().find(|entry| entry.number == number).expect("an entry that is there")
    }

    /// Ends an entry, unless it controls others.
    fn end(&mut self, number: u64) {
        let at = self.entries.iter().position(|entry| entry.number == number).expect("an entry that is there");
        if self.entries[at].controlled != 0 {
            return;
        }
        let entry = self.entries.remove(at);
        let dest = &mut self.dests[entry.dest];
        if entry.template.is_some() {
            dest.persistent -= 1;
            return;
        }
        if entry.is_active {
            dest.active -= 1;
        } else {
            dest.inactive -= 1;
        }
        let (upper, lower) = dest.thresholds;
        let is_below = if lower != 0 { dest.total() < lower } else { upper == 0 || dest.total() * 4 < upper * 3 };
        dest.is_overloaded &= !is_below;
        if let Some(control) = entry.control {
            self.entry(control).controlled -= 1;
        }
    }

    /// A client's packet. Where more than one pick is permitted, `told` is the director's.
    pub fn request(&mut self, packet: &Packet, told: impl FnOnce() -> Option<usize>) -> Verdict {
        let key = |e: &&Entry| {
            let ends = (e.protocol, e.client, e.virt) == (Some(packet.protocol), packet.from, packet.to);
            e.template.is_none() && ends
        };
        if let Some(entry) = self.entries.iter().find(key).cloned() {
            match self.judge(&entry, packet) {
                Some(true) => return self.forward(entry.number, packet),
                Some(false) => return Verdict::Dropped,
                None => self.end(entry.number),
            }
        }
        let Some(service) = self.find_service(packet) else { return Verdict::Stack };
        let opens = match packet.protocol {
            Protocol::Tcp => packet.event & 4 == 0 && (packet.event & 2 != 0 || self.sysctls.sloppy_tcp),
            Protocol::Sctp => packet.event == 1,
            Protocol::Udp => true,
        };
        if !opens {
            return Verdict::Stack;
        }
        let template = self.template(service, packet);
        let picked = match template {
            Some(number) => Some(self.entry(number).dest),
            None => self.pick(service, packet, told),
        };
        let Some(place) = picked else { return Verdict::Refused };
        self.open(service, place, template, packet)
    }

    /// Whether a connection takes a packet, or has it dropped; none if it ends instead.
    fn judge(&self, entry: &Entry, packet: &Packet) -> Option<bool> {
        let dest = &self.dests[entry.dest];
        if states::is_request(packet.protocol, packet.event) {
            let is_quiesced = self.sysctls.expire_nodest_conn && dest.weight == 0;
            let mode = self.sysctls.conn_reuse_mode;
            let is_over = states::is_over(packet.protocol, entry.state, mode, entry.no_output);
            if is_quiesced || entry.control.is_none() && is_over {
                return None;
            }
        }
        match (dest.is_available, self.sysctls.expire_nodest_conn) {
            (true, _) => Some(true),
            (false, true) => None,
            (false, false) => Some(false),
        }
    }

    /// The service of a packet: by its mark, by its address and port, or for every port.
    pub fn find_service(&self, packet: &Packet) -> Option<usize> {
        let find = |wanted: Selector| self.services.iter().position(|service| service.selector == wanted);
        let (address, port) = packet.to;
        let by_mark = if packet.mark == 0 { None } else { find(Selector::Mark(packet.mark, address.is_ipv4())) };
        let by_port = |port| find(Selector::Address(packet.protocol, (address, port)));
        by_mark.or_else(|| by_port(port)).or_else(|| by_port(0))
    }

    /// What a template of a service is found by.
    pub fn template_key(&self, service: usize, packet: &Packet) -> Option<(Option<Protocol>, End, End)> {
        let service = &self.services[service];
        let (_, bits) = service.persistence?;
        let client = (masked(packet.from.0, bits), 0);
        Some(match service.selector {
            Selector::Mark(mark, is_v4) => (None, client, (address_of_mark(mark, is_v4), 0)),
            Selector::Address(protocol, (_, port)) => (Some(protocol), client, (packet.to.0, port)),
        })
    }

    /// The template that leads a packet, by its number. One that must not is set aside.
    fn template(&mut self, service: usize, packet: &Packet) -> Option<u64> {
        let key = self.template_key(service, packet)?;
        let leads = |e: &&mut Entry| (e.protocol, e.client, e.virt) == key && e.template == Some(Lead::Leads);
        let entry = self.entries.iter_mut().find(leads)?;
        let dest = &self.dests[entry.dest];
        if !dest.is_available || self.sysctls.expire_quiescent_template && dest.weight == 0 {
            entry.template = Some(Lead::Aside);
            return None;
        }
        Some(entry.number)
    }

    /// The destination that the scheduler picks.
    fn pick(&mut self, service: usize, packet: &Packet, told: impl FnOnce() -> Option<usize>) -> Option<usize> {
        let service = &mut self.services[service];
        let is_for_every_port = matches!(service.selector, Selector::Address(_, (_, 0)));
        if is_for_every_port && service.persistence.is_none() {
            return None;
        }
        let list: Vec<(usize, &Destination)> = service.list.iter().map(|place| (*place, &self.dests[*place])).collect();
        match service.scheduler.pick(&list, &mut service.memory, packet.from.0, packet.to.0) {
            Pick::Exactly(place) => place,
            Pick::OneOf(permitted, may_be_none) => {
                let place = told();
                let is_permitted = place.map_or(may_be_none, |place| permitted.contains(&place));
                assert!(is_permitted, "{:?} picked {place:?} of {permitted:?}", service.scheduler);
                place
            }
        }
    }

    /// Opens a connection to a destination, and forwards its packet.
    fn open(&mut self, service: usize, place: usize, template: Option<u64>, packet: &Packet) -> Verdict {
        let (selector, persistence) = (self.services[service].selector, self.services[service].persistence);
        let one_packet = self.services[service].is_one_packet && packet.protocol == Protocol::Udp;
        let dest = &mut self.dests[place];
        // A client's ports are kept together on ports of their own: the real server's is the packet's.
        let port = match (selector, persistence) {
            _ if dest.method != Method::Masq => packet.to.1,
            (Selector::Address(_, (_, 0)) | Selector::Mark(..), Some(_)) => packet.to.1,
            (Selector::Mark(..), None) if dest.end.1 == 0 => packet.to.1,
            _ => dest.end.1,
        };
        let (method, real) = (dest.method, (dest.end.0, port));
        let common = Entry {
            number: 0,
            protocol: Some(packet.protocol),
            client: packet.from,
            virt: packet.to,
            dest: place,
            real,
            method,
            state: 0,
            is_active: false,
            no_output: method != Method::Masq,
            last: self.now,
            timeout: 0,
            control: None,
            controlled: 0,
            template: None,
            late: 0,
        };
        dest.counted.connections += 1;
        if one_packet {
            count(&mut dest.counted.from_clients, packet);
        }
        let mut control = template;
        if control.is_none()
            && let (Some((protocol, client, virt)), Some((timeout, _))) =
                (self.template_key(service, packet), persistence)
        {
            let template = Some(Lead::Leads);
            control = Some(self.insert(Entry { protocol, client, virt, timeout, template, ..common.clone() }));
            self.dests[place].persistent += 1;
        }
        if one_packet {
            return sent(&common, packet);
        }
        if let Some(number) = control {
            let now = self.now;
            let template = self.entry(number);
            (template.last, template.late, template.controlled) = (now, 0, template.controlled + 1);
        }
        let number = self.insert(Entry { control, ..common });
        let dest = &mut self.dests[place];
        dest.inactive += 1;
        dest.is_overloaded |= dest.thresholds.0 != 0 && dest.total() >= dest.thresholds.0;
        self.forward(number, packet)
    }

    fn insert(&mut self, entry: Entry) -> u64 {
        self.number += 1;
        self.entries.push(Entry { number: self.number, ..entry });
        self.number
    }

    /// Forwards a client's packet by its connection.
    fn forward(&mut self, number: u64, packet: &Packet) -> Verdict {
        let way = if self.entry(number).no_output { Way::InOnly } else { Way::In };
        self.advance(number, way, packet.event);
        let entry = self.entry(number).clone();
        count(&mut self.dests[entry.dest].counted.from_clients, packet);
        sent(&entry, packet)
    }

    /// A real server's reply by NAT.
    pub fn reply(&mut self, packet: &Packet) -> Verdict {
        let is_of = |e: &&Entry| {
            let ends = (e.protocol, e.client, e.real) == (Some(packet.protocol), packet.to, packet.from);
            e.template.is_none() && e.method == Method::Masq && ends
        };
        let Some(entry) = self.entries.iter().find(is_of).cloned() else { return Verdict::Stack };
        self.advance(entry.number, Way::Out, packet.event);
        let dest = &mut self.dests[entry.dest];
        if dest.is_available {
            count(&mut dest.counted.from_server, packet);
        }
        Verdict::Sent(None, entry.virt, entry.client)
    }

    /// What a packet does to its connection.
    fn advance(&mut self, number: u64, way: Way, event: u8) {
        let now = self.now;
        let entry = self.entry(number);
        let protocol = entry.protocol.expect("a connection has a protocol");
        entry.state = states::next(protocol, way, event, entry.state);
        (entry.last, entry.timeout) = (now, states::timeout(protocol, entry.state));
        entry.no_output &= way != Way::Out;
        let (was, is) = (entry.is_active, states::is_active(protocol, entry.state));
        entry.is_active = is;
        let place = entry.dest;
        let dest = &mut self.dests[place];
        match (was, is) {
            (false, true) => (dest.active, dest.inactive) = (dest.active + 1, dest.inactive - 1),
            (true, false) => (dest.active, dest.inactive) = (dest.active - 1, dest.inactive + 1),
            _ => {}
        }
    }
}

/// How a client's packet leaves.
fn sent(entry: &Entry, packet: &Packet) -> Verdict {
    let to = if entry.method == Method::Masq { entry.real } else { packet.to };
    Verdict::Sent(Some((entry.method, entry.real.0)), packet.from, to)
}

fn count((packets, bytes): &mut (u64, u64), packet: &Packet) {
    (*packets, *bytes) = (*packets + 1, *bytes + packet.length);
}

/// The first bits of an address.
fn masked(address: IpAddr, bits: u32) -> IpAddr {
    match address {
        IpAddr::V4(address) => IpAddr::V4((address.to_bits() & (u64::MAX << (32 - bits)) as u32).into()),
        IpAddr::V6(address) => {
            let mask = if bits == 0 { 0 } else { u128::MAX << (128 - bits) };
            IpAddr::V6((address.to_bits() & mask).into())
        }
    }
}

/// The virtual address of a template of a service by mark.
fn address_of_mark(mark: u32, is_v4: bool) -> IpAddr {
    if is_v4 { IpAddr::V4(mark.into()) } else { IpAddr::V6((u128::from(mark) << 96).into()) }
}
