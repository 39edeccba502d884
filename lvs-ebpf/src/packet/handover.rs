//! What was parsed of a packet, for the programs that tail calls reach. They read it from a map and not from the packet, so
//! the verifier need not follow them once for each shape of packet.

use lvs_common::abi::IpAddress;

use crate::{
    kernel::cpu,
    maps::{PARSED4, PARSED6},
    values::parsed::Parsed,
};

/// This CPU's place.
#[inline(always)]
fn place<A: IpAddress>() -> Option<*mut Parsed<A>> {
    // The casts are to the same type.
    if A::IS_V4 {
        PARSED4.get_ptr_mut(cpu::number()).map(<*mut Parsed<u32>>::cast)
    } else {
        PARSED6.get_ptr_mut(cpu::number()).map(<*mut Parsed<[u32; 4]>>::cast)
    }
}

/// Stores what was parsed.
#[inline(always)]
pub fn store<A: IpAddress>(parsed: &Parsed<A>) -> bool {
    let Some(place) = place::<A>() else { return false };
    // SAFETY: this CPU's own element. Programs that change the packet store it anew just before they jump.
    unsafe { place.write(*parsed) };
    true
}

/// Changes the length of what was stored, bytes of IP packet.
#[inline(always)]
pub fn set_length<A: IpAddress>(length: u32) {
    if let Some(place) = place::<A>() {
        // SAFETY: this CPU's own element, as above.
        unsafe { (*place).length = length }
    }
}

/// What the program before this one stored.
#[inline(always)]
pub fn load<A: IpAddress>() -> Option<&'static Parsed<A>> {
    // SAFETY: this CPU's own element. A program that calls `store` reads nothing of it afterwards.
    place::<A>().map(|place| unsafe { &*place })
}
