//! Daemons of connection synchronisation, as ipvsadm starts and lists them.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr};
use std::path::PathBuf;

use lvs_common::abi;

/// What a daemon does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Role {
    /// It tells others of this director's connections.
    Master,
    /// It learns of others' connections.
    Backup,
}

impl Role {
    /// Both, in the order of listings.
    pub const ALL: [Role; 2] = [Role::Master, Role::Backup];

    /// Its word.
    pub const fn name(self) -> &'static str {
        match self {
            Role::Master => "master",
            Role::Backup => "backup",
        }
    }

    /// The role of a word.
    pub fn by_name(name: &str) -> Option<Self> {
        Role::ALL.into_iter().find(|role| role.name() == name)
    }
}

/// A daemon.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Daemon {
    /// What it does.
    pub role: Role,
    /// Name of the device that it sends or listens on.
    pub interface: String,
    /// Which directors belong together; a backup with 0 believes all.
    pub syncid: u8,
    /// Longest message, bytes of UDP payload; 0 is what suits the role and the device.
    pub maxlen: u16,
    /// The multicast group, or the address of another director, its peer.
    pub group: IpAddr,
    /// The other peers, of the same family; none of a multicast group.
    pub further: Vec<IpAddr>,
    /// The group's first UDP port.
    pub port: u16,
    /// TTL of messages.
    pub ttl: u8,
    /// The file with the key that messages are sealed with, if they are.
    pub key: Option<PathBuf>,
}

/// Bytes of the headers of IPv4 and UDP, and of IPv6 and UDP.
const HEADERS: [u32; 2] = [28, 48];
/// The MTU that a master takes for granted.
const ETHERNET: u32 = 1500;
/// Least length of a backup's messages.
const LEAST: u32 = 1024;

impl Daemon {
    /// The port where none is named.
    pub const PORT: u16 = 8848;
    /// The group where none is named.
    pub const GROUP: IpAddr = IpAddr::V4(Ipv4Addr::new(224, 0, 0, 81));
    /// Most peers.
    pub const PEERS: usize = 1 + abi::FURTHER_PEERS;
    /// The device where none is named.
    pub const INTERFACE: &str = "eth0";

    /// A daemon as ipvsadm starts it by default.
    pub fn new(role: Role) -> Self {
        let interface = Daemon::INTERFACE.to_owned();
        let (group, further, port) = (Daemon::GROUP, Vec::new(), Daemon::PORT);
        Daemon { role, interface, syncid: 0, maxlen: 0, group, further, port, ttl: 1, key: None }
    }

    /// Whether it sends to directors by their addresses, and listens to them alone, instead of a multicast group.
    pub fn has_peer(&self) -> bool {
        !self.group.is_multicast()
    }

    /// The peers; none with a multicast group.
    pub fn peers(&self) -> Vec<IpAddr> {
        let first = self.has_peer().then_some(self.group);
        first.into_iter().chain(self.further.iter().copied()).collect()
    }

    /// The multicast group, or the peers with commas between them.
    pub fn destination(&self) -> String {
        let further = self.further.iter().map(|peer| format!(",{peer}"));
        std::iter::once(self.group.to_string()).chain(further).collect()
    }

    /// The length of its messages on a device of this MTU, as IPVS reckons it.
    pub fn length(&self, mtu: u32) -> u16 {
        let headers = HEADERS[usize::from(self.group.is_ipv6())];
        let most = u32::from(u16::MAX) - headers;
        let length = match (self.maxlen, self.role) {
            (0, Role::Master) => ETHERNET - headers,
            (0, Role::Backup) => mtu.clamp(ETHERNET, u16::MAX.into()) - headers,
            (length, Role::Master) => length.into(),
            (length, Role::Backup) => u32::from(length).max(LEAST),
        };
        length.min(most) as u16
    }
}

impl fmt::Display for Daemon {
    /// As ipvsadm lists it, with what is not ipvsadm's besides.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Daemon { role, interface, syncid, maxlen, port, ttl, key, .. } = self;
        let (role, to) = (role.name(), if self.has_peer() { "peer" } else { "group" });
        let group = self.destination();
        let sealed = if key.is_some() { ", sealed" } else { "" };
        write!(
            f,
            "{role} sync daemon (mcast={interface}, syncid={syncid}, maxlen={maxlen}, {to}={group}, port={port}, ttl={ttl}{sealed})"
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_are_ipvss() {
        let length = |role, maxlen, group: &str, mtu| {
            Daemon { maxlen, group: group.parse().unwrap(), ..Daemon::new(role) }.length(mtu)
        };
        assert_eq!(length(Role::Master, 0, "224.0.0.81", 9000), 1472);
        assert_eq!(length(Role::Master, 0, "ff02::81", 9000), 1452);
        assert_eq!(length(Role::Master, 1, "224.0.0.81", 1500), 1);
        assert_eq!(length(Role::Master, 65507, "224.0.0.81", 1500), 65507);
        assert_eq!(length(Role::Master, 65507, "ff02::81", 1500), 65487);
        assert_eq!(length(Role::Backup, 0, "224.0.0.81", 9000), 8972);
        assert_eq!(length(Role::Backup, 0, "224.0.0.81", 68), 1472);
        assert_eq!(length(Role::Backup, 1, "224.0.0.81", 1500), 1024);
    }
}
