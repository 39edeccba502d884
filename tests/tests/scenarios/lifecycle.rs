//! What becomes of real connections when their real server is full, removed or quiesced, and when their ports are used again.

use std::collections::BTreeSet;
use std::net::SocketAddr;

use anyhow::{Context, Result, ensure};
use tests::eventually;
use tests::topology::{Cluster, Datagrams, Layout, Namespace, Offloads, Origin, Server, Session, VIP, fresh_port};

const WEB: &str = "-t 10.10.10.10:80";
const DNS: &str = "-u 10.10.10.10:53";

/// A director of two real servers.
fn cluster() -> Result<(Cluster, Vec<Server>)> {
    let cluster = Cluster::new(Layout { servers: 2, offloads: Offloads::Off, ..Layout::default() })?;
    cluster.director.sysctl(&["net/ipv4/ip_forward=1"])?;
    let mut servers = Vec::new();
    for (number, namespace) in (1..).zip(&cluster.servers) {
        servers.push(Server::udp(namespace, cluster.server_addresses(number).0, 53, &format!("rs{number}"))?);
    }
    Ok((cluster, servers))
}

/// Checks with either tier, each time with services anew: none but the two, with both servers.
fn each_tier(cluster: &Cluster, check: impl Fn() -> Result<()>) {
    for tier in ["tc", "native"] {
        let director = &cluster.director;
        director.lvsadm(&format!("attach --mode {tier}")).unwrap();
        director.lvsadm("sysctl --reset").unwrap();
        director.lvsadm("-C").unwrap();
        for (service, port) in [(WEB, 80), (DNS, 53)] {
            director.lvsadm(&format!("-A {service} -s rr")).unwrap();
            for number in 1..=2 {
                let server = SocketAddr::new(cluster.server_addresses(number).0, port);
                director.lvsadm(&format!("-a {service} -r {server} -m")).unwrap();
            }
        }
        check().with_context(|| tier).unwrap();
    }
}

/// How the server that answers by this name is named in rules.
fn server(name: &str, service: &str) -> String {
    let port = service.rsplit(':').next().unwrap_or_default();
    format!("-r 192.168.122.10{}:{port}", &name[2..])
}

/// A session from a port of the client, or from a new one for 0: of what a drain has ended real servers know nothing, and refuse a
/// request from the same port at first, which counts as a connection for a second.
fn open(cluster: &Cluster, port: u16) -> Result<Session> {
    let port = if port == 0 { fresh_port() } else { port };
    Session::open(&cluster.client, SocketAddr::new(VIP, 80), Origin { port, ..Origin::default() })
}

/// The states of connections from a port of the client.
fn states(director: &Namespace, port: u16) -> Vec<String> {
    let connections = director.connections().unwrap();
    let of_port = connections.iter().filter(|c| c["client"]["port"] == port);
    of_port.map(|c| c["state"].as_str().unwrap().to_owned()).collect()
}

/// A server at its upper threshold gets no connections until there are few enough: less than the lower one, or less than
/// three quarters of the upper one.
#[test]
fn thresholds_keep_connections_away() {
    let (cluster, _servers) = cluster().unwrap();
    let director = &cluster.director;
    each_tier(&cluster, || {
        for (options, enough) in [("-x 4", 2), ("-x 4 -y 2", 1)] {
            director.lvsadm(&format!("-e {WEB} {} -m {options}", server("rs1", WEB)))?;
            let mut sessions = Vec::new();
            let mut limited = Vec::new();
            for _ in 0..12 {
                let mut session = open(&cluster, 0)?;
                match session.ask()?.as_str() {
                    "rs1" => limited.push(session),
                    _ => sessions.push(session),
                }
            }
            ensure!(limited.len() == 4, "{options}: {} connections\n{}", limited.len(), director.lvsadm("-Ln")?);
            // Each is reset, and its place in the table taken by a new one from the same port.
            while limited.len() > enough {
                ensure!(open(&cluster, 0)?.ask()? == "rs2", "{options}: a connection beside {}", limited.len());
                let ended = limited.pop().context("none left")?;
                let port = ended.port()?;
                ended.reset()?;
                eventually("it is reset", || states(director, port) == ["CLOSE"]);
                sessions.push(open(&cluster, port)?);
            }
            let mut answers = Vec::new();
            for session in sessions.last_mut().into_iter().chain(&mut [open(&cluster, 0)?, open(&cluster, 0)?]) {
                answers.push(session.ask()?);
            }
            ensure!(answers.iter().any(|answer| answer == "rs1"), "{options}: {answers:?} beside {enough}");
            // What has been opened is not to disturb the next.
            director.lvsadm(&format!("-e {WEB} {} -m", server("rs1", WEB)))?;
            for name in ["rs1", "rs2"] {
                director.lvsadm(&format!("drain {WEB} {} --timeout 0 --reset", server(name, WEB)))?;
                director.lvsadm(&format!("-e {WEB} {} -m -w 1", server(name, WEB)))?;
            }
        }
        Ok(())
    });
}

