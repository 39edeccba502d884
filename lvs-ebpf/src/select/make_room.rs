//! The program `MakeRoom`: in a full table, the least worth gives way to what this CPU has drafted, and the program that drafted it
//! goes on.

use lvs_common::{
    abi::{EntryRef, IpAddress},
    exit::Exit,
    programs::Program,
    table::InsertError,
};

use crate::{
    config::destination::DestRef,
    exits,
    kernel::clock,
    packet::access::Packet,
    programs::jump,
    select::request,
    table::{draft, entry::Entry, find, local_ports, room},
    values::request::Request,
};

/// How often room is made for one packet, at most: for a template and its connection, or a connection and its alias, and as often
/// again where another CPU has taken the room.
const TRIES: u32 = 4;

/// What becomes of a packet whose draft was not put into the table.
#[inline(always)]
pub fn or_refuse<P: Packet, A: IpAddress>(packet: P, error: InsertError) -> i32 {
    match error {
        InsertError::Full => jump::<A, _>(packet, Program::MakeRoom),
        error => exits::drop(packet, draft::refusal(error)),
    }
}

/// Makes room, and goes on with the program that asked for it.
#[inline(always)]
pub fn run<P: Packet, A: IpAddress>(packet: P) -> i32 {
    let Some(draft) = draft::place::<A>() else { return P::PASS };
    request::lend(
        #[inline(always)]
        |r| make(packet, draft, r),
    )
    .unwrap_or(P::PASS)
}

#[inline(always)]
fn make<P: Packet, A: IpAddress>(packet: P, draft: Entry<A>, r: &mut Request) -> i32 {
    let has_port = draft.local_id != 0;
    if r.room.made < TRIES && make_for(draft, r) {
        r.room.made = r.room.made.wrapping_add(1);
        return jump::<A, _>(packet, if has_port { Program::OpenFullNat } else { Program::Open });
    }
    if has_port && let Some(dest) = DestRef::get(r.dest, r.epoch) {
        local_ports::release(draft.local_id, draft.local_port, *dest.address(), draft.real_port, draft.protocol);
    }
    exits::drop(packet, Exit::DropTableFull)
}

/// Makes room for a draft, or for its alias; `false` if nothing may give way.
#[inline(always)]
fn make_for<A: IpAddress>(draft: Entry<A>, r: &Request) -> bool {
    let now = clock::jiffies();
    if r.room.for_alias == 0 {
        return room::make::<A>(find::hash_of(draft.get()), now, r.epoch, r.template);
    }
    let Some(hash) = room::hash_of_alias(draft) else { return false };
    if draft.is_crossed() {
        room::make::<A::Other>(hash, now, r.epoch, EntryRef::NONE)
    } else {
        room::make::<A>(hash, now, r.epoch, r.template)
    }
}
