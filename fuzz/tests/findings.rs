//! What searches have found, a test each.

use aya_ebpf::program::Tier;
use aya_ebpf::skb::Incoming;
use fuzz::packets::frames::{Plan, finish, frame, packet, sum};
use fuzz::packets::world::{self, CLIENTS, VIP4, client, server};
use host_director::director::Director;
use host_director::director::packet::{Fate, Outcome};
use host_director::director::rules::{Destination, Service};
use lvs_common::abi::{EntryKind, Forward, Scheduler, service_flags};
use lvs_common::exit::Exit;
use lvs_common::wire::{icmp, protocol, tcp_flags};

/// A director with a service for each destination, over these protocols.
fn director(services: &[(u8, u32, Destination)]) -> Director {
    let mut director = world::director();
    for (protocol, flags, destination) in services {
        let service = Service { flags: *flags, ..Service::new(*protocol, VIP4, 80, Scheduler::Rr) };
        let id = director.add_service(&service).unwrap();
        director.add_dest(id, destination).unwrap();
    }
    director.commit();
    director
}

/// A client's packet to the virtual address.
fn request(protocol: u8, port: u16) -> Vec<u8> {
    frame(&Plan {
        to: CLIENTS.1,
        ends: ((client(0, true), port), (VIP4, 80)),
        protocol,
        flags: tcp_flags::SYN,
        options: &[],
        length: 10,
        ttl: 64,
        df: false,
        is_unsummed: false,
    })
}

fn receive(director: &mut Director, frame: &[u8]) -> Outcome {
    let (device, _) = CLIENTS;
    director.receive(frame, &Incoming { linear: usize::MAX, device, place: device, ..Incoming::default() })
}

/// Of the first packets to ports with a service, XDP makes the connections, or a search would never see XDP make one.
#[test]
fn xdp_makes_connections_of_services_and_leaves_other_ports_to_tc() {
    let routed = Destination::new(server(0, true), 80, Forward::Route);
    let mut director = director(&[(protocol::UDP, 0, routed)]);
    receive(&mut director, &request(protocol::UDP, 1000));
    assert_eq!(receive(&mut director, &request(protocol::UDP, 1001)).tier, Tier::Xdp);
    let other = receive(&mut director, &request(protocol::TCP, 1002));
    assert_eq!((other.tier, other.fate), (Tier::Tc, Fate::Stack));
}

/// The neighbour is known by another service, so XDP forwards the first packet already; the route tells the outer header's source, and
/// TC alone keeps it.
#[test]
fn a_tunnel_has_a_source_though_there_was_no_route_when_its_destination_was_added() {
    let tunnelled = Destination::new(server(0, true), 80, Forward::Tunnel);
    let routed = Destination::new(server(0, true), 80, Forward::Route);
    let mut director = director(&[(protocol::UDP, 0, routed), (protocol::TCP, 0, tunnelled)]);
    for port in 1000..1003 {
        assert_eq!(receive(&mut director, &request(protocol::UDP, port)).sent.len(), 1);
    }
    for port in 1000..1003 {
        let outcome = receive(&mut director, &request(protocol::TCP, port));
        assert_eq!(outcome.sent[0].bytes[26..30], [10, 2, 0, 1], "{outcome:?}");
    }
}

/// One-packet scheduling keeps no connection that the error could be about. The error was rewritten as if it were a datagram.
#[test]
fn an_icmp_error_for_a_one_packet_service_is_left_to_the_stack() {
    let masqueraded = Destination::new(server(0, true), 8080, Forward::Masq);
    let mut director = director(&[(protocol::UDP, service_flags::ONE_PACKET, masqueraded)]);
    director.set(|settings| settings.sysctls.schedule_icmp = 1);
    let reply = frame(&Plan {
        to: CLIENTS.1,
        ends: ((VIP4, 80), (client(0, true), 1000)),
        protocol: protocol::UDP,
        flags: 0,
        options: &[],
        length: 10,
        ttl: 64,
        df: false,
        is_unsummed: false,
    });
    let mut error = vec![icmp::UNREACHABLE, 3, 0, 0, 0, 0, 0, 0];
    error.extend(&reply[14..]);
    let check = finish(sum(&error));
    error[2..4].copy_from_slice(&check.to_be_bytes());
    let frame = packet(CLIENTS.1, (client(0, true), VIP4), protocol::ICMP, 64, false, &error);
    assert_eq!(receive(&mut director, &frame).fate, Fate::Stack);
    assert_eq!(director.packet(), frame);
}

/// XDP decided about a datagram of one-packet scheduling, and left it to TC, which decided again.
#[test]
fn a_new_connection_is_counted_once_by_the_defence() {
    let masqueraded = Destination::new(server(0, true), 80, Forward::Masq);
    let mut director = director(&[(protocol::UDP, service_flags::ONE_PACKET, masqueraded)]);
    director.set(|settings| settings.drop_rate = 4);
    for port in 1000..1040 {
        receive(&mut director, &request(protocol::UDP, port));
    }
    assert_eq!(director.exits()[Exit::DropDefence as usize], 10);
}

/// Connections keep their template, though it must not decide any more. A second one that is set aside beside it was taken for the
/// same entry in two places.
#[test]
fn a_client_may_have_several_templates_that_were_set_aside() {
    let mut director = world::director();
    let persistent =
        Service { flags: service_flags::PERSISTENT, timeout: 60, ..Service::new(17, VIP4, 80, Scheduler::Rr) };
    let service = director.add_service(&persistent).unwrap();
    for (port, host) in [(1000, 0), (1001, 1), (1002, 2)] {
        let dest = Destination::new(server(host, true), 80, Forward::Route);
        let id = director.add_dest(service, &dest).unwrap();
        director.commit();
        receive(&mut director, &request(protocol::UDP, port));
        director.remove_dest(service, id);
        director.commit();
    }
    let templates = director.places::<u32>(|c| c.kind == EntryKind::TEMPLATE);
    assert_eq!((templates.len(), director.contradictions()), (3, Vec::new()));
}
