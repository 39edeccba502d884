//! Debian's own ipvsadm and keepalived on the data plane, by `lvs-compat`.

use std::fs::{self, File};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tests::topology::{Cluster, Layout, Namespace, lvs_compat_path};
use tests::{eventually, is_without_ipvs};

/// Debian's, whatever else is in `PATH`.
const IPVSADM: &str = "/sbin/ipvsadm";

/// `program` with the library before it, in a namespace.
fn preloaded(namespace: &Namespace, program: &str) -> Command {
    let mut command = namespace.command("env");
    // ipvsadm prints the name of a persistence engine that it has never asked for: what it allocates shall be zeros.
    command.args([format!("LD_PRELOAD={}", lvs_compat_path().display()), "MALLOC_PERTURB_=255".into()]).arg(program);
    command
}

fn ipvsadm(namespace: &Namespace, arguments: &str) -> Output {
    preloaded(namespace, IPVSADM).args(arguments.split_whitespace()).output().unwrap()
}

/// Whether both programs list the same, in every way that both have.
fn list_alike(director: &Namespace) {
    for listing in ["-Ln", "-Ln --nosort", "-Ln --stats --exact", "-Ln --thresholds", "-Ln --persistent-conn", "-Sn"] {
        let ours = || director.lvsadm(listing).unwrap();
        // Packets may still come and be counted: what counts is a time in which none did.
        let (still, debians) = (0..10)
            .map(|_| (ours(), ipvsadm(director, listing), ours()))
            .find_map(|(before, debians, after)| (before == after).then_some((after, debians)))
            .expect("a still moment");
        assert!(debians.status.success(), "{listing}: {debians:?}");
        assert_eq!(String::from_utf8_lossy(&debians.stdout), still, "{listing}");
    }
}

#[test]
fn debians_ipvsadm_edits_and_lists_the_same_table() {
    if !is_without_ipvs() {
        return;
    }
    let director = Namespace::new("director").unwrap();
    // The first use loads the data plane, as lvsadm's does.
    list_alike(&director);
    for command in [
        "-A -t 10.0.0.1:80 -s wrr -p 360 -M 255.255.255.0",
        "-A -u 10.0.0.1:53 -s sh -b sh-fallback,sh-port -o",
        "-A -f 7 -s mh -p 60",
        "-A --sctp-service 10.0.0.1:5060 -s lc",
        "-a -t 10.0.0.1:80 -r 10.1.0.1:8080 -m -w 3 -x 100 -y 50",
        "-a -t 10.0.0.1:80 -r 10.1.0.2 -g -w 0",
        "-a -t 10.0.0.1:80 -r 10.1.0.3 -i",
        "-a -f 7 -r 10.1.0.4 -g",
    ] {
        assert!(ipvsadm(&director, command).status.success(), "{command}");
    }
    list_alike(&director);
    for command in [
        "-E -t 10.0.0.1:80 -s rr",
        "-e -t 10.0.0.1:80 -r 10.1.0.1:8080 -m -w 5",
        "-d -t 10.0.0.1:80 -r 10.1.0.2:80",
        "-D -u 10.0.0.1:53",
        "-Z",
        "--set 100 0 30",
    ] {
        assert!(ipvsadm(&director, command).status.success(), "{command}");
    }
    list_alike(&director);
    let timeouts = ipvsadm(&director, "-L --timeout");
    assert_eq!(String::from_utf8_lossy(&timeouts.stdout), director.lvsadm("-L --timeout").unwrap());
    assert!(ipvsadm(&director, "-L --daemon").stdout.is_empty());
    director.ip(&["link add eth0 type veth peer name peer0", "link set eth0 up"]).unwrap();
    assert!(ipvsadm(&director, "--start-daemon backup --syncid 7").status.success());
    for program in [ipvsadm(&director, "-L --daemon").stdout, director.lvsadm("-L --daemon").unwrap().into_bytes()] {
        assert!(program.starts_with(b"backup sync daemon (mcast=eth0, syncid=7"));
    }
    assert!(ipvsadm(&director, "--stop-daemon backup").status.success());
    assert!(director.lvsadm("-L --daemon").unwrap().is_empty());

    let before = director.lvsadm("-Ln").unwrap();
    for (command, sentence) in [
        ("-A -t 10.0.0.1:80", "Service already exists"),
        ("-A -t 10.0.0.1:81 -s nonsense", "Scheduler or persistence engine not found"),
        ("-E -t 10.0.0.1:81", "No such service"),
        ("-a -t 10.0.0.1:80 -r 10.1.0.1:8080 -m", "Destination already exists"),
        ("-a -t 10.0.0.1:81 -r 10.1.0.1:8080 -m", "Service not defined"),
        ("-e -t 10.0.0.1:80 -r 10.1.0.9:80 -m", "No such destination"),
        ("-a -t 10.0.0.1:80 -r 10.1.0.9:80 -m -y 1", "Numerical result out of range"),
        (
            "-a -t 10.0.0.1:80 -r 224.0.0.1:80 -m",
            "Invalid operation.  Possibly wrong module version, address not unicast, ...",
        ),
        // ipvsadm's own: the ABI is IPv4's.
        ("-A -t [2001:db8::1]:80", "Operation not supported with specified address family"),
        ("--start-daemon master --mcast-interface nosuch0", "No such device"),
        ("--stop-daemon master", "No daemon is running"),
    ] {
        let refused = ipvsadm(&director, command);
        assert_eq!(String::from_utf8_lossy(&refused.stderr).trim_end(), sentence, "{command}");
        assert!(!refused.status.success(), "{command}");
    }
    assert_eq!(director.lvsadm("-Ln").unwrap(), before);
    assert!(ipvsadm(&director, "-C").status.success());
    list_alike(&director);
}

