//! The connection that is asked for: `Schedule` decides about it, `Pick` adds the destination, and `Open` makes it.

use crate::{kernel::cpu, maps::REQUESTS, values::request::Request};

/// Lends this CPU's request. `None` if there is none.
#[inline(always)]
pub fn lend<R>(work: impl FnOnce(&mut Request) -> R) -> Option<R> {
    let request = REQUESTS.get_ptr_mut(cpu::number())?;
    // SAFETY: this CPU's own element, which programs use through this function alone, and never twice at a time.
    Some(work(unsafe { &mut *request }))
}
