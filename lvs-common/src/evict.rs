//! What gives way to a new connection when the connection table is full.
//!
//! An entry's [`worth`] says how much is lost with it. The least worth goes first; what is established, answered or in use stays,
//! and a new connection that finds nothing else is refused.

use crate::{
    abi::{Connection, EntryKind, IpAddress, Mode, conn_flags},
    state::{sctp, tcp},
    wire::protocol,
};

/// How much an entry is worth, as a number: the least goes first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(transparent)]
pub struct Worth(u32);

impl Worth {
    /// Its time is over; the sweep has not come by yet.
    pub const EXPIRED: Self = Worth(0);
    /// Closed by both ends, or reset.
    pub const CLOSED: Self = Worth(1);
    /// Half open: nobody has answered the client, or the client has not gone on.
    pub const HALF_OPEN: Self = Worth(2);
    /// Of UDP: of one packet, or never answered.
    pub const ONE_PACKET: Self = Worth(3);
    /// A template that controls no connection and whose connections never were established.
    pub const TEMPLATE: Self = Worth(4);
    /// One end has closed.
    pub const CLOSING: Self = Worth(5);
    /// Everything else. It never gives way.
    pub const KEPT: Self = Worth(6);

    /// The number.
    #[inline(always)]
    pub const fn get(self) -> u32 {
        self.0
    }

    /// A number as a worth.
    #[inline(always)]
    pub const fn new(number: u32) -> Self {
        if number < Worth::KEPT.0 { Worth(number) } else { Worth::KEPT }
    }

    /// What decides between two entries: half-open connections, connections of one packet and templates count alike, or a flood of
    /// one kind would push out each honest client that begins as another.
    #[inline(always)]
    pub const fn rank(self) -> u32 {
        match self {
            Worth::ONE_PACKET | Worth::TEMPLATE => Worth::HALF_OPEN.0,
            other => other.0,
        }
    }

    /// Whether there is no point in looking for less: the first such entry goes, so that of a flood the oldest goes first.
    #[inline(always)]
    pub const fn suffices(self) -> bool {
        self.rank() <= Worth::HALF_OPEN.0
    }
}

/// Jiffies that a connection is kept for the packet that made it.
const FRESH: i64 = 1;

/// What an entry is worth at jiffy `now`. An alias is worth what its connection is: ask about that. A template that was made for the
/// connection that asks for room is the asker's to keep.
#[inline(always)]
pub fn worth<A: IpAddress>(c: &Connection<A>, now: u64) -> Worth {
    let idle = now.wrapping_sub(c.last_seen) as i64;
    if c.controlled != 0 || c.kind.is_alias() || c.state & conn_flags::DEAD != 0 {
        return Worth::KEPT;
    }
    if idle > c.timeout as i64 {
        return Worth::EXPIRED;
    }
    if c.kind == EntryKind::ANSWER {
        return Worth::ONE_PACKET;
    }
    if c.kind == EntryKind::TEMPLATE {
        return if c.state & conn_flags::ASSURED != 0 { Worth::KEPT } else { Worth::TEMPLATE };
    }
    // The packet that made it is on its way still; of what is bypassed no state is known.
    if c.in_packets == 0 && idle <= FRESH || c.forward == Mode::BYPASS {
        return Worth::KEPT;
    }
    let state = (c.state & conn_flags::STATE) as u8;
    match c.protocol {
        protocol::TCP => of_tcp(state),
        protocol::SCTP => of_sctp(state),
        _ if !is_answered(c) => Worth::ONE_PACKET,
        _ => Worth::KEPT,
    }
}

/// Whether a connection of UDP has had more than one packet, and an answer as far as answers pass the director.
#[inline(always)]
fn is_answered<A>(c: &Connection<A>) -> bool {
    let passes = c.forward == Mode::MASQ || c.forward == Mode::FULLNAT;
    // The first answer looks up the way to the client.
    c.in_packets > 1 && (!passes || c.reply_hop.ifindex != 0)
}

#[inline(always)]
const fn of_tcp(state: u8) -> Worth {
    match state {
        tcp::ESTABLISHED => Worth::KEPT,
        tcp::TIME_WAIT | tcp::CLOSE => Worth::CLOSED,
        tcp::FIN_WAIT | tcp::CLOSE_WAIT | tcp::LAST_ACK => Worth::CLOSING,
        _ => Worth::HALF_OPEN,
    }
}

