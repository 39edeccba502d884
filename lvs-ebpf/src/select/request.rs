//! The connection that is asked for: `Schedule` decides about it, `Pick` adds the destination, and `Open` makes it.

use crate::{kernel::scratch, maps::REQUESTS, values::request::Request};

/// Lends this CPU's request. `None` if there is none.
#[inline(always)]
pub fn lend<R>(work: impl FnOnce(&mut Request) -> R) -> Option<R> {
    scratch::lend(&REQUESTS, work)
}
