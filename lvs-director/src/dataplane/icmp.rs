//! How many ICMP errors the host sends: the data plane keeps to it.

use std::fs;

use lvs_common::icmp_limit::IcmpLimits;

use super::plane::Plane;

impl Plane {
    /// Reads the host's limits of ICMP errors. Where the kernel has none to read (`icmp_msgs_per_sec` in some network namespaces),
    /// its default counts.
    pub fn know_icmp_limits(&mut self) {
        let limits = read(|name| fs::read_to_string(format!("/proc/sys/net/{name}")).ok());
        if self.settings().icmp != limits {
            self.set(|settings| settings.icmp = limits);
        }
    }
}

/// The limits, of settings by their names.
fn read(setting: impl Fn(&str) -> Option<String>) -> IcmpLimits {
    let number = |name: &str| setting(name).and_then(|text| text.trim().parse::<u32>().ok());
    let default = IcmpLimits::default();
    IcmpLimits {
        interval4: number("ipv4/icmp_ratelimit").unwrap_or(default.interval4),
        mask4: number("ipv4/icmp_ratemask").unwrap_or(default.mask4),
        interval6: number("ipv6/icmp/ratelimit").unwrap_or(default.interval6),
        mask6: setting("ipv6/icmp/ratemask").map_or(default.mask6, |text| bits(&text)),
        per_second: number("ipv4/icmp_msgs_per_sec").unwrap_or(default.per_second),
        burst: number("ipv4/icmp_msgs_burst").unwrap_or(default.burst),
    }
}

/// The bits below 32 of a list of ranges, as the kernel writes bitmaps: `0-1,3-127`.
fn bits(text: &str) -> u32 {
    let ranges = text.trim().split(',').filter_map(|range| {
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        Some((first.parse::<u32>().ok()?, last.parse::<u32>().ok()?))
    });
    ranges.flat_map(|(first, last)| first..=last.min(31)).fold(0, |bits, bit| bits | 1 << bit)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_of_bits_are_read() {
        assert_eq!(bits("0-1,3-127\n"), IcmpLimits::default().mask6);
        assert_eq!((bits("\n"), bits("1"), bits("40-50"), bits("2,4-5")), (0, 2, 0, 0b11_0100));
    }

    #[test]
    fn what_cannot_be_read_is_the_kernels_default() {
        assert_eq!(read(|_| None), IcmpLimits::default());
        let some = |name: &str| (name == "ipv4/icmp_ratelimit").then(|| "0\n".to_owned());
        assert_eq!(read(some), IcmpLimits { interval4: 0, ..IcmpLimits::default() });
    }
}
