//! Two directors that tell each other of connections by IPVS's protocol.

use std::fs::{self, Permissions};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::os::unix::fs::PermissionsExt;
use std::process::Command;

use lvs_common::abi::Address;
use lvs_common::byte_order::Be16;
use lvs_common::sync::{Local, Push, Record, Version, Writer};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use socket2::SockRef;
use tests::eventually;
use tests::topology::{Cluster, Datagrams, Layout, Namespace, Origin, Server, Session, VIP, VIP6};

/// A message that a Linux 6.1 master sent, as the payload of its datagram.
const RECORDED: &str = include_str!("../../golden/sync-message.txt");

/// Two directors of the same rules, and servers of UDP.
struct Pair {
    _datagrams: Vec<Server>,
    cluster: Cluster,
    backup: Namespace,
    /// The services' own.
    options: String,
}

impl Pair {
    fn new(options: &str) -> Self {
        let cluster = Cluster::new(Layout { servers: 2, ..Layout::default() }).unwrap();
        let backup = cluster.second_director().unwrap();
        let udp = |(number, namespace): (usize, &Namespace)| {
            Server::udp(namespace, cluster.server_addresses(number).0, 53, &format!("rs{number}")).unwrap()
        };
        let datagrams = (1..).zip(&cluster.servers).map(udp).collect();
        let pair = Pair { _datagrams: datagrams, cluster, backup, options: options.to_owned() };
        pair.configure(&pair.cluster.director);
        pair.configure(&pair.backup);
        pair
    }

    /// Gives a director the rules.
    fn configure(&self, director: &Namespace) {
        let Pair { cluster, options, .. } = self;
        director.sysctl(&["net/ipv4/ip_forward=1", "net/ipv6/conf/all/forwarding=1"]).unwrap();
        for service in ["-t 10.10.10.10:80", "-u 10.10.10.10:53", "-t [2001:db8:a::10]:80"] {
            director.lvsadm(&format!("-A {service} -s rr{options}")).unwrap();
            for server in [1, 2] {
                let (v4, v6) = cluster.server_addresses(server);
                let (address, port) = if service.contains('[') {
                    (format!("[{v6}]"), 80)
                } else {
                    (v4.to_string(), if service.contains("-u") { 53 } else { 80 })
                };
                director.lvsadm(&format!("-a {service} -r {address}:{port} -m")).unwrap();
            }
        }
        director.lvsadm("sysctl sync_threshold=1 sync_period=2").unwrap();
    }

    fn start(&self, options: &str) {
        let daemon = |role| format!("--start-daemon {role} --mcast-interface eth1 --syncid 7{options}");
        self.backup.lvsadm(&daemon("backup")).unwrap();
        self.cluster.director.lvsadm(&daemon("master")).unwrap();
    }

    /// Sends a message to the group, as the first director.
    fn announce(&self, message: &[u8]) {
        let from = Ipv4Addr::new(192, 168, 122, 100);
        let send = || {
            let socket = UdpSocket::bind((from, 0))?;
            SockRef::from(&socket).set_multicast_if_v4(&from)?;
            Ok(socket.send_to(message, (Ipv4Addr::new(224, 0, 0, 81), 8848)).map(drop)?)
        };
        self.cluster.director.enter(send).unwrap();
    }

    /// Waits until the backup lists a connection as the master does, but for the seconds that it has left.
    fn has_learnt(&self, client_port: u16, state: &str) {
        let listed = |director: &Namespace| {
            let listing = director.lvsadm("-Lcn").unwrap();
            let is_it = |line: &&str| line.contains(&format!(":{client_port} ")) && line.contains(state);
            let line = listing.lines().find(is_it)?;
            let words: Vec<String> = line.split_whitespace().map(str::to_owned).collect();
            Some([&words[..1], &words[2..]].concat())
        };
        eventually("the backup knows the connection", || {
            let learnt = listed(&self.backup);
            learnt.is_some() && learnt == listed(&self.cluster.director)
        });
    }
}

/// One counter of `lvsadm status --json`.
fn counted(director: &Namespace, counter: &str) -> u64 {
    let status: serde_json::Value = serde_json::from_str(&director.lvsadm("status --json").unwrap()).unwrap();
    status["synchronisation"][counter].as_u64().unwrap()
}

