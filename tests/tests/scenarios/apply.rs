//! `lvsadm apply` and `save --full` on the data plane: what is wanted is what is configured, at once or not at all.

use std::collections::BTreeSet;
use std::fmt::Write;
use std::fs;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Output, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use fastrand::Rng;
use tests::topology::{Cluster, Layout, Namespace, Offloads, Server, VIP, connect, lvsadm_path};

/// A rules file, gone when it is dropped.
struct File(PathBuf);

impl File {
    fn new(namespace: &Namespace, label: &str, text: &str) -> Self {
        let path = std::env::temp_dir().join(format!("{}-{label}.rules", namespace.name()));
        fs::write(&path, text).unwrap();
        File(path)
    }

    fn apply(&self, namespace: &Namespace) {
        namespace.lvsadm(&format!("apply {}", self.0.display())).unwrap();
    }

    fn difference(&self, namespace: &Namespace) -> String {
        namespace.lvsadm(&format!("apply --dry-run {}", self.0.display())).unwrap()
    }
}

impl Drop for File {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}

fn lvsadm(namespace: &Namespace, arguments: &str) -> Output {
    namespace.command(lvsadm_path()).args(arguments.split(' ')).stdin(Stdio::null()).output().unwrap()
}

fn saved(namespace: &Namespace) -> String {
    namespace.lvsadm("save --full").unwrap()
}

/// The lines of a file that are about services and destinations.
fn table(text: &str) -> BTreeSet<&str> {
    let is_rule = |line: &&str| ["-A", "-a", "mark add"].iter().any(|start| line.starts_with(start));
    text.lines().filter(is_rule).collect()
}

/// A choice by chance.
fn of<'a>(random: &mut Rng, choices: &[&'a str]) -> &'a str {
    choices[random.usize(..choices.len())]
}

/// Rules as `save --full` writes them. There are few services and servers, so that two sets share many.
fn some_rules(random: &mut Rng) -> String {
    let mut text = format!("--set {} 120 {}\n", 1 + random.u64(..3000), 1 + random.u64(..3000));
    if random.bool() {
        // 2 is what becomes of 1 by itself.
        writeln!(text, "sysctl drop_entry={}", [1, 3][random.usize(..2)]).unwrap();
    }
    text.push_str("mark flush\n");
    for traffic in
        ["--to 192.0.2.1", "--protocol udp --to 192.0.2.0/24 --dport 53", "--from 2001:db8::/32 --dport 80-90"]
    {
        if random.u64(..3) != 0 {
            writeln!(text, "mark add --mark {} {traffic}", of(random, &["7", "4294967295"])).unwrap();
        }
    }
    let services =
        ["-t 192.0.2.1:80", "-u 192.0.2.1:53", "-t 192.0.2.2:443", "-t [2001:db8::1]:80", "-f 7", "-f 4294967295 -6"];
    for service in services {
        if random.u64(..3) == 0 {
            continue;
        }
        let scheduler = of(random, &["rr", "wrr", "wlc", "sh", "dh", "mh", "lblc", "fo", "none"]);
        let v6 = service.contains('[') || service.ends_with("-6");
        let mask = if v6 { " -M 64" } else { " -M 255.255.255.0" };
        let persistence = of(random, &["", "", " -p 300", " -p 2678400"]);
        let mask = if persistence.is_empty() { "" } else { ["", mask][random.usize(..2)] };
        let flags =
            if scheduler == "mh" { of(random, &["", " -b mh-fallback", " -b mh-fallback,mh-port"]) } else { "" };
        let timeouts = of(random, &["", "", " --conn-timeout 600:0:0", " --conn-timeout 0:20:30"]);
        let challenges = if service.starts_with("-t") { of(random, &["", " -j enable"]) } else { "" };
        writeln!(text, "-A {service} -s {scheduler}{persistence}{mask}{flags}{timeouts}{challenges}").unwrap();
        let port = service.rsplit_once(':').map_or("0", |(_, port)| port);
        for server in 1..=8 {
            if random.bool() {
                continue;
            }
            let address = if v6 { format!("[2001:db8:1::{server}]") } else { format!("10.0.0.{server}") };
            let weight = random.u64(..4);
            let upper = [0, 100][random.usize(..2)];
            let thresholds =
                if upper == 0 { String::new() } else { format!(" -x {upper} -y {}", 1 + random.u64(..100)) };
            // The port belongs to what tells one destination from another: the same for a server whatever the mode.
            let forward = of(random, &["-m", "-g", "-i"]);
            let tunnel = match forward {
                "-i" => of(
                    random,
                    &[" --tun-type ipip", " --tun-type gue --tun-port 6080 --tun-csum", " --tun-type gre --tun-nocsum"],
                ),
                _ => "",
            };
            writeln!(text, "-a {service} -r {address}:{port} {forward} -w {weight}{thresholds}{tunnel}").unwrap();
        }
    }
    text
}

