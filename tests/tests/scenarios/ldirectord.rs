//! Debian's ldirectord, unmodified, drives `lvsadm` under ipvsadm's name, which it runs by its absolute path.

use std::fs::{self, File};
use std::net::SocketAddr;
use std::path::Path;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tests::eventually;
use tests::topology::{Cluster, Layout, VIP, VIP6, lvsadm_path};

/// In the foreground, with its log on standard output. A service that forgets dead servers, one that keeps them without
/// weight, and one of IPv6.
const CONFIG: &str = "
supervised = yes
checkinterval = 1
checktimeout = 10
negotiatetimeout = 10
virtual = 10.10.10.10:80
    real = 192.168.122.101:80 masq 1
    real = 192.168.122.102:80 masq 3
    service = http
    request = \"/\"
    receive = \"rs\"
    scheduler = wrr
    quiescent = no
virtual = 10.10.10.10:8080
    real = 192.168.122.101:80 masq
    real = 192.168.122.102:80 masq
    service = http
    request = \"/\"
    receive = \"rs\"
    scheduler = rr
    persistent = 60
    netmask = 255.255.255.255
    quiescent = yes
virtual6 = [2001:db8:a::10]:80
    real6 = [2001:db8:b::101]:80 masq
    real6 = [2001:db8:b::102]:80 masq
    checktype = connect
    scheduler = rr
    quiescent = no
";

/// The listing without its head and without numbers of connections.
fn table(cluster: &Cluster) -> Vec<String> {
    let listing = cluster.director.lvsadm("-Ln").unwrap();
    let words = |line: &str| {
        line.split_whitespace()
            .take(4 + usize::from(!line.starts_with(' ')))
            .map(str::to_owned)
            .collect::<Vec<_>>()
            .join(" ")
    };
    listing.lines().skip(3).map(words).collect()
}

const ALIVE: [&str; 9] = [
    "TCP 10.10.10.10:80 wrr",
    "-> 192.168.122.101:80 Masq 1",
    "-> 192.168.122.102:80 Masq 3",
    "TCP 10.10.10.10:8080 rr persistent 60",
    "-> 192.168.122.101:80 Masq 1",
    "-> 192.168.122.102:80 Masq 1",
    "TCP [2001:db8:a::10]:80 rr",
    "-> [2001:db8:b::101]:80 Masq 1",
    "-> [2001:db8:b::102]:80 Masq 1",
];

const FIRST_IS_DEAD: [&str; 7] = [
    "TCP 10.10.10.10:80 wrr",
    "-> 192.168.122.102:80 Masq 3",
    "TCP 10.10.10.10:8080 rr persistent 60",
    "-> 192.168.122.101:80 Masq 0",
    "-> 192.168.122.102:80 Masq 1",
    "TCP [2001:db8:a::10]:80 rr",
    "-> [2001:db8:b::102]:80 Masq 1",
];

#[test]
fn ldirectord_follows_its_real_servers() {
    let mut cluster = Cluster::new(Layout { servers: 2, ..Layout::default() }).unwrap();
    cluster.director.sysctl(&["net/ipv4/ip_forward=1", "net/ipv6/conf/all/forwarding=1"]).unwrap();
    // Whatever was there under its services' names is its own from the start.
    cluster.director.lvsadm("-A -t 10.10.10.10:80 -s lc").unwrap();
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR"));
    let (config, log) = (folder.join("ldirectord.cf"), folder.join("ldirectord.log"));
    fs::write(&config, CONFIG).unwrap();
    let output = File::create(&log).unwrap();
    // Only in its own mount namespace, lvsadm stands where Debian's ipvsadm is.
    let script = "mount --bind \"$0\" /sbin/ipvsadm && exec /usr/sbin/ldirectord \"$1\" start";
    let daemon = cluster
        .director
        .adopt(
            cluster
                .director
                .command("unshare")
                .args(["--mount", "sh", "-c", script])
                .args([&lvsadm_path(), &config])
                .stdout(output.try_clone().unwrap())
                .stderr(output),
        )
        .unwrap();

    let becomes = |cluster: &Cluster, what: &str, expected: &[&str]| {
        eventually(&format!("{what}; see {}", log.display()), || table(cluster) == expected);
    };
    let answer = |cluster: &Cluster, to: SocketAddr| cluster.client().spread(to, 8).unwrap();
    let shares = |cluster: &Cluster, to| answer(cluster, to).into_iter().collect::<Vec<_>>();
    let (plain, sticky, v6) = (SocketAddr::new(VIP, 80), SocketAddr::new(VIP, 8080), SocketAddr::new(VIP6, 80));
    let both = |one, other| vec![("rs1".to_owned(), one), ("rs2".to_owned(), other)];
    let second = vec![("rs2".to_owned(), 8)];

    becomes(&cluster, "both real servers", &ALIVE);
    assert_eq!(shares(&cluster, plain), both(2, 6));
    assert_eq!(shares(&cluster, v6), both(4, 4));
    assert_eq!(shares(&cluster, sticky).len(), 1, "a client stays where it was");

    cluster.stop(1);
    becomes(&cluster, "the dead one is gone or has no weight", &FIRST_IS_DEAD);
    assert_eq!(shares(&cluster, plain), second);
    assert_eq!(shares(&cluster, v6), second);

    cluster.start(1).unwrap();
    becomes(&cluster, "it is back", &ALIVE);
    assert_eq!(shares(&cluster, plain), both(2, 6));
    assert_eq!(shares(&cluster, v6), both(4, 4));

    let daemon = Pid::from_raw(daemon as i32);
    kill(daemon, Signal::SIGTERM).unwrap();
    becomes(&cluster, "it takes its rules with it", &[]);
    let said = || fs::read_to_string(&log).unwrap();
    eventually("a last word", || said().contains("Linux Director Daemon terminated on signal: TERM"));
    for sentence in ["failed", "Unknown line", "error", "Error"] {
        assert!(!said().contains(sentence), "{}", said());
    }
}
