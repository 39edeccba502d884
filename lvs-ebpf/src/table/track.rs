//! Second stage: the connection a packet belongs to, and what the packet does to it.

use core::ffi::c_void;

use aya_ebpf::helpers::generated::{bpf_jiffies64, bpf_loop};
use lvs_common::{
    abi::{
        Bucket, Connection, DestConfig, DestId, Destination, Forward, IpAddress, Settings, WAYS, conn_kind, dest_flags,
        settings_flags,
    },
    each::Each,
    sched::overload,
    table::{self, Hash, PROBES, Store},
    watch,
    wire::protocol,
};

use crate::{
    forward::fullnat::serve,
    kernel::{atomics, loops::KernelLoop, params},
    maps::{BUCKETS4, BUCKETS6, CONNS4, CONNS6, DESTS, SETTINGS, WATCH},
    packet::parse::{Family, Parsed},
};

/// Times a CPU tries to take a bucket's lock: about a microsecond, many times what its holder needs.
const LOCK_TRIES: u32 = 256;

/// Times a bucket's time is lowered against others that change it.
const DUE_TRIES: u32 = 8;

/// The connection table of a family.
pub struct Table;

impl Table {
    #[inline(always)]
    fn try_lock(bucket: *mut Bucket) -> bool {
        // SAFETY: a bucket of the map.
        if atomics::exchange32(unsafe { &raw mut (*bucket).lock }, 1) == 0 {
            return true;
        }
        wait(bucket) != 0
    }
}

/// Tries to take a bucket's lock for a while. Of global linkage, as [`advance`](crate::table::advance)'s are.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn wait(bucket: *mut Bucket) -> u32 {
    if bucket.is_null() {
        return 0;
    }
    let mut waiting = Waiting { bucket, taken: 0 };
    // SAFETY: the callback gets the structure it expects.
    unsafe { bpf_loop(LOCK_TRIES, try_again as *mut c_void, (&raw mut waiting).cast(), 0) };
    waiting.taken
}

/// A CPU that waits for a bucket's lock, in a loop of the kernel's: the verifier would follow each turn of our own.
struct Waiting {
    bucket: *mut Bucket,
    taken: u32,
}

extern "C" fn try_again(_: u64, context: *mut c_void) -> i64 {
    // SAFETY: `try_lock` passed it.
    let waiting = unsafe { &mut *context.cast::<Waiting>() };
    // SAFETY: a bucket of the map.
    waiting.taken = (atomics::exchange32(unsafe { &raw mut (*waiting.bucket).lock }, 1) == 0) as u32;
    waiting.taken as i64
}

impl Each for Table {
    #[inline(always)]
    fn each<F: FnMut(u32) -> bool>(&self, times: u32, turn: &mut F) {
        KernelLoop.each(times, turn);
    }
}

macro_rules! store {
    ($address:ty, $buckets:ident, $connections:ident, $count:ident, $roomy:ident, $pass_by:ident) => {
        impl Store<$address> for Table {
            #[inline(always)]
            fn buckets(&self) -> u32 {
                params::$count()
            }
            #[inline(always)]
            fn bucket(&self, index: u32) -> Option<*mut Bucket> {
                $buckets.get_ptr_mut(index)
            }
            #[inline(always)]
            fn connection(&self, index: u32) -> Option<*mut Connection<$address>> {
                $connections.get_ptr_mut(index)
            }
            #[inline(always)]
            fn lock(&self, bucket: *mut Bucket) -> bool {
                Table::try_lock(bucket)
            }
            #[inline(always)]
            fn unlock(&self, bucket: *mut Bucket) {
                // SAFETY: a bucket of the map.
                atomics::exchange32(unsafe { &raw mut (*bucket).lock }, 0);
            }
            #[inline(always)]
            fn add(&self, counter: *mut u32, amount: u32) {
                atomics::fetch_add32(counter, amount);
            }
            #[inline(always)]
            fn sooner(&self, bucket: *mut Bucket, due: u64) {
                if !lower_due(bucket, due) {
                    keep_lowering(bucket, due);
                }
            }
            #[inline(always)]
            fn barrier(&self, bucket: *mut Bucket) {
                // SAFETY: a bucket of the map.
                atomics::fetch_add32(unsafe { &raw mut (*bucket).lock }, 0);
            }
            #[inline(always)]
            fn roomy(&self, hash: Hash) -> Option<u32> {
                let choice = $roomy(hash.0);
                if choice < PROBES { Some(choice) } else { None }
            }
            #[inline(always)]
            fn pass_by(&self, hash: Hash, probe: u32, amount: u32) {
                $pass_by(hash.0, probe, amount);
            }
        }

        // Of global linkage, as [`advance`](crate::table::advance)'s are.
        #[unsafe(no_mangle)]
        #[inline(never)]
        extern "C" fn $roomy(hash: u64) -> u32 {
            table::roomy::<$address, Table>(&Table, Hash(hash)).unwrap_or(PROBES)
        }

        #[unsafe(no_mangle)]
        #[inline(never)]
        extern "C" fn $pass_by(hash: u64, probe: u32, amount: u32) -> u32 {
            table::pass_by::<$address, Table>(&Table, Hash(hash), probe, amount);
            0
        }
    };
}

