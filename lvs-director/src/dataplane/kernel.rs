//! What the running kernel is and has.

/// The kernel's release, for messages.
pub fn kernel_release() -> String {
    nix::sys::utsname::uname().map_or_else(|_| "?".into(), |name| name.release().to_string_lossy().into_owned())
}

/// Whether the running kernel is of this version or a later one.
pub fn kernel_at_least(major: u32, minor: u32) -> bool {
    let release = kernel_release();
    let mut numbers = release.split(|c: char| !c.is_ascii_digit()).map(|n| n.parse().unwrap_or(0));
    (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0)) >= (major, minor)
}

/// Whether the kernel has links for TC programs.
pub fn has_tc_links() -> bool {
    kernel_at_least(6, 6)
}

/// Jiffies a second: the coarse clock advances once a jiffy.
pub fn ticks_per_second() -> u32 {
    let resolution = nix::time::clock_getres(nix::time::ClockId::CLOCK_MONOTONIC_COARSE);
    let ns = resolution.map_or(1_000_000, |r| r.tv_nsec().max(1));
    ((1_000_000_000 + ns / 2) / ns) as u32
}
