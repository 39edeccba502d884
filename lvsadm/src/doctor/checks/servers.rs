//! Real servers, as they answer.

use lvs_common::abi::Forward;

use super::super::facts::{Answer, Facts, Way, end, label};
use super::super::finding::Found;
use super::network::by_address;

/// Packets of clients without one of the server from which on no more are waited for.
const MANY: u64 = 3;

pub fn vip(facts: &Facts) -> Vec<Found> {
    by_address(facts, |server| {
        let vip = server.vip_address().filter(|_| server.forward == Forward::Route)?;
        let address = server.address;
        match (server.vip, server.own.came()) {
            (Answer::Silent, true) => Some(Found::failure(
                format!("real server {address} answers for its own address, and not for {vip}"),
                format!("on {address}: lvsadm real-server --dr --vip {vip}"),
            )),
            (Answer::Silent, false) if server.answered.as_ref().is_some_and(|answered| !answered.is_empty()) => {
                Some(Found::unknown(format!("real server {address} answers neither for its own address nor for {vip}")))
            }
            _ => None,
        }
    })
}

pub fn decapsulation(facts: &Facts) -> Vec<Found> {
    by_address(facts, |server| {
        let vip = server.vip_address().filter(|_| server.forward == Forward::Tunnel)?;
        if server.vip != Answer::Silent {
            return None;
        }
        let (address, form) = (server.address, server.tunnel.kind.form());
        let port = if form.has_port() { format!(" --tun-port {}", server.tunnel.port) } else { String::new() };
        let mend = format!("on {address}: lvsadm real-server --tun --vip {vip} --tun-type {}{port}", form.name);
        let kind = form.name;
        match (server.bare.came(), server.own.came()) {
            (true, _) => {
                Some(Found::failure(format!("real server {address} has {vip}, and does not open {kind} tunnels"), mend))
            }
            (false, true) => Some(Found::failure(
                format!(
                    "real server {address} answers for its own address, and for {vip} through the {kind} tunnel it does not"
                ),
                mend,
            )),
            (false, false) => Some(Found::unknown(format!("real server {address} answers nothing"))),
        }
    })
}

pub fn path_mtu(facts: &Facts) -> Vec<Found> {
    by_address(facts, |server| {
        let (Way::Route { mtu, device, gateway }, Some(largest)) = (&server.way, server.largest) else { return None };
        (largest < *mtu).then(|| {
            let address = server.address;
            let what = format!(
                "packets of {mtu} bytes, which the route takes, do not arrive through the tunnel to {address}; those of {largest} do, \
                 with {} inside",
                largest.saturating_sub(server.overhead())
            );
            let via = gateway.map(|gateway| format!(" via {gateway}")).unwrap_or_default();
            let route = format!("ip route replace {address}{via} dev {device} mtu lock {largest}");
            Found::failure(what, format!("raise the MTU on the way, or, on the director: {route}"))
        })
    })
}

pub fn answers(facts: &Facts) -> Vec<Found> {
    by_address(facts, |server| {
        // Who has weight 0 may be down.
        if !server.is_tcp() || server.weight == 0 {
            return None;
        }
        let (asked, at) = match server.forward {
            Forward::Masq | Forward::FullNat => (server.own, end(server.address, server.port)),
            _ => (server.vip, end(server.vip_address()?, server.port)),
        };
        let address = server.address;
        match asked {
            Answer::Refused => Some(Found::failure(
                format!("real server {address} refuses connections to {at}"),
                "start the server there",
            )),
            Answer::Echo { port: true } => Some(Found::failure(
                format!("real server {address} answers pings, and connections to {at} it does not"),
                format!("on {address}, and on the way: nft list ruleset (a firewall drops requests or answers)"),
            )),
            Answer::Silent if matches!(server.forward, Forward::Masq | Forward::FullNat) => Some(Found::failure(
                format!("real server {address} answers neither pings nor connections to {at}"),
                format!("on {address}, and on the way: ip addr, nft list ruleset"),
            )),
            _ => None,
        }
    })
}

pub fn return_path(facts: &Facts) -> Vec<Found> {
    by_address(facts, |server| {
        if server.forward != Forward::Masq || server.weight == 0 {
            return None;
        }
        let (address, (asked, answered)) = (server.address, server.packets);
        let mend = match (&server.way, server.source) {
            (Way::Route { gateway: None, .. }, Some(own)) => format!("on {address}: ip route replace default via {own}"),
            _ => format!("on {address}, and on the way: have the default route lead to the director"),
        };
        let (waiting, all) = server.waiting;
        let counted = format!("{asked} packets of clients were sent to it, and {answered} of its own came back");
        let connections = format!("{waiting} of its {all} connections wait for its first answer");
        // Long ago they may have come back.
        let all_wait = waiting != 0 && waiting == all;
        match server.back {
            Answer::Silent if asked != 0 && (answered == 0 || all_wait) => Some(Found::failure(
                format!("answers of real server {address} to clients do not come back through the director: {counted}; {connections}"),
                mend,
            )),
            Answer::Silent if server.own.came() => Some(Found::warning(
                format!("real server {address} answers the director, and what it answers an address elsewhere does not come back here"),
                mend,
            )),
            _ if answered == 0 && asked >= MANY && waiting != 0 && !matches!(server.own, Answer::Refused | Answer::Silent) => {
                Some(Found::failure(format!("real server {address} is silent to clients: {counted}; {connections}"), mend))
            }
            _ => None,
        }
    })
    .into_iter()
    .chain(unasked(facts))
    .collect()
}

