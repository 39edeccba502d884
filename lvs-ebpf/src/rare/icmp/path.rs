//! Path MTUs toward real servers, as ICMP errors tell them: remembered for ten minutes, as the kernel's routes do.

use lvs_common::{
    abi::{Address, DestId, IpAddress, Mode},
    icmp,
    wire::Icmp,
};

use crate::{
    config::destination::DestRef,
    egress::route,
    kernel::{
        clock,
        loops::{self, Turn},
        params, shared,
    },
    maps::{PATHS, SETTINGS},
    packet::access::{Packet, TcPacket},
    values::icmp_error::IcmpError,
};

/// Seconds that a path MTU is remembered, as `ip_rt_mtu_expires` has it.
const LIFETIME: u32 = 600;

/// Remembers the path MTU toward the real server that `report` is about, if the error tells one. The caller has seen that the
/// error is about a packet to this server, or that it may be about a tunnel: then there must be a tunnel to `to`.
#[inline(always)]
pub fn learn<A: IpAddress>(packet: TcPacket, report: &IcmpError<A>, to: &Address, must_be_tunnel: bool) {
    let Some(header) = packet.read::<Icmp>(report.header()) else { return };
    let (kind, code, rest) = (header.kind, header.code, header.rest.get());
    if let Some(reported) = icmp::path_mtu(!A::IS_V4, kind, code, rest) {
        let now = clock::jiffies();
        let known = route::lend(
            #[inline(always)]
            |found| if route::route(packet, A::FAMILY, to, now, found).is_ok() { found.hop.mtu as u32 } else { 0 },
        );
        if let Some(mtu) = icmp::lower_mtu(!A::IS_V4, reported, known.unwrap_or(0))
            && !is_remembered(to, mtu, now)
        {
            remember(to, A::FAMILY as u32 | (must_be_tunnel as u32) << 8, mtu, now);
        }
    }
}

/// Jiffies that a path MTU is remembered.
#[inline(always)]
fn lifetime() -> u32 {
    LIFETIME.wrapping_mul(params::hz())
}

/// Whether this path MTU is remembered for half of its time at least: then nothing is to be done.
#[inline(always)]
fn is_remembered(to: &Address, mtu: u32, now: u64) -> bool {
    let Some(path) = shared::value(&PATHS, to) else { return false };
    let path = path.load();
    let left = ((path >> 32) as u32).wrapping_sub(now as u32);
    path as u32 == mtu && left <= lifetime() && left >= lifetime() / 2
}

/// Remembers a path MTU, and has the next packet of every destination with this address look its hop up anew. `whose` is the
/// family, and 256 more if one of them must be a tunnel.
///
/// All destinations are looked at. An address's path MTU only falls, so nobody can have that done often.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn remember(to: *const Address, whose: u32, mtu: u32, now: u64) -> u32 {
    let (Some(settings), false) = (SETTINGS.get_ptr_mut(0), to.is_null()) else { return 0 };
    // SAFETY: the caller's address.
    let to = route::copy(unsafe { &*to });
    let until = now.wrapping_add(lifetime() as u64);
    if PATHS.insert(&to, &((until & 0xffff_ffff) << 32 | mtu as u64), 0).is_err() {
        return 0;
    }
    // SAFETY: an element of the map. Whichever CPU stores it last, the times differ little.
    let (count, epoch) = unsafe {
        (&raw mut (*settings).paths_until).write_volatile(until);
        ((*settings).dests_used, (*settings).epoch)
    };
    let mut forgetting = Forgetting { to, family: whose as u8, found: whose >> 8 == 0, epoch };
    loops::repeat(count, &mut forgetting);
    if !forgetting.found {
        let _ = PATHS.remove(&forgetting.to);
    }
    0
}

/// What the turns over all destinations share.
struct Forgetting {
    to: Address,
    epoch: u64,
    family: u8,
    /// Whether there is such a destination.
    found: bool,
}

impl Turn for Forgetting {
    #[inline(always)]
    fn turn(&mut self, id: u32) -> bool {
        let Some(dest) = DestRef::get(DestId::new(id), self.epoch) else { return false };
        if dest.family() == self.family && *dest.address() == self.to {
            route::forget(dest.hop());
            self.found |= dest.config().forward == Mode::TUNNEL;
        }
        false
    }
}
