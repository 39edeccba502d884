//! Who may come in: lists of blocked and of allowed clients, under real connections.

use std::fs;
use std::net::{IpAddr, SocketAddr};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Stdio;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use tests::eventually;
use tests::topology::{
    CLIENT, CLIENT6, Cluster, Datagrams, Layout, Namespace, Offloads, Origin, Server, Session, VIP, VIP6, lvsadm_path,
};

/// The client's other addresses.
const OTHER: [&str; 2] = ["10.10.10.2", "2001:db8:a::2"];

/// A director with a web service and a name service of either family, and a client with two addresses of each.
fn cluster() -> (Cluster, Vec<Server>) {
    let cluster = Cluster::new(Layout { servers: 1, offloads: Offloads::Off, ..Layout::default() }).unwrap();
    cluster.director.sysctl(&["net/ipv4/ip_forward=1", "net/ipv6/conf/all/forwarding=1"]).unwrap();
    let [v4, v6] = OTHER;
    let others = [format!("addr add {v4}/24 dev eth0"), format!("addr add {v6}/64 dev eth0 nodad")];
    cluster.client.ip(&others).unwrap();
    let (server4, server6) = cluster.server_addresses(1);
    let mut servers = Vec::new();
    for (vip, server) in [(VIP, server4), (VIP6, server6)] {
        for (option, port, more) in [("-t", 80, ""), ("-t", 81, ""), ("-u", 53, ""), ("-u", 54, ""), ("-u", 55, " -o")]
        {
            let service = format!("{option} {}", SocketAddr::new(vip, port));
            cluster.director.lvsadm(&format!("-A {service} -s rr{more}")).unwrap();
            cluster.director.lvsadm(&format!("-a {service} -r {} -m", SocketAddr::new(server, port))).unwrap();
            if option == "-u" {
                servers.push(Server::udp(&cluster.servers[0], server, port, "rs1").unwrap());
            }
        }
    }
    servers.push(Server::http(&cluster.servers[0], 81, "rs1").unwrap());
    (cluster, servers)
}

/// The addresses of a family: the VIP, the client's, and the client's other one.
fn addresses(v6: bool) -> (IpAddr, IpAddr, IpAddr) {
    let other = OTHER[usize::from(v6)].parse().unwrap();
    if v6 { (VIP6, CLIENT6, other) } else { (VIP, CLIENT, other) }
}

/// Checks with either tier, over either family.
fn everywhere(cluster: &Cluster, check: impl Fn(bool) -> Result<()>) {
    for tier in ["tc", "native"] {
        cluster.director.lvsadm(&format!("attach --mode {tier}")).unwrap();
        for v6 in [false, true] {
            check(v6).with_context(|| format!("{tier}, {}", if v6 { "IPv6" } else { "IPv4" })).unwrap();
        }
    }
}

fn from(address: IpAddr) -> Origin {
    Origin { address: Some(address), ..Origin::default() }
}

/// Whether datagrams of a client are answered, on new ports.
fn comes_in(client: &Namespace, to: (IpAddr, u16), address: IpAddr) -> Result<bool> {
    let datagrams = Datagrams::open(client, to.into(), from(address))?;
    Ok(!datagrams.is_ignored()?)
}

/// The entries that are listed.
fn listed(director: &Namespace, list: &str) -> Vec<Value> {
    let lists: Value = serde_json::from_str(&director.lvsadm(&format!("{list} --json")).unwrap()).unwrap();
    lists.as_array().unwrap().iter().flat_map(|list| list["clients"].as_array().unwrap().clone()).collect()
}

