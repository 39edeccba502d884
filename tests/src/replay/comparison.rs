//! Recorded frames and those that came out: what has to be equal, and what two runs of the same kernel would not have in
//! common either.

use std::collections::HashMap;
use std::ops::Range;

use super::checksum::{Checksum, checksums};
use super::header::{Header, Kind, headers, word};

/// Values that were in the injected frames: where they come out again they must be the same.
pub struct Injected<'a> {
    gue_ports: &'a [u16],
    /// Identifications (IPv4's and IPv6's), flow labels and sequence numbers.
    ids: Vec<Vec<u8>>,
    labels: Vec<u32>,
    sequences: Vec<Vec<u8>>,
}

impl<'a> Injected<'a> {
    /// Of these frames.
    pub fn new(frames: &[Vec<u8>], gue_ports: &'a [u16]) -> Self {
        let mut injected = Injected { gue_ports, ids: Vec::new(), labels: vec![0], sequences: Vec::new() };
        for frame in frames {
            for Header { kind, at, .. } in headers(frame, gue_ports) {
                match kind {
                    Kind::Ipv4 => injected.ids.push(frame[at + 4..at + 6].to_vec()),
                    Kind::Ipv6 => injected.labels.push(label(frame, at)),
                    Kind::Fragment => injected.ids.push(frame[at + 4..at + 8].to_vec()),
                    Kind::Tcp => injected.sequences.extend(frame.get(at + 4..at + 8).map(<[u8]>::to_vec)),
                    _ => {}
                }
            }
        }
        injected
    }

    /// What need not be equal to this recorded frame.
    fn free(&self, frame: &[u8]) -> Free {
        let mut free = Free::default();
        for (depth, Header { kind, at, .. }) in headers(frame, self.gue_ports).into_iter().enumerate() {
            let is_injected = |range: Range<usize>| self.ids.iter().any(|id| *id == frame[range.clone()]);
            match kind {
                // Of a packet that the director made, or a fragment of one. One that may not be fragmented needs none.
                Kind::Ipv4 if depth == 0 && !is_injected(at + 4..at + 6) => {
                    let none = frame[at + 4..at + 6] == [0, 0] && frame[at + 6] & 0x40 != 0;
                    if !none {
                        free.id = Some(at + 4..at + 6);
                        free.bytes.extend([at + 4..at + 6, at + 10..at + 12]);
                    }
                }
                Kind::Ipv6 if depth == 0 && !self.labels.contains(&label(frame, at)) => {
                    free.low_bits = Some(at + 1);
                    free.bytes.push(at + 2..at + 4);
                }
                Kind::Fragment if depth == 1 && !is_injected(at + 4..at + 8) => {
                    free.id = Some(at + 4..at + 8);
                    free.bytes.push(at + 4..at + 8);
                }
                // The source port is a hash of the flow.
                Kind::Udp if word(frame, at + 2).is_some_and(|port| self.gue_ports.contains(&port)) => {
                    free.bytes.push(at..at + 2);
                    if word(frame, at + 6) != Some(0) {
                        free.bytes.push(at + 6..at + 8);
                    }
                }
                // A socket of the director's own accepts a connection with a number of its choice.
                Kind::Tcp if is_acceptance(frame, at) && !self.is_sequence(&frame[at + 4..at + 8]) => {
                    free.bytes.extend([at + 4..at + 8, at + 16..at + 18]);
                }
                _ => {}
            }
        }
        free
    }

    fn is_sequence(&self, number: &[u8]) -> bool {
        self.sequences.iter().any(|injected| injected == number)
    }

    /// What is wrong with the frames of one port, in words; nothing if they are as recorded.
    pub fn compare(&self, recorded: &[Vec<u8>], got: &[Vec<u8>]) -> Vec<String> {
        let mut wrong = self.compare_checksums(recorded, got);
        if recorded.len() != got.len() {
            wrong.push(format!("{} frames instead of {}", got.len(), recorded.len()));
        }
        // A packet's fragments share its identification.
        let mut ids = HashMap::new();
        for (number, (recorded, got)) in recorded.iter().zip(got).enumerate() {
            let free = self.free(recorded);
            let places = free.differences(recorded, got);
            if !places.is_empty() || recorded.len() != got.len() {
                let lengths = format!("{} bytes, recorded {}", got.len(), recorded.len());
                wrong.push(format!("frame {number} ({lengths}) differs at {places:?}"));
            } else if let Some(id) = free.id {
                let (recorded, got) = (recorded[id.clone()].to_vec(), got[id].to_vec());
                if *ids.entry(recorded).or_insert_with(|| got.clone()) != got {
                    wrong.push(format!("frame {number} has another identification than its siblings"));
                }
            }
        }
        if !wrong.is_empty() {
            wrong.extend(recorded.iter().map(|frame| format!("- {}", hex(frame))));
            wrong.extend(got.iter().map(|frame| format!("+ {}", hex(frame))));
        }
        wrong
    }