/// As after an edit: what it was overloaded by was the threshold that it had before.
#[test]
fn a_server_that_comes_back_with_a_higher_threshold_is_not_overloaded() {
    let (cluster, _servers) = cluster().unwrap();
    let director = &cluster.director;
    let limited = server("rs1", WEB);
    each_tier(&cluster, || {
        let mut sessions = Vec::new();
        let mut opened = |count| -> Result<usize> {
            let mut of_limited = 0;
            for _ in 0..count {
                let mut session = open(&cluster, 0)?;
                of_limited += usize::from(session.ask()? == "rs1");
                sessions.push(session);
            }
            Ok(of_limited)
        };
        director.lvsadm(&format!("-e {WEB} {limited} -m -x 1"))?;
        let before = opened(4)?;
        director.lvsadm(&format!("-d {WEB} {limited}"))?;
        director.lvsadm(&format!("-a {WEB} {limited} -m -x 3"))?;
        ensure!((before, opened(8)?) == (1, 2), "{}", director.lvsadm("-Ln --thresholds")?);
        for name in ["rs1", "rs2"] {
            director.lvsadm(&format!("drain {WEB} {} --timeout 0 --reset", server(name, WEB)))?;
        }
        Ok(())
    });
}

#[test]
fn connections_of_a_removed_server_wait_for_it_or_move() {
    let (cluster, _servers) = cluster().unwrap();
    let director = &cluster.director;
    each_tier(&cluster, || {
        let mut session = open(&cluster, 0)?;
        let datagrams = Datagrams::open(&cluster.client, SocketAddr::new(VIP, 53), Origin::default())?;
        let (web, dns) = (session.ask()?, datagrams.ask()?);
        let (web_server, dns_server) = (server(&web, WEB), server(&dns, DNS));
        let dropped = director.exit("drop-no-destination")?;
        director.lvsadm(&format!("-d {WEB} {web_server}"))?;
        director.lvsadm(&format!("-d {DNS} {dns_server}"))?;
        ensure!(session.is_ignored()?, "TCP to a removed server is answered");
        ensure!(datagrams.is_ignored()?, "UDP to a removed server is answered");
        ensure!(director.exit("drop-no-destination")? >= dropped + 2, "something else dropped them");
        ensure!(open(&cluster, 0)?.ask()? != web, "a new connection to a removed server");
        director.lvsadm(&format!("-a {WEB} {web_server} -m"))?;
        director.lvsadm(&format!("-a {DNS} {dns_server} -m"))?;
        ensure!(session.hear()? == web, "TCP is not revived");
        ensure!(datagrams.ask()? == dns, "UDP is not revived");
        // Those whose packets come once more are scheduled anew, as far as packets can open connections.
        director.lvsadm("sysctl expire_nodest_conn=1")?;
        director.lvsadm(&format!("-d {WEB} {web_server}"))?;
        director.lvsadm(&format!("-d {DNS} {dns_server}"))?;
        ensure!(session.ask().is_err(), "TCP goes on with a removed server");
        ensure!(datagrams.ask()? != dns, "UDP does not move");
        Ok(())
    });
}

