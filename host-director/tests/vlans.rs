//! Frames with VLANs' tags in XDP: they are served as the same frames without tags are at the VLANs' own devices.

use aya_ebpf::network::{Device, Route, Way};
use aya_ebpf::program::Tier;
use aya_ebpf::skb::Incoming;
use host_director::director::Director;
use host_director::director::packet::{Fate, Outcome};
use host_director::director::rules::{Destination, Ip, Service};
use lvs_common::abi::{Address, Forward, Scheduler};

/// The devices of the clients' and of the real servers' network, and the one that carries both.
const CLIENTS: u32 = 2;
const SERVERS: u32 = 3;
const TRUNK: u32 = 5;
const MACS: [(u32, [u8; 6]); 3] =
    [(CLIENTS, [2, 0, 0, 0, 1, 2]), (SERVERS, [2, 0, 0, 0, 1, 3]), (TRUNK, [2, 0, 0, 0, 1, 5])];
const VLANS: [(u32, u16); 2] = [(CLIENTS, 10), (SERVERS, 20)];
const SYN: u8 = 2;
const ACK: u8 = 16;

/// A family's addresses: a client, the virtual one, a real server, a local one.
const ADDRESSES: [[Ip; 4]; 2] = [
    [Ip::v4([10, 1, 0, 100]), Ip::v4([192, 0, 2, 10]), Ip::v4([10, 2, 0, 11]), Ip::v4([10, 2, 0, 1])],
    [v6(1, 100), v6(0xf, 10), v6(2, 11), v6(2, 1)],
];

const fn v6(network: u8, host: u8) -> Ip {
    Ip::v6([0x20, 1, 0xd, 0xb8, 0, network, 0, 0, 0, 0, 0, 0, 0, 0, 0, host])
}

fn director(addresses: &[Ip; 4], forward: Forward) -> Director {
    let mut director = Director::new(&MACS.map(|(index, mac)| Device { index, mtu: 1500, mac }));
    let [client, vip, server, local] = *addresses;
    let route = |to: Ip, device| Route {
        family: if to.is_v4() { 2 } else { 10 },
        prefix: to.padded(),
        length: if to.is_v4() { 24 } else { 64 },
        way: Way::Out { device, gateway: None, mtu: 0, source: local.padded() },
    };
    let own = |to: Ip| Route { length: if to.is_v4() { 32 } else { 128 }, way: Way::Local, ..route(to, CLIENTS) };
    director.kernel.network.borrow_mut().routes =
        vec![route(client, CLIENTS), route(server, SERVERS), own(vip), own(local)];
    let service = director.add_service(&Service::new(6, vip, 80, Scheduler::Rr)).unwrap();
    let mut destination = Destination::new(server, 80, forward);
    destination.source = Address::v6(local.padded());
    if let Ok(octets) = local.octets().try_into() {
        destination.source = Address::v4(octets);
    }
    director.add_dest(service, &destination).unwrap();
    director.set_locals(&[local]);
    director.commit();
    director
}

fn mac(device: u32) -> [u8; 6] {
    MACS.into_iter().find(|(index, _)| *index == device).unwrap().1
}

/// A segment of TCP to a device. Its checksum is nobody's concern here.
fn segment(device: u32, from: (Ip, u16), to: (Ip, u16), flags: u8) -> Vec<u8> {
    let mut frame = [mac(device), [2, 0, 0, 0, 9, 9]].concat();
    if from.0.is_v4() {
        frame.extend([8, 0, 0x45, 0, 0, 40, 0, 0, 0x40, 0, 64, 6, 0, 0]);
    } else {
        frame.extend([0x86, 0xdd, 0x60, 0, 0, 0, 0, 20, 6, 64]);
    }
    frame.extend(from.0.octets());
    frame.extend(to.0.octets());
    frame.extend(from.1.to_be_bytes());
    frame.extend(to.1.to_be_bytes());
    frame.extend([0, 0, 1, 0, 0, 0, 2, 0, 0x50, flags, 0x20, 0, 0, 0, 0, 0]);
    frame
}

/// The frame with a tag.
fn tagged(frame: &[u8], vlan: u16, priority: u16) -> Vec<u8> {
    let said = (priority << 13 | vlan).to_be_bytes();
    [&frame[..12], &[0x81, 0], &said, &frame[12..]].concat()
}

fn receive(director: &mut Director, device: u32, frame: &[u8]) -> Outcome {
    director.receive(frame, &Incoming { linear: usize::MAX, device, place: device, ..Incoming::default() })
}

/// Has a frame come in with a tag, or without: as the kernel does, at the VLAN's own device if XDP leaves it.
fn receive_at(director: &mut Director, device: u32, frame: &[u8], is_tagged: bool) -> Outcome {
    let Some((_, vlan)) = VLANS.into_iter().find(|(vlan, _)| is_tagged && *vlan == device) else {
        return receive(director, device, frame);
    };
    let outcome = receive(director, TRUNK, &tagged(frame, vlan, 3));
    if outcome.tier == Tier::Xdp {
        return outcome;
    }
    assert_eq!(outcome.fate, Fate::Stack, "TC takes a frame with a tag for its own");
    let incoming = Incoming { linear: usize::MAX, device, place: device, ..Incoming::default() };
    director.receive_tc(frame, &incoming)
}

