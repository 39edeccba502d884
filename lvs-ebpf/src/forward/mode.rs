//! What the forwarding mode changes in a client's packet.

use lvs_common::{
    abi::{Connection, IpAddress, Mode},
    exit::Exit,
};

use crate::{
    forward::{
        nat::{self, Side},
        tunnel::{self, Outer},
    },
    packet::{access::Packet, ttl},
    values::parsed::Parsed,
};

/// The exit of a packet that this mode forwards.
#[inline(always)]
pub fn exit(mode: Mode) -> Exit {
    match mode {
        Mode::ROUTE => Exit::Route,
        Mode::TUNNEL => Exit::Tunnel,
        _ => Exit::Nat,
    }
}

/// Rewrites a packet for the real server: by NAT if `translated` is its connection, else into a tunnel if `is_tunnel`. `lower`
/// lowers the TTL; `whole` says that the packet need not be fragmented.
#[inline(always)]
pub fn rewrite<'a, P: Packet, A: IpAddress>(
    packet: P,
    p: &Parsed<A>,
    translated: Option<&Connection<A>>,
    is_tunnel: bool,
    outer: impl Fn() -> Outer<'a>,
    lower: bool,
    whole: bool,
) -> bool {
    if let Some(c) = translated {
        return nat::apply(packet, p, Side::Destination, c.real, c.real_port, lower);
    }
    (!lower || ttl::lower_ttl::<P, A>(packet)) && (!is_tunnel || tunnel::apply(packet, p, &outer(), whole))
}
