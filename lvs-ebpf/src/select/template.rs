//! Persistence templates in the connection table.

use lvs_common::abi::IpAddress;
use lvs_common::byte_order::Be16;
use lvs_common::{
    abi::{Connection, DestId, Draft, EntryKind, EntryRef, Settings, conn_flags},
    persist::{self, TemplateKey},
    table::{self, Hash, InsertError, Store, Wanted},
};

use crate::{
    config::{destination::DestRef, service},
    kernel::{global::global_fn, params},
    table::{
        binding, draft, find, release,
        store::{self, Table},
    },
    values::parsed::Parsed,
};

/// What a template is found by.
struct Key<A> {
    /// Masked client address.
    client: A,
    /// Virtual side.
    virt: TemplateKey,
    /// Hash of what the persistence engine looks at, 0 without one.
    engine: u64,
    /// Whether the real server's port is the destination's own, not every one.
    own_port: bool,
}

impl<A: IpAddress> Key<A> {
    /// That of a packet for a service.
    #[inline(always)]
    fn of(p: &Parsed<A>, service: &service::ServiceRef, engine: u64) -> Self {
        let client = A::narrow(persist::masked(p.source.widen(), A::FAMILY, service.config().netmask));
        let (virt, own_port) = persist::template(p.destination.widen(), service.port(), p.protocol, service.fwmark());
        Key { client, virt, engine, own_port }
    }

    #[inline(always)]
    fn hash(&self) -> Hash {
        let TemplateKey { virt, virt_port, protocol } = self.virt;
        table::template_hash(self.client, A::narrow(virt), virt_port, protocol, self.engine, params::secret())
    }
}

impl<A: IpAddress> Wanted<A> for Key<A> {
    #[inline(always)]
    fn is(&self, c: &Connection<A>) -> bool {
        c.kind == EntryKind::TEMPLATE
            && c.client == self.client
            && c.virt == A::narrow(self.virt.virt)
            && c.virt_port == self.virt.virt_port
            && c.protocol == self.virt.protocol
            && c.engine == self.engine
            && c.state & conn_flags::INVALID == 0
    }

    #[inline(always)]
    fn search<S: Store<A>>(&self, _: &S, hash: Hash) -> Option<u32> {
        find::index(search_template::<A>(hash.0, self))
    }
}

global_fn! {
    /// Searches for a template.
    fn search_template<A>(hash: u64, key: &Key<A>) -> u32 = search_template4, search_template6 => search
}

fn search<A: IpAddress>(hash: u64, key: &Key<A>) -> u32 {
    find::number(table::search::<A, _>(&Table, Hash(hash), key))
}

/// The template that decides for this packet: its entry and its destination. One that must not decide any more
/// is set aside, to run out by itself.
#[inline(always)]
pub fn find<A: IpAddress>(
    p: &Parsed<A>,
    service: &service::ServiceRef,
    engine: u64,
    settings: &Settings,
    now: u64,
) -> Option<(u32, DestId)> {
    let key = Key::of(p, service, engine);
    let (at, template) = find::look_up(key.hash(), &key)?;
    let c = template.get();
    if find::expired(c, now) && c.controlled == 0 {
        release::remove(at, template, settings.epoch, |c| find::expired(c, now) && c.controlled == 0);
        return None;
    }
    let dest = DestRef::get(c.dest, settings.epoch)?;
    let quiescent = settings.sysctls.expire_quiescent_template != 0 && dest.config().weight == 0;
    if dest.available() && !quiescent {
        return Some((at, dest.id));
    }
    // Another CPU that changes it at the same time sets the same flag.
    let _ = template.state_word().compare_exchange(c.state, c.state | conn_flags::INVALID);
    None
}

/// Makes a template that leads to `dest`, by way of this CPU's draft: its entry, and the destination it leads to, for another CPU may
/// have made it a moment ago.
#[inline(always)]
pub fn make<A: IpAddress>(
    p: &Parsed<A>,
    service: &service::ServiceRef,
    engine: u64,
    dest: &DestRef,
    now: u64,
) -> Result<(u32, DestId), InsertError> {
    let key = Key::of(p, service, engine);
    let (address, family, port) = (*dest.address(), dest.family(), dest.port());
    let timeout = service.config().persist_timeout.wrapping_mul(params::hz());
    let draft = draft::begin(Draft {
        client: key.client,
        virt: A::narrow(key.virt.virt),
        client_port: Be16::ZERO,
        virt_port: key.virt.virt_port,
        protocol: key.virt.protocol,
        kind: EntryKind::TEMPLATE,
        forward: dest.config().forward,
        last_seen: now,
        dest: dest.id,
        state: 0,
        timeout,
        control: EntryRef::NONE,
        fwmark: service.fwmark(),
        real: if family == A::FAMILY { A::narrow(address) } else { A::default() },
        real_port: if key.own_port { port } else { Be16::ZERO },
        engine,
    })
    .ok_or(InsertError::Busy)?;
    match draft::put(draft, now.wrapping_add(timeout as u64)) {
        Ok(at) => {
            binding::bind(dest, true);
            Ok((at, dest.id))
        }
        Err(InsertError::Exists(at)) => Ok((at, store::entry::<A>(at).ok_or(InsertError::Busy)?.dest)),
        Err(error) => Err(error),
    }
}

/// Whether entry `at` is still a template that leads to `dest`: it may have expired since it was found.
#[inline(always)]
pub fn leads_to<A: IpAddress>(at: u32, dest: DestId) -> bool {
    let Some(template) = store::entry::<A>(at) else { return false };
    let t = template.get();
    t.kind == EntryKind::TEMPLATE && t.dest == dest && t.state & conn_flags::DEAD == 0
}

/// Ties a new connection to its template, whose time starts anew.
#[inline(always)]
pub fn tie<A: IpAddress>(at: u32, now: u64) {
    if let Some(template) = store::entry::<A>(at) {
        template.controlled_word().fetch_add(1);
        template.touch(now);
    }
}
