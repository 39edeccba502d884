//! Network devices.

use lvs_director::rules::{AttachMode, Attached};

use super::super::facts::{Device, Facts, Way};
use super::super::finding::Found;

/// What a check finds of each device.
fn each(facts: &Facts, judge: impl Fn(&Device) -> Option<Found>) -> Vec<Found> {
    facts.devices.iter().filter(|device| device.up).filter_map(judge).collect()
}

pub fn served(facts: &Facts) -> Vec<Found> {
    each(facts, |device| {
        let name = &device.name;
        match device.attached {
            Some(_) => None,
            None if device.refused => Some(Found::failure(
                format!("{name} is not served: {}", device.why),
                format!("lvsadm attach --dev {name}"),
            )),
            None if device.servable => {
                Some(Found::warning(format!("{name} is up and not served"), format!("lvsadm attach --dev {name}")))
            }
            None => None,
        }
    })
}

pub fn native(facts: &Facts) -> Vec<Found> {
    each(facts, |device| {
        let name = &device.name;
        let why = &device.why;
        match device.attached? {
            Attached::Native | Attached::Egress => None,
            _ if device.refused => Some(Found::warning(
                format!("{name}: {why}"),
                format!(
                    "ethtool -l {name} and ip link show {name} tell queues and MTU; then lvsadm attach --dev {name} --mode native"
                ),
            )),
            _ if device.is_virtual || device.wanted == Some(AttachMode::Tc) => None,
            _ => Some(Found::warning(
                format!("{name} is served without XDP in its driver: {why}"),
                format!("lvsadm attach --dev {name} --mode native"),
            )),
        }
    })
}

pub fn foreign(facts: &Facts) -> Vec<Found> {
    each(facts, |device| {
        let name = &device.name;
        if device.attached.is_some() && device.why.contains("of somebody else") {
            let mend = format!("ip link set {name} xdp off, then lvsadm attach --dev {name}, if it is not needed");
            return Some(Found::warning(format!("{name}: {}", device.why), mend));
        }
        (device.attached.is_some() && !device.before.is_empty()).then(|| {
            let what = format!("{name}: at TC ingress, {} comes before the data plane", device.before.join(", "));
            Found::warning(what, "see `bpftool net` for whose it is")
        })
    })
}

pub fn lro(facts: &Facts) -> Vec<Found> {
    each(facts, |device| {
        let name = &device.name;
        (device.lro && device.attached.is_some()).then(|| {
            Found::warning(format!("{name} merges what it receives (LRO)"), format!("ethtool -K {name} lro off"))
        })
    })
}

pub fn queues(facts: &Facts) -> Vec<Found> {
    each(facts, |device| {
        let Device { name, queues, cpus, .. } = device;
        let few = !device.is_virtual && device.attached.is_some() && queues < cpus && !device.spreads;
        few.then(|| {
            let what =
                format!("{name} has {queues} receive queues for {cpus} CPUs, and packets are not spread in software");
            Found::warning(
                what,
                format!("ethtool -L {name} combined {cpus}, or RPS: /sys/class/net/{name}/queues/rx-0/rps_cpus"),
            )
        })
    })
}

pub fn rp_filter(facts: &Facts) -> Vec<Found> {
    let refused = facts.exits.get("drop-rp-filter").copied().unwrap_or_default();
    if refused == 0 {
        return Vec::new();
    }
    let strict = |device: &&Device| device.rp_filter != 0 && device.attached.is_some();
    let names: Vec<&str> = facts.devices.iter().filter(strict).map(|device| &*device.name).collect();
    let what = format!("rp_filter refused {refused} new connections; it is on for {}", names.join(", "));
    let mend = names.first().map(|name| format!("sysctl -w net.ipv4.conf.{name}.rp_filter=0 (and conf.all)"));
    vec![Found::warning(what, mend.unwrap_or_default())]
}

pub fn mtu(facts: &Facts) -> Vec<Found> {
    let comes = |device: &&Device| device.up && device.attached.is_some();
    // The most that the network lets come in: clients send no more than the director's own device takes.
    let Some(most) = facts.devices.iter().filter(comes).map(|device| device.mtu).max() else { return Vec::new() };
    let mut told = Vec::new();
    for server in &facts.servers {
        let Way::Route { device, mtu, .. } = &server.way else { continue };
        let is_tunnel = server.forward == lvs_common::abi::Forward::Tunnel;
        let room = mtu.saturating_sub(if is_tunnel { server.overhead() } else { 0 });
        let what = match is_tunnel {
            // The director tells clients of it, and `real-server --tun` lowers TCP's segments.
            true if facts.sysctls.pmtu_disc != 0 => continue,
            true => format!("the tunnel to {} takes packets of {room} bytes, and pmtu_disc is 0", server.address),
            false => format!("the way to {} takes packets of {room} bytes", server.address),
        };
        let found = Found::warning(format!("{what}; {most} may come in"), format!("ip link set {device} mtu …"));
        if room < most && !told.contains(&found) {
            told.push(found);
        }
    }
    told
}

