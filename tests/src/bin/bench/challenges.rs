//! What a challenge costs, and not to need one.

use std::net::SocketAddr;

use anyhow::{Context, Result, ensure};
use etherparse::TcpHeader;
use tests::fixtures::{CLIENT_MAC, Programs, SERVER, Testbed, frame, vip, xdp_verdict};

use crate::connections::{BATCH, MILLION, forget};
use crate::flows::{self, Kind};
use crate::latency::client;
use crate::report::Report;
use crate::wrapper::{Wrapper, descriptor, median};

/// The cost of a first packet that is challenged, and of those that need not be, beside a service that challenges nobody.
pub fn measure(report: &mut Report, rounds: usize) -> Result<()> {
    let testbed = Testbed::new()?;
    testbed.director.lvsadm("attach --mode native")?;
    testbed.director.lvsadm("sysctl synproxy_rate=0 synproxy_source_rate=0")?;
    let services = [(false, 80, ""), (false, 81, " -j enable"), (true, 81, " -j enable")];
    for (v6, port, option) in services {
        let (to, server) = (SocketAddr::new(vip(v6), port), SocketAddr::new(SERVER.of(v6), port));
        testbed.restore(&[format!("-A -t {to} -s rr{option}"), format!("-a -t {to} -r {server} -m")])?;
    }
    let [web, guarded, guarded6] = services.map(|(v6, port, _)| SocketAddr::new(vip(v6), port));
    let syns = |from, to, flows| flows::run(Kind::Syn, (testbed.front.mac, CLIENT_MAC), from, to, flows);
    // What is asked of one client, so that it can be verified before.
    let [friend, stranger] = [100, 101].map(|number| client(false, number));
    let cases = [
        ("not challenged by its service", syns(friend, web, 1 << 15)?),
        ("verified before", syns(friend, guarded, 1 << 15)?),
        ("challenged v4", syns(stranger, guarded, MILLION)?),
        ("challenged v6", syns(client(true, 1), guarded6, MILLION)?),
    ];
    report.section("XDP, net ns per request for a connection", "");
    testbed.with_programs(|programs| {
        let mut wrapper = Wrapper::new(0)?;
        let ours = descriptor(&programs.xdp)?;
        let [nothing, shrink] = [wrapper.floor("floor_drop")?, wrapper.floor("floor_shrink")?];
        verify(programs, &testbed, friend, guarded)?;
        let mut times = vec![Vec::new(); cases.len()];
        for _ in 0..rounds {
            for ((name, run), times) in cases.iter().zip(&mut times) {
                forget()?;
                let base = wrapper.time(&nothing, run, testbed.front, BATCH)?.ns;
                let timing = wrapper.time(&ours, run, testbed.front, BATCH)?;
                ensure!(timing.verdict == xdp_verdict::REDIRECT, "{name}: verdict {}", timing.verdict);
                // Of the pair of resizings that the shrinker and the wrapper make, half is the wrapper's.
                let resizing = match name.starts_with("challenged") {
                    true => (wrapper.time(&shrink, run, testbed.front, BATCH)?.ns - base) / 2.0,
                    false => 0.0,
                };
                times.push(timing.ns - base - resizing);
            }
        }
        for ((name, _), times) in cases.iter().zip(&mut times) {
            report.add("challenge", *name, median(times), "ns", None);
        }
        Ok(())
    })
}

/// Has a client answer a challenge.
fn verify(programs: &Programs, testbed: &Testbed, from: SocketAddr, to: SocketAddr) -> Result<()> {
    let mut header = TcpHeader::new(from.port(), to.port(), 0, 0);
    let mut send = |syn: bool, sequence| {
        (header.syn, header.rst, header.sequence_number) = (syn, !syn, sequence);
        let segment = frame::segment(&header, from.ip(), to.ip(), b"");
        let packet = frame::ip(from.ip(), to.ip(), 0, 64, frame::TCP, &segment);
        programs.run_xdp(testbed.front, &frame::ethernet(testbed.front.mac, CLIENT_MAC, &packet))
    };
    let challenge = send(true, 0)?.frame;
    let number = challenge.get(42..46).context("no challenge")?;
    let answered = send(false, u32::from_be_bytes(number.try_into()?))?;
    ensure!(answered.verdict == xdp_verdict::DROP, "an answer: verdict {}", answered.verdict);
    Ok(())
}
