//! Destinations as they are in force.

use crate::kernel::global::global_fn;
use crate::kernel::params;
use crate::kernel::shared::{Shared, element, field};
use crate::maps::DESTS;
use lvs_common::abi::{Address, DestConfig, DestId, Destination, NextHop, ServiceId, dest_flags};
use lvs_common::byte_order::Be16;
use lvs_common::neighbour::Silence;

/// A destination with the copy of its configuration that is in force.
///
/// `lvsadm` writes address, port, family and service before the destination is available, and again only when nothing refers to
/// the destination any more.
#[derive(Clone, Copy)]
pub struct DestRef {
    pub id: DestId,
    pub it: Shared<Destination>,
    config: Shared<DestConfig>,
}

impl DestRef {
    /// Destination `id` at `epoch`.
    #[inline(always)]
    pub fn get(id: DestId, epoch: u64) -> Option<DestRef> {
        if id.is_none() {
            return None;
        }
        let it = element(&DESTS, id.get())?;
        Some(DestRef { id, it, config: DestRef::in_force(it, epoch) })
    }

    /// The copy of a destination's configuration that is in force at `epoch`.
    #[inline(always)]
    pub fn in_force(it: Shared<Destination>, epoch: u64) -> Shared<DestConfig> {
        field!(it.config).at(it.get().switch.copy(epoch))
    }

    /// Its configuration, which `lvsadm` writes only while it is not in force.
    #[inline(always)]
    pub fn config<'a>(&self) -> &'a DestConfig {
        self.config.get()
    }

    /// Whether it is configured.
    #[inline(always)]
    pub fn available(&self) -> bool {
        self.config().flags & dest_flags::AVAILABLE != 0
    }

    /// The real server's address.
    #[inline(always)]
    pub fn address<'a>(&self) -> &'a Address {
        &self.it.get().address
    }

    /// Whether the address is another host's, so that it is unreachable if it has no route.
    #[inline(always)]
    pub fn is_remote(&self) -> bool {
        let it = self.it;
        field!(it.remote).load() != 0
    }

    /// The family of the address, `AF_INET` or `AF_INET6`.
    #[inline(always)]
    pub fn family(&self) -> u8 {
        self.it.get().family
    }

    /// The real server's port.
    #[inline(always)]
    pub fn port(&self) -> Be16 {
        self.it.get().port
    }

    /// The destination's service.
    #[inline(always)]
    pub fn service(&self) -> ServiceId {
        self.it.get().service
    }

    /// The director's address toward the real server, for tunnels; all 0 until it is known. Every CPU writes the same value.
    #[inline(always)]
    pub fn source<'a>(&self) -> &'a Address {
        &self.it.get().source
    }

    /// Remembers the director's address toward the real server.
    #[inline(always)]
    pub fn set_source(&self, source: Address) {
        let it = self.it;
        let words = field!(it.source.0);
        for (at, word) in source.0.into_iter().enumerate() {
            words.at(at).store(word);
        }
    }

    /// Where the next hop is cached.
    #[inline(always)]
    pub fn hop(&self) -> *mut NextHop {
        let it = self.it;
        field!(it.hop).as_ptr()
    }

    /// Whether a packet is refused because the neighbour toward the real server does not answer, and not given to the kernel to ask for
    /// it. `was_known`: it was known when it was last looked up.
    #[inline(always)]
    pub fn is_silent(&self, now: u64, was_known: bool) -> bool {
        let it = self.it;
        is_silent(field!(it.silence), now, was_known as u32) != 0
    }
}

global_fn! {
    /// See [`DestRef::is_silent`]. CPUs that lose a race to each other ask once more, or refuse one packet more.
    fn is_silent(silence: Shared<Silence>, now: u64, was_known: u32) -> u32 = neighbour_is_silent => silent
}

fn silent(silence: Shared<Silence>, now: u64, was_known: u32) -> u32 {
    let (since, asked) = (field!(silence.since), field!(silence.asked));
    let before = Silence { since: since.load(), asked: asked.load() };
    let (after, is_refused) = before.next(now as u32, params::hz(), was_known != 0);
    since.store(after.since);
    asked.store(after.asked);
    is_refused as u32
}