    /// All checksums have to be right, save those that are wrong in the recorded frame too: a bad one stays bad. And none
    /// may be missing.
    fn compare_checksums(&self, recorded: &[Vec<u8>], got: &[Vec<u8>]) -> Vec<String> {
        let recorded = checksums(recorded, self.gue_ports);
        let got = checksums(got, self.gue_ports);
        let at = |sums: &[Checksum], one: &Checksum, right: Option<bool>| {
            sums.iter().any(|sum| {
                (sum.frame, &sum.path) == (one.frame, &one.path) && right.is_none_or(|right| sum.right == right)
            })
        };
        let wrong = got.iter().filter(|sum| !sum.right && !at(&recorded, sum, Some(false)));
        let missing = recorded.iter().filter(|sum| !at(&got, sum, None));
        let tell = |what: &str, sum: &Checksum| format!("{what} checksum in frame {}: {}", sum.frame, sum.path);
        wrong.map(|sum| tell("wrong", sum)).chain(missing.map(|sum| tell("missing", sum))).collect()
    }
}

/// What need not be equal to a recorded frame.
#[derive(Default)]
struct Free {
    bytes: Vec<Range<usize>>,
    /// A byte whose lower four bits are free.
    low_bits: Option<usize>,
    /// An identification, which fragments share.
    id: Option<Range<usize>>,
}

impl Free {
    /// Where the frames differ and may not.
    fn differences(&self, recorded: &[u8], got: &[u8]) -> Vec<usize> {
        let differs = |at: &usize| {
            let mask = if self.low_bits == Some(*at) { 0xf0 } else { 0xff };
            (recorded[*at] ^ got[*at]) & mask != 0 && !self.bytes.iter().any(|range| range.contains(at))
        };
        (0..recorded.len().min(got.len())).filter(differs).collect()
    }
}

/// Whether a TCP header has SYN and ACK.
fn is_acceptance(frame: &[u8], at: usize) -> bool {
    frame.get(at + 13).is_some_and(|flags| flags & 0x12 == 0x12)
}

/// The flow label of an IPv6 header.
fn label(frame: &[u8], at: usize) -> u32 {
    u32::from_be_bytes([0, frame[at + 1] & 15, frame[at + 2], frame[at + 3]])
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixtures::frame::{TCP, ethernet, fragmentable, ip, tcp};

    fn frame(id: u16) -> Vec<u8> {
        let (client, server) = ("10.0.0.1:1000".parse().unwrap(), "10.0.0.2:80".parse().unwrap());
        let packet =
            ip("10.0.0.1".parse().unwrap(), "10.0.0.2".parse().unwrap(), 0, 64, TCP, &tcp(client, server, true, b""));
        ethernet([2; 6], [4; 6], &fragmentable(packet, id))
    }

    #[test]
    fn an_identification_of_the_directors_own_is_free_and_an_injected_one_is_not() {
        let compare = |injected: u16| Injected::new(&[frame(injected)], &[]).compare(&[frame(7)], &[frame(8)]);
        assert_eq!(compare(1), Vec::<String>::new());
        assert!(compare(7)[0].contains("differs at [19, 25]"), "{:?}", compare(7));
    }

    #[test]
    fn fragments_share_their_identification() {
        let injected = Injected::new(&[], &[]);
        let recorded = [frame(7), frame(7)];
        assert!(injected.compare(&recorded, &[frame(8), frame(8)]).is_empty());
        assert!(!injected.compare(&recorded, &[frame(8), frame(9)]).is_empty());
    }

    #[test]
    fn a_wrong_checksum_is_told_unless_it_was_recorded_so() {
        let mut broken = frame(7);
        broken[50] ^= 1;
        let injected = Injected::new(&[], &[]);
        assert!(injected.compare(&[frame(7)], &[broken.clone()])[0].contains("wrong checksum in frame 0: Ipv4/Tcp"));
        assert!(injected.compare(&[broken.clone()], &[broken]).is_empty());
    }

    #[test]
    fn a_frame_more_or_less_is_told() {
        let injected = Injected::new(&[], &[]);
        assert!(!injected.compare(&[frame(7)], &[]).is_empty());
        assert!(!injected.compare(&[], &[frame(7)]).is_empty());
    }
}
