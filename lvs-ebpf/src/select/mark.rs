//! A packet's firewall mark: that of the first classification rule that is about it, else the one it carries (TC only).

use core::ffi::c_void;

use aya_ebpf::helpers::generated::bpf_loop;
use lvs_common::{
    abi::{IpAddress, MARK_RULES, Settings},
    marks::Subject,
};

use crate::{maps::MARKS, packet::access::Packet, values::parsed::Parsed};

struct Search {
    subject: Subject,
    /// Where the list in force begins.
    begin: u32,
    found: u32,
}

/// The mark, 0 for none.
#[inline(always)]
pub fn of<P: Packet, A: IpAddress>(packet: P, p: &Parsed<A>, settings: &Settings) -> u32 {
    let copy = settings.marks.switch.copy(settings.epoch) & 1;
    let count = settings.marks.counts[copy];
    if count == 0 {
        return packet.mark();
    }
    let mut search = Search {
        subject: Subject {
            source: p.source.widen(),
            destination: p.destination.widen(),
            port: p.destination_port.get(),
            protocol: p.protocol,
            family: A::FAMILY,
        },
        begin: copy as u32 * MARK_RULES,
        found: 0,
    };
    // SAFETY: the callback gets the structure it expects.
    unsafe { bpf_loop(count, ask as *mut c_void, (&raw mut search).cast(), 0) };
    if search.found != 0 { search.found } else { packet.mark() }
}

extern "C" fn ask(index: u64, context: *mut c_void) -> i64 {
    // SAFETY: `of` passed it.
    let search = unsafe { &mut *context.cast::<Search>() };
    let Some(rule) = MARKS.get(search.begin.wrapping_add(index as u32)) else { return 1 };
    if rule.matches(&search.subject) {
        search.found = rule.mark;
    }
    (search.found != 0) as i64
}
