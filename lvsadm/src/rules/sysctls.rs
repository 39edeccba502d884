//! IPVS's settings (`net.ipv4.vs.*`) by their names: which there are, what they mean here, and how they are changed.

use std::fmt::Write;
use std::ops::RangeInclusive;

use lvs_common::abi::Sysctls;
use lvs_common::challenge::MAX_RATE;
use lvs_common::defence::mode;

/// Prefix that IPVS's names may be given with.
pub const SYSCTL_PREFIX: &str = "net.ipv4.vs.";

macro_rules! settings {
    ($($name:ident $range:expr, $kind:ident $meaning:literal)+) => {
        /// Every setting that is kept.
        pub const SYSCTLS: &[Sysctl] = &[$(Sysctl {
            name: stringify!($name),
            range: $range,
            kind: Kind::$kind,
            meaning: $meaning,
            get: |s| s.$name,
            set: |s, value| s.$name = value,
        }),+];
    };
}

/// What a setting is, beside the kernel's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// IPVS's, and means the same.
    Same,
    /// IPVS's, but means something else here, or nothing.
    Other,
    /// Not IPVS's.
    Own,
}

/// A setting.
pub struct Sysctl {
    /// Its name, without the prefix.
    pub name: &'static str,
    /// The values it takes.
    pub range: RangeInclusive<u32>,
    /// What it is, beside the kernel's.
    pub kind: Kind,
    /// What it means.
    pub meaning: &'static str,
    get: fn(&Sysctls) -> u32,
    set: fn(&mut Sysctls, u32),
}

settings! {
    am_droprate 0..=u32::MAX, Same
        "While drop_packet is 3, one in so many new connections is dropped; 0 is none."
    amemthresh 0..=u32::MAX, Other
        "Room is scarce while a family's connection table has fewer free pages of 4 KiB than this (or than an eighth of it, if \
         that is fewer); IPVS looks at the host's free memory."
    backup_only 0..=1, Other
        "Kept, but of no effect: there is no synchronisation in this build, so no backup."
    cache_bypass 0..=1, Same
        "1: Packets for a service by mark that has no usable server go on to their own destination."
    conn_expire_tcp_rst 0..=1, Own
        "1: When an established TCP connection expires, both ends are told by a RST."
    conn_reuse_mode 0..=3, Same
        "What a request for a connection does to one of the same ports: 0: belongs to it; 1: takes its place if it is closed; 2, 3: \
         and if a server behind direct routing or a tunnel is closing it. IPVS may drop the first such request; here none is."
    conntrack 0..=1, Other
        "Kept, but of no effect: the data plane knows its connections itself, and the kernel tracks none of them."
    drop_entry 0..=3, Same
        "Takes out, once a second, connections that are of least use: 0: never; 1: while room is scarce, which it is not; 2: the \
         same, and it is; 3: always. 1 and 2 change by themselves."
    drop_packet 0..=3, Same
        "Drops some of the new connections: 0: never; 1, 2: while room is scarce, the more the scarcer; 3: one in am_droprate."
    expire_nodest_conn 0..=1, Same
        "1: Connections of a destination that was deleted are scheduled anew with their next packet, and with a new request where \
         its weight is 0; 0: their packets are dropped until it is added again."
    expire_quiescent_template 0..=1, Same
        "1: Clients that persistence ties to a destination of weight 0 are scheduled anew."
    expire_udp_conn 0..=1, Own
        "1: UDP connections of a destination that was deleted or has weight 0 are scheduled anew with their next packet."
    ignore_tunneled 0..=1, Other
        "Kept, but of no effect: no packet meets the data plane twice."
    lblc_expiration 0..=u32::MAX, Same
        "Seconds without a connection after which lblc forgets which destination serves an address."
    lblcr_expiration 0..=u32::MAX, Same
        "Seconds without a connection after which lblcr forgets the destinations that serve an address, and without a change after \
         which the most loaded of several is let go."
    lport_max 1..=65535, Own
        "The last of the ports that FullNAT gives out on local addresses. Where the host has the address, it keeps those of its \
         ip_local_port_range beside."
    lport_min 1..=65535, Own
        "The first of them."
    nat_icmp_send 0..=1, Same
        "1: A real server behind NAT whose packet belongs to no connection is told that the port is unreachable."
    pmtu_disc 0..=1, Same
        "0: Packets too big for a tunnel are fragmented though they forbid it; 1: their sender is told."
    run_estimation 0..=1, Same
        "0: Rates are not estimated, and stay what they are."
    schedule_icmp 0..=1, Same
        "1: ICMP errors about a packet for a service may open a connection."
    secure_tcp 0..=3, Same
        "TCP connections are established by the real server's word alone: 0: no; 1, 2: while room is scarce; 3: yes."
    sloppy_sctp 0..=1, Same
        "1: Any SCTP packet but an ABORT may open a connection."
    sloppy_tcp 0..=1, Same
        "1: Any TCP packet but a RST may open a connection."
    snat_reroute 0..=1, Other
        "Kept, but of no effect: replies are routed by where they go, whatever their source."
    synproxy_rate 0..=MAX_RATE, Own
        "Requests a second that a service with -j enable lets in whose sources are not verified; those beyond are challenged. With \
         more than half of the connection table in use, all are."
    synproxy_source_rate 0..=MAX_RATE, Own
        "Requests a second of a verified source (an IPv4 address, or the first 64 bits of an IPv6 one) that need no challenge; 0 is \
         any number."
    toa 0..=2, Own
        "By a TCP option, FullNAT tells real servers who the client is: 0: no; 1: with the end of the handshake and the first data; \
         2: with the request for the connection, too."
    uoa 0..=255, Own
        "By an option of IPv4 (DPVS's UOA), FullNAT tells real servers of UDP who the client is, with the first so many packets of a \
         connection; 0: no."
}

