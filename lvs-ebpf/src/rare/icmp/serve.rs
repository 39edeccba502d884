//! ICMP errors about balanced connections: translated and sent to the party they concern. TC only.
//!
//! An error travels against the packet that it quotes: one about a reply comes from the client's side and goes to the real
//! server, one about a client's packet comes from the server's side and goes to the client.

use lvs_common::programs::Program;

use lvs_common::{abi::EntryKind, exit::Exit, wire::protocol};

use crate::rare::icmp::{read, unknown};
use crate::{
    config::{self, watch},
    exits,
    kernel::clock,
    packet::{access::Packet, access::TcPacket, parse::Family},
    programs::jump,
    rare::icmp::{families, translate},
    table::find,
};

/// Serves an ICMP packet.
#[inline(always)]
pub fn run<A: Family>(packet: TcPacket) -> i32 {
    let Some(report) = read::read::<A>(packet) else { return exits::pass(packet, Exit::NotOurs) };
    let Some(settings) = config::settings() else { return TcPacket::PASS };
    let (virt, reply) = watch::watched(report.about.source, report.about.destination, settings);
    if !(virt || reply) || !packet.for_this_host() {
        return exits::pass(packet, Exit::NotOurs);
    }
    let now = clock::jiffies();
    if virt && let Some((at, connection)) = find::of_client(&report.about) {
        let c = connection.get();
        if !find::expired(c, now) {
            if c.is_crossed() {
                return families::forward_error::<A>(packet, at);
            }
            return translate::to_server(packet, report, settings, c, now);
        }
    }
    if reply && let Some((at, connection)) = find::of_server(&report.about) {
        let c = connection.get();
        if c.kind == EntryKind::CROSSED {
            return families::forward_error::<A>(packet, at);
        }
        return translate::to_client(packet, report, settings, c, now);
    }
    if report.about.protocol != protocol::UDP && report.about.protocol != 0 || !reply {
        return unknown::run(packet, report, settings);
    }
    jump::<A, _>(packet, Program::IcmpTunnel)
}
