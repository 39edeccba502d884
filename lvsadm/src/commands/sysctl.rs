//! `sysctl`: IPVS's settings by their names.

use anyhow::{Result, bail};
use lvs_common::abi::Sysctls;

use lvs_director::dataplane;
use lvs_director::dataplane::Defaults;
use lvs_director::rules::{
    SYSCTL_PREFIX, SYSCTLS, Sysctl, SysctlName, arguments as each, consistent, explained, sysctl as read,
};

/// Shows the named settings, or all; sets those with a value, after all are set back to their defaults if that is wanted.
/// Nothing is set unless everything can be. What means something else here than in IPVS is told of on standard error.
pub fn sysctl(reset: bool, arguments: &[String]) -> Result<()> {
    // Before the data plane is loaded for it.
    let arguments: Vec<String> = arguments.iter().flat_map(|argument| each(argument)).collect();
    let named: Vec<_> = arguments.iter().map(|argument| read(argument)).collect::<Result<_, _>>()?;
    let mut plane = dataplane::open_or_load(Defaults::read()?.loading)?;
    let mut changed = if reset { Sysctls::default() } else { plane.settings().sysctls };
    let mut shown: Vec<&Sysctl> = Vec::new();
    for (name, value) in &named {
        match (name, value) {
            (SysctlName::Kept(sysctl), Some(value)) => sysctl.set(&mut changed, *value),
            (SysctlName::Kept(sysctl), None) => shown.push(sysctl),
            (SysctlName::Absent(..), _) => {}
        }
    }
    if arguments.is_empty() && !reset {
        shown.extend(SYSCTLS);
    }
    consistent(&changed)?;
    plane.set_sysctls(&changed)?;
    drop(plane);
    named.iter().filter_map(|(name, _)| name.note()).for_each(|note| eprintln!("lvsadm: {note}"));
    let line = |sysctl: &Sysctl| format!("{SYSCTL_PREFIX}{} = {}\n", sysctl.name, sysctl.get(&changed));
    super::output::print(&shown.into_iter().map(line).collect::<String>())
}

/// Explains the named settings, or all.
pub fn explain(arguments: &[String]) -> Result<()> {
    if arguments.is_empty() {
        return super::output::print(&explained(SysctlName::all()));
    }
    let mut names = Vec::new();
    for argument in arguments {
        match read(argument)? {
            (name, None) => names.push(name),
            (_, Some(_)) => bail!("--explain takes names, not `{argument}'"),
        }
    }
    super::output::print(&explained(names.into_iter()))
}
