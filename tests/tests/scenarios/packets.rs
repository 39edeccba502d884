//! Packet in, verdict and packet out: every fixture through the XDP program and the TC program of a real director, by
//! `BPF_PROG_TEST_RUN`.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use aya::maps::Array;
use aya::programs::{SchedClassifier, TestRun, TestRunOptions};
use tests::fixtures::{
    self, CLIENT_MAC, CLIENTS, Chosen, Expected, Fixture, MODES, Macs, Outcome, Port, Programs, SERVER, SERVER_MAC,
    Shape, Side, Testbed, frame, tc_verdict, xdp_verdict,
};
use tests::topology::PacketSocket;

/// The verdicts of a tier: passed, sent.
type Verdicts = (u32, u32);

const XDP: Verdicts = (xdp_verdict::PASS, xdp_verdict::REDIRECT);
const TC: Verdicts = (tc_verdict::PASS, tc_verdict::REDIRECT);

/// Source ports that tunnels may choose (RFC 6335's dynamic ports).
const TUNNEL_PORTS: std::ops::RangeInclusive<u16> = 49152..=65535;

/// The director with the rules of all modes.
fn director() -> Result<Testbed> {
    let testbed = Testbed::new()?;
    testbed.director.lvsadm("attach --mode native")?;
    testbed.restore(&fixtures::rules())?;
    testbed.director.lvsadm(&fixtures::only_port())?;
    Ok(testbed)
}

/// Runs every fixture through one tier; all that are not as expected are told.
fn check(
    run: fn(&Programs, Port, &[u8]) -> Result<Outcome>,
    expected: fn(&Fixture) -> &Expected,
    verdicts: Verdicts,
) -> Result<()> {
    let testbed = director()?;
    let macs = Macs { front: testbed.front.mac, back: testbed.back.mac };
    let wrong = testbed.with_programs(|programs| {
        let mut wrong = Vec::new();
        for fixture in fixtures::all(macs) {
            let port = if fixture.side == Side::Front { testbed.front } else { testbed.back };
            let opener = fixture.opener.as_deref().map(|frame| (testbed.front, frame));
            // XDP hands up what it cannot finish, so it is TC that opens those connections. The second time around, the
            // next hop is known.
            for (port, frame) in opener.into_iter().chain([(port, &*fixture.frame)]) {
                programs.run_tc(port, frame).with_context(|| fixture.name.clone())?;
            }
            let outcome = run(programs, port, &fixture.frame).with_context(|| fixture.name.clone())?;
            if let Err(error) = compare(&fixture, expected(&fixture), verdicts, &outcome) {
                wrong.push(format!("{}: {error:#}", fixture.name));
            }
        }
        Ok(wrong)
    })?;
    ensure!(wrong.is_empty(), "{} are wrong:\n{}", wrong.len(), wrong.join("\n"));
    Ok(())
}

