//! Rules, and drops that come from them.

use super::super::facts::{Facts, label, options};
use super::super::finding::Found;

/// Exits that the set-up causes, and what mends it.
const CAUSES: [(&str, &str, &str); 7] = [
    ("drop-no-route", "packets had no route", "ip route: see the check `routes'"),
    ("drop-no-neighbour", "real servers, or gateways to them, did not answer", "see the check `neighbours'"),
    ("drop-forwarding-off", "packets came while lo did not forward", "systemctl enable --now lvsadm-agent"),
    (
        "drop-stack-route",
        "packets by direct routing met a route that encapsulates",
        "use -i or --fullnat for that real server",
    ),
    ("drop-loopback", "packets from a loopback address were to leave the host", ""),
    ("drop-tail-call", "tail calls were refused", "please report it, with `lvsadm status --json'"),
    ("drop-internal", "helpers of the kernel failed", "please report it, with `lvsadm status --json'"),
];

pub fn services(facts: &Facts) -> Vec<Found> {
    let mut found = Vec::new();
    for service in &facts.services {
        let (name, options) = (label(&service.key), options(&service.key));
        if service.servers == 0 {
            found.push(Found::failure(
                format!("{name} has no real server"),
                format!("lvsadm -a {options} -r ADDRESS:PORT"),
            ));
        } else if service.usable == 0 {
            let what = format!("{name} has {} real servers, and none may get connections (weight 0)", service.servers);
            found.push(Found::failure(what, format!("lvsadm -e {options} -r ADDRESS:PORT -w 1")));
        }
        if !service.has_locals {
            let what = format!("{name} has real servers by FullNAT, and no local address of their family");
            found.push(Found::failure(what, "lvsadm --add-laddr -z ADDRESS"));
        }
    }
    found
}

pub fn drops(facts: &Facts) -> Vec<Found> {
    let counted = CAUSES.iter().filter_map(|(exit, what, mend)| {
        let count = facts.exits.get(exit).copied().filter(|count| *count != 0)?;
        Some(Found::warning(format!("{what}: {count} times since the data plane was loaded ({exit})"), *mend))
    });
    counted.collect()
}

#[cfg(test)]
mod tests {
    use lvs_common::exit::EXITS;
    use lvs_director::rules::{Family, ServiceKey};

    use super::super::super::facts::Service;
    use super::*;

    #[test]
    fn a_service_needs_real_servers_and_local_addresses() {
        let of = |servers, usable, has_locals| {
            let key = ServiceKey::Fwmark { mark: 7, family: Family::V4 };
            let services_ = vec![Service { key, servers, usable, has_locals }];
            let found = services(&Facts { services: services_, ..Facts::default() });
            found.into_iter().map(|found| found.mend.unwrap()).collect::<Vec<_>>()
        };
        assert_eq!(of(2, 1, true), [""; 0]);
        assert_eq!(of(0, 0, true), ["lvsadm -a -f 7 -r ADDRESS:PORT"]);
        assert_eq!(of(2, 0, true), ["lvsadm -e -f 7 -r ADDRESS:PORT -w 1"]);
        assert_eq!(of(2, 1, false), ["lvsadm --add-laddr -z ADDRESS"]);
    }

    #[test]
    fn drops_of_the_set_up_are_told_of_and_are_exits() {
        assert!(CAUSES.iter().all(|(cause, ..)| EXITS.iter().any(|(exit, _)| exit == cause)));
        let mut facts = Facts::default();
        facts.exits.insert("drop-no-route", 0);
        assert_eq!(drops(&facts), []);
        facts.exits.insert("drop-no-route", 2);
        assert_eq!(drops(&facts).len(), 1);
    }
}
