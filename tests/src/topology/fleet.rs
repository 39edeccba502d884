//! Directors that advertise a virtual address by BGP, with BFD, to a router that spreads connections over them. Both ends run BIRD.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::net::{IpAddr, Ipv4Addr};
use std::process::Command;
use std::thread;

use anyhow::{Context, Result};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::cluster::{Arms, Cluster, FIRST, Layout, Plug, Site};
use super::namespace::{self, Namespace};
use super::server::Server;

/// The virtual address. It is on no network: routers know it by BGP alone.
pub const FLEET_VIP: IpAddr = IpAddr::V4(Ipv4Addr::new(203, 0, 113, 10));

/// The table in which directors have the routes that BIRD announces.
const TABLE: u32 = 173;

/// The devices of each director after the first one.
const NAMES: [&str; 4] = [FIRST.name, "director2", "director3", "director4"];

/// BIRD.
const BIRD: &str = "/usr/sbin/bird";

/// Its options about BFD: a director that is silent for 0.6 s has failed.
const BFD: &str = "min rx interval 200 ms; min tx interval 200 ms; multiplier 3;";

/// When a session that failed is tried again. A director that comes back is let in again after a second, and not after a minute.
const RETRIES: &str = "connect delay time 1; connect retry time 1; error wait time 1, 5;";

/// The directors, their router, a client, and two real servers. TCP servers on port 7 of these send back what they get.
pub struct Fleet {
    _echo: Vec<Server>,
    /// The networks and hosts; its director is the fleet's first.
    pub cluster: Cluster,
    others: Vec<Namespace>,
    commands: Vec<String>,
}

impl Fleet {
    /// Starts so many directors, each with these `commands` (arguments of `lvsadm`; `{}` in them is the director's number), and BIRD on all of
    /// them and on the router. Returns when the router spreads over all of them.
    pub fn new(count: usize, commands: &[String]) -> Result<Self> {
        let layout = Layout { arms: Arms::Pair, site: Site::BesideDirector, servers: 2, ..Layout::default() };
        let cluster = Cluster::new(layout)?;
        let echo: Result<_> = cluster.servers.iter().map(|server| Server::stream_echo(server, 7)).collect();
        for server in &cluster.servers {
            server.lvsadm(&format!("real-server --dr --vip {FLEET_VIP}"))?;
        }
        cluster.router.sysctl(&["net/ipv4/fib_multipath_hash_policy=1"])?;
        let others: Result<Vec<_>> = NAMES[1..count].iter().map(|name| Namespace::new(name)).collect();
        let fleet = Fleet { _echo: echo?, cluster, others: others?, commands: commands.to_vec() };
        for (number, other) in (2..).zip(&fleet.others) {
            fleet.cluster.build_member(other, plug(number))?;
        }
        fleet.start_bird(&fleet.cluster.router, &router_configuration(count))?;
        thread::scope(|scope| {
            let starts: Vec<_> = (1..=count)
                .map(|number| {
                    scope.spawn({
                        let fleet = &fleet;
                        move || fleet.start(number)
                    })
                })
                .collect();
            starts
                .into_iter()
                .try_for_each(|start| start.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
        })?;
        fleet.waits_for((1..=count).collect());
        Ok(fleet)
    }

    /// A director, from 1.
    pub fn director(&self, number: usize) -> &Namespace {
        if number == 1 { &self.cluster.director } else { &self.others[number - 2] }
    }

    /// The directors that the router sends packets to.
    pub fn served_by(&self) -> BTreeSet<usize> {
        let routes = self.cluster.router.run(&format!("ip route show {FLEET_VIP}")).unwrap_or_default();
        let is_way = |number: &usize| routes.contains(&format!("via {} ", address(*number)));
        (1..=NAMES.len()).filter(is_way).collect()
    }

    /// Waits until the router sends packets to these directors, and no other ones.
    pub fn waits_for(&self, directors: BTreeSet<usize>) {
        crate::eventually(&format!("the router sends to {directors:?}"), || self.served_by() == directors);
    }

    /// A director loses its power.
    pub fn lose(&mut self, number: usize) -> Result<()> {
        let name = plug(number).name;
        // A power failure silences the cables at once.
        self.cluster.router.ip(&[format!("link delete {name}0"), format!("link delete {name}1")])?;
        let processes = namespace::run(Command::new("ip").args(["netns", "pids", self.director(number).name()]))?;
        for process in String::from_utf8_lossy(&processes.stdout).split_whitespace() {
            // It may have ended because another one was killed.
            let _ = kill(Pid::from_raw(process.parse()?), Signal::SIGKILL);
        }
        let new = Namespace::new(name)?;
        let director = if number == 1 { &mut self.cluster.director } else { &mut self.others[number - 2] };
        std::mem::replace(director, new).abandon();
        Ok(())
    }

    /// A director that lost its power boots.
    pub fn boot(&self, number: usize) -> Result<()> {
        self.cluster.build_member(self.director(number), plug(number))?;
        self.start(number)
    }

    /// BIRD's configuration on a director.
    pub fn bird_configuration(&self, number: usize) -> Result<String> {
        Ok(fs::read_to_string(file(self.director(number), "bird.conf"))?)
    }

    /// Gives a director the virtual address, its rules and BIRD.
    fn start(&self, number: usize) -> Result<()> {
        let director = self.director(number);
        director.sysctl(&["net/ipv4/ip_forward=1"])?;
        director.ip(&[format!("addr add {FLEET_VIP}/32 dev lo")])?;
        for command in &self.commands {
            director.lvsadm(&command.replace("{}", &number.to_string()))?;
        }
        director.lvsadm(&format!("sysctl advertise_table={TABLE}"))?;
        self.start_bird(director, &director_configuration(number))
    }

    /// Starts BIRD on a host.
    fn start_bird(&self, host: &Namespace, configuration: &str) -> Result<()> {
        fs::write(file(host, "bird.conf"), configuration)?;
        let output = File::create(file(host, "bird.log"))?;
        let mut command = host.command(BIRD);
        command.args(["-f", "-c", &file(host, "bird.conf"), "-s", &file(host, "bird.ctl")]);
        host.adopt(command.stdout(output.try_clone()?).stderr(output)).context("cannot start BIRD").map(drop)
    }
}

/// Where a director is plugged in.
fn plug(number: usize) -> Plug<'static> {
    Plug { name: NAMES[number - 1], host: FIRST.host - (number as u8 - 1) }
}

