//! The packages as `cargo xtask deb` leaves them, unpacked and laid over this machine's files for single commands.
//! Installing and booting them for real is `cargo xtask deb --check`.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use tests::topology::{Namespace, lvsadm_path};

/// Lays the folder's `usr` and `etc`, and first what a test has for `etc`, over the machine's, and runs a command. Only in
/// the mount namespace that the command is in.
const LAID_OVER: &str = r#"
mount -t overlay -o "lowerdir=$0/usr:/usr" overlay /usr &&
mount -t overlay -o "lowerdir=$1:$0/etc:/etc" overlay /etc &&
shift && exec "$@"
"#;

/// Packages that are unpacked.
struct Unpacked {
    root: PathBuf,
    /// What a test has for `/etc` beyond the packages.
    etc: PathBuf,
}

impl Unpacked {
    /// Unpacks them for one test.
    fn new(test: &str) -> Self {
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(test);
        let (root, etc) = (folder.join("root"), folder.join("etc"));
        let _ = fs::remove_dir_all(&folder);
        fs::create_dir_all(&root).unwrap();
        fs::create_dir_all(etc.join("sysconfig")).unwrap();
        // Beside the program under test: target/release and target/debian.
        let packages = lvsadm_path().ancestors().nth(2).unwrap().join("debian");
        let found = fs::read_dir(&packages).into_iter().flatten().flatten().map(|entry| entry.path());
        let found: Vec<_> = found.filter(|path| path.extension().is_some_and(|extension| extension == "deb")).collect();
        assert_eq!(found.len(), 2, "no packages in {}: run `cargo xtask deb`", packages.display());
        for package in found {
            let status = Command::new("dpkg-deb").arg("--extract").args([&package, &root]).status().unwrap();
            assert!(status.success(), "{}", package.display());
        }
        Unpacked { root, etc }
    }

    /// Runs a command line (split at spaces) as if they were installed.
    fn run(&self, namespace: &Namespace, line: &str) -> Output {
        let mut command = namespace.command("unshare");
        // As the unit has it; beside the packages, so that tests do not share it.
        command.env("RUNTIME_DIRECTORY", self.root.with_file_name("run"));
        command.args(["--mount", "sh", "-c", LAID_OVER]).args([&self.root, &self.etc]);
        command.args(line.split(' ')).output().unwrap()
    }

    fn succeeds(&self, namespace: &Namespace, line: &str) -> String {
        let output = self.run(namespace, line);
        assert!(output.status.success(), "{line}: {output:?}");
        String::from_utf8(output.stdout).unwrap()
    }

    fn etc(&self, path: &str, text: &str) {
        fs::write(self.etc.join(path), text).unwrap();
    }
}

/// A namespace whose data plane goes with it.
fn host() -> Namespace {
    let host = Namespace::new("host").unwrap();
    // Nothing is loaded by this, but it is remembered that it might be.
    assert!(host.lvsadm("status").is_err());
    host
}

#[test]
fn systemd_finds_no_fault_in_the_units() {
    let (packages, host) = (Unpacked::new("units"), host());
    for unit in [
        "lvsadm.service",
        "ipvsadm.service",
        "lvsadm-agent.service",
        "lvsadm-real-server.service",
        "run-lvs-bpf.mount",
        "keepalived.service",
    ] {
        let output = packages.run(&host, &format!("systemd-analyze verify --man=no {unit}"));
        // It looks at the units around as well, whose faults are their own.
        let said = String::from_utf8_lossy(&output.stderr);
        let ours: Vec<&str> = said.lines().filter(|line| line.contains("lvs")).collect();
        assert!(output.status.success() && ours.is_empty(), "{unit}: {said}");
    }
}