store!(u32, BUCKETS4, CONNS4, buckets4, roomy4, pass_by4);
store!([u32; 4], BUCKETS6, CONNS6, buckets6, roomy6, pass_by6);

/// Lowers a bucket's time to `due` if it is later, unless another CPU changes it at this moment.
#[inline(always)]
fn lower_due(bucket: *mut Bucket, due: u64) -> bool {
    // SAFETY: a bucket of the map.
    let field = unsafe { &raw mut (*bucket).due };
    // SAFETY: as above.
    let old = unsafe { field.read_volatile() };
    old <= due || atomics::compare_exchange64(field, old, due).is_ok()
}

/// Tries that a number of times. Of global linkage, as [`advance`](crate::table::advance)'s are.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn keep_lowering(bucket: *mut Bucket, due: u64) -> u32 {
    if !bucket.is_null() {
        let _ = (0..DUE_TRIES).any(|_| lower_due(bucket, due));
    }
    0
}

/// The settings.
#[inline(always)]
pub fn settings() -> Option<&'static Settings> {
    SETTINGS.get(0)
}

/// The clock connections live by.
#[inline(always)]
pub fn jiffies() -> u64 {
    // SAFETY: a helper without arguments.
    unsafe { bpf_jiffies64() }
}

/// Whether the watch filter knows a packet's destination as a virtual address, and its source as one replies come from.
#[inline(always)]
pub fn watched<A: IpAddress>(source: A, destination: A, settings: &Settings) -> (bool, bool) {
    let Some(filter) = WATCH.get(0) else { return (false, false) };
    let (word, bit) = watch::bit(destination);
    let known = filter.virt.get(word).copied().unwrap_or(0) & bit != 0;
    let virt = known || settings.flags & settings_flags::ANY_ADDRESS != 0;
    let (word, bit) = watch::bit(source);
    let reply = filter.reply.get(word).copied().unwrap_or(0) & bit != 0;
    (virt, reply)
}

/// Has packets to an address, and those from it, looked at from now on: the virtual address of a connection that a mark led
/// to, which no rule names.
#[inline(always)]
pub fn watch<A: IpAddress>(destination: A) {
    let Some(filter) = WATCH.get_ptr_mut(0) else { return };
    let (word, bit) = watch::bit(destination);
    // SAFETY: words of the map's element; `bit` keeps the index in bounds.
    let words = unsafe {
        let (virt, reply) = (&raw mut (*filter).virt, &raw mut (*filter).reply);
        [virt.cast::<u64>().add(word & 1023), reply.cast::<u64>().add(word & 1023)]
    };
    for word in words {
        // SAFETY: as above.
        if unsafe { word.read_volatile() } & bit == 0 {
            atomics::fetch_or64(word, bit);
        }
    }
}

/// A connection found: its entry's index and itself.
pub type Found<A> = (u32, *mut Connection<A>);

/// Hash of a client's side.
#[inline(always)]
pub fn hash<A: IpAddress>(client: A, port: u16, protocol: u8) -> Hash {
    table::hash(client, port, protocol, params::secret())
}

/// Hash of a connection or template.
#[inline(always)]
fn hash_of<A: IpAddress>(c: &Connection<A>) -> Hash {
    if c.kind == conn_kind::TEMPLATE {
        return table::template_hash(c.client, c.virt, c.virt_port, c.protocol, c.engine, params::secret());
    }
    hash(c.client, c.client_port, c.protocol)
}

/// The connection of a client's packet.
#[inline(always)]
pub fn of_client<A: Family>(p: &Parsed<A>) -> Option<Found<A>>
where
    Table: Store<A>,
{
    table::find(&Table, hash(p.source, p.source_port, p.protocol), |c| is_of_client(c, p))
}

/// Whether `p` is from the client of `c`.
#[inline(always)]
pub fn is_of_client<A: IpAddress>(c: &Connection<A>, p: &Parsed<A>) -> bool {
    c.client == p.source
        && c.client_port == p.source_port
        && c.virt == p.destination
        && c.virt_port == p.destination_port
        && c.protocol == p.protocol
        && c.kind == conn_kind::CONNECTION
}

