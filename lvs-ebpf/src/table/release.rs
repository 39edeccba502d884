//! What a connection held is given back when it is taken out of the table.

use lvs_common::{
    abi::{Connection, Destination, EngineKey, conn_flags, conn_kind},
    sched::overload,
    table::Store,
};

use crate::{
    kernel::atomics,
    maps::ENGINES,
    packet::parse::Family,
    table::{
        alias,
        track::{Dest, Table},
    },
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
    let is_template = entry.kind == conn_kind::TEMPLATE;
    // While the destination is bound, its slot has the real server's address.
    if entry.local_id != 0 {
        alias::forget(at, c);
    }
    if let Some(dest) = Dest::get(entry.dest, epoch) {
        unbind(&dest, state, is_template);
    }
    if is_template && entry.engine != 0 {
        // It may never have been entered, for want of room.
        let _ = ENGINES.remove(EngineKey { entry: at, family: A::FAMILY as u32 });
    }
    if entry.control != 0
        && let Some(template) = <Table as Store<A>>::connection(&Table, entry.control - 1)
    {
        // SAFETY: an element of the map.
        atomics::fetch_add32(unsafe { &raw mut (*template).controlled }, u32::MAX);
    }
}

/// Takes a connection's count from its destination, whatever its state.
#[inline(always)]
fn unbind(dest: &Dest, state: u32, template: bool) {
    // SAFETY: an element of the map.
    unsafe {
        if template {
            atomics::fetch_add32(&raw mut (*dest.it).persistent, u32::MAX);
            return;
        }
        let one: u64 = if state & conn_flags::INACTIVE != 0 { 1 } else { 1 << 32 };
        let before = atomics::fetch_add64(&raw mut (*dest.it).connections, one.wrapping_neg());
        if (&raw const (*dest.it).overloaded).read_volatile() != 0 {
            let (active, inactive) = Destination::split(before.wrapping_sub(one));
            let config = dest.config();
            if overload::unbind_clears(active.wrapping_add(inactive), config.lower, config.upper) {
                (&raw mut (*dest.it).overloaded).write_volatile(0);
            }
        }
    }
}
