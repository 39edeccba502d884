//! Resets of established TCP connections that expire (`conn_expire_tcp_rst`).
//!
//! The sweep cannot send anything when it finds a connection expired, because a timer has no packet. So it puts the
//! connection in a queue. The next TCP packet that TC sees carries the resets (meanwhile XDP passes requests for connections
//! up to TC): the program saves that packet, makes one end's RST of its buffer and then the other's, and restores it. The
//! resets come in again as if the ends had sent them, so the programs serve them as packets of the connection, and close it.

use crate::packet::control_block::Flag;
use crate::packet::handover;
use crate::table::reset_queue;
use crate::table::store;
use crate::values::pending_reset::PendingReset;
use lvs_common::byte_order::Be16;
use lvs_common::programs::Program;
use lvs_common::verifier::Each;
use lvs_common::{
    abi::{EntryKind, Mode, conn_flags},
    reset::Numbers,
    wire::tcp_flags,
};

use crate::{
    kernel::{
        loops::KernelLoop,
        redirect::INGRESS,
        scratch,
        shared::{Shared, element, field},
    },
    maps::{SCRATCH, SETTINGS},
    packet::offsets::TCP_CHECK,
    packet::{access::Packet, access::TcPacket, control_block, own_segment, parse::Family},
    programs::jump,
    values::{parsed::L3, scratch::PAYLOAD},
};

/// Connections that a packet carries resets of.
const CARRIED: u32 = 4;

/// The program for a packet that carries resets.
#[inline(always)]
pub fn run<A: Family>(packet: TcPacket) -> i32 {
    control_block::set(packet, Flag::CarriedResets);
    carry::<A>(packet);
    jump::<A, _>(packet, Program::Receive)
}

#[inline(always)]
fn carry<A: Family>(packet: TcPacket) {
    let (Some(p), Some(settings)) = (handover::load::<A>(), element(&SETTINGS, 0)) else { return };
    let length = packet.length();
    if length > PAYLOAD as u32 || length < (L3 + A::HEADER) as u32 + own_segment::HEADER {
        return;
    }
    scratch::lend(
        &SCRATCH,
        #[inline(always)]
        |scratch| {
            let saved = &mut scratch.payload;
            if packet.load_bytes_at::<PAYLOAD, _>(0, saved, 0, length) {
                // The packet is put back, whatever is done to find out.
                let is_partial = packet.is_partial(p.l4() + TCP_CHECK);
                send_resets::<A>(packet, field!(settings.resets), is_partial);
                let _ = packet.change_tail(length) && packet.store_bytes_at::<PAYLOAD, _>(0, saved, 0, length);
            }
        },
    );
}

/// Makes the packet one reset after the other. `resets` is the word that says whether resets wait.
#[inline(always)]
fn send_resets<A: Family>(packet: TcPacket, resets: Shared<u32>, is_partial: bool) {
    // Whoever puts another in from now on sets it again.
    resets.fetch_and(!reset_queue::bit::<A>());
    if packet.change_tail((L3 + A::HEADER) as u32 + own_segment::HEADER) {
        let mut more = true;
        KernelLoop.each(CARRIED, &mut |_| {
            match reset_queue::pop::<A>() {
                Some(waiting) => reset_both_ends::<A>(packet, &waiting, is_partial),
                None => more = false,
            }
            !more
        });
        if more {
            resets.fetch_or(reset_queue::bit::<A>());
        }
    }
}

/// Resets both ends of a connection, if nothing came from them in between.
#[inline(always)]
fn reset_both_ends<A: Family>(packet: TcPacket, waiting: &PendingReset, is_partial: bool) {
    let Some(connection) = store::entry::<A>(waiting.at) else { return };
    let c = connection.get();
    if c.state & (conn_flags::RESETTING | conn_flags::DEAD) != conn_flags::RESETTING || c.kind != EntryKind::CONNECTION
    {
        return;
    }
    let Some(numbers) = Numbers::of(c.engine) else { return };
    if c.last_seen != waiting.seen {
        // It lives: it may expire another time.
        connection.state_word().fetch_and(!conn_flags::RESETTING);
        return;
    }
    let (client, virt) = ((c.client, c.client_port), (c.virt, c.virt_port));
    // As the real server sends it, and as it comes by here.
    let (from, to) = match c.forward {
        Mode::MASQ => ((c.real, c.real_port), client),
        Mode::FULLNAT => ((c.real, c.real_port), (c.local, c.local_port)),
        _ => (virt, client),
    };
    // The client's comes second: it closes the connection.
    let _ = send(packet, from, to, numbers.from_server, is_partial)
        && send(packet, client, virt, numbers.from_client, is_partial);
}

/// Makes the packet a RST and sends a copy of it through the pipeline.
#[inline(always)]
fn send<A: Family>(packet: TcPacket, from: (A, Be16), to: (A, Be16), sequence: u32, is_partial: bool) -> bool {
    let (source, destination) = (from.0.widen().0, to.0.widen().0);
    let tcp = own_segment::tcp(from, to, [sequence, 0], tcp_flags::RST, is_partial);
    let written = if A::IS_V4 {
        packet.store_unsummed(L3, &own_segment::ipv4(source[0], destination[0]))
    } else {
        packet.store_unsummed(L3, &own_segment::ipv6(source, destination))
    };
    written && packet.store_unsummed(L3 + A::HEADER, &tcp) && packet.clone_redirect(packet.device(), INGRESS)
}
