//! The host: kernel, timer, other balancers, switches, firewall.

use lvs_common::abi::sysctls::Kind;
use lvs_director::rules::{LogLevel, SYSCTLS, SysctlName};

use super::super::facts::Facts;
use super::super::finding::Found;

/// Milliseconds after which a timer that runs sixteen times a second has stopped.
const STOPPED: u64 = 2000;

pub fn kernel(facts: &Facts) -> Vec<Found> {
    let host = &facts.host;
    let old = (host.version < (6, 1)).then(|| {
        Found::failure(format!("the kernel is Linux {}, and the data plane is for 6.1 and later", host.release), "")
    });
    let slow = (host.jit == Some(false))
        .then(|| Found::warning("the kernel interprets BPF programs", "sysctl -w net.core.bpf_jit_enable=1"));
    old.into_iter().chain(slow).collect()
}

pub fn agent(facts: &Facts) -> Vec<Found> {
    let none =
        || Found::warning("none runs", "systemctl enable --now lvsadm-agent (in a network namespace: lvsadm agent &)");
    (!facts.host.agent).then(none).into_iter().collect()
}

pub fn timer(facts: &Facts) -> Vec<Found> {
    let age = facts.host.timer_age;
    let stopped = || Found::failure(format!("the timer has not run for {} seconds", age / 1000), "lvsadm upgrade");
    (age > STOPPED).then(stopped).into_iter().collect()
}

pub fn log(facts: &Facts) -> Vec<Found> {
    let level = facts.host.log;
    let slow = || {
        Found::warning(
            format!("the data plane writes a line for each packet (its log is {})", level.name()),
            "lvsadm save --full > FILE; lvsadm unload; lvsadm apply FILE",
        )
    };
    matches!(level, LogLevel::Debug | LogLevel::Trace).then(slow).into_iter().collect()
}

pub fn kernel_ipvs(facts: &Facts) -> Vec<Found> {
    match facts.host.ipvs {
        None | Some(0) => Vec::new(),
        Some(count) => vec![Found::failure(
            format!("the kernel's own IPVS has {count} services"),
            "the kernel's ipvsadm -C, then modprobe -r ip_vs",
        )],
    }
}

pub fn kernel_sysctls(facts: &Facts) -> Vec<Found> {
    let differs = |(name, value): (&String, &String)| {
        let sysctl = SYSCTLS.iter().find(|sysctl| sysctl.name == name)?;
        let ours = sysctl.configured(&facts.sysctls);
        (ours.to_string() != *value && value.parse() != Ok(sysctl.default)).then(|| {
            Found::warning(
                format!("net.ipv4.vs.{name} is {value} for the kernel's own IPVS, and {ours} here"),
                format!("lvsadm sysctl {name}={value}"),
            )
        })
    };
    facts.host.ipvs_sysctls.iter().filter_map(differs).collect()
}

pub fn sysctls(facts: &Facts) -> Vec<Found> {
    let set = SYSCTLS.iter().filter(|sysctl| {
        sysctl.kind == Kind::Other
            && sysctl.meaning.starts_with("Kept, but of no effect")
            && sysctl.configured(&facts.sysctls) != sysctl.default
    });
    set.map(|sysctl| {
        let note = SysctlName::Kept(sysctl).note().unwrap_or_default();
        Found::warning(note, format!("lvsadm sysctl {}={}", sysctl.name, sysctl.default))
    })
    .collect()
}

pub fn managers(facts: &Facts) -> Vec<Found> {
    let lost = facts.host.managers.iter().filter(|manager| !manager.is_ours);
    lost.map(|manager| {
        let mend = match &*manager.name {
            "keepalived" => "LD_PRELOAD=liblvs_compat.so for keepalived: see lvsadm-keepalived-and-ldirectord(7)",
            _ => "install ipvsadm-is-lvsadm",
        };
        Found::failure(format!("{} (process {}) does not manage this data plane", manager.name, manager.process), mend)
    })
    .collect()
}

pub fn forwarding(facts: &Facts) -> Vec<Found> {
    let mut found = Vec::new();
    for (at, family) in ["ipv4", "ipv6"].into_iter().enumerate() {
        if facts.host.lo_forwards[at] == Some(false) {
            let what = format!("net.{family}.conf.lo.forwarding is 0");
            found.push(Found::failure(what, "lvsadm -Ln (any command sets it, and so does the agent)"));
        }
        let count = facts.exits.get("stack").copied().unwrap_or_default();
        if facts.host.forwards[at] == Some(false) && count != 0 {
            let setting = if at == 0 { "net.ipv4.ip_forward" } else { "net.ipv6.conf.all.forwarding" };
            let what = format!("{setting} is 0, and {count} packets were left to the stack to be forwarded");
            found.push(Found::failure(what, format!("sysctl -w {setting}=1")));
        }
    }
    found
}

pub fn firewall(facts: &Facts) -> Vec<Found> {
    let chains = facts.chains.iter().filter(|chain| chain.concerns_services());
    chains
        .map(|chain| Found::warning(format!("{chain}"), "lvsadm block and lvsadm allow, in place of its rules"))
        .collect()
}

pub fn conntrack(facts: &Facts) -> Vec<Found> {
    let count = |exit| facts.exits.get(exit).copied().unwrap_or_default();
    let passed = count("stack") + count("reply-passed");
    let chains = facts.chains.iter().filter(|chain| chain.drops_untracked && passed != 0);
    chains
        .map(|chain| {
            let what = format!("{chain} as invalid; {passed} packets of balanced connections have passed the stack");
            Found::warning(what, "let packets from and to the virtual addresses pass before that rule")
        })
        .collect()
}

