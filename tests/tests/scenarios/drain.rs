//! `lvsadm drain`, under real connections.

use std::net::SocketAddr;
use std::process::{Child, Stdio};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tests::eventually;
use tests::topology::{Cluster, Counts, Datagrams, Layout, Namespace, Origin, Server, Session, VIP, lvsadm_path};

/// A service and how it is named: by its port.
const WEB: (&str, u16) = ("-t 10.10.10.10:80", 80);
const PERSISTENT: (&str, u16) = ("-t 10.10.10.10:81", 81);
const DNS: (&str, u16) = ("-u 10.10.10.10:53", 53);

/// A director with two real servers of each service.
fn cluster() -> (Cluster, Vec<Server>) {
    let cluster = Cluster::new(Layout { servers: 2, ..Layout::default() }).unwrap();
    cluster.director.sysctl(&["net/ipv4/ip_forward=1"]).unwrap();
    let mut servers = Vec::new();
    for ((service, port), options) in [(WEB, ""), (PERSISTENT, " -p 300"), (DNS, " --conn-timeout 0:0:1")] {
        cluster.director.lvsadm(&format!("-A {service} -s rr{options}")).unwrap();
        for (number, namespace) in (1..).zip(&cluster.servers) {
            let (address, name) = (cluster.server_addresses(number).0, format!("rs{number}"));
            cluster.director.lvsadm(&format!("-a {service} -r {address}:{port} -m -w 7 -x 100 -y 50")).unwrap();
            match port {
                81 => servers.push(Server::http(namespace, port, &name).unwrap()),
                53 => servers.push(Server::udp(namespace, address, port, &name).unwrap()),
                // The cluster's own.
                _ => {}
            }
        }
    }
    (cluster, servers)
}

/// Starts draining a server.
fn start(director: &Namespace, service: &str, server: &str, options: &str) -> Child {
    let mut command = director.command(lvsadm_path());
    command.arg("drain").args(format!("{service} -r {server} {options}").split_whitespace());
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
}

/// What came of it: its status, standard output, standard error.
fn end(child: Child) -> (Option<i32>, String, String) {
    let output = child.wait_with_output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (output.status.code(), text(output.stdout), text(output.stderr))
}

/// Drains a server, to the end.
fn drain(director: &Namespace, service: &str, server: &str, options: &str) -> (Option<i32>, String, String) {
    end(start(director, service, server, options))
}

/// The address of the server that answers by this name.
fn address(name: &str) -> String {
    format!("192.168.122.10{}", &name[2..])
}

fn counts(director: &Namespace, service: &str, server: &str) -> Counts {
    director.destinations(service).unwrap()[server]
}

/// The end of everything, with a line before it if something was ended.
fn done(server: &str, port: u16, ended: &str) -> (Option<i32>, String, String) {
    let ended = if ended.is_empty() { String::new() } else { format!("{server}:{port}: {ended}: ended now\n") };
    (Some(0), format!("{ended}{server}:{port}: 0 active, 0 inactive, 0 persistent\n"), String::new())
}

