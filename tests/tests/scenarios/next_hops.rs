//! The way to real servers and clients: what the network stack alone can send, what has no way, and rules of the host's.

use std::io::ErrorKind;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream};
use std::time::Duration;

use tests::topology::{Arms, Cluster, Layout, Namespace, Offloads, PacketSocket, Site, VIP, VIP6};
use tests::{cannot_run, eventually};

/// A director with a web service in each family, each with the first real server.
fn web(layout: Layout, option: &str) -> Cluster {
    let cluster = Cluster::new(layout).unwrap();
    cluster.director.sysctl(&["net/ipv4/ip_forward=1", "net/ipv6/conf/all/forwarding=1"]).unwrap();
    let (v4, v6) = cluster.server_addresses(1);
    for (vip, server) in [(VIP, v4), (VIP6, v6)] {
        let service = SocketAddr::new(vip, 80);
        cluster.director.lvsadm(&format!("-A -t {service} -s rr")).unwrap();
        cluster.director.lvsadm(&format!("-a -t {service} -r {} {option}", SocketAddr::new(server, 80))).unwrap();
    }
    cluster
}

fn nat(tier: &str) -> Cluster {
    let cluster = web(Layout { servers: 2, offloads: Offloads::Off, ..Layout::default() }, "-m");
    cluster.director.lvsadm(&format!("attach --mode {tier}")).unwrap();
    cluster
}

/// Whether a client is served.
fn is_served(cluster: &Cluster, vip: IpAddr) -> bool {
    cluster.client().spread(SocketAddr::new(vip, 80), 1).is_ok()
}

/// How a connection to a service fails.
fn failure(client: &Namespace, service: SocketAddr) -> Option<ErrorKind> {
    let tried =
        client.enter(|| Ok(TcpStream::connect_timeout(&service, Duration::from_secs(3)).err().map(|e| e.kind())));
    tried.unwrap()
}

#[test]
fn direct_routing_goes_on_when_forwarding_is_switched_off() {
    let layout =
        Layout { arms: Arms::One, site: Site::BesideDirector, servers: 1, offloads: Offloads::Off, driver: None };
    let cluster = web(layout, "-g");
    for server in &cluster.servers {
        server.lvsadm("real-server --dr --vip 10.10.10.10 2001:db8:a::10").unwrap();
    }
    for tier in ["tc", "native"] {
        cluster.director.lvsadm(&format!("attach --mode {tier}")).unwrap();
        for vip in [VIP, VIP6] {
            cluster.client().spread(SocketAddr::new(vip, 80), 1).unwrap();
        }
        let before = cluster.director.exit("hop-kept").unwrap();
        // Any command would switch it on again, so none is run.
        cluster.director.sysctl(&["net/ipv4/ip_forward=1", "net/ipv6/conf/all/forwarding=1"]).unwrap();
        cluster.director.sysctl(&["net/ipv4/ip_forward=0", "net/ipv6/conf/all/forwarding=0"]).unwrap();
        // What is cached of routes is older than a second by then.
        std::thread::sleep(Duration::from_millis(1100));
        assert!(is_served(&cluster, VIP) && is_served(&cluster, VIP6), "{tier}: without forwarding");
        assert!(cluster.director.exit("hop-kept").unwrap() > before, "{tier}");
    }
    for server in &cluster.servers {
        server.lvsadm("real-server --off").unwrap();
    }
}

#[test]
fn the_stack_takes_a_route_that_encapsulates() {
    for tier in ["tc", "native"] {
        let cluster = nat(tier);
        let encapsulate = "route add 192.168.122.101/32 encap ip id 5 dst 192.168.122.102 dev eth1";
        cluster.director.ip(&[encapsulate]).unwrap();
        eventually("the route is used", || {
            assert!(is_served(&cluster, VIP), "{tier}");
            cluster.director.exit("stack").unwrap() > 0
        });
        cluster.director.ip(&["route del 192.168.122.101/32"]).unwrap();
        assert!(is_served(&cluster, VIP), "{tier}: the way back");
    }
}

