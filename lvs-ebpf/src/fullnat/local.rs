//! Local addresses and their ports: each connection has one of its own toward its real server.

use aya_ebpf::{bindings::BPF_NOEXIST, helpers::generated::bpf_get_prandom_u32};
use lvs_common::{
    abi::{Address, CHUNK_PORTS, CHUNK_WORDS, CHUNKS, LocalAddress, PortKey, Ports, ServiceConfig, Settings},
    each::Each,
    exit::Exit,
    ports::{self, Range},
};

use crate::{
    atomics, count,
    kernel_loop::KernelLoop,
    maps::{LOCALS, PORTS, SCRATCH, TABLES},
    service::Found,
};

/// Local addresses of a pool that are tried for a connection at most.
const TRIES: u32 = 16;
/// The pseudo service whose pool is that of services without one.
const DEFAULT: u32 = 0;

/// An address and port that were free.
#[derive(Clone, Copy)]
pub struct Claimed {
    /// Index of the address.
    pub id: u32,
    pub address: Address,
    /// Network order.
    pub port: u16,
}

/// Local address `id`.
#[inline(always)]
fn local(id: u32) -> Option<*mut LocalAddress> {
    if id == 0 {
        return None;
    }
    LOCALS.get_ptr_mut(id)
}

/// The pool of a service: index of its table, and how many addresses it has.
#[inline(always)]
fn pool(config: &ServiceConfig, epoch: u64) -> Option<(u32, u32)> {
    let table = match config.locals {
        0 => Found::get_any(DEFAULT, epoch)?.config().locals,
        own => own,
    };
    if table == 0 {
        return None;
    }
    let count = TABLES.get_value(table, &0).copied()?;
    if count == 0 { None } else { Some((table, count)) }
}

/// Takes a free address and port toward a real server: the addresses of the service's pool in turn, on each any port.
#[inline(always)]
pub fn claim(
    service: &Found,
    settings: &Settings,
    real: Address,
    real_port: u16,
    protocol: u8,
) -> Result<Claimed, Exit> {
    let Some((table, count)) = pool(service.config(), settings.epoch) else { return Err(Exit::DropNoLocal) };
    // SAFETY: an element of the map.
    let turn = atomics::fetch_add32(unsafe { &raw mut (*service.it).local_turn }, 1);
    // SAFETY: a helper without arguments.
    let random = unsafe { bpf_get_prandom_u32() };
    let give = Range { first: settings.sysctls.lport_min as u16, last: settings.sysctls.lport_max as u16 };
    let mut key = PortKey { real, local: 0, real_port, protocol, chunk: 0 };
    let mut found = None;
    KernelLoop.each(TRIES * CHUNKS, &mut |n| {
        let number = n / CHUNKS;
        if number >= count {
            return true;
        }
        let id = TABLES.get_value(table, &(turn.wrapping_add(number) % count + 1)).copied().unwrap_or(0);
        let Some(address) = local(id) else { return false };
        key.local = id;
        key.chunk = (random.wrapping_add(n) % CHUNKS) as u8;
        match take(&key, address, give, random >> 8) {
            Some(port) => {
                // SAFETY: an element of the map.
                found = Some(Claimed { id, address: unsafe { (*address).address }, port: port.to_be() });
            }
            None if n % CHUNKS == CHUNKS - 1 => {
                // SAFETY: an element of the map.
                atomics::fetch_add64(unsafe { &raw mut (*address).conflicts }, 1);
            }
            None => {}
        }
        found.is_some()
    });
    let Some(claimed) = found else { return Err(Exit::DropNoPort) };
    if let Some(address) = local(claimed.id) {
        // SAFETY: an element of the map.
        atomics::fetch_add32(unsafe { &raw mut (*address).conns }, 1);
    }
    Ok(claimed)
}