/// Services by mark, of which no address is known to ask for.
fn unasked(facts: &Facts) -> impl Iterator<Item = Found> {
    let silent = facts
        .servers
        .iter()
        .filter(|server| server.vip_address().is_none() && matches!(server.forward, Forward::Route | Forward::Tunnel));
    let mut names: Vec<String> = silent.map(|server| label(&server.service)).collect();
    names.dedup();
    names.into_iter().map(|name| {
        Found::unknown(format!(
            "{name} has no virtual address of its own: whether its real servers take packets was not asked"
        ))
    })
}

#[cfg(test)]
mod tests {
    use lvs_common::abi::tunnel::TunnelKind;
    use lvs_director::rules::Tunnel;

    use super::super::super::facts::Server;
    use super::super::super::facts::tests::{server, with};
    use super::super::super::finding::Level;
    use super::*;

    fn level(found: &[Found]) -> Option<Level> {
        found.first().map(|found| found.level)
    }

    const ECHO: Answer = Answer::Echo { port: true };

    #[test]
    fn direct_routing_needs_the_virtual_address_on_the_server() {
        let of = |vip_answer, own, mac: Option<Vec<[u8; 6]>>| {
            level(&vip(&with(Server { forward: Forward::Route, vip: vip_answer, own, answered: mac, ..server() })))
        };
        assert_eq!(of(Answer::Open, ECHO, None), None);
        assert_eq!(of(Answer::Silent, ECHO, None), Some(Level::Failure));
        assert_eq!(of(Answer::Silent, Answer::Silent, Some(vec![[2; 6]])), Some(Level::Unknown));
        assert_eq!(of(Answer::Silent, Answer::Silent, Some(vec![])), None, "the check `neighbours' tells of it");
        assert_eq!(of(Answer::Unasked, Answer::Unasked, None), None);
    }

    #[test]
    fn tunnels_are_opened_for_the_virtual_address() {
        let tunnel = Tunnel { kind: TunnelKind::GUE, port: 6080, flags: 0 };
        let of = |through, bare, own| {
            decapsulation(&with(Server { forward: Forward::Tunnel, tunnel, vip: through, bare, own, ..server() }))
        };
        assert_eq!(of(Answer::Open, Answer::Silent, ECHO), []);
        let mend = "on 192.168.122.101: lvsadm real-server --tun --vip 10.10.10.10 --tun-type gue --tun-port 6080";
        let closed = &of(Answer::Silent, ECHO, ECHO)[0];
        assert_eq!((closed.level, closed.mend.as_deref()), (Level::Failure, Some(mend)));
        assert!(closed.what.contains("does not open gue tunnels"));
        assert_eq!(level(&of(Answer::Silent, Answer::Silent, ECHO)), Some(Level::Failure));
        assert_eq!(level(&of(Answer::Silent, Answer::Silent, Answer::Silent)), Some(Level::Unknown));
    }

    #[test]
    fn packets_of_full_size_must_arrive() {
        let way = || Way::Route { device: "eth1".into(), gateway: None, mtu: 1500 };
        let of = |largest| path_mtu(&with(Server { forward: Forward::Tunnel, way: way(), largest, ..server() }));
        assert_eq!((of(None), of(Some(1500))), (vec![], vec![]));
        let found = &of(Some(1400))[0];
        assert_eq!(found.level, Level::Failure);
        assert!(found.what.ends_with("with 1380 inside"), "{}", found.what);
        let mend =
            "raise the MTU on the way, or, on the director: ip route replace 192.168.122.101 dev eth1 mtu lock 1400";
        assert_eq!(found.mend.as_deref(), Some(mend));
    }

    #[test]
    fn a_port_that_refuses_or_keeps_silent_is_a_failure() {
        let nat = |own| level(&answers(&with(Server { own, ..server() })));
        assert_eq!(nat(Answer::Open), None);
        for bad in [Answer::Refused, ECHO, Answer::Silent] {
            assert_eq!(nat(bad), Some(Level::Failure));
            assert_eq!(answers(&with(Server { own: bad, weight: 0, ..server() })), []);
        }
        let route = |vip| level(&answers(&with(Server { forward: Forward::Route, vip, ..server() })));
        assert_eq!((route(ECHO), route(Answer::Silent)), (Some(Level::Failure), None));
    }

    #[test]
    fn answers_of_nat_must_come_back() {
        let waiting = (2, 2);
        let of = |back, packets, own| level(&return_path(&with(Server { back, packets, own, waiting, ..server() })));
        assert_eq!(of(Answer::Open, (0, 0), Answer::Open), None);
        assert_eq!(of(Answer::Silent, (0, 0), Answer::Open), Some(Level::Warning));
        assert_eq!(of(Answer::Silent, (5, 0), Answer::Open), Some(Level::Failure));
        assert_eq!(of(Answer::Silent, (5, 4), Answer::Open), Some(Level::Failure), "they came back once");
        let mixed = |waiting| {
            level(&return_path(&with(Server {
                back: Answer::Silent,
                packets: (5, 4),
                own: Answer::Open,
                waiting,
                ..server()
            })))
        };
        assert_eq!((mixed((1, 2)), mixed((0, 0))), (Some(Level::Warning), Some(Level::Warning)), "some clients' do");
        let mended = Server { back: Answer::Open, packets: (5, 0), own: Answer::Open, waiting: (0, 0), ..server() };
        assert_eq!(return_path(&with(mended)), [], "no connection of before is left");
        assert_eq!(of(Answer::Unasked, (5, 0), Answer::Open), Some(Level::Failure));
        assert_eq!(of(Answer::Unasked, (5, 0), Answer::Refused), None, "the check `answers' tells of it");
        assert_eq!(of(Answer::Unasked, (1, 0), Answer::Open), None);
    }
}