#[test]
fn a_blocked_client_stays_out_and_what_it_had_ends() {
    let (cluster, _servers) = cluster();
    let (director, client) = (&cluster.director, &cluster.client);
    everywhere(&cluster, |v6| {
        let (vip, blocked, other) = addresses(v6);
        let web = SocketAddr::new(vip, 80);
        let mut kept = [blocked, other].map(|address| Session::open(client, web, from(address)).unwrap());
        let datagrams = Datagrams::open(client, (vip, 53).into(), from(blocked))?;
        ensure!(kept[0].ask()? == "rs1" && kept[1].ask()? == "rs1" && datagrams.ask()? == "rs1", "not served before");
        director.lvsadm(&format!("block {blocked}"))?;
        let of_client = |line: &str| line.contains(&format!(" {blocked}:")) || line.contains(&format!("[{blocked}]:"));
        ensure!(!director.lvsadm("-Lnc")?.lines().any(of_client), "its connections are there");
        let before = director.exit("drop-blocked")?;
        ensure!(kept[0].is_ignored()? && datagrams.is_ignored()?, "a connection goes on");
        ensure!(!comes_in(client, (vip, 55), blocked)?, "one packet comes in");
        // Of a packet in fragments, the whole is one.
        let long = Datagrams::open(client, (vip, 54).into(), from(blocked))?;
        ensure!(long.is_ignored_with(4000)?, "a packet in fragments comes in");
        ensure!(kept[1].ask()? == "rs1", "another client's connection ended");
        ensure!(director.exit("drop-blocked")? >= before + 4, "not counted");
        let entries = listed(director, "block");
        ensure!(entries.len() == 1 && entries[0]["packets"].as_u64() >= Some(4), "{entries:?}");
        // The host itself is not the services' business.
        director.lvsadm(&format!("block --delete {blocked}"))?;
        ensure!(Session::open(client, web, from(blocked))?.ask()? == "rs1", "it is out still");
        // By a prefix that has both, for one service alone.
        let prefix = if v6 { "2001:db8:a::/64" } else { "10.10.10.0/24" };
        director.lvsadm(&format!("block -u {} {prefix}", SocketAddr::new(vip, 53)))?;
        ensure!(!comes_in(client, (vip, 53), other)? && comes_in(client, (vip, 54), other)?, "not that service alone");
        ensure!(kept[1].ask()? == "rs1", "another service's connection ended");
        director.lvsadm("block --flush --all")?;
        ensure!(comes_in(client, (vip, 53), other)?, "it is out after all lists were emptied");
        Ok(())
    });
}

#[test]
fn an_entry_ends_by_itself_and_hides_no_other() {
    let (cluster, _servers) = cluster();
    let (director, client) = (&cluster.director, &cluster.client);
    everywhere(&cluster, |v6| {
        let (vip, blocked, _) = addresses(v6);
        let prefix = if v6 { "2001:db8::/32" } else { "10.0.0.0/8" };
        director.lvsadm(&format!("block {blocked} --for 1s"))?;
        eventually("the entry ends", || comes_in(client, (vip, 53), blocked).unwrap());
        ensure!(listed(director, "block").is_empty(), "it is listed");
        // Its row is there still, in front of that of the prefix.
        director.lvsadm(&format!("block {prefix}"))?;
        director.lvsadm(&format!("block {blocked} --for 1s"))?;
        eventually("the entry ends", || listed(director, "block").len() == 1);
        ensure!(!comes_in(client, (vip, 53), blocked)?, "the prefix was hidden");
        // Put there again, it has the new time; and one without a time stays.
        director.lvsadm(&format!("block {blocked} --for 1h"))?;
        director.lvsadm(&format!("block {blocked}"))?;
        director.lvsadm(&format!("block --delete {prefix}"))?;
        ensure!(listed(director, "block")[0]["seconds_left"].is_null(), "{:?}", listed(director, "block"));
        ensure!(!comes_in(client, (vip, 53), blocked)?, "it is let in");
        director.lvsadm("block --flush")?;
        Ok(())
    });
}

