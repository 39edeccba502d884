//! The demo: real HTTP through a director in each forwarding mode, between network namespaces, and through a pair and a fleet of directors.
//!
//! Run it by `cargo xtask demo [nat|dr|tun|fullnat|pair|fleet]…`.

mod download;
mod fleet;
mod pair;

use std::io::{BufRead, BufReader, Read};
use std::net::SocketAddr;
use std::process::{Child, ExitCode, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use tests::kernel_has_ipvs;
use tests::topology::{Arms, Cluster, Layout, Namespace, Nginx, Site, VIP, VIP6, is_root};

/// Requests a mode is shown with.
const REQUESTS: usize = 12;

/// The demos that show a pair of directors, and a fleet.
const PAIR: &str = "pair";
const FLEET: &str = "fleet";

/// A forwarding mode as the demo shows it.
struct Mode {
    name: &'static str,
    title: &'static str,
    explanation: &'static str,
    /// The option of `lvsadm -a`.
    option: &'static str,
    /// What a real server runs.
    real_server: Option<&'static str>,
    /// The director's local addresses (FullNAT). With them, nginx serves on the real servers: its log shows the client.
    local_addresses: &'static [&'static str],
    site: Site,
    /// The frames that show what the mode is: as tcpdump's filter.
    frames: &'static str,
}

const MODES: [Mode; 4] = [
    Mode {
        name: "nat",
        title: "NAT (-m)",
        explanation: "The director rewrites the destination of requests, and the source of the replies that come back through it.",
        option: "-m",
        real_server: None,
        local_addresses: &[],
        site: Site::BehindDirector,
        frames: "tcp[tcpflags] & tcp-syn != 0",
    },
    Mode {
        name: "dr",
        title: "Direct routing (-g)",
        explanation: "The director only picks the MAC address. Real servers own the VIP and answer the client themselves.",
        option: "-g",
        real_server: Some("--dr --vip 10.10.10.10 2001:db8:a::10"),
        local_addresses: &[],
        site: Site::BesideDirector,
        frames: "tcp[tcpflags] & tcp-syn != 0",
    },
    Mode {
        name: "tun",
        title: "IP tunnel (-i)",
        explanation: "Real servers are behind a router: the director wraps requests up in packets to them. They answer the client themselves.",
        option: "-i",
        real_server: Some("--tun --vip 10.10.10.10 2001:db8:a::10"),
        local_addresses: &[],
        site: Site::Remote,
        frames: "ip proto 4 or tcp[tcpflags] & tcp-syn != 0",
    },
    Mode {
        name: "fullnat",
        title: "FullNAT (--fullnat)",
        explanation: "The director rewrites source and destination. Replies come back to its local address by any route: real servers \
                      need no route to the director, no VIP and no kernel module. A TCP option (TOA) carries the client's \
                      address to them, and nginx logs it.",
        option: "--fullnat",
        real_server: Some("--toa --trust 192.168.122.100 2001:db8:b::100"),
        local_addresses: &["192.168.122.100", "2001:db8:b::100"],
        site: Site::Remote,
        frames: "tcp and src 192.168.122.100",
    },
];

