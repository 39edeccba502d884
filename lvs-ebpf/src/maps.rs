//! Every map of the data plane. The sizes here are the least possible: `lvsadm` sets the real ones when it loads.

use crate::values::clock::Clock;
use crate::values::locality_key::LocalityKey;
use crate::values::pending_reset::PendingReset;
use crate::values::scratch::Scratch;
use aya_ebpf::btf_maps::{Queue, RingBuf};
use aya_ebpf::{
    bindings::bpf_fib_lookup,
    btf_maps::{Array, ArrayOfMaps, HashMap, LpmTrie, LruHashMap, PerCpuArray, ProgramArray},
    macros::btf_map,
};
use lvs_common::abi::{
    Address, Announcement, Arrival, Bucket, Connection, Counters, DEVICE_SLOTS, Destination, Device, EngineData,
    EngineKey, FwmarkKey, INCOMING as INCOMING_COUNT, Incoming, LOCAL_ADDRESSES, ListEntry, ListKey4, ListKey6,
    LocalAddress, MARK_RULES, MOVED_AT_ONCE, MarkRule, PortKey, Ports, Rates, RosterPart, Service, ServiceId,
    ServiceKey, Settings, Sync, VlanKey, Watch,
};

use lvs_common::{challenge::Verified, fragments, sched::locality::Entry};

use crate::values::{
    fragment::{Cell, Datagram, Key},
    icmp_error::IcmpError,
    log_line::LogLine,
    parsed::Parsed,
    request::Request,
    route::Route,
};

/// `BPF_F_MMAPABLE`: `lvsadm` maps these arrays into its memory, so that a listing or a change of ten thousand
/// services needs no system call for each.
const MMAP: usize = 1 << 10;
/// `BPF_F_NO_PREALLOC`.
const ON_DEMAND: usize = 1;
/// `BPF_F_INNER_MAP`: inner arrays may differ in size.
const INNER: usize = 1 << 12;

/// The settings that `lvsadm sysctl` changes; one element.
#[btf_map]
pub static SETTINGS: Array<Settings, 1, MMAP> = Array::new();
/// Which packets the watch filter reports; one element.
#[btf_map]
pub static WATCH: Array<Watch, 1, MMAP> = Array::new();
/// Virtual services, by `ServiceId`.
#[btf_map]
pub static SERVICES: Array<Service, 2, MMAP> = Array::new();
/// Destinations, by `DestId`.
#[btf_map]
pub static DESTS: Array<Destination, 2, MMAP> = Array::new();
/// Counters of each destination and CPU: see [`own_counters`](lvs_common::abi::own_counters).
#[btf_map]
pub static COUNTERS: Array<Counters, 2, MMAP> = Array::new();
/// Rates of destinations, by `DestId`.
#[btf_map]
pub static DEST_RATES: Array<Rates, 2, MMAP> = Array::new();
/// Rates of virtual services, by `ServiceId`.
#[btf_map]
pub static SERVICE_RATES: Array<Rates, 2, MMAP> = Array::new();
/// Hash buckets of the IPv4 connection table, by the hash of a connection.
#[btf_map]
pub static BUCKETS4: Array<Bucket, 1, MMAP> = Array::new();
/// Hash buckets of the IPv6 connection table, by the hash of a connection.
#[btf_map]
pub static BUCKETS6: Array<Bucket, 1, MMAP> = Array::new();
/// Entries of the IPv4 connection table, by the number of the entry.
#[btf_map]
pub static CONNS4: Array<Connection<u32>, 16, MMAP> = Array::new();
/// Entries of the IPv6 connection table, by the number of the entry.
#[btf_map]
pub static CONNS6: Array<Connection<[u32; 4]>, 16, MMAP> = Array::new();
/// What the data plane knows of devices, by interface index modulo `DEVICE_SLOTS`.
#[btf_map]
pub static DEVICES: Array<Device, { DEVICE_SLOTS as usize }, MMAP> = Array::new();

/// VLAN devices whose tags XDP knows.
#[btf_map]
pub static VLANS: HashMap<VlanKey, Device, 4096, ON_DEMAND> = HashMap::new();