#[test]
fn without_the_right_it_is_not_permitted() {
    if !is_without_ipvs() {
        return;
    }
    let director = Namespace::new("director").unwrap();
    let output = preloaded(&director, "setpriv")
        .args(["--bounding-set=-net_admin", "--inh-caps=-net_admin", "--reuid", "0", IPVSADM, "-Ln"])
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    // Behind what modprobe says, where there is one.
    let sentence = "Can't initialize ipvs: Permission denied (you must be root)";
    assert!(said.lines().any(|line| line == sentence), "{said}");
    // Nothing was loaded.
    assert!(director.lvsadm("status").is_err());
}

#[test]
fn a_program_of_real_time_priority_is_not_killed_for_the_data_plane_that_it_loads() {
    if !is_without_ipvs() {
        return;
    }
    let director = Namespace::new("director").unwrap();
    let mut command = director.command("prlimit");
    // As keepalived does to its process for VRRP, here for 50 ms: loading takes several times as much.
    command.args(["--rttime=50000:50000", "chrt", "--rr", "50", "env"]);
    command.arg(format!("LD_PRELOAD={}", lvs_compat_path().display())).args([IPVSADM, "-A", "-t", "10.0.0.1:80"]);
    let output = command.output().unwrap();
    assert!(output.status.success(), "{output:?}");
    assert!(director.lvsadm("-Ln").unwrap().contains("10.0.0.1:80"));
}

#[test]
fn why_there_is_no_data_plane_is_told() {
    if !is_without_ipvs() {
        return;
    }
    let director = Namespace::new("director").unwrap();
    let output = preloaded(&director, IPVSADM).arg("-Ln").env("LVS_MODE", "fast").output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains("lvs-compat: LVS_MODE is auto, native, generic or tc, not `fast'\n"), "{said}");
    assert!(said.contains("Can't initialize ipvs: Protocol not available\n"), "{said}");
    assert_eq!(output.status.code(), Some(2));
}

/// The address that VRRP puts on the director.
const VRRP_VIP: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 10, 10, 20));