#[test]
fn connections_of_both_families_and_of_udp_go_on_with_the_other_director() {
    for options in ["", " --mcast-group ff02::81 --mcast-port 9999"] {
        let pair = Pair::new("");
        pair.start(options);
        let client = &pair.cluster.client;
        let mut sessions: Vec<(Session, String)> = [VIP, VIP6, VIP, VIP6]
            .into_iter()
            .map(|vip| {
                let mut session = Session::open(client, SocketAddr::new(vip, 80), Origin::default()).unwrap();
                let server = session.ask().unwrap();
                // With each second packet.
                assert_eq!(session.ask().unwrap(), server);
                assert_eq!(session.ask().unwrap(), server);
                (session, server)
            })
            .collect();
        let origin = Origin { port: 40053, ..Origin::default() };
        let datagrams = Datagrams::open(client, SocketAddr::new(VIP, 53), origin).unwrap();
        let answer = datagrams.ask().unwrap();
        for (session, _) in &sessions {
            pair.has_learnt(session.port().unwrap(), "ESTABLISHED");
        }
        pair.has_learnt(40053, "UDP");
        pair.cluster.fail_over(&pair.backup).unwrap();
        for (session, server) in &mut sessions {
            assert_eq!(&session.ask().unwrap(), server);
        }
        assert_eq!(datagrams.ask().unwrap(), answer);
    }
}

#[test]
fn a_backup_that_begins_late_is_told_of_the_whole_table() {
    let pair = Pair::new("");
    let mut session = Session::open(&pair.cluster.client, SocketAddr::new(VIP, 80), Origin::default()).unwrap();
    let server = session.ask().unwrap();
    let started = |role| format!("--start-daemon {role} --mcast-interface eth1 --syncid 7");
    // Not a packet of the connection comes from here on until its director fails.
    pair.cluster.director.lvsadm(&started("master")).unwrap();
    pair.backup.lvsadm(&started("backup")).unwrap();
    pair.has_learnt(session.port().unwrap(), "ESTABLISHED");
    // One that was started anew, as after a failure of its own, knows it, too.
    pair.backup.lvsadm("--stop-daemon backup").unwrap();
    pair.backup.lvsadm("unload").unwrap();
    pair.configure(&pair.backup);
    pair.backup.lvsadm(&started("backup")).unwrap();
    pair.has_learnt(session.port().unwrap(), "ESTABLISHED");
    // Both daemons go on with the next generation of their data plane.
    for director in [&pair.cluster.director, &pair.backup] {
        let daemons = director.lvsadm("-L --daemon").unwrap();
        for change in ["upgrade", "resize --conns 40000 --services 200 --destinations 300"] {
            director.lvsadm(change).unwrap();
            eventually("the daemon goes on", || director.lvsadm("-L --daemon").unwrap() == daemons);
        }
    }
    let mut other = Session::open(&pair.cluster.client, SocketAddr::new(VIP, 80), Origin::default()).unwrap();
    let other_server = other.ask().unwrap();
    pair.has_learnt(other.port().unwrap(), "ESTABLISHED");
    pair.cluster.fail_over(&pair.backup).unwrap();
    assert_eq!(session.ask().unwrap(), server);
    assert_eq!(other.ask().unwrap(), other_server);
}

