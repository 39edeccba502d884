//! A fleet: a router spreads connections over directors that advertise a virtual address by BGP.

use std::net::SocketAddr;
use std::time::Duration;

use tests::topology::{FLEET_VIP, Fleet, Transfers};
use tests::{eventually, is_without_ipvs};

/// Services whose directors choose the same real server for a connection, whichever gets it.
fn by_hash() -> Vec<String> {
    [
        "-A -t 203.0.113.10:7 -s mh -b mh-port,mh-fallback",
        "-a -t 203.0.113.10:7 -r 192.168.122.101 -g",
        "-a -t 203.0.113.10:7 -r 192.168.122.102 -g",
        "sysctl sloppy_tcp=1",
    ]
    .map(str::to_owned)
    .to_vec()
}

/// What `status --json` says of a director's advertisement.
fn advertised(fleet: &Fleet, number: usize) -> serde_json::Value {
    let status = fleet.director(number).lvsadm("status --json").unwrap();
    serde_json::from_str::<serde_json::Value>(&status).unwrap()["advertised"].clone()
}

#[test]
fn connections_go_on_with_the_rest_of_the_fleet() {
    if !is_without_ipvs() {
        return;
    }
    const COUNT: usize = 100;
    let mut fleet = Fleet::new(3, &by_hash()).unwrap();
    let to = [SocketAddr::new(FLEET_VIP, 7)];
    let client = &fleet.cluster.client;
    eventually("a first answer", || Transfers::begin(client, &to, 1).is_ok_and(|one| one.end().unwrap().complete == 1));
    let transfers = Transfers::begin(client, &to, COUNT).unwrap();
    transfers.have_gone_on();

    // One that is drained tells the router, and is in the fleet again when it says so.
    let said = fleet.director(1).lvsadm("drain --director --timeout 30").unwrap();
    assert!(said.starts_with("director: no packet comes any more; "), "{said}");
    assert_eq!(advertised(&fleet, 1)["drained"], true);
    fleet.waits_for([2, 3].into());
    transfers.have_gone_on();
    fleet.director(1).lvsadm("drain --director --undo").unwrap();
    fleet.waits_for([1, 2, 3].into());
    transfers.have_gone_on();

    // BFD tells the router of one that fails.
    fleet.lose(2).unwrap();
    fleet.waits_for([1, 3].into());
    transfers.have_gone_on();
    fleet.boot(2).unwrap();
    fleet.waits_for([1, 2, 3].into());
    transfers.have_gone_on();

    // One without a real server, without the address, or without a data plane is of no use.
    let director = fleet.director(3);
    for server in ["192.168.122.101", "192.168.122.102"] {
        director.lvsadm(&format!("-e -t 203.0.113.10:7 -r {server} -g -w 0")).unwrap();
    }
    assert_eq!(advertised(&fleet, 3)["addresses"].as_array().unwrap().len(), 0);
    fleet.waits_for([1, 2].into());
    director.lvsadm("-e -t 203.0.113.10:7 -r 192.168.122.102 -g -w 1").unwrap();
    assert_eq!(advertised(&fleet, 3)["addresses"], serde_json::json!(["203.0.113.10"]));
    director.lvsadm("-e -t 203.0.113.10:7 -r 192.168.122.101 -g -w 1").unwrap();
    fleet.waits_for([1, 2, 3].into());
    director.ip(&["addr del 203.0.113.10/32 dev lo"]).unwrap();
    director.lvsadm("-Ln").unwrap();
    fleet.waits_for([1, 2].into());
    director.ip(&["addr add 203.0.113.10/32 dev lo"]).unwrap();
    director.lvsadm("-Ln").unwrap();
    fleet.waits_for([1, 2, 3].into());
    transfers.have_gone_on();
    let outcome = transfers.end().unwrap();
    assert_eq!((outcome.complete, &outcome.lost[..]), (COUNT, &[][..]));
    director.lvsadm("unload").unwrap();
    fleet.waits_for([1, 2].into());
}

