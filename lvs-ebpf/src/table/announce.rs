//! What a master's daemon is told of connections, for its backups: connections and templates that the rules name go to a ring
//! buffer. No packet comes here while no such daemon runs.

use lvs_common::abi::{Announcement, EntryKind, IpAddress, Settings, conn_flags};
use lvs_common::sync::rules::{self, Candidate, Told, UNITS};

use crate::kernel::{
    global::global_fn,
    params,
    shared::{element, field},
};
use crate::maps::{ANNOUNCEMENTS, SYNC};
use crate::table::entry::Entry;
use crate::table::store;

global_fn! {
    /// Announces the connection in entry `at`, after a client's packet of it, and its template, as far as the rules say so.
    pub fn announce_packet<A>(at: u32, c: Entry<A>, settings: &Settings, now: u64) -> u32 = announce4, announce6 => of_packet
}

fn of_packet<A: IpAddress>(at: u32, c: Entry<A>, settings: &Settings, now: u64) -> u32 {
    announce::<A>(at, c, settings, now);
    if let Some(control) = c.control.get()
        && let Some(template) = store::entry::<A>(control)
        && template.kind == EntryKind::TEMPLATE
    {
        template.count_request();
        announce::<A>(control, template, settings, now);
    }
    0
}

global_fn! {
    /// Announces the connection or template in entry `at`, if the rules say so.
    pub fn announce<A>(at: u32, c: Entry<A>, settings: &Settings, now: u64) -> u32 = consider4, consider6 => consider
}

fn consider<A: IpAddress>(at: u32, c: Entry<A>, settings: &Settings, now: u64) -> u32 {
    let (state, timeout) = (c.state, c.timeout);
    if state & (conn_flags::DEAD | conn_flags::INVALID) != 0 {
        return 0;
    }
    let candidate = Candidate {
        is_template: c.kind == EntryKind::TEMPLATE,
        has_template: c.control.is_some(),
        protocol: c.protocol,
        state,
        packets: c.in_packets,
        timeout: units(timeout as u64),
        told: Told(c.announced),
    };
    if let Some(told) = rules::tells(&candidate, &settings.sysctls, units(now)) {
        c.set_announced(told.0);
        put::<A>(at, c);
    }
    0
}

/// Jiffies in the units of the rules.
#[inline(always)]
fn units(jiffies: u64) -> u32 {
    jiffies.wrapping_mul(UNITS as u64).checked_div(params::hz() as u64).unwrap_or(0) as u32
}

/// Puts entry `at` into the ring buffer.
#[inline(always)]
fn put<A: IpAddress>(at: u32, c: Entry<A>) {
    let Some(mut place) = ANNOUNCEMENTS.reserve(0) else {
        if let Some(sync) = element(&SYNC, 0) {
            field!(sync.lost).fetch_add(1);
        }
        return;
    };
    let to: *mut Announcement = place.as_mut_ptr();
    // SAFETY: room for an announcement, this program's until it is submitted. Field by field: see "memset and memcpy" in
    // docs/develop/verifier.md.
    unsafe {
        (*to).client = c.client.widen();
        (*to).virt = c.virt.widen();
        (*to).real = c.real.widen();
        (*to).client_port = c.client_port;
        (*to).virt_port = c.virt_port;
        (*to).real_port = c.real_port;
        (*to).protocol = c.protocol;
        (*to).kind = c.kind;
        (*to).forward = c.forward;
        (*to).family = A::FAMILY;
        (*to).local_port = c.local_port;
        (*to).dest = c.dest;
        (*to).state = c.state;
        (*to).timeout = c.timeout;
        (*to).fwmark = c.fwmark;
        (*to).entry = at;
        (*to).engine = c.engine;
        (*to).local_id = c.local_id;
        (*to).first = c.first;
        (*to).toa_state = c.toa_state as u32;
        (*to).pad = 0;
    }
    place.submit(0);
}
