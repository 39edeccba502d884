//! The kernel's neighbour entries: whether the hardware addresses of hosts on this host's networks are known.

use std::collections::HashMap;
use std::net::IpAddr;

use lvs_common::health::{FAILED, KNOWN};
use lvs_director::netlink::{self, Message, ROUTE};
use netlink_packet_route::neighbour::NeighbourAttribute;

/// `RTM_GETNEIGH`; bytes of `struct ndmsg`, and where its state is; `NDA_DST`.
const GET_NEIGHBOUR: u16 = 30;
const FIXED: usize = 12;
const STATE: std::ops::Range<usize> = 8..10;
const DESTINATION: u16 = 1;

/// The state bits of each address. Of one that several devices have an entry for, a device that knows it is believed.
pub fn states() -> Result<HashMap<IpAddr, u16>, netlink::Error> {
    let request = Message::new(GET_NEIGHBOUR, &[0; FIXED], &[] as &[NeighbourAttribute]);
    let mut states = HashMap::new();
    for (address, state) in netlink::dump(ROUTE, request)?.iter().filter_map(entry) {
        let noted = states.entry(address).or_insert(state);
        if *noted & KNOWN == 0 && (state & KNOWN != 0 || *noted & FAILED == 0) {
            *noted = state;
        }
    }
    Ok(states)
}

/// Address and state of an entry; none of those that are not of IP.
fn entry(message: &Message) -> Option<(IpAddr, u16)> {
    let state = u16::from_ne_bytes(message.body.get(STATE)?.try_into().ok()?);
    let destination = message.attribute(FIXED, DESTINATION)?;
    let address = match destination.len() {
        4 => IpAddr::from(<[u8; 4]>::try_from(destination).ok()?),
        16 => IpAddr::from(<[u8; 16]>::try_from(destination).ok()?),
        _ => return None,
    };
    Some((address, state))
}
