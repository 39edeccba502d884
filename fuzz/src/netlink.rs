//! Answers of the kernel's netlink.

use lvs_director::netlink::Answer;

/// Takes datagrams, a length in front of each, and asks for every attribute of every message.
pub fn run(mut input: &[u8]) {
    let mut answer = Answer { number: 1, ..Answer::default() };
    while let [length, rest @ ..] = input {
        let (datagram, after) = rest.split_at(usize::from(*length).min(rest.len()));
        input = after;
        if answer.take(datagram).is_err() {
            return;
        }
    }
    for message in &answer.messages {
        for fixed in [0, 4, 12, 16] {
            for kind in 0..16 {
                if let Some(value) = message.attribute(fixed, kind) {
                    assert!(value.len() <= message.body.len());
                }
            }
        }
    }
}