#[test]
fn from_rules_to_rules() {
    let director = Namespace::new("director").unwrap();
    let mut random = Rng::with_seed(1);
    for round in 0..40 {
        let rules = format!("sysctl --reset\n{}", some_rules(&mut random));
        // Now and then from nothing: then the order is the same, too.
        if round % 5 == 0 {
            director.lvsadm("-C").unwrap();
        }
        let file = File::new(&director, "wanted", &rules);
        file.apply(&director);
        let now = saved(&director);
        assert_eq!(table(&now), table(&rules), "round {round}");
        if round % 5 == 0 {
            assert!(now.ends_with(rules.split_once('\n').unwrap().1.split_once("-A").unwrap().1), "{now}{rules}");
        }
        for line in rules.lines().filter(|line| line.starts_with("--set") || line.starts_with("sysctl d")) {
            assert!(now.lines().any(|other| other == line), "{line} in {now}");
        }
        assert_eq!(File::new(&director, "saved", &now).difference(&director), "", "round {round}");
        assert_eq!(file.difference(&director), "", "round {round}");
    }
}

#[test]
fn mistakes_and_refusals_leave_everything_as_it_was() {
    let director = Namespace::new("director").unwrap();
    // What is not loaded is not loaded for a file that is not applied.
    let web = File::new(&director, "web", "-A -t 192.0.2.1:80 -s sh\n-a -t 192.0.2.1:80 -r 10.0.0.1 -m\n");
    let difference = web.difference(&director);
    assert!(difference.contains("+ -a -t 192.0.2.1:80 -r 10.0.0.1:80 -m -w 1\n"), "{difference}");
    let wrong =
        File::new(&director, "wrong", "-A -t 192.0.2.1:80\n\n-a -t 192.0.2.1:80 -r 10.0.0.1 -w x\nattach --dev no0\n");
    let output = lvsadm(&director, &format!("apply {}", wrong.0.display()));
    let path = wrong.0.display();
    assert_eq!(
        String::from_utf8_lossy(&output.stderr),
        format!(
            "{path}:3: illegal weight specified: `-a -t 192.0.2.1:80 -r 10.0.0.1 -w x'\n\
             {path}:4: there is no device no0: see `ip link`\n\
             lvsadm: nothing is changed\n"
        )
    );
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&lvsadm(&director, "status").stderr).contains("nothing is loaded"));

    web.apply(&director);
    let before = saved(&director);
    assert!(!lvsadm(&director, &format!("apply {}", wrong.0.display())).status.success());
    assert_eq!(saved(&director), before);
    // More destinations than there is room for: refused with half of them staged.
    let mut many = String::from("-A -t 192.0.2.1:80 -s rr\n");
    for service in 0..170 {
        writeln!(many, "-A -t 198.51.{}.{}:80 -s rr", service / 250, service % 250 + 1).unwrap();
        for server in 0..100 {
            let (vip, rip) = ((service / 250, service % 250 + 1), (service / 250, service % 250, server + 1));
            writeln!(many, "-a -t 198.51.{}.{}:80 -r 10.{}.{}.{}:80 -m", vip.0, vip.1, rip.0, rip.1, rip.2).unwrap();
        }
    }
    let many = File::new(&director, "many", &many);
    let output = lvsadm(&director, &format!("apply {}", many.0.display()));
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2));
    let line = stderr.strip_prefix(&format!("{}:", many.0.display())).and_then(|rest| rest.split(':').next());
    // 10,239 destinations, one of which is there already, and a line for each service.
    assert!(line.unwrap().parse::<u32>().unwrap() > 10_240, "{stderr}");
    assert!(stderr.contains(": Memory allocation problem: "), "{stderr}");
    assert!(stderr.contains("make room by `lvsadm resize"), "{stderr}");
    assert_eq!(saved(&director), before);
    // What was staged is free again.
    let some = File::new(&director, "some", &some_rules(&mut Rng::with_seed(7)));
    some.apply(&director);
    assert_eq!(some.difference(&director), "");
    web.apply(&director);
    assert_eq!(saved(&director).split_once("-A").unwrap().1, before.split_once("-A").unwrap().1);
}

