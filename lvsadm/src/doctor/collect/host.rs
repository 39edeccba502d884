//! What the host says.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use anyhow::Result;
use lvs_director::dataplane::{self, Plane, Watching};
use nix::time::{ClockId, clock_gettime};

use super::super::facts::{Host, Manager};

/// Where the kernel's own IPVS lists its services, after lines of headers.
const IPVS: (&str, usize) = ("/proc/net/ip_vs", 3);
/// Its settings.
const IPVS_SETTINGS: &str = "/proc/sys/net/ipv4/vs";
/// What a program has mapped that speaks to the data plane by the preload library.
const PRELOAD: &str = "liblvs_compat";
/// Where ldirectord finds ipvsadm.
const IPVSADM: [&str; 2] = ["/usr/sbin/ipvsadm", "/sbin/ipvsadm"];

/// The host of a data plane.
pub fn host(plane: &Plane) -> Result<Host> {
    let release = nix::sys::utsname::uname()?.release().to_string_lossy().into_owned();
    let mut numbers = release.split(|c: char| !c.is_ascii_digit()).map(|number| number.parse().unwrap_or(0));
    Ok(Host {
        version: (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0)),
        release,
        jit: switch("net/core/bpf_jit_enable"),
        agent: Watching::is_under_way()?,
        ipvs: fs::read_to_string(IPVS.0).ok().map(|text| services(&text)),
        ipvs_sysctls: settings(),
        managers: managers(),
        lo_forwards: ["net/ipv4/conf/lo/forwarding", "net/ipv6/conf/lo/forwarding"].map(switch),
        forwards: ["net/ipv4/ip_forward", "net/ipv6/conf/all/forwarding"].map(switch),
        timer_age: timer_age(plane)?,
        log: dataplane::log_level(&plane.directory.path()),
    })
}

/// A switch of the kernel's; `None` if there is none here.
fn switch(name: &str) -> Option<bool> {
    let text = fs::read_to_string(Path::new("/proc/sys").join(name)).ok()?;
    Some(text.trim() != "0")
}

/// Services in the listing of the kernel's own IPVS: real servers have an arrow before them.
fn services(listing: &str) -> usize {
    listing.lines().skip(IPVS.1).filter(|line| !line.trim_start().starts_with("->")).count()
}

/// Settings of the kernel's own IPVS.
fn settings() -> BTreeMap<String, String> {
    let files = fs::read_dir(IPVS_SETTINGS).into_iter().flatten().flatten();
    let setting = |file: fs::DirEntry| {
        let value = fs::read_to_string(file.path()).ok()?;
        Some((file.file_name().into_string().ok()?, value.trim().to_owned()))
    };
    files.filter_map(setting).collect()
}

/// Programs of this network namespace that manage services.
fn managers() -> Vec<Manager> {
    let namespace = |process: &str| fs::read_link(format!("/proc/{process}/ns/net")).ok();
    let (own, own_ipvsadm) = (namespace("self"), is_ipvsadm_ours());
    let processes = fs::read_dir("/proc").into_iter().flatten().flatten();
    let manager = |entry: fs::DirEntry| {
        let id = entry.file_name().into_string().ok()?;
        let process = id.parse().ok()?;
        let read = |file: &str| fs::read_to_string(entry.path().join(file)).unwrap_or_default();
        let (comm, command) = (read("comm"), read("cmdline"));
        let name = match comm.trim() {
            "keepalived" => "keepalived",
            _ if command.split('\0').take(2).any(|word| word.ends_with("/ldirectord")) => "ldirectord",
            _ => return None,
        };
        if namespace(&id) != own {
            return None;
        }
        let is_ours = if name == "keepalived" { read("maps").contains(PRELOAD) } else { own_ipvsadm };
        Some(Manager { name: name.to_owned(), process, is_ours })
    };
    processes.filter_map(manager).collect()
}

/// Whether `ipvsadm` is a name of lvsadm.
fn is_ipvsadm_ours() -> bool {
    let found = IPVSADM.iter().find_map(|path| fs::canonicalize(path).ok());
    found.is_none_or(|path| path.ends_with("lvsadm"))
}

/// Milliseconds since the data plane's timer ran.
fn timer_age(plane: &Plane) -> Result<u64> {
    let now = clock_gettime(ClockId::CLOCK_MONOTONIC)?;
    let now = now.tv_sec() as u64 * 1_000_000_000 + now.tv_nsec() as u64;
    Ok(now.saturating_sub(plane.settings().now_ns) / 1_000_000)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn services_of_the_kernels_ipvs_are_counted() {
        let listing = "IP Virtual Server version 1.2.1 (size=4096)\nProt LocalAddress:Port Scheduler Flags\n  -> RemoteAddress:Port \
                       Forward Weight ActiveConn InActConn\nTCP  0A0A0A0A:0050 rr  \n  -> C0A87A65:0050      Masq    1      0          0         \n\
                       FWM  00000007 wlc \n";
        assert_eq!(services(listing), 2);
        assert_eq!(services(""), 0);
    }
}