fn main() -> ExitCode {
    let chosen: Vec<String> = std::env::args().skip(1).collect();
    match run(&chosen) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("demo: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(chosen: &[String]) -> Result<()> {
    let is_known = |name: &str| [PAIR, FLEET].contains(&name) || MODES.iter().any(|mode| mode.name == name);
    if let Some(unknown) = chosen.iter().find(|name| !is_known(name)) {
        bail!("there is no demo {unknown}: choose among nat, dr, tun, fullnat, pair and fleet");
    }
    if !is_root() {
        bail!("it makes network namespaces and loads eBPF programs: run it as root");
    }
    let wants = |name| chosen.is_empty() || chosen.iter().any(|chosen| chosen == name);
    for mode in MODES.iter().filter(|mode| wants(mode.name)) {
        show(mode).with_context(|| mode.title)?;
    }
    if wants(PAIR) && !kernel_has_ipvs() {
        pair::show().context("a pair")?;
    }
    if wants(FLEET) && !kernel_has_ipvs() {
        fleet::show().context("a fleet")?;
    }
    Ok(())
}

fn show(mode: &Mode) -> Result<()> {
    println!("\n\x1b[1m━━━ {} ━━━\x1b[0m\n{}\n", mode.title, mode.explanation);
    let mut cluster = Cluster::new(Layout { arms: Arms::Two, site: mode.site, ..Layout::default() })?;
    set_up(mode, &cluster)?;
    let nginx = if mode.local_addresses.is_empty() { Vec::new() } else { start_nginx(&mut cluster)? };

    let mut capture = Capture::start(&cluster.servers[0], mode.frames)?;
    for vip in [VIP, VIP6] {
        let service = SocketAddr::new(vip, 80);
        println!("client$ curl http://{service}/   ({REQUESTS} times)");
        let answers = cluster.client().spread(service, REQUESTS)?;
        let spread: Vec<String> = answers.iter().map(|(server, count)| format!("{server}: {count}")).collect();
        let what = if nginx.is_empty() { "answered by" } else { "nginx answered: your address is" };
        println!("  {what} {}\n", spread.join(", "));
    }
    director(&cluster, "-Ln --stats")?;
    println!("rs1# tcpdump -e -n -i eth0    (MAC addresses by name)");
    for line in capture.finish()? {
        println!("  {}", named(&cluster, &line)?);
    }
    if let Some(nginx) = nginx.first() {
        println!("\nrs1# cat /var/log/nginx/access.log");
        for line in nginx.log(2 * REQUESTS / cluster.servers.len()) {
            println!("  {line}");
        }
    }
    Ok(())
}

/// Has an nginx on every real server instead of the server that is there.
fn start_nginx(cluster: &mut Cluster) -> Result<Vec<Nginx>> {
    let mut started = Vec::new();
    for number in 1..=cluster.servers.len() {
        println!("rs{number}# nginx");
        cluster.stop(number);
        let server = &cluster.servers[number - 1];
        started.push(Nginx::start(server, server.command("nginx"), &["80", "[::]:80 ipv6only=on"])?);
        let listens = || server.run("ss --numeric --listening --tcp").is_ok_and(|list| list.contains("[::]:80 "));
        tests::eventually("nginx listens", listens);
    }
    println!();
    Ok(started)
}

/// The commands an operator types.
fn set_up(mode: &Mode, cluster: &Cluster) -> Result<()> {
    if let Some(arguments) = mode.real_server {
        for (number, server) in cluster.servers.iter().enumerate() {
            let command = format!("real-server {arguments}");
            println!("rs{}# lvsadm {command}", number + 1);
            server.lvsadm(&command)?;
        }
    }
    if mode.site == Site::BehindDirector {
        for setting in ["net.ipv4.ip_forward=1", "net.ipv6.conf.all.forwarding=1"] {
            println!("director# sysctl -w {setting}");
        }
        cluster.director.sysctl(&["net/ipv4/ip_forward=1", "net/ipv6/conf/all/forwarding=1"])?;
    }
    for local in mode.local_addresses {
        director(cluster, &format!("--add-laddr -z {local}"))?;
    }
    for vip in [VIP, VIP6] {
        let service = SocketAddr::new(vip, 80);
        director(cluster, &format!("-A -t {service} -s rr"))?;
        for number in 1..=cluster.servers.len() {
            let (v4, v6) = cluster.server_addresses(number);
            let server = SocketAddr::new(if vip.is_ipv4() { v4 } else { v6 }, 80);
            director(cluster, &format!("-a -t {service} -r {server} {}", mode.option))?;
        }
    }
    println!();
    Ok(())
}

/// Shows and runs a command of the director's.
fn director(cluster: &Cluster, arguments: &str) -> Result<()> {
    println!("director# lvsadm {arguments}");
    let output = cluster.director.lvsadm(arguments)?;
    output.lines().for_each(|line| println!("  {line}"));
    if !output.is_empty() {
        println!();
    }
    Ok(())
}

/// A line of tcpdump's with the names of those whose MAC addresses are in it.
fn named(cluster: &Cluster, line: &str) -> Result<String> {
    let ports = [
        (&cluster.director, "eth1", "director"),
        (&cluster.servers[0], "eth0", "rs1"),
        (&cluster.router, "servers", "router"),
        (&cluster.router, "remote", "router"),
    ];
    let mut line = line.to_owned();
    for (namespace, device, name) in ports {
        let mac = namespace.enter(|| device_mac(device))?;
        line = line.replace(&mac, name);
    }
    Ok(line)
}

/// The MAC address of a device of this thread's namespace.
fn device_mac(device: &str) -> Result<String> {
    let interfaces = nix::ifaddrs::getifaddrs()?.filter(|interface| interface.interface_name == device);
    let mac = interfaces.filter_map(|i| i.address?.as_link_addr()?.addr()).next();
    let mac = mac.with_context(|| format!("no device {device}"))?;
    Ok(mac.map(|byte| format!("{byte:02x}")).join(":"))
}

/// tcpdump on `eth0` of a namespace, for the first two frames of a kind.
struct Capture(Child);

impl Capture {
    /// Returns once it listens.
    fn start(namespace: &Namespace, filter: &str) -> Result<Self> {
        let mut child = namespace
            .command("tcpdump")
            .args(["-i", "eth0", "-n", "-e", "-t", "-l", "--immediate-mode", "-c", "2", filter])
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()?;
        let messages = BufReader::new(child.stderr.take().context("no messages")?);
        messages
            .lines()
            .find(|line| line.as_ref().is_ok_and(|line| line.contains("listening")))
            .context("it does not listen")??;
        Ok(Capture(child))
    }

    /// What it saw.
    fn finish(&mut self) -> Result<Vec<String>> {
        let end = Instant::now() + Duration::from_secs(2);
        while self.0.try_wait()?.is_none() && Instant::now() < end {
            std::thread::sleep(Duration::from_millis(20));
        }
        self.0.kill()?;
        let mut text = String::new();
        self.0.stdout.take().context("no output")?.read_to_string(&mut text)?;
        Ok(text.lines().map(str::to_owned).collect())
    }
}

impl Drop for Capture {
    fn drop(&mut self) {
        // Ended already is as good.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
