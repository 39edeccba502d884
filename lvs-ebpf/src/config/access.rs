//! Who may come in: the lists of blocked and of allowed clients.

use aya_ebpf::btf_maps::lpm_trie::Key;
use lvs_common::abi::{Address, IpAddress, LIST_BITS4, LIST_BITS6, ListEntry, ListKey4, ListKey6, ServiceId};
use lvs_common::access::{self, Listed, Lists};
use lvs_common::exit::Exit;

use crate::config::service::ServiceRef;
use crate::kernel::clock;
use crate::kernel::global::global_fn;
use crate::kernel::loops::KernelLoop;
use crate::kernel::shared::{Shared, field, value};
use crate::maps::{LISTS4, LISTS6};

/// Whether an entry counts that it refuses somebody.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Count {
    /// For a packet it does.
    Packet = 1,
    /// For a connection that is there it does not.
    Nothing = 0,
}

/// The lists in force for all services and those of a service, if any of them has an entry.
#[inline(always)]
pub fn lists_for(service: &ServiceRef, epoch: u64) -> Option<[Lists; 2]> {
    let all = ServiceRef::get_any(ServiceId::NONE, epoch).map_or(Lists::default(), |all| lists(&all));
    let own = lists(service);
    if all == Lists::default() && own == Lists::default() { None } else { Some([all, own]) }
}

/// Why a client may not come in by these lists, `None` if it may.
#[inline(always)]
pub fn refusal<A: IpAddress>(client: A, [all, own]: [Lists; 2], count: Count) -> Option<Exit> {
    let client = client.widen();
    access::refusal(
        all,
        own,
        #[inline(always)]
        |list| {
            let blocks = list == all.blocked || list == own.blocked;
            covers::<A>(&client, list, if blocks { count as u32 } else { 0 }) != 0
        },
    )
}

/// A service's lists in force.
#[inline(always)]
fn lists(service: &ServiceRef) -> Lists {
    let config = service.config();
    Lists { blocked: config.blocked, allowed: config.allowed }
}

global_fn! {
    /// Whether a list has an entry in force for a client, which counts it if `count` is 1.
    fn covers<A>(client: &Address, list: u32, count: u32) -> u32 = covers4, covers6 => has_entry
}

fn has_entry<A: IpAddress>(client: &Address, list: u32, count: u32) -> u32 {
    let count_it = |entry: Shared<ListEntry>| {
        if count != 0 {
            field!(entry.packets).fetch_add(1);
        }
    };
    let bits = 8 * size_of::<A>() as u32;
    access::find(bits, KernelLoop, |bits| longest::<A>(client, list, bits), clock::nanoseconds, count_it) as u32
}

impl Listed for Shared<ListEntry> {
    #[inline(always)]
    fn entry<'a>(self) -> &'a ListEntry {
        self.get()
    }
}

/// The entry with the longest prefix of so many bits at most.
#[inline(always)]
fn longest<A: IpAddress>(client: &Address, list: u32, bits: u32) -> Option<Shared<ListEntry>> {
    if A::IS_V4 {
        value(&LISTS4, &Key::new(LIST_BITS4.wrapping_add(bits), ListKey4 { list, address: client.0[0] }))
    } else {
        value(&LISTS6, &Key::new(LIST_BITS6.wrapping_add(bits), ListKey6 { list, pad: 0, address: client.0 }))
    }
}