#[test]
fn where_some_are_allowed_nobody_else_comes_in() {
    let (cluster, _servers) = cluster();
    let (director, client) = (&cluster.director, &cluster.client);
    everywhere(&cluster, |v6| {
        let (vip, refused, allowed) = addresses(v6);
        let (web, dns) = (SocketAddr::new(vip, 80), SocketAddr::new(vip, 53));
        let mut kept = Session::open(client, web, from(refused))?;
        ensure!(kept.ask()? == "rs1", "not served before");
        let before = director.exit("drop-not-allowed")?;
        director.lvsadm(&format!("allow {allowed}"))?;
        ensure!(kept.is_ignored()? && !comes_in(client, (vip, 53), refused)?, "it is let in");
        ensure!(director.exit("drop-not-allowed")? >= before + 2, "not counted");
        ensure!(comes_in(client, (vip, 53), allowed)?, "who is allowed is refused");
        // Neither does the other family.
        let (other_vip, other, _) = addresses(!v6);
        ensure!(!comes_in(client, (other_vip, 53), other)?, "the other family is let in");
        // A list for all and a service's own: it must be on both. What is blocked stays out.
        director.lvsadm(&format!("allow -u {dns} {refused}"))?;
        ensure!(!comes_in(client, (vip, 53), allowed)? && !comes_in(client, (vip, 53), refused)?, "by one list alone");
        director.lvsadm(&format!("allow -u {dns} {allowed}"))?;
        ensure!(comes_in(client, (vip, 53), allowed)?, "on both lists");
        director.lvsadm(&format!("block {allowed}"))?;
        ensure!(!comes_in(client, (vip, 53), allowed)?, "blocked and let in");
        director.lvsadm("block --flush")?;
        director.lvsadm("allow --flush")?;
        ensure!(comes_in(client, (vip, 54), refused)?, "refused without a list");
        // A list whose entries have ended lets nobody in, until the last is taken away.
        director.lvsadm(&format!("allow -u {dns} --flush"))?;
        director.lvsadm(&format!("allow -u {dns} {allowed} --for 1s"))?;
        eventually("the entry ends", || !comes_in(client, (vip, 53), allowed).unwrap());
        ensure!(!comes_in(client, (vip, 53), refused)?, "an ended list is open");
        ensure!(listed(director, "allow")[0]["seconds_left"] == 0, "{:?}", listed(director, "allow"));
        director.lvsadm(&format!("allow -u {dns} --delete {allowed}"))?;
        ensure!(comes_in(client, (vip, 53), refused)?, "refused by a list without entries");
        Ok(())
    });
}

/// A list of many clients, with one that is on it always.
fn file(name: &str, always: &[&str], second: u8) -> String {
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    let mut text: String = (0..4000).map(|n| format!("198.{second}.{}.{} ; a feed's\n", n / 250, n % 250)).collect();
    always.iter().for_each(|client| text += &format!("{client}\n"));
    fs::write(&path, text).unwrap();
    path.display().to_string()
}

#[test]
fn a_list_is_replaced_at_once() {
    let (cluster, _servers) = cluster();
    let (director, client) = (&cluster.director, &cluster.client);
    let one = file("access-one", &["10.10.10.1", "2001:db8:a::/120"], 18);
    let other = file("access-other", &["10.10.10.0/30", "2001:db8:a::1"], 19);
    director.lvsadm(&format!("block --file {one}")).unwrap();
    let (done, answers) = (AtomicBool::new(false), |address, vip| -> usize {
        let to = SocketAddr::new(vip, 54);
        client
            .enter(|| {
                let socket = std::net::UdpSocket::bind((address, 0))?;
                socket.set_nonblocking(true)?;
                let mut answers = 0;
                for _ in 0..200 {
                    socket.send_to(b"x", to)?;
                    thread::yield_now();
                    answers += usize::from(tests::uninterrupted(|| socket.recv(&mut [0; 64])).is_ok());
                }
                Ok(answers)
            })
            .unwrap()
    });
    thread::scope(|scope| {
        let sender = scope.spawn(|| {
            let mut sum = 0;
            while !done.load(Ordering::Relaxed) {
                sum += answers(CLIENT, VIP) + answers(CLIENT6, VIP6);
            }
            sum
        });
        for _ in 0..5 {
            for path in [&other, &one] {
                director.lvsadm(&format!("block --file {path}")).unwrap();
            }
        }
        done.store(true, Ordering::Relaxed);
        assert_eq!(sender.join().unwrap(), 0, "a packet saw a part of a list");
    });
    assert_eq!(listed(director, "block").len(), 4002);
    assert!(!comes_in(client, (VIP, 54), CLIENT).unwrap());
    // What is not in the new one is on it no more, and nothing of the old ones is left in the maps.
    director.lvsadm(&format!("block --file {other}")).unwrap();
    director.lvsadm("block --delete 10.10.10.0/30").unwrap();
    assert!(comes_in(client, (VIP, 54), CLIENT).unwrap());
    let mistaken = format!("{one}.mistaken");
    fs::write(&mistaken, "10.10.10.1\nnowhere\n10.10.10.1/33 10m\n").unwrap();
    let error = director.lvsadm(&format!("block --file {mistaken}")).unwrap_err().to_string();
    assert!(error.contains(".mistaken:2: `nowhere' is no address") && error.contains(".mistaken:3: "), "{error}");
    assert!(error.contains("nothing is changed") && comes_in(client, (VIP, 54), CLIENT).unwrap(), "{error}");
}

