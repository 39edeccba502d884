//! IPVS's settings (`net.ipv4.vs.*`) by their names: which there are, what they mean here, and how they are changed.

use std::fmt::Write;

use lvs_common::abi::Sysctls;
pub use lvs_common::abi::sysctls::{AUTOMATIC, Kind, SYSCTLS, Sysctl};

/// Prefix that IPVS's names may be given with.
pub const SYSCTL_PREFIX: &str = "net.ipv4.vs.";

/// Names of IPVS's that nothing is kept of, and why.
pub const ABSENT: [(&str, &str); 6] = {
    const ESTIMATOR: &str = "rates are estimated by the data plane's timer, and no thread.";
    const TABLES: &str =
        "tables do not grow; how large they are is decided when they are loaded (lvsadm attach --conns, LVS_CONNS).";
    [
        ("conn_lfactor", TABLES),
        ("conn_max", TABLES),
        ("debug_level", "the data plane's log has levels: lvsadm attach --log, lvsadm log."),
        ("est_cpulist", ESTIMATOR),
        ("est_nice", ESTIMATOR),
        ("svc_lfactor", TABLES),
    ]
};

/// Why settings cannot be what a command wants them to be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SysctlError {
    /// There is none of this name.
    #[error("there is no setting {0}: see `lvsadm sysctl --explain`")]
    Unknown(String),
    /// It does not take this value.
    #[error("{name} takes a number from {first} to {last}, not `{value}'")]
    Value {
        /// Its name as it is written.
        name: String,
        /// The least value.
        first: u32,
        /// The greatest value.
        last: u32,
        /// What is written.
        value: String,
    },
    /// FullNAT's first port is greater than its last.
    #[error("there are no ports from {min} (lport_min) to {max} (lport_max)")]
    NoPorts {
        /// `lport_min`
        min: u32,
        /// `lport_max`
        max: u32,
    },
    /// The table of advertised addresses is one that packets are routed by.
    #[error("advertise_table={0} is one of the kernel's own tables: choose another one, 173 for instance")]
    KernelsTable(u32),
    /// The packet of which backups are told comes after the period.
    #[error("sync_threshold ({threshold}) must be less than sync_period ({period}), or that 0")]
    Threshold {
        /// `sync_threshold`
        threshold: u32,
        /// `sync_period`
        period: u32,
    },
    /// The number of ports for synchronisation is not a power of 2.
    #[error("sync_ports takes a power of 2, not {0}")]
    SyncPorts(u32),
}

/// A name of a setting.
pub enum SysctlName {
    /// That of one that is kept.
    Kept(&'static Sysctl),
    /// One of [`ABSENT`], and why.
    Absent(&'static str, &'static str),
}

impl SysctlName {
    /// The setting of that name, with or without the prefix.
    pub fn parse(name: &str) -> Result<Self, SysctlError> {
        let short = name.strip_prefix(SYSCTL_PREFIX).unwrap_or(name);
        let kept = SYSCTLS.iter().find(|sysctl| sysctl.name == short).map(SysctlName::Kept);
        let absent = || ABSENT.iter().find(|absent| absent.0 == short).map(|(name, why)| SysctlName::Absent(name, why));
        kept.or_else(absent).ok_or_else(|| SysctlError::Unknown(name.to_owned()))
    }

    /// All of them: first what is kept, then the others.
    pub fn all() -> impl Iterator<Item = Self> {
        SYSCTLS.iter().map(SysctlName::Kept).chain(ABSENT.iter().map(|(name, why)| SysctlName::Absent(name, why)))
    }

    /// What has to be said when it is read or set: that it means something else than in IPVS, or nothing.
    pub fn note(&self) -> Option<String> {
        match self {
            SysctlName::Kept(Sysctl { kind: Kind::Other, name, meaning, .. }) => {
                Some(format!("{SYSCTL_PREFIX}{name}: {meaning}"))
            }
            SysctlName::Kept(_) => None,
            SysctlName::Absent(name, why) => {
                Some(format!("{SYSCTL_PREFIX}{name}: means nothing here and is not kept: {why}"))
            }
        }
    }

