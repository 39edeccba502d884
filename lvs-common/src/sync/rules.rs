//! When a master tells its backups of a connection.

use crate::abi::{Sysctls, conn_flags};
use crate::state::{SCTP, TCP, sctp, tcp};

/// Units of a second in which times are kept here.
pub const UNITS: u32 = 8;

/// What is remembered of the last time that the backups were told of a connection, in one word of its entry: 0 before the first.
///
/// Bits 0 to 3 are the state that was told, 4 and 5 how often it was told again, 6 to 31 when it was to expire.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(transparent)]
pub struct Told(pub u32);

const STATE: u32 = 0xf;
const RETRIES_SHIFT: u32 = 4;
const RETRIES: u32 = 3;
const END_SHIFT: u32 = 6;

impl Told {
    #[inline(always)]
    const fn new(state: u8, retries: u32, end: u32) -> Self {
        Told(state as u32 & STATE | (retries & RETRIES) << RETRIES_SHIFT | end << END_SHIFT)
    }

    #[inline(always)]
    const fn state(self) -> u32 {
        self.0 & STATE
    }

    #[inline(always)]
    const fn retries(self) -> u32 {
        self.0 >> RETRIES_SHIFT & RETRIES
    }

    /// By how much `time` is later than when it was to expire; both wrap.
    #[inline(always)]
    const fn since_end(self, time: u32) -> i32 {
        ((time << END_SHIFT).wrapping_sub(self.0 & !((1 << END_SHIFT) - 1)) as i32) >> END_SHIFT
    }
}

/// A connection that a packet has just passed through, or a template of one.
#[derive(Clone, Copy, Debug)]
pub struct Candidate {
    /// Whether it is a template.
    pub is_template: bool,
    /// Whether a template controls it.
    pub has_template: bool,
    /// IP protocol.
    pub protocol: u8,
    /// The word of state of its entry.
    pub state: u32,
    /// Packets from the client, this one included.
    pub packets: u32,
    /// From now to its expiry, [`UNITS`].
    pub timeout: u32,
    /// What is remembered.
    pub told: Told,
}

/// What a state means to the backups.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Worth {
    /// Nothing: the connection is not told.
    Nothing,
    /// The connection is under way: it is told now and then.
    UnderWay,
    /// The connection ends: a change to this state is told at once.
    Ending,
}

#[inline(always)]
const fn worth(protocol: u8, state: u8) -> Worth {
    match protocol {
        TCP => match state {
            tcp::ESTABLISHED => Worth::UnderWay,
            tcp::FIN_WAIT | tcp::TIME_WAIT | tcp::CLOSE | tcp::CLOSE_WAIT => Worth::Ending,
            _ => Worth::Nothing,
        },
        SCTP => match state {
            sctp::ESTABLISHED => Worth::UnderWay,
            sctp::SHUTDOWN_SENT | sctp::SHUTDOWN_RECEIVED | sctp::SHUTDOWN_ACK_SENT | sctp::CLOSED => Worth::Ending,
            _ => Worth::Nothing,
        },
        _ => Worth::UnderWay,
    }
}

/// Whether a connection, by its protocol and its word of state, is one that backups are told of at all.
#[inline(always)]
pub const fn is_told(protocol: u8, state: u32) -> bool {
    !matches!(worth(protocol, (state & conn_flags::STATE) as u8), Worth::Nothing)
}

/// Whether the backups are to be told of a connection at `now` ([`UNITS`]): what to remember then.
#[inline(always)]
pub fn tells(c: &Candidate, rules: &Sysctls, now: u32) -> Option<Told> {
    let state = if c.is_template { 0 } else { (c.state & conn_flags::STATE) as u8 };
    let end = now.wrapping_add(c.timeout);
    if !c.is_template {
        if rules.sync_persist_mode != 0 && c.has_template {
            return None;
        }
        match worth(c.protocol, state) {
            Worth::Nothing => return None,
            Worth::Ending if c.told.state() != state as u32 => return Some(Told::new(state, 0, end)),
            _ => {}
        }
    }
    let retries = refreshed(c, rules, now, end)?;
    if !c.is_template && !is_turn(c.packets, rules) {
        return None;
    }
    if c.is_template && rules.sync_period == 0 && rules.sync_refresh_period == 0 && c.packets != rules.sync_threshold {
        return None;
    }
    Some(Told::new(state, retries, end))
}

