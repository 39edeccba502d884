//! A connection before it goes into the table.

use core::mem::offset_of;

use crate::{
    config::{destination::DestRef, service::ServiceRef},
    kernel::{cpu, global::global_fn, params, shared::element_of},
    maps::{DRAFTS4, DRAFTS6},
    table::{
        entry::Entry,
        find::{self, Found},
        store::{self, Connections, Table},
    },
    values::parsed::Parsed,
};
use lvs_common::{
    abi::{Connection, DestId, Draft, EntryKind, EntryRef, IpAddress, Mode, conn_flags},
    exit::Exit,
    persist,
    table::{self, Hash, InsertError, Store, Wanted},
};

/// Seconds a connection lives until its first packet's state says otherwise.
const INITIAL_TIMEOUT: u32 = 3;

/// This CPU's place for a connection that is not in the table yet. The connection of one-packet scheduling never gets there.
#[inline(always)]
pub fn place<A: IpAddress>() -> Option<Entry<A>> {
    element_of::<A, Connections, _, _>(&DRAFTS4, &DRAFTS6, cpu::number()).map(Entry::from)
}

/// Makes this CPU's place what a connection, template or alias begins as.
#[inline(always)]
pub fn begin<A: IpAddress>(draft: Draft<A>) -> Option<Entry<A>> {
    let place = place::<A>()?;
    // SAFETY: this CPU's own draft, which nobody else reads or writes.
    unsafe { Connection::begin(place.as_ptr(), draft) };
    Some(place)
}

/// Whether replies pass the director.
#[inline(always)]
fn is_translated(mode: Mode) -> bool {
    mode == Mode::MASQ || mode == Mode::FULLNAT
}

/// Writes the connection that a packet opens; one without a destination is bypassed.
#[inline(always)]
pub fn write<A: IpAddress>(
    p: &Parsed<A>,
    service: &ServiceRef,
    dest: Option<&DestRef>,
    template: EntryRef,
    now: u64,
) -> Option<Entry<A>> {
    let (id, mode, real, port) = match dest {
        Some(dest) => {
            let (address, family, port) = (*dest.address(), dest.family(), dest.port());
            let real = if family == A::FAMILY { A::narrow(address) } else { A::default() };
            (dest.id, dest.config().forward, real, port)
        }
        None => (DestId::NONE, Mode::BYPASS, p.destination, p.destination_port),
    };
    begin(Draft {
        client: p.source,
        virt: p.destination,
        client_port: p.source_port,
        virt_port: p.destination_port,
        protocol: p.protocol,
        kind: EntryKind::CONNECTION,
        forward: mode,
        last_seen: now,
        dest: id,
        state: conn_flags::INACTIVE | if is_translated(mode) { 0 } else { conn_flags::NO_OUTPUT },
        timeout: INITIAL_TIMEOUT.wrapping_mul(params::hz()),
        control: template,
        fwmark: service.fwmark(),
        real,
        real_port: persist::real_port(service.config(), service.port(), service.fwmark(), p.destination_port, port),
        engine: 0,
    })
}

/// The state's word among a connection's, the one that follows the destination's.
const fn state_word<A>() -> usize {
    let at = offset_of!(Connection<A>, state);
    assert!(at % 8 == 4 && at - 4 == offset_of!(Connection<A>, dest));
    at / 8
}

/// Copies a draft to an entry that is not in the table, and leaves it dead. As words: LLVM's BPF back end cannot expand a copy whose
/// alignment exceeds eight.
#[inline(always)]
fn copy<A>(draft: Entry<A>, to: Entry<A>) {
    let (from, to) = (draft.as_ptr().cast::<u64>(), to.as_ptr().cast::<u64>());
    for i in 0..size_of::<Connection<A>>() / 8 {
        let dead = if i == const { state_word::<A>() } { (conn_flags::DEAD as u64) << 32 } else { 0 };
        // SAFETY: two connections in maps, which are whole words long.
        unsafe { to.add(i).write_volatile(from.add(i).read() | dead) }
    }
}

/// Puts a drafted connection into the table: its entry.
#[inline(always)]
pub fn insert<A: IpAddress>(draft: Entry<A>, now: u64) -> Result<u32, InsertError> {
    put(draft, now.wrapping_add(INITIAL_TIMEOUT.wrapping_mul(params::hz()) as u64))
}

/// Puts a draft into the table, unless an entry is there that means the same: its index.
#[inline(always)]
pub fn put<A: IpAddress>(draft: Entry<A>, due: u64) -> Result<u32, InsertError> {
    let fill = |to| copy(draft, store::of_table(to).into());
    table::insert(&Table, find::hash_of(draft.get()), due, &Like(draft), fill).map(|(at, _)| at)
}

/// The entry that means the same as a draft.
#[inline(always)]
pub fn look_up<A: IpAddress>(draft: Entry<A>) -> Option<Found<A>> {
    find::look_up(find::hash_of(draft.get()), &Like(draft))
}

/// Whether an entry means the same as a draft.
#[inline(always)]
pub fn is_like<A: IpAddress>(c: &Connection<A>, draft: Entry<A>) -> bool {
    Like(draft).is(c)
}

struct Like<A>(Entry<A>);

impl<A: IpAddress> Wanted<A> for Like<A> {
    #[inline(always)]
    fn is(&self, c: &Connection<A>) -> bool {
        let d = self.0.get();
        c.kind == d.kind
            && c.client == d.client
            && c.client_port == d.client_port
            && c.protocol == d.protocol
            && match d.kind {
                // An answer does not say which virtual address it is from.
                EntryKind::ANSWER => c.real == d.real && c.real_port == d.real_port,
                EntryKind::TEMPLATE => has_virtual_end(c, d) && decides_for_the_same(c, d),
                _ => has_virtual_end(c, d),
            }
    }

    #[inline(always)]
    fn search<S: Store<A>>(&self, _: &S, hash: Hash) -> Option<u32> {
        find::index(search_like::<A>(hash.0, self.0))
    }
}

#[inline(always)]
fn has_virtual_end<A: IpAddress>(c: &Connection<A>, d: &Connection<A>) -> bool {
    c.virt == d.virt && c.virt_port == d.virt_port
}

/// Whether two templates are for what a persistence engine saw as one, and both of them decide, or neither.
#[inline(always)]
fn decides_for_the_same<A: IpAddress>(c: &Connection<A>, d: &Connection<A>) -> bool {
    c.engine == d.engine && (c.state ^ d.state) & conn_flags::INVALID == 0
}

global_fn! {
    /// Searches for the entry that means the same as a draft.
    fn search_like<A>(hash: u64, draft: Entry<A>) -> u32 = search_like4, search_like6 => search
}

fn search<A: IpAddress>(hash: u64, draft: Entry<A>) -> u32 {
    find::number(table::search::<A, _>(&Table, Hash(hash), &Like(draft)))
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
