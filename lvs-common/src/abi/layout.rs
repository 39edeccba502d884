//! The version of the maps' layout, which follows from the types themselves.
//!
//! The version is a hash over every type that a pinned map holds: its name, size and alignment, and each field's name, offset
//! and size. If two fields of one size change places, the version changes, too. The list below names each type's fields once
//! more, and does not compile unless it is complete: the compiler then says "pattern requires `..` due to inaccessible
//! fields".

use core::mem::offset_of;

use super::access::{ListEntry, ListKey4, ListKey6};
use super::address::Address;
use super::connection::{Bucket, Connection, EngineData, EngineKey};
use super::destination::{DestConfig, Destination};
use super::device::Device;
use super::idle::Idle;
use super::local::{LocalAddress, PortKey, Ports};
use super::mark::{MarkLists, MarkRule};
use super::next_hop::NextHop;
use super::own::OwnOptions;
use super::roster::{RosterEntry, RosterPart};
use super::service::{FwmarkKey, Service, ServiceConfig, ServiceKey};
use super::settings::{Settings, Timeouts, Watch};
use super::statistics::{Counters, Rates};
use super::sync::{Announcement, Daemon, Incoming, Sync, SyncCounters};
use super::sysctls::SYSCTLS;
use crate::exit::EXITS;
use crate::icmp_limit::IcmpLimits;

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

/// A function that adds these types to a hash.
macro_rules! layouts {
    ($(#[$attribute:meta])* $function:ident: $($name:ident $(<$argument:ty>)? { $($field:ident),+ $(,)? })+) => {
        $(#[$attribute])*
        pub(in crate::abi::layout) const fn $function(hash: Hash) -> Hash {
            $(
                let hash = {
                    type Type = $name$(<$argument>)?;
                    // A pattern without `..`: it takes every field.
                    let _ = |$name { $($field: _),+ }: &Type| {};
                    let hash = hash.text(stringify!($name)).number(size_of::<Type>()).number(align_of::<Type>());
                    $(
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
    };
}

layouts! {
    /// The types of the pinned maps.
    maps:
    Settings {
        epoch, now, now_ns, flags, dests_used, services_used, staged, idle_dests, resets, serial, marks, drop_rate, held,
        taken_out, removal, lists, afterwards, paths_until, icmp, timeouts, daemons, extras, sysctls,
    }
    Timeouts { tcp, sctp, udp, pad }
    IcmpLimits { interval4, mask4, interval6, mask6, per_second, burst }
    Watch { virt, reply }
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
    }
    ServiceConfig {
        flags, scheduler, pe, pad, persist_timeout, netmask, head, dest_count, weight_max, weight_gcd, table, locals, roster,
        blocked, allowed, pad2, own, sched_state,
    }
    Destination {
        switch, connections, persistent, overloaded, config, address, source, service, port, family, slot, service_serial,
        remote, pad, hop, origin, base,
    }
    DestConfig {
        flags, weight, last_weight, next, upper, lower, forward, tunnel, tunnel_flags, pad, tunnel_port, pad2,
    }
    NextHop { ifindex, checked, destination, source, mtu, flags }
    Counters { conns, in_packets, out_packets, in_bytes, out_bytes }
    Rates { last, average }
    RosterPart { next, service, first, ordinal, entries }
    RosterEntry { id, weight }
    Idle { key, since }
    Device { ifindex, flags, mac }
    Bucket { tags, lock, overflow, used, hand, due, barren }
    Connection<u32> {
        client, virt, client_port, virt_port, protocol, kind, forward, toa_state, last_seen, dest, state, timeout, in_packets,
        control, controlled, fwmark, real, local, real_port, local_port, reply_hop, engine, alias, local_id, first,
        announced,
    }
    Connection<[u32; 4]> {
        client, virt, client_port, virt_port, protocol, kind, forward, toa_state, last_seen, dest, state, timeout, in_packets,
        control, controlled, fwmark, real, local, real_port, local_port, reply_hop, engine, alias, local_id, first,
        announced,
    }
    EngineKey { entry, family }
    EngineData { length, text }
    LocalAddress { address, conns, host_first, host_last, conflicts, family, pools, removed }
    PortKey { real, local, real_port, protocol, chunk }
    Ports { taken, pad, bits }
    Sync { daemons, lost, waiting, counters }
    Daemon { process, family, started, interface, group, syncid, maxlen, port, ttl }
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

        layouts! { hash: Pair { first, second } }
    }

    mod swapped {
        use super::*;

        #[repr(C)]
        pub struct Pair {
            pub second: u32,
            pub first: u32,
        }

        layouts! { hash: Pair { first, second } }
    }

    mod wider {
        use super::*;

        #[repr(C)]
        pub struct Pair {
            pub first: u32,
            pub second: u64,
        }

        layouts! { hash: Pair { first, second } }
    }

    #[test]
    fn a_field_that_moves_or_grows_changes_the_version() {
        let versions = [one::hash(Hash::NEW), swapped::hash(Hash::NEW), wider::hash(Hash::NEW)].map(|hash| hash.0);
        assert!(versions[0] != versions[1] && versions[0] != versions[2] && versions[1] != versions[2]);
    }
}
