//! TCP states and transitions, for both directions and for connections whose replies do not pass the director.

use super::row::{Direction, Row, apply, with};
use crate::verifier::row_index;

/// No state yet.
pub const NONE: u8 = 0;
/// Data can flow.
pub const ESTABLISHED: u8 = 1;
/// A SYN of the real server was seen first.
pub const SYN_SENT: u8 = 2;
/// A SYN of the client was seen.
pub const SYN_RECV: u8 = 3;
/// One side has closed.
pub const FIN_WAIT: u8 = 4;
/// Both sides have closed.
pub const TIME_WAIT: u8 = 5;
/// Reset.
pub const CLOSE: u8 = 6;
/// The client has closed, the real server has not.
pub const CLOSE_WAIT: u8 = 7;
/// The last acknowledgement is awaited.
pub const LAST_ACK: u8 = 8;
/// Waits for a connection that another one announced (FTP data).
pub const LISTEN: u8 = 9;
/// `secure_tcp` only: the handshake is not finished in the real server's eyes.
pub const SYNACK: u8 = 10;

/// How many states there are.
const STATES: usize = 11;

/// Names by number.
pub const NAMES: [&str; STATES] = [
    "NONE",
    "ESTABLISHED",
    "SYN_SENT",
    "SYN_RECV",
    "FIN_WAIT",
    "TIME_WAIT",
    "CLOSE",
    "CLOSE_WAIT",
    "LAST_ACK",
    "LISTEN",
    "SYNACK",
];

/// Event: SYN, with or without ACK.
pub const SYN: u8 = 0;
/// Event: FIN.
pub const FIN: u8 = 1;
/// Event: ACK alone.
pub const ACK: u8 = 2;
/// Event: RST, whatever else is set.
pub const RST: u8 = 3;
/// Event: none of the four, which closes the connection.
pub const OTHER: u8 = 4;

/// The event of a segment whose header has these flags (byte 13 of the header).
#[inline(always)]
pub const fn event(flags: u8) -> u8 {
    if flags & 0x04 != 0 {
        RST
    } else if flags & 0x02 != 0 {
        SYN
    } else if flags & 0x01 != 0 {
        FIN
    } else if flags & 0x10 != 0 {
        ACK
    } else {
        OTHER
    }
}

/// A row from its cells, in the order of the states.
const fn row(cells: [u8; STATES]) -> Row {
    let mut row = 0;
    let mut old = 0;
    while old < STATES {
        row = with(row, old as u8, cells[old]);
        old += 1;
    }
    row
}

/// Where the rows of `secure_tcp` begin.
const SECURE: usize = 16;

/// Rows by `direction * 4 + event`, then those of `secure_tcp`.
static ROWS: [Row; 32] = rows();

