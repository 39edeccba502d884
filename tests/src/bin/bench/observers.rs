//! What an established packet costs in XDP while somebody looks: traces and captures, with filters that match it and that do not, and an
//! agent whose metrics are read.

use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Child, Stdio};
use std::thread::sleep;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use aya::programs::Xdp;
use aya_obj::programs::XdpAttachType;
use lvs_common::abi::bench::Run;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;
use tests::eventually;
use tests::fixtures::{self, CLIENT_MAC, MODES, Port, Testbed, xdp_verdict};
use tests::topology::{Namespace, lvsadm_path};

use crate::flows::{self, Kind};
use crate::latency::client;
use crate::report::{Report, Spread};
use crate::wrapper::{Wrapper, descriptor};

const ENDPOINT: &str = "127.0.0.1:9120";
/// Between two readings of metrics.
const PAUSE: Duration = Duration::from_millis(1100);
/// Who looks. Memory is for all packets of a run, as one that is not reported costs less.
const OBSERVERS: [(&str, &str); 5] = [
    ("trace, another client", "trace --client 10.99.0.1"),
    ("trace, this packet", "trace -B 128"),
    ("capture, another client", "capture -w /dev/null host 10.99.0.1"),
    ("capture, this packet", "capture -B 128 -w /dev/null udp"),
    ("capture of 64 bytes, this packet", "capture -B 128 -s 64 -w /dev/null udp"),
];
/// Packets of a run at most, for the memory.
const MOST: u64 = 100_000;

/// A process that looks, until it goes.
struct Observing(Child);

impl Observing {
    fn begin(director: &Namespace, arguments: &str) -> Result<Self> {
        let mut command = director.command(lvsadm_path());
        command.args(arguments.split_whitespace()).stdout(Stdio::null()).stderr(Stdio::piped());
        let mut child = command.spawn()?;
        let mut line = String::new();
        BufReader::new(child.stderr.as_mut().context("no standard error")?).read_line(&mut line)?;
        ensure!(line.contains("until an interrupt"), "{line}");
        Ok(Observing(child))
    }
}

impl Drop for Observing {
    fn drop(&mut self) {
        let _ = kill(Pid::from_raw(self.0.id() as i32), Signal::SIGINT);
        let _ = self.0.wait();
    }
}

/// The packets that are measured.
struct Packets {
    run: Run,
    port: Port,
    count: u64,
}

/// Measures.
pub fn measure(report: &mut Report, rounds: usize, packets: u64) -> Result<()> {
    let testbed = Testbed::new()?;
    let director = &testbed.director;
    director.lvsadm("attach --mode native")?;
    testbed.restore(&fixtures::rules())?;
    let number = MODES.iter().position(|mode| mode.name == "nat to another port").context("no such mode")?;
    let run = flows::run(
        Kind::Datagram,
        (testbed.front.mac, CLIENT_MAC),
        client(false, number),
        fixtures::service(number, false),
        1,
    )?;
    let packets = Packets { run, port: testbed.front, count: packets.min(MOST) };
    let status: Value = serde_json::from_str(&director.lvsadm("status --json")?)?;
    let pins = PathBuf::from(status["pins"].as_str().context("no pins")?);
    let mut wrapper = Wrapper::new(1)?;
    let mut rows = vec![("nobody", Vec::new())];
    rows.extend(OBSERVERS.iter().map(|(name, _)| (*name, Vec::new())));
    rows.push(("agent, metrics read each second", Vec::new()));
    for _ in 0..rounds {
        testbed.with_programs(|programs| {
            rows[0].1.push(time(&mut wrapper, &programs.xdp, &packets)?);
            Ok(())
        })?;
        for (row, (_, arguments)) in OBSERVERS.iter().enumerate() {
            let observing = Observing::begin(director, arguments)?;
            let name = pins.file_name().and_then(|name| name.to_str()).context("no name")?;
            let stand = format!("{}-{}", name.replacen("ns-", "watch-", 1), observing.0.id());
            let program = Xdp::from_pin(pins.with_file_name(stand).join("lvs_xdp"), XdpAttachType::Interface)?;
            rows[row + 1].1.push(director.enter(|| time(&mut wrapper, &program, &packets))?);
        }
    }
    let mut agent = director.command(lvsadm_path());
    director.adopt(agent.args(["agent", "--listen", "9120"]).stdout(Stdio::null()).stderr(Stdio::null()))?;
    eventually("the agent listens", || director.fetch(ENDPOINT, "/", "").is_ok());
    for _ in 0..rounds {
        director.fetch(ENDPOINT, "/metrics", "")?;
        let last = rows.len() - 1;
        testbed.with_programs(|programs| {
            rows[last].1.push(time(&mut wrapper, &programs.xdp, &packets)?);
            Ok(())
        })?;
        sleep(PAUSE);
    }
    report.section("an established UDP packet by NAT in XDP, while somebody looks", "of nobody's");
    let base = Spread::of(&mut rows[0].1).median;
    for (name, mut times) in rows {
        let spread = Spread::of(&mut times);
        report.add_spread("observers", name, spread, "ns", Some(spread.median / base));
    }
    Ok(())
}

/// Nanoseconds of a packet, net of the wrapper's own part.
fn time(wrapper: &mut Wrapper, program: &Xdp, packets: &Packets) -> Result<f64> {
    let (nothing, program) = (wrapper.floor("floor_drop")?, descriptor(program)?);
    let Packets { run, port, count } = packets;
    wrapper.time(&program, run, *port, 4096)?;
    let base = wrapper.time(&nothing, run, *port, *count)?.ns;
    let timing = wrapper.time(&program, run, *port, *count)?;
    ensure!(timing.verdict == xdp_verdict::REDIRECT, "verdict {}", timing.verdict);
    Ok(timing.ns - base)
}
