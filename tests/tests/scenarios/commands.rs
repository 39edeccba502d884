//! `lvsadm` as commands: each call is a process of its own, in a private mount namespace (`ip netns exec`), and may run
//! beside others or be killed at any point.

use std::fs::File;
use std::io::BufRead as _;
use std::mem::offset_of;
use std::net::SocketAddr;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::Result;
use aya::maps::{Array, Map, MapData};
use lvs_common::abi::{Settings, Switch};
use nix::fcntl::{Flock, FlockArg};
use tests::topology::{Cluster, Layout, Namespace, Offloads, VIP, connect, lvsadm_path};

const SERVICE: &str = "10.10.10.10:80";

/// A NAT service whose real servers are the cluster's first `servers`.
fn balanced(servers: usize) -> Result<Cluster> {
    let cluster = Cluster::new(Layout { servers, ..Layout::default() })?;
    cluster.director.sysctl(&["net/ipv4/ip_forward=1"])?;
    cluster.director.lvsadm(&format!("-A -t {SERVICE} -s rr"))?;
    for number in 1..=servers {
        let server = cluster.server_addresses(number).0;
        cluster.director.lvsadm(&format!("-a -t {SERVICE} -r {server}:80 -m"))?;
    }
    Ok(cluster)
}

/// The real servers that `-Ln` lists.
fn listed(director: &Namespace) -> Vec<String> {
    let text = director.lvsadm("-Ln").unwrap();
    let servers = text.lines().filter_map(|line| line.trim_start().strip_prefix("-> "));
    let mut servers: Vec<String> =
        servers.filter_map(|line| line.split_whitespace().next()).map(str::to_owned).collect();
    servers.retain(|server| server.contains(|c: char| c.is_ascii_digit()));
    servers.sort();
    servers
}

#[test]
fn rules_and_traffic_outlive_the_command() {
    let cluster = balanced(2).unwrap();
    assert_eq!(listed(&cluster.director), ["192.168.122.101:80", "192.168.122.102:80"]);
    let spread = cluster.client().spread(SocketAddr::new(VIP, 80), 4).unwrap();
    assert_eq!(spread.values().copied().collect::<Vec<_>>(), [2, 2]);
    // A mount namespace of its own each time; nothing may hang on the one before.
    assert_eq!(listed(&cluster.director).len(), 2);
    cluster.director.lvsadm("unload").unwrap();
    assert!(listed(&cluster.director).is_empty());
}

#[test]
fn each_network_namespace_has_its_own_rules() {
    let (one, other) = (Namespace::new("one").unwrap(), Namespace::new("other").unwrap());
    one.lvsadm("-A -t 192.0.2.1:80").unwrap();
    other.lvsadm("-A -t 192.0.2.2:80").unwrap();
    assert!(one.lvsadm("-Ln").unwrap().contains("192.0.2.1:80"));
    assert!(!one.lvsadm("-Ln").unwrap().contains("192.0.2.2:80"));
    assert!(!other.lvsadm("-Ln").unwrap().contains("192.0.2.1:80"));
}

#[test]
fn many_at_once() {
    const EACH: u32 = 10;
    let director = Namespace::new("director").unwrap();
    director.lvsadm(&format!("-A -t {SERVICE} -s wlc")).unwrap();
    thread::scope(|scope| {
        for group in 1..=4 {
            let director = &director;
            scope.spawn(move || {
                for host in 1..=EACH {
                    director.lvsadm(&format!("-a -t {SERVICE} -r 10.0.{group}.{host}:80 -m")).unwrap();
                }
            });
        }
    });
    assert_eq!(listed(&director).len(), 4 * EACH as usize);
}

