//! A virtual service as the tests have it: it takes `ipvsadm`'s commands, schedules through the code under test, and
//! counts connections.
#![allow(dead_code, reason = "every test binary uses a part of it")]

use std::{
    cell::{Cell, RefCell},
    collections::HashMap,
    net::{IpAddr, SocketAddr},
};

use lvs_common::{
    abi::{Address, DestId, RosterEntry, ServiceConfig, ServiceId},
    byte_order::Be16,
    sched::{
        self, Candidate, Destinations, OneByOne, Pick, PickKey, SCHEDULERS, TableDest, Traits, Turns, Visit, Walk,
        change::{self, Change},
        lblc,
        locality::{Entry, Locality, is_fresh},
        overload, roster,
    },
    state::{self, Direction, TCP, UDP, tcp},
};

pub fn address(ip: IpAddr) -> Address {
    match ip {
        IpAddr::V4(ip) => Address::v4(ip.octets()),
        IpAddr::V6(ip) => Address::v6(ip.octets()),
    }
}

/// A destination; its number is its place in the order of addition, from 1.
#[derive(Clone, Debug)]
pub struct Server {
    pub socket: SocketAddr,
    pub weight: u32,
    pub last_weight: u32,
    pub upper: u32,
    pub lower: u32,
    pub active: u32,
    pub inactive: u32,
    pub overloaded: bool,
    pub configured: bool,
}

impl Server {
    /// Its connections as the data plane packs them, and whether it is overloaded.
    fn load(&self) -> (u64, bool) {
        (u64::from(self.active) << 32 | u64::from(self.inactive), self.overloaded)
    }
}

/// What the scheduler of that number is.
fn traits(scheduler: u8) -> &'static Traits {
    &SCHEDULERS.iter().find(|entry| entry.0 as u8 == scheduler).unwrap().1
}

/// A service.
#[derive(Default)]
pub struct Service {
    pub config: ServiceConfig,
    pub state: u64,
    pub servers: Vec<Server>,
    /// Numbers of the configured destinations, newest first.
    pub order: Vec<DestId>,
    pub table: Vec<DestId>,
    pub entries: RefCell<HashMap<Address, Entry>>,
    pub lifetime: u64,
    pub templates: HashMap<Address, DestId>,
    /// Steps that walks have taken.
    pub steps: Cell<u32>,
    /// Whether schedulers that look at every destination read a roster, whatever the list's length.
    pub rostered: bool,
}

impl Destinations for Service {
    fn head(&self) -> DestId {
        self.order.first().copied().unwrap_or(DestId::NONE)
    }

    fn count(&self) -> u32 {
        self.order.len() as u32
    }

    fn get(&self, id: DestId) -> Option<Candidate> {
        let server = self.servers.get((id.get() as usize).checked_sub(1)?)?;
        let place = self.order.iter().position(|other| *other == id)?;
        Some(Candidate {
            id,
            weight: server.weight,
            active: server.active,
            inactive: server.inactive,
            overloaded: server.overloaded,
            next: self.order.get(place + 1).copied().unwrap_or(DestId::NONE),
        })
    }

    fn recall(&self, id: DestId) -> Option<Candidate> {
        Destinations::get(self, id)
    }

    fn walk<W: Walk>(&self, steps: u32, mut walk: W) -> W {
        for _ in 0..steps {
            self.steps.set(self.steps.get() + 1);
            if walk.step(self) {
                break;
            }
        }
        walk
    }

    fn show<V: Visit>(&self, mut visit: V) -> V {
        if !self.rostered {
            return OneByOne::show(self, visit);
        }
        let server = |id: DestId| self.servers.get((id.get() as usize).wrapping_sub(1));
        let entry = |id: &DestId| RosterEntry { id: *id, weight: server(*id).unwrap().weight };
        let entries: Vec<RosterEntry> = self.order.iter().map(entry).filter(|entry| entry.weight != 0).collect();
        // Places in no order.
        let places: Vec<u32> = (1..=roster::parts(entries.len()) as u32).map(|at| 1 + at * 73 % 1009).collect();
        let parts: HashMap<u32, _> = roster::build(ServiceId::new(1), &entries, &places).collect();
        // Slot 0 of the destinations is there, and none.
        let load = |id| Some(server(id).map_or((0, false), Server::load));
        let mut at = places.first().copied();
        while let Some(part) = at.and_then(|at| parts.get(&at)) {
            at = Some(part.next);
            if roster::show(part, load, &mut visit) {
                break;
            }
        }
        visit
    }

    fn best(&self, scheduler: u8) -> DestId {
        sched::best(self, scheduler)
    }

    fn has_idle(&self) -> bool {
        lblc::has_idle(self)
    }
}

impl Locality for Service {
    fn fresh(&self, address: &Address, now: u64) -> Option<Entry> {
        let mut entries = self.entries.borrow_mut();
        let entry = entries.get_mut(address).filter(|entry| is_fresh(entry.used, self.lifetime, now))?;
        entry.used = now;
        Some(*entry)
    }

    fn put(&self, address: &Address, entry: &Entry) {
        self.entries.borrow_mut().insert(*address, *entry);
    }

    fn lifetime(&self) -> u64 {
        self.lifetime
    }
}

impl Service {
    /// A service with destinations of these weights, added one after the other.
    pub fn new(scheduler: &str, weights: &[u32]) -> Self {
        let mut service = Service { lifetime: 86400, ..Service::default() };
        service.command(&format!("-A -t 192.0.2.1:80 -s {scheduler}"));
        for (i, weight) in weights.iter().enumerate() {
            service.command(&format!("-a -t 192.0.2.1:80 -r 10.1.{}.{}:80 -w {weight}", i / 255 + 1, i % 255 + 1));
        }
        service
    }

