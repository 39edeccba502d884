//! Addresses, ports and services as they are written.

use std::net::{IpAddr, Ipv4Addr};

use lvs_common::abi::{Forward, tunnel};

use crate::grammar::Dialect;
use crate::names::Names;
use lvs_director::rules::{Destination, Family, Protocol, ServiceKey};

/// Writes addresses and ports, as names where names are wanted and known.
pub struct Labels<'a> {
    dialect: Dialect,
    names: Option<&'a mut dyn Names>,
}

impl<'a> Labels<'a> {
    /// For the output of a dialect; `numeric` without names.
    pub fn new(dialect: Dialect, names: &'a mut dyn Names, numeric: bool) -> Self {
        Labels { dialect, names: (!numeric).then_some(names) }
    }

    /// Without names.
    pub fn numeric(dialect: Dialect) -> Self {
        Labels { dialect, names: None }
    }

    /// Whose output it is.
    pub fn dialect(&self) -> Dialect {
        self.dialect
    }

    /// `ADDRESS:PORT` or `[ADDRESS]:PORT`. Ports have names within a protocol only.
    pub fn endpoint(&mut self, address: IpAddr, port: u16, protocol: Option<Protocol>) -> String {
        let host = self.names.as_mut().and_then(|names| names.host(address)).unwrap_or_else(|| number(address));
        let name = match (&mut self.names, protocol) {
            (Some(names), Some(protocol)) => names.service(port, protocol),
            _ => None,
        };
        let port = name.unwrap_or_else(|| port.to_string());
        if address.is_ipv6() { format!("[{host}]:{port}") } else { format!("{host}:{port}") }
    }

    /// A firewall mark. ipvsadm prints those from 2^31 on as negative numbers, which it then does not read.
    pub fn mark(&self, mark: u32) -> String {
        match self.dialect {
            Dialect::Literal => (mark as i32).to_string(),
            Dialect::Own => mark.to_string(),
        }
    }

    /// A service in a listing. IPv4 names are cut, so that the columns stay.
    pub fn service(&mut self, key: &ServiceKey) -> String {
        match *key {
            ServiceKey::Fwmark { mark, family: Family::V4 } => format!("FWM  {}", self.mark(mark)),
            ServiceKey::Fwmark { mark, family: Family::V6 } => format!("FWM  {} IPv6", self.mark(mark)),
            ServiceKey::Address { protocol, address, port } => {
                let name = format!("{:<4} {}", protocol.title(), self.endpoint(address, port, Some(protocol)));
                if address.is_ipv4() { cut(name, 33) } else { name }
            }
        }
    }

    /// A destination in a listing, cut likewise.
    pub fn destination(&mut self, destination: &Destination, service: &ServiceKey) -> String {
        let key = destination.key;
        let name = self.endpoint(key.address, key.port, service.protocol());
        if key.address.is_ipv4() { cut(name, 28) } else { name }
    }

    /// How packets reach a destination. ipvsadm has no word for full NAT; masquerading is the nearest that readers of
    /// its listings know.
    pub fn forward(&self, forward: Forward) -> &'static str {
        match (forward, self.dialect) {
            (Forward::Masq, _) | (Forward::FullNat, Dialect::Literal) => "Masq",
            (Forward::Local, _) => "Local",
            (Forward::Tunnel, _) => "Tunnel",
            (Forward::Route, _) => "Route",
            (Forward::FullNat, Dialect::Own) => "FullNat",
            (Forward::Bypass, _) => "(null)",
        }
    }
}

/// The tunnel to a destination in a listing.
pub fn tunnel(destination: &Destination) -> String {
    if destination.forward != Forward::Tunnel {
        return "n/a".to_owned();
    }
    let checksum = match destination.tunnel.flags {
        tunnel::CSUM => "+c",
        tunnel::REMCSUM => "r+c",
        _ => "-c",
    };
    let form = destination.tunnel.kind.form();
    let port = if form.has_port() { format!(":{}", destination.tunnel.port) } else { String::new() };
    let checksum = if form.flags == 0 { String::new() } else { format!(":{checksum}") };
    format!("{}{port}{checksum}", form.name)
}

/// An address as the C library writes it: an IPv6 address of an IPv4 address and nothing else ends in that, with dots.
fn number(address: IpAddr) -> String {
    match address {
        IpAddr::V6(v6) => match v6.segments() {
            [0, 0, 0, 0, 0, 0, upper, _] if upper != 0 => format!("::{}", Ipv4Addr::from(u128::from(v6) as u32)),
            _ => v6.to_string(),
        },
        IpAddr::V4(v4) => v4.to_string(),
    }
}

/// The first `length` characters.
fn cut(mut text: String, length: usize) -> String {
    if let Some((end, _)) = text.char_indices().nth(length) {
        text.truncate(end);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_inet_ntops() {
        for text in
            ["::", "::1", "::1.2.3.4", "::0.1.0.0", "::ffff:0.0.0.0", "2001:db8:0:1:1:1:1:1", "1:0:0:2::", "10.0.0.1"]
        {
            assert_eq!(number(text.parse().unwrap()), text);
        }
    }
}
