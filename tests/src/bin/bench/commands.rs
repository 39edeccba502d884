//! How long commands take: whole processes, beside a process that does nothing and, where it is installed, ipvsadm itself,
//! which without the kernel's IPVS fails as soon as it has looked for it.

use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

use anyhow::{Context, Result};
use tests::topology::Namespace;

use crate::call::{Call, lvsadm};
use crate::report::Report;
use crate::wrapper::median;

const IPVSADM: &str = "/usr/sbin/ipvsadm";
/// How many services there are where there are many, and real servers of each.
pub const SERVICES: u32 = 10_000;
/// See [`SERVICES`].
pub const SERVERS: u32 = 10;
/// The rules beside which single commands are measured.
const SERVICE: &str = "-t 10.10.10.10:80";
const SERVER: &str = "-r 192.168.122.101:80";

/// Rows of a report in terms of a process that does nothing.
struct Rows<'a> {
    report: &'a mut Report,
    rounds: usize,
    floor: f64,
}

impl Rows<'_> {
    /// Times `what`, each time after `before`.
    fn add(&mut self, name: &str, before: Option<Call<'_>>, what: Call<'_>) -> Result<()> {
        let mut times = Vec::new();
        for _ in 0..self.rounds {
            if let Some(before) = &before {
                before.time()?;
            }
            times.push(what.time()?);
        }
        let time = median(&mut times);
        self.report.add("commands", name, time, "ms", Some(time / self.floor));
        Ok(())
    }
}

/// Measures.
pub fn measure(report: &mut Report, rounds: usize) -> Result<()> {
    let director = Namespace::new("director")?;
    // It is told that lvsadm runs in it, so that nothing of that is left.
    director.lvsadm("-Ln")?;
    report.section("lvsadm", "true");
    let floor = idle(Command::new("true"), 10 * rounds)?;
    report.add("commands", "true", floor, "ms", Some(1.0));
    if Path::new(IPVSADM).exists() {
        let mut ipvsadm = Command::new(IPVSADM);
        ipvsadm.arg("-h");
        let time = idle(ipvsadm, 10 * rounds)?;
        report.add("commands", "ipvsadm -h, failing", time, "ms", Some(time / floor));
    }
    let files = Files::new(&director)?;
    director.enter(|| {
        let (few, many) = (rounds.min(3), 10 * rounds);
        Rows { report, rounds: few, floor }.add("load and attach", Some(lvsadm("unload")), lvsadm("attach"))?;
        // A namespace's own tables are too small for what comes.
        lvsadm("resize --services 65535 --destinations 131071").time()?;
        let mut rows = Rows { report, rounds: many, floor };
        rows.add("-h", None, lvsadm("-h"))?;
        let add_service = format!("-A {SERVICE} -s wlc");
        lvsadm(&add_service).time()?;
        single(&mut rows, "")?;
        rows.add("-Ln", None, lvsadm("-Ln"))?;
        let label = |what: &str| format!("{what}, {SERVICES} services x {SERVERS} servers");
        let mut rows = Rows { report, rounds: few, floor };
        let restore = Call { arguments: "-R", stdin: Some(&files.rules) };
        rows.add(&label("-R"), Some(lvsadm("-C")), restore)?;
        let apply = format!("apply {}", files.rules.display());
        rows.add(&label("apply"), Some(lvsadm("-C")), lvsadm(&apply))?;
        rows.add(&label("apply, no difference"), None, lvsadm(&apply))?;
        let halves = format!("apply {}", files.half.display());
        rows.add(&label("apply, half of it edited"), Some(lvsadm(&apply)), lvsadm(&halves))?;
        for listing in ["-Ln", "-Ln --stats", "-L --json", "save --full", "metrics"] {
            rows.add(&label(listing), None, lvsadm(listing))?;
        }
        rows.add(&label("-C"), Some(lvsadm(&apply)), lvsadm("-C"))?;
        lvsadm(&apply).time()?;
        lvsadm(&add_service).time()?;
        single(&mut Rows { report, rounds: many, floor }, &label(""))
    })
}

/// Single changes of a small service, beside whatever else there is.
fn single(rows: &mut Rows<'_>, label: &str) -> Result<()> {
    let [add, edit, delete] = ["-a", "-e", "-d"].map(|command| match command {
        "-d" => format!("{command} {SERVICE} {SERVER}"),
        _ => format!("{command} {SERVICE} {SERVER} -m"),
    });
    lvsadm(&add).time()?;
    rows.add(&format!("-a{label}"), Some(lvsadm(&delete)), lvsadm(&add))?;
    rows.add(&format!("-e{label}"), None, lvsadm(&edit))?;
    lvsadm(&delete).time()?;
    rows.add(&format!("-d{label}"), Some(lvsadm(&add)), lvsadm(&delete))
}

/// The median time of a process that does nothing here.
fn idle(mut command: Command, times: usize) -> Result<f64> {
    command.stdout(Stdio::null()).stderr(Stdio::null());
    let mut durations = Vec::new();
    for _ in 0..times {
        let begin = Instant::now();
        command.status().with_context(|| format!("cannot run {command:?}"))?;
        durations.push(begin.elapsed().as_secs_f64() * 1000.0);
    }
    Ok(median(&mut durations))
}

/// Rules files, gone when they are dropped.
pub struct Files {
    /// All services with all real servers.
    pub rules: PathBuf,
    /// The same with other weights in every second service.
    half: PathBuf,
}

impl Files {
    /// Writes them.
    pub fn new(namespace: &Namespace) -> Result<Self> {
        let path = |name: &str| std::env::temp_dir().join(format!("{}-{name}.rules", namespace.name()));
        let files = Files { rules: path("all"), half: path("half") };
        fs::write(&files.rules, rules(|_| 1))?;
        fs::write(&files.half, rules(|service| 1 + service % 2))?;
        Ok(files)
    }
}

impl Drop for Files {
    fn drop(&mut self) {
        for file in [&self.rules, &self.half] {
            let _ = fs::remove_file(file);
        }
    }
}

/// Ten thousand services with ten servers each, of a weight that depends on the service's number.
fn rules(weight: impl Fn(u32) -> u32) -> String {
    let mut text = String::new();
    for service in 0..SERVICES {
        let (high, low) = (service / 250, service % 250 + 1);
        // Writing to a string does not fail.
        let _ = writeln!(text, "-A -t 198.18.{high}.{low}:80 -s wlc");
        for server in 1..=SERVERS {
            let weight = weight(service);
            let _ = writeln!(text, "-a -t 198.18.{high}.{low}:80 -r 10.{server}.{high}.{low}:8080 -m -w {weight}");
        }
    }
    text
}
