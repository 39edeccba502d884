//! `lvsadm explain`: what it says becomes of a packet is what becomes of it, for the reasons that it gives; and nothing is changed.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;

use anyhow::{Context, Result};
use etherparse::PacketBuilder;
use jsonschema::Validator;
use serde_json::{Value, json};
use tests::fixtures::Testbed;
use tests::topology::{Cluster, Layout, Namespace, VIP, VIP6};

/// What checks the output by the schema in docs/reference/json.md.
fn validator() -> Validator {
    let document = include_str!("../../../docs/reference/json.md");
    let schema = document.split("```json\n").last().and_then(|block| block.split("```").next()).unwrap();
    let mut schema: Value = serde_json::from_str(schema).unwrap();
    schema["$ref"] = json!("#/$defs/accounts");
    jsonschema::validator_for(&schema).unwrap()
}

/// The accounts of packets.
fn accounts(director: &Namespace, arguments: &str) -> Result<Vec<Value>> {
    let value: Value = serde_json::from_str(&director.lvsadm(&format!("explain --json {arguments}"))?)?;
    if let Err(error) = validator().validate(&value) {
        panic!("{} is {error}", error.instance_path());
    }
    Ok(value.as_array().context("no list")?.clone())
}

/// The account of one.
fn account(director: &Namespace, arguments: &str) -> Value {
    let all = accounts(director, arguments).unwrap();
    assert_eq!(all.len(), 1);
    assert_eq!(all[0]["agrees"], true, "{:#}", all[0]);
    all[0].clone()
}

/// What an account says of a step.
fn told<'a>(account: &'a Value, step: &str) -> Vec<&'a str> {
    let steps = account["steps"].as_array().unwrap().iter().filter(|it| it["step"] == step);
    steps.map(|it| it["what"].as_str().unwrap()).collect()
}

/// Counters of rules and of what is balanced, and the bpffs's directories.
fn state(director: &Namespace) -> (String, Vec<Value>, BTreeSet<PathBuf>) {
    let status: Value = serde_json::from_str(&director.lvsadm("status --json").unwrap()).unwrap();
    let pins = status["pins"].as_str().unwrap().to_owned();
    let cookie = pins.rsplit('-').next().unwrap();
    let all = std::fs::read_dir("/run/lvs/bpf").unwrap().map(|entry| entry.unwrap().path());
    let ours = all.filter(|path| path.to_string_lossy().contains(cookie)).collect();
    let counted =
        status["packets"].as_array().unwrap().iter().filter(|it| it["exit"] != "not-ours" && it["packets"] != 0);
    (director.lvsadm("-Ln --stats").unwrap(), counted.cloned().collect(), ours)
}