/// Virtual services of IPv4, by protocol, address and port.
#[btf_map]
pub static SERVICE4: HashMap<ServiceKey<u32>, ServiceId, 1, ON_DEMAND> = HashMap::new();
/// Virtual services of IPv6, by protocol, address and port.
#[btf_map]
pub static SERVICE6: HashMap<ServiceKey<[u32; 4]>, ServiceId, 1, ON_DEMAND> = HashMap::new();
/// Virtual services of firewall marks, by mark and family.
#[btf_map]
pub static FWMARKS: HashMap<FwmarkKey, ServiceId, 1, ON_DEMAND> = HashMap::new();
/// Classification rules: see [`MarkLists`](lvs_common::abi::MarkLists).
#[btf_map]
pub static MARKS: Array<MarkRule, { 2 * MARK_RULES as usize }, MMAP> = Array::new();
/// Clients over IPv4 that may not come in, or only may: see [`lvs_common::access`].
#[btf_map]
pub static LISTS4: LpmTrie<ListKey4, ListEntry, 1> = LpmTrie::new();
/// Clients over IPv6.
#[btf_map]
pub static LISTS6: LpmTrie<ListKey6, ListEntry, 1> = LpmTrie::new();

/// Bucket tables of dh, sh and mh, by [`ServiceConfig::table`](lvs_common::abi::ServiceConfig).
#[btf_map]
pub static TABLES: ArrayOfMaps<Array<u32, 1, { INNER | MMAP }>, 2> = ArrayOfMaps::new();

/// What schedulers that look at every destination of a long list read, by
/// [`ServiceConfig::roster`](lvs_common::abi::ServiceConfig).
#[btf_map]
pub static ROSTERS: Array<RosterPart, 2, MMAP> = Array::new();

/// What lblc and lblcr remember of destination addresses.
#[btf_map]
pub static LOCALITY: LruHashMap<LocalityKey, Entry, 65536> = LruHashMap::new();

/// What persistence engines keyed templates with.
#[btf_map]
pub static ENGINES: HashMap<EngineKey, EngineData, 65536, ON_DEMAND> = HashMap::new();

/// Packets whose fragments are still coming, by addresses, protocol and identification.
#[btf_map]
pub static DATAGRAMS: LruHashMap<Key, Datagram, { fragments::DATAGRAMS as usize }> = LruHashMap::new();
/// Which fragments wait in `CELLS`, by the number of the cell.
#[btf_map]
pub static HELD: Array<fragments::Held, { fragments::CELLS as usize }, MMAP> = Array::new();
/// The bytes of fragments that wait for others.
#[btf_map]
pub static CELLS: Array<Cell, { fragments::CELLS as usize }> = Array::new();
/// The next cell of each ring.
#[btf_map]
pub static RINGS: Array<u32, { fragments::RINGS as usize }> = Array::new();

/// Packets by [`Exit`](lvs_common::exit::Exit).
#[btf_map]
pub static EXITS: PerCpuArray<u64, { lvs_common::exit::EXIT_COUNT as usize }> = PerCpuArray::new();

/// The connection of a packet of a one-packet service, one for each CPU.
#[btf_map]
pub static DRAFTS4: Array<Connection<u32>, 1> = Array::new();
/// The same for IPv6.
#[btf_map]
pub static DRAFTS6: Array<Connection<[u32; 4]>, 1> = Array::new();

/// Connections of the generation of the data plane before this one, which `lvs_move` puts into the table.
#[btf_map]
pub static MOVING4: Array<Connection<u32>, { MOVED_AT_ONCE as usize }, MMAP> = Array::new();
/// The same for IPv6.
#[btf_map]
pub static MOVING6: Array<Connection<[u32; 4]>, { MOVED_AT_ONCE as usize }, MMAP> = Array::new();
/// What became of each of them: see [`Arrival`](lvs_common::abi::Arrival).
#[btf_map]
pub static MOVED: Array<Arrival, { MOVED_AT_ONCE as usize }, MMAP> = Array::new();

/// The connection being asked for, one for each CPU.
#[btf_map]
pub static REQUESTS: Array<Request, 1> = Array::new();

/// The packet being encapsulated, one for each CPU.
#[btf_map]
pub static PARSED4: Array<Parsed<u32>, 1> = Array::new();
/// The same for IPv6.
#[btf_map]
pub static PARSED6: Array<Parsed<[u32; 4]>, 1> = Array::new();

