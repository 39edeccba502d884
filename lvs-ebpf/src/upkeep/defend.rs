//! The defence strategies, in the sweep's timer: once a second they see how much room there is, and `drop_entry` at work
//! makes some.

use core::marker::PhantomData;

use lvs_common::{
    abi::{Connection, EntryKind, Settings, WAYS, conn_flags, service_flags},
    defence::{self, Candidate, Met, Room},
};

use crate::{
    config::{destination::DestRef, service},
    kernel::{
        loops::{Turn, repeat},
        params, random,
        shared::{Shared, field},
    },
    packet::parse::Family,
    table::{entry::Entry, release, store},
    values::clock::SLICES,
};

/// The share of the table that `drop_entry` looks at in a second, as IPVS does.
const SHARE: u32 = 32;
/// Seconds without a packet after which a connection is idle.
const IDLE: u32 = 60;

/// Sets the strategies for the second to come. `held` is how many entries the tables of both families have.
///
/// The timer alone writes these, but for what a command changes, which counts a second later at most.
#[inline(always)]
pub fn each_second(settings: Shared<Settings>, held: [u32; 2]) {
    let sysctls = &settings.get().sysctls;
    let room = |buckets: u32, held, size| Room::of(held, buckets * WAYS / 4 * 3, size, sysctls.amemthresh);
    let v4 = room(params::buckets4(), held[0], size_of::<Connection<u32>>() as u32);
    let v6 = room(params::buckets6(), held[1], size_of::<Connection<[u32; 4]>>() as u32);
    let (scarce, worst) = (v4.is_scarce() || v6.is_scarce(), if v4.is_scarce() { v4 } else { v6 });
    let advance = |mode: Shared<u32>| {
        let next = defence::next(mode.load(), scarce);
        if mode.load() != next {
            mode.store(next);
        }
        next
    };
    advance(field!(settings.sysctls.drop_entry));
    advance(field!(settings.sysctls.secure_tcp));
    let mode = advance(field!(settings.sysctls.drop_packet));
    field!(settings.drop_rate).store(defence::drop_rate(mode, worst, sysctls.am_droprate));
    field!(settings.held).store(held);
}

/// Removes what is of least use in some buckets of a family, if `drop_entry` is at work: a slice of a second's share.
#[inline(always)]
pub fn thin<A: Family>(settings: Shared<Settings>, met: Shared<Met>, buckets: u32, now: u64) {
    if !defence::works(settings.get().sysctls.drop_entry) {
        return;
    }
    let family = PhantomData::<A>;
    repeat(buckets / SHARE / SLICES as u32 + 1, &mut Thinning { settings, met, now, buckets, bucket: 0, family });
}

/// A loop over buckets that are drawn at random.
struct Thinning<A> {
    settings: Shared<Settings>,
    met: Shared<Met>,
    now: u64,
    buckets: u32,
    /// The bucket at hand.
    bucket: u32,
    family: PhantomData<A>,
}

impl<A: Family> Turn for Thinning<A> {
    #[inline(always)]
    fn turn(&mut self, _: u32) -> bool {
        self.bucket = ((random::word() as u64 * self.buckets as u64) >> 32) as u32;
        repeat(WAYS, &mut |way| {
            if let Some((at, connection)) = store::occupied::<A>(self.bucket, way) {
                self.consider(at, connection);
            }
            false
        });
        false
    }
}

impl<A: Family> Thinning<A> {
    /// Removes an entry if it is of little use.
    #[inline(always)]
    fn consider(&self, at: u32, connection: Entry<A>) {
        let (c, settings) = (connection.get(), self.settings);
        let epoch = settings.get().epoch;
        if c.controlled != 0 || c.kind.is_hidden() || c.state & conn_flags::DEAD != 0 {
            return;
        }
        let template = c.kind == EntryKind::TEMPLATE;
        let candidate = Candidate {
            protocol: c.protocol,
            state: (c.state & conn_flags::STATE) as u8,
            in_packets: c.in_packets,
            idle: self.now.wrapping_sub(c.last_seen) >= (IDLE * params::hz()) as u64,
            template,
            assured: c.state & conn_flags::ASSURED != 0,
            one_packet: template && is_one_packet(c, epoch),
        };
        let mut met = self.met.load();
        let is_useless = defence::takes_out(&candidate, &mut met);
        self.met.store(met);
        if is_useless && release::remove(at, connection, epoch, |c| c.controlled == 0) {
            let taken_out = field!(settings.taken_out);
            taken_out.store(taken_out.load().wrapping_add(1));
        }
    }
}

/// Whether a template is of a one-packet service.
#[inline(always)]
fn is_one_packet<A>(c: &Connection<A>, epoch: u64) -> bool {
    let Some(dest) = DestRef::get(c.dest, epoch) else { return false };
    let Some(service) = service::ServiceRef::get(dest.service(), epoch) else { return false };
    service.config().flags & service_flags::ONE_PACKET != 0
}
