//! Load: no request is lost while others work on the director's devices and look at its rules.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use tests::topology::{Cluster, Layout, Offloads, VIP};

/// How long; `LVS_LOAD_SECONDS` makes it longer.
fn duration() -> Duration {
    let seconds = std::env::var("LVS_LOAD_SECONDS").ok().and_then(|text| text.parse().ok());
    Duration::from_secs(seconds.unwrap_or(10))
}

#[test]
fn nothing_is_lost_beside_other_programs_and_listings() {
    let cluster = Cluster::new(Layout { servers: 2, offloads: Offloads::Off, ..Layout::default() }).unwrap();
    let (director, service) = (&cluster.director, SocketAddr::new(VIP, 80));
    director.sysctl(&["net/ipv4/ip_forward=1"]).unwrap();
    director.lvsadm("attach --mode native").unwrap();
    director.lvsadm(&format!("-A -t {service} -s rr")).unwrap();
    for number in 1..=2 {
        director.lvsadm(&format!("-a -t {service} -r {}:80 -m", cluster.server_addresses(number).0)).unwrap();
    }
    let over = AtomicBool::new(false);
    let (answered, rounds) = thread::scope(|scope| {
        let others = scope.spawn(|| {
            let mut rounds = 0;
            while !over.load(Ordering::Relaxed) {
                // A classic BPF program that has no opinion on any packet.
                director.run("tc qdisc add dev eth0 clsact").unwrap();
                let filter = ["filter", "add", "dev", "eth0", "ingress", "bpf", "bytecode", "1,6 0 0 0,"];
                assert!(director.command("tc").args(filter).status().unwrap().success());
                assert!(director.lvsadm("-Ln").unwrap().contains("192.168.122.102:80"));
                director.run("tc qdisc delete dev eth0 clsact").unwrap();
                rounds += 1;
            }
            rounds
        });
        let answered = cluster.client().load(service, 4, duration());
        over.store(true, Ordering::Relaxed);
        (answered, others.join().unwrap())
    });
    let answered = answered.unwrap();
    println!("{answered} requests answered beside {rounds} rounds of others' work");
    assert!(answered > 1000 && rounds > 10, "{answered} requests, {rounds} rounds");
}
