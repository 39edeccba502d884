//! `bpf(2)` where aya has no function for a command.

use std::io;
use std::os::fd::{AsFd, AsRawFd};

use aya::maps::MapData;

const BPF_MAP_LOOKUP_ELEM: libc::c_long = 1;
const BPF_MAP_UPDATE_BATCH: libc::c_long = 26;

/// Runs a command.
///
/// # Safety
/// `attributes` must be what the command takes of `union bpf_attr`, and the addresses in it good for what it does there.
pub unsafe fn bpf<T>(command: libc::c_long, attributes: &mut T) -> io::Result<i32> {
    // SAFETY: by the caller's word.
    let result = unsafe { libc::syscall(libc::SYS_bpf, command, attributes as *mut T, size_of::<T>()) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result as i32) }
}

/// The part of `union bpf_attr` for batches.
#[repr(C)]
#[derive(Default)]
struct Batch {
    begin: u64,
    end: u64,
    keys: u64,
    values: u64,
    count: u32,
    map: u32,
    element_flags: u64,
    flags: u64,
}

/// Stores elements of a map whose keys and values are words, all by one system call (Linux 5.6).
pub fn update(map: &MapData, keys: &[u32], values: &[u32]) -> io::Result<()> {
    let mut batch = Batch {
        keys: keys.as_ptr() as u64,
        values: values.as_ptr() as u64,
        count: keys.len().min(values.len()) as u32,
        map: map.fd().as_fd().as_raw_fd() as u32,
        ..Batch::default()
    };
    if batch.count == 0 {
        return Ok(());
    }
    // SAFETY: as many keys and values of four bytes as said, which outlive the call.
    unsafe { bpf(BPF_MAP_UPDATE_BATCH, &mut batch) }.map(drop)
}

/// The part of `union bpf_attr` for one element.
#[repr(C)]
#[derive(Default)]
struct Element {
    map: u32,
    pad: u32,
    key: u64,
    value: u64,
    flags: u64,
}

/// An element of a map whose keys and values are words; of a map of maps it is the inner map's number.
pub fn look_up(map: &MapData, key: u32) -> io::Result<u32> {
    let mut value = 0u32;
    let mut element = Element {
        map: map.fd().as_fd().as_raw_fd() as u32,
        key: &raw const key as u64,
        value: &raw mut value as u64,
        ..Element::default()
    };
    // SAFETY: a key and room for a value of four bytes each, which outlive the call.
    unsafe { bpf(BPF_MAP_LOOKUP_ELEM, &mut element) }?;
    Ok(value)
}
