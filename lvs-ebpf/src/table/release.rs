//! Releases what a connection held when it is removed from the table.

use crate::kernel::global::global_fn;
use crate::table::binding;
use crate::table::entry::Entry;
use crate::table::find;
use crate::table::store;
use lvs_common::abi::IpAddress;
use lvs_common::abi::{Connection, EngineKey, EntryKind, conn_flags};

use crate::{
    config::destination::DestRef,
    maps::ENGINES,
    table::{alias, store::Table},
};

global_fn! {
    /// Releases what connection `at` held. It is being removed from the table, under its bucket's lock.
    fn release_entry<A>(at: u32, c: Entry<A>, epoch: u64) -> u32 = release4, release6 => release
}

#[inline(always)]
fn release<A: IpAddress>(at: u32, c: Entry<A>, epoch: u64) -> u32 {
    // From here on no packet that still holds the entry can move its count.
    let (state, entry) = (c.state_word().exchange(conn_flags::DEAD), c.get());
    let is_template = entry.kind == EntryKind::TEMPLATE;
    // While the destination is bound, its slot has the real server's address.
    if entry.local_id != 0 {
        alias::forget(at, c);
    }
    if let Some(dest) = DestRef::get(entry.dest, epoch) {
        binding::unbind(&dest, state, is_template);
    }
    if is_template && entry.engine != 0 {
        // It may never have been entered, for want of room.
        let _ = ENGINES.remove(EngineKey { entry: at, family: A::FAMILY as u32 });
    }
    if let Some(control) = entry.control.get()
        && let Some(template) = store::entry::<A>(control)
        && template.controlled_word().fetch_add(u32::MAX) == 1
    {
        // It controls nothing any more.
        store::may_give_way::<A>(control);
    }
    0
}

/// Takes a connection out of the table and gives back everything it held. `at` is its entry; nothing happens if it is
/// not (or no longer) `dead`.
#[inline(always)]
pub fn remove<A: IpAddress>(at: u32, c: Entry<A>, epoch: u64, dead: impl Fn(&Connection<A>) -> bool) -> bool {
    let h = find::hash_of(c.get());
    // All of it under the bucket's lock: after that, the entry may be another connection's.
    lvs_common::table::remove(&Table, at, h, |entry| {
        let gone = dead(entry);
        if gone {
            release_entry::<A>(at, c, epoch);
        }
        gone
    })
}
