//! Memory whose addresses have 32 bits.

use std::ptr;

/// A range of memory below 4 GiB, zeroed.
#[derive(Debug)]
pub struct Memory {
    start: *mut u8,
    length: usize,
}

impl Memory {
    /// So many bytes.
    ///
    /// # Panics
    /// If the host has no such memory left.
    pub fn new(length: usize) -> Self {
        let protection = libc::PROT_READ | libc::PROT_WRITE;
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | LOW;
        // SAFETY: a new mapping. Where the kernel cannot be told, the address is a wish that is checked below.
        let start = unsafe { libc::mmap(next_wish(), length, protection, flags, -1, 0) };
        assert!(start != libc::MAP_FAILED, "no memory for packets");
        assert!(start as usize + length <= u32::MAX as usize, "no memory below 4 GiB for packets");
        Memory { start: start.cast(), length }
    }

    /// Its first byte.
    pub fn start(&self) -> *mut u8 {
        self.start
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        // SAFETY: the mapping that `new` made.
        unsafe { libc::munmap(self.start.cast(), self.length) };
    }
}

#[cfg(target_arch = "x86_64")]
const LOW: i32 = libc::MAP_32BIT;
#[cfg(not(target_arch = "x86_64"))]
const LOW: i32 = 0;

/// Where the mapping is wished, which matters only where there is no flag for it.
fn next_wish() -> *mut libc::c_void {
    if LOW == 0 { ptr::without_provenance_mut(0x4000_0000) } else { ptr::null_mut() }
}
