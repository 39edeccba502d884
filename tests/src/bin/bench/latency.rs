//! Nanoseconds per packet of the XDP program.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use anyhow::{Context, Result, ensure};
use aya::programs::ProgramFd;
use etherparse::TcpHeader;
use lvs_common::abi::bench::Run;
use tests::fixtures::frame::{self, TCP};
use tests::fixtures::{
    self, CLIENT_MAC, DIRECTOR, LOCAL, MODES, Port, Programs, SERVER, SERVER_MAC, Shape, Testbed, xdp_verdict,
};

use crate::flows::{self, Kind};
use crate::report::{Report, Spread};
use crate::wrapper::{self, Wrapper, descriptor};

/// Flows of the cases with many.
pub const MANY: u32 = 65_536;
/// An order of visits that is not the order of the entries in memory.
pub const SCATTERED: u32 = 0x9e37_79b1;
/// `XDP_DROP` and `XDP_TX`.
const DROP: u32 = 1;
const TX: u32 = 3;

/// Something that is measured.
struct Case {
    name: String,
    program: ProgramFd,
    run: Run,
    /// What opens the flows before.
    opener: Option<Run>,
    port: Port,
    verdict: u32,
    /// Whether the frame leaves longer, and the wrapper has to shorten it.
    grows: bool,
}

/// Measures everything that is a steady state.
pub fn steady(report: &mut Report, rounds: usize, packets: u64) -> Result<()> {
    let testbed = Testbed::new()?;
    testbed.director.lvsadm("attach --mode native")?;
    testbed.restore(&fixtures::rules())?;
    testbed.with_programs(|programs| {
        let mut wrapper = Wrapper::new(MANY)?;
        let ours = descriptor(&programs.xdp)?;
        let mut cases = floors(&testbed, &mut wrapper)?;
        let floors = cases.len();
        cases.extend(not_ours(&testbed, &ours)?);
        cases.extend(known(&testbed, &ours)?);
        cases.extend(fullnat(&testbed, programs, &ours)?);
        let times = interleaved(&mut wrapper, &mut cases, rounds, packets)?;
        let reference = |name: &str| {
            let at = cases.iter().position(|case| case.name == name);
            at.map(|at| times[at].median).context("no such floor")
        };
        let (lookup, cold) = (reference("look-up of a 36-byte key")?, reference("look-up among 65,536")?);
        report.section("XDP, net ns per packet", "in look-ups");
        for (index, (case, ns)) in cases.iter().zip(&times).enumerate() {
            let unit = if case.run.flows > 1 { cold } else { lookup };
            let ratio = (index >= floors).then_some(ns.median / unit);
            report.add_spread("packet", case.name.clone(), *ns, "ns", ratio);
        }
        Ok(())
    })
}

/// Times all cases in turn, as often as there are rounds; net of the wrapper's own part.
fn interleaved(wrapper: &mut Wrapper, cases: &mut [Case], rounds: usize, packets: u64) -> Result<Vec<Spread>> {
    let nothing = wrapper.floor("floor_drop")?;
    let grow = wrapper.floor("floor_grow")?;
    let mut times = vec![Vec::new(); cases.len()];
    for case in cases.iter_mut() {
        let opener = case.opener.unwrap_or(case.run);
        let openings = u64::from(opener.flows).max(4096);
        wrapper.time(&case.program, &Run { order: 1, ..opener }, case.port, openings)?;
        case.run.order = SCATTERED;
        let warm = wrapper.time(&case.program, &case.run, case.port, u64::from(case.run.flows).max(4096))?;
        ensure!(warm.verdict == case.verdict, "{}: verdict {} instead of {}", case.name, warm.verdict, case.verdict);
    }
    for _ in 0..rounds {
        for (case, times) in cases.iter().zip(&mut times) {
            let base = wrapper.time(&nothing, &case.run, case.port, packets)?.ns;
            let timing = wrapper.time(&case.program, &case.run, case.port, packets)?;
            ensure!(timing.verdict == case.verdict, "{}: verdict {}", case.name, timing.verdict);
            // Of the pair of resizings that the grower and the wrapper make, half is the wrapper's.
            let resizing =
                if case.grows { (wrapper.time(&grow, &case.run, case.port, packets)?.ns - base) / 2.0 } else { 0.0 };
            times.push(timing.ns - base - resizing);
        }
    }
    Ok(times.iter_mut().map(|times| Spread::of(times)).collect())
}

/// The first client of network `number`. Connections of one client port share a bucket, so every case has clients of its
/// own.
pub fn client(v6: bool, number: usize) -> SocketAddr {
    let ip: IpAddr = if v6 {
        Ipv6Addr::new(0x2001, 0xdb8, 0xd, 0, 0, 0, 0, number as u16).into()
    } else {
        Ipv4Addr::new(10, 20, number as u8, 1).into()
    };
    SocketAddr::new(ip, 1024)
}

fn floors(testbed: &Testbed, wrapper: &mut Wrapper) -> Result<Vec<Case>> {
    let macs = (testbed.front.mac, CLIENT_MAC);
    let to = fixtures::service(0, false);
    let names = [
        ("drop", "floor_drop", DROP, 1),
        ("parse and send back", "floor_parse_tx", TX, 1),
        ("look-up of a 36-byte key", "floor_lookup", DROP, 1),
        ("look-up among 65,536", "floor_lookup", DROP, MANY),
    ];
    let case = |(name, program, verdict, flows): (&str, &str, u32, u32)| {
        Ok(Case {
            name: name.to_owned(),
            program: wrapper.floor(program)?,
            run: flows::run(Kind::Datagram, macs, client(false, 200), to, flows)?,
            opener: None,
            port: testbed.front,
            verdict,
            grows: false,
        })
    };
    names.into_iter().map(case).collect()
}

