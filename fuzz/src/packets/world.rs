//! The host that packets come to: two devices, clients on the one and real servers on the other, and a few sets of rules.

use aya_ebpf::network::{Device, Route, Way};
use host_director::director::Director;
use host_director::director::rules::{Destination, Ip, Service};
use lvs_common::abi::tunnel::{self, TunnelKind};
use lvs_common::abi::{DestId, Forward, Scheduler, ServiceId, service_flags};
use lvs_common::wire::protocol;

/// The device of clients and its MAC address; as in the recordings of the kernel.
pub const CLIENTS: (u32, [u8; 6]) = (2, [2, 0, 0, 0, 1, 1]);
/// The device of real servers.
pub const SERVERS: (u32, [u8; 6]) = (3, [2, 0, 0, 0, 2, 1]);

/// How many clients there are of each family, and sets of rules.
pub const COUNT: usize = 8;

/// A virtual address of IPv4.
pub const VIP4: Ip = Ip::v4([192, 0, 2, 10]);
/// One of IPv6.
pub const VIP6: Ip = v6(0xf, 0x10);
/// The director's addresses toward the real servers.
const FAR4: Ip = Ip::v4([10, 2, 0, 1]);
const FAR6: Ip = v6(2, 1);
/// A mark that has a service.
pub const MARK: u32 = 7;

/// An address of 2001:db8:NETWORK::HOST.
const fn v6(network: u8, host: u8) -> Ip {
    Ip::v6([0x20, 1, 0xd, 0xb8, 0, network, 0, 0, 0, 0, 0, 0, 0, 0, 0, host])
}

/// A client.
pub fn client(number: usize, is_v4: bool) -> Ip {
    let host = 100 + (number % COUNT) as u8;
    if is_v4 { Ip::v4([10, 1, 0, host]) } else { v6(1, host) }
}

/// A real server.
pub fn server(number: usize, is_v4: bool) -> Ip {
    let host = 11 + (number % 4) as u8;
    if is_v4 { Ip::v4([10, 2, 0, host]) } else { v6(2, host) }
}

/// The devices. Real servers' has the smaller MTU.
pub fn devices() -> [Device; 2] {
    [Device { index: CLIENTS.0, mtu: 1500, mac: CLIENTS.1 }, Device { index: SERVERS.0, mtu: 1400, mac: SERVERS.1 }]
}

/// A route.
fn route(ip: Ip, length: u32, way: Way) -> Route {
    Route { family: ip.family, prefix: ip.padded(), length, way }
}

/// A director on that host, without rules.
pub fn director() -> Director {
    let director = Director::new(&devices());
    let out = |device, gateway: Option<Ip>, source: Ip| Way::Out {
        device,
        gateway: gateway.map(|ip| (ip.family, ip.padded())),
        mtu: 0,
        source: source.padded(),
    };
    let (near4, near6) = (Ip::v4([10, 1, 0, 1]), v6(1, 1));
    let mut network = director.kernel.network.borrow_mut();
    network.routes = vec![
        route(Ip::v4([10, 1, 0, 0]), 24, out(CLIENTS.0, None, near4)),
        route(Ip::v4([10, 2, 0, 0]), 24, out(SERVERS.0, None, FAR4)),
        route(Ip::v4([0; 4]), 0, out(CLIENTS.0, Some(Ip::v4([10, 1, 0, 254])), near4)),
        route(v6(1, 0), 64, out(CLIENTS.0, None, near6)),
        route(v6(2, 0), 64, out(SERVERS.0, None, FAR6)),
        route(Ip::v6([0; 16]), 0, out(CLIENTS.0, Some(v6(1, 0xfe)), near6)),
    ];
    let own4 = [near4, FAR4, VIP4, local(true)].map(|ip| route(ip, 32, Way::Local));
    let own6 = [near6, FAR6, VIP6, local(false)].map(|ip| route(ip, 128, Way::Local));
    network.routes.extend(own4.into_iter().chain(own6));
    // One real server of each family is down.
    network.silent = vec![server(3, true).padded(), server(3, false).padded()];
    drop(network);
    director
}

