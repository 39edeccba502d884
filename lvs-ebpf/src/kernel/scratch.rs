//! Memory of this CPU alone, for what does not fit the stack: arrays with one element for each CPU.
//!
//! Programs of one CPU do not interrupt each other: they run in softirq context or with softirqs disabled.

use aya_ebpf::btf_maps::Array;

use crate::kernel::cpu;

/// Lends this CPU's element of `map`. `None` if the map has none for it.
///
/// `work` must not ask for the same element again. It holds what the last program left in it.
#[inline(always)]
pub fn lend<T, R, const N: usize, const FLAGS: usize>(
    map: &Array<T, N, FLAGS>,
    work: impl FnOnce(&mut T) -> R,
) -> Option<R> {
    let place = map.get_ptr_mut(cpu::number())?;
    // SAFETY: this CPU's own element, which is lent once at a time; integers, of which any bytes are a value.
    Some(work(unsafe { &mut *place }))
}
