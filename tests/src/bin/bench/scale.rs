//! How commands grow with the tables, up to as many services and destinations as there can be; and how long commands take while
//! five programs change the table at the same time, beside traffic.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::Result;
use tests::topology::{Cluster, Layout, Namespace, VIP};

use crate::call::{Call, lvsadm};
use crate::report::Report;
use crate::wrapper::median;

/// As many as there can be.
const SERVICES: u32 = 65_535;
const DESTINATIONS: u32 = 131_071;
/// Parts of them that are measured.
const PARTS: [u32; 4] = [8, 4, 2, 1];
/// Programs that change the table at the same time.
const PROGRAMS: u32 = 5;
/// Changes a second that each of them makes, if the machine is fast enough.
const CHANGES: u32 = 200;
/// Changes that one `-R` makes.
const GROUP: u32 = 20;
/// Services and destinations that stay free for traffic and for the programs.
const SPARE: (u32, u32) = (1, 2 + 2 * PROGRAMS * GROUP);

/// How long commands take, in milliseconds, by what they do.
type Times = BTreeMap<&'static str, Vec<f64>>;

/// Measures growth. A ratio is the figure for each destination, in terms of the same in the smallest table.
pub fn growth(report: &mut Report, rounds: usize) -> Result<()> {
    let director = Namespace::new("director")?;
    // It is told that lvsadm runs in it, so that nothing of that is left. A listing would load small tables.
    director.lvsadm("-h")?;
    report.section("growth", "for each destination, 1/8 = 1");
    let files = Files::new(&director)?;
    let mut first = BTreeMap::new();
    for part in PARTS {
        let (services, destinations) = (SERVICES / part, DESTINATIONS / part);
        fs::write(&files.rules, rules(services, destinations, None))?;
        fs::write(&files.edited, rules(services, destinations, Some(services / 2)))?;
        let (same, edited) = (format!("apply {}", files.rules.display()), format!("apply {}", files.edited.display()));
        let restore = Call { arguments: "-R", stdin: Some(&files.rules) };
        let what = [
            ("-R", Some(lvsadm("-C")), restore),
            ("-Ln", None, lvsadm("-Ln")),
            ("-Sn", None, lvsadm("-Sn")),
            ("apply, no difference", Some(lvsadm(&same)), lvsadm(&same)),
            ("apply, one change", Some(lvsadm(&same)), lvsadm(&edited)),
        ];
        director.enter(|| {
            // The first one loads tables of the file's size.
            Call { arguments: "-R", stdin: Some(&files.rules) }.time()?;
            for (name, before, call) in what {
                let (mut times, mut cpu, mut memory) = (Vec::new(), Vec::new(), 0f64);
                for _ in 0..rounds {
                    if let Some(before) = &before {
                        before.time()?;
                    }
                    let cost = call.cost()?;
                    times.push(cost.time);
                    cpu.push(cost.cpu);
                    memory = memory.max(cost.memory);
                }
                for (value, unit) in [(median(&mut times), "ms"), (median(&mut cpu), "ms of CPU"), (memory, "MB")] {
                    let each = value / f64::from(destinations);
                    let ratio = each / *first.entry((name, unit)).or_insert(each);
                    let name = format!("{name}, {services} services");
                    report.add("growth", name, value, unit, Some(ratio));
                }
            }
            lvsadm("unload").time().map(drop)
        })?;
    }
    Ok(())
}

/// Measures commands under churn: in a table of one service, and in one that is full.
pub fn churn(report: &mut Report, seconds: f64) -> Result<()> {
    let cluster = Cluster::new(Layout { servers: 2, ..Layout::default() })?;
    let director = &cluster.director;
    director.lvsadm("-h")?;
    let files = Files::new(director)?;
    let traffic = format!(
        "-A -t {VIP}:80 -s rr\n-a -t {VIP}:80 -r 192.168.122.101:80 -m\n-a -t {VIP}:80 -r 192.168.122.102:80 -m\n"
    );
    for (services, destinations) in [(0, 0), (SERVICES - SPARE.0, DESTINATIONS - SPARE.1)] {
        fs::write(&files.rules, rules(services, destinations, None) + &traffic)?;
        director.enter(|| Call { arguments: "-R", stdin: Some(&files.rules) }.time())?;
        for grouped in [false, true] {
            let kind = if grouped { "groups" } else { "single changes" };
            report.section(&format!("churn, {} services, {kind}", services + 1), "99th of a hundred, ms");
            let (times, answered) = busy(&cluster, &files, grouped, seconds)?;
            for (name, mut times) in times {
                let (many, middle) = (times.len() as f64 / seconds, median(&mut times));
                let late = times[times.len() * 99 / 100];
                let name = |what: &str| format!("{name}{what}, {kind}, {} in the table", services + 1);
                report.add("churn", name(""), middle, "ms", Some(late));
                report.add("churn", name(""), many, "a second", None);
            }
            let name = format!("requests, {kind}, {} in the table", services + 1);
            report.add("churn", name, answered as f64 / seconds, "a second", None);
        }
        director.lvsadm("unload")?;
    }
    Ok(())
}

