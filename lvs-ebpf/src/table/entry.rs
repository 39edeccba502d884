//! An entry of a connection table, which several CPUs use at a time.

use core::ops::Deref;

use lvs_common::abi::{Connection, DestId, EntryKind, EntryRef, Mode, NextHop};
use lvs_common::byte_order::Be16;

use crate::kernel::{
    global::Argument,
    shared::{Shared, field},
};

/// An entry, an element of a map. What stands in it may become another connection as soon as this one is removed.
///
/// Reading a field loads it as a whole, and whoever writes stores it as a whole, so no value is ever half of two. Fields that
/// packets change are read once or by the methods here; those that decide anything change by atomics.
pub struct Entry<A>(Shared<Connection<A>>);

impl<A> Clone for Entry<A> {
    #[inline(always)]
    fn clone(&self) -> Self {
        *self
    }
}

impl<A> Copy for Entry<A> {}

impl<A> Deref for Entry<A> {
    type Target = Connection<A>;

    #[inline(always)]
    fn deref(&self) -> &Connection<A> {
        self.0.get()
    }
}

impl<A> From<Shared<Connection<A>>> for Entry<A> {
    #[inline(always)]
    fn from(connection: Shared<Connection<A>>) -> Self {
        Entry(connection)
    }
}

impl<A> Argument for Entry<A> {
    type Raw = *mut Connection<A>;

    #[inline(always)]
    fn into_raw(self) -> *mut Connection<A> {
        self.0.as_ptr()
    }

    #[inline(always)]
    unsafe fn from_raw(raw: *mut Connection<A>) -> Option<Self> {
        // SAFETY: the caller's.
        unsafe { Shared::from_raw(raw) }.map(Entry)
    }
}

impl<A> Entry<A> {
    /// The pointer, for the code that both sides share.
    #[inline(always)]
    pub fn as_ptr(self) -> *mut Connection<A> {
        self.0.as_ptr()
    }

    /// The connection for as long as the program runs.
    #[inline(always)]
    pub fn get<'a>(self) -> &'a Connection<A> {
        self.0.get()
    }

    /// The mode, loaded anew. See "path explosion" in docs/develop/verifier.md.
    #[inline(always)]
    pub fn mode(self) -> Mode {
        let c = self.0;
        field!(c.forward).load()
    }

    /// The state's word, which only atomics change.
    #[inline(always)]
    pub fn state_word(self) -> Shared<u32> {
        let c = self.0;
        field!(c.state)
    }

    /// The count of connections that a template controls, which only atomics change.
    #[inline(always)]
    pub fn controlled_word(self) -> Shared<u32> {
        let c = self.0;
        field!(c.controlled)
    }

    /// Where the next hop of replies is cached.
    #[inline(always)]
    pub fn reply_hop(self) -> *mut NextHop {
        let c = self.0;
        field!(c.reply_hop).as_ptr()
    }

    /// Counts a packet from the client. A count that two CPUs of one connection lose does not matter.
    #[inline(always)]
    pub fn count_request(self) {
        let c = self.0;
        let count = field!(c.in_packets);
        count.store(count.load().wrapping_add(1));
    }

    /// Sets the count of packets from the client.
    #[inline(always)]
    pub fn set_requests(self, count: u32) {
        let c = self.0;
        field!(c.in_packets).store(count);
    }

    /// Sets what is remembered of the last time that the backups were told of the connection.
    #[inline(always)]
    pub fn set_announced(self, word: u32) {
        let c = self.0;
        field!(c.announced).store(word);
    }

    /// Sets the time of the last packet, jiffies, if it has changed: so an entry's line stays shared between CPUs for a jiffy.
    #[inline(always)]
    pub fn touch(self, now: u64) {
        let c = self.0;
        let last_seen = field!(c.last_seen);
        if last_seen.load() != now {
            last_seen.store(now);
        }
    }

    /// Sets the timeout, jiffies.
    #[inline(always)]
    pub fn set_timeout(self, timeout: u32) {
        let c = self.0;
        field!(c.timeout).store(timeout);
    }

    /// Sets the mode, of a draft.
    #[inline(always)]
    pub fn set_mode(self, mode: Mode) {
        let c = self.0;
        field!(c.forward).store(mode);
    }

    /// Makes a draft what leads answers to its client, for so many jiffies: an entry that its destination knows nothing of.
    #[inline(always)]
    pub fn lead_answers(self, timeout: u32) {
        let c = self.0;
        field!(c.engine).store(self.dest.get() as u64);
        field!(c.dest).store(DestId::NONE);
        field!(c.control).store(EntryRef::NONE);
        field!(c.kind).store(EntryKind::ANSWER);
        field!(c.timeout).store(timeout);
    }

    /// Sets the local end of FullNAT, of a draft: index of the address, the address if it is of the same family, and the port.
    #[inline(always)]
    pub fn set_local(self, id: u32, address: A, port: Be16)
    where
        A: Copy,
    {
        let c = self.0;
        field!(c.local_id).store(id);
        field!(c.local).store(address);
        field!(c.local_port).store(port);
    }

    /// Sets the state of TOA.
    #[inline(always)]
    pub fn set_toa_state(self, state: u8) {
        let c = self.0;
        field!(c.toa_state).store(state);
    }

    /// Sets the sequence number of the client's first byte, host order.
    #[inline(always)]
    pub fn set_first_sequence(self, sequence: u32) {
        let c = self.0;
        field!(c.first).store(sequence);
    }

    /// Sets the alias.
    #[inline(always)]
    pub fn set_alias(self, alias: EntryRef) {
        let c = self.0;
        field!(c.alias).store(alias);
    }

    /// Changes what a reset needs to know of a TCP connection.
    #[inline(always)]
    pub fn update_reset_numbers(self, change: impl FnOnce(u64) -> u64) {
        let c = self.0;
        let word = field!(c.engine);
        word.store(change(word.load()));
    }
}