pub fn sync(facts: &Facts) -> Vec<Found> {
    let lost = || Found::warning(format!("{} changes of connections found no room to be sent", facts.sync_lost), "");
    (facts.sync_lost != 0).then(lost).into_iter().collect()
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::super::super::facts::{Host, Manager};
    use super::super::super::finding::Level;
    use super::*;
    use crate::firewall::parse_iptables;

    fn told(found: Vec<Found>) -> Vec<(Level, String)> {
        found.into_iter().map(|found| (found.level, found.what)).collect()
    }

    fn host(host: Host) -> Facts {
        Facts { host, ..Facts::default() }
    }

    #[test]
    fn an_old_kernel_fails_and_an_interpreting_one_is_slow() {
        let of = |version, jit| told(kernel(&host(Host { release: "5.15.0".into(), version, jit, ..Host::default() })));
        assert_eq!(of((5, 15), None)[0].0, Level::Failure);
        assert_eq!(of((6, 1), Some(true)), []);
        assert_eq!(of((6, 12), Some(false))[0].0, Level::Warning);
    }

    #[test]
    fn an_agent_and_a_running_timer_are_well() {
        assert_eq!(agent(&host(Host { agent: true, ..Host::default() })), []);
        assert_eq!(agent(&Facts::default()).len(), 1);
        assert_eq!(timer(&host(Host { timer_age: 70, ..Host::default() })), []);
        let stopped = told(timer(&host(Host { timer_age: 61_000, ..Host::default() })));
        assert_eq!(stopped, [(Level::Failure, "the timer has not run for 61 seconds".to_owned())]);
    }

    #[test]
    fn a_log_of_each_packet_is_told_of() {
        let of = |level| log(&host(Host { log: level, ..Host::default() })).len();
        assert_eq!((of(LogLevel::Off), of(LogLevel::Warn), of(LogLevel::Trace)), (0, 0, 1));
    }

    #[test]
    fn another_balancer_is_a_failure_if_it_has_rules() {
        let of = |ipvs| kernel_ipvs(&host(Host { ipvs, ..Host::default() })).len();
        assert_eq!((of(None), of(Some(0)), of(Some(3))), (0, 0, 1));
    }

    #[test]
    fn settings_of_the_kernels_ipvs_are_told_of_where_they_differ() {
        let facts = |name: &str, value: &str| {
            host(Host { ipvs_sysctls: [(name.to_owned(), value.to_owned())].into(), ..Host::default() })
        };
        let found = kernel_sysctls(&facts("expire_nodest_conn", "1"));
        assert_eq!(found[0].mend.as_deref(), Some("lvsadm sysctl expire_nodest_conn=1"));
        let mut same = facts("expire_nodest_conn", "1");
        same.sysctls.expire_nodest_conn = 1;
        assert_eq!(kernel_sysctls(&same), []);
        assert_eq!(kernel_sysctls(&facts("expire_nodest_conn", "0")), []);
        assert_eq!(kernel_sysctls(&facts("est_nice", "0")), []);
    }

    #[test]
    fn a_setting_without_effect_is_told_of_if_somebody_set_it() {
        let mut facts = Facts::default();
        assert_eq!(sysctls(&facts), []);
        (facts.sysctls.conntrack, facts.sysctls.backup_only) = (1, 1);
        let found = sysctls(&facts);
        assert_eq!(found.len(), 1);
        assert!(found[0].what.starts_with("net.ipv4.vs.conntrack: "));
    }

    #[test]
    fn a_manager_that_speaks_to_the_kernel_is_a_failure() {
        let manager = |is_ours| Manager { name: "keepalived".into(), process: 7, is_ours };
        let of = |is_ours| managers(&host(Host { managers: vec![manager(is_ours)], ..Host::default() })).len();
        assert_eq!((of(true), of(false)), (0, 1));
    }

    #[test]
    fn lo_must_forward_and_the_host_if_it_is_left_something_to_forward() {
        let mut facts = host(Host { lo_forwards: [Some(false), None], forwards: [Some(false); 2], ..Host::default() });
        assert_eq!(forwarding(&facts).len(), 1);
        facts.host.lo_forwards = [Some(true); 2];
        assert_eq!(forwarding(&facts), []);
        facts.exits.insert("stack", 5);
        assert_eq!(forwarding(&facts).len(), 2);
    }

    #[test]
    fn chains_that_name_services_or_drop_invalid_packets_are_told_of() {
        let saved = "*filter\n:INPUT ACCEPT [0:0]\n:FORWARD ACCEPT [0:0]\n-A INPUT -d 10.10.10.10/32 -j DROP\n\
                     -A FORWARD -m conntrack --ctstate INVALID -j DROP\nCOMMIT\n";
        let chains = parse_iptables(saved, &HashSet::from(["10.10.10.10".parse().unwrap()]));
        let mut facts = Facts { chains, ..Facts::default() };
        let found = told(firewall(&facts));
        assert_eq!(
            found,
            [(
                Level::Warning,
                "iptables, table filter, chain INPUT (input): drops packets, and names the address of a service"
                    .to_owned()
            )]
        );
        assert_eq!(conntrack(&facts), [], "nothing passed the stack");
        facts.exits.insert("reply-passed", 9);
        assert_eq!(conntrack(&facts).len(), 1);
    }

    #[test]
    fn lost_announcements_are_told_of() {
        assert_eq!(sync(&Facts { sync_lost: 4, ..Facts::default() }).len(), 1);
        assert_eq!(sync(&Facts::default()), []);
    }
}
