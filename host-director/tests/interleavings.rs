//! What two CPUs do at the same time, in many orders: `shuttle` lets the other CPU go on before each look-up in a map and before each
//! atomic operation of the data plane.
//!
//! Memory is sequentially consistent here, and loads and stores between two such points are not taken apart: see "Interleavings" in
//! docs/develop/testing.md. `LVS_INTERLEAVINGS=n` explores n orders of each scenario at random.

use std::cell::{Cell, RefCell};

use aya_ebpf::network::{Device, Route, Way};
use aya_ebpf::skb::Incoming;
use host_director::director::packet::Cpu;
use host_director::director::rules::{Destination, Ip, Service};
use host_director::director::{Director, set_buckets};
use lvs_common::abi::{Connection, DestId, EntryKind, Forward, Scheduler, ServiceId};
use shuttle::scheduler::{DfsScheduler, RandomScheduler};

const CLIENT: Ip = Ip::v4([10, 1, 0, 100]);
const VIP: Ip = Ip::v4([192, 0, 2, 10]);
const DEVICE: u32 = 2;
const MAC: [u8; 6] = [2, 0, 0, 0, 1, 1];
const FIN: u8 = 1;
const SYN: u8 = 2;
const RST: u8 = 4;
const ACK: u8 = 16;

/// A director with a service over TCP and its destinations.
struct World {
    director: Director,
    scheduler: Scheduler,
    service: ServiceId,
    dests: Vec<(DestId, Destination)>,
}

/// What a CPU does.
type Work = fn(&World, &mut Cpu);

thread_local! {
    /// The world that is explored.
    static WORLD: RefCell<Option<World>> = const { RefCell::new(None) };
    /// Orders that were explored.
    static ORDERS: Cell<usize> = const { Cell::new(0) };
}

impl World {
    fn new(forward: Forward, scheduler: Scheduler, servers: u8) -> Self {
        // One bucket: whatever can collide does.
        set_buckets(1);
        let director = Director::new(&[Device { index: DEVICE, mtu: 1500, mac: MAC }]);
        let route = |prefix: [u8; 4], length, way| Route { family: 2, prefix: Ip::v4(prefix).padded(), length, way };
        let out = Way::Out { device: DEVICE, gateway: None, mtu: 0, source: Ip::v4([10, 1, 0, 1]).padded() };
        let local = route([192, 0, 2, 10], 32, Way::Local);
        director.kernel.network.borrow_mut().routes = vec![route([10, 0, 0, 0], 8, out), local];
        let dests = (0..servers).map(|n| server(forward, 11 + n)).collect();
        let mut world = World { director, scheduler, service: ServiceId::NONE, dests };
        world.begin();
        world
    }

    /// Makes it new: without connections, a second after its start.
    fn begin(&mut self) {
        self.director.restart();
        self.service = self.director.add_service(&Service::new(6, VIP, 80, self.scheduler)).unwrap();
        for (id, dest) in &mut self.dests {
            *id = self.director.add_dest(self.service, dest).unwrap();
        }
        self.director.set_locals(&[Ip::v4([10, 1, 0, 200])]);
        self.director.commit();
    }

    /// The connections.
    fn connections(&self) -> Vec<Connection<u32>> {
        let of_kind = |(_, c): (u32, Connection<u32>)| (c.kind == EntryKind::CONNECTION).then_some(c);
        self.director.entries::<u32>().into_iter().filter_map(of_kind).collect()
    }
}

fn server(forward: Forward, host: u8) -> (DestId, Destination) {
    (DestId::NONE, Destination::new(Ip::v4([10, 2, 0, host]), 80, forward))
}

/// Has a client's segment come in from a port.
fn segment(world: &World, cpu: &mut Cpu, port: u16, flags: u8) {
    receive(world, cpu, &packet((CLIENT, port), (VIP, 80), flags));
}

/// Has the real servers' answers to a port come in.
fn answers(world: &World, cpu: &mut Cpu, port: u16, flags: u8) {
    for (_, dest) in &world.dests {
        receive(world, cpu, &packet((dest.address, 80), (CLIENT, port), flags));
    }
}

