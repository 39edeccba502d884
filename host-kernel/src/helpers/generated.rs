//! The helpers that take pointers, as programs call them.
//!
//! # Safety
//! A context is the first field of the packet that [`run`](crate::kernel::Kernel::run) was given; other pointers are as documented.
#![allow(clippy::missing_safety_doc, reason = "the module's documentation has what all of them want")]
#![allow(missing_docs, reason = "bpf-helpers(7) documents them")]

use std::ffi::c_void;
use std::slice;

use crate::bindings::{__sk_buff, bpf_fib_lookup as FibLookup, bpf_redir_neigh, bpf_timer, xdp_md};
use crate::btf_maps::ProgramArray;
use crate::kernel::{self, Timer};
use crate::network::Way;
use crate::program::{Redirect, Tier};
use crate::run;
use crate::skb::Skb;
use crate::xdp::Xdp;

const AF_INET: u8 = 2;
const ENODEV: i64 = -19;
const EINVAL: i64 = -22;

/// `BPF_FIB_LOOKUP_SKIP_NEIGH` and `BPF_FIB_LOOKUP_SRC`.
const SKIP_NEIGHBOUR: u32 = 1 << 2;
const WITH_SOURCE: u32 = 1 << 4;
/// What `bpf_fib_lookup` answers.
const SUCCESS: i64 = 0;
const NOT_FORWARDED: i64 = 4;
const FORWARDING_OFF: i64 = 5;
const NO_NEIGHBOUR: i64 = 7;

/// `lo`.
const LOOPBACK: u32 = 1;

/// The packet of a context in TC.
///
/// # Safety
/// See the module.
unsafe fn skb<'a>(context: *mut __sk_buff) -> &'a mut Skb {
    // SAFETY: a context is the first field of the packet.
    unsafe { &mut *context.cast() }
}

/// The packet of a context in XDP.
///
/// # Safety
/// See the module.
unsafe fn xdp<'a>(context: *mut xdp_md) -> &'a mut Xdp {
    // SAFETY: as above.
    unsafe { &mut *context.cast() }
}

pub unsafe fn bpf_ktime_get_ns() -> u64 {
    kernel::with(|kernel| kernel.now.get())
}

pub unsafe fn bpf_jiffies64() -> u64 {
    kernel::with(|kernel| kernel.jiffies())
}

pub unsafe fn bpf_get_prandom_u32() -> u32 {
    kernel::with(|kernel| kernel.random_word())
}

pub unsafe fn bpf_get_smp_processor_id() -> u32 {
    kernel::with(|kernel| kernel.cpu.get())
}

pub unsafe fn bpf_loop(times: u32, callback: *mut c_void, context: *mut c_void, _flags: u64) -> i64 {
    // SAFETY: the caller's: a callback of this type.
    let callback: extern "C" fn(u64, *mut c_void) -> i64 = unsafe { std::mem::transmute(callback) };
    for index in 0..u64::from(times) {
        if callback(index, context) != 0 {
            return index as i64 + 1;
        }
    }
    times.into()
}

pub unsafe fn bpf_tail_call(_context: *mut c_void, programs: *mut c_void, slot: u32) -> i64 {
    // SAFETY: the caller's: the data plane's arrays have 64 slots.
    run::tail_call(unsafe { &*programs.cast::<ProgramArray<128>>() }, slot);
    -2
}

pub unsafe fn bpf_redirect(device: u32, flags: u64) -> i64 {
    redirect(Redirect { device, flags, neighbour: None })
}

pub unsafe fn bpf_redirect_neigh(device: u32, to: *mut bpf_redir_neigh, _length: i32, flags: u64) -> i64 {
    // SAFETY: the caller's.
    let (family, gateway) = unsafe { ((*to).nh_family as u8, words((*to).__bindgen_anon_1.ipv6_nh)) };
    redirect(Redirect { device, flags, neighbour: Some((family, gateway)) })
}

fn redirect(to: Redirect) -> i64 {
    kernel::with(|kernel| {
        let tier = kernel.running.tier.get();
        if tier == Tier::Xdp && to.flags != 0 {
            return 0;
        }
        kernel.redirect.set(Some(to));
        if tier == Tier::Xdp { 4 } else { 7 }
    })
}