#[test]
fn without_multicast_the_directors_name_each_other_and_seal_what_they_send() {
    let file = |name: &str, key: &str| {
        let path = std::env::temp_dir().join(format!("lvst-{}-{name}.key", std::process::id()));
        fs::write(&path, key.repeat(32)).unwrap();
        fs::set_permissions(&path, Permissions::from_mode(0o600)).unwrap();
        path.display().to_string()
    };
    let (key, other) = (file("one", "5a"), file("other", "a5"));
    for (active, passive, off) in [
        ("192.168.122.100", "192.168.122.99", "192.168.122.98"),
        ("2001:db8:b::100", "2001:db8:b::99", "2001:db8:b::98"),
    ] {
        let pair = Pair::new("");
        let start = |director: &Namespace, role: &str, peer: &str, key: &str| {
            // A third director, which is off, holds up nobody.
            let options = format!("--mcast-interface eth1 --syncid 7 --peer {off},{peer} --sync-key {key}");
            director.lvsadm(&format!("--start-daemon {role} {options}")).unwrap();
        };
        let (director, backup) = (&pair.cluster.director, &pair.backup);
        start(director, "master", passive, &key);
        start(backup, "backup", active, &key);
        let listed = format!("peer={off},{active}, port=8848, ttl=1, sealed)\n");
        assert!(backup.lvsadm("-L --daemon").unwrap().ends_with(&listed));
        let mut session = Session::open(&pair.cluster.client, SocketAddr::new(VIP, 80), Origin::default()).unwrap();
        session.ask().unwrap();
        pair.has_learnt(session.port().unwrap(), "ESTABLISHED");
        // The next generation's daemons have the key, too.
        backup.lvsadm("upgrade").unwrap();
        eventually("the daemon goes on", || backup.lvsadm("-L --daemon").unwrap().ends_with(&listed));
        // Of another host, and of the peer without the key.
        let send = |host: &Namespace, to: &str| {
            let to = SocketAddr::new(to.parse().unwrap(), 8848);
            let any = if to.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
            host.enter(|| Ok(UdpSocket::bind(any)?.send_to(&message(), to).map(drop)?)).unwrap();
        };
        for (host, counter) in [(&pair.cluster.servers[0], "foreign"), (director, "unsealed")] {
            send(host, passive);
            eventually("the message is counted", || counted(backup, counter) == 1);
        }
        assert_eq!(counted(backup, "malformed"), 0);
        if active.contains(':') {
            continue;
        }
        // One that is started anew asks, in its seal, and learns nothing of another key.
        backup.lvsadm("--stop-daemon backup").unwrap();
        backup.lvsadm("unload").unwrap();
        pair.configure(backup);
        start(backup, "backup", active, &other);
        director.lvsadm("--stop-daemon master").unwrap();
        start(director, "master", passive, &key);
        eventually("messages of another key are counted", || counted(backup, "unsealed") > 0);
        assert_eq!(counted(backup, "entered"), 0);
        backup.lvsadm("--stop-daemon backup").unwrap();
        start(backup, "backup", active, &key);
        pair.has_learnt(session.port().unwrap(), "ESTABLISHED");
    }
    let host = Namespace::new("host").unwrap();
    host.ip(&["link add eth0 type veth peer name peer0"]).unwrap();
    fs::set_permissions(&key, Permissions::from_mode(0o644)).unwrap();
    for (options, sentence) in [
        ("--peer 224.0.0.81", "invalid peer `224.0.0.81': it is another director's address"),
        ("--peer 192.0.2.1,", "invalid peer `': it is another director's address"),
        ("--peer 192.0.2.1,2001:db8::1", "invalid peer `2001:db8::1': peers are of one address family"),
        ("--peer 192.0.2.1,192.0.2.1", "invalid peer `192.0.2.1': it is named twice"),
        ("--peer 192.0.2.1 --mcast-group 224.0.0.81", "multiple"),
        (&format!("--sync-key {key}"), "others may read the key"),
        ("--sync-key /nonexistent", "cannot read the key in /nonexistent"),
    ] {
        let refused = host.lvsadm(&format!("--start-daemon master {options}")).unwrap_err().to_string();
        assert!(refused.contains(sentence), "{refused}");
    }
    for path in [key, other] {
        fs::remove_file(path).unwrap();
    }
}

#[test]
fn a_client_stays_with_its_server_by_the_template() {
    let pair = Pair::new(" -p 300");
    pair.start("");
    pair.cluster.director.lvsadm("sysctl sync_persist_mode=1").unwrap();
    let to = SocketAddr::new(VIP, 80);
    // The other server's turn is next.
    let server = Session::open(&pair.cluster.client, to, Origin::default()).unwrap().ask().unwrap();
    eventually("the backup knows the template", || pair.backup.lvsadm("-Lcn").unwrap().contains("ASSURED"));
    assert!(!pair.backup.lvsadm("-Lcn").unwrap().contains("ESTABLISHED"), "sync_persist_mode tells of templates alone");
    pair.cluster.fail_over(&pair.backup).unwrap();
    for _ in 0..3 {
        assert_eq!(Session::open(&pair.cluster.client, to, Origin::default()).unwrap().ask().unwrap(), server);
    }
}

