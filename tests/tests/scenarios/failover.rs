//! A pair of directors under keepalived: no transfer ends with a director.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use tests::topology::{Balancer, Failure, Gap, Member, Pair, Site, Transfers, VIP, VIP6};
use tests::{eventually, is_without_ipvs, kernel_has_ipvs};

/// A forwarding method, as the table names it.
struct Method {
    name: &'static str,
    option: &'static str,
    site: Site,
    /// What a real server runs.
    real_server: Option<&'static str>,
}

const METHODS: [Method; 4] = [
    Method { name: "NAT", option: "-m", site: Site::BehindDirector, real_server: None },
    Method { name: "DR", option: "-g", site: Site::BesideDirector, real_server: Some("--dr") },
    Method { name: "TUN", option: "-i", site: Site::Remote, real_server: Some("--tun") },
    Method { name: "FullNAT", option: "--fullnat", site: Site::Remote, real_server: None },
];

/// Local addresses of FullNAT, which keepalived gives to the active director.
const LOCALS: [&str; 2] = ["192.168.122.100", "2001:db8:b::100"];

impl Method {
    /// A pair that balances port 7 of both virtual addresses.
    fn pair(&self, balancer: Balancer) -> Pair {
        // Real servers answer to an address that goes to the other director with the virtual address.
        let mut rules = match self.option {
            "--fullnat" => LOCALS.map(|local| format!("--add-laddr -z {local}")).to_vec(),
            _ => Vec::new(),
        };
        let (group, third) = if self.site == Site::Remote { ('c', 123) } else { ('b', 122) };
        for (vip, servers) in [
            (VIP, [101, 102].map(|host| format!("192.168.{third}.{host}:7"))),
            (VIP6, [101, 102].map(|host| format!("[2001:db8:{group}::{host}]:7"))),
        ] {
            let service = SocketAddr::new(vip, 7);
            rules.push(format!("-A -t {service} -s rr"));
            rules.extend(servers.iter().map(|server| format!("-a -t {service} -r {server} {}", self.option)));
        }
        let pair = Pair::of(balancer, self.site, &rules, "").unwrap();
        for server in &pair.cluster.servers {
            if let Some(option) = self.real_server {
                server.lvsadm(&format!("real-server {option} --vip {VIP} {VIP6}")).unwrap();
            }
        }
        pair
    }
}

/// Waits until a director runs the daemon of a role.
fn becomes(pair: &Pair, member: Member, role: &str) {
    eventually(&format!("the {member:?} is {role}; {}", pair.log(member)), || pair.runs(member, role));
}

/// What a failover and the return cost.
struct Cost {
    /// Times without an answer, of the failure and of the return.
    gaps: [Gap; 2],
    /// How transfers ended that did not end well.
    lost: Vec<String>,
}

/// Has the first director fail under transfers, and come back.
fn fail_and_return(pair: &mut Pair, failure: Failure, to: &[SocketAddr], count: usize) -> Cost {
    becomes(pair, Member::First, "master");
    becomes(pair, Member::Second, "backup");
    let client = &pair.cluster.client;
    eventually("a first answer", || Transfers::begin(client, to, 1).is_ok_and(|one| one.end().unwrap().complete == 1));
    let transfers = Transfers::begin(client, to, count).unwrap();
    transfers.have_gone_on();
    transfers.gap();
    pair.fail(failure).unwrap();
    transfers.go_on();
    let failed = transfers.gap();
    becomes(pair, Member::Second, "master");
    // Those that the first director has never seen.
    let later = Transfers::begin(&pair.cluster.client, to, count / 10).unwrap();
    later.go_on();
    transfers.gap();
    pair.repair(failure).unwrap();
    becomes(pair, Member::First, "master");
    becomes(pair, Member::Second, "backup");
    transfers.go_on();
    later.go_on();
    let returned = transfers.gap();
    let mut lost = Vec::new();
    for (transfers, count) in [(transfers, count), (later, count / 10)] {
        let outcome = transfers.end().unwrap();
        assert_eq!(outcome.complete + outcome.lost.len(), count, "{failure:?}");
        lost.extend(outcome.lost);
    }
    Cost { gaps: [failed, returned], lost }
}