/// Destinations that the host's IPsec policies cover: prefixes of a family's number and an address.
#[btf_map]
pub static PROTECTED: LpmTrie<[u32; 5], u32, { lvs_common::abi::PROTECTED as usize }> = LpmTrie::new();

/// Parameters of a route look-up, one for each CPU.
#[btf_map]
pub static FIBS: Array<bpf_fib_lookup, 1> = Array::new();
/// The route of the packet at hand, one for each CPU.
#[btf_map]
pub static ROUTES: Array<Route, 1> = Array::new();

/// The ICMP error at hand, one for each CPU.
#[btf_map]
pub static ICMP_ERRORS4: Array<IcmpError<u32>, 1> = Array::new();
/// The same for IPv6.
#[btf_map]
pub static ICMP_ERRORS6: Array<IcmpError<[u32; 4]>, 1> = Array::new();

/// Local addresses of FullNAT.
#[btf_map]
pub static LOCALS: Array<LocalAddress, { LOCAL_ADDRESSES as usize }, MMAP> = Array::new();
/// Which ports of theirs are taken.
#[btf_map]
pub static PORTS: HashMap<PortKey, Ports, 262144, ON_DEMAND> = HashMap::new();
/// What an entry of that begins as; never written.
#[btf_map]
pub static EMPTY_PORTS: Array<Ports, 1> = Array::new();
/// The connection that was found for the packet at hand, one for each CPU.
#[btf_map]
pub static MATCHES: Array<u32, 1> = Array::new();

/// The line of the log at hand, one for each CPU.
#[btf_map]
pub static LINES: Array<LogLine, 1> = Array::new();

/// Where a program that needs more than its stack puts it, one for each CPU.
#[btf_map]
pub static SCRATCH: Array<Scratch, 1> = Array::new();

/// Programs reached by tail call, by [`Program`](crate::programs::Program).
#[btf_map]
pub static XDP_PROGRAMS: ProgramArray<128> = ProgramArray::new();
/// The same for TC.
#[btf_map]
pub static TC_PROGRAMS: ProgramArray<128> = ProgramArray::new();

/// Sources that have answered a challenge, by [`source`](lvs_common::challenge::source).
#[btf_map]
pub static VERIFIED: LruHashMap<u64, Verified, 1> = LruHashMap::new();

/// Path MTUs that ICMP errors told, by destination: the jiffy until which it holds in the upper half, bytes in the lower.
#[btf_map]
pub static PATHS: LruHashMap<Address, u64, 4096> = LruHashMap::new();

/// Places for neighbours in `CONFIRMED`; neighbours of one place share it.
pub const NEIGHBOURS: u32 = 1024;
/// When the kernel's neighbour output last got a packet that XDP could have sent, by a hash of device and MAC address; jiffies.
#[btf_map]
pub static CONFIRMED: Array<u32, { NEIGHBOURS as usize }> = Array::new();

/// Tokens of all ICMP errors: see `lvs_common::icmp_limit`.
#[btf_map]
pub static ICMP_TOKENS: Array<u64, 1> = Array::new();
/// Tokens of ICMP errors to one receiver.
#[btf_map]
pub static ICMP_RECEIVERS: LruHashMap<Address, u64, 4096> = LruHashMap::new();

/// New connections that `drop_packet` has decided on.
#[btf_map]
pub static ARRIVALS: Array<u64, 1> = Array::new();

/// The timer and the progress of its sweep; one element.
#[btf_map]
pub static CLOCK: Array<Clock, 1> = Array::new();

/// The daemons of connection synchronisation and what they have done; one element.
#[btf_map]
pub static SYNC: Array<Sync, 1, MMAP> = Array::new();
/// Connections and templates that a master's daemon is to tell its backups of.
#[btf_map]
pub static ANNOUNCEMENTS: RingBuf<Announcement, { 1 << 20 }> = RingBuf::new();
/// Connections and templates that are to be put into the table.
#[btf_map]
pub static INCOMING: Array<Incoming, { INCOMING_COUNT as usize }, MMAP> = Array::new();

/// Connections that have expired and wait until both their ends are reset.
#[btf_map]
pub static RESETS4: Queue<PendingReset, 4096> = Queue::new();
/// The same for IPv6.
#[btf_map]
pub static RESETS6: Queue<PendingReset, 4096> = Queue::new();
