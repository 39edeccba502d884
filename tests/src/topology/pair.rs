//! Two directors under keepalived, one of which has the addresses that clients and real servers send to.

use std::fs::{self, File};
use std::process::Command;
use std::thread;

use anyhow::{Context, Result};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::cluster::{Arms, Cluster, FIRST, Layout, Site};
use super::namespace::{self, Namespace, lvs_compat_path, lvsadm_path};
use super::server::Server;

/// Where keepalived is.
const KEEPALIVED: &str = "/usr/sbin/keepalived";

/// Which of the two directors.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Member {
    /// The one that keepalived prefers.
    First,
    /// The other one.
    Second,
}

impl Member {
    /// Both.
    pub const BOTH: [Member; 2] = [Member::First, Member::Second];
}

/// What forwards on both directors.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Balancer {
    /// This project's data plane.
    Ours,
    /// The kernel's IPVS, by `ipvsadm`.
    Kernel,
}

/// How a director fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure {
    /// keepalived and the synchronisation daemon are killed. Addresses and programs stay.
    Processes,
    /// Its cables are pulled.
    Links,
    /// It is gone, with all that it knew.
    Power,
}

/// Two directors, their client and their real servers. TCP servers on port 7 of the real servers send back what they get.
pub struct Pair {
    _echo: Vec<Server>,
    balancer: Balancer,
    /// The networks and hosts; its director is the first one.
    pub cluster: Cluster,
    second: Namespace,
    rules: Vec<String>,
    virtual_servers: String,
}

impl Pair {
    /// Starts both, each with these rules (arguments of `lvsadm`) and with keepalived, which has these blocks `virtual_server`.
    /// Returns when the first one is active, and the second one listens to it.
    pub fn new(site: Site, rules: &[String], virtual_servers: &str) -> Result<Self> {
        Self::of(Balancer::Ours, site, rules, virtual_servers)
    }

    /// The same with this on both directors.
    pub fn of(balancer: Balancer, site: Site, rules: &[String], virtual_servers: &str) -> Result<Self> {
        let cluster = Cluster::new(Layout { arms: Arms::Pair, site, servers: 2, ..Layout::default() })?;
        let echo: Result<_> = cluster.servers.iter().map(|server| Server::stream_echo(server, 7)).collect();
        let second = cluster.second_director()?;
        let (rules, virtual_servers) = (rules.to_vec(), virtual_servers.to_owned());
        let pair = Pair { _echo: echo?, balancer, cluster, second, rules, virtual_servers };
        let start = |member| pair.configure(member).and_then(|()| pair.start_keepalived(member));
        thread::scope(|scope| {
            let second = scope.spawn(move || start(Member::Second));
            start(Member::First)?;
            second.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })?;
        Ok(pair)
    }

    /// One of the directors.
    pub fn director(&self, member: Member) -> &Namespace {
        match member {
            Member::First => &self.cluster.director,
            Member::Second => &self.second,
        }
    }

    /// Whether a director runs the daemon of this role, and no other.
    pub fn runs(&self, member: Member, role: &str) -> bool {
        let listed = self.command(member, "-L --daemon").unwrap_or_default();
        listed.starts_with(&format!("{role} sync daemon ")) && listed.lines().count() == 1
    }

    /// A command of `ipvsadm`'s on a director.
    fn command(&self, member: Member, arguments: &str) -> Result<String> {
        let director = self.director(member);
        match self.balancer {
            Balancer::Ours => director.lvsadm(arguments),
            Balancer::Kernel => director.run(&format!("ipvsadm {arguments}")),
        }
    }

    /// keepalived's configuration on a director.
    pub fn keepalived_configuration(&self, member: Member) -> Result<String> {
        Ok(fs::read_to_string(self.file(member, "keepalived.conf"))?)
    }

    /// What keepalived has printed on a director.
    pub fn log(&self, member: Member) -> String {
        fs::read_to_string(self.file(member, "keepalived.log")).unwrap_or_default()
    }

