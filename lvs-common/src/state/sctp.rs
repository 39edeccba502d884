//! SCTP states and transitions.

use super::direction::Direction;
use super::rows::{Row, STAY, apply, with};
use crate::verifier::row_index;

/// No state yet.
pub const NONE: u8 = 0;
/// A first INIT of the client was seen.
pub const INIT1: u8 = 1;
/// An INIT was repeated.
pub const INIT: u8 = 2;
/// The real server has sent its cookie.
pub const COOKIE_SENT: u8 = 3;
/// The client has returned the cookie.
pub const COOKIE_REPLIED: u8 = 4;
/// The real server opens, its INIT is under way.
pub const COOKIE_WAIT: u8 = 5;
/// The client has answered the real server's INIT.
pub const COOKIE: u8 = 6;
/// The real server has returned the client's cookie.
pub const COOKIE_ECHOED: u8 = 7;
/// Data can flow.
pub const ESTABLISHED: u8 = 8;
/// The real server shuts down.
pub const SHUTDOWN_SENT: u8 = 9;
/// The client shuts down.
pub const SHUTDOWN_RECEIVED: u8 = 10;
/// The real server has acknowledged a shutdown.
pub const SHUTDOWN_ACK_SENT: u8 = 11;
/// One side refused.
pub const REJECTED: u8 = 12;
/// Closed.
pub const CLOSED: u8 = 13;

/// Names by number.
pub const NAMES: [&str; 14] = [
    "NONE",
    "INIT1",
    "INIT",
    "C-SENT",
    "C-REPLIED",
    "C-WAIT",
    "COOKIE",
    "C-ECHOED",
    "ESTABLISHED",
    "S-SENT",
    "S-RECEIVED",
    "S-ACK-SENT",
    "REJECTED",
    "CLOSED",
];

/// Event: data, or any chunk that no other event is for.
pub const EVENT_DATA: u8 = 0;
/// Event: INIT.
pub const EVENT_INIT: u8 = 1;
/// Event: INIT-ACK.
pub const EVENT_INIT_ACK: u8 = 2;
/// Event: COOKIE-ECHO.
pub const EVENT_COOKIE_ECHO: u8 = 3;
/// Event: COOKIE-ACK.
pub const EVENT_COOKIE_ACK: u8 = 4;
/// Event: SHUTDOWN.
pub const EVENT_SHUTDOWN: u8 = 5;
/// Event: SHUTDOWN-ACK.
pub const EVENT_SHUTDOWN_ACK: u8 = 6;
/// Event: SHUTDOWN-COMPLETE.
pub const EVENT_SHUTDOWN_COMPLETE: u8 = 7;
/// Event: ERROR.
pub const EVENT_ERROR: u8 = 8;
/// Event: ABORT.
pub const EVENT_ABORT: u8 = 9;

/// How many events there are.
const EVENTS: usize = 10;

/// Chunk types (RFC 9260, section 3.2): those that move data, and those that have an event of their own.
#[allow(missing_docs, reason = "the names are the RFC's")]
pub mod chunk {
    pub const DATA: u8 = 0;
    pub const INIT: u8 = 1;
    pub const INIT_ACK: u8 = 2;
    pub const SACK: u8 = 3;
    pub const ABORT: u8 = 6;
    pub const SHUTDOWN: u8 = 7;
    pub const SHUTDOWN_ACK: u8 = 8;
    pub const ERROR: u8 = 9;
    pub const COOKIE_ECHO: u8 = 10;
    pub const COOKIE_ACK: u8 = 11;
    pub const SHUTDOWN_COMPLETE: u8 = 14;
    /// Not the RFC's (IANA has reserved the number): a COOKIE-ECHO or COOKIE-ACK with an ABORT after it. See
    /// [`first`](super::first).
    pub const COOKIE_ABORT: u8 = 255;

    /// Whether a packet that begins with such a chunk moves data.
    #[inline(always)]
    pub const fn is_of_data(first: u8) -> bool {
        matches!(first, DATA | SACK)
    }
}

/// Bytes of a chunk's header: type, flags, length.
pub const CHUNK_HEADER: usize = 4;

/// How far after a first chunk's beginning the second one begins, if the second one matters: after a cookie. `length` is that of
/// the first chunk, header included.
#[inline(always)]
pub const fn second_chunk(first: u8, length: u16) -> Option<usize> {
    let is_cookie = first == chunk::COOKIE_ECHO || first == chunk::COOKIE_ACK;
    if !is_cookie || (length as usize) < CHUNK_HEADER {
        return None;
    }
    // Chunks are padded to words.
    Some((length as usize + 3) & !3)
}