fn receive(world: &World, cpu: &mut Cpu, frame: &[u8]) {
    let incoming = Incoming { linear: usize::MAX, device: DEVICE, place: DEVICE, ..Incoming::default() };
    cpu.receive(&world.director.kernel, frame, &incoming);
}

/// A TCP segment. Its checksums are nobody's concern here.
fn packet(from: (Ip, u16), to: (Ip, u16), flags: u8) -> Vec<u8> {
    let mut frame = [MAC.as_slice(), &[2, 0, 0, 0, 9, 9, 8, 0, 0x45, 0, 0, 40, 0, 0, 0x40, 0, 64, 6, 0, 0]].concat();
    frame.extend(from.0.octets());
    frame.extend(to.0.octets());
    frame.extend(from.1.to_be_bytes());
    frame.extend(to.1.to_be_bytes());
    frame.extend([0, 0, 1, 0, 0, 0, 2, 0, 0x50, flags, 0x20, 0, 0, 0, 0, 0]);
    frame
}

/// Has other CPUs go on, if shuttle says so.
fn point() {
    shuttle::thread::yield_now();
}

/// Explores what CPUs do to a director of two servers whose connections `prepare` has made; `check` looks at it when all are done.
fn explore<const N: usize>(forward: Forward, prepare: Work, works: [Work; N], check: fn(&World)) {
    explore_in(World::new(forward, Scheduler::Rr, 2), prepare, works, check);
}

/// The same with a director of another kind.
fn explore_in<const N: usize>(world: World, prepare: Work, works: [Work; N], check: fn(&World)) {
    const QUICK: usize = 200;
    let orders = std::env::var("LVS_INTERLEAVINGS").ok().and_then(|number| number.parse().ok());
    WORLD.set(Some(world));
    ORDERS.set(0);
    let run = move || {
        ORDERS.set(ORDERS.get() + 1);
        WORLD.with_borrow_mut(|world| {
            let world = world.as_mut().unwrap();
            world.director.kernel.before_access.set(None);
            world.begin();
            prepare(world, &mut Cpu::default());
        });
        WORLD.with_borrow(|world| {
            let kernel = &world.as_ref().unwrap().director.kernel;
            kernel.before_access.set(Some(point));
            kernel.enter(|| {
                let start = |(number, work): (usize, Work)| {
                    shuttle::thread::spawn(move || {
                        WORLD.with_borrow(|world| {
                            let world = world.as_ref().unwrap();
                            world.director.kernel.cpu.set(number as u32);
                            work(world, &mut Cpu::default());
                        });
                    })
                };
                let threads: Vec<_> = works.into_iter().enumerate().map(start).collect();
                threads.into_iter().for_each(|thread| thread.join().unwrap());
            });
            kernel.before_access.set(None);
            kernel.cpu.set(0);
        });
        WORLD.with_borrow(|world| {
            let world = world.as_ref().unwrap();
            let found = world.director.contradictions();
            assert!(found.is_empty(), "{}", found.join("\n"));
            check(world);
        });
    };
    let mut config = shuttle::Config::new();
    config.stack_size = 1 << 20;
    match orders {
        Some(orders) => drop(shuttle::Runner::new(RandomScheduler::new(orders), config).run(run)),
        None => {
            // The first orders in which they differ least, and some at random.
            shuttle::Runner::new(DfsScheduler::new(Some(QUICK), false), config.clone()).run(run);
            shuttle::Runner::new(RandomScheduler::new_from_seed(1, QUICK), config).run(run);
        }
    }
    println!("{} orders", ORDERS.get());
}

/// Nothing.
fn nothing(_: &World, _: &mut Cpu) {}

#[test]
fn two_packets_of_one_new_connection_make_one() {
    let open: Work = |world, cpu| segment(world, cpu, 1000, SYN);
    explore(Forward::Masq, nothing, [open, open], |world| {
        assert_eq!(world.connections().len(), 1);
    });
}

#[test]
fn connections_of_fullnat_have_ports_of_their_own() {
    let one: Work = |world, cpu| segment(world, cpu, 1000, SYN);
    let other: Work = |world, cpu| segment(world, cpu, 1001, SYN);
    explore(Forward::FullNat, nothing, [one, other], |world| {
        let ports: Vec<_> = world.connections().iter().map(|c| (c.real, c.local_port)).collect();
        assert!(ports.len() < 2 || ports[0] != ports[1], "{ports:?}");
    });
}

