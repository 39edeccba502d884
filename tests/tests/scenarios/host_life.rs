//! What a host does beside the director: readers that stop reading, devices that come and go or cannot do what is asked.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};

use nix::mount::umount;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tests::eventually;
use tests::topology::{Client, Namespace, Offloads, Server, connect, lvsadm_path};

/// A command that is under way until the value goes.
struct Running(Child);

impl Running {
    fn new(command: &mut Command) -> Self {
        Running(command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A director with more services than a pipe takes lines.
fn director_with_services() -> Namespace {
    let director = Namespace::new("director").unwrap();
    let rules: String = (1..=4000).map(|port| format!("-A -t 192.0.2.10:{port} -s wlc\n")).collect();
    let mut restore = director.command(lvsadm_path()).arg("-R").stdin(Stdio::piped()).spawn().unwrap();
    restore.stdin.take().unwrap().write_all(rules.as_bytes()).unwrap();
    assert!(restore.wait().unwrap().success());
    director
}

#[test]
fn a_listing_that_nobody_reads_holds_up_no_command() {
    let director = director_with_services();
    for (turn, arguments) in
        ["-Ln", "-Sn", "save --full", "-Ln --json", "metrics", "-L", "status --json"].iter().enumerate()
    {
        let mut listing = Running::new(director.command(lvsadm_path()).args(arguments.split(' ')));
        // A byte has come, so the pipe is being filled; nobody reads the rest.
        let mut reader = BufReader::with_capacity(1, listing.0.stdout.take().unwrap());
        assert_eq!(reader.fill_buf().unwrap().len(), 1);
        director.lvsadm(&format!("-E -t 192.0.2.10:1 -s {}", ["rr", "wrr"][turn % 2])).unwrap();
        director.lvsadm("-Ln -t 192.0.2.10:1").unwrap();
    }
}

#[test]
fn rules_that_are_not_all_there_yet_hold_up_no_command() {
    for program in ["lvsadm", "ipvsadm"] {
        let director = Namespace::new("director").unwrap();
        director.lvsadm("-A -t 192.0.2.10:1 -s wlc").unwrap();
        // `ipvsadm -Sn | slow filter | ipvsadm -R`
        let mut restore = Running::new(director.command(lvsadm_path()).arg0(program).arg("-R"));
        restore.0.stdin.as_mut().unwrap().write_all(b"-A -t 192.0.2.10:2 -s rr\n").unwrap();
        for scheduler in ["rr", "wrr"] {
            director.lvsadm(&format!("-E -t 192.0.2.10:1 -s {scheduler}")).unwrap();
        }
        drop(restore.0.stdin.take());
        assert!(restore.0.wait().unwrap().success());
        assert_eq!(director.lvsadm("-Sn").unwrap(), "-A -t 192.0.2.10:1 -s wrr\n-A -t 192.0.2.10:2 -s rr\n");
    }
}

#[test]
fn devices_that_come_and_go_fail_no_command() {
    let director = Namespace::new("director").unwrap();
    director.lvsadm("-A -t 192.0.2.10:80 -s rr").unwrap();
    std::thread::scope(|scope| {
        let churn = scope.spawn(|| {
            for turn in 0..60 {
                let name = format!("q{}", turn % 3);
                director.ip(&[format!("link add {name} type veth peer name r{}", turn % 3)]).unwrap();
                director.ip(&[format!("link set {name} up"), format!("link del {name}")]).unwrap();
            }
        });
        while !churn.is_finished() {
            director.lvsadm("-Ln").unwrap();
            director.lvsadm("-E -t 192.0.2.10:80 -s wrr").unwrap();
        }
    });
    // What is gone leaves nothing: the pins are those of `lo`.
    director.lvsadm("-Ln").unwrap();
    let status = director.json("status --json").unwrap();
    let devices: Vec<&str> =
        status["devices"].as_array().unwrap().iter().map(|d| d["device"].as_str().unwrap()).collect();
    assert_eq!(devices, ["lo"]);
}

/// A director with a bridge and a jumbo veth, which run no XDP in their drivers, and a veth that does.
fn mixed() -> Namespace {
    let director = Namespace::new("director").unwrap();
    director.ip(&["link add br0 type bridge", "link add v0 type veth peer name v1"]).unwrap();
    director.ip(&["link set br0 up", "link set v0 up", "link set v1 up"]).unwrap();
    director
}

/// The modes of devices, as `name mode`.
fn modes(director: &Namespace) -> Vec<String> {
    let status = director.json("status --json").unwrap();
    let text = |device: &serde_json::Value, name| device[name].as_str().unwrap().to_owned();
    let devices = status["devices"].as_array().unwrap().iter();
    let mut modes: Vec<String> = devices.map(|d| format!("{} {}", text(d, "device"), text(d, "mode"))).collect();
    modes.sort();
    modes
}

#[test]
fn native_is_taken_where_it_can_be_and_status_tells_why_not_elsewhere() {
    let director = mixed();
    let native = |arguments: &str| {
        let output =
            director.command(lvsadm_path()).env("LVS_MODE", "native").args(arguments.split(' ')).output().unwrap();
        (output.status.success(), String::from_utf8(output.stderr).unwrap())
    };
    let expected = ["br0 tc", "lo egress", "v0 native", "v1 native"];
    for arguments in ["-A -t 192.0.2.10:80 -s rr", "-Ln", "-E -t 192.0.2.10:80 -s wrr"] {
        assert_eq!(native(arguments), (true, String::new()), "{arguments}");
        assert_eq!(modes(&director), expected);
    }
    let status = director.lvsadm("status").unwrap();
    assert!(status.contains("br0              tc       XDP was asked for, and is refused: "), "{status}");
    // Asked for by hand, everywhere: a line for each that cannot; for that device alone: an error.
    let (success, said) = native("attach");
    assert!(success && said.starts_with("lvsadm: br0: ") && said.ends_with(": served by tc\n"), "{said}");
    let (success, said) = native("attach --dev br0");
    assert!(!success && said.lines().count() == 1, "{said}");
    assert_eq!(modes(&director), expected);
    // So it is in a rules file.
    let file = std::env::temp_dir().join(format!("{}.rules", director.name()));
    fs::write(&file, "attach --mode native\n-A -t 192.0.2.10:80 -s wrr\n").unwrap();
    director.lvsadm(&format!("apply {}", file.display())).unwrap();
    assert_eq!(modes(&director), expected);
    assert_eq!(director.lvsadm(&format!("apply --dry-run {}", file.display())).unwrap(), "");
    fs::write(&file, "attach --mode native --dev br0\n-A -t 192.0.2.10:81 -s wrr\n").unwrap();
    director.lvsadm(&format!("apply {}", file.display())).unwrap_err();
    assert_eq!(director.lvsadm("-Sn").unwrap(), "-A -t 192.0.2.10:80 -s wrr\n");
    fs::remove_file(file).unwrap();
}

/// An agent in a namespace, until the value goes.
fn agent(director: &Namespace) -> Running {
    let agent = Running::new(director.command(lvsadm_path()).arg("agent"));
    eventually("the agent watches", || director.json("status --json").is_ok_and(|status| status["agent"] == true));
    agent
}

/// A client's namespace behind a device `c0` of the director's, made anew.
fn client_behind(director: &Namespace, label: &str) -> Namespace {
    let client = Namespace::new(label).unwrap();
    connect((director, "c0"), (&client, "eth0"), Offloads::On).unwrap();
    director.ip(&["addr add 198.51.100.254/24 dev c0"]).unwrap();
    client.ip(&["addr add 198.51.100.1/24 dev eth0", "route add default via 198.51.100.254"]).unwrap();
    client
}

#[test]
fn an_agent_serves_devices_that_come_later() {
    let (director, real) = (Namespace::new("director").unwrap(), Namespace::new("rs1").unwrap());
    director.sysctl(&["net/ipv4/ip_forward=1"]).unwrap();
    connect((&director, "eth1"), (&real, "eth0"), Offloads::On).unwrap();
    director.ip(&["addr add 192.0.2.254/24 dev eth1", "addr add 203.0.113.10/32 dev lo"]).unwrap();
    real.ip(&["addr add 192.0.2.1/24 dev eth0", "route add default via 192.0.2.254"]).unwrap();
    let _server = Server::http(&real, 80, "rs1").unwrap();
    director.lvsadm("-A -t 203.0.113.10:80 -s rr").unwrap();
    director.lvsadm("-a -t 203.0.113.10:80 -r 192.0.2.1 -m").unwrap();
    let watching = agent(&director);
    let vip = "203.0.113.10:80".parse().unwrap();
    let served = |client: &Namespace| Client(client).get(vip, "/").is_ok_and(|answer| answer.starts_with("rs1 "));
    let client = client_behind(&director, "client1");
    eventually("a new device is served", || served(&client));
    // Its MAC address changes, as a bond's does.
    let mac = "02:00:00:00:00:77";
    director.ip(&["link set c0 down", &format!("link set c0 address {mac}"), "link set c0 up"]).unwrap();
    client.ip(&["neigh flush all"]).unwrap();
    eventually("a new MAC address is served", || served(&client));
    // Another program resets every forwarding switch; a device is made anew.
    director.sysctl(&["net/ipv4/ip_forward=0", "net/ipv4/ip_forward=1", "net/ipv4/conf/lo/forwarding=0"]).unwrap();
    let switch = || director.run("cat /proc/sys/net/ipv4/conf/lo/forwarding").is_ok_and(|value| value.trim() == "1");
    eventually("the switch is set again", switch);
    director.ip(&["link del c0"]).unwrap();
    let client = client_behind(&director, "client2");
    eventually("a device made anew is served", || served(&client));
    // A second one has nothing to do, and says so.
    let second = director.lvsadm("agent").unwrap_err().to_string();
    assert!(second.contains("another agent runs in this network namespace"), "{second}");
    // Nobody needs it for what is served.
    drop(watching);
    assert!(served(&client));
    let status = director.json("status --json").unwrap();
    assert_eq!(status["agent"], false);
}

#[test]
fn an_agent_waits_for_a_data_plane_and_ends_when_told_to() {
    let director = Namespace::new("director").unwrap();
    let mut watching = Running::new(director.command(lvsadm_path()).arg("agent"));
    director.lvsadm("-A -t 192.0.2.10:80 -s rr").unwrap();
    eventually("the agent watches", || director.json("status --json").is_ok_and(|status| status["agent"] == true));
    director.ip(&["link add v0 type veth peer name v1", "link set v0 up", "link set v1 up"]).unwrap();
    // No command looks around here: the pins alone tell.
    let pins = director.json("status --json").unwrap()["pins"].as_str().unwrap().to_owned();
    eventually("both are attached", || {
        let index = |name| director.run(&format!("cat /sys/class/net/{name}/ifindex")).unwrap().trim().to_owned();
        ["v0", "v1"].iter().all(|name| fs::exists(format!("{pins}/links/ingress-{}", index(name))).unwrap())
    });
    director.lvsadm("unload").unwrap();
    director.ip(&["link set v0 down", "link set v0 up"]).unwrap();
    kill(Pid::from_raw(watching.0.id() as i32), Signal::SIGTERM).unwrap();
    assert!(watching.0.wait().unwrap().success());
}

#[test]
fn commands_that_come_first_at_the_same_time_mount_one_file_system_for_pins() {
    let host = Namespace::new("director").unwrap();
    let point = std::env::temp_dir().join(format!("{}-bpf", host.name()));
    let list = |_| Running::new(host.command(lvsadm_path()).arg("-Ln").env("LVS_BPFFS", &point));
    let listings: Vec<_> = (0..8).map(list).collect();
    for mut listing in listings {
        listing.0.wait().unwrap();
    }
    let mounts = fs::read_to_string("/proc/self/mounts").unwrap();
    let count = mounts.lines().filter(|mount| mount.split(' ').nth(1) == point.to_str()).count();
    (0..count).for_each(|_| umount(&point).unwrap());
    fs::remove_dir(&point).unwrap();
    assert_eq!(count, 1);
}
