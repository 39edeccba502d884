//! What a packet does to its connection: state, accounting at the destination, timeout, time of the last packet.
//!
//! Nearly all packets change no more than the time, which is seen at once. For the others there is one function of global
//! linkage for each family: the verifier follows it once for a program, with any arguments, and not again behind each way
//! that leads to it. A call is too dear for every packet (10 ns where returns are made safe from speculation).

use crate::table::entry::Entry;
use core::ptr::null_mut;
use lvs_common::abi::IpAddress;

use lvs_common::{
    abi::{Connection, Destination, Settings, conn_flags, dest_flags},
    defence,
    state::{self, Direction, sctp, tcp},
    wire::protocol,
};

use crate::kernel::global::global_fn;
use crate::{
    config::{destination::DestRef, service},
    kernel::{atomics, params},
    table::store::{self},
    values::parsed::Parsed,
};

global_fn! {
    /// Advances a connection; `how` is [`How`] as a number. Nothing is accounted without a destination.
    fn advance_by<A>(
        c: *mut Connection<A>,
        dest: *mut Destination,
        settings: *const Settings,
        how: u64,
        now: u64,
    ) -> u32 = advance4, advance6 => checked_step
}

fn checked_step<A: IpAddress>(
    c: *mut Connection<A>,
    dest: *mut Destination,
    settings: *const Settings,
    how: u64,
    now: u64,
) -> u32 {
    if !c.is_null() && !settings.is_null() {
        // SAFETY: an element of the map.
        step(unsafe { Entry::new(c) }, dest, unsafe { &*settings }, How(how), now);
    }
    0
}

/// A packet and its connection, as one word: there are five arguments at most.
#[derive(Clone, Copy)]
pub struct How(u64);

impl How {
    /// A packet of the connection in entry `at`, from the client or a `reply`.
    #[inline(always)]
    fn new<A>(at: u32, p: &Parsed<A>, reply: bool) -> How {
        How(at as u64 | (p.flags as u64) << 32 | (reply as u64) << 40)
    }

    #[inline(always)]
    fn at(self) -> u32 {
        self.0 as u32
    }

    /// [`Parsed::flags`].
    #[inline(always)]
    fn flags(self) -> u8 {
        (self.0 >> 32) as u8
    }

    #[inline(always)]
    fn is_reply(self) -> bool {
        self.0 >> 40 != 0
    }
}

/// What packet `p`, from the client or a `reply`, does to the connection in entry `at`.
#[inline(always)]
pub fn advance<A: IpAddress>(
    at: u32,
    c: Entry<A>,
    dest: Option<&DestRef>,
    (p, reply): (&Parsed<A>, bool),
    settings: &Settings,
    now: u64,
) {
    if !keeps(c, dest, p, reply, settings) {
        let dest = dest.map_or(null_mut(), |dest| dest.it);
        advance_by(c.as_ptr(), dest, settings, How::new(at, p, reply).0, now);
        return;
    }
    c.touch(now);
}

/// Whether a packet certainly leaves its connection as it is.
#[inline(always)]
fn keeps<A>(c: Entry<A>, dest: Option<&DestRef>, p: &Parsed<A>, reply: bool, settings: &Settings) -> bool {
    const FIXED: u32 = conn_flags::STATE | conn_flags::INACTIVE | conn_flags::DEAD;
    let Some((kept, seconds)) = state::kept(p.protocol, p.flags, &settings.timeouts) else { return false };
    if dest.is_some_and(|dest| dest.config().flags & dest_flags::OWN_TIMEOUTS != 0) {
        return false;
    }
    let (word, control, timeout) = (c.state, c.control, c.timeout);
    let fixed = if reply { FIXED | conn_flags::NO_OUTPUT } else { FIXED };
    // Its template may have to be told. Of UDP only replies tell it.
    let tells = control.is_some() && word & conn_flags::ASSURED == 0 && (reply || p.protocol != protocol::UDP);
    word & fixed == kept && timeout == seconds.wrapping_mul(params::hz()) && !tells
}

#[inline(always)]
fn step<A: IpAddress>(c: Entry<A>, dest: *mut Destination, settings: &Settings, how: How, now: u64) {
    let old = c.state;
    if old & conn_flags::DEAD != 0 {
        return;
    }
    let protocol = c.protocol;
    let direction = if how.is_reply() { Direction::Output } else { Direction::from_client(old) };
    let event = match protocol {
        protocol::TCP => tcp::event(how.flags()),
        protocol::SCTP => sctp::event(how.flags()),
        _ => 0,
    };
    let number = (old & conn_flags::STATE) as u8;
    let next = state::next(protocol, direction, event, number, defence::works(settings.sysctls.secure_tcp));
    let mut new = (old & !conn_flags::STATE) | next as u32;
    if how.is_reply() {
        new &= !conn_flags::NO_OUTPUT;
    }
    let assures = c.control.is_some() && old & conn_flags::ASSURED == 0 && state::assures(protocol, direction, next);
    if assures {
        new |= conn_flags::ASSURED;
    }
    if state::is_active(protocol, next) {
        new &= !conn_flags::INACTIVE;
    } else {
        new |= conn_flags::INACTIVE;
    }
    let own = own_timeouts(dest, settings.epoch);
    let timeout = state::timeout(protocol, next, &settings.timeouts, own).wrapping_mul(params::hz());
    // If it fails, somebody else's change came first: it was one packet's and so is this.
    if new != old && atomics::compare_exchange32(c.state_word(), old, new).is_ok() {
        if assures {
            assure::<A>(c.control.index());
        }
        account(dest, old, new);
    }
    let before = c.timeout;
    if before != timeout {
        c.set_timeout(timeout);
        if timeout < before {
            store::sweep_by::<A>(how.at(), now + timeout as u64);
        }
    }
    c.touch(now);
}

/// Tells a template that one of its connections was established.
#[inline(always)]
fn assure<A: IpAddress>(at: u32) {
    if let Some(template) = store::entry::<A>(at) {
        atomics::fetch_or32(template.state_word(), conn_flags::ASSURED);
    }
}

/// The timeouts of a destination's service, if it has its own.
#[inline(always)]
fn own_timeouts(dest: *mut Destination, epoch: u64) -> [u32; 3] {
    if dest.is_null() {
        return [0; 3];
    }
    // SAFETY: an element of the map.
    if unsafe { (*DestRef::in_force(dest, epoch)).flags } & dest_flags::OWN_TIMEOUTS == 0 {
        return [0; 3];
    }
    // SAFETY: as above.
    service::ServiceRef::get(unsafe { (*dest).service }, epoch).map_or([0; 3], |service| service.config().timeouts)
}

/// Moves a connection between active and inactive at its destination.
#[inline(always)]
fn account(dest: *mut Destination, old: u32, new: u32) {
    const ONE_ACTIVE: u64 = (1 << 32) - 1;
    let change = match (old & conn_flags::INACTIVE != 0, new & conn_flags::INACTIVE != 0) {
        (true, false) => ONE_ACTIVE,
        (false, true) => ONE_ACTIVE.wrapping_neg(),
        _ => return,
    };
    if !dest.is_null() {
        // SAFETY: an element of the map.
        atomics::fetch_add64(unsafe { &raw mut (*dest).connections }, change);
    }
}