#[test]
fn two_packets_of_one_new_fullnat_connection_leave_no_alias_alone() {
    let open: Work = |world, cpu| segment(world, cpu, 1000, SYN);
    explore(Forward::FullNat, nothing, [open, open], |world| assert!(world.connections().len() <= 1));
}

#[test]
fn a_reply_meets_the_expiry_of_its_connection() {
    let establish: Work = |world, cpu| {
        segment(world, cpu, 1000, SYN);
        answers(world, cpu, 1000, SYN | ACK);
        segment(world, cpu, 1000, RST);
        // Until the last slice before its end.
        world.director.pass(9_900);
    };
    explore(
        Forward::Masq,
        establish,
        [|world, _| world.director.pass(2_000), |world, cpu| answers(world, cpu, 1000, ACK)],
        |_| {},
    );
}

#[test]
fn the_sweep_misses_no_connection_that_is_put_in_meanwhile() {
    let closed: Work = |world, cpu| {
        segment(world, cpu, 1000, SYN);
        segment(world, cpu, 1000, RST);
        world.director.pass(9_900);
    };
    explore(
        Forward::Masq,
        closed,
        [|world, _| world.director.pass(1_000), |world, cpu| segment(world, cpu, 1001, SYN)],
        // `contradictions` compares each entry's end with its bucket's.
        |world| assert!(world.connections().iter().any(|c| c.client_port.get() == 1001)),
    );
}

#[test]
fn an_edit_meets_a_pick() {
    let remove: Work = |world, _| {
        let (id, _) = world.dests[0];
        world.director.remove_dest(world.service, id);
        world.director.commit();
    };
    let open: Work = |world, cpu| {
        segment(world, cpu, 1000, SYN);
        segment(world, cpu, 1001, SYN);
    };
    explore(Forward::Masq, nothing, [remove, open], |world| {
        assert!(world.connections().iter().all(|c| world.dests.iter().any(|(id, _)| *id == c.dest)));
    });
}

/// Schedulers read the list of many servers as a roster. Whichever servers have a weight at this moment, somebody has one: no pick finds nobody.
#[test]
fn a_pick_meets_rosters_that_are_written_anew() {
    /// Has every other server no weight, from the first or the second on.
    fn quiesce(world: &World, first: usize) {
        for (at, (id, dest)) in world.dests.iter().enumerate() {
            let weight = u32::from(at % 2 == first);
            world.director.edit_dest(world.service, *id, &Destination { weight, ..*dest });
        }
        world.director.commit();
    }
    let open: Work = |world, cpu| {
        segment(world, cpu, 1000, SYN);
        segment(world, cpu, 1001, SYN);
    };
    explore_in(
        World::new(Forward::Masq, Scheduler::Wlc, 6),
        |world, _| quiesce(world, 0),
        [|world, _| quiesce(world, 1), open],
        |world| {
            let connections = world.connections();
            assert_eq!(connections.len(), 2);
            assert!(connections.iter().all(|c| world.dests.iter().any(|(id, _)| *id == c.dest)));
        },
    );
}

#[test]
fn an_eviction_meets_a_packet_of_what_gives_way() {
    let fill: Work = |world, cpu| {
        for port in 1000..1016 {
            segment(world, cpu, port, SYN);
            answers(world, cpu, port, SYN | ACK);
            segment(world, cpu, port, ACK);
        }
        segment(world, cpu, 1007, FIN | ACK);
        answers(world, cpu, 1007, FIN | ACK);
    };
    explore(
        Forward::Masq,
        fill,
        [|world, cpu| segment(world, cpu, 2000, SYN), |world, cpu| segment(world, cpu, 1007, ACK)],
        |world| assert!(world.connections().len() <= 16),
    );
}

#[test]
fn two_new_connections_want_the_same_room() {
    let fill: Work = |world, cpu| {
        for port in 1000..1016 {
            segment(world, cpu, port, SYN);
        }
    };
    let open: Work = |world, cpu| segment(world, cpu, 2000, SYN);
    explore(Forward::Masq, fill, [open, |world, cpu| segment(world, cpu, 2001, SYN)], |world| {
        assert!(world.connections().len() <= 16);
    });
}
