//! Ports of FullNAT's local addresses: exactly as many connections as there are ports, each with one of its own, and all of
//! them given back.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::ops::Range;
use std::thread;

use anyhow::{Result, bail, ensure};
use nix::sched::{CpuSet, sched_setaffinity};
use nix::unistd::Pid;
use serde_json::Value;
use tests::eventually;
use tests::fixtures::frame::{self, TCP, UDP};
use tests::fixtures::{CLIENT_MAC, Programs, SERVER, Testbed, tc_verdict, vip, xdp_verdict};

/// Client `number`, behind the clients' router.
fn client(number: u32, v6: bool) -> SocketAddr {
    let [_, _, high, low] = number.to_be_bytes();
    let address: IpAddr = match v6 {
        false => Ipv4Addr::new(10, 20, high, low).into(),
        true => Ipv6Addr::new(0x2001, 0xdb8, 0xd, 0, 0, 0, 0, number as u16).into(),
    };
    SocketAddr::new(address, 20_000 + (number >> 16) as u16)
}

/// How a frame goes into the director.
#[derive(Clone, Copy, Debug)]
enum Tier {
    Xdp,
    Tc,
}

/// A service's protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Protocol {
    Tcp,
    Udp,
}

/// A director with room for so many entries of its table.
struct Director(Testbed);

impl Director {
    fn new(room: u32) -> Result<Self> {
        let testbed = Testbed::new()?;
        testbed.director.lvsadm(&format!("attach --mode native --conns {room}"))?;
        Ok(Director(testbed))
    }

    /// Adds a service on a port of the virtual address, with these local addresses, whose real servers are these ports of the one
    /// there is.
    fn serve(&self, protocol: Protocol, port: u16, locals: &[&str], real_ports: &[u16]) -> Result<SocketAddr> {
        let v6 = locals[0].contains(':');
        let service = SocketAddr::new(vip(v6), port);
        let name = name(protocol, service);
        let mut rules = vec![format!("-A {name} -s rr")];
        rules.extend(locals.iter().map(|local| format!("--add-laddr {name} -z {local}")));
        rules.extend(real_ports.iter().map(|port| format!("-a {name} -r {} --fullnat", server(*port, v6))));
        rules.iter().try_for_each(|rule| self.0.director.lvsadm(rule).map(drop))?;
        Ok(service)
    }

    /// Sends the first packet of each of these clients: which of them were let in. The others' are dropped.
    fn open(&self, tier: Tier, protocol: Protocol, to: SocketAddr, clients: Range<u32>) -> Result<Vec<u32>> {
        let front = self.0.front;
        self.0.with_programs(|programs| {
            let mut opened = Vec::new();
            for number in clients {
                let from = client(number, to.is_ipv6());
                let (number_of, segment) = match protocol {
                    Protocol::Tcp => (TCP, frame::tcp(from, to, true, b"")),
                    Protocol::Udp => (UDP, frame::udp(from, to, b"x")),
                };
                let packet = frame::ip(from.ip(), to.ip(), 0, 64, number_of, &segment);
                if is_forwarded(programs, tier, front, &frame::ethernet(front.mac, CLIENT_MAC, &packet))? {
                    opened.push(number);
                }
            }
            Ok(opened)
        })
    }

    /// The local ends of all connections to a real server.
    fn ends(&self, real: SocketAddr) -> Result<Vec<SocketAddr>> {
        let end = |value: &Value| {
            let address = value["address"].as_str().unwrap_or_default().parse()?;
            Ok(SocketAddr::new(address, value["port"].as_u64().unwrap_or_default().try_into()?))
        };
        let connections = self.0.director.connections()?;
        let real = serde_json::json!({ "address": real.ip(), "port": real.port() });
        connections.iter().filter(|c| c["destination"] == real).map(|c| end(&c["local"])).collect()
    }

    /// Connections and conflicts of each address of a service's pool, as `--get-laddr` tells.
    fn pool(&self, name: &str) -> BTreeMap<String, (u64, u64)> {
        let pools = self.0.director.json(&format!("--get-laddr {name} --json")).unwrap();
        let locals = pools[0]["addresses"].as_array().unwrap_or_else(|| panic!("no pool in {pools}"));
        let entry = |local: &Value| {
            let number = |field: &str| local[field].as_u64().unwrap_or_else(|| panic!("no {field} in {local}"));
            (local["address"].as_str().unwrap().to_owned(), (number("connections"), number("conflicts")))
        };
        locals.iter().map(entry).collect()
    }