const KEEPALIVED: &str = "
global_defs {
    router_id director
    vrrp_version 3
    vrrp_garp_master_delay 0
}
vrrp_instance balanced {
    interface eth0
    virtual_router_id 51
    priority 200
    advert_int 0.1
    virtual_ipaddress {
        10.10.10.20/24 dev eth0
    }
}
virtual_server 10.10.10.20 80 {
    delay_loop 1
    lvs_sched rr
    lvs_method NAT
    protocol TCP
    real_server 192.168.122.101 80 {
        weight 1
        HTTP_GET {
            url {
                path /
                status_code 200
            }
            connect_timeout 5
            retry 0
        }
    }
    real_server 192.168.122.102 80 {
        weight 2
        TCP_CHECK {
            connect_timeout 5
            retry 0
        }
    }
}
";

/// Where a test of this file keeps something: below the build's folder.
fn keep(name: &str) -> PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR")).join(name)
}

/// The rows of real servers, each its address and weight.
fn real_servers(listing: &str) -> Vec<(String, String)> {
    let rows = listing.lines().skip(3).filter_map(|line| line.trim_start().strip_prefix("-> "));
    rows.map(|row| {
        let mut columns = row.split_whitespace();
        (columns.next().unwrap().to_owned(), columns.nth(1).unwrap().to_owned())
    })
    .collect()
}

#[test]
fn keepalived_directs_and_fails_over() {
    if !is_without_ipvs() {
        return;
    }
    let mut cluster = Cluster::new(Layout { servers: 2, ..Layout::default() }).unwrap();
    cluster.director.sysctl(&["net/ipv4/ip_forward=1"]).unwrap();
    let (config, log) = (keep("keepalived.conf"), keep("keepalived.log"));
    fs::write(&config, KEEPALIVED).unwrap();
    let pids = ["parent", "vrrp", "checkers"].map(|process| keep(&format!("keepalived-{process}.pid")));
    let output = File::create(&log).unwrap();
    let child = cluster
        .director
        .adopt(
            preloaded(&cluster.director, "/usr/sbin/keepalived")
                .args(["--dont-fork", "--log-console", "--log-detail", "--use-file"])
                .arg(&config)
                .args(["--pid", pids[0].to_str().unwrap(), "--vrrp_pid", pids[1].to_str().unwrap()])
                .args(["--checkers_pid", pids[2].to_str().unwrap()])
                .stdout(output.try_clone().unwrap())
                .stderr(output),
        )
        .unwrap();

    let service = SocketAddr::new(VRRP_VIP, 80);
    let (one, other) = (("192.168.122.101:80", "1"), ("192.168.122.102:80", "2"));
    let listed = |cluster: &Cluster| real_servers(&cluster.director.lvsadm("-Ln").unwrap());
    let becomes = |cluster: &Cluster, what: &str, expected: &[(&str, &str)]| {
        let expected: Vec<_> = expected.iter().map(|&(a, w)| (a.to_owned(), w.to_owned())).collect();
        eventually(&format!("{what}; see {}", log.display()), || listed(cluster) == expected);
    };
    let answer =
        |cluster: &Cluster| -> Vec<String> { cluster.client().spread(service, 6).unwrap().into_keys().collect() };
    becomes(&cluster, "both real servers", &[one, other]);
    // VRRP brings the address in its own time.
    eventually("a first answer", || cluster.client().get(service, "/").is_ok());
    assert_eq!(answer(&cluster), ["rs1", "rs2"]);
    list_alike(&cluster.director);

    cluster.stop(1);
    becomes(&cluster, "the dead one is gone", &[other]);
    assert_eq!(answer(&cluster), ["rs2"]);
    cluster.start(1).unwrap();
    becomes(&cluster, "it is back", &[one, other]);
    assert_eq!(answer(&cluster), ["rs1", "rs2"]);

    // Meanwhile others may edit: nobody holds the table.
    assert!(ipvsadm(&cluster.director, "-e -t 10.10.10.20:80 -r 192.168.122.102:80 -m -w 0").status.success());
    assert_eq!(answer(&cluster), ["rs1"]);

    kill(Pid::from_raw(child as i32), Signal::SIGTERM).unwrap();
    becomes(&cluster, "keepalived takes its rules with it", &[]);
    // The service goes after its servers.
    eventually("nothing is left", || !cluster.director.lvsadm("-Ln").unwrap().contains("10.10.10.20"));
}