#[test]
fn what_the_kernels_master_sent_is_entered_and_nothing_else_is() {
    let pair = Pair::new("");
    pair.start("");
    let listed = || {
        let listing = pair.backup.lvsadm("-Lcn").unwrap();
        let mut lines: Vec<String> = listing
            .lines()
            .skip(2)
            .map(|line| {
                line.split_whitespace()
                    .enumerate()
                    .filter(|(at, _)| *at != 1)
                    .map(|(_, word)| word)
                    .collect::<Vec<_>>()
                    .join(" ")
            })
            .collect();
        lines.sort();
        lines
    };
    let message = message();
    let received = || counted(&pair.backup, "received_messages");
    let mut sent = 0;
    let mut refused = |message: &[u8], counter: &str| {
        let before = counted(&pair.backup, counter);
        pair.announce(message);
        sent += 1;
        eventually("the message is counted", || received() == sent);
        assert_eq!(counted(&pair.backup, counter), before + 1, "{counter}");
        assert!(listed().is_empty(), "{counter}");
    };
    let with = |at: usize, byte: u8| {
        let mut changed = message.clone();
        changed[at] = byte;
        changed
    };
    refused(&message[..message.len() - 1], "malformed");
    refused(&[&message[..], &[0]].concat(), "malformed");
    refused(&[0; 1473], "malformed");
    refused(&[], "malformed");
    refused(&with(1, 8), "foreign");
    // The number of records; a protocol that no service has; a state that TCP has not.
    refused(&with(4, 13), "malformed");
    refused(&with(8 + 36 * 5 + 1, 1), "malformed");
    refused(&with(8 + 36 * 5 + 9, 11), "malformed");
    // To the director itself, not to the group: nobody listens.
    let directly = || Ok(UdpSocket::bind("0.0.0.0:0")?.send_to(&message, "192.168.122.99:8848").map(drop)?);
    pair.cluster.director.enter(directly).unwrap();
    // A real server that is not configured: its connections wait for it.
    pair.announce(&message);
    eventually("the message is counted", || received() == sent + 1);
    assert!(listed().is_empty());
    for rule in [
        "-A -t 192.0.2.10:80 -s rr -p 300",
        "-a -t 192.0.2.10:80 -r 10.2.0.11:8080 -m",
        "-A -u 192.0.2.10:53 -s rr",
        "-a -u 192.0.2.10:53 -r 10.2.0.12:53 -g",
    ] {
        pair.backup.lvsadm(rule).unwrap();
    }
    let recorded = [
        "TCP ASSURED 10.1.0.100:0 192.0.2.10:80 10.2.0.11:8080",
        "TCP CLOSE_WAIT 10.1.0.100:40001 192.0.2.10:80 10.2.0.11:8080",
        "UDP UDP 10.1.0.100:40002 192.0.2.10:53 10.2.0.12:53",
    ];
    eventually("what waited is entered", || listed() == recorded);
    assert_eq!((counted(&pair.backup, "waiting"), counted(&pair.backup, "entered")), (0, 3));
    let counts = pair.backup.destinations("-t 192.0.2.10:80").unwrap();
    let counts = &counts["10.2.0.11"];
    assert_eq!((counts.active, counts.inactive), (0, 1));
}

#[test]
fn a_local_port_is_the_connections_that_the_master_gave_it_to_last() {
    let pair = Pair::new("");
    for rule in [
        "--add-laddr -z 192.168.122.99",
        "-A -t 10.10.10.10:8 -s rr",
        "-a -t 10.10.10.10:8 -r 192.168.122.101:80 --fullnat",
        "-A -t [2001:db8:a::10]:8 -s rr",
        "-a -t [2001:db8:a::10]:8 -r 192.168.122.101:80 --fullnat",
        "--start-daemon backup --mcast-interface eth1 --syncid 7",
    ] {
        pair.backup.lvsadm(rule).unwrap();
    }
    let (real, address) = (Address::v4([192, 168, 122, 101]), Address::v4([192, 168, 122, 99]));
    let v4 = |client_port: u16| Record {
        protocol: 6,
        state: 1,
        timeout: 900,
        client: Address::v4([10, 10, 10, 1]),
        virt: Address::v4([10, 10, 10, 10]),
        client_port: Be16::new(client_port),
        virt_port: Be16::new(8),
        real,
        real_port: Be16::new(80),
        local: Some(Local { address, port: Be16::new(5000), toa_state: 2, first: 1 }),
        ..Record::default()
    };
    let v6 = |client_port: u16| Record {
        is_v6: true,
        client: Address::v6("2001:db8:a::1".parse::<Ipv6Addr>().unwrap().octets()),
        virt: Address::v6("2001:db8:a::10".parse::<Ipv6Addr>().unwrap().octets()),
        real: Address::default(),
        other_real: Some(real),
        ..v4(client_port)
    };
    for (record, client) in [
        (v4(1001), "10.10.10.1:1001 "),
        (v4(1002), "10.10.10.1:1002 "),
        (v6(1003), "[2001:db8:a::1]:1003 "),
        (v4(1004), "10.10.10.1:1004 "),
    ] {
        let mut buffer = [0; 1472];
        let mut writer = Writer::new(&mut buffer, Version::V1, 7);
        assert_eq!(writer.push(&record), Push::Done);
        pair.announce(writer.finish());
        eventually("the port has passed to another connection", || {
            let listing = pair.backup.lvsadm("-Lcn").unwrap();
            listing.contains(client) && listing.matches("ESTABLISHED").count() == 1
        });
        let locals = pair.backup.lvsadm("--get-laddr").unwrap();
        assert_eq!(locals.split_whitespace().last(), Some("1"), "{locals}");
    }
    assert_eq!(counted(&pair.backup, "entered"), 4);
}