    /// Its name, its range and default, and what it means.
    pub fn explanation(&self) -> (&'static str, String, String) {
        match self {
            SysctlName::Kept(sysctl) => {
                let range = match *sysctl.range.end() {
                    u32::MAX => "a number".to_owned(),
                    last => format!("{} to {last}", sysctl.range.start()),
                };
                let own = if sysctl.kind == Kind::Own { ", not in IPVS" } else { "" };
                let range = format!("{range}, default {}{own}", sysctl.default);
                (sysctl.name, range, sysctl.meaning.to_owned())
            }
            SysctlName::Absent(name, why) => (name, "not kept".to_owned(), format!("Means nothing here: {why}")),
        }
    }
}

/// Whether settings go together.
pub fn consistent(sysctls: &Sysctls) -> Result<(), SysctlError> {
    let Sysctls { lport_min: min, lport_max: max, sync_threshold: threshold, sync_period: period, .. } = *sysctls;
    if min > max {
        return Err(SysctlError::NoPorts { min, max });
    }
    // `RT_TABLE_DEFAULT`, `RT_TABLE_MAIN`, `RT_TABLE_LOCAL`.
    if (253..=255).contains(&sysctls.advertise_table) {
        return Err(SysctlError::KernelsTable(sysctls.advertise_table));
    }
    if period != 0 && threshold >= period {
        return Err(SysctlError::Threshold { threshold, period });
    }
    if !sysctls.sync_ports.is_power_of_two() {
        return Err(SysctlError::SyncPorts(sysctls.sync_ports));
    }
    Ok(())
}

/// The settings that an argument of `lvsadm sysctl` sets: IPVS has two numbers in sync_threshold.
pub fn arguments(argument: &str) -> Vec<String> {
    let of_threshold = argument.split_once('=').filter(|(name, _)| {
        let name = name.trim();
        name.strip_prefix(SYSCTL_PREFIX).unwrap_or(name) == "sync_threshold"
    });
    let numbers = of_threshold.map(|(_, value)| value.trim().trim_matches(['"', '\'']).split_whitespace());
    match numbers.map(Vec::from_iter).as_deref() {
        Some([threshold, period]) => vec![format!("sync_threshold={threshold}"), format!("sync_period={period}")],
        _ => vec![argument.to_owned()],
    }
}

/// Explanations for people.
pub fn explained(names: impl Iterator<Item = SysctlName>) -> String {
    let mut text = String::new();
    for name in names {
        let (name, range, meaning) = name.explanation();
        let _ = writeln!(text, "{name} ({range})\n    {meaning}");
    }
    text
}

/// What an argument of `lvsadm sysctl` is about, and the value it has for that, checked.
pub fn sysctl(argument: &str) -> Result<(SysctlName, Option<u32>), SysctlError> {
    let Some((name, value)) = argument.split_once('=') else { return Ok((SysctlName::parse(argument.trim())?, None)) };
    let (written, value) = (name.trim(), value.trim());
    let name = SysctlName::parse(written)?;
    // Of what is not kept any value will do: the kernel's have forms of their own.
    let SysctlName::Kept(sysctl) = name else { return Ok((name, Some(0))) };
    match value.parse() {
        Ok(number) if sysctl.range.contains(&number) => Ok((name, Some(number))),
        _ => Err(SysctlError::Value {
            name: written.to_owned(),
            first: *sysctl.range.start(),
            last: *sysctl.range.end(),
            value: value.to_owned(),
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(argument: &str) -> Result<(&'static str, Option<u32>), String> {
        sysctl(argument).map(|(name, value)| (name.explanation().0, value)).map_err(|error| error.to_string())
    }

    #[test]
    fn settings_are_found_by_both_names_and_kept_in_range() {
        assert_eq!(told("net.ipv4.vs.conn_reuse_mode = 2"), Ok(("conn_reuse_mode", Some(2))));
        assert_eq!(told("drop_entry"), Ok(("drop_entry", None)));
        // As the kernel has it: two numbers.
        let both = ["sync_threshold=3".to_owned(), "sync_period=50".to_owned()];
        assert_eq!(arguments("net.ipv4.vs.sync_threshold = \"3\t50\""), both);
        for one in ["sync_threshold=3", "sync_threshold", "drop_entry=1 2"] {
            assert_eq!(arguments(one), [one]);
        }
        for (argument, sentence) in [
            ("drop_entry=4", "drop_entry takes a number from 0 to 3, not `4'"),
            ("sloppy_tcp=-1", "sloppy_tcp takes a number from 0 to 1, not `-1'"),
            ("sloppy_tcp=", "sloppy_tcp takes a number from 0 to 1, not `'"),
            ("lport_min=0", "lport_min takes a number from 1 to 65535, not `0'"),
            ("tcp_sloppy=1", "there is no setting tcp_sloppy: see `lvsadm sysctl --explain`"),
        ] {
            assert_eq!(told(argument), Err(sentence.to_owned()));
        }
    }

    #[test]
    fn who_masqueraded_after_ipvs_is_told_of_fullnat() {
        let note = sysctl("conntrack=1").ok().and_then(|(name, _)| name.note()).unwrap_or_default();
        assert!(
            note.starts_with("net.ipv4.vs.conntrack: Kept, but of no effect") && note.lines().count() == 1,
            "{note}"
        );
        assert!(note.contains("FullNAT") && note.contains("--fullnat") && note.contains("--add-laddr"), "{note}");
    }

    #[test]
    fn every_setting_of_ipvs_is_known_and_the_odd_ones_are_told_of_in_a_line() {
        // The kernel's own names, up to Linux 7.
        let kernels = "am_droprate amemthresh backup_only cache_bypass conn_lfactor conn_max conn_reuse_mode conntrack debug_level \
                       drop_entry drop_packet est_cpulist est_nice expire_nodest_conn expire_quiescent_template ignore_tunneled \
                       lblc_expiration lblcr_expiration nat_icmp_send pmtu_disc run_estimation schedule_icmp secure_tcp \
                       sloppy_sctp sloppy_tcp snat_reroute svc_lfactor sync_persist_mode sync_ports sync_qlen_max \
                       sync_refresh_period sync_retries sync_sock_size sync_threshold sync_version";
        for name in kernels.split_whitespace() {
            let name = SysctlName::parse(name).unwrap_or_else(|sentence| panic!("{sentence}"));
            assert!(!matches!(name, SysctlName::Kept(Sysctl { kind: Kind::Own, .. })));
        }
        let own = SYSCTLS.iter().filter(|sysctl| sysctl.kind == Kind::Own || sysctl.name == "sync_period").count();
        assert_eq!(SysctlName::all().count(), kernels.split_whitespace().count() + own);
        let noted: Vec<&str> = SYSCTLS
            .iter()
            .filter(|sysctl| SysctlName::Kept(sysctl).note().is_some())
            .map(|sysctl| sysctl.name)
            .collect();
        assert_eq!(
            noted,
            ["amemthresh", "backup_only", "conntrack", "ignore_tunneled", "snat_reroute", "sync_qlen_max"]
        );
        assert!(
            SysctlName::all()
                .filter_map(|name| name.note())
                .all(|note| note.lines().count() == 1 && note.ends_with('.'))
        );
    }

    #[test]
    fn ports_are_a_range() {
        let ports = |lport_min, lport_max| Sysctls { lport_min, lport_max, ..Sysctls::default() };
        assert_eq!(consistent(&ports(5000, 5000)), Ok(()));
        let sentence = "there are no ports from 5001 (lport_min) to 5000 (lport_max)";
        assert_eq!(consistent(&ports(5001, 5000)).map_err(|error| error.to_string()), Err(sentence.to_owned()));
    }

    #[test]
    fn a_threshold_is_within_its_period_and_ports_are_a_power_of_two() {
        let threshold = |sync_threshold, sync_period| Sysctls { sync_threshold, sync_period, ..Sysctls::default() };
        assert!(consistent(&threshold(1, 2)).is_ok() && consistent(&threshold(9, 0)).is_ok());
        assert!(consistent(&threshold(2, 2)).is_err());
        let ports = |sync_ports| consistent(&Sysctls { sync_ports, ..Sysctls::default() });
        assert!(ports(64).is_ok() && ports(3).is_err());
    }

    #[test]
    fn explanations_have_range_and_default() {
        let text = explained(
            ["drop_entry", "am_droprate", "expire_udp_conn", "est_nice"]
                .map(|n| SysctlName::parse(n).unwrap())
                .into_iter(),
        );
        let heads: Vec<&str> = text.lines().filter(|line| !line.starts_with(' ')).collect();
        assert_eq!(
            heads,
            [
                "drop_entry (0 to 3, default 0)",
                "am_droprate (a number, default 10)",
                "expire_udp_conn (0 to 1, default 0, not in IPVS)",
                "est_nice (not kept)",
            ]
        );
    }
}
