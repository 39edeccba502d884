//! Reading ICMP errors.

use crate::{
    kernel::{
        cpu,
        shared::{PerFamily, Shared, element_of},
    },
    maps::{ICMP_ERRORS4, ICMP_ERRORS6},
    packet::{access::Packet, access::TcPacket, checksum, parse::Family},
    values::{icmp_error::IcmpError, parsed::L3},
};
use core::hint::black_box;
use lvs_common::{
    abi::IpAddress,
    icmp,
    wire::{Icmp, protocol},
};

/// Bytes that are made linear: an error's headers, those of a tunnel's packet in it and of the client's packet in that.
const LINEAR: u32 = 256;

/// Bytes of an ICMP header.
pub const HEADER: usize = size_of::<Icmp>();

/// ICMP errors of each family.
struct Errors;

impl PerFamily for Errors {
    type Of<A: IpAddress> = IcmpError<A>;
}

/// This CPU's place for an ICMP error, which is too large for the stack.
#[inline(always)]
fn place<A: IpAddress>() -> Option<Shared<IcmpError<A>>> {
    element_of::<A, Errors, _, _>(&ICMP_ERRORS4, &ICMP_ERRORS6, cpu::number())
}

/// The error that was read last.
#[inline(always)]
pub fn last<A: IpAddress>() -> Option<&'static IcmpError<A>> {
    place().map(Shared::get)
}

/// Changes this CPU's ICMP error.
#[inline(always)]
fn update<A: IpAddress>(change: impl FnOnce(&mut IcmpError<A>)) -> bool {
    let Some(place) = place() else { return false };
    // SAFETY: this CPU's own element, to which nobody has a reference before it is read.
    change(unsafe { &mut *place.as_ptr() });
    true
}

/// Reads an ICMP error about a packet from where the error goes.
#[inline(always)]
pub fn read<A: Family>(packet: TcPacket) -> Option<&'static IcmpError<A>> {
    if !read_error::<A>(packet) || !read_quote::<A>(packet) {
        return None;
    }
    last()
}

/// Reads the error itself. A function of its own, as is [`read_quote`]: together they need more stack than there is.
#[inline(never)]
fn read_error<A: Family>(packet: TcPacket) -> bool {
    let length = packet.length();
    packet.pull(if length < LINEAR { length } else { LINEAR } as usize);
    let Ok(outer) = A::network(packet, L3, false) else { return false };
    let v6 = !A::IS_V4;
    if outer.carried != if v6 { protocol::ICMPV6 } else { protocol::ICMP } {
        return false;
    }
    let Some(header) = packet.read::<Icmp>(outer.l4()) else { return false };
    icmp::is_error(v6, header.kind)
        && update::<A>(
            #[inline(always)]
            |report| {
                report.quote = outer.l4() + HEADER;
                report.outer = outer;
            },
        )
}

/// Reads the packet that the error quotes.
#[inline(never)]
fn read_quote<A: Family>(packet: TcPacket) -> bool {
    let Some(report) = last::<A>() else { return false };
    let (quote, goes_to) = (report.quote(), report.outer.destination);
    let Ok(mut quoted) = A::quoted(packet, quote) else { return false };
    // Straight from the packet, the compiler would have a function move it.
    quoted.destination = black_box(quoted.destination);
    let is_kept = update::<A>(
        #[inline(always)]
        |report| report.about = quoted.reversed(),
    );
    is_kept && quoted.source == goes_to
}

/// Whether the error's checksum is right: one that is translated incrementally would otherwise stay wrong unseen.
#[inline(always)]
pub fn is_intact<A: Family>(packet: TcPacket, report: &IcmpError<A>) -> bool {
    let outer = &report.outer;
    let end = (L3 as u32).wrapping_add(outer.length);
    let length = end.wrapping_sub(outer.l4() as u32);
    let Some(sum) = checksum::sum(packet, outer.l4() as u32, end) else { return false };
    let pseudo = if A::IS_V4 {
        0
    } else {
        checksum::pseudo(outer.source.widen().0, outer.destination.widen().0, protocol::ICMPV6, length)
    };
    lvs_common::checksum::fold(sum + pseudo) == 0xffff
}