#[test]
fn lists_are_saved_and_go_with_their_services() {
    let (cluster, _servers) = cluster();
    let (director, client) = (&cluster.director, &cluster.client);
    director.lvsadm("block 10.10.10.1 203.0.113.0/24").unwrap();
    director.lvsadm("block 2001:db8:a::1 --for 7d").unwrap();
    director.lvsadm("allow -u 10.10.10.10:53 10.10.10.2").unwrap();
    let saved = director.lvsadm("save --full").unwrap();
    let lists = |text: &str| -> Vec<String> {
        let mut lines: Vec<String> = text
            .lines()
            .filter(|line| line.starts_with("block") || line.starts_with("allow"))
            .map(str::to_owned)
            .collect();
        lines.iter_mut().filter(|line| line.contains("--for")).for_each(|line| {
            assert!(line.contains("--for 7d") || line.contains("--for 6d23h59m"), "{line}");
            line.truncate(line.find("--for").unwrap_or_default());
        });
        lines
    };
    let expected = [
        "block --flush --all",
        "allow --flush --all",
        "block 10.10.10.1 203.0.113.0/24",
        "block 2001:db8:a::1 ",
        "allow -u 10.10.10.10:53 10.10.10.2",
    ];
    assert_eq!(lists(&saved), expected);
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join("access.rules");
    fs::write(&path, &saved).unwrap();
    director.lvsadm("unload").unwrap();
    director.lvsadm(&format!("apply {}", path.display())).unwrap();
    assert_eq!(lists(&director.lvsadm("save --full").unwrap()), expected);
    assert!(!comes_in(client, (VIP, 54), CLIENT).unwrap());
    assert!(!comes_in(client, (VIP6, 54), CLIENT6).unwrap());
    let [other, _] = OTHER.map(|other| other.parse().unwrap());
    assert!(comes_in(client, (VIP, 53), other).unwrap());

    // An edit keeps a service's list; one that is made anew has none.
    director.lvsadm("block --flush").unwrap();
    director.lvsadm("-E -u 10.10.10.10:53 -s wrr").unwrap();
    assert!(!comes_in(client, (VIP, 53), CLIENT).unwrap());
    let rule = director.lvsadm("-Sn").unwrap();
    director.lvsadm("-D -u 10.10.10.10:53").unwrap();
    director.lvsadm("-A -u 10.10.10.10:53 -s rr").unwrap();
    let server = rule.lines().find(|line| line.starts_with("-a -u 10.10.10.10:53")).unwrap();
    director.lvsadm(server).unwrap();
    assert!(comes_in(client, (VIP, 53), CLIENT).unwrap());
    assert_eq!(director.lvsadm("allow").unwrap(), "");

    // In one step with other rules: packets see all of it.
    let path = path.display();
    director.lvsadm(&format!("apply --dry-run {path}")).unwrap();
    director.lvsadm(&format!("apply {path}")).unwrap();
    assert_eq!(lists(&director.lvsadm("save --full").unwrap()), expected);
}

