//! What FullNAT gives back when its connection is taken out of the table: the alias, in the table of the real server's family,
//! and the local port.

use crate::kernel::global::global_fn;
use crate::maps::LOCALS;
use crate::table::draft;
use crate::table::draft::copy;
use crate::table::entry::Entry;
use lvs_common::abi::Address;
use lvs_common::abi::DestId;
use lvs_common::abi::EntryRef;
use lvs_common::abi::IpAddress;
use lvs_common::abi::Mode;
use lvs_common::exit::Exit;
use lvs_common::{
    abi::{Connection, EntryKind, WAYS, conn_flags},
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

/// Puts the alias of connection `at` into the table; the draft is written over. A function of its own: its room on the
/// stack is a call's.
#[inline(never)]
pub fn add<A: IpAddress>(draft: *mut Connection<A>, at: u32) -> Result<(), Exit> {
    // SAFETY: this CPU's own draft.
    unsafe {
        (*draft).client = (*draft).local;
        (*draft).client_port = (*draft).local_port;
        (*draft).virt = (*draft).real;
        (*draft).virt_port = (*draft).real_port;
        (*draft).kind = EntryKind::ALIAS;
        (*draft).timeout = FOREVER;
        (*draft).control = EntryRef::to(at);
        (*draft).dest = DestId::NONE;
    }
    put::<A, A>(draft, at)
}

/// Puts an alias into the table of its family, and has connection `at` of its client's family know it.
#[inline(always)]
pub fn put<A: IpAddress, B: IpAddress>(alias: *const Connection<B>, at: u32) -> Result<(), Exit> {
    // SAFETY: this CPU's own draft. It is read where it is compared: what is on the stack counts twice, here and in the loop.
    let a = unsafe { &*alias };
    let same = |c: &Connection<B>| {
        c.kind == a.kind
            && c.client == a.client
            && c.client_port == a.client_port
            && c.virt == a.virt
            && c.virt_port == a.virt_port
            && c.protocol == a.protocol
    };
    // SAFETY: an entry of the table that nobody else can find yet.
    let fill = |c: *mut Connection<B>| unsafe { copy(alias, c) };
    let hash = find::hash(a.client, a.client_port, a.protocol);
    let (alias, _) = table::insert(&Table, hash, u64::MAX, same, fill).map_err(draft::refusal)?;
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
pub fn add_between<A: IpAddress, B: IpAddress>(
    draft: *const Connection<A>,
    at: u32,
    real: &Address,
) -> Result<(), Exit> {
    // SAFETY: this CPU's own draft.
    let d = unsafe { &*draft };
    let (Some(local), Some(other)) = (LOCALS.get(d.local_id), draft::place::<B>()) else {
        return Err(Exit::DropInternal);
    };
    // SAFETY: this CPU's own draft of the other family, which no packet at hand needs.
    unsafe {
        (*other).client = B::narrow(local.address);
        (*other).virt = B::narrow(*real);
        (*other).client_port = d.local_port;
        (*other).virt_port = d.real_port;
        (*other).protocol = d.protocol;
        (*other).kind = EntryKind::CROSSED;
        (*other).forward = Mode::FULLNAT;
        (*other).last_seen = d.last_seen;
        (*other).dest = DestId::NONE;
        (*other).state = 0;
        (*other).timeout = FOREVER;
        (*other).in_packets = 0;
        (*other).control = EntryRef::to(at);
        (*other).controlled = 0;
        (*other).fwmark = 0;
        (*other).engine = 0;
        (*other).alias = EntryRef::NONE;
        (*other).local_id = 0;
    }
    put::<A, B>(other, at)
}

#[inline(always)]
fn take<B: IpAddress>(main: u32, alias: u32) {
    let Some(entry) = store::entry::<B>(alias) else { return };
    // If the entry is another connection's by now, so is its hash, and it is left alone.
    let hash = find::hash(entry.client, entry.client_port, entry.protocol);
    // The lock that is held is one of the other table's.
    remove::<B>(alias, EntryKind::CROSSED, main, hash, None);
}