/// Changes, listings and requests at the same time: how long the commands took, and how many requests were answered.
fn busy(cluster: &Cluster, files: &Files, grouped: bool, seconds: f64) -> Result<(Times, usize)> {
    let (over, duration) = (&AtomicBool::new(false), Duration::from_secs_f64(seconds));
    thread::scope(|scope| {
        let running = || !over.load(Ordering::Relaxed);
        let change = |program| {
            move || {
                cluster
                    .director
                    .enter(|| if grouped { group(files, program, running) } else { single(program, running) })
            }
        };
        let programs: Vec<_> = (0..PROGRAMS).map(|program| scope.spawn(change(program))).collect();
        let lister = scope.spawn(move || {
            cluster.director.enter(|| paced(Duration::from_secs(1), running, |_| Ok(("-Ln", lvsadm("-Ln").time()?))))
        });
        let answered = cluster.client().load(SocketAddr::new(VIP, 80), 2, duration);
        over.store(true, Ordering::Relaxed);
        let mut all = Times::new();
        for worker in programs.into_iter().chain([lister]) {
            let times = worker.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))?;
            times.into_iter().for_each(|(name, times)| all.entry(name).or_default().extend(times));
        }
        Ok((all, answered?))
    })
}

/// Does something again and again, as often as once in `pace`.
fn paced(
    pace: Duration,
    running: impl Fn() -> bool,
    mut step: impl FnMut(usize) -> Result<(&'static str, f64)>,
) -> Result<Times> {
    let (mut times, mut next) = (Times::new(), Instant::now());
    for turn in (0..).take_while(|_| running()) {
        let (name, time) = step(turn)?;
        times.entry(name).or_default().push(time);
        next = (next + pace).max(Instant::now() - pace);
        thread::sleep(next.saturating_duration_since(Instant::now()));
    }
    Ok(times)
}

/// A program that adds, edits and deletes a server of its own, which gets no connection.
fn single(program: u32, running: impl Fn() -> bool) -> Result<Times> {
    let server = format!("-t {VIP}:80 -r 192.168.122.20{program}:80");
    paced(Duration::from_secs(1) / CHANGES, running, |turn| {
        let (name, rest) = [("-a", " -m -w 0"), ("-e", " -m -w 0 -x 9"), ("-d", "")][turn % 3];
        Ok((name, lvsadm(&format!("{name} {server}{rest}")).time()?))
    })
}

/// The same with servers of its own by the group, each of which packets see as a whole.
fn group(files: &Files, program: u32, running: impl Fn() -> bool) -> Result<Times> {
    let steps = [("-a", " -m -w 0"), ("-e", " -m -w 0 -x 9"), ("-d", "")];
    let write = |(command, rest): (&str, &str)| {
        let line = |port| format!("{command} -t {VIP}:80 -r 192.168.122.20{program}:{port}{rest}\n");
        let path = files.folder.join(format!("{program}{command}"));
        fs::write(&path, (1..=GROUP).map(line).collect::<String>()).map(|()| path)
    };
    let paths: Vec<_> = steps.into_iter().map(write).collect::<std::io::Result<_>>()?;
    paced(Duration::from_secs(1) * GROUP / CHANGES, running, |turn| {
        let stdin = Some(paths[turn % 3].as_path());
        Ok(("-R", Call { arguments: "-R", stdin }.time()?))
    })
}

/// Rules files, gone when they are dropped.
struct Files {
    folder: PathBuf,
    rules: PathBuf,
    edited: PathBuf,
}

impl Files {
    fn new(namespace: &Namespace) -> Result<Self> {
        let folder = std::env::temp_dir().join(format!("{}-scale", namespace.name()));
        fs::create_dir(&folder)?;
        let path = |name: &Path| folder.join(name);
        Ok(Files { rules: path("all".as_ref()), edited: path("edited".as_ref()), folder })
    }
}

impl Drop for Files {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.folder);
    }
}

/// Services that share so many destinations evenly; the first destination of service `edited` has another weight.
fn rules(services: u32, destinations: u32, edited: Option<u32>) -> String {
    let mut text = String::new();
    let until = |service: u32| u64::from(destinations) * u64::from(service) / u64::from(services);
    for service in 0..services {
        let (high, low) = (service >> 8, service & 255);
        // Writing to a string does not fail.
        let _ = writeln!(text, "-A -t 198.18.{high}.{low}:80 -s wlc");
        for server in 1..=until(service + 1) - until(service) {
            let weight = 1 + u32::from(server == 1 && edited == Some(service));
            let _ = writeln!(text, "-a -t 198.18.{high}.{low}:80 -r 10.{server}.{high}.{low}:80 -m -w {weight}");
        }
    }
    text
}