/// A director's address that the router knows.
fn address(number: usize) -> Ipv4Addr {
    Ipv4Addr::new(10, 10, 10, plug(number).host)
}

/// Where a file of a host's BIRD is.
fn file(host: &Namespace, name: &str) -> String {
    std::env::temp_dir().join(format!("{}-{name}", host.name())).display().to_string()
}

/// BIRD's configuration on a director: it announces what `lvsadm` has put into the table.
fn director_configuration(number: usize) -> String {
    format!(
        "router id {};
ipv4 table served;
protocol device {{ scan time 1; }}
protocol kernel {{
    kernel table {TABLE};
    learn;
    scan time 1;
    ipv4 {{ table served; import all; export none; }};
}}
protocol bfd {{ interface \"eth0\" {{ {BFD} }}; }}
protocol bgp {{
    local as 65001;
    neighbor 10.10.10.254 as 65000;
    bfd on;
    {RETRIES}
    ipv4 {{ table served; import none; export all; }};
}}
",
        address(number)
    )
}

/// That of the router: it spreads over all directors that announce an address.
fn router_configuration(count: usize) -> String {
    let neighbors = (1..=count).map(|number| {
        format!("protocol bgp director{number} from director {{ neighbor {} as 65001; }}\n", address(number))
    });
    format!(
        "router id 10.10.10.254;
protocol device {{ scan time 1; }}
protocol kernel {{ merge paths on; ipv4 {{ import none; export all; }}; }}
protocol bfd {{ interface \"front\" {{ {BFD} }}; }}
template bgp director {{
    local as 65000;
    bfd on;
    {RETRIES}
    ipv4 {{ import all; export none; }};
}}
{}",
        neighbors.collect::<String>()
    )
}
