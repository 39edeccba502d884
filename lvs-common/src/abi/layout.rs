//! The version of the maps' layout, which follows from the types themselves.
//!
//! The version is a hash over every type that a pinned map holds: its name, size and alignment, and each field's name, offset
//! and size. If two fields of one size change places, the version changes, too. The list below names each type's fields once
//! more, and does not compile unless it is complete: the compiler then says "pattern requires `..` due to inaccessible
//! fields".
//!
//! The same list writes the *description* of the layout ([`describe`]), a text that is pinned beside the maps. Another build, later
//! or earlier, reads the maps by it, field by name.

use core::fmt::{self, Write};
use core::mem::offset_of;

use super::access::{ListEntry, ListKey4, ListKey6};
use super::address::Address;
use super::connection::{Bucket, Connection, EngineData, EngineKey, EntryKind};
use super::destination::{DestConfig, Destination};
use super::device::{Device, VlanKey};
use super::idle::Idle;
use super::ids::{DestId, EntryRef, ServiceId};
use super::local::{LocalAddress, PortKey, Ports};
use super::mark::{MarkLists, MarkRule};
use super::mode::Mode;
use super::next_hop::NextHop;
use super::own::OwnOptions;
use super::roster::{RosterEntry, RosterPart};
use super::service::{FwmarkKey, Service, ServiceConfig, ServiceKey};
use super::settings::{Settings, Timeouts, Watch};
use super::statistics::{Counters, Rates};
use super::switch::Switch;
use super::sync::{Announcement, Daemon, Incoming, Sync, SyncCounters};
use super::sysctls::{SYSCTLS, Sysctls};
use super::tunnel::TunnelKind;
use crate::byte_order::Be16;
use crate::exit::EXITS;
use crate::icmp_limit::IcmpLimits;
use crate::neighbour::Silence;

/// An FNV-1a hash of 32 bits in the making.
#[derive(Clone, Copy)]
struct Hash(u32);

impl Hash {
    const NEW: Hash = Hash(0x811c_9dc5);

    const fn byte(self, byte: u8) -> Self {
        Hash((self.0 ^ byte as u32).wrapping_mul(0x0100_0193))
    }

    /// Adds a text and its end.
    const fn text(mut self, text: &str) -> Self {
        let mut rest = text.as_bytes();
        while let [first, others @ ..] = rest {
            self = self.byte(*first);
            rest = others;
        }
        self.byte(0)
    }

    const fn number(mut self, number: usize) -> Self {
        let bytes = (number as u64).to_le_bytes();
        let mut rest = bytes.as_slice();
        while let [first, others @ ..] = rest {
            self = self.byte(*first);
            rest = others;
        }
        self
    }
}

/// The size of the field that a function gives.
const fn size_of_field<T, F>(_: fn(&T) -> &F) -> usize {
    size_of::<F>()
}

/// What a field is made of: one element, or several of a kind. A type that is not in the list below is a number, or bytes that mean
/// nothing by themselves.
trait Element {
    /// Name of the type, if it is in the list below.
    const NAME: &'static str = "-";
    /// Bytes of an element.
    const SIZE: usize;
}

impl<T: Element, const N: usize> Element for [T; N] {
    const NAME: &'static str = T::NAME;
    const SIZE: usize = T::SIZE;
}

macro_rules! numbers {
    ($($name:ty),+) => {
        $(impl Element for $name {
            const SIZE: usize = size_of::<$name>();
        })+
    };
}

numbers!(u8, u16, u32, u64, Be16, Address, DestId, EntryKind, EntryRef, Mode, ServiceId, Switch, TunnelKind);

/// Writes the line of the field that a function gives.
fn describe_field<T, F: Element>(out: &mut impl Write, name: &str, offset: usize, _: fn(&T) -> &F) -> fmt::Result {
    writeln!(out, "field\t{name}\t{offset}\t{}\t{}\t{}", size_of::<F>(), F::SIZE, F::NAME)
}

