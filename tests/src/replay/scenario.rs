//! Playing a scenario of `traffic.jsonl` or `random.jsonl`.

use std::net::{IpAddr, Ipv4Addr, TcpListener};
use std::time::Instant;

use anyhow::{Result, ensure};

use super::comparison::Injected;
use super::header::{Kind, headers, word};
use super::listing::Listing;
use super::network::Network;
use super::recording::{Hex, Port, Scenario, Step};
use crate::topology::Server;

/// A frame that is wished to differ from the recorded one.
struct Wish {
    scenario: &'static str,
    step: u32,
    /// Offset in the only frame that comes out, recorded bytes, ours.
    changes: &'static [(usize, [u8; 2], [u8; 2])],
    why: &'static str,
}

const WISHES: &[Wish] = &[Wish {
    scenario: "icmp4-dr-tun",
    step: 9,
    // The ICMP checksum and the MTU: 1480 and 1180.
    changes: &[(36, [0xc4, 0x84], [0xc5, 0xb0]), (40, [0x05, 0xc8], [0x04, 0x9c])],
    why: "a router says that 1200 bytes fit on the way to the real server; IPVS tells the client the MTU of its own device \
          less the tunnel's header, with which the client's packets would never arrive",
}];

/// Usual timeouts of connections, in seconds.
const TIMEOUTS: [u64; 8] = [10, 30, 60, 120, 180, 300, 360, 900];

impl Scenario {
    /// Plays it on a director that knows nothing; what differs is an error.
    pub fn play(&self, network: &Network) -> Result<()> {
        let start = &self.start;
        network.set_mtu(Port::Client, start.client_mtu)?;
        network.set_mtu(Port::Server, start.server_mtu)?;
        let _mark = start.mark.map(|_| network.mark()).transpose()?;
        // Real IPVS was recorded, whose answers of one-packet scheduling keep the real server's address.
        network.lvsadm("sysctl one_packet_nat=0")?;
        for setting in &start.sysctls {
            network.lvsadm(&format!("sysctl {setting}"))?;
        }
        let mut play = Play::new(self, network);
        self.steps.iter().try_for_each(|step| play.step(step))?;
        let late = network.late()?;
        ensure!(play.wrong.is_empty() && late == 0, "{}\n{late} late frames", play.wrong.join("\n"));
        Ok(())
    }
}

struct Play<'a> {
    scenario: &'a Scenario,
    network: &'a Network,
    begin: Instant,
    gue_ports: Vec<u16>,
    timeouts: Vec<u64>,
    /// The last frame that was injected.
    last: Option<(Port, &'a [u8])>,
    servers: Vec<(Server, TcpListener)>,
    /// What differed.
    wrong: Vec<String>,
}

impl<'a> Play<'a> {
    fn new(scenario: &'a Scenario, network: &'a Network) -> Self {
        let (mut gue_ports, mut timeouts) = (Vec::new(), TIMEOUTS.to_vec());
        for step in &scenario.steps {
            let Step::Command { arguments, .. } = step else { continue };
            let words: Vec<_> = arguments.split(' ').collect();
            for pair in words.windows(2) {
                match pair[0] {
                    "--tun-port" => gue_ports.extend(pair[1].parse::<u16>()),
                    "-p" => timeouts.extend(pair[1].parse::<u64>()),
                    _ => {}
                }
            }
        }
        let (begin, servers, wrong) = (Instant::now(), Vec::new(), Vec::new());
        Play { scenario, network, begin, gue_ports, timeouts, last: None, servers, wrong }
    }

    fn step(&mut self, step: &'a Step) -> Result<()> {
        match step {
            Step::Start(_) => {}
            Step::Command { step, arguments, stdout, exact } => self.command(*step, arguments, stdout, *exact)?,
            Step::Inject { step, port, note, frames, out } => self.inject(*step, *port, note, frames, out)?,
            Step::State { step, case, line } => self.state(*step, case, line)?,
            Step::Sysctl { setting } => drop(self.network.lvsadm(&format!("sysctl {setting}"))?),
            Step::Servers => self.start_servers()?,
        }
        Ok(())
    }

