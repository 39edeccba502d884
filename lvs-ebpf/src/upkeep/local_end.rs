//! The local end of a FullNAT connection that came from another director: its address and port, and the alias that replies find it by.

use lvs_common::abi::{Address, Announcement, Connection, EntryKind, Incoming, IpAddress, Settings};

use crate::config::destination::DestRef;
use crate::kernel::{global::global_fn, shared::Shared};
use crate::maps::LOCALS;
use crate::table::{alias, entry::Entry, find, local_ports, release, store};

/// No connection.
const NOBODY: u32 = u32::MAX;
/// Set in the number of an entry of IPv6's table.
const V6: u32 = 1 << 31;

global_fn! {
    /// Claims the local port of an element: 0 if a connection has it already.
    pub fn claim(incoming: Shared<Incoming>, settings: &Settings) -> u32 = claim_entered => take
}

fn take(incoming: Shared<Incoming>, settings: &Settings) -> u32 {
    let a = &incoming.get().announcement;
    let Some(dest) = DestRef::get(a.dest, settings.epoch) else { return 0 };
    local_ports::claim_port(a.local_id, a.local_port, dest.address(), a.real_port, a.protocol) as u32
}

global_fn! {
    /// Which connection has the local port of an element, for [`end_holder`].
    pub fn holder<A>(incoming: Shared<Incoming>, settings: &Settings) -> u32 = holder4, holder6 => find_holder
}

fn find_holder<A: IpAddress>(incoming: Shared<Incoming>, settings: &Settings) -> u32 {
    let a = &incoming.get().announcement;
    let Some(dest) = DestRef::get(a.dest, settings.epoch) else { return NOBODY };
    let Some(local) = LOCALS.get(a.local_id) else { return NOBODY };
    if dest.family() == A::FAMILY {
        holder_toward::<A>(a, &local.address, dest.address())
    } else {
        holder_toward::<A::Other>(a, &local.address, dest.address())
    }
}

/// The same by the alias, whose table is of the real server's family.
#[inline(always)]
fn holder_toward<B: IpAddress>(a: &Announcement, local: &Address, real: &Address) -> u32 {
    let (local, real) = (B::narrow(*local), B::narrow(*real));
    let is_its = |c: &Connection<B>| {
        c.kind.is_alias()
            && c.client == local
            && c.client_port == a.local_port
            && c.virt == real
            && c.virt_port == a.real_port
            && c.protocol == a.protocol
    };
    let Some((_, alias)) = find::look_up(find::hash(local, a.local_port, a.protocol), &is_its) else { return NOBODY };
    let is_v4 = B::IS_V4 != (alias.kind == EntryKind::CROSSED);
    alias.control.index() | if is_v4 { 0 } else { V6 }
}

/// Takes a connection out that [`holder`] found.
#[inline(always)]
pub fn end_holder(holder: u32, epoch: u64) {
    if holder == NOBODY {
        return;
    }
    if holder & V6 == 0 {
        end::<u32>(holder, epoch);
    } else {
        end::<[u32; 4]>(holder & !V6, epoch);
    }
}

/// Writes the local end of an element to its draft.
#[inline(always)]
pub fn set<A: IpAddress>(draft: Entry<A>, a: &Announcement, settings: &Settings) {
    let is_same_family = DestRef::get(a.dest, settings.epoch).is_some_and(|dest| dest.family() == A::FAMILY);
    let local = if is_same_family { LOCALS.get(a.local_id) } else { None };
    draft.set_local(a.local_id, local.map_or(A::default(), |local| A::narrow(local.address)), a.local_port);
    draft.set_toa_state(a.toa_state as u8);
    draft.set_first_sequence(a.first);
}

global_fn! {
    /// Takes connection `at` out: whether it is gone.
    pub fn end<A>(at: u32, epoch: u64) -> u32 = end_entered4, end_entered6 => take_out
}

fn take_out<A: IpAddress>(at: u32, epoch: u64) -> u32 {
    store::entry::<A>(at).is_some_and(|c| release::remove(at, c, epoch, |c| c.controlled == 0)) as u32
}

global_fn! {
    /// Makes the alias of an element's connection, which this CPU's draft has just become: 0 if there is no room for it.
    pub fn lead_replies<A>(incoming: Shared<Incoming>, draft: Entry<A>, settings: &Settings) -> u32 = lead_entered4, lead_entered6 => add_alias
}

fn add_alias<A: IpAddress>(incoming: Shared<Incoming>, draft: Entry<A>, settings: &Settings) -> u32 {
    let a = &incoming.get().announcement;
    let Some(dest) = DestRef::get(a.dest, settings.epoch) else { return 0 };
    let made = if draft.is_crossed() {
        alias::add_between::<A, A::Other>(draft, a.entry, dest.address())
    } else {
        alias::add(draft, a.entry)
    };
    made.is_ok() as u32
}
