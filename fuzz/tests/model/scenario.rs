//! Scenarios at random.

use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use proptest::sample::select;

use fuzz::model::rules::{Method, Name, Protocol};

/// A service to be.
#[derive(Clone, Debug)]
pub struct Service {
    /// Its protocol; none is a service by mark.
    pub protocol: Option<Protocol>,
    /// Its family.
    pub is_v4: bool,
    /// Its port, of a service by mark none.
    pub port: u16,
    /// Its scheduler.
    pub scheduler: Name,
    /// Persistence timeout in seconds, and whether all bits of a client's address count.
    pub persistence: Option<(u64, bool)>,
    /// One-packet scheduling.
    pub is_one_packet: bool,
    /// Its destinations, from the first real server on.
    pub dests: Vec<Dest>,
}

/// A destination to be.
#[derive(Clone, Debug)]
pub struct Dest {
    /// How packets reach it.
    pub method: Method,
    /// Whether its port is another one than the service's.
    pub has_own_port: bool,
    /// Of a tunnel: whether the real server's family is the other one.
    pub is_crossed: bool,
    /// Weight.
    pub weight: u32,
    /// Thresholds.
    pub thresholds: (u32, u32),
}

/// A step. Numbers are taken modulo what there is.
#[derive(Clone, Debug)]
pub enum Step {
    /// A client's packet: service, client, its port, port of the service, kind of packet, bytes of payload.
    Request(usize, usize, u16, usize, usize, usize),
    /// A reply by one of the NAT connections, of this kind and so many bytes of payload.
    Reply(usize, usize, usize),
    /// Seconds.
    Pass(u64),
    /// A destination's weight and thresholds.
    Edit(usize, u32, (u32, u32)),
    /// A destination is removed, or comes back.
    Toggle(usize),
    /// A setting, and its value.
    Set(usize, u32),
}

/// Rules and what happens.
#[derive(Clone, Debug)]
pub struct Scenario {
    /// The services.
    pub rules: Vec<Service>,
    /// The steps.
    pub steps: Vec<Step>,
}

const SCHEDULERS: [Name; 14] = [
    Name::Rr,
    Name::Wrr,
    Name::Lc,
    Name::Wlc,
    Name::Sed,
    Name::Nq,
    Name::Fo,
    Name::Ovf,
    Name::Dh,
    Name::Sh,
    Name::Mh,
    Name::Lblc,
    Name::Lblcr,
    Name::Twos,
];

fn thresholds() -> impl Strategy<Value = (u32, u32)> {
    select(vec![(0, 0), (0, 0), (0, 0), (2, 0), (3, 1), (5, 4)])
}

fn weight() -> impl Strategy<Value = u32> {
    select(vec![1, 1, 2, 3, 10, 0])
}

fn dest() -> impl Strategy<Value = Dest> {
    let method = select(vec![Method::Masq, Method::Route, Method::Tunnel]);
    (method, any::<bool>(), any::<bool>(), weight(), thresholds()).prop_map(
        |(method, has_own_port, is_crossed, weight, thresholds)| Dest {
            method,
            has_own_port,
            is_crossed,
            weight,
            thresholds,
        },
    )
}

fn service() -> impl Strategy<Value = Service> {
    let protocol = select(vec![Some(Protocol::Tcp), Some(Protocol::Udp), Some(Protocol::Sctp), None]);
    let persistence = option::of((select(vec![37, 97, 333]), any::<bool>()));
    let dests = vec(dest(), 0..4);
    (protocol, any::<bool>(), select(vec![80, 80, 80, 0]), select(&SCHEDULERS[..]), persistence, 0..5, dests).prop_map(
        |(protocol, is_v4, port, scheduler, persistence, one_packet, dests)| Service {
            protocol,
            is_v4,
            port: if protocol.is_none() { 0 } else { port },
            scheduler,
            persistence,
            is_one_packet: one_packet == 0 && matches!(protocol, Some(Protocol::Udp) | None),
            dests,
        },
    )
}

fn step() -> impl Strategy<Value = Step> {
    let request = (0..3usize, 0..4usize, 0..3u16, 0..3usize, 0..16usize, 0..100usize);
    prop_oneof![
        6 => request.prop_map(|(service, client, port, to, kind, length)| Step::Request(service, client, port, to, kind, length)),
        3 => (0..8usize, 0..16usize, 0..100usize).prop_map(|(nth, kind, length)| Step::Reply(nth, kind, length)),
        2 => select(vec![1, 3, 9, 20, 50, 70, 200, 500, 1000]).prop_map(Step::Pass),
        1 => (0..12usize, weight(), thresholds()).prop_map(|(dest, weight, thresholds)| Step::Edit(dest, weight, thresholds)),
        1 => (0..12usize).prop_map(Step::Toggle),
        1 => (0..4usize, 0..4u32).prop_map(|(setting, value)| Step::Set(setting, value)),
    ]
}

/// Scenarios.
pub fn scenarios() -> impl Strategy<Value = Scenario> {
    (vec(service(), 1..4), vec(step(), 1..60)).prop_map(|(rules, steps)| Scenario { rules, steps })
}