#[test]
fn what_is_explained_is_what_happens_and_nothing_changes() {
    let cluster = Cluster::new(Layout { servers: 2, ..Layout::default() }).unwrap();
    let director = &cluster.director;
    director.sysctl(&["net/ipv4/ip_forward=1"]).unwrap();
    let service = SocketAddr::new(VIP, 80);
    director.lvsadm(&format!("-A -t {service} -s rr")).unwrap();
    for number in 1..=2 {
        let (v4, _) = cluster.server_addresses(number);
        director.lvsadm(&format!("-a -t {service} -r {v4}:80 -m")).unwrap();
    }
    let packet = format!("-t 10.10.10.1:40000 {service}");
    let before = state(director);
    // What one left that was killed goes with the next one. No process has this number.
    let cookie = before.2.first().unwrap().to_string_lossy().rsplit('-').next().unwrap().to_owned();
    std::fs::create_dir(format!("/run/lvs/bpf/copy-{cookie}-4194305")).unwrap();
    for _ in 0..2 {
        let (statistics, counted, _) = state(director);
        let told_of = account(director, &packet);
        assert_eq!(state(director), (statistics, counted, before.2.clone()));
        assert_eq!(told_of["exits"], json!(["nat"]), "{told_of:#}");
        assert_eq!((&told_of["service"], &told_of["leaves_by"]), (&json!("10.10.10.10:80"), &json!("eth1")));
        let server = told_of["real_server"].as_str().unwrap();
        assert!(
            told(&told_of, "candidate")
                .iter()
                .any(|it| it.starts_with(server) && it.ends_with("which the scheduler picks"))
        );
        let rewritten = format!("tcp 10.10.10.1:40000 > {server} (SYN)");
        assert!(told(&told_of, "becomes")[0].starts_with(&rewritten), "{told_of:#}");
        let answer = cluster.client().get(service, "/").unwrap();
        let number = server.trim_end_matches(":80").chars().last().unwrap();
        assert!(answer.starts_with(&format!("rs{number}")), "{server} was told, and {answer} answered");
    }

    // A connection that is there decides, for both directions.
    let connections: Value = serde_json::from_str(&director.lvsadm("-L -c --json").unwrap()).unwrap();
    let known = &connections.as_array().unwrap()[0];
    let end = |name: &str| format!("{}:{}", known[name]["address"].as_str().unwrap(), known[name]["port"]);
    let (client, real) = (end("client"), end("destination"));
    let request = account(director, &format!("-t {client} {service} --ack"));
    assert_eq!((told(&request, "connection").len(), &request["real_server"]), (1, &json!(real)), "{request:#}");
    let reply = account(director, &format!("-t {real} {client} --ack -i eth1"));
    assert_eq!((&reply["exits"], &reply["leaves_by"]), (&json!(["nat-reply"]), &json!("eth0")), "{reply:#}");
    assert!(told(&reply, "becomes")[0].starts_with(&format!("tcp {service} > {client}")));

    // Why a packet does not arrive.
    director.lvsadm("block 10.10.10.1").unwrap();
    let blocked = account(director, &packet);
    assert_eq!((&blocked["exits"], told(&blocked, "lists").len()), (&json!(["drop-blocked"]), 1), "{blocked:#}");
    director.lvsadm("block --flush").unwrap();
    let other = account(director, "-t 10.10.10.1:40000 10.10.10.10:81");
    assert_eq!((&other["service"], &other["real_server"]), (&Value::Null, &Value::Null));
    let text = director.lvsadm(&format!("explain {packet}")).unwrap();
    assert!(
        text.starts_with("tcp 10.10.10.1:40000 > 10.10.10.10:80 (SYN)\n  device       eth0, served by tc"),
        "{text}"
    );
    for number in 1..=2 {
        let (v4, _) = cluster.server_addresses(number);
        director.lvsadm(&format!("-e -t {service} -r {v4}:80 -m -w 0")).unwrap();
    }
    assert!(account(director, &packet)["exits"].as_array().unwrap().contains(&json!("drop-no-server")));
    for (arguments, sentence) in [
        ("-t 10.10.10.1:1 10.10.10.10:80 -i nowhere", "there is no device nowhere: see `ip link`"),
        ("-t 10.10.10.10:1 10.10.10.10:80", "10.10.10.10 is an address of this host: name the device by --dev"),
        ("--pcap /nowhere -i eth0", "cannot open /nowhere"),
    ] {
        let error = director.lvsadm(&format!("explain {arguments}")).unwrap_err().to_string();
        assert!(error.contains(sentence), "{error}");
    }
}

/// Schedulers, and forwarding methods.
const SCHEDULERS: [&str; 14] =
    ["rr", "wrr", "lc", "wlc", "sed", "nq", "sh", "dh", "mh", "fo", "ovf", "lblc", "lblcr", "twos"];
const METHODS: [&str; 4] = ["-m", "-g", "-i", "--fullnat"];
/// Packets of a seed.
const PACKETS: usize = 60;

