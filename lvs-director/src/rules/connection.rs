//! Rows of the connection table.

use std::net::IpAddr;

use super::service::{PersistenceEngine, Protocol};

/// A connection, or a persistence template, as it is listed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Connection {
    /// The protocol; `None` for the template of a firewall-mark service.
    pub protocol: Option<Protocol>,
    /// Seconds until it expires.
    pub expires: u32,
    /// Name of its state, as IPVS prints it.
    pub state: &'static str,
    /// Client address (masked for a template) and port.
    pub client: (IpAddr, u16),
    /// Virtual address and port; the address of a firewall-mark template is the mark.
    pub virt: (IpAddr, u16),
    /// Real server's address and port.
    pub real: (IpAddr, u16),
    /// Local address and port toward the real server (FullNAT).
    pub local: Option<(IpAddr, u16)>,
    /// Persistence engine and what it keyed the template with.
    pub engine: Option<(PersistenceEngine, String)>,
}
