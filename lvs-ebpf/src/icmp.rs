//! ICMP errors about balanced connections: translated and sent to the party they concern. TC only.

use lvs_common::exit::Exit;

use crate::{count, packet::{Packet, TcPacket}};

/// Serves an ICMP packet.
#[inline(always)]
pub fn run(_: TcPacket) -> i32 {
    count::exit(Exit::NotOurs);
    TcPacket::PASS
}
