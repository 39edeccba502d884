//! Neighbours that do not answer, and neighbours that are to be confirmed.
//!
//! The kernel's neighbour output keeps a packet for an unknown neighbour while it asks for it (ARP, neighbour discovery), and drops
//! it without a word when nobody has answered. The FIB look-up does not tell whether the kernel still asks. So the data plane
//! remembers since when a real server's neighbour is not known, and refuses packets once the kernel must have given up.

/// Seconds after which the kernel gives up: three questions, a second apart.
const PATIENCE: u32 = 3;
/// Seconds after which a neighbour that nobody has asked for counts as never asked for, as the kernel's `gc_stale_time`.
const FORGET: u32 = 60;
/// Seconds after which the kernel's neighbour output gets one packet that XDP could have sent, so that the kernel confirms the neighbour.
pub const CONFIRM: u32 = 5;

/// What is known of a real server's neighbour that is not known to the kernel.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Silence {
    /// Since when it has not been known, low 32 bits of jiffies.
    pub since: u32,
    /// When a packet was last given to the kernel to ask for it, in the same unit; bit 0: a packet was refused since, after the kernel
    /// had given up.
    pub asked: u32,
}

impl Silence {
    /// What follows from a packet at `now` (jiffies) for a neighbour that is not known: what to remember, and whether the packet is
    /// refused. One that is not refused goes to the kernel, which asks. `was_known`: the neighbour was known when it was last looked up.
    #[inline(always)]
    pub const fn next(self, now: u32, hz: u32, was_known: bool) -> (Silence, bool) {
        let (asked, was_refused) = (self.asked & !1, self.asked & 1 != 0);
        let age = now.wrapping_sub(asked);
        if was_known || self.asked == 0 || age > FORGET * hz {
            return (Silence { since: now, asked: time(now) }, false);
        }
        if now.wrapping_sub(self.since) < PATIENCE * hz {
            return (self, false);
        }
        // Each time that the kernel gives up somebody is told, and then it is asked again.
        if was_refused {
            return (Silence { asked: time(now), ..self }, false);
        }
        let has_given_up = age >= PATIENCE * hz;
        (Silence { asked: asked | has_given_up as u32, ..self }, true)
    }
}

/// A time that is not later than `now`, not 0, and has bit 0 free.
#[inline(always)]
const fn time(now: u32) -> u32 {
    now.wrapping_sub(2) & !1 | 2
}

/// What follows from a packet at `now` (low 32 bits of jiffies) to a neighbour that was confirmed at `confirmed`, 0 for never: whether it is
/// to be confirmed, and when it was then. The kernel has just asked for a neighbour that XDP sends to for the first time.
#[inline(always)]
pub const fn confirm(confirmed: u32, now: u32, hz: u32) -> (bool, u32) {
    let is_due = confirmed != 0 && now.wrapping_sub(confirmed) as i32 >= (CONFIRM * hz) as i32;
    (is_due, if is_due || confirmed == 0 { now | 1 } else { confirmed })
}

#[cfg(test)]
mod tests {
    use super::*;

    const HZ: u32 = 250;

    /// What becomes of packets at these seconds: whether each is refused.
    fn refused(from: u32, seconds: &[u32]) -> Vec<bool> {
        let mut silence = Silence::default();
        let packet = |second: &u32| {
            let (next, refused) = silence.next(from.wrapping_add(second * HZ), HZ, false);
            silence = next;
            refused
        };
        seconds.iter().map(packet).collect()
    }

    #[test]
    fn a_client_that_repeats_its_request_is_told_when_the_kernel_has_given_up() {
        for from in [0, 1, 0x8000_0000, u32::MAX - HZ, u32::MAX - 4 * HZ] {
            assert_eq!(refused(from, &[0, 1, 3]), [false, false, true], "{from}");
            assert_eq!(refused(from, &[0, 1, 2, 4]), [false, false, false, true], "{from}");
        }
    }

    #[test]
    fn the_kernel_is_asked_again_each_time_that_it_has_given_up() {
        assert_eq!(refused(7, &[0, 3, 4, 5, 6, 7, 8, 9]), [false, true, false, true, true, true, false, true]);
        assert_eq!(refused(7, &[0, 5, 10, 15, 20]), [false, true, false, true, false]);
    }

    #[test]
    fn packets_of_one_jiffy_are_of_one_question() {
        for now in [0, 1, 2, 3, 4, 5, u32::MAX - 1, u32::MAX] {
            let (first, _) = Silence::default().next(now, HZ, false);
            assert_eq!(first.next(now, HZ, false), (first, false), "{now}");
            let later = now.wrapping_add(4 * HZ);
            let (told, refused) = first.next(later, HZ, false);
            let (again, asks) = told.next(later, HZ, false);
            assert!(refused && !asks && again.since == now, "{now}");
            assert_eq!(again.next(later, HZ, false), (again, true), "{now}");
        }
    }

    #[test]
    fn a_neighbour_that_was_known_or_not_asked_for_is_asked_for_anew() {
        assert_eq!(refused(7, &[0, 61, 62, 64]), [false, false, false, true]);
        let silence = Silence { since: 7, asked: 8 };
        assert_eq!(
            silence.next(7 + 10 * HZ, HZ, true),
            (Silence { since: 7 + 10 * HZ, asked: time(7 + 10 * HZ) }, false)
        );
    }

    #[test]
    fn a_neighbour_is_confirmed_every_five_seconds_after_the_first_packet() {
        for from in [0, 7, u32::MAX - HZ] {
            let (is_due, first) = confirm(0, from, HZ);
            assert!(!is_due && first != 0);
            assert_eq!(confirm(first, from.wrapping_add(4 * HZ), HZ), (false, first));
            let then = from.wrapping_add(6 * HZ);
            assert_eq!(confirm(first, then, HZ), (true, then | 1));
        }
        // One that is confirmed in advance.
        assert_eq!(confirm(1000 * HZ, 7, HZ), (false, 1000 * HZ));
    }
}
