//! Pools of local addresses as `lvsadm` has them, and what everything else that it does means for FullNAT.

use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::net::{IpAddr, SocketAddr};
use std::process::Stdio;

use anyhow::Result;
use serde_json::{Value, json};
use tests::eventually;
use tests::topology::{CLIENT, Cluster, Layout, Namespace, Offloads, Origin, Server, Session, Site, VIP, lvsadm_path};

const WEB: &str = "192.0.2.10:80";

/// Exit status and what was said of a command.
fn run(namespace: &Namespace, arguments: &str) -> (i32, String) {
    let mut command = namespace.command(lvsadm_path());
    let output = command.args(arguments.split(' ')).stdin(Stdio::null()).output().unwrap();
    assert!(output.stdout.is_empty(), "{arguments}: {output:?}");
    (output.status.code().unwrap(), String::from_utf8(output.stderr).unwrap())
}

#[test]
fn what_is_wrong_is_told_and_changes_nothing() {
    const UNFIT: &str = "A local address is one that a host can have: not multicast, loopback, ...";
    let director = Namespace::new("director").unwrap();
    for line in ["-A -t 192.0.2.10:80 -s rr", "--add-laddr -z 192.0.2.1 -t 192.0.2.10:80", "-P -z 192.0.2.2 -F dpdk0"] {
        director.lvsadm(line).unwrap();
    }
    let before = director.lvsadm("save --full").unwrap();
    for (line, status, sentence) in [
        ("-P -z 192.0.2.1 -t 192.0.2.10:80", 255, "Local address already exists"),
        ("-P -z 192.0.2.2", 255, "Local address already exists"),
        ("-Q -z 192.0.2.2 -t 192.0.2.10:80", 255, "No such local address"),
        ("-Q -z 192.0.2.1", 255, "No such local address"),
        ("-P -z 192.0.2.1 -t 192.0.2.11:80", 255, "Service not defined"),
        ("-Q -z 192.0.2.1 -u 192.0.2.10:80", 255, "Service not defined"),
        ("-P -z 192.0.2.1 -f 7", 255, "Service not defined"),
        ("-G -t 192.0.2.11:80", 1, "No such service"),
        ("-P -z 224.0.0.1", 255, UNFIT),
        ("-P -z 255.255.255.255", 255, UNFIT),
        ("-P -z 127.0.0.1", 255, UNFIT),
        ("-P -z 0.0.0.0", 255, UNFIT),
        ("-P -z ::1", 255, UNFIT),
        ("-P -z ff02::1", 255, UNFIT),
        ("-P -z fe80::1", 255, UNFIT),
        ("-P -z garbage", 2, "illegal local address `garbage' specified"),
        ("-P -z 192.0.2.300", 2, "illegal local address `192.0.2.300' specified"),
        ("-P -z 192.0.2.1:80", 2, "illegal local address `192.0.2.1:80' specified"),
        ("-Q -z 192.0.2.0/24", 2, "illegal local address `192.0.2.0/24' specified"),
        ("-P -t 192.0.2.10:80", 2, "You need to supply the 'laddr' option for the 'add-laddr' command"),
        ("-Q", 2, "You need to supply the 'laddr' option for the 'del-laddr' command"),
        ("-P -z", 255, "-z: missing argument"),
        ("-P -z 192.0.2.3 -z 192.0.2.4", 2, "multiple 'laddr' options specified"),
        ("-P -z 192.0.2.3 -w 3", 2, "Illegal 'weight' option with the 'add-laddr' command"),
        ("-A -t 192.0.2.12:80 -z 192.0.2.3", 2, "Illegal 'laddr' option with the 'add-service' command"),
        ("-G -z 192.0.2.1", 2, "Illegal 'laddr' option with the 'get-laddr' command"),
    ] {
        assert_eq!(run(&director, line), (status, format!("{sentence}\n")), "{line}");
    }
    assert_eq!(director.lvsadm("save --full").unwrap(), before);
}

