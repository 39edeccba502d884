//! Established connections that expire are reset at both ends, where that is wanted.

use std::net::{IpAddr, SocketAddr};

use anyhow::{Context, Result, ensure};
use tests::balanced::{Balanced, DR, FULLNAT_TOA, IPIP, Mode, NAT, SERVERS, TIERS};
use tests::eventually;
use tests::topology::{Arms, Origin, Session, VIP, VIP6};

/// How many sockets of real servers are connected to clients.
fn at_servers(balanced: &Balanced) -> usize {
    let sockets = |server: &tests::topology::Namespace| server.run("ss -Htn state established sport = :80").unwrap();
    balanced.cluster.servers.iter().map(|server| sockets(server).lines().count()).sum()
}

/// A connection to each real server, which knows both ends' numbers from more than the handshake.
fn open(balanced: &Balanced, service: SocketAddr) -> Result<Vec<Session>> {
    let mut sessions = Vec::new();
    for _ in 0..SERVERS {
        let mut session = Session::open(&balanced.cluster.client, service, Origin::default())?;
        session.ask()?;
        session.ask()?;
        sessions.push(session);
    }
    Ok(sessions)
}

/// Any packet that comes by carries resets: one for a port that nobody serves will do.
fn carry(balanced: &Balanced, vip: IpAddr) -> Result<()> {
    let closed = SocketAddr::new(vip, 81);
    let refused = Session::open(&balanced.cluster.client, closed, Origin::default()).is_err();
    ensure!(refused, "{closed} is open");
    Ok(())
}

/// Has connections expire that are idle for a second.
fn be_impatient(balanced: &Balanced, vip: IpAddr) -> Result<SocketAddr> {
    let service = SocketAddr::new(vip, 80);
    balanced.cluster.director.lvsadm(&format!("-E -t {service} -s rr --conn-timeout 1:120:300"))?;
    Ok(service)
}

fn are_reset(balanced: &Balanced, vip: IpAddr) -> Result<()> {
    let director = &balanced.cluster.director;
    director.lvsadm("sysctl conn_expire_tcp_rst=1")?;
    let mut sessions = open(balanced, be_impatient(balanced, vip)?)?;
    ensure!(at_servers(balanced) == SERVERS, "other connections are open");
    eventually("real servers' ends are reset", || {
        carry(balanced, vip).unwrap();
        at_servers(balanced) == 0
    });
    ensure!(sessions.iter_mut().all(Session::is_reset), "a client's end is not reset");
    // The director has seen that it is over.
    let over = director.connections()?.iter().all(|c| c["state"] == "CLOSE");
    ensure!(over, "other states: {:?}", director.connections()?);
    Ok(())
}

fn are_left_alone(balanced: &Balanced, vip: IpAddr) -> Result<()> {
    let director = &balanced.cluster.director;
    director.lvsadm("sysctl conn_expire_tcp_rst=0")?;
    let _sessions = open(balanced, be_impatient(balanced, vip)?)?;
    eventually("they are forgotten", || {
        carry(balanced, vip).unwrap();
        director.connections().unwrap().iter().all(|c| c["state"] != "ESTABLISHED")
    });
    ensure!(at_servers(balanced) == SERVERS, "real servers are told though it is not wanted");
    Ok(())
}

fn check(mode: Mode) {
    let balanced = Balanced::new(mode, Arms::Two, false).unwrap();
    // Frames as on a wire, and as hosts of one machine hand them to each other.
    for tier in [TIERS[0], TIERS[3]] {
        balanced.carry_by(tier).unwrap();
        for vip in [VIP, VIP6] {
            are_reset(&balanced, vip).with_context(|| format!("{tier:?} {vip}")).unwrap();
        }
    }
    are_left_alone(&balanced, VIP).unwrap();
}

#[test]
fn nat() {
    check(NAT);
}

#[test]
fn direct_routing() {
    check(DR);
}

#[test]
fn tunnels() {
    check(IPIP);
}

#[test]
fn fullnat() {
    check(FULLNAT_TOA);
}
