//! What packets are looked at: the watch filter, and the settings' flags of what there is to be found.

use std::sync::atomic::{AtomicU64, Ordering};

use lvs_common::abi::{AF_INET, AF_INET6, Address, EntryKind, IpAddress, MarkRule, Watch, dest_flags, settings_flags};
use lvs_common::byte_order::Be16;
use lvs_common::watch;

use super::convert;
use super::listing::each;
use super::mapped::field;
use super::marks::addresses;
use super::plane::Plane;
use crate::rules::ServiceKey;

/// Port of FTP.
const FTP: u16 = 21;

/// The bit of an address: word and mask.
fn bit(address: Address, family: u8) -> (usize, u64) {
    if family == AF_INET { watch::bit(address.0[0]) } else { watch::bit(address.0) }
}

/// The bit of a service, unless it is for a mark or for every port.
fn service_bit(key: &ServiceKey) -> Option<(usize, u64)> {
    let ServiceKey::Address { address, port, protocol } = *key else { return None };
    let (address, port, protocol) = (convert::address(address), Be16::new(port), protocol as u8);
    Some(match key.family().number() {
        AF_INET => watch::port_bit(address.0[0], port, protocol),
        _ => watch::port_bit(address.0, port, protocol),
    })
}

/// What there is to be found where a service is configured.
fn flags_of(key: &ServiceKey) -> u32 {
    let kind = match *key {
        ServiceKey::Fwmark { .. } => settings_flags::FWMARK,
        ServiceKey::Address { port: FTP, .. } => settings_flags::FTP,
        ServiceKey::Address { port: 0, .. } => settings_flags::ANY_PORT,
        ServiceKey::Address { .. } => 0,
    };
    kind | settings_flags::SERVICES
}

/// What there is to be found where these rules are, and the addresses that the filter has to know.
fn watched_by(rules: &[MarkRule]) -> (u32, Vec<(Address, u8)>) {
    match addresses(rules) {
        _ if rules.is_empty() => (0, Vec::new()),
        Some(few) => (settings_flags::FWMARK, few),
        None => (settings_flags::FWMARK | settings_flags::ANY_ADDRESS, Vec::new()),
    }
}

/// The filter as it is to be.
struct Needed(Watch);

impl Needed {
    fn add(&mut self, address: Address, family: u8, is_virtual: bool) {
        let (word, bit) = bit(address, family);
        self.0.reply[word] |= bit;
        if is_virtual {
            self.0.virt[word] |= bit;
        }
    }

    fn add_service(&mut self, key: &ServiceKey) {
        if let ServiceKey::Address { address, .. } = *key {
            self.add(convert::address(address), key.family().number(), true);
        }
        if let Some((word, bit)) = service_bit(key) {
            self.0.served[word] |= bit;
        }
    }
}

impl Plane {
    /// Has packets for a service looked at.
    pub fn watch_service(&mut self, key: &ServiceKey) {
        // Which addresses a mark's packets go to is the rules' to say, or shows by the mark that a packet has.
        if let ServiceKey::Address { address, .. } = *key {
            self.watch_address(convert::address(address), key.family().number(), true);
        }
        if let Some((word, bit)) = service_bit(key) {
            let [_, _, served] = self.watch_words(word);
            served.fetch_or(bit, Ordering::Relaxed);
        }
        self.set(|s| s.flags |= flags_of(key));
    }

    /// Has packets that rules are about looked at.
    pub fn watch_marks(&mut self, rules: &[MarkRule]) {
        let (flags, addresses) = watched_by(rules);
        addresses.into_iter().for_each(|(address, family)| self.watch_address(address, family, true));
        self.set(|s| s.flags |= flags);
    }

    /// Has packets from an address, and to it if it is virtual, looked at.
    pub fn watch_address(&mut self, address: Address, family: u8, is_virtual: bool) {
        let (word, bit) = bit(address, family);
        let [virt, reply, _] = self.watch_words(word);
        reply.fetch_or(bit, Ordering::Relaxed);
        if is_virtual {
            virt.fetch_or(bit, Ordering::Relaxed);
        }
    }

    /// Words of the filter: virtual addresses', replies' and services'. Packets set bits at the same time.
    fn watch_words(&self, word: usize) -> [&AtomicU64; 3] {
        assert!(word < 1024, "word {word} of the watch filter");
        let filter = self.watch.at(0);
        // SAFETY: words of the element, which is mapped as long as `self` is, and aligned; everybody who writes to them
        // does so atomically.
        unsafe {
            let virt = (&raw mut (*filter).virt).cast::<u64>().add(word);
            let reply = (&raw mut (*filter).reply).cast::<u64>().add(word);
            let served = (&raw mut (*filter).served).cast::<u64>().add(word);
            [virt, reply, served].map(|word| AtomicU64::from_ptr(word))
        }
    }

    /// Clears bits of the watch filter and flags of the settings that nothing needs any more.
    pub fn prune_watch(&mut self) {
        let settings = self.settings();
        let before = self.watch.get(0);
        let (mut flags, listed) = watched_by(&self.mark_rules());
        let mut needed = Needed(Watch { virt: [0; 1024], reply: [0; 1024], served: [0; 1024] });
        listed.into_iter().for_each(|(address, family)| needed.add(address, family, true));
        let key_of = |id| convert::service_key(&self.services.get(id));
        for id in settings.service_slots() {
            if self.is_present(id) {
                let key = key_of(id);
                flags |= flags_of(&key);
                needed.add_service(&key);
            }
        }
        for id in settings.dest_slots() {
            let busy = field!(self.dests, id, connections) != 0 || field!(self.dests, id, persistent) != 0;
            if busy || self.dest_config(id).flags & dest_flags::AVAILABLE != 0 {
                needed.add(field!(self.dests, id, address), field!(self.dests, id, family), false);
                needed.add_service(&key_of(field!(self.dests, id, service)));
            }
        }
        let had_marks = settings.flags & settings_flags::FWMARK != 0;
        if had_marks {
            self.each_marked(|address, family| {
                needed.add(address, family, true);
                // While there are any, somebody has to look for them.
                flags |= settings_flags::FWMARK;
            });
        }
        for at in 0..1024 {
            let [virt, reply, served] = self.watch_words(at);
            for (word, before, needed) in [
                (virt, before.virt[at], needed.0.virt[at]),
                (reply, before.reply[at], needed.0.reply[at]),
                (served, before.served[at], needed.0.served[at]),
            ] {
                if before & !needed != 0 {
                    word.fetch_and(!(before & !needed), Ordering::Relaxed);
                }
            }
        }
        if had_marks {
            // Those that were opened in between found their bits set, and may have lost them since.
            let mut late = Vec::new();
            self.each_marked(|address, family| late.push((address, family)));
            late.into_iter().for_each(|(address, family)| self.watch_address(address, family, true));
        }
        self.set(|s| s.flags = flags);
    }

    /// Shows the virtual address of every connection that a mark led to, which no service has.
    fn each_marked(&self, mut visit: impl FnMut(Address, u8)) {
        each(&self.buckets4, &self.conns4, |_, c| {
            if c.fwmark != 0 && c.kind == EntryKind::CONNECTION {
                visit(c.virt.widen(), AF_INET);
            }
        });
        each(&self.buckets6, &self.conns6, |_, c| {
            if c.fwmark != 0 && c.kind == EntryKind::CONNECTION {
                visit(c.virt.widen(), AF_INET6);
            }
        });
    }
}
