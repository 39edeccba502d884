//! What a host does beside the director: readers that stop reading, devices that come and go or cannot do what is asked.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};

use tests::topology::{Namespace, lvsadm_path};

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
