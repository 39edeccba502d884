//! Resets of established TCP connections that expire (`conn_expire_tcp_rst`).
//!
//! The sweep that finds them expired cannot send anything: a timer has no packet. So it keeps them for a while longer, in a
//! queue, and the next TCP packet that TC sees (XDP leaves it requests for connections) carries their resets: it is put
//! aside, made one end's RST after the other, and put back as it was. The resets come in again as if the ends had sent them,
//! so they go through the pipeline as any packet of the connection, whatever its mode, and close it.

use aya_ebpf::{
    btf_maps::Queue,
    helpers::generated::{bpf_clone_redirect, bpf_skb_change_tail, bpf_skb_load_bytes, bpf_skb_store_bytes},
    macros::btf_map,
};
use lvs_common::{
    abi::{AF_INET, Connection, Forward, Settings, conn_flags, conn_kind},
    reset::{self, Numbers},
    state::tcp,
    table::Store,
    wire::{Tcp, protocol, tcp_flags},
};

use crate::{
    egress::route,
    exits,
    forward::nat::TCP_CHECK,
    kernel::{atomics, loops::KernelLoop, params},
    maps::{PAYLOAD, SCRATCH, SETTINGS},
    packet::{
        access::{L3, Packet},
        control_block, own_segment,
        parse::{Family, Parsed},
        tc::TcPacket,
    },
    programs::{Tail, jump},
    table::track::Table,
};
use lvs_common::each::Each;

/// Seconds that an expired connection waits for a packet to carry its resets.
const PATIENCE: u32 = 30;
/// Connections that a packet carries resets of.
const CARRIED: u32 = 4;
/// `BPF_F_INGRESS`.
const INGRESS: u64 = 1;

/// A connection that waits: its entry, and its last packet's time when it began to.
#[derive(Clone, Copy, Default)]
#[repr(C)]
pub struct Waiting {
    at: u32,
    pad: u32,
    seen: u64,
}

#[btf_map]
static RESETS4: Queue<Waiting, 4096> = Queue::new();
#[btf_map]
static RESETS6: Queue<Waiting, 4096> = Queue::new();

/// A family whose connections wait.
pub trait Queued: Family + 'static {
    /// Puts one into the queue.
    fn push(waiting: &Waiting) -> bool;
    /// Takes one out.
    fn pop() -> Option<Waiting>;
}

impl Queued for u32 {
    #[inline(always)]
    fn push(waiting: &Waiting) -> bool {
        RESETS4.push(waiting, 0).is_ok()
    }

    #[inline(always)]
    fn pop() -> Option<Waiting> {
        RESETS4.pop().ok()?
    }
}

impl Queued for [u32; 4] {
    #[inline(always)]
    fn push(waiting: &Waiting) -> bool {
        RESETS6.push(waiting, 0).is_ok()
    }

    #[inline(always)]
    fn pop() -> Option<Waiting> {
        RESETS6.pop().ok()?
    }
}

/// Keeps in mind what a reset would need to know, with a client's packet.
#[inline(always)]
pub fn record<P: Packet, A: Family>(packet: P, p: &Parsed<A>, settings: &Settings, connection: *mut Connection<A>) {
    if settings.sysctls.conn_expire_tcp_rst == 0 || p.carried != protocol::TCP {
        return;
    }
    let Some(h) = packet.at::<Tcp>(p.l4()) else { return };
    // SAFETY: checked by `at`; an element of the map, whose word is read and written as a whole.
    unsafe {
        let headers = (p.l4() - L3) as u32 + ((*h).offset >> 4) as u32 * 4;
        let (sequence, acknowledgment) = (u32::from_be((*h).sequence), u32::from_be((*h).acknowledgment));
        let word = &raw mut (*connection).engine;
        word.write_volatile(reset::seen(
            word.read_volatile(),
            (*h).flags,
            sequence,
            acknowledgment,
            p.length.saturating_sub(headers),
        ));
    }
}