#[test]
fn pools_are_listed() {
    let director = Namespace::new("director").unwrap();
    assert_eq!(director.json("-G --json").unwrap(), json!([]));
    for line in [
        "-A -t 192.0.2.10:80 -s rr",
        "-A -f 7 -s rr",
        "-P -z 192.0.2.1 -t 192.0.2.10:80",
        "-P -z 192.0.2.2 -t 192.0.2.10:80",
        "-P -z 2001:db8::1",
        "-P -z 192.0.2.2",
    ] {
        director.lvsadm(line).unwrap();
    }
    let row = |columns: [&str; 5]| {
        let [service, total, address, conflicts, connections] = columns;
        format!("{service:<20} {total:<8} {address:<20} {conflicts:<10} {connections}\n")
    };
    let head = row(["VIP:VPORT", "TOTAL", "SNAT_IP", "CONFLICTS", "CONNS"]);
    // Those of IPv4 first, as the data plane has them.
    let default = row(["default", "2", "192.0.2.2", "0", "0"]) + &row(["", "", "2001:db8::1", "0", "0"]);
    let web = row([WEB, "2", "192.0.2.1", "0", "0"]) + &row(["", "", "192.0.2.2", "0", "0"]);
    assert_eq!(director.lvsadm("--get-laddr").unwrap(), format!("{head}{default}{web}"));
    assert_eq!(director.lvsadm("-G -t 192.0.2.10:80").unwrap(), format!("{head}{web}"));
    let mark = director.lvsadm("-G -f 7").unwrap();
    assert!(mark.starts_with(&head) && mark.lines().nth(1).unwrap().ends_with(" 0"), "{mark}");
    let local = |address: &str| json!({ "address": address, "connections": 0, "conflicts": 0 });
    let key = json!({ "protocol": "tcp", "address": "192.0.2.10", "port": 80 });
    assert_eq!(
        director.json("-G --json").unwrap(),
        json!([
            { "service": null, "addresses": [local("192.0.2.2"), local("2001:db8::1")] },
            { "service": key, "addresses": [local("192.0.2.1"), local("192.0.2.2")] },
        ])
    );
    // A service takes its pool along.
    director.lvsadm("-D -t 192.0.2.10:80").unwrap();
    director.lvsadm("-A -t 192.0.2.10:80 -s rr").unwrap();
    assert_eq!(director.json("-G -t 192.0.2.10:80 --json").unwrap(), json!([{ "service": key, "addresses": [] }]));
}

