//! ICMP errors about no connection.

use crate::{
    exits,
    packet::{
        access::TcPacket,
        control_block::{self, Flag},
        handover,
    },
    programs::{ask_previous, jump},
    values::icmp_error::IcmpError,
};
use lvs_common::{
    abi::{IpAddress, Settings},
    exit::Exit,
    programs::Program,
    state::sctp,
    wire::{protocol, tcp_flags},
};

/// Serves an error about no connection.
#[inline(always)]
pub fn run<A: IpAddress>(packet: TcPacket, report: &IcmpError<A>, settings: &Settings) -> i32 {
    ask_previous(packet);
    if settings.sysctls.schedule_icmp == 0 {
        return exits::pass(packet, Exit::NotOurs);
    }
    // As if it were the first packet of what it is about; it comes back itself when the connection is made.
    let mut first = report.about;
    first.flags = match first.protocol {
        protocol::SCTP => sctp::chunk::INIT,
        _ => tcp_flags::SYN,
    };
    if !handover::store(&first) {
        return exits::pass(packet, Exit::NotOurs);
    }
    control_block::set(packet, Flag::Quoted);
    jump::<A, _>(packet, Program::Schedule)
}
