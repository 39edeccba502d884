//! The TCP state table against the kernel's: `golden/tcp-states.jsonl` has, for sequences of packets, state and remaining
//! time as `ipvsadm -Lcn` listed them right after the last one.

use lvs_common::{
    abi::{Timeouts, conn_flags},
    state::{self, Direction, TCP, tcp},
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
