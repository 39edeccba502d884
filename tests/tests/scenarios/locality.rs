//! lblc and lblcr: an address stays with its server as long as it is used, and no longer.

use std::net::SocketAddr;
use std::thread::sleep;
use std::time::Duration;

use anyhow::Result;
use tests::topology::{Cluster, Layout, Offloads, Server, VIP};

/// How long an address is remembered, and how often it is used meanwhile, seconds.
const LIFETIME: u64 = 6;
const BETWEEN: u64 = 2;

#[test]
fn use_keeps_an_address_at_its_server() -> Result<()> {
    let cluster = Cluster::new(Layout { servers: 2, offloads: Offloads::Off, ..Layout::default() })?;
    let director = &cluster.director;
    director.sysctl(&["net/ipv4/ip_forward=1"])?;
    director.lvsadm(&format!("sysctl lblc_expiration={LIFETIME} lblcr_expiration={LIFETIME}"))?;
    let mut servers = Vec::new();
    let services = [(53, "lblc"), (54, "lblcr")].map(|(port, scheduler)| (SocketAddr::new(VIP, port), scheduler));
    for (service, scheduler) in services {
        director.lvsadm(&format!("-A -u {service} -s {scheduler}"))?;
        for (number, host) in (1..).zip(&cluster.servers) {
            let address = cluster.server_addresses(number).0;
            servers.push(Server::udp(host, address, service.port(), &format!("rs{number}"))?);
            director.lvsadm(&format!("-a -u {service} -r {} -m", SocketAddr::new(address, service.port())))?;
        }
    }
    let ask = || -> Result<Vec<String>> {
        let name = |answer: String| answer.split(' ').next().unwrap_or_default().to_owned();
        services.iter().map(|(service, _)| Ok(name(cluster.client().datagram(*service, 1)?))).collect()
    };
    let first = ask()?;
    for _ in 0..LIFETIME / BETWEEN + 1 {
        sleep(Duration::from_secs(BETWEEN));
        // Each is a new connection, which counts where it goes: wlc, which picks without a memory, would go to the other one.
        assert_eq!(ask()?, first);
    }
    sleep(Duration::from_secs(LIFETIME + 2));
    for (now, before) in ask()?.iter().zip(&first) {
        assert_ne!(now, before, "it was forgotten, and the other server has fewer connections");
    }
    Ok(())
}