fn compare(fixture: &Fixture, expected: &Expected, verdicts: Verdicts, outcome: &Outcome) -> Result<()> {
    let (verdict, frame) = match expected {
        Expected::Any => return Ok(()),
        Expected::Passed => (verdicts.0, fixture.frame.clone()),
        Expected::Sent(frame) => {
            let chosen = match fixture.tunnel {
                None => Chosen::default(),
                Some(tunnel) => tunnel.chosen(&outcome.frame).context("too short for a tunnel")?,
            };
            let port_is_fit = chosen.port == 0 || TUNNEL_PORTS.contains(&chosen.port);
            ensure!(port_is_fit, "source port {} of the tunnel", chosen.port);
            (verdicts.1, frame(chosen))
        }
    };
    ensure!(outcome.verdict == verdict, "verdict {} instead of {verdict}", outcome.verdict);
    if outcome.frame != frame {
        bail!("\n  got      {}\n  expected {}", hex(&outcome.frame), hex(&frame));
    }
    Ok(())
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[test]
fn xdp() {
    check(Programs::run_xdp, |fixture| &fixture.xdp, XDP).unwrap();
}

#[test]
fn tc() {
    check(Programs::run_tc, |fixture| &fixture.tc, TC).unwrap();
}

/// What the data plane's atomics return: the compiler has got that wrong before.
#[test]
fn atomics_return_what_was_there() {
    let mut ebpf = tests::bench_object().unwrap();
    let mut words: Array<_, [u64; 8]> = ebpf.take_map("ATOMICS").unwrap().try_into().unwrap();
    words.set(0, [1, 2, 0, 0, 0, 0, 0, 0], 0).unwrap();
    let program: &mut SchedClassifier = ebpf.program_mut("test_atomics").unwrap().try_into().unwrap();
    program.load().unwrap();
    let frame = [0; 64];
    let result = program.test_run(TestRunOptions { data_in: Some(&frame), ..TestRunOptions::default() }).unwrap();
    assert_eq!(result.return_value, 0);
    // The words at the end; what two additions, two exchanges and two vain comparisons found; two that stored, and what bits
    // were there before others were set or cleared.
    let expected = [2, 6, 1, 2, 6, 2 + (1 << 40), 7 << 32 | 9, 11 << 16 | 15 << 8 | 1];
    assert_eq!(words.get(&0, 0).unwrap(), expected);
}

/// A datagram without a checksum has one when FullNAT has changed it, as its receiver could not tell otherwise.
#[test]
fn fullnat_fills_in_a_missing_checksum() {
    let testbed = director().unwrap();
    let number = MODES.iter().position(|mode| mode.shape == Shape::FullNat { crossed: false }).unwrap();
    let (client, service) = (SocketAddr::new(CLIENTS.of(false), 30_000), fixtures::service(number, false));
    let packet = |from: SocketAddr, to: SocketAddr, ttl, segment: &[u8]| {
        frame::ip(from.ip(), to.ip(), 0, ttl, frame::UDP, segment)
    };
    let request = packet(client, service, 64, &frame::udp_unsummed(client, service, b"odd"));
    let request = frame::ethernet(testbed.front.mac, CLIENT_MAC, &request);
    let (local, server) = (fixtures::local(false), SocketAddr::new(SERVER.of(false), service.port()));
    let expected = packet(local, server, 63, &frame::udp(local, server, b"odd"));
    let expected = frame::ethernet(SERVER_MAC, testbed.back.mac, &expected);
    testbed
        .with_programs(|programs| {
            // The next hop is known from the second packet on.
            programs.run_tc(testbed.front, &request)?;
            let outcome = programs.run_xdp(testbed.front, &request)?;
            assert_eq!((outcome.verdict, outcome.frame), (xdp_verdict::PASS, request.clone()));
            let outcome = programs.run_tc(testbed.front, &request)?;
            assert_eq!((outcome.verdict, outcome.frame), (tc_verdict::REDIRECT, expected));
            Ok(())
        })
        .unwrap();
}

/// A new connection is made by whichever tier meets its first packet, in the same way.
#[test]
fn first_packets_in_xdp() {
    let testbed = director().unwrap();
    let macs = Macs { front: testbed.front.mac, back: testbed.back.mac };
    testbed
        .with_programs(|programs| {
            for fixture in fixtures::all(macs).iter().filter(|fixture| fixture.opener.is_none()) {
                let outcome = programs.run_xdp(testbed.front, &fixture.frame)?;
                compare(fixture, &fixture.xdp, XDP, &outcome).context(fixture.name.clone())?;
            }
            Ok(())
        })
        .unwrap();
}

/// What belongs to a VLAN is not the business of the device that carries it: TC sees the tag beside the packet, XDP in it.
#[test]
fn a_vlans_frames_are_left_to_its_device() {
    let testbed = director().unwrap();
    let (wire, servers) =
        (PacketSocket::open(&testbed.clients, "eth0").unwrap(), PacketSocket::open(&testbed.servers, "eth0").unwrap());
    let request = |port| {
        let (client, service) = (SocketAddr::new(CLIENTS.of(false), port), fixtures::service(0, false));
        let packet = frame::ip(client.ip(), service.ip(), 0, 64, frame::TCP, &frame::tcp(client, service, true, b""));
        frame::ethernet(testbed.front.mac, CLIENT_MAC, &packet)
    };
    for (tier, port) in [("native", 1000), ("tc", 2000)] {
        testbed.director.lvsadm(&format!("attach --mode {tier}")).unwrap();
        // Frames are served in turn.
        for frame in [frame::tagged(&request(port), 10), request(port + 1)] {
            wire.send(&frame).unwrap();
        }
        let is_request = |frame: &[u8]| frame[12..14] == [8, 0] && frame[23] == frame::TCP;
        let frame = servers.receive(Duration::from_secs(5), is_request).unwrap().expect("the frame without a tag");
        assert_eq!(frame[34..36], (port + 1).to_be_bytes(), "{tier}");
    }
}

/// After a cookie there may be an ABORT in the same packet, which ends the association.
#[test]
fn an_abort_after_a_cookie_closes() {
    let testbed = Testbed::new().unwrap();
    let director = &testbed.director;
    director.lvsadm("attach --mode native").unwrap();
    for v6 in [false, true] {
        let service = SocketAddr::new(fixtures::vip(v6), 7000);
        director.lvsadm(&format!("-A --sctp-service {service} -s rr")).unwrap();
        director
            .lvsadm(&format!("-a --sctp-service {service} -r {} -m", SocketAddr::new(SERVER.of(v6), 7000)))
            .unwrap();
        let cookie = [&[10, 0, 0, 9, 1, 2, 3, 4, 5, 0, 0, 0][..], &[3, 0, 0, 4]].concat();
        let aborted = [&[10, 0, 0, 9, 1, 2, 3, 4, 5, 0, 0, 0][..], &[6, 0, 0, 4]].concat();
        for (port, chunks, state) in [(4000, cookie, "INIT"), (4001, aborted, "CLOSED")] {
            let client = SocketAddr::new(CLIENTS.of(v6), port);
            let send = |transport: Vec<u8>| {
                let packet = frame::ip(client.ip(), service.ip(), 0, 64, 132, &transport);
                let frame = frame::ethernet(testbed.front.mac, CLIENT_MAC, &packet);
                testbed.with_programs(|programs| {
                    // XDP leaves cookies to TC.
                    programs.run_xdp(testbed.front, &frame)?;
                    programs.run_tc(testbed.front, &frame)
                })
            };
            send(frame::sctp(client, service)).unwrap();
            send(frame::sctp_chunks(client, service, &chunks)).unwrap();
            let connections = director.connections().unwrap();
            let found = connections.iter().find(|c| c["client"]["port"] == port && c["protocol"] == "sctp");
            let is_right = |c: &serde_json::Value| c["state"] == state;
            assert!(found.is_some_and(is_right), "{state} is not there: {connections:?}");
        }
        director.lvsadm("-C").unwrap();
    }
}

/// Errors of the director's own are rationed as the host's are: six at once for one receiver, and none of a kind that is not
/// limited is kept back.
#[test]
fn icmp_errors_keep_to_the_hosts_limits() {
    let testbed = Testbed::new().unwrap();
    let director = &testbed.director;
    director.lvsadm("attach --mode native").unwrap();
    for v6 in [false, true] {
        let service = SocketAddr::new(fixtures::vip(v6), 7000);
        director.lvsadm(&format!("-A -u {service} -s rr")).unwrap();
        let name = if v6 { "net/ipv6/icmp/ratelimit" } else { "net/ipv4/icmp_ratelimit" };
        // A minute, so that no token comes meanwhile; then no limit.
        for (interval, expected) in [(60_000, 6), (0, 20)] {
            director.sysctl(&[&format!("{name}={interval}")]).unwrap();
            // A command reads them.
            director.lvsadm("-L -n").unwrap();
            let counts = || (director.exit("icmp-sent").unwrap(), director.exit("icmp-limited").unwrap());
            let (sent, limited) = counts();
            let client = SocketAddr::new(CLIENTS.of(v6), 4000);
            let packet = frame::ip(client.ip(), service.ip(), 0, 64, 17, &frame::udp(client, service, b"?"));
            let frame = frame::ethernet(testbed.front.mac, CLIENT_MAC, &packet);
            for _ in 0..20 {
                testbed.with_programs(|programs| programs.run_tc(testbed.front, &frame)).unwrap();
            }
            let after = counts();
            assert_eq!((after.0 - sent, after.1 - limited), (expected, 20 - expected), "v6 {v6}, {interval} ms");
        }
        director.lvsadm("-C").unwrap();
    }
}