/// What a file wants is what there is, whether it is applied at once or line by line.
#[test]
fn pools_are_saved_and_applied() {
    let director = Namespace::new("director").unwrap();
    let path = std::env::temp_dir().join(format!("{}-pools.rules", director.name()));
    let mut text = "--add-laddr -z 2001:db8::1\n--add-laddr -z 192.0.2.1\n-A -t 192.0.2.10:80 -s rr\n".to_owned();
    (1..=50).for_each(|host| text.push_str(&format!("--add-laddr -t 192.0.2.10:80 -z 198.51.100.{host}\n")));
    text.push_str("-A -t [2001:db8::10]:80 -s rr\n--add-laddr -t [2001:db8::10]:80 -z 2001:db8::1\n");
    fs::write(&path, &text).unwrap();
    let pools = || -> BTreeMap<String, Vec<String>> {
        let listed = director.json("-G --json").unwrap();
        let addresses = |pool: &Value| {
            let list = pool["addresses"].as_array().unwrap().iter();
            list.map(|local| local["address"].as_str().unwrap().to_owned()).collect()
        };
        listed
            .as_array()
            .unwrap()
            .iter()
            .map(|pool| (pool["service"]["address"].to_string(), addresses(pool)))
            .collect()
    };
    let service: Vec<String> = (1..=50).map(|host| format!("198.51.100.{host}")).collect();
    let expected = BTreeMap::from([
        ("null".to_owned(), vec!["192.0.2.1".to_owned(), "2001:db8::1".to_owned()]),
        ("\"192.0.2.10\"".to_owned(), service),
        ("\"2001:db8::10\"".to_owned(), vec!["2001:db8::1".to_owned()]),
    ]);
    let apply = |options: &str| director.lvsadm(&format!("apply {options}{}", path.display())).unwrap();
    apply("");
    assert_eq!(pools(), expected);
    assert_eq!(apply("--dry-run "), "", "there is nothing left to do");
    let saved = director.lvsadm("save --full").unwrap();
    director.lvsadm("unload").unwrap();
    let mut restore = director.command(lvsadm_path()).arg("-R").stdin(Stdio::piped()).spawn().unwrap();
    restore.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
    assert!(restore.wait().unwrap().success());
    assert_eq!(pools(), expected);
    assert_eq!(director.lvsadm("save --full").unwrap(), saved);
    // Another file takes pools away and changes them.
    fs::write(&path, "-A -t 192.0.2.10:80 -s rr\n--add-laddr -t 192.0.2.10:80 -z 198.51.100.2\n").unwrap();
    apply("");
    assert_eq!(pools(), BTreeMap::from([("\"192.0.2.10\"".to_owned(), vec!["198.51.100.2".to_owned()])]));
    assert_eq!(apply("--dry-run "), "");
    fs::remove_file(&path).unwrap();
}

/// A director with a FullNAT service of two real servers, and no local address yet.
struct Stage(Cluster);

impl Stage {
    fn new(options: &str) -> Result<Self> {
        let layout = Layout { site: Site::Remote, servers: 2, offloads: Offloads::Off, ..Layout::default() };
        let stage = Stage(Cluster::new(layout)?);
        stage.0.director.lvsadm(&format!("-A -t {VIP}:80 {options}"))?;
        for number in 1..=2 {
            let server = stage.real(number);
            stage.0.director.lvsadm(&format!("-a -t {VIP}:80 -r {server} --fullnat"))?;
        }
        // Another address, which is routed to the director.
        stage.0.router.ip(&["route add 198.51.100.0/24 via 192.168.122.100"])?;
        Ok(stage)
    }

    fn real(&self, number: usize) -> SocketAddr {
        SocketAddr::new(self.0.server_addresses(number).0, 80)
    }

    fn lvsadm(&self, arguments: &str) -> String {
        self.0.director.lvsadm(arguments).unwrap()
    }

    fn open(&self) -> Result<Session> {
        Session::open(&self.0.client, SocketAddr::new(VIP, 80), Origin::default())
    }

    /// The local address of a client's connection.
    fn local(&self, session: &Session) -> IpAddr {
        let port = session.port().unwrap();
        let connections = self.0.director.connections().unwrap();
        let own = connections.iter().find(|connection| connection["client"]["port"] == port).unwrap();
        own["local"]["address"].as_str().unwrap().parse().unwrap()
    }

    /// How many connections the addresses of the service's pool have.
    fn pool(&self) -> BTreeMap<String, u64> {
        let pools = self.0.director.json(&format!("-G -t {VIP}:80 --json")).unwrap();
        let entry =
            |local: &Value| (local["address"].as_str().unwrap().to_owned(), local["connections"].as_u64().unwrap());
        pools[0]["addresses"].as_array().unwrap().iter().map(entry).collect()
    }
}

fn pool<const N: usize>(addresses: [(&str, u64); N]) -> BTreeMap<String, u64> {
    addresses.map(|(address, count)| (address.to_owned(), count)).into()
}

