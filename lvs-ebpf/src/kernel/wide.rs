//! Addresses by words, at any alignment: IPv6 addresses eight bytes at a time, both MAC addresses of a frame four.
//!
//! Network headers begin at addresses that are even and no more. LLVM reads and writes what it does not know to be aligned byte by
//! byte; the kernel lets programs access packets and map memory at any alignment where the processor can. An address that was copied
//! byte by byte and is then read as words also stalls the processor, whose store buffer forwards whole stores only.

use core::arch::asm;
use core::mem::MaybeUninit;

/// An address on the stack, whose accesses the verifier wants aligned.
#[repr(C, align(8))]
struct Aligned([u32; 4]);

/// Copies an address. On the stack both places are multiples of eight.
///
/// # Safety
/// `from` is valid for reads, `to` for writes; neither needs to be aligned.
#[inline(always)]
pub unsafe fn copy(from: *const [u32; 4], to: *mut [u32; 4]) {
    // SAFETY: sixteen bytes each, by the caller's word.
    unsafe {
        asm!(
            "{word} = *(u64 *)({from} + 0)",
            "*(u64 *)({to} + 0) = {word}",
            "{word} = *(u64 *)({from} + 8)",
            "*(u64 *)({to} + 8) = {word}",
            from = in(reg) from,
            to = in(reg) to,
            word = out(reg) _,
            options(nostack),
        );
    }
}

/// Reads an address.
///
/// # Safety
/// `from` is valid for reads; it need not be aligned.
#[inline(always)]
pub unsafe fn load(from: *const [u32; 4]) -> [u32; 4] {
    let mut to = MaybeUninit::<Aligned>::uninit();
    // SAFETY: the caller's, and a place on the stack that the copy fills.
    unsafe {
        copy(from, to.as_mut_ptr().cast());
        to.assume_init().0
    }
}

/// Writes an address.
///
/// # Safety
/// `to` is valid for writes; it need not be aligned.
#[inline(always)]
pub unsafe fn store(address: [u32; 4], to: *mut [u32; 4]) {
    let pair = |low: u32, high: u32| low as u64 | (high as u64) << 32;
    let [a, b, c, d] = address;
    // SAFETY: sixteen bytes, by the caller's word.
    unsafe {
        asm!(
            "*(u64 *)({to} + 0) = {low}",
            "*(u64 *)({to} + 8) = {high}",
            to = in(reg) to,
            low = in(reg) pair(a, b),
            high = in(reg) pair(c, d),
            options(nostack),
        );
    }
}

/// Writes three words, as the MAC addresses at a frame's begin.
///
/// # Safety
/// `to` is valid for writes of twelve bytes; it need not be aligned.
#[inline(always)]
pub unsafe fn store_words([a, b, c]: [u32; 3], to: *mut [u32; 3]) {
    // SAFETY: twelve bytes, by the caller's word.
    unsafe {
        asm!(
            "*(u32 *)({to} + 0) = {a}",
            "*(u32 *)({to} + 4) = {b}",
            "*(u32 *)({to} + 8) = {c}",
            to = in(reg) to,
            a = in(reg) a as u64,
            b = in(reg) b as u64,
            c = in(reg) c as u64,
            options(nostack),
        );
    }
}