#[test]
fn a_full_table_can_be_cleared_and_filled_with_others() {
    let director = Namespace::new("director").unwrap();
    let full = |third: u32| {
        let mut text = String::new();
        for service in 1..=1310u32 {
            let vip = format!("-f {service}");
            writeln!(text, "-A {vip} -s rr").unwrap();
            for server in 1..=100 {
                let (high, low) = (service / 250, service % 250);
                writeln!(text, "-a {vip} -r 10.{}.{low}.{server}:{third} -m", 10 + high).unwrap();
            }
        }
        text
    };
    let files = [1, 2].map(|third| File::new(&director, &third.to_string(), &full(third)));
    files[0].apply(&director);
    // No destination is given away while a packet may still hold it: it is waited for.
    director.lvsadm("-C").unwrap();
    files[1].apply(&director);
    assert_eq!(files[1].difference(&director), "");
}

#[test]
fn devices_are_what_the_file_says() {
    let (director, other) = (Namespace::new("director").unwrap(), Namespace::new("other").unwrap());
    for device in ["eth0", "eth1"] {
        connect((&director, device), (&other, device), Offloads::Off).unwrap();
    }
    let modes = || {
        let status = director.lvsadm("status").unwrap();
        let mode = |device: &str| {
            status.lines().find_map(|line| Some(line.strip_prefix(device)?.split_whitespace().next()?.to_owned()))
        };
        ["eth0", "eth1", "lo"].map(mode)
    };
    let expect = |expected: [Option<&str>; 3]| assert_eq!(modes(), expected.map(|mode| mode.map(str::to_owned)));
    let file = File::new(&director, "devices", "attach --mode native --dev eth0 --conns 1000 --log warn\n-A -f 1\n");
    file.apply(&director);
    // It says nothing of eth1, and so what the next command does with a new device stays true.
    expect([Some("native"), None, Some("egress")]);
    assert!(director.lvsadm("status").unwrap().contains("tables: 1008 connections"));
    director.lvsadm("-Ln").unwrap();
    expect([Some("native"), Some("tc"), Some("egress")]);
    let all = saved(&director);
    assert!(all.contains("detach\nattach --conns 1008 --log warn\nattach --mode native --dev eth0\n"), "{all}");
    // From something else back to this, by the file alone.
    director.lvsadm("attach --mode native --dev eth1").unwrap();
    director.lvsadm("detach --dev eth0").unwrap();
    director.lvsadm("-A -f 2").unwrap();
    expect([None, Some("native"), Some("egress")]);
    let all = File::new(&director, "all", &all);
    let difference = all.difference(&director);
    let steps = [
        "- -A -f 2 -s wlc",
        "+ attach --mode native --dev eth0",
        "- attach --mode native --dev eth1",
        "+ attach --mode tc --dev eth1",
    ];
    assert_eq!(difference.lines().collect::<Vec<_>>(), steps);
    expect([None, Some("native"), Some("egress")]);
    all.apply(&director);
    expect([Some("native"), Some("tc"), Some("egress")]);
    assert_eq!(all.difference(&director), "");
    // A size is the loaded data plane's.
    let other_size = File::new(&director, "size", "-A -f 1\nattach --conns 5000\n");
    let output = lvsadm(&director, &format!("apply {}", other_size.0.display()));
    assert!(String::from_utf8_lossy(&output.stderr).contains(":2: the data plane is loaded with room for 1008"));
    let other_log = File::new(&director, "log", "-A -f 1\n\nattach --log info\n");
    let output = lvsadm(&director, &format!("apply {}", other_log.0.display()));
    assert!(
        String::from_utf8_lossy(&output.stderr).contains(":3: the data plane is loaded with its log warn, not info")
    );
    director.lvsadm("unload").unwrap();
    all.apply(&director);
    expect([Some("native"), Some("tc"), Some("egress")]);
    assert_eq!(all.difference(&director), "");
}

#[test]
fn killed_anywhere_it_is_the_old_rules_or_the_new() {
    let director = Namespace::new("director").unwrap();
    let rules = |scheduler: &str, third: u32| {
        let mut text = format!("mark flush\nmark add --mark {third} --to 192.0.2.1\n");
        for service in 1..=250 {
            let vip = format!("-t 192.0.2.{service}:80");
            writeln!(text, "-A {vip} -s {scheduler}").unwrap();
            for server in 1..=8 {
                writeln!(text, "-a {vip} -r 10.{third}.{service}.{server}:80 -m -w {third}").unwrap();
            }
        }
        text
    };
    // They share the services and nothing else.
    let texts = [rules("rr", 1), rules("wrr", 2)];
    let files: Vec<File> = (0..).zip(&texts).map(|(n, text)| File::new(&director, &n.to_string(), text)).collect();
    files[0].apply(&director);
    let begin = Instant::now();
    files[1].apply(&director);
    let whole = begin.elapsed();
    let mut seen = [0; 2];
    for step in 0..40u32 {
        let now = saved(&director);
        let which = texts.iter().position(|text| table(text) == table(&now)).expect("the old rules or the new");
        seen[which] += 1;
        let path = files[1 - which].0.clone();
        // Without `ip` in between, so that the one that is killed is lvsadm.
        let mut child = director
            .enter(|| {
                Ok(std::process::Command::new(lvsadm_path()).arg("apply").arg(&path).stderr(Stdio::null()).spawn()?)
            })
            .unwrap();
        thread::sleep(whole * (step % 20) / 15);
        child.kill().unwrap();
        child.wait().unwrap();
    }
    assert!(seen[0] > 1 && seen[1] > 1, "{seen:?}");
}

