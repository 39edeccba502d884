//! A connection before it goes into the table.

use crate::{
    config::{destination::DestRef, service::ServiceRef},
    kernel::{cpu, params},
    maps::{DRAFTS4, DRAFTS6},
    table::{find, store::Table},
    values::parsed::Parsed,
};
use lvs_common::abi::DestId;
use lvs_common::abi::EntryRef;
use lvs_common::{
    abi::{Connection, EntryKind, IpAddress, Mode, conn_flags},
    exit::Exit,
    persist,
    table::{self, InsertError},
};

/// Seconds a connection lives until its first packet's state says otherwise.
const INITIAL_TIMEOUT: u32 = 3;

/// This CPU's place for a connection that is not in the table yet. The connection of one-packet scheduling never gets there.
#[inline(always)]
pub fn place<A: IpAddress>() -> Option<*mut Connection<A>> {
    // The casts are to the same type.
    if A::IS_V4 {
        DRAFTS4.get_ptr_mut(cpu::number()).map(<*mut Connection<u32>>::cast)
    } else {
        DRAFTS6.get_ptr_mut(cpu::number()).map(<*mut Connection<[u32; 4]>>::cast)
    }
}

/// Whether replies pass the director.
#[inline(always)]
fn is_translated(mode: Mode) -> bool {
    mode == Mode::MASQ || mode == Mode::FULLNAT
}

/// Writes the connection that a packet opens; one without a destination is bypassed.
#[inline(always)]
pub fn write<A: IpAddress>(
    draft: *mut Connection<A>,
    p: &Parsed<A>,
    service: &ServiceRef,
    dest: Option<&DestRef>,
    template: EntryRef,
    now: u64,
) {
    let (id, mode, real, port) = match dest {
        Some(dest) => {
            let (address, family, port) = (*dest.address(), dest.family(), dest.port());
            let real = if family == A::FAMILY { A::narrow(address) } else { A::default() };
            (dest.id, dest.config().forward, real, port)
        }
        None => (DestId::NONE, Mode::BYPASS, p.destination, p.destination_port),
    };
    // SAFETY: this CPU's own draft.
    unsafe {
        (*draft).client = p.source;
        (*draft).virt = p.destination;
        (*draft).client_port = p.source_port;
        (*draft).virt_port = p.destination_port;
        (*draft).protocol = p.protocol;
        (*draft).kind = EntryKind::CONNECTION;
        (*draft).forward = mode;
        (*draft).last_seen = now;
        (*draft).dest = id;
        (*draft).state = conn_flags::INACTIVE | if is_translated(mode) { 0 } else { conn_flags::NO_OUTPUT };
        (*draft).timeout = INITIAL_TIMEOUT.wrapping_mul(params::hz());
        (*draft).in_packets = 0;
        (*draft).control = template;
        (*draft).controlled = 0;
        (*draft).fwmark = service.fwmark();
        (*draft).real = real;
        (*draft).real_port =
            persist::real_port(service.config(), service.port(), service.fwmark(), p.destination_port, port);
        (*draft).reply_hop.checked = 0;
        (*draft).engine = 0;
        (*draft).alias = EntryRef::NONE;
        (*draft).local_id = 0;
    }
}

/// Copies a connection, as words: LLVM's BPF back end cannot expand a copy whose alignment exceeds eight.
#[inline(always)]
pub unsafe fn copy<A>(from: *const Connection<A>, to: *mut Connection<A>) {
    let (from, to) = (from.cast::<u64>(), to.cast::<u64>());
    for i in 0..size_of::<Connection<A>>() / 8 {
        // SAFETY: the caller's connections, which are whole words long.
        unsafe { to.add(i).write_volatile(from.add(i).read()) }
    }
}

/// Puts a drafted connection into the table: its entry.
#[inline(always)]
pub fn insert<A: IpAddress>(p: &Parsed<A>, draft: *mut Connection<A>, now: u64) -> Result<u32, InsertError> {
    table::insert(
        &Table,
        find::hash(p.source, p.source_port, p.protocol),
        now.wrapping_add(INITIAL_TIMEOUT.wrapping_mul(params::hz()) as u64),
        |c| find::is_of_client(c, p),
        // SAFETY: an entry of the table that nobody else can find yet.
        |c| unsafe { copy(draft, c) },
    )
    .map(|(at, _)| at)
}

/// Why a packet is dropped whose connection was not put in.
#[inline(always)]
pub fn refusal(error: InsertError) -> Exit {
    match error {
        InsertError::Full => Exit::DropTableFull,
        // Another CPU made it a moment ago (or holds the bucket): the client sends again.
        InsertError::Busy | InsertError::Exists(_) => Exit::DropBusy,
    }
}
