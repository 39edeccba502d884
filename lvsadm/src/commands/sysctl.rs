//! `sysctl`: IPVS's settings by their names.

use anyhow::{Context, Result, bail};
use lvs_common::abi::Sysctls;

use super::defaults::Defaults;
use crate::dataplane;

/// Prefix that IPVS's names may be given with.
const PREFIX: &str = "net.ipv4.vs.";

macro_rules! settings {
    ($($name:ident $max:expr),+ $(,)?) => {
        /// Every setting: its name, its greatest value, and where it is.
        const SETTINGS: &[Setting] = &[$(Setting {
            name: stringify!($name),
            max: $max,
            get: |s| s.$name,
            set: |s, value| s.$name = value,
        }),+];
    };
}

struct Setting {
    name: &'static str,
    max: u32,
    get: fn(&Sysctls) -> u32,
    set: fn(&mut Sysctls, u32),
}

settings! {
    am_droprate u32::MAX, amemthresh u32::MAX, backup_only 1, cache_bypass 1, conn_reuse_mode 3, conntrack 1,
    drop_entry 3, drop_packet 3, expire_nodest_conn 1, expire_quiescent_template 1, ignore_tunneled 1,
    lblc_expiration u32::MAX, lblcr_expiration u32::MAX, nat_icmp_send 1, pmtu_disc 1, run_estimation 1,
    schedule_icmp 1, secure_tcp 3, sloppy_sctp 1, sloppy_tcp 1, snat_reroute 1,
}

/// Shows the named settings, or all; sets those with a value. Nothing is set unless everything can be.
pub fn sysctl(arguments: &[String]) -> Result<()> {
    let mut plane = dataplane::open_or_load(Defaults::read()?.loading)?;
    let mut changed = plane.settings().sysctls;
    let mut shown = Vec::new();
    for argument in arguments {
        let (name, value) = match argument.split_once('=') {
            Some((name, value)) => (name.trim(), Some(value.trim())),
            None => (argument.trim(), None),
        };
        let setting = find(name)?;
        match value {
            None => shown.push(setting),
            Some(value) => {
                let number: u32 = value
                    .parse()
                    .ok()
                    .filter(|number| *number <= setting.max)
                    .with_context(|| format!("{name} takes a number from 0 to {}, not `{value}'", setting.max))?;
                (setting.set)(&mut changed, number);
            }
        }
    }
    if arguments.is_empty() {
        shown.extend(SETTINGS);
    }
    plane.set(|s| s.sysctls = changed);
    for setting in shown {
        println!("{PREFIX}{} = {}", setting.name, (setting.get)(&changed));
    }
    Ok(())
}

fn find(name: &str) -> Result<&'static Setting> {
    let short = name.strip_prefix(PREFIX).unwrap_or(name);
    match SETTINGS.iter().find(|setting| setting.name == short) {
        Some(setting) => Ok(setting),
        None => bail!("there is no setting {name}: see `lvsadm sysctl`"),
    }
}
