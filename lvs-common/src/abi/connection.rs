//! The connection table: `BUCKETS4`/`BUCKETS6` and `CONNS4`/`CONNS6`.
//!
//! A bucket is one cache line with a 16-bit tag for each of its [`WAYS`] connections; connection `way` of bucket `b` is
//! entry `b * WAYS + way` of the connection array. A packet first reads the entry in the way that its hash names. If that is
//! another connection's, it reads the bucket's tags, and then only entries whose tag matches. See `table` for the logic.

use super::{
    address::IpAddress,
    ids::{DestId, EntryRef},
    mode::Mode,
    next_hop::NextHop,
};
use crate::byte_order::Be16;

/// Connections a bucket holds.
pub const WAYS: u32 = 16;

/// A bucket of the connection table.
#[derive(Clone, Copy, Debug, Default)]
#[repr(C, align(64))]
pub struct Bucket {
    /// Four tags a word; 0 is a free way.
    pub tags: [u64; 4],
    /// 1 while a CPU inserts or removes.
    pub lock: u32,
    /// Set once a connection of this bucket had to go to its second choice; a look-up that misses goes there only then.
    pub overflow: u32,
    /// Ways in use.
    pub used: u32,
    /// Full bucket: the way that is looked at first for an entry that gives way to a new one. After each the next one follows, so
    /// that the oldest goes first.
    pub hand: u32,
    /// No connection of this bucket expires before (jiffies): the sweep passes by until then.
    pub due: u64,
    /// The jiffy at which nothing in this bucket could give way; 0 once something may.
    pub barren: u64,
}

/// What an entry of the table is, as a number: any byte is a value. The constants stand in patterns.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(transparent)]
pub struct EntryKind(u8);

impl EntryKind {
    /// A connection.
    pub const CONNECTION: Self = EntryKind(0);
    /// A persistence template.
    pub const TEMPLATE: Self = EntryKind(1);
    /// The other side of a FullNAT connection, by which replies find it: local address and port stand for the client, the
    /// real server for the virtual side, and `control` refers to the connection's entry. It is removed with the connection.
    pub const ALIAS: Self = EntryKind(2);
    /// An alias in the table of the real server's family, of a connection in that of its client's: `control` refers to an
    /// entry of the other table.
    pub const CROSSED: Self = EntryKind(3);
    /// What leads a real server's answer to the client of one-packet scheduling, whose connection is not kept. It is found by
    /// answers only, and counts for nobody.
    pub const ANSWER: Self = EntryKind(4);

    /// Whether listings and `drop_entry` pass an entry of this kind by: it is no connection of its own.
    #[inline(always)]
    pub const fn is_hidden(self) -> bool {
        self.0 >= EntryKind::ALIAS.0
    }

    /// Whether an entry of this kind stands for the other side of a connection.
    #[inline(always)]
    pub const fn is_alias(self) -> bool {
        self.0 == EntryKind::ALIAS.0 || self.0 == EntryKind::CROSSED.0
    }
}

/// Bits of [`Connection::state`] above the state's number (the low 8 bits).
pub mod conn_flags {
    /// Counted as inactive at its destination (`IP_VS_CONN_F_INACTIVE`).
    pub const INACTIVE: u32 = 0x100;
    /// No reply was ever seen to pass: the input-only state table applies (`IP_VS_CONN_F_NOOUTPUT`).
    pub const NO_OUTPUT: u32 = 0x200;
    /// A template one of whose connections was established, and a connection that has told its template so.
    pub const ASSURED: u32 = 0x400;
    /// A template that must not match any more.
    pub const INVALID: u32 = 0x800;
    /// Taken out of the table: no packet changes it any more.
    pub const DEAD: u32 = 0x1000;
    /// It has expired, and waits until both its ends are told by a RST.
    pub const RESETTING: u32 = 0x2000;
    /// The low byte.
    pub const STATE: u32 = 0xff;
}

