//! What a connection or template counts for at its destination.

use crate::{config::destination::DestRef, kernel::shared::field};
use lvs_common::{
    abi::{Destination, conn_flags},
    sched::overload,
};

/// Counts a new connection (or template) at its destination and sets the overload flag if it reached the threshold.
#[inline(always)]
pub fn bind(dest: &DestRef, template: bool) {
    let it = dest.it;
    if template {
        field!(it.persistent).fetch_add(1);
        return;
    }
    let before = field!(it.connections).fetch_add(1);
    let (active, inactive) = Destination::split(before);
    let total = active.wrapping_add(inactive).wrapping_add(1);
    if overload::bind_overloads(total, dest.config().upper) {
        field!(it.overloaded).store(1);
    }
}

/// Takes a connection's count from its destination, whatever its state.
#[inline(always)]
pub fn unbind(dest: &DestRef, state: u32, template: bool) {
    let it = dest.it;
    if template {
        field!(it.persistent).fetch_add(u32::MAX);
        return;
    }
    let one: u64 = if state & conn_flags::INACTIVE != 0 { 1 } else { 1 << 32 };
    let before = field!(it.connections).fetch_add(one.wrapping_neg());
    if field!(it.overloaded).load() != 0 {
        let (active, inactive) = Destination::split(before.wrapping_sub(one));
        let config = dest.config();
        if overload::unbind_clears(active.wrapping_add(inactive), config.lower, config.upper) {
            field!(it.overloaded).store(0);
        }
    }
}
