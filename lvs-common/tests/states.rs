//! The state tables cell by cell, and TCP's against the kernel: `golden/tcp-states.jsonl` has, for sequences of packets, state
//! and remaining time as `ipvsadm -Lcn` listed them right after the last one.

use lvs_common::{
    abi::{Timeouts, conn_flags},
    state::{self, Direction, tcp},
    wire::protocol::{SCTP, TCP},
};

#[derive(serde::Deserialize)]
struct Case {
    /// `nat`, where replies pass the director, or `dr`.
    mode: String,
    /// Packets so far: `c` or `s` for client or server, then the flags.
    case: String,
    /// Minutes and seconds left.
    expires: String,
    state: String,
}

fn flags(letters: &str) -> u8 {
    letters.chars().fold(0, |flags, letter| {
        flags
            | match letter {
                'F' => 0x01,
                'S' => 0x02,
                'R' => 0x04,
                'A' => 0x10,
                other => panic!("no such flag: {other}"),
            }
    })
}

#[test]
fn every_recorded_sequence_ends_in_the_kernels_state() {
    let recording = include_str!("golden/tcp-states.jsonl");
    let mut cases = 0;
    for line in recording.lines() {
        let recorded: Case = serde_json::from_str(line).unwrap();
        let word = if recorded.mode == "dr" { conn_flags::NO_OUTPUT } else { 0 };
        let last = recorded.case.split(' ').fold(tcp::NONE, |state, packet| {
            let direction = if packet.starts_with('c') { Direction::from_client(word) } else { Direction::Output };
            state::next(TCP, direction, tcp::event(flags(&packet[1..])), state, false)
        });
        assert_eq!(state::name(TCP, last.into(), false), recorded.state, "{} {}", recorded.mode, recorded.case);
        let (minutes, seconds) = recorded.expires.split_once(':').unwrap();
        let left = minutes.parse::<u32>().unwrap() * 60 + seconds.parse::<u32>().unwrap();
        let timeout = state::timeout(TCP, last, &Timeouts::default(), [0; 3]);
        assert!((left..=left + 1).contains(&timeout), "{}: {left} of {timeout} s left", recorded.case);
        cases += 1;
    }
    assert_eq!(cases, 41);
}

/// The state abbreviated by two letters, among `states` in their order.
fn abbreviated(states: &str, two_letters: &str) -> u8 {
    let place = states.split(' ').position(|state| state == two_letters);
    place.unwrap_or_else(|| panic!("no such state: {two_letters}")) as u8
}

fn direction(word: &str) -> Direction {
    match word {
        "in" => Direction::Input,
        "out" => Direction::Output,
        "in-only" => Direction::InputOnly,
        other => panic!("no such direction: {other}"),
    }
}

/// The number of an event among `events` in their order.
fn event(events: &str, name: &str) -> u8 {
    events.split(' ').position(|event| event == name).unwrap() as u8
}

#[test]
fn the_tcp_table_is_ipvss() {
    let states = "NO ES SS SR FW TW CL CW LA LI SA";
    // With secure_tcp, these cells differ.
    let secure = "in syn SA SA, in fin SA SA, in ack SR SR, in ack SA SA, in rst SA CL, out syn SR SA, out syn SA SA, \
        in-only syn NO SA, in-only syn FW SA, in-only syn TW SA, in-only syn CL SA, in-only syn CW SA, \
        in-only syn LA SA, in-only syn LI SA, in-only syn SA SA";
    let table = include_str!("golden/tcp-table.txt");
    assert_eq!(table.lines().count(), 12);
    for line in table.lines() {
        let words: Vec<&str> = line.split(' ').collect();
        let (way, event) = (direction(words[0]), event("syn fin ack rst", words[1]));
        for (old, cell) in states.split(' ').zip(&words[2..]) {
            let state = abbreviated(states, old);
            let new = state::next(TCP, way, event, state, false);
            assert_eq!(new, abbreviated(states, cell), "{line}: {old}");
            let start = format!("{} {} {old} ", words[0], words[1]);
            let cell = secure.split(", ").find_map(|other| other.strip_prefix(&start)).unwrap_or(cell);
            let new = state::next(TCP, way, event, state, true);
            assert_eq!(new, abbreviated(states, cell), "{line}: {old}, secure");
        }
    }
}

#[test]
fn the_sctp_table_is_ipvss() {
    let states = "NO I1 IN CS CR CW CO CE ES SS SR SA RJ CL";
    let table = include_str!("golden/sctp-table.txt");
    assert_eq!(table.lines().count(), 30);
    for line in table.lines() {
        let [way, name, changes] = line.splitn(3, ' ').collect::<Vec<_>>()[..] else { panic!("{line}") };
        let (way, event) = (direction(way), event("d i ia ce ca s sa sc err ab", name));
        for old in states.split(' ') {
            // What is not listed stays.
            let expected = changes.split("; ").find_map(|change| {
                let (from, to) = change.split_once('→').unwrap();
                from.split(',').any(|state| state == old).then_some(to)
            });
            let new = state::next(SCTP, way, event, abbreviated(states, old), false);
            assert_eq!(new, abbreviated(states, expected.unwrap_or(old)), "{line}: {old}");
        }
    }
}
