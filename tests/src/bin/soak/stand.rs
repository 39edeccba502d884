//! A director with its clients and real servers, and what happened there.

use std::fmt::{self, Display, Formatter};
use std::fs;
use std::net::SocketAddr;
use std::process::Stdio;
use std::sync::atomic::Ordering;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde::Deserialize;
use tests::balanced::{Balanced, Mode, SERVERS};
use tests::topology::{Arms, Counts, Namespace, Server, Transfers, VIP, VIP6, lvsadm_path};

use crate::work::{self, Done, ECHO};

/// Streams that last from the beginning to the end.
const LONG: usize = 20;
/// How long what is left may take to end: a TCP connection in TIME_WAIT lasts 120 s, a template 60 s more than its last connection.
const PATIENCE: Duration = Duration::from_secs(300);

/// A stand.
pub struct Stand {
    name: &'static str,
    balanced: Balanced,
    _echo: Vec<Server>,
    agent: u32,
}

/// What a stand's data plane and agent hold.
#[derive(Clone, Copy, Debug, Default)]
struct Held {
    pins: usize,
    /// Bytes of its maps.
    maps: u64,
    /// Resident memory of the agent, KiB.
    agent: u64,
}

/// What came of a stand.
#[derive(Default)]
pub struct Report {
    name: &'static str,
    long: usize,
    done: [u64; 6],
    /// What was held a minute after the beginning, under load, and at the end.
    warm: Held,
    end: Held,
    left: String,
    /// What was not as it should be.
    pub faults: Vec<String>,
}

impl Stand {
    /// Sets it up.
    pub fn new(name: &'static str, mode: Mode) -> Result<Self> {
        let balanced = Balanced::new(mode, Arms::Two, false).with_context(|| name)?;
        balanced.carry_by(work::TIERS[0])?;
        let director = &balanced.cluster.director;
        for vip in [VIP, VIP6] {
            let service = SocketAddr::new(vip, ECHO);
            director.lvsadm(&format!("-A -t {service} -s rr"))?;
            for number in 1..=SERVERS {
                let (v4, v6) = balanced.cluster.server_addresses(number);
                let server = SocketAddr::new(if vip.is_ipv4() { v4 } else { v6 }, ECHO);
                director.lvsadm(&format!("-a -t {service} -r {server} {}", mode.option))?;
            }
        }
        director.lvsadm("--set 120 5 5")?;
        let echo: Result<_> = balanced.cluster.servers.iter().map(|server| Server::stream_echo(server, ECHO)).collect();
        let mut agent = director.command(lvsadm_path());
        let agent = director.adopt(agent.arg("agent").stdout(Stdio::null()).stderr(Stdio::null()))?;
        Ok(Stand { name, balanced, _echo: echo?, agent })
    }

    /// Soaks, and looks at what is left.
    pub fn run(self, until: Instant) -> Report {
        let mut report = Report { name: self.name, ..Report::default() };
        if let Err(error) = self.soak(until, &mut report) {
            report.faults.push(format!("{}: {error:#}", self.name));
        }
        report
    }

