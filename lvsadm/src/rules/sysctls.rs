//! IPVS's settings (`net.ipv4.vs.*`) by their names.

use lvs_common::abi::Sysctls;

/// Prefix that IPVS's names may be given with.
pub const SYSCTL_PREFIX: &str = "net.ipv4.vs.";

macro_rules! settings {
    ($($name:ident $max:expr),+ $(,)?) => {
        /// Every setting.
        pub const SYSCTLS: &[Sysctl] = &[$(Sysctl {
            name: stringify!($name),
            max: $max,
            get: |s| s.$name,
            set: |s, value| s.$name = value,
        }),+];
    };
}

/// A setting.
pub struct Sysctl {
    /// Its name, without the prefix.
    pub name: &'static str,
    /// Its greatest value; the least is 0.
    pub max: u32,
    get: fn(&Sysctls) -> u32,
    set: fn(&mut Sysctls, u32),
}

settings! {
    am_droprate u32::MAX, amemthresh u32::MAX, backup_only 1, cache_bypass 1, conn_reuse_mode 3, conntrack 1,
    drop_entry 3, drop_packet 3, expire_nodest_conn 1, expire_quiescent_template 1, ignore_tunneled 1,
    lblc_expiration u32::MAX, lblcr_expiration u32::MAX, nat_icmp_send 1, pmtu_disc 1, run_estimation 1,
    schedule_icmp 1, secure_tcp 3, sloppy_sctp 1, sloppy_tcp 1, snat_reroute 1,
}

impl Sysctl {
    /// The setting of that name, with or without the prefix. The error is a sentence.
    pub fn by_name(name: &str) -> Result<&'static Sysctl, String> {
        let short = name.strip_prefix(SYSCTL_PREFIX).unwrap_or(name);
        let found = SYSCTLS.iter().find(|sysctl| sysctl.name == short);
        found.ok_or_else(|| format!("there is no setting {name}: see `lvsadm sysctl`"))
    }

    /// Its value.
    pub fn get(&self, sysctls: &Sysctls) -> u32 {
        (self.get)(sysctls)
    }

    /// Sets it. The value is not checked.
    pub fn set(&self, sysctls: &mut Sysctls, value: u32) {
        (self.set)(sysctls, value);
    }
}

/// Carries out `NAME=VALUE` on `sysctls`, or finds the setting that `NAME` alone is to show. The error is a sentence.
pub fn sysctl(sysctls: &mut Sysctls, argument: &str) -> Result<Option<&'static Sysctl>, String> {
    let Some((name, value)) = argument.split_once('=') else { return Sysctl::by_name(argument.trim()).map(Some) };
    let (name, value) = (name.trim(), value.trim());
    let sysctl = Sysctl::by_name(name)?;
    let number = value.parse().ok().filter(|number| *number <= sysctl.max);
    let number = number.ok_or_else(|| format!("{name} takes a number from 0 to {}, not `{value}'", sysctl.max))?;
    sysctl.set(sysctls, number);
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_are_found_by_both_names_and_kept_in_range() {
        let mut sysctls = Sysctls::default();
        assert!(sysctl(&mut sysctls, "net.ipv4.vs.conn_reuse_mode = 2").unwrap().is_none());
        assert_eq!(sysctls.conn_reuse_mode, 2);
        assert_eq!(sysctl(&mut sysctls, "drop_entry").unwrap().map(|found| found.name), Some("drop_entry"));
        for (argument, sentence) in [
            ("drop_entry=4", "drop_entry takes a number from 0 to 3, not `4'"),
            ("sloppy_tcp=-1", "sloppy_tcp takes a number from 0 to 1, not `-1'"),
            ("sloppy_tcp=", "sloppy_tcp takes a number from 0 to 1, not `'"),
            ("tcp_sloppy=1", "there is no setting tcp_sloppy: see `lvsadm sysctl`"),
        ] {
            let before = sysctls;
            assert_eq!(sysctl(&mut sysctls, argument).err().as_deref(), Some(sentence));
            assert_eq!(sysctls, before);
        }
    }
}