pub unsafe fn bpf_clone_redirect(context: *mut __sk_buff, device: u32, flags: u64) -> i64 {
    // SAFETY: the caller's.
    let packet = unsafe { skb(context) };
    kernel::with(|kernel| {
        if device != LOOPBACK && kernel.network.borrow().device(device).is_none() {
            return EINVAL;
        }
        kernel.clones.borrow_mut().push(packet.cloned(Redirect { device, flags, neighbour: None }));
        0
    })
}

/// The bytes of four words.
fn words(words: [u32; 4]) -> [u8; 16] {
    let mut bytes = [0; 16];
    for (place, word) in bytes.chunks_exact_mut(4).zip(words) {
        place.copy_from_slice(&word.to_ne_bytes());
    }
    bytes
}

/// The words of an address.
fn address(bytes: [u8; 16]) -> [u32; 4] {
    std::array::from_fn(|n| u32::from_ne_bytes([bytes[4 * n], bytes[4 * n + 1], bytes[4 * n + 2], bytes[4 * n + 3]]))
}

pub unsafe fn bpf_check_mtu(_context: *mut c_void, device: u32, mtu: *mut u32, _difference: i32, _flags: u64) -> i64 {
    kernel::with(|kernel| match kernel.network.borrow().device(device) {
        Some(device) => {
            // SAFETY: the caller's.
            unsafe { *mtu = device.mtu };
            0
        }
        None => ENODEV,
    })
}

pub unsafe fn bpf_fib_lookup(_context: *mut c_void, params: *mut FibLookup, _length: i32, flags: u32) -> i64 {
    // SAFETY: the caller's.
    let params = unsafe { &mut *params };
    kernel::with(|kernel| {
        let network = &*kernel.network.borrow();
        if params.ifindex != LOOPBACK && network.device(params.ifindex).is_none() {
            return ENODEV;
        }
        if !network.forwards {
            return FORWARDING_OFF;
        }
        let family = params.family;
        // SAFETY: fields of unions of integers.
        let to = words(unsafe { params.__bindgen_anon_4.ipv6_dst });
        let (device, gateway, mtu, source) = match network.way(family, &to) {
            // No route is answered as an address of the host's own is.
            None | Some(Way::Local) => return NOT_FORWARDED,
            Some(Way::Answer(answer)) => return *answer,
            Some(Way::Out { device, gateway, mtu, source }) => (*device, *gateway, *mtu, *source),
        };
        let Some(device) = network.device(device) else { return ENODEV };
        // The MTU stands where the length was asked about, and only once the neighbour is found: see `route::find_with`.
        let mtu = if mtu == 0 { device.mtu } else { mtu };
        params.ifindex = device.index;
        let (next_family, next) = gateway.unwrap_or((family, to));
        params.family = next_family;
        if next_family == AF_INET {
            // SAFETY: as above.
            let mut kept = unsafe { params.__bindgen_anon_4.ipv6_dst };
            kept[0] = address(next)[0];
            params.__bindgen_anon_4.ipv6_dst = kept;
        } else {
            params.__bindgen_anon_4.ipv6_dst = address(next);
        }
        if flags & WITH_SOURCE != 0 {
            params.__bindgen_anon_3.ipv6_src = address(source);
        }
        if flags & SKIP_NEIGHBOUR == 0 {
            let Some(mac) = network.neighbour(next_family, &next) else { return NO_NEIGHBOUR };
            params.dmac = mac;
            params.smac = device.mac;
        }
        params.__bindgen_anon_1.mtu_result = mtu as u16;
        SUCCESS
    })
}

pub unsafe fn bpf_csum_diff(_from: *mut u32, _from_size: u32, to: *mut u32, to_size: u32, seed: u32) -> i64 {
    // SAFETY: the caller's; the data plane only adds.
    let bytes = unsafe { slice::from_raw_parts(to.cast::<u8>(), to_size as usize) };
    let sum: u64 =
        bytes.chunks_exact(4).map(|word| u64::from(u32::from_ne_bytes([word[0], word[1], word[2], word[3]]))).sum();
    let sum = sum + u64::from(seed);
    let sum = (sum & 0xffff_ffff) + (sum >> 32);
    ((sum & 0xffff_ffff) + (sum >> 32)) as i64
}