/// The connection that a packet is a reply of: to its client, from the real server (NAT) or the virtual address.
#[inline(always)]
pub fn of_server<A: Family>(p: &Parsed<A>) -> Option<Found<A>>
where
    Table: Store<A>,
{
    let (at, connection) = table::find(&Table, hash(p.destination, p.destination_port, p.protocol), |c| {
        c.client == p.destination
            && c.client_port == p.destination_port
            && c.protocol == p.protocol
            && match (c.kind, c.forward) {
                (conn_kind::CONNECTION, Forward::MASQ) => c.real == p.source && c.real_port == p.source_port,
                (conn_kind::TEMPLATE, _) | (conn_kind::CONNECTION, Forward::FULLNAT) => false,
                _ => c.virt == p.source && c.virt_port == p.source_port,
            }
    })?;
    serve::resolve(at, connection)
}

/// The mode of a connection, a [`Forward`] as its number. Read each time: see [`Outer::new`](crate::forward::tunnel::Outer::new).
#[inline(always)]
pub fn mode<A>(c: *mut Connection<A>) -> u8 {
    // SAFETY: an element of the map.
    unsafe { (&raw const (*c).forward).read_volatile() }
}

/// A destination with the copy of its configuration that is in force.
#[derive(Clone, Copy)]
pub struct Dest {
    pub id: DestId,
    pub it: *mut Destination,
    pub config: *const DestConfig,
}

impl Dest {
    /// Destination `id` at `epoch`.
    #[inline(always)]
    pub fn get(id: DestId, epoch: u64) -> Option<Dest> {
        if id == 0 {
            return None;
        }
        let it = DESTS.get_ptr_mut(id)?;
        Some(Dest { id, it, config: Dest::in_force(it, epoch) })
    }

    /// The copy of a destination's configuration that is in force at `epoch`.
    #[inline(always)]
    pub fn in_force(it: *mut Destination, epoch: u64) -> *const DestConfig {
        // SAFETY: an element of the map; which copy is a bit.
        unsafe { (&raw const (*it).config).cast::<DestConfig>().add((*it).switch.copy(epoch) & 1) }
    }

    /// Its configuration.
    #[inline(always)]
    pub fn config(&self) -> &DestConfig {
        // SAFETY: an element of the map, written by `lvsadm` only while it is not in force.
        unsafe { &*self.config }
    }

    /// Whether it is configured.
    #[inline(always)]
    pub fn available(&self) -> bool {
        self.config().flags & dest_flags::AVAILABLE != 0
    }
}

/// Whether a connection's time is over at `now`.
#[inline(always)]
pub fn expired<A>(c: &Connection<A>, now: u64) -> bool {
    now.wrapping_sub(c.last_seen) as i64 > c.timeout as i64
}

/// Whether a UDP connection leaves its destination with the next packet, as that was removed or quiesced
/// (`expire_udp_conn`). A template that still leads there keeps it.
#[inline(always)]
pub fn moves_on<A>(c: &Connection<A>, dest: &Dest, settings: &Settings) -> bool {
    settings.sysctls.expire_udp_conn != 0
        && c.protocol == protocol::UDP
        && (!dest.available() || dest.config().weight == 0 && c.control == 0)
}

/// Has the bucket of entry `at` swept at `due` at the latest.
#[inline(always)]
pub fn sooner<A: Family>(at: u32, due: u64)
where
    Table: Store<A>,
{
    if let Some(bucket) = <Table as Store<A>>::bucket(&Table, at / WAYS) {
        <Table as Store<A>>::sooner(&Table, bucket, due);
    }
}

/// Counts a new connection (or template) at its destination and sets the overload flag if it reached the threshold.
#[inline(always)]
pub fn bind(dest: &Dest, template: bool) {
    // SAFETY: an element of the map.
    unsafe {
        if template {
            atomics::fetch_add32(&raw mut (*dest.it).persistent, 1);
            return;
        }
        let before = atomics::fetch_add64(&raw mut (*dest.it).connections, 1);
        let (active, inactive) = Destination::split(before);
        let total = active.wrapping_add(inactive).wrapping_add(1);
        if overload::bind_overloads(total, dest.config().upper) {
            (&raw mut (*dest.it).overloaded).write_volatile(1);
        }
    }
}

/// Takes a connection out of the table and gives back everything it held. `at` is its entry; nothing happens if it is
/// not (or no longer) `dead`.
#[inline(always)]
pub fn remove<A: Family>(at: u32, c: *mut Connection<A>, epoch: u64, dead: impl Fn(&Connection<A>) -> bool) -> bool
where
    Table: Store<A>,
{
    // SAFETY: an element of the map.
    let h = hash_of(unsafe { &*c });
    // All of it under the bucket's lock: behind it the entry may be another connection's.
    table::remove(&Table, at, h, |entry| {
        let gone = dead(entry);
        if gone {
            A::give_back(at, c, epoch);
        }
        gone
    })
}
