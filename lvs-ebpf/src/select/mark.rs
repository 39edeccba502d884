//! A packet's firewall mark: that of the first classification rule that is about it, else the one it carries (TC only).

use lvs_common::{
    abi::{IpAddress, MARK_RULES, Settings},
    marks::Subject,
};

use crate::{
    kernel::loops::{Turn, repeat},
    maps::MARKS,
    packet::access::Packet,
    values::parsed::Parsed,
};

/// A loop over the rules in force.
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
    repeat(count, &mut search);
    if search.found != 0 { search.found } else { packet.mark() }
}

impl Turn for Search {
    #[inline(always)]
    fn turn(&mut self, index: u32) -> bool {
        let Some(rule) = MARKS.get(self.begin.wrapping_add(index)) else { return true };
        if rule.matches(&self.subject) {
            self.found = rule.mark;
        }
        self.found != 0
    }
}
