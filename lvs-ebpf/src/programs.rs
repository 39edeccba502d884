//! Tail calls, by the table of programs in [`lvs_common::programs`].

use lvs_common::{
    abi::{IpAddress, extras},
    exit::Exit,
    programs::{Program, generation},
};

use crate::{
    config, exits,
    packet::{
        access::Packet,
        control_block::{self, Flag},
    },
    stats,
};

/// Goes on with a program of family `A`. If the kernel refuses, the packet is dropped and counted.
#[inline(always)]
pub fn jump<A: IpAddress, P: Packet>(packet: P, to: Program) -> i32 {
    packet.tail_call(to.slot(A::IS_V4));
    count_refused();
    P::DROP
}

/// Goes on with the program that receives packets of IPv6, which is loaded when a rule needs it: before that, none is ours.
#[inline(always)]
pub fn receive_ipv6<P: Packet>(packet: P) -> i32 {
    packet.tail_call(Program::Receive.slot(false));
    if config::settings().is_none_or(|settings| settings.extras & extras::IPV6 == 0) {
        return exits::pass(packet, Exit::NotOurs);
    }
    count_refused();
    P::DROP
}

/// Hands a packet of no known connection to the generation of the data plane before this one, while connections move from there.
/// Returns if there is none, or if it has been asked.
#[inline(always)]
pub fn ask_previous<P: Packet>(packet: P) {
    if !control_block::has(packet, Flag::Returned) {
        packet.tail_call(generation::PREVIOUS);
    }
}

/// Hands a packet that would open a connection to the generation of the data plane after this one, once that makes the new
/// connections. Returns if there is none.
#[inline(always)]
pub fn leave_to_successor<P: Packet>(packet: P) {
    packet.tail_call(generation::SUCCESSOR);
}

/// Not inlined, as jumps are many and refusals rare.
#[inline(never)]
extern "C" fn count_refused() {
    stats::exit(Exit::DropTailCall);
}