#[test]
fn killed_anywhere_it_leaves_nothing_half_done() {
    let cluster = balanced(2).unwrap();
    let (director, service) = (&cluster.director, SocketAddr::new(VIP, 80));
    let commands = [
        format!("-a -t {SERVICE} -r 192.168.122.111:80 -m -w 0"),
        format!("-e -t {SERVICE} -r 192.168.122.101:80 -m -w 2"),
        format!("-d -t {SERVICE} -r 192.168.122.111:80"),
        format!("-e -t {SERVICE} -r 192.168.122.101:80 -m -w 1"),
        "-A -u 10.10.10.10:53".to_owned(),
        "-D -u 10.10.10.10:53".to_owned(),
        "mark add --mark 7 --to 192.0.2.9".to_owned(),
        "mark del --to 192.0.2.9".to_owned(),
    ];
    let whole = time(|| drop(director.lvsadm("-Ln")));
    for step in 0..60u32 {
        let command = &commands[step as usize % commands.len()];
        // Without `ip` in between, so that the one that is killed is lvsadm.
        let mut child = director
            .enter(|| {
                Ok(std::process::Command::new(lvsadm_path()).args(command.split(' ')).stderr(Stdio::null()).spawn()?)
            })
            .unwrap();
        thread::sleep(whole * (step % 20) / 10);
        child.kill().unwrap();
        child.wait().unwrap();
        // The next command works, the rule is whole, and clients notice nothing.
        let servers = listed(director);
        assert!(servers.contains(&"192.168.122.101:80".to_owned()), "after {command}: {servers:?}");
        assert!(servers.contains(&"192.168.122.102:80".to_owned()), "after {command}: {servers:?}");
        let marks = director.lvsadm("mark list").unwrap();
        assert!(["", "--mark 7 --to 192.0.2.9\n"].contains(&&*marks), "after {command}: {marks}");
        cluster.client().get(service, "/").unwrap_or_else(|error| panic!("after {command}: {error:#}"));
    }
    for number in 1..=2 {
        let server = cluster.server_addresses(number).0;
        director.lvsadm(&format!("-e -t {SERVICE} -r {server}:80 -m -w 1")).unwrap();
    }
    let spread = cluster.client().spread(service, 4).unwrap();
    assert_eq!(spread.values().copied().collect::<Vec<_>>(), [2, 2]);
}

/// A command that dies between preparing a change and making it leaves what this writes. To kill one just there takes luck.
#[test]
fn a_change_of_marks_that_was_not_made_never_is() {
    let director = Namespace::new("director").unwrap();
    director.lvsadm("mark add --mark 7 --to 192.0.2.9").unwrap();
    director
        .enter(|| {
            let data = MapData::from_pin(tests::fixtures::pins()?.join("SETTINGS"))?;
            let mut map = Array::<_, [u8; size_of::<Settings>()]>::try_from(Map::from_map_data(data)?)?;
            let mut settings = map.get(&0, 0)?;
            let word = |settings: &[u8], at: usize| u64::from_ne_bytes(settings[at..at + 8].try_into().unwrap());
            let epoch = word(&settings, offset_of!(Settings, epoch));
            let (marks, staged) = (offset_of!(Settings, marks), offset_of!(Settings, staged));
            let other = 1 - Switch(word(&settings, marks)).copy(epoch);
            settings[marks..marks + 8].copy_from_slice(&Switch::at(epoch + 1, other).0.to_ne_bytes());
            settings[staged..staged + 4].copy_from_slice(&1u32.to_ne_bytes());
            Ok(map.set(0, settings, 0)?)
        })
        .unwrap();
    // The next change of something else comes with the epoch that the dead one was to come with.
    director.lvsadm(&format!("-A -t {SERVICE}")).unwrap();
    assert_eq!(director.lvsadm("mark list").unwrap(), "--mark 7 --to 192.0.2.9\n");
}

fn time(work: impl FnOnce()) -> Duration {
    let begin = Instant::now();
    work();
    begin.elapsed()
}