#[test]
fn status_warns_of_a_firewall_that_the_packets_do_not_pass() {
    let (cluster, _servers) = cluster();
    let director = &cluster.director;
    let warnings = || -> Vec<String> {
        let json: Value = serde_json::from_str(&director.lvsadm("status --json").unwrap()).unwrap();
        let chains = json["firewall"].as_array().unwrap().iter();
        let texts: Vec<String> = chains
            .map(|of| {
                format!("{} {} {} {} {}", of["table"], of["chain"], of["hook"], of["drops"], of["names_services"])
            })
            .collect();
        let status = director.lvsadm("status").unwrap();
        assert_eq!(status.lines().filter(|line| line.starts_with("  nftables")).count(), texts.len(), "{status}");
        assert_eq!(status.contains("warning: balanced packets do not pass"), !texts.is_empty(), "{status}");
        texts
    };
    let nft = |rules: &str| {
        let done = director.command("nft").arg(rules).status().unwrap();
        assert!(done.success(), "{rules}");
    };
    assert!(warnings().is_empty());
    nft("add table inet f; add chain inet f in { type filter hook input priority 0; }; add rule inet f in accept");
    assert!(warnings().is_empty(), "{:?}", warnings());
    nft(
        "add chain inet f post { type filter hook postrouting priority 0; }; add rule inet f post ip saddr 10.10.10.10 accept",
    );
    assert_eq!(warnings(), [r#""inet f" "post" "postrouting" false true"#]);
    nft("add chain inet f ours; add rule inet f ours ip saddr 198.51.100.1 drop; add rule inet f in jump ours");
    let both = [r#""inet f" "in" "input" true false"#, r#""inet f" "post" "postrouting" false true"#];
    assert_eq!(warnings(), both);
    // A program that fails, or says what nobody understands, is no fault of the command's.
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("access-nft");
    fs::create_dir_all(&folder).unwrap();
    let path = format!("{}:{}", folder.display(), std::env::var("PATH").unwrap());
    for script in ["#!/bin/sh\nexit 1\n", "#!/bin/sh\necho nonsense\n"] {
        let nft = folder.join("nft");
        fs::write(&nft, script).unwrap();
        fs::set_permissions(&nft, fs::Permissions::from_mode(0o755)).unwrap();
        let status = director.command(lvsadm_path()).arg("status").env("PATH", &path).output().unwrap();
        assert!(status.status.success() && status.stderr.is_empty(), "{status:?}");
        assert!(!String::from_utf8_lossy(&status.stdout).contains("warning"), "{status:?}");
    }
}

#[test]
fn what_makes_no_sense_changes_nothing() {
    let (cluster, _servers) = cluster();
    let director = &cluster.director;
    director.lvsadm("block 198.51.100.1").unwrap();
    let before = director.lvsadm("save --full").unwrap();
    for (arguments, sentence) in [
        ("block nowhere", "`nowhere' is no address, nor one with /LENGTH after it"),
        ("block 198.51.100.0/33", "the length of such a prefix is from 0 to 32, not `33'"),
        ("block ::ffff:198.51.100.2", "is an IPv4 address to the packets that have it: write 198.51.100.2"),
        ("block 198.51.100.2 --for never", "a time is from 1s on, as 90, 90s, 10m, 1h30m or 7d, not `never'"),
        ("block 198.51.100.2 nowhere", "`nowhere' is no address"),
        ("block --delete 198.51.100.1 198.51.100.2", "198.51.100.2 is not on the list: see `lvsadm block'"),
        ("allow --delete 198.51.100.1", "198.51.100.1 is not on the list: see `lvsadm allow'"),
        ("block -t 10.10.10.10:99 198.51.100.2", "No such service"),
        ("block -t 10.10.10.10:99", "No such service"),
        ("allow -t nowhere.invalid:80 198.51.100.2", "illegal virtual server address[:port] specified"),
        ("block --file /nowhere", "cannot read /nowhere: No such file or directory"),
        ("block --flush --file /nowhere", "cannot be used with"),
    ] {
        let output = director.command(lvsadm_path()).args(arguments.split(' ')).stdin(Stdio::null()).output().unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        assert!(output.status.code() == Some(2) && said.contains(sentence), "{arguments}: {said}");
        assert_eq!(director.lvsadm("save --full").unwrap(), before, "{arguments}");
    }
}