#[test]
fn a_client_is_told_that_a_real_server_has_no_route() {
    let cluster = nat("tc");
    cluster.director.ip(&["route add prohibit 172.20.0.0/16", "route add blackhole 172.21.0.0/16"]).unwrap();
    cluster.client.sysctl(&["net/ipv4/tcp_syn_retries=1"]).unwrap();
    for (port, server, mode) in
        [(81, "172.19.0.1", "-m"), (82, "172.20.0.1", "-m"), (83, "172.21.0.1", "-m"), (84, "172.19.0.1", "-g")]
    {
        let service = SocketAddr::new(VIP, port);
        cluster.director.lvsadm(&format!("-A -t {service} -s rr")).unwrap();
        cluster.director.lvsadm(&format!("-a -t {service} -r {server} {mode}")).unwrap();
        let before = cluster.director.exit("drop-no-route").unwrap();
        assert_eq!(failure(&cluster.client, service), Some(ErrorKind::HostUnreachable), "{server} {mode}");
        assert!(cluster.director.exit("drop-no-route").unwrap() > before, "{server} {mode}");
    }
    let service = SocketAddr::new(VIP6, 81);
    cluster.director.lvsadm(&format!("-A -t {service} -s rr")).unwrap();
    cluster.director.lvsadm(&format!("-a -t {service} -r [2001:db8:99::1]:81 -m")).unwrap();
    assert_eq!(failure(&cluster.client, service), Some(ErrorKind::HostUnreachable));
}

#[test]
fn nothing_leaves_in_clear_where_ipsec_is_demanded() {
    for tier in ["tc", "native"] {
        let cluster = nat(tier);
        let policy =
            "policy add src 0.0.0.0/0 dst 192.168.122.0/24 dir out tmpl proto esp mode transport level required";
        let added = cluster.director.run(&format!("ip xfrm {policy}"));
        if added.is_err() {
            return cannot_run("this kernel has no IPsec");
        }
        cluster.director.lvsadm("-Ln").unwrap();
        let wire = PacketSocket::open(&cluster.servers[0], "eth0").unwrap();
        let service = SocketAddr::new(VIP, 80);
        eventually("the hop from before the policy is forgotten", || {
            let before = cluster.director.exit("stack").unwrap();
            assert!(
                failure(&cluster.client, service).is_some_and(|kind| kind != ErrorKind::ConnectionRefused)
                    || before == 0
            );
            cluster.director.exit("stack").unwrap() > before
        });
        let is_tcp = |frame: &[u8]| {
            frame.get(12..14) == Some(&[8, 0]) && frame.get(23) == Some(&6) && frame.get(26) == Some(&10)
        };
        while wire.receive(Duration::ZERO, is_tcp).unwrap().is_some() {}
        assert_ne!(failure(&cluster.client, service), None, "{tier}");
        assert!(wire.receive(Duration::ZERO, is_tcp).unwrap().is_none(), "{tier}: a packet in clear");
        cluster.director.run("ip xfrm policy flush").unwrap();
        cluster.director.lvsadm("-Ln").unwrap();
        assert!(is_served(&cluster, VIP), "{tier}: without policies");
    }
}

#[test]
fn replies_obey_rules_about_the_virtual_address() {
    for tier in ["tc", "native"] {
        let cluster = nat(tier);
        cluster.client.ip(&["addr add 10.30.0.1/32 dev lo"]).unwrap();
        // Without the rule the answer would go into the void.
        cluster
            .director
            .ip(&[
                "route add 10.30.0.0/16 via 192.168.122.102",
                "route add 10.30.0.0/16 via 10.10.10.1 table 200",
                "rule add from 10.10.10.10 table 200",
            ])
            .unwrap();
        let curl = "curl --silent --show-error --max-time 5 --interface 10.30.0.1 http://10.10.10.10/";
        assert!(cluster.client.run(curl).unwrap().starts_with("rs1"), "{tier}");
    }
}

/// Forwarding methods, and whether the real server is of the other family than the virtual address.
const METHODS: [(&str, bool); 11] = [
    ("-m", false),
    ("-g", false),
    ("-i", false),
    ("-i --tun-type gre", false),
    ("-i --tun-type gue --tun-port 6080", false),
    ("-i --tun-type vxlan --tun-port 4789", false),
    ("--fullnat", false),
    ("-i", true),
    ("-i --tun-type gre", true),
    ("-i --tun-type gue --tun-port 6080", true),
    ("-i --tun-type vxlan --tun-port 4789", true),
];

/// Real servers that nobody is, on the link, by each forwarding method: their options, and the addresses for an IPv4 and an IPv6
/// service, which end in `number` or the numbers after it.
fn absent(number: u8) -> impl Iterator<Item = (&'static str, IpAddr, IpAddr)> {
    (number..).zip(METHODS).map(|(last, (option, is_crossed))| {
        let v4 = IpAddr::from(Ipv4Addr::new(192, 168, 122, last));
        let v6 = format!("2001:db8:b::{last}").parse().unwrap();
        if is_crossed { (option, v6, v4) } else { (option, v4, v6) }
    })
}

