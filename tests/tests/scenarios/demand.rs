//! Programs that are loaded when something needs them.

use std::fs;
use std::net::SocketAddr;

use tests::fixtures::frame::{self, UDP};
use tests::fixtures::{CLIENT_MAC, CLIENTS, Programs, SERVER, Testbed, tc_verdict, vip, xdp_verdict};

/// Makes a name service of a family.
fn serve(testbed: &Testbed, v6: bool) {
    let (service, server) = (SocketAddr::new(vip(v6), 53), SocketAddr::new(SERVER.of(v6), 53));
    testbed.director.lvsadm(&format!("-A -u {service} -s rr")).unwrap();
    testbed.director.lvsadm(&format!("-a -u {service} -r {server} -m")).unwrap();
}

/// What XDP and TC make of a datagram to the name service.
fn verdicts(testbed: &Testbed, v6: bool) -> [u32; 2] {
    let (client, service) = (SocketAddr::new(CLIENTS.of(v6), 5353), SocketAddr::new(vip(v6), 53));
    let packet = frame::ip(client.ip(), service.ip(), 0, 64, UDP, &frame::udp(client, service, b"?"));
    let frame = frame::ethernet(testbed.front.mac, CLIENT_MAC, &packet);
    let run = |programs: &Programs| {
        Ok([programs.run_xdp(testbed.front, &frame)?.verdict, programs.run_tc(testbed.front, &frame)?.verdict])
    };
    testbed.with_programs(run).unwrap()
}

#[test]
fn ipv6_passes_until_a_rule_needs_it() {
    let testbed = Testbed::new().unwrap();
    serve(&testbed, false);
    assert_eq!(verdicts(&testbed, false)[1], tc_verdict::REDIRECT);
    assert_eq!(verdicts(&testbed, true), [xdp_verdict::PASS, tc_verdict::PASS]);
    let exits = testbed.director.exits().unwrap();
    assert!(exits["not-ours"] >= 1 && exits["drop-tail-call"] == 0, "{exits:?}");
    serve(&testbed, true);
    assert_eq!(verdicts(&testbed, true)[1], tc_verdict::REDIRECT);
    assert_eq!(verdicts(&testbed, false)[1], tc_verdict::REDIRECT);
}

#[test]
fn xdp_is_loaded_for_the_first_device_that_may_take_it() {
    let testbed = Testbed::new().unwrap();
    testbed.director.lvsadm("attach --mode tc").unwrap();
    let pins = testbed.director.json("status --json").unwrap()["pins"].as_str().unwrap().to_owned();
    let is_loaded = || fs::exists(format!("{pins}/lvs_xdp")).unwrap();
    serve(&testbed, false);
    serve(&testbed, true);
    assert!(!is_loaded(), "no device takes it");
    testbed.director.lvsadm("attach --mode native").unwrap();
    assert!(is_loaded());
    for v6 in [false, true] {
        // The first one finds the next hop in TC.
        verdicts(&testbed, v6);
        assert_eq!(verdicts(&testbed, v6), [xdp_verdict::REDIRECT, tc_verdict::REDIRECT], "IPv6: {v6}");
    }
}
