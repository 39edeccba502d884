//! Local addresses and their ports: each connection has one of its own toward its real server.

use aya_ebpf::bindings::BPF_NOEXIST;
use lvs_common::byte_order::Be16;
use lvs_common::{
    abi::{
        Address, CHUNK_PORTS, CHUNK_WORDS, CHUNKS, Connection, IpAddress, LocalAddress, POOL_HEAD, PortKey, Ports,
        ServiceConfig, ServiceId, Settings,
    },
    exit::Exit,
    ports::{self, Range},
    verifier::Each,
};

use crate::{
    config::service::ServiceRef,
    kernel::{
        loops::KernelLoop,
        random,
        shared::{Shared, element, field, value},
    },
    maps::{DESTS, EMPTY_PORTS, LOCALS, PORTS, TABLES},
};

/// Local addresses of a pool that are tried for a connection at most.
const TRIES: u32 = 16;
/// The pseudo service whose pool is that of services without one.
const DEFAULT: ServiceId = ServiceId::NONE;

/// An address and port that were free.
#[derive(Clone, Copy)]
pub struct Claimed {
    /// Index of the address.
    pub id: u32,
    pub address: Address,
    /// Network order.
    pub port: Be16,
}

/// Local address `id`.
#[inline(always)]
fn local(id: u32) -> Option<Shared<LocalAddress>> {
    if id == 0 {
        return None;
    }
    element(&LOCALS, id)
}

/// A slot of a pool's table. The index goes through the stack: as a constant it would be in a section of mergeable
/// constants, which aya does not relocate right.
#[inline(always)]
fn slot(table: u32, at: u32) -> Option<u32> {
    TABLES.get_value(table, &at).copied()
}

/// The pool of a service: index of its table, where in it the addresses of a family begin, and how many they are.
#[inline(always)]
fn pool(config: &ServiceConfig, v4: bool, epoch: u64) -> Option<(u32, u32, u32)> {
    let table = match config.locals {
        0 => ServiceRef::get_any(DEFAULT, epoch)?.config().locals,
        own => own,
    };
    if table == 0 {
        return None;
    }
    let count4 = slot(table, 0)?;
    let (first, count) = if v4 { (POOL_HEAD, count4) } else { (count4.wrapping_add(POOL_HEAD), slot(table, 1)?) };
    if count == 0 { None } else { Some((table, first, count)) }
}

/// Whom an address and port are for.
pub struct Wanted<'a> {
    pub service: &'a ServiceRef,
    pub settings: &'a Settings,
    /// Whether the address is to be one of IPv4.
    pub v4: bool,
    pub protocol: u8,
    pub real_port: Be16,
    pub real: Address,
}

/// A search for a free port. One structure, as what a loop's turns share: each variable by itself would be on the stack
/// twice, with its address.
struct Search {
    /// The pool: index of its table, where in it the addresses begin, and how many they are.
    pool: (u32, u32, u32),
    /// Whose turn it is.
    turn: u32,
    random: u32,
    give: Range,
    key: PortKey,
    /// Index of the address and the port in host order, once found.
    found: Option<(u32, u16)>,
}

impl Search {
    /// Looks at a chunk of an address; `true` at the end.
    #[inline(always)]
    fn turn(&mut self, n: u32) -> bool {
        let (table, first, count) = self.pool;
        let number = n / CHUNKS;
        if number >= count {
            return true;
        }
        let id = slot(table, self.turn.wrapping_add(number) % count + first).unwrap_or(0);
        let Some(address) = local(id) else { return false };
        self.key.local = id;
        self.key.chunk = (self.random.wrapping_add(n) % CHUNKS) as u8;
        match take(&self.key, address.get(), self.give, self.random >> 8) {
            Some(port) => self.found = Some((id, port)),
            None if n % CHUNKS == CHUNKS - 1 => {
                field!(address.conflicts).fetch_add(1);
            }
            None => {}
        }
        self.found.is_some()
    }
}