    fn lvsadm(&self, arguments: &str) {
        self.0.director.lvsadm(arguments).unwrap();
    }

    /// How many packets were dropped for want of a port.
    fn portless(&self) -> u64 {
        self.0.director.exit("drop-no-port").unwrap()
    }

    /// All connections of a service's only real server end.
    fn end(&self, name: &str, real: SocketAddr) {
        self.lvsadm(&format!("drain {name} -r {real} --timeout 0 --reset"));
        self.lvsadm(&format!("-e {name} -r {real} --fullnat -w 1"));
    }
}

/// Port `port` of the only real server there is.
fn server(port: u16, v6: bool) -> SocketAddr {
    SocketAddr::new(SERVER.of(v6), port)
}

/// A service as `lvsadm` has it.
fn name(protocol: Protocol, service: SocketAddr) -> String {
    format!("{} {service}", if protocol == Protocol::Tcp { "-t" } else { "-u" })
}

fn is_forwarded(programs: &Programs, tier: Tier, port: tests::fixtures::Port, frame: &[u8]) -> Result<bool> {
    let verdict = match tier {
        Tier::Xdp => programs.run_xdp(port, frame)?.verdict,
        Tier::Tc => programs.run_tc(port, frame)?.verdict,
    };
    match (tier, verdict) {
        (Tier::Xdp, xdp_verdict::REDIRECT) | (Tier::Tc, tc_verdict::REDIRECT) => Ok(true),
        (Tier::Xdp, xdp_verdict::DROP) | (Tier::Tc, tc_verdict::SHOT) => Ok(false),
        other => bail!("another verdict: {other:?}"),
    }
}

/// Every connection has a local end of its own, one of these addresses and ports: how many each address has.
fn distinct(ends: &[SocketAddr], ports: Range<u32>) -> Result<BTreeMap<IpAddr, usize>> {
    let all: BTreeSet<_> = ends.iter().collect();
    ensure!(all.len() == ends.len(), "{} connections share a local end", ends.len() - all.len());
    let mut counts = BTreeMap::new();
    for end in ends {
        ensure!(ports.contains(&end.port().into()), "port {} was not to be given out", end.port());
        *counts.entry(end.ip()).or_default() += 1;
    }
    Ok(counts)
}

/// The whole of one address's ports, toward one port of one real server.
#[test]
fn one_address_has_64512_ports() {
    const LOCAL: &str = "198.51.100.7";
    const PORTS: u32 = 64_512;
    let director = Director::new(160_000).unwrap();
    let web = director.serve(Protocol::Tcp, 80, &[LOCAL], &[80]).unwrap();
    let name = name(Protocol::Tcp, web);
    let before = director.open(Tier::Tc, Protocol::Tcp, web, 0..PORTS / 2).unwrap();
    let then = director.open(Tier::Xdp, Protocol::Tcp, web, PORTS / 2..PORTS + 100).unwrap();
    assert_eq!(before.into_iter().chain(then).collect::<Vec<_>>(), (0..PORTS).collect::<Vec<_>>());
    let ends = director.ends(server(80, false)).unwrap();
    let counts = distinct(&ends, 1024..65536).unwrap();
    assert_eq!(counts, BTreeMap::from([(LOCAL.parse().unwrap(), PORTS as usize)]));
    assert_eq!(director.portless(), 100);
    assert_eq!(director.pool(&name)[LOCAL], (PORTS.into(), 100));
    director.end(&name, server(80, false));
    assert_eq!(director.pool(&name)[LOCAL], (0, 100));
    let again = director.open(Tier::Tc, Protocol::Tcp, web, 0..1000).unwrap();
    assert_eq!(again.len(), 1000);
    assert_eq!(
        distinct(&director.ends(server(80, false)).unwrap(), 1024..65536).unwrap().values().sum::<usize>(),
        1000
    );
}

