//! What the checks know: plain data, however it was learnt.

use std::collections::BTreeMap;
use std::net::IpAddr;

use lvs_common::abi::{Forward, Sysctls, tunnel::TunnelKind};
use lvs_director::rules::{
    AttachMode, Attached, Destination, DestinationKey, Family, LocalEntry, LogLevel, Protocol, ServiceKey, Tunnel,
};

use crate::firewall::Chain;
pub use crate::network::{Mac, Way, colons};

/// Everything that is known of a director and its surroundings.
#[derive(Clone, Debug, Default)]
pub struct Facts {
    /// The host.
    pub host: Host,
    /// Network devices but `lo`.
    pub devices: Vec<Device>,
    /// Chains of the firewall that concern services.
    pub chains: Vec<Chain>,
    /// Packets by exit.
    pub exits: BTreeMap<&'static str, u64>,
    /// The tables.
    pub tables: Tables,
    /// The data plane's settings.
    pub sysctls: Sysctls,
    /// Services.
    pub services: Vec<Service>,
    /// Virtual addresses.
    pub vips: Vec<Vip>,
    /// Real servers, once for each service.
    pub servers: Vec<Server>,
    /// Local addresses of FullNAT.
    pub locals: Vec<LocalEntry>,
    /// Ports that each of them has toward a real server.
    pub ports: u32,
    /// Connections that backups were not told of, for want of room.
    pub sync_lost: u64,
}

/// The host.
#[derive(Clone, Debug, Default)]
pub struct Host {
    /// The kernel's release.
    pub release: String,
    /// Its version.
    pub version: (u32, u32),
    /// `net.core.bpf_jit_enable`, where it can be seen.
    pub jit: Option<bool>,
    /// Whether an agent runs.
    pub agent: bool,
    /// Services in the kernel's own IPVS; `None` if it is not loaded.
    pub ipvs: Option<usize>,
    /// Settings of the kernel's own IPVS that differ from its defaults.
    pub ipvs_sysctls: BTreeMap<String, String>,
    /// Programs that manage services, and what they talk to.
    pub managers: Vec<Manager>,
    /// Whether `lo` forwards, by family; `None` without the family.
    pub lo_forwards: [Option<bool>; 2],
    /// Whether the host forwards, by family.
    pub forwards: [Option<bool>; 2],
    /// Milliseconds since the data plane's timer ran.
    pub timer_age: u64,
    /// From which level on the data plane writes a log.
    pub log: LogLevel,
}

/// A program that manages services.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Manager {
    /// Its name.
    pub name: String,
    /// Its process.
    pub process: u32,
    /// Whether what it says reaches the data plane.
    pub is_ours: bool,
}

/// A network device.
#[derive(Clone, Debug, Default)]
pub struct Device {
    /// Its name.
    pub name: String,
    /// Its index.
    pub index: u32,
    /// Whether it is up.
    pub up: bool,
    /// Whether it is software only.
    pub is_virtual: bool,
    /// Whether the data plane could serve it.
    pub servable: bool,
    /// How it is served.
    pub attached: Option<Attached>,
    /// Why so, or why not.
    pub why: String,
    /// Whether the kernel has refused what was asked for.
    pub refused: bool,
    /// How it is to be served.
    pub wanted: Option<AttachMode>,
    /// Whether it merges what it receives (LRO).
    pub lro: bool,
    /// Bytes of a packet at most.
    pub mtu: u32,
    /// Receive queues.
    pub queues: u32,
    /// Whether received packets are spread over CPUs in software (RPS).
    pub spreads: bool,
    /// CPUs of the host.
    pub cpus: u32,
    /// Programs of others at its TC ingress that run before ours.
    pub before: Vec<String>,
    /// `rp_filter` in force.
    pub rp_filter: u8,
}

