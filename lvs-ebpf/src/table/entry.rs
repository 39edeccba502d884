//! An entry of a connection table, which several CPUs use at a time.

use core::ops::Deref;

use lvs_common::abi::{Connection, EntryRef, Mode, NextHop};

/// An entry, by a pointer into its map. It lives as long as the program; what stands in it may become another connection as
/// soon as this one is removed.
///
/// Reading a field loads it as a whole, and whoever writes stores it as a whole, so no value is ever half of two. Fields that
/// packets change are read once or by the methods here; those that decide anything change by atomics.
pub struct Entry<A>(*mut Connection<A>);

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
        // SAFETY: `new` got a pointer to an element of a map, and elements live as long as the program. That other CPUs write
        // fields of it meanwhile is what the type is for.
        unsafe { &*self.0 }
    }
}

impl<A> Entry<A> {
    /// # Safety
    /// The pointer is one to an element of a map.
    #[inline(always)]
    pub unsafe fn new(connection: *mut Connection<A>) -> Self {
        Entry(connection)
    }

    /// The pointer, for global functions and the code that both sides share.
    #[inline(always)]
    pub fn as_ptr(self) -> *mut Connection<A> {
        self.0
    }

    /// The connection for as long as the program runs.
    #[inline(always)]
    pub fn get<'a>(self) -> &'a Connection<A> {
        // SAFETY: as in `deref`.
        unsafe { &*self.0 }
    }

    /// The mode, loaded anew. See "path explosion" in docs/develop/verifier.md.
    #[inline(always)]
    pub fn mode(self) -> Mode {
        // SAFETY: as in `deref`.
        unsafe { (&raw const (*self.0).forward).read_volatile() }
    }

    /// The state's word, which only atomics change.
    #[inline(always)]
    pub fn state_word(self) -> *mut u32 {
        // SAFETY: as in `deref`.
        unsafe { &raw mut (*self.0).state }
    }

    /// The count of connections that a template controls, which only atomics change.
    #[inline(always)]
    pub fn controlled_word(self) -> *mut u32 {
        // SAFETY: as in `deref`.
        unsafe { &raw mut (*self.0).controlled }
    }

    /// Where the next hop of replies is cached.
    #[inline(always)]
    pub fn reply_hop(self) -> *mut NextHop {
        // SAFETY: as in `deref`.
        unsafe { &raw mut (*self.0).reply_hop }
    }

    /// Counts a packet from the client. A count that two CPUs of one connection lose does not matter.
    #[inline(always)]
    pub fn count_request(self) {
        // SAFETY: as in `deref`.
        unsafe { (*self.0).in_packets = (*self.0).in_packets.wrapping_add(1) }
    }

    /// Sets the time of the last packet, jiffies, if it has changed: so an entry's line stays shared between CPUs for a jiffy.
    #[inline(always)]
    pub fn touch(self, now: u64) {
        // SAFETY: as in `deref`.
        unsafe {
            if (*self.0).last_seen != now {
                (*self.0).last_seen = now;
            }
        }
    }

    /// Sets the timeout, jiffies.
    #[inline(always)]
    pub fn set_timeout(self, timeout: u32) {
        // SAFETY: as in `deref`.
        unsafe { (*self.0).timeout = timeout }
    }

    /// Sets the state of TOA.
    #[inline(always)]
    pub fn set_toa_state(self, state: u8) {
        // SAFETY: as in `deref`.
        unsafe { (&raw mut (*self.0).told).write_volatile(state) }
    }

    /// Sets the sequence number of the client's first byte, host order.
    #[inline(always)]
    pub fn set_first_sequence(self, sequence: u32) {
        // SAFETY: as in `deref`.
        unsafe { (&raw mut (*self.0).first).write_volatile(sequence) }
    }

    /// Sets the alias.
    #[inline(always)]
    pub fn set_alias(self, alias: EntryRef) {
        // SAFETY: as in `deref`.
        unsafe { (&raw mut (*self.0).alias).write_volatile(alias) }
    }

    /// Changes what a reset needs to know of a TCP connection.
    #[inline(always)]
    pub fn update_reset_numbers(self, change: impl FnOnce(u64) -> u64) {
        // SAFETY: as in `deref`.
        unsafe {
            let word = &raw mut (*self.0).engine;
            word.write_volatile(change(word.read_volatile()));
        }
    }
}