pub unsafe fn bpf_l4_csum_replace(context: *mut __sk_buff, at: u32, _from: u64, difference: u64, flags: u64) -> i64 {
    // SAFETY: the caller's.
    unsafe { skb(context) }.replace_checksum(at as usize, difference as u32, flags)
}

pub unsafe fn bpf_skb_adjust_room(context: *mut __sk_buff, difference: i32, mode: u32, flags: u64) -> i64 {
    // SAFETY: the caller's.
    unsafe { skb(context) }.adjust_room(difference, mode, flags)
}

pub unsafe fn bpf_skb_change_head(context: *mut __sk_buff, by: u32, _flags: u64) -> i64 {
    // SAFETY: the caller's.
    unsafe { skb(context) }.change_head(by as usize)
}

pub unsafe fn bpf_skb_change_proto(context: *mut __sk_buff, to: u16, _flags: u64) -> i64 {
    // SAFETY: the caller's.
    unsafe { skb(context) }.change_protocol(u16::from_be(to))
}

pub unsafe fn bpf_skb_change_tail(context: *mut __sk_buff, length: u32, _flags: u64) -> i64 {
    // SAFETY: the caller's.
    unsafe { skb(context) }.change_tail(length as usize)
}

pub unsafe fn bpf_skb_pull_data(context: *mut __sk_buff, length: u32) -> i64 {
    // SAFETY: the caller's.
    unsafe { skb(context) }.pull(length as usize)
}

pub unsafe fn bpf_skb_load_bytes(context: *const c_void, from: u32, to: *mut c_void, length: u32) -> i64 {
    // SAFETY: the caller's.
    unsafe { skb(context.cast_mut().cast()).load(from as usize, slice::from_raw_parts_mut(to.cast(), length as usize)) }
}

pub unsafe fn bpf_skb_store_bytes(
    context: *mut __sk_buff,
    to: u32,
    from: *const c_void,
    length: u32,
    _flags: u64,
) -> i64 {
    // SAFETY: the caller's.
    unsafe { skb(context).store(to as usize, slice::from_raw_parts(from.cast(), length as usize)) }
}

pub unsafe fn bpf_xdp_adjust_head(context: *mut xdp_md, by: i32) -> i64 {
    // SAFETY: the caller's.
    unsafe { xdp(context) }.adjust_head(by)
}

pub unsafe fn bpf_xdp_adjust_tail(context: *mut xdp_md, by: i32) -> i64 {
    // SAFETY: the caller's.
    unsafe { xdp(context) }.adjust_tail(by)
}

pub unsafe fn bpf_timer_init(timer: *mut bpf_timer, _map: *mut c_void, _flags: u64) -> i64 {
    // The data plane's timer is the first field of its element.
    kernel::with(|kernel| kernel.timer.set(Timer { value: Some(timer.cast()), ..kernel.timer.get() }));
    0
}

pub unsafe fn bpf_timer_set_callback(_timer: *mut bpf_timer, callback: *mut c_void) -> i64 {
    // SAFETY: the caller's: a callback of this type.
    let callback =
        Some(unsafe { std::mem::transmute::<*mut c_void, extern "C" fn(*mut (), *mut u32, *mut ()) -> i64>(callback) });
    kernel::with(|kernel| kernel.timer.set(Timer { callback, ..kernel.timer.get() }));
    0
}

pub unsafe fn bpf_timer_start(_timer: *mut bpf_timer, nanoseconds: u64, _flags: u64) -> i64 {
    kernel::with(|kernel| {
        let timer = kernel.timer.get();
        if timer.callback.is_none() {
            return EINVAL;
        }
        kernel.timer.set(Timer { due: Some(kernel.now.get() + nanoseconds), ..timer });
        0
    })
}

pub unsafe fn bpf_timer_cancel(_timer: *mut bpf_timer) -> i64 {
    kernel::with(|kernel| {
        let timer = kernel.timer.get();
        if timer.value.is_none() {
            return EINVAL;
        }
        kernel.timer.set(Timer { due: None, ..timer });
        i64::from(timer.due.is_some())
    })
}
