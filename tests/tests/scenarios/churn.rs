//! Many changes at once, of rules and of devices.

use std::fs;
use std::net::SocketAddr;
use std::os::unix::fs::symlink;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use nix::fcntl::{Flock, FlockArg};
use tests::killed::{self, End};
use tests::topology::{Cluster, Layout, Namespace, VIP, lvsadm_path};

/// The table in which one of the two servers gets the new connections, and the other keeps those that it has.
fn table(server: u32) -> String {
    let weight = |number| u32::from(number == server);
    let line = |number| format!("-a -t 10.10.10.10:80 -r 192.168.122.10{number}:80 -m -w {}\n", weight(number));
    format!("-A -t 10.10.10.10:80 -s rr\n{}{}", line(1), line(2))
}

#[test]
fn a_request_is_answered_whichever_of_five_programs_changes_the_table() {
    let cluster = Cluster::new(Layout { servers: 2, ..Layout::default() }).unwrap();
    let director = &cluster.director;
    let folder = std::env::temp_dir().join(format!("{}-tables", director.name()));
    fs::create_dir(&folder).unwrap();
    let files = [1, 2].map(|server| folder.join(server.to_string()));
    for (server, file) in (1..).zip(&files) {
        fs::write(file, table(server)).unwrap();
    }
    director.lvsadm(&format!("apply {}", files[0].display())).unwrap();
    let over = AtomicBool::new(false);
    let answered = thread::scope(|scope| {
        for program in 0..5 {
            let (over, files) = (&over, &files);
            scope.spawn(move || {
                for turn in (program..).take_while(|_| !over.load(Ordering::Relaxed)) {
                    director.lvsadm(&format!("apply {}", files[turn % 2].display())).unwrap();
                    let rules = director.lvsadm("-Sn").unwrap();
                    assert_eq!(rules.lines().count(), 3, "{rules}");
                    assert_eq!(rules.lines().filter(|rule| rule.ends_with("-w 0")).count(), 1, "{rules}");
                }
            });
        }
        // Each table has a server for new connections and keeps the others, so no request is refused or lost.
        let answered = cluster.client().load(SocketAddr::new(VIP, 80), 2, Duration::from_secs(3));
        over.store(true, Ordering::Relaxed);
        answered.unwrap()
    });
    fs::remove_dir_all(&folder).unwrap();
    assert!(answered > 0);
}

/// The loop of scripts that edit all rules: both ends of the pipe need the data plane.
#[test]
fn rules_are_saved_edited_and_restored_through_a_pipe() {
    let director = Namespace::new("director").unwrap();
    let folder = std::env::temp_dir().join(format!("{}-ipvsadm", director.name()));
    fs::create_dir(&folder).unwrap();
    symlink(lvsadm_path().canonicalize().unwrap(), folder.join("ipvsadm")).unwrap();
    for port in 1..=20 {
        director.lvsadm(&format!("-A -t 192.0.2.10:{port} -s rr")).unwrap();
        director.lvsadm(&format!("-a -t 192.0.2.10:{port} -r 198.51.100.1:80 -m -w 0")).unwrap();
    }
    let ipvsadm = folder.join("ipvsadm").display().to_string();
    for weight in 1..=30 {
        let edit = format!("s/^-A/-E/; s/^-a/-e/; s/-w {}$/-w {weight}/", weight - 1);
        let pipe = format!("{ipvsadm} -Sn | sed '{edit}' | {ipvsadm} -R");
        let ended = director.command("timeout").args(["60", "sh", "-c", &pipe]).status().unwrap();
        assert!(ended.success(), "run {weight}: {ended}");
    }
    fs::remove_dir_all(&folder).unwrap();
    let rules = director.lvsadm("-Sn").unwrap();
    assert_eq!(rules.lines().filter(|rule| rule.ends_with("-w 30")).count(), 20, "{rules}");
}

