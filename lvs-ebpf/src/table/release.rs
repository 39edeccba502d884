//! What a connection held is given back when it is taken out of the table.

use crate::table::binding;
use crate::table::find;
use lvs_common::{
    abi::{Connection, EngineKey, EntryKind, conn_flags},
    table::Store,
};

use crate::{
    config::destination::DestRef,
    kernel::atomics,
    maps::ENGINES,
    packet::parse::Family,
    table::{alias, store::Table},
};

/// A family whose connections give back.
pub trait GivesBack: Sized {
    /// Gives back what connection `at` held, which is being taken out under its bucket's lock.
    fn give_back(at: u32, c: *mut Connection<Self>, epoch: u64);
}

macro_rules! gives_back {
    ($address:ty, $name:ident) => {
        impl GivesBack for $address {
            #[inline(always)]
            fn give_back(at: u32, c: *mut Connection<Self>, epoch: u64) {
                $name(at, c, epoch);
            }
        }

        /// Of global linkage, as [`advance`](crate::table::advance)'s are: connections are taken out in many places.
        #[unsafe(no_mangle)]
        #[inline(never)]
        extern "C" fn $name(at: u32, c: *mut Connection<$address>, epoch: u64) -> u32 {
            if !c.is_null() {
                give_back(at, c, epoch);
            }
            0
        }
    };
}

gives_back!(u32, give_back4);
gives_back!([u32; 4], give_back6);

#[inline(always)]
fn give_back<A: Family>(at: u32, c: *mut Connection<A>, epoch: u64)
where
    Table: Store<A>,
{
    // From here on no packet that still holds the entry can move its count.
    // SAFETY: an element of the map.
    let (state, entry) = unsafe { (atomics::exchange32(&raw mut (*c).state, conn_flags::DEAD), &*c) };
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
        && let Some(template) = <Table as Store<A>>::connection(&Table, control)
    {
        // SAFETY: an element of the map.
        atomics::fetch_add32(unsafe { &raw mut (*template).controlled }, u32::MAX);
    }
}

/// Takes a connection out of the table and gives back everything it held. `at` is its entry; nothing happens if it is
/// not (or no longer) `dead`.
#[inline(always)]
pub fn remove<A: Family>(at: u32, c: *mut Connection<A>, epoch: u64, dead: impl Fn(&Connection<A>) -> bool) -> bool
where
    Table: Store<A>,
{
    // SAFETY: an element of the map.
    let h = find::hash_of(unsafe { &*c });
    // All of it under the bucket's lock: behind it the entry may be another connection's.
    lvs_common::table::remove(&Table, at, h, |entry| {
        let gone = dead(entry);
        if gone {
            A::give_back(at, c, epoch);
        }
        gone
    })
}