    /// Has the first director fail.
    pub fn fail(&mut self, failure: Failure) -> Result<()> {
        match failure {
            Failure::Processes => self.kill_processes(),
            Failure::Links => self.set_cables("down"),
            Failure::Power => {
                // A power failure silences the cables at once.
                self.cluster.router.ip(&["link delete director0", "link delete director1"])?;
                self.kill_processes()
            }
        }
    }

    /// Repairs the first director.
    pub fn repair(&mut self, failure: Failure) -> Result<()> {
        match failure {
            Failure::Processes => self.start_keepalived(Member::First),
            Failure::Links => self.set_cables("up"),
            Failure::Power => {
                let gone = std::mem::replace(&mut self.cluster.director, Namespace::new("director")?);
                gone.abandon();
                self.cluster.build_member(&self.cluster.director, FIRST)?;
                self.configure(Member::First)?;
                self.start_keepalived(Member::First)
            }
        }
    }

    /// Kills all that runs on the first director.
    fn kill_processes(&self) -> Result<()> {
        let director = self.director(Member::First);
        let processes = namespace::run(Command::new("ip").args(["netns", "pids", director.name()]))?;
        for process in String::from_utf8_lossy(&processes.stdout).split_whitespace() {
            // It may have ended because another one was killed.
            let _ = kill(Pid::from_raw(process.parse()?), Signal::SIGKILL);
        }
        Ok(())
    }

    fn set_cables(&self, state: &str) -> Result<()> {
        self.cluster.router.ip(&[format!("link set director0 {state}"), format!("link set director1 {state}")])
    }

    /// Gives a director the rules.
    fn configure(&self, member: Member) -> Result<()> {
        let director = self.director(member);
        director.sysctl(&["net/ipv4/ip_forward=1", "net/ipv6/conf/all/forwarding=1"])?;
        self.rules.iter().try_for_each(|rule| self.command(member, rule).map(drop))
    }

    fn start_keepalived(&self, member: Member) -> Result<()> {
        let director = self.director(member);
        let file = |name: &str| self.file(member, name);
        let priority = if member == Member::First { 150 } else { 100 };
        fs::write(file("keepalived.conf"), configuration(priority, &self.virtual_servers))?;
        let output = File::create(file("keepalived.log"))?;
        let mut command = director.command("env");
        if self.balancer == Balancer::Ours {
            let lvsadm = fs::canonicalize(lvsadm_path()).context("no lvsadm")?;
            command
                .args([format!("LD_PRELOAD={}", lvs_compat_path().display()), format!("LVSADM={}", lvsadm.display())]);
        }
        command.args([KEEPALIVED, "--dont-fork", "--log-console", "--use-file", &file("keepalived.conf")]);
        for process in ["pid", "vrrp_pid", "checkers_pid"] {
            command.args([format!("--{process}"), file(process)]);
            // One that was killed has left it, and waits as a zombie: keepalived would believe that it still runs.
            let _ = fs::remove_file(file(process));
        }
        director.adopt(command.stdout(output.try_clone()?).stderr(output)).map(drop)
    }

    /// Where a file of a director's keepalived is.
    fn file(&self, member: Member, name: &str) -> String {
        std::env::temp_dir().join(format!("{}-{name}", self.director(member).name())).display().to_string()
    }
}

/// keepalived's configuration: the addresses of [`Cluster`]'s only director go to one of two.
fn configuration(priority: u8, virtual_servers: &str) -> String {
    format!(
        "global_defs {{
    vrrp_version 3
    vrrp_garp_master_delay 1
    # Adverts leave in time, whatever else the machine does.
    vrrp_rt_priority 50
    lvs_sync_daemon eth1 VI_1 id 7
}}
vrrp_instance VI_1 {{
    state BACKUP
    interface eth0
    virtual_router_id 51
    priority {priority}
    advert_int 0.3
    # In this time a director that comes back is told of the connections.
    preempt_delay 2
    track_interface {{
        eth1
    }}
    virtual_ipaddress {{
        10.10.10.10/24 dev eth0
        192.168.122.100/24 dev eth1
    }}
    virtual_ipaddress_excluded {{
        2001:db8:a::10/64 dev eth0
        2001:db8:b::100/64 dev eth1
    }}
}}
{virtual_servers}"
    )
}