/// Before how many of its system calls a command has the lock, so that no other command can change anything.
fn calls_under_the_lock(director: &Namespace, arguments: &[&str]) -> usize {
    let pins = PathBuf::from(director.json("status --json").unwrap()["pins"].as_str().unwrap());
    let lock = pins.with_file_name("locks").join(pins.file_name().unwrap());
    let mut count = 0;
    let look = || {
        let lock = Flock::lock(fs::File::open(&lock).unwrap(), FlockArg::LockExclusiveNonblock);
        count += usize::from(lock.is_err());
    };
    let end = killed::look(director.name(), &lvsadm_path(), arguments, look).unwrap();
    assert!(matches!(end, End::Ended(0, _)), "{end:?}");
    count
}

#[test]
fn a_listing_holds_up_changes_for_as_long_however_large_the_table_is() {
    let director = Namespace::new("director").unwrap();
    let rules = |services: u32| -> String {
        let service = |n| format!("198.18.{}.{}:80", n >> 8, n & 255);
        let rules = |n| format!("-A -t {0} -s wlc\n-a -t {0} -r 10.0.0.1:80 -m\n", service(n));
        (0..services).map(rules).collect()
    };
    let file = std::env::temp_dir().join(format!("{}-rules", director.name()));
    let listings: [&[&str]; 4] = [&["-Ln"], &["-Sn"], &["-Ln", "--json", "--stats"], &["metrics"]];
    let mut calls = Vec::new();
    director.lvsadm("attach --conns 1000").unwrap();
    for services in [1, 4000] {
        fs::write(&file, rules(services)).unwrap();
        director.lvsadm(&format!("apply {}", file.display())).unwrap();
        calls.push(listings.map(|listing| calls_under_the_lock(&director, listing)));
    }
    fs::remove_file(&file).unwrap();
    // The table is mapped piece by piece as it is read: none of that under the lock.
    for ((small, large), listing) in calls[0].iter().zip(calls[1]).zip(listings) {
        assert!(large <= small + 2, "{listing:?}: {small} system calls under the lock, {large} in a large table");
    }
}

/// How many files an agent has open.
fn open_files(agent: u32) -> usize {
    fs::read_dir(format!("/proc/{agent}/fd")).unwrap().count()
}

#[test]
fn devices_that_come_and_go_beside_an_agent_leave_nothing() {
    let director = Namespace::new("director").unwrap();
    director.lvsadm("-A -t 192.0.2.10:80 -s rr").unwrap();
    let pins = director.json("status --json").unwrap()["pins"].as_str().unwrap().to_owned();
    let pinned = || fs::read_dir(&pins).unwrap().count() + fs::read_dir(format!("{pins}/links")).unwrap().count();
    let agent = director.adopt(director.command(lvsadm_path()).arg("agent")).unwrap();
    let watched = || director.json("status --json").unwrap()["agent"] == true;
    tests::eventually("an agent watches", watched);
    let turn = |number: u32| {
        let (name, peer) = (format!("q{number}"), format!("r{number}"));
        director.ip(&[format!("link add {name} type veth peer name {peer}"), format!("link set {name} up")]).unwrap();
        director.ip(&[format!("link set {peer} up"), format!("link del {name}")]).unwrap();
    };
    turn(0);
    tests::eventually("the first device leaves the pins of `lo`", || {
        director.lvsadm("-Ln").unwrap();
        fs::read_dir(format!("{pins}/links")).unwrap().count() == 1
    });
    let before = (pinned(), open_files(agent));
    (1..=100).for_each(turn);
    tests::eventually("a hundred devices leave what was there before", || {
        director.lvsadm("-Ln").unwrap();
        (pinned(), open_files(agent)) == before
    });
}

#[test]
fn a_network_namespace_without_a_data_plane_leaves_no_lock() {
    let [gone, director] = ["gone", "director"].map(|label| Namespace::new(label).unwrap());
    gone.lvsadm("-A -t 192.0.2.10:80 -s rr").unwrap();
    let pins = PathBuf::from(gone.json("status --json").unwrap()["pins"].as_str().unwrap());
    let lock = pins.with_file_name("locks").join(pins.file_name().unwrap());
    assert!(lock.exists());
    gone.lvsadm("unload").unwrap();
    drop(gone);
    director.lvsadm("-A -t 192.0.2.10:80 -s rr").unwrap();
    assert!(!lock.exists());
}