/// `lvsadm.service`'s load, in the order in which it looks for rules.
#[test]
fn rules_are_restored_from_where_each_distribution_has_them() {
    const LOAD: &str = "/usr/libexec/lvsadm/rules load";
    let (packages, host) = (Unpacked::new("rules"), host());
    let restored = || {
        packages.succeeds(&host, LOAD);
        let listing = host.lvsadm("-Sn").unwrap();
        listing.split_whitespace().nth(2).unwrap_or("nothing").to_owned()
    };
    assert!(packages.succeeds(&host, LOAD).contains("no rules to restore"));
    assert!(host.lvsadm("status").is_err(), "without rules nothing is loaded");
    let rules = |port: u16| format!("# a comment\n-A -t 192.0.2.1:{port} -s rr\n");
    packages.etc("sysconfig/ipvsadm", &rules(1));
    assert_eq!(restored(), "192.0.2.1:1");
    packages.etc("ipvsadm.rules", &rules(2));
    fs::create_dir(packages.etc.join("default")).unwrap();
    packages.etc("default/ipvsadm", "AUTO=\"false\"\nDAEMON=\"none\"\n");
    assert_eq!(restored(), "192.0.2.1:1", "Debian's settings say no");
    packages.etc("default/ipvsadm", "AUTO=\"true\"\nDAEMON=\"master\"\nIFACE=\"eth0\"\n");
    host.ip(&["link add eth0 type veth peer name peer0", "link set eth0 up"]).unwrap();
    for _ in 0..2 {
        assert_eq!(restored(), "192.0.2.1:2");
        assert!(host.lvsadm("-L --daemon").unwrap().starts_with("master sync daemon (mcast=eth0, syncid=0,"));
    }
    packages.etc("default/ipvsadm", "AUTO=\"true\"\nDAEMON=\"both\"\nIFACE=\"eth0\"\nSYNCID=\"9\"\n");
    assert_eq!(restored(), "192.0.2.1:2");
    let daemons = host.lvsadm("-L --daemon").unwrap();
    // The master runs on as it was started.
    assert!(daemons.contains("master sync daemon (mcast=eth0, syncid=0,"), "{daemons}");
    assert!(daemons.contains("backup sync daemon (mcast=eth0, syncid=9,"), "{daemons}");
    packages.succeeds(&host, "/usr/libexec/lvsadm/rules clear");
    assert_eq!(host.lvsadm("-L --daemon").unwrap(), "");
    packages.etc("default/ipvsadm", "AUTO=\"true\"\nDAEMON=\"none\"\n");
    packages.etc("lvsadm.rules", &rules(3));
    assert_eq!(restored(), "192.0.2.1:3");
    let elsewhere = packages.root.join("elsewhere.rules");
    fs::write(&elsewhere, rules(4)).unwrap();
    packages.etc("default/lvsadm", &format!("LVS_RULES={}\n", elsewhere.display()));
    assert_eq!(restored(), "192.0.2.1:4");

    // What cannot be applied is told, and changes nothing.
    fs::write(&elsewhere, rules(5) + "-A -t nonsense\n").unwrap();
    let output = packages.run(&host, LOAD);
    assert!(!output.status.success());
    assert!(String::from_utf8_lossy(&output.stderr).contains("elsewhere.rules:3"), "{output:?}");
    assert!(host.lvsadm("-Sn").unwrap().contains("192.0.2.1:4"));
}

#[test]
fn a_restart_keeps_the_services_of_others() {
    let (packages, host) = (Unpacked::new("others"), host());
    packages.etc("lvsadm.rules", "-A -t 192.0.2.1:1 -s rr\n-A -t 192.0.2.1:2 -s rr\n");
    packages.succeeds(&host, "/usr/libexec/lvsadm/rules load");
    host.lvsadm("-A -t 192.0.2.9:80 -s wlc").unwrap();
    host.lvsadm("-a -t 192.0.2.9:80 -r 192.0.2.2:80 -m").unwrap();
    let theirs = "-A -t 192.0.2.9:80 -s wlc\n-a -t 192.0.2.9:80 -r 192.0.2.2:80 -m -w 1\n";
    // As a reload, with another file.
    packages.etc("lvsadm.rules", "-A -t 192.0.2.1:2 -s rr\n-A -t 192.0.2.1:3 -s rr\n");
    packages.succeeds(&host, "/usr/libexec/lvsadm/rules load");
    assert_eq!(host.lvsadm("-Sn").unwrap(), format!("-A -t 192.0.2.1:2 -s rr\n-A -t 192.0.2.1:3 -s rr\n{theirs}"));
    packages.succeeds(&host, "/usr/libexec/lvsadm/rules clear");
    assert_eq!(host.lvsadm("-Sn").unwrap(), theirs);
    packages.succeeds(&host, "/usr/libexec/lvsadm/rules clear");
    packages.succeeds(&host, "/usr/libexec/lvsadm/rules load");
    assert!(host.lvsadm("-Sn").unwrap().ends_with(theirs));
}