/// The rule of `sync_refresh_period`: `None` while the backups know the connection's end well enough, else how often it was told
/// again.
#[inline(always)]
fn refreshed(c: &Candidate, rules: &Sysctls, now: u32, end: u32) -> Option<u32> {
    if rules.sync_refresh_period == 0 || c.told == Told::default() {
        return Some(0);
    }
    let period = rules.sync_refresh_period.saturating_mul(UNITS);
    let half = if c.timeout >> 1 > 10 * UNITS { c.timeout >> 1 } else { 10 * UNITS };
    let least = if period < half { period } else { half };
    if c.told.since_end(end).unsigned_abs() >= least {
        return Some(0);
    }
    let retries = c.told.retries();
    let last = now.wrapping_add(c.timeout);
    // As long as an eighth of the period has not passed since it was told, it is not told again.
    let passed = c.told.since_end(last);
    if retries >= rules.sync_retries || passed < 0 || (passed as u32) < period >> 3 {
        return None;
    }
    Some(retries + 1)
}

/// The rule of `sync_threshold` and `sync_period`.
#[inline(always)]
fn is_turn(packets: u32, rules: &Sysctls) -> bool {
    if rules.sync_period != 0 {
        return packets % rules.sync_period == rules.sync_threshold;
    }
    rules.sync_refresh_period != 0 || packets == rules.sync_threshold
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tcp(state: u8, packets: u32, told: Told) -> Candidate {
        Candidate {
            is_template: false,
            has_template: false,
            protocol: TCP,
            state: state.into(),
            packets,
            timeout: 900 * UNITS,
            told,
        }
    }

    #[test]
    fn an_established_connection_is_told_by_its_packets() {
        let rules = Sysctls::default();
        let told: Vec<u32> =
            (1..=160).filter(|n| tells(&tcp(tcp::ESTABLISHED, *n, Told(0)), &rules, 0).is_some()).collect();
        assert_eq!(told, [3, 53, 103, 153]);
        let rules = Sysctls { sync_period: 0, ..Sysctls::default() };
        let told: Vec<u32> =
            (1..=160).filter(|n| tells(&tcp(tcp::ESTABLISHED, *n, Told(0)), &rules, 0).is_some()).collect();
        assert_eq!(told, [3]);
    }

    #[test]
    fn an_ending_connection_is_told_once_for_each_state() {
        let rules = Sysctls::default();
        let told = tells(&tcp(tcp::CLOSE_WAIT, 1, Told(0)), &rules, 5).unwrap();
        assert_eq!(tells(&tcp(tcp::CLOSE_WAIT, 2, told), &rules, 5), None);
        assert!(tells(&tcp(tcp::TIME_WAIT, 2, told), &rules, 5).is_some());
        for silent in [tcp::SYN_RECV, tcp::SYN_SENT, tcp::LAST_ACK, tcp::LISTEN, tcp::SYNACK] {
            assert_eq!(tells(&tcp(silent, 3, Told(0)), &rules, 5), None);
        }
    }

    #[test]
    fn the_refresh_period_limits_what_is_told() {
        let rules = Sysctls { sync_refresh_period: 40, sync_retries: 2, sync_period: 0, ..Sysctls::default() };
        let mut told = Told(0);
        // A packet each eighth of a second for a hundred seconds.
        let times: Vec<u32> = (1..=100 * UNITS)
            .filter(|now| match tells(&tcp(tcp::ESTABLISHED, *now, told), &rules, *now) {
                Some(new) => {
                    told = new;
                    true
                }
                None => false,
            })
            .map(|now| now / UNITS)
            .collect();
        // At once, then again after five seconds twice, and then after forty.
        assert_eq!(times, [0, 5, 10, 50, 55, 60]);
    }

    #[test]
    fn times_wrap() {
        for end in [0u32, 1, 1 << 25, (1 << 26) - 1, u32::MAX] {
            assert_eq!(Told::new(1, 0, end).since_end(end.wrapping_add(7)), 7);
            assert_eq!(Told::new(1, 3, end).since_end(end.wrapping_sub(7)), -7);
        }
    }

    #[test]
    fn templates_are_told_with_each_of_their_packets_and_may_stand_for_their_connections() {
        let rules = Sysctls { sync_persist_mode: 1, ..Sysctls::default() };
        let connection = Candidate { has_template: true, ..tcp(tcp::ESTABLISHED, 3, Told(0)) };
        assert_eq!(tells(&connection, &rules, 0), None);
        let template = |packets| Candidate { is_template: true, ..tcp(0, packets, Told(0)) };
        assert!((1..9).all(|packets| tells(&template(packets), &rules, 0).is_some()));
    }
}
