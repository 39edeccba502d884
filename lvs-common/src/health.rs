//! What is news of a director's health: which of the changes that an observer sees deserve an event. Each state remembers what
//! was seen last, so that an event comes once, and not with every look.

/// Seconds without a drop for a reason, after which the next drop is news again.
pub const QUIET: u64 = 600;

/// Percent of its room from which on a table is nearly full, and below which it has room again. They differ, so that a table
/// whose fill wavers around one number makes one event.
pub const FULL: u32 = 80;
/// See [`FULL`].
pub const ROOMY: u32 = 70;

/// Bits of a neighbour's state as the kernel reports it (`NUD_*`): the address was asked for, and nobody answered.
pub const FAILED: u16 = 0x20;
/// The same: reachable, stale, delay, probe, no ARP, permanent. The hardware address is known.
pub const KNOWN: u16 = 0x02 | 0x04 | 0x08 | 0x10 | 0x40 | 0x80;

/// Which way something turned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Turn {
    /// It is a fault now.
    Worse,
    /// It is none any more.
    Better,
}

/// Packets dropped for one reason.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Drops {
    count: u64,
    last: Option<u64>,
}

impl Drops {
    /// Begins with what has been counted before anybody looked, which is no news.
    pub const fn after(count: u64) -> Self {
        Drops { count, last: None }
    }

    /// Sees the counter, at a time in seconds: how many packets were dropped since the look before, if that is news.
    pub fn see(&mut self, count: u64, now: u64) -> Option<u64> {
        // A counter that is behind was begun anew.
        let fresh = count.checked_sub(self.count).unwrap_or(count);
        self.count = count;
        if fresh == 0 {
            return None;
        }
        let is_news = self.last.is_none_or(|last| now.saturating_sub(last) >= QUIET);
        self.last = Some(now);
        is_news.then_some(fresh)
    }
}

/// How full a table is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Fill {
    full: bool,
}

impl Fill {
    /// Sees that `held` of `room` places are taken.
    pub fn see(&mut self, held: u32, room: u32) -> Option<Turn> {
        let share = held as u64 * 100;
        let limit = room as u64 * if self.full { ROOMY } else { FULL } as u64;
        let full = room != 0 && share >= limit;
        turned(&mut self.full, full)
    }
}

/// Whether a real server's hardware address is known.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Neighbour {
    lost: bool,
}

impl Neighbour {
    /// Sees the kernel's entry, of state bits; `None` if the kernel has none. An entry that is gone, or is being asked for, says
    /// nothing new.
    pub fn see(&mut self, state: Option<u16>) -> Option<Turn> {
        let lost = match state {
            Some(state) if state & FAILED != 0 => true,
            Some(state) if state & KNOWN != 0 => false,
            _ => self.lost,
        };
        turned(&mut self.lost, lost)
    }

    /// Whether it is lost, as far as is known.
    pub const fn is_lost(self) -> bool {
        self.lost
    }
}

/// Stores whether there is a fault: which way that turned, if it did.
fn turned(before: &mut bool, now: bool) -> Option<Turn> {
    let turn = match (*before, now) {
        (false, true) => Some(Turn::Worse),
        (true, false) => Some(Turn::Better),
        _ => None,
    };
    *before = now;
    turn
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_first_drop_in_a_while_is_news() {
        let mut drops = Drops::after(5);
        assert_eq!(drops.see(5, 0), None);
        assert_eq!(drops.see(8, 10), Some(3));
        assert_eq!(drops.see(100, 20), None);
        // The pause counts from the last drop, not from the last event.
        assert_eq!(drops.see(101, 20 + QUIET - 1), None);
        assert_eq!(drops.see(102, 20 + QUIET), None);
        assert_eq!(drops.see(102, 20 + 3 * QUIET), None);
        assert_eq!(drops.see(104, 20 + 3 * QUIET), Some(2));
        // A data plane that was loaded anew counts from 0.
        assert_eq!(drops.see(1, 20 + 9 * QUIET), Some(1));
    }

    #[test]
    fn a_table_is_full_once() {
        let mut fill = Fill::default();
        assert_eq!(fill.see(79, 100), None);
        assert_eq!(fill.see(80, 100), Some(Turn::Worse));
        assert_eq!(fill.see(75, 100), None);
        assert_eq!(fill.see(95, 100), None);
        assert_eq!(fill.see(69, 100), Some(Turn::Better));
        assert_eq!(fill.see(79, 100), None);
        assert_eq!(fill.see(u32::MAX, u32::MAX), Some(Turn::Worse));
    }

    #[test]
    fn a_neighbour_is_lost_once_and_found_once() {
        let (incomplete, reachable, stale) = (0x01, 0x02, 0x04);
        let mut neighbour = Neighbour::default();
        assert_eq!(neighbour.see(Some(reachable)), None);
        assert_eq!(neighbour.see(Some(FAILED)), Some(Turn::Worse));
        for nothing_new in [None, Some(FAILED), Some(incomplete), Some(0)] {
            assert_eq!(neighbour.see(nothing_new), None);
            assert!(neighbour.is_lost());
        }
        assert_eq!(neighbour.see(Some(stale)), Some(Turn::Better));
        assert_eq!(neighbour.see(None), None);
    }

    proptest! {
        /// However often somebody looks, there is at most one event in each pause.
        #[test]
        fn drops_are_no_flood(steps in proptest::collection::vec((0u64..3, 0u64..30), 1..200)) {
            let (mut drops, mut count, mut now, mut events) = (Drops::default(), 0, 0, 0);
            for (more, seconds) in steps {
                count += more;
                now += seconds;
                events += u64::from(drops.see(count, now).is_some());
            }
            prop_assert!(events <= 1 + now / QUIET);
        }
    }
}
