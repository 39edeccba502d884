//! The alias of a connection whose real server is of the other family: replies come in that family, so it stands in that
//! family's table.

use lvs_common::{
    abi::{Address, Connection, Forward, conn_flags, conn_kind},
    exit::Exit,
    table::Store,
};

use crate::{
    forward::fullnat::open::{self, FOREVER},
    maps::LOCALS,
    packet::parse::Family,
    select::schedule::Drafted,
    table::track::{self, Table},
};

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
                add::<$own, $other>(draft, at, real)
            }
            #[inline(always)]
            fn take_alias(at: u32, c: &Connection<Self>) {
                take::<$other>(at, c.alias.wrapping_sub(1));
            }
            #[inline(always)]
            fn is_lost(at: u32, alias: &Connection<Self>) -> bool {
                connection::<$own, $other>(at, alias).is_none()
            }
        }
    };
}

crosses!(u32, [u32; 4]);
crosses!([u32; 4], u32);

/// The connection of alias `at`: its entry in the table of its client's family, and itself.
#[inline(always)]
pub fn connection<A, B: Family>(at: u32, alias: &Connection<A>) -> Option<(u32, *mut Connection<B>)>
where
    Table: Store<B>,
{
    let main = alias.control.wrapping_sub(1);
    let connection = <Table as Store<B>>::connection(&Table, main)?;
    // SAFETY: an element of the map.
    let c = unsafe { &*connection };
    let is_its = c.alias == at.wrapping_add(1) && c.is_crossed() && c.state & conn_flags::DEAD == 0;
    if is_its { Some((main, connection)) } else { None }
}

/// A function of its own: its room on the stack is a call's.
#[inline(never)]
fn add<A: Drafted, B: Drafted>(draft: *const Connection<A>, at: u32, real: &Address) -> Result<(), Exit>
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
        (*other).kind = conn_kind::CROSSED;
        (*other).forward = Forward::FullNat as u8;
        (*other).last_seen = d.last_seen;
        (*other).dest = 0;
        (*other).state = 0;
        (*other).timeout = FOREVER;
        (*other).in_packets = 0;
        (*other).control = at.wrapping_add(1);
        (*other).controlled = 0;
        (*other).fwmark = 0;
        (*other).engine = 0;
        (*other).alias = 0;
        (*other).local_id = 0;
    }
    open::put::<A, B>(other, at)
}

#[inline(always)]
fn take<B: Family>(main: u32, alias: u32)
where
    Table: Store<B>,
{
    let Some(entry) = <Table as Store<B>>::connection(&Table, alias) else { return };
    // SAFETY: an element of the map. If it is another's by now, so is its hash, and it is left alone.
    let hash = unsafe { track::hash((*entry).client, (*entry).client_port, (*entry).protocol) };
    // The lock that is held is one of the other table's.
    B::remove_alias(alias, conn_kind::CROSSED, main, hash, None);
}
