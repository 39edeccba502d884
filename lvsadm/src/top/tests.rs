//! Pages as they are drawn, of a director that is made up.

use std::time::{Duration, SystemTime};

use lvs_common::abi::{Forward, Scheduler, Sync};
use lvs_director::dataplane::Defence;
use lvs_director::rules::{
    Destination, DestinationEntry, DestinationKey, Family, Protocol, Rates, Service, ServiceEntry, ServiceKey,
    Statistics,
};
use ratatui::Terminal;
use ratatui::backend::TestBackend;
use ratatui::crossterm::event::{KeyCode, KeyEvent};

use super::draw::{Palette, draw};
use super::once;
use super::pages::table;
use super::state::State;
use crate::grammar::subcommands::Page;
use crate::snapshot::Snapshot;

/// Service `number`, of a port of its own, with two real servers, after so many seconds.
fn service(number: u32, seconds: u64) -> ServiceEntry {
    let port = (number % 60_000) as u16 + 1;
    let address = std::net::IpAddr::from([10, 10, (number / 60_000) as u8, 10]);
    let counted = |part: u64| Statistics {
        conns: seconds * part * 10,
        in_packets: seconds * part * 100,
        out_packets: seconds * part * 90,
        in_bytes: seconds * part * 12_500,
        out_bytes: seconds * part * 1_250_000,
    };
    let server = |last: u8, weight| {
        let key = DestinationKey { address: [192, 168, 122, last].into(), port: 80 };
        DestinationEntry {
            destination: Destination { weight, ..Destination::new(key, Forward::Masq) },
            active: 5 * u32::from(last),
            inactive: 7,
            persistent: 0,
            statistics: counted(u64::from(last)),
            rates: Rates::default(),
        }
    };
    let weight = u32::from(number != 1);
    ServiceEntry {
        service: Service::new(ServiceKey::Address { protocol: Protocol::Tcp, address, port }, Scheduler::Wlc),
        statistics: counted(u64::from(number) + 3),
        rates: Rates::default(),
        destinations: vec![server(1, weight), server(2, 0)],
    }
}

fn snapshot(services: u32, seconds: u64) -> Snapshot {
    Snapshot {
        taken: SystemTime::UNIX_EPOCH + Duration::from_secs(1000 + seconds),
        services: (0..services).map(|number| service(number, seconds)).collect(),
        total: Statistics { conns: 30 * seconds, out_bytes: 1_000_000 * seconds, ..Statistics::default() },
        exits: vec![
            ("nat", "forwarded to a real server", 100 * seconds),
            ("drop-ttl", "dropped: the TTL ran out", 4 * seconds),
            ("drop-busy", "dropped: a bucket stayed locked", 0),
        ],
        defence: Defence {
            held: [(Family::V4, 8192), (Family::V6, 82)],
            room: 16_384,
            modes: [("drop_entry", "resting"), ("drop_packet", "working"), ("secure_tcp", "off")],
            drop_rate: 10,
            taken_out: 11,
        },
        lists: Vec::new(),
        fragments: (0, 4096),
        sync: Sync::default(),
        daemons: Vec::new(),
        advertised: None,
        observed: None,
    }
}

/// A state after two looks, two seconds apart.
fn state(services: u32) -> State {
    let mut state = State::default();
    state.take(Ok(snapshot(services, 10)));
    state.take(Ok(snapshot(services, 12)));
    state
}

/// The lines of a screen.
fn screen(state: &mut State, width: u16, height: u16) -> Vec<String> {
    let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
    terminal.draw(|frame| draw(frame, state, Palette::PLAIN)).unwrap();
    let buffer = terminal.backend().buffer();
    let line = |y| (0..width).map(|x| buffer[(x, y)].symbol()).collect::<String>().trim_end().to_owned();
    (0..height).map(line).collect()
}

fn press(state: &mut State, code: KeyCode) {
    let rows = table(state).count();
    state.press(KeyEvent::from(code), rows);
}