/// What a packet's chunks are, for [`event`]: the type of the first one, or [`chunk::COOKIE_ABORT`]. `second` is the second
/// chunk's type, where [`second_chunk`] asks for it.
#[inline(always)]
pub const fn first(first: u8, second: Option<u8>) -> u8 {
    match (first, second) {
        (chunk::COOKIE_ECHO | chunk::COOKIE_ACK, Some(chunk::ABORT)) => chunk::COOKIE_ABORT,
        // Of all types without an event of their own, one is as good as another.
        (chunk::COOKIE_ABORT, _) => chunk::COOKIE_ABORT - 1,
        (first, _) => first,
    }
}

/// The event of a packet: that of its first chunk's type, but an ABORT bundled after a cookie chunk counts as an abort.
#[inline(always)]
pub const fn event(first: u8) -> u8 {
    match first {
        chunk::INIT => EVENT_INIT,
        chunk::INIT_ACK => EVENT_INIT_ACK,
        chunk::COOKIE_ECHO => EVENT_COOKIE_ECHO,
        chunk::COOKIE_ACK => EVENT_COOKIE_ACK,
        chunk::SHUTDOWN => EVENT_SHUTDOWN,
        chunk::SHUTDOWN_ACK => EVENT_SHUTDOWN_ACK,
        chunk::SHUTDOWN_COMPLETE => EVENT_SHUTDOWN_COMPLETE,
        chunk::ERROR => EVENT_ERROR,
        chunk::ABORT | chunk::COOKIE_ABORT => EVENT_ABORT,
        _ => EVENT_DATA,
    }
}

/// A row from what it changes: each of the `old` states leads to `new`.
const fn row<const N: usize>(changes: [(&[u8], u8); N]) -> Row {
    let mut row = STAY;
    let mut change = 0;
    while change < N {
        let (old, new) = changes[change];
        let mut i = 0;
        while i < old.len() {
            row = with(row, old[i], new);
            i += 1;
        }
        change += 1;
    }
    row
}

/// Rows by `direction * 10 + event`.
static ROWS: [Row; 32] = rows();

#[rustfmt::skip]
const fn rows() -> [Row; 32] {
    use self::{
        CLOSED as CL, COOKIE as CO, COOKIE_ECHOED as CE, COOKIE_REPLIED as CR, COOKIE_SENT as CS, COOKIE_WAIT as CW,
        ESTABLISHED as ES, INIT as IN, INIT1 as I1, NONE as NO, REJECTED as RJ, SHUTDOWN_ACK_SENT as SA,
        SHUTDOWN_RECEIVED as SR, SHUTDOWN_SENT as SS,
    };
    let all: &[u8] = &[NO, I1, IN, CS, CR, CW, CO, CE, ES, SS, SR, SA, RJ, CL];
    [
        // Input: data, INIT, INIT-ACK, COOKIE-ECHO, COOKIE-ACK, SHUTDOWN, -ACK, -COMPLETE, ERROR, ABORT.
        row([(&[NO], ES)]),
        row([(&[NO], I1), (&[I1, RJ, CL], IN)]),
        row([(&[NO, I1, IN], CW), (&[CW], CO)]),
        row([(&[NO, CS], CR), (&[I1], IN)]),
        row([(&[NO, CE], ES)]),
        row([(&[NO, ES], SR)]),
        row([(&[NO, SS, SA], CL), (&[I1], IN)]),
        row([(&[NO, I1, IN, SA], CL)]),
        row([(&[NO, CE], CL)]),
        row([(all, CL), (&[CW], RJ)]),
        // Output.
        row([(&[NO], ES)]),
        row([(all, CW), (&[ES], ES)]),
        row([(&[NO, I1, IN], CS)]),
        row([(&[NO, I1, IN, CS, CR, CW, CO], CE)]),
        row([(&[NO, I1, IN, CS, CR, CW, CO, CE], ES)]),
        row([(&[NO, I1, IN, CS, CR, CW, CO, CE, ES], SS)]),
        row([(&[NO, I1, IN, CS, CR, SS, SR], SA)]),
        row([(&[NO], CL)]),
        row([(&[NO, I1, IN, CS, CR], CL)]),
        row([(all, CL), (&[I1], RJ)]),
        // Input-only.
        row([(&[NO, CW], ES)]),
        row([(&[NO], I1), (&[I1, CS, CR, CW, RJ, CL], IN)]),
        row([(&[NO, I1, IN, CS, CR, CW], CE)]),
        row([(&[NO, I1, IN, CS, CR, CW], ES)]),
        row([(&[NO, CS, CR, CO, CE], ES)]),
        row([(&[NO, ES], SR)]),
        row([(&[NO, ES, SS, SA], CL), (&[I1], IN)]),
        row([(&[NO, I1, IN, CS, CR, SR, SA], CL)]),
        row([(&[NO], CL)]),
        row([(all, CL), (&[CW], RJ)]),
        STAY,
        STAY,
    ]
}

