//! What FullNAT decides about TCP segments: which of them carry the client's address to the real server, and what becomes of
//! options.
//!
//! The real server reads [TOA](crate::toa) from the packet that completes the handshake, or from the first data if that
//! packet was lost or not accepted (deferred accept). So the option is on every packet with the client's first sequence
//! number, until the real server has acknowledged data. Until then, an option of that kind from the client would reach the
//! real server from an address that it trusts, so it is removed. A client must not be able to end this time early. So the
//! real server's SYN, not the client, says what the client's first sequence number is, and every SYN begins the time anew.

use crate::{
    toa::{self, Options},
    verifier::Each,
    wire::tcp_flags,
};

/// How far a connection has come, as `Connection::toa_state` has it.
pub mod toa_state {
    /// The real server has sent no data yet.
    pub const OPENING: u8 = 0;
    /// It has, so the handshake is over.
    pub const ANSWERED: u8 = 1;
    /// It has acknowledged data: it looks for no option any more.
    pub const SETTLED: u8 = 2;
}

/// What of a TCP segment matters here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Segment {
    /// [`tcp_flags`].
    pub flags: u8,
    /// Host order.
    pub sequence: u32,
    /// Host order.
    pub acknowledgment: u32,
    /// Whether it brings data.
    pub has_data: bool,
    /// Whether it is known at a glance that it has no TOA: no options, or nothing but timestamps.
    pub is_plain: bool,
}

/// What is to be done with a client's segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ToaAction {
    /// It goes as it is.
    Leave,
    /// Whatever TOA it has is the client's own, and goes.
    Strip,
    /// It tells the client.
    Add,
}

/// How far a connection has come with a segment of the client's.
#[inline(always)]
pub const fn after_request(toa_state: u8, segment: &Segment) -> u8 {
    if segment.flags & tcp_flags::SYN != 0 { toa_state::OPENING } else { toa_state }
}

/// What is to be done with a client's segment. `toa` is the setting of that name: 0 never, 1 as the module says, 2 with the
/// SYN too. `first` is the sequence number after the client's SYN.
#[inline(always)]
pub const fn toa_action(toa_state: u8, toa: u32, first: u32, segment: &Segment) -> ToaAction {
    if toa == 0 || toa_state >= toa_state::SETTLED {
        return ToaAction::Leave;
    }
    let tells = match segment.flags & (tcp_flags::SYN | tcp_flags::RST) {
        0 => segment.sequence == first && (segment.has_data || toa_state == toa_state::OPENING),
        tcp_flags::SYN => toa > 1,
        _ => false,
    };
    // A SYN is looked at only where it brings data (RFC 7413), for the connection is accepted with it then.
    let is_read = segment.flags & tcp_flags::SYN == 0 || segment.has_data || toa > 1;
    match (tells, is_read && !segment.is_plain) {
        (true, _) => ToaAction::Add,
        (false, true) => ToaAction::Strip,
        (false, false) => ToaAction::Leave,
    }
}

/// How far a connection has come with a segment of the real server's, and the sequence number after the client's SYN.
#[inline(always)]
pub const fn after_reply(toa_state: u8, first: u32, segment: &Segment) -> (u8, u32) {
    const OPENS: u8 = tcp_flags::SYN | tcp_flags::ACK;
    if segment.flags & OPENS == OPENS {
        return (toa_state::OPENING, segment.acknowledgment);
    }
    let acknowledged = segment.acknowledgment.wrapping_sub(first);
    if segment.flags & tcp_flags::ACK != 0 && acknowledged != 0 && acknowledged < 1 << 31 {
        return (toa_state::SETTLED, first);
    }
    (if toa_state == toa_state::OPENING && segment.has_data { toa_state::ANSWERED } else { toa_state }, first)
}

/// Kind and length of the option for the maximum segment size (RFC 9293, section 3.7.1).
const SEGMENT_SIZE: (u8, usize) = (2, 4);

/// Shows `visit` each option with its place and length, until it returns `true`.
#[inline(always)]
fn walk<O: Options + ?Sized>(options: &O, turns: &impl Each, visit: &mut impl FnMut(usize, u8, usize) -> bool) {
    let mut at = options.first();
    turns.each(toa::OPTIONS as u32, &mut |_| {
        let Some((kind, length)) = toa::option(options, at) else { return true };
        if visit(at, kind, length) {
            return true;
        }
        // As in `toa::find`.
        at = (at + length) & 63;
        false
    });
}

/// The maximum segment size that options tell: where its value stands, and the value, host order.
#[inline(always)]
pub fn segment_size<O: Options + ?Sized>(options: &O, turns: &impl Each) -> Option<(usize, u16)> {
    let mut found = None;
    walk(options, turns, &mut |at, kind, length| {
        if (kind, length) == SEGMENT_SIZE {
            found = options.bytes(at + 2).map(|value| (at + 2, u16::from_be_bytes(value)));
        }
        found.is_some()
    });
    found
}