#[test]
fn eighty_columns_are_enough() {
    let mut state = state(3);
    let lines = screen(&mut state, 80, 10);
    assert_eq!(lines[0], " 3 services  30 conn/s  in 0 pkt/s 0 bit/s  out 0 pkt/s 8.00M bit/s  █");
    assert_eq!(lines[1], "!tables of 16384: inet █████░░░░░ 50 %  inet6 ░░░░░░░░░░ 0 %  dropped 4/s");
    assert!(lines[2].starts_with(" 1 services  2 service  3 exits  4 floods   sort: service"), "{}", lines[2]);
    assert_eq!(lines[3], " SERVICE                       UP/ALL  ACTIVE   INACT  CONN/s IN bit/s OUT bit/s");
    assert_eq!(lines[4], " TCP 10.10.0.10:1                 1/2      15      14      30     300k     30.0M");
    // Without a real server that takes connections, it is a fault, told without colour.
    assert_eq!(lines[5], "!TCP 10.10.0.10:2                 0/2      15      14      40     400k     40.0M");
    assert!(lines[9].starts_with(" q: quit"), "{}", lines[9]);
    assert!(lines.iter().all(|line| line.chars().count() <= 80));
}

#[test]
fn two_hundred_columns_show_everything() {
    let mut state = state(3);
    let lines = screen(&mut state, 200, 10);
    for title in ["SCHED", "TREND", "IN pkt/s", "OUT pkt/s", "CONNS", "IN pkts", "OUT pkts"] {
        assert!(lines[3].contains(title), "{title} in {}", lines[3]);
    }
    assert!(lines[4].contains("wlc") && lines[4].contains('█'), "{}", lines[4]);
    assert_eq!(once::text(&state, 200).lines().nth(4).unwrap(), lines[4]);
}

#[test]
fn pages_tell_of_one_service_of_exits_and_of_floods() {
    let mut state = state(3);
    press(&mut state, KeyCode::Down);
    press(&mut state, KeyCode::Enter);
    let lines = screen(&mut state, 80, 8);
    assert!(lines[3].starts_with(" TCP 10.10.0.10:2 ->"), "{}", lines[3]);
    assert!(lines[4].starts_with("!192.168.122.1:80"), "{}", lines[4]);
    press(&mut state, KeyCode::Char('3'));
    let lines = screen(&mut state, 80, 8);
    assert_eq!(lines[4], "!drop-ttl                       4             48  dropped: the TTL ran out");
    assert!(lines[5].starts_with(" nat                          100           1200"), "{}", lines[5]);
    press(&mut state, KeyCode::Char('4'));
    let lines = screen(&mut state, 80, 20);
    for part in ["connections, inet ", "██████████░░░░░░░░░░  50 %  8192 of 16384", "!drop_packet", "one in 10"]
    {
        assert!(lines.iter().any(|line| line.contains(part)), "{part} in {lines:#?}");
    }
}

#[test]
fn of_many_services_only_those_that_fit_are_made() {
    let mut state = state(10_000);
    press(&mut state, KeyCode::End);
    let lines = screen(&mut state, 80, 30);
    assert!(lines[28].starts_with(" TCP 10.10.0.10:10000 "), "{lines:#?}");
    press(&mut state, KeyCode::Char('s'));
    press(&mut state, KeyCode::Home);
    // The last has most connections.
    assert!(screen(&mut state, 80, 30)[4].starts_with(" TCP 10.10.0.10:10000 "));
    press(&mut state, KeyCode::Char('/'));
    for letter in ":777".chars() {
        press(&mut state, KeyCode::Char(letter));
    }
    assert_eq!(table(&state).count(), 11);
    assert_eq!(state.page, Page::Services);
    // A screen too small for anything is no fault.
    for (width, height) in [(1, 1), (10, 3), (0, 0)] {
        screen(&mut state, width, height);
    }
}
