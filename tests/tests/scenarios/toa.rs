//! `lvsadm real-server --toa`: real servers in a control group of their own, behind a director made by hand that inserts TOA
//! into the packets a test chooses.

mod reading;

use lvs_common::byte_order::Be16;
use std::io::{BufRead, BufReader, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::path::Path;
use std::time::Duration;

use anyhow::Result;
use lvs_common::abi::Address;
use lvs_common::toa;
use nix::libc;
use nix::sys::socket::SockaddrStorage;
use tests::topology::{
    Addresses, Client, ControlGroup, FromClient, Handling, Namespace, Nginx, Offloads, Relay, Server, Side, connect,
};
use tests::{cannot_run, eventually};

const CLIENT: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 10, 10, 1));
const CLIENT6: IpAddr = IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0xa, 0, 0, 0, 0, 1));
const V4: Addresses = Addresses {
    virt: IpAddr::V4(Ipv4Addr::new(10, 10, 10, 10)),
    local: IpAddr::V4(Ipv4Addr::new(192, 168, 122, 100)),
    real: IpAddr::V4(Ipv4Addr::new(192, 168, 122, 101)),
};
const V6: Addresses = Addresses {
    virt: IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0xa, 0, 0, 0, 0, 0x10)),
    local: IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0xb, 0, 0, 0, 0, 0x100)),
    real: IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0xb, 0, 0, 0, 0, 0x101)),
};
const FRONT: Side = Side { device: "eth0", mac: [2, 0, 0, 0, 0, 10], host: [2, 0, 0, 0, 0, 1] };
const BACK: Side = Side { device: "eth1", mac: [2, 0, 0, 0, 0, 11], host: [2, 0, 0, 0, 0, 2] };

/// What the director of these tests is trusted by.
const TRUST: &str = "--trust 192.168.122.100 2001:db8:b::/64";
/// Ports of `peers`: listeners for IPv4, for both families, and for Multipath TCP.
const PLAIN: u16 = 1004;
const DUAL: u16 = 1006;
const MULTIPATH: u16 = 1008;

/// A client, a director between, and a real server with a control group for its servers.
struct Stage {
    _relay: Relay,
    client: Namespace,
    _director: Namespace,
    host: Namespace,
    group: ControlGroup,
}

impl Stage {
    /// `handle` is what the director does to packets.
    fn new(handle: impl Fn(&FromClient) -> Handling + Send + 'static) -> Result<Self> {
        let (client, director, host) =
            (Namespace::new("client")?, Namespace::new("director")?, Namespace::new("host")?);
        connect((&client, "eth0"), (&director, "eth0"), Offloads::Off)?;
        connect((&director, "eth1"), (&host, "eth0"), Offloads::Off)?;
        director.ip(&["link set eth0 address 02:00:00:00:00:0a", "link set eth1 address 02:00:00:00:00:0b"])?;
        client.ip(&[
            "link set eth0 address 02:00:00:00:00:01",
            "addr add 10.10.10.1/24 dev eth0",
            "addr add 2001:db8:a::1/64 dev eth0 nodad",
            "neigh add 10.10.10.10 lladdr 02:00:00:00:00:0a dev eth0",
            "neigh add 2001:db8:a::10 lladdr 02:00:00:00:00:0a dev eth0",
        ])?;
        host.ip(&[
            "link set eth0 address 02:00:00:00:00:02",
            "addr add 192.168.122.101/24 dev eth0",
            "addr add 2001:db8:b::101/64 dev eth0 nodad",
            "neigh add 192.168.122.100 lladdr 02:00:00:00:00:0b dev eth0",
            "neigh add 2001:db8:b::100 lladdr 02:00:00:00:00:0b dev eth0",
        ])?;
        let relay = Relay::start(&director, (FRONT, BACK), &[V4, V6], handle)?;
        Ok(Stage { _relay: relay, client, _director: director, host, group: ControlGroup::new("servers")? })
    }