#[cfg(test)]
mod tests {
    use lvs_common::abi::Forward;

    use super::super::super::facts::tests::server;
    use super::*;

    fn device() -> Device {
        Device {
            name: "eth0".into(),
            up: true,
            servable: true,
            attached: Some(Attached::Native),
            mtu: 1500,
            queues: 4,
            cpus: 4,
            ..Device::default()
        }
    }

    fn facts(device: Device) -> Facts {
        Facts { devices: vec![device], ..Facts::default() }
    }

    #[test]
    fn a_device_that_is_up_is_to_be_served() {
        assert_eq!(served(&facts(device())), []);
        assert_eq!(served(&facts(Device { attached: None, ..device() })).len(), 1);
        assert_eq!(served(&facts(Device { attached: None, up: false, ..device() })), []);
        assert_eq!(served(&facts(Device { attached: None, servable: false, ..device() })), []);
    }

    #[test]
    fn a_physical_device_is_to_run_xdp_in_its_driver() {
        assert_eq!(native(&facts(device())), []);
        let tc = Device { attached: Some(Attached::Tc), why: "the driver does not run XDP".into(), ..device() };
        assert_eq!(native(&facts(tc.clone()))[0].mend.as_deref(), Some("lvsadm attach --dev eth0 --mode native"));
        assert_eq!(native(&facts(Device { is_virtual: true, ..tc.clone() })), []);
        assert_eq!(native(&facts(Device { wanted: Some(AttachMode::Tc), ..tc.clone() })), []);
        assert_eq!(native(&facts(Device { is_virtual: true, refused: true, ..tc })).len(), 1);
    }

    #[test]
    fn programs_of_others_are_told_of() {
        assert_eq!(foreign(&facts(device())), []);
        assert_eq!(foreign(&facts(Device { before: vec!["cil_from_netdev".into()], ..device() })).len(), 1);
        let xdp = "XDP program 7 (theirs) of somebody else runs here".to_owned();
        assert_eq!(foreign(&facts(Device { attached: Some(Attached::Tc), why: xdp, ..device() })).len(), 1);
    }

    #[test]
    fn merging_and_few_queues_are_told_of() {
        assert_eq!((lro(&facts(device())), queues(&facts(device()))), (vec![], vec![]));
        assert_eq!(lro(&facts(Device { lro: true, ..device() })).len(), 1);
        let few = Device { queues: 1, ..device() };
        assert_eq!(queues(&facts(few.clone())).len(), 1);
        assert_eq!(queues(&facts(Device { spreads: true, ..few.clone() })), []);
        assert_eq!(queues(&facts(Device { is_virtual: true, ..few })), []);
    }

    #[test]
    fn rp_filter_is_told_of_if_it_refused_somebody() {
        let mut facts = facts(Device { rp_filter: 1, ..device() });
        assert_eq!(rp_filter(&facts), []);
        facts.exits.insert("drop-rp-filter", 3);
        assert!(rp_filter(&facts)[0].what.ends_with("it is on for eth0"));
    }

    #[test]
    fn a_way_that_takes_less_than_may_come_in_is_told_of_once() {
        let way = |mtu| Way::Route { device: "eth1".into(), gateway: None, mtu };
        let with = |forward, mtu| {
            let mut facts = facts(device());
            let server = super::super::super::facts::Server { forward, way: way(mtu), ..server() };
            facts.servers = vec![server.clone(), server];
            facts
        };
        assert_eq!(mtu(&with(Forward::Masq, 1500)), []);
        assert_eq!(mtu(&with(Forward::Masq, 1400)).len(), 1);
        let mut tunnel = with(Forward::Tunnel, 1500);
        tunnel.sysctls.pmtu_disc = 1;
        assert_eq!(mtu(&tunnel), [], "clients are told");
        tunnel.sysctls.pmtu_disc = 0;
        assert_eq!(mtu(&tunnel).len(), 1);
    }
}
