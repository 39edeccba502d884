//! Debian's fail2ban, unmodified, bans and unbans by the package's action.

use std::fs::{self, File};
use std::io::Write;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use serde_json::Value;
use tests::eventually;
use tests::topology::{CLIENT, CLIENT6, Cluster, Layout, Origin, Session, VIP, VIP6, lvsadm_path};

const SERVER: &str = "/usr/bin/fail2ban-server";
const CONTROL: &str = "/usr/bin/fail2ban-client";
const ACTION: &str = "../packaging/lvsadm/fail2ban.conf";

/// A folder of fail2ban's configuration: a jail for all services, and one for the web service over IPv4.
fn configure(folder: &Path) -> PathBuf {
    let _ = fs::remove_dir_all(folder);
    ["action.d", "filter.d"].iter().for_each(|name| fs::create_dir_all(folder.join(name)).unwrap());
    let log = folder.join("log");
    File::create(&log).unwrap();
    fs::copy(Path::new(env!("CARGO_MANIFEST_DIR")).join(ACTION), folder.join("action.d/lvsadm.conf")).unwrap();
    for word in ["everywhere", "web"] {
        let filter = format!("[Definition]\nfailregex = ^{word} refused <HOST>$\n");
        fs::write(folder.join(format!("filter.d/{word}.conf")), filter).unwrap();
    }
    let path = |name: &str| folder.join(name).display().to_string();
    let main = format!(
        "[Definition]\nloglevel = INFO\nlogtarget = {}\nsyslogsocket = auto\nsocket = {}\npidfile = {}\ndbfile = None\n\
         dbpurgeage = 1d\nallowipv6 = auto\n",
        path("said"),
        path("socket"),
        path("pid"),
    );
    fs::write(folder.join("fail2ban.conf"), main).unwrap();
    let lvsadm = lvsadm_path().display().to_string();
    let jails = format!(
        "[DEFAULT]\nenabled = true\nbackend = polling\nlogpath = {}\nmaxretry = 1\nfindtime = 600\nbantime = 3600\n\
         usedns = no\ndatepattern = {{NONE}}\n\
         [everywhere]\nfilter = everywhere\naction = lvsadm[lvsadm='{lvsadm}']\n\
         [web]\nfilter = web\naction = lvsadm[lvsadm='{lvsadm}', service='-t 10.10.10.10:80']\n",
        log.display()
    );
    fs::write(folder.join("jail.conf"), jails).unwrap();
    log
}

#[test]
fn fail2ban_bans_and_unbans_by_log_lines() {
    let cluster = Cluster::new(Layout { servers: 1, ..Layout::default() }).unwrap();
    let (director, client) = (&cluster.director, &cluster.client);
    director.sysctl(&["net/ipv4/ip_forward=1", "net/ipv6/conf/all/forwarding=1"]).unwrap();
    let (server4, server6) = cluster.server_addresses(1);
    for (vip, server) in [(VIP, server4), (VIP6, server6)] {
        let service = SocketAddr::new(vip, 80);
        director.lvsadm(&format!("-A -t {service} -s rr")).unwrap();
        director.lvsadm(&format!("-a -t {service} -r {} -m", SocketAddr::new(server, 80))).unwrap();
    }
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("fail2ban");
    let log = configure(&folder);
    let set = |program: &str, arguments: &[&str]| {
        let mut command = director.command(program);
        command.arg("-c").arg(&folder).args(arguments);
        command
    };
    director.adopt(&mut set(SERVER, &["-f", "start"])).unwrap();
    let said = || fs::read_to_string(folder.join("said")).unwrap_or_default();
    eventually("both jails are there", || said().matches("' started").count() == 2);
    let blocked = || -> Vec<(bool, String)> {
        let lists: Value = serde_json::from_str(&director.lvsadm("block --json").unwrap()).unwrap();
        let clients = |list: &Value| {
            let for_all = list["service"].is_null();
            let clients = list["clients"].as_array().unwrap().clone();
            clients.into_iter().map(move |client| (for_all, client["address"].as_str().unwrap().to_owned()))
        };
        lists.as_array().unwrap().iter().flat_map(clients).collect()
    };
    let becomes = |expected: &[(bool, &str)]| {
        let expected: Vec<_> = expected.iter().map(|(for_all, address)| (*for_all, (*address).to_owned())).collect();
        eventually(&format!("{expected:?}; see {}", folder.join("said").display()), || blocked() == expected);
    };
    let refuse = |line: &str| writeln!(File::options().append(true).open(&log).unwrap(), "{line}").unwrap();
    let mut kept = Session::open(client, SocketAddr::new(VIP, 80), Origin::default()).unwrap();
    let mut kept6 = Session::open(client, SocketAddr::new(VIP6, 80), Origin::default()).unwrap();
    assert!(kept.ask().is_ok() && kept6.ask().is_ok());

    refuse(&format!("web refused {CLIENT}"));
    becomes(&[(false, "10.10.10.1")]);
    assert!(kept.is_ignored().unwrap() && kept6.ask().is_ok(), "one service alone");
    refuse(&format!("everywhere refused {CLIENT6}"));
    becomes(&[(true, "2001:db8:a::1"), (false, "10.10.10.1")]);
    assert!(kept6.is_ignored().unwrap());

    let unbanned = set(CONTROL, &["set", "web", "unbanip", &CLIENT.to_string()]).output().unwrap();
    assert!(unbanned.status.success(), "{unbanned:?}");
    becomes(&[(true, "2001:db8:a::1")]);
    assert!(Session::open(client, SocketAddr::new(VIP, 80), Origin::default()).unwrap().ask().is_ok());
    // It takes back what it did, and nothing else.
    director.lvsadm("block 203.0.113.9").unwrap();
    let stopped = set(CONTROL, &["stop"]).output().unwrap();
    assert!(stopped.status.success(), "{stopped:?}");
    becomes(&[(true, "203.0.113.9")]);
    assert!(!said().contains("ERROR"), "{}", said());
}
