//! How many ICMP errors the director sends: the host's `icmp_ratelimit`, `icmp_ratemask`, `icmp_msgs_per_sec` and
//! `icmp_msgs_burst`, and `ratelimit` and `ratemask` of ICMPv6. There is one bucket of tokens for all errors, and one for each
//! receiver.

use crate::wire::icmp;

/// Tokens that a receiver's bucket holds at most, in errors.
const RECEIVER_BURST: u32 = 6;
/// Tokens for all errors are refilled so many times a second.
const REFILLS: u32 = 50;

/// The host's limits, as commands read them from `/proc/sys`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct IcmpLimits {
    /// Milliseconds between errors to one receiver: IPv4.
    pub interval4: u32,
    /// Types of IPv4 that are limited, a bit each.
    pub mask4: u32,
    /// Milliseconds between errors to one receiver: IPv6.
    pub interval6: u32,
    /// Types of IPv6 that are limited, a bit each, as far as they are errors below 32.
    pub mask6: u32,
    /// Errors a second, of both families.
    pub per_second: u32,
    /// Errors at once.
    pub burst: u32,
}

/// The kernel's.
impl Default for IcmpLimits {
    fn default() -> Self {
        IcmpLimits {
            interval4: 1000,
            mask4: 1 << icmp::UNREACHABLE | 1 << icmp::SOURCE_QUENCH | 1 << icmp::TIME_EXCEEDED | 1 << 12,
            interval6: 1000,
            mask6: !(1 << icmp::V6_TOO_BIG),
            per_second: 1000,
            burst: 50,
        }
    }
}

impl IcmpLimits {
    /// Whether errors of this type and code are limited. Path MTU discovery is not.
    #[inline(always)]
    pub const fn apply_to(&self, v6: bool, kind: u8, code: u8) -> bool {
        if !v6 && kind == icmp::UNREACHABLE && code == icmp::CODE_FRAGMENTATION_NEEDED {
            return false;
        }
        let mask = if v6 { self.mask6 } else { self.mask4 };
        kind < 32 && mask >> (kind & 31) & 1 != 0
    }

    /// Jiffies between errors to one receiver. For IPv6 the kernel divides by two for each 32 bits that the receiver's route has
    /// less than 128; the data plane is not told the route's prefix, and takes a receiver on the link for one of a /64, and any
    /// other for one of the default route.
    #[inline(always)]
    pub const fn interval(&self, v6: bool, on_link: bool, hz: u32) -> u32 {
        let ms = match (v6, on_link) {
            (false, _) => self.interval4,
            (true, true) => self.interval6 >> 2,
            (true, false) => self.interval6 >> 4,
        };
        (ms as u64 * hz as u64 / 1000) as u32
    }

    /// Takes one of the tokens of all errors: the bucket after that, or `None` if there is none. The bucket is the jiffy of the
    /// last refill in the upper half and tokens in the lower; 0 at first.
    #[inline(always)]
    pub const fn take(&self, bucket: u64, now: u32, hz: u32) -> Option<u64> {
        let (mut refilled, tokens) = ((bucket >> 32) as u32, bucket as u32);
        let since = now.wrapping_sub(refilled);
        let since = if since > hz { hz } else { since };
        let mut tokens = tokens as u64;
        if since >= hz / REFILLS {
            let more = match (self.per_second as u64 * since as u64).checked_div(hz as u64) {
                Some(more) => more,
                None => 0,
            };
            if more != 0 {
                refilled = now;
                tokens += more;
            }
        }
        let tokens = if tokens > self.burst as u64 { self.burst as u64 } else { tokens };
        if tokens == 0 { None } else { Some((refilled as u64) << 32 | (tokens - 1)) }
    }
}

/// Takes one error's tokens from a receiver's bucket, which gains a token a jiffy: the bucket after that, and whether there were
/// enough. The bucket is the jiffy of the last call in the upper half and tokens in the lower; 0 for a new receiver, whose bucket
/// is full.
#[inline(always)]
pub const fn take_of(bucket: u64, now: u32, interval: u32) -> (u64, bool) {
    let (last, tokens) = ((bucket >> 32) as u32, bucket as u32);
    let full = interval as u64 * RECEIVER_BURST as u64;
    let tokens = if bucket == 0 { full } else { tokens as u64 + now.wrapping_sub(last) as u64 };
    let tokens = if tokens > full { full } else { tokens };
    let allowed = tokens >= interval as u64;
    let left = if allowed { tokens - interval as u64 } else { tokens };
    ((now as u64) << 32 | left, allowed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_defaults_spare_path_mtu_discovery() {
        let limits = IcmpLimits::default();
        assert_eq!(limits.mask4, 0x1818);
        let v4 = |kind, code| limits.apply_to(false, kind, code);
        assert!(v4(3, 3) && v4(11, 0) && !v4(3, 4) && !v4(5, 0) && !v4(32, 0) && !v4(255, 0));
        let v6 = |kind| limits.apply_to(true, kind, 0);
        assert!(v6(1) && !v6(2) && v6(3) && v6(4));
        assert!(!IcmpLimits { mask4: 0, ..limits }.apply_to(false, 11, 0));
    }

    #[test]
    fn all_errors_share_a_bucket() {
        let limits = IcmpLimits::default();
        let mut bucket = 0;
        // (jiffies of 250 a second, how many errors are let through)
        for (now, expected) in [(1000, 50), (1001, 0), (1004, 0), (1005, 20), (1010, 20), (9000, 50)] {
            let mut sent = 0;
            while let Some(next) = limits.take(bucket, now, 250) {
                (bucket, sent) = (next, sent + 1);
            }
            assert_eq!(sent, expected, "at {now}");
        }
        assert_eq!(IcmpLimits { per_second: 0, ..limits }.take(0, 5000, 250), None);
    }

    #[test]
    fn a_receiver_gets_six_at_once_and_one_an_interval() {
        let mut bucket = 0;
        for (now, expected) in [(5000, 6), (5100, 0), (5249, 0), (5250, 1), (6000, 3), (90_000, 6)] {
            let mut sent = 0;
            loop {
                let (next, allowed) = take_of(bucket, now, 250);
                bucket = next;
                if !allowed {
                    break;
                }
                sent += 1;
            }
            assert_eq!(sent, expected, "at {now}");
        }
        assert!((0..100).all(|_| take_of(7, 8, 0).1), "no limit");
    }

    #[test]
    fn farther_receivers_of_ipv6_get_more() {
        let limits = IcmpLimits::default();
        assert_eq!(limits.interval(false, true, 250), 250);
        assert_eq!((limits.interval(true, true, 1000), limits.interval(true, false, 1000)), (250, 62));
    }
}
