//! Connection states as IPVS has them: numbers, transitions, timeouts, names.
//!
//! A transition table has one row for each direction and event. A row is one word with four bits for each old state,
//! which keeps the tables of a protocol within four cache lines and a transition at one load and one shift.

pub mod direction;
mod rows;
pub mod sctp;
pub mod tcp;
pub mod udp;

pub use crate::wire::protocol::{SCTP, TCP, UDP};
pub use direction::Direction;

use crate::{
    abi::{Timeouts, conn_flags},
    wire::tcp_flags,
};

/// The state after a packet. `event` is [`tcp::event`]'s or [`sctp::event`]'s and unused for other protocols, `state`
/// the old state's number; `secure` chooses the stricter TCP table (`secure_tcp`).
#[inline(always)]
pub fn next(protocol: u8, direction: Direction, event: u8, state: u8, secure: bool) -> u8 {
    match protocol {
        TCP => tcp::next(direction, event, state, secure),
        SCTP => sctp::next(direction, event, state),
        _ => udp::NORMAL,
    }
}

/// Whether a connection in `state` counts as active at its destination. UDP never does.
#[inline(always)]
pub fn is_active(protocol: u8, state: u8) -> bool {
    match protocol {
        TCP => tcp::is_active(state),
        SCTP => sctp::is_active(state),
        _ => false,
    }
}

/// Whether a packet that leads to `state` shows that both ends speak to each other: then its template is worth keeping.
#[inline(always)]
pub fn assures(protocol: u8, direction: Direction, state: u8) -> bool {
    match protocol {
        TCP => state == tcp::ESTABLISHED,
        SCTP => state == sctp::ESTABLISHED,
        _ => matches!(direction, Direction::Output),
    }
}

/// Seconds from the last packet to expiry in `state`. `overrides` are the service's own timeouts for TCP established,
/// TCP FIN-WAIT and UDP, 0 meaning the global one.
#[inline(always)]
pub fn timeout(protocol: u8, state: u8, timeouts: &Timeouts, overrides: [u32; 3]) -> u32 {
    let [established, fin_wait, udp] = overrides;
    let index = (state & 15) as usize;
    let (own, global) = match protocol {
        TCP => {
            let own = match state {
                tcp::ESTABLISHED => established,
                tcp::FIN_WAIT => fin_wait,
                _ => 0,
            };
            (own, timeouts.tcp.get(index).copied().unwrap_or(0))
        }
        SCTP => (0, timeouts.sctp.get(index).copied().unwrap_or(0)),
        _ => (udp, timeouts.udp),
    };
    if own != 0 { own } else { global }
}

/// What a packet of an established connection nearly always finds and leaves: state and [`conn_flags::INACTIVE`] of the state
/// word, and the timeout in seconds, if the service has none of its own. `flags` are TCP's, or the first chunk's type for SCTP.
/// `None` for a packet that [`next`] has to be asked about.
#[inline(always)]
pub fn kept(protocol: u8, flags: u8, timeouts: &Timeouts) -> Option<(u32, u32)> {
    const DECISIVE: u8 = tcp_flags::SYN | tcp_flags::FIN | tcp_flags::RST | tcp_flags::ACK;
    match protocol {
        TCP if flags & DECISIVE == tcp_flags::ACK => {
            Some((tcp::ESTABLISHED as u32, timeouts.tcp[tcp::ESTABLISHED as usize]))
        }
        SCTP if sctp::chunk::is_of_data(flags) => {
            Some((sctp::ESTABLISHED as u32, timeouts.sctp[sctp::ESTABLISHED as usize]))
        }
        TCP | SCTP => None,
        _ => Some((udp::NORMAL as u32 | conn_flags::INACTIVE, timeouts.udp)),
    }
}

/// The state's name in a connection list. `state` is the whole state word, as a template's `ASSURED` is a flag there.
pub fn name(protocol: u8, state: u32, template: bool) -> &'static str {
    let number = (state & conn_flags::STATE) as usize;
    let names: &[&str] = match protocol {
        _ if template => return if state & conn_flags::ASSURED != 0 { "ASSURED" } else { "NONE" },
        TCP => &tcp::NAMES,
        UDP => &udp::NAMES,
        SCTP => &sctp::NAMES,
        _ => return "NONE",
    };
    names.get(number).copied().unwrap_or("ERR!")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::protocol;

    #[test]
    fn a_service_overrides_three_timeouts_and_no_other() {
        let global = Timeouts::default();
        let own = [7, 8, 9];
        assert_eq!(timeout(TCP, tcp::ESTABLISHED, &global, own), 7);
        assert_eq!(timeout(TCP, tcp::FIN_WAIT, &global, own), 8);
        assert_eq!(timeout(UDP, udp::NORMAL, &global, own), 9);
        assert_eq!(timeout(TCP, tcp::SYN_RECV, &global, own), 60);
        assert_eq!(timeout(SCTP, sctp::ESTABLISHED, &global, own), 900);
        assert_eq!(timeout(TCP, tcp::ESTABLISHED, &global, [0; 3]), 900);
    }

    #[test]
    fn what_is_kept_is_what_the_tables_keep() {
        let timeouts = Timeouts::default();
        for (protocol, flags) in [TCP, UDP, SCTP, protocol::ESP, protocol::AH]
            .into_iter()
            .flat_map(|protocol| (0..=255).map(move |f| (protocol, f)))
        {
            let Some((word, seconds)) = kept(protocol, flags, &timeouts) else { continue };
            let state = (word & conn_flags::STATE) as u8;
            let event = if protocol == TCP { tcp::event(flags) } else { sctp::event(flags) };
            for direction in [Direction::Input, Direction::Output, Direction::InputOnly] {
                assert_eq!(next(protocol, direction, event, state, false), state);
                assert_eq!(next(protocol, direction, event, state, true), state);
            }
            assert_eq!(is_active(protocol, state), word & conn_flags::INACTIVE == 0);
            assert_eq!(timeout(protocol, state, &timeouts, [0; 3]), seconds);
        }
        assert!(kept(TCP, tcp_flags::ACK, &timeouts).is_some() && kept(SCTP, sctp::chunk::SACK, &timeouts).is_some());
    }

    #[test]
    fn lists_name_states_as_ipvs_does() {
        assert_eq!(name(TCP, 4 | conn_flags::INACTIVE, false), "FIN_WAIT");
        assert_eq!(name(UDP, 0, false), "UDP");
        assert_eq!(name(SCTP, 11, false), "S-ACK-SENT");
        assert_eq!(name(TCP, 0, true), "NONE");
        assert_eq!(name(0, conn_flags::ASSURED, true), "ASSURED");
        assert_eq!(name(TCP, 200, false), "ERR!");
    }

    #[test]
    fn the_tables_never_leave_the_states_and_take_any_number() {
        for direction in [Direction::Input, Direction::Output, Direction::InputOnly] {
            for event in 0..=255 {
                for state in 0..=255 {
                    for secure in [false, true] {
                        if state <= tcp::SYNACK {
                            assert!(next(TCP, direction, event, state, secure) <= tcp::SYNACK);
                        }
                        if state <= sctp::CLOSED {
                            assert!(next(SCTP, direction, event, state, secure) <= sctp::CLOSED);
                        }
                        assert_eq!(next(UDP, direction, event, state, secure), 0);
                        next(TCP, direction, event, state, secure);
                        next(SCTP, direction, event, state, secure);
                    }
                }
            }
        }
    }
}
