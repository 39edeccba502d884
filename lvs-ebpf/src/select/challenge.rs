//! The challenge of sources that ask a service with `-j enable` for connections: see [`lvs_common::challenge`].
//!
//! The program `Schedule` asks here whether a packet without a connection is to be challenged. The program `Challenge` makes
//! the challenge out of the SYN and sends it back, and verifies the RST that comes as an answer.

use crate::packet::handover;
use aya_ebpf::bindings::xdp_action;
use lvs_common::programs::Program;
use lvs_common::{
    abi::{IpAddress, Settings, WAYS, device_flags},
    challenge::{self, Flow, Verified},
    exit::Exit,
    hash::SipKey,
    wire::{Ethernet, Tcp, protocol, tcp_flags},
};

use crate::{
    config::{device::device, service::ServiceRef},
    exits,
    kernel::{
        clock, params,
        redirect::redirect,
        shared::{Shared, field, value},
    },
    link,
    maps::VERIFIED,
    packet::offsets::TCP_CHECK,
    packet::{access::Packet, own_segment, parse::Family},
    values::parsed::{L3, Parsed},
};

/// Whether a packet that no connection takes is one of those that the service challenges, or of their answers.
#[inline(always)]
pub fn concerns<A>(p: &Parsed<A>, service: &ServiceRef) -> bool {
    service.config().own.synproxy != 0 && p.protocol == protocol::TCP
}

/// What becomes of such a packet instead of opening a connection, if something does; `opens` tells whether it would.
#[inline(always)]
pub fn instead<P: Packet, A: Family>(
    packet: P,
    p: &Parsed<A>,
    service: &ServiceRef,
    settings: &Settings,
    opens: bool,
    now: u64,
) -> Option<Result<Program, i32>> {
    let next = Program::Challenge;
    if p.flags & tcp_flags::RST != 0 {
        return Some(Ok(next));
    }
    // The director does not flood itself.
    if !opens || packet.device() == 0 {
        return None;
    }
    let second = second(now);
    if is_verified(p.source, settings, second) || admits_unverified::<A>(service, settings, second) {
        return None;
    }
    Some(if challenge::is_request(p.flags) { Ok(next) } else { Err(exits::drop(packet, Exit::DropUnverified)) })
}

/// The second that the clock is at.
#[inline(always)]
fn second(now: u64) -> u64 {
    now / params::hz().max(1) as u64
}

/// Whether a source has answered a challenge not long ago, and makes no more requests than one source should.
#[inline(always)]
fn is_verified<A: IpAddress>(source: A, settings: &Settings, second: u64) -> bool {
    let Some(source) = value(&VERIFIED, &challenge::source(source)) else { return false };
    if !source.load().is_valid(second) {
        return false;
    }
    let rate = settings.sysctls.synproxy_source_rate;
    if rate == 0 {
        return true;
    }
    spend_request(field!(source.requests), second, rate)
}

/// Whether a service lets a request of an unverified source in all the same.
#[inline(always)]
fn admits_unverified<A: IpAddress>(service: &ServiceRef, settings: &Settings, second: u64) -> bool {
    let (held, buckets) = match A::IS_V4 {
        true => (settings.held[0], params::buckets4()),
        false => (settings.held[1], params::buckets6()),
    };
    challenge::has_room(held, buckets.wrapping_mul(WAYS / 4 * 3))
        && spend_request(service.requests(), second, settings.sysctls.synproxy_rate)
}

/// Takes one of the `rate` requests that `word` has for this second. There is none where another CPU's came between.
#[inline(always)]
fn spend_request(word: Shared<u32>, second: u64, rate: u32) -> bool {
    let old = word.load();
    match challenge::spend(old, second, rate) {
        Some(new) => word.compare_exchange(old, new).is_ok(),
        None => false,
    }
}

/// The program: challenges the source of a request, or verifies that of an answer.
#[inline(always)]
pub fn run<P: Packet, A: Family>(packet: P) -> i32 {
    let Some(p) = handover::load::<A>() else { return P::PASS };
    let Some(h) = packet.read::<Tcp>(p.l4()) else { return P::PASS };
    let sequence = h.sequence.get();
    let flow = Flow {
        source: p.source,
        destination: p.destination,
        source_port: p.source_port,
        destination_port: p.destination_port,
    };
    let ([first, other], second) = (params::challenge_key(), second(clock::jiffies()));
    let key = SipKey(first, other);
    if p.flags & tcp_flags::RST != 0 {
        if !flow.is_answer(sequence, second, key) {
            return exits::pass(packet, Exit::NotFirst);
        }
        verify(p.source, second);
        return exits::drop(packet, Exit::Verified);
    }
    if let Err(verdict) = packet.in_tc()
        && !has(packet, device_flags::ACCEPTS_XDP)
    {
        return verdict;
    }
    if !turn_back(packet, p, flow.challenge(sequence, second, key)) {
        return exits::drop(packet, Exit::DropInternal);
    }
    exits::leave(packet, Exit::Challenged, send_back(packet))
}

/// Whether the device that a packet came in on has a flag.
#[inline(always)]
fn has<P: Packet>(packet: P, flag: u16) -> bool {
    device(packet.device()).is_some_and(|device| device.flags & flag != 0)
}

/// Remembers that a source has answered.
#[inline(always)]
fn verify<A: IpAddress>(source: A, second: u64) {
    let key = challenge::source(source);
    match value(&VERIFIED, &key) {
        Some(known) => field!(known.second).store(second as u32),
        // A source that finds no place is challenged again.
        None => drop(VERIFIED.insert(&key, &Verified { second: second as u32, requests: 0 }, 0)),
    }
}

/// Makes a request the challenge with this number.
#[inline(always)]
fn turn_back<P: Packet, A: Family>(packet: P, p: &Parsed<A>, number: u32) -> bool {
    let is_partial = packet.is_partial(p.l4() + TCP_CHECK);
    let (from, to) = ((p.destination, p.destination_port), (p.source, p.source_port));
    let tcp = own_segment::tcp(from, to, [0, number], tcp_flags::ACK, is_partial);
    let bare = L3 + A::HEADER;
    if !packet.strip(p.l4().wrapping_sub(bare) as u32, bare as u32 + own_segment::HEADER) {
        return false;
    }
    let (source, destination) = (p.destination.widen().0, p.source.widen().0);
    let is_turned = link::HEADER == 0
        || packet.update::<Ethernet>(0, |h| {
            let (client, director) = (h.source, h.destination);
            h.destination = client;
            h.source = director;
        });
    is_turned
        && packet.write(bare, tcp)
        && if A::IS_V4 {
            packet.write(L3, own_segment::ipv4(source[0], destination[0]))
        } else {
            packet.write(L3, own_segment::ipv6(source, destination))
        }
}

/// Sends a packet back to where it came from: there is no need to look for a way there.
#[inline(always)]
fn send_back<P: Packet>(packet: P) -> i32 {
    if packet.in_tc().is_err() && !has(packet, device_flags::NO_TX) {
        return xdp_action::XDP_TX as i32;
    }
    redirect(packet.device(), 0)
}