/// Shows `visit` the place and length of every TOA among the options.
#[inline(always)]
pub fn each_toa<O: Options + ?Sized>(options: &O, turns: &impl Each, visit: &mut impl FnMut(usize, usize)) {
    walk(options, turns, &mut |at, kind, length| {
        if kind == toa::KIND && (length == toa::LENGTH4 || length == toa::LENGTH6) {
            visit(at, length);
        }
        false
    });
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::verifier::Plain;

    const FIRST: u32 = 0xffff_ffff;

    fn client(flags: u8, ahead: u32, has_data: bool) -> Segment {
        let sequence = FIRST.wrapping_add(ahead);
        Segment { flags, sequence, acknowledgment: 7, has_data, is_plain: true }
    }

    fn server(flags: u8, acknowledged: u32, has_data: bool) -> Segment {
        let acknowledgment = FIRST.wrapping_add(acknowledged);
        Segment { flags, sequence: 7, acknowledgment, has_data, is_plain: true }
    }

    #[test]
    fn a_connection_is_told_until_its_data_is_acknowledged() {
        use tcp_flags::{ACK, FIN, RST, SYN};
        let adds = |toa_state, segment| toa_action(toa_state, 1, FIRST, &segment) == ToaAction::Add;
        assert!(!adds(toa_state::OPENING, client(SYN, u32::MAX, false)), "the SYN");
        assert!(adds(toa_state::OPENING, client(ACK, 0, false)), "the end of the handshake");
        assert!(adds(toa_state::OPENING, client(ACK, 0, true)), "the first data");
        assert!(adds(toa_state::OPENING, client(ACK | FIN, 0, false)), "nothing but an end");
        assert!(!adds(toa_state::OPENING, client(ACK, 9, true)), "later data");
        assert!(!adds(toa_state::OPENING, client(RST, 0, false)));
        // A server that speaks first has completed the handshake by then.
        let after_reply = |toa_state, segment| after_reply(toa_state, FIRST, &segment).0;
        let now = after_reply(toa_state::OPENING, server(ACK, 0, false));
        assert_eq!(now, toa_state::OPENING, "its SYN, or an ACK of nothing");
        let now = after_reply(now, server(ACK, 0, true));
        assert_eq!(now, toa_state::ANSWERED);
        assert!(!adds(now, client(ACK, 0, false)) && adds(now, client(ACK, 0, true)));
        let now = after_reply(now, server(ACK, 9, false));
        assert_eq!(now, toa_state::SETTLED);
        assert!(!adds(now, client(ACK, 0, true)), "a sequence number that comes again after 4 GiB");
        assert_eq!(after_reply(now, server(ACK, 0, true)), toa_state::SETTLED, "an old answer");
        assert_eq!(
            after_reply(toa_state::OPENING, server(ACK, u32::MAX, false)),
            toa_state::OPENING,
            "an ACK of the past"
        );
        assert_eq!(after_reply(toa_state::OPENING, server(RST, 5, false)), toa_state::OPENING, "not an ACK");
        assert!(toa_action(toa_state::OPENING, 2, FIRST, &client(SYN, u32::MAX, false)) == ToaAction::Add);
    }

    #[test]
    fn a_syn_begins_it_again() {
        use tcp_flags::{ACK, SYN};
        assert_eq!(after_request(toa_state::SETTLED, &client(SYN, 500, false)), toa_state::OPENING);
        assert_eq!(after_request(toa_state::SETTLED, &client(ACK, 500, true)), toa_state::SETTLED);
        // Whatever SYNs a client sends, the server's says which one counts.
        let answer = server(SYN | ACK, 1000, false);
        assert_eq!(after_reply(toa_state::SETTLED, FIRST, &answer), (toa_state::OPENING, answer.acknowledgment));
        assert_eq!(
            after_reply(toa_state::OPENING, answer.acknowledgment, &server(ACK, 1000, false)).0,
            toa_state::OPENING
        );
    }

    #[test]
    fn what_a_client_brings_is_cleaned() {
        let strange = |ahead| Segment { is_plain: false, ..client(tcp_flags::ACK, ahead, true) };
        assert_eq!(toa_action(toa_state::OPENING, 1, FIRST, &strange(9)), ToaAction::Strip);
        assert_eq!(toa_action(toa_state::ANSWERED, 1, FIRST, &strange(9)), ToaAction::Strip);
        assert_eq!(toa_action(toa_state::SETTLED, 1, FIRST, &strange(9)), ToaAction::Leave);
        assert_eq!(toa_action(toa_state::OPENING, 0, FIRST, &strange(0)), ToaAction::Leave);
        assert_eq!(toa_action(toa_state::OPENING, 1, FIRST, &strange(0)), ToaAction::Add);
        let syn = |has_data| Segment { flags: tcp_flags::SYN, has_data, ..strange(0) };
        assert_eq!(toa_action(toa_state::OPENING, 1, FIRST, &syn(false)), ToaAction::Leave);
        assert_eq!(toa_action(toa_state::OPENING, 1, FIRST, &syn(true)), ToaAction::Strip, "Fast Open");
    }

    const TOA: [u8; 8] = [254, 8, 0x1f, 0x90, 192, 0, 2, 7];

    #[test]
    fn options_are_found_where_they_stand() {
        let syn = [&[1][..], &[2, 4, 5, 0xb4], &TOA, &[1, 3, 3, 7], &TOA].concat();
        assert_eq!(segment_size(&syn[..], &Plain), Some((3, 1460)));
        assert_eq!(segment_size(&TOA[..], &Plain), None);
        assert_eq!(segment_size(&[2, 4, 5][..], &Plain), None);
        let mut places = Vec::new();
        each_toa(&syn[..], &Plain, &mut |at, length| places.push((at, length)));
        assert_eq!(places, [(5, 8), (17, 8)]);
    }

    proptest! {
        /// Whatever a client brings, none of it is read once all that is found is padding.
        #[test]
        fn nothing_is_left_to_be_read(mut options in prop::collection::vec(prop_oneof![Just(254u8), Just(8), Just(20), 0..4u8, any::<u8>()], 0..=40)) {
            let mut places = Vec::new();
            each_toa(&options[..], &Plain, &mut |at, length| places.push((at, length)));
            for (at, length) in places {
                options[at..at + length].fill(1);
            }
            prop_assert_eq!(toa::find(&options[..]), None);
        }
    }
}
