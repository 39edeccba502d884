//! The estimator: every two seconds, in slices, rates of destinations, services and the total.

use lvs_common::{
    abi::{Counters, DestId, ServiceId, common_counters, own_counters},
    estimator,
};

use crate::{
    config,
    kernel::{
        loops::repeat,
        params,
        shared::{element, field},
    },
    maps::{COUNTERS, DEST_RATES, DESTS, SERVICE_RATES},
    values::clock::SLICES,
};

/// Slices in a period of the estimator.
const CYCLE: u64 = SLICES * estimator::PERIOD;
/// The entry of `SERVICE_RATES` that stands for the total: no service has number 0.
const TOTAL: ServiceId = ServiceId::NONE;

/// The part of `count` entries that slice number `slice` visits.
#[inline(always)]
fn share(count: u32, slice: u64) -> (u32, u32) {
    let n = slice & (CYCLE - 1);
    let from = |n: u64| ((count as u64 * n) / CYCLE) as u32;
    (from(n), from(n + 1))
}

/// Visits one slice.
#[inline(always)]
pub fn slice(slice: u64) {
    let Some(settings) = config::settings() else { return };
    if settings.sysctls.run_estimation == 0 {
        return;
    }
    let (from, to) = share(settings.dests_used, slice);
    repeat(to.wrapping_sub(from), &mut move |index| !destination(from.wrapping_add(index)));
    let (from, to) = share(settings.services_used, slice);
    repeat(to.wrapping_sub(from), &mut move |index| !service(from.wrapping_add(index)));
}

/// What a destination has counted on all CPUs.
#[inline(always)]
fn sum(id: DestId) -> Counters {
    let mut total = COUNTERS.get(common_counters(id)).copied().unwrap_or_default();
    for cpu in 0..params::cpus() {
        if let Some(c) = COUNTERS.get(own_counters(cpu, params::dests(), id)) {
            total = total.plus(*c);
        }
    }
    total
}

/// Brings a destination's rates up to date, which the timer alone writes; whether there is such a destination.
#[inline(always)]
fn destination(id: u32) -> bool {
    let (Some(dest), Some(rates)) = (DESTS.get(id), element(&DEST_RATES, id)) else { return false };
    let (service, now) = (dest.service, sum(DestId::new(id)));
    let (last, average) = (field!(rates.last), field!(rates.average));
    let (delta, mut averages) = (now.since(last.load()), average.load());
    last.store(now);
    estimator::tick(&mut averages, &delta);
    average.store(averages);
    if service != TOTAL {
        add_to_account(service, &delta);
    }
    add_to_account(TOTAL, &delta);
    true
}

/// Adds what a destination counted to its service's (or the total's) account for the tick to come.
#[inline(always)]
fn add_to_account(service: ServiceId, delta: &Counters) {
    let Some(rates) = element(&SERVICE_RATES, service.get()) else { return };
    let last = field!(rates.last);
    last.store(last.load().plus(*delta));
}

/// Brings a service's rates up to date; whether there is such a service.
#[inline(always)]
fn service(id: u32) -> bool {
    let Some(rates) = element(&SERVICE_RATES, id) else { return false };
    let (last, average) = (field!(rates.last), field!(rates.average));
    let (delta, mut averages) = (last.load(), average.load());
    last.store(Counters::default());
    estimator::tick(&mut averages, &delta);
    average.store(averages);
    true
}
