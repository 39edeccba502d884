//! `bpf(2)` where aya has no function for a command.

use std::io;
use std::os::fd::{AsFd, AsRawFd};

use aya::Pod;
use aya::maps::MapData;

const BPF_MAP_LOOKUP_ELEM: libc::c_long = 1;
const BPF_MAP_UPDATE_ELEM: libc::c_long = 2;
const BPF_MAP_GET_NEXT_KEY: libc::c_long = 4;
const BPF_MAP_LOOKUP_BATCH: libc::c_long = 24;
const BPF_MAP_UPDATE_BATCH: libc::c_long = 26;
const BPF_MAP_DELETE_BATCH: libc::c_long = 27;
/// Waits for all programs that run: `synchronize_rcu`.
const MEMBARRIER_CMD_GLOBAL: libc::c_long = 1;
/// Elements that are read by one system call.
const AT_ONCE: usize = 4096;

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

/// Whether a map's keys and values are of the sizes of these types.
fn check<K, V>(map: &MapData) -> io::Result<()> {
    let info = map.info().map_err(io::Error::other)?;
    let fits = info.key_size() as usize == size_of::<K>() && info.value_size() as usize == size_of::<V>();
    if fits { Ok(()) } else { Err(io::Error::other("the map's keys or values are of another size")) }
}

/// Stores elements of a map, all by one system call (Linux 5.6; 5.13 for tries).
pub fn update<K: Pod, V: Pod>(map: &MapData, keys: &[K], values: &[V]) -> io::Result<()> {
    check::<K, V>(map)?;
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
    // SAFETY: as many keys and values of the map's sizes as said, which outlive the call.
    unsafe { bpf(BPF_MAP_UPDATE_BATCH, &mut batch) }.map(drop)
}

/// Deletes elements of a map, all by one system call.
pub fn delete<K: Pod>(map: &MapData, keys: &[K]) -> io::Result<()> {
    if map.info().map_err(io::Error::other)?.key_size() as usize != size_of::<K>() {
        return Err(io::Error::other("the map's keys are of another size"));
    }
    let mut batch = Batch {
        keys: keys.as_ptr() as u64,
        count: keys.len() as u32,
        map: map.fd().as_fd().as_raw_fd() as u32,
        ..Batch::default()
    };
    if batch.count == 0 {
        return Ok(());
    }
    // SAFETY: as many keys of the map's size as said, which outlive the call.
    unsafe { bpf(BPF_MAP_DELETE_BATCH, &mut batch) }.map(drop)
}

/// Reads all elements of a map that nobody changes meanwhile. `key` and `value` are any, of which there are copies at first.
pub fn read<K: Pod, V: Pod>(map: &MapData, key: K, value: V) -> io::Result<Vec<(K, V)>> {
    check::<K, V>(map)?;
    let (mut keys, mut values, mut all) = (vec![key; AT_ONCE], vec![value; AT_ONCE], Vec::new());
    // The last key of a part, from which the next one goes on.
    let mut last = key;
    loop {
        let mut batch = Batch {
            begin: if all.is_empty() { 0 } else { &raw const last as u64 },
            end: &raw mut last as u64,
            keys: keys.as_mut_ptr() as u64,
            values: values.as_mut_ptr() as u64,
            count: AT_ONCE as u32,
            map: map.fd().as_fd().as_raw_fd() as u32,
            ..Batch::default()
        };
        // SAFETY: room for a key, and for as many keys and values of the map's sizes as said, which outlive the call.
        let read = unsafe { bpf(BPF_MAP_LOOKUP_BATCH, &mut batch) };
        let is_last = read.as_ref().is_err_and(|error| error.raw_os_error() == Some(libc::ENOENT));
        if !is_last {
            read?;
        }
        let count = (batch.count as usize).min(AT_ONCE);
        all.extend(keys.iter().copied().zip(values.iter().copied()).take(count));
        if is_last || count == 0 {
            return Ok(all);
        }
    }
}

/// Waits until every program that runs now has ended.
pub fn wait_for_programs() -> io::Result<()> {
    // SAFETY: a system call that touches no memory.
    let result = unsafe { libc::syscall(libc::SYS_membarrier, MEMBARRIER_CMD_GLOBAL, 0, 0) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
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

/// Puts an element into a queue.
pub fn push<V>(map: &MapData, value: &V) -> io::Result<()> {
    if map.info().map_err(io::Error::other)?.value_size() as usize != size_of::<V>() {
        return Err(io::Error::other("the map's values are of another size"));
    }
    let mut element =
        Element { map: map.fd().as_fd().as_raw_fd() as u32, value: value as *const V as u64, ..Element::default() };
    // SAFETY: a value of the map's size, which outlives the call; a queue has no keys.
    unsafe { bpf(BPF_MAP_UPDATE_ELEM, &mut element) }.map(drop)
}

/// The part of `union bpf_attr` for an element of a map whose keys and values have as many bytes as these.
fn element(map: &MapData, key: &[u8], value: &[u8]) -> io::Result<Element> {
    let info = map.info().map_err(io::Error::other)?;
    if (info.key_size() as usize, info.value_size() as usize) != (key.len(), value.len()) {
        return Err(io::Error::other("the map's keys or values are of another size"));
    }
    let (key, value) = (key.as_ptr() as u64, value.as_ptr() as u64);
    Ok(Element { map: map.fd().as_fd().as_raw_fd() as u32, key, value, ..Element::default() })
}

/// Reads an element of a map, which is not one for each CPU.
pub fn get_bytes(map: &MapData, key: &[u8], value: &mut [u8]) -> io::Result<()> {
    let mut element = Element { value: value.as_mut_ptr() as u64, ..element(map, key, value)? };
    // SAFETY: a key and room for a value of the map's sizes, which outlive the call.
    unsafe { bpf(BPF_MAP_LOOKUP_ELEM, &mut element) }.map(drop)
}

/// Stores an element of a map, which is not one for each CPU.
pub fn put_bytes(map: &MapData, key: &[u8], value: &[u8]) -> io::Result<()> {
    let mut element = element(map, key, value)?;
    // SAFETY: a key and a value of the map's sizes, which outlive the call.
    unsafe { bpf(BPF_MAP_UPDATE_ELEM, &mut element) }.map(drop)
}

/// The key after `key`, or the first one; `None` at the end.
pub fn next_key(map: &MapData, key: Option<&[u8]>) -> io::Result<Option<Vec<u8>>> {
    let size = map.info().map_err(io::Error::other)?.key_size() as usize;
    if key.is_some_and(|key| key.len() != size) {
        return Err(io::Error::other("the map's keys are of another size"));
    }
    let mut next = vec![0u8; size];
    let mut element = Element {
        map: map.fd().as_fd().as_raw_fd() as u32,
        key: key.map_or(0, |key| key.as_ptr() as u64),
        value: next.as_mut_ptr() as u64,
        ..Element::default()
    };
    // SAFETY: a key and room for another of the map's size, which outlive the call.
    match unsafe { bpf(BPF_MAP_GET_NEXT_KEY, &mut element) } {
        Ok(_) => Ok(Some(next)),
        Err(error) if error.raw_os_error() == Some(libc::ENOENT) => Ok(None),
        Err(error) => Err(error),
    }
}