#[test]
fn mistakes_about_the_fleet_change_nothing() {
    if !is_without_ipvs() {
        return;
    }
    let host = tests::topology::Namespace::new("director").unwrap();
    let refused = |arguments: &str| host.lvsadm(arguments).unwrap_err().to_string();
    assert!(refused("drain --director").contains("nothing is loaded in this network namespace"));
    host.ip(&["addr add 203.0.113.10/32 dev lo", "addr add 2001:db8::10/128 dev lo nodad"]).unwrap();
    host.lvsadm("-A -t 203.0.113.10:80").unwrap();
    assert!(refused("drain --director").contains("set advertise_table"));
    let said = refused("drain --director -t 203.0.113.10:80");
    assert!(said.contains("cannot be used with"), "{said}");
    let routes = |table: &str| {
        let both = ["-4", "-6"].map(|family| host.run(&format!("ip {family} route show table {table}")));
        both.map(Result::unwrap_or_default).concat()
    };
    // No packet is to be routed by these routes.
    for table in ["253", "254", "255"] {
        let said = refused(&format!("sysctl advertise_table={table}"));
        assert!(said.contains("is one of the kernel's own tables"), "{said}");
        assert!(!routes(table).contains("proto 173"), "{table}: {}", routes(table));
    }
    // Routes of others are left alone.
    host.ip(&["route add blackhole 198.51.100.1/32 table 99"]).unwrap();
    host.lvsadm("sysctl advertise_table=99").unwrap();
    host.lvsadm("-a -t 203.0.113.10:80 -r 10.0.0.1 -g").unwrap();
    host.lvsadm("-A -t [2001:db8::10]:80").unwrap();
    host.lvsadm("-a -t [2001:db8::10]:80 -r [2001:db8::1]:80 -g").unwrap();
    for address in ["198.51.100.1", "203.0.113.10", "2001:db8::10"] {
        assert!(routes("99").contains(address), "{address}: {}", routes("99"));
    }
    host.lvsadm("sysctl advertise_table=100").unwrap();
    assert!(routes("100").contains("203.0.113.10") && routes("100").contains("2001:db8::10"), "{}", routes("100"));
    assert!(!routes("99").contains("203.0.113.10") && routes("99").contains("198.51.100.1"), "{}", routes("99"));
    host.lvsadm("-C").unwrap();
    assert_eq!(routes("100"), "");
    host.lvsadm("-A -t 203.0.113.10:80").unwrap();
    host.lvsadm("-a -t 203.0.113.10:80 -r 10.0.0.1 -g").unwrap();
    // An unload takes what it finds, of whatever version's settings.
    host.ip(&["route add blackhole 203.0.113.11/32 table 101 proto 173"]).unwrap();
    assert!(routes("100").contains("203.0.113.10"));
    host.lvsadm("unload").unwrap();
    assert_eq!((routes("100"), routes("101")), (String::new(), String::new()));
    assert!(routes("99").contains("198.51.100.1"), "{}", routes("99"));
}

/// What happens to the second of four directors, in this order.
#[derive(Clone, Copy, Debug)]
enum Event {
    IsDrained,
    IsBack,
    LosesItsPower,
    Boots,
}

/// A name, and the commands of each director.
type Way = (&'static str, fn() -> Vec<String>);

/// How directors know of connections that others began.
const WAYS: [Way; 3] = [
    ("`mh`, `sloppy_tcp`", by_hash),
    ("`rr`, synchronised", || {
        let mut commands = round_robin();
        commands.push("sysctl sync_threshold=2 sync_period=10".to_owned());
        commands.push("--start-daemon master --mcast-interface eth1 --syncid 1{}".to_owned());
        commands.push("--start-daemon backup --mcast-interface eth1 --syncid 0".to_owned());
        commands
    }),
    ("`rr` alone", round_robin),
];

/// Services whose directors choose in turn.
fn round_robin() -> Vec<String> {
    let mut commands = by_hash();
    commands[0] = "-A -t 203.0.113.10:7 -s rr".to_owned();
    commands.truncate(3);
    commands
}

#[test]
#[ignore = "it measures for minutes: docs/numbers has its table"]
fn the_table_of_fleets() {
    println!("| Directors | Event at one of four | Live | Lost | Without an answer, ms |\n|---|---|---|---|---|");
    for (name, commands) in WAYS {
        // Of the rows before, connections that have ended are still there.
        let roomy = "attach --conns 262144".to_owned();
        let mut fleet = Fleet::new(4, &[vec![roomy], commands()].concat()).unwrap();
        // Those of the rows before keep their ports for a minute.
        fleet.cluster.client.sysctl(&["net/ipv4/ip_local_port_range=1024 65535"]).unwrap();
        for event in [Event::IsDrained, Event::IsBack, Event::LosesItsPower, Event::Boots] {
            row(&mut fleet, name, event);
        }
    }
}

/// Measures a row of the table.
fn row(fleet: &mut Fleet, name: &str, event: Event) {
    const COUNT: usize = 10_000;
    let to = [SocketAddr::new(FLEET_VIP, 7)];
    let client = &fleet.cluster.client;
    eventually("a first answer", || Transfers::begin(client, &to, 1).is_ok_and(|one| one.end().unwrap().complete == 1));
    let transfers = Transfers::begin(client, &to, COUNT).unwrap();
    transfers.have_gone_on();
    transfers.gap();
    match event {
        Event::IsDrained => drop(fleet.director(2).lvsadm("drain --director --timeout 60").unwrap()),
        Event::IsBack => drop(fleet.director(2).lvsadm("drain --director --undo").unwrap()),
        Event::LosesItsPower => fleet.lose(2).unwrap(),
        Event::Boots => fleet.boot(2).unwrap(),
    }
    fleet.waits_for(match event {
        Event::IsDrained | Event::LosesItsPower => [1, 3, 4].into(),
        Event::IsBack | Event::Boots => [1, 2, 3, 4].into(),
    });
    // All that are alive send twice.
    std::thread::sleep(Duration::from_secs(5));
    let gap = transfers.gap().of_all.as_millis();
    let outcome = transfers.end().unwrap();
    println!(
        "| {name} | {event:?} | {COUNT} | {} ({:.1} %) | {gap} |",
        outcome.lost.len(),
        outcome.lost.len() as f64 * 100.0 / COUNT as f64
    );
}