#[test]
fn under_load_no_request_is_lost_and_what_is_not_changed_keeps_its_counters() {
    const PORTS: [u16; 4] = [8001, 8002, 8003, 8004];
    let cluster = Cluster::new(Layout { servers: 3, ..Layout::default() }).unwrap();
    let director = &cluster.director;
    director.sysctl(&["net/ipv4/ip_forward=1"]).unwrap();
    let server = |number| cluster.server_addresses(number).0;
    // NAT leaves the client's port alone, which may be that of connections to two services: so they have their own.
    let _http: Vec<Server> = (1..)
        .zip(&cluster.servers)
        .flat_map(|(n, server)| PORTS.map(|port| Server::http(server, port, &format!("rs{n}")).unwrap()))
        .collect();
    // The first two services are always the same, in one file before the others and in the other one behind them.
    let same: String = PORTS[..2]
        .iter()
        .map(|port| {
            let service = format!("-t {VIP}:{port}");
            let servers: String = (1..=3).map(|n| format!("-a {service} -r {}:{port} -m\n", server(n))).collect();
            format!("-A {service} -s rr\n{servers}")
        })
        .collect();
    let changed = |scheduler: &str, weights: [u32; 3], extra: &str| -> String {
        let service = |port: &u16| {
            let service = format!("-t {VIP}:{port}");
            let servers = (1..=3).zip(weights);
            let servers: String =
                servers.map(|(n, weight)| format!("-a {service} -r {}:{port} -m -w {weight}\n", server(n))).collect();
            format!("-A {service} -s {scheduler}\n{servers}")
        };
        format!("{}{extra}", PORTS[2..].iter().map(service).collect::<String>())
    };
    let one = changed("wrr", [3, 2, 1], "-A -f 99\n--set 800 0 0\n");
    // With mh a server of weight 0 still has its share, and refuses it: as in IPVS, so not here.
    let other = changed("mh", [1, 2, 4], "-A -u 10.10.10.10:99\nsysctl sloppy_tcp=1\n");
    let files =
        [File::new(director, "one", &format!("{same}{one}")), File::new(director, "other", &format!("{other}{same}"))];
    files[0].apply(director);
    let over = AtomicBool::new(false);
    let (answered, rounds) = thread::scope(|scope| {
        let applying = scope.spawn(|| {
            let mut rounds = 0;
            while !over.load(Ordering::Relaxed) {
                files[(rounds + 1) % 2].apply(director);
                thread::sleep(Duration::from_millis(5));
                rounds += 1;
            }
            rounds
        });
        let load = |port| {
            let cluster = &cluster;
            scope.spawn(move || cluster.client().load(SocketAddr::new(VIP, port), 1, Duration::from_secs(4)))
        };
        let clients = PORTS.map(load);
        let answered = clients.map(|client| client.join().unwrap());
        over.store(true, Ordering::Relaxed);
        (answered, applying.join().unwrap())
    });
    let answered = answered.map(|result| result.unwrap());
    println!("{answered:?} requests answered beside {rounds} changes");
    assert!(rounds > 1, "{rounds}");
    // Round robin goes on where it was, whatever is applied in between.
    let turns: Vec<String> = (0..6)
        .map(|turn| {
            files[turn % 2].apply(director);
            let answer = cluster.client().get(SocketAddr::new(VIP, PORTS[0]), "/").unwrap();
            answer.split_whitespace().next().unwrap().to_owned()
        })
        .collect();
    assert_eq!(turns[..3], turns[3..]);
    assert_eq!(turns[..3].iter().collect::<BTreeSet<_>>().len(), 3, "{turns:?}");
    for (port, answered) in PORTS.into_iter().zip(answered) {
        let listing = director.lvsadm(&format!("-Ln --stats --exact -t {VIP}:{port}")).unwrap();
        let numbers: Vec<u64> =
            listing.lines().nth(2).unwrap().split_whitespace().skip(2).map(|n| n.parse().unwrap()).collect();
        // Twenty requests a connection, and never fewer packets than those.
        let turns = if port == PORTS[0] { 6 } else { 0 };
        assert_eq!(numbers[0], answered as u64 / 20 + turns, "connections to {port}: {listing}");
        assert!(numbers[1] > answered as u64, "{listing}");
    }
}