/// The tables and how full they are.
#[derive(Clone, Debug, Default)]
pub struct Tables {
    /// Connections and templates of each family.
    pub held: Vec<(&'static str, u32)>,
    /// For how many of each family there is room.
    pub room: u32,
    /// Buckets of each family's table, and how many of them are full.
    pub buckets: u32,
    /// See `buckets`.
    pub full: Vec<(&'static str, u32)>,
    /// Places of services that were used, and places.
    pub services: (u32, u32),
    /// The same of destinations.
    pub destinations: (u32, u32),
}

/// A service.
#[derive(Clone, Debug)]
pub struct Service {
    /// Which one.
    pub key: ServiceKey,
    /// Its real servers.
    pub servers: usize,
    /// Those that may get connections.
    pub usable: usize,
    /// Whether FullNAT's local addresses are there for each family of its real servers that needs them.
    pub has_locals: bool,
}

/// A virtual address.
#[derive(Clone, Debug)]
pub struct Vip {
    /// The address.
    pub address: IpAddr,
    /// Whether the host has it.
    pub is_own: bool,
    /// Who else answers for it, and the real server that this is, if it is one.
    pub others: Vec<(Mac, Option<IpAddr>)>,
}

/// Whether something was asked, and answered.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Answer {
    /// It was not asked.
    #[default]
    Unasked,
    /// No answer.
    Silent,
    /// A ping was answered; a port was asked and did not, or there is none to ask.
    Echo {
        /// Whether a port was asked.
        port: bool,
    },
    /// The port refuses.
    Refused,
    /// The port answers.
    Open,
}

impl Answer {
    /// Whether there was any.
    pub fn came(self) -> bool {
        matches!(self, Answer::Echo { .. } | Answer::Refused | Answer::Open)
    }
}

/// A real server of a service.
#[derive(Clone, Debug)]
pub struct Server {
    /// The service.
    pub service: ServiceKey,
    /// Its address.
    pub address: IpAddr,
    /// Its port.
    pub port: u16,
    /// How packets reach it.
    pub forward: Forward,
    /// The tunnel.
    pub tunnel: Tunnel,
    /// Its weight.
    pub weight: u32,
    /// The way there.
    pub way: Way,
    /// The director's own address on that way, if it is known.
    pub source: Option<IpAddr>,
    /// The MAC address that the kernel remembers of the next hop.
    pub remembered: Option<Mac>,
    /// Those that answered for the next hop; `None` if it was not asked.
    pub answered: Option<Vec<Mac>>,
    /// Whether its own address answers.
    pub own: Answer,
    /// Whether it takes packets for the virtual address: by a tunnel, if there is one.
    pub vip: Answer,
    /// Of a tunnel: whether it takes them without the tunnel.
    pub bare: Answer,
    /// Of NAT: whether its answers to clients come to the director.
    pub back: Answer,
    /// Of a tunnel: the largest packet (with the outer headers) that was answered, of those that the route lets pass.
    pub largest: Option<u32>,
    /// Packets of clients and of the server that were counted.
    pub packets: (u64, u64),
    /// Its connections that wait for the server's first answer, and all.
    pub waiting: (u32, u32),
}

impl Server {
    /// A real server of which only the configuration is known.
    pub fn new(service: ServiceKey, destination: &Destination) -> Self {
        let Destination { key: DestinationKey { address, port }, forward, weight, tunnel, .. } = *destination;
        Server {
            service,
            address,
            port,
            forward,
            tunnel,
            weight,
            way: Way::default(),
            source: None,
            remembered: None,
            answered: None,
            own: Answer::Unasked,
            vip: Answer::Unasked,
            bare: Answer::Unasked,
            back: Answer::Unasked,
            largest: None,
            packets: (0, 0),
            waiting: (0, 0),
        }
    }

    /// The virtual address, if the service has one.
    pub fn vip_address(&self) -> Option<IpAddr> {
        match self.service {
            ServiceKey::Address { address, .. } => Some(address),
            ServiceKey::Fwmark { .. } => None,
        }
    }

    /// Whether clients speak TCP to it.
    pub fn is_tcp(&self) -> bool {
        self.service.protocol() == Some(Protocol::Tcp)
    }

    /// Bytes that a tunnel adds to a packet.
    pub fn overhead(&self) -> u32 {
        let outer = if Family::of(self.address) == Family::V4 { 20 } else { 40 };
        outer + TunnelKind::header(self.tunnel.kind, self.tunnel.flags)
    }
}

/// A service in a sentence.
pub fn label(key: &ServiceKey) -> String {
    match *key {
        ServiceKey::Address { protocol, address, port } => format!("{} {}", protocol.name(), end(address, port)),
        ServiceKey::Fwmark { mark, family: Family::V4 } => format!("mark {mark}"),
        ServiceKey::Fwmark { mark, family: Family::V6 } => format!("mark {mark} (IPv6)"),
    }
}

/// The options that name a service.
pub fn options(key: &ServiceKey) -> String {
    match *key {
        ServiceKey::Address { protocol, address, port } => {
            let option = match protocol {
                Protocol::Tcp => "-t",
                Protocol::Udp => "-u",
                Protocol::Sctp => "--sctp-service",
            };
            format!("{option} {}", end(address, port))
        }
        ServiceKey::Fwmark { mark, family: Family::V4 } => format!("-f {mark}"),
        ServiceKey::Fwmark { mark, family: Family::V6 } => format!("-f {mark} -6"),
    }
}

/// An address with its port.
pub fn end(address: IpAddr, port: u16) -> String {
    std::net::SocketAddr::new(address, port).to_string()
}

#[cfg(test)]
pub mod tests {
    use super::*;

    /// A real server of which nothing is known.
    pub fn server() -> Server {
        let service =
            ServiceKey::Address { protocol: Protocol::Tcp, address: "10.10.10.10".parse().unwrap(), port: 80 };
        let key = DestinationKey { address: "192.168.122.101".parse().unwrap(), port: 80 };
        Server::new(service, &Destination::new(key, Forward::Masq))
    }

    /// A director with a real server.
    pub fn with(server: Server) -> Facts {
        Facts { servers: vec![server], ..Facts::default() }
    }

    #[test]
    fn services_are_named_as_commands_name_them() {
        let key = server().service;
        assert_eq!((label(&key), options(&key)), ("tcp 10.10.10.10:80".into(), "-t 10.10.10.10:80".into()));
        let mark = ServiceKey::Fwmark { mark: 7, family: Family::V6 };
        assert_eq!((label(&mark), options(&mark)), ("mark 7 (IPv6)".into(), "-f 7 -6".into()));
    }
}
