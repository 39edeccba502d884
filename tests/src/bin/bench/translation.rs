//! Nanoseconds per packet of the TC programs: FullNAT, and FullNAT between families.
//!
//! A run of a test leaves a packet as the programs made it, so each is a run of its own, and what the clock takes is in it:
//! only the differences say anything.

use std::net::SocketAddr;

use anyhow::{Context, Result, ensure};
use tests::fixtures::{self, CLIENT_MAC, MODES, Port, Programs, SERVER, SERVER_MAC, Shape, Testbed, frame, tc_verdict};

use crate::latency::client;
use crate::report::Report;
use crate::wrapper::median;

/// Hop limit of all packets.
const TTL: u8 = 64;

/// Something that is measured.
struct Case {
    name: String,
    port: Port,
    frame: Vec<u8>,
}

/// Measures them in turn, `packets` times each.
pub fn measure(report: &mut Report, packets: usize) -> Result<()> {
    let testbed = Testbed::new()?;
    testbed.director.lvsadm("attach --mode native")?;
    testbed.restore(&fixtures::rules())?;
    testbed.director.lvsadm(&fixtures::only_port())?;
    testbed.with_programs(|programs| {
        let cases = cases(&testbed)?;
        let mut times = vec![Vec::with_capacity(packets); cases.len()];
        // A request opens its connection; the next hop is known from the second packet on.
        for case in cases.iter().chain(&cases) {
            run(programs, case)?;
        }
        for _ in 0..packets {
            for (case, times) in cases.iter().zip(&mut times) {
                times.push(run(programs, case)?);
            }
        }
        let times: Vec<f64> = times.iter_mut().map(|times| median(times)).collect();
        // Those of one family come first.
        let half = cases.len() / 2;
        report.section("TC, ns per packet and reading of the clock", "in FullNAT's own");
        for (at, (case, ns)) in cases.iter().zip(&times).enumerate() {
            report.add("translation", case.name.clone(), *ns, "ns", at.checked_sub(half).map(|like| ns / times[like]));
        }
        Ok(())
    })
}

/// How long a packet takes, in ns.
fn run(programs: &Programs, case: &Case) -> Result<f64> {
    let (outcome, time) = programs.time_tc(case.port, &case.frame)?;
    ensure!(outcome.verdict == tc_verdict::REDIRECT, "{}: verdict {}", case.name, outcome.verdict);
    Ok(time.as_nanos() as f64)
}

/// Datagrams and their answers.
fn cases(testbed: &Testbed) -> Result<Vec<Case>> {
    let mut cases = Vec::new();
    for crossed in [false, true] {
        let shape = Shape::FullNat { crossed };
        let number = MODES.iter().position(|mode| mode.shape == shape).context("no such mode")?;
        for v6 in [false, true] {
            let (from, to) = (client(v6, number), fixtures::service(number, v6));
            let server = SocketAddr::new(SERVER.of(v6 != crossed), to.port());
            let local = fixtures::local(v6 != crossed);
            let packet = |from: SocketAddr, to: SocketAddr| {
                frame::ip(from.ip(), to.ip(), 0, TTL, frame::UDP, &frame::udp(from, to, &[0; 18]))
            };
            let name = |what: &str| format!("{} {} {what}", MODES[number].name, if v6 { "v6" } else { "v4" });
            cases.push(Case {
                name: name("request"),
                port: testbed.front,
                frame: frame::ethernet(testbed.front.mac, CLIENT_MAC, &packet(from, to)),
            });
            cases.push(Case {
                name: name("reply"),
                port: testbed.back,
                frame: frame::ethernet(testbed.back.mac, SERVER_MAC, &packet(server, local)),
            });
        }
    }
    Ok(cases)
}
