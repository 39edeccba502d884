//! Four directors that advertise a virtual address by BGP: one is drained and one loses its power while a client downloads.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::Result;
use tests::eventually;
use tests::topology::{FLEET_VIP, Fleet};

use crate::download::Download;

/// What an operator types on each director.
const COMMANDS: [&str; 4] = [
    "-A -t 203.0.113.10:80 -s mh -b mh-port",
    "-a -t 203.0.113.10:80 -r 192.168.122.101 -g",
    "-a -t 203.0.113.10:80 -r 192.168.122.102 -g",
    "sysctl sloppy_tcp=1",
];

/// Directors of the fleet.
const COUNT: usize = 4;

/// Shows it.
pub fn show() -> Result<()> {
    println!("\n\x1b[1m━━━ A fleet ━━━\x1b[0m");
    println!(
        "Four directors announce the virtual address to a router, which spreads connections over them. All choose the same real \
         server for a connection (mh), so any of them goes on with it.\n"
    );
    COMMANDS.iter().for_each(|command| println!("each director# lvsadm {command}"));
    println!("each director# lvsadm sysctl advertise_table=173");
    let mut fleet = Fleet::new(COUNT, &COMMANDS.map(str::to_owned))?;
    println!("director 1# cat /etc/bird/bird.conf");
    fleet.bird_configuration(1)?.lines().for_each(|line| println!("  {line}"));
    println!("\ndirector 1# ip route show table 173");
    fleet.director(1).run("ip route show table 173")?.lines().for_each(|line| println!("  {line}"));
    show_routes(&fleet)?;
    let (client, service) = (fleet.cluster.client(), SocketAddr::new(FLEET_VIP, 80));
    eventually("a first answer", || client.get(service, "/").is_ok());

    let mut download = Download::begin(&fleet.cluster.client, service)?;
    download.watch(Duration::from_secs(2), || place(&fleet))?;
    let first = busiest(&fleet);
    println!("\x1b[1mdirector {first}, which has the download, is drained\x1b[0m");
    println!("director {first}# lvsadm drain --director");
    print!("  {}", fleet.director(first).lvsadm("drain --director")?);
    download.watch(Duration::from_secs(3), || place(&fleet))?;
    let others: Vec<usize> = (1..=COUNT).filter(|number| *number != first).collect();
    let second = others.iter().copied().find(|number| has_download(&fleet, *number)).unwrap_or(others[0]);
    println!("\x1b[1mdirector {second}, which has it now, loses its power\x1b[0m");
    fleet.lose(second)?;
    download.watch(Duration::from_secs(3), || place(&fleet))?;
    println!("director {first}# lvsadm drain --director --undo");
    fleet.director(first).lvsadm("drain --director --undo")?;
    download.watch(Duration::from_secs(60), || place(&fleet))?;
    show_routes(&fleet)?;
    download.end()
}

/// What the router knows.
fn show_routes(fleet: &Fleet) -> Result<()> {
    println!("router# ip route show {FLEET_VIP}");
    fleet.cluster.router.run(&format!("ip route show {FLEET_VIP}"))?.lines().for_each(|line| println!("  {line}"));
    println!();
    Ok(())
}

/// The directors that the router sends to.
fn place(fleet: &Fleet) -> String {
    let numbers: Vec<_> = fleet.served_by().iter().map(usize::to_string).collect();
    format!("the router sends to directors {}", numbers.join(", "))
}

/// Packets that a director has got for the service.
fn packets(fleet: &Fleet, number: usize) -> u64 {
    let listed = fleet.director(number).lvsadm("-L --json --stats").unwrap_or_default();
    let services: serde_json::Value = serde_json::from_str(&listed).unwrap_or_default();
    services[0]["statistics"]["in_packets"].as_u64().unwrap_or_default()
}

/// Whether a director gets packets of the download.
fn has_download(fleet: &Fleet, number: usize) -> bool {
    let before = packets(fleet, number);
    std::thread::sleep(Duration::from_millis(300));
    packets(fleet, number) > before
}

/// The director that got most packets so far.
fn busiest(fleet: &Fleet) -> usize {
    (1..=COUNT).max_by_key(|number| packets(fleet, *number)).unwrap_or(1)
}
