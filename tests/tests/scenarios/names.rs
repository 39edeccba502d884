//! Names in listings: the system's, and what becomes of a listing when nobody answers.

use std::fs;
use std::path::PathBuf;
use std::process::Stdio;
use std::time::{Duration, Instant};

use tests::topology::{Namespace, lvsadm_path};

/// Files that `ip netns exec` puts in the place of those in /etc.
struct Etc(PathBuf);

impl Etc {
    fn new(namespace: &Namespace, hosts: &str, resolver: &str) -> Self {
        let folder = PathBuf::from("/etc/netns").join(namespace.name());
        fs::create_dir_all(&folder).unwrap();
        fs::write(folder.join("hosts"), hosts).unwrap();
        fs::write(folder.join("resolv.conf"), resolver).unwrap();
        fs::write(folder.join("nsswitch.conf"), "hosts: files dns\nservices: files\n").unwrap();
        Etc(folder)
    }
}

impl Drop for Etc {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
        // Only if nobody else's are there.
        let _ = fs::remove_dir("/etc/netns");
    }
}

const HOSTS: &str =
    "127.0.0.1 localhost\n192.0.2.10 vip.example vip\n10.0.0.1 rs1.example\n2001:db8::10 vip6.example\n";

#[test]
fn without_n_hosts_and_ports_have_names() {
    let director = Namespace::new("director").unwrap();
    let _etc = Etc::new(&director, HOSTS, "");
    for rule in [
        "-A -t vip.example:http -s rr",
        "-a -t vip:http -r rs1.example:domain -m",
        "-a -t vip:http -r 10.0.0.2:4242 -m",
        "-A -t [2001:db8::10]:https",
        "-A -f 80",
        "-a -f 80 -r rs1.example:http -m",
    ] {
        director.lvsadm(rule).unwrap();
    }
    let listed = director.lvsadm("-L").unwrap();
    let lines: Vec<&str> = listed.lines().skip(3).collect();
    assert_eq!(
        lines,
        [
            "TCP  vip.example:http rr",
            "  -> rs1.example:domain           Masq    1      0          0         ",
            "  -> 10.0.0.2:4242                Masq    1      0          0         ",
            "TCP  [vip6.example]:https wlc",
            // A mark has no protocol, whose names its ports could have.
            "FWM  80 wlc",
            "  -> rs1.example:80               Masq    1      0          0         ",
        ]
    );
    assert!(director.lvsadm("-S").unwrap().contains("-a -t vip.example:http -r rs1.example:domain -m -w 1\n"));
    // What is saved with names is restored by them, but for hosts of IPv6, which ipvsadm does not look up.
    director.lvsadm("-D -t [2001:db8::10]:443").unwrap();
    let saved = director.lvsadm("-S").unwrap();
    let file = std::env::temp_dir().join(format!("{}.rules", director.name()));
    fs::write(&file, saved).unwrap();
    assert_eq!(director.lvsadm(&format!("apply --dry-run {}", file.display())).unwrap(), "");
    fs::remove_file(file).unwrap();
}

#[test]
fn a_resolver_that_never_answers_delays_a_listing_once_and_nothing_else() {
    let director = Namespace::new("director").unwrap();
    // Packets to it go to a device that takes them and never answers; left alone the C library asks for ten minutes.
    director.ip(&["link add hole type veth peer name far", "link set hole up", "link set far up"]).unwrap();
    director
        .ip(&["addr add 198.51.100.1/24 dev hole", "neigh add 198.51.100.53 lladdr 02:00:00:00:00:53 dev hole"])
        .unwrap();
    let resolver = "nameserver 198.51.100.53\noptions timeout:30 attempts:5\n";
    let _etc = Etc::new(&director, HOSTS, resolver);
    director.lvsadm("-A -t 192.0.2.10:80 -s rr").unwrap();
    for server in 1..=20 {
        director.lvsadm(&format!("-a -t 192.0.2.10:80 -r 10.0.0.{server}:80 -m")).unwrap();
    }
    let begin = Instant::now();
    let output = director.command(lvsadm_path()).arg("-L").stdin(Stdio::null()).output().unwrap();
    let took = begin.elapsed();
    assert!(output.status.success() && output.stderr.is_empty(), "{output:?}");
    let listed = String::from_utf8_lossy(&output.stdout).into_owned();
    // What the system knows by itself is named, the rest has its address, and the process has ended.
    assert!(listed.contains("TCP  vip.example:http rr\n") && listed.contains("-> rs1.example:http "), "{listed}");
    assert!(listed.contains("-> 10.0.0.20:http "), "{listed}");
    assert!(took < Duration::from_secs(60), "{took:?}");
    // The patience is one for all of them.
    assert!(took > Duration::from_secs(4), "{took:?}: it was not asked");
    let begin = Instant::now();
    assert!(director.lvsadm("-Ln").unwrap().contains("-> 10.0.0.20:80 "));
    assert!(begin.elapsed() < Duration::from_secs(4));
}
