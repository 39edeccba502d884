//! Puts connections that came from elsewhere into the table: those that another director told of. No packet comes here: `lvsadm`
//! writes them to `INCOMING`, runs the program, and finds there what became of each.

use lvs_common::abi::{AF_INET, Draft, EntryKind, EntryRef, Incoming, IpAddress, Settings, conn_flags, entered};
use lvs_common::table::InsertError;

use crate::config::{self, destination::DestRef, watch};
use crate::kernel::{
    clock,
    global::global_fn,
    loops::{Turn, repeat},
    shared::{Shared, element, field},
};
use crate::maps::INCOMING;
use crate::packet::{access::TcPacket, control_block};
use crate::table::{
    advance, binding, draft,
    entry::Entry,
    local_ports, release,
    store::{self},
};
use crate::upkeep::local_end;

/// Enters the elements of `INCOMING` that `lvsadm` names.
#[inline(always)]
pub fn run(packet: TcPacket) -> i32 {
    let (from, count) = control_block::part(packet);
    repeat(count, &mut Entering { from, now: clock::jiffies() });
    0
}

/// A loop over elements.
struct Entering {
    from: u32,
    now: u64,
}

impl Turn for Entering {
    #[inline(always)]
    fn turn(&mut self, index: u32) -> bool {
        let Some(incoming) = element(&INCOMING, self.from.wrapping_add(index)) else { return true };
        let Some(settings) = config::settings() else { return true };
        let result = if incoming.get().announcement.family == AF_INET {
            enter_whole::<u32>(incoming, settings, self.now)
        } else {
            enter_whole::<[u32; 4]>(incoming, settings, self.now)
        };
        field!(incoming.result).store(result);
        false
    }
}

/// Enters an element, and has the answers to its local address led to it. The second step is not within the first: together they
/// would take more stack than there is.
#[inline(always)]
fn enter_whole<A: IpAddress>(incoming: Shared<Incoming>, settings: &Settings, now: u64) -> u32 {
    let result = enter::<A>(incoming, settings, now);
    if result != entered::NEW || incoming.get().announcement.local_id == 0 {
        return result;
    }
    let Some(draft) = draft::place::<A>() else { return entered::NO_ROOM };
    if local_end::lead_replies::<A>(incoming, draft, settings) != 0 {
        return result;
    }
    local_end::end::<A>(field!(incoming.announcement.entry).load(), settings.epoch);
    entered::NO_ROOM
}

global_fn! {
    /// Enters an element, but for what leads answers to it: [`entered`].
    fn enter<A>(incoming: Shared<Incoming>, settings: &Settings, now: u64) -> u32 = enter4, enter6 => put_in
}

fn put_in<A: IpAddress>(incoming: Shared<Incoming>, settings: &Settings, now: u64) -> u32 {
    let i = incoming.get();
    let a = &i.announcement;
    let Some(draft) = write::<A>(i, now) else { return entered::NO_ROOM };
    if let Some((at, c)) = draft::look_up(draft) {
        field!(incoming.announcement.entry).store(at);
        let is_other = a.kind == EntryKind::CONNECTION
            && (c.dest != a.dest || c.local_id != a.local_id || c.local_port != a.local_port);
        if !is_other {
            return update::<A>(at, c, incoming, settings, now);
        }
        // It ends, and another has taken its place; or it is the other one, which takes the place of this.
        if a.state & conn_flags::INACTIVE != 0
            || !release::remove(at, c, settings.epoch, |c| c.controlled == 0 && draft::is_like(c, draft))
        {
            return entered::IGNORED;
        }
    }
    if a.local_id == 0 {
        return insert::<A>(incoming, draft, settings, now);
    }
    if local_end::claim(incoming, settings) == 0 {
        // The other director gives a port to one connection at a time: whoever has it here has ended there.
        local_end::end_holder(local_end::holder::<A>(incoming, settings), settings.epoch);
        if local_end::claim(incoming, settings) == 0 {
            return entered::IGNORED;
        }
    }
    local_end::set::<A>(draft, a, settings);
    insert::<A>(incoming, draft, settings, now)
}