fn not_ours(testbed: &Testbed, ours: &ProgramFd) -> Result<Vec<Case>> {
    let macs = (testbed.front.mac, CLIENT_MAC);
    let case = |(v6, what, to): (bool, &str, SocketAddr)| {
        Ok(Case {
            name: format!("{what} {}", family(v6)),
            program: ours.try_clone()?,
            run: flows::run(Kind::Datagram, macs, client(v6, 200), to, 1)?,
            opener: None,
            port: testbed.front,
            verdict: xdp_verdict::PASS,
            grows: false,
        })
    };
    let kinds = [false, true].map(|v6| {
        let vip = fixtures::service(0, v6).ip();
        [(v6, "not ours", SocketAddr::new(DIRECTOR.of(v6), 9)), (v6, "no service of a VIP", SocketAddr::new(vip, 9))]
    });
    kinds.into_iter().flatten().map(case).collect()
}

/// A family's name.
pub fn family(v6: bool) -> &'static str {
    if v6 { "v6" } else { "v4" }
}

/// Packets of connections that stand.
fn known(testbed: &Testbed, ours: &ProgramFd) -> Result<Vec<Case>> {
    let measured = ["nat to another port", "dr", "ipip", "ipip across families", "gue", "vxlan"];
    let mut cases = Vec::new();
    for (number, mode) in MODES.iter().enumerate().filter(|(_, mode)| measured.contains(&mode.name)) {
        for v6 in [false, true] {
            for (kind, kind_name, flows) in
                [(Kind::Ack, "tcp", 1), (Kind::Datagram, "udp", 1), (Kind::Ack, "tcp, 65,536 flows", MANY)]
            {
                if flows > 1 && !["nat to another port", "dr", "ipip"].contains(&mode.name) {
                    continue;
                }
                let macs = (testbed.front.mac, CLIENT_MAC);
                let (from, to) = (client(v6, number), fixtures::service(number, v6));
                let run = flows::run(kind, macs, from, to, flows)?;
                let opener = match kind {
                    Kind::Ack => Some(flows::run(Kind::Syn, macs, from, to, flows)?),
                    _ => None,
                };
                let request = Case {
                    name: format!("{} {} {kind_name}", mode.name, family(v6)),
                    program: ours.try_clone()?,
                    run,
                    opener,
                    port: testbed.front,
                    verdict: xdp_verdict::REDIRECT,
                    grows: mode.shape.is_tunnel(),
                };
                cases.push(request);
                if let Shape::Nat { new_port: Some(port) } = mode.shape
                    && flows == 1
                {
                    let macs = (testbed.back.mac, SERVER_MAC);
                    let server = SocketAddr::new(SERVER.of(v6), port);
                    cases.push(Case {
                        name: format!("nat reply {} {kind_name}", family(v6)),
                        program: ours.try_clone()?,
                        run: flows::run(kind, macs, server, from, 1)?,
                        opener: None,
                        port: testbed.back,
                        verdict: xdp_verdict::REDIRECT,
                        grows: false,
                    });
                }
            }
        }
    }
    Ok(cases)
}

/// Packets of FullNAT's connections, both ways, when the real server has been told its client. Where replies go to is known
/// when they are open.
fn fullnat(testbed: &Testbed, programs: &Programs, ours: &ProgramFd) -> Result<Vec<Case>> {
    let number =
        MODES.iter().position(|mode| mode.shape == Shape::FullNat { crossed: false }).context("no such mode")?;
    let mut cases = Vec::new();
    for v6 in [false, true] {
        for (opens, kind, name) in [(Kind::Syn, Kind::Ack, "tcp"), (Kind::Datagram, Kind::Datagram, "udp")] {
            let macs = (testbed.front.mac, CLIENT_MAC);
            let (from, to) = (client(v6, number), fixtures::service(number, v6));
            let opener = flows::run(opens, macs, from, to, 1)?;
            let opened = programs.run_tc(testbed.front, wrapper::frame(&opener))?.frame;
            let port_at = 14 + if v6 { 40 } else { 20 };
            let port = opened.get(port_at..port_at + 2).context("a frame without a port")?;
            let local = SocketAddr::new(LOCAL.of(v6), u16::from_be_bytes(port.try_into()?));
            let server = SocketAddr::new(SERVER.of(v6), to.port());
            let back = (testbed.back.mac, SERVER_MAC);
            if kind == Kind::Ack {
                let mut header = TcpHeader::new(server.port(), local.port(), 1, 65535);
                // Some of the data that follows the request for the connection.
                (header.ack, header.acknowledgment_number) = (true, 1100);
                let segment = frame::segment(&header, server.ip(), local.ip(), b"");
                let packet = frame::ip(server.ip(), local.ip(), 0, 64, TCP, &segment);
                programs.run_tc(testbed.back, &frame::ethernet(back.0, back.1, &packet))?;
            }
            let sides = [
                ("fullnat", testbed.front, flows::run(kind, macs, from, to, 1)?),
                ("fullnat reply", testbed.back, flows::run(kind, back, server, local, 1)?),
            ];
            for (side, port, run) in sides {
                cases.push(Case {
                    name: format!("{side} {} {name}", family(v6)),
                    program: ours.try_clone()?,
                    run,
                    opener: None,
                    port,
                    verdict: xdp_verdict::REDIRECT,
                    grows: false,
                });
            }
        }
    }
    Ok(cases)
}