    /// The same, with `peers` on the real server and TOA trusted.
    fn with_peers(handle: impl Fn(&FromClient) -> Handling + Send + 'static) -> Result<Self> {
        let stage = Self::new(handle)?;
        stage.toa(TRUST)?;
        stage.start_peers(&["0.0.0.0:1004", "[::]:1006"])?;
        Ok(stage)
    }

    fn start_peers(&self, listeners: &[&str]) -> Result<()> {
        let mut peers = self.group.command(&self.host, env!("CARGO_BIN_EXE_peers"));
        self.host.adopt(peers.args(listeners))?;
        listeners.iter().for_each(|listener| {
            self.wait_for(listener.rsplit_once(':').expect("a port").1.parse().expect("a number"))
        });
        Ok(())
    }

    /// Waits for somebody to listen on a port.
    fn wait_for(&self, port: u16) {
        let listeners = || self.host.run("ss --numeric --listening --tcp");
        eventually("somebody listens", || listeners().is_ok_and(|list| list.contains(&format!(":{port} "))));
    }

    /// `lvsadm real-server --toa` for the servers' control group.
    fn toa(&self, arguments: &str) -> Result<String> {
        self.host.lvsadm(&format!("real-server --toa {arguments} --cgroup {}", self.group.name()))
    }

    /// Found, none, untrusted, unsuited.
    fn counts(&self) -> [u32; 4] {
        let status = self.host.lvsadm("real-server --status").expect("a status");
        let line = status.lines().find_map(|line| line.trim().strip_prefix("connections: ")).expect("counters");
        let counts: Vec<u32> = line.split(", ").filter_map(|part| part.split(' ').next()?.parse().ok()).collect();
        counts.try_into().expect("four counters")
    }

    fn call(&self, addresses: Addresses, port: u16) -> Result<Call> {
        self.call_by(|to| Ok(TcpStream::connect_timeout(&to, Duration::from_secs(20))?), addresses, port)
    }

    fn call_by(
        &self,
        connect: impl FnOnce(SocketAddr) -> Result<TcpStream> + Send,
        addresses: Addresses,
        port: u16,
    ) -> Result<Call> {
        self.client.enter(|| {
            let stream = connect(SocketAddr::new(addresses.virt, port))?;
            stream.set_read_timeout(Some(Duration::from_secs(20)))?;
            let own = stream.local_addr()?;
            Ok(Call { own, director: addresses.local, input: BufReader::new(stream.try_clone()?), output: stream })
        })
    }
}

/// A connection to `peers`.
struct Call {
    own: SocketAddr,
    director: IpAddr,
    input: BufReader<TcpStream>,
    output: TcpStream,
}

/// Whom a server takes a client for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Peer {
    Client,
    Director,
    Other(SocketAddr),
}
use Peer::{Client as TheClient, Director as TheDirector};

impl Call {
    /// What `accept()` said.
    fn accepted(&mut self) -> Result<Peer> {
        let mut line = String::new();
        self.input.read_line(&mut line)?;
        let told: SocketAddr = line.trim().parse()?;
        let told = SocketAddr::new(told.ip().to_canonical(), told.port());
        Ok(match told {
            _ if told == self.own => TheClient,
            _ if told.ip() == self.director => TheDirector,
            _ => Peer::Other(told),
        })
    }

    /// What `getpeername()` says, behind another line of data.
    fn peer(&mut self) -> Result<Peer> {
        self.say()?;
        self.accepted()
    }

    fn say(&mut self) -> Result<()> {
        Ok(self.output.write_all(b"who am I?\n")?)
    }

    /// What `accept()` said, and what `getpeername()` says now.
    fn both(&mut self) -> Result<(Peer, Peer)> {
        Ok((self.accepted()?, self.peer()?))
    }
}

