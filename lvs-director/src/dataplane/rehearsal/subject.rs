//! The packet of a rehearsal.

use std::net::SocketAddr;

use crate::rules::Family;

/// A packet that comes in.
#[derive(Clone, Debug)]
pub struct Subject {
    /// Index of the device that it comes in on.
    pub device: u32,
    /// Its firewall mark.
    pub mark: u32,
    /// Its IP protocol.
    pub protocol: u8,
    /// Where it is from; port 0 without ports.
    pub source: SocketAddr,
    /// Where it goes.
    pub destination: SocketAddr,
    /// The frame, from the Ethernet header on.
    pub frame: Vec<u8>,
}

impl Subject {
    /// Its address family.
    pub fn family(&self) -> Family {
        Family::of(self.source.ip())
    }
}