#[test]
fn a_daemon_that_was_killed_is_noticed_and_one_may_be_started_again() {
    let host = Namespace::new("host").unwrap();
    host.ip(&["link add eth0 type veth peer name peer0", "link set eth0 up", "addr add 10.9.9.1/24 dev eth0"]).unwrap();
    let daemons = || host.lvsadm("-L --daemon").unwrap();
    for _ in 0..2 {
        host.lvsadm("--start-daemon backup --syncid 5").unwrap();
        assert_eq!(
            daemons(),
            "backup sync daemon (mcast=eth0, syncid=5, maxlen=1472, group=224.0.0.81, port=8848, ttl=1)\n"
        );
        kill(Pid::from_raw(process(&host)), Signal::SIGKILL).unwrap();
        eventually("the daemon is noticed to be gone", || daemons().is_empty());
        assert!(host.lvsadm("--stop-daemon backup").is_err());
    }
    host.lvsadm("--start-daemon master").unwrap();
    let process = process(&host);
    host.lvsadm("unload").unwrap();
    eventually("a daemon ends with its data plane", || fs::metadata(format!("/proc/{process}")).is_err());
}

#[test]
fn a_backup_serves_nothing_while_its_daemon_runs_if_it_is_told_so() {
    let pair = Pair::new("");
    let Pair { cluster, .. } = &pair;
    let (director, to) = (&cluster.director, SocketAddr::new(VIP, 80));
    director.lvsadm("--start-daemon backup --mcast-interface eth1 --syncid 7").unwrap();
    assert!(cluster.client().get(to, "/").is_ok());
    director.lvsadm("sysctl backup_only=1").unwrap();
    assert!(cluster.client().get(to, "/").is_err());
    director.lvsadm("--stop-daemon backup").unwrap();
    assert!(cluster.client().get(to, "/").is_ok());
}

#[test]
fn daemons_leave_a_network_namespace_that_was_deleted() {
    let host = Namespace::new("host").unwrap();
    host.ip(&["link add eth0 type veth peer name peer0", "link set eth0 up", "addr add 10.9.9.1/24 dev eth0"]).unwrap();
    host.lvsadm("--start-daemon backup --syncid 5").unwrap();
    let backup = process(&host);
    host.lvsadm("--start-daemon master").unwrap();
    let inside = fs::read_link(format!("/proc/{backup}/ns/net")).unwrap();
    host.abandon();
    eventually("nobody is in the namespace", || {
        let processes = fs::read_dir("/proc").unwrap().flatten();
        !processes.map(|entry| entry.path().join("ns/net")).any(|link| fs::read_link(link).is_ok_and(|l| l == inside))
    });
}

/// The number of the one daemon's process in a namespace.
fn process(host: &Namespace) -> i32 {
    let processes = Command::new("ip").args(["netns", "pids", host.name()]).output().unwrap().stdout;
    let processes = String::from_utf8(processes).unwrap();
    let is_daemon = |number: &&str| {
        fs::read_to_string(format!("/proc/{number}/cmdline")).is_ok_and(|line| line.contains("--start-daemon"))
    };
    processes.split_whitespace().find(is_daemon).unwrap().parse().unwrap()
}

/// The recorded message.
fn message() -> Vec<u8> {
    let digits: Vec<u8> = RECORDED.chars().filter_map(|c| c.to_digit(16)).map(|digit| digit as u8).collect();
    digits.chunks(2).map(|pair| pair[0] << 4 | pair[1]).collect()
}