/// Settings whose modes change by themselves.
pub const AUTOMATIC: [&str; 3] = ["drop_entry", "drop_packet", "secure_tcp"];

/// Names of IPVS's that nothing is kept of, and why.
pub const ABSENT: [(&str, &str); 14] = {
    const SYNC: &str = "there is no synchronisation in this build.";
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
        ("sync_persist_mode", SYNC),
        ("sync_ports", SYNC),
        ("sync_qlen_max", SYNC),
        ("sync_refresh_period", SYNC),
        ("sync_retries", SYNC),
        ("sync_sock_size", SYNC),
        ("sync_threshold", SYNC),
        ("sync_version", SYNC),
    ]
};

impl Sysctl {
    /// Its value.
    pub fn get(&self, sysctls: &Sysctls) -> u32 {
        (self.get)(sysctls)
    }

    /// The value as somebody set it: an automatic mode that is at work was set as one that may be.
    pub fn configured(&self, sysctls: &Sysctls) -> u32 {
        match self.get(sysctls) {
            mode::WORKING if AUTOMATIC.contains(&self.name) => mode::RESTING,
            value => value,
        }
    }

    /// Sets it. The value is not checked.
    pub fn set(&self, sysctls: &mut Sysctls, value: u32) {
        (self.set)(sysctls, value);
    }
}

/// A name of a setting.
pub enum SysctlName {
    /// That of one that is kept.
    Kept(&'static Sysctl),
    /// One of [`ABSENT`], and why.
    Absent(&'static str, &'static str),
}

impl SysctlName {
    /// The setting of that name, with or without the prefix. The error is a sentence.
    pub fn parse(name: &str) -> Result<Self, String> {
        let short = name.strip_prefix(SYSCTL_PREFIX).unwrap_or(name);
        let kept = SYSCTLS.iter().find(|sysctl| sysctl.name == short).map(SysctlName::Kept);
        let absent = || ABSENT.iter().find(|absent| absent.0 == short).map(|(name, why)| SysctlName::Absent(name, why));
        kept.or_else(absent).ok_or_else(|| format!("there is no setting {name}: see `lvsadm sysctl --explain`"))
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
                let range = format!("{range}, default {}{own}", sysctl.get(&Sysctls::default()));
                (sysctl.name, range, sysctl.meaning.to_owned())
            }
            SysctlName::Absent(name, why) => (name, "not kept".to_owned(), format!("Means nothing here: {why}")),
        }
    }
}

/// Whether settings go together. The error is a sentence.
pub fn consistent(sysctls: &Sysctls) -> Result<(), String> {
    let Sysctls { lport_min, lport_max, .. } = sysctls;
    match lport_min <= lport_max {
        true => Ok(()),
        false => Err(format!("there are no ports from {lport_min} (lport_min) to {lport_max} (lport_max)")),
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

/// What an argument of `lvsadm sysctl` is about, and the value it has for that, checked. The error is a sentence.
pub fn sysctl(argument: &str) -> Result<(SysctlName, Option<u32>), String> {
    let Some((name, value)) = argument.split_once('=') else { return Ok((SysctlName::parse(argument.trim())?, None)) };
    let (written, value) = (name.trim(), value.trim());
    let name = SysctlName::parse(written)?;
    // Of what is not kept any value will do: the kernel's have forms of their own.
    let SysctlName::Kept(sysctl) = name else { return Ok((name, Some(0))) };
    let (first, last) = (sysctl.range.start(), sysctl.range.end());
    let number = value.parse().ok().filter(|number| sysctl.range.contains(number));
    let number = number.ok_or_else(|| format!("{written} takes a number from {first} to {last}, not `{value}'"))?;
    Ok((name, Some(number)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(argument: &str) -> Result<(&'static str, Option<u32>), String> {
        sysctl(argument).map(|(name, value)| (name.explanation().0, value))
    }

    #[test]
    fn settings_are_found_by_both_names_and_kept_in_range() {
        assert_eq!(told("net.ipv4.vs.conn_reuse_mode = 2"), Ok(("conn_reuse_mode", Some(2))));
        assert_eq!(told("drop_entry"), Ok(("drop_entry", None)));
        // As the kernel has it: two numbers.
        assert_eq!(told("net.ipv4.vs.sync_threshold=3 50"), Ok(("sync_threshold", Some(0))));
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
        assert_eq!(SysctlName::all().count(), kernels.split_whitespace().count() + 8);
        let noted: Vec<&str> = SYSCTLS
            .iter()
            .filter(|sysctl| SysctlName::Kept(sysctl).note().is_some())
            .map(|sysctl| sysctl.name)
            .collect();
        assert_eq!(noted, ["amemthresh", "backup_only", "conntrack", "ignore_tunneled", "snat_reroute"]);
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
        assert_eq!(consistent(&ports(5001, 5000)), Err(sentence.to_owned()));
    }

    #[test]
    fn an_automatic_mode_at_work_was_not_set_so() {
        let sysctls = Sysctls { drop_entry: 2, drop_packet: 3, conn_reuse_mode: 2, ..Sysctls::default() };
        let configured = |name: &str| SYSCTLS.iter().find(|s| s.name == name).map(|s| s.configured(&sysctls));
        assert_eq!(["drop_entry", "drop_packet", "conn_reuse_mode"].map(configured), [Some(1), Some(3), Some(2)]);
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