/// Takes a free address and port toward a real server: the addresses of the service's pool in turn, on each any port.
/// A function of its own: its room on the stack is a call's.
#[inline(never)]
pub fn claim(wanted: &Wanted<'_>) -> Result<Claimed, Exit> {
    let Wanted { service, settings, v4, protocol, real_port, real } = *wanted;
    let Some(pool) = pool(service.config(), v4, settings.epoch) else { return Err(Exit::DropNoLocal) };
    let mut search = Search {
        pool,
        turn: service.local_turn().fetch_add(1),
        random: random::word(),
        give: Range { first: settings.sysctls.lport_min as u16, last: settings.sysctls.lport_max as u16 },
        key: PortKey { real, local: 0, real_port, protocol, chunk: 0 },
        found: None,
    };
    KernelLoop.each(TRIES * CHUNKS, &mut |n| search.turn(n));
    let Some((id, port)) = search.found else { return Err(Exit::DropNoPort) };
    let Some(address) = local(id) else { return Err(Exit::DropNoPort) };
    field!(address.conns).fetch_add(1);
    Ok(Claimed { id, address: address.get().address, port: Be16::new(port) })
}

/// Takes port `port` of local address `id` toward a real server, as another director has; `false` if it is taken already.
#[inline(never)]
pub fn claim_port(id: u32, port: Be16, real: &Address, real_port: Be16, protocol: u8) -> bool {
    let Some(address) = local(id) else { return false };
    let port = port.get() as u32;
    let key = PortKey { real: *real, local: id, real_port, protocol, chunk: (port / CHUNK_PORTS) as u8 };
    let chunk = match value(&PORTS, &key) {
        Some(chunk) => chunk,
        None => match begin(&key) {
            Some(chunk) => chunk,
            None => return false,
        },
    };
    let (at, bit) = (port % CHUNK_PORTS, 1 << (port % 64));
    let word = field!(chunk.bits).at((at / 64) as usize);
    let before = word.load();
    if before & bit != 0 || word.compare_exchange(before, before | bit).is_err() {
        return false;
    }
    field!(chunk.taken).fetch_add(1);
    field!(address.conns).fetch_add(1);
    true
}

/// Takes a free port of a chunk, host order.
#[inline(always)]
fn take(key: &PortKey, local: &LocalAddress, give: Range, random: u32) -> Option<u16> {
    let most = ports::available(key.chunk as u32, local, give);
    if most == 0 {
        return None;
    }
    let chunk = match value(&PORTS, key) {
        Some(chunk) => chunk,
        None => begin(key)?,
    };
    if field!(chunk.taken).load() >= most {
        return None;
    }
    let mut found = None;
    KernelLoop.each(CHUNK_WORDS, &mut |n| {
        let at = random.wrapping_add(n) % CHUNK_WORDS;
        let word = field!(chunk.bits).at(at as usize);
        let before = word.load();
        let unusable = before | ports::reserved(key.chunk as u32 * CHUNK_WORDS + at, local, give);
        if unusable == u64::MAX {
            return false;
        }
        let bit = ports::lowest_free(unusable) & 63;
        if word.compare_exchange(before, before | 1 << bit).is_ok() {
            found = Some(at * 64 + bit);
        }
        // Where another CPU was faster, there is another word.
        found.is_some()
    });
    let at = found?;
    field!(chunk.taken).fetch_add(1);
    Some((key.chunk as u32 * CHUNK_PORTS + at) as u16)
}

/// Makes a chunk. Another CPU may make the same one at the same time: either is good.
#[inline(always)]
fn begin(key: &PortKey) -> Option<Shared<Ports>> {
    let _ = PORTS.insert(key, EMPTY_PORTS.get(0)?, BPF_NOEXIST as u64);
    value(&PORTS, key)
}

/// Gives back the port that a connection holds. A function of its own, as connections are taken out in many places.
#[inline(never)]
pub fn give_back<A: IpAddress>(c: &Connection<A>) {
    let real = match c.is_crossed() {
        true => DESTS.get(c.dest.get()).map_or(Address::default(), |dest| dest.address),
        false => c.real.widen(),
    };
    release(c.local_id, c.local_port, real, c.real_port, c.protocol);
}

/// Gives a port back.
#[inline(always)]
pub fn release(id: u32, port: Be16, real: Address, real_port: Be16, protocol: u8) {
    let port = port.get() as u32;
    let key = PortKey { real, local: id, real_port, protocol, chunk: (port / CHUNK_PORTS) as u8 };
    if let Some(chunk) = value(&PORTS, &key) {
        let at = port % CHUNK_PORTS;
        field!(chunk.bits).at((at / 64) as usize).fetch_and(!(1 << (at % 64)));
        field!(chunk.taken).fetch_add(u32::MAX);
    }
    if let Some(address) = local(id) {
        field!(address.conns).fetch_add(u32::MAX);
    }
}
