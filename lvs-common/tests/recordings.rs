//! Every pick of every recorded run of the kernel's schedulers: `golden/sched.jsonl` has one run a line.

mod director;

use std::net::IpAddr;

use director::{Service, address};
use lvs_common::{
    byte_order::Be16,
    sched::PickKey,
    state::{Direction, TCP, UDP, tcp},
};

#[derive(serde::Deserialize)]
struct Run {
    name: String,
    /// What the packets of a connection are.
    variant: String,
    /// Commands before the first connection.
    commands: Vec<String>,
    /// Commands between connections, with the number of the connection that they precede.
    events: Vec<(usize, String)>,
    /// Of each connection: client's address and port, for firewall marks the packet's destination, and which server it
    /// got.
    picks: Vec<Vec<serde_json::Value>>,
    /// Address, weight, active and inactive connections of every destination at the end.
    r#final: Vec<(String, u32, u32, u32)>,
}

/// The destination address of a run's packets that do not name it: the service's.
fn virtual_address(command: &str) -> IpAddr {
    let service = command.split(' ').nth(2).unwrap();
    service.parse::<std::net::SocketAddr>().map_or(IpAddr::from([0, 0, 0, 0]), |socket| socket.ip())
}

/// Packets of connection number `i`.
fn packets(variant: &str, i: usize) -> (u8, Vec<(Direction, u8)>) {
    let syn = (Direction::Input, tcp::SYN);
    let established = vec![syn, (Direction::Output, tcp::SYN), (Direction::Input, tcp::ACK)];
    match variant {
        "udp" => (UDP, vec![(Direction::Input, 0)]),
        "tcp-syn" => (TCP, vec![syn]),
        "tcp-estab-close3" if i.is_multiple_of(3) => (TCP, [established, vec![(Direction::Input, tcp::RST)]].concat()),
        "tcp-estab" | "tcp-estab-close3" => (TCP, established),
        other => panic!("no such variant: {other}"),
    }
}

fn replay(run: &Run, rostered: bool) {
    let mut service = Service { rostered, ..Service::new("none", &[]) };
    for command in &run.commands {
        service.command(command);
    }
    for (i, recorded) in run.picks.iter().enumerate() {
        for (_, command) in run.events.iter().filter(|(before, _)| *before == i) {
            service.command(command);
        }
        let ip = |value: &serde_json::Value| value.as_str().unwrap().parse::<IpAddr>().unwrap();
        let virt = if recorded.len() == 4 { ip(&recorded[2]) } else { virtual_address(&run.commands[0]) };
        let key = PickKey {
            client: address(ip(&recorded[0])),
            client_port: Be16::new(recorded[1].as_u64().unwrap() as u16),
            virt: address(virt),
            ..PickKey::default()
        };
        let dest = service.schedule(&key);
        let expected = recorded.last().unwrap().as_u64().unwrap_or(0);
        assert_eq!(u64::from(dest.get()), expected, "{}: connection {i}", run.name);
        if dest.is_some() {
            let (protocol, packets) = packets(&run.variant, i);
            service.bind(dest, protocol, &packets);
        }
    }
    let mut counts: Vec<_> = service
        .servers
        .iter()
        .filter(|server| server.configured)
        .map(|server| (server.socket.to_string(), server.weight, server.active, server.inactive))
        .collect();
    let mut listed = run.r#final.clone();
    counts.sort();
    listed.sort();
    assert_eq!(counts, listed, "{}", run.name);
}

#[test]
fn every_pick_is_the_kernels() {
    let recording = include_str!("golden/sched.jsonl");
    let runs: Vec<Run> = recording.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(runs.len(), 203);
    for run in &runs {
        replay(run, false);
        replay(run, true);
    }
}