#[test]
fn a_client_is_told_that_a_real_server_does_not_answer() {
    let cluster = nat("tc");
    let (v4, v6) = cluster.server_addresses(1);
    let (host4, host6) = (v4.to_string(), v6.to_string());
    assert!(host4.starts_with("192.168.122.") && host6.starts_with("2001:db8:b::"), "{host4} {host6}");
    // The client gets many answers at once.
    cluster.director.sysctl(&["net/ipv4/icmp_ratelimit=0", "net/ipv6/icmp/ratelimit=0"]).unwrap();
    cluster.director.lvsadm("--add-laddr -z 192.168.122.254").unwrap();
    cluster.director.lvsadm("--add-laddr -z 2001:db8:b::254").unwrap();
    for (tier, number, port) in [("tc", 201, 1000), ("native", 221, 2000)] {
        cluster.director.lvsadm(&format!("attach --mode {tier}")).unwrap();
        let mut services = Vec::new();
        for (port, (option, v4, v6)) in (port..).zip(absent(number)) {
            for (vip, server) in [(VIP, v4), (VIP6, v6)] {
                let service = SocketAddr::new(vip, port);
                cluster.director.lvsadm(&format!("-A -t {service} -s rr")).unwrap();
                let server = SocketAddr::new(server, port);
                cluster.director.lvsadm(&format!("-a -t {service} -r {server} {option}")).unwrap();
                services.push((service, option));
            }
        }
        let before = cluster.director.exit("drop-no-neighbour").unwrap();
        std::thread::scope(|scope| {
            let client = &cluster.client;
            let try_it = |(service, option): (SocketAddr, &'static str)| {
                let connect = move || {
                    let tried = TcpStream::connect_timeout(&service, Duration::from_secs(20));
                    Ok(tried.err().map(|error| error.kind()))
                };
                (service, option, scope.spawn(move || client.enter(connect).unwrap()))
            };
            for (service, option, tried) in services.into_iter().map(try_it).collect::<Vec<_>>() {
                assert_eq!(tried.join().unwrap(), Some(ErrorKind::HostUnreachable), "{tier} {option} {service}");
            }
        });
        assert!(cluster.director.exit("drop-no-neighbour").unwrap() >= before + 2 * METHODS.len() as u64, "{tier}");
    }
}

/// Makes the kernel doubt the neighbours of a director's back device within about a second.
fn doubt_neighbours(director: &Namespace) {
    for family in ["ipv4", "ipv6"] {
        let setting = |name: &str| format!("net/{family}/neigh/eth1/{name}");
        let settings = ["base_reachable_time_ms=500", "delay_first_probe_time=1", "retrans_time_ms=100"].map(setting);
        director.sysctl(&settings.each_ref().map(String::as_str)).unwrap();
    }
}

#[test]
fn a_real_server_with_another_mac_address_is_found_again() {
    let cluster = nat("native");
    doubt_neighbours(&cluster.director);
    assert!(is_served(&cluster, VIP) && is_served(&cluster, VIP6));
    // It does not ask for anybody, so nobody learns from it.
    let server = &cluster.servers[0];
    let director: serde_json::Value =
        serde_json::from_str(&cluster.director.run("ip -j link show eth1").unwrap()).unwrap();
    let mac = director[0]["address"].as_str().unwrap();
    let own = server.run("ip -j neigh show dev eth0").unwrap();
    let own: serde_json::Value = serde_json::from_str(&own).unwrap();
    let known: Vec<&str> = own.as_array().unwrap().iter().filter_map(|entry| entry["dst"].as_str()).collect();
    assert!(!known.is_empty());
    server.ip(&["link set eth0 address 02:00:00:00:99:01"]).unwrap();
    let permanent = known.iter().map(|to| format!("neigh replace {to} lladdr {mac} dev eth0 nud permanent"));
    server.ip(&permanent.collect::<Vec<_>>()).unwrap();
    cluster.client.sysctl(&["net/ipv4/tcp_syn_retries=1"]).unwrap();
    for vip in [VIP, VIP6] {
        eventually("the real server is found again", || failure(&cluster.client, SocketAddr::new(vip, 80)).is_none());
    }
}
