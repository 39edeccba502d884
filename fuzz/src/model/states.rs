//! States of connections, their timeouts, and what packets do to them, as tables.

use super::rules::Protocol;

/// Which table a packet is looked up in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// From the client, where replies pass the director.
    In,
    /// From the real server.
    Out,
    /// From the client, where no reply was seen and none is expected: direct routing and tunnels.
    InOnly,
}

/// TCP's states in the order of the columns below, with the seconds that they last and whether they count as active.
const TCP: [(&str, u64, bool); 11] = [
    ("NO", 2, false),
    ("ES", 900, true),
    ("SS", 120, true),
    ("SR", 60, true),
    ("FW", 120, false),
    ("TW", 120, false),
    ("CL", 10, false),
    ("CW", 60, false),
    ("LA", 30, false),
    ("LI", 120, false),
    ("SA", 120, true),
];

/// What segments do: a row for each kind and way, a column for each state.
const SEGMENTS: [(Way, char, &str); 12] = [
    //                      NO ES SS SR FW TW CL CW LA LI SA
    (Way::In, 's', "        SR ES ES SR SR SR SR SR SR SR SR"),
    (Way::In, 'f', "        CL CW SS TW TW TW CL CW LA LI TW"),
    (Way::In, 'a', "        ES ES SS ES FW TW CL CW CL LI ES"),
    (Way::In, 'r', "        CL CL CL SR CL CL CL CL LA LI SR"),
    (Way::Out, 's', "       SS ES SS SR SS SS SS SS SS LI SR"),
    (Way::Out, 'f', "       TW FW SS TW FW TW CL TW LA LI TW"),
    (Way::Out, 'a', "       ES ES SS ES FW TW CL CW LA ES ES"),
    (Way::Out, 'r', "       CL CL SS CL CL TW CL CL CL CL CL"),
    (Way::InOnly, 's', "    SR ES ES SR SR SR SR SR SR SR SR"),
    (Way::InOnly, 'f', "    CL FW SS TW FW TW CL CW LA LI TW"),
    (Way::InOnly, 'a', "    ES ES SS ES FW TW CL CW CL LI ES"),
    (Way::InOnly, 'r', "    CL CL CL SR CL CL CL CL LA LI CL"),
];

/// SCTP's states, as above.
const SCTP: [(&str, u64, bool); 14] = [
    ("NO", 2, false),
    ("I1", 4, false),
    ("IN", 61, false),
    ("CS", 61, false),
    ("CR", 61, false),
    ("CW", 61, false),
    ("CO", 61, false),
    ("CE", 61, false),
    ("ES", 900, true),
    ("SS", 61, false),
    ("SR", 61, false),
    ("SA", 61, false),
    ("RJ", 4, false),
    ("CL", 61, false),
];

/// What the first chunk of a packet does, by its type and way. `*` is every state that is not named before; what no rule names stays.
const CHUNKS: [(u8, [&str; 3]); 10] = [
    (0, ["NO>ES", "NO>ES", "NO CW>ES"]),
    (1, ["NO>I1, I1 RJ CL>IN", "ES>ES, CW>CW, *>CW", "NO>I1, I1 CS CR CW RJ CL>IN"]),
    (2, ["NO I1 IN>CW, CW>CO", "NO I1 IN>CS", "NO I1 IN CS CR CW>CE"]),
    (10, ["NO CS>CR, I1>IN", "NO I1 IN CS CR CW CO>CE", "NO I1 IN CS CR CW>ES"]),
    (11, ["NO CE>ES", "NO I1 IN CS CR CW CO CE>ES", "NO CS CR CO CE>ES"]),
    (7, ["NO ES>SR", "NO I1 IN CS CR CW CO CE ES>SS", "NO ES>SR"]),
    (8, ["NO SS SA>CL, I1>IN", "NO I1 IN CS CR SS SR>SA", "NO ES SS SA>CL, I1>IN"]),
    (14, ["NO I1 IN SA>CL", "NO>CL", "NO I1 IN CS CR SR SA>CL"]),
    (9, ["NO CE>CL", "NO I1 IN CS CR>CL", "NO>CL"]),
    (6, ["CW>RJ, *>CL", "I1>RJ, *>CL", "CW>RJ, *>CL"]),
];

/// The chunk that has a row of its own, or that of data.
fn row(chunk: u8) -> &'static [&'static str; 3] {
    let of = |kind: u8| CHUNKS.iter().find(|(row, _)| *row == kind).map(|(_, ways)| ways);
    of(chunk).or(of(0)).expect("data has a row")
}

/// The event of TCP's flags, of which the strongest counts; `None` for a segment that has none.
fn segment(flags: u8) -> Option<char> {
    [(4, 'r'), (2, 's'), (1, 'f'), (16, 'a')].into_iter().find(|(flag, _)| flags & flag != 0).map(|(_, event)| event)
}

fn index(states: &[(&str, u64, bool)], name: &str) -> usize {
    states.iter().position(|(state, ..)| *state == name).expect("a state")
}

/// The state after a packet with these TCP flags, or this type of SCTP chunk.
pub fn next(protocol: Protocol, way: Way, event: u8, state: usize) -> usize {
    match protocol {
        Protocol::Udp => 0,
        Protocol::Tcp => {
            let Some(kind) = segment(event) else { return index(&TCP, "CL") };
            let (.., cells) = SEGMENTS.iter().find(|(w, k, _)| (*w, *k) == (way, kind)).expect("every row");
            index(&TCP, cells.split_whitespace().nth(state).expect("every column"))
        }
        Protocol::Sctp => {
            let rules = row(event)[way as usize];
            let name = SCTP[state].0;
            for rule in rules.split(", ") {
                let (from, to) = rule.split_once('>').expect("a rule");
                if from.split(' ').any(|state| state == name || state == "*") {
                    return index(&SCTP, to);
                }
            }
            state
        }
    }
}

/// How long a state lasts, milliseconds.
pub fn timeout(protocol: Protocol, state: usize) -> u64 {
    1000 * match protocol {
        Protocol::Tcp => TCP[state].1,
        Protocol::Sctp => SCTP[state].1,
        Protocol::Udp => 300,
    }
}

/// Whether a connection in this state counts as active.
pub fn is_active(protocol: Protocol, state: usize) -> bool {
    match protocol {
        Protocol::Tcp => TCP[state].2,
        Protocol::Sctp => SCTP[state].2,
        Protocol::Udp => false,
    }
}

/// Whether a request that opens connections may take the place of a connection in this state.
pub fn is_over(protocol: Protocol, state: usize, mode: u32, no_output: bool) -> bool {
    match protocol {
        _ if mode == 0 => false,
        Protocol::Tcp => match TCP[state].0 {
            "TW" | "CL" => true,
            "FW" => mode & 2 != 0 && no_output,
            _ => false,
        },
        Protocol::Sctp => SCTP[state].0 == "CL",
        Protocol::Udp => false,
    }
}

/// Whether a packet is a request that opens a connection of its own.
pub fn is_request(protocol: Protocol, event: u8) -> bool {
    match protocol {
        Protocol::Tcp => event & 2 != 0 && event & 4 == 0,
        Protocol::Sctp => event == 1,
        Protocol::Udp => false,
    }
}