/// The option for a client.
fn option(client: SocketAddr) -> Vec<u8> {
    let port = Be16::new(client.port());
    let words = match client.ip() {
        IpAddr::V4(v4) => toa::option4(Address::v4(v4.octets()).0[0], port).to_vec(),
        IpAddr::V6(v6) => toa::option6(Address::v6(v6.octets()).0, port).to_vec(),
    };
    words.iter().flat_map(|word| word.to_ne_bytes()).collect()
}

/// As directors do: the option is on all packets behind the SYN up to the first data.
fn usual(packet: &FromClient) -> Handling {
    let wanted = packet.number.is_some() && packet.data.is_none_or(|number| number == 0);
    Handling::Forward(if wanted { option(packet.client) } else { Vec::new() })
}

/// The option on the packet that completes the handshake alone.
fn handshake(packet: &FromClient) -> Handling {
    Handling::Forward(if packet.number == Some(0) { option(packet.client) } else { Vec::new() })
}

fn never(_: &FromClient) -> Handling {
    Handling::Forward(Vec::new())
}

#[test]
fn accept_and_getpeername_tell_the_client() {
    for handle in [usual, handshake] {
        let stage = Stage::with_peers(handle).unwrap();
        for (addresses, port) in [(V4, PLAIN), (V4, DUAL), (V6, DUAL)] {
            let told = stage.call(addresses, port).unwrap().both().unwrap();
            assert_eq!(told, (TheClient, TheClient), "{:?} {port}", addresses.virt);
        }
        assert_eq!(stage.counts(), [3, 0, 0, 0]);
    }
}

#[test]
fn a_connection_without_it_keeps_its_peer() {
    let stage = Stage::with_peers(never).unwrap();
    for (addresses, port) in [(V4, PLAIN), (V4, DUAL), (V6, DUAL)] {
        let told = stage.call(addresses, port).unwrap().both().unwrap();
        assert_eq!(told, (TheDirector, TheDirector), "{:?} {port}", addresses.virt);
    }
    assert_eq!(stage.counts(), [0, 3, 0, 0]);
}

#[test]
fn nobody_else_is_believed() {
    let stage = Stage::with_peers(usual).unwrap();
    // The director's neighbours, one on each side, and a prefix of the other family.
    stage.toa("--trust 192.168.122.99 192.168.122.101/32,192.168.122.102/31 2001:db8:c::/48 ::/1").unwrap();
    for (addresses, port) in [(V4, PLAIN), (V4, DUAL)] {
        let told = stage.call(addresses, port).unwrap().both().unwrap();
        assert_eq!(told, (TheDirector, TheDirector), "{:?} {port}", addresses.virt);
    }
    assert_eq!(stage.counts(), [0, 0, 2, 0]);
    stage.toa("--trust 0.0.0.0/0").unwrap();
    let told = stage.call(V6, DUAL).unwrap().both().unwrap();
    assert_eq!(told, (TheDirector, TheDirector));
    assert_eq!(stage.call(V4, DUAL).unwrap().both().unwrap(), (TheClient, TheClient));
    assert_eq!(stage.counts(), [1, 0, 3, 0]);
}

#[test]
fn the_first_data_may_bring_it() {
    let first_data = |packet: &FromClient| match packet.data {
        Some(0) => Handling::Forward(option(packet.client)),
        _ => Handling::Forward(Vec::new()),
    };
    let stage = Stage::with_peers(first_data).unwrap();
    for (addresses, port) in [(V4, PLAIN), (V4, DUAL), (V6, DUAL)] {
        let told = stage.call(addresses, port).unwrap().both().unwrap();
        assert_eq!(told, (TheDirector, TheClient), "{:?} {port}", addresses.virt);
    }
    assert_eq!(stage.counts(), [3, 0, 0, 0]);
}