#[test]
fn settings_of_sysctl_d_are_taken_in_systemds_order() {
    let (packages, host) = (Unpacked::new("sysctl.d"), host());
    packages.etc("lvsadm.rules", "-A -t 192.0.2.1:1 -s rr\nsysctl nat_icmp_send=1\n");
    fs::create_dir(packages.etc.join("sysctl.d")).unwrap();
    packages.etc(
        "sysctl.d/90-lvs.conf",
        "# ours\nnet.ipv4.vs.conn_reuse_mode = 0\n-net/ipv4/vs/sloppy_tcp=1\nnet.ipv4.vs.nat_icmp_send=0\n",
    );
    packages.etc(
        "sysctl.d/10-lvs.conf",
        "net.ipv4.vs.conn_reuse_mode = 1\nnet.ipv4.vs.expire_nodest_conn=1\nnet.ipv4.vs.sync_threshold = 5 70 \n",
    );
    let output = packages.run(&host, "/usr/libexec/lvsadm/rules load");
    assert!(output.status.success() && output.stderr.is_empty(), "{output:?}");
    let names = "conn_reuse_mode sloppy_tcp expire_nodest_conn nat_icmp_send sync_threshold sync_period";
    let set = host.lvsadm(&format!("sysctl {names}")).unwrap();
    let values: Vec<&str> = set.lines().filter_map(|line| line.rsplit(' ').next()).collect();
    assert_eq!(values, ["0", "1", "1", "1", "5", "70"], "{set}");
    // One that is refused is told, and the others count.
    packages.etc("sysctl.d/95-lvs.conf", "net.ipv4.vs.sloppy_tcp=7\nnet.ipv4.vs.conn_reuse_mode=1\n");
    let output = packages.run(&host, "/usr/libexec/lvsadm/rules load");
    assert!(output.status.success() && String::from_utf8_lossy(&output.stderr).contains("sloppy_tcp"), "{output:?}");
    assert!(host.lvsadm("sysctl conn_reuse_mode").unwrap().ends_with(" 1\n"));
}

#[test]
fn stopping_saves_what_it_is_asked_to_and_clears() {
    let (packages, host) = (Unpacked::new("clear"), host());
    let saved = packages.root.join("saved.rules");
    fs::create_dir(packages.etc.join("default")).unwrap();
    packages.etc("default/lvsadm", &format!("LVS_RULES={}\nLVS_SAVE_ON_STOP=yes\n", saved.display()));
    packages.succeeds(&host, "/usr/libexec/lvsadm/rules clear");
    assert!(host.lvsadm("status").is_err(), "nothing is loaded to be cleared");
    host.lvsadm("-A -t 192.0.2.1:80 -s rr").unwrap();
    host.lvsadm("-a -t 192.0.2.1:80 -r 192.0.2.2:80 -m -x 10").unwrap();
    packages.succeeds(&host, "/usr/libexec/lvsadm/rules clear");
    assert_eq!(host.lvsadm("-Sn").unwrap(), "");
    packages.succeeds(&host, "/usr/libexec/lvsadm/rules load");
    assert!(host.lvsadm("-Ln --thresholds").unwrap().contains("192.0.2.2:80                 10 "));
    packages.etc("default/lvsadm", &format!("LVS_RULES={}\n", saved.display()));
    let before = fs::read_to_string(&saved).unwrap();
    host.lvsadm("-D -t 192.0.2.1:80").unwrap();
    packages.succeeds(&host, "/usr/libexec/lvsadm/rules clear");
    assert_eq!(fs::read_to_string(&saved).unwrap(), before, "not asked to save");
}

#[test]
fn ipvsadms_names_are_lvsadms() {
    let (packages, host) = (Unpacked::new("names"), host());
    let name = |name: &str| packages.root.join("sbin").join(name).display().to_string();
    let help = packages.succeeds(&host, &format!("{} -h", name("ipvsadm")));
    assert!(help.starts_with("ipvsadm v1.31 2019/12/24 (compiled with popt and IPVS v1.2.1)\n"), "{help}");
    packages.succeeds(&host, &format!("{} -A -t 192.0.2.1:80 -s rr", name("ipvsadm")));
    assert_eq!(packages.succeeds(&host, &format!("{} -n", name("ipvsadm-save"))), "-A -t 192.0.2.1:80 -s rr\n");
    packages.succeeds(&host, &name("ipvsadm-restore"));
    assert_eq!(host.lvsadm("-Sn").unwrap(), "");
}

#[test]
fn bash_completes() {
    let packages = Unpacked::new("completions");
    let script = packages.root.join("usr/share/bash-completion/completions/lvsadm");
    let completions = |words: &str| {
        let ask = format!(
            "source {}; COMP_WORDS=({words}); COMP_CWORD=$((${{#COMP_WORDS[@]}} - 1)); \
             _lvsadm lvsadm \"${{COMP_WORDS[COMP_CWORD]}}\" \"${{COMP_WORDS[COMP_CWORD-1]}}\"; echo ${{COMPREPLY[@]}}",
            script.display()
        );
        let output = Command::new("bash").args(["--norc", "-c", &ask]).output().unwrap();
        String::from_utf8(output.stdout).unwrap().trim_end().to_owned()
    };
    assert_eq!(completions("lvsadm --tcp"), "--tcp-service");
    assert_eq!(completions("lvsadm -A --scheduler ml"), "");
    assert_eq!(completions("lvsadm -A --scheduler mh"), "mh");
    assert_eq!(completions("lvsadm real"), "real-server");
    assert_eq!(completions("lvsadm real-server --tun-t"), "--tun-type");
}
