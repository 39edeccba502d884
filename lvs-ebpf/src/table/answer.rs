//! Answers of one-packet scheduling with NAT. The table does not keep such a connection, so an entry of another kind leads
//! the real server's answer to the client, for a while.

use lvs_common::{
    abi::{EntryKind, IpAddress, Mode, Settings},
    exit::Exit,
    table::InsertError,
};

use crate::{
    kernel::{global::global_fn, params},
    stats,
    table::{draft, entry::Entry, release, store},
};

/// [`put`]: there is an entry now, and there is no room for one. Smaller numbers are entries that are in the way.
const KEPT: u32 = u32::MAX;
const NO_ROOM: u32 = u32::MAX - 1;

/// Has answers to the packet whose connection is this CPU's draft come from the virtual address. The draft stays one to forward the
/// packet by.
#[inline(always)]
pub fn expect<A: IpAddress>(draft: Entry<A>, settings: &Settings, now: u64) {
    let seconds = settings.sysctls.one_packet_nat;
    if seconds == 0 || draft.mode() != Mode::MASQ {
        return;
    }
    let timeout = seconds.wrapping_mul(params::hz());
    draft.lead_answers(timeout);
    let at = put::<A>(draft, timeout, now);
    if at < NO_ROOM && !renew(draft, timeout, at, now) {
        // The client asks another virtual address now: its answers come from there.
        if let Some(entry) = store::entry::<A>(at) {
            release::remove(at, entry, settings.epoch, |c| c.kind == EntryKind::ANSWER);
        }
        put::<A>(draft, timeout, now);
    }
    if at == NO_ROOM {
        stats::exit(Exit::Unkept);
    }
}

global_fn! {
    /// Puts in an entry for so many jiffies.
    fn put<A>(draft: Entry<A>, timeout: u32, now: u64) -> u32 = put_answer4, put_answer6 => insert
}

fn insert<A: IpAddress>(draft: Entry<A>, timeout: u32, now: u64) -> u32 {
    match draft::put(draft, now.wrapping_add(timeout as u64)) {
        Ok(_) => KEPT,
        Err(InsertError::Exists(at)) => at,
        Err(_) => NO_ROOM,
    }
}

/// Has entry `at` stay for as long again, if it is for answers from the same virtual address.
#[inline(always)]
fn renew<A: IpAddress>(draft: Entry<A>, timeout: u32, at: u32, now: u64) -> bool {
    let Some(entry) = store::entry::<A>(at) else { return false };
    let is_same = entry.virt == draft.virt && entry.virt_port == draft.virt_port;
    if is_same {
        entry.set_timeout(timeout);
        entry.touch(now);
    }
    is_same
}
