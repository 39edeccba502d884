//! The program `Schedule`: packets that no live connection takes. It decides whether the packet opens a connection, of which
//! service, and by which template; the programs `Pick` and `Open` go on.

use lvs_common::abi::DestId;
use lvs_common::abi::EntryRef;
use lvs_common::{
    abi::{IpAddress, Settings, service_flags},
    defence,
    exit::Exit,
    lookup::FTP_DATA,
    programs::Program,
    state::sctp,
    wire::{protocol, tcp_flags},
};

use crate::{
    config::{
        self,
        access::{self, Count},
    },
    egress::refuse::{self, Sender},
    exits,
    kernel::{clock, params, shared::element},
    maps::ARRIVALS,
    packet::{
        access::Packet,
        control_block::{self, Flag},
        handover,
        parse::Family,
        ttl,
    },
    programs::{ask_previous, jump, leave_to_successor},
    select::{
        admit, challenge, engine,
        existing::{self, Verdict},
        find_service::{self, is_one_packet},
        mark, request, template, unmatched_reply,
    },
    table::{find, release, reset_queue},
    values::{parsed::Parsed, request::Room},
};

/// Schedules a packet.
#[inline(always)]
pub fn run<P: Packet, A: Family>(packet: P) -> i32 {
    let (Some(p), Some(settings)) = (handover::load::<A>(), config::settings()) else { return P::PASS };
    match decide(packet, p, settings, clock::jiffies()) {
        Ok(next) => jump::<A, _>(packet, next),
        Err(verdict) => verdict,
    }
}

/// The program that goes on with a packet, or the verdict on it.
#[inline(always)]
fn decide<P: Packet, A: Family>(packet: P, p: &Parsed<A>, settings: &Settings, now: u64) -> Result<Program, i32> {
    if reset_queue::are_pending_for(p, settings) {
        // The packet can carry resets of expired connections.
        packet.in_tc()?;
    }
    if let Some((at, connection)) = find::of_client(p) {
        match existing::judge(p, settings, connection, now) {
            Verdict::Keep => {
                control_block::set(packet.in_tc()?, Flag::KeepsConnection);
                return Ok(Program::Receive);
            }
            Verdict::Drop => return Err(exits::drop(packet.in_tc()?, Exit::DropNoDestination)),
            Verdict::Replace => drop(release::remove(at, connection, settings.epoch, |_| true)),
        }
    } else {
        ask_previous(packet);
    }
    ask(packet, p, settings, now)
}

/// Asks for a connection, if the packet may open one.
#[inline(always)]
fn ask<P: Packet, A: Family>(packet: P, p: &Parsed<A>, settings: &Settings, now: u64) -> Result<Program, i32> {
    let Some(service) = find_service::find(p, mark::of(packet, p, settings), settings) else {
        return Err(unserved(packet, p, settings));
    };
    let opens = may_open(p, settings);
    let is_later = P::SUMS_PAYLOAD && p.is_later_fragment();
    let lists = access::lists_for(&service, settings.epoch);
    if (opens || is_later || lists.is_some())
        && let Some(verdict) = admit::refusal(packet, p, &service, settings)
    {
        return Err(verdict);
    }
    if is_later {
        return Err(exits::drop(packet, Exit::DropFragmentAlone));
    }
    if let Some(lists) = lists
        && let Some(exit) = access::refusal(p.source, lists, Count::Packet)
    {
        return Err(exits::drop(packet, exit));
    }
    if challenge::concerns(p, &service)
        && let Some(instead) = challenge::instead(packet, p, &service, settings, opens, now)
    {
        return instead;
    }
    if !opens {
        return Err(exits::pass(packet, Exit::NotFirst));
    }
    let config = service.config();
    let is_persistent = config.flags & service_flags::PERSISTENT != 0;
    if is_one_packet(p, &service) {
        // The connection is not stored, so it is made in the tier that forwards its packet, and no error is about it.
        let packet = packet.in_tc()?;
        if control_block::has(packet, Flag::Quoted) {
            return Err(exits::pass(packet, Exit::NotOurs));
        }
    }
    let has_engine = is_persistent && config.pe != 0;
    if has_engine {
        packet.in_tc()?;
    }
    // A packet that XDP leaves to TC is counted there.
    if drops_arrival(settings) {
        return Err(exits::drop(packet, Exit::DropDefence));
    }
    let asked = request::lend(
        #[inline(always)]
        |r| {
            r.epoch = settings.epoch;
            r.service = service.id;
            r.template = EntryRef::NONE;
            r.dest = DestId::NONE;
            r.v6 = !A::IS_V4 as u32;
            r.room = Room::default();
            r.engine.hash = 0;
            if has_engine {
                match engine::call_id(packet.in_tc()?, p) {
                    Some(engine) => r.engine = engine,
                    None => return Err(exits::drop(packet, Exit::DropEngine)),
                }
            }
            if is_persistent && let Some((at, dest)) = template::find(p, &service, r.engine.hash, settings, now) {
                r.template = EntryRef::to(at);
                r.dest = dest;
                return Ok(Program::Open);
            }
            leave_to_successor(packet);
            if service.port().is_zero() && service.fwmark() == 0 && !is_persistent {
                // A service for every port, and nothing that ties a client's ports together: as in IPVS, no destination.
                return Ok(Program::Open);
            }
            r.key.client = p.source.widen();
            r.key.virt = p.destination.widen();
            r.key.client_port = p.source_port;
            r.key.now = now / params::hz().max(1) as u64;
            Ok(Program::Pick)
        },
    );
    match asked {
        Some(next) => next,
        None => Err(exits::drop(packet, Exit::DropInternal)),
    }
}

/// Whether `drop_packet` drops this new connection.
#[inline(always)]
fn drops_arrival(settings: &Settings) -> bool {
    if settings.drop_rate == 0 {
        return false;
    }
    let Some(arrivals) = element(&ARRIVALS, 0) else { return false };
    defence::is_dropped(arrivals.fetch_add(1) as u32, settings.drop_rate)
}

/// A packet of no service: left to the stack, or answered if it is a real server's reply of no connection (`nat_icmp_send`).
#[inline(always)]
fn unserved<P: Packet, A: IpAddress>(packet: P, p: &Parsed<A>, settings: &Settings) -> i32 {
    if let Ok(packet) = packet.in_tc() {
        let sender = unmatched_reply::sender(packet, p, settings);
        if sender.is_some() && ttl::lower_ttl::<_, A>(packet) {
            return refuse::port_unreachable::<A>(packet, Sender::toward(sender));
        }
    }
    exits::pass(packet, Exit::NotOurs)
}

/// Whether a packet may open a connection.
#[inline(always)]
fn may_open<A>(p: &Parsed<A>, settings: &Settings) -> bool {
    if !p.has_ports() || p.source_port == FTP_DATA && p.protocol == protocol::TCP {
        return false;
    }
    match p.protocol {
        protocol::TCP => {
            p.flags & tcp_flags::RST == 0 && (p.flags & tcp_flags::SYN != 0 || settings.sysctls.sloppy_tcp != 0)
        }
        protocol::SCTP => {
            p.flags == sctp::chunk::INIT || settings.sysctls.sloppy_sctp != 0 && p.flags != sctp::chunk::ABORT
        }
        _ => true,
    }
}
