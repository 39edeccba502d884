//! Advances a connection by a packet: state, timeout, time of the last packet, and whether its destination counts it as
//! active.
//!
//! Nearly all packets change only the time, and `keeps` sees that at once. For the others there is one global function for
//! each family. A call would cost too much for every packet: see "global functions" in docs/develop/verifier.md.

use crate::table::entry::Entry;
use lvs_common::abi::IpAddress;

use lvs_common::{
    abi::{Destination, Settings, conn_flags, dest_flags},
    defence,
    state::{self, Direction, sctp, tcp},
    wire::protocol,
};

use crate::kernel::{
    global::global_fn,
    params,
    shared::{Shared, field},
};
use crate::{
    config::{destination::DestRef, service},
    table::store::{self},
    values::parsed::Parsed,
};

global_fn! {
    /// Advances a connection; `how` is [`How`] as a number. Nothing is accounted without a destination.
    fn advance_by<A>(
        c: Entry<A>,
        dest: Option<Shared<Destination>>,
        settings: &Settings,
        how: u64,
        now: u64,
    ) -> u32 = advance4, advance6 => step
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
        advance_by(c, dest.map(|dest| dest.it), settings, How::new(at, p, reply).0, now);
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
fn step<A: IpAddress>(c: Entry<A>, dest: Option<Shared<Destination>>, settings: &Settings, how: u64, now: u64) -> u32 {
    let (how, old) = (How(how), c.state);
    if old & conn_flags::DEAD != 0 {
        return 0;
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
    // A lost race is harmless: another CPU advanced the state by a packet of the same connection.
    if new != old && c.state_word().compare_exchange(old, new).is_ok() {
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
    0
}

/// Tells a template that one of its connections was established.
#[inline(always)]
fn assure<A: IpAddress>(at: u32) {
    if let Some(template) = store::entry::<A>(at) {
        template.state_word().fetch_or(conn_flags::ASSURED);
    }
}

/// The timeouts of a destination's service, if it has its own.
#[inline(always)]
fn own_timeouts(dest: Option<Shared<Destination>>, epoch: u64) -> [u32; 3] {
    let Some(dest) = dest else { return [0; 3] };
    if DestRef::in_force(dest, epoch).get().flags & dest_flags::OWN_TIMEOUTS == 0 {
        return [0; 3];
    }
    service::ServiceRef::get(dest.get().service, epoch).map_or([0; 3], |service| service.config().own.timeouts())
}

/// Moves a connection between active and inactive at its destination.
#[inline(always)]
pub fn account(dest: Option<Shared<Destination>>, old: u32, new: u32) {
    const ONE_ACTIVE: u64 = (1 << 32) - 1;
    let change = match (old & conn_flags::INACTIVE != 0, new & conn_flags::INACTIVE != 0) {
        (true, false) => ONE_ACTIVE,
        (false, true) => ONE_ACTIVE.wrapping_neg(),
        _ => return,
    };
    if let Some(dest) = dest {
        field!(dest.connections).fetch_add(change);
    }
}