#[test]
fn what_dead_namespaces_left_is_collected() {
    let pins = |namespace: &Namespace| {
        let status = namespace.lvsadm("status").unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("pinned in ")).expect("a line that says where");
        PathBuf::from(line)
    };
    let [dead, alive, next] = ["dead", "alive", "next"].map(|label| Namespace::new(label).unwrap());
    for namespace in [&dead, &alive] {
        namespace.lvsadm(&format!("-A -t {SERVICE}")).unwrap();
    }
    let (left, kept) = (pins(&dead), pins(&alive));
    assert!(left.exists() && kept.exists());
    dead.abandon();
    // The kernel takes a namespace apart in its own time; the first use of another one collects.
    let collected = (0..50).any(|_| {
        thread::sleep(Duration::from_millis(100));
        next.lvsadm("-A -t 192.0.2.1:80").unwrap();
        next.lvsadm("unload").unwrap();
        !left.exists()
    });
    assert!(collected && kept.exists());
}

/// A command that is killed while it loads leaves a draft, which the next one that loads removes, wherever that is. A draft
/// that somebody is working on stays.
/// A lock, held. Commands remove locks that nobody holds, also this one until it is.
fn held(path: &Path) -> Flock<File> {
    loop {
        std::fs::create_dir_all(path).unwrap();
        let Ok(file) = File::open(path) else { continue };
        let lock = Flock::lock(file, FlockArg::LockExclusive).unwrap();
        if std::fs::metadata(path).is_ok_and(|now| now.ino() == lock.metadata().unwrap().ino()) {
            return lock;
        }
    }
}

#[test]
fn drafts_of_killed_commands_are_collected() {
    let [killed, working, next] = ["killed", "working", "next"].map(|label| Namespace::new(label).unwrap());
    let [left, kept] = [&killed, &working].map(|namespace| {
        // Something that makes the folder of pins.
        namespace.lvsadm("status").unwrap_err();
        let pins = namespace.enter(tests::fixtures::pins).unwrap();
        let draft = pins.file_name().unwrap().to_string_lossy().replacen("ns-", "draft-", 1);
        (pins.with_file_name(draft), pins.with_file_name("locks").join(pins.file_name().unwrap()))
    });
    // First, as commands of other tests collect drafts without one.
    let lock = held(&kept.1);
    for (draft, _) in [&left, &kept] {
        std::fs::create_dir(draft).unwrap();
    }
    next.lvsadm("-Ln").unwrap();
    assert!(!left.0.exists() && kept.0.exists());
    drop(lock);
    // Its own, the next time.
    working.lvsadm("-Ln").unwrap();
    assert!(!kept.0.exists());
}

#[test]
fn the_environment_names_devices_mode_and_sizes() {
    let (director, other) = (Namespace::new("director").unwrap(), Namespace::new("other").unwrap());
    for device in ["eth0", "eth1"] {
        connect((&director, device), (&other, device), Offloads::Off).unwrap();
    }
    let variables = [("LVS_DEVICES", "eth1 eth7"), ("LVS_MODE", "native"), ("LVS_CONNS", "1000")];
    let status = director.command(lvsadm_path()).arg("-Ln").envs(variables).status().unwrap();
    assert!(status.success());
    let status = director.lvsadm("status").unwrap();
    let mode = |device| status.lines().find_map(|l| l.strip_prefix(device)?.split_whitespace().next());
    assert_eq!((mode("eth0"), mode("eth1"), mode("lo")), (None, Some("native"), Some("egress")), "{status}");
    assert!(status.contains("tables: 10"), "{status}");
    let nonsense = director.command(lvsadm_path()).arg("-Ln").env("LVS_MODE", "fast").output().unwrap();
    assert!(!nonsense.status.success() && String::from_utf8_lossy(&nonsense.stderr).contains("LVS_MODE"));
}