/// Whether connection `at`, which has expired at `now`, is kept until its ends are told.
#[inline(always)]
pub fn keeps<A: Queued>(at: u32, c: &mut Connection<A>, now: u64) -> bool {
    const BYPASS: u8 = Forward::Bypass as u8;
    const LOCAL: u8 = Forward::Local as u8;
    let Some(settings) = SETTINGS.get_ptr_mut(0) else { return false };
    let old = c.state;
    // SAFETY: an element of the map.
    let wanted = unsafe { (*settings).sysctls.conn_expire_tcp_rst } != 0
        && c.kind == conn_kind::CONNECTION
        && c.protocol == protocol::TCP
        && old & (conn_flags::STATE | conn_flags::RESETTING | conn_flags::DEAD) == tcp::ESTABLISHED as u32
        && !matches!(c.forward, BYPASS | LOCAL)
        // Its ends are told in different families, which one packet cannot carry.
        && !c.is_crossed()
        && Numbers::of(c.engine).is_some();
    if !wanted || !A::push(&Waiting { at, pad: 0, seen: now }) {
        return false;
    }
    if atomics::compare_exchange32(&raw mut c.state, old, old | conn_flags::RESETTING).is_ok() {
        c.last_seen = now;
        c.timeout = PATIENCE.wrapping_mul(params::hz());
    }
    // SAFETY: as above.
    atomics::fetch_or32(unsafe { &raw mut (*settings).resets }, bit::<A>());
    true
}

/// A family's bit of `Settings::resets`.
#[inline(always)]
const fn bit<A: Family>() -> u32 {
    if A::FAMILY == AF_INET { 1 } else { 2 }
}

/// Whether resets wait for a packet such as this one.
#[inline(always)]
pub fn wait_for<A: Family>(p: &Parsed<A>, settings: &Settings) -> bool {
    settings.resets & bit::<A>() != 0 && p.carried == protocol::TCP
}

/// Whether a packet is to carry resets.
#[inline(always)]
pub fn is_carrier<A: Queued>(packet: TcPacket, p: &Parsed<A>, settings: &Settings) -> bool {
    wait_for(p, settings)
        // Without options of IP: where an unfinished checksum is counted from stays the same.
        && p.l4() == L3 + A::HEADER
        && packet.device() != 0
        && packet.segment() == 0
        && !control_block::has_carried(packet)
}

/// The program for a packet that carries resets.
#[inline(always)]
pub fn run<A: Queued>(packet: TcPacket) -> i32
where
    Table: Store<A>,
{
    control_block::carried(packet);
    carry::<A>(packet);
    jump(packet, if A::FAMILY == AF_INET { Tail::Ipv4 } else { Tail::Ipv6 })
}

#[inline(always)]
fn carry<A: Queued>(packet: TcPacket)
where
    Table: Store<A>,
{
    let (Some(p), Some(settings)) = (A::found(), SETTINGS.get_ptr_mut(0)) else { return };
    let Some(scratch) = SCRATCH.get_ptr_mut(exits::cpu()) else { return };
    let length = packet.length();
    if length > PAYLOAD as u32 || length < (L3 + A::HEADER) as u32 + own_segment::HEADER {
        return;
    }
    let masked = (length.wrapping_sub(1) & (PAYLOAD as u32 - 1)) + 1;
    // SAFETY: this CPU's own element, which is longer than any masked length; a helper call with a valid context.
    let saved = unsafe {
        let saved = (&raw mut (*scratch).payload).cast::<u8>();
        if bpf_skb_load_bytes(packet.0.cast(), 0, saved.cast(), masked) != 0 {
            return;
        }
        saved
    };
    // The packet is put back, whatever is done to find out.
    let is_partial = packet.is_partial(p.l4() + TCP_CHECK);
    // SAFETY: an element of the map. Whoever puts another in from now on sets it again.
    atomics::fetch_and32(unsafe { &raw mut (*settings).resets }, !bit::<A>());
    // SAFETY: a helper call with a valid context.
    if unsafe { bpf_skb_change_tail(packet.0, (L3 + A::HEADER) as u32 + own_segment::HEADER, 0) } == 0 {
        let mut more = true;
        KernelLoop.each(CARRIED, &mut |_| {
            match A::pop() {
                Some(waiting) => tell::<A>(packet, &waiting, is_partial),
                None => more = false,
            }
            !more
        });
        if more {
            // SAFETY: as above.
            atomics::fetch_or32(unsafe { &raw mut (*settings).resets }, bit::<A>());
        }
    }
    // SAFETY: helper calls with a valid context; what was copied is copied back.
    unsafe {
        let _ = bpf_skb_change_tail(packet.0, length, 0) == 0
            && bpf_skb_store_bytes(packet.0, 0, saved.cast(), masked, 0) == 0;
    }
}

