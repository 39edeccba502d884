//! Rules as the model takes them.

use std::net::IpAddr;

/// A packet's or a service's protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Protocol {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
    /// SCTP.
    Sctp,
}

/// An address with a port.
pub type End = (IpAddr, u16);

/// What a service is found by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Selector {
    /// Protocol, address and port; port 0 is every port.
    Address(Protocol, End),
    /// The mark of a packet, and whether the service is one of IPv4.
    Mark(u32, bool),
}

/// A scheduler.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "the names are ipvsadm's")]
pub enum Name {
    Rr,
    Wrr,
    Lc,
    Wlc,
    Sed,
    Nq,
    Fo,
    Ovf,
    Dh,
    Sh,
    Mh,
    Lblc,
    Lblcr,
    Twos,
}

/// What `rr` and `wrr` remember.
#[derive(Clone, Copy, Debug, Default)]
pub struct Memory {
    /// The destination that was picked last, by its place; none stands before the list's first.
    pub(super) last: Option<usize>,
    /// `wrr`: the weight that a destination has to have at least now.
    pub(super) current: i64,
}

/// How packets reach a real server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Method {
    /// NAT.
    Masq,
    /// Direct routing.
    Route,
    /// IPIP.
    Tunnel,
}

/// A virtual service.
#[derive(Clone, Debug)]
pub struct Service {
    /// What it is found by.
    pub selector: Selector,
    /// The scheduler.
    pub scheduler: Name,
    /// What the scheduler remembers.
    pub memory: Memory,
    /// Persistence: timeout in milliseconds, and how many bits of a client's address count.
    pub persistence: Option<(u64, u32)>,
    /// One-packet scheduling.
    pub is_one_packet: bool,
    /// Its destinations, by their places in [`Ipvs::dests`](super::ipvs::Ipvs::dests), the newest first.
    pub list: Vec<usize>,
}

impl Service {
    /// A service without destinations.
    pub fn new(selector: Selector, scheduler: Name) -> Self {
        Service {
            selector,
            scheduler,
            memory: Memory::default(),
            persistence: None,
            is_one_packet: false,
            list: Vec::new(),
        }
    }
}

/// What a destination has counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counted {
    /// Connections.
    pub connections: u64,
    /// Packets and bytes from clients.
    pub from_clients: (u64, u64),
    /// Packets and bytes from the real server that passed the director.
    pub from_server: (u64, u64),
}

/// A destination.
#[derive(Clone, Debug)]
pub struct Destination {
    /// Its service, by its place.
    pub service: usize,
    /// The real server.
    pub end: End,
    /// How packets reach it.
    pub method: Method,
    /// Weight.
    pub weight: u32,
    /// Upper and lower threshold, 0 for none.
    pub thresholds: (u32, u32),
    /// Whether it is configured. One that was removed stays for its connections.
    pub is_available: bool,
    /// Whether it has reached its upper threshold, and not come below the lower one since.
    pub is_overloaded: bool,
    /// Connections that count as active.
    pub active: u32,
    /// The others.
    pub inactive: u32,
    /// Persistence templates.
    pub persistent: u32,
    /// What it has counted.
    pub counted: Counted,
}

impl Destination {
    /// A destination of weight 1.
    pub fn new(service: usize, end: End, method: Method) -> Self {
        Destination {
            service,
            end,
            method,
            weight: 1,
            thresholds: (0, 0),
            is_available: false,
            is_overloaded: false,
            active: 0,
            inactive: 0,
            persistent: 0,
            counted: Counted::default(),
        }
    }

    /// Its connections.
    pub fn total(&self) -> u32 {
        self.active + self.inactive
    }

    /// Whether schedulers may pick it.
    pub fn is_usable(&self) -> bool {
        self.weight > 0 && !self.is_overloaded
    }
}

/// The sysctls that the model knows.
#[derive(Clone, Copy, Debug)]
pub struct Sysctls {
    /// Connections of removed destinations end, and not only wait.
    pub expire_nodest_conn: bool,
    /// Templates do not lead to destinations of weight 0.
    pub expire_quiescent_template: bool,
    /// Which ended connections a new request replaces.
    pub conn_reuse_mode: u32,
    /// Any segment but an RST may open a connection.
    pub sloppy_tcp: bool,
}

impl Default for Sysctls {
    fn default() -> Self {
        Sysctls { expire_nodest_conn: false, expire_quiescent_template: false, conn_reuse_mode: 1, sloppy_tcp: false }
    }
}
