//! Directions, and the rows of the transition tables.

use crate::abi::conn_flags;

/// Where a packet stands to its connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Direction {
    /// From the client, when replies pass the director too.
    Input = 0,
    /// From the real server.
    Output = 1,
    /// From the client, while no reply has been seen to pass (direct routing, tunnels).
    InputOnly = 2,
}

impl Direction {
    /// The direction of a client's packet of a connection with state word `state` (flags included).
    #[inline(always)]
    pub const fn from_client(state: u32) -> Self {
        if state & conn_flags::NO_OUTPUT != 0 { Direction::InputOnly } else { Direction::Input }
    }
}

/// A row of a transition table: the new state of old state `n` in bits `4n..4n+4`.
pub(super) type Row = u64;

/// The row in which every state stays as it is.
pub(super) const STAY: Row = 0xfedc_ba98_7654_3210;

/// `row` with `old` leading to `new`.
pub(super) const fn with(row: Row, old: u8, new: u8) -> Row {
    let shift = (old & 15) as u32 * 4;
    (row & !(15 << shift)) | ((new as u64 & 15) << shift)
}

/// What `row` makes of `state`.
#[inline(always)]
pub(super) const fn apply(row: Row, state: u8) -> u8 {
    (row >> ((state & 15) as u32 * 4)) as u8 & 15
}