/// Writes an element as an entry, in this CPU's place.
#[inline(always)]
fn write<A: IpAddress>(i: &Incoming, now: u64) -> Option<Entry<A>> {
    let a = &i.announcement;
    let draft = draft::begin(Draft {
        client: A::narrow(a.client),
        virt: A::narrow(a.virt),
        client_port: a.client_port,
        virt_port: a.virt_port,
        protocol: a.protocol,
        kind: a.kind,
        forward: a.forward,
        last_seen: now.wrapping_sub(i.age as u64),
        dest: a.dest,
        state: a.state,
        timeout: a.timeout,
        control: i.control,
        fwmark: a.fwmark,
        real: A::narrow(a.real),
        real_port: a.real_port,
        engine: a.engine,
    })?;
    draft.set_requests(i.in_packets);
    Some(draft)
}

global_fn! {
    /// Changes an entry that is there.
    fn update<A>(at: u32, c: Entry<A>, incoming: Shared<Incoming>, settings: &Settings, now: u64) -> u32
        = update_entered4, update_entered6 => change
}

fn change<A: IpAddress>(at: u32, c: Entry<A>, incoming: Shared<Incoming>, settings: &Settings, now: u64) -> u32 {
    const TOLD: u32 = conn_flags::STATE | conn_flags::INACTIVE | conn_flags::ASSURED;
    let (i, old) = (incoming.get(), c.state);
    let new = old & !TOLD | i.announcement.state & TOLD;
    if old & conn_flags::DEAD != 0 {
        return entered::IGNORED;
    }
    // A lost race is harmless: a packet of the connection came through here, and knows better.
    if new != old && c.state_word().compare_exchange(old, new).is_ok() && c.kind != EntryKind::TEMPLATE {
        advance::account(DestRef::get(c.dest, settings.epoch).map(|dest| dest.it), old, new);
    }
    c.set_timeout(i.announcement.timeout);
    c.set_requests(i.in_packets);
    c.set_toa_state(i.announcement.toa_state as u8);
    c.set_first_sequence(i.announcement.first);
    c.touch(now.wrapping_sub(i.age as u64));
    store::sweep_by::<A>(at, now.wrapping_sub(i.age as u64).wrapping_add(i.announcement.timeout as u64));
    entered::UPDATED
}

global_fn! {
    /// Puts an element into the table.
    fn insert<A>(incoming: Shared<Incoming>, draft: Entry<A>, settings: &Settings, now: u64) -> u32
        = insert_entered4, insert_entered6 => make
}

fn make<A: IpAddress>(incoming: Shared<Incoming>, draft: Entry<A>, settings: &Settings, now: u64) -> u32 {
    let i = incoming.get();
    let due = now.wrapping_sub(i.age as u64).wrapping_add(i.announcement.timeout as u64);
    match draft::put(draft, due) {
        Ok(at) => field!(incoming.announcement.entry).store(at),
        Err(error) => {
            local_ports::give_back(draft.get());
            // Its packets have opened it a moment ago.
            return if matches!(error, InsertError::Exists(_)) { entered::IGNORED } else { entered::NO_ROOM };
        }
    }
    count::<A>(i, settings);
    entered::NEW
}

/// Counts an entry that was made where it counts: at its destination and its template.
#[inline(always)]
fn count<A: IpAddress>(i: &Incoming, settings: &Settings) {
    let a = &i.announcement;
    let is_template = a.kind == EntryKind::TEMPLATE;
    if let Some(dest) = DestRef::get(a.dest, settings.epoch) {
        // As inactive, whatever it is.
        binding::bind(&dest, is_template);
        if !is_template {
            advance::account(Some(dest.it), conn_flags::INACTIVE, a.state);
        }
    }
    if let Some(control) = EntryRef::get(i.control)
        && let Some(template) = store::entry::<A>(control)
    {
        template.controlled_word().fetch_add(1);
    }
    if a.fwmark != 0 && !is_template {
        watch::watch(A::narrow(a.virt));
    }
}