/// Random rules: services by address and by mark, real servers with weights, lists.
fn rules(random: &mut fastrand::Rng) -> Vec<String> {
    let mut rules = Vec::new();
    let mut service = |words: String, random: &mut fastrand::Rng| {
        let is_v6 = words.contains('[');
        let scheduler = random.choice(SCHEDULERS).unwrap();
        let persistent = if random.u8(..4) == 0 { " -p 300" } else { "" };
        rules.push(format!("-A {words} -s {scheduler}{persistent}"));
        for host in 0..random.u8(..6) {
            let method = random.choice(METHODS).unwrap();
            let server = if is_v6 {
                format!("[2001:db8:b::{:x}]:80", 0x101 + u16::from(host))
            } else {
                format!("192.168.122.{}", 101 + host)
            };
            rules.push(format!("-a {words} -r {server} {method} -w {}", random.u8(..4)));
        }
    };
    for port in [80, 81, 0] {
        if port != 0 {
            service(format!("-t {VIP}:{port}"), random);
        }
        service(format!("-u {VIP}:{}", 5000 + port), random);
    }
    service("-f 7".to_owned(), random);
    service(format!("-t [{VIP6}]:80"), random);
    service(format!("-u [{VIP6}]:5081"), random);
    rules
}

/// A packet of a random client, to one of few ports.
fn packet(random: &mut fastrand::Rng) -> Vec<u8> {
    let builder = PacketBuilder::ethernet2([2, 0, 0, 0, 0, 9], [2, 0, 0, 0, 0, 8]);
    let (from, is_v6, mut frame) = (random.u16(1024..), random.u8(..3) == 0, Vec::new());
    let builder = if is_v6 {
        let IpAddr::V6(to) = VIP6 else { unreachable!("an IPv6 address") };
        let client = Ipv6Addr::new(0x2001, 0xdb8, 0xd, 0, 0, 0, 0, random.u16(1..20));
        builder.ipv6(client.octets(), to.octets(), 64)
    } else {
        builder.ipv4([10, 20, random.u8(..3), random.u8(1..20)], [10, 10, 10, 10], 64)
    };
    let written = if random.bool() {
        builder.tcp(from, 80 + random.u16(..4), 1, 1024).syn().write(&mut frame, &[])
    } else {
        builder.udp(from, 5080 + random.u16(..4)).write(&mut frame, b"x")
    };
    written.unwrap();
    frame
}

/// A file of pcap, as tcpdump writes it.
fn pcap(frames: &[Vec<u8>]) -> Vec<u8> {
    let words = |words: &[u32]| words.iter().flat_map(|word| word.to_le_bytes()).collect::<Vec<u8>>();
    let mut file = words(&[0xa1b2_c3d4, 2 | 4 << 16, 0, 0, 65535, 1]);
    for frame in frames {
        let length = frame.len() as u32;
        file.extend(words(&[0, 0, length, length]));
        file.extend(frame);
    }
    file
}

