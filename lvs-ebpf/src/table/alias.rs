//! What FullNAT gives back when its connection is taken out of the table: the alias, in the table of the real server's family,
//! and the local port.

use lvs_common::{
    abi::{Connection, WAYS, conn_flags, conn_kind},
    table::{self, Hash, Store},
};

use crate::{
    packet::parse::Family,
    table::{
        local_ports,
        track::{self, Table},
    },
};

/// No bucket.
const NONE: u32 = u32::MAX;

/// A family whose table has aliases.
pub trait Aliased: Sized {
    /// Takes alias `alias`, an entry of this kind, of connection `main` out; `held` is the bucket of the same table that is
    /// locked already. If its bucket is locked for long by another CPU, the sweep does it.
    fn remove_alias(alias: u32, kind: u8, main: u32, hash: Hash, held: Option<u32>);
}

macro_rules! aliased {
    ($address:ty, $name:ident) => {
        impl Aliased for $address {
            #[inline(always)]
            fn remove_alias(alias: u32, kind: u8, main: u32, hash: Hash, held: Option<u32>) {
                $name(alias, kind as u32, main, hash.0, held.unwrap_or(NONE));
            }
        }

        /// Of global linkage, as [`advance`](crate::table::advance)'s are: connections are taken out in many places.
        #[unsafe(no_mangle)]
        #[inline(never)]
        extern "C" fn $name(alias: u32, kind: u32, main: u32, hash: u64, held: u32) -> u32 {
            let held = if held == NONE { None } else { Some(held) };
            let is_it = |a: &Connection<$address>| a.kind as u32 == kind && a.control == main.wrapping_add(1);
            if !table::remove_beside(&Table, alias, Hash(hash), held, is_it) {
                track::sooner::<$address>(alias, track::jiffies());
            }
            0
        }
    };
}

aliased!(u32, remove_alias4);
aliased!([u32; 4], remove_alias6);

/// Gives back what connection `at` held, which is being taken out of the table under its bucket's lock: its alias and its
/// port.
#[inline(always)]
pub fn forget<A: Family>(at: u32, c: *mut Connection<A>)
where
    Table: Store<A>,
{
    // SAFETY: an element of the map.
    let c = unsafe { &*c };
    if c.is_crossed() {
        A::take_alias(at, c);
    } else if c.alias != 0 {
        let hash = track::hash(c.local, c.local_port, c.protocol);
        A::remove_alias(c.alias.wrapping_sub(1), conn_kind::ALIAS, at, hash, Some(at / WAYS));
    }
    local_ports::give_back(c);
}

/// Takes alias `at` out if its connection is gone: what `forget` could not do.
#[inline(always)]
pub fn collect<A: Family>(at: u32, alias: &Connection<A>)
where
    Table: Store<A>,
{
    let main = alias.control.wrapping_sub(1);
    let is_lost = match alias.kind {
        conn_kind::CROSSED => A::is_lost(at, alias),
        _ => {
            let Some(connection) = <Table as Store<A>>::connection(&Table, main) else { return };
            // SAFETY: an element of the map.
            let c = unsafe { &*connection };
            c.alias != at.wrapping_add(1) || c.is_crossed() || c.state & conn_flags::DEAD != 0
        }
    };
    if is_lost {
        let hash = track::hash(alias.client, alias.client_port, alias.protocol);
        A::remove_alias(at, alias.kind, main, hash, None);
    }
}
