//! The estimator: every two seconds, in slices, rates of destinations, services and the total.

use core::ffi::c_void;

use aya_ebpf::helpers::generated::bpf_loop;
use lvs_common::{
    abi::{Counters, DestId, Rates, ServiceId},
    estimator,
};

use crate::{
    config,
    kernel::params,
    maps::{COUNTERS, DEST_RATES, DESTS, SERVICE_RATES},
    values::clock::SLICES,
};

/// Slices in a period of the estimator.
const CYCLE: u64 = SLICES * estimator::PERIOD;
/// The entry of `SERVICE_RATES` that stands for the total: no service has number 0.
const TOTAL: ServiceId = ServiceId::NONE;

struct Range {
    from: u32,
}

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
    let mut range = Range { from };
    // SAFETY: the callbacks get the structure they expect.
    unsafe { bpf_loop(to.wrapping_sub(from), destination as *mut c_void, (&raw mut range).cast(), 0) };
    let (from, to) = share(settings.services_used, slice);
    let mut range = Range { from };
    // SAFETY: as above.
    unsafe { bpf_loop(to.wrapping_sub(from), service as *mut c_void, (&raw mut range).cast(), 0) };
}

/// What a destination has counted on all CPUs.
#[inline(always)]
fn sum(id: DestId) -> Counters {
    let mut total = Counters::default();
    for cpu in 0..params::cpus() {
        if let Some(c) = COUNTERS.get(cpu.wrapping_mul(params::dests()).wrapping_add(id.get())) {
            total = total.plus(*c);
        }
    }
    total
}

extern "C" fn destination(index: u64, context: *mut c_void) -> i64 {
    // SAFETY: `slice` passed it.
    let range = unsafe { &*context.cast::<Range>() };
    let id = range.from.wrapping_add(index as u32);
    let (Some(dest), Some(rates)) = (DESTS.get(id), DEST_RATES.get_ptr_mut(id)) else { return 1 };
    let (service, now) = (dest.service, sum(DestId::new(id)));
    // SAFETY: the timer alone writes rates.
    let delta = unsafe {
        let delta = now.since((*rates).last);
        (*rates).last = now;
        estimator::tick(&mut (*rates).average, &delta);
        delta
    };
    if service != TOTAL {
        pass_on(service, &delta);
    }
    pass_on(TOTAL, &delta);
    0
}

/// Adds what a destination counted to its service's (or the total's) account for the tick to come.
#[inline(always)]
fn pass_on(service: ServiceId, delta: &Counters) {
    let Some(rates) = SERVICE_RATES.get_ptr_mut(service.get()) else { return };
    // SAFETY: the timer alone writes rates.
    unsafe { (*rates).last = (*rates).last.plus(*delta) };
}

extern "C" fn service(index: u64, context: *mut c_void) -> i64 {
    // SAFETY: `slice` passed it.
    let range = unsafe { &*context.cast::<Range>() };
    let id = range.from.wrapping_add(index as u32);
    let Some(rates) = SERVICE_RATES.get_ptr_mut(id) else { return 1 };
    let rates: *mut Rates = rates;
    // SAFETY: as above.
    unsafe {
        let delta = (*rates).last;
        (*rates).last = Counters::default();
        estimator::tick(&mut (*rates).average, &delta);
    }
    0
}
