//! Connections of the generation of the data plane before this one enter the table. `lvsadm` runs the program, again and again.

use core::marker::PhantomData;

use lvs_common::{
    abi::{Arrival, IpAddress, outcome},
    table::InsertError,
};

use crate::{
    kernel::{
        loops::{Turn, repeat},
        shared::{element, element_of},
    },
    maps::{MOVED, MOVING4, MOVING6},
    packet::{access::TcPacket, control_block, parse::Family},
    table::{alias::FOREVER, draft, entry::Entry, store::Connections},
};

/// Puts the first connections of `MOVING4` or `MOVING6` into the table, as they are: they count where they count already.
#[inline(always)]
pub fn run(packet: TcPacket) -> i32 {
    let (is_v6, count) = control_block::part(packet);
    if is_v6 == 0 {
        repeat(count, &mut Arrivals::<u32>(PhantomData));
    } else {
        repeat(count, &mut Arrivals::<[u32; 4]>(PhantomData));
    }
    0
}

/// A loop over the connections of a family.
struct Arrivals<A>(PhantomData<A>);

impl<A: Family> Turn for Arrivals<A> {
    #[inline(always)]
    fn turn(&mut self, index: u32) -> bool {
        let Some(moving) = element_of::<A, Connections, _, _>(&MOVING4, &MOVING6, index) else { return true };
        let Some(moved) = element(&MOVED, index) else { return true };
        let (at, outcome) = match enter::<A>(Entry::from(moving)) {
            Ok(at) => (at, outcome::MOVED),
            Err(InsertError::Exists(at)) => (at, outcome::EXISTS),
            Err(InsertError::Busy) => (0, outcome::BUSY),
            Err(InsertError::Full) => (0, outcome::FULL),
        };
        moved.store(Arrival { at, outcome });
        false
    }
}

/// Puts an entry into the table, unless one with the same ends is there.
#[inline(always)]
fn enter<A: IpAddress>(moving: Entry<A>) -> Result<u32, InsertError> {
    // An alias goes with its connection, and not by itself.
    let due = match moving.timeout {
        FOREVER => u64::MAX,
        timeout => moving.last_seen.wrapping_add(timeout as u64).wrapping_add(1),
    };
    draft::put(moving, due)
}