/// Resets both ends of a connection, if nothing came from them in between.
#[inline(always)]
fn tell<A: Queued>(packet: TcPacket, waiting: &Waiting, is_partial: bool)
where
    Table: Store<A>,
{
    let Some(connection) = <Table as Store<A>>::connection(&Table, waiting.at) else { return };
    // SAFETY: an element of the map.
    let c = unsafe { &*connection };
    if c.state & (conn_flags::RESETTING | conn_flags::DEAD) != conn_flags::RESETTING || c.kind != conn_kind::CONNECTION
    {
        return;
    }
    let Some(numbers) = Numbers::of(c.engine) else { return };
    if c.last_seen != waiting.seen {
        // It lives: it may expire another time.
        // SAFETY: as above.
        atomics::fetch_and32(unsafe { &raw mut (*connection).state }, !conn_flags::RESETTING);
        return;
    }
    let (client, virt) = ((c.client, c.client_port), (c.virt, c.virt_port));
    // As the real server sends it, and as it comes by here.
    let (from, to) = match c.forward {
        Forward::MASQ => ((c.real, c.real_port), client),
        Forward::FULLNAT => ((c.real, c.real_port), (c.local, c.local_port)),
        _ => (virt, client),
    };
    // The client's comes second: it closes the connection.
    let _ = send(packet, from, to, numbers.from_server, is_partial)
        && send(packet, client, virt, numbers.from_client, is_partial);
}

/// Makes the packet a RST and sends a copy of it through the pipeline.
#[inline(always)]
fn send<A: Family>(packet: TcPacket, from: (A, u16), to: (A, u16), sequence: u32, is_partial: bool) -> bool {
    let (source, destination) = (from.0.widen().0, to.0.widen().0);
    let tcp = own_segment::tcp(from, to, [sequence, 0], tcp_flags::RST, is_partial);
    let written = if A::FAMILY == AF_INET {
        store(packet, L3, &own_segment::ipv4(source[0], destination[0]))
    } else {
        store(packet, L3, &own_segment::ipv6(source, destination))
    };
    // SAFETY: a helper call with a valid context.
    written
        && store(packet, L3 + A::HEADER, &tcp)
        && unsafe { bpf_clone_redirect(packet.0, packet.device(), INGRESS) == 0 }
}

/// Writes a header into the packet.
#[inline(always)]
fn store<T>(packet: TcPacket, at: usize, header: &T) -> bool {
    // SAFETY: a helper call with a valid context.
    unsafe { bpf_skb_store_bytes(packet.0, at as u32, (header as *const T).cast(), size_of::<T>() as u32, 0) == 0 }
}

/// Whether a packet is the reset that a client of a connection without translation is to get.
#[inline(always)]
pub fn is_ours<A>(c: &Connection<A>, p: &Parsed<A>) -> bool {
    c.state & conn_flags::RESETTING != 0 && p.carried == protocol::TCP && p.flags & tcp_flags::RST != 0
}

/// Sends it, from the virtual address, which the stack would not do.
#[inline(always)]
pub fn pass_on<A: Family>(packet: TcPacket, p: &Parsed<A>, now: u64) -> Option<i32> {
    let route = route::scratch()?;
    if !route::route(packet, A::FAMILY, &p.destination.widen(), now, route) {
        return None;
    }
    Some(if route.local { route::send_local(packet) } else { route::send_tc(packet, route) })
}