/// A service that keepalived makes.
const VIRTUAL_SERVER: &str = "virtual_server 10.10.10.10 7 {
    lvs_sched rr
    lvs_method NAT
    protocol TCP
    real_server 192.168.122.101 7 {
    }
    real_server 192.168.122.102 7 {
    }
}
";

#[test]
fn no_transfer_ends_with_the_director_that_loses_its_power() {
    if !is_without_ipvs() {
        return;
    }
    let rules = [
        "--add-laddr -z 192.168.122.100",
        "-A -t [2001:db8:a::10]:7 -s rr",
        "-a -t [2001:db8:a::10]:7 -r [2001:db8:b::101]:7 -m",
        "-A -t 10.10.10.10:8 -s rr",
        "-a -t 10.10.10.10:8 -r 192.168.122.101:7 --fullnat",
        "-a -t 10.10.10.10:8 -r 192.168.122.102:7 --fullnat",
        // From one family to the other.
        "-A -t [2001:db8:a::10]:8 -s rr",
        "-a -t [2001:db8:a::10]:8 -r 192.168.122.101:7 --fullnat",
    ];
    let mut pair = Pair::new(Site::BehindDirector, &rules.map(str::to_owned), VIRTUAL_SERVER).unwrap();
    let to = [(VIP, 7), (VIP6, 7), (VIP, 8), (VIP6, 8)].map(SocketAddr::from);
    assert_eq!(fail_and_return(&mut pair, Failure::Power, &to, 80).lost, [""; 0]);
}

#[test]
#[ignore = "it measures for minutes: docs/numbers has its table"]
fn the_table_of_failovers() {
    table(Balancer::Ours, &METHODS, &[Failure::Processes, Failure::Links, Failure::Power]);
}

#[test]
#[ignore = "it measures IPVS beside us in a guest for minutes: docs/numbers has its table"]
fn the_table_of_failovers_beside_ipvs() {
    // lvs-compat leaves keepalived to a kernel that has IPVS: a guest measures one of the two.
    let (balancer, methods) =
        if kernel_has_ipvs() { (Balancer::Kernel, &METHODS[..3]) } else { (Balancer::Ours, &METHODS[..]) };
    println!("{balancer:?}");
    table(balancer, methods, &[Failure::Links, Failure::Power]);
}

/// Prints the table, or that of the method that `LVS_METHOD` names.
fn table(balancer: Balancer, methods: &[Method], failures: &[Failure]) {
    println!(
        "| Method | Family | Failure | Transfers | Lost | Failover, ms (slowest transfer) | Return, ms (slowest transfer) |"
    );
    println!("|---|---|---|---|---|---|---|");
    let only = std::env::var("LVS_METHOD").ok();
    for method in methods.iter().filter(|method| only.as_deref().is_none_or(|only| only == method.name)) {
        for (family, vip) in [("IPv4", VIP), ("IPv6", VIP6)] {
            for &failure in failures {
                row(&mut method.pair(balancer), method.name, family, vip, failure);
            }
        }
    }
}

/// Measures a row of the table.
fn row(pair: &mut Pair, method: &str, family: &str, vip: IpAddr, failure: Failure) {
    let count = std::env::var("LVS_TRANSFERS").ok().and_then(|count| count.parse().ok()).unwrap_or(1000);
    let Cost { gaps, lost } = fail_and_return(pair, failure, &[SocketAddr::new(vip, 7)], count);
    let milliseconds = |time: Duration| time.as_millis();
    let [failed, returned] = gaps.map(|gap| format!("{} ({})", milliseconds(gap.of_all), milliseconds(gap.of_one)));
    println!("| {method} | {family} | {failure:?} | {} | {} | {failed} | {returned} |", count + count / 10, lost.len());
}
