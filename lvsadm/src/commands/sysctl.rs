//! `sysctl`: IPVS's settings by their names.

use anyhow::{Result, anyhow};
use lvs_common::abi::Sysctls;

use super::defaults::Defaults;
use crate::dataplane;
use crate::rules::{SYSCTL_PREFIX, SYSCTLS, Sysctl, sysctl as carry_out};

/// Shows the named settings, or all; sets those with a value, after all are set back to their defaults if that is wanted.
/// Nothing is set unless everything can be.
pub fn sysctl(reset: bool, arguments: &[String]) -> Result<()> {
    let mut shown = Vec::new();
    // Before the data plane is loaded for it.
    for argument in arguments {
        shown.extend(carry_out(&mut Sysctls::default(), argument).map_err(|sentence| anyhow!(sentence))?);
    }
    let mut plane = dataplane::open_or_load(Defaults::read()?.loading)?;
    let mut changed = if reset { Sysctls::default() } else { plane.settings().sysctls };
    for argument in arguments {
        carry_out(&mut changed, argument).map_err(|sentence| anyhow!(sentence))?;
    }
    if arguments.is_empty() && !reset {
        shown.extend(SYSCTLS);
    }
    plane.set(|s| s.sysctls = changed);
    let line = |sysctl: &Sysctl| format!("{SYSCTL_PREFIX}{} = {}\n", sysctl.name, sysctl.get(&changed));
    super::print(&shown.into_iter().map(line).collect::<String>())
}
