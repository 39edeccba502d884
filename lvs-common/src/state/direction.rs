//! The direction of a packet in its connection.

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