/// Connections keep the address they have; new ones have what is in the pool then.
#[test]
fn pools_change_beside_connections() {
    const FIRST: &str = "192.168.122.100";
    let stage = Stage::new("-s rr").unwrap();
    let change = |command: &str, address: &str| drop(stage.lvsadm(&format!("{command} -z {address} -t {VIP}:80")));
    assert!(stage.0.client.run("curl --silent --max-time 1 http://10.10.10.10/").is_err(), "there is no address yet");
    assert!(stage.0.director.exit("drop-no-local-address").unwrap() > 0);
    change("-P", FIRST);
    let mut old = stage.open().unwrap();
    old.ask().unwrap();
    assert_eq!((stage.local(&old).to_string(), stage.pool()), (FIRST.to_owned(), pool([(FIRST, 1)])));

    change("-Q", FIRST);
    change("-P", "198.51.100.1");
    let mut new = stage.open().unwrap();
    for session in [&mut old, &mut new] {
        session.ask().unwrap();
    }
    assert_eq!((stage.local(&old).to_string(), stage.local(&new).to_string()), (FIRST.into(), "198.51.100.1".into()));
    assert_eq!(stage.pool(), pool([("198.51.100.1", 1)]));
    change("-P", FIRST);
    assert_eq!(stage.pool(), pool([(FIRST, 1), ("198.51.100.1", 1)]), "it is the same address as before");

    // Both end, and other addresses take their places.
    for address in [FIRST, "198.51.100.1"] {
        change("-Q", address);
    }
    old.reset().unwrap();
    new.reset().unwrap();
    for number in 1..=2 {
        stage.lvsadm(&format!("drain -t {VIP}:80 -r {} --timeout 0 --reset", stage.real(number)));
        stage.lvsadm(&format!("-e -t {VIP}:80 -r {} --fullnat -w 1", stage.real(number)));
    }
    assert!(stage.0.director.connections().unwrap().is_empty());
    let others = ["198.51.100.2", "198.51.100.3", "198.51.100.4"];
    others.iter().for_each(|address| change("-P", address));
    let mut sessions: Vec<Session> = (0..6).map(|_| stage.open().unwrap()).collect();
    sessions.iter_mut().for_each(|session| drop(session.ask().unwrap()));
    assert_eq!(stage.pool(), others.map(|address| (address.to_owned(), 2)).into(), "in turn");
    change("-P", FIRST);
    assert_eq!(stage.pool()[FIRST], 0);
    sessions.iter_mut().for_each(|session| drop(session.ask().unwrap()));
}

#[test]
fn what_is_listed_of_connections() {
    let stage = Stage::new("-s rr --conn-timeout 3600").unwrap();
    stage.lvsadm(&format!("-P -z 198.51.100.1 -t {VIP}:80"));
    let mut session = stage.open().unwrap();
    let server = session.ask().unwrap();
    let port = session.port().unwrap();
    let listed = stage.lvsadm("-Lnc");
    let row: Vec<&str> = listed.lines().nth(2).unwrap().split_whitespace().collect();
    let real = stage.real(if server == "rs1" { 1 } else { 2 }).to_string();
    let client = format!("{CLIENT}:{port}");
    assert_eq!((row[0], &row[2..]), ("TCP", &["ESTABLISHED", &client, "10.10.10.10:80", &real][..]), "{listed}");
    let connections = stage.0.director.connections().unwrap();
    assert_eq!(connections.len(), 1, "its other side is no connection: {connections:?}");
    assert_eq!(connections[0]["local"]["address"], "198.51.100.1");
    assert!(connections[0]["expires"].as_u64().unwrap() > 3500, "{connections:?}");
    // What ends by itself gives its port back.
    stage.lvsadm(&format!("-E -t {VIP}:80 -s rr --conn-timeout 1"));
    session.ask().unwrap();
    assert_eq!(stage.pool(), pool([("198.51.100.1", 1)]));
    eventually("it has expired", || stage.pool() == pool([("198.51.100.1", 0)]));
    assert!(stage.0.director.connections().unwrap().is_empty());
}