    /// Carries out a command of `ipvsadm`.
    pub fn command(&mut self, line: &str) {
        let mut words = line.split_whitespace();
        let command = words.next().unwrap();
        let mut option = HashMap::new();
        while let Some(word) = words.next() {
            option.insert(word, if word == "-m" { "" } else { words.next().unwrap() });
        }
        let number = |name: &str, default: u32| option.get(name).map_or(default, |value| value.parse().unwrap());
        let socket = option.get("-r").map(|text| text.parse::<SocketAddr>().unwrap());
        let found = self.servers.iter().position(|server| Some(server.socket) == socket);
        let change = match command {
            "-A" | "-E" => {
                let name = option["-s"];
                self.config.scheduler = SCHEDULERS.iter().find(|(_, traits)| traits.name == name).unwrap().0 as u8;
                self.config.flags =
                    option.get("-b").map_or(0, |flags| flags.split(',').fold(0, |all, f| all | flag(f)));
                self.config.persist_timeout = number("-p", 0);
                Change::Attached
            }
            "-a" => {
                let index = found.unwrap_or(self.servers.len());
                if found.is_none() {
                    self.servers.push(Server {
                        socket: socket.unwrap(),
                        weight: 0,
                        last_weight: 0,
                        upper: 0,
                        lower: 0,
                        active: 0,
                        inactive: 0,
                        overloaded: false,
                        configured: true,
                    });
                }
                self.order.insert(0, DestId::new(index as u32 + 1));
                self.edit(index, number("-w", 1), number("-x", 0), number("-y", 0));
                Change::Added
            }
            "-e" => {
                self.edit(found.unwrap(), number("-w", 1), number("-x", 0), number("-y", 0));
                Change::Edited
            }
            "-d" => {
                let dest = DestId::new(found.unwrap() as u32 + 1);
                let place = self.order.iter().position(|id| *id == dest).unwrap();
                self.order.remove(place);
                self.servers[dest.get() as usize - 1].configured = false;
                let predecessor = place.checked_sub(1).map_or(DestId::NONE, |before| self.order[before]);
                Change::Removed { dest, predecessor }
            }
            other => panic!("no such command: {other}"),
        };
        self.changed(change);
    }

    fn edit(&mut self, index: usize, weight: u32, upper: u32, lower: u32) {
        let server = &mut self.servers[index];
        if overload::edit_clears(server.upper, upper) {
            server.overloaded = false;
        }
        let last_weight = if weight == 0 { server.last_weight } else { weight };
        *server = Server { weight, last_weight, upper, lower, configured: true, ..*server };
    }

    /// Recomputes everything that depends on the list.
    fn changed(&mut self, change: Change) {
        let dests: Vec<TableDest> = self
            .order
            .iter()
            .map(|&id| {
                let server = &self.servers[id.get() as usize - 1];
                TableDest {
                    id,
                    weight: server.weight,
                    last_weight: server.last_weight,
                    address: address(server.socket.ip()),
                    port: Be16::new(server.socket.port()),
                }
            })
            .collect();
        let (max, gcd) = change::weights(dests.iter().map(|dest| dest.weight));
        self.config.head = self.head();
        self.config.dest_count = self.count();
        self.config.weight_max = max;
        self.config.weight_gcd = gcd;
        let traits = traits(self.config.scheduler);
        self.state = traits.state.map_or(0, |state| state(&self.config, self.state, change));
        if let Some(table) = traits.table {
            self.table = vec![DestId::NONE; table.slots];
            assert!((table.build)(&dests, &mut vec![Turns::default(); dests.len()], &mut self.table));
        }
    }

    /// Schedules a connection without counting it.
    pub fn pick(&mut self, key: &PickKey) -> DestId {
        let Pick { dest, state } = sched::pick(self, self.table.as_slice(), self, &self.config, key, self.state);
        self.state = state;
        dest
    }

    /// The destination of a new connection: the client's template's, if the service is persistent and it has one.
    pub fn schedule(&mut self, key: &PickKey) -> DestId {
        if self.config.persist_timeout == 0 {
            return self.pick(key);
        }
        if let Some(dest) = self.templates.get(&key.client) {
            return *dest;
        }
        let dest = self.pick(key);
        if dest.is_some() {
            self.templates.insert(key.client, dest);
        }
        dest
    }

    /// Binds a connection to `dest` and counts it through these packets.
    pub fn bind(&mut self, dest: DestId, protocol: u8, packets: &[(Direction, u8)]) {
        let server = &mut self.servers[dest.get() as usize - 1];
        server.inactive += 1;
        if overload::bind_overloads(server.active + server.inactive, server.upper) {
            server.overloaded = true;
        }
        let (mut now, mut active) = (0, false);
        for &(direction, event) in packets {
            now = state::next(protocol, direction, event, now, false);
            if state::is_active(protocol, now) != active {
                active = !active;
                let (from, to) = if active {
                    (&mut server.inactive, &mut server.active)
                } else {
                    (&mut server.active, &mut server.inactive)
                };
                *from -= 1;
                *to += 1;
            }
        }
    }

    /// Binds a TCP connection whose SYN was seen.
    pub fn bind_active(&mut self, dest: DestId) {
        self.bind(dest, TCP, &[(Direction::Input, tcp::SYN)]);
    }

    /// Binds a UDP connection.
    pub fn bind_inactive(&mut self, dest: DestId) {
        self.bind(dest, UDP, &[(Direction::Input, 0)]);
    }
}

fn flag(name: &str) -> u32 {
    let mut flags = sched::FLAGS.iter().chain(SCHEDULERS.iter().flat_map(|entry| entry.1.flags));
    flags.find(|flag| flag.1 == name).unwrap_or_else(|| panic!("no such flag: {name}")).0
}