/// Boot scripts set what the kernel's IPVS has.
#[test]
fn settings_that_mean_something_else_here_say_so_and_are_no_error() {
    let director = Namespace::new("director").unwrap();
    let sysctl = |arguments: &str| {
        let output = director.command(lvsadm_path()).arg("sysctl").args(arguments.split(' ')).output().unwrap();
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        (output.status.code(), text(output.stdout), text(output.stderr))
    };
    director.lvsadm("sysctl conn_reuse_mode=0").unwrap();
    let (status, told, notes) = sysctl("net.ipv4.vs.conntrack=1 amemthresh drop_entry=1 drop_entry");
    assert_eq!((status, &*told), (Some(0), "net.ipv4.vs.amemthresh = 1024\nnet.ipv4.vs.drop_entry = 1\n"));
    let names: Vec<&str> = notes.lines().filter_map(|note| note.strip_prefix("lvsadm: ")?.split(':').next()).collect();
    assert_eq!(names, ["net.ipv4.vs.conntrack", "net.ipv4.vs.amemthresh"]);
    assert_eq!(notes.lines().count(), 2);
    // All of it or nothing.
    let (status, told, error) = sysctl("conntrack=0 drop_entry=4");
    let sentence = "lvsadm: drop_entry takes a number from 0 to 3, not `4'\n";
    assert_eq!((status, &*told, &*error), (Some(2), "", sentence));
    let saved = director.lvsadm("save --full").unwrap();
    let kept: Vec<&str> = saved.lines().filter(|line| line.starts_with("sysctl")).collect();
    assert_eq!(kept, ["sysctl --reset", "sysctl conn_reuse_mode=0", "sysctl conntrack=1", "sysctl drop_entry=1"]);
    let explained = director.lvsadm("sysctl --explain net.ipv4.vs.drop_entry").unwrap();
    assert!(
        explained.starts_with("drop_entry (0 to 3, default 0)\n    ") && explained.lines().count() == 2,
        "{explained}"
    );
}

#[test]
fn without_root_it_says_so_in_one_line() {
    let nobody = Namespace::new("nobody").unwrap();
    let output = nobody
        .command("setpriv")
        .args(["--reuid", "65534", "--clear-groups", "--inh-caps=-all", "--bounding-set=-all"])
        .arg(lvsadm_path())
        .arg("-Ln")
        .output()
        .unwrap();
    let message = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success() && message.trim_end().lines().count() == 1, "{message}");
}

#[test]
fn the_log_tells_of_connections_and_of_packets_that_are_dropped() {
    let cluster = Cluster::new(Layout { servers: 1, ..Layout::default() }).unwrap();
    let director = &cluster.director;
    director.sysctl(&["net/ipv4/ip_forward=1"]).unwrap();
    director.lvsadm("attach --log debug").unwrap();
    for (port, rule) in [(80, "-a -t 10.10.10.10:80 -r 192.168.122.101:80 -m"), (81, "-Ln")] {
        director.lvsadm(&format!("-A -t 10.10.10.10:{port} -s rr")).unwrap();
        director.lvsadm(rule).unwrap();
    }
    let mut follower = director.command(lvsadm_path()).arg("log").stdout(Stdio::piped()).spawn().unwrap();
    let lines = std::io::BufReader::new(follower.stdout.take().unwrap()).lines().map_while(Result::ok);
    for tier in ["tc", "native"] {
        director.lvsadm(&format!("attach --mode {tier}")).unwrap();
        cluster.set_offloads(Offloads::Off).unwrap();
        cluster.client().get(SocketAddr::new(VIP, 80), "/").unwrap();
        assert!(cluster.client().get(SocketAddr::new(VIP, 81), "/").is_err());
    }
    // Two of each, whatever else there is; the reader is told to stop once it has seen them.
    let mut wanted = vec![
        "INFO  new connection to 192.168.122.101:80: tcp 10.10.10.1:",
        "INFO  new connection to 192.168.122.101:80: tcp 10.10.10.1:",
        "INFO  icmp-sent: protocol 1 10.10.10.10 > 10.10.10.1 on eth0",
        "INFO  icmp-sent: protocol 1 10.10.10.10 > 10.10.10.1 on eth0",
    ];
    for line in lines {
        if let Some(at) = wanted.iter().position(|start| line.starts_with(start)) {
            wanted.remove(at);
        }
        if wanted.is_empty() {
            break;
        }
    }
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(follower.id() as i32), nix::sys::signal::Signal::SIGINT).unwrap();
    assert!(follower.wait().unwrap().success() && wanted.is_empty(), "{wanted:?}");

    let error = director.lvsadm("attach --log trace").unwrap_err().to_string();
    assert!(error.contains("lvsadm unload"), "{error}");
}