/// One-packet scheduling would leave answers without a way back: FullNAT has connections all the same.
#[test]
fn one_packet_scheduling_is_none() {
    let stage = Stage::new("-s rr").unwrap();
    stage.lvsadm("-P -z 198.51.100.1");
    let _servers: Vec<Server> = (1..=2)
        .map(|number| Server::udp(&stage.0.servers[number - 1], stage.real(number).ip(), 53, "dns").unwrap())
        .collect();
    let service = SocketAddr::new(VIP, 53);
    stage.lvsadm(&format!("-A -u {service} -s rr -o"));
    for number in 1..=2 {
        stage.lvsadm(&format!("-a -u {service} -r {}:53 --fullnat", stage.real(number).ip()));
    }
    for (tier, length) in [("native", 100), ("tc", 1000)] {
        stage.lvsadm(&format!("attach --mode {tier}"));
        let answer = stage.0.client().datagram(service, length).unwrap();
        assert_eq!(answer, format!("dns 198.51.100.1 {length}\n"), "{tier}");
    }
}

/// Persistence, thresholds, weights, `drain` and the deletion of a real server.
#[test]
fn real_servers_come_and_go() {
    let stage = Stage::new("-s rr").unwrap();
    stage.lvsadm(&format!("-P -z 198.51.100.1 -t {VIP}:80"));
    let (first, second) = (stage.real(1), stage.real(2));
    let who = || stage.open().and_then(|mut session| session.ask()).unwrap();
    let edit =
        |real: SocketAddr, options: &str| drop(stage.lvsadm(&format!("-e -t {VIP}:80 -r {real} --fullnat {options}")));
    let counts = |server: &str| stage.0.director.destinations(&format!("-t {VIP}:80")).unwrap()[server];

    edit(second, "-w 0");
    assert_eq!([who(), who()], ["rs1", "rs1"]);
    edit(second, "-w 1");
    edit(first, "-w 1 -x 2 -y 1");
    let mut kept: Vec<Session> = (0..8).map(|_| stage.open().unwrap()).collect();
    let served: Vec<String> = kept.iter_mut().map(|session| session.ask().unwrap()).collect();
    assert!(served.iter().filter(|name| *name == "rs1").count() <= 2, "{served:?}");
    assert_eq!(who(), "rs2");

    // Those who are there stay; `drain` waits for them, and ends them if it is to.
    let waits = stage.0.director.lvsadm(&format!("drain -t {VIP}:80 -r {second} --timeout 0"));
    assert!(waits.unwrap_err().to_string().contains(" active, "), "they are there");
    for (session, name) in kept.iter_mut().zip(&served) {
        assert_eq!(session.ask().unwrap(), *name);
    }
    stage.lvsadm(&format!("drain -t {VIP}:80 -r {second} --timeout 0 --reset"));
    let left = counts("192.168.123.102");
    assert_eq!((left.active, left.inactive), (0, 0));

    // With the real server, its connections: they are dropped in silence, as IPVS does.
    edit(first, "-w 1");
    stage.lvsadm(&format!("-d -t {VIP}:80 -r {first}"));
    let own = kept.iter_mut().zip(&served).find(|(_, name)| *name == "rs1").unwrap().0;
    assert!(own.is_ignored().unwrap());
    stage.lvsadm(&format!("-a -t {VIP}:80 -r {first} --fullnat"));
    assert_eq!(own.hear().unwrap(), "rs1", "it is there again, and so is the connection");

    // One client, one real server.
    edit(second, "-w 1");
    stage.lvsadm(&format!("-E -t {VIP}:80 -s rr -p 600"));
    let named: Vec<String> = (0..4).map(|_| who()).collect();
    assert!(named.iter().all(|name| *name == named[0]), "{named:?}");
    let connections = stage.0.director.connections().unwrap();
    let template = connections.iter().find(|connection| connection["client"]["port"] == 0).unwrap();
    assert_eq!((&template["local"], &template["client"]["address"]), (&Value::Null, &json!(CLIENT)));
}
