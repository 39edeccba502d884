//! IPVS's defence strategies: what happens to new connections and to the least useful old ones when room gets scarce.
//!
//! IPVS looks at the host's free memory. Here the connection table's memory is set aside when the data plane is loaded, so
//! it is the table's free part that counts, in pages of 4 KiB as IPVS's `amemthresh` does.

use crate::abi::sysctls::mode;
use crate::state::{sctp, tcp};
use crate::verifier::opaque;
use crate::wire::protocol::{SCTP, TCP};

/// Bytes of a page.
const PAGE: u64 = 4096;

/// How much room a connection table has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Room {
    /// Free pages.
    pub free: u32,
    /// Free pages below which room is scarce: `amemthresh`, but an eighth of the table at most.
    pub threshold: u32,
}

impl Room {
    /// The room of a table that holds `held` of at most `capacity` entries of `size` bytes.
    #[inline(always)]
    pub fn of(held: u32, capacity: u32, size: u32, amemthresh: u32) -> Self {
        let pages = |entries: u32| (entries as u64 * size as u64 / PAGE) as u32;
        let eighth = pages(capacity) / 8;
        Room {
            free: pages(capacity.saturating_sub(held)),
            threshold: if amemthresh < eighth { amemthresh } else { eighth },
        }
    }

    /// Whether room is scarce.
    #[inline(always)]
    pub const fn is_scarce(self) -> bool {
        self.free < self.threshold
    }

    /// Of how many new connections one is dropped while room is scarce: the less room, the fewer.
    #[inline(always)]
    const fn rate(self) -> u32 {
        match self.threshold.checked_div(self.threshold.saturating_sub(self.free)) {
            Some(rate) => rate,
            None => 0,
        }
    }
}

/// The mode a second later: automatic strategies work while room is scarce.
#[inline(always)]
pub const fn next(mode: u32, scarce: bool) -> u32 {
    match mode {
        mode::RESTING | mode::WORKING if scarce => mode::WORKING,
        mode::RESTING | mode::WORKING => mode::RESTING,
        other => other,
    }
}

/// Whether a strategy in this mode is at work.
#[inline(always)]
pub const fn works(mode: u32) -> bool {
    mode == mode::WORKING || mode == mode::ALWAYS
}

/// Of how many new connections `drop_packet` in `mode` drops one; 0 for none.
#[inline(always)]
pub const fn drop_rate(mode: u32, room: Room, am_droprate: u32) -> u32 {
    match mode {
        mode::WORKING => room.rate(),
        mode::ALWAYS => am_droprate,
        _ => 0,
    }
}

/// Whether new connection number `count` is one that is dropped.
#[inline(always)]
pub const fn is_dropped(count: u32, rate: u32) -> bool {
    match count.checked_rem(rate) {
        Some(rest) => rest == rate.wrapping_sub(1),
        None => false,
    }
}

/// What `drop_entry` looks at of a connection or template.
#[derive(Clone, Copy, Debug)]
pub struct Candidate {
    /// Its protocol.
    pub protocol: u8,
    /// Number of its state.
    pub state: u8,
    /// Packets from the client.
    pub in_packets: u32,
    /// Whether no packet came for a minute.
    pub idle: bool,
    /// Whether it is a template.
    pub template: bool,
    /// Whether it is a template one of whose connections was established.
    pub assured: bool,
    /// Whether it is a template of a one-packet service.
    pub one_packet: bool,
}

/// Greatest number of packets after which a connection still counts as hardly used.
const FEW_PACKETS: u32 = 8;

/// Connections met that were idle after so many packets; of those with `n`, every `n`th goes.
pub type Met = [u32; FEW_PACKETS as usize + 1];

/// Whether `drop_entry` takes a connection out that controls no other: what never was established, and of those that are
/// but are hardly used, the more the fewer packets they had.
#[inline(always)]
pub fn takes_out(c: &Candidate, met: &mut Met) -> bool {
    if c.template {
        return !c.assured || c.one_packet && is_superfluous(c, met);
    }
    match (c.protocol, c.state) {
        (TCP, tcp::SYN_RECV | tcp::SYNACK) | (SCTP, sctp::INIT1 | sctp::INIT) => true,
        (TCP, state) if state != tcp::ESTABLISHED => false,
        (SCTP, state) if state != sctp::ESTABLISHED => false,
        _ => is_superfluous(c, met),
    }
}

#[inline(always)]
fn is_superfluous(c: &Candidate, met: &mut Met) -> bool {
    if !c.idle || c.in_packets == 0 || c.in_packets > FEW_PACKETS {
        return false;
    }
    // Linux 6.1 needs the mask: see "known-length masks" in docs/develop/verifier.md.
    let Some(met) = met.get_mut(opaque(c.in_packets) as usize & 15) else { return false };
    *met = met.wrapping_add(1);
    is_dropped(met.wrapping_sub(1), c.in_packets)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strategies_work_while_room_is_scarce() {
        // 400,000 connections of 176 bytes are 17,187 pages.
        let room = |held| Room::of(held, 400_000, 176, 1024);
        assert_eq!(room(0), Room { free: 17_187, threshold: 1024 });
        assert!(!room(370_000).is_scarce() && room(380_000).is_scarce());
        assert_eq!(Room::of(900, 1000, 176, 1024), Room { free: 4, threshold: 5 });
        let modes = |scarce| [0, 1, 2, 3].map(|mode| next(mode, scarce));
        assert_eq!((modes(false), modes(true)), ([0, 1, 1, 3], [0, 2, 2, 3]));
        assert_eq!([0, 1, 2, 3].map(works), [false, false, true, true]);
    }

    #[test]
    fn the_less_room_the_more_new_connections_are_dropped() {
        let rate = |free, mode| drop_rate(mode, Room { free, threshold: 1000 }, 10);
        assert_eq!([999, 900, 500, 0].map(|free| rate(free, mode::WORKING)), [1000, 10, 2, 1]);
        assert_eq!((rate(5, mode::RESTING), rate(5000, mode::ALWAYS), rate(5, mode::OFF)), (0, 10, 0));
        let dropped = |rate| (0..12).filter(|count| is_dropped(*count, rate)).count();
        assert_eq!([0, 1, 2, 3, 10].map(dropped), [0, 12, 6, 4, 1]);
    }

    #[test]
    fn what_is_hardly_used_goes_the_sooner() {
        let base = Candidate {
            protocol: TCP,
            state: tcp::ESTABLISHED,
            in_packets: 2,
            idle: true,
            template: false,
            assured: false,
            one_packet: false,
        };
        let taken = |c: Candidate| {
            let mut met = Met::default();
            (0..24).filter(|_| takes_out(&c, &mut met)).count()
        };
        assert_eq!(taken(Candidate { state: tcp::SYN_RECV, idle: false, ..base }), 24);
        assert_eq!(taken(Candidate { state: tcp::TIME_WAIT, ..base }), 0);
        assert_eq!([1, 2, 3, 8, 9].map(|in_packets| taken(Candidate { in_packets, ..base })), [24, 12, 8, 3, 0]);
        assert_eq!(taken(Candidate { idle: false, ..base }), 0);
        assert_eq!(taken(Candidate { protocol: 17, state: 0, in_packets: 1, ..base }), 24);
        assert_eq!(taken(Candidate { protocol: SCTP, state: sctp::INIT1, idle: false, ..base }), 24);
        let template = Candidate { template: true, ..base };
        assert_eq!(taken(template), 24);
        assert_eq!(taken(Candidate { assured: true, ..template }), 0);
        assert_eq!(taken(Candidate { assured: true, one_packet: true, ..template }), 12);
    }
}