#[test]
fn behind_the_first_data_it_is_ignored() {
    let late = |packet: &FromClient| match packet.data {
        Some(1..) => Handling::Forward(option(packet.client)),
        _ => Handling::Forward(Vec::new()),
    };
    let stage = Stage::with_peers(late).unwrap();
    let mut call = stage.call(V4, PLAIN).unwrap();
    assert_eq!(call.both().unwrap(), (TheDirector, TheDirector));
    assert_eq!(call.peer().unwrap(), TheDirector);
    assert_eq!(stage.counts(), [0, 1, 0, 0]);
}

/// The handshake's last packet is lost, so that the first data completes it, or there is no request to complete (SYN cookies).
#[test]
fn it_is_found_however_the_handshake_is_completed() {
    let lossy = |packet: &FromClient| if packet.number == Some(0) { Handling::Lose } else { usual(packet) };
    let stage = Stage::with_peers(lossy).unwrap();
    for (addresses, port) in [(V4, PLAIN), (V6, DUAL)] {
        let mut call = stage.call(addresses, port).unwrap();
        call.say().unwrap();
        assert_eq!((call.accepted().unwrap(), call.accepted().unwrap()), (TheClient, TheClient), "data");
    }
    let stage = Stage::with_peers(usual).unwrap();
    stage.host.sysctl(&["net/ipv4/tcp_syncookies=2"]).unwrap();
    for (addresses, port) in [(V4, PLAIN), (V4, DUAL), (V6, DUAL)] {
        assert_eq!(stage.call(addresses, port).unwrap().both().unwrap(), (TheClient, TheClient), "cookies");
    }
}

/// Addresses of one family told over the other (NAT64 and NAT46).
#[test]
fn the_families_may_differ() {
    let (six, four) = (SocketAddr::new(CLIENT6, 4711), SocketAddr::new(CLIENT, 4712));
    let crossed = move |packet: &FromClient| match packet.number {
        Some(0) => Handling::Forward(option(if packet.client.is_ipv4() { six } else { four })),
        _ => Handling::Forward(Vec::new()),
    };
    let stage = Stage::with_peers(crossed).unwrap();
    let told = |addresses, port| stage.call(addresses, port).unwrap().both().unwrap();
    assert_eq!(told(V4, DUAL), (Peer::Other(six), Peer::Other(six)));
    assert_eq!(told(V6, DUAL), (Peer::Other(four), Peer::Other(four)));
    assert_eq!(told(V4, PLAIN), (TheDirector, TheDirector), "an IPv4 socket has no room for it");
    assert_eq!(stage.counts(), [2, 0, 0, 1]);
}

#[test]
fn multipath_tcp_is_like_any_other() {
    if !Path::new("/proc/sys/net/mptcp/enabled").exists() {
        cannot_run("this kernel has no Multipath TCP");
        return;
    }
    let stage = Stage::new(usual).unwrap();
    stage.toa(TRUST).unwrap();
    stage.host.sysctl(&["net/mptcp/enabled=1"]).unwrap();
    stage.client.sysctl(&["net/mptcp/enabled=1"]).unwrap();
    stage.start_peers(&["mptcp:0.0.0.0:1008"]).unwrap();
    let told = stage.call(V4, MULTIPATH).unwrap().both().unwrap();
    assert_eq!(told, (TheClient, TheClient), "a client of ordinary TCP");
    let multipath = |to| connect_by(libc::IPPROTO_MPTCP, SocketAddr::new(CLIENT, 0), to);
    let told = stage.call_by(multipath, V4, MULTIPATH).unwrap().both().unwrap();
    assert_eq!(told, (TheClient, TheClient), "a client of Multipath TCP");
    assert_eq!(stage.counts(), [2, 0, 0, 0]);
}

