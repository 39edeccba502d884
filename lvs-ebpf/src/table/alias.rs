//! What FullNAT gives back when its connection is taken out of the table: the alias, in the table of the real server's family,
//! and the local port.

use crate::maps::LOCALS;
use crate::table::alias;
use crate::table::draft;
use crate::table::draft::Drafted;
use crate::table::draft::copy;
use lvs_common::abi::Address;
use lvs_common::abi::Mode;
use lvs_common::exit::Exit;
use lvs_common::{
    abi::{Connection, DestId, EntryKind, EntryRef, WAYS, conn_flags},
    table::{self, Hash, Store},
};

use crate::{
    kernel::clock,
    packet::parse::Family,
    table::{
        find, local_ports,
        store::{self, Table},
    },
};

/// No bucket.
const NONE: u32 = u32::MAX;

/// A family whose table has aliases.
pub trait Aliased: Sized {
    /// Takes alias `alias`, an entry of this kind, of connection `main` out; `held` is the bucket of the same table that is
    /// locked already. If its bucket is locked for long by another CPU, the sweep does it.
    fn remove_alias(alias: u32, kind: EntryKind, main: u32, hash: Hash, held: Option<u32>);
}

macro_rules! aliased {
    ($address:ty, $name:ident) => {
        impl Aliased for $address {
            #[inline(always)]
            fn remove_alias(alias: u32, kind: EntryKind, main: u32, hash: Hash, held: Option<u32>) {
                $name(alias, (kind == EntryKind::CROSSED) as u32, main, hash.0, held.unwrap_or(NONE));
            }
        }

        /// Of global linkage, as [`advance`](crate::table::advance)'s are: connections are taken out in many places.
        #[unsafe(no_mangle)]
        #[inline(never)]
        extern "C" fn $name(alias: u32, is_crossed: u32, main: u32, hash: u64, held: u32) -> u32 {
            let held = if held == NONE { None } else { Some(held) };
            let kind = if is_crossed == 0 { EntryKind::ALIAS } else { EntryKind::CROSSED };
            let is_it = |a: &Connection<$address>| a.kind == kind && a.control == EntryRef::to(main);
            if !table::remove_beside(&Table, alias, Hash(hash), held, is_it) {
                store::sweep_by::<$address>(alias, clock::jiffies());
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
    } else if c.alias.is_some() {
        let hash = find::hash(c.local, c.local_port, c.protocol);
        A::remove_alias(c.alias.index(), EntryKind::ALIAS, at, hash, Some(at / WAYS));
    }
    local_ports::give_back(c);
}

/// Takes alias `at` out if its connection is gone: what `forget` could not do.
#[inline(always)]
pub fn collect<A: Family>(at: u32, alias: &Connection<A>)
where
    Table: Store<A>,
{
    let main = alias.control.index();
    let is_lost = match alias.kind {
        EntryKind::CROSSED => A::is_lost(at, alias),
        _ => {
            let Some(connection) = <Table as Store<A>>::connection(&Table, main) else { return };
            // SAFETY: an element of the map.
            let c = unsafe { &*connection };
            c.alias != EntryRef::to(at) || c.is_crossed() || c.state & conn_flags::DEAD != 0
        }
    };
    if is_lost {
        let hash = find::hash(alias.client, alias.client_port, alias.protocol);
        A::remove_alias(at, alias.kind, main, hash, None);
    }
}

/// Jiffies of an alias: it goes with its connection, and not by itself.
pub const FOREVER: u32 = u32::MAX;

/// Puts the alias of connection `at` into the table; the draft is written over. A function of its own: its room on the
/// stack is a call's.
#[inline(never)]
pub fn add<A: Drafted>(draft: *mut Connection<A>, at: u32) -> Result<(), Exit>
where
    Table: Store<A>,
{
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
pub fn put<A: Drafted, B: Drafted>(alias: *const Connection<B>, at: u32) -> Result<(), Exit>
where
    Table: Store<A> + Store<B>,
{
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
    if let Some(connection) = <Table as Store<A>>::connection(&Table, at) {
        // SAFETY: an element of the map.
        unsafe { (&raw mut (*connection).alias).write_volatile(EntryRef::to(alias)) };
    }
    Ok(())
}

/// The connection of a reply that `at` was found for: itself, or that of the alias.
#[inline(always)]
pub fn resolve<A: Family>(at: u32, c: *mut Connection<A>) -> Option<(u32, *mut Connection<A>)>
where
    Table: Store<A>,
{
    // SAFETY: an element of the map.
    let (kind, control) = unsafe { ((*c).kind, (*c).control) };
    if kind != EntryKind::ALIAS {
        return Some((at, c));
    }
    let main = control.index();
    let connection = <Table as Store<A>>::connection(&Table, main)?;
    // SAFETY: as above.
    if unsafe { (*connection).alias } == EntryRef::to(at) { Some((main, connection)) } else { None }
}

/// What is done to the table of the other family. Written for each family by itself, so that code for any need not say that
/// there are tables of both.
pub trait Crosses: Sized {
    /// Puts the alias of connection `at`, which has just been made of the draft, into the other family's table.
    fn add_alias(draft: *const Connection<Self>, at: u32, real: &Address) -> Result<(), Exit>;
    /// Takes the alias of connection `at` out of the other family's table.
    fn take_alias(at: u32, c: &Connection<Self>);
    /// Whether alias `at`, of this family, has lost its connection.
    fn is_lost(at: u32, alias: &Connection<Self>) -> bool;
}

macro_rules! crosses {
    ($own:ty, $other:ty) => {
        impl Crosses for $own {
            #[inline(always)]
            fn add_alias(draft: *const Connection<Self>, at: u32, real: &Address) -> Result<(), Exit> {
                add_between::<$own, $other>(draft, at, real)
            }
            #[inline(always)]
            fn take_alias(at: u32, c: &Connection<Self>) {
                take::<$other>(at, c.alias.index());
            }
            #[inline(always)]
            fn is_lost(at: u32, alias: &Connection<Self>) -> bool {
                connection_of::<$own, $other>(at, alias).is_none()
            }
        }
    };
}

crosses!(u32, [u32; 4]);
crosses!([u32; 4], u32);

/// The connection of alias `at`: its entry in the table of its client's family, and itself.
#[inline(always)]
pub fn connection_of<A, B: Family>(at: u32, alias: &Connection<A>) -> Option<(u32, *mut Connection<B>)>
where
    Table: Store<B>,
{
    let main = alias.control.index();
    let connection = <Table as Store<B>>::connection(&Table, main)?;
    // SAFETY: an element of the map.
    let c = unsafe { &*connection };
    let is_its = c.alias == EntryRef::to(at) && c.is_crossed() && c.state & conn_flags::DEAD == 0;
    if is_its { Some((main, connection)) } else { None }
}

/// A function of its own: its room on the stack is a call's.
#[inline(never)]
fn add_between<A: Drafted, B: Drafted>(draft: *const Connection<A>, at: u32, real: &Address) -> Result<(), Exit>
where
    Table: Store<A> + Store<B>,
{
    // SAFETY: this CPU's own draft.
    let d = unsafe { &*draft };
    let (Some(local), Some(other)) = (LOCALS.get(d.local_id), B::draft()) else { return Err(Exit::DropInternal) };
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
    alias::put::<A, B>(other, at)
}

#[inline(always)]
fn take<B: Family>(main: u32, alias: u32)
where
    Table: Store<B>,
{
    let Some(entry) = <Table as Store<B>>::connection(&Table, alias) else { return };
    // SAFETY: an element of the map. If it is another's by now, so is its hash, and it is left alone.
    let hash = unsafe { find::hash((*entry).client, (*entry).client_port, (*entry).protocol) };
    // The lock that is held is one of the other table's.
    B::remove_alias(alias, EntryKind::CROSSED, main, hash, None);
}
