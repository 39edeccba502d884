//! The frame of a run.

use aya_ebpf::{
    bindings::xdp_md,
    helpers::generated::{bpf_xdp_adjust_head, bpf_xdp_adjust_tail, bpf_xdp_get_buff_len},
};
use lvs_common::abi::bench::{FRAME, Run};

/// Frame bytes to 32-bit words: all from the network header on.
const WORDS: usize = (FRAME - 14) / 4;

/// Start of the frame if it is at least `length` long.
#[inline(always)]
pub fn start(ctx: *mut xdp_md, length: usize) -> Option<usize> {
    // SAFETY: the context is valid for the program's whole run.
    let (start, end) = unsafe {
        ((&raw const (*ctx).data).read_volatile() as usize, (&raw const (*ctx).data_end).read_volatile() as usize)
    };
    if start + length > end { None } else { Some(start) }
}

/// Makes the frame what it was, of the next flow.
#[inline(always)]
pub fn restore(ctx: *mut xdp_md, run: &mut Run) -> bool {
    // SAFETY: helper calls with a valid context.
    let grown = unsafe { bpf_xdp_get_buff_len(ctx) } as i32 - FRAME as i32;
    // SAFETY: as above.
    let resized = unsafe {
        match grown {
            0 => 0,
            1.. => bpf_xdp_adjust_head(ctx, grown),
            _ => bpf_xdp_adjust_tail(ctx, -grown),
        }
    };
    if resized != 0 {
        return false;
    }
    let Some(frame) = start(ctx, FRAME) else { return false };
    let template = (&raw const run.frame).cast::<u8>() as usize + 2;
    // SAFETY: `start` checked the frame, and the template is as long.
    unsafe {
        put::<u64>(frame, template, 0);
        put::<u32>(frame, template, 8);
        put::<u16>(frame, template, 12);
        for word in 0..WORDS {
            put::<u32>(frame, template, 14 + 4 * word);
        }
    }
    if run.flows > 1 {
        run.flow = run.flow.wrapping_add(run.order) & (run.flows - 1);
        let port = (1024 + (run.flow & 0x7fff)) as u16;
        let source = (run.source + (run.flow >> 15)) as u16;
        for (place, value) in run.places.into_iter().zip([port, !port, source, !source, !source]) {
            let Some(at) = start(ctx, 0).map(|start| start + (place as usize & 127)) else { return false };
            if !write(ctx, at, value) {
                return false;
            }
        }
    }
    true
}

/// Writes a word, in network order, if it is within the frame.
#[inline(always)]
fn write(ctx: *mut xdp_md, at: usize, value: u16) -> bool {
    // SAFETY: the context is valid for the program's whole run.
    let end = unsafe { (&raw const (*ctx).data_end).read_volatile() as usize };
    if at + 2 > end {
        return false;
    }
    // SAFETY: just checked.
    unsafe { (at as *mut u16).write(value.to_be()) }
    true
}

/// Copies a word that differs. One that is the same is not written, so that reads of the measured program do not wait for
/// it.
#[inline(always)]
unsafe fn put<T: Copy + PartialEq>(frame: usize, template: usize, at: usize) {
    let (to, from) = ((frame + at) as *mut T, (template + at) as *const T);
    // SAFETY: the caller's. Aligned well enough for the BPF target.
    unsafe {
        let wanted = from.read_volatile();
        if to.read_volatile() != wanted {
            to.write_volatile(wanted);
        }
    }
}