/// A connection or a template; `A` is `u32` for IPv4 and `[u32; 4]` for IPv6. Addresses in network order.
#[derive(Clone, Copy, Debug, Default)]
#[repr(C, align(64))]
pub struct Connection<A> {
    /// Of the layout for tests only.
    #[cfg(feature = "test-layout")]
    pub sample: u64,
    /// Client address (masked for a template).
    pub client: A,
    /// Virtual address (the mark for a template of a firewall-mark service).
    pub virt: A,
    /// Client port, 0 for a template.
    pub client_port: Be16,
    /// Virtual port.
    pub virt_port: Be16,
    /// IP protocol, 0 for a template of a firewall-mark service.
    pub protocol: u8,
    /// What it is.
    pub kind: EntryKind,
    /// How packets reach the real server, fixed when the connection was made.
    pub forward: Mode,
    /// FullNAT: [`toa_state`](crate::fullnat::toa_state).
    pub toa_state: u8,
    /// Jiffies at the last packet.
    pub last_seen: u64,
    /// The destination.
    pub dest: DestId,
    /// State's number and [`conn_flags`]; changed by compare-and-exchange only.
    pub state: u32,
    /// Jiffies from the last packet to expiry.
    pub timeout: u32,
    /// Packets from the client.
    pub in_packets: u32,
    /// The template that controls it; of an alias, its connection.
    pub control: EntryRef,
    /// Connections that it controls.
    pub controlled: u32,
    /// Mark of the packet that made it, 0 without one.
    #[cfg(not(feature = "test-layout"))]
    pub fwmark: u32,
    /// Real server's address, if of the same family (else see the destination).
    pub real: A,
    /// Local address of FullNAT, if of the same family (else see `local_id`).
    pub local: A,
    /// Real server's port.
    pub real_port: Be16,
    /// Local port of FullNAT.
    pub local_port: Be16,
    /// As above; the layout for tests has it here.
    #[cfg(feature = "test-layout")]
    pub fwmark: u32,
    /// Next hop toward the client, for replies.
    pub reply_hop: NextHop,
    /// Of a template: hash of what a persistence engine keyed it with, 0 without one. Of a TCP connection: what a reset
    /// needs to know, see [`reset`](crate::reset). Of an answer's entry: the number of the destination, which it has no share in.
    pub engine: u64,
    /// FullNAT: the alias.
    pub alias: EntryRef,
    /// FullNAT: index of the local address, 0 without one.
    pub local_id: u32,
    /// FullNAT of TCP: sequence number of the client's first byte, host order.
    pub first: u32,
    /// What the backups were told last: [`Told`](crate::sync::rules::Told).
    pub announced: u32,
}

/// What an entry of the table begins as: everything that its makers decide. The rest of a [`Connection`] begins as none.
#[derive(Clone, Copy, Debug)]
#[allow(missing_docs, reason = "the fields are the connection's")]
pub struct Draft<A> {
    pub client: A,
    pub virt: A,
    pub client_port: Be16,
    pub virt_port: Be16,
    pub protocol: u8,
    pub kind: EntryKind,
    pub forward: Mode,
    pub last_seen: u64,
    pub dest: DestId,
    pub state: u32,
    pub timeout: u32,
    pub control: EntryRef,
    pub fwmark: u32,
    pub real: A,
    pub real_port: Be16,
    pub engine: u64,
}

impl<A: IpAddress> Connection<A> {
    /// Makes `place` the entry of a draft, without packets, a next hop, a local address or an alias.
    ///
    /// Every field is named: one that is added to the structure does not compile until it is decided here what it begins as.
    /// They are written one by one, and zeroes as words: see "memset and memcpy" in docs/develop/verifier.md.
    ///
    /// # Safety
    /// `place` is a connection that nobody else reads or writes.
    #[inline(always)]
    pub unsafe fn begin(place: *mut Self, d: Draft<A>) {
        macro_rules! fields {
            (copied: $($copied:ident)+; zero: $($(#[$attribute:meta])* $zero:ident)+) => {
                // A pattern without `..`: it takes every field.
                let _ = |Connection { $($copied: _,)+ $($(#[$attribute])* $zero: _),+ }: &Self| {};
                // SAFETY: the caller's.
                unsafe {
                    $((*place).$copied = d.$copied;)+
                    $($(#[$attribute])* zero(&raw mut (*place).$zero);)+
                }
            };
        }
        fields! {
            copied: client virt client_port virt_port protocol kind forward last_seen dest state timeout control fwmark real
                real_port engine;
            zero: toa_state in_packets controlled local local_port reply_hop alias local_id first announced
                #[cfg(feature = "test-layout")] sample
        }
    }

    /// Whether FullNAT leads to a real server of the other family: the entry has neither its address nor the local one.
    #[inline(always)]
    pub fn is_crossed(&self) -> bool {
        self.local_id != 0 && self.local == A::default()
    }
}

/// Writes zeroes over a field of integers, the widest possible at a time.
///
/// # Safety
/// The field is valid for writes, and all its bytes 0 are a value of it.
#[inline(always)]
unsafe fn zero<F>(field: *mut F) {
    // SAFETY: within the field; a field of integers that is as long as a number is also aligned as one.
    unsafe {
        match (size_of::<F>(), align_of::<F>()) {
            (1, _) => field.cast::<u8>().write_volatile(0),
            (2, 2) => field.cast::<u16>().write_volatile(0),
            (size, 4..) => (0..size / 4).for_each(|word| field.cast::<u32>().add(word).write_volatile(0)),
            (size, _) => (0..size).for_each(|byte| field.cast::<u8>().add(byte).write_volatile(0)),
        }
    }
}

/// Key of `ENGINES`: a template that a persistence engine keyed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[repr(C)]
pub struct EngineKey {
    /// Index of its entry.
    pub entry: u32,
    /// `AF_INET` or `AF_INET6`.
    pub family: u32,
}

/// Value of `ENGINES`: what the engine keyed it with, for listings.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct EngineData {
    /// Bytes of `text` in use.
    pub length: u32,
    /// The text.
    pub text: [u8; 256],
}

const _: () = assert!(size_of::<EngineKey>() == 8);
const _: () = assert!(size_of::<EngineData>() == 260);

const _: () = assert!(size_of::<Bucket>() == 64);
const _: () = assert!(size_of::<Connection<u32>>() == 128);
const _: () = assert!(size_of::<Connection<[u32; 4]>>() == 192);
