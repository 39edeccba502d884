//! Deleted destinations: `IDLE`, an array indexed by [`DestId`](super::DestId) that packets never read.
//!
//! It shows `lvsadm` which slots are free and which destinations can be revived. Without it, `lvsadm` would have to read all
//! of `DESTS`.

/// What is known of a destination's slot.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C, align(8))]
pub struct Idle {
    /// A hash of what the destination was: service, address and port.
    pub key: u32,
    /// When it was deleted, in units of 2^20 ns, wrapping; 0 while it is configured, and of a slot that was never used.
    pub since: u32,
}

const _: () = assert!(size_of::<Idle>() == 8);

impl Idle {
    /// Of a destination that is deleted at `now`, `CLOCK_MONOTONIC` in ns.
    pub const fn at(now: u64, key: u32) -> Self {
        let since = Self::time(now);
        Idle { key, since: if since == 0 { 1 } else { since } }
    }

    /// Whether there is a deleted destination.
    pub const fn is_idle(self) -> bool {
        self.since != 0
    }

    /// For how many nanoseconds it has been deleted. Some 52 days wrap to none.
    pub const fn age(self, now: u64) -> u64 {
        (Self::time(now).wrapping_sub(self.since) as u64) << 20
    }

    const fn time(now: u64) -> u32 {
        (now >> 20) as u32
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ages_are_right_across_the_wrap() {
        let wrap = 1u64 << 52;
        for now in [1, 5_000_000_000, wrap - 1, wrap, wrap + 7] {
            let idle = Idle::at(now, 7);
            assert!(idle.is_idle());
            let age = idle.age(now + 3_000_000_000);
            assert!((2_990_000_000..=3_010_000_000).contains(&age), "{now}: {age}");
        }
        assert!(!Idle::default().is_idle());
    }
}