#[test]
fn reasons_and_programs_agree_on_random_packets_and_rules() {
    let (mut exits, mut verdicts, mut free_ports) = (BTreeSet::new(), BTreeSet::new(), 0);
    let bed = Testbed::new().unwrap();
    let file = std::env::temp_dir().join(format!("{}.pcap", bed.director.name()));
    for local in ["198.51.100.7", "2001:db8:f::7"] {
        bed.director.lvsadm(&format!("--add-laddr -z {local}")).unwrap();
    }
    for seed in 0..3 {
        let mut random = fastrand::Rng::with_seed(seed);
        bed.director.lvsadm("-C").unwrap();
        bed.restore(&rules(&mut random)).unwrap();
        bed.director.lvsadm("mark flush").unwrap();
        bed.director
            .lvsadm(&format!("mark add --mark 7 --protocol tcp --to {VIP} --dport 82-83 --from 10.20.{seed}.0/24"))
            .unwrap();
        for list in ["block", "allow"] {
            bed.director.lvsadm(&format!("{list} --flush")).unwrap();
        }
        bed.director.lvsadm("block 10.20.1.0/29").unwrap();
        bed.director.lvsadm(&format!("allow -u {VIP}:5080 10.20.0.0/23")).ok();
        if seed == 2 {
            bed.director.lvsadm("attach --dev front --dev back --mode native").unwrap();
        }
        std::fs::write(&file, pcap(&(0..PACKETS).map(|_| packet(&mut random)).collect::<Vec<_>>())).unwrap();
        let accounts = accounts(&bed.director, &format!("--pcap {} -i front", file.display())).unwrap();
        assert_eq!(accounts.len(), PACKETS);
        for account in &accounts {
            assert_eq!(account["agrees"], true, "seed {seed}: {account:#}");
            exits.extend(account["exits"].as_array().unwrap().iter().map(|exit| exit.as_str().unwrap().to_owned()));
            verdicts.extend(told(account, "xdp").into_iter().map(str::to_owned));
            let picked = told(account, "candidate").into_iter().find(|it| it.ends_with("which the scheduler picks"));
            let is_free = told(account, "template").is_empty() && told(account, "connection").is_empty();
            if account["exits"] == json!(["fullnat"]) && !told(account, "candidate").is_empty() && picked.is_some() {
                let local = told(account, "local").concat();
                assert!(local.contains("of 64512 ports are free"), "seed {seed}: {account:#}");
                free_ports += 1;
            }
            if let (Some(picked), Some(server), true) = (picked, account["real_server"].as_str(), is_free) {
                assert!(picked.starts_with(&format!("{server},")), "seed {seed}: {account:#}");
            }
        }
    }
    std::fs::remove_file(file).unwrap();
    assert_ne!(free_ports, 0, "no FullNAT connection was made");
    assert!(verdicts.contains("redirect") && verdicts.contains("pass"), "{verdicts:?}");
    for exit in ["nat", "route", "tunnel", "fullnat", "not-ours", "drop-blocked", "drop-not-allowed"] {
        assert!(exits.contains(exit), "no packet left by {exit}: {exits:?}");
    }
}

/// A frame of a client to a service on a device: TCP with these flags, or UDP without.
fn frame(device: [u8; 6], (client, port): (u8, u16), to: u16, flags: Option<&str>) -> Vec<u8> {
    let builder = PacketBuilder::ethernet2([2, 0, 0, 0, 0, 9], device);
    let (builder, mut frame) = (builder.ipv4([10, 20, 0, client], [10, 10, 10, 10], 64), Vec::new());
    let Some(flags) = flags else {
        builder.udp(port, to).write(&mut frame, b"x").unwrap();
        return frame;
    };
    let tcp = builder.tcp(port, to, 1, 1024);
    match flags {
        "SYN" => tcp.syn(),
        "FIN" => tcp.fin().ack(1),
        _ => tcp.ack(1),
    }
    .write(&mut frame, &[])
    .unwrap();
    frame
}

/// Packets of clients that fill a table: of so many connections that stay, and of others that may give way.
fn filling(device: [u8; 6], random: &mut fastrand::Rng, staying: u16) -> Vec<Vec<u8>> {
    let mut frames = Vec::new();
    for number in 0..staying + 400 {
        let client = (random.u8(1..20), 2000 + number);
        let (service, words): (u16, &[Option<&str>]) = match (number < staying, random.u8(..3)) {
            (true, 0) => (5080, &[None, None]),
            (true, _) => (80, &[Some("SYN"), Some("ACK")]),
            (false, 0) => (5080, &[None]),
            (false, 1) => (80, &[Some("SYN")]),
            (false, _) => (80, &[Some("SYN"), Some("ACK"), Some("FIN")]),
        };
        frames.extend(words.iter().map(|flags| frame(device, client, service, *flags)));
    }
    frames
}