    fn command(&mut self, step: u32, arguments: &str, recorded: &str, exact: bool) -> Result<()> {
        let got = self.network.lvsadm(arguments)?;
        let elapsed = self.begin.elapsed().as_secs();
        if !Listing::of(arguments, exact).same(recorded, &got, elapsed, &self.timeouts) {
            self.wrong.push(format!("[{step}] {arguments}: recorded\n{recorded}now\n{got}"));
        }
        Ok(())
    }

    fn inject(&mut self, step: u32, port: Port, note: &str, frames: &'a [Hex], out: &[(Port, Hex)]) -> Result<()> {
        self.last = frames.last().map(|frame| (port, &*frame.0));
        let frames: Vec<Vec<u8>> = frames.iter().map(|frame| frame.0.clone()).collect();
        let recorded = |port| -> Vec<Vec<u8>> {
            out.iter().filter(|(at, _)| *at == port).map(|(_, frame)| frame.0.clone()).collect()
        };
        let mut expected = [recorded(Port::Client), recorded(Port::Server)];
        if port == Port::Client && !kernel_has_sctp() && expected[0].iter().any(|frame| is_abort(frame)) {
            // The recorded kernel's own SCTP answered.
            return self.network.exchange(port, &frames, (0, 0)).map(drop);
        }
        for wish in WISHES.iter().filter(|wish| (wish.scenario, wish.step) == (&*self.scenario.start.scenario, step)) {
            let frame = expected.iter_mut().flatten().next();
            frame.map(|frame| apply(wish, frame)).transpose()?;
        }
        let late = self.network.late()?;
        if late != 0 {
            self.wrong.push(format!("{late} frames came late before step {step}"));
        }
        let caught = self.network.exchange(port, &frames, (expected[0].len(), expected[1].len()))?;
        let injected = Injected::new(&frames, &self.gue_ports);
        for (port, expected) in [Port::Client, Port::Server].into_iter().zip(expected) {
            let differences = injected.compare(&expected, caught.at(port));
            if !differences.is_empty() {
                self.wrong.push(format!("[{step}] {note}: at the {port:?} port\n{}", differences.join("\n")));
            }
        }
        Ok(())
    }

    fn state(&mut self, step: u32, case: &str, recorded: &[String]) -> Result<()> {
        let Some((port, frame)) = self.last else { return Ok(()) };
        let tcp = headers(frame, &[]).into_iter().find(|header| header.kind == Kind::Tcp).map_or(0, |tcp| tcp.at);
        let client = word(frame, if port == Port::Client { tcp } else { tcp + 2 }).unwrap_or(0);
        let list = self.network.lvsadm("-Lcn")?;
        let of_client = format!(":{client} ");
        let lines: Vec<&str> = list.lines().filter(|line| line.contains(&of_client)).collect();
        let (recorded, got) = (recorded.join("\n"), lines.join("\n"));
        if !Listing::Connections.same(&recorded, &got, 0, &self.timeouts) {
            self.wrong.push(format!("[{step}] after {case}: recorded\n{recorded}\nnow\n{got}"));
        }
        Ok(())
    }

    fn start_servers(&mut self) -> Result<()> {
        let director = self.network.director();
        let any = IpAddr::V4(Ipv4Addr::UNSPECIFIED);
        let answerer = Server::echo(director, any, 5353, "re:")?;
        let listener = director.enter(|| Ok(TcpListener::bind((any, 8080))?))?;
        self.servers.push((answerer, listener));
        Ok(())
    }
}

/// Makes a recorded frame what it is wished to be.
fn apply(wish: &Wish, frame: &mut [u8]) -> Result<()> {
    for (at, recorded, ours) in wish.changes {
        let place = &mut frame[*at..*at + 2];
        ensure!(place == recorded, "this is not the frame of the wish that {}", wish.why);
        place.copy_from_slice(ours);
    }
    Ok(())
}

/// Whether the kernel could answer SCTP itself.
fn kernel_has_sctp() -> bool {
    std::fs::read_to_string("/proc/net/protocols").is_ok_and(|list| list.lines().any(|line| line.starts_with("SCTP")))
}

/// Whether a frame is an SCTP ABORT.
fn is_abort(frame: &[u8]) -> bool {
    headers(frame, &[]).iter().any(|header| header.kind == Kind::Sctp && frame.get(header.at + 12) == Some(&6))
}