#[test]
fn what_stays_is_told_or_ended() {
    let (cluster, _servers) = cluster();
    let (director, client) = (&cluster.director, &cluster.client);
    let open = |port| Session::open(client, SocketAddr::new(VIP, port), Origin::default()).unwrap();

    let (service, port) = WEB;
    let mut kept = open(port);
    let name = kept.ask().unwrap();
    let server = address(&name);
    for options in ["--timeout 0", "--timeout 1"] {
        let told = format!("{server}:80: 1 active, 0 inactive, 0 persistent\n");
        assert_eq!(drain(director, service, &server, options), (Some(1), told, String::new()));
    }
    // Only its weight is another one; its connection goes on, and there are no new ones.
    let line = format!("-a {service} -r {server}:80 -m -w 0 -x 100 -y 50");
    assert!(director.lvsadm("save --full").unwrap().lines().any(|other| other == line));
    for _ in 0..3 {
        assert_ne!(open(port).ask().unwrap(), name);
        assert_eq!(kept.ask().unwrap(), name);
    }
    let ended = done(&server, port, "1 active, 0 inactive, 0 persistent");
    assert_eq!(drain(director, service, &server, "--timeout 0 --reset"), ended);
    assert!(kept.ask().is_err(), "a connection that was ended is served");
    assert_eq!(counts(director, service, &server), Counts::default());
    assert_eq!(drain(director, service, &server, ""), done(&server, port, ""));

    // Persistence leads there still, until that is ended too.
    let (service, port) = PERSISTENT;
    let mut kept = open(port);
    let name = kept.ask().unwrap();
    let server = address(&name);
    let (status, told, warning) = drain(director, service, &server, "--timeout 0");
    assert_eq!((status, told), (Some(1), format!("{server}:81: 1 active, 0 inactive, 1 persistent\n")));
    assert!(warning.contains("sysctl expire_quiescent_template=1") && warning.lines().count() == 1, "{warning}");
    let mut other = open(port);
    assert_eq!(other.ask().unwrap(), name);
    let (status, told, _) = drain(director, service, &server, "--timeout 0 --reset");
    assert_eq!((status, told), (Some(0), done(&server, port, "2 active, 0 inactive, 1 persistent").1));
    assert!(kept.ask().is_err() && other.ask().is_err());
    assert_ne!(open(port).ask().unwrap(), name);
    assert_eq!(counts(director, service, &server), Counts::default());
}

#[test]
fn it_waits_and_can_be_told_to_stop() {
    let (cluster, _servers) = cluster();
    let (director, client) = (&cluster.director, &cluster.client);

    // UDP's connections end by themselves, of which nobody else would tell.
    let (service, port) = DNS;
    let datagrams = Datagrams::open(client, SocketAddr::new(VIP, port), Origin::default()).unwrap();
    let server = address(&datagrams.ask().unwrap());
    assert_eq!(counts(director, service, &server).inactive, 1);
    assert_eq!(drain(director, service, &server, ""), done(&server, port, ""));
    assert_ne!(address(&datagrams.ask().unwrap()), server);

    let (service, port) = WEB;
    let mut kept = Session::open(client, SocketAddr::new(VIP, port), Origin::default()).unwrap();
    let server = address(&kept.ask().unwrap());
    let draining = || counts(director, service, &server).weight == 0;
    let told = format!("{server}:80: 1 active, 0 inactive, 0 persistent\n");
    for signal in [Signal::SIGINT, Signal::SIGTERM] {
        director.lvsadm(&format!("-e {service} -r {server}:80 -m -w 7")).unwrap();
        let waiting = start(director, service, &server, "--timeout 600 --reset");
        eventually("the weight is 0", draining);
        kill(Pid::from_raw(waiting.id() as i32), signal).unwrap();
        let sentence = format!("lvsadm: interrupted: the weight of {server}:80 stays 0\n");
        assert_eq!(end(waiting), (Some(1), told.clone(), sentence));
        assert!(draining() && kept.ask().is_ok());
    }

    director.lvsadm(&format!("-e {service} -r {server}:80 -m -w 7")).unwrap();
    let waiting = start(director, service, &server, "");
    eventually("the weight is 0", draining);
    director.lvsadm(&format!("-e {service} -r {server}:80 -m -w 5")).unwrap();
    let sentence = format!("lvsadm: somebody set the weight of {server}:80 to 5: it is not drained\n");
    assert_eq!(end(waiting), (Some(2), String::new(), sentence));

    let waiting = start(director, service, &server, "");
    eventually("the weight is 0", draining);
    director.lvsadm(&format!("-d {service} -r {server}:80")).unwrap();
    let (status, _, sentence) = end(waiting);
    assert!(status == Some(2) && sentence.contains("is not there any more: No such destination"), "{sentence}");

    let before = director.lvsadm("save --full").unwrap();
    for (service, server, sentence) in [
        ("-t 10.10.10.10:99", "10.0.0.1", "Service not defined"),
        (WEB.0, "10.0.0.1", "No such destination"),
        (WEB.0, "nowhere.invalid:x", "illegal real server address[:port] specified"),
    ] {
        let refused = (Some(2), String::new(), format!("lvsadm: {sentence}\n"));
        assert_eq!(drain(director, service, server, ""), refused);
    }
    assert_eq!(director.lvsadm("save --full").unwrap(), before);
}
