//! Packets per second through a director: native XDP, TC, the kernel's own forwarding, and nftables.
//!
//! Live frames leave the clients' end of the first cable on one CPU; the director polls on another, in a thread of the
//! kernel's, so that its CPU time can be told; a sink counts and drops what arrives at the end of the second cable.

use std::fs;
use std::net::SocketAddr;
use std::thread;
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use aya::Ebpf;
use aya::maps::{Array, PerCpuArray};
use aya::programs::xdp::XdpMode;
use aya::programs::{TestRun, TestRunAttrs, TestRunOptions, Xdp};
use lvs_common::abi::bench::{FRAME, Run};
use nix::sched::{CpuSet, sched_setaffinity};
use nix::unistd::Pid;
use tests::fixtures::{self, CLIENT_MAC, Port, SERVER, Testbed, port, vip, xdp_context};

use crate::flows::{self, Kind};
use crate::latency::client;
use crate::report::Report;
use crate::wrapper::{Shared, frame, load, median, program};

/// Frames of one system call, and of one batch in it. Each call ends with a wait for the kernel's RCU, in which nothing is
/// sent: few, long calls.
const FRAMES: u32 = 1 << 20;
const BATCH: u32 = 64;
/// Where frames are made, and where the director works.
const GENERATOR_CPU: usize = 0;
const DIRECTOR_CPU: usize = 1;

/// A director at work: its name, how it is set up, what is sent, and where.
struct Contender {
    name: &'static str,
    set_up: fn(&Testbed) -> Result<()>,
    kind: Kind,
    to: fn() -> SocketAddr,
}

const fn contender(name: &'static str, set_up: fn(&Testbed) -> Result<()>) -> Contender {
    Contender { name, set_up, kind: Kind::Datagram, to: virt }
}

const fn flood(name: &'static str, set_up: fn(&Testbed) -> Result<()>) -> Contender {
    Contender { kind: Kind::Syn, ..contender(name, set_up) }
}

/// A flood's frames come back, as challenges.
const CONTENDERS: [Contender; 8] = [
    contender("nat, native", |bed| ours(bed, "native", "-m")),
    contender("dr, native", |bed| ours(bed, "native", "-g")),
    contender("ipip, native", |bed| ours(bed, "native", "-i")),
    contender("nat, tc", |bed| ours(bed, "tc", "-m")),
    flood("challenge, native", |bed| challenging(bed, "native")),
    flood("challenge, tc", |bed| challenging(bed, "tc")),
    Contender { to: || SocketAddr::new(SERVER.of(false), 80), ..contender("kernel's forwarding", |_| Ok(())) },
    contender("nftables dnat", nftables),
];

fn virt() -> SocketAddr {
    SocketAddr::new(vip(false), 80)
}

fn ours(bed: &Testbed, mode: &str, option: &str) -> Result<()> {
    bed.director.lvsadm(&format!("attach --mode {mode}"))?;
    bed.director.lvsadm(&format!("-A -u {} -s rr", virt()))?;
    bed.director.lvsadm(&format!("-a -u {} -r {}:80 {option}", virt(), SERVER.of(false)))?;
    Ok(())
}

fn challenging(bed: &Testbed, mode: &str) -> Result<()> {
    bed.director.lvsadm(&format!("attach --mode {mode}"))?;
    bed.director.lvsadm("sysctl synproxy_rate=0")?;
    bed.director.lvsadm(&format!("-A -t {} -s rr -j enable", virt())).map(drop)
}

fn nftables(bed: &Testbed) -> Result<()> {
    let rules = format!(
        "add table ip lb; add chain ip lb pre {{ type nat hook prerouting priority -100; }}; add rule ip lb pre ip daddr {} udp dport 80 dnat to {}:80",
        vip(false),
        SERVER.of(false)
    );
    let output = bed.director.command("nft").arg(&rules).output()?;
    ensure!(output.status.success(), "nft: {}", String::from_utf8_lossy(&output.stderr));
    Ok(())
}

/// A contender with everything around it.
struct Lane {
    name: &'static str,
    run: Run,
    port: Port,
    generator: Ebpf,
    setting: Array<aya::maps::MapData, Shared>,
    sink: PerCpuArray<aya::maps::MapData, u64>,
    /// The sink's own links and programs.
    _sink: Ebpf,
    poller: u32,
    // Last: the devices go when everything on them is gone.
    bed: Testbed,
}

impl Lane {
    fn new(contender: &Contender) -> Result<Self> {
        let bed = Testbed::new()?;
        (contender.set_up)(&bed)?;
        let mut generator = load()?;
        let setting = Array::try_from(generator.take_map("RUN").context("no map RUN")?)?;
        let port = bed.clients.enter(|| {
            let port = port("eth0")?;
            // A device sends frames of XDP's only if it has a program itself.
            program(&mut generator, "sink")?.attach_to_if_index(port.index, XdpMode::Driver)?;
            Ok(port)
        })?;
        let mut sink = load()?;
        let arrives_at = if contender.kind == Kind::Syn { &mut generator } else { &mut sink };
        let arrived = PerCpuArray::try_from(arrives_at.take_map("ARRIVED").context("no map ARRIVED")?)?;
        bed.servers.enter(|| {
            program(&mut sink, "sink")?.attach_to_if_index(fixtures::port("eth0")?.index, XdpMode::Driver)?;
            Ok(())
        })?;
        let poller = poll_in_a_thread(&bed)?;
        let run = flows::run(contender.kind, (bed.front.mac, CLIENT_MAC), client(false, 1), (contender.to)(), 1)?;
        Ok(Lane { name: contender.name, run, port, generator, setting, sink: arrived, _sink: sink, poller, bed })
    }

