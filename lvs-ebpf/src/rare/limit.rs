//! How many ICMP errors of the director's own leave: see [`lvs_common::icmp_limit`].

use lvs_common::{
    abi::{Address, IpAddress},
    icmp_limit,
};

use crate::{
    config,
    egress::route,
    kernel::{clock, params, shared},
    maps::{ICMP_RECEIVERS, ICMP_TOKENS},
    packet::{access::Packet, access::TcPacket},
};

/// Whether an error of this type and code may be sent to `receiver` about a packet. A token that another CPU takes at the same
/// moment is not there.
#[inline(always)]
pub fn allows<A: IpAddress>(packet: TcPacket, receiver: &Address, kind: u8, code: u8) -> bool {
    let Some(settings) = config::settings() else { return true };
    let limits = &settings.icmp;
    // The director's own packets do not leave the host, nor do errors about them.
    if packet.device() == 0 || !limits.apply_to(!A::IS_V4, kind, code) {
        return true;
    }
    let (now, hz) = (clock::jiffies(), params::hz());
    let Some(tokens) = shared::element(&ICMP_TOKENS, 0) else { return false };
    let before = tokens.load();
    let Some(after) = limits.take(before, now as u32, hz) else { return false };
    if tokens.compare_exchange(before, after).is_err() {
        return false;
    }
    let on_link = A::IS_V4 || is_on_link::<A>(packet, receiver, now);
    let interval = limits.interval(!A::IS_V4, on_link, hz);
    interval == 0 || take_of(receiver, now as u32, interval)
}

/// Whether an address is reached without a gateway.
#[inline(always)]
fn is_on_link<A: IpAddress>(packet: TcPacket, address: &Address, now: u64) -> bool {
    route::lend(
        #[inline(always)]
        |found| route::route(packet, A::FAMILY, address, now, found).is_ok() && found.gateway == *address,
    )
    .unwrap_or(false)
}

/// Takes an error's tokens from a receiver's bucket.
#[inline(always)]
fn take_of(receiver: &Address, now: u32, interval: u32) -> bool {
    match shared::value(&ICMP_RECEIVERS, receiver) {
        Some(bucket) => {
            let before = bucket.load();
            let (after, allowed) = icmp_limit::take_of(before, now, interval);
            bucket.compare_exchange(before, after).is_ok() && allowed
        }
        None => {
            let (after, allowed) = icmp_limit::take_of(0, now, interval);
            // Without room for the receiver, the limit for all stands.
            let _ = ICMP_RECEIVERS.insert(receiver, &after, 0);
            allowed
        }
    }
}
