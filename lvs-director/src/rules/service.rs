//! Virtual services.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr};

use lvs_common::abi::{AF_INET, AF_INET6, OwnOptions, Scheduler, service_flags};

/// Transport protocol of an address service.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[allow(missing_docs, reason = "the variants are the protocols' own names")]
#[repr(u8)]
pub enum Protocol {
    Tcp = 6,
    Udp = 17,
    Sctp = 132,
}

impl Protocol {
    /// All of them.
    pub const ALL: [Protocol; 3] = [Protocol::Tcp, Protocol::Udp, Protocol::Sctp];

    /// The protocol with this IP protocol number.
    pub fn from_number(number: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|&protocol| protocol as u8 == number)
    }

    /// The name in `/etc/services`.
    pub fn name(self) -> &'static str {
        match self {
            Protocol::Tcp => "tcp",
            Protocol::Udp => "udp",
            Protocol::Sctp => "sctp",
        }
    }

    /// The name in listings.
    pub fn title(self) -> &'static str {
        match self {
            Protocol::Tcp => "TCP",
            Protocol::Udp => "UDP",
            Protocol::Sctp => "SCTP",
        }
    }
}

/// Address family.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[allow(missing_docs, reason = "the variants are the families' own names")]
pub enum Family {
    V4,
    V6,
}

impl Family {
    /// The family of an address.
    pub fn of(address: IpAddr) -> Self {
        if address.is_ipv4() { Family::V4 } else { Family::V6 }
    }

    /// The name iproute2 has for it.
    pub fn name(self) -> &'static str {
        match self {
            Family::V4 => "inet",
            Family::V6 => "inet6",
        }
    }

    /// `AF_INET` or `AF_INET6`.
    pub fn number(self) -> u8 {
        match self {
            Family::V4 => AF_INET,
            Family::V6 => AF_INET6,
        }
    }
}

/// What tells one virtual service from another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum ServiceKey {
    /// Packets to an address and a port of a protocol; port 0 is every port that has no service of its own.
    Address {
        /// Transport protocol.
        protocol: Protocol,
        /// Virtual address.
        address: IpAddr,
        /// Virtual port.
        port: u16,
    },
    /// Packets of a family that carry a firewall mark.
    Fwmark {
        /// The mark, never 0.
        mark: u32,
        /// Address family.
        family: Family,
    },
}

impl ServiceKey {
    /// Address family of the packets it serves.
    pub fn family(&self) -> Family {
        match *self {
            ServiceKey::Address { address, .. } => Family::of(address),
            ServiceKey::Fwmark { family, .. } => family,
        }
    }

    /// The protocol, `None` for a firewall mark.
    pub fn protocol(&self) -> Option<Protocol> {
        match *self {
            ServiceKey::Address { protocol, .. } => Some(protocol),
            ServiceKey::Fwmark { .. } => None,
        }
    }

    /// Where IPVS's two hash tables of 256 rows would list the service: the table, then the row (the kernel also mixes
    /// in the address of its network namespace, so any of 256 rotations is as true as this one).
    pub fn hash_row(&self) -> (u8, u8) {
        match *self {
            ServiceKey::Fwmark { mark, .. } => (1, mark as u8),
            ServiceKey::Address { protocol, address, port } => {
                let folded = match address {
                    IpAddr::V4(v4) => u32::from(v4),
                    IpAddr::V6(v6) => {
                        let bits = u128::from(v6);
                        (bits >> 96) as u32 ^ (bits >> 64) as u32 ^ (bits >> 32) as u32 ^ bits as u32
                    }
                };
                (0, protocol as u8 ^ folded as u8 ^ (port >> 8) as u8 ^ port as u8)
            }
        }
    }
}

/// How much of a client's address persistence looks at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Netmask {
    /// IPv4: a mask, whose bits need not be contiguous.
    V4(Ipv4Addr),
    /// IPv6: a prefix length, 1..=128.
    V6(u8),
}

impl Netmask {
    /// The whole address.
    pub fn full(family: Family) -> Self {
        match family {
            Family::V4 => Netmask::V4(Ipv4Addr::BROADCAST),
            Family::V6 => Netmask::V6(128),
        }
    }

    /// Whether it is the whole address.
    pub fn is_full(self) -> bool {
        matches!(self, Netmask::V4(Ipv4Addr::BROADCAST) | Netmask::V6(128))
    }
}

impl fmt::Display for Netmask {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Netmask::V4(mask) => mask.fmt(f),
            Netmask::V6(prefix) => prefix.fmt(f),
        }
    }
}

/// A persistence engine (`--pe`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum PersistenceEngine {
    /// The Call-ID of SIP.
    Sip,
}

impl PersistenceEngine {
    /// The engine of that name.
    pub fn by_name(name: &str) -> Option<Self> {
        (name == "sip").then_some(PersistenceEngine::Sip)
    }

    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            PersistenceEngine::Sip => "sip",
        }
    }
}

/// A virtual service.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Service {
    /// What it is found by.
    pub key: ServiceKey,
    /// Scheduler.
    pub scheduler: Scheduler,
    /// Bits of [`service_flags`].
    pub flags: u32,
    /// Seconds a persistence template lives; means something with [`service_flags::PERSISTENT`] only.
    pub timeout: u32,
    /// Granularity of persistence; stored without persistence too, but of no effect then.
    pub netmask: Netmask,
    /// Persistence engine; of no effect without persistence.
    pub engine: Option<PersistenceEngine>,
    /// The options that IPVS's services lack.
    pub own: OwnOptions,
}

impl Service {
    /// A service with a scheduler and nothing else.
    pub fn new(key: ServiceKey, scheduler: Scheduler) -> Self {
        Service {
            key,
            scheduler,
            flags: 0,
            timeout: 0,
            netmask: Netmask::full(key.family()),
            engine: None,
            own: OwnOptions::default(),
        }
    }

    /// Whether it is persistent.
    pub fn is_persistent(&self) -> bool {
        self.flags & service_flags::PERSISTENT != 0
    }

    /// Whether each packet is scheduled by itself.
    pub fn is_one_packet(&self) -> bool {
        self.flags & service_flags::ONE_PACKET != 0
    }
}