/// Connects by a protocol of TCP's, from an address of one's own.
fn connect_by(protocol: i32, from: SocketAddr, to: SocketAddr) -> Result<TcpStream> {
    // SAFETY: a plain system call; what it returns is checked before it is owned.
    let raw = unsafe { libc::socket(libc::AF_INET, libc::SOCK_STREAM, protocol) };
    let raw = nix::errno::Errno::result(raw)?;
    // SAFETY: the descriptor was just made and nobody else has it.
    let socket = unsafe { OwnedFd::from_raw_fd(raw) };
    nix::sys::socket::bind(socket.as_raw_fd(), &SockaddrStorage::from(from))?;
    nix::sys::socket::connect(socket.as_raw_fd(), &SockaddrStorage::from(to))?;
    Ok(socket.into())
}

#[test]
fn nginx_logs_the_clients() {
    let stage = Stage::new(usual).unwrap();
    stage.toa(TRUST).unwrap();
    let listen = ["80", "[::]:80 ipv6only=on", "[::]:81 ipv6only=off", "82 deferred reuseport"];
    let nginx = Nginx::start(&stage.host, stage.group.command(&stage.host, "nginx"), &listen).unwrap();
    stage.wait_for(82);
    let mut clients = Vec::new();
    for (addresses, port) in [(V4, 80), (V6, 80), (V4, 81), (V6, 81), (V4, 82)] {
        for _ in 0..3 {
            let to = SocketAddr::new(addresses.virt, port);
            let own = format!("--write-out \\n%{{local_ip}}_%{{local_port}} http://{to}/");
            let answer =
                stage.client.run(&format!("curl --silent --show-error --globoff --max-time 20 {own}")).unwrap();
            let (told, own) = answer.split_once('\n').unwrap();
            let (address, port) = told.rsplit_once(' ').unwrap();
            let address: IpAddr = address.parse().unwrap();
            assert_eq!(format!("{}_{port}", address.to_canonical()), own, "{to}");
            clients.push(told.to_owned());
        }
    }
    let mut logged = nginx.clients(clients.len());
    logged.sort();
    clients.sort();
    assert_eq!(logged, clients);
}

#[test]
fn another_call_changes_what_it_says_and_off_undoes_it() {
    let stage = Stage::with_peers(usual).unwrap();
    let mut first = stage.call(V4, PLAIN).unwrap();
    assert_eq!(first.both().unwrap(), (TheClient, TheClient));

    // Others are trusted now; who is known stays known, and what was counted.
    stage.toa("--trust 192.0.2.0/24").unwrap();
    let mut second = stage.call(V4, PLAIN).unwrap();
    assert_eq!(second.both().unwrap(), (TheDirector, TheDirector));
    assert_eq!(first.peer().unwrap(), TheClient);
    assert_eq!(stage.counts(), [1, 0, 1, 0]);

    // What fails changes nothing.
    let refused = |arguments: &str, reason: &str| {
        let error = stage.host.lvsadm(&format!("real-server {arguments}")).unwrap_err().to_string();
        assert!(error.contains(reason), "{error}");
    };
    refused("--toa", "--trust");
    refused("--toa --trust 192.168.122.0/33", "192.168.122.0/33");
    refused("--toa --trust 192.168.122.0/24 --cgroup /no-such-group", "/no-such-group");
    refused("--toa --trust 192.168.122.0/24 --vip 10.10.10.10", "--vip");
    let status = stage.host.lvsadm("real-server --status").unwrap();
    let expected = format!("from 192.0.2.0/24 for control group {}\n", stage.group.name());
    assert!(status.contains(&expected), "{status}");

    // Another control group, as a directory, and DR beside it; the servers' own is left.
    let other = ControlGroup::new("other").unwrap();
    let toa = format!("--toa {TRUST} --cgroup {}", other.directory().display());
    stage.host.lvsadm(&format!("real-server --dr --vip 10.10.10.10 {toa}")).unwrap();
    let status = stage.host.lvsadm("real-server --status").unwrap();
    let expected = format!("from 192.168.122.100/32,2001:db8:b::/64 for control group {}\n", other.name());
    assert!(status.contains(&expected) && status.contains("10.10.10.10 on lo"), "{status}");
    assert_eq!(stage.call(V4, PLAIN).unwrap().both().unwrap(), (TheDirector, TheDirector));
    assert_eq!(first.peer().unwrap(), TheDirector, "nobody answers in that group any more");
    assert_eq!((stage.group.attached().unwrap(), other.attached().unwrap()), (0, 1));

    // And back, in both.
    stage.toa(&format!("{TRUST} --cgroup {}", other.name())).unwrap();
    assert_eq!(first.peer().unwrap(), TheClient, "what is known was not lost");
    assert_eq!(stage.call(V4, PLAIN).unwrap().both().unwrap(), (TheClient, TheClient));
    let status = stage.host.lvsadm("real-server --status").unwrap();
    assert!(!status.contains("10.10.10.10") && !status.contains("no longer"), "{status}");
    drop(other);
    assert!(stage.host.lvsadm("real-server --status").unwrap().contains("(no longer so)"), "one group is gone");

    stage.host.lvsadm("real-server --off").unwrap();
    assert_eq!(stage.group.attached().unwrap(), 0);
    assert_eq!(first.peer().unwrap(), TheDirector);
    assert_eq!(stage.call(V4, PLAIN).unwrap().both().unwrap(), (TheDirector, TheDirector));
    assert_eq!(stage.host.lvsadm("real-server --status").unwrap().trim(), "nothing is set up");
}

