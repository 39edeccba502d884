//! What FullNAT releases when its connection is removed from the table: the alias, in the table of the real server's family,
//! and the local port.

use crate::kernel::global::global_fn;
use crate::maps::LOCALS;
use crate::table::draft;
use crate::table::entry::Entry;
use lvs_common::abi::Address;
use lvs_common::abi::DestId;
use lvs_common::abi::EntryRef;
use lvs_common::abi::IpAddress;
use lvs_common::abi::Mode;
use lvs_common::byte_order::Be16;
use lvs_common::exit::Exit;
use lvs_common::{
    abi::{Connection, Draft, EntryKind, WAYS, conn_flags},
    table::{self, Hash},
};

use crate::{
    kernel::clock,
    table::{
        find, local_ports,
        store::{self, Table},
    },
};

/// No bucket.
const NONE: u32 = u32::MAX;

/// Removes alias `alias`, an entry of this kind, of connection `main`; `held` is the bucket of the same table that is locked
/// already. If another CPU holds the alias's bucket for long, the sweep removes the alias.
#[inline(always)]
fn remove<A: IpAddress>(alias: u32, kind: EntryKind, main: u32, hash: Hash, held: Option<u32>) {
    remove_alias::<A>(alias, (kind == EntryKind::CROSSED) as u32, main, hash.0, held.unwrap_or(NONE));
}

global_fn! {
    /// [`remove`] in numbers.
    fn remove_alias<A>(alias: u32, is_crossed: u32, main: u32, hash: u64, held: u32) -> u32
        = remove_alias4, remove_alias6 => remove_or_leave
}

fn remove_or_leave<A: IpAddress>(alias: u32, is_crossed: u32, main: u32, hash: u64, held: u32) -> u32 {
    let held = if held == NONE { None } else { Some(held) };
    let kind = if is_crossed == 0 { EntryKind::ALIAS } else { EntryKind::CROSSED };
    let is_it = |a: &Connection<A>| a.kind == kind && a.control == EntryRef::to(main);
    if !table::remove_beside(&Table, alias, Hash(hash), held, is_it) {
        store::sweep_by::<A>(alias, clock::jiffies());
    }
    0
}

/// Gives back what connection `at` held, which is being taken out of the table under its bucket's lock: its alias and its
/// port.
#[inline(always)]
pub fn forget<A: IpAddress>(at: u32, c: Entry<A>) {
    let c = c.get();
    if c.is_crossed() {
        take::<A::Other>(at, c.alias.index());
    } else if c.alias.is_some() {
        let hash = find::hash(c.local, c.local_port, c.protocol);
        remove::<A>(c.alias.index(), EntryKind::ALIAS, at, hash, Some(at / WAYS));
    }
    local_ports::give_back(c);
}

/// Takes alias `at` out if its connection is gone: what `forget` could not do.
#[inline(always)]
pub fn collect<A: IpAddress>(at: u32, alias: &Connection<A>) {
    let main = alias.control.index();
    let is_lost = match alias.kind {
        EntryKind::CROSSED => connection_of::<A, A::Other>(at, alias).is_none(),
        _ => {
            let Some(connection) = store::entry::<A>(main) else { return };
            let c = connection.get();
            c.alias != EntryRef::to(at) || c.is_crossed() || c.state & conn_flags::DEAD != 0
        }
    };
    if is_lost {
        let hash = find::hash(alias.client, alias.client_port, alias.protocol);
        remove::<A>(at, alias.kind, main, hash, None);
    }
}

/// Jiffies of an alias: it goes with its connection, and not by itself.
pub const FOREVER: u32 = u32::MAX;

/// The alias of connection `main`: the local end stands for the client, the real server's end for the virtual side.
#[inline(always)]
fn alias<A: IpAddress>(
    kind: EntryKind,
    (local, real): ((A, Be16), (A, Be16)),
    protocol: u8,
    last_seen: u64,
    main: u32,
) -> Draft<A> {
    Draft {
        client: local.0,
        virt: real.0,
        client_port: local.1,
        virt_port: real.1,
        protocol,
        kind,
        forward: Mode::FULLNAT,
        last_seen,
        dest: DestId::NONE,
        state: 0,
        timeout: FOREVER,
        control: EntryRef::to(main),
        fwmark: 0,
        real: real.0,
        real_port: real.1,
        engine: 0,
    }
}

/// Puts the alias of connection `at` into the table; the draft is written over. A function of its own: its room on the
/// stack is a call's.
#[inline(never)]
pub fn add<A: IpAddress>(draft: Entry<A>, at: u32) -> Result<(), Exit> {
    let ends = ((draft.local, draft.local_port), (draft.real, draft.real_port));
    put::<A, A>(alias(EntryKind::ALIAS, ends, draft.protocol, draft.last_seen, at), at)
}

/// Puts an alias into the table of its family, by way of this CPU's draft of that family, and has connection `at` of its client's family know it.
#[inline(always)]
fn put<A: IpAddress, B: IpAddress>(alias: Draft<B>, at: u32) -> Result<(), Exit> {
    let Some(draft) = draft::begin(alias) else { return Err(Exit::DropInternal) };
    let alias = draft::put(draft, u64::MAX).map_err(draft::refusal)?;
    if let Some(connection) = store::entry::<A>(at) {
        connection.set_alias(EntryRef::to(alias));
    }
    Ok(())
}

/// The connection of alias `at`: its entry in the table of its client's family, and itself.
#[inline(always)]
pub fn connection_of<A, B: IpAddress>(at: u32, alias: &Connection<A>) -> Option<(u32, Entry<B>)> {
    let main = alias.control.index();
    let connection = store::entry::<B>(main)?;
    let c = connection.get();
    let is_its = c.alias == EntryRef::to(at) && c.is_crossed() && c.state & conn_flags::DEAD == 0;
    if is_its { Some((main, connection)) } else { None }
}

/// Puts the alias of connection `at`, which has just been made of the draft, into the other family's table. Not inlined: see
/// "stack" in docs/develop/verifier.md.
#[inline(never)]
pub fn add_between<A: IpAddress, B: IpAddress>(draft: Entry<A>, at: u32, real: &Address) -> Result<(), Exit> {
    let d = draft.get();
    let Some(local) = LOCALS.get(d.local_id) else { return Err(Exit::DropInternal) };
    let ends = ((B::narrow(local.address), d.local_port), (B::narrow(*real), d.real_port));
    put::<A, B>(alias(EntryKind::CROSSED, ends, d.protocol, d.last_seen, at), at)
}

#[inline(always)]
fn take<B: IpAddress>(main: u32, alias: u32) {
    let Some(entry) = store::entry::<B>(alias) else { return };
    // If the entry is another connection's by now, so is its hash, and it is left alone.
    let hash = find::hash(entry.client, entry.client_port, entry.protocol);
    // The lock that is held is one of the other table's.
    remove::<B>(alias, EntryKind::CROSSED, main, hash, None);
}