#[rustfmt::skip]
const fn rows() -> [Row; 32] {
    use self::{
        CLOSE as CL, CLOSE_WAIT as CW, ESTABLISHED as ES, FIN_WAIT as FW, LAST_ACK as LA, LISTEN as LI, NONE as NO,
        SYNACK as SA, SYN_RECV as SR, SYN_SENT as SS, TIME_WAIT as TW,
    };
    let unused = row([NO; STATES]);
    let plain = [
        //   NO  ES  SS  SR  FW  TW  CL  CW  LA  LI  SA      input
        row([SR, ES, ES, SR, SR, SR, SR, SR, SR, SR, SR]),
        row([CL, CW, SS, TW, TW, TW, CL, CW, LA, LI, TW]),
        row([ES, ES, SS, ES, FW, TW, CL, CW, CL, LI, ES]),
        row([CL, CL, CL, SR, CL, CL, CL, CL, LA, LI, SR]),
        //   NO  ES  SS  SR  FW  TW  CL  CW  LA  LI  SA      output
        row([SS, ES, SS, SR, SS, SS, SS, SS, SS, LI, SR]),
        row([TW, FW, SS, TW, FW, TW, CL, TW, LA, LI, TW]),
        row([ES, ES, SS, ES, FW, TW, CL, CW, LA, ES, ES]),
        row([CL, CL, SS, CL, CL, TW, CL, CL, CL, CL, CL]),
        //   NO  ES  SS  SR  FW  TW  CL  CW  LA  LI  SA      input-only
        row([SR, ES, ES, SR, SR, SR, SR, SR, SR, SR, SR]),
        row([CL, FW, SS, TW, FW, TW, CL, CW, LA, LI, TW]),
        row([ES, ES, SS, ES, FW, TW, CL, CW, CL, LI, ES]),
        row([CL, CL, CL, SR, CL, CL, CL, CL, LA, LI, CL]),
    ];
    // What `secure_tcp` changes: a client's ACK alone no longer establishes a connection.
    let input = Direction::Input as usize * 4;
    let output = Direction::Output as usize * 4;
    let input_only = Direction::InputOnly as usize * 4;
    let mut secure = plain;
    secure[input + SYN as usize] = with(plain[input + SYN as usize], SA, SA);
    secure[input + FIN as usize] = with(plain[input + FIN as usize], SA, SA);
    secure[input + ACK as usize] = with(with(plain[input + ACK as usize], SR, SR), SA, SA);
    secure[input + RST as usize] = with(plain[input + RST as usize], SA, CL);
    secure[output + SYN as usize] = with(with(plain[output + SYN as usize], SR, SA), SA, SA);
    secure[input_only + SYN as usize] = row([SA, ES, ES, SR, SA, SA, SA, SA, SA, SA, SA]);

    let mut all = [unused; 32];
    let mut i = 0;
    while i < plain.len() {
        all[i] = plain[i];
        all[SECURE + i] = secure[i];
        i += 1;
    }
    all
}

/// The state after a segment with [`event`] `event`.
#[inline(always)]
pub fn next(direction: Direction, event: u8, state: u8, secure: bool) -> u8 {
    if event >= OTHER {
        return CLOSE;
    }
    let index = (direction as usize) << 2 | event as usize | if secure { SECURE } else { 0 };
    apply(ROWS.get(row_index(index)).copied().unwrap_or(0), state)
}

/// Whether a connection in `state` counts as active: set up or being set up.
#[inline(always)]
pub const fn is_active(state: u8) -> bool {
    matches!(state, ESTABLISHED | SYN_SENT | SYN_RECV | SYNACK)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_have_a_priority() {
        assert_eq!(event(0xff), RST);
        assert_eq!(event(0x12), SYN);
        assert_eq!(event(0x11), FIN);
        assert_eq!(event(0x18), ACK);
        assert_eq!(event(0x28), OTHER);
        assert_eq!(next(Direction::Input, OTHER, ESTABLISHED, false), CLOSE);
    }

    #[test]
    fn active_states_are_those_of_the_first_half_of_a_connection() {
        let active: Vec<&str> = (0..STATES).filter(|s| is_active(*s as u8)).map(|s| NAMES[s]).collect();
        assert_eq!(active, ["ESTABLISHED", "SYN_SENT", "SYN_RECV", "SYNACK"]);
    }

    #[test]
    fn secure_tcp_wants_the_real_servers_word_for_a_handshake() {
        let step = |direction, event, state| next(direction, event, state, true);
        let after_syn = step(Direction::Input, SYN, NONE);
        assert_eq!(after_syn, SYN_RECV);
        assert_eq!(step(Direction::Input, ACK, after_syn), SYN_RECV);
        let answered = step(Direction::Output, SYN, after_syn);
        assert_eq!(answered, SYNACK);
        assert_eq!(step(Direction::Input, ACK, answered), SYNACK);
        assert_eq!(step(Direction::Output, ACK, answered), ESTABLISHED);
        assert_eq!(step(Direction::Input, RST, answered), CLOSE);
        assert_eq!(step(Direction::InputOnly, SYN, NONE), SYNACK);
        assert_eq!(step(Direction::InputOnly, ACK, SYNACK), ESTABLISHED);
    }
}