    fn soak(&self, until: Instant, report: &mut Report) -> Result<()> {
        let (client, done) = (&self.balanced.cluster.client, Done::default());
        let long = Transfers::begin(client, &work::echo(), LONG)?;
        let over = || Instant::now() >= until;
        thread::scope(|scope| {
            let works: [work::Work; 6] =
                [work::streams, work::requests, work::flood, work::edit, work::change_tier, work::churn];
            let workers = works.map(|work| {
                let (done, over) = (&done, &over);
                scope.spawn(move || {
                    let mut turn = 0;
                    while !over() {
                        work(&self.balanced, turn, done)?;
                        turn += 1;
                    }
                    anyhow::Ok(())
                })
            });
            let warm = scope.spawn(|| {
                let at = (until - Duration::from_secs(1)).min(Instant::now() + Duration::from_secs(60));
                thread::sleep(at.saturating_duration_since(Instant::now()));
                self.held()
            });
            if let Ok(Ok(held)) = warm.join() {
                report.warm = held;
            }
            for worker in workers {
                match worker.join() {
                    Ok(Ok(())) => {}
                    Ok(Err(error)) => report.faults.push(format!("{}: {error:#}", self.name)),
                    Err(_) => report.faults.push(format!("{}: a worker panicked", self.name)),
                }
            }
        });
        let Done { streams, requests, floods, edits, tiers, devices } = &done;
        report.done = [streams, requests, floods, edits, tiers, devices].map(|count| count.load(Ordering::Relaxed));
        let outcome = long.end()?;
        report.long = outcome.complete;
        report.faults.extend(outcome.lost.iter().map(|lost| format!("{}: {lost}", self.name)));
        report.left = self.left()?;
        report.end = self.held()?;
        ensure!(report.left == "nothing", "something is left: {}", report.left);
        let (Held { pins, maps, agent }, warm) = (report.end, report.warm);
        let has_grown = pins > warm.pins || maps > warm.maps || agent > warm.agent + warm.agent / 10 + 1024;
        ensure!(!has_grown, "after a minute there were {warm:?}, at the end {:?}", report.end);
        Ok(())
    }

    /// What the director still counts when all that may end has ended.
    fn left(&self) -> Result<String> {
        let end = Instant::now() + PATIENCE;
        loop {
            let left = counted(&self.balanced.cluster.director)?;
            if left == "nothing" || Instant::now() > end {
                return Ok(left);
            }
            thread::sleep(Duration::from_secs(2));
        }
    }

    /// What the data plane and the agent hold.
    fn held(&self) -> Result<Held> {
        let status = self.balanced.cluster.director.json("status --json")?;
        let pins = fs::read_dir(status["pins"].as_str().context("no pins")?)?.count();
        let maps = status["tables"]["bytes"].as_u64().context("no size")?;
        Ok(Held { pins, maps, agent: resident(self.agent)? })
    }
}

/// Entries and counters of a director that are not 0.
pub fn counted(director: &Namespace) -> Result<String> {
    let connections = director.connections()?.len();
    let mut left = Vec::new();
    if connections != 0 {
        left.push(format!("{connections} connections"));
    }
    for service in director.json("-L --json")?.as_array().context("no services")? {
        for dest in service["destinations"].as_array().context("no destinations")? {
            let counts = Counts::deserialize(dest)?;
            if (counts.active, counts.inactive, counts.persistent) != (0, 0, 0) {
                left.push(format!("{} port {}: {counts:?}", dest["address"], dest["port"]));
            }
        }
    }
    Ok(if left.is_empty() { "nothing".to_owned() } else { left.join(", ") })
}

/// KiB of a process's resident memory.
fn resident(process: u32) -> Result<u64> {
    let status = fs::read_to_string(format!("/proc/{process}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("no VmRSS")?;
    Ok(line.split_whitespace().next().context("no number")?.parse()?)
}

impl Report {
    /// That of a stand whose thread panicked: standard error has the reason.
    pub fn panicked() -> Self {
        Report { faults: vec!["a stand's thread panicked".to_owned()], ..Report::default() }
    }

    /// The columns.
    pub const HEADER: &'static str = "stand      long streams  short   requests  flood packets  edits  tiers  devices      maps KiB   agent KiB  left";
}

impl Display for Report {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let [streams, requests, floods, edits, tiers, devices] = self.done;
        let (name, warm, end) = (self.name, self.warm, self.end);
        let maps = format!("{} {}", warm.maps >> 10, end.maps >> 10);
        let agent = format!("{} {}", warm.agent, end.agent);
        let long = format!("{} of {LONG}", self.long);
        write!(
            f,
            "{name:<10} {long:>12} {streams:>6} {requests:>10} {floods:>14} {edits:>6} {tiers:>6} {devices:>8} {maps:>13} {agent:>11}  {}",
            self.left
        )
    }
}