/// What left: the device, the MAC addresses unless the kernel's neighbour output writes them, and the rest of the frame without its tag.
type Left = (u32, Option<Vec<u8>>, Vec<u8>);

fn left(outcome: &Outcome) -> Left {
    let [sent] = outcome.sent.as_slice() else { panic!("{} packets left", outcome.sent.len()) };
    let macs = sent.to.neighbour.is_none().then(|| sent.bytes[..12].to_vec());
    if sent.bytes[12..14] != [0x81, 0] {
        return (sent.to.device, macs, sent.bytes[12..].to_vec());
    }
    assert_eq!(sent.to.device, TRUNK, "a frame with a tag leaves by the device that carries it");
    let said = u16::from_be_bytes([sent.bytes[14], sent.bytes[15]]);
    let (device, _) = VLANS.into_iter().find(|(_, vlan)| *vlan == said).expect("a VLAN, without a priority");
    (device, macs, sent.bytes[16..].to_vec())
}

fn same(carried: &Outcome, plain: &Outcome, what: &str) {
    let (carried, plain) = (left(carried), left(plain));
    assert_eq!((carried.0, &carried.2), (plain.0, &plain.2), "{what}");
    if let (Some(carried), Some(plain)) = (carried.1, plain.1) {
        assert_eq!(carried, plain, "{what}: MAC addresses");
    }
}

#[test]
fn a_frame_with_a_tag_is_served_as_without() {
    let forwards = [Forward::Masq, Forward::Route, Forward::Tunnel, Forward::FullNat];
    // Which of the two networks are VLANs.
    for vlans in [[true, true], [true, false], [false, true]] {
        for (addresses, forward) in ADDRESSES.iter().flat_map(|family| forwards.map(|forward| (family, forward))) {
            let what = format!("{forward:?}, {:?}, VLANs {vlans:?}", addresses[1]);
            let [client, vip, server, local] = *addresses;
            let mut plain = director(addresses, forward);
            let mut carried = director(addresses, forward);
            for ((device, vlan), is_vlan) in VLANS.into_iter().zip(vlans) {
                if is_vlan {
                    carried.set_vlan(device, TRUNK, vlan);
                }
            }
            let mut in_xdp = 0;
            for (turn, flags) in [SYN, ACK, ACK, ACK].into_iter().enumerate() {
                let request = segment(CLIENTS, (client, 4000), (vip, 80), flags);
                let expected = receive(&mut plain, CLIENTS, &request);
                let outcome = receive_at(&mut carried, CLIENTS, &request, vlans[0]);
                same(&outcome, &expected, &format!("{what}, request {turn}"));
                in_xdp += u32::from(outcome.tier == Tier::Xdp);
                // The real server answers what it got.
                if matches!(forward, Forward::Route | Forward::Tunnel) {
                    continue;
                }
                let ports = &left(&expected).2[if client.is_v4() { 22 } else { 42 }..][..4];
                let port = u16::from_be_bytes([ports[0], ports[1]]);
                let peer = if forward == Forward::FullNat { local } else { client };
                let answer = segment(SERVERS, (server, 80), (peer, port), ACK);
                let expected = receive(&mut plain, SERVERS, &answer);
                let outcome = receive_at(&mut carried, SERVERS, &answer, vlans[1]);
                same(&outcome, &expected, &format!("{what}, answer {turn}"));
                in_xdp += u32::from(outcome.tier == Tier::Xdp);
            }
            assert!(in_xdp >= 2, "{what}: XDP serves {in_xdp} packets");
            assert_eq!(carried.contradictions(), Vec::<String>::new(), "{what}");
        }
    }
}

#[test]
fn frames_of_other_vlans_and_other_hosts_pass_as_they_came() {
    let addresses = &ADDRESSES[0];
    let [client, vip, ..] = *addresses;
    let mut director = director(addresses, Forward::Masq);
    director.set_vlan(CLIENTS, TRUNK, 10);
    let request = segment(CLIENTS, (client, 4000), (vip, 80), ACK);
    let first = segment(CLIENTS, (client, 4000), (vip, 80), SYN);
    receive_at(&mut director, CLIENTS, &first, true);
    let known = receive(&mut director, TRUNK, &tagged(&request, 10, 0));
    assert_eq!(known.tier, Tier::Xdp, "the frames that differ from this one pass");
    let elsewhere = [&[2, 0, 0, 0, 8, 8], &request[6..]].concat();
    for (frame, what) in [
        (tagged(&request, 11, 0), "another VLAN"),
        (tagged(&request, 0, 5), "a priority without a VLAN"),
        (tagged(&elsewhere, 10, 0), "another host"),
        (tagged(&tagged(&request, 10, 0), 10, 0), "two tags"),
        (tagged(&request, 10, 0)[..17].to_vec(), "too short"),
    ] {
        // `receive` checks that XDP leaves a frame as it came.
        let outcome = receive(&mut director, TRUNK, &frame);
        assert_eq!((outcome.fate, outcome.sent.len()), (Fate::Stack, 0), "{what}");
    }
}