/// With `expire_nodest_conn`, nobody has to send a packet: connections leave the table, and templates after them.
#[test]
fn connections_and_templates_of_a_removed_server_go_by_themselves() {
    let (cluster, _servers) = cluster().unwrap();
    let director = &cluster.director;
    each_tier(&cluster, || {
        director.lvsadm(&format!("-E {DNS} -s rr -p 300"))?;
        let mut names = BTreeSet::new();
        let clients = (0..6).map(|_| Datagrams::open(&cluster.client, SocketAddr::new(VIP, 53), Origin::default()));
        let clients = clients.collect::<Result<Vec<_>>>()?;
        for client in &clients {
            names.insert(client.ask()?);
        }
        ensure!(names.len() == 1, "persistence has spread a client over {names:?}");
        let name = names.pop_first().context("no answer")?;
        eventually("all are counted", || held(director) == clients.len() as u64 + 1);
        director.lvsadm("sysctl expire_nodest_conn=1")?;
        director.lvsadm(&format!("-d {DNS} {}", server(&name, DNS)))?;
        ensure!(director.connections()?.is_empty(), "they are listed still");
        eventually("the table is empty", || held(director) == 0);
        ensure!(director.connections()?.is_empty(), "they are listed again");
        Ok(())
    });
}

/// How many entries the sweep has counted in the table of IPv4.
fn held(director: &Namespace) -> u64 {
    director.json("status --json").unwrap()["connections"]["inet"].as_u64().unwrap()
}

#[test]
fn udp_moves_at_once_where_that_is_wanted() {
    let (cluster, _servers) = cluster().unwrap();
    let director = &cluster.director;
    each_tier(&cluster, || {
        let datagrams = Datagrams::open(&cluster.client, SocketAddr::new(VIP, 53), Origin::default())?;
        let first = datagrams.ask()?;
        director.lvsadm(&format!("-e {DNS} {} -m -w 0", server(&first, DNS)))?;
        ensure!(datagrams.ask()? == first, "it moves though that is not wanted");
        director.lvsadm("sysctl expire_udp_conn=1")?;
        let second = datagrams.ask()?;
        ensure!(second != first, "it stays with a quiesced server");
        ensure!(datagrams.ask()? == second, "it moves again");
        director.lvsadm(&format!("-e {DNS} {} -m -w 1", server(&first, DNS)))?;
        ensure!(datagrams.ask()? == second, "it moves back");
        director.lvsadm(&format!("-d {DNS} {}", server(&second, DNS)))?;
        ensure!(datagrams.ask()? == first, "it stays with a removed server");
        Ok(())
    });
}

#[test]
fn a_port_that_is_used_again_gets_a_new_connection_at_once() {
    let (cluster, _servers) = cluster().unwrap();
    let director = &cluster.director;
    each_tier(&cluster, || {
        let mut session = open(&cluster, 0)?;
        let port = session.port()?;
        let first = session.ask_once()?;
        drop(session);
        eventually("both ends have closed", || states(director, port) == ["TIME_WAIT"]);
        let before = retransmissions(&cluster.client)?;
        let mut again = open(&cluster, port)?;
        // In turn, so it was scheduled.
        ensure!(again.ask()? != first, "the old connection took it");
        ensure!(states(director, port) == ["ESTABLISHED"], "{:?}", states(director, port));
        ensure!(retransmissions(&cluster.client)? == before, "its first packet was dropped");
        Ok(())
    });
}

/// Segments that a host sent more than once.
fn retransmissions(host: &Namespace) -> Result<u64> {
    let text = host.enter(|| Ok(std::fs::read_to_string("/proc/thread-self/net/snmp")?))?;
    // A line of names, then one of numbers.
    let mut lines = text.lines().filter(|line| line.starts_with("Tcp:"));
    let (names, numbers) = lines.next().zip(lines.next()).context("nothing about TCP")?;
    let mut columns = names.split(' ').zip(numbers.split(' '));
    let (_, number) = columns.find(|(name, _)| *name == "RetransSegs").context("no such counter")?;
    Ok(number.parse()?)
}
