//! Connections whose replies pass the director or do not, whichever way its mode sends them: the client's FIN means another state
//! then (`IP_VS_CONN_F_NOOUTPUT`).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use anyhow::Result;
use etherparse::TcpHeader;
use tests::fixtures::frame::{self, TCP};
use tests::fixtures::{CLIENT_MAC, CLIENTS, SERVER, SERVER_MAC, Testbed, xdp_verdict};

/// A virtual address that the director does not have: no packet may come to a host from one of its own.
fn virt(v6: bool) -> IpAddr {
    if v6 { Ipv6Addr::new(0x2001, 0xdb8, 0x77, 0, 0, 0, 0, 7).into() } else { Ipv4Addr::new(203, 0, 113, 7).into() }
}

/// A segment without data.
fn segment(from: SocketAddr, to: SocketAddr, change: impl FnOnce(&mut TcpHeader)) -> Vec<u8> {
    let mut header = TcpHeader::new(from.port(), to.port(), 1, 64240);
    change(&mut header);
    frame::ip(from.ip(), to.ip(), 0, 64, TCP, &frame::segment(&header, from.ip(), to.ip(), b""))
}

#[test]
fn a_clients_fin_is_another_event_once_replies_were_seen() -> Result<()> {
    let testbed = Testbed::new()?;
    let routers = [false, true].map(|v6| format!("route add default via {}", CLIENTS.of(v6)));
    testbed.director.ip(&routers)?;
    // The address is not the director's own, so it would route on what is for it.
    testbed.director.lvsadm("sysctl transit=1")?;
    testbed.director.lvsadm("attach --mode native")?;
    for v6 in [false, true] {
        let service = SocketAddr::new(virt(v6), 80);
        testbed.director.lvsadm(&format!("-A -t {service} -s rr"))?;
        testbed.director.lvsadm(&format!("-a -t {service} -r {} -g", SocketAddr::new(SERVER.of(v6), 80)))?;
        for (port, by_xdp, answers) in [(1, false, false), (2, false, true), (3, true, false), (4, true, true)] {
            let client = SocketAddr::new(CLIENTS.of(v6), 20_000 + port);
            let packets = [
                Some((client, segment(client, service, |h| h.syn = true))),
                Some((client, segment(client, service, |h| h.ack = true))),
                answers.then(|| (service, segment(service, client, |h| h.ack = true))),
                Some((client, segment(client, service, |h| (h.fin, h.ack) = (true, true)))),
            ];
            testbed.with_programs(|programs| {
                for (from, packet) in packets.iter().flatten() {
                    let (at, mac) =
                        if *from == client { (testbed.front, CLIENT_MAC) } else { (testbed.back, SERVER_MAC) };
                    let frame = frame::ethernet(at.mac, mac, packet);
                    // What XDP passes, TC gets.
                    if !by_xdp || programs.run_xdp(at, &frame)?.verdict == xdp_verdict::PASS {
                        programs.run_tc(at, &frame)?;
                    }
                }
                Ok(())
            })?;
            let connections = testbed.director.connections()?;
            let own = connections.iter().find(|c| c["client"]["port"] == client.port());
            let state = own.map(|c| c["state"].as_str().unwrap_or_default());
            let expected = if answers { "CLOSE_WAIT" } else { "FIN_WAIT" };
            assert_eq!(state, Some(expected), "IPv6: {v6}, XDP: {by_xdp}, answers: {answers}");
        }
    }
    Ok(())
}