    fn arrived(&self) -> Result<u64> {
        Ok(self.sink.get(&0, 0)?.iter().sum())
    }

    /// Sends for a while: millions of packets a second that arrive, and CPU time of the director for each, ns.
    fn measure(&mut self, flows: u32, seconds: f64) -> Result<(f64, f64)> {
        self.setting.set(0, Shared(Run { flows, ..self.run }), 0)?;
        self.send(f64::from(flows) / 400_000.0 + seconds / 4.0)?;
        let (before, busy, begin) = (self.arrived()?, cpu_time(self.poller)?, Instant::now());
        self.send(seconds)?;
        let elapsed = begin.elapsed().as_secs_f64();
        let (packets, busy) = ((self.arrived()? - before) as f64, cpu_time(self.poller)? - busy);
        ensure!(packets > 0.0, "{}: nothing arrives", self.name);
        Ok((packets / elapsed / 1e6, busy as f64 / packets))
    }

    fn send(&mut self, seconds: f64) -> Result<()> {
        let generate: &Xdp = self.generator.program("generate").context("no program generate")?.try_into()?;
        let (run, port) = (&self.run, self.port);
        self.bed.clients.enter(|| {
            on_cpu(0, GENERATOR_CPU)?;
            let begin = Instant::now();
            while begin.elapsed().as_secs_f64() < seconds {
                generate.test_run(TestRunOptions {
                    data_in: Some(frame(run)),
                    ctx_in: Some(&xdp_context(port, FRAME)),
                    repeat: FRAMES,
                    attrs: TestRunAttrs::new().xdp_live_frames(BATCH),
                    ..TestRunOptions::default()
                })?;
            }
            Ok(())
        })
    }
}

/// Has the director's front device polled by a thread of its own; its process id.
fn poll_in_a_thread(bed: &Testbed) -> Result<u32> {
    let before = pollers()?;
    let switched = bed.director.command("sh").args(["-c", "echo 1 > /sys/class/net/front/threaded"]).status()?;
    ensure!(switched.success(), "the device cannot be polled by a thread");
    let thread = pollers()?.into_iter().find(|thread| !before.contains(thread));
    let thread = thread.context("the kernel made no polling thread")?;
    on_cpu(thread as i32, DIRECTOR_CPU)?;
    Ok(thread)
}

/// Polling threads of devices named `front`.
fn pollers() -> Result<Vec<u32>> {
    let processes = fs::read_dir("/proc")?.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
    let is_poller = |process: &u32| {
        fs::read_to_string(format!("/proc/{process}/comm")).is_ok_and(|name| name.starts_with("napi/front-"))
    };
    Ok(processes.filter(is_poller).collect())
}

/// CPU time of a thread so far, ns.
fn cpu_time(thread: u32) -> Result<u64> {
    let text = fs::read_to_string(format!("/proc/{thread}/schedstat"))?;
    Ok(text.split(' ').next().context("no time")?.parse()?)
}

fn on_cpu(thread: i32, cpu: usize) -> Result<()> {
    let mut set = CpuSet::new();
    set.set(cpu)?;
    Ok(sched_setaffinity(Pid::from_raw(thread), &set)?)
}

/// Measures all contenders in turn.
pub fn measure(report: &mut Report, rounds: usize, seconds: f64) -> Result<()> {
    if thread::available_parallelism()?.get() < 2 {
        println!("\npackets per second are left out: they need two CPUs");
        return Ok(());
    }
    let mut lanes = CONTENDERS.iter().map(Lane::new).collect::<Result<Vec<_>>>()?;
    // Whoever comes first finds the CPUs and the kernel's memory cold.
    if let Some(first) = lanes.first_mut() {
        first.measure(1024, seconds)?;
    }
    for flows in [1024, 65_536] {
        let mut results = vec![(Vec::new(), Vec::new()); lanes.len()];
        for _ in 0..rounds {
            for (lane, (rates, times)) in lanes.iter_mut().zip(&mut results) {
                let (rate, time) = lane.measure(flows, seconds)?;
                rates.push(rate);
                times.push(time);
            }
        }
        let medians: Vec<(f64, f64)> = results.iter_mut().map(|(r, t)| (median(r), median(t))).collect();
        let nftables = medians[medians.len() - 1];
        report.section(&format!("a director's packets, {flows} flows"), "× nftables");
        for (lane, (rate, time)) in lanes.iter().zip(&medians) {
            let name = |what: &str| format!("{}, {flows} flows{what}", lane.name);
            report.add("throughput", name(""), *rate, "Mpps", Some(rate / nftables.0));
            report.add("throughput", name(": CPU"), *time, "ns/packet", Some(nftables.1 / time));
        }
    }
    Ok(())
}
