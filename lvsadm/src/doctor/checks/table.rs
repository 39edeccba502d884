//! Every check, a row each.

use super::super::facts::Facts;
use super::super::finding::{Finding, Found, Level};
use super::{devices, host, network, rules, servers, tables};

/// A check.
struct Check {
    /// Its name.
    name: &'static str,
    /// Why it matters.
    why: &'static str,
    /// What is, where nothing is wrong.
    good: &'static str,
    /// What is wrong.
    judge: fn(&Facts) -> Vec<Found>,
}

/// Makes a row.
const fn check(name: &'static str, why: &'static str, good: &'static str, judge: fn(&Facts) -> Vec<Found>) -> Check {
    Check { name, why, good, judge }
}

/// The checks, from the host to the real servers.
const CHECKS: &[Check] = &[
    check(
        "kernel",
        "the data plane needs Linux 6.1, and compiled programs to be fast",
        "the kernel has what the data plane needs",
        host::kernel,
    ),
    check(
        "agent",
        "without it, a device that comes up is served from the next command on only",
        "it runs",
        host::agent,
    ),
    check("timer", "the timer removes expired connections and estimates rates", "it runs", host::timer),
    check("log", "to write a line takes longer than to forward a packet", "it is off, or of few packets", host::log),
    check(
        "kernel-ipvs",
        "two balancers for one address disagree about its connections",
        "the kernel's own IPVS has no service",
        host::kernel_ipvs,
    ),
    check(
        "kernel-sysctls",
        "the data plane does not read the settings of the kernel's own IPVS",
        "none was set for the kernel's own IPVS alone",
        host::kernel_sysctls,
    ),
    check("sysctls", "a setting without effect is one that somebody relies on", "each has an effect", host::sysctls),
    check(
        "managers",
        "without the preload library, keepalived manages the kernel's own IPVS, and so does ldirectord with another ipvsadm",
        "what manages services reaches the data plane",
        host::managers,
    ),
    check(
        "forwarding",
        "the programs look routes up as the host itself, which takes forwarding on lo; the stack forwards what real servers send \
         elsewhere",
        "it is on where it is needed",
        host::forwarding,
    ),
    check(
        "firewall",
        "balanced packets do not pass the host's firewall, so its rules neither protect a service nor count its packets",
        "no chain looks as if it were meant for a service",
        host::firewall,
    ),
    check(
        "conntrack",
        "netfilter sees one direction of such a connection, and takes its packets for invalid",
        "no rule drops what is balanced for the connection tracker's sake",
        host::conntrack,
    ),
    check("synchronisation", "a backup lacks these connections", "no connection was lost to backups", host::sync),
    check("devices", "packets that come in on it are not balanced", "each is served", devices::served),
    check(
        "native-xdp",
        "TC serves a packet in about three times the time",
        "physical devices run XDP",
        devices::native,
    ),
    check(
        "foreign-programs",
        "a program that comes first may drop or redirect what is to be balanced",
        "no program of others comes first",
        devices::foreign,
    ),
    check("lro", "a merged packet cannot be forwarded as it came", "no device merges what it receives", devices::lro),
    check("queues", "one CPU serves all packets of a queue", "there are queues for the CPUs", devices::queues),
    check(
        "rp-filter",
        "a client whose packets come in otherwise than the route leads is refused",
        "it refused nobody",
        devices::rp_filter,
    ),
    check(
        "mtu",
        "packets of full size are fragmented, or refused, on the way to the real server",
        "packets fit the ways to the real servers",
        devices::mtu,
    ),
    check(
        "table-fill",
        "in a full table, half-open and closing connections give way to new ones, and then new ones are refused",
        "the connection tables have room",
        tables::fill,
    ),
    check(
        "hash",
        "a full bucket makes new connections give way or wait, though the table has room",
        "connections are spread evenly",
        tables::hash,
    ),
    check("places", "a rule that finds no place is refused", "there is room for rules", tables::places),
    check(
        "local-ports",
        "a FullNAT connection that finds no port is dropped",
        "FullNAT has ports",
        tables::local_ports,
    ),
    check("services", "its clients are refused", "each has a real server that may get connections", rules::services),
    check("drops", "these drops come from the set-up, not from clients", "none comes from the set-up", rules::drops),
    check(
        "vip",
        "nobody sends packets here for an address that the host does not have, unless a router has a route",
        "the host has the virtual addresses",
        network::vip,
    ),
    check(
        "arp",
        "neighbours send the packets of clients to whoever answers for the virtual address",
        "nobody else answers for a virtual address",
        network::arp,
    ),
    check("routes", "what has no way is dropped", "there is a way to each real server", network::routes),
    check(
        "neighbours",
        "packets to a next hop that does not answer, or that two hosts claim to be, are lost",
        "each next hop answers",
        network::neighbours,
    ),
    check(
        "vip-on-servers",
        "with direct routing, packets reach the real server as they are for the virtual address, which must be the server's own",
        "real servers take packets for the virtual addresses",
        servers::vip,
    ),
    check(
        "decapsulation",
        "packets reach the real server in a tunnel, which it must open, for a virtual address, which must be its own",
        "real servers open the tunnels",
        servers::decapsulation,
    ),
    check(
        "path-mtu",
        "packets of full size are lost on the way, while small ones arrive: datagrams, and connections whose ends have not agreed on less",
        "packets of full size arrive through the tunnels",
        servers::path_mtu,
    ),
    check(
        "answers",
        "connections to it are refused, or time out",
        "real servers answer on their ports",
        servers::answers,
    ),
    check(
        "return-path",
        "answers of a real server behind NAT must pass the director, which gives them the virtual address again; clients ignore \
         others",
        "answers come back through the director",
        servers::return_path,
    ),
];

/// Makes all checks.
pub fn examine(facts: &Facts) -> Vec<Finding> {
    let mut findings = Vec::new();
    for Check { name, why, good, judge } in CHECKS {
        let found = judge(facts);
        if found.is_empty() {
            findings.push(Finding { check: name, level: Level::Ok, what: (*good).to_owned(), why, mend: None });
        }
        findings.extend(found.into_iter().map(|Found { level, what, mend }| Finding {
            check: name,
            level,
            what,
            why,
            mend,
        }));
    }
    findings
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn names_are_told_apart_and_facts_of_nothing_are_no_failure() {
        assert_eq!(CHECKS.iter().map(|check| check.name).collect::<HashSet<_>>().len(), CHECKS.len());
        let findings = examine(&Facts::default());
        assert_eq!(findings.iter().map(|finding| finding.check).collect::<HashSet<_>>().len(), CHECKS.len());
        let wrong: Vec<_> = findings.iter().filter(|finding| finding.level != Level::Ok).map(|f| f.check).collect();
        assert_eq!(wrong, ["kernel", "agent"]);
    }
}
