//! IPVS's rate estimator: every two seconds, a quarter of the way from the average to what was counted.
//!
//! Averages are fixed-point numbers per second, with 10 fractional bits for connections and packets and 5 for bytes. At a
//! constant rate an average is within 2 % after 14 ticks.

use crate::abi::Counters;

/// Seconds from tick to tick.
pub const PERIOD: u64 = 2;

/// Fractional bits of connections and packets, and of bytes.
const COUNT_BITS: u32 = 10;
const BYTE_BITS: u32 = 5;

/// The average after a tick in which `delta` was counted.
#[inline(always)]
const fn step(average: u64, delta: u64, bits: u32) -> u64 {
    // One bit less, for a tick has two seconds.
    let rate = delta << (bits.wrapping_sub(1) & 63);
    let change = (rate.wrapping_sub(average) as i64) >> 2;
    average.wrapping_add(change as u64)
}

/// Rounded as IPVS does, just under one half up.
#[inline(always)]
const fn round(average: u64, bits: u32) -> u64 {
    let half = (1u64 << (bits.wrapping_sub(1) & 63)).wrapping_sub(1);
    average.wrapping_add(half) >> (bits & 63)
}

/// Takes into the averages ([`Rates::average`](crate::abi::Rates::average)) what was counted since the last tick.
#[inline(always)]
pub fn tick(averages: &mut [u64; 5], delta: &Counters) {
    let [conns, in_packets, out_packets, in_bytes, out_bytes] = *averages;
    *averages = [
        step(conns, delta.conns, COUNT_BITS),
        step(in_packets, delta.in_packets, COUNT_BITS),
        step(out_packets, delta.out_packets, COUNT_BITS),
        step(in_bytes, delta.in_bytes, BYTE_BITS),
        step(out_bytes, delta.out_bytes, BYTE_BITS),
    ];
}

/// The averages as whole numbers per second.
pub const fn per_second(averages: &[u64; 5]) -> Counters {
    let [conns, in_packets, out_packets, in_bytes, out_bytes] = *averages;
    Counters {
        conns: round(conns, COUNT_BITS),
        in_packets: round(in_packets, COUNT_BITS),
        out_packets: round(out_packets, COUNT_BITS),
        in_bytes: round(in_bytes, BYTE_BITS),
        out_bytes: round(out_bytes, BYTE_BITS),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counted(n: u64) -> Counters {
        Counters { conns: n, in_packets: n, out_packets: n, in_bytes: n, out_bytes: n }
    }

    #[test]
    fn the_first_ticks_are_ipvss() {
        // 1000 in two seconds: 500 a second, of which a quarter, then 7/16, 37/64 arrive.
        let mut averages = [0; 5];
        let mut seen = Vec::new();
        for _ in 0..3 {
            tick(&mut averages, &counted(1000));
            seen.push((per_second(&averages).conns, per_second(&averages).in_bytes));
        }
        assert_eq!(seen, [(125, 125), (219, 219), (289, 289)]);
        assert_eq!(averages[0], 296_000);
    }

    #[test]
    fn a_constant_rate_is_reached_within_28_seconds_and_fades_to_0() {
        let mut averages = [0; 5];
        for _ in 0..14 {
            tick(&mut averages, &counted(20_000));
        }
        let rates = per_second(&averages);
        assert!((9_800..=10_000).contains(&rates.in_packets), "{rates:?}");
        for _ in 0..60 {
            tick(&mut averages, &counted(0));
        }
        assert_eq!(per_second(&averages), counted(0));
    }

    #[test]
    fn one_connection_shows_as_nothing() {
        let mut averages = [0; 5];
        tick(&mut averages, &counted(1));
        assert_eq!((averages[0], per_second(&averages).conns), (128, 0));
        tick(&mut averages, &counted(4));
        assert_eq!((averages[0], per_second(&averages).conns), (608, 1));
    }
}