/// The programs of a control group see the sockets of every network namespace.
#[test]
fn one_network_namespace_is_not_another() {
    let stage = Stage::with_peers(usual).unwrap();
    stage.host.lvsadm("real-server --off").unwrap();
    let elsewhere = Namespace::new("elsewhere").unwrap();
    elsewhere.lvsadm(&format!("real-server --toa {TRUST} --cgroup {}", stage.group.name())).unwrap();
    assert_eq!(stage.call(V4, PLAIN).unwrap().both().unwrap(), (TheDirector, TheDirector));
    stage.toa(TRUST).unwrap();
    assert_eq!(stage.call(V4, PLAIN).unwrap().both().unwrap(), (TheClient, TheClient));
    let status = elsewhere.lvsadm("real-server --status").unwrap();
    assert!(status.contains("0 found, 0 none, 0 untrusted"), "{status}");
    elsewhere.lvsadm("real-server --off").unwrap();
    assert_eq!(stage.call(V4, PLAIN).unwrap().both().unwrap(), (TheClient, TheClient));
}

/// Where no control group is named, every server of the network namespace is told.
#[test]
fn all_servers_are_told_unless_some_are_named() {
    let stage = Stage::new(usual).unwrap();
    let _server = Server::http(&stage.host, 80, "rs").unwrap();
    stage.host.lvsadm(&format!("real-server --toa {TRUST}")).unwrap();
    for (addresses, client) in [(V4, CLIENT), (V6, CLIENT6)] {
        let answer = Client(&stage.client).get(SocketAddr::new(addresses.virt, 80), "/").unwrap();
        assert_eq!(answer, format!("rs {client} 0\n"));
    }
}

/// A network namespace that goes does not take its programs off control groups that stay: the next call elsewhere does.
#[test]
fn what_dead_namespaces_left_is_collected() {
    let stage = Stage::new(usual).unwrap();
    let dead = Namespace::new("dead").unwrap();
    for namespace in [&dead, &stage.host] {
        namespace.lvsadm(&format!("real-server --toa {TRUST} --cgroup {}", stage.group.name())).unwrap();
    }
    assert_eq!(stage.group.attached().unwrap(), 2);
    dead.abandon();
    // The kernel takes a namespace apart in its own time.
    eventually("one of two is left", || {
        stage.toa(TRUST).unwrap();
        stage.group.attached().unwrap() == 1
    });
    assert!(!stage.host.lvsadm("real-server --status").unwrap().contains("no longer"));
}