/// A pool counts for each port of each real server, twice as many addresses have twice as many ports and take turns, and what has
/// expired is given out again.
#[test]
fn a_pool_is_exact() {
    const RANGE: Range<u32> = 4000..4500;
    let director = Director::new(20_000).unwrap();
    director.lvsadm(&format!("sysctl lport_min={} lport_max={}", RANGE.start, RANGE.end - 1));
    let size = RANGE.len() as u32;
    for (v6, locals) in [(false, ["198.51.100.7", "198.51.100.8"]), (true, ["2001:db8:f::7", "2001:db8:f::8"])] {
        let before = director.portless();
        let one = director.serve(Protocol::Udp, 53, &locals[..1], &[53]).unwrap();
        let two_ports = director.serve(Protocol::Udp, 54, &locals[..1], &[1054, 2054]).unwrap();
        let two_locals = director.serve(Protocol::Udp, 55, &locals, &[55]).unwrap();
        director.lvsadm("--set 0 0 3600");
        for (service, most) in [(one, size), (two_ports, 2 * size), (two_locals, 2 * size)] {
            let mut opened = director.open(Tier::Tc, Protocol::Udp, service, 0..most / 2).unwrap();
            opened.extend(director.open(Tier::Xdp, Protocol::Udp, service, most / 2..most + 10).unwrap());
            assert_eq!(opened, (0..most).collect::<Vec<_>>(), "{service}");
        }
        let counts = |port| distinct(&director.ends(server(port, v6)).unwrap(), RANGE).unwrap();
        let [first, second]: [IpAddr; 2] = locals.map(|local| local.parse().unwrap());
        for port in [53, 1054, 2054] {
            assert_eq!(counts(port), BTreeMap::from([(first, RANGE.len())]), "port {port}");
        }
        assert_eq!(counts(55), BTreeMap::from([(first, RANGE.len()), (second, RANGE.len())]));
        assert_eq!(director.portless() - before, 30);
        // The first address is in all three pools, and one address.
        let pool = || director.pool(&name(Protocol::Udp, two_locals));
        assert_eq!(pool()[locals[0]], (u64::from(4 * size), 30));
        assert_eq!(pool()[locals[1]], (u64::from(size), 10));
        // A packet gives a connection the time that is set now, and then it is over.
        director.lvsadm("--set 0 0 1");
        for service in [one, two_ports, two_locals] {
            director.open(Tier::Tc, Protocol::Udp, service, 0..2 * size).unwrap();
        }
        eventually("all have expired", || pool().values().all(|(connections, _)| *connections == 0));
        director.lvsadm("--set 0 0 3600");
        let again = director.open(Tier::Tc, Protocol::Udp, two_locals, 5000..5000 + size).unwrap();
        assert_eq!(again.len(), RANGE.len());
        // In turn.
        assert_eq!(counts(55), BTreeMap::from([(first, RANGE.len() / 2), (second, RANGE.len() / 2)]));
    }
}

/// Both CPUs at once take from one pool until it is empty.
#[test]
fn two_cpus_never_take_the_same_port() {
    const RANGE: Range<u32> = 8000..13_000;
    const EACH: u32 = 3000;
    const LOCAL: &str = "198.51.100.7";
    let director = Director::new(40_000).unwrap();
    director.lvsadm(&format!("sysctl lport_min={} lport_max={}", RANGE.start, RANGE.end - 1));
    let web = director.serve(Protocol::Tcp, 80, &[LOCAL], &[80]).unwrap();
    let name = name(Protocol::Tcp, web);
    let cpus = thread::available_parallelism().unwrap().get().min(4) as u32;
    let all_at_once = |first: u32| -> usize {
        thread::scope(|scope| {
            let open = |cpu: u32| {
                let begin = first + cpu * EACH;
                // Threads that this one makes inherit the CPU.
                let mut set = CpuSet::new();
                set.set(cpu as usize).unwrap();
                sched_setaffinity(Pid::from_raw(0), &set).unwrap();
                director.open(Tier::Tc, Protocol::Tcp, web, begin..begin + EACH).unwrap().len()
            };
            let threads: Vec<_> = (0..cpus).map(|cpu| scope.spawn(move || open(cpu))).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).sum()
        })
    };
    let opened = all_at_once(0);
    if cpus == 2 {
        // A few at the very end may have lost the last free port of a word to the other CPU; the next finds what is left.
        assert!((RANGE.len() - 64..=RANGE.len()).contains(&opened), "{opened} were opened");
    }
    let rest = director.open(Tier::Tc, Protocol::Tcp, web, 40_000..40_100).unwrap().len();
    assert_eq!(opened + rest, RANGE.len());
    let counts = distinct(&director.ends(server(80, false)).unwrap(), RANGE).unwrap();
    assert_eq!(counts.values().sum::<usize>(), RANGE.len());
    assert_eq!(director.pool(&name)[LOCAL].0, RANGE.len() as u64);
    director.end(&name, server(80, false));
    assert_eq!(director.pool(&name)[LOCAL].0, 0);
    let again = director.open(Tier::Tc, Protocol::Tcp, web, 0..6000).unwrap();
    assert_eq!(again.len(), RANGE.len());
}
