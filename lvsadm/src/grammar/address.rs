//! Addresses with ports: `-t`, `-u`, `--sctp-service` and `-r`.

use std::net::{IpAddr, Ipv6Addr};

use super::values;
use crate::names::Names;
use lvs_director::rules::Protocol;

/// An address, with a port if one was given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Endpoint {
    /// The address.
    pub address: IpAddr,
    /// The port.
    pub port: Option<u16>,
}

/// Reads `ADDRESS`, `ADDRESS:PORT`, `HOST:PORT`, `[IPV6]:PORT` or `IPV6`; the port is a number or the name of a service
/// of `protocol`. Some forms are odd and kept that way: brackets need a port, and brackets around anything but an IPv6
/// address lose it.
pub fn parse(text: &str, protocol: Option<Protocol>, names: &mut dyn Names) -> Option<Endpoint> {
    if text.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let (inside, bracket_port) = match text.strip_prefix('[') {
        Some(rest) => {
            let (inside, after) = rest.split_once(']')?;
            (inside, Some(after.strip_prefix(':')?))
        }
        None => (text, None),
    };
    let (address, port) = match inside.parse::<Ipv6Addr>() {
        Ok(v6) => (IpAddr::V6(v6), bracket_port),
        Err(_) => {
            let (host, port) = match inside.rsplit_once(':') {
                Some((host, port)) => (host, Some(port)),
                None => (inside, None),
            };
            (IpAddr::V4(values::inet_aton(host).or_else(|| names.address(host))?), port)
        }
    };
    let port = match port {
        Some(port) => Some(self::port(port, protocol, names)?),
        None => None,
    };
    Some(Endpoint { address, port })
}

/// A port's number or name.
fn port(text: &str, protocol: Option<Protocol>, names: &mut dyn Names) -> Option<u16> {
    match values::number(text, 0..=65535) {
        Some(number) => u16::try_from(number).ok(),
        None => names.port(text, protocol?),
    }
}