/// A function that adds these types to a hash, and one that describes them.
macro_rules! layouts {
    ($(#[$attribute:meta])* $function:ident, $describe:ident:
        $($name:ident $(<$argument:ty>)? { $($(#[$field_attribute:meta])* $field:ident),+ $(,)? })+) => {
        $(#[$attribute])*
        pub(in crate::abi::layout) const fn $function(hash: Hash) -> Hash {
            $(
                let hash = {
                    type Type = $name$(<$argument>)?;
                    // A pattern without `..`: it takes every field.
                    let _ = |$name { $($(#[$field_attribute])* $field: _),+ }: &Type| {};
                    let hash = hash.text(stringify!($name)).number(size_of::<Type>()).number(align_of::<Type>());
                    $(
                        $(#[$field_attribute])*
                        let hash = hash
                            .text(stringify!($field))
                            .number(offset_of!(Type, $field))
                            .number(size_of_field(|it: &Type| &it.$field));
                    )+
                    hash
                };
            )+
            hash
        }

        $(impl Element for $name$(<$argument>)? {
            const NAME: &'static str = concat!(stringify!($name) $(, "<", stringify!($argument), ">")?);
            const SIZE: usize = size_of::<Self>();
        })+

        $(#[$attribute])*
        pub(in crate::abi::layout) fn $describe(out: &mut impl Write) -> fmt::Result {
            $({
                type Type = $name$(<$argument>)?;
                writeln!(out, "type\t{}\t{}", Type::NAME, size_of::<Type>())?;
                $(
                    $(#[$field_attribute])*
                    describe_field(out, stringify!($field), offset_of!(Type, $field), |it: &Type| &it.$field)?;
                )+
            })+
            Ok(())
        }
    };
}

layouts! {
    /// The types of the pinned maps.
    maps, describe_maps:
    Settings {
        epoch, now, now_ns, flags, dests_used, services_used, staged, idle_dests, resets, serial, marks, drop_rate, held,
        taken_out, removal, lists, afterwards, paths_until, icmp, timeouts, daemons, extras, drained, pad, sysctls,
        #[cfg(feature = "test-layout")]
        sample,
    }
    Timeouts { tcp, sctp, udp, pad }
    IcmpLimits { interval4, mask4, interval6, mask6, per_second, burst }
    Watch { virt, reply, served }
    MarkLists { switch, counts }
    MarkRule {
        destination, source, mark, first_port, last_port, destination_bits, source_bits, protocol, family, pad,
    }
    ListKey4 { list, address }
    ListKey6 { list, pad, address }
    ListEntry { until, packets, length, pad }
    ServiceKey<u32> { address, port, protocol, pad }
    ServiceKey<[u32; 4]> { address, port, protocol, pad }
    FwmarkKey { mark, family }
    Service {
        switch, config, address, port, protocol, family, fwmark, local_turn, requests, here, serial, folded, base,
        #[cfg(feature = "test-layout")]
        sample,
    }
    ServiceConfig {
        flags, scheduler, pe, pad, persist_timeout, netmask, head, dest_count, weight_max, weight_gcd, table, locals, roster,
        blocked, allowed, pad2, own, sched_state,
    }
    Destination {
        switch, connections, persistent, overloaded, config, address, source, service, port, family, slot, service_serial,
        remote, pad, hop, origin, base, silence,
        #[cfg(feature = "test-layout")]
        sample,
    }
    DestConfig {
        flags, weight, last_weight, next, upper, lower, forward, tunnel, tunnel_flags, pad, tunnel_port, pad2,
    }
    Silence { since, asked }
    NextHop { ifindex, checked, destination, source, mtu, flags }
    Counters { conns, in_packets, out_packets, in_bytes, out_bytes }
    Rates { last, average }
    RosterPart { next, service, first, ordinal, entries }
    RosterEntry { id, weight }
    Idle { key, since }
    Device { ifindex, flags, mac, parent, vlan, pad }
    VlanKey { parent, vlan }
    Bucket { tags, lock, overflow, used, hand, due, barren }
    Connection<u32> {
        client, virt, client_port, virt_port, protocol, kind, forward, toa_state, last_seen, dest, state, timeout, in_packets,
        control, controlled, fwmark, real, local, real_port, local_port, reply_hop, engine, alias, local_id, first,
        announced,
        #[cfg(feature = "test-layout")]
        sample,
    }
    Connection<[u32; 4]> {
        client, virt, client_port, virt_port, protocol, kind, forward, toa_state, last_seen, dest, state, timeout, in_packets,
        control, controlled, fwmark, real, local, real_port, local_port, reply_hop, engine, alias, local_id, first,
        announced,
        #[cfg(feature = "test-layout")]
        sample,
    }
    EngineKey { entry, family }
    EngineData { length, text }
    LocalAddress { address, conns, host_first, host_last, conflicts, family, pools, removed,
        #[cfg(feature = "test-layout")]
        sample,
    }
    PortKey { real, local, real_port, protocol, chunk }
    Ports { taken, pad, bits }
    Sync { daemons, lost, waiting, counters }
    Daemon { process, family, started, interface, group, syncid, maxlen, port, ttl, sealed, further_peers, further }
    Announcement {
        client, virt, real, client_port, virt_port, real_port, protocol, kind, forward, family, local_port, dest, state, timeout, fwmark,
        entry, engine, local_id, first, toa_state, pad,
    }
    Incoming { announcement, in_packets, control, age, result }
}

/// Adds the settings, whose fields are their table's rows.
const fn sysctls(mut hash: Hash) -> Hash {
    let mut rest = SYSCTLS;
    while let [first, others @ ..] = rest {
        hash = hash.text(first.name);
        rest = others;
    }
    hash
}

/// Adds the services' own options, whose fields are their table's rows.
const fn own_options(mut hash: Hash) -> Hash {
    let mut rest = OwnOptions::NAMES.as_slice();
    while let [first, others @ ..] = rest {
        hash = hash.text(first);
        rest = others;
    }
    hash
}

/// Adds the exits, whose numbers are indices into `EXITS`.
const fn exits(mut hash: Hash) -> Hash {
    let mut rest = EXITS;
    while let [(name, _), others @ ..] = rest {
        hash = hash.text(name);
        rest = others;
    }
    hash
}

/// Version of the layout of all pinned maps together.
pub const LAYOUT_VERSION: u32 = exits(own_options(sysctls(maps(Hash::NEW))))
    .number(size_of::<Address>())
    .number(size_of::<SyncCounters>())
    .text(COUNTERS_LAYOUT)
    .0;

/// What no type tells: where in `COUNTERS` the counters of a CPU are.
const COUNTERS_LAYOUT: &str = "common row, own rows";

impl Element for Sysctls {
    const NAME: &'static str = "Sysctls";
    const SIZE: usize = size_of::<Self>();
}

impl Element for OwnOptions {
    const NAME: &'static str = "OwnOptions";
    const SIZE: usize = size_of::<Self>();
}

impl Element for SyncCounters {
    const NAME: &'static str = "SyncCounters";
    const SIZE: usize = size_of::<Self>();
}

/// Describes a type that is a row of numbers.
fn describe_row<N>(
    out: &mut impl Write,
    name: &str,
    size: usize,
    fields: impl Iterator<Item = &'static str>,
) -> fmt::Result {
    writeln!(out, "type\t{name}\t{size}")?;
    for (at, field) in fields.enumerate() {
        writeln!(out, "field\t{field}\t{}\t{number}\t{number}\t-", at * size_of::<N>(), number = size_of::<N>())?;
    }
    Ok(())
}

macro_rules! holders {
    ($($map:ident: $value:ty $(, by $key:ty)?;)+) => {
        /// Describes what the maps hold: keys and values of the types of the list.
        fn describe_holders(out: &mut impl Write) -> fmt::Result {
            $(
                let keys: &[&str] = &[$(<$key as Element>::NAME)?];
                let key = keys.first().unwrap_or(&"-");
                writeln!(out, "map\t{}\t{key}\t{}", stringify!($map), <$value as Element>::NAME)?;
            )+
            Ok(())
        }
    };
}

holders! {
    SETTINGS: Settings;
    WATCH: Watch;
    SERVICES: Service;
    DESTS: Destination;
    COUNTERS: Counters;
    DEST_RATES: Rates;
    SERVICE_RATES: Rates;
    BUCKETS4: Bucket;
    BUCKETS6: Bucket;
    CONNS4: Connection<u32>;
    CONNS6: Connection<[u32; 4]>;
    DEVICES: Device;
    VLANS: Device, by VlanKey;
    SERVICE4: ServiceId, by ServiceKey<u32>;
    SERVICE6: ServiceId, by ServiceKey<[u32; 4]>;
    FWMARKS: ServiceId, by FwmarkKey;
    MARKS: MarkRule;
    LISTS4: ListEntry, by ListKey4;
    LISTS6: ListEntry, by ListKey6;
    ROSTERS: RosterPart;
    ENGINES: EngineData, by EngineKey;
    LOCALS: LocalAddress;
    PORTS: Ports, by PortKey;
    SYNC: Sync;
    ANNOUNCEMENTS: Announcement;
    INCOMING: Incoming;
    IDLE: Idle;
}

/// Writes the description of this build's layout: a line for each type and, after it, for each of its fields (name, offset, size, bytes
/// and type of an element); for each map what it holds; the names of the exits; and how `COUNTERS` is laid out. Words stand between
/// tabs; `-` is a type that has no fields.
///
/// # Errors
/// `out`'s.
pub fn describe(out: &mut impl Write) -> fmt::Result {
    describe_maps(out)?;
    describe_row::<u32>(out, Sysctls::NAME, Sysctls::SIZE, SYSCTLS.iter().map(|row| row.name))?;
    describe_row::<u32>(out, OwnOptions::NAME, OwnOptions::SIZE, OwnOptions::NAMES.into_iter())?;
    let counters = SyncCounters::default();
    describe_row::<u64>(out, SyncCounters::NAME, SyncCounters::SIZE, counters.rows().map(|(name, ..)| name))?;
    describe_holders(out)?;
    EXITS.iter().try_for_each(|(name, _)| writeln!(out, "exit\t{name}"))?;
    writeln!(out, "counters\t{COUNTERS_LAYOUT}")
}

#[cfg(test)]
mod tests {
    use super::*;

    mod one {
        use super::*;

        #[repr(C)]
        pub struct Pair {
            pub first: u32,
            pub second: u32,
        }

        layouts! { hash, describe: Pair { first, second } }
    }

    mod swapped {
        use super::*;

        #[repr(C)]
        pub struct Pair {
            pub second: u32,
            pub first: u32,
        }

        layouts! { hash, describe: Pair { first, second } }
    }

    mod wider {
        use super::*;

        #[repr(C)]
        pub struct Pair {
            pub first: u32,
            pub second: u64,
        }

        layouts! { hash, describe: Pair { first, second } }
    }

    #[test]
    fn a_field_that_moves_or_grows_changes_the_version() {
        let versions = [one::hash(Hash::NEW), swapped::hash(Hash::NEW), wider::hash(Hash::NEW)].map(|hash| hash.0);
        assert!(versions[0] != versions[1] && versions[0] != versions[2] && versions[1] != versions[2]);
    }

    #[test]
    fn a_description_names_fields_with_their_places() {
        let mut text = String::new();
        one::describe(&mut text).unwrap();
        assert_eq!(text, "type\tPair\t8\nfield\tfirst\t0\t4\t4\t-\nfield\tsecond\t4\t4\t4\t-\n");
        swapped::describe(&mut text).unwrap();
        wider::describe(&mut text).unwrap();
        for line in ["field\tsecond\t0\t4\t4\t-", "field\tsecond\t8\t8\t8\t-"] {
            assert!(text.lines().any(|other| other == line), "no {line} in {text}");
        }
        text.clear();
        describe(&mut text).unwrap();
        let daemon = size_of::<Daemon>();
        let daemons = format!("field\tdaemons\t0\t{}\t{daemon}\tDaemon", 2 * daemon);
        for line in ["field\tprotocol\t36\t1\t1\t-", &daemons, "map\tSERVICES\t-\tService"] {
            assert!(text.lines().any(|other| other == line), "no {line} in {text}");
        }
    }
}