/// The state after a packet with [`event`] `event`.
#[inline(always)]
pub fn next(direction: Direction, event: u8, state: u8) -> u8 {
    let index = (direction as usize).wrapping_mul(EVENTS).wrapping_add(event as usize);
    apply(ROWS.get(row_index(index)).copied().unwrap_or(STAY), state)
}

/// Whether a connection in `state` counts as active: only an established one.
#[inline(always)]
pub const fn is_active(state: u8) -> bool {
    state == ESTABLISHED
}

#[cfg(test)]
mod tests {
    use super::*;
    use Direction::{Input, InputOnly, Output};

    #[test]
    fn an_abort_after_a_cookie_is_an_abort() {
        let event = |chunk, second| event(first(chunk, second));
        assert_eq!(event(10, Some(6)), EVENT_ABORT);
        assert_eq!(event(11, Some(6)), EVENT_ABORT);
        assert_eq!(event(0, Some(6)), EVENT_DATA);
        assert_eq!(event(10, Some(0)), EVENT_COOKIE_ECHO);
        assert_eq!(event(11, None), EVENT_COOKIE_ACK);
        assert_eq!(event(3, None), EVENT_DATA);
        assert_eq!(event(0xc0, None), EVENT_DATA);
        assert_eq!(event(0xff, None), EVENT_DATA);
        assert_eq!(event(14, None), EVENT_SHUTDOWN_COMPLETE);
    }

    #[test]
    fn a_second_chunk_begins_at_a_word() {
        assert_eq!(
            [3, 4, 5, 8, 65535].map(|length| second_chunk(10, length)),
            [None, Some(4), Some(8), Some(8), Some(65536)]
        );
        assert_eq!((second_chunk(11, 4), second_chunk(1, 20), second_chunk(0, 4)), (Some(4), None, None));
    }

    /// Plays `packets` from NONE and returns the states passed.
    fn play(packets: &[(Direction, u8)]) -> Vec<&'static str> {
        let mut state = NONE;
        packets
            .iter()
            .map(|&(direction, event)| {
                state = next(direction, event, state);
                NAMES[state as usize]
            })
            .collect()
    }

    #[test]
    fn an_association_opens_and_closes() {
        let states = play(&[
            (Input, EVENT_INIT),
            (Output, EVENT_INIT_ACK),
            (Input, EVENT_COOKIE_ECHO),
            (Output, EVENT_COOKIE_ACK),
            (Input, EVENT_DATA),
            (Input, EVENT_SHUTDOWN),
            (Output, EVENT_SHUTDOWN_ACK),
            (Input, EVENT_SHUTDOWN_COMPLETE),
        ]);
        assert_eq!(
            states,
            ["INIT1", "C-SENT", "C-REPLIED", "ESTABLISHED", "ESTABLISHED", "S-RECEIVED", "S-ACK-SENT", "CLOSED"]
        );
    }

    #[test]
    fn the_client_alone_opens_and_closes_one_whose_replies_pass_by() {
        let states = play(&[
            (InputOnly, EVENT_INIT),
            (InputOnly, EVENT_COOKIE_ECHO),
            (InputOnly, EVENT_DATA),
            (InputOnly, EVENT_SHUTDOWN),
            (InputOnly, EVENT_SHUTDOWN_COMPLETE),
            (InputOnly, EVENT_INIT),
        ]);
        assert_eq!(states, ["INIT1", "ESTABLISHED", "ESTABLISHED", "S-RECEIVED", "CLOSED", "INIT"]);
    }

    #[test]
    fn an_abort_closes_or_rejects() {
        assert_eq!(play(&[(Output, EVENT_INIT), (Input, EVENT_ABORT)]), ["C-WAIT", "REJECTED"]);
        assert_eq!(play(&[(Input, EVENT_INIT), (Output, EVENT_ABORT)]), ["INIT1", "REJECTED"]);
        assert_eq!(play(&[(Input, EVENT_DATA), (Output, EVENT_ABORT)]), ["ESTABLISHED", "CLOSED"]);
        assert_eq!(play(&[(Input, EVENT_DATA), (Output, EVENT_INIT)]), ["ESTABLISHED", "ESTABLISHED"]);
    }
}
