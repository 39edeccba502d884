//! Tail calls, by the table of programs in [`lvs_common::programs`].

use lvs_common::{abi::IpAddress, exit::Exit, programs::Program};

use crate::{packet::access::Packet, stats};

/// Goes on with a program of family `A`. If the kernel refuses, the packet is dropped and counted.
#[inline(always)]
pub fn jump<A: IpAddress, P: Packet>(packet: P, to: Program) -> i32 {
    packet.tail_call(to.slot(A::IS_V4));
    count_refused();
    P::DROP
}

/// Not inlined, as jumps are many and refusals rare.
#[inline(never)]
extern "C" fn count_refused() {
    stats::exit(Exit::DropTailCall);
}