/// Takes a free port of a chunk, host order.
#[inline(always)]
fn take(key: &PortKey, local: *mut LocalAddress, give: Range, random: u32) -> Option<u16> {
    let chunk = match PORTS.get_ptr_mut(key) {
        Some(chunk) => chunk,
        None => begin(key, local, give)?,
    };
    // SAFETY: an element of the map.
    if unsafe { (&raw const (*chunk).taken).read_volatile() } >= CHUNK_PORTS {
        return None;
    }
    let mut found = None;
    KernelLoop.each(CHUNK_WORDS, &mut |n| {
        let at = random.wrapping_add(n) % CHUNK_WORDS;
        // SAFETY: a word of the element.
        let word = unsafe { (&raw mut (*chunk).bits).cast::<u64>().add(at as usize) };
        // SAFETY: as above.
        let before = unsafe { word.read_volatile() };
        if before == u64::MAX {
            return false;
        }
        let bit = ports::lowest_free(before) & 63;
        if atomics::compare_exchange64(word, before, before | 1 << bit).is_ok() {
            found = Some(at * 64 + bit);
        }
        // Where another CPU was faster, there is another word.
        found.is_some()
    });
    let at = found?;
    // SAFETY: as above.
    atomics::fetch_add32(unsafe { &raw mut (*chunk).taken }, 1);
    Some((key.chunk as u32 * CHUNK_PORTS + at) as u16)
}

/// Makes a chunk, with the ports that are not to be given out taken.
#[inline(never)]
fn begin(key: &PortKey, local: *mut LocalAddress, give: Range) -> Option<*mut Ports> {
    let fresh = SCRATCH.get_ptr_mut(count::cpu())?.cast::<Ports>();
    // SAFETY: an element of the map, copied.
    let local = unsafe { &*local };
    let mut taken = 0;
    KernelLoop.each(CHUNK_WORDS, &mut |n| {
        let bits = ports::reserved(key.chunk as u32 * CHUNK_WORDS + n, local, give);
        taken += ones(bits);
        // SAFETY: this CPU's own element, which is longer.
        unsafe { (&raw mut (*fresh).bits).cast::<u64>().add((n % CHUNK_WORDS) as usize).write(bits) };
        false
    });
    // SAFETY: as above. Another CPU may make the same one at the same time: either is good.
    unsafe {
        (*fresh).taken = taken;
        (*fresh).pad = 0;
        let _ = PORTS.insert(key, &*fresh, BPF_NOEXIST as u64);
    }
    PORTS.get_ptr_mut(key)
}

/// How many bits are set; the BPF target has no instruction for it.
#[inline(always)]
const fn ones(bits: u64) -> u32 {
    let pairs = bits - (bits >> 1 & 0x5555_5555_5555_5555);
    let nibbles = (pairs & 0x3333_3333_3333_3333) + (pairs >> 2 & 0x3333_3333_3333_3333);
    let bytes = (nibbles + (nibbles >> 4)) & 0x0f0f_0f0f_0f0f_0f0f;
    (bytes.wrapping_mul(0x0101_0101_0101_0101) >> 56) as u32
}

/// Gives a port back.
#[inline(always)]
pub fn release(id: u32, port: u16, real: Address, real_port: u16, protocol: u8) {
    let port = u16::from_be(port) as u32;
    let key = PortKey { real, local: id, real_port, protocol, chunk: (port / CHUNK_PORTS) as u8 };
    if let Some(chunk) = PORTS.get_ptr_mut(&key) {
        let at = port % CHUNK_PORTS;
        // SAFETY: a word of the element.
        let word = unsafe { (&raw mut (*chunk).bits).cast::<u64>().add((at / 64 % CHUNK_WORDS) as usize) };
        atomics::fetch_and64(word, !(1 << (at % 64)));
        // SAFETY: as above.
        atomics::fetch_add32(unsafe { &raw mut (*chunk).taken }, u32::MAX);
    }
    if let Some(address) = local(id) {
        // SAFETY: an element of the map.
        atomics::fetch_add32(unsafe { &raw mut (*address).conns }, u32::MAX);
    }
}