/// Clients of the connections that a director lists, and what it counted by each exit of what it balances.
fn listed(director: &Namespace) -> (BTreeSet<String>, Vec<(String, u64)>) {
    let read = |arguments: &str| -> Value { serde_json::from_str(&director.lvsadm(arguments).unwrap()).unwrap() };
    let end = |it: &Value| format!("{}:{}", it["address"].as_str().unwrap(), it["port"]);
    let connections = read("-L -c --json").as_array().unwrap().iter().map(|it| end(&it["client"])).collect();
    let exits = read("status --json")["packets"].as_array().unwrap().clone();
    let exits = exits.iter().map(|it| (it["exit"].as_str().unwrap().to_owned(), it["packets"].as_u64().unwrap()));
    (connections, exits.filter(|(exit, _)| exit != "not-ours").collect())
}

#[test]
fn what_gives_way_in_a_full_table_is_told_and_gives_way() {
    let mut exits = BTreeSet::new();
    for staying in [400, 220, 100] {
        let bed = Testbed::new().unwrap();
        bed.director.lvsadm("attach --conns 200").unwrap();
        let rules = [("-t", 80, ""), ("-u", 5080, ""), ("-t", 81, " -p 300")].map(|(protocol, port, persistent)| {
            let service = format!("{protocol} {VIP}:{port}");
            [format!("-A {service} -s rr{persistent}"), format!("-a {service} -r 192.168.122.101 -g")]
        });
        bed.restore(&rules.concat()).unwrap();
        let mut random = fastrand::Rng::with_seed(staying.into());
        let send = |frame: &[u8]| bed.with_programs(|programs| programs.run_tc(bed.front, frame).map(drop)).unwrap();
        let frames = filling(bed.front.mac, &mut random, staying);
        bed.with_programs(|programs| frames.iter().try_for_each(|frame| programs.run_tc(bed.front, frame).map(drop)))
            .unwrap();

        let new: Vec<Vec<u8>> = (0..16)
            .map(|number| {
                let (service, flags) = [(80, Some("SYN")), (5080, None), (81, Some("SYN"))][random.usize(..3)];
                frame(bed.front.mac, (random.u8(1..20), 3000 + number), service, flags)
            })
            .collect();
        let file = std::env::temp_dir().join(format!("{}.pcap", bed.director.name()));
        std::fs::write(&file, pcap(&new)).unwrap();
        let before = listed(&bed.director);
        let accounts = accounts(&bed.director, &format!("--pcap {} -i front", file.display())).unwrap();
        std::fs::remove_file(file).unwrap();
        let mut before = {
            let after = listed(&bed.director);
            assert_eq!(after, before, "explain changed something");
            after
        };
        for (frame, account) in new.iter().zip(&accounts) {
            assert_eq!(account["agrees"], true, "{staying}: {account:#}");
            send(frame);
            let after = listed(&bed.director);
            let counted = after.1.iter().zip(&before.1).filter(|(after, before)| after.1 > before.1);
            let mut counted: Vec<&str> = counted.map(|(after, _)| after.0.as_str()).collect();
            counted.sort_unstable();
            assert_eq!(account["exits"], json!(counted), "{staying}: {account:#}");
            let sentences = told(account, "table");
            let gone =
                |it: &&str| it.split("the connection ").nth(1).map(|it| it.split(' ').next().unwrap().to_owned());
            for client in sentences.iter().filter_map(gone) {
                assert!(before.0.contains(&client) && !after.0.contains(&client), "{client}: {account:#}");
            }
            let is_refused = sentences.iter().any(|it| it.contains("it is refused"));
            assert_eq!(is_refused, counted == ["drop-table-full"], "{account:#}");
            exits.extend(counted.into_iter().map(str::to_owned));
            before = after;
        }
    }
    for exit in ["drop-table-full", "evicted-half-open", "evicted-one-packet", "evicted-closing"] {
        assert!(exits.contains(exit), "no packet counted as {exit}: {exits:?}");
    }
}