#[inline(always)]
const fn of_sctp(state: u8) -> Worth {
    match state {
        sctp::ESTABLISHED => Worth::KEPT,
        sctp::REJECTED | sctp::CLOSED => Worth::CLOSED,
        sctp::SHUTDOWN_SENT | sctp::SHUTDOWN_RECEIVED | sctp::SHUTDOWN_ACK_SENT => Worth::CLOSING,
        _ => Worth::HALF_OPEN,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::abi::NextHop;

    const HZ: u32 = 250;

    /// A NAT connection in a state that had its last packet so many seconds ago.
    fn connection(protocol: u8, state: u8, seconds: u64) -> (Connection<u32>, u64) {
        let now = 1_000_000;
        let reply_hop = NextHop { ifindex: 2, ..NextHop::default() };
        let c = Connection {
            protocol,
            state: state.into(),
            forward: Mode::MASQ,
            last_seen: now - seconds * u64::from(HZ),
            timeout: 900 * HZ,
            in_packets: 2,
            reply_hop,
            ..Connection::default()
        };
        (c, now)
    }

    fn of((c, now): (Connection<u32>, u64)) -> Worth {
        worth(&c, now)
    }

    #[test]
    fn states_are_worth_what_is_lost_with_them() {
        let tcp = |state| of(connection(6, state, 100));
        assert_eq!(tcp(tcp::ESTABLISHED), Worth::KEPT);
        assert_eq!([tcp::TIME_WAIT, tcp::CLOSE].map(tcp), [Worth::CLOSED; 2]);
        assert_eq!([tcp::SYN_RECV, tcp::SYN_SENT, tcp::SYNACK, tcp::NONE].map(tcp), [Worth::HALF_OPEN; 4]);
        assert_eq!([tcp::FIN_WAIT, tcp::CLOSE_WAIT, tcp::LAST_ACK].map(tcp), [Worth::CLOSING; 3]);
        let sctp = |state| of(connection(132, state, 0));
        assert_eq!(
            [sctp::ESTABLISHED, sctp::INIT1, sctp::CLOSED].map(sctp),
            [Worth::KEPT, Worth::HALF_OPEN, Worth::CLOSED]
        );
    }

    #[test]
    fn datagrams_are_worth_something_once_both_ends_speak() {
        let (used, now) = connection(17, 0, 5);
        let worth = |c: Connection<u32>| worth(&c, now);
        assert_eq!(worth(used), Worth::KEPT);
        assert_eq!(worth(Connection { in_packets: 1, ..used }), Worth::ONE_PACKET);
        let unanswered = Connection { reply_hop: NextHop::default(), ..used };
        assert_eq!(worth(unanswered), Worth::ONE_PACKET);
        // Answers pass the director by.
        assert_eq!(worth(Connection { forward: Mode::ROUTE, ..unanswered }), Worth::KEPT);
        assert_eq!(of(connection(17, 0, 299)), Worth::KEPT);
        assert_eq!(worth(Connection { kind: EntryKind::ANSWER, in_packets: 0, ..used }), Worth::ONE_PACKET);
    }

    #[test]
    fn templates_go_when_nothing_needs_them() {
        let (c, now) = connection(6, 0, 5);
        let template = Connection { kind: EntryKind::TEMPLATE, in_packets: 0, ..c };
        let worth = |c: Connection<u32>| worth(&c, now);
        assert_eq!(worth(template), Worth::TEMPLATE);
        assert_eq!(worth(Connection { controlled: 1, ..template }), Worth::KEPT);
        assert_eq!(worth(Connection { state: conn_flags::ASSURED, ..template }), Worth::KEPT);
        // A flood of clients with templates must not keep each other out.
        assert_eq!(worth(Connection { last_seen: now, ..template }), Worth::TEMPLATE);
    }

    proptest! {
        /// Neither what is established, nor what controls others, nor what is being made gives way while its time lasts.
        #[test]
        fn what_is_in_use_stays(
            protocol in prop::sample::select(vec![6u8, 17, 132]),
            state in 0u8..14,
            seconds in 0u64..900,
            in_packets in 0u32..9,
            controlled in 0u32..2,
            kind in prop::sample::select(vec![EntryKind::CONNECTION, EntryKind::TEMPLATE, EntryKind::ALIAS, EntryKind::CROSSED]),
            is_new in any::<bool>(),
        ) {
            let (c, now) = connection(protocol, state, if is_new { 0 } else { seconds });
            let found = worth(&Connection { in_packets, controlled, kind, ..c }, now);
            let established = kind == EntryKind::CONNECTION
                && [(6, tcp::ESTABLISHED), (132, sctp::ESTABLISHED)].contains(&(protocol, state));
            let is_being_made = is_new && in_packets == 0 && kind == EntryKind::CONNECTION;
            if established || controlled != 0 || kind.is_alias() || is_being_made {
                prop_assert_eq!(found, Worth::KEPT);
            }
        }

        /// An entry loses worth with time, and gains none.
        #[test]
        fn time_takes_worth(
            protocol in prop::sample::select(vec![6u8, 17, 132]),
            state in 0u8..14,
            earlier in 0u64..1000,
            later in 0u64..1000,
            in_packets in 0u32..4,
            template in any::<bool>(),
        ) {
            let kind = if template { EntryKind::TEMPLATE } else { EntryKind::CONNECTION };
            let at = |seconds| {
                let (c, now) = connection(protocol, state, seconds);
                worth(&Connection { in_packets, kind, ..c }, now)
            };
            let (earlier, later) = (earlier.min(later), earlier.max(later));
            prop_assert!(at(later).rank() <= at(earlier).rank());
        }

        /// What suffices is no more than half open, so nothing that closes is passed over for it.
        #[test]
        fn ranks_keep_the_order(a in 0u32..9, b in 0u32..9) {
            let (a, b) = (Worth::new(a), Worth::new(b));
            prop_assert!(a > b || a.rank() <= b.rank());
            prop_assert_eq!(a.suffices(), a <= Worth::TEMPLATE);
        }
    }
}