/// The local address of FullNAT.
fn local(is_v4: bool) -> Ip {
    if is_v4 { Ip::v4([10, 2, 0, 200]) } else { v6(2, 200) }
}

/// A service with its destinations.
#[derive(Clone, Debug)]
pub struct Served {
    /// Its number.
    pub id: ServiceId,
    /// The service.
    pub service: Service,
    /// Number, destination, and whether it is configured now.
    pub dests: Vec<(DestId, Destination, bool)>,
}

/// The sets of rules. Each has services of both families over TCP, UDP and SCTP.
pub fn rules(number: usize) -> Vec<(Service, Vec<Destination>)> {
    let modes = [
        vec![Forward::Masq],
        vec![Forward::Route],
        vec![Forward::Tunnel],
        vec![Forward::FullNat],
        vec![Forward::Masq, Forward::Route, Forward::Tunnel, Forward::FullNat],
        vec![Forward::FullNat],
        vec![Forward::Tunnel],
        vec![Forward::Masq, Forward::Local],
    ];
    let schedulers = [
        Scheduler::Rr,
        Scheduler::Wrr,
        Scheduler::Wlc,
        Scheduler::Sh,
        Scheduler::Mh,
        Scheduler::Lblcr,
        Scheduler::Nq,
        Scheduler::Twos,
    ];
    let (modes, scheduler) = (&modes[number % 8], schedulers[(number / 8 + number) % 8]);
    // FullNAT translates between families.
    let is_crossed = number % 8 == 5;
    let mut all = Vec::new();
    for (is_v4, vip) in [(true, VIP4), (false, VIP6)] {
        for (nth, protocol) in [protocol::TCP, protocol::UDP, protocol::SCTP].into_iter().enumerate() {
            let mut service = Service::new(protocol, vip, 80, scheduler);
            match (number / 8 % 4, protocol) {
                (1, _) => (service.flags, service.timeout) = (service_flags::PERSISTENT, 30),
                (2, protocol::UDP) => service.flags = service_flags::ONE_PACKET,
                (3, protocol::TCP) => service.own.synproxy = 1,
                _ => {}
            }
            let dest = |at: usize| {
                let forward = modes[(at + nth) % modes.len()];
                let port = if matches!(forward, Forward::Masq | Forward::FullNat) && at % 2 == 1 { 8080 } else { 80 };
                let is_server_v4 = if forward == Forward::Tunnel { at.is_multiple_of(2) } else { is_v4 != is_crossed };
                let mut dest = Destination::new(server(at, is_server_v4), port, forward);
                if at % 2 == 1 {
                    dest.source = if is_server_v4 { FAR4.address } else { FAR6.address };
                }
                dest.weight = 1 + at as u32 % 3;
                dest.tunnel = TunnelKind((at % tunnel::TUNNELS.len()) as u8);
                let form = &tunnel::TUNNELS[usize::from(dest.tunnel.0)];
                dest.tunnel_port = if form.has_port() { form.usual_port().max(5000) } else { 0 };
                dest.tunnel_flags = form.flags & if at % 3 == 1 { tunnel::CSUM } else { 0 };
                dest.thresholds = if number % 5 == 4 { (3, 1) } else { (0, 0) };
                dest
            };
            all.push((service, (0..4).map(dest).collect()));
        }
    }
    if number % 3 == 1 {
        let mut service = Service::new(0, VIP4, 0, scheduler);
        service.mark = MARK;
        all.push((service, vec![Destination::new(server(0, true), 0, modes[0])]));
    }
    all
}

/// Gives a director a set of rules.
pub fn configure(director: &mut Director, number: usize) -> Vec<Served> {
    let mut all = Vec::new();
    for (service, dests) in rules(number) {
        let Some(id) = director.add_service(&service) else { break };
        let mut served = Served { id, service, dests: Vec::new() };
        for dest in dests {
            let Some(number) = director.add_dest(id, &dest) else { break };
            served.dests.push((number, dest, true));
        }
        all.push(served);
    }
    director.set_locals(&[local(true), local(false)]);
    director.commit();
    all
}
